"""A DLPack producer in pure Python + ctypes: any pointer, shape, strides, dtype code, device and flags, and it counts
how often its deleter ran. What real frameworks never export can so be handed to the op."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field

import numpy as np

CPU, CUDA, CUDA_HOST, ROCM = 1, 2, 3, 10
READ_ONLY = 1

#: DLPack (code, bits) by dtype name.
CODES = {
    "int32": (0, 32),
    "int64": (0, 64),
    "uint8": (1, 8),
    "float16": (2, 16),
    "float32": (2, 32),
    "float64": (2, 64),
    "bfloat16": (4, 16),
    "float8_e4m3fn": (10, 8),
    "float8_e4m3fnuz": (11, 8),
    "float8_e5m2": (12, 8),
}


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _Legacy(ctypes.Structure):
    _fields_ = [("tensor", _Tensor), ("manager", ctypes.c_void_p), ("deleter", ctypes.c_void_p)]


class _Versioned(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    ]


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_api = ctypes.pythonapi
_api.PyCapsule_New.restype = ctypes.py_object
_api.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_NAMES = {name: ctypes.c_char_p(name) for name in (b"dltensor", b"dltensor_versioned", b"used_dltensor", b"other")}


@dataclass
class Producer:
    """Exports `array`; every field below it overrides what the array says.

    kind: "versioned", "legacy", "old" (legacy, and __dlpack__ takes no keyword but stream), "used", "other" (a capsule
    of a wrong name), "none" (returns None).
    """

    array: np.ndarray
    kind: str = "versioned"
    data: int | None = None  # 0: null
    shape: tuple[int, ...] | None = None
    strides: tuple[int, ...] | str | None = "array"  # None: NULL
    dtype: tuple[int, int, int] | None = None  # code, bits, lanes
    device: tuple[int, int] = (CPU, 0)
    flags: int = 0
    version: tuple[int, int] = (1, 1)
    byte_offset: int = 0
    deleted: int = 0
    exported: int = 0
    requests: list[dict] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._alive: list[object] = []

        def deleter(_: int) -> None:
            self.deleted += 1

        self._deleter = _Deleter(deleter)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self, **keywords: object) -> object:
        self.requests.append(keywords)
        if self.kind == "old" and set(keywords) - {"stream"}:
            raise TypeError("__dlpack__() got an unexpected keyword argument 'max_version'")
        if self.kind == "none":
            return None
        self.exported += 1
        deleter = ctypes.cast(self._deleter, ctypes.c_void_p)
        if self.kind == "versioned":
            managed = _Versioned(*self.version, None, deleter, self.flags, self._tensor())
            name = b"dltensor_versioned"
        else:
            managed = _Legacy(self._tensor(), None, deleter)
            name = {"used": b"used_dltensor", "other": b"other"}.get(self.kind, b"dltensor")
        self._alive.append(managed)
        return _api.PyCapsule_New(ctypes.addressof(managed), _NAMES[name], None)

    def _tensor(self) -> _Tensor:
        a = self.array
        shape = a.shape if self.shape is None else self.shape
        strides = tuple(s // a.itemsize for s in a.strides) if self.strides == "array" else self.strides
        code = (*CODES[a.dtype.name], 1) if self.dtype is None else self.dtype
        c_shape = (ctypes.c_int64 * max(len(shape), 1))(*shape)
        c_strides = None if strides is None else (ctypes.c_int64 * max(len(strides), 1))(*strides)
        self._alive += [c_shape, c_strides]
        data = a.ctypes.data if self.data is None else self.data
        as_pointer = ctypes.POINTER(ctypes.c_int64)
        return _Tensor(
            data or None, *self.device, len(shape), *code,
            ctypes.cast(c_shape, as_pointer), ctypes.cast(c_strides, as_pointer) if c_strides is not None else None,
            self.byte_offset,
        )  # fmt: skip
