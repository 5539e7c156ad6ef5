"""No byte outside the tensors is touched, whatever the index tensors say: every tensor touches a forbidden page."""

from __future__ import annotations

import re

import pytest
from interpreter import run_python, script

CALLS = 300
pytestmark = [pytest.mark.isolated, pytest.mark.smoke]


@pytest.mark.parametrize("seed", [0, 1])
def test_random_calls_between_forbidden_pages(seed: int) -> None:
    out = run_python(script("mqa_logits/isolated/guard_pages.py"), str(CALLS), str(seed)).stdout
    assert re.fullmatch(rf"{CALLS} calls of \w+\n", out)
