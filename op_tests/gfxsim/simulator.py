"""The library through Python: the HIP functions that tests use, and the simulator's controls."""

from __future__ import annotations

import ctypes as ct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .code import arch_of
from .library import CLASSES, Counters, Record, library

HOST_TO_DEVICE, DEVICE_TO_HOST, DEVICE_TO_DEVICE, DEFAULT = 1, 2, 3, 4
_VALUE, _POINTER, _LDS_POINTER = range(3)  # gs_argument_kind_t

Size = int | Sequence[int]


@dataclass(frozen=True)
class Report:
    """What a check found: kind as in `GS_REPORT_...`, in words ("LDS race"), and where."""

    kind: str
    text: str


@dataclass(frozen=True)
class Finding(Report):
    """The same of a launch that kept going; `offset` is where the instruction stands in the code.

    slack: by the clock, how many clocks before it the access was over that was not waited for, at least; below 0: it
    was not over. None: the launch was not timed, or nothing is known of that access.
    """

    offset: int
    slack: int | None = None


class HipError(RuntimeError):
    """A HIP function failed; `report` says why if a kernel did something wrong."""

    def __init__(self, call: str, code: int, name: str, report: Report | None) -> None:
        super().__init__(f"{call}: {name} ({code})" + (f"\n{report.text}" if report else ""))
        self.call, self.code, self.name, self.report = call, code, name, report


@dataclass(frozen=True)
class LaunchRecord:
    """What launches did. A wave-instruction is one instruction of one wave; bytes are those of active lanes."""

    kernel: str
    device: int
    grid: tuple[int, ...]
    block: tuple[int, ...]
    lds_bytes: int
    instructions: dict[str, int]
    mfma_clocks: int
    global_read_bytes: int
    global_write_bytes: int
    lds_read_bytes: int
    lds_write_bytes: int
    launches: int
    workgroups: int
    waves: int

    @property
    def wave_instructions(self) -> int:
        return sum(self.instructions.values())

    @classmethod
    def _of(cls, totals: Counters, **what: Any) -> LaunchRecord:
        values = {name: getattr(totals, name) for name, _ in Counters._fields_}
        values["instructions"] = dict(zip(CLASSES, totals.instructions, strict=True))
        return cls(**what, **values)


def _three(size: Size) -> tuple[int, int, int]:
    sizes = (size,) if isinstance(size, int) else tuple(size)
    return (*sizes, 1, 1, 1)[:3]  # type: ignore[return-value]


