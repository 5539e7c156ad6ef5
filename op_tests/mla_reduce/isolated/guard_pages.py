"""Run by test_memory.py: every pointer of the op flush with a page that no one may touch, at both ends.

A read or a write one byte too far ends this process. The last line is "ok N".
"""

from __future__ import annotations

import faulthandler
import sys

import numpy as np
from mla_reduce.cases import CORNER, SMOKE
from mla_reduce.fuzz import Fuzzed, check, fuzz

import aiter_c
from aiter_c.testing import GuardedArray


def call(one: Fuzzed, *, end: bool) -> None:
    guarded = {
        name: GuardedArray(value, end=end, read_only=name not in one.inputs.written)
        for name, value in one.arguments.items()
        if isinstance(value, np.ndarray)
    }
    aiter_c.mla_reduce_v1(**one.arguments | {name: array.array for name, array in guarded.items()})
    check(one, {name: guarded[name].array for name in one.inputs.written})


def valid() -> int:
    cases = [case for case in SMOKE + CORNER if sum(rows * parts for rows, parts in case.groups) < 700]
    for number, case in enumerate(cases):
        for end in (False, True):
            inputs = case.inputs()
            inputs.freeze()
            call(Fuzzed(f"valid, {case.id}", number, inputs, {}), end=end)
    return 2 * len(cases)


def fuzzed(count: int) -> int:
    for one in fuzz(count):
        call(one, end=bool(one.number % 2))
    return count


if __name__ == "__main__":
    faulthandler.enable()
    threads, calls = int(sys.argv[1]), int(sys.argv[2])
    aiter_c.set_num_threads(threads)
    print("ok", valid() + fuzzed(calls))
