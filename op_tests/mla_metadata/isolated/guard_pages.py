"""Run by test_memory.py: random calls whose every tensor touches a forbidden page, compared with the planner in Python.
Arguments: number of calls, seed."""

import random
import sys

import numpy as np
from mla_metadata.cases import random_case

import aiter_c
from aiter_c.testing import CPU, GuardedArray
from aiter_c.testing.ops.mla_metadata import MlaMetadataCase

count, seed = map(int, sys.argv[1:])
rng = random.Random(seed)

for number in range(count):
    fields = random_case(rng, number)._changed()
    case = MlaMetadataCase(**fields | {"hostile": rng.choice((0.0, 0.2, 1.0)), "spare": 0})
    inputs, end = case.inputs(), rng.random() < 0.5
    inputs.freeze()
    guards = {
        name: GuardedArray(block.array, end=end, read_only=name not in inputs.written)
        for name, block in inputs.blocks.items()
    }
    aiter_c.get_mla_metadata_v1(**inputs.arguments() | {name: guard.array for name, guard in guards.items()})
    for name, want in case.expected(inputs, CPU).items():
        got = guards[name].array
        written = np.ones(len(got), bool) if want.written is None else want.written
        if not np.array_equal(got[written], want.values[written]):
            raise AssertionError(f"{name} of call {number}, seed {seed}: {case!r}")
print(f"{count} calls of {aiter_c._C.cpu_arch()}")
