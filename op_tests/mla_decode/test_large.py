"""64-bit addressing (upstream #2768): a pool of more than 2^32 elements, mapped sparsely, read at its far end.

9 million tokens of 576 bf16 elements are 10.4 GB of address space; only the pages that the lists name are ever touched.
"""

from __future__ import annotations

import mmap

import numpy as np
import pytest
from mla_decode.lists_model import LISTS
from runtime.driver import Driver

import aiter_c
from aiter_c.testing import (
    LSE,
    OUTPUT,
    Device,
    DeviceTensor,
    MlaCase,
    allocated_by,
    attend,
    build_inputs,
    check_bits,
    check_close,
    dtype_of,
)
from aiter_c.testing.device import address_of
from aiter_c.testing.ops.cache import read_rows, write_rows
from aiter_c.testing.ops.mla_decode import p_dtype_of

pytestmark = pytest.mark.large

_NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)  # named from Python 3.13 on
TOKENS = 9_000_000
APART = 1_200_000_064  # elements: 2.4 GB of 16-bit numbers
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


def _on_device(device: Device, array: np.ndarray, rows: np.ndarray) -> np.ndarray | DeviceTensor:
    """An array in memory of its extent there, of which only the rows (or pages) that are used are copied."""
    if not device.copies:
        return array
    extent = sum((n - 1) * s for n, s in zip(array.shape, array.strides, strict=True)) + array.itemsize
    memory = aiter_c.empty((extent,), "uint8", device.place)
    driver, begin = Driver(device), address_of(memory)
    for row in np.unique(rows).tolist():
        driver.write(begin + row * array.strides[0], np.ascontiguousarray(array[row]).view(np.uint8))
    return DeviceTensor(memory, begin, array, None)


