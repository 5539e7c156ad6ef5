"""No leak, over calls that work and calls that fail: allocated blocks, references, memory, file descriptors."""

from __future__ import annotations

import pytest
from interpreter import run_python, script

pytestmark = [pytest.mark.isolated, pytest.mark.slow]


def test_blocks_and_references_stay() -> None:
    """Every kind of call of the script, 3 rounds to warm up and 3 to count."""
    out = run_python(script("boundary/isolated/leaks.py"), timeout=200).stdout.strip().split("\n")
    assert out[-1] == "ok" and len(out) > 30, out[-5:]


def test_resident_memory_is_flat_over_many_calls() -> None:
    run_python(script("boundary/isolated/flat_memory.py"), timeout=200)


@pytest.mark.torch
def test_torch_arguments_do_not_leak() -> None:
    run_python(script("boundary/isolated/leaks_torch.py"), timeout=200)
