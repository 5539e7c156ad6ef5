"""The simulator's machine: code objects, launches, checks, and the HIP functions. Needs a C compiler, nothing else.

Every check has a kernel with the bug that it is for, which must be reported by kind, and a correct twin.
"""

from __future__ import annotations

import ctypes as ct
import gc
import os
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from gfxsim import Buffer, CodeObject, HipError, Kernel, Module, Simulator, launch
from gfxsim.__main__ import main
from gfxsim.library import PointerAttributes

DATA = Path(__file__).parent / "gfxsim" / "data"
ARCHS = ("gfx942", "gfx950")
CAPTURE_GLOBAL, CAPTURE_THREAD_LOCAL, CAPTURE_RELAXED = range(3)


@pytest.fixture
def sim() -> Iterator[Simulator]:
    gc.collect()  # what earlier tests hold only in cycles (modules, buffers) must not go in the middle of this one
    simulator = Simulator()
    simulator.set_option("quiet", 1)
    yield simulator
    simulator.reset()
    simulator.reset_options()
    simulator.set_device(0)


@pytest.fixture(params=ARCHS)
def arch(request: pytest.FixtureRequest, sim: Simulator) -> str:
    sim.set_device(sim.device_of(request.param))
    return request.param


@pytest.fixture
def clean(sim: Simulator, arch: str) -> Module:
    return sim.load(DATA / arch / "clean.co")


@pytest.fixture
def planted(sim: Simulator, arch: str) -> Module:
    return sim.load(DATA / arch / "planted.co")


