"""The clock against documented facts: passes, latencies, bank conflicts of known degree, bandwidth, occupancy; and that
it changes nothing but the time."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
import pytest

from gfxsim import HipError, Simulator, launch
from gfxsim.clock import Instruction, Profile, causes, constants
from gfxsim.tests.exec_machine import exists, words_of
from gfxsim.tests.machine_fixtures import ARCHS, DATA

S_NOP, SLOT_WORDS = 0xBF800000, 256


@pytest.fixture(params=ARCHS)
def arch(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(autouse=True)
def sim() -> Iterator[Simulator]:
    simulator = Simulator()
    simulator.set_option("quiet", 1)
    simulator.set_option("clock", 1)
    yield simulator
    simulator.reset()
    simulator.reset_options()
    simulator.set_device(0)


def value(arch: str, name: str) -> int:
    return next(constant.value for constant in constants(arch) if constant.name == name)


def slot(arch: str, *program: str, stride: int = 4, block: int = 64) -> Profile:
    """A kernel into whose s_nop the program is put; waves have their lane in v0 and its LDS address in v1."""
    words = [word for line in program for word in words_of(arch, line) or ()]
    assert len(words) < SLOT_WORDS
    data = (DATA / arch / "clock.co").read_bytes()
    before, nops = struct.pack("<I", S_NOP | 7), struct.pack("<I", S_NOP) * SLOT_WORDS
    assert data.count(before + nops) == 1
    skip = struct.pack("<I", 0xBF820000 | SLOT_WORDS - len(words) - 1)  # s_branch over what is left
    put = struct.pack(f"<{len(words)}I", *words) + skip
    data = data.replace(before + nops, before + put + nops[len(put) :])
    launch(data, "slot", [np.zeros(256, np.uint32), stride], 1, block)
    return Profile.of(data)


def clocks(arch: str, *program: str, times: int = 8, behind: tuple[str, ...] = (), **how: int) -> float:
    """Clocks of the program, measured between running it `times` and twice as often."""
    once, twice = (slot(arch, *program * n, *behind, **how).cycles for n in (times, 2 * times))
    return (twice - once) / times


#: Passes by the ISA documents, 7.2 and 7.3 (4 clocks each): gfx942, gfx950.
PASSES = {
    "v_mfma_f32_16x16x16_bf16 v[0:3], v[8:9], v[10:11], v[0:3]": (4, 4),
    "v_mfma_f32_32x32x8_bf16 v[0:15], v[16:17], v[18:19], v[0:15]": (8, 8),
    "v_mfma_f32_4x4x4_16b_bf16 v[0:3], v[8:9], v[10:11], v[0:3]": (2, 2),
    "v_mfma_f32_16x16x4_f32 v[0:3], v8, v9, v[0:3]": (8, 8),
    "v_mfma_f32_16x16x32_fp8_fp8 v[4:7], v[8:9], v[10:11], v[4:7]": (4, 4),
    "v_mfma_f32_16x16x32_bf16 v[4:7], v[8:11], v[12:15], v[4:7]": (0, 4),
    "v_mfma_f32_16x16x128_f8f6f4 v[4:7], v[8:15], v[16:23], v[4:7]": (0, 8),
    "v_mfma_f32_16x16x128_f8f6f4 v[4:7], v[8:11], v[16:19], v[4:7] cbsz:4 blgp:4": (0, 4),
}


@pytest.mark.parametrize("number", range(len(PASSES)))
def test_passes(number: int, arch: str) -> None:
    text, passes = list(PASSES.items())[number]
    count = dict(zip(ARCHS, passes, strict=True))[arch]
    assert exists(arch, text) == (count > 0)
    if count:
        assert clocks(arch, text) == 4 * count  # one behind the other on the same accumulators
        assert slot(arch, *[text] * 8).matrix_clocks == 32 * count


MFMA, DEPENDENT, OTHER = next(iter(PASSES)), "v_add_f32_e32 v5, v3, v3", "v_add_f32_e32 v5, v6, v6"


def test_latencies(arch: str) -> None:
    issue = value(arch, "issue")
    assert clocks(arch, OTHER) == clocks(arch, "v_add_f32_e32 v5, v5, v5") == issue == 4
    assert clocks(arch, "v_exp_f32_e32 v3, v4") == 16
    assert clocks(arch, "s_nop 0") == 4
    assert clocks(arch, "s_nop 7") == 32
    assert clocks(arch, "s_sleep 1") == 64  # "about 64 * N clocks"
    assert clocks(arch, "s_branch 1", "s_nop 0") == 32  # LLVM's scheduling model: 8 units of 4
    assert clocks(arch, "s_barrier") == 4 + 16
    assert clocks(arch, MFMA, OTHER, OTHER) == 16  # the VALU works beside the matrix core
    # Passes, 3 wait states (7.5 of the ISA documents), and the VALU itself, on which the next one waits.
    assert clocks(arch, MFMA, DEPENDENT) == 16 + 16 + 4
    assert clocks(arch, "v_exp_f32_e32 v3, v4", DEPENDENT) == 16 + 4
    assert clocks(arch, MFMA, block=256) == 16  # a SIMD unit each
    assert clocks(arch, MFMA, block=512 // 2, times=4) == 16


def lds(profile: Profile, name: str) -> Instruction:
    """The last one of that name: the program's."""
    return [i for i in profile.instructions if i.text.startswith(name)][-1]