class Simulator:
    """One per process is enough; several share all state, as they share the library."""

    def __init__(self) -> None:
        self.lib = library()

    # ---- HIP

    def call(self, name: str, *arguments: Any) -> None:
        """Calls a HIP function that returns an error code, and raises it."""
        self.check(name, getattr(self.lib, name)(*arguments))

    def check(self, name: str, code: int) -> None:
        if code != 0:
            report = self.last_report() if code == 719 else None
            raise HipError(name, code, self.lib.hipGetErrorName(code).decode(), report)

    def device_count(self) -> int:
        count = ct.c_int()
        self.call("hipGetDeviceCount", ct.byref(count))
        return count.value

    def set_device(self, device: int) -> None:
        self.call("hipSetDevice", device)

    def synchronize(self) -> None:
        self.call("hipDeviceSynchronize")

    def arch(self, device: int) -> str:
        properties = ct.create_string_buffer(1472)
        self.call("hipGetDevicePropertiesR0600", properties, device)
        return properties.raw[1160:1416].split(b"\0")[0].decode().split(":")[0]

    def device_of(self, arch: str, nth: int = 0) -> int:
        """The nth device of an architecture."""
        return [d for d in range(self.device_count()) if self.arch(d) == arch][nth]

    def malloc(self, size: int) -> Buffer:
        return Buffer(self, size)

    def upload(self, array: np.ndarray) -> Buffer:
        """A buffer on the current device with the bytes of the array."""
        buffer = Buffer(self, array.nbytes)
        buffer.write(array)
        return buffer

    def load(self, source: str | Path | bytes) -> Module:
        return Module(self, source if isinstance(source, bytes) else Path(source).read_bytes())

    def stream(self, flags: int = 0) -> int:
        handle = ct.c_void_p()
        self.call("hipStreamCreateWithFlags", ct.byref(handle), flags)
        assert handle.value is not None
        return handle.value

    # ---- controls

    def set_option(self, name: str, value: int) -> None:
        """seed, quantum, timeout, threads, order_check, check_barriers, check_waits, check_races, ...: README.md."""
        if self.lib.gfxsim_set_option(name.encode(), value) != 0:
            raise ValueError(f"gfxsim has no option {name!r}")

    def reset_options(self) -> None:
        """Back to the defaults and the environment."""
        self.lib.gfxsim_reset_options()

    def last_report(self) -> Report | None:
        text = ct.create_string_buffer(4096)
        kind = self.lib.gfxsim_last_report(text, len(text))
        if kind == 0:
            return None
        return Report(self.lib.gfxsim_report_kind_name(kind).decode(), text.value.decode(errors="replace"))

    def findings(self) -> list[Finding]:
        """What launches with the option keep_going found since the last reset(), once per instruction and kind."""
        found: list[Finding] = []
        offset, slack, text = ct.c_uint64(), ct.c_int64(), ct.create_string_buffer(1024)
        while kind := self.lib.gfxsim_finding(len(found), ct.byref(offset), ct.byref(slack), text, len(text)):
            name = self.lib.gfxsim_report_kind_name(kind).decode()
            known = slack.value if slack.value != 2**63 - 1 else None
            found.append(Finding(name, text.value.decode(errors="replace"), offset.value, known))
        return found

    def reset(self) -> None:
        """After a report: devices work again. Memory and handles stay; findings and injected failures are forgotten."""
        self.lib.gfxsim_reset()

    def totals(self) -> LaunchRecord:
        """Sums since reset_counters()."""
        totals = Counters()
        self.lib.gfxsim_total_counters(ct.byref(totals))
        return LaunchRecord._of(totals, kernel="", device=-1, grid=(), block=(), lds_bytes=0)

    def launches(self) -> list[LaunchRecord]:
        """Every launch since reset_counters(), the last 4096 of them."""
        count = self.lib.gfxsim_launch_count()
        records = []
        for index in range(max(0, count - 4096), count):
            record = Record()
            self.lib.gfxsim_launch_record(index, ct.byref(record))
            what = {
                "kernel": record.kernel.decode(),
                "device": record.device,
                "grid": tuple(record.grid),
                "block": tuple(record.block),
                "lds_bytes": record.lds_bytes,
            }
            records.append(LaunchRecord._of(record.totals, **what))
        return records

    def reset_counters(self) -> None:
        self.lib.gfxsim_reset_counters()

    def call_count(self, name: str) -> int:
        """How often a HIP function was called in this process."""
        count = self.lib.gfxsim_call_count(name.encode())
        if count < 0:
            raise ValueError(f"gfxsim has no function {name!r}")
        return count

    def call_names(self) -> list[str]:
        names: list[str] = []
        while (name := self.lib.gfxsim_call_name(len(names))) is not None:
            names.append(name.decode())
        return names

    def fail_next(self, name: str, nth: int = 1, error: int = 999) -> None:
        """The nth call of a function from now on does nothing but return this error."""
        if self.lib.gfxsim_fail_next(name.encode(), nth, error) != 0:
            raise ValueError(f"gfxsim has no function {name!r}, or nth is not positive")

    def live_memory(self, device: int = -1) -> tuple[int, int]:
        """Allocations not freed, and their bytes."""
        count, size = ct.c_uint64(), ct.c_uint64()
        self.lib.gfxsim_live_memory(device, ct.byref(count), ct.byref(size))
        return count.value, size.value

    def live_handles(self) -> int:
        """Streams, events, modules and graphs not destroyed."""
        return self.lib.gfxsim_live_handles()


class Buffer:
    """Device memory; freed with free() or with its last reference."""

    def __init__(self, simulator: Simulator, size: int) -> None:
        pointer = ct.c_void_p()
        simulator.call("hipMalloc", ct.byref(pointer), size)
        self.simulator, self.address, self.size = simulator, pointer.value or 0, size

    def write(self, array: np.ndarray, stream: int | None = None) -> None:
        data = np.ascontiguousarray(array)
        self.simulator.call("hipMemcpyAsync", self.address, data.ctypes.data, data.nbytes, HOST_TO_DEVICE, stream)

    def read(self, dtype: Any, shape: Size | None = None) -> np.ndarray:
        count = self.size // np.dtype(dtype).itemsize
        out = np.empty(count if shape is None else shape, dtype)
        self.simulator.call("hipMemcpy", out.ctypes.data, self.address, out.nbytes, DEVICE_TO_HOST)
        return out

    def free(self) -> None:
        address, self.address = self.address, 0
        if address:
            self.simulator.call("hipFree", address)

    def __del__(self) -> None:
        with suppress(HipError, AttributeError):
            self.free()


