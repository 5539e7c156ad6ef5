"""What is done with the result of a bench: pictures, comparisons, the bar of progress; and that every op has a row."""

from __future__ import annotations

import inspect
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aiter_c
from aiter_c.__main__ import main
from aiter_c.cli import bench_report, plot
from aiter_c.cli.backend import Cpu
from aiter_c.cli.bench_ops import every_op
from aiter_c.cli.report import Progress
from aiter_c.testing import CPU, MlaCase
from aiter_c.testing.ops.mla_metadata import MlaMetadataCase
from aiter_c.testing.ops.mla_reduce import MlaReduceCase


def row(n: int, ms: float, **more: Any) -> dict[str, Any]:
    facts = {"n": n, "what": "x", "kernel": "k", "ms": ms, "GB/s": 1.5}
    return facts | {"error": 0.0, "bytes": 8e6, "flop": 3e9 * n} | more


def report(*rows: dict[str, Any], name: str = "this one") -> dict[str, Any]:
    ceilings = {"read_bytes_per_s": [1e10, 2e10], "f32_flop_per_s": [1e11, 1e11], "amx_flop_per_s": [0.0, 0.0]}
    return {"device": {"name": name}, "ceilings": ceilings, "mla_decode": list(rows), "growth": []}


def written(path: Path, value: Any) -> str:
    path.write_text(json.dumps(value))
    return str(path)


def compared(tmp_path: Path, before: Any, now: Any, *more: str) -> int:
    files = [written(tmp_path / name, value) for name, value in (("old", before), ("new", now))]
    return main(["bench", "mla_decode", "--read", files[1], "--compare", files[0], *more])


def test_a_slower_row_is_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By its facts, whatever the order and the kernel; the threshold is given; rows of one side alone are named."""
    before = report(row(1, 1.0), row(2, 4.0, kernel="older"), row(3, 1.0))
    now = report(row(2, 5.0), row(1, 0.5), row(4, 1.0))
    assert compared(tmp_path, before, now) == 1
    text = capsys.readouterr().out
    slow, fast = (next(line.split() for line in text.splitlines() if line.endswith(f"n {n}, what x")) for n in (2, 1))
    assert slow[:4] == ["4.000", "5.000", "1.250", "SLOWER"] and fast[:4] == ["1.000", "0.500", "0.500", "faster"]
    assert "only now: n 4, what x" in text and "only before: n 3, what x" in text
    assert "1 of 2 rows take more than 10 % longer; geometric mean 0.791" in text and "before: {" not in text
    assert compared(tmp_path, before, now, "--threshold", "30", "--json", str(tmp_path / "out")) == 0
    again = json.loads((tmp_path / "out").read_text())
    assert [each["now / before"] for each in again["compared"]] == [1.25, 0.5] and again["threshold"] == 30
    assert compared(tmp_path, before, now, "--threshold", "25") == 0 == compared(tmp_path, now, now, "--threshold", "0")
    capsys.readouterr()
    compared(tmp_path, report(row(1, 1.0), name="another"), now)
    assert "before: {'name': 'another'}; now: {'name': 'this one'}" in capsys.readouterr().out


def test_nothing_in_common_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compared(tmp_path, report(row(1, 1.0)), report(row(2, 1.0))) == 2
    assert capsys.readouterr().err == "no row is in both: there is nothing to compare\n"
    assert compared(tmp_path, report(row(1, 1.0)), report(row(1, float("nan")))) == 1
    assert compared(tmp_path, report(row(1, 0.0)), report(row(1, 1.0))) == 1


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("mla_decode --read {empty}", "--read: {empty} has no rows of mla_decode; it has device, ceilings"),
        ("top_k --compare {good}", "--compare: {good} has no rows of top_k; it has device, ceilings"),
        ("mla_decode --compare {none}", "--compare: {none}: [Errno 2]"),
        ("mla_decode --compare {text}", "--compare: {text}: Expecting value"),
        ("mla_decode --threshold 5", "--threshold: expected a number from 0 on, beside --compare"),
        ("mla_decode --compare {good} --threshold nan", "--threshold: expected a number from 0 on"),
        ("simcost --compare {good}", "--compare: is of the bench of an op, and of call_overhead"),
        ("call_overhead --plot x.png", "--plot: is of the bench of an op"),
        ("mla_decode --plot {none}/x.png", "--plot: expected a file that can be written"),
    ],
)
def test_what_is_wrong_is_said_before_the_run(
    command: str, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"empty": written(tmp_path / "empty", report()), "good": written(tmp_path / "good", report(row(1, 1.0)))}
    files |= {"none": str(tmp_path / "none"), "text": str(tmp_path / "text")}
    (tmp_path / "text").write_text("no JSON")
    assert main(["bench", *command.format(**files).split()]) == 2
    assert capsys.readouterr().err.startswith(problem.format(**files))


def test_the_ways_in_are_compared_as_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"framework": "NumPy", "path": "numpy", "call": f"call {i}", "ns": 1000.0 * i} for i in (1, 2)]
    old, new = written(tmp_path / "old", rows), written(tmp_path / "new", [rows[0], rows[1] | {"ns": 3000.0}])
    assert main(["bench", "call_overhead", "--read", new, "--compare", old]) == 1
    assert "1 of 2 rows take more than 10 % longer" in capsys.readouterr().out


@pytest.mark.parametrize("flop", [1, 0])
def test_a_picture(flop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A roofline with a point per row, or bytes per second; a bar per time."""
    pytest.importorskip("matplotlib")
    from matplotlib.axes import Axes

    bars, points = [], []
    barh, draw = Axes.barh, Axes.plot
    seen = lambda axis, y, width, *a, **k: (bars.append([*width]), barh(axis, y, width, *a, **k))  # noqa: E731
    monkeypatch.setattr(Axes, "barh", seen)
    monkeypatch.setattr(Axes, "plot", lambda axis, x, y, *a, **k: (points.append((x, y)), draw(axis, x, y, *a, **k)))
    rows = [row(1, 2.0, **{"torch error": 0.0, "torch ms": 3.0}), row(2, 4.0)]
    made = report(*[each | {"flop": each["flop"] * flop} for each in rows], row(3, 1.0, bytes=0))
    file = written(tmp_path / "rows", made)
    assert main(["bench", "mla_decode", "--read", file, "--plot", str(tmp_path / "x.png")]) == 0
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert bars[-2:] == [[2.0, 4.0], [3.0]] and len(bars) == (2 if flop else 3)
    if flop:
        assert points[-2:] == [(3e9 / 8e6, 3e9 * 1e3 / 2.0), (6e9 / 8e6, 6e9 * 1e3 / 4.0)]
        assert points[0][1] == [points[0][0][0] * 2e10, 1e11, 1e11] and len(points) == 3
    else:
        assert bars[0] == [1.5, 1.5] and points == []
    assert plot.times_of(rows[0]) == {"aiter_c": 2.0, "torch": 3.0}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_for_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet, shown = io.StringIO(), Terminal()
    clock = iter([0.0, 30.0])
    monkeypatch.setattr("aiter_c.cli.report.time.monotonic", lambda: next(clock, 0.0))
    progress = Progress(4, shown)
    progress.at(0, "first")
    progress.at(3, "last")
    assert shown.getvalue() == (
        f"\r\x1b[K[{'-' * 24}] 0/4: first\r\x1b[K[{'#' * 18}{'-' * 6}] 3/4, about 10 s left: last"
    )
    progress.clear()
    assert shown.getvalue().endswith("last\r\x1b[K")
    silent = Progress(4, quiet)
    silent.at(1, "x")
    silent.clear()
    assert quiet.getvalue() == ""


