"""Tensor types with DLPack's C exchange API, in ctypes: what torch has, and what no framework should."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field

from boundary.producer import Producer

from aiter_c.testing.dlpack import DLManagedTensorVersioned, DLTensor, int64s, new_capsule, pointer_to

_FromObject = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_void_p)
_Stream = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_int32, ctypes.c_int32, ctypes.POINTER(ctypes.c_void_p))
#: A function of the interpreter that takes the object and refuses it: -1 with a TypeError. A callback cannot return
#: with an exception set.
_refuses = ctypes.cast(ctypes.pythonapi.PyObject_AsFileDescriptor, ctypes.c_void_p)


class _Table(ctypes.Structure):
    """DLPackExchangeAPI."""

    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("prev_api", ctypes.c_void_p),
        ("allocate", ctypes.c_void_p),
        ("managed_from_object", ctypes.c_void_p),
        ("managed_to_object", ctypes.c_void_p),
        ("borrowed_from_object", ctypes.c_void_p),
        ("current_stream", ctypes.c_void_p),
    ]


@dataclass
class Exchange:
    """How the table of a type behaves. `failing`: functions that return -1, with a TypeError or (`silent`) without;
    `without`: functions that are NULL; `lies`: the table exports another "ndim", or other "sizes", than .shape has;
    `newer`: tables of these major versions stand before the table."""

    failing: tuple[str, ...] = ()
    silent: bool = False
    without: tuple[str, ...] = ()
    returns_null: bool = False
    major: int = 1
    newer: tuple[int, ...] = ()
    lies: str = ""
    capsule_name: str = "dlpack_exchange_api"
    stream: int = 0
    calls: list[str] = field(default_factory=list)
    _alive: list[object] = field(default_factory=list)

    def _enter(self, name: str) -> int:
        self.calls.append(name)
        return -(name in self.failing)

    def lie(self, tensor: DLTensor) -> DLTensor:
        """The tensor, changed on request."""
        if self.lies == "ndim":
            tensor.ndim -= 1
        elif self.lies == "sizes":
            sizes = int64s(tuple(tensor.shape[i] + 1 for i in range(tensor.ndim)))
            self._alive.append(sizes)
            tensor.shape = pointer_to(sizes)
        return tensor

    def _managed(self, tensor: Producer, out: int) -> int:
        status = self._enter("managed")
        if status == 0:
            pointer = ctypes.c_void_p.from_address(out)
            pointer.value = None if self.returns_null else ctypes.addressof(tensor.managed())
        return status

    def _borrowed(self, tensor: Producer, out: int) -> int:
        status = self._enter("borrowed")
        if status == 0:
            made = self.lie(tensor._tensor())
            ctypes.memmove(out, ctypes.addressof(made), ctypes.sizeof(DLTensor))
        return status

    def _current(self, kind: int, index: int, out: object) -> int:
        out[0] = self.stream or None
        return self._enter("stream")

    def _function(self, name: str, prototype: type, function: Callable) -> object:
        if name in self.without:
            return None
        if name in self.failing and not self.silent:
            return _refuses
        made = prototype(function)
        self._alive.append(made)
        return ctypes.cast(made, ctypes.c_void_p)

    def capsule(self) -> object:
        """What stands at the type as __dlpack_c_exchange_api__."""
        functions = (
            None,
            self._function("managed", _FromObject, self._managed),
            None,
            self._function("borrowed", _FromObject, self._borrowed),
            self._function("stream", _Stream, self._current),
        )
        table = _Table(self.major, 3, None, *functions)
        self._alive.append(table)
        for major in self.newer:
            table = _Table(major, 0, ctypes.addressof(table), *[None] * 5)
            self._alive.append(table)
        return new_capsule(table, self.capsule_name)


def exchange_type(exchange: Exchange, *, speaks_dlpack: bool = True) -> type[Producer]:
    """A tensor type of its own, as the extension remembers what it learnt of a type."""

    class Tensor(Producer):
        """`shape` must be given: it is what .shape says. Managed exports through the table count as exported."""

        __dlpack_c_exchange_api__ = exchange.capsule()

        def managed(self) -> DLManagedTensorVersioned:
            """A managed tensor that counts."""
            self.exported += 1
            deleter = ctypes.cast(self._deleter, ctypes.c_void_p)
            made = DLManagedTensorVersioned(*self.version, None, deleter, self.flags, exchange.lie(self._tensor()))
            self._alive.append(made)
            return made

        def __dlpack__(self, **keywords: object) -> object:
            exchange.calls.append("__dlpack__")
            return super().__dlpack__(**keywords)

    if speaks_dlpack:
        return Tensor
    left_out = ("__dlpack__", "__dict__", "__weakref__")
    return type("Tensor", (), {n: v for n, v in (vars(Producer) | vars(Tensor)).items() if n not in left_out})
