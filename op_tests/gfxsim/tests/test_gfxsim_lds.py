"""The simulator's LDS instructions, and the moves between lanes that go through LDS."""

from __future__ import annotations

import numpy as np
import pytest

from gfxsim.tests.exec_machine import ALL_LANES, ARCHS, LANES, Machine, semantic_names
from gfxsim.tests.exec_memory import U32, U64, check_loaded, clean, noise, registers, with_old_registers


@pytest.fixture(params=ARCHS)
def arch(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("name", [n for n in semantic_names() if n.startswith("ds_read_") and "_tr_" not in n])
def test_lds_reads(name: str, arch: str) -> None:
    ending = name.removeprefix("ds_read_")
    half = 1 if ending.endswith("_hi") else 0 if "d16" in ending else None
    size = {"8": 1, "16": 2, "32": 4, "64": 8, "96": 12, "128": 16}[ending.split("_")[0][1:]]
    machine = with_old_registers(Machine(arch, lds=noise(64 * 16 + 64)))
    machine.set(10, (np.arange(LANES) * 16).astype(U32))
    result = clean(machine.run(f"{name} {registers(0, size)}, v10 offset:16", "s_waitcnt lgkmcnt(0)"))
    check_loaded(result, machine.lds, np.arange(LANES) * 16 + 16, size, ending.startswith("i"), half)
    assert result.bytes_moved["lds_read_bytes"] == LANES * size


@pytest.mark.parametrize("name", [n for n in semantic_names() if n.startswith("ds_write_")])
def test_lds_writes(name: str, arch: str) -> None:
    ending = name.removeprefix("ds_write_")
    shift = 16 if ending.endswith("_hi") else 0
    size = {"8": 1, "16": 2, "32": 4, "64": 8, "96": 12, "128": 16}[ending.split("_")[0][1:]]
    values = noise(LANES * 16, 2).view(U32).reshape(LANES, 4)
    machine = Machine(arch, lds=np.zeros(64 * 16 + 64, np.uint8), exec=ALL_LANES & ~(1 << 5))
    machine.set(0, values)
    machine.set(10, (np.arange(LANES) * 16).astype(U32))
    result = clean(machine.run(f"{name} v10, {registers(0, size)} offset:16"))
    want = np.zeros_like(machine.lds)
    for lane in range(LANES):
        if lane != 5:
            number = int.from_bytes(values[lane].tobytes(), "little") >> shift
            part = np.frombuffer(number.to_bytes(16, "little")[:size], np.uint8)
            want[lane * 16 + 16 : lane * 16 + 16 + size] = part
    assert np.array_equal(result.lds, want)


@pytest.mark.parametrize("size", [4, 8])
@pytest.mark.parametrize("far", [False, True])
def test_lds_two_addresses(size: int, far: bool, arch: str) -> None:
    unit = size * 64 if far else size
    machine = with_old_registers(Machine(arch, lds=noise(64 * size + 64 * unit)))
    machine.set(10, (np.arange(LANES) * size).astype(U32))
    ending = ("st64" if far else "") + f"_b{8 * size}"
    result = clean(
        machine.run(f"ds_read2{ending} {registers(0, 2 * size)}, v10 offset0:1 offset1:5", "s_waitcnt lgkmcnt(0)")
    )
    for lane in range(LANES):
        first, second = lane * size + unit, lane * size + 5 * unit
        want = machine.lds[first : first + size].tobytes() + machine.lds[second : second + size].tobytes()
        assert result.v[: size // 2, lane].tobytes() == want
    values = noise(LANES * 16, 2).view(U32).reshape(LANES, 4)
    machine.set(20, values)
    machine.lds = np.zeros_like(machine.lds)
    sources = f"{registers(20, size)}, {registers(20 + size // 4, size)}"
    text = f"ds_write2{ending} v10, {sources} offset0:0 offset1:{2 if far else 64}"
    result = clean(machine.run(text))
    want_lds = np.zeros_like(machine.lds)
    distance = 2 * unit if far else 64 * unit
    for lane in range(LANES):
        raw = values[lane].view(np.uint8)
        want_lds[lane * size : lane * size + size] = raw[:size]
        want_lds[lane * size + distance : lane * size + distance + size] = raw[size : 2 * size]
    assert np.array_equal(result.lds, want_lds)


@pytest.mark.parametrize("bits", [16, 8, 4])
def test_transposed_reads(bits: int) -> None:
    """16 lanes hold a tile of 16 columns, in the rows' order of the lanes; lane i gets column i."""
    rows = 64 // bits
    rng = np.random.default_rng(8)
    tile = rng.integers(0, 1 << bits, (4, rows, 16))  # one for each group of 16 lanes
    lanes = tile.reshape(4, 16, rows)  # lane i of a group reads `rows` elements
    raw = np.zeros(LANES, U64)
    for group in range(4):
        for lane in range(16):
            raw[16 * group + lane] = sum(int(x) << bits * i for i, x in enumerate(lanes[group, lane]))
    machine = Machine("gfx950", lds=raw.view(np.uint8).copy())
    machine.set(10, (np.arange(LANES) * 8).astype(U32))
    result = clean(machine.run(f"ds_read_b64_tr_b{bits} v[0:1], v10", "s_waitcnt lgkmcnt(0)"))
    got = machine.values(result, 0, U64)
    for lane in range(LANES):
        column = tile[lane // 16, :, lane % 16]
        assert int(got[lane]) == sum(int(x) << bits * i for i, x in enumerate(column))


def test_lane_moves(arch: str) -> None:
    rng = np.random.default_rng(9)
    values, order = noise(256, 6).view(U32), rng.permutation(LANES)
    for mask in (ALL_LANES, 0x00FF00FF00FF00FF):
        on = np.array([bool(mask >> lane & 1) for lane in range(LANES)])
        machine = Machine(arch, exec=mask)
        machine.set(2, values)
        machine.set(10, (order * 4).astype(U32))
        machine.set(0, np.full(LANES, 7, U32))
        wait = "s_waitcnt lgkmcnt(0)"
        got = clean(machine.run("ds_bpermute_b32 v0, v10, v2", wait)).v[0]
        # A lane that is off has the address 0 here, and keeps its register.
        assert np.array_equal(got, np.where(on, np.where(on[order], values[order], 0), 7))
        got = clean(machine.run("ds_permute_b32 v0, v10, v2", wait)).v[0]
        want = np.zeros(LANES, U32)
        for lane in np.flatnonzero(on):
            want[order[lane]] = values[lane]
        assert np.array_equal(got, np.where(on, want, 7))
        got = clean(machine.run("ds_swizzle_b32 v0, v2 offset:swizzle(QUAD_PERM,3,2,1,0)", wait)).v[0]
        source = np.arange(LANES) ^ 3
        assert np.array_equal(got, np.where(on, np.where(on[source], values[source], 0), 7))
        got = clean(machine.run("ds_swizzle_b32 v0, v2 offset:swizzle(SWAP,16)", wait)).v[0]
        source = np.arange(LANES) ^ 16
        assert np.array_equal(got, np.where(on, np.where(on[source], values[source], 0), 7))
        got = clean(machine.run("ds_swizzle_b32 v0, v2 offset:swizzle(BROADCAST,8,3)", wait)).v[0]
        source = np.arange(LANES) // 8 * 8 + 3
        assert np.array_equal(got, np.where(on, np.where(on[source], values[source], 0), 7))


def test_lds_bounds_and_alignment(arch: str) -> None:
    def kind(text: str, offset: int, size: int = 512) -> str:
        machine = Machine(arch, exec=1, lds=np.zeros(size, np.uint8))
        for reg in range(4):
            machine.set(reg, np.zeros(LANES, U32))
        machine.set(10, np.full(LANES, offset, U32))
        return machine.run(text).kind

    for text, size in (("ds_read_b32 v0, v10", 4), ("ds_write_b128 v10, v[0:3]", 16), ("ds_read_b64 v[0:1], v10", 8)):
        assert kind(text, 512 - size) == "none"
        assert kind(text, 512) == "lds_bounds"
        assert kind(text, 0xFFFFFFFC) in ("lds_bounds", "misaligned")
        assert kind(text, size // 2) == "misaligned"
    assert kind("ds_read_u8 v0, v10", 511) == "none"
    assert kind("ds_read_u8 v0, v10", 512) == "lds_bounds"
