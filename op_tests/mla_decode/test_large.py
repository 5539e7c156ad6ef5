"""64-bit addressing (upstream #2768): a pool of more than 2^32 elements, mapped sparsely, read at its far end.

9 million tokens of 576 bf16 elements are 10.4 GB of address space; only the pages that the lists name are ever touched.
"""

from __future__ import annotations

import mmap

import numpy as np
import pytest
from runtime.driver import Driver

import aiter_c
from aiter_c.testing import LSE, OUTPUT, Device, DeviceTensor, attend, check_close, dtype_of
from aiter_c.testing.cache import read_rows, write_rows
from aiter_c.testing.device import address_of

pytestmark = pytest.mark.large

_NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)  # named from Python 3.13 on
TOKENS = 9_000_000
FAR = [
    2**31 // 576 - 1,
    2**31 // 576,
    2**31 // 576 + 1,
    2**32 // 576 - 1,
    2**32 // 576,
    2**32 // 576 + 1,
    2**32 // 1152,
]
SLOTS = np.array([1, *FAR, 2**31 // 1152, 8_388_608, TOKENS - 2, TOKENS - 1])


def _sparse(shape: tuple[int, ...], dtype: np.dtype, strides: tuple[int, ...] | None = None) -> np.ndarray:
    """Zero pages that cost nothing until they are written. strides in elements."""
    extent = (
        int(np.prod(shape)) if strides is None else 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    )
    block = mmap.mmap(-1, extent * dtype.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE)
    return np.ndarray(shape, dtype, block, 0, None if strides is None else [s * dtype.itemsize for s in strides])


def _on_device(device: Device, pool: np.ndarray, pages: np.ndarray) -> DeviceTensor:
    """The pool in memory of its size there, of which only the pages that are used are copied."""
    extent = sum((n - 1) * s for n, s in zip(pool.shape, pool.strides, strict=True)) + pool.itemsize
    memory = aiter_c.empty((extent,), "uint8", device.place)
    driver, begin = Driver(device), address_of(memory)
    for page in np.unique(pages).tolist():
        driver.write(begin + page * pool.strides[0], np.ascontiguousarray(pool[page]).view(np.uint8))
    return DeviceTensor(memory, begin, pool, None)


def _decode_and_check(device: Device, pool: np.ndarray, kv_format: str, page_size: int) -> None:
    rng = np.random.default_rng(3)
    slots = np.unique(SLOTS[len(pool) * page_size > SLOTS])
    if page_size > 1:
        slots = np.unique(slots // page_size * page_size)[:, None] + np.arange(page_size)
        slots = slots.reshape(-1)
    write_rows(pool, kv_format, page_size, slots, rng.standard_normal((len(slots), 576), np.float32))
    q = rng.standard_normal((1, 5, 576), np.float32).astype(dtype_of("bfloat16"))
    pages = (slots[::page_size] // page_size).astype(np.int32)
    o = np.full((1, 5, 512), np.nan, dtype_of("bfloat16"))
    ints = {"qo_indptr": [0, 1], "kv_indptr": [0, len(pages)], "kv_last_page_lens": [page_size]}
    ints = {name: np.array(value, np.int32) for name, value in ints.items()}
    buffer = _on_device(device, pool, pages) if device.copies else pool
    for splits in (1, 3):
        o[...] = np.nan
        _, lse = device.decode(
            q=q, kv_buffer=buffer, o=o, kv_indices=pages, max_seqlen_q=1, page_size=page_size, num_kv_splits=splits,
            return_lse=True, kv_format=kv_format, **ints,
        )  # fmt: skip
        keys = read_rows(pool, kv_format, page_size, slots)
        want = attend(q[0].astype(np.float64), keys, 1 / 24, 1.0, p_dtype="bfloat16")
        check_close("lse", lse[0], want.lse, LSE, f"{pool.shape} {pool.dtype}")
        check_close(
            "o", o[0], want.o, OUTPUT, f"{pool.shape} {pool.dtype}", allowance=want.rounding if device.copies else 0.0
        )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float8_e4m3fn"])
def test_more_than_8_million_tokens(dtype: str, device: Device) -> None:
    pool = _sparse((TOKENS, 1, 1, 576), dtype_of(dtype))
    assert pool.size > 2**32
    _decode_and_check(device, pool, "plain", 1)


def test_a_page_stride_beyond_32_bits(device: Device) -> None:
    """Five pages, 2.4 GB apart each: rows of other layers lie between (SPEC 12.2)."""
    apart = 1_200_000_064
    _decode_and_check(device, _sparse((5, 1, 1, 576), dtype_of("bfloat16"), (apart, 576, 576, 1)), "plain", 1)


def test_pages_of_64_past_4_gib(device: Device) -> None:
    _decode_and_check(device, _sparse((TOKENS // 64, 64, 1, 576), dtype_of("bfloat16")), "plain", 64)


@pytest.mark.parametrize("kv_format", ["3buffer", "fp8_ds_mla"])
def test_records_past_4_gib(kv_format: str, device: Device) -> None:
    """9 million records of 656 bytes: 5.9 GB."""
    pool = _sparse((TOKENS // 64, 64 * 656), np.dtype(np.uint8))
    _decode_and_check(device, pool, kv_format, 64)
