"""A failing order of waves, reduced to the few turns that cause it.

simulator.set_option("seed", 7)                       # under which `fails` fails
for turn in shrink(simulator, fails): print(turn)     # wave 2 runs 17 instructions, ...
"""

from __future__ import annotations

import ctypes as ct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .simulator import HipError, Simulator


class _Turn(ct.Structure):
    _fields_ = (("wave", ct.c_uint32), ("instructions", ct.c_uint32))


@dataclass(frozen=True)
class Turn:
    """A wave runs so many instructions, 0: until it waits at a barrier or ends. A turn of a wave that cannot run is
    passed over."""

    wave: int
    instructions: int

    def __str__(self) -> str:
        how = f"runs {self.instructions} instructions" if self.instructions else "runs until it waits or ends"
        return f"wave {self.wave} {how}"


def play(simulator: Simulator, turns: Sequence[Turn], workgroup: int = 0) -> None:
    """From now on launches run this workgroup (its number in the grid) by these turns; behind them its waves run one
    after the other, each as long as it can. The other workgroups run as the options say. Until forget()."""
    rows = (_Turn * max(len(turns), 1))(*((turn.wave, turn.instructions) for turn in turns))
    if simulator.lib.gfxsim_order_play(workgroup, rows, len(turns)) != 0:
        raise MemoryError("gfxsim_order_play")


def forget(simulator: Simulator) -> None:
    """The options decide again."""
    simulator.lib.gfxsim_order_record(-1)


def record(simulator: Simulator, run: Callable[[], object], workgroup: int = 0) -> list[Turn]:
    """The turns of the workgroup in the last launch of run()."""
    simulator.lib.gfxsim_order_record(workgroup)
    try:
        run()
        rows = (_Turn * simulator.lib.gfxsim_order_written(None, 0))()
        simulator.lib.gfxsim_order_written(rows, len(rows))
        return [Turn(row.wave, row.instructions) for row in rows]
    finally:
        forget(simulator)


def shrink(simulator: Simulator, fails: Callable[[], bool], workgroup: int = 0) -> list[Turn]:
    """The shortest list of turns found under which `fails` still fails; empty: it fails in the plain order, too.

    `fails` makes its inputs anew, launches, and says whether the result is wrong; a HipError is a failure, too.
    Raises ValueError if it does not fail under the options as they are, or not by this workgroup's turns alone.
    """

    def failed() -> bool:
        try:
            return fails()
        except HipError:
            simulator.reset()
            return True

    def fails_with(turns: Sequence[Turn]) -> bool:
        play(simulator, turns, workgroup)
        try:
            return failed()
        finally:
            forget(simulator)

    outcome: list[bool] = []
    turns = record(simulator, lambda: outcome.append(failed()), workgroup)
    if not outcome[0]:
        raise ValueError("it does not fail under these options")
    if not fails_with(turns):
        raise ValueError(f"it does not fail by the turns of workgroup {workgroup} alone")
    return _longer(_fewer(turns, fails_with), fails_with)


def _fewer(turns: list[Turn], fails_with: Callable[[Sequence[Turn]], bool]) -> list[Turn]:
    """Leaves out runs of turns, halves first, until no single one can be left out."""
    if fails_with([]):
        return []
    size = len(turns)
    while size >= 1:
        at, changed = 0, False
        while at < len(turns):
            rest = turns[:at] + turns[at + size :]
            if len(rest) < len(turns) and fails_with(rest):
                turns, changed = rest, True
            else:
                at += size
        size = size if changed and size == 1 else size // 2
    return turns


def _longer(turns: list[Turn], fails_with: Callable[[Sequence[Turn]], bool]) -> list[Turn]:
    """Turns whose end does not matter run until the wave waits."""
    for at, turn in enumerate(turns):
        changed = [*turns[:at], Turn(turn.wave, 0), *turns[at + 1 :]]
        if fails_with(changed):
            turns = changed
    return turns