def test_every_op_has_a_row() -> None:
    """What is public, but for what makes arrays and what refuses every call: it does."""
    names = [each.op for each in every_op.cases("cpu", True)]
    assert len(names) == len(set(names)) and set(names) == every_op.public() == every_op.covered() and len(names) > 40
    for name in every_op.UNSERVED:
        needed = [p for p in inspect.signature(getattr(aiter_c, name)).parameters.values() if p.default is p.empty]
        positional = [None for p in needed if p.kind is p.POSITIONAL_OR_KEYWORD]
        with pytest.raises(aiter_c.UnsupportedError):
            getattr(aiter_c, name)(*positional, **{p.name: None for p in needed if p.kind is p.KEYWORD_ONLY})


#: Of the rows, on shapes that take no time: by a case of their own, by another op's, by arguments and a check.
SMALL = [
    every_op.Row("mla_decode_fwd", MlaCase(heads=2)),
    every_op.Row("decode_update_mla_metadata_v1", MlaMetadataCase(q_lens=(1, 1), kv_lens=(90, 5), workers=3)),
    every_op.Row("mla_prefill_fwd", MlaCase(q_lens=(3,), kv_lens=(9,)), every_op._absorbed, every_op._lse_by_rows),
    every_op.Row("mla_prefill_reduce", MlaReduceCase(heads=2, return_lse=False), every_op._of_reduce),
    *(each for each in every_op.cases("cpu", True) if each.case is None),
]  # fmt: skip


@pytest.mark.parametrize("small", SMALL, ids=lambda small: small.op)
def test_a_row_is_called_and_checked(small: every_op.Row, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong result ends the bench; what computes sizes has nothing to be wrong here."""
    problem = every_op.Problem(small, Cpu())
    assert problem.error(problem.calls[0]()) == 0.0 and len(problem.calls) >= 1
    assert all(call() is not NotImplemented for call in problem.calls)
    if small.is_host:
        return
    function = getattr(aiter_c, small.op)

    def wrong(**arguments: Any) -> Any:
        returned = function(**arguments)
        names = ("o", "output", "work_indptr", "k_prefix")
        target = next((arguments[name] for name in names if arguments.get(name) is not None), None)
        if target is None:
            target = returned[0]
        target = arguments.get("splitData", target)
        target[...] = np.roll(target, 1, -1) if target.dtype.kind != "i" else -1 - target
        return returned

    monkeypatch.setattr(aiter_c, small.op, wrong)
    monkeypatch.setattr(wrong, "__signature__", inspect.signature(function), raising=False)
    with pytest.raises(AssertionError):
        small.verify(CPU)


def test_the_names_of_times() -> None:
    with pytest.raises(bench_report.Unusable, match=r"^x has no rows of mla_decode$"):
        bench_report.rows_of([{"seconds": 1}], "mla_decode", "x")
