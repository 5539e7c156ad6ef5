"""Nothing leaks, a call without memory fails whole, a long call can be interrupted, and offsets have 64 bits."""

from __future__ import annotations

import mmap

import numpy as np
import pytest
from interpreter import run_python, script

import aiter_c
from aiter_c.testing import allocated_by
from aiter_c.testing.ops.mqa_logits import LogitsCase, PagedLogitsCase, logits_reference

INTERRUPT = """
import signal, time
import numpy as np
import aiter_c
signal.signal(signal.SIGALRM, signal.default_int_handler)
rows, keys = 100_000, 256
q = np.broadcast_to(np.zeros((64, 128), np.uint8), (rows, 64, 128))
kv, scales = np.zeros((keys, 128), np.uint8), np.ones(keys, np.float32)
weights = np.broadcast_to(np.zeros(64, np.float32), (rows, 64))
bounds = np.zeros(rows, np.int32), np.full(rows, keys, np.int32)
signal.setitimer(signal.ITIMER_REAL, 0.3)
start = time.perf_counter()
try:
    aiter_c.fp8_mqa_logits(q, kv, scales, weights, *bounds, q_dtype="float8_e4m3fn", kv_dtype="float8_e4m3fn")
except KeyboardInterrupt:
    print(time.perf_counter() - start < 1.3)
"""


@pytest.mark.isolated
def test_blocks_and_references_stay() -> None:
    out = run_python(script("mqa_logits/isolated/leaks.py")).stdout.strip().split("\n")
    assert out[-1] == "ok" and len(out) > 15, out[-5:]


def test_no_memory_for_the_logits() -> None:
    """The framework has none; every other allocation: boundary/test_no_memory.py."""
    inputs = LogitsCase(out=False).inputs()
    inputs.freeze()

    def allocate(name: str, _like: object, _shape: tuple[int, ...], _dtype: str, _stream: object) -> np.ndarray:
        raise MemoryError(name)

    with allocated_by(allocate), pytest.raises(MemoryError, match=r"^logits$"):
        aiter_c.fp8_mqa_logits(**inputs.arguments())
    assert all(block.first_change() is None for block in inputs.blocks.values())


@pytest.mark.isolated
def test_a_long_call_is_interrupted() -> None:
    assert run_python("-c", INTERRUPT, timeout=60).stdout == "True\n"


def _far_apart(count: int, distance: int) -> np.ndarray:
    """uint8 memory of which only what is touched exists, for `count` things so far apart."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
    return np.frombuffer(mmap.mmap(-1, count * distance, flags=flags), np.uint8)


@pytest.mark.large
def test_pages_and_rows_beyond_32_bits() -> None:
    """Pages 3 GB apart, rows of the logits 6 GB apart."""
    case = PagedLogitsCase(lens=(150, 100), next_n=2, out_gap=0)
    inputs = case.inputs()
    inputs.freeze()
    cache, out = inputs.array("kv_cache"), inputs.array("out_logits")
    far, wide = 3 << 30, 6 << 30
    pool = _far_apart(len(cache), far)
    pages = np.lib.stride_tricks.as_strided(pool[:1], cache.shape, (far, 132, 132, 1), writeable=True)
    pages[...] = cache
    memory = _far_apart(len(out), wide).view(np.float32)
    logits = np.lib.stride_tricks.as_strided(memory[:1], out.shape, (wide, 4), writeable=True)
    logits[...] = np.nan
    aiter_c.deepgemm_fp8_paged_mqa_logits(**inputs.arguments() | {"kv_cache": pages, "out_logits": logits})
    aiter_c.deepgemm_fp8_paged_mqa_logits(**inputs.arguments())
    assert logits.tobytes() == out.tobytes() and not np.isnan(out).any()


@pytest.mark.large
def test_logits_of_more_than_two_gigabytes() -> None:
    """[3, 2**29] logits; only what the windows have is touched."""
    keys, rows = 2**29, 3
    rng = np.random.default_rng(0)
    inputs = LogitsCase(rows=rows, keys=40).inputs()
    ends = [7, keys // 2 + 5, keys]
    kv = np.lib.stride_tricks.as_strided(inputs.array("KV")[:1], (keys, 128), (0, 1))
    scales = np.lib.stride_tricks.as_strided(rng.random(1).astype(np.float32), (keys,), (0,))
    out = _far_apart(rows, 4 * keys).view(np.float32).reshape(rows, keys)
    bounds = {"cu_starts": np.array(ends, np.int32) - 7, "cu_ends": np.array(ends, np.int32)}
    changes = {"KV": kv, "kv_scales": scales, "logits": out, "clean_logits": False}
    assert out.nbytes > 2**32
    aiter_c.fp8_mqa_logits(**inputs.arguments() | changes | bounds)
    for row, end in enumerate(ends):
        want, sizes = logits_reference(inputs.array("Q")[row], kv[:1], scales[:1], inputs.array("weights")[row])
        assert np.abs(out[row, end - 7 : end] - want).max() <= 1e-6 * sizes[0]
        assert not out[row, max(end - 99, 0) : end - 7].any() and not out[row, end : end + 99].any()
