"""Arrays inside larger blocks of known bytes: a write next to an output shows, a read next to an input hurts."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np

MARGIN = 4096  # bytes on both sides, at least
_WRITE_PATTERN = 0xA5

_DTYPES = {
    "bfloat16": ml_dtypes.bfloat16,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "float8_e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
}


def dtype_of(name: str) -> np.dtype:
    """The NumPy or ml_dtypes dtype by its name."""
    return np.dtype(_DTYPES.get(name, name))


def nan_bytes(dtype: np.dtype) -> bytes:
    """One element that no kernel may read: NaN, or for integers a huge index."""
    if dtype.name == "float8_e4m3fnuz":
        return b"\x80"
    if dtype.kind in "iu":
        return np.array(np.iinfo(dtype).max, dtype).tobytes()
    return np.array(np.nan, np.float32).astype(dtype).tobytes()


class Block:
    """`array` with at least MARGIN bytes of known content before it, after it and in every gap of its strides.

    shape [..]; strides in elements (None: dense). `shift` elements move the start off its alignment.
    An output's margins hold a pattern; an input's (`poison=True`) hold NaN, so that a wide load that is used shows.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype | str,
        *,
        strides: tuple[int, ...] | None = None,
        shift: int = 0,
        poison: bool = False,
    ) -> None:
        dtype = dtype_of(dtype) if isinstance(dtype, str) else np.dtype(dtype)
        if strides is None:
            strides = tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))
        size = dtype.itemsize
        span = 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) if math.prod(shape) else 0
        before = MARGIN // size + shift
        total = before + span + MARGIN // size
        if poison:
            self._bytes = np.frombuffer(bytearray(nan_bytes(dtype) * total), np.uint8)
        else:
            self._bytes = np.full(total * size, _WRITE_PATTERN, np.uint8)
        self._layout = (shape, dtype, before * size, tuple(s * size for s in strides))
        self.array = self._view(self._bytes)
        self._before: np.ndarray | None = None

    def _view(self, block: np.ndarray) -> np.ndarray:
        shape, dtype, offset, strides = self._layout
        return np.ndarray(shape, dtype, block.data, offset, strides)

    def fill_nan(self) -> None:
        """Every element of the array, and none of its margins, becomes NaN."""
        self.array[...] = np.frombuffer(nan_bytes(self.array.dtype), self.array.dtype)[0]

    def freeze(self) -> None:
        """Remembers every byte, margins included."""
        self._before = self._bytes.copy()

    def first_change(self, *, of_elements: bool = True) -> str | None:
        """Where the block differs from what `freeze` saw; with of_elements=False only outside the array."""
        if self._before is None:
            raise ValueError("first_change() before freeze()")
        before = self._before
        if not of_elements:
            before = before.copy()
            self._view(before)[...] = self.array
        if self._bytes.tobytes() == before.tobytes():
            return None
        at = int(np.flatnonzero(self._bytes != before)[0])
        start = self._layout[2]
        return f"byte {at - start} from the first element: 0x{before[at]:02x} became 0x{self._bytes[at]:02x}"


def packed(values: np.ndarray, *, shift: int = 0) -> Block:
    """A poisoned-margin block that holds a copy of `values`."""
    block = Block(values.shape, values.dtype, shift=shift, poison=True)
    block.array[...] = values
    return block