def _check(device: Device, pool: np.ndarray, kv_format: str, page_size: int, slots: np.ndarray) -> None:
    """One request over these slots, in one split and in three."""
    rng = np.random.default_rng(3)
    write_rows(pool, kv_format, page_size, slots, rng.standard_normal((len(slots), 576), np.float32))
    q = rng.standard_normal((1, 5, 576), np.float32).astype(dtype_of("bfloat16"))
    pages = (slots[::page_size] // page_size).astype(np.int32)
    ints = {"qo_indptr": [0, 1], "kv_indptr": [0, len(pages)], "kv_last_page_lens": [page_size]}
    ints = {name: np.array(value, np.int32) for name, value in ints.items()}
    kv_dtype = pool.dtype.name if kv_format == "plain" else "float8_e4m3fn"
    case = MlaCase(heads=5, kv_lens=(len(slots),), page_size=page_size, kv_dtype=kv_dtype, kv_format=kv_format)
    p_dtype = p_dtype_of(case, device)
    want = attend(q[0].astype(np.float64), read_rows(pool, kv_format, page_size, slots), 1 / 24, 1.0, p_dtype=p_dtype)
    buffer, what = _on_device(device, pool, pages), f"{pool.shape} {pool.dtype}"
    for how in ({"num_kv_splits": 1}, {"num_kv_splits": 3}, _lists(ints, pages, page_size)):
        o = np.full((1, 5, 512), np.nan, dtype_of("bfloat16"))
        _, lse = device.call(
            "mla_decode_fwd", q=q, kv_buffer=buffer, o=o, kv_indices=pages, max_seqlen_q=1, page_size=page_size,
            return_lse=True, kv_format=kv_format, **ints, **how,
        )  # fmt: skip
        check_close("lse", lse[0], want.lse, LSE, what)
        check_close("o", o[0], want.o, OUTPUT, what, allowance=want.rounding)


def _lists(ints: dict[str, np.ndarray], pages: np.ndarray, page_size: int) -> dict[str, np.ndarray]:
    """The request in pieces, but where it is shorter than what a piece costs."""
    info = aiter_c.get_mla_metadata_info_v1(1, 1, 5, "bfloat16", "bfloat16", False, num_workers=3)
    lists = [np.zeros(size, "int32" if i else "uint64") for i, (size, _) in enumerate(info)]
    pointers, indptr, items, *reduce = lists
    aiter_c.get_mla_metadata_v1(
        *ints.values(), 5, 1, True, pointers, items, indptr, *reduce, page_size=page_size, kv_granularity=1,
        max_split_per_batch=3,
    )  # fmt: skip
    assert len(pages) <= 5 or indptr[-1] > 1
    return dict(zip(LISTS, lists, strict=True))


def _far_slots(pool: np.ndarray, page_size: int) -> np.ndarray:
    """SLOTS, each with its whole page."""
    slots = np.unique(SLOTS[len(pool) * page_size > SLOTS] // page_size * page_size)
    assert len(slots) > 5
    return (slots[:, None] + np.arange(page_size)).reshape(-1)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float8_e4m3fn"])
def test_more_than_8_million_tokens(dtype: str, device: Device) -> None:
    pool = _sparse((TOKENS, 1, 1, 576), dtype_of(dtype))
    assert pool.size > 2**32
    _check(device, pool, "plain", 1, _far_slots(pool, 1))


def test_a_page_stride_beyond_32_bits(device: Device) -> None:
    """Five pages, 2.4 GB apart each: layers of other models lie between. Every page is read, so that an offset that
    wrapped would read zeros."""
    pool = _sparse((5, 1, 1, 576), dtype_of("bfloat16"), (APART, 576, 576, 1))
    _check(device, pool, "plain", 1, np.array([3, 0, 4, 2, 1]))


def test_pages_of_64_past_4_gib(device: Device) -> None:
    pool = _sparse((TOKENS // 64, 64, 1, 576), dtype_of("bfloat16"))
    _check(device, pool, "plain", 64, _far_slots(pool, 64))


@pytest.mark.parametrize("kv_format", ["3buffer", "fp8_ds_mla"])
def test_records_past_4_gib(kv_format: str, device: Device) -> None:
    """9 million records of 656 bytes: 5.9 GB."""
    pool = _sparse((TOKENS // 64, 64 * 656), np.dtype(np.uint8))
    _check(device, pool, kv_format, 64, _far_slots(pool, 64))


@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize("far", ["q", "o"])
def test_rows_of_q_and_o_beyond_32_bits(far: str, splits: int, device: Device) -> None:
    """Four rows, 2.4 GB apart each; the same bits as of rows side by side."""
    case = MlaCase(heads=5, q_lens=(3, 1), kv_lens=(40, 20), splits=splits)
    near = build_inputs(case)
    device.call("mla_decode_fwd", **near.arguments())
    array = near.array(far)
    apart = _sparse(array.shape, array.dtype, (APART, array.shape[2], 1))
    if far == "q":
        apart[...] = array
    again = build_inputs(case)
    placed = _on_device(device, apart, np.arange(len(apart)))
    device.call("mla_decode_fwd", **again.arguments() | {far: placed})
    got = again.array("o")
    if far == "o":
        got = _rows_of(device, placed, apart) if device.copies else apart
    check_bits("o", got, near.array("o"), case.repro)


def _rows_of(device: Device, placed: DeviceTensor, array: np.ndarray) -> np.ndarray:
    """What the rows of an array hold on the device."""
    driver, out = Driver(device), np.empty(array.shape, array.dtype)
    for row in range(len(array)):
        driver.read(placed.address + row * array.strides[0], out[row])
    return out


def test_partials_beyond_32_bits(device: Device) -> None:
    """Partials at rows on both sides of 2^31 and 2^32 bytes, and of as many elements: the bits of lists whose partials
    stand side by side. 66,000 rows of 128 heads are 17.3 GB of address space."""
    case = MlaCase(heads=128, q_lens=(1, 1), kv_lens=(40, 90), workers=9, granule=1, splits=None)
    near = build_inputs(case)
    device.call("mla_decode_fwd", **near.arguments())
    items, count = near.array("work_info_set").copy(), int(near.array("reduce_indptr")[-1])
    far = np.array([2**31 // 4, 2**32 // 4, 2**31, 2**32]) // (128 * 512)  # elements
    places = np.unique([0, *(far - 1), *far, 65_998])[:count].astype(np.int32)
    assert count > 6 and len(places) == count
    partial = near.array("reduce_partial_map")[:count]
    for item in items[: near.array("work_indptr")[-1]]:
        if item[1] >= 0:
            item[1] = places[np.flatnonzero(partial == item[1])[0]]
    spread = np.concatenate([places, np.zeros(66_000 - count, np.int32)])  # as many rows as entries
    sizes = {"logits": (66_000, 1, 128, 512), "attn_lse": (66_000, 1, 128, 1), "lse": (2, 128)}
    arrays = {name: _sparse(shape, np.dtype(np.float32)) for name, shape in sizes.items()}
    again = build_inputs(case)

    def allocate(name: str, _like: object, shape: tuple, _dtype: str, _stream: object) -> np.ndarray | DeviceTensor:
        assert tuple(shape) == sizes[name]
        return _on_device(device, arrays[name], np.zeros(0, int))

    with allocated_by(allocate):
        device.call(
            "mla_decode_fwd", leave=(0, 1), **again.arguments() | {"work_info_set": items, "reduce_partial_map": spread}
        )
    check_bits("o", again.array("o"), near.array("o"), case.repro)
