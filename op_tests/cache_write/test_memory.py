"""Memory: nothing past the ends of a tensor whatever the index tensors hold (on the CPU every tensor at a forbidden
page, in a child; on a device every tensor in memory of exactly its size, which a simulator guards to the byte), no
leak, a call without memory for its outputs fails whole, and offsets of 64 bits."""

from __future__ import annotations

import dataclasses
import mmap
import random
import re

import numpy as np
import pytest
from cache_write import cases as mla
from indexer_cache import cases as indexer
from interpreter import run_python, script
from runtime.driver import Driver

import aiter_c
from aiter_c.testing import Device, DeviceTensor, allocated_by, run_case
from aiter_c.testing.device import address_of
from aiter_c.testing.ops.cache_write import CacheWriteCase
from aiter_c.testing.ops.indexer_cache import IndexerRopeCase, IndexerWriteCase

CALLS = 500


@pytest.mark.isolated
@pytest.mark.smoke
def test_random_calls_between_forbidden_pages() -> None:
    out = run_python(script("cache_write/isolated/guard_pages.py"), str(CALLS), "0").stdout
    assert re.fullmatch(rf"{CALLS} calls of \w+\n", out)


def test_any_integers_in_exact_memory(device: Device) -> None:
    """Slots, positions, tables and lengths of any integers. A case that fails prints itself."""
    rng = random.Random(2)
    for seed in range(60 if device.simulated else 300):
        case = rng.choice((mla, indexer)).random_case(rng, seed)
        hostile = {"slots": "any", "positions": "far", "table": "any"}
        fields = {name: value for name, value in hostile.items() if hasattr(case, name)}
        case = dataclasses.replace(case, **fields)
        run_case(case, device=device, **({"exact": True} if device.copies else {}))


@pytest.mark.isolated
def test_blocks_and_references_stay() -> None:
    out = run_python(script("cache_write/isolated/leaks.py"), timeout=200).stdout.strip().split("\n")
    assert out[-1] == "ok" and len(out) > 15, out[-5:]


@pytest.mark.parametrize("failing", ["q_out", "decode_q_pe_out", "k_pe_out", "q_nope_zeros_out"])
def test_no_memory_for_an_output(failing: str) -> None:
    """The framework has none for one of them; every other allocation: boundary/test_no_memory.py."""
    inputs = CacheWriteCase(form="cat", decoded=2).inputs()
    inputs.freeze()

    def allocate(name: str, _like: object, shape: tuple[int, ...], dtype: str, _stream: object) -> np.ndarray:
        if name == failing:
            raise MemoryError(name)
        return np.zeros(shape, dtype)

    with allocated_by(allocate), pytest.raises(MemoryError, match=rf"^{failing}$"):
        aiter_c.fused_qk_rope_cat_and_cache_mla(**inputs.arguments())
    assert all(block.first_change() is None for block in inputs.blocks.values())
    run_case(inputs.case)


def test_an_allocator_that_gives_something_else() -> None:
    """A fresh output is looked at like one that was passed."""
    inputs = CacheWriteCase(form="cat", decoded=2).inputs()
    for wrong in (np.zeros((1, 1), np.float32), np.zeros((5, 3, 576), np.int64)):
        with allocated_by(lambda *_, a=wrong: a), pytest.raises((TypeError, ValueError), match=r"_out: expected"):
            aiter_c.fused_qk_rope_cat_and_cache_mla(**inputs.arguments())


APART = 3 << 30  # bytes


def _pages_apart(array: np.ndarray, device: Device) -> tuple[np.ndarray, object]:
    """The array's pages so far from one another in memory that nothing else touches: on the host, and for the call."""
    extent, flags = len(array) * APART, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
    size = array.dtype.itemsize
    memory = mmap.mmap(-1, extent, flags=flags)
    far = np.ndarray(array.shape, array.dtype, memory, 0, (APART // size * size, *array.strides[1:]))
    if not device.copies:
        return far, far
    held = aiter_c.empty((extent,), "uint8", device.place)
    return far, DeviceTensor(held, address_of(held), far, None)


@pytest.mark.large
@pytest.mark.parametrize(
    "case",
    [
        CacheWriteCase(slots="all", pages=4, page_size=2),
        CacheWriteCase(slots="all", pages=4, page_size=2, cache="fp8_ds_mla"),
        CacheWriteCase(form="fused", slots="all", pages=4, page_size=2, cache="float8_e4m3fn"),
        IndexerWriteCase(slots="all", pages=4, page_size=2),
        IndexerRopeCase(slots="all", pages=4, page_size=2),
    ],
)
def test_pages_beyond_32_bits(case: object, device: Device) -> None:
    """Pages 3 GB apart: the bits of pages side by side."""
    near, again = case.inputs(), case.inputs()
    device.call(case.op, **near.arguments())
    cache = near.array("kv_cache")
    far, placed = _pages_apart(cache, device)
    driver = Driver(device) if device.copies else None
    for page in range(len(far)):
        if driver:
            driver.write(placed.address + page * far.strides[0], again.array("kv_cache")[page])
        else:
            far[page] = again.array("kv_cache")[page]
    device.call(case.op, **again.arguments() | {"kv_cache": placed})
    for page in range(len(far)):
        got = np.ascontiguousarray(cache[page])
        if driver:
            driver.read(placed.address + page * far.strides[0], got)
        else:
            got = far[page]
        assert got.tobytes() == cache[page].tobytes(), f"page {page}"