def _floats(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(count).astype(np.float32)


def _expect_report(sim: Simulator, kind: str, run: Callable[[], None], *words: str) -> None:
    """The launch fails with 719 and a report of this kind; then the device is dead until a reset."""
    with pytest.raises(HipError) as caught:
        run()
    assert caught.value.code == 719 and caught.value.report is not None
    assert caught.value.report.kind == kind, caught.value.report
    for word in words:
        assert word in caught.value.report.text, caught.value.report.text
    with pytest.raises(HipError, match="hipErrorContextIsDestroyed"):
        sim.synchronize()
    sim.reset()
    sim.synchronize()


# ---- what the machine sets up


@pytest.mark.parametrize("n", [1, 255, 256, 257, 1000])
def test_vector_add(sim: Simulator, arch: str, n: int) -> None:
    a, b, c = _floats(n, 1), _floats(n, 2), np.zeros(n, np.float32)
    record = launch(DATA / arch / "clean.co", "vector_add", [a, b, c, n], -(-n // 256), 256)
    np.testing.assert_array_equal(c, a + b)
    assert record.workgroups == -(-n // 256) and record.waves == 4 * record.workgroups
    assert record.global_read_bytes >= 8 * n and record.global_write_bytes == 4 * n


@pytest.mark.parametrize(("grid", "block"), [((3, 1, 1), (64, 1, 1)), ((2, 3, 1), (8, 4, 1)), ((2, 2, 3), (5, 3, 2))])
def test_ids_and_hidden_arguments(sim: Simulator, clean: Module, grid: tuple, block: tuple) -> None:
    x, y, z = (g * b for g, b in zip(grid, block, strict=True))
    out = sim.malloc(4 * x * y * z)
    clean.kernel("grid_sizes")([out], grid, block)
    k, j, i = np.indices((z, y, x))
    np.testing.assert_array_equal(out.read(np.uint32, (z, y, x)), k << 20 | j << 10 | i)


def test_a_kernel_gets_only_the_ids_that_it_asks_for(sim: Simulator, clean: Module) -> None:
    """One that uses threadIdx.x alone takes it from v0 as it is, in a block of two dimensions, too."""
    a, out = sim.upload(_floats(32)), sim.upload(np.zeros(64, np.float32))
    clean.kernel("vector_add")([a, a, out, 2000], 1, (32, 2))
    np.testing.assert_array_equal(out.read(np.float32), [*(2 * _floats(32)), *[0] * 32])


def test_every_hidden_argument(sim: Simulator, clean: Module) -> None:
    out = sim.malloc(128)
    for grid, block, dimensions in (((7, 1, 1), (64, 1, 1), 1), ((3, 4, 1), (32, 2, 1), 2), ((3, 4, 5), (16, 2, 2), 3)):
        out.write(np.zeros(32, np.uint32))
        clean.kernel("hidden_arguments")([out], grid, block, lds=1024)
        words = out.read(np.uint32)[: min(32, block[0])]
        assert tuple(words[:3]) == grid
        halves = words[3:6].view(np.uint16)
        assert tuple(halves) == (*block, 0, 0, 0), "sizes, remainders"
        assert not words[6:16].any(), "offsets of the grid"
        if len(words) > 30:
            assert words[16] == dimensions and words[30] == 1024, "dimensions; dynamic LDS"


def test_lds_and_barrier(sim: Simulator, arch: str) -> None:
    a, out = _floats(1024), np.zeros(1024, np.float32)
    record = launch(DATA / arch / "clean.co", "reverse_in_lds", [a, out], 4, 256)
    np.testing.assert_array_equal(out.reshape(4, 256), a.reshape(4, 256)[:, ::-1])
    assert record.instructions["barrier"] == 16 and record.instructions["lds"] >= 32
    assert record.lds_read_bytes == record.lds_write_bytes == 4096 and record.lds_bytes == 1024


def test_matrix_tile(sim: Simulator, arch: str) -> None:
    rng = np.random.default_rng(3)
    a, b = (rng.integers(-8, 9, (16, 16)).astype(np.float32) for _ in range(2))
    bf16 = [(m.view(np.uint32) >> 16).astype(np.uint16) for m in (a, b)]
    c = np.zeros((16, 16), np.float32)
    record = launch(DATA / arch / "clean.co", "mfma_tile", [*bf16, c], 1, 64)
    np.testing.assert_array_equal(c, a @ b.T)
    assert record.instructions["mfma"] == 1 and record.mfma_clocks == 16


@pytest.mark.parametrize("shift", [0, 3])
def test_scratch(sim: Simulator, arch: str, shift: int) -> None:
    a, out = _floats(40), np.zeros(128, np.float32)
    launch(DATA / arch / "clean.co", "uses_scratch", [a, out, shift], 2, 64)
    lane = np.arange(64)
    expected = a[(lane * 7 + shift) % 40] * (lane + 1).astype(np.float32)
    np.testing.assert_array_equal(out.reshape(2, 64), np.stack([expected] * 2))


@pytest.mark.parametrize("threads", [1, 4])
def test_atomics(sim: Simulator, arch: str, threads: int) -> None:
    sim.set_option("threads", threads)
    count, sums, largest = np.zeros(1, np.uint32), np.zeros(4, np.float32), np.zeros(1, np.uint32)
    launch(DATA / arch / "clean.co", "atomics", [count, sums, largest], 16, 256)
    i = np.arange(4096)
    assert count[0] == 4096 and largest[0] == (i * 37 % 1001).max()
    np.testing.assert_array_equal(sums, [(i[i % 4 == k] & 7).sum() for k in range(4)])


@pytest.mark.parametrize("n", [1, 100, 16384])
def test_dynamic_lds(sim: Simulator, arch: str, n: int) -> None:
    a, out = np.arange(n, dtype=np.int32), np.zeros(n, np.int32)
    record = launch(DATA / arch / "clean.co", "dynamic_lds", [a, out, n], 1, 64, lds=4 * n)
    np.testing.assert_array_equal(out, a[::-1])
    assert record.lds_bytes == 4 * n


def test_struct_by_value(sim: Simulator, arch: str) -> None:
    values = np.arange(80, dtype=np.int32) - 40
    large = struct.pack("<i80ixxxxd", -3, *values.tolist(), 2.5)
    out, last = np.zeros(80, np.int32), np.zeros(1)
    launch(DATA / arch / "clean.co", "by_value", [large, out, last], 1, 128)
    np.testing.assert_array_equal(out, -3 * values)
    assert last[0] == 2.5


def test_a_function_that_is_no_kernel(sim: Simulator, arch: str) -> None:
    """Kernels are decoded one by one; one that calls something needs the rest of the text, too."""
    data, out = _floats(64), np.zeros(64, np.float32)
    launch(DATA / arch / "clean.co", "calls_a_function", [data, out], 1, 64)
    np.testing.assert_array_equal(out, 2 * data + 1)


def test_module_memory(sim: Simulator, clean: Module) -> None:
    """__constant__ and __device__ variables, one through a relocated pointer; they keep their values."""
    address, size = clean.variable("variable")
    assert size == 4
    sim.call("hipMemcpy", address, np.array([1000], np.int32).ctypes.data, 4, 1)
    clean.kernel("bump_variable")([5], 1, 64)
    out = sim.malloc(65 * 4)
    clean.kernel("module_memory")([out], 1, 64)
    table = np.zeros(64, np.int32)
    table[:16] = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3]
    np.testing.assert_array_equal(out.read(np.int32), [*(table + 1005), 1005])


def test_preloaded_arguments(sim: Simulator, arch: str) -> None:
    out = np.zeros(64, np.int32)
    record = launch(DATA / arch / "preload.co", "preloaded", [out, 1, 2, 3], 1, 64)
    assert (out == 123).all()
    assert record.instructions["smem"] == 0, "the prologue that loads them is for old firmware and is skipped"


def test_arguments_as_one_buffer(sim: Simulator, clean: Module) -> None:
    """hipModuleLaunchKernel's `extra`."""
    a, out = sim.upload(_floats(64)), sim.malloc(256)
    packed = struct.pack("<QQQi", a.address, a.address, out.address, 64)
    size = ct.c_size_t(len(packed))
    buffer = ct.create_string_buffer(packed, len(packed))
    extra = (ct.c_void_p * 5)(1, ct.addressof(buffer), 2, ct.addressof(size), 3)
    function = clean.kernel("vector_add").function
    sim.call("hipModuleLaunchKernel", function, 1, 1, 1, 256, 1, 1, 0, None, None, extra)
    np.testing.assert_array_equal(out.read(np.float32), 2 * _floats(64))
    size.value = 20  # the last argument is missing
    with pytest.raises(HipError, match="hipErrorInvalidValue"):
        sim.call("hipModuleLaunchKernel", function, 1, 1, 1, 256, 1, 1, 0, None, None, extra)


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_any_interleaving_gives_the_same(sim: Simulator, arch: str, seed: int) -> None:
    sim.set_option("seed", seed)
    a, out = _floats(4096), np.zeros(4096, np.float32)
    launch(DATA / arch / "clean.co", "reverse_in_lds", [a, out], 16, 256)
    np.testing.assert_array_equal(out.reshape(16, 256), a.reshape(16, 256)[:, ::-1])


# ---- the checks


def test_read_out_of_bounds(sim: Simulator, planted: Module) -> None:
    kernel, out = planted.kernel("shifted_read"), sim.malloc(256)
    data = sim.upload(np.arange(65, dtype=np.float32))
    for shift in (0, 1):
        kernel([data, out, shift], 1, 64)
        np.testing.assert_array_equal(out.read(np.float32), np.arange(64) + shift)
    _expect_report(sim, "global bounds", lambda: kernel([data, out, 2], 1, 64), "(260 bytes)", "global_load_dword")
    _expect_report(sim, "global bounds", lambda: kernel([data, out, -1], 1, 64), "(260 bytes)", "kernel shifted_read")


def test_write_out_of_bounds(sim: Simulator, planted: Module) -> None:
    kernel, out = planted.kernel("shifted_write"), sim.malloc(256)
    kernel([out, 0], 1, 64)
    _expect_report(sim, "global bounds", lambda: kernel([out, 1], 1, 64), "(256 bytes)", "global_store_dword")
    _expect_report(sim, "global bounds", lambda: kernel([out, -1], 1, 64))
    _expect_report(sim, "global bounds", lambda: kernel([None, 0], 1, 64))


def test_use_after_free(sim: Simulator, planted: Module) -> None:
    kernel, out = planted.kernel("shifted_write"), sim.malloc(256)
    address = out.address
    kernel([address, 0], 1, 64)
    out.free()
    _expect_report(sim, "global bounds", lambda: kernel([address, 0], 1, 64), "freed alloc", "(256 bytes)")
    near, large = sim.malloc(256), sim.malloc(1 << 20)
    end = large.address + large.size - 256
    large.free()
    _expect_report(sim, "global bounds", lambda: kernel([end, 0], 1, 64), "freed alloc", "(1048576 bytes)")
    near.free()


def test_write_to_read_only(sim: Simulator, planted: Module) -> None:
    module = sim.load(DATA / sim.arch(_current(sim)) / "clean.co")
    kernel = planted.kernel("shifted_write")
    table, _ = module.variable("table")
    _expect_report(sim, "write to read-only", lambda: kernel([table, 0], 1, 64), "constants of vector_add")
    kernel([module.variable("variable")[0], 0], 1, 1)


def test_lds_out_of_bounds(sim: Simulator, planted: Module) -> None:
    kernel, out = planted.kernel("lds_read"), sim.malloc(256)
    kernel([out, 0], 1, 64)
    assert (out.read(np.float32) == 1).all()
    _expect_report(sim, "LDS bounds", lambda: kernel([out, 1], 1, 64), "ds_read")


def test_lds_race(sim: Simulator, planted: Module, clean: Module) -> None:
    data, out = sim.upload(_floats(256)), sim.malloc(1024)
    clean.kernel("reverse_in_lds")([data, out], 1, 256)
    racy = planted.kernel("reverse_without_barrier")
    _expect_report(sim, "LDS race", lambda: racy([data, out], 1, 256), "workgroup (0,0,0)")
    sim.set_option("check_races", 0)
    racy([data, out], 1, 256)


def test_barrier_that_a_wave_does_not_reach(sim: Simulator, planted: Module) -> None:
    kernel, out = planted.kernel("early_exit"), sim.malloc(1024)
    kernel([out, 4], 1, 256)
    _expect_report(
        sim, "barrier", lambda: kernel([out, 3], 1, 256), "3 of 4 waves wait", "wave 3 has ended", "s_barrier"
    )
    sim.set_option("check_barriers", 0)  # as the hardware has it: a wave that ended counts as there
    kernel([out, 3], 1, 256)


def test_barriers_at_two_places(sim: Simulator, planted: Module) -> None:
    kernel, out = planted.kernel("two_barriers"), sim.malloc(512)
    kernel([out, 1], 1, 128)  # allowed by the hardware, and in warp-specialised kernels
    sim.set_option("check_barriers", 2)
    kernel([out, 0], 1, 128)
    _expect_report(sim, "barrier", lambda: kernel([out, 1], 1, 128), "different barriers")


def test_dependence_on_the_order_of_waves(sim: Simulator, planted: Module) -> None:
    sim.set_option("order_check", 3)
    kernel, out = planted.kernel("arrival"), sim.upload(np.zeros(4, np.uint32))
    count = sim.upload(np.zeros(1, np.uint32))
    kernel([count, out, 1], 1, 256)
    np.testing.assert_array_equal(out.read(np.uint32), np.arange(4))
    assert count.read(np.uint32)[0] == 4  # the reruns began from the same memory
    count.write(np.zeros(1, np.uint32))
    _expect_report(sim, "order", lambda: kernel([count, out, 0], 1, 256), "kernel arrival", "(16 bytes) + 0")
    np.testing.assert_array_equal(out.read(np.uint32), np.arange(4), "the result of the first run stays")


def test_result_used_before_its_wait(sim: Simulator, planted: Module) -> None:
    data, out = sim.upload(_floats(64)), sim.malloc(256)
    planted.kernel("load_with_wait")([data, out], 1, 64)
    np.testing.assert_array_equal(out.read(np.float32), _floats(64) + 1)
    hasty = planted.kernel("load_without_wait")
    _expect_report(sim, "missing wait", lambda: hasty([data, out], 1, 64), "v_add_f32")
    sim.set_option("check_waits", 0)
    hasty([data, out], 1, 64)


@pytest.mark.parametrize(
    ("name", "good", "bad"), [("unwritten_register", 1, 0), ("unwritten_lds", 64, 63)], ids=lambda value: str(value)
)
def test_unwritten_data(sim: Simulator, planted: Module, name: str, good: int, bad: int) -> None:
    kernel, out = planted.kernel(name), sim.malloc(256)
    kernel([out, good], 1, 64)
    assert (out.read(np.float32) == (2 if name == "unwritten_register" else 1)).all()
    _expect_report(sim, "uninitialized", lambda: kernel([out, bad], 1, 64))
    sim.set_option("check_uninitialized", 0)
    kernel([out, bad], 1, 64)


def test_endless_loop(sim: Simulator, planted: Module) -> None:
    sim.set_option("timeout", 100_000)
    kernel, out = planted.kernel("spin"), sim.malloc(256)
    flag = sim.upload(np.ones(1, np.uint32))
    kernel([flag, out], 1, 64)
    flag.write(np.zeros(1, np.uint32))
    _expect_report(sim, "timeout", lambda: kernel([flag, out], 8, 64), "workgroup (0,0,0)", "no end after")


def test_memory_of_another_device(sim: Simulator, arch: str) -> None:
    first, second = sim.device_of(arch, 0), sim.device_of(arch, 1)
    sim.set_device(second)
    foreign = sim.malloc(256)
    own_kernel = sim.load(DATA / arch / "planted.co").kernel("shifted_write")
    own_kernel([foreign, 0], 1, 64)
    sim.set_device(first)
    kernel = sim.load(DATA / arch / "planted.co").kernel("shifted_write")
    _expect_report(sim, "global bounds", lambda: kernel([foreign, 0], 1, 64))


def test_the_report_names_the_first_workgroup(sim: Simulator, clean: Module) -> None:
    """However the threads race: workgroup 5 of 64 is the first to leave the buffer."""
    sim.set_option("threads", 4)
    data = sim.malloc(4 * 256 * 5)
    for _ in range(5):
        _expect_report(
            sim, "global bounds", lambda: clean.kernel("reverse_in_lds")([data, data], 64, 256), "workgroup (5,0,0)"
        )


def test_the_report_is_of_the_first_workgroup_not_of_the_fastest(sim: Simulator, planted: Module) -> None:
    sim.set_option("threads", 2)
    kernel, out = planted.kernel("slow_first"), sim.malloc(256)
    kernel([out, 20_000, 0], 2, 64)
    _expect_report(sim, "global bounds", lambda: kernel([out, 20_000, 1], 2, 64), "workgroup (0,0,0)")


def test_a_failed_device_leaves_the_others_alone(sim: Simulator, planted: Module, arch: str) -> None:
    kernel, data = planted.kernel("shifted_write"), sim.malloc(256)
    with pytest.raises(HipError):
        kernel([data, 1], 1, 64)
    with pytest.raises(HipError, match="hipErrorContextIsDestroyed"):
        sim.malloc(4)
    data.free()  # what was allocated can still be freed
    sim.set_device(sim.device_of(arch, 1))
    sim.malloc(4).free()
    sim.synchronize()


def test_late_errors(sim: Simulator, planted: Module) -> None:
    sim.set_option("late_errors", 1)
    data = sim.malloc(256)
    planted.kernel("shifted_write")([data, 1], 1, 64)
    with pytest.raises(HipError, match="hipErrorLaunchFailure"):
        sim.synchronize()
    with pytest.raises(HipError, match="hipErrorContextIsDestroyed"):
        sim.synchronize()


def test_failures_need_not_stick(sim: Simulator, planted: Module) -> None:
    sim.set_option("sticky", 0)
    kernel, data = planted.kernel("shifted_write"), sim.malloc(256)
    for late in (0, 1):
        sim.set_option("late_errors", late)
        with pytest.raises(HipError, match="hipErrorLaunchFailure"):
            kernel([data, 1], 1, 64)
            sim.synchronize()
        sim.synchronize()
        kernel([data, 0], 1, 64)


# ---- HIP


def _current(sim: Simulator) -> int:
    device = ct.c_int()
    sim.call("hipGetDevice", ct.byref(device))
    return device.value


def _expect(name: str, run: Callable[[], object]) -> None:
    with pytest.raises(HipError) as caught:
        run()
    assert caught.value.name == name


def test_devices(sim: Simulator) -> None:
    assert [sim.arch(d) for d in range(sim.device_count())] == ["gfx942", "gfx950"] * 2
    value = ct.c_int()
    expected = {63: (304, 256), 74: (65536, 163840), 87: (64, 64), 56: (1024, 1024), 23: (9, 9), 61: (4, 5)}
    for attribute, values in expected.items():
        for device in range(2):
            sim.call("hipDeviceGetAttribute", ct.byref(value), attribute, device)
            assert value.value == values[device], attribute
    _expect("hipErrorInvalidValue", lambda: sim.call("hipDeviceGetAttribute", ct.byref(value), 12345, 0))
    for bad in (-1, 4):
        _expect("hipErrorInvalidDevice", lambda bad=bad: sim.set_device(bad))
        _expect("hipErrorInvalidDevice", lambda bad=bad: sim.arch(bad))
    old = ct.create_string_buffer(792)
    sim.call("hipGetDeviceProperties", old, 1)
    assert b"MI355X" in old.value and old.raw[396:402] == b"gfx950"


def test_errors_have_names_and_the_last_one_is_kept(sim: Simulator) -> None:
    assert sim.lib.hipGetErrorName(719) == b"hipErrorLaunchFailure"
    assert sim.lib.hipGetErrorName(12345) == b"hipErrorUnknown"
    assert sim.lib.hipGetErrorString(2) == b"out of memory"
    _expect("hipErrorInvalidDevice", lambda: sim.set_device(99))
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
    _expect("hipErrorInvalidValue", copy(buffer.address, host.ctypes.data, 101, 1))
    _expect("hipErrorInvalidValue", copy(buffer.address - 1, host.ctypes.data, 2, 1))
    _expect("hipErrorInvalidValue", copy(buffer.address, host.ctypes.data, 101, 4))
    _expect("hipErrorInvalidValue", copy(host.ctypes.data, buffer.address + 90, 11, 4))
    _expect("hipErrorInvalidValue", copy(buffer.address, host.ctypes.data, 4, 2))
    _expect("hipErrorInvalidValue", copy(host.ctypes.data, host.ctypes.data, 4, 2))
    _expect("hipErrorInvalidMemcpyDirection", copy(buffer.address, host.ctypes.data, 4, 9))
    _expect("hipErrorInvalidValue", lambda: sim.call("hipMemsetD32Async", buffer.address, 0, 26, None))
    _expect("hipErrorInvalidValue", lambda: sim.call("hipFree", buffer.address + 4))
    _expect("hipErrorInvalidValue", lambda: sim.call("hipFree", host.ctypes.data))
    _expect("hipErrorOutOfMemory", lambda: sim.malloc(1 << 50))
    address = buffer.address
    buffer.free()
    _expect("hipErrorInvalidValue", lambda: sim.call("hipFree", address))
    _expect("hipErrorInvalidValue", copy(address, host.ctypes.data, 4, 1))


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
    assert (out.type, out.device, out.device_pointer) == (2, _current(sim), buffer.address + 8)
    _expect("hipErrorInvalidValue", lambda: sim.call("hipPointerGetAttributes", ct.byref(out), buffer.address + 16))


def test_modules(sim: Simulator, arch: str) -> None:
    data = (DATA / arch / "clean.co").read_bytes()
    other = (DATA / next(a for a in ARCHS if a != arch) / "clean.co").read_bytes()
    _expect("hipErrorNoBinaryForGpu", lambda: sim.load(other))
    _expect("hipErrorInvalidImage", lambda: sim.load(bytes(64)))
    module = sim.load(data)
    _expect("hipErrorNotFound", lambda: module.kernel("nothing"))
    _expect("hipErrorNotFound", lambda: module.variable("vector_add"))
    kernel, handle = module.kernel("reverse_in_lds"), module.handle
    value = ct.c_int()
    expected = {1: 1024, 3: 0, 8: (65536 if arch == "gfx942" else 163840) - 1024, 0: 1024}
    for attribute, number in expected.items():
        sim.call("hipFuncGetAttribute", ct.byref(value), attribute, kernel.function)
        assert value.value == number, attribute
    module.unload()
    _expect("hipErrorInvalidHandle", lambda: sim.call("hipModuleUnload", handle))
    _expect("hipErrorInvalidHandle", lambda: sim.call("hipFuncGetAttribute", ct.byref(value), 1, kernel.function))
    _expect("hipErrorInvalidDeviceFunction", lambda: _raw_launch(sim, kernel.function))


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
    _expect("hipErrorInvalidImage", lambda: _raw_launch(sim, None))
    _expect("hipErrorInvalidDeviceFunction", lambda: _raw_launch(sim, 4096))
    _expect("hipErrorInvalidValue", lambda: _raw_launch(sim, function, (0, 1, 1)))
    _expect("hipErrorInvalidConfiguration", lambda: _raw_launch(sim, function, block=(0, 1, 1)))
    _expect("hipErrorInvalidValue", lambda: _raw_launch(sim, function, block=(1025, 1, 1)))
    _expect("hipErrorInvalidConfiguration", lambda: _raw_launch(sim, function, (1 << 30, 1, 1)))
    _expect("hipErrorInvalidValue", lambda: _raw_launch(sim, function, lds=most + 1))
    _expect("hipErrorInvalidHandle", lambda: _raw_launch(sim, function, stream=12345 * 16))
    _expect("hipErrorInvalidValue", lambda: sim.call("hipModuleLaunchKernel", function, *[1] * 6, 0, None, None, None))
    sim.set_device(sim.device_of(arch, 1))
    _expect("hipErrorInvalidDevice", lambda: _raw_launch(sim, function))
    stream = sim.stream()
    sim.set_device(sim.device_of(arch, 0))
    _expect("hipErrorInvalidHandle", lambda: _raw_launch(sim, function, stream=stream))
    sim.call("hipStreamDestroy", stream)
    assert sim.last_report() is None


def test_two_streams_and_events(sim: Simulator, clean: Module) -> None:
    streams = [sim.stream(flags) for flags in (0, 1)]
    data = [sim.upload(_floats(256, seed)) for seed in range(2)]
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
        np.testing.assert_array_equal(to.read(np.float32), _floats(256, seed)[::-1])
    elapsed = ct.c_float(-1)
    sim.call("hipEventElapsedTime", ct.byref(elapsed), *events)
    assert elapsed.value > 0
    for event in events:
        sim.call("hipEventDestroy", event)
    for stream in streams:
        sim.call("hipStreamDestroy", stream)
        _expect("hipErrorInvalidHandle", lambda stream=stream: sim.call("hipStreamSynchronize", stream))


# ---- capture


def _status(sim: Simulator, stream: int | None) -> int:
    status = ct.c_int(-1)
    sim.call("hipStreamIsCapturing", stream, ct.byref(status))
    return status.value


def _end(sim: Simulator, stream: int) -> ct.c_void_p:
    graph = ct.c_void_p()
    sim.call("hipStreamEndCapture", stream, ct.byref(graph))
    return graph


def test_graph_capture_and_replay(sim: Simulator, clean: Module) -> None:
    handles = sim.live_handles()
    stream = sim.stream(1)
    data, middle, out = sim.upload(_floats(256)), sim.malloc(1024), sim.upload(np.zeros(256, np.float32))
    reverse, add = clean.kernel("reverse_in_lds"), clean.kernel("vector_add")
    launches = sim.lib.gfxsim_launch_count()
    sim.call("hipStreamBeginCapture", stream, CAPTURE_GLOBAL)
    assert _status(sim, stream) == 1
    sim.call("hipMemsetD32Async", out.address, 0, 256, stream)
    reverse([data, middle], 1, 256, stream=stream)
    add([middle, out, out, 256], 1, 256, stream=stream)
    sim.call("hipMemcpyAsync", middle.address, out.address, 1024, 3, stream)
    graph, executable = _end(sim, stream), ct.c_void_p()
    assert sim.lib.gfxsim_launch_count() == launches and _status(sim, stream) == 0
    assert (out.read(np.float32) == 0).all()  # nothing has run yet

    count = ct.c_size_t()
    sim.call("hipGraphGetNodes", graph, None, ct.byref(count))
    nodes, kinds = (ct.c_void_p * count.value)(), []
    sim.call("hipGraphGetNodes", graph, nodes, ct.byref(count))
    for node in nodes:
        kind = ct.c_int()
        sim.call("hipGraphNodeGetType", node, ct.byref(kind))
        kinds.append(kind.value)
    assert kinds == [2, 0, 0, 1]

    sim.call("hipGraphInstantiate", ct.byref(executable), graph, None, None, 0)
    sim.call("hipGraphDestroy", graph)
    for seed in range(3):  # the inputs change in place
        data.write(_floats(256, seed))
        sim.call("hipGraphLaunch", executable, stream)
        sim.call("hipStreamSynchronize", stream)
        np.testing.assert_array_equal(out.read(np.float32), _floats(256, seed)[::-1])
        np.testing.assert_array_equal(middle.read(np.float32), out.read(np.float32))
    assert sim.lib.gfxsim_launch_count() == launches + 6
    sim.call("hipGraphExecDestroy", executable)
    sim.call("hipStreamDestroy", stream)
    assert sim.live_handles() == handles
    _expect("hipErrorInvalidValue", lambda: sim.call("hipGraphLaunch", executable, None))


FORBIDDEN: dict[str, Callable[[Simulator, int, Buffer], None]] = {
    "hipMalloc": lambda sim, stream, buffer: sim.call("hipMalloc", ct.byref(ct.c_void_p()), 16),
    "hipFree": lambda sim, stream, buffer: sim.call("hipFree", buffer.address),
    "hipMemcpy": lambda sim, stream, buffer: sim.call("hipMemcpy", buffer.address, buffer.address, 4, 3),
    "hipDeviceSynchronize": lambda sim, stream, buffer: sim.synchronize(),
    "hipStreamSynchronize": lambda sim, stream, buffer: sim.call("hipStreamSynchronize", stream),
    "hipStreamQuery": lambda sim, stream, buffer: sim.call("hipStreamQuery", stream),
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_a_capture_forbids(sim: Simulator, name: str) -> None:
    stream, buffer = sim.stream(1), sim.malloc(16)
    sim.call("hipStreamBeginCapture", stream, CAPTURE_THREAD_LOCAL)
    _expect("hipErrorStreamCaptureUnsupported", lambda: FORBIDDEN[name](sim, stream, buffer))
    assert _status(sim, stream) == 2
    _expect(
        "hipErrorStreamCaptureInvalidated",
        lambda: sim.call("hipMemsetD32Async", buffer.address, 0, 4, stream),
    )
    _expect("hipErrorStreamCaptureInvalidated", lambda: _end(sim, stream))
    assert _status(sim, stream) == 0
    sim.call("hipStreamDestroy", stream)


def test_capture_modes(sim: Simulator) -> None:
    stream = sim.stream(1)
    sim.call("hipStreamBeginCapture", stream, CAPTURE_RELAXED)
    sim.malloc(16).free()
    sim.call("hipGraphDestroy", _end(sim, stream))
    sim.call("hipStreamBeginCapture", stream, CAPTURE_GLOBAL)
    mode = ct.c_int(CAPTURE_RELAXED)
    sim.call("hipThreadExchangeStreamCaptureMode", ct.byref(mode))
    sim.malloc(16).free()
    sim.call("hipThreadExchangeStreamCaptureMode", ct.byref(mode))
    sim.call("hipGraphDestroy", _end(sim, stream))
    _expect("hipErrorIllegalState", lambda: _end(sim, stream))
    _expect("hipErrorStreamCaptureUnsupported", lambda: sim.call("hipStreamBeginCapture", None, CAPTURE_GLOBAL))
    sim.call("hipStreamDestroy", stream)


def test_the_null_stream_and_a_blocking_capture(sim: Simulator) -> None:
    buffer = sim.malloc(16)
    fill = lambda: sim.call("hipMemsetD32Async", buffer.address, 0, 4, None)  # noqa: E731
    for flags, clashes in ((0, True), (1, False)):
        stream = sim.stream(flags)
        sim.call("hipStreamBeginCapture", stream, CAPTURE_GLOBAL)
        if clashes:
            _expect("hipErrorStreamCaptureImplicit", lambda: _status(sim, None))
            assert _status(sim, stream) == 1, "asking spoils nothing"
            _expect("hipErrorStreamCaptureImplicit", fill)
            _expect("hipErrorStreamCaptureInvalidated", lambda stream=stream: _end(sim, stream))
        else:
            fill()
            sim.call("hipGraphDestroy", _end(sim, stream))
        sim.call("hipStreamDestroy", stream)


def test_a_capture_over_two_streams(sim: Simulator) -> None:
    main_stream, side = sim.stream(1), sim.stream(1)
    buffer, event, executable = sim.upload(np.zeros(4, np.uint32)), ct.c_void_p(), ct.c_void_p()
    sim.call("hipEventCreate", ct.byref(event))
    for joined in (True, False):
        sim.call("hipStreamBeginCapture", main_stream, CAPTURE_GLOBAL)
        sim.call("hipEventRecord", event, main_stream)
        sim.call("hipStreamWaitEvent", side, event, 0)
        assert _status(sim, side) == 1
        sim.call("hipMemsetD32Async", buffer.address, 5, 4, side)
        if not joined:
            _expect("hipErrorStreamCaptureUnjoined", lambda: _end(sim, main_stream))
            continue
        sim.call("hipEventRecord", event, side)
        sim.call("hipStreamWaitEvent", main_stream, event, 0)
        graph = _end(sim, main_stream)
        assert _status(sim, side) == 0 and (buffer.read(np.uint32) == 0).all()
        sim.call("hipGraphInstantiate", ct.byref(executable), graph, None, None, 0)
        sim.call("hipGraphLaunch", executable, main_stream)
        assert (buffer.read(np.uint32) == 5).all()
    for stream in (main_stream, side):
        sim.call("hipStreamDestroy", stream)


# ---- what tests of a runtime need


def test_calls_are_counted_and_can_fail(sim: Simulator) -> None:
    before = sim.call_count("hipMalloc")
    memory = sim.live_memory()
    sim.fail_next("hipMalloc", 2, 2)
    sim.malloc(16).free()
    _expect("hipErrorOutOfMemory", lambda: sim.malloc(16))
    sim.malloc(16).free()
    assert sim.call_count("hipMalloc") == before + 3 and sim.live_memory() == memory
    sim.lib.hipGetLastError()
    sim.fail_next("hipGetLastError", 1, 719)
    assert sim.lib.hipGetLastError() == 719 and sim.lib.hipGetLastError() == 0
    with pytest.raises(ValueError, match="hipNothing"):
        sim.call_count("hipNothing")
    assert {"hipMalloc", "hipGraphLaunch"} <= set(sim.call_names())


def test_counters(sim: Simulator, clean: Module) -> None:
    data = sim.upload(_floats(1024))
    sim.reset_counters()
    for grid in (1, 4):
        clean.kernel("reverse_in_lds")([data, data], grid, 256)
    one, four = sim.launches()
    assert (one.kernel, one.grid, four.grid) == ("reverse_in_lds", (1, 1, 1), (4, 1, 1))
    assert four.wave_instructions == 4 * one.wave_instructions > 0
    assert one.global_write_bytes == 1024
    assert one.global_read_bytes == 1024 + 4 * 16, "the data, and two pointers for each of four waves"
    assert sim.totals().wave_instructions == 5 * one.wave_instructions and sim.totals().launches == 2


SCRIPTS = {
    "fork": """
import os
from gfxsim import HipError, Simulator, launch
import numpy as np
sim = Simulator()
buffer = sim.malloc(16)
child = os.fork()
if child == 0:
    try:
        sim.malloc(16)
    except HipError as error:
        os._exit(error.code)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3, "hipErrorNotInitialized"
sim.malloc(16).free()
""",
    "devices": """
from gfxsim import Simulator
sim = Simulator()
assert [sim.arch(d) for d in range(sim.device_count())] == ["gfx950"]
""",
    "none": """
import ctypes
from gfxsim import Simulator
lib = Simulator().lib
count = ctypes.c_int(-1)
assert lib.hipInit(0) == 100 and lib.hipGetDeviceCount(ctypes.byref(count)) == 100 and count.value == 0
assert lib.hipMalloc(ctypes.byref(ctypes.c_void_p()), 16) == 100
""",
    "hidden after a copy": """
buffer.read(np.uint8)
""",
    "hidden after a kernel": """
sim.load(f"{data}/gfx942/planted.co").kernel("shifted_write")([buffer, 0], 1, 64)
""",
    "threads": """
import threading
from gfxsim import Simulator
Simulator().lib.hipGetErrorName(0)
import os
assert len(os.listdir("/proc/self/task")) == 1, "loading starts nothing"
""",
}


HIDDEN = """
import ctypes, resource, sys
import numpy as np
from gfxsim import Simulator
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
sim, data = Simulator(), sys.argv[1]
buffer = sim.malloc(256)
sim.set_option("hide_memory", 0)
assert ctypes.string_at(buffer.address, 16) == b"\\xff" * 16
sim.set_option("hide_memory", 1)
{work}
print("so far", flush=True)
ctypes.string_at(buffer.address, 1)
"""


@pytest.mark.parametrize("name", SCRIPTS)
def test_in_a_process_of_its_own(name: str) -> None:
    devices = {"devices": "gfx950", "none": ""}.get(name)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GFXSIM_")} | {
        "PYTHONPATH": str(DATA.parents[1])
    }
    if devices is not None:
        environment["GFXSIM_DEVICES"] = devices
    environment["OPENBLAS_NUM_THREADS"] = "1"
    hidden = name.startswith("hidden")
    command = [sys.executable, "-c", HIDDEN.format(work=SCRIPTS[name]) if hidden else SCRIPTS[name], str(DATA)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if hidden:  # the host may not touch device memory
        assert (done.stdout, done.returncode) == ("so far\n", -signal.SIGSEGV), done.stderr
    else:
        assert done.returncode == 0, done.stderr


# ---- the command, and the data


@pytest.mark.parametrize("arch", ARCHS)
def test_the_command_lists_kernels(arch: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(DATA / arch / "clean.co")]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line.split() for line in lines[2:]}
    header = lines[1].split()
    assert rows["reverse_in_lds"][header.index("LDS")] == "1024"
    assert rows["uses_scratch"][header.index("scratch")] == "176"
    assert rows["mfma_tile"][header.index("mfma")] == "1"
    assert all(row[header.index("unknown")] == "0" for row in rows.values()) and len(rows) == 15
    assert main([str(DATA / arch / "clean.co"), "-d", "vector_add"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["0x000078", "s_endpgm"]


def test_the_example_in_the_readme() -> None:
    text = (DATA.parent / "README.md").read_text()
    example = text.split("```python\n")[1].split("```")[0]
    done = subprocess.run([sys.executable, "-c", example], cwd=DATA.parents[2], capture_output=True, text=True)
    assert done.returncode == 0 and "'vmem': " in done.stdout, done.stderr


def test_the_command_builds_the_library(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--library"]) == 0
    assert Path(capsys.readouterr().out.strip()).name == "libgfxsim.so"


def test_the_command_refuses_politely(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, content in {"empty": b"", "text": b"hello" * 100}.items():
        (tmp_path / name).write_bytes(content)
        assert main([str(tmp_path / name)]) == 1
    assert main([str(tmp_path / "missing")]) == 1
    assert main([str(DATA / "gfx942" / "clean.co"), "-d", "nothing"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 4


@pytest.mark.skipif(not shutil.which("clang-22"), reason="needs clang-22, lld-22 and llvm-22")
def test_the_code_objects_are_what_their_source_says(tmp_path: Path) -> None:
    subprocess.run([str(DATA / "build"), str(tmp_path)], check=True)
    files = sorted(path.relative_to(DATA) for path in DATA.rglob("*.co"))
    assert len(files) == 6
    for file in files:
        assert (DATA / file).read_bytes() == (tmp_path / file).read_bytes(), file


def test_a_kernel_object_can_be_kept(sim: Simulator, clean: Module) -> None:
    kernel: Kernel = clean.kernel("vector_add")
    assert [size for _, size, _ in kernel.parameters()] == [8, 8, 8, 4]
    with pytest.raises(TypeError, match="4 arguments"):
        kernel([1], 1, 64)
