"""fp32 arithmetic with every operation rounded: what the results of exact ops are compared to, bit for bit.

NumPy rounds each operation on float32 arrays on its own. `quantised` is ml_dtypes within the range of fp8.
"""

from __future__ import annotations

import numpy as np

from ..memory import dtype_of

FP8 = ("float8_e4m3fn", "float8_e4m3fnuz")
LARGEST = {"float8_e4m3fn": 448.0, "float8_e4m3fnuz": 240.0}
_NAN = {"float8_e4m3fn": 0x7F, "float8_e4m3fnuz": 0x80}
FLOAT_MAX = np.finfo(np.float32).max


def quantised(values: np.ndarray, dtype: str) -> np.ndarray:
    """float32 as fp8: nearest even, saturated, one NaN."""
    largest = np.float32(LARGEST[dtype])
    with np.errstate(invalid="ignore"):
        codes = np.clip(values, -largest, largest).astype(dtype_of(dtype)).view(np.uint8)
    return np.where(np.isnan(values), np.uint8(_NAN[dtype]), codes).view(dtype_of(dtype))


def stored(values: np.ndarray, dtype: str, *, multiply: np.float32 | None = None, divide: np.float32 | None = None):
    """float32 as an element of the dtype; the scale is of fp8 alone."""
    if dtype not in FP8:
        with np.errstate(over="ignore", invalid="ignore"):
            return values.astype(dtype_of(dtype))
    with np.errstate(all="ignore"):
        if divide is not None:
            values = values / np.float32(divide)
        if multiply is not None:
            values = values * (np.float32(1) / np.float32(multiply))
    return quantised(values, dtype)


def largest_size(values: np.ndarray) -> np.ndarray:
    """Over the last axis; NaN does not count, an infinity counts as the largest number."""
    sizes = np.where(np.isnan(values), np.float32(0), np.abs(values))
    return np.minimum(sizes.max(axis=-1, initial=0), FLOAT_MAX).astype(np.float32)


def power_of_2_from(scale: np.ndarray) -> np.ndarray:
    """The smallest that is not below the scale."""
    fraction, exponent = np.frexp(scale)
    return np.ldexp(np.float32(1), exponent - (fraction == 0.5)).astype(np.float32)


def turned(rows: np.ndarray, cos: np.ndarray, sin: np.ndarray, *, neox: bool) -> np.ndarray:
    """float32 rows [.., R] by angles [.., R / 2] or [.., R]."""
    pairs = rows.shape[-1] // 2
    first, second = (slice(0, pairs), slice(pairs, None)) if neox else (slice(0, None, 2), slice(1, None, 2))
    a, b = rows[..., first], rows[..., second]
    own = cos.shape[-1] == 2 * pairs and pairs > 0
    c = (cos[..., first], cos[..., second]) if own else (cos, cos)
    s = (sin[..., first], sin[..., second]) if own else (sin, sin)
    out = np.empty_like(rows)
    with np.errstate(all="ignore"):
        out[..., first] = a * c[0] - b * s[0]
        out[..., second] = b * c[1] + a * s[1]
    return out


def check_bits_but_of_nan(name: str, got: np.ndarray, want: np.ndarray, written: np.ndarray, repro: str) -> None:
    """Raises AssertionError unless what was written is the same, bit for bit; of a NaN only that it is one, but of fp8,
    which has one NaN."""
    unsigned = np.dtype(f"u{got.dtype.itemsize}")
    a, b = (np.ascontiguousarray(array).view(unsigned) for array in (got, want))
    unlike = (a != b) & written
    if got.dtype.name not in FP8 and got.dtype.kind not in "iu":
        unlike &= ~(np.isnan(got.astype(np.float32)) & np.isnan(want.astype(np.float32)))
    if unlike.any():
        first = tuple(int(i) for i in np.argwhere(unlike)[0])
        raise AssertionError(f"{name}{list(first)}: expected 0x{b[first]:x}, got 0x{a[first]:x}\n  {repro}")
