"""Run by test_memory.py: every allocation of a call fails once, the N-th for all N until a call needs no more of them.
Then it is a MemoryError, nothing is written or left behind, and the next call works."""

import _testcapi
import gc
import sys

import numpy as np

import aiter_c
from aiter_c.testing import allocated_by
from aiter_c.testing.ops.top_k import SPLIT_COLUMNS, TopKCase

aiter_c.set_num_threads(2)
CASES = [
    TopKCase(),
    TopKCase(next_n=2),
    TopKCase(rows=1, columns=SPLIT_COLUMNS),
    TopKCase(rows=1, columns=SPLIT_COLUMNS, next_n=1),
]


def attempt(op: object, arguments: dict[str, object], number: int) -> bool:
    """Whether the call got by without its allocation `number`."""
    _testcapi.set_nomemory(number, number + 1)
    try:
        op(**arguments)
    except MemoryError:
        return False
    finally:
        _testcapi.remove_mem_hooks()
    return True


def check(case: TopKCase) -> int:
    inputs, op, number = case.inputs(), getattr(aiter_c, case.op), 0
    arguments, want = inputs.arguments(), inputs.reference()[0]
    op(**arguments)
    while True:
        inputs.freeze()
        gc.collect()
        blocks, references = sys.getallocatedblocks(), sys.getrefcount(arguments["logits"])
        served = attempt(op, arguments, number)
        if served:
            assert np.array_equal(inputs.array("indices"), want), number
            return number
        changed = [name for name, block in inputs.blocks.items() if block.first_change() is not None]
        assert not changed, (number, changed)
        gc.collect()
        assert sys.getrefcount(arguments["logits"]) == references, number
        assert sys.getallocatedblocks() - blocks < 20, number
        op(**arguments)
        assert np.array_equal(inputs.array("indices"), want), number
        number += 1


def check_scratch(case: TopKCase, which: str) -> None:
    """The framework has no memory for one of the two buffers."""
    inputs = case.inputs()
    inputs.freeze()

    def allocate(name: str, _like: object, shape: tuple[int, ...], dtype: str, _stream: object) -> np.ndarray:
        if name == which:
            raise MemoryError(name)
        return np.empty(shape, dtype)

    try:
        with allocated_by(allocate):
            getattr(aiter_c, case.op)(**inputs.arguments())
    except MemoryError as error:
        assert str(error) == which
    else:
        raise AssertionError(which)
    assert all(block.first_change() is None for block in inputs.blocks.values())


failed = [check(case) for case in CASES]
assert all(failed[2:]), failed  # calls with scratch do allocate
for case in CASES[2:]:
    for name in ("candidate_indices", "candidate_values"):
        check_scratch(case, name)
print("ok", failed)
