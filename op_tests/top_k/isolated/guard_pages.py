"""Run by test_guard_pages.py: random calls whose every tensor, scratch included, touches a forbidden page, compared
with the reference. Arguments: number of calls, seed."""

import sys

import numpy as np

import aiter_c
from aiter_c.testing import GuardedArray, allocated_by
from aiter_c.testing.ops.top_k import DATA, INT32_MAX, INT32_MIN, SPLIT_COLUMNS, WINDOWS, TopKCase

WIDTHS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33, 100, 1023, 1024, 1025, 1031)
count, seed = map(int, sys.argv[1:])
rng = np.random.default_rng(seed)
aiter_c.set_num_threads(2)


def guarded_scratch(_name: str, _like: object, shape: tuple[int, ...], dtype: str, _stream: object) -> np.ndarray:
    return GuardedArray(np.full(shape, -1, dtype), end=bool(rng.integers(2))).array


def any_numbers(count: int, columns: int) -> np.ndarray:
    """Window bounds and lengths as a caller's bug could make them."""
    near = rng.integers(-3, columns + 4, count)
    far = rng.choice([INT32_MIN, INT32_MIN + 1, INT32_MAX, INT32_MAX - 1, 0], count)
    return np.where(rng.random(count) < 0.7, near, far).astype(np.int32)


for number in range(count):
    split = number % 50 == 0
    columns = SPLIT_COLUMNS + int(rng.integers(9)) if split else int(rng.choice(WIDTHS))
    case = TopKCase(
        rows=1 if split else int(rng.integers(1, 4)),
        columns=columns,
        k=int(rng.choice([1, columns // 2 + 1, columns, columns + 2])) if not split else int(rng.integers(1, 5000)),
        next_n=None if rng.random() < 0.6 else int(rng.integers(1, 4)),
        data=str(rng.choice(DATA)),
        window=str(rng.choice(WINDOWS)),
        seed=number,
    )
    inputs, end = case.inputs(), bool(rng.integers(2))
    for name in ("rowStarts", "rowEnds", "seqLens"):
        if name in inputs.blocks and rng.random() < 0.4:
            inputs.array(name)[...] = any_numbers(len(inputs.array(name)), columns)
    inputs.find_windows()
    guards = {
        name: GuardedArray(block.array, end=end, read_only=name not in inputs.written)
        for name, block in inputs.blocks.items()
    }
    arguments = inputs.arguments() | {name: guard.array for name, guard in guards.items()}
    arguments["stride0"] = columns  # of the copy
    with allocated_by(guarded_scratch):
        getattr(aiter_c, case.op)(**arguments)
    for name, want in zip(("indices", "values"), inputs.reference(), strict=True):
        if name in guards and guards[name].array.tobytes() != want.tobytes():
            raise AssertionError(f"{name} of call {number}, seed {seed}: {case!r}")
print(f"{count} calls of {aiter_c._C.cpu_arch()}")
