"""The simulator's loads and stores of global, scratch, scalar and buffer memory."""

from __future__ import annotations

import numpy as np
import pytest

from gfxsim.tests.exec_machine import ALL_LANES, ARCHS, LANES, Machine, memory
from gfxsim.tests.exec_memory import (
    LOADS,
    STORES,
    U32,
    addresses,
    check_loaded,
    clean,
    noise,
    registers,
    set_pair,
    with_old_registers,
)  # fmt: skip


@pytest.fixture(params=ARCHS)
def arch(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("load", LOADS, ids=lambda x: x[0])
def test_loads(load: tuple[str, int, bool, int | None], arch: str) -> None:
    name, size, signed, half = load
    data = noise(64 * 20 + 64)
    with memory(data) as base:
        machine = with_old_registers(Machine(arch))
        machine.set(10, addresses(base, 20))
        places = np.arange(LANES) * 20 + 8
        for segment in ("global", "flat"):
            off = ", off" if segment == "global" else ""
            text = f"{segment}_load_{name} {registers(0, size)}, v[10:11]{off} offset:8"
            check_loaded(clean(machine.run(text, "s_waitcnt vmcnt(0) lgkmcnt(0)")), data, places, size, signed, half)
        machine.set(12, (np.arange(LANES) * 20).astype(U32))
        set_pair(machine, 4, base + 16)
        text = f"global_load_{name} {registers(0, size)}, v12, s[4:5] offset:-8"
        result = clean(machine.run(text, "s_waitcnt vmcnt(0)"))
        check_loaded(result, data, places, size, signed, half)
        assert result.bytes_moved["global_read_bytes"] == LANES * size
        set_pair(machine, 8, base)
        machine.s.update({10: data.nbytes, 11: 0, 6: 4})
        text = f"buffer_load_{name} {registers(0, size)}, v12, s[8:11], s6 offen offset:4"
        check_loaded(clean(machine.run(text, "s_waitcnt vmcnt(0)")), data, places, size, signed, half)


@pytest.mark.parametrize("store", STORES, ids=lambda x: x[0])
def test_stores(store: tuple[str, int, int], arch: str) -> None:
    name, size, shift = store
    values = noise(LANES * 16, 2).view(U32).reshape(LANES, 4)
    for form in ("global", "flat", "saddr", "buffer"):
        data = np.zeros(LANES * 20 + 8, np.uint8)
        with memory(data) as base:
            machine = Machine(arch, exec=ALL_LANES & ~(1 << 5))
            machine.set(0, values)
            machine.set(10, addresses(base, 20))
            machine.set(12, (np.arange(LANES) * 20).astype(U32))
            set_pair(machine, 4, base)
            set_pair(machine, 8, base)
            machine.s.update({10: data.nbytes, 11: 0})
            source = registers(0, size)
            text = {
                "global": f"global_store_{name} v[10:11], {source}, off offset:4",
                "flat": f"flat_store_{name} v[10:11], {source} offset:4",
                "saddr": f"global_store_{name} v12, {source}, s[4:5] offset:4",
                "buffer": f"buffer_store_{name} {source}, v12, s[8:11], 0 offen offset:4",
            }[form]
            result = clean(machine.run(text))
        assert result.bytes_moved["global_write_bytes"] == (LANES - 1) * size
        want = np.zeros_like(data)
        for lane in range(LANES):
            if lane != 5:
                number = int.from_bytes(values[lane].tobytes(), "little") >> shift
                want[lane * 20 + 4 : lane * 20 + 4 + size] = np.frombuffer(
                    number.to_bytes(16, "little")[:size], np.uint8
                )
        assert np.array_equal(data, want), form


def test_scratch(arch: str) -> None:
    machine = with_old_registers(Machine(arch, scratch_bytes=64, s={4: 8}))
    values = noise(LANES * 16, 3).view(U32).reshape(LANES, 4)
    machine.set(20, values)
    machine.set(12, np.full(LANES, 16, U32))
    for name, size, shift in STORES:
        loaded = {1: "ubyte", 2: "ushort", 4: "dword", 8: "dwordx2", 12: "dwordx3", 16: "dwordx4"}[size]
        program = [
            f"scratch_store_{name} v12, {registers(20, size)}, s4 offset:8",
            f"scratch_load_{loaded} {registers(0, size)}, off, s4 offset:24",
        ]
        result = clean(machine.run(*program, "s_waitcnt vmcnt(0)"))
        for lane in (0, 63):
            number = int.from_bytes(values[lane].tobytes(), "little") >> shift & ((1 << 8 * size) - 1)
            got = int.from_bytes(result.v[: (size + 3) // 4, lane].tobytes(), "little")
            assert got == number, name
        assert result.bytes_moved["global_read_bytes"] == 0
    for name, size, _, _ in LOADS:
        clean(machine.run(f"scratch_load_{name} {registers(0, size)}, v12, off"))
    assert machine.run("scratch_load_dword v0, v12, off offset:45").kind == "scratch_bounds"
    clean(machine.run("scratch_load_dword v0, v12, off offset:44"))


def test_scalar_loads(arch: str) -> None:
    data = noise(256, 4)
    words = data.view(U32)
    with memory(data) as base:
        machine = Machine(arch, s={6: 12, 10: 100, 11: 0})
        set_pair(machine, 4, base)
        set_pair(machine, 8, base)
        for count, ending in ((1, "dword"), (2, "dwordx2"), (4, "dwordx4"), (8, "dwordx8"), (16, "dwordx16")):
            target = "s20" if count == 1 else f"s[20:{19 + count}]"
            wait = "s_waitcnt lgkmcnt(0)"
            result = clean(machine.run(f"s_load_{ending} {target}, s[4:5], 0x10", wait))
            assert np.array_equal(result.s[20 : 20 + count], words[4 : 4 + count])
            result = clean(machine.run(f"s_load_{ending} {target}, s[4:5], s6", wait))
            assert np.array_equal(result.s[20 : 20 + count], words[3 : 3 + count])
            result = clean(machine.run(f"s_buffer_load_{ending} {target}, s[8:11], 0x40", wait))
            inside = np.where(np.arange(16, 16 + count) < 25, words[16 : 16 + count], 0)
            assert np.array_equal(result.s[20 : 20 + count], inside)
        assert machine.run("s_load_dwordx4 s[20:23], s[4:5], 0xf4").kind == "global_bounds"


def test_buffer_range(arch: str) -> None:
    """What is beyond the size reads as 0 and is not written, dword by dword."""
    data = noise(256, 5)
    before = data.copy()
    with memory(data) as base:
        machine = with_old_registers(Machine(arch))
        set_pair(machine, 8, base)
        machine.s.update({10: 100, 11: 0})
        machine.set(12, (np.arange(LANES) * 4).astype(U32))
        result = clean(machine.run("buffer_load_dwordx2 v[0:1], v12, s[8:11], 0 offen", "s_waitcnt vmcnt(0)"))
        words = np.append(before.view(U32)[:25], np.zeros(64, U32))
        assert np.array_equal(result.v[0], words[:64]) and np.array_equal(result.v[1], words[1:65])
        clean(machine.run("buffer_store_dword v12, v12, s[8:11], 0 offen"))
        assert np.array_equal(data.view(U32)[:25], np.arange(25) * 4)
        assert np.array_equal(data[100:], before[100:])
        machine.s.update({9: base >> 32 | 8 << 16, 10: 10})  # ten records of eight bytes
        machine.set(12, np.arange(LANES, dtype=U32))
        result = clean(machine.run("buffer_load_dword v0, v12, s[8:11], 0 idxen offset:4", "s_waitcnt vmcnt(0)"))
        want = np.where(np.arange(LANES) < 10, np.resize(data.view(U32)[1::2], LANES), 0)
        assert np.array_equal(result.v[0], want)


def test_global_bounds(arch: str) -> None:
    data = np.zeros(64, U32)
    with memory(data) as base:
        for offset, kind in ((0, "none"), (4, "global_bounds"), (-4, "global_bounds")):
            machine = Machine(arch)
            machine.set(10, addresses(base + offset, 4))
            assert machine.run("global_load_dword v0, v[10:11], off").kind == kind
            machine.set(0, np.zeros(LANES, U32))
            assert machine.run("global_store_dword v[10:11], v0, off").kind == kind
            assert machine.run("flat_store_dword v[10:11], v0").kind == kind
        machine = Machine(arch, exec=1)  # the last byte counts
        machine.set(10, addresses(base + 252 - 2, 4))
        clean(machine.run("global_load_dword v0, v[10:11], off offset:2"))
        result = machine.run("global_load_dword v0, v[10:11], off offset:3")
        assert result.kind == "global_bounds" and "lane 0 reads 4 bytes" in result.text and "byte 253" in result.text
        assert "global_load_dword v0, v[10:11], off offset:3" in result.text
        machine.set(10, addresses(0, 4))
        assert machine.run("global_load_dword v0, v[10:11], off").kind == "global_bounds"
    with memory(data, writable=False) as base:
        machine.set(10, addresses(base, 4))
        machine.set(0, np.zeros(LANES, U32))
        clean(machine.run("global_load_dword v0, v[10:11], off"))
        assert machine.run("global_store_dword v[10:11], v0, off").kind == "read_only"
