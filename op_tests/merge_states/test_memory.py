"""Memory: nothing past the ends of a tensor (on the CPU both ends of every pointer at a forbidden page, in a child; a
simulator guards every tensor to the byte), no leak, and a call without memory for its outputs fails whole."""

from __future__ import annotations

import numpy as np
import pytest
from interpreter import run_python, script

import aiter_c
from aiter_c.testing import allocated_by, dtype_of
from aiter_c.testing.ops.merge_states import MergeStatesCase


@pytest.mark.isolated
@pytest.mark.parametrize("threads", [1, 3])
def test_no_pointer_is_followed_past_its_ends(threads: int) -> None:
    out = run_python(script("merge_states/isolated/guard_pages.py"), str(threads), str(threads)).stdout.split("\n")
    verdict, calls = out[-2].split()
    assert verdict == "ok" and int(calls) >= 300, out[-5:]


@pytest.mark.isolated
def test_blocks_and_references_stay() -> None:
    out = run_python(script("merge_states/isolated/leaks.py"), timeout=200).stdout.strip().split("\n")
    assert out[-1] == "ok" and len(out) > 15, out[-5:]


@pytest.mark.parametrize("missing", ["out", "lse_out"])
def test_no_memory_for_an_output(missing: str) -> None:
    """The framework has none for one of the two; every other allocation: boundary/test_no_memory.py."""
    inputs = MergeStatesCase(form="sequence").inputs()
    inputs.freeze()

    def allocate(name: str, _like: object, shape: tuple[int, ...], dtype: str, _stream: object) -> np.ndarray:
        if name == missing:
            raise MemoryError(name)
        return np.empty(shape, dtype_of(dtype))

    with allocated_by(allocate), pytest.raises(MemoryError, match=f"^{missing}$"):
        aiter_c.merge_states(**inputs.arguments())
    assert all(block.first_change() is None for block in inputs.blocks.values())
