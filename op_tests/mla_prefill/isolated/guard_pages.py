"""Run by test_memory.py: every pointer of the op flush with a page that no one may touch, at both ends.

A read or a write one byte too far ends this process. The last line is "ok N".
"""

from __future__ import annotations

import faulthandler
import sys

import numpy as np
from mla_prefill.cases import CORNER, SMOKE
from mla_prefill.fuzz import check, fuzz

import aiter_c
from aiter_c.testing import CPU, GuardedArray, allocated_by, check_outputs, dtype_of


def guarded(arguments: dict[str, object], *, end: bool) -> tuple[dict[str, object], dict[str, GuardedArray]]:
    """The arguments, and the arrays at forbidden pages among them."""
    guards = {
        name: GuardedArray(value, end=end, read_only=name != "output")
        for name, value in arguments.items()
        if isinstance(value, np.ndarray) and value.ndim
    }
    return arguments | {name: guard.array for name, guard in guards.items()}, guards


def call(arguments: dict[str, object], *, end: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """The output and the LSE; the scratch is guarded as well."""
    given, guards = guarded(arguments, end=end)
    scratch = []

    def allocate(_name: str, _like: object, shape: tuple[int, ...], dtype: str, _stream: object) -> np.ndarray:
        scratch.append(GuardedArray(np.full(shape, np.nan, dtype_of(dtype)), end=end, read_only=False))
        return scratch[-1].array

    with allocated_by(allocate):
        _, lse = aiter_c.mla_prefill_ps_fwd(**given)
    return guards["output"].array.copy(), None if lse is None else lse.copy()


def valid() -> int:
    cases = [case for case in SMOKE + CORNER if case.num_rows < 120][::3]
    for number, case in enumerate(cases):
        inputs = case.inputs()
        inputs.freeze()
        output, lse = call(inputs.arguments(), end=bool(number % 2))
        check_outputs({"output": output, "lse": lse}, case.expected(inputs, CPU), case.repro)
    return len(cases)


def fuzzed(count: int) -> int:
    for one in fuzz(count):
        output, lse = call(one.arguments | {"return_lse": True}, end=bool(one.number % 2))
        check(one, output, lse)
    return count


if __name__ == "__main__":
    faulthandler.enable()
    threads, calls = int(sys.argv[1]), int(sys.argv[2])
    aiter_c.set_num_threads(threads)
    print("ok", valid() + fuzzed(calls))
