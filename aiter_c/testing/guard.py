"""Arrays that end, or begin, exactly at a page that no one may touch: one byte too far is a segmentation fault.

Run what uses them in a sub-process. Linux and macOS (mmap + mprotect).
"""

from __future__ import annotations

import ctypes
import mmap

import numpy as np

PAGE = mmap.PAGESIZE
_PROT_NONE, _PROT_READ = 0, 1


def _protect(address: int, size: int, protection: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    if libc.mprotect(address, size, protection) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")


class GuardedArray:
    """A copy of `values` in pages of its own between two forbidden ones, flush with one of them.

    end=True: the last byte is right before the upper guard; else the first byte is right after the lower guard (the
    copy is as aligned as the element needs in both). read_only=True protects the data as well: for inputs.
    An array without elements points at the guard itself.
    """

    def __init__(self, values: np.ndarray, *, end: bool, read_only: bool = False) -> None:
        values = np.ascontiguousarray(values)
        body = -(-values.nbytes // PAGE) * PAGE
        self._map = mmap.mmap(-1, body + 2 * PAGE)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        offset = PAGE + (body - values.nbytes if end else 0)
        self.array = np.ndarray(values.shape, values.dtype, self._map, offset)
        self.array[...] = values
        _protect(base, PAGE, _PROT_NONE)
        _protect(base + PAGE + body, PAGE, _PROT_NONE)
        if read_only and body:
            _protect(base + PAGE, body, _PROT_READ)
