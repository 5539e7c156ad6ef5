"""The calling thread's float environment, changed as a caller may change it: rounding, subnormals, flags."""

from __future__ import annotations

import ctypes
import ctypes.util
import platform
from collections.abc import Iterator
from contextlib import contextmanager

_X86 = platform.machine() in ("x86_64", "AMD64")
_LIBM = ctypes.CDLL(ctypes.util.find_library("m") or "libm.so.6")
_DEFAULT = _LIBM.fegetround()

#: fesetround's numbers of the other three modes.
ROUNDING = (
    {"downward": 0x400, "upward": 0x800, "toward_zero": 0xC00}
    if _X86
    else {"upward": 0x400000, "downward": 0x800000, "toward_zero": 0xC00000}
)
#: glibc's fenv_t: 28 bytes of the x87 unit, then MXCSR; on aarch64 FPCR, FPSR.
_WORDS, _CONTROL, _FLAGS = (8, 7, 7) if _X86 else (2, 0, 1)
_FLUSH = 0x8040 if _X86 else 1 << 24  # subnormal results and operands count as zero
ALL_FLAGS = 0x3D if _X86 else 0x1F  # invalid, zero divide, overflow, underflow, inexact


def read() -> list[int]:
    """The words of fenv_t."""
    words = (ctypes.c_uint32 * _WORDS)()
    assert _LIBM.fegetenv(words) == 0
    return list(words)


def _write(words: list[int]) -> None:
    assert _LIBM.fesetenv((ctypes.c_uint32 * _WORDS)(*words)) == 0


def set_flags(flags: int) -> None:
    """The sticky exception flags, all of them."""
    words = read()
    words[_FLAGS] = words[_FLAGS] & ~ALL_FLAGS | flags
    _write(words)


def flags() -> int:
    return read()[_FLAGS] & ALL_FLAGS


@contextmanager
def changed(mode: str) -> Iterator[None]:
    """A rounding mode, or "flush_to_zero", on this thread."""
    before = read()
    if mode in ROUNDING:
        assert _LIBM.fesetround(ROUNDING[mode]) == 0
    else:
        words = list(before)
        words[_CONTROL] |= _FLUSH
        _write(words)
    try:
        yield
    finally:
        _write(before)


MODES = [*ROUNDING, "flush_to_zero"]
