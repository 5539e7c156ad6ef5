"""Every case in every element, and what the cases cannot say."""

from __future__ import annotations

import pytest
from mqa_logits.cases import ALL, SMOKE, on_device

from aiter_c.testing import Device, run_case
from aiter_c.testing.ops.mqa_logits import LogitsCase, PagedLogitsCase


@pytest.mark.cases(ALL, on_device=on_device, smoke=SMOKE)
def test_case(case: LogitsCase | PagedLogitsCase, device: Device) -> None:
    run_case(case, device=device)


def test_ids_tell_the_cases_apart() -> None:
    assert len({case.id for case in ALL}) == len(ALL) == len(set(ALL))
