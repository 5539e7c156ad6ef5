"""Comparison that says where: the first coordinate outside, both values, and how to run it again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from .memory import nan_bytes
from .tolerance import Tolerance


@dataclass(frozen=True)
class Expected:
    """What an output must hold. The masks are over its leading dimensions, or all of them.

    values     fp64 or integers, of the output's shape.
    tolerance  None: equal; NaN, infinities and their signs included.
    written    where the call writes; elsewhere the poison of before must still be. None: everywhere.
    exact      where values must be met without tolerance.
    allowance  what an element may be off on top of the tolerance.
    dtype      of a tensor that the op allocates itself; then it must be contiguous as well.
    """

    values: np.ndarray
    tolerance: Tolerance | None = None
    written: np.ndarray | None = None
    exact: np.ndarray | None = None
    allowance: np.ndarray | float = 0.0
    dtype: str | None = None


def check_outputs(outputs: dict[str, np.ndarray | None], expected: dict[str, Expected], repro: str) -> None:
    """Raises AssertionError unless every output is as expected, and those that nobody expects are None."""
    for name in dict.fromkeys((*outputs, *expected)):
        got, want = outputs.get(name), expected.get(name)
        if (got is None) != (want is None):
            shown = "None" if got is None else type(got).__name__
            raise AssertionError(f"{name}: expected {'None' if want is None else 'a tensor'}, got {shown}\n  {repro}")
        if want is not None:
            check_output(name, got, want, repro)


def check_output(name: str, got: np.ndarray, want: Expected, repro: str) -> None:
    """Raises AssertionError unless the output is as expected, element by element."""
    if want.dtype is not None and not (got.dtype.name == want.dtype and got.flags["C_CONTIGUOUS"]):
        raise AssertionError(f"{name}: expected contiguous {want.dtype}, got {got.dtype} {got.strides}\n  {repro}")
    _check_shape(name, got, want.values, repro)
    written = _over(True if want.written is None else want.written, got.shape)
    if not written.all():
        kept = _bits(got) == np.frombuffer(nan_bytes(got.dtype), _unsigned(got.dtype))[0]
        _refuse_first(name, ~written & ~kept, got, "an element that the call must not write was written", repro)
    if want.exact is not None:
        unlike = written & _over(want.exact, got.shape) & ~_same(got.astype(np.float64), want.values)
        _refuse_first(name, unlike, got, "expected exactly the reference's value", repro)
    if want.tolerance is None:
        _refuse_first(name, written & ~_same(got, want.values), got, "expected the reference's value", repro)
    else:
        check_close(name, got, want.values, want.tolerance, repro, allowance=want.allowance, where=written)


def _over(mask: np.ndarray | bool, shape: tuple[int, ...]) -> np.ndarray:
    """The mask of leading dimensions for all of them."""
    mask = np.asarray(mask)
    return np.broadcast_to(mask.reshape(mask.shape + (1,) * (len(shape) - mask.ndim)), shape)


def _same(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return (got == want) | ((got != got) & (want != want))


def _first(where: np.ndarray) -> tuple[int, ...]:
    """Coordinates of the first True."""
    return tuple(int(i) for i in np.unravel_index(int(where.argmax()), where.shape))


def _at(index: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, index))}]"


def _refuse_first(name: str, wrong: np.ndarray, got: np.ndarray, text: str, repro: str) -> None:
    if wrong.any():
        first = _first(wrong)
        raise AssertionError(f"{name}: {text}; the first is {_at(first)}: got {got[first]}\n  {repro}")


def _check_shape(name: str, got: np.ndarray, want: np.ndarray, repro: str) -> None:
    if got.shape != want.shape:
        raise AssertionError(f"{name}: expected shape {want.shape}, got {got.shape}\n  {repro}")


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
    where: np.ndarray | bool = True,
) -> None:
    """Raises AssertionError unless every element of `got` (that `where` names) is within tolerance of `want`.

    NaN, +inf and -inf must stand at the same places. `allowance` widens the bound of an element (rounded P).
    """
    _check_shape(name, got, want, repro)
    got, want = got.astype(np.float64), want.astype(np.float64)
    finite = np.isfinite(want)
    with np.errstate(invalid="ignore"):
        bound = np.where(finite, tolerance.absolute + tolerance.relative * np.abs(want) + allowance, 0.0)
        outside = np.where(finite, ~(np.abs(got - want) <= bound), ~_same(got, want)) & where
    if outside.any():
        first = _first(outside)
        raise AssertionError(
            f"{name}: {int(outside.sum())} of {outside.size} elements outside; the first is {_at(first)}: "
            f"expected {want[first]:.9g} +- {bound[first]:.3g}, got {got[first]:.9g}\n  {repro}"
        )
    counts = finite & where
    if not counts.all():
        got, want = np.where(counts, got, 0.0), np.where(counts, want, 0.0)
    _check_cosine(name, got, want, tolerance, repro)


def _check_cosine(name: str, got: np.ndarray, want: np.ndarray, tolerance: Tolerance, repro: str) -> None:
    if np.isfinite(tolerance.cosine):
        whole = float(cosine_difference(got, want))
        if not whole <= tolerance.cosine:
            raise AssertionError(
                f"{name}: cosine difference of the whole: expected <= {tolerance.cosine:g}, got {whole:.3g}\n  {repro}"
            )
    if np.isfinite(tolerance.row_cosine) and got.size:
        rows = cosine_difference(got, want, axis=-1)
        if not rows.max() <= tolerance.row_cosine:
            worst = _first(rows == rows.max())
            raise AssertionError(
                f"{name}: cosine difference of row {_at(worst)}: expected <= {tolerance.row_cosine:g}, "
                f"got {rows[worst]:.3g}\n  {repro}"
            )


def _unsigned(dtype: np.dtype) -> np.dtype:
    return np.dtype(f"u{dtype.itemsize}")


def _bits(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).view(_unsigned(array.dtype)).reshape(array.shape)


def digest(*arrays: np.ndarray) -> str:
    """Equal for equal bits: to compare many results, and never to print them."""
    together = hashlib.sha256()
    for array in arrays:
        together.update(np.ascontiguousarray(array).tobytes())
    return together.hexdigest()[:16]


def check_bits(name: str, got: np.ndarray, want: np.ndarray, repro: str) -> None:
    """Raises AssertionError unless the two arrays hold the same bits; NaN payloads and signs of zero count."""
    if got.shape != want.shape or got.dtype != want.dtype:
        raise AssertionError(f"{name}: {got.shape} {got.dtype} against {want.shape} {want.dtype}\n  {repro}")
    a, b = _bits(got), _bits(want)
    if not np.array_equal(a, b):
        first = _first(a != b)
        raise AssertionError(
            f"{name}: {int((a != b).sum())} of {a.size} elements differ in bits; the first is {_at(first)}: "
            f"{want[first]} (0x{int(b[first]):x}) against {got[first]} (0x{int(a[first]):x})\n  {repro}"
        )
