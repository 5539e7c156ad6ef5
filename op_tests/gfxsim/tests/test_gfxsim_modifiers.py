"""What the encodings put around an operation: DPP, SDWA, abs, neg, op_sel, constants, the float mode."""

from __future__ import annotations

import random

import numpy as np
import pytest

from gfxsim.tests.exec_cases import F16, F32, F64, U16, U32
from gfxsim.tests.exec_machine import ALL_LANES, ARCHS, LANES, Machine
from gfxsim.tests.exec_values import active, assert_same, floats, inputs, packed_reference


@pytest.fixture(params=ARCHS)
def arch(request: pytest.FixtureRequest) -> str:
    return request.param


def dpp_source(control: str, lane: int) -> int | None:
    """From the ISA's description of each control; None: no source."""
    row, place = lane // 16 * 16, lane % 16
    name, _, argument = control.partition(":")
    if name == "quad_perm":
        return lane // 4 * 4 + [int(x) for x in argument.strip("[]").split(",")][lane % 4]
    amount = int(argument) if argument else 0
    match name:
        case "row_shl":
            return lane + amount if place + amount < 16 else None
        case "row_shr":
            return lane - amount if place >= amount else None
        case "row_ror":
            return row + (place - amount) % 16
        case "row_newbcast":
            return row + amount
        case "row_mirror":
            return row + 15 - place
        case "row_half_mirror":
            return lane // 8 * 8 + 7 - lane % 8
        case "wave_shl":
            return lane + 1 if lane < 63 else None
        case "wave_rol":
            return (lane + 1) % 64
        case "wave_shr":
            return lane - 1 if lane else None
        case "wave_ror":
            return (lane - 1) % 64
        case "row_bcast":
            return (row - 1 if row else None) if amount == 15 else (31 if lane >= 32 else None)
    raise KeyError(control)


DPP = ("quad_perm:[1,0,3,2]", "quad_perm:[2,2,0,1]", "row_shl:1", "row_shl:15", "row_shr:3", "row_ror:5", "row_mirror",
       "row_half_mirror", "wave_shl:1", "wave_rol:1", "wave_shr:1", "wave_ror:1", "row_bcast:15", "row_bcast:31",
       "row_newbcast:6")  # fmt: skip


@pytest.mark.parametrize("control", DPP)
@pytest.mark.parametrize("masks", [("0xf", "0xf"), ("0xa", "0xf"), ("0xf", "0x5")])
@pytest.mark.parametrize("bound", [False, True])
def test_dpp(control: str, masks: tuple[str, str], bound: bool, arch: str) -> None:
    rng = np.random.default_rng(15)
    text = f"v_mov_b32_dpp v0, v2 {control} row_mask:{masks[0]} bank_mask:{masks[1]}" + (
        " bound_ctrl:0" if bound else ""
    )
    for mask in (ALL_LANES, int(rng.integers(1, 1 << 63))):
        machine = Machine(arch, exec=mask)
        old, source = inputs(U32, rng), inputs(U32, rng)
        machine.set(0, old)
        machine.set(2, source)
        result = machine.run(text)
        want = old.copy()
        for lane in range(LANES):
            enabled = int(masks[0], 16) >> lane // 16 & 1 and int(masks[1], 16) >> lane // 4 % 4 & 1
            if not (mask >> lane & 1) or not enabled:
                continue
            origin = dpp_source(control, lane)
            if origin is not None and mask >> origin & 1:
                want[lane] = source[origin]
            elif bound:
                want[lane] = 0
        assert np.array_equal(result.v[0], want)


PARTS = {
    "BYTE_0": (0, 8),
    "BYTE_1": (8, 8),
    "BYTE_2": (16, 8),
    "BYTE_3": (24, 8),
    "WORD_0": (0, 16),
    "WORD_1": (16, 16),
    "DWORD": (0, 32),
}


def select(value: int, part: str, extend: bool) -> int:
    shift, width = PARTS[part]
    field = value >> shift & ((1 << width) - 1)
    return (field - (1 << width)) & 0xFFFFFFFF if extend and field >> (width - 1) else field


