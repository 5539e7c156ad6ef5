"""Memory: nothing past the ends of a tensor whatever the index tensors hold (on the CPU every tensor at a forbidden
page, in a child; on a device every tensor in memory of exactly its size, which a simulator guards to the byte), and no
leak."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest
from interpreter import run_python, script
from mla_metadata.cases import random_case

from aiter_c.testing import Device, run_case
from aiter_c.testing.inputs import any_integers
from aiter_c.testing.ops.mla_metadata import MlaMetadataCase

CALLS = 400


@pytest.mark.isolated
@pytest.mark.smoke
@pytest.mark.parametrize("seed", [0, 1])
def test_random_calls_between_forbidden_pages(seed: int) -> None:
    out = run_python(script("mla_metadata/isolated/guard_pages.py"), str(CALLS), str(seed)).stdout
    assert re.fullmatch(rf"{CALLS} calls of \w+\n", out)


def test_any_integers_in_exact_memory(device: Device) -> None:
    """Index tensors of nothing but hostile integers, buffers of any size that the host cannot refuse. A case that fails
    prints itself."""
    rng = random.Random(1)
    for seed in range(60 if device.simulated else 300):
        fields = random_case(rng, seed)._changed()
        batch, room = len(fields.get("q_lens", (1, 1))), rng.randrange(40)
        sizes = (batch + room, batch + room // 2, rng.randrange(40))
        case = MlaMetadataCase(**fields | {"hostile": 1.0, "max_q": -1, "uniform": False, "sizes": sizes})
        if not case.deterministic:
            run_case(case, device=device, **({"exact": True} if device.copies else {}))


def test_a_batch_of_the_largest_numbers(device: Device) -> None:
    """Loops end, whatever they count."""
    for q_lens, kv_lens in (((1,) * 300, (1,) * 300), ((1,) * 3, (1,) * 3)):
        for extra in ({}, {"topk": 2048}, {"topk": 2**31 - 1, "page_size": 1}, {"deterministic": True}):
            tiles = 16 * len(q_lens)
            case = MlaMetadataCase(q_lens, kv_lens, max_q=-1, sizes=(tiles, tiles, tiles), **extra)
            inputs = case.inputs()
            inputs.freeze()
            rng = np.random.default_rng(0)
            for name in ("seqlens_qo_indptr", "seqlens_kv_indptr"):
                any_integers(rng, inputs.array(name), 1.0)
                inputs.array(name)[::2] = -(2**31)
                inputs.array(name)[1::2] = 2**31 - 1
            device.call(case.op, **inputs.arguments())
            for name, want in case.expected(inputs, device).items():
                written = np.ones(len(want.values), bool) if want.written is None else want.written
                assert np.array_equal(inputs.array(name)[written], want.values[written]), (name, case)


@pytest.mark.isolated
def test_blocks_and_references_stay() -> None:
    """No leak, over calls that work and calls that are refused."""
    out = run_python(script("mla_metadata/isolated/leaks.py"), timeout=200).stdout.strip().split("\n")
    assert out[-1] == "ok" and len(out) > 8, out[-5:]
