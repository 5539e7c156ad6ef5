"""The simulator's memory instructions, and the checks inside a wave: each reports its planted bug, and not its twin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from exec_machine import ALL_LANES, ARCHS, M0, Machine, Result, memory, semantic_names, words_of

LANES = 64
U32, U64 = np.uint32, np.uint64


@pytest.fixture(params=ARCHS)
def arch(request: pytest.FixtureRequest) -> str:
    return request.param


def clean(result: Result) -> Result:
    assert result.kind == "none", result.text
    return result


def addresses(base: int, stride: int) -> np.ndarray:
    return (base + np.arange(LANES, dtype=U64) * U64(stride)).astype(U64)


def noise(size: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size).astype(np.uint8)


def set_pair(machine: Machine, reg: int, value: int) -> None:
    machine.s[reg], machine.s[reg + 1] = value & 0xFFFFFFFF, value >> 32


# mnemonic ending, bytes, signed, half (None: the whole register, 0: low, 1: high)
LOADS = (
    ("ubyte", 1, False, None), ("sbyte", 1, True, None), ("ushort", 2, False, None), ("sshort", 2, True, None),
    ("dword", 4, False, None), ("dwordx2", 8, False, None), ("dwordx3", 12, False, None), ("dwordx4", 16, False, None),
    ("ubyte_d16", 1, False, 0), ("ubyte_d16_hi", 1, False, 1), ("sbyte_d16", 1, True, 0), ("sbyte_d16_hi", 1, True, 1),
    ("short_d16", 2, False, 0), ("short_d16_hi", 2, False, 1),
)  # fmt: skip
STORES = (
    ("byte", 1, 0), ("byte_d16_hi", 1, 16), ("short", 2, 0), ("short_d16_hi", 2, 16), ("dword", 4, 0),
    ("dwordx2", 8, 0), ("dwordx3", 12, 0), ("dwordx4", 16, 0),
)  # fmt: skip


def registers(first: int, size: int) -> str:
    count = (size + 3) // 4
    return f"v{first}" if count == 1 else f"v[{first}:{first + count - 1}]"


def expected_load(data: bytes, size: int, signed: bool, half: int | None, old: int) -> list[int]:
    if size >= 4:
        return [int.from_bytes(data[i : i + 4], "little") for i in range(0, size, 4)]
    value = int.from_bytes(data[:size], "little", signed=signed)
    if half is None:
        return [value & 0xFFFFFFFF]
    kept = old & (0xFFFF if half else 0xFFFF0000)
    return [kept | (value & 0xFFFF) << 16 * half]


def check_loaded(result: Result, data: np.ndarray, places: Any, size: int, signed: bool, half: int | None) -> None:
    for lane in range(LANES):
        place = int(places[lane])
        want = expected_load(data[place : place + size].tobytes(), size, signed, half, 0x11112222)
        assert [int(result.v[i][lane]) for i in range(len(want))] == want, lane


def with_old_registers(machine: Machine) -> Machine:
    for reg in range(4):
        machine.set(reg, np.full(LANES, 0x11112222, U32))
    return machine


# ---- loads and stores


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


# ---- loads to LDS


@pytest.mark.parametrize("form", ["global_load_lds", "buffer_load", "scratch_load_lds"])
@pytest.mark.parametrize("ending", ["ubyte", "sbyte", "ushort", "sshort", "dword", "dwordx3", "dwordx4"])
def test_loads_to_lds(form: str, ending: str, arch: str) -> None:
    size, signed = next((s, g) for n, s, g, h in LOADS if n == ending)
    spacing = max(size, 4)
    data = noise(64 * 20 + 64)
    text = {
        "global_load_lds": f"global_load_lds_{ending} v[10:11], off offset:8",
        "buffer_load": f"buffer_load_{ending} v12, s[8:11], 0 offen offset:8 lds",
        "scratch_load_lds": f"scratch_load_lds_{ending} v13, off offset:8",
    }[form]
    if (form == "scratch_load_lds" and size > 4) or words_of(arch, text) is None:
        pytest.skip(f"{arch} does not have it")
    with memory(data) as base:
        machine = Machine(arch, lds=np.zeros(2048, np.uint8), s={M0: 32}, exec=ALL_LANES & ~(1 << 9), scratch_bytes=64)
        machine.set(10, addresses(base, 20))
        machine.set(12, (np.arange(LANES) * 20).astype(U32))
        machine.set(13, np.zeros(LANES, U32))
        set_pair(machine, 8, base)
        machine.s.update({10: data.nbytes, 11: 0})
        result = clean(machine.run(text, "s_waitcnt vmcnt(0)"))
    want = np.zeros(2048, np.uint8)
    for lane in range(LANES):
        if lane != 9 and form != "scratch_load_lds":
            part = data[lane * 20 + 8 : lane * 20 + 8 + size].tobytes()
            if size < 4:
                part = (int.from_bytes(part, "little", signed=signed) & 0xFFFFFFFF).to_bytes(4, "little")
            want[40 + lane * spacing : 40 + (lane + 1) * spacing] = np.frombuffer(part, np.uint8)
    assert np.array_equal(result.lds, want)


# ---- LDS


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


# ---- atomics


def wrap(value: int, bits: int) -> int:
    return value & ((1 << bits) - 1)


def signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


def float_op(bits: int, op: Callable[[float, float], float]) -> Callable[[int, int, int], int]:
    dtype, word = (np.float32, U32) if bits == 32 else (np.float64, U64)

    def apply(old: int, data: int, bits: int) -> int:
        a, b = (word(x).view(dtype) for x in (old, data))
        return int(dtype(op(a, b)).view(word))

    return apply


def halves_op(dtype: Any) -> Callable[[int, int, int], int]:
    def apply(old: int, data: int, bits: int) -> int:
        a, b = (np.array([x], U32).view(dtype) for x in (old, data))
        return int((a + b).astype(dtype).view(U32)[0])

    return apply


ATOMICS: dict[str, Callable[[int, int, int], int]] = {
    "add": lambda old, data, bits: wrap(old + data, bits),
    "sub": lambda old, data, bits: wrap(old - data, bits),
    "rsub": lambda old, data, bits: wrap(data - old, bits),
    "umin": lambda old, data, bits: min(old, data),
    "umax": lambda old, data, bits: max(old, data),
    "smin": lambda old, data, bits: min(old, data, key=lambda x: signed(x, bits)),
    "smax": lambda old, data, bits: max(old, data, key=lambda x: signed(x, bits)),
    "and": lambda old, data, bits: old & data,
    "or": lambda old, data, bits: old | data,
    "xor": lambda old, data, bits: old ^ data,
    "inc": lambda old, data, bits: 0 if old >= data else old + 1,
    "dec": lambda old, data, bits: data if old == 0 or old > data else old - 1,
    "swap": lambda old, data, bits: data,
    "pk_add_f16": halves_op(np.float16),
    "pk_add_bf16": halves_op(ml_dtypes.bfloat16),
    "add_f32": float_op(32, lambda a, b: a + b),
    "add_f64": float_op(64, lambda a, b: a + b),
    "min_f32": float_op(32, min),
    "max_f32": float_op(32, max),
    "min_f64": float_op(64, min),
    "max_f64": float_op(64, max),
}
LDS_NAMES = {"min_i": "smin", "max_i": "smax", "min_u": "umin", "max_u": "umax", "wrxchg_b": "swap"}


def atomic_of(name: str) -> tuple[str, int]:
    """The operation and bits of global_atomic_umin_x2, ds_min_rtn_u32, ..."""
    if not name.startswith("ds_"):
        op = name.split("_atomic_")[1]
        bits = 64 if op.endswith(("_x2", "f64")) else 32
        return op.removesuffix("_x2"), bits
    op = name.removeprefix("ds_").replace("_rtn", "")
    bits = 64 if op.endswith("64") else 32
    if op.startswith("pk_add") or (op[-3] == "f" and op != "wrxchg_b32"):
        return op, bits
    stem = op[:-2]
    return LDS_NAMES.get(stem, stem.split("_")[0]), bits


NO_ATOMICS = ("ds_read", "ds_write", "ds_bpermute", "ds_permute", "ds_swizzle")
ATOMIC_NAMES = [
    n for n in semantic_names() if "_atomic_" in n or (n.startswith("ds_") and not n.startswith(NO_ATOMICS))
]
SIMPLE = [n for n in ATOMIC_NAMES if "cmp" not in n]
COMPARING = [n for n in ATOMIC_NAMES if "cmp" in n]


def float_or_noise(op: str, bits: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if op.endswith("bf16"):
        return rng.standard_normal(2 * LANES).astype(ml_dtypes.bfloat16).view(U32)
    if op.endswith("f16"):
        return rng.standard_normal(2 * LANES).astype(np.float16).view(U32)
    if op.endswith(("f32", "f64")):
        return (
            rng.standard_normal(LANES).astype(np.float32 if bits == 32 else np.float64).view(U32 if bits == 32 else U64)
        )
    values = rng.integers(0, 1 << bits, LANES, U64).astype(U32 if bits == 32 else U64)
    values[::5] = 3
    return values


@pytest.mark.parametrize("name", SIMPLE)
def test_atomics(name: str, arch: str) -> None:
    op, bits = atomic_of(name)
    size = bits // 8
    old, data = float_or_noise(op, bits, 1), float_or_noise(op, bits, 2)
    want = np.array([ATOMICS[op](int(o), int(d), bits) for o, d in zip(old, data, strict=True)], old.dtype)
    target = old.copy()
    lds = name.startswith("ds_")
    returned = registers(0, size) + ", "
    with memory(target) as base:
        machine = Machine(arch, lds=target.view(np.uint8).copy() if lds else np.zeros(0, np.uint8))
        machine.set(20, data)
        machine.set(10, addresses(base, size))
        machine.set(12, (np.arange(LANES) * size).astype(U32))
        set_pair(machine, 8, base)
        machine.s.update({10: target.nbytes, 11: 0})
        source = registers(20, size)
        if lds:
            back = "_rtn" in name or "wrxchg" in name
            text = f"{name} {returned if back else ''}v12, {source}"
        elif name.startswith("buffer"):
            back, text = True, f"{name} {source}, v12, s[8:11], 0 offen sc0"
        else:
            back, text = True, f"{name} {returned}v[10:11], {source}{', off' if name.startswith('global') else ''} sc0"
        if words_of(arch, text) is None:
            pytest.skip(f"{arch} does not have it")
        result = clean(machine.run(text, "s_waitcnt vmcnt(0) lgkmcnt(0)"))
        got = machine.values(result, 20 if name.startswith("buffer") else 0, old.dtype)
        assert not back or np.array_equal(got, old)
        after = result.lds.view(old.dtype) if lds else target
        assert np.array_equal(after, want)
        if not lds:  # without sc0: the same, and nothing comes back
            target[...] = old
            text = text.removesuffix(" sc0").replace(f" {returned}" if not name.startswith("buffer") else "\0", " ", 1)
            clean(machine.run(text))
            assert np.array_equal(target, want)


@pytest.mark.parametrize("name", COMPARING)
def test_compare_and_swap(name: str, arch: str) -> None:
    bits = 64 if name.endswith(("x2", "64")) else 32
    size, dtype = bits // 8, U32 if bits == 32 else U64
    old = float_or_noise("swap", bits, 1)
    compare = np.where(np.arange(LANES) % 3 == 0, old, old + dtype(1))
    data = float_or_noise("swap", bits, 2)
    want = np.where(compare == old, data, old)
    target = old.copy()
    with memory(target) as base:
        lds = name.startswith("ds_")
        machine = Machine(arch, lds=target.view(np.uint8).copy() if lds else np.zeros(0, np.uint8))
        machine.set(20, compare if lds else data)
        machine.set(20 + size // 4, data if lds else compare)
        machine.set(10, addresses(base, size))
        machine.set(12, (np.arange(LANES) * size).astype(U32))
        set_pair(machine, 8, base)
        machine.s.update({10: target.nbytes, 11: 0})
        both, first, second = registers(20, 2 * size), registers(20, size), registers(20 + size // 4, size)
        if lds:
            text = f"{name} {registers(0, size) + ', ' if '_rtn' in name else ''}v12, {first}, {second}"
        elif name.startswith("buffer"):
            text = f"{name} {both}, v12, s[8:11], 0 offen sc0"
        else:
            text = f"{name} {registers(0, size)}, v[10:11], {both}{', off' if name.startswith('global') else ''} sc0"
        result = clean(machine.run(text, "s_waitcnt vmcnt(0) lgkmcnt(0)"))
    assert np.array_equal(result.lds.view(dtype) if lds else target, want)
    if "_rtn" in name or not lds:
        assert np.array_equal(machine.values(result, 20 if name.startswith("buffer") else 0, dtype), old)


# ---- bounds


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


# ---- s_waitcnt


def waits(arch: str, *program: str) -> str:
    """Runs with 64 zero dwords at v[10:11], s[4:5] and in LDS; v12 and v13 hold 0."""
    data = np.zeros(256, U32)
    with memory(data) as base:
        machine = Machine(arch, lds=np.zeros(512, np.uint8), s={M0: 0, 6: 0, 7: 0})
        machine.set(10, addresses(base, 4))
        for reg in (0, 1, 2, 3, 12, 13):
            machine.set(reg, np.zeros(LANES, U32))
        set_pair(machine, 4, base)
        result = machine.run(*program)
    if result.kind == "wait":
        assert "before" in result.text and "code+0x" in result.text
    return result.kind


LOAD0, LOAD1 = "global_load_dword v0, v[10:11], off", "global_load_dword v1, v[10:11], off offset:4"
USE0, USE1 = "v_add_u32_e32 v2, v0, v12", "v_add_u32_e32 v2, v1, v12"
READ0, READ1 = "ds_read_b32 v0, v12", "ds_read_b32 v1, v12 offset:4"
SCALAR = "s_load_dword s6, s[4:5], 0x0"
USE_SCALAR = "s_add_u32 s7, s6, 1"
FLAT = "flat_load_dword v0, v[10:11]"
DIRECT = "global_load_lds_dword v[10:11], off"
STORE = "global_store_dword v[10:11], v3, off"


@pytest.mark.parametrize(
    ("program", "kind"),
    [
        ((LOAD0, USE0), "wait"),
        ((LOAD0, "s_waitcnt vmcnt(0)", USE0), "none"),
        ((LOAD0, LOAD1, "s_waitcnt vmcnt(1)", USE0), "none"),
        ((LOAD0, LOAD1, "s_waitcnt vmcnt(1)", USE1), "wait"),
        ((LOAD0, STORE, "s_waitcnt vmcnt(1)", USE0), "none"),  # stores count
        ((LOAD0, "s_waitcnt lgkmcnt(0)", USE0), "wait"),  # the other counter
        ((LOAD0, "v_mov_b32_e32 v0, v12"), "wait"),  # overwritten
        ((LOAD0, LOAD0, "s_waitcnt vmcnt(0)", USE0), "none"),  # loads return in order
        ((LOAD0, "global_store_dword v[10:11], v0, off"), "wait"),
        ((READ0, USE0), "wait"),
        ((READ0, "s_waitcnt lgkmcnt(0)", USE0), "none"),
        ((READ0, READ1, "s_waitcnt lgkmcnt(1)", USE0), "none"),
        ((READ0, READ1, "s_waitcnt lgkmcnt(1)", USE1), "wait"),
        ((READ0, "ds_write_b32 v12, v13 offset:8", "s_waitcnt lgkmcnt(1)", USE0), "none"),
        (("ds_bpermute_b32 v0, v12, v13", USE0), "wait"),
        ((SCALAR, USE_SCALAR), "wait"),
        ((SCALAR, "s_waitcnt lgkmcnt(0)", USE_SCALAR), "none"),
        ((SCALAR, SCALAR.replace("s6", "s7"), "s_waitcnt lgkmcnt(1)", "s_mov_b32 s8, s6"), "wait"),  # no order
        ((READ0, SCALAR, "s_waitcnt lgkmcnt(1)", USE0), "wait"),  # the scalar load may have been the one
        ((SCALAR, "s_mov_b32 s6, 0"), "wait"),
        ((FLAT, "s_waitcnt vmcnt(0)", USE0), "wait"),  # flat needs both
        ((FLAT, "s_waitcnt vmcnt(0) lgkmcnt(0)", USE0), "none"),
        ((DIRECT, "ds_read_b32 v2, v12"), "wait"),
        ((DIRECT, "s_waitcnt vmcnt(0)", "ds_read_b32 v2, v12"), "none"),
        ((DIRECT, "ds_read_b32 v2, v12 offset:256"), "none"),  # other bytes
        ((DIRECT, "ds_write_b32 v12, v13"), "wait"),
        ((DIRECT, LOAD0, "s_waitcnt vmcnt(1)", "ds_read_b32 v2, v12"), "none"),
        ((LOAD0, "s_barrier"), "none"),
        ((LOAD0, "v_mfma_f32_4x4x1_16b_f32 v[0:3], v12, v13, 0"), "wait"),
    ],
)
def test_waits(program: tuple[str, ...], kind: str, arch: str) -> None:
    assert waits(arch, *program) == kind


def test_counters_have_a_limit(arch: str) -> None:
    """With 64 loads on the way the hardware cannot issue another before the first has returned."""
    loads = [f"global_load_dword v{20 + i}, v[10:11], off" for i in range(2)]
    assert waits(arch, loads[0], *[LOAD1] * 25, "v_mov_b32_e32 v2, v20") == "wait"
    assert waits(arch, *[READ1] * 3, *[READ0] * 15, USE1) == "none"
    assert waits(arch, *[READ1] * 3, *[READ0] * 14, USE1) == "wait"


# ---- undefined data


def undefined(arch: str, *program: str, **start: Any) -> str:
    """v200 and s40 were never written; v[10:11] addresses 64 dwords, v12 holds lanes, LDS is unwritten."""
    data = np.zeros(256, U32)
    with memory(data) as base:
        machine = Machine(arch, lds=np.zeros(512, np.uint8), lds_defined=False, s={6: 3, 7: 0}, **start)
        machine.set(10, addresses(base, 4))
        machine.set(12, (np.arange(LANES) * 4).astype(U32))
        machine.set(13, np.zeros(LANES, U32))
        set_pair(machine, 4, base)
        return machine.run(*program).kind


STORE0 = "global_store_dword v[10:11], v0, off"
MOVE = "v_mov_b32_e32 v0, v200"


@pytest.mark.parametrize(
    ("program", "kind"),
    [
        ((MOVE,), "none"),  # copies alone are harmless
        ((MOVE, STORE0), "uninitialized"),
        (("v_mov_b32_e32 v0, v12", STORE0), "none"),
        (("v_add_u32_e32 v0, v12, v200", STORE0), "uninitialized"),
        (("v_and_b32_e32 v0, 0, v200", STORE0), "none"),  # and with zeros
        (("v_and_b32_e32 v0, 0xff, v200", STORE0), "uninitialized"),
        (("v_and_b32_e32 v0, 0xff, v200", "v_lshrrev_b32_e32 v0, 8, v0", STORE0), "none"),
        (("v_or_b32_e32 v0, -1, v200", STORE0), "none"),
        (("v_xor_b32_e32 v0, v200, v200", STORE0), "none"),  # a register with itself
        (("v_xor_b32_e32 v0, v200, v201", STORE0), "uninitialized"),
        (("v_add_f32_e32 v0, v12, v200", STORE0), "uninitialized"),
        (("v_max_f32_e32 v0, v12, v200", STORE0), "uninitialized"),
        (("v_mov_b32_e32 v0, s40", STORE0), "uninitialized"),
        (("v_perm_b32 v0, v12, v200, s6", STORE0), "uninitialized"),
        (("v_mov_b32_e32 v2, 0x0c0c0c0c", "v_perm_b32 v0, v12, v200, v2", STORE0), "none"),
        (("v_mov_b32_e32 v0, v200", "v_mov_b32_e32 v0, v12", STORE0), "none"),  # overwritten
        (("s_mov_b64 exec, 0xff", "v_mov_b32_e32 v0, v12", STORE0), "none"),
        (("s_mov_b64 exec, 0xff", "v_mov_b32_e32 v0, v12", "s_mov_b64 exec, -1", STORE0), "uninitialized"),
        (("v_cmp_gt_u32_e32 vcc, v200, v12",), "none"),
        (("v_cmp_gt_u32_e32 vcc, v200, v12", "s_cbranch_vccz 0"), "uninitialized"),
        (("v_cmp_gt_u32_e32 vcc, v200, v12", "s_and_saveexec_b64 s[20:21], vcc"), "uninitialized"),
        (("v_cmp_gt_u32_e32 vcc, v200, v12", "s_mov_b64 exec, vcc"), "uninitialized"),
        (("v_cmp_gt_u32_e32 vcc, v200, v12", "s_and_b64 vcc, vcc, 0", "s_cbranch_vccz 0"), "none"),
        (("v_cmpx_gt_u32_e32 vcc, v200, v12",), "uninitialized"),
        (("v_cmp_gt_u32_e32 vcc, v200, v12", "v_cndmask_b32_e32 v0, v12, v13, vcc", STORE0), "uninitialized"),
        (("v_cmp_gt_u32_e32 vcc, v12, v13", "v_cndmask_b32_e32 v0, v200, v12, vcc", STORE0), "uninitialized"),
        (("v_cmp_eq_u32_e32 vcc, v12, v12", "v_cndmask_b32_e32 v0, v200, v12, vcc", STORE0), "none"),  # not chosen
        (("s_cmp_eq_u32 s40, 0", "s_cbranch_scc1 0"), "uninitialized"),
        (("s_cmp_eq_u32 s6, 0", "s_cbranch_scc1 0"), "none"),
        (("v_readfirstlane_b32 s20, v200", "s_cmp_eq_u32 s20, 0", "s_cbranch_scc1 0"), "uninitialized"),
        (("global_load_dword v0, v200, s[4:5]",), "uninitialized"),
        (("global_load_dword v0, v12, s[40:41]",), "uninitialized"),
        (("s_load_dword s20, s[40:41], 0x0",), "uninitialized"),
        (("s_load_dword s20, s[4:5], s40",), "uninitialized"),
        (("ds_read_b32 v0, v200",), "uninitialized"),
        (("ds_read_b32 v0, v12", "s_waitcnt lgkmcnt(0)"), "none"),
        (("ds_read_b32 v0, v12", "s_waitcnt lgkmcnt(0)", STORE0), "uninitialized"),  # LDS that nobody wrote
        (("ds_write_b32 v12, v12", "ds_read_b32 v0, v12", "s_waitcnt lgkmcnt(0)", STORE0), "none"),
        (("ds_write_b32 v12, v200", "ds_read_b32 v0, v12", "s_waitcnt lgkmcnt(0)", STORE0), "uninitialized"),
        (("ds_write_b16 v12, v12", "ds_read_b32 v0, v12", "s_waitcnt lgkmcnt(0)", STORE0), "uninitialized"),
        (("ds_write_b16 v12, v12", "ds_read_u16 v0, v12", "s_waitcnt lgkmcnt(0)", STORE0), "none"),
        (("ds_bpermute_b32 v0, v12, v200", "s_waitcnt lgkmcnt(0)", STORE0), "uninitialized"),
        (("v_mov_b32_dpp v0, v200 row_shr:1 row_mask:0xf bank_mask:0xf", STORE0), "uninitialized"),
        (("v_mov_b32_dpp v0, v12 row_shr:1 row_mask:0xf bank_mask:0xf", STORE0), "uninitialized"),  # lane 0 keeps v0
        (("v_mov_b32_dpp v0, v12 row_shr:1 row_mask:0xf bank_mask:0xf bound_ctrl:0", STORE0), "none"),
        # Half a register: the compilers build pairs in two steps.
        (("global_load_short_d16 v0, v[10:11], off", "s_waitcnt vmcnt(0)", STORE0), "uninitialized"),
        (
            (
                "global_load_short_d16 v0, v[10:11], off",
                "global_load_short_d16_hi v0, v[10:11], off",
                "s_waitcnt vmcnt(0)",
                STORE0,
            ),
            "none",
        ),
        (("v_cvt_pk_fp8_f32 v0, v12, v12", STORE0), "uninitialized"),
        (("v_cvt_pk_fp8_f32 v0, v12, v12", "v_cvt_pk_fp8_f32 v0, v12, v12 op_sel:[0,0,1]", STORE0), "none"),
        (("v_fma_mixlo_f16 v0, v12, v12, v12", "global_store_short v[10:11], v0, off"), "none"),
        (("v_fma_mixlo_f16 v0, v12, v12, v12", STORE0), "uninitialized"),
        (("v_fma_mixlo_f16 v0, v12, v12, v12", "v_fma_mixhi_f16 v0, v12, v12, v12", STORE0), "none"),
        (("global_store_byte v[10:11], v200, off",), "uninitialized"),
        # A carry goes up only: the low half of a sum needs the low halves alone.
        (("v_mov_b32_e32 v2, v12", "v_mad_u64_u32 v[0:1], s[20:21], v12, v12, v[2:3]", STORE0), "none"),
        (("v_mov_b32_e32 v3, v12", "v_mad_u64_u32 v[0:1], s[20:21], v12, v12, v[2:3]", STORE0), "uninitialized"),
        # v_pk_*_f32: each half of the result needs only the words that op_sel and op_sel_hi name.
        (("v_pk_mul_f32 v[0:1], v[12:13], v[200:201]", STORE0), "uninitialized"),
        (("v_mov_b32_e32 v200, v12", "v_pk_mul_f32 v[0:1], v[12:13], v[200:201]", STORE0), "none"),
        (("v_mov_b32_e32 v201, v12", "v_pk_mul_f32 v[0:1], v[12:13], v[200:201]", STORE0), "uninitialized"),
        (
            (
                "v_mov_b32_e32 v200, v12",
                "v_pk_mul_f32 v[0:1], v[12:13], v[200:201] op_sel_hi:[1,0]",
                "v_mov_b32_e32 v0, v1",
                STORE0,
            ),
            "none",
        ),
        (
            ("v_mov_b32_e32 v200, v12", "v_pk_mul_f32 v[0:1], v[12:13], v[200:201]", "v_mov_b32_e32 v0, v1", STORE0),
            "uninitialized",
        ),
        (("v_mfma_f32_4x4x1_16b_f32 v[0:3], v12, v200, 0", STORE0), "uninitialized"),
        (("v_mfma_f32_4x4x1_16b_f32 v[0:3], v12, v13, 0", STORE0), "none"),
    ],
)
def test_undefined_data(program: tuple[str, ...], kind: str, arch: str) -> None:
    got = undefined(arch, *program)
    assert got == kind
    if kind == "uninitialized":
        assert undefined(arch, *program, checks=3) != "uninitialized", "the check is off"


# ---- races


def race(arch: str, *program: str, waves: int = 2) -> str:
    """Two waves run the same program; s100 holds the wave's index, v12 4 * lane, v13 the same behind 256 * wave."""
    machine = Machine(arch, lds=np.zeros(1024, np.uint8), waves=waves, s={100: 0})
    machine.set(12, (np.arange(LANES) * 4).astype(U32))
    program = ("s_lshl_b32 s20, s100, 8", "v_add_u32_e32 v13, s20, v12", *program)
    result = machine.run(*program)
    assert result.kind != "race" or "since the last barrier" in result.text
    return result.kind


