"""What the simulator sets up for a kernel: ids, arguments, LDS, scratch, the order of waves."""

from __future__ import annotations

import ctypes as ct
import struct

import numpy as np
import pytest

from gfxsim import HipError, Module, Simulator, launch
from gfxsim.tests.machine_fixtures import DATA, floats


@pytest.mark.parametrize("n", [1, 255, 256, 257, 1000])
def test_vector_add(sim: Simulator, arch: str, n: int) -> None:
    a, b, c = floats(n, 1), floats(n, 2), np.zeros(n, np.float32)
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
    a, out = sim.upload(floats(32)), sim.upload(np.zeros(64, np.float32))
    clean.kernel("vector_add")([a, a, out, 2000], 1, (32, 2))
    np.testing.assert_array_equal(out.read(np.float32), [*(2 * floats(32)), *[0] * 32])


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
    a, out = floats(1024), np.zeros(1024, np.float32)
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
    a, out = floats(40), np.zeros(128, np.float32)
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
    data, out = floats(64), np.zeros(64, np.float32)
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
    a, out = sim.upload(floats(64)), sim.malloc(256)
    packed = struct.pack("<QQQi", a.address, a.address, out.address, 64)
    size = ct.c_size_t(len(packed))
    buffer = ct.create_string_buffer(packed, len(packed))
    extra = (ct.c_void_p * 5)(1, ct.addressof(buffer), 2, ct.addressof(size), 3)
    function = clean.kernel("vector_add").function
    sim.call("hipModuleLaunchKernel", function, 1, 1, 1, 256, 1, 1, 0, None, None, extra)
    np.testing.assert_array_equal(out.read(np.float32), 2 * floats(64))
    size.value = 20  # the last argument is missing
    with pytest.raises(HipError, match="hipErrorInvalidValue"):
        sim.call("hipModuleLaunchKernel", function, 1, 1, 1, 256, 1, 1, 0, None, None, extra)


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_any_interleaving_gives_the_same(sim: Simulator, arch: str, seed: int) -> None:
    sim.set_option("seed", seed)
    a, out = floats(4096), np.zeros(4096, np.float32)
    launch(DATA / arch / "clean.co", "reverse_in_lds", [a, out], 16, 256)
    np.testing.assert_array_equal(out.reshape(16, 256), a.reshape(16, 256)[:, ::-1])
