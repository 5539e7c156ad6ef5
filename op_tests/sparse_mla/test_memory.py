"""Memory: nothing past the ends of a tensor whatever the index tensors hold (on the CPU every tensor at a forbidden
page, in a child; on a device every tensor in memory of exactly its size, which a simulator guards to the byte), no
leak, and a call without memory for its scratch fails whole."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest
from interpreter import run_python, script
from sparse_mla.cases import random_case

import aiter_c
from aiter_c.testing import Device, allocated_by, run_case
from aiter_c.testing.ops.sparse_mla import SparseCase

CALLS = 250


@pytest.mark.isolated
@pytest.mark.parametrize("seed", [0, 1])
def test_random_calls_between_forbidden_pages(seed: int) -> None:
    out = run_python(script("sparse_mla/isolated/guard_pages.py"), str(CALLS), str(seed)).stdout
    assert re.fullmatch(rf"{CALLS} calls of \w+\n", out)


def test_any_integers_in_exact_memory(device: Device) -> None:
    """Index tensors of hostile integers. A case that fails prints itself."""
    rng = random.Random(2)
    for seed in range(60 if device.simulated else 300):
        case = random_case(rng, seed, hostile=True)
        if device.simulated and sum(case.lens) * case.heads > 30_000:
            continue
        run_case(case, device=device, **({"exact": True} if device.copies else {}))


@pytest.mark.isolated
def test_blocks_and_references_stay() -> None:
    out = run_python(script("sparse_mla/isolated/leaks.py"), timeout=200).stdout.strip().split("\n")
    assert out[-1] == "ok" and len(out) > 12, out[-5:]


@pytest.mark.parametrize("which", range(5))
def test_no_memory_for_the_scratch(which: int) -> None:
    """Of both lists, of the merge: nothing was written. Every other allocation: boundary/test_no_memory.py."""
    case = SparseCase(heads=3, lens=(60, 9), sink=True, extra_lens=(5, 9), given=True, splits=2)
    inputs = case.inputs()
    inputs.freeze()
    taken = []

    def allocate(name: str, _like: object, shape: tuple[int, ...], dtype: str, _stream: object) -> np.ndarray:
        taken.append(name)
        if len(taken) > which:
            raise MemoryError(name)
        return np.empty(shape, dtype)

    with allocated_by(allocate), pytest.raises(MemoryError):
        aiter_c.sparse_mla_fwd(**inputs.arguments())
    assert taken == ["logits", "attn_lse", "logits", "attn_lse", "lse_out"][: which + 1]
    assert all(block.first_change() is None for block in inputs.blocks.values())
    run_case(case)


def test_a_large_page_stride(device: Device) -> None:
    """Slots beyond 2 GiB: pages that lie far apart, on the CPU alone (nothing between them is touched)."""
    if device.copies:
        pytest.skip("the tensors of a device are copies")
    case = SparseCase(heads=3, lens=(40,), page_size=4, given=True)
    want = np.array(run_case(case).outputs["o"])
    inputs = case.inputs()
    pool = inputs.pools[0]
    apart = 100 << 20
    far = np.zeros(len(pool) * apart, pool.dtype)  # of the system's zero page
    view = np.lib.stride_tricks.as_strided(far, pool.shape, (apart * 2, *pool.strides[1:]))
    view[...] = pool
    aiter_c.sparse_mla_fwd(**inputs.arguments() | {"kv_buffer": view})
    assert inputs.array("out").tobytes() == want.tobytes()
