"""No leak at the boundary: an Array's protocols, torch tensors in every kind of state, on both paths."""

from __future__ import annotations

from pathlib import Path

import pytest
from interpreter import run_python


@pytest.mark.isolated
@pytest.mark.parametrize("switch", ["1", "0"], ids=["exchange", "dlpack"])
def test_blocks_and_references_stay(switch: str) -> None:
    script = str(Path(__file__).with_name("leaks.py"))
    out = run_python(script, timeout=200, AITER_C_DLPACK_EXCHANGE=switch).stdout.strip().split("\n")
    assert out[-1] == "ok" and len(out) > 15, out[-5:]
