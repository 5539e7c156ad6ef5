"""Run by test_memory.py: random calls of both families whose every tensor touches a forbidden page, compared with the
reference. Arguments: number of calls, seed."""

import random
import sys

import numpy as np
from cache_write import cases as mla
from indexer_cache import cases as indexer

import aiter_c
from aiter_c.testing import CPU, GuardedArray, allocated_by, check_outputs, dtype_of

count, seed = map(int, sys.argv[1:])
rng = random.Random(seed)
aiter_c.set_num_threads(2)


def guarded_output(_name: str, _like: object, shape: tuple[int, ...], dtype: str, _stream: object) -> np.ndarray:
    return GuardedArray(np.zeros(shape, dtype_of(dtype)), end=rng.random() < 0.5).array


for number in range(count):
    case = rng.choice((mla, indexer)).random_case(rng, number)
    inputs, end = case.inputs(), rng.random() < 0.5
    inputs.freeze()
    guards = {
        name: GuardedArray(block.array, end=end, read_only=name not in inputs.written)
        for name, block in inputs.blocks.items()
    }
    with allocated_by(guarded_output):
        returned = getattr(aiter_c, case.op)(**inputs.arguments() | {n: guard.array for n, guard in guards.items()})
    for name in inputs.written:
        inputs.array(name)[...] = guards[name].array
    try:
        check_outputs(case.outputs(inputs, returned), case.expected(inputs, CPU), case.repro)
    except AssertionError as error:
        raise AssertionError(f"call {number}, seed {seed}: {error}") from None
print(f"{count} calls of {aiter_c._C.cpu_arch()}")
