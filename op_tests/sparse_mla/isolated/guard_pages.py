"""Run by test_memory.py: random calls whose every tensor touches a forbidden page, with any numbers in the index
tensors, compared with the reference. Arguments: number of calls, seed."""

import random
import sys

import numpy as np
from sparse_mla.cases import random_case

import aiter_c
from aiter_c.testing import CPU, GuardedArray, allocated_by, check_outputs

count, seed = map(int, sys.argv[1:])
rng = random.Random(seed)
aiter_c.set_num_threads(2)


def guarded(_name: str, _like: object, shape: tuple[int, ...], dtype: str, _stream: object) -> np.ndarray:
    return GuardedArray(np.full(shape, np.nan, dtype), end=rng.random() < 0.5).array


for number in range(count):
    case = random_case(rng, number, hostile=True)
    inputs, end = case.inputs(), rng.random() < 0.5
    inputs.freeze()
    guards = {
        name: GuardedArray(value, end=end, read_only=name not in inputs.written)
        for name, value in inputs.arguments().items()
        if isinstance(value, np.ndarray)
    }
    with allocated_by(guarded):
        returned = getattr(aiter_c, case.op)(**inputs.arguments() | {n: guard.array for n, guard in guards.items()})
    for name in inputs.written:
        inputs.array(name)[...] = guards[name].array
    try:
        check_outputs(case.outputs(inputs, returned), case.expected(inputs, CPU), case.repro)
    except AssertionError as error:
        raise AssertionError(f"call {number}, seed {seed}: {error}") from None
print(f"{count} calls of {aiter_c._C.cpu_arch()}")
