"""Run by test_memory.py: every pointer of the op flush with a page that no one may touch, at both ends, and inputs that
cannot be written. A read or a write one byte too far ends this process. Arguments: threads, seed. The last line is
"ok N"."""

from __future__ import annotations

import faulthandler
import sys

import numpy as np
from merge_states.cases import CORNER, SMOKE, SWEEP

import aiter_c
from aiter_c.testing import GuardedArray, allocated_by, check_outputs, dtype_of
from aiter_c.testing.ops.merge_states import MergeStatesCase


def guarded_outputs(_name: str, _like: object, shape: tuple[int, ...], dtype: str, _stream: object) -> np.ndarray:
    return GuardedArray(np.full(shape, np.nan, dtype_of(dtype)), end=True).array


def call(case: MergeStatesCase, *, end: bool) -> None:
    inputs = case.inputs()
    inputs.freeze()

    def guarded(value: object, *, read_only: bool) -> object:
        if isinstance(value, list):
            return [guarded(one, read_only=read_only) for one in value]
        return GuardedArray(value, end=end, read_only=read_only).array if isinstance(value, np.ndarray) else value

    arguments = {n: guarded(v, read_only=n not in inputs.written) for n, v in inputs.arguments().items()}
    with allocated_by(guarded_outputs):
        returned = getattr(aiter_c, case.op)(**arguments)
    if returned is None:
        returned = arguments["output"], arguments.get("output_lse")
    outputs = dict(zip(("out", "lse_out"), returned, strict=True))
    check_outputs(outputs, case.expected(inputs, None), case.repro)


if __name__ == "__main__":
    faulthandler.enable()
    aiter_c.set_num_threads(int(sys.argv[1]))
    cases = SMOKE + CORNER + SWEEP[int(sys.argv[2]) % 2 :: 2]
    for number, one in enumerate(cases):
        call(one, end=number % 2 == 0)
        call(one, end=number % 2 == 1)
    print("ok", 2 * len(cases))
