"""Loads from memory straight to LDS, past the registers: where the bytes go, and what the checks make of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gfxsim import HipError, Simulator, launch
from gfxsim.tests.exec_machine import ALL_LANES, ARCHS, LANES, M0, Machine, exists, memory
from gfxsim.tests.exec_memory import LOADS, U32, addresses, clean, noise, set_pair

DATA = Path(__file__).resolve().parents[1] / "data"
ENDINGS = {name: (size, signed) for name, size, signed, half in LOADS if half is None and name != "dwordx2"}
FORMS = {
    "global": "global_load_lds_{} v[10:11], off offset:8",
    "buffer": "buffer_load_{} v12, s[8:11], 0 offen offset:8 lds",
    "scratch": "scratch_load_lds_{} v13, off offset:8",
}
EXISTING = [
    (arch, form, ending)
    for arch in ARCHS
    for form, text in FORMS.items()
    for ending in ENDINGS
    if not (form == "scratch" and ending.startswith("dwordx")) and exists(arch, text.format(ending))
]


@pytest.fixture(params=ARCHS)
def arch(request: pytest.FixtureRequest) -> str:
    return request.param


def spacing(size: int) -> int:
    """Bytes and shorts take a dword; dwordx3 leaves the fourth of its lane's dwords alone."""
    return 16 if size >= 12 else 4


# ---- where the bytes go


@pytest.mark.parametrize(("arch", "form", "ending"), EXISTING)
def test_loads_to_lds(form: str, ending: str, arch: str) -> None:
    size, signed = ENDINGS[ending]
    data = noise(64 * 20 + 64)
    with memory(data) as base:
        machine = Machine(arch, lds=np.zeros(2048, np.uint8), s={M0: 32}, exec=ALL_LANES & ~(1 << 9), scratch_bytes=64)
        machine.set(10, addresses(base, 20))
        machine.set(12, (np.arange(LANES) * 20).astype(U32))
        machine.set(13, np.zeros(LANES, U32))
        set_pair(machine, 8, base)
        machine.s.update({10: data.nbytes, 11: 0})
        result = clean(machine.run(FORMS[form].format(ending), "s_waitcnt vmcnt(0)"))
    want = np.zeros(2048, np.uint8)
    for lane in range(LANES):
        if lane != 9 and form != "scratch":
            part = data[lane * 20 + 8 : lane * 20 + 8 + size].tobytes()
            if size < 4:
                part = (int.from_bytes(part, "little", signed=signed) & 0xFFFFFFFF).to_bytes(4, "little")
            place = 40 + lane * spacing(size)
            want[place : place + len(part)] = np.frombuffer(part, np.uint8)
    assert np.array_equal(result.lds, want)
    assert result.bytes_moved["lds_write_bytes"] == 63 * max(size, 4)


WIDTHS = [(arch, form, ending) for arch, form, ending in EXISTING if ending.startswith("dword") and form != "scratch"]


def run(arch: str, m0: int | None, *program: str, lds: int = 2048, defined: bool = True) -> str:
    """One wave of which v[10:11] and v12 address 64 times 16 bytes, v14 and v[16:17] the LDS from 0 on; the report."""
    data = np.zeros(4 * LANES * 4 + 64, U32)
    with memory(data) as base:
        machine = Machine(arch, lds=np.zeros(lds, np.uint8), lds_defined=defined, s={} if m0 is None else {M0: m0})
        machine.set(10, addresses(base, 16))
        machine.set(12, (np.arange(LANES) * 16).astype(U32))
        machine.set(14, (np.arange(LANES) * 4).astype(U32))
        machine.set(15, (np.arange(LANES) * 16).astype(U32))
        machine.set(16, np.zeros(LANES, U32))
        machine.set(30, addresses(base + 4 * LANES * 4 * 3, 4))
        set_pair(machine, 8, base)
        machine.s.update({10: data.nbytes, 11: 0})
        return machine.run(*program).kind


@pytest.mark.parametrize(("arch", "form", "ending"), WIDTHS)
def test_bounds_and_alignment(form: str, ending: str, arch: str) -> None:
    """Any dword will do, also for dwordx4; offset:8 counts in LDS, too."""
    size = ENDINGS[ending][0]
    span, text = (LANES - 1) * spacing(size) + size + 8, FORMS[form].format(ending)
    assert [run(arch, m0, text) for m0 in (0, 4, 8, 12, 2048 - span)] == ["none"] * 5
    assert [run(arch, m0, text) for m0 in (2048 - span + 4, 2048, 0x3FFFC)] == ["lds_bounds"] * 3
    assert [run(arch, m0, text) for m0 in (1, 2, 3, 6)] == ["misaligned"] * 4
    assert run(arch, None, text) == "uninitialized"


@pytest.mark.parametrize(("arch", "form", "ending"), WIDTHS)
def test_bits_of_m0(form: str, ending: str, arch: str) -> None:
    """18 count, of a buffer on gfx942 16; the others are somebody else's."""
    text = FORMS[form].format(ending)
    assert run(arch, 0x40000, text) == "none"
    assert run(arch, 0x10000, text) == ("none" if (arch, form) == ("gfx942", "buffer") else "lds_bounds")


# ---- what the checks make of them

