"""Runs the ops on any device with NumPy arrays as arguments: they are copied there, the op runs, everything comes back.

A copy is of the whole block that an array lies in, margins included, so that a byte that a kernel changed beside its
output, or in an input, shows on the host as it does after a call on the CPU. With exact=True it is of the bytes from an
array's first to its last element alone: for devices whose memory is guarded (the simulator, compute-sanitizer).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

import aiter_c

#: DLPack's (code, bits) by dtype name.
_DLPACK_DTYPES = {
    "int32": (0, 32),
    "int64": (0, 64),
    "uint8": (1, 8),
    "float16": (2, 16),
    "float32": (2, 32),
    "float64": (2, 64),
    "bfloat16": (4, 16),
    "float8_e4m3fn": (10, 8),
    "float8_e4m3fnuz": (11, 8),
}


class _DLTensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("byte_offset", ctypes.c_uint64),
    ]


class _ManagedTensor(ctypes.Structure):
    """DLManagedTensorVersioned: the older form cannot say that an output is writable."""

    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _DLTensor),
    ]


_VERSION = (1, 0)
_NAME = ctypes.c_char_p(b"dltensor_versioned")
_new_capsule = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)
_capsule_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


def address_of(array: aiter_c.Array) -> int:
    """Where the memory of an Array begins, on its device; 0 when it has none."""
    no_wait = {} if array.device == "cpu" else {"stream": -1}
    capsule = array.__dlpack__(max_version=_VERSION, **no_wait)
    return _ManagedTensor.from_address(_capsule_pointer(capsule, _NAME)).tensor.data or 0


class DeviceTensor:
    """A view of device memory of any strides, exported through DLPack; `array` is its image on the host."""

    def __init__(self, memory: aiter_c.Array, address: int, array: np.ndarray, copies: Copies | None) -> None:
        self.array, self.copies = array, copies
        self.shape, self.dtype, self.device = array.shape, array.dtype.name, memory.device
        self._memory, self._device = memory, memory.__dlpack_device__()
        strides = [stride // max(array.itemsize, 1) for stride in array.strides]
        self._sizes = (ctypes.c_int64 * max(array.ndim, 1))(*array.shape)
        self._strides = (ctypes.c_int64 * max(array.ndim, 1))(*strides)
        code, bits = _DLPACK_DTYPES[array.dtype.name]
        tensor = _DLTensor(
            address or None, *self._device, array.ndim, code, bits, 1, ctypes.addressof(self._sizes),
            ctypes.addressof(self._strides), 0,
        )  # fmt: skip
        self._managed = _ManagedTensor(*_VERSION, None, None, 0, tensor)  # no deleter: this object owns everything

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device

    def __dlpack__(self, **_: object) -> object:
        return _new_capsule(ctypes.addressof(self._managed), _NAME, None)


def _owner(array: np.ndarray) -> np.ndarray:
    """The array whose memory this one is a view of."""
    while True:
        base = array.base.obj if isinstance(array.base, memoryview) else array.base
        if not isinstance(base, np.ndarray):
            return array
        array = base


def _bytes_at(begin: int, end: int) -> np.ndarray:
    return np.frombuffer((ctypes.c_char * (end - begin)).from_address(begin), np.uint8)


@dataclass
class _Copy:
    """One allocation on the device and the bytes on the host that it is a copy of."""

    memory: aiter_c.Array
    begin: int
    end: int
    writable: bool
    owner: np.ndarray  # keeps the host bytes alive


class Copies:
    """The device's copies of host arrays during one call. Arrays of one block share one copy."""

    def __init__(self, place: str, *, exact: bool = False) -> None:
        self.place, self.exact = place, exact
        self._copies: dict[tuple[int, int], _Copy] = {}

    def tensor(self, array: np.ndarray) -> DeviceTensor:
        """A view on the device with the array's shape, strides and content."""
        owner = _owner(array)
        begin, end = np.lib.array_utils.byte_bounds(array if self.exact else owner)
        if array.size == 0 and self.exact:
            end = begin
        copy = self._copies.get((begin, end))
        if copy is None:
            memory = aiter_c.from_host(_bytes_at(begin, end), self.place)
            copy = self._copies[begin, end] = _Copy(memory, begin, end, owner.flags.writeable, owner)
        address = address_of(copy.memory)
        return DeviceTensor(copy.memory, address and address + array.ctypes.data - begin, array, self)

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """(address on the device, bytes on the host) of every copy."""
        for copy in self._copies.values():
            yield address_of(copy.memory), _bytes_at(copy.begin, copy.end)

    def fetch(self) -> None:
        """Copies everything back, inputs as well: whatever a kernel changed shows on the host."""
        for copy in self._copies.values():
            if copy.writable:
                _bytes_at(copy.begin, copy.end)[...] = to_host(copy.memory)


def to_host(array: aiter_c.Array) -> np.ndarray:
    """A NumPy copy of an Array, after everything that writes it."""
    return array.numpy()


def report_of_simulator() -> str:
    """What op_tests/gfxsim found in a kernel; it makes the device work again, which a real one would not."""
    simulator = ctypes.CDLL(os.environ["AITER_C_HIP_LIBRARY"])
    text = ctypes.create_string_buffer(4096)
    simulator.gfxsim_last_report(text, ctypes.c_size_t(len(text)))
    simulator.gfxsim_reset()
    return f"gfxsim: {text.value.decode()}"


@dataclass(frozen=True)
class Device:
    """Where a test runs. name: "cpu", "gfx942", ...; place: what aiter_c calls it, such as "hip:1"."""

    name: str = "cpu"
    place: str = "cpu"
    simulated: bool = False
    copies: bool = False  # arguments are copied to the place and back; not so for NumPy arrays on the CPU

    def __str__(self) -> str:
        return self.name

    def decode(
        self, *positional: object, exact: bool = False, fetch_partials: bool = True, **arguments: object
    ) -> tuple[object, object]:
        """mla_decode_fwd with NumPy arrays: (logits, lse) as NumPy arrays, logits being `o` itself after the early
        return; `o` and every other argument are up to date on return, also when the call is refused. Partials are
        left on the device (and None) without fetch_partials: nothing writes those of a split that holds no key."""
        if not self.copies:
            return aiter_c.mla_decode_fwd(*positional, **arguments)
        copies = Copies(self.place, exact=exact)
        # A scale without dimensions stays on the host: ops take either.
        place = lambda value: copies.tensor(value) if isinstance(value, np.ndarray) and value.ndim else value  # noqa: E731
        positional, arguments = [place(value) for value in positional], {n: place(v) for n, v in arguments.items()}
        stream = {} if self.place == "cpu" or "stream" in arguments else {"stream": 0}
        try:
            try:
                results = aiter_c.mla_decode_fwd(*positional, **arguments, **stream)
            except aiter_c.DeviceError:
                raise
            except Exception:
                copies.fetch()
                raise
            copies.fetch()
            logits, lse = results
            if isinstance(logits, aiter_c.Array) and not fetch_partials:
                logits = None
            return _host_value(logits), _host_value(lse)
        except aiter_c.DeviceError as error:
            if self.simulated:
                error.add_note(report_of_simulator())
            raise


def _host_value(value: object) -> object:
    if isinstance(value, DeviceTensor):
        return value.array
    return to_host(value) if isinstance(value, aiter_c.Array) else value


CPU = Device()
