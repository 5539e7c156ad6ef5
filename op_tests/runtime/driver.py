"""The raw driver API of a device by ctypes: what a serving engine does around an op, without a framework."""

from __future__ import annotations

import ctypes
import os

import numpy as np

from aiter_c.testing import Device

#: our name -> (HIP's symbol, CUDA's symbol, the arguments behind the first ones that differ)
_SYMBOLS = {
    "stream_create": ("hipStreamCreateWithFlags", "cuStreamCreate"),
    "stream_destroy": ("hipStreamDestroy", "cuStreamDestroy_v2"),
    "stream_synchronize": ("hipStreamSynchronize", "cuStreamSynchronize"),
    "begin_capture": ("hipStreamBeginCapture", "cuStreamBeginCapture_v2"),
    "end_capture": ("hipStreamEndCapture", "cuStreamEndCapture"),
    "graph_nodes": ("hipGraphGetNodes", "cuGraphGetNodes"),
    "graph_launch": ("hipGraphLaunch", "cuGraphLaunch"),
    "graph_exec_destroy": ("hipGraphExecDestroy", "cuGraphExecDestroy"),
    "graph_destroy": ("hipGraphDestroy", "cuGraphDestroy"),
    "copy_to_device": ("hipMemcpyHtoD", "cuMemcpyHtoD_v2"),
    "copy_to_host": ("hipMemcpyDtoH", "cuMemcpyDtoH_v2"),
}
_NON_BLOCKING, _GLOBAL_MODE = 1, 0


class Driver:
    """One device's driver in this process; the library is the one that aiter_c uses."""

    def __init__(self, device: Device) -> None:
        kind, _, index = device.place.partition(":")
        self.is_hip = kind == "hip"
        self.index = int(index)
        name = os.environ.get("AITER_C_HIP_LIBRARY", "libamdhip64.so") if self.is_hip else _cuda_library()
        self.library = ctypes.CDLL(name)
        self.make_current()

    def make_current(self) -> None:
        """In every thread that calls the driver itself."""
        if self.is_hip:
            self._check(self.library.hipSetDevice(self.index))
            return
        context, device = ctypes.c_void_p(), ctypes.c_int()
        self._check(self.library.cuInit(0))
        self._check(self.library.cuDeviceGet(ctypes.byref(device), self.index))
        self._check(self.library.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
        self._check(self.library.cuCtxSetCurrent(context))

    @staticmethod
    def _check(code: int) -> None:
        if code != 0:
            raise RuntimeError(f"the driver returned {code}")

    def _call(self, name: str, *arguments: object) -> None:
        self._check(getattr(self.library, _SYMBOLS[name][0 if self.is_hip else 1])(*arguments))

    def stream(self) -> int:
        """A new one that does not wait for the default stream."""
        handle = ctypes.c_void_p()
        self._call("stream_create", ctypes.byref(handle), _NON_BLOCKING)
        return handle.value

    def synchronize(self, stream: int) -> None:
        self._call("stream_synchronize", ctypes.c_void_p(stream))

    def write(self, address: int, data: np.ndarray) -> None:
        """Host bytes into device memory, now: a small copy from pageable memory may return before it is there."""
        if data.size:
            source = np.ascontiguousarray(data)
            self._call("copy_to_device", ctypes.c_void_p(address), ctypes.c_void_p(source.ctypes.data), _size(source))
            self.synchronize(0)

    def read(self, address: int, data: np.ndarray) -> None:
        """Device memory into host bytes, now."""
        if data.size:
            self._call("copy_to_host", ctypes.c_void_p(data.ctypes.data), ctypes.c_void_p(address), _size(data))


class Graph:
    """with Graph(driver, stream) as graph: calls on the stream; then graph.launch() replays them."""

    def __init__(self, driver: Driver, stream: int) -> None:
        self.driver, self.stream, self.nodes = driver, stream, 0
        self._graph, self._exec = ctypes.c_void_p(), ctypes.c_void_p()

    def __enter__(self) -> Graph:
        self.driver._call("begin_capture", ctypes.c_void_p(self.stream), _GLOBAL_MODE)
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        driver = self.driver
        driver._call("end_capture", ctypes.c_void_p(self.stream), ctypes.byref(self._graph))
        if kind is not None:
            return
        count = ctypes.c_size_t()
        driver._call("graph_nodes", self._graph, None, ctypes.byref(count))
        self.nodes = count.value
        if driver.is_hip:
            made = driver.library.hipGraphInstantiate(ctypes.byref(self._exec), self._graph, None, None, _zero())
        else:
            made = driver.library.cuGraphInstantiateWithFlags(ctypes.byref(self._exec), self._graph, _zero())
        driver._check(made)

    def launch(self) -> None:
        """Replays and waits."""
        self.driver._call("graph_launch", self._exec, ctypes.c_void_p(self.stream))
        self.driver.synchronize(self.stream)


def _size(array: np.ndarray) -> ctypes.c_size_t:
    return ctypes.c_size_t(array.nbytes)


def _zero() -> ctypes.c_uint64:
    return ctypes.c_uint64(0)


def _cuda_library() -> str:
    """REAL_LIBCUDA: the driver itself where a counting library stands before it."""
    return os.environ.get("REAL_LIBCUDA", "libcuda.so.1")
