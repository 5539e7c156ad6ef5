"""Every byte of every output against NumPy's fp32 and ml_dtypes, bit for bit, on every device."""

from __future__ import annotations

import numpy as np
import pytest
from indexer_cache.cases import ALL, SMOKE, on_device

from aiter_c.testing import Case, Device, run_case


@pytest.mark.cases(ALL, on_device=on_device, smoke=SMOKE)
def test_case(case: Case, device: Device) -> None:
    run_case(case, device=device)


def test_pages_without_keys(device: Device) -> None:
    """Every key is nowhere."""
    keys, scales = np.full((4, 128), 7, np.uint8), np.full((4, 1), 7, np.float32)
    cache, table = np.zeros((3, 0, 132), np.uint8), np.zeros((1, 4), np.int32)
    device.call("cp_gather_indexer_k_quant_cache", cache, keys, scales, table, np.array([1, 4], np.int32))
    assert not keys[1:].any() and not scales[1:].any() and (keys[0] == 7).all() and scales[0] == 7


def test_a_request_that_was_not_there_first(device: Device) -> None:
    """Of several requests that have a token the first counts, however many there are."""
    cache = np.arange(40, dtype=np.uint8).repeat(132).reshape(40, 1, 132)
    table = np.arange(40, dtype=np.int32)[:, None]
    indptr = np.tile(np.array([1, 0], np.int32), 20)[:40]  # request b is [1, 0) or [0, 1)
    keys, scales = np.zeros((1, 128), np.uint8), np.zeros((1, 4), np.uint8)
    device.call("cp_gather_indexer_k_quant_cache", cache, keys, scales, table, np.append(indptr, 1).astype(np.int32))
    assert (keys == 1).all() and (scales == 1).all()
