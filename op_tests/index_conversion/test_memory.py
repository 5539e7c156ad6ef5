"""Memory: nothing past the ends of a tensor whatever the index tensors hold (on the CPU every tensor at a forbidden
page, in a child; on a device every tensor in memory of exactly its size, which a simulator guards to the byte), no
leak, and a call without memory for its output fails whole."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest
from index_conversion.cases import random_case
from interpreter import run_python, script

import aiter_c
from aiter_c.testing import Device, allocated_by, run_case
from aiter_c.testing.ops.index_conversion import IndexConversionCase

CALLS = 600


@pytest.mark.isolated
@pytest.mark.smoke
@pytest.mark.parametrize("seed", [0, 1])
def test_random_calls_between_forbidden_pages(seed: int) -> None:
    out = run_python(script("index_conversion/isolated/guard_pages.py"), str(CALLS), str(seed)).stdout
    assert re.fullmatch(rf"{CALLS} calls of \w+\n", out)


def test_any_integers_in_exact_memory(device: Device) -> None:
    """Index tensors of hostile integers. A case that fails prints itself."""
    rng = random.Random(2)
    for seed in range(100 if device.simulated else 400):
        case = random_case(rng, seed, hostile=rng.choice((0.3, 1.0)))
        run_case(case, device=device, **({"exact": True} if device.copies else {}))


@pytest.mark.isolated
def test_blocks_and_references_stay() -> None:
    out = run_python(script("index_conversion/isolated/leaks.py"), timeout=200).stdout.strip().split("\n")
    assert out[-1] == "ok" and len(out) > 15, out[-5:]


@pytest.mark.parametrize("form", ["lists", "gather", "prefill", "padded"])
def test_no_memory_for_the_output(form: str) -> None:
    """The framework has none; every other allocation: boundary/test_no_memory.py."""
    inputs = IndexConversionCase(form=form, given=False).inputs()
    inputs.freeze()

    def allocate(name: str, _like: object, shape: tuple[int, ...], dtype: str, _stream: object) -> np.ndarray:
        raise MemoryError(name)

    with allocated_by(allocate), pytest.raises(MemoryError, match=r"^out$"):
        getattr(aiter_c, inputs.case.op)(**inputs.arguments())
    assert all(block.first_change() is None for block in inputs.blocks.values())
    run_case(inputs.case)
