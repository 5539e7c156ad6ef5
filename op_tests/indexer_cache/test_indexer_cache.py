"""Every byte of every output against NumPy's fp32 and ml_dtypes, bit for bit, on every device."""

from __future__ import annotations

import pytest
from indexer_cache.cases import ALL, SMOKE, on_device

from aiter_c.testing import Case, Device, run_case


@pytest.mark.cases(ALL, on_device=on_device, smoke=SMOKE)
def test_case(case: Case, device: Device) -> None:
    run_case(case, device=device)