@pytest.mark.parametrize("destination", PARTS)
@pytest.mark.parametrize("unused", ["UNUSED_PAD", "UNUSED_SEXT", "UNUSED_PRESERVE"])
def test_sdwa(destination: str, unused: str, arch: str) -> None:
    rng, choices = np.random.default_rng(16), random.Random(f"{destination}{unused}")
    for _ in range(3):
        first, second = choices.choice(list(PARTS)), choices.choice(list(PARTS))
        extend = choices.random() < 0.5
        a_text = "sext(v2)" if extend else "v2"
        selections = f"dst_sel:{destination} dst_unused:{unused} src0_sel:{first} src1_sel:{second}"
        text = f"v_add_u32_sdwa v0, {a_text}, v4 {selections}"
        machine = Machine(arch)
        old, a, b = inputs(U32, rng), inputs(U32, rng), inputs(U32, rng)
        for reg, value in ((0, old), (2, a), (4, b)):
            machine.set(reg, value)
        result = machine.run(text)
        shift, width = PARTS[destination]
        for lane in range(LANES):
            total = select(int(a[lane]), first, extend) + select(int(b[lane]), second, False)
            field = total & ((1 << width) - 1)
            want = field << shift
            if unused == "UNUSED_PRESERVE":
                want |= int(old[lane]) & ~(((1 << width) - 1) << shift)
            elif unused == "UNUSED_SEXT" and field >> (width - 1):
                want |= 0xFFFFFFFF << (shift + width) & 0xFFFFFFFF
            assert int(result.v[0][lane]) == want & 0xFFFFFFFF


def test_abs_neg_and_op_sel(arch: str) -> None:
    rng = np.random.default_rng(17)
    machine = Machine(arch)
    a, b = floats(F32, rng), floats(F32, rng)
    machine.set(2, a)
    machine.set(4, b)
    with np.errstate(all="ignore"):
        assert_same(
            machine.values(machine.run("v_add_f32_e64 v0, -|v2|, v4"), 0, F32), -np.abs(a) + b, F32, active(ALL_LANES)
        )
        assert_same(
            machine.values(machine.run("v_add_f32_e64 v0, |v2|, -v4"), 0, F32), np.abs(a) - b, F32, active(ALL_LANES)
        )
        low_high = [np.stack([floats(F16, rng), floats(F16, rng)], 1) for _ in range(3)]
        for i in range(3):
            machine.set(2 + i, np.ascontiguousarray(low_high[i]))
        old = inputs(U32, rng)
        machine.set(0, old)
        result = machine.run("v_fma_f16 v0, v2, -v3, v4 op_sel:[1,0,1,1]")
        _, fma = packed_reference("v_fma_f16", F16)
        want = fma(low_high[0][:, 1].copy(), -low_high[1][:, 0], low_high[2][:, 1].copy())
        assert_same((result.v[0] >> 16).astype(U16).view(F16), want, F16, active(ALL_LANES))
        assert np.array_equal(result.v[0] & 0xFFFF, old & 0xFFFF), "the low half stays"


def test_constants(arch: str) -> None:
    """Inline constants are what the width of the operand makes of them; a literal is 32 bits."""
    machine = Machine(arch, s={4: 0x40490FDB, 6: 7, 7: 9})
    machine.set(2, np.arange(LANES, dtype=F32))
    ones = machine.values(machine.run("v_add_f32_e32 v0, 1.0, v2"), 0, F32)
    assert np.array_equal(ones, np.arange(LANES, dtype=F32) + 1)
    assert np.allclose(machine.values(machine.run("v_mul_f32_e32 v0, s4, v2"), 0, F32), np.arange(LANES) * F32(np.pi))
    assert machine.run("v_mov_b32_e32 v0, -16").v[0][5] == 0xFFFFFFF0
    assert machine.run("v_mov_b32_e32 v0, 0x12345678").v[0][5] == 0x12345678
    machine.set(2, np.arange(LANES).astype(F16))
    assert np.array_equal(
        machine.values(machine.run("v_add_f16_e32 v0, 0.5, v2"), 0, F16), np.arange(LANES).astype(F16) + F16(0.5)
    )
    machine.set(2, np.arange(LANES).astype(F64))
    half = machine.values(machine.run("v_add_f64 v[0:1], v[2:3], 0.5"), 0, F64)
    assert np.array_equal(half, np.arange(LANES) + 0.5)
    result = machine.run("v_mov_b64_e32 v[0:1], s[6:7]")
    assert (result.v[0][0], result.v[1][0]) == (7, 9)


def test_flushing_mode(arch: str) -> None:
    """MODE's fp32 denormal bits: 0 flushes what comes in and out."""
    tiny = np.full(LANES, 2.0**-140, F32)
    for mode, kept in ((0xF0, True), (0xC0, False)):
        machine = Machine(arch, mode=mode)
        machine.set(2, tiny)
        machine.set(4, np.full(LANES, 2.0**-100, F32))
        got = machine.values(machine.run("v_add_f32_e32 v0, v2, v2"), 0, F32)
        assert (got == tiny * 2).all() if kept else (got == 0).all()
        product = machine.values(machine.run("v_mul_f32_e32 v0, 0x2b800000, v4"), 0, F32)
        assert (product != 0).all() == kept
