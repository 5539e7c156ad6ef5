"""The HIP functions of the simulator: devices, memory, modules, launches, streams, events."""

from __future__ import annotations

import ctypes as ct
from contextlib import suppress

import numpy as np

from gfxsim import CodeObject, Module, Simulator
from gfxsim.library import PointerAttributes
from gfxsim.tests.machine_fixtures import ARCHS, DATA, current_device, expect_error, floats


def test_devices(sim: Simulator) -> None:
    assert [sim.arch(d) for d in range(sim.device_count())] == ["gfx942", "gfx950"] * 2
    value = ct.c_int()
    expected = {63: (304, 256), 74: (65536, 163840), 87: (64, 64), 56: (1024, 1024), 23: (9, 9), 61: (4, 5)}
    for attribute, values in expected.items():
        for device in range(2):
            sim.call("hipDeviceGetAttribute", ct.byref(value), attribute, device)
            assert value.value == values[device], attribute
    expect_error("hipErrorInvalidValue", lambda: sim.call("hipDeviceGetAttribute", ct.byref(value), 12345, 0))
    for bad in (-1, 4):
        expect_error("hipErrorInvalidDevice", lambda bad=bad: sim.set_device(bad))
        expect_error("hipErrorInvalidDevice", lambda bad=bad: sim.arch(bad))
    old = ct.create_string_buffer(792)
    sim.call("hipGetDeviceProperties", old, 1)
    assert b"MI355X" in old.value and old.raw[396:402] == b"gfx950"


def test_errors_have_names_and_the_last_one_is_kept(sim: Simulator) -> None:
    assert sim.lib.hipGetErrorName(719) == b"hipErrorLaunchFailure"
    assert sim.lib.hipGetErrorName(12345) == b"hipErrorUnknown"
    assert sim.lib.hipGetErrorString(2) == b"out of memory"
    expect_error("hipErrorInvalidDevice", lambda: sim.set_device(99))
    assert sim.lib.hipPeekAtLastError() == 101 and sim.lib.hipGetLastError() == 101
    assert sim.lib.hipGetLastError() == 0


def test_memory(sim: Simulator) -> None:
    before = sim.live_memory()
    sizes = (1, 3, 255, 256, 257, 4096, 100_000)
    buffers = [sim.malloc(size) for size in sizes]
    assert all(b.address % 256 == 0 for b in buffers)
    assert all((b.read(np.uint8) == 0xFF).all() for b in buffers)  # NaN in every format
    assert sim.live_memory() == (before[0] + len(sizes), before[1] + sum(sizes))
    data = np.arange(100_000, dtype=np.uint32).astype(np.uint8)
    buffers[-1].write(data)
    np.testing.assert_array_equal(buffers[-1].read(np.uint8), data)
    sim.call("hipMemcpyAsync", buffers[5].address, buffers[-1].address + 5, 4096, 3, None)
    np.testing.assert_array_equal(buffers[5].read(np.uint8), data[5:4101])
    sim.call("hipMemsetD32Async", buffers[4].address, 0x01020304, 64, None)
    sim.call("hipMemsetD8Async", buffers[4].address + 256, 7, 1, None)
    np.testing.assert_array_equal(buffers[4].read(np.uint8), [4, 3, 2, 1] * 64 + [7])
    for buffer in buffers:
        buffer.free()
    assert sim.live_memory() == before


def test_memory_refusals(sim: Simulator) -> None:
    buffer, host = sim.malloc(100), np.zeros(200, np.uint8)
    copy = lambda to, source, size, kind: lambda: sim.call("hipMemcpy", to, source, size, kind)  # noqa: E731
    expect_error("hipErrorInvalidValue", copy(buffer.address, host.ctypes.data, 101, 1))
    expect_error("hipErrorInvalidValue", copy(buffer.address - 1, host.ctypes.data, 2, 1))
    expect_error("hipErrorInvalidValue", copy(buffer.address, host.ctypes.data, 101, 4))
    expect_error("hipErrorInvalidValue", copy(host.ctypes.data, buffer.address + 90, 11, 4))
    expect_error("hipErrorInvalidValue", copy(buffer.address, host.ctypes.data, 4, 2))
    expect_error("hipErrorInvalidValue", copy(host.ctypes.data, host.ctypes.data, 4, 2))
    expect_error("hipErrorInvalidMemcpyDirection", copy(buffer.address, host.ctypes.data, 4, 9))
    expect_error("hipErrorInvalidValue", lambda: sim.call("hipMemsetD32Async", buffer.address, 0, 26, None))
    expect_error("hipErrorInvalidValue", lambda: sim.call("hipFree", buffer.address + 4))
    expect_error("hipErrorInvalidValue", lambda: sim.call("hipFree", host.ctypes.data))
    expect_error("hipErrorOutOfMemory", lambda: sim.malloc(1 << 50))
    address = buffer.address
    buffer.free()
    expect_error("hipErrorInvalidValue", lambda: sim.call("hipFree", address))
    expect_error("hipErrorInvalidValue", copy(address, host.ctypes.data, 4, 1))


def test_a_write_of_the_host_past_the_end_is_found(sim: Simulator) -> None:
    sim.set_option("hide_memory", 0)
    buffer = sim.malloc(100)
    ct.memset(buffer.address, 0, 101)
    buffer.free()
    report = sim.last_report()
    assert report is not None and "the host wrote past the end of alloc" in report.text


def test_pointer_attributes(sim: Simulator, arch: str) -> None:
    buffer, out = sim.malloc(16), PointerAttributes()
    sim.call("hipPointerGetAttributes", ct.byref(out), buffer.address + 8)
    assert (out.type, out.device, out.device_pointer) == (2, current_device(sim), buffer.address + 8)
    expect_error(
        "hipErrorInvalidValue", lambda: sim.call("hipPointerGetAttributes", ct.byref(out), buffer.address + 16)
    )


