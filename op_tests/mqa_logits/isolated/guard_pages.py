"""Run by test_guard_pages.py: random calls whose every tensor touches a forbidden page, with any numbers in the index
tensors, compared with the reference. Arguments: number of calls, seed."""

import sys

import numpy as np

import aiter_c
from aiter_c.testing import GuardedArray
from aiter_c.testing.compare import check_outputs
from aiter_c.testing.device import CPU
from aiter_c.testing.ops.mqa_logits import DATA, FP8, INT32_MAX, INT32_MIN, WINDOWS, LogitsCase, PagedLogitsCase

HEADS = (1, 3, 16, 17, 32, 64)
count, seed = map(int, sys.argv[1:])
rng = np.random.default_rng(seed)
aiter_c.set_num_threads(2)


def any_numbers(shape: tuple[int, ...], most: int) -> np.ndarray:
    """Lengths, pages and bounds as a caller's bug could make them."""
    near = rng.integers(-3, most + 4, shape)
    far = rng.choice([INT32_MIN, INT32_MIN + 1, INT32_MAX, INT32_MAX - 1, 0], shape)
    return np.where(rng.random(shape) < 0.7, near, far).astype(np.int32)


def draw(number: int) -> LogitsCase | PagedLogitsCase:
    """A small case; where index tensors are to be hostile its data has no NaN, which other keys could meet."""
    common = {
        "heads": int(rng.choice(HEADS)), "q_dtype": str(rng.choice(FP8)), "kv_dtype": str(rng.choice(FP8)),
        "clean": bool(rng.integers(2)), "seed": number, "data": str(rng.choice(DATA[:2])),
    }  # fmt: skip
    longest = int(rng.choice([1, 5, 16, 63, 64, 65, 257]))
    if rng.random() < 0.4:
        return LogitsCase(rows=int(rng.integers(1, 5)), keys=longest, window=str(rng.choice(WINDOWS)), **common)
    block = int(rng.choice([1, 3, 16, 64]))
    return PagedLogitsCase(
        lens=tuple(rng.integers(0, longest + 1, int(rng.integers(1, 4))).tolist()),
        next_n=int(rng.integers(1, 4)),
        block=block,
        preshuffle=block % 16 == 0 and bool(rng.integers(2)),
        max_model_len=longest,
        width=longest + int(rng.integers(-1, 3)) if longest > 1 else None,
        lens_shape=str(rng.choice(["b", "b1", "bn"])),
        spare_requests=int(rng.integers(2)),
        spare_lens=int(rng.integers(2)),
        **common,
    )


for number in range(count):
    case = draw(number)
    inputs, end = case.inputs(), bool(rng.integers(2))
    hostile = rng.random() < 0.5
    if hostile:  # everything that may be read has a value
        for name in ("q_fp8", "kv_cache", "Q", "KV"):
            if name in inputs.blocks:
                inputs.array(name).view(np.uint8)[...] = rng.integers(0, 0x70, inputs.array(name).shape, np.uint8)
        for name in ("weights", "kv_scales"):
            if name in inputs.blocks:
                inputs.array(name)[...] = rng.standard_normal(inputs.array(name).shape)
        pages = len(inputs.array("kv_cache")) if "kv_cache" in inputs.blocks else 0
        most = {"kv_indices": pages, "context_lens": case.served_len} if pages else {}
        for name in ("context_lens", "kv_indices", "cu_starts", "cu_ends"):
            if name in inputs.blocks:
                most_of = most[name] if pages else case.keys
                inputs.array(name)[...] = any_numbers(inputs.array(name).shape, most_of)
    inputs.freeze()
    guards = {
        name: GuardedArray(block.array, end=end, read_only=name not in inputs.written)
        for name, block in inputs.blocks.items()
    }
    arguments = inputs.arguments() | {name: guard.array for name, guard in guards.items()}
    getattr(aiter_c, case.op)(**arguments)
    got = {name: guards[name].array for name in inputs.written}
    check_outputs(got, case.expected(inputs, CPU), f"call {number}, seed {seed}, hostile {hostile}: {case!r}")
print(f"{count} calls of {aiter_c._C.cpu_arch()}")
