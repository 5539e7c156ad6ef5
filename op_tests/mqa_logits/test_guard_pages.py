"""No byte outside the tensors is touched, whatever the index tensors say: on the CPU every tensor touches a forbidden
page, in a child; on a device it is in memory of exactly its size, which a simulator guards to the byte."""

from __future__ import annotations

import random
import re

import pytest
from interpreter import run_python, script
from mqa_logits.cases import random_case

from aiter_c.testing import Device, run_case

CALLS = 300


@pytest.mark.isolated
@pytest.mark.smoke
@pytest.mark.parametrize("seed", [0, 1])
def test_random_calls_between_forbidden_pages(seed: int) -> None:
    out = run_python(script("mqa_logits/isolated/guard_pages.py"), str(CALLS), str(seed)).stdout
    assert re.fullmatch(rf"{CALLS} calls of \w+\n", out)


def test_any_integers_in_exact_memory(device: Device) -> None:
    """A case that fails prints itself."""
    rng = random.Random(4)
    for seed in range(24 if device.simulated else 200):
        case = random_case(rng, seed, rng.choice((0.3, 1.0)))
        run_case(case, device=device, **({"exact": True} if device.copies else {}))
