"""A DLPack producer in pure Python + ctypes: any pointer, shape, strides, dtype code, device and flags, and it counts
how often its deleter ran. What real frameworks never export can so be handed to the op."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field

import numpy as np

from aiter_c.testing.dlpack import (
    DTYPES,
    DLManagedTensor,
    DLManagedTensorVersioned,
    DLTensor,
    int64s,
    new_capsule,
    pointer_to,
)

CPU, CUDA, CUDA_HOST, ROCM, ROCM_HOST = 1, 2, 3, 10, 11
READ_ONLY = 1

_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


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
            managed = DLManagedTensorVersioned(*self.version, None, deleter, self.flags, self._tensor())
            name = "dltensor_versioned"
        else:
            managed = DLManagedTensor(self._tensor(), None, deleter)
            name = {"used": "used_dltensor", "other": "other"}.get(self.kind, "dltensor")
        self._alive.append(managed)
        return new_capsule(managed, name)

    def _tensor(self) -> DLTensor:
        a = self.array
        shape = a.shape if self.shape is None else self.shape
        strides = tuple(s // a.itemsize for s in a.strides) if self.strides == "array" else self.strides
        code = (*DTYPES[a.dtype.name], 1) if self.dtype is None else self.dtype
        c_shape, c_strides = int64s(shape), None if strides is None else int64s(strides)
        self._alive += [c_shape, c_strides]
        data = a.ctypes.data if self.data is None else self.data
        return DLTensor(
            data or None, *self.device, len(shape), *code, pointer_to(c_shape),
            None if c_strides is None else pointer_to(c_strides), self.byte_offset,
        )  # fmt: skip
