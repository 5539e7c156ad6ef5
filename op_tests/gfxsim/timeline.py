"""A picture of what waves did over time, as SVG."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .clock import Span

#: What is drawn alike, in the order of the legend: name, colour, kinds of spans.
GROUPS = (
    ("matrix", "#b5179e", ("mfma",)),
    ("vector", "#3a86ff", ("valu", "trans")),
    ("scalar", "#8ecae6", ("salu", "branch", "wait", "smem")),
    ("LDS", "#2a9d8f", ("lds",)),
    ("memory", "#e9c46a", ("vmem",)),
    ("waits for a result or a unit", "#9d9d9d", ("issue", "operand", "valu busy", "matrix core busy", "counter full")),
    ("waits for LDS", "#bfe3dd", ("lds busy", "wait for lds")),
    ("waits for memory", "#f6e7bd", ("memory busy", "wait for memory", "instruction fetch")),
    ("waits at a barrier", "#f4a6a6", ("barrier",)),
    ("sleeps", "#eeeeee", ("s_nop, s_sleep",)),
)
_GROUP_OF = {kind: number for number, (_, _, kinds) in enumerate(GROUPS) for kind in kinds}
WIDTH, LEFT, ROW, GAP, TOP = 1000, 110, 14, 3, 30
COLUMNS = 500


def draw(spans: Sequence[Span], cycles: int, begin: int, end: int) -> str:
    """A column is the group that took most of its time."""
    if not begin < end:
        raise ValueError(f"clocks [{begin}, {end}) of {cycles} are none")
    rows: dict[tuple[int, int], list[list[float]]] = defaultdict(lambda: [[0.0] * len(GROUPS) for _ in range(COLUMNS)])
    step = max((end - begin) / COLUMNS, 1e-9)
    for span in spans:
        low, high = max(span.begin, begin), min(span.end, end)
        if low >= high:
            continue
        columns = rows[span.workgroup, span.wave]
        for column in range(int((low - begin) / step), min(int((high - begin) / step) + 1, COLUMNS)):
            inside = min(high, begin + (column + 1) * step) - max(low, begin + column * step)
            columns[column][_GROUP_OF[span.kind]] += max(inside, 0.0)
    height = TOP + len(rows) * (ROW + GAP) + 40 + 16 * ((len(GROUPS) + 4) // 5)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH + LEFT + 10}" height="{height}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="100%" height="100%" fill="white"/><text x="{LEFT}" y="18">clock {begin}</text>',
        f'<text x="{LEFT + WIDTH}" y="18" text-anchor="end">clock {end}</text>',
    ]
    for number, (name, columns) in enumerate(sorted(rows.items())):
        top = TOP + number * (ROW + GAP)
        out.append(f'<text x="4" y="{top + ROW - 3}">workgroup {name[0]} wave {name[1]}</text>')
        out += _row(columns, top)
    top = TOP + len(rows) * (ROW + GAP) + 10
    for number, (name, colour, _) in enumerate(GROUPS):
        x, y = LEFT + number % 5 * 200, top + number // 5 * 16
        out.append(f'<rect x="{x}" y="{y}" width="10" height="10" fill="{colour}"/>')
        out.append(f'<text x="{x + 14}" y="{y + 9}">{name}</text>')
    return "\n".join([*out, "</svg>", ""])


def _row(columns: list[list[float]], top: int) -> list[str]:
    """Neighbours alike are one rectangle."""
    chosen = [max(range(len(GROUPS)), key=column.__getitem__) if any(column) else None for column in columns]
    out, first = [], 0
    for at in range(1, COLUMNS + 1):
        if at == COLUMNS or chosen[at] != chosen[first]:
            group = chosen[first]
            if group is not None:
                x, width = LEFT + first * WIDTH / COLUMNS, (at - first) * WIDTH / COLUMNS
                out.append(f'<rect x="{x:g}" y="{top}" width="{width:g}" height="{ROW}" fill="{GROUPS[group][1]}"/>')
            first = at
    return out
