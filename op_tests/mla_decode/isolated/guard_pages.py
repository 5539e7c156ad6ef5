"""Run by test_guard_pages.py: every pointer of the op flush with a page that no one may touch, at both ends.

A read or a write one byte too far ends this process. Prints one line per cell of the matrix and a last line "ok N".
"""

from __future__ import annotations

import faulthandler
import sys

import numpy as np
from mla_decode.fuzz import CASES, check, expected, fuzz

import aiter_c
from aiter_c.testing import GuardedArray, MlaInputs, allocated_by, build_inputs
from aiter_c.testing.ops.mla_decode import p_dtype_of

OUTPUTS = ("o",)


class Guarded:
    """The arguments of a case with every tensor between guard pages; so are the LSE and the scratch."""

    def __init__(self, inputs: MlaInputs, *, end: bool, changed: dict[str, np.ndarray] | None = None) -> None:
        self.kept: list[GuardedArray] = []
        self.end = end
        arguments = inputs.arguments() | (changed or {})
        self.arguments = {
            name: self._place(value, name not in OUTPUTS) if isinstance(value, np.ndarray) else value
            for name, value in arguments.items()
        }

    def _place(self, value: np.ndarray, read_only: bool) -> np.ndarray:
        self.kept.append(GuardedArray(value, end=self.end, read_only=read_only))
        return self.kept[-1].array

    def _scratch(self, _name: str, _like: object, shape: tuple[int, ...], dtype: str, _stream: object) -> np.ndarray:
        return self._place(np.full(shape, np.nan, dtype), False)

    def call(self) -> tuple[np.ndarray, np.ndarray]:
        with allocated_by(self._scratch):
            _, lse = aiter_c.mla_decode_fwd(**self.arguments)
        return self.arguments["o"], lse


def matrix() -> int:
    cells = 0
    for case in CASES:
        for end in (False, True):
            inputs = build_inputs(case)
            inputs.blocks["o"].fill_nan()
            o, lse = Guarded(inputs, end=end).call()
            check("valid", inputs, o, lse, inputs.reference(p_dtype=p_dtype_of(case)))
            for argument in inputs.arguments():
                print(f"{case.id}: {argument} at the {'end' if end else 'start'} of a page: ok")
                cells += 1
    return cells


def fuzzed(count: int) -> int:
    for one in fuzz(count):
        o, lse = Guarded(one.inputs, end=bool(one.number % 2), changed=one.changed).call()
        check(one.name, one.inputs, o, lse, expected(one.inputs, one.changed, p_dtype_of(one.inputs.case)))
    return count


if __name__ == "__main__":
    faulthandler.enable()
    threads, calls = int(sys.argv[1]), int(sys.argv[2])
    aiter_c.set_num_threads(threads)
    print("ok", matrix() + fuzzed(calls))
