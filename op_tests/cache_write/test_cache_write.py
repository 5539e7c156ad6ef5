"""Every element of every output against NumPy's fp32 and ml_dtypes, bit for bit, on every device."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from cache_write.cases import ALL, SMOKE, on_device

from aiter_c.testing import Device, run_case
from aiter_c.testing.ops.cache_write import CacheWriteCase
from aiter_c.testing.ops.exact import FP8, LARGEST


@pytest.mark.cases(ALL, on_device=on_device, smoke=SMOKE)
def test_case(case: CacheWriteCase, device: Device) -> None:
    run_case(case, device=device)


EVERY = np.arange(2**16, dtype=np.uint16)


@pytest.mark.parametrize("kind", FP8)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_every_16_bit_value_as_fp8(kind: str, dtype: str, scale: float, device: Device) -> None:
    """ml_dtypes within the range, the largest value beyond it, NaN for NaN."""
    values = EVERY.view(getattr(ml_dtypes, dtype, dtype)).reshape(128, 512)
    rope, target = np.zeros((128, 64), values.dtype), getattr(ml_dtypes, kind)
    cache = np.zeros((128, 1, 576), target)
    device.call("concat_and_cache_mla", values, rope, cache, np.arange(128), "fp8", scale)
    with np.errstate(all="ignore"):
        scaled = values.astype(np.float32) / np.float32(scale)
    got = cache[:, 0, :512]
    inside, nan = np.abs(scaled) <= LARGEST[kind], np.isnan(scaled)
    want = scaled.astype(target)
    assert np.array_equal(got.view(np.uint8)[inside], want.view(np.uint8)[inside])
    assert np.isnan(got[nan].astype(np.float32)).all()
    beyond = ~inside & ~nan
    assert beyond.any() and np.array_equal(got[beyond], (np.sign(scaled) * LARGEST[kind]).astype(target)[beyond])


def test_ties_and_borders_of_fp32(device: Device) -> None:
    """Every code of fp8, the middle between it and the next, and both neighbours of each in fp32."""
    for kind in FP8:
        target = getattr(ml_dtypes, kind)
        codes = np.arange(256, dtype=np.uint8).view(target).astype(np.float32)
        codes = np.unique(codes[np.isfinite(codes)])
        middles = (codes[1:] + codes[:-1]) / 2
        points = np.concatenate([codes, middles])
        points = np.concatenate([points, *(np.nextafter(points, np.float32(end)) for end in (np.inf, -np.inf))])
        points = points[np.abs(points) <= LARGEST[kind]].astype(np.float32)
        rows = np.resize(points, (len(points) // 64 + 1, 64))
        cache = np.zeros((len(rows), 1, 66), target)
        device.call(
            "concat_and_cache_mla", rows, np.zeros((len(rows), 2), np.float32), cache, np.arange(len(rows)), "fp8", None
        )
        assert np.array_equal(cache[:, 0, :64].view(np.uint8), rows.astype(target).view(np.uint8))