@pytest.mark.parametrize("stride", [0, 4, 8, 16, 32, 64, 128])
def test_bank_conflicts(stride: int, arch: str) -> None:
    """Lanes `stride` bytes apart, two phases of 32 lanes on 32 banks: as many conflicts as lanes share a bank."""
    profile = slot(arch, "ds_read_b32 v2, v1", stride=stride)
    degree = max(stride // 4, 1)
    read = lds(profile, "ds_read_b32")
    assert read.issues == 1 and read.lds_clocks == 2 * degree and read.lds_conflict_clocks == 2 * (degree - 1)


def test_wide_reads(arch: str) -> None:
    """16 bytes of a lane, one lane behind the other, meet no bank twice; rows of 64 dwords do, all lanes of a phase. 8
    phases on 32 banks; reads on gfx950: 4 on 64."""
    phases = {"gfx942": 8, "gfx950": 4}[arch]
    for stride, degree in ((16, 1), (256, 64 // phases)):
        read = lds(slot(arch, "ds_read_b128 v[4:7], v1", stride=stride), "ds_read_b128")
        assert read.lds_clocks == phases * degree and read.lds_conflict_clocks == phases * (degree - 1)
    write = lds(slot(arch, "ds_write_b128 v1, v[4:7]", stride=16), "ds_write_b128")
    assert write.lds_clocks == 8 and write.lds_conflict_clocks == 0


#: v1 = 16 * (lane % 4) + 64 * (lane / 16 % 2) + 128 * (lane / 4)
ROWS_OF_FOUR = (
    "v_lshrrev_b32_e32 v2, 2, v0",
    "v_lshlrev_b32_e32 v2, 7, v2",
    "v_and_b32_e32 v3, 3, v0",
    "v_lshl_add_u32 v2, v3, 4, v2",
    "v_lshrrev_b32_e32 v3, 4, v0",
    "v_and_b32_e32 v3, 1, v3",
    "v_lshl_add_u32 v1, v3, 6, v2",
)


def test_the_order_of_lanes_in_wide_reads(arch: str) -> None:
    """Lanes 0 to 3 have the banks of lanes 8 to 11, on gfx942 of 4 to 7 as well: neighbours would meet. But they are
    read with lanes 20 to 23, and on gfx950 with 12 to 15 and 24 to 27 besides."""
    read = lds(slot(arch, *ROWS_OF_FOUR, "ds_read_b128 v[4:7], v1"), "ds_read_b128")
    assert read.lds_clocks == {"gfx942": 8, "gfx950": 4}[arch] and read.lds_conflict_clocks == 0


def test_waits_and_causes(arch: str, sim: Simulator) -> None:
    profile = slot(arch, "ds_read_b32 v2, v1", "s_waitcnt lgkmcnt(0)")
    wait = [i for i in profile.instructions if i.text == "s_waitcnt lgkmcnt(0)"][-2]
    assert wait.stalls == {"wait for lds": 64}  # to the next issue slot; Triton measured 69 clocks from the read on
    launch(DATA / arch / "clock.co", "uneven", [np.zeros(128, np.float32), 1000], 1, 128)
    profile = Profile.of(DATA / arch / "clock.co")
    behind = max(profile.instructions, key=lambda i: i.stalls.get("barrier", 0))
    assert 1000 * 4 < behind.stalls["barrier"] < profile.cycles
    waited = [span for span in profile.spans if span.kind == "barrier"]
    assert max(span.end - span.begin for span in waited) > 4000 and {span.wave for span in profile.spans} == {0, 1}
    assert set(profile.stalls) == set(causes())


#: Bytes a second of streams: 80 % of the data sheets' peaks, as measured (clock.h).
STREAM = {"gfx942": 0.8 * 5.3e12, "gfx950": 0.8 * 8e12}


@pytest.mark.parametrize("rounds", [4, 8])
def test_streaming_bandwidth(rounds: int, arch: str, sim: Simulator) -> None:
    """A copy that fills the chip comes to the achievable bandwidth, within what its beginning and end take."""
    units = value(arch, "units")
    row = units * 4 * 256
    source = np.zeros(row * rounds * 4, np.uint32)
    sim.set_option("check_uninitialized", 0)
    launch(DATA / arch / "clock.co", "copy", [source, np.zeros_like(source), rounds, row], units * 4, 256)
    profile = Profile.of(DATA / arch / "clock.co")
    least, us = 2e6 * source.nbytes / STREAM[arch], profile.us - value(arch, "launch_ns") / 1000
    assert 0.9 * least <= us <= least + 4 * value(arch, "memory_latency") / BUSY_MHZ[arch]
    assert profile.active_units == units and profile.workgroups_resident >= 4


#: The engine's peak clock, and that with all units at work.
PEAK_MHZ, BUSY_MHZ = {"gfx942": 2100, "gfx950": 2400}, {"gfx942": 1764, "gfx950": 2016}


def test_the_clock_of_a_busy_chip(arch: str, sim: Simulator) -> None:
    """One unit at work has the peak clock, but for its part of what all lose together."""
    units = value(arch, "units")
    for active in (1, units // 2, units):
        sim.set_option("clock_active", active)
        profile = slot(arch, MFMA)
        mhz = profile.cycles / (profile.us - value(arch, "launch_ns") / 1000)
        assert mhz == pytest.approx(PEAK_MHZ[arch] - (PEAK_MHZ[arch] - BUSY_MHZ[arch]) * active / units, rel=1e-6)


#: The code is memory that every program can read: its address, and a line of it.
CODE = ("s_getpc_b64 s[90:91]", "v_mov_b32_e32 v2, 0")
LOAD, SCALAR_LOAD = "global_load_dword v3, v2, s[90:91] offset:2048", "s_load_dword s92, s[90:91], 0x800"


def waited(profile: Profile, cause: str) -> list[int]:
    """Clocks of each instruction that waited for that, in the order of the program."""
    return [i.stalls[cause] for i in profile.instructions if cause in i.stalls]


@pytest.mark.parametrize(("near_by", "name"), [(0, "memory_latency"), (1, "near_latency")])
def test_latencies_of_memory(near_by: int, name: str, arch: str, sim: Simulator) -> None:
    """The first access to a line goes to memory, or to the Infinity Cache, the second finds it in L1; scalar ones have
    a cache of their own."""
    sim.set_option("clock_near", near_by)
    program = (*CODE, *(LOAD, "s_waitcnt vmcnt(0)") * 2, *(SCALAR_LOAD, "s_waitcnt lgkmcnt(0)") * 2)
    profile = slot(arch, *program)
    first, second = waited(profile, "wait for memory")[-2:]
    from_l2, near = waited(profile, "wait for lds")[-2:]
    slot_behind = 4  # the wait is not issued with the load
    assert first + slot_behind == value(arch, name) and second + slot_behind == value(arch, "l1_latency")
    assert (near + slot_behind, from_l2 + slot_behind) == (20, 320)  # LLVM's scheduling model, in units of 4
    assert value(arch, "l1_latency") < 320 < value(arch, "near_latency") < value(arch, "memory_latency")


def again(arch: str, kib: int, passes: int, workgroups: int = 1, block: int = 64) -> Profile:
    source, out = np.zeros(kib << 8, np.uint32), np.zeros(workgroups << 12, np.uint32)
    launch(DATA / arch / "clock.co", "again", [source, out, kib, passes], workgroups, block)
    return Profile.of(DATA / arch / "clock.co")


@pytest.mark.parametrize(
    ("kib", "workgroups", "l1", "l2"),
    [(16, 1, 1, 0), (64, 1, 0, 1), (3072, 1, 0, 1), (6144, 1, 0, 0), (1536, 16, 0, 1), (3072, 16, 0, 0)],
)
def test_sizes_of_caches(kib: int, workgroups: int, l1: int, l2: int, arch: str) -> None:
    """What is read a second time: L1 holds 32 KiB; the L2 of one of 8 dies 4 MiB, which its units share."""
    loads = [i for i in again(arch, kib, 2, workgroups).instructions if i.lines and "load" in i.text]
    lines, hits = sum(i.lines for i in loads), [sum(getattr(i, f"{name}_hits") for i in loads) for name in ("l1", "l2")]
    assert lines == 2 * 8 * kib and hits == [l1 * 8 * kib, l2 * 8 * kib]


def test_bandwidth_of_l1(arch: str) -> None:
    """64 bytes a clock (white paper of CDNA3): 16 clocks for a load of 1 KiB, of which 16 waves have some each."""
    once, twice = (again(arch, 16, passes, block=1024).cycles for passes in (8, 16))
    assert (twice - once) / (8 * 16 * 16) == pytest.approx(17, abs=1)


def test_the_chips(arch: str) -> None:
    """Compute units of the data sheets."""
    assert value(arch, "units") == {"gfx942": 304, "gfx950": 256}[arch]


def test_occupancy(arch: str) -> None:
    """Registers that the kernel is given (clang gives more where LDS limits it anyway), and LDS: 32 KiB make two
    workgroups on gfx942, five on gfx950."""
    profile, workgroups = slot(arch, "s_nop 0", block=256), {"gfx942": 2, "gfx950": 5}[arch]
    assert profile.waves_per_simd == profile.workgroups_resident == workgroups
    launch(DATA / arch / "clock.co", "uneven", [np.zeros(128, np.float32), 1], 1, 128)
    profile = Profile.of(DATA / arch / "clock.co")
    assert profile.waves_per_simd == 8 and profile.workgroups_resident == 16
    launch(DATA / arch / "clock.co", "uneven", [np.zeros(128, np.float32), 1], 1, 128, lds=32 << 10)
    assert Profile.of(DATA / arch / "clock.co").workgroups_resident == workgroups
    alone = slot(arch, MFMA, MFMA, block=256).cycles
    assert slot(arch, MFMA, MFMA, block=64).cycles <= alone


def test_nothing_but_the_time_changes(arch: str, sim: Simulator) -> None:
    out, records = [], []
    for clock in (0, 1, 3):
        sim.set_option("clock", clock)
        out.append(np.zeros(2048, np.float32))
        records.append(launch(DATA / arch / "clean.co", "gemm_loop", [out[-1], 10], 8, 256))
    assert np.array_equal(out[0], out[1]) and np.array_equal(out[0], out[2])
    assert records[0] == records[1] == records[2]
    assert Profile.of(DATA / arch / "clean.co").units == 3
    with pytest.raises(HipError):  # reports come as ever
        launch(DATA / arch / "planted.co", "swap_rows", [np.zeros(128, np.uint32), 1], 1, 128)


def test_constants_have_sources(arch: str) -> None:
    found = constants(arch)
    assert all(constant.source and constant.value > 0 for constant in found)
    assert sum(constant.source == "fitted" for constant in found) <= 5
