"""mla_prefill_ps_fwd against the fp64 reference: every case of cases.py, and what the case objects do not reach."""

from __future__ import annotations

import pytest
from mla_prefill.cases import ALL, SMOKE, on_device

from aiter_c.testing import Device, run_case
from aiter_c.testing.ops.mla_prefill import PrefillCase


@pytest.mark.cases(ALL, on_device=on_device, smoke=SMOKE)
def test_case(case: PrefillCase, device: Device) -> None:
    run_case(case, device=device)


def test_ids_tell_the_cases_apart() -> None:
    assert len({case.id for case in ALL}) == len(ALL) == len(set(ALL))
