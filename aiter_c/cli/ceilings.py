"""What the machine can do at most, measured around every row of a table: on a shared machine it moves, and a "% of
roofline" says no more than the ceiling that it was taken from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from aiter_c import _C

Rates = Mapping[str, float]  # of one measurement: "..._bytes_per_s", "..._flop_per_s"; 0: the machine has no such thing
T = TypeVar("T")

MOVED = "ceiling moved %"  # the column
MUCH = 10  # per cent from which on a row's percentages are not to be trusted


@dataclass(frozen=True)
class Around:
    """The ceilings before and after a row: the higher ones, and by how many per cent the worst of them moved."""

    best: Rates
    moved: float


class Ceilings:
    """Measures now, and again after every row when the last measurement is older than `max_age` seconds."""

    def __init__(self, measure: Callable[[], Rates], max_age: float = 0.0) -> None:
        self._measure, self._max_age = measure, max_age
        self.history: list[Rates] = []
        self._again()

    def _again(self) -> None:
        self.history.append(self._measure())
        self._when = time.monotonic()

    def around(self, row: Callable[[], T]) -> tuple[T, Around]:
        """What `row()` returns, and the ceilings around it."""
        before = self.history[-1]
        result = row()
        if time.monotonic() - self._when >= self._max_age:
            self._again()
        after = self.history[-1]
        best = {name: max(before[name], after[name]) for name in before}
        moved = max(100 * (best[name] / min(before[name], after[name]) - 1) for name in best if best[name])
        return result, Around(best, moved)

    def spread(self) -> dict[str, tuple[float, float]]:
        """Lowest and highest of each so far."""
        return {
            name: (min(rates[name] for rates in self.history), max(rates[name] for rates in self.history))
            for name in self.history[0]
        }

    def text(self) -> str:
        """The spread as a line for a person."""
        parts = []
        for name, (low, high) in self.spread().items():
            if high:
                unit = "GB/s" if "bytes" in name else "GFLOP/s"
                what = name.removesuffix("_per_s").removesuffix("_bytes").removesuffix("_flop").replace("_", " ")
                rates = f"{low / 1e9:.0f}" if f"{low:.2g}" == f"{high:.2g}" else f"{low / 1e9:.0f} to {high / 1e9:.0f}"
                parts.append(f"{what} {rates} {unit}")
        return ", ".join(parts)


def hints(rows: Iterable[Mapping[str, Any]], percentage: str) -> list[str]:
    """What a reader of the percentages has to know: lines, mostly none."""
    rows, out = list(rows), []
    moved = [row[MOVED] for row in rows if row[MOVED] > MUCH]
    if moved:
        out.append(
            f"The ceiling moved by more than {MUCH} % around {len(moved)} of {len(rows)} rows, at most by "
            f"{max(moved):.0f} %: other work shares the machine, or its clock changes. Their {percentage} is no better."
        )
    above = sum(row[percentage] > 100 for row in rows)
    if above:
        out.append(
            f"{above} of {len(rows)} rows are above 100 {percentage}: their data came from a cache, which is faster "
            "than the memory that the ceiling is of, or the ceiling moved."
        )
    return out


def measure_cpu() -> Rates:
    """Memory read [byte/s], fp32 multiply-add, bf16 dot and AMX [FLOP/s; 0: no such path] on the pool's threads."""
    return _C.cpu_ceilings()


def cpu_floor_seconds(rates: Rates, compute: str, num_bytes: int, flop: int) -> float:
    """The least time for a call: every byte once at the memory ceiling, or every operation at the ceiling `compute`,
    whichever is longer."""
    return max(num_bytes / rates["read_bytes_per_s"], flop / rates[compute])


def arithmetic_of(kernel: str) -> str:
    """Which ceiling limits a CPU kernel of the kernel table: its name says the engine."""
    return "bf16_flop_per_s" if "_dot_" in kernel else "amx_flop_per_s" if "_amx" in kernel else "f32_flop_per_s"
