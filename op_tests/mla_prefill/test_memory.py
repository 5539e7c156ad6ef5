"""Memory: nothing past the ends of a tensor whatever the lists hold (on the CPU both ends of every pointer at a
forbidden page, in a child; on a device every tensor in memory of exactly its size, which a simulator guards to the
byte), no leak, and a call without memory for its buffers fails whole."""

from __future__ import annotations

import numpy as np
import pytest
from interpreter import run_python, script
from mla_prefill.fuzz import CASES, check, fuzz

import aiter_c
from aiter_c.testing import Device, allocated_by, dtype_of
from aiter_c.testing.ops.mla_prefill import is_served


@pytest.mark.isolated
@pytest.mark.parametrize("threads", [1, 3])
def test_no_pointer_is_followed_past_its_ends(threads: int) -> None:
    out = run_python(script("mla_prefill/isolated/guard_pages.py"), str(threads), "200").stdout.split("\n")
    verdict, calls = out[-2].split()
    assert verdict == "ok" and int(calls) >= 240, out[-5:]


@pytest.mark.smoke
def test_any_index(device: Device) -> None:
    if not all(is_served(case, device) for case in CASES):
        return
    answers = 0
    for one in fuzz(24 if device.simulated else 120, seed=11):
        given = one.arguments | ({"exact": True} if device.copies else {})
        _, lse = device.call("mla_prefill_ps_fwd", **given)
        answers += check(one, one.inputs.array("output"), lse)
    assert answers > 300


@pytest.mark.isolated
def test_blocks_and_references_stay() -> None:
    """No leak, over calls that work and calls that are refused."""
    out = run_python(script("mla_prefill/isolated/leaks.py"), timeout=200).stdout.strip().split("\n")
    assert out[-1] == "ok" and len(out) > 10, out[-5:]


@pytest.mark.parametrize("missing", ["splitData", "splitLse", "final_lse"])
def test_no_memory_for_a_buffer(missing: str) -> None:
    """The framework has none; then nothing was written."""
    inputs = CASES[0].inputs()
    inputs.freeze()

    def allocate(name: str, _like: object, shape: tuple[int, ...], dtype: str, _stream: object) -> np.ndarray:
        if name == missing:
            raise MemoryError(name)
        return np.empty(shape, dtype_of(dtype))

    with allocated_by(allocate), pytest.raises(MemoryError, match=f"^{missing}$"):
        aiter_c.mla_prefill_ps_fwd(**inputs.arguments())
    assert all(block.first_change() is None for block in inputs.blocks.values())
