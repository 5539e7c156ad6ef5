"""Runs the ops on any device with NumPy arrays as arguments: they are copied there, the op runs, everything comes back.

A copy is of the whole block that an array lies in, margins included, so that a byte that a kernel changed beside its
output, or in an input, shows on the host as it does after a call on the CPU. With exact=True it is of the bytes from an
array's first to its last element alone: for devices whose memory is guarded (the simulator, compute-sanitizer).
"""

from __future__ import annotations

import ctypes
import functools
import inspect
from collections.abc import Callable, Iterator
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
    """A view of device memory of any strides, exported through DLPack; `array` is its image on the host, `address`
    where its first element is."""

    def __init__(self, memory: aiter_c.Array, address: int, array: np.ndarray, copies: Copies | None) -> None:
        self.array, self.copies, self.address = array, copies, address
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


def _spans(arrays: list[np.ndarray]) -> list[tuple[int, int]]:
    """The bytes that the arrays span, where those of several overlap as one span: columns of one tensor do."""
    spans: list[tuple[int, int]] = []
    for begin, end in sorted(np.lib.array_utils.byte_bounds(array) for array in arrays if array.size):
        if spans and begin < spans[-1][1]:
            begin, end = spans[-1][0], max(spans.pop()[1], end)
        spans.append((begin, end))
    return spans


class Copies:
    """The device's copies of host arrays during one call. Arrays of one block share one copy; with exact=True those
    whose bytes overlap, of the arrays of the call."""

    def __init__(self, place: str, *, exact: bool = False, arrays: list[np.ndarray] | None = None) -> None:
        self.place, self.exact = place, exact
        self._spans = _spans(arrays or [])
        self._copies: dict[tuple[int, int], _Copy] = {}

    def tensor(self, array: np.ndarray) -> DeviceTensor:
        """A view on the device with the array's shape, strides and content."""
        owner = _owner(array)
        begin, end = np.lib.array_utils.byte_bounds(array if self.exact else owner)
        if array.size == 0 and self.exact:
            end = begin
        elif self.exact:
            begin, end = next((span for span in self._spans if span[0] <= begin and end <= span[1]), (begin, end))
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


@dataclass(frozen=True)
class Device:
    """Where a test runs. name: "cpu", "gfx942", ...; place: what aiter_c calls it, such as "hip:1"."""

    name: str = "cpu"
    place: str = "cpu"
    simulated: bool = False
    copies: bool = False  # arguments are copied to the place and back; not so for NumPy arrays on the CPU
    report: Callable[[], str] | None = None  # what a failed device says of itself; it works again afterwards

    def __str__(self) -> str:
        return self.name

    def op(self, name: str) -> Callable:
        """`call` with the op given."""
        return functools.partial(self.call, name)

    def call(
        self, name: str, *positional: object, exact: bool = False, leave: tuple[int, ...] = (), **arguments: object
    ) -> object:
        """aiter_c.<name> with NumPy arrays: what it returns comes as NumPy arrays, an argument that it returns as that
        argument; every argument is up to date on return, also when the call is refused.

        exact: see above. leave: which tensors of a returned tuple stay on the device (None is returned): those with
        parts that nothing writes.
        """
        function = getattr(aiter_c, name)
        if not self.copies:
            return function(*positional, **arguments)
        flat = [*positional, *arguments.values()]
        arrays = [value for value in flat if isinstance(value, np.ndarray)]
        copies = Copies(self.place, exact=exact, arrays=arrays)

        # A scale without dimensions stays on the host: ops take either.
        def place(value: object) -> object:
            if isinstance(value, (list, tuple)):
                return type(value)(map(place, value))
            return copies.tensor(value) if isinstance(value, np.ndarray) and value.ndim else value

        positional, arguments = [place(value) for value in positional], {n: place(v) for n, v in arguments.items()}
        if self.place != "cpu" and "stream" in inspect.signature(function).parameters:
            arguments.setdefault("stream", 0)
        try:
            try:
                returned = function(*positional, **arguments)
            except aiter_c.DeviceError:
                raise
            except Exception:
                copies.fetch()
                raise
            copies.fetch()
            if isinstance(returned, tuple):
                return tuple(_host_value(value, i in leave) for i, value in enumerate(returned))
            return _host_value(returned)
        except aiter_c.DeviceError as error:
            if self.report is not None:
                error.add_note(self.report())
            raise


def _host_value(value: object, leave: bool = False) -> object:
    if isinstance(value, DeviceTensor):
        return value.array
    if isinstance(value, aiter_c.Array):
        return None if leave else to_host(value)
    return value


CPU = Device()