def test_modules(sim: Simulator, arch: str) -> None:
    data = (DATA / arch / "clean.co").read_bytes()
    other = (DATA / next(a for a in ARCHS if a != arch) / "clean.co").read_bytes()
    expect_error("hipErrorNoBinaryForGpu", lambda: sim.load(other))
    expect_error("hipErrorInvalidImage", lambda: sim.load(bytes(64)))
    module = sim.load(data)
    expect_error("hipErrorNotFound", lambda: module.kernel("nothing"))
    expect_error("hipErrorNotFound", lambda: module.variable("vector_add"))
    kernel, handle = module.kernel("reverse_in_lds"), module.handle
    value = ct.c_int()
    expected = {1: 1024, 3: 0, 8: (65536 if arch == "gfx942" else 163840) - 1024, 0: 1024}
    for attribute, number in expected.items():
        sim.call("hipFuncGetAttribute", ct.byref(value), attribute, kernel.function)
        assert value.value == number, attribute
    module.unload()
    expect_error("hipErrorInvalidHandle", lambda: sim.call("hipModuleUnload", handle))
    expect_error("hipErrorInvalidHandle", lambda: sim.call("hipFuncGetAttribute", ct.byref(value), 1, kernel.function))
    expect_error("hipErrorInvalidDeviceFunction", lambda: _raw_launch(sim, kernel.function))


def test_a_damaged_code_object_is_refused(sim: Simulator, arch: str) -> None:
    """Every byte of the headers, notes and tables is changed in turn: an error or a loaded module, never a crash."""
    data = (DATA / arch / "preload.co").read_bytes()
    for position in range(len(data)):
        if 40 <= position < 64:
            continue  # the sizes that say where the file ends: without a length nobody could check them
        broken = bytearray(data)
        broken[position] ^= 0x80
        with suppress(ValueError):
            CodeObject(bytes(broken), arch).close()


def _raw_launch(
    sim: Simulator,
    function: int | None,
    grid: tuple = (1, 1, 1),
    block: tuple = (64, 1, 1),
    lds: int = 0,
    stream: int | None = None,
) -> None:
    cells = (ct.c_uint64 * 8)()
    params = (ct.c_void_p * 8)(*[ct.addressof(cells) + 8 * i for i in range(8)])
    sim.call("hipModuleLaunchKernel", function, *grid, *block, lds, stream, params, None)


def test_launch_refusals(sim: Simulator, arch: str, clean: Module) -> None:
    function = clean.kernel("reverse_in_lds").function
    most = (65536 if arch == "gfx942" else 163840) - 1024
    expect_error("hipErrorInvalidImage", lambda: _raw_launch(sim, None))
    expect_error("hipErrorInvalidDeviceFunction", lambda: _raw_launch(sim, 4096))
    expect_error("hipErrorInvalidValue", lambda: _raw_launch(sim, function, (0, 1, 1)))
    expect_error("hipErrorInvalidConfiguration", lambda: _raw_launch(sim, function, block=(0, 1, 1)))
    expect_error("hipErrorInvalidValue", lambda: _raw_launch(sim, function, block=(1025, 1, 1)))
    expect_error("hipErrorInvalidConfiguration", lambda: _raw_launch(sim, function, (1 << 30, 1, 1)))
    expect_error("hipErrorInvalidValue", lambda: _raw_launch(sim, function, lds=most + 1))
    expect_error("hipErrorInvalidHandle", lambda: _raw_launch(sim, function, stream=12345 * 16))
    expect_error(
        "hipErrorInvalidValue", lambda: sim.call("hipModuleLaunchKernel", function, *[1] * 6, 0, None, None, None)
    )
    sim.set_device(sim.device_of(arch, 1))
    expect_error("hipErrorInvalidDevice", lambda: _raw_launch(sim, function))
    stream = sim.stream()
    sim.set_device(sim.device_of(arch, 0))
    expect_error("hipErrorInvalidHandle", lambda: _raw_launch(sim, function, stream=stream))
    sim.call("hipStreamDestroy", stream)
    assert sim.last_report() is None


def test_two_streams_and_events(sim: Simulator, clean: Module) -> None:
    streams = [sim.stream(flags) for flags in (0, 1)]
    data = [sim.upload(floats(256, seed)) for seed in range(2)]
    out = [sim.malloc(1024) for _ in range(2)]
    events = [ct.c_void_p() for _ in range(2)]
    for event in events:
        sim.call("hipEventCreate", ct.byref(event))
    sim.call("hipEventRecord", events[0], streams[0])
    for stream, source, to in zip(streams, data, out, strict=True):
        clean.kernel("reverse_in_lds")([source, to], 1, 256, stream=stream)
    sim.call("hipEventRecord", events[1], streams[0])
    sim.call("hipStreamWaitEvent", streams[1], events[1], 0)
    for stream, to, seed in zip(streams, out, range(2), strict=True):
        sim.call("hipStreamSynchronize", stream)
        np.testing.assert_array_equal(to.read(np.float32), floats(256, seed)[::-1])
    elapsed = ct.c_float(-1)
    sim.call("hipEventElapsedTime", ct.byref(elapsed), *events)
    assert elapsed.value > 0
    for event in events:
        sim.call("hipEventDestroy", event)
    for stream in streams:
        sim.call("hipStreamDestroy", stream)
        expect_error("hipErrorInvalidHandle", lambda stream=stream: sim.call("hipStreamSynchronize", stream))
