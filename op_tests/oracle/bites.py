"""Which of the waits and races that AITER's kernels lack can bite on hardware, by the simulator's clock.

    cd op_tests && PYTHONPATH=.. AITER_WHEEL=... AITER_OBJECTS=... python -m oracle.bites

Every kernel runs the call of test_hazards with all units timed. Of each finding the least slack counts: how many clocks
the access that nobody waited for was over before its use. Below 0 it was not over: that bites by the clock. `near`:
less than a trip to memory is left, so that it may on a busier chip. Of races in LDS the clock knows the order of the
waves and not what should have been first: whether rows come out otherwise than in turns of one instruction says the
rest.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from gfxsim import Finding, HipError
from gfxsim.clock import constants
from oracle import code_objects, launch
from oracle.cases import every_way, split_every_second
from oracle.kernels import KERNELS, LATER_PERSISTENT, Kernel
from oracle.launch import Written


@dataclass(frozen=True)
class Bites:
    """Of one kernel. by: (kind, instruction) -> the slacks of its findings; rows: that differ in the clock's order."""

    by: dict[tuple[str, str], list[int | None]]
    rows: int


def _name(finding: Finding) -> tuple[str, str]:
    return finding.kind, finding.text.split(": ", 1)[1].split()[0]


def _rows_apart(one: Written, other: Written) -> int:
    apart = 0
    for name in ("o", "partials"):
        a, b = (getattr(w, name).astype(np.float32) for w in (one, other))
        apart += int((~np.isclose(a, b, rtol=0.02, atol=0.02, equal_nan=True)).any(-1).sum())
    return apart


def bites(kernel: Kernel) -> Bites:
    """Runs it in turns of one instruction, and in the clock's order."""
    case = every_way(kernel)
    inputs = case.inputs()
    lists = split_every_second(inputs)
    plain, kept = case.run(inputs, lists), dict(launch.OPTIONS)
    launch.OPTIONS.update(clock=4096)
    try:
        timed = case.run(inputs, lists)
    finally:
        launch.OPTIONS.clear()
        launch.OPTIONS.update(kept)
    by = defaultdict(list)
    for finding in timed.findings:
        by[_name(finding)].append(finding.slack)
    return Bites(dict(by), _rows_apart(plain, timed))


def main() -> None:
    counts = f"{'number':>6}{'bite':>6}{'near':>6}{'least':>7}{'not known':>11}"
    print(f"{'arch':8}{'kernel':46}{'found':16}{'instruction':30}{counts}")
    kernels = [k for k in KERNELS if code_objects.available()]
    kernels += [k for k in LATER_PERSISTENT if code_objects.later_available()]
    for kernel in kernels:
        near = {c.name: c.value for c in constants(kernel.arch)}["memory_latency"]
        try:
            found = bites(kernel)
        except HipError as error:
            print(f"{kernel.arch:8}{kernel.id:46}does not take this call: {str(error).splitlines()[-1]}")
            continue
        for (kind, instruction), slacks in sorted(found.by.items()):
            known = [slack for slack in slacks if slack is not None]
            counts = (len(slacks), sum(s < 0 for s in known), sum(0 <= s < near for s in known))
            print(
                f"{kernel.arch:8}{kernel.id:46}{kind:16}{instruction:30}{counts[0]:6}{counts[1]:6}{counts[2]:6}"
                f"{min(known, default=0) if known else '-':>7}{len(slacks) - len(known):11}"
            )
        print(f"{kernel.arch:8}{kernel.id:46}rows that differ in the clock's order: {found.rows}", flush=True)


if __name__ == "__main__":
    main()
