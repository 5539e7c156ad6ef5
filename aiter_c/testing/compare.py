"""Comparison that says where: the first coordinate outside, both values, and how to run it again."""

from __future__ import annotations

import numpy as np

from .tolerance import Tolerance


def cosine_difference(a: np.ndarray, b: np.ndarray, axis: int | None = None) -> np.ndarray:
    """1 - 2<a,b> / (<a,a> + <b,b>): 0 for equal arrays, also for two zero arrays; sees scale as well as direction."""
    square = np.sum(a * a, axis) + np.sum(b * b, axis)
    difference = np.sum((a - b) ** 2, axis)  # the same quotient without cancellation
    return np.divide(difference, square, out=np.zeros_like(square), where=square > 0)


def check_close(
    name: str,
    got: np.ndarray,
    want: np.ndarray,
    tolerance: Tolerance,
    repro: str,
    *,
    allowance: np.ndarray | float = 0.0,
) -> None:
    """Raises AssertionError unless every element of `got` is within tolerance of `want` (same shape).

    NaN, +inf and -inf must stand at the same places. `allowance` widens the bound of an element (rounded P).
    """
    assert got.shape == want.shape, f"{name}: expected shape {want.shape}, got {got.shape}\n  {repro}"
    got, want = got.astype(np.float64), want.astype(np.float64)
    finite = np.isfinite(want)
    with np.errstate(invalid="ignore"):
        bound = np.where(finite, tolerance.absolute + tolerance.relative * np.abs(want) + allowance, 0.0)
        apart = np.abs(got - want)
        same_special = (np.isnan(got) & np.isnan(want)) | (got == want)
        outside = np.where(finite, ~(apart <= bound), ~same_special)
    if outside.any():
        first = tuple(int(i) for i in np.argwhere(outside)[0])
        raise AssertionError(
            f"{name}: {int(outside.sum())} of {outside.size} elements outside; the first is "
            f"[{', '.join(map(str, first))}]: expected {want[first]:.9g} +- {bound[first]:.3g}, got {got[first]:.9g}"
            f"\n  {repro}"
        )
    if not finite.all() or got.size == 0:
        got, want = np.where(finite, got, 0.0), np.where(finite, want, 0.0)
    _check_cosine(name, got, want, tolerance, repro)


def _check_cosine(name: str, got: np.ndarray, want: np.ndarray, tolerance: Tolerance, repro: str) -> None:
    if np.isfinite(tolerance.cosine):
        whole = float(cosine_difference(got, want))
        assert whole <= tolerance.cosine, (
            f"{name}: cosine difference of the whole: expected <= {tolerance.cosine:g}, got {whole:.3g}\n  {repro}"
        )
    if np.isfinite(tolerance.row_cosine) and got.size:
        rows = cosine_difference(got, want, axis=-1)
        if rows.max() > tolerance.row_cosine:
            worst = tuple(int(i) for i in np.unravel_index(int(rows.argmax()), rows.shape))
            raise AssertionError(
                f"{name}: cosine difference of row [{', '.join(map(str, worst))}]: expected <= "
                f"{tolerance.row_cosine:g}, got {rows[worst]:.3g}\n  {repro}"
            )


def check_bits(name: str, got: np.ndarray, want: np.ndarray, repro: str) -> None:
    """Raises AssertionError unless the two arrays hold the same bits; NaN payloads and signs of zero count."""
    assert got.shape == want.shape and got.dtype == want.dtype, f"{name}: {got.shape} {got.dtype} against {want.shape}"
    unsigned = np.dtype(f"u{got.dtype.itemsize}")
    a, b = np.ascontiguousarray(got).view(unsigned), np.ascontiguousarray(want).view(unsigned)
    if not np.array_equal(a, b):
        first = tuple(int(i) for i in np.argwhere(a != b)[0])
        raise AssertionError(
            f"{name}: {int((a != b).sum())} of {a.size} elements differ in bits; the first is "
            f"[{', '.join(map(str, first))}]: {want[first]} (0x{int(b[first]):x}) against {got[first]} "
            f"(0x{int(a[first]):x})\n  {repro}"
        )