LOAD = "global_load_lds_{} v[10:11], off"
READ, WRITE = "ds_read_b32 v20, v14", "ds_write_b32 v14, v16"
OTHER = "global_load_dword v21, v[10:11], off"
ORDINARY_STORE = "global_store_dword v[30:31], v20, off"


@pytest.mark.parametrize(("arch", "ending"), [(a, e) for a, f, e in WIDTHS if f == "global"])
@pytest.mark.parametrize(
    ("program", "kind"),
    [
        ((LOAD, "s_waitcnt vmcnt(0)", READ), "none"),
        ((LOAD, READ), "wait"),
        ((LOAD, "s_waitcnt lgkmcnt(0)", READ), "wait"),  # the other counter
        ((LOAD, WRITE), "wait"),
        ((LOAD, LOAD), "wait"),  # two of them to the same place
        ((LOAD, "ds_add_u32 v14, v16"), "wait"),
        ((LOAD, "ds_read_b128 v[20:23], v15"), "wait"),
        ((LOAD, "ds_read_u8 v20, v16"), "wait"),
        ((LOAD, OTHER, "s_waitcnt vmcnt(1)", READ), "none"),  # they return in order
        ((OTHER, LOAD, "s_waitcnt vmcnt(1)", READ), "wait"),
        ((LOAD, "ds_read_b32 v20, v14 offset:1024"), "none"),  # bytes that it does not write
        # It overwrites what an access of its own wave, not waited for, may still read or write.
        ((READ, LOAD, "s_waitcnt vmcnt(0)"), "wait"),
        ((WRITE, LOAD, "s_waitcnt vmcnt(0)"), "wait"),
        ((READ, "s_waitcnt vmcnt(0)", LOAD), "wait"),
        ((READ, "s_waitcnt lgkmcnt(0)", LOAD), "none"),
        ((READ, "ds_read_b32 v22, v14 offset:1024", "s_waitcnt lgkmcnt(1)", LOAD), "none"),
        (("ds_read_b32 v22, v14 offset:1024", READ, "s_waitcnt lgkmcnt(1)", LOAD), "wait"),
        (("ds_read_b32 v22, v14 offset:1024", LOAD), "none"),
        # Two loads, the second behind the first.
        ((LOAD, "s_movk_i32 m0, 0x400", LOAD, "s_waitcnt vmcnt(1)", READ), "none"),
        ((LOAD, "s_movk_i32 m0, 0x400", LOAD, "s_waitcnt vmcnt(1)", "ds_read_b32 v20, v14 offset:1024"), "wait"),
    ],
)
def test_waits(program: tuple[str, ...], kind: str, ending: str, arch: str) -> None:
    assert run(arch, 0, *(text.format(ending) for text in program)) == kind


def test_waits_for_transposed_reads() -> None:
    load, read = LOAD.format("dwordx4"), "ds_read_b64_tr_b16 v[20:21], v15"
    assert run("gfx950", 0, load, read) == "wait"
    assert run("gfx950", 0, load, "s_waitcnt vmcnt(0)", read) == "none"


def test_a_lane_that_is_off_writes_nothing(arch: str) -> None:
    load, wait, done = LOAD.format("dword"), "s_waitcnt vmcnt(0)", "s_waitcnt lgkmcnt(0)"
    half = ("s_mov_b64 exec, 0xff", load, "s_mov_b64 exec, -1")
    assert run(arch, 0, *half, READ) == "wait"
    assert run(arch, 0, *half, "ds_read_b32 v20, v14 offset:32") == "none"
    assert run(arch, 0, *half, wait, READ, done, ORDINARY_STORE) == "none"
    assert run(arch, 0, *half, wait, READ, done, ORDINARY_STORE, defined=False) == "uninitialized"
    assert run(arch, 0, load, wait, READ, done, ORDINARY_STORE, defined=False) == "none"


@pytest.fixture
def sim() -> Iterator[Simulator]:
    simulator = Simulator()
    simulator.set_option("quiet", 1)
    yield simulator
    simulator.reset()
    simulator.reset_options()
    simulator.set_device(0)


FAULTS = {  # of the kernel exchange_rows: its number, and what is reported, in one order of the waves or another
    "correct": (0, set()),
    "wait behind the barrier": (1, {"missing wait", "LDS race"}),
    "no barrier": (2, {"LDS race", "missing wait"}),
    "no wait": (3, {"missing wait"}),
    "overwrites": (4, {"LDS race"}),
    "out of bounds": (5, {"LDS bounds"}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_two_waves(sim: Simulator, fault: str, arch: str) -> None:
    """Each fetches a row to LDS and reads the other's: every fault is found in every order."""
    number, kinds = FAULTS[fault]
    row = 64 if arch == "gfx942" else 256
    rows, seen = np.arange(2 * row, dtype=U32).reshape(2, row), set()
    for seed, quantum in ((0, 4096), (1, 4096), (0, 1), (1, 1), (2, 1), (3, 1)):
        sim.set_option("seed", seed)
        sim.set_option("quantum", quantum)
        out = np.zeros((2, row), U32)
        try:
            launch(DATA / arch / "planted.co", "exchange_rows", [rows, out, number], 1, 128)
            assert np.array_equal(out, rows[::-1]) and not kinds
        except HipError as error:
            assert error.report is not None and "exchange_rows" in error.report.text
            seen.add(error.report.kind)
            sim.reset()
    assert seen == kinds