class Module:
    """A code object on the current device."""

    def __init__(self, simulator: Simulator, data: bytes) -> None:
        handle = ct.c_void_p()
        simulator.call("hipModuleLoadData", ct.byref(handle), data)
        self.simulator, self.handle = simulator, handle.value

    def kernel(self, name: str) -> Kernel:
        function = ct.c_void_p()
        self.simulator.call("hipModuleGetFunction", ct.byref(function), self.handle, name.encode())
        assert function.value is not None
        return Kernel(self, name, function.value)

    def variable(self, name: str) -> tuple[int, int]:
        """Address and size of a __device__ or __constant__ variable."""
        address, size = ct.c_void_p(), ct.c_size_t()
        self.simulator.call("hipModuleGetGlobal", ct.byref(address), ct.byref(size), self.handle, name.encode())
        return address.value or 0, size.value

    def unload(self) -> None:
        handle, self.handle = self.handle, None
        if handle:
            self.simulator.call("hipModuleUnload", handle)

    def __del__(self) -> None:
        with suppress(HipError, AttributeError):
            self.unload()


@dataclass
class Kernel:
    module: Module
    name: str
    function: int

    def parameters(self) -> list[tuple[int, int, int]]:
        """(offset, bytes, kind) of each argument that a launch passes."""
        found: list[tuple[int, int, int]] = []
        row = (ct.c_uint32 * 3)()
        while self.module.simulator.lib.gfxsim_kernel_argument(self.function, len(found), row) == 0:
            found.append((row[0], row[1], row[2]))
        return found

    def __call__(
        self, arguments: Sequence[Any], grid: Size, block: Size, lds: int = 0, stream: int | None = None
    ) -> None:
        """Launches. An argument is a Buffer, None, an int (also an address), a float, or the bytes of a struct."""
        parameters = self.parameters()
        if len(arguments) != len(parameters):
            raise TypeError(f"{self.name} takes {len(parameters)} arguments, not {len(arguments)}")
        cells = [_bytes_of(value, size) for value, (_, size, _) in zip(arguments, parameters, strict=True)]
        holders = [ct.create_string_buffer(cell, max(len(cell), 1)) for cell in cells]
        pointers = (ct.c_void_p * max(len(holders), 1))(*map(ct.addressof, holders))
        sizes = (*_three(grid), *_three(block), lds)
        self.module.simulator.call("hipModuleLaunchKernel", self.function, *sizes, stream, pointers, None)


def _bytes_of(value: Any, size: int) -> bytes:
    if value is None:
        value = 0
    if isinstance(value, Buffer):
        value = value.address
    if isinstance(value, (bytes, bytearray)):
        cell = bytes(value)
    elif isinstance(value, (float, np.floating)):
        cell = np.array(value, {2: np.float16, 4: np.float32, 8: np.float64}[size]).tobytes()
    else:
        cell = (int(value) & ((1 << 8 * size) - 1)).to_bytes(size, "little")
    if len(cell) != size:
        raise TypeError(f"an argument has {len(cell)} bytes instead of {size}")
    return cell


def launch(
    source: str | Path | bytes,
    kernel: str,
    arguments: Sequence[Any],
    grid: Size,
    block: Size,
    lds: int = 0,
    *,
    device: int | None = None,
) -> LaunchRecord:
    """Runs one kernel on NumPy arrays, which are copied in and, if they are writable, back. Raises HipError.

    `device` defaults to the first one of the code object's architecture.
    """
    simulator = Simulator()
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    if device is None:
        device = simulator.device_of(arch_of(data) or "gfx942")
    simulator.set_device(device)
    module = simulator.load(data)
    places = [simulator.upload(a) if isinstance(a, np.ndarray) else a for a in arguments]
    try:
        module.kernel(kernel)(places, grid, block, lds)
        for array, place in zip(arguments, places, strict=True):
            if isinstance(array, np.ndarray) and array.flags.writeable:
                array[...] = place.read(array.dtype, array.shape)
        return simulator.launches()[-1]
    finally:
        for place in places:
            if isinstance(place, Buffer):
                place.free()
        module.unload()
