"""What is done with the result of a bench: JSON, a picture, and the comparison with an earlier one."""

from __future__ import annotations

import json
import math
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aiter_c.cli import plot
from aiter_c.cli.report import Table, write_json

#: What follows from the version that was measured, beside floating-point numbers: it does not tell rows apart.
_OF_THE_VERSION = frozenset(("kernel", "splits", "items", "path", "bytes", "flop"))
_COLUMNS = {"before": "10.3f", "now": "10.3f", "now / before": "8.3f", "": "10s", "row": "1s"}
DEFAULT_THRESHOLD = 10.0

Rows = Sequence[Mapping[str, Any]]


class Unusable(Exception):
    """A result that is none, or of something else; the text says what it is."""


def rows_of(report: Any, what: str, whose: str) -> Rows:
    """The rows of a bench in what it wrote as JSON: the list itself, or the list of its name."""
    rows = report.get(what) if isinstance(report, dict) else report
    if not isinstance(rows, list) or not rows or not all(any(unit in row for unit in plot.UNITS) for row in rows):
        has = f"; it has {', '.join(report)}" if isinstance(report, dict) else ""
        raise Unusable(f"{whose} has no rows of {what}{has}")
    return rows


def read(path: str, what: str) -> Any:
    """The JSON of an earlier run."""
    try:
        report = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise Unusable(f"{path}: {problem}") from None
    rows_of(report, what, path)
    return report


def _key(row: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    kept = ((name, value) for name, value in row.items() if name not in _OF_THE_VERSION)
    return tuple((name, value) for name, value in kept if isinstance(value, (str, int)))


def _name(key: tuple[tuple[str, Any], ...]) -> str:
    return ", ".join(f"{name} {value}" for name, value in key)


def compare(before: Rows, now: Rows, threshold: float) -> tuple[int, list[dict[str, Any]]]:
    """Prints a row per row of both. 1: one of them takes more than `threshold` per cent longer now; 2: there is no row
    of both."""
    old = {_key(row): row for row in before}
    table, slower = Table(_COLUMNS), 0
    for row in now:
        earlier = old.pop(_key(row), None)
        if earlier is None:
            print(f"only now: {_name(_key(row))}")
            continue
        unit = plot.unit_of(row)
        ratio = row[unit] / earlier[unit] if unit in earlier and earlier[unit] > 0 else math.nan
        worse = not ratio <= 1 + threshold / 100
        slower += worse
        verdict = "SLOWER" if worse else "faster" if ratio < 1 / (1 + threshold / 100) else ""
        facts = {"before": earlier.get(unit), "now": row[unit], "now / before": ratio, "": verdict}
        table.add(facts | {"row": _name(_key(row))})
    for key in old:
        print(f"only before: {_name(key)}")
    if not table.rows:
        print("no row is in both: there is nothing to compare", file=sys.stderr)
        return 2, []
    ratios = [math.log(row["now / before"]) for row in table.rows if row["now / before"] > 0]
    mean = math.exp(sum(ratios) / len(ratios)) if ratios else math.nan
    print(f"{slower} of {len(table.rows)} rows take more than {threshold:g} % longer; geometric mean {mean:.3f}")
    return int(slower > 0), [dict(row) for row in table.rows]


def why_not(arguments: Namespace) -> str | None:
    """What is known to fail before anything is measured, or None."""
    if arguments.plot and (problem := plot.why_no_plot(arguments.plot)):
        return f"--plot: {problem}"
    if arguments.compare:
        try:
            read(arguments.compare, arguments.what)
        except Unusable as problem:
            return f"--compare: {problem}"
    return None


def finish(arguments: Namespace, report: Any, columns: Sequence[str] = ()) -> int:
    """Writes, draws and compares what was asked for; the exit status."""
    status = 0
    if arguments.compare:
        earlier = read(arguments.compare, arguments.what)
        if isinstance(report, dict) and earlier.get("device") != report.get("device"):
            print(f"before: {earlier.get('device')}; now: {report.get('device')}")
        rows = [rows_of(each, arguments.what, "the result") for each in (earlier, report)]
        status, compared = compare(*rows, arguments.threshold)
        if isinstance(report, dict):
            report = report | {"compared": compared, "threshold": arguments.threshold}
    if arguments.json:
        write_json(arguments.json, report)
    if arguments.plot:
        plot.draw_bench(arguments.plot, arguments.what, report, columns)
    return status
