"""The check for races in LDS: two waves, one after the other, without a barrier between them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from gfxsim import HipError, Simulator, launch
from gfxsim.tests.exec_machine import ARCHS, LANES, Machine
from gfxsim.tests.exec_memory import U32
from gfxsim.tests.machine_fixtures import DATA


@pytest.fixture(params=ARCHS)
def arch(request: pytest.FixtureRequest) -> str:
    return request.param


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


# ---- a barrier does not wait for LDS: what lgkmcnt has not covered takes place behind it, too

FAULTS = {  # of the kernel swap_rows: its number, and the instruction that was not waited for
    "all waited": (0, None),
    "write": (1, "wrote"),
    "read": (2, "read"),
    "write over two barriers": (3, "wrote"),
    "write, the other one waited for": (4, "wrote"),
    "another write": (5, None),
}


@pytest.fixture
def sim() -> Iterator[Simulator]:
    simulator = Simulator()
    simulator.set_option("quiet", 1)
    yield simulator
    simulator.reset()
    simulator.reset_options()
    simulator.set_device(0)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("seed", "quantum"), [(0, 4096), (1, 4096), (0, 1), (2, 1), (3, 1)])
def test_uses_under_way(sim: Simulator, fault: str, seed: int, quantum: int, arch: str) -> None:
    """Two waves exchange rows in LDS and overwrite them; found in every order of the waves."""
    number, did = FAULTS[fault]
    sim.set_option("seed", seed)
    sim.set_option("quantum", quantum)
    out = np.zeros(128, U32)

    def run() -> None:
        launch(DATA / arch / "planted.co", "swap_rows", [out, number], 1, 128)

    if did is None:
        run()
        assert np.array_equal(out, np.roll(np.arange(128), 64))
        return
    with pytest.raises(HipError) as raised:
        run()
    assert raised.value.report is not None and raised.value.report.kind == "missing wait"
    assert f"{did} before the barrier, at code+0x" in raised.value.report.text
    assert "without a wait on lgkmcnt" in raised.value.report.text
    sim.reset()
    sim.set_option("check_waits", 0)
    run()


# ---- any accesses, against a model of two sets of bytes

LDS = 8192
ACCESSES = {  # bytes, kind
    "ds_read_u8 v0, v20": (1, "read"),
    "ds_read_b32 v0, v20": (4, "read"),
    "ds_read_b128 v[0:3], v20": (16, "read"),
    "ds_write_b8 v20, v1": (1, "write"),
    "ds_write_b32 v20, v1": (4, "write"),
    "ds_write_b128 v20, v[4:7]": (16, "write"),
    "ds_add_u32 v20, v1": (4, "atomic"),
}


def random_addresses(rng: np.random.Generator) -> np.ndarray:
    """Multiples of 16 in a part of LDS: in order, or not."""
    first = int(rng.integers(0, LDS // 32)) * 16
    places = np.arange(LANES) if rng.random() < 0.5 else rng.integers(0, 128, LANES)
    return ((first + places * 16) % (LDS // 2)).astype(U32)


@pytest.mark.parametrize("seed", range(100))
def test_any_accesses(seed: int, arch: str) -> None:
    """Both waves do the same at A + index * B. Wave 1 races if it meets what wave 0 did; both atomic is no race."""
    rng = np.random.default_rng(seed)
    machine = Machine(arch, lds=np.zeros(LDS, np.uint8), waves=2, s={100: 0})
    starts = [random_addresses(rng) for _ in range(4)]
    steps = [np.full(LANES, step, U32) for step in (0, 16, 512, LDS // 2)]
    for i in range(4):
        machine.set(10 + i, starts[i])
        machine.set(14 + i, steps[i])
    for reg in (1, 4, 5, 6, 7):
        machine.set(reg, np.zeros(LANES, U32))
    program, done, races = [], [], False
    likely = [0.05, 0.15, 0.3, 0.5] if seed % 2 else [0.01, 0.01, 0.08, 0.9]
    count = int(rng.integers(1, 9))
    for turn in range(count):
        only = "read" if seed % 3 == 0 and turn < count - 1 else ""  # many reads, and a write at the end
        choices = [text for text, (_, kind) in ACCESSES.items() if only in ("", kind)]
        a, b, text = rng.integers(0, 4), rng.choice(4, p=likely), rng.choice(choices)
        program += [f"v_mul_lo_u32 v20, v{14 + b}, s100", f"v_add_u32_e32 v20, v20, v{10 + a}", str(text)]
        program.append("s_waitcnt lgkmcnt(0)")
        done.append((starts[a], steps[b], *ACCESSES[text]))
    before: dict[str, set[int]] = {"read": set(), "write": set(), "atomic": set()}
    for wave in (0, 1):
        for start, step, size, kind in done:
            touched = {int(x) + i for x in start + np.uint32(wave) * step for i in range(size)}
            if wave == 0:
                before[kind] |= touched
            else:
                others = [k for k in before if k != kind or k == "write"]
                races |= any(touched & before[k] for k in others)
    assert (machine.run(*program).kind == "race") == races