@pytest.mark.parametrize(
    ("program", "kind"),
    [
        (("ds_write_b32 v12, v12",), "race"),  # both write the same places
        (("ds_write_b32 v13, v12",), "none"),
        (("ds_read_b32 v0, v12",), "none"),  # both read
        (("ds_write_b32 v13, v12", "ds_read_b32 v0, v12"), "race"),  # wave 1 reads what wave 0 wrote
        (("ds_write_b32 v13, v12", "ds_read_b32 v0, v13"), "none"),
        (("ds_read_b32 v0, v12", "s_waitcnt lgkmcnt(0)", "ds_write_b32 v13, v12"), "race"),
        # Wave 1 writes what wave 0 only read.
        (("ds_read_b32 v0, v12 offset:256", "s_waitcnt lgkmcnt(0)", "ds_write_b32 v13, v12"), "race"),
        (("ds_read_u16 v0, v12 offset:256", "s_waitcnt lgkmcnt(0)", "ds_write_b16 v13, v12"), "race"),
        (("ds_read_b32 v0, v12 offset:512", "s_waitcnt lgkmcnt(0)", "ds_write_b32 v13, v12"), "none"),
        (("ds_add_u32 v12, v12",), "none"),  # atomics among themselves
        (("ds_add_u32 v12, v12", "ds_read_b32 v0, v12"), "race"),
        # Bytes of one dword: wave 0 the low half, wave 1 the high one.
        (("s_lshl_b32 s21, s100, 1", "v_add_u32_e32 v14, s21, v12", "ds_write_b16 v14, v12"), "none"),
        (("s_lshl_b32 s21, s100, 0", "v_add_u32_e32 v14, 0, v12", "ds_write_b16 v14, v12"), "race"),
        (("ds_write_b128 v15, v[4:7]",), "race"),
    ],
)
def test_races(program: tuple[str, ...], kind: str, arch: str) -> None:
    if "v15" in program[-1]:
        program = (
            "v_lshlrev_b32_e32 v15, 1, v12",
            *(f"v_mov_b32_e32 v{i}, 0" for i in range(4, 8)),
            "v_and_b32_e32 v15, 0x70, v15",
            *program,
        )
    assert race(arch, *program) == kind
    assert race(arch, *program, waves=1) == "none"


