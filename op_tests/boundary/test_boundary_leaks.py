"""No leak at the boundary: an Array's protocols, torch tensors in every kind of state, on both paths."""

from __future__ import annotations

import pytest
from interpreter import run_python, script


@pytest.mark.isolated
@pytest.mark.slow
@pytest.mark.parametrize("switch", ["1", "0"], ids=["exchange", "dlpack"])
def test_blocks_and_references_stay(switch: str) -> None:
    run_python(script("boundary/isolated/leaks_states.py"), timeout=200, AITER_C_DLPACK_EXCHANGE=switch)
