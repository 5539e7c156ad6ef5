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
from aiter_c.testing.dlpack import (
    DTYPES,
    DLManagedTensorVersioned,
    DLTensor,
    int64s,
    new_capsule,
    pointer_to,
    tensor_in,
)

_VERSION = (1, 0)


def address_of(array: aiter_c.Array) -> int:
    """Where the memory of an Array begins, on its device; 0 when it has none."""
    no_wait = {} if array.device == "cpu" else {"stream": -1}
    capsule = array.__dlpack__(max_version=_VERSION, **no_wait)
    return tensor_in(capsule).data or 0


class DeviceTensor:
    """A view of device memory of any strides, exported through DLPack; `array` is its image on the host."""

    def __init__(self, memory: aiter_c.Array, address: int, array: np.ndarray, copies: Copies | None) -> None:
        self.array, self.copies = array, copies
        self.shape, self.dtype, self.device = array.shape, array.dtype.name, memory.device
        self._memory, self._device = memory, memory.__dlpack_device__()
        strides = tuple(stride // max(array.itemsize, 1) for stride in array.strides)
        self._sizes, self._strides = int64s(array.shape), int64s(strides)
        tensor = DLTensor(
            address or None, *self._device, array.ndim, *DTYPES[array.dtype.name], 1, pointer_to(self._sizes),
            pointer_to(self._strides), 0,
        )  # fmt: skip
        # No deleter: this object owns everything.
        self._managed = DLManagedTensorVersioned(*_VERSION, None, None, 0, tensor)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device

    def __dlpack__(self, **_: object) -> object:
        return new_capsule(self._managed, "dltensor_versioned")


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
