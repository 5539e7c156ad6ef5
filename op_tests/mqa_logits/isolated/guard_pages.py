"""Run by test_guard_pages.py: random calls whose every tensor touches a forbidden page, half of them with any integers
in the index tensors, compared with the reference. Arguments: number of calls, seed."""

import random
import sys

from mqa_logits.cases import random_case

import aiter_c
from aiter_c.testing import CPU, GuardedArray, check_outputs

count, seed = map(int, sys.argv[1:])
rng = random.Random(seed)
aiter_c.set_num_threads(2)
for number in range(count):
    case = random_case(rng, number, rng.choice((0.0, 0.0, 0.3, 1.0)))
    inputs, end = case.inputs(), rng.random() < 0.5
    inputs.freeze()
    guards = {
        name: GuardedArray(block.array, end=end, read_only=name not in inputs.written)
        for name, block in inputs.blocks.items()
    }
    getattr(aiter_c, case.op)(**inputs.arguments() | {name: guard.array for name, guard in guards.items()})
    got = {name: guards[name].array for name in inputs.written}
    try:
        check_outputs(got, case.expected(inputs, CPU), case.repro)
    except AssertionError as error:
        raise AssertionError(f"call {number}, seed {seed}: {error}") from None
print(f"{count} calls of {aiter_c._C.cpu_arch()}")