# ---- the rest


def test_unknown_instruction(arch: str) -> None:
    result = Machine(arch).run("s_rfe_b64 s[4:5]")
    assert result.kind == "unknown" and "s_rfe_b64 s[4:5]" in result.text


def test_bad_pc(arch: str) -> None:
    assert Machine(arch).run("s_branch 100").kind == "bad_pc"


def test_counters_by_class(arch: str) -> None:
    machine = Machine(arch, checks=0, lds=np.zeros(512, np.uint8))
    machine.set(12, (np.arange(LANES) * 4).astype(U32))
    result = clean(
        machine.run(
            "v_exp_f32_e32 v0, v12",
            "v_rcp_f32_e32 v0, v12",
            "v_add_f32_e32 v0, v12, v12",
            "ds_read_b32 v1, v12",
            "s_waitcnt lgkmcnt(0)",
            "s_nop 0",
            "s_mov_b32 s4, 0",
            "s_branch 0",
            "v_mfma_f32_4x4x1_16b_f32 v[0:3], v12, v12, 0",
        )
    )
    wanted = {"trans": 2, "valu": 1, "lds": 1, "wait": 2, "salu": 1, "branch": 2, "mfma": 1}
    assert {k: v for k, v in result.instructions.items() if v} == wanted
    assert result.mfma_clocks == 8 and result.bytes_moved["lds_read_bytes"] == 256
