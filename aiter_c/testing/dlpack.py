"""DLPack's structs and capsules in ctypes, for tests that make or look into one."""

from __future__ import annotations

import ctypes

#: DLPack's (code, bits) by dtype name.
DTYPES = {
    "int8": (0, 8),
    "int32": (0, 32),
    "int64": (0, 64),
    "uint8": (1, 8),
    "uint64": (1, 64),
    "float16": (2, 16),
    "float32": (2, 32),
    "float64": (2, 64),
    "bfloat16": (4, 16),
    "float8_e4m3fn": (10, 8),
    "float8_e4m3fnuz": (11, 8),
    "float8_e5m2": (12, 8),
}


class DLTensor(ctypes.Structure):
    """`device` and `dtype` of DLPack's struct are laid out flat."""

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


class DLManagedTensor(ctypes.Structure):
    """What a "dltensor" capsule holds."""

    _fields_ = [("tensor", DLTensor), ("manager", ctypes.c_void_p), ("deleter", ctypes.c_void_p)]


class DLManagedTensorVersioned(ctypes.Structure):
    """What a "dltensor_versioned" capsule holds: it alone can say that a tensor is read-only, or that it is not."""

    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", DLTensor),
    ]


def int64s(values: tuple[int, ...]) -> ctypes.Array:
    """The memory behind `shape` and `strides`; never of no size. Whoever points to it keeps it."""
    return (ctypes.c_int64 * max(len(values), 1))(*values)


def pointer_to(values: ctypes.Array) -> object:
    """int64s as a field of a DLTensor."""
    return ctypes.cast(values, ctypes.POINTER(ctypes.c_int64))


_names: dict[str, ctypes.c_char_p] = {}  # a capsule keeps the pointer to its name
_new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


def new_capsule(managed: ctypes.Structure, name: str) -> object:
    """A capsule without a destructor; `managed` must outlive whoever takes it."""
    return _new(ctypes.addressof(managed), _names.setdefault(name, ctypes.c_char_p(name.encode())), None)


def tensor_in(capsule: object) -> DLTensor:
    """The tensor of a fresh "dltensor_versioned" capsule."""
    return DLManagedTensorVersioned.from_address(_pointer(capsule, b"dltensor_versioned")).tensor
