"""Packed math and mixed precision."""

from __future__ import annotations

import numpy as np
import pytest

from gfxsim.tests.exec_cases import F16, F32, I16, U16, U32
from gfxsim.tests.exec_machine import ALL_LANES, ARCHS, LANES, Machine
from gfxsim.tests.exec_values import active, assert_same, floats, inputs, packed_reference


@pytest.fixture(params=ARCHS)
def arch(request: pytest.FixtureRequest) -> str:
    return request.param


PACKED = {
    "v_pk_add_f16": ("v_add_f16", F16),
    "v_pk_mul_f16": ("v_mul_f16", F16),
    "v_pk_fma_f16": ("v_fma_f16", F16),
    "v_pk_max_f16": ("v_max_f16", F16),
    "v_pk_min_f16": ("v_min_f16", F16),
    "v_pk_add_u16": ("v_add_u16", U16),
    "v_pk_sub_u16": ("v_sub_u16", U16),
    "v_pk_add_i16": ("v_add_i16", I16),
    "v_pk_sub_i16": ("v_sub_i16", I16),
    "v_pk_mul_lo_u16": ("v_mul_lo_u16", U16),
    "v_pk_lshlrev_b16": ("v_lshlrev_b16", U16),
    "v_pk_lshrrev_b16": ("v_lshrrev_b16", U16),
    "v_pk_ashrrev_i16": ("v_ashrrev_i16", I16),
    "v_pk_max_i16": ("v_max_i16", I16),
    "v_pk_min_i16": ("v_min_i16", I16),
    "v_pk_max_u16": ("v_max_u16", U16),
    "v_pk_min_u16": ("v_min_u16", U16),
    "v_pk_mad_u16": ("v_mad_u16", U16),
    "v_pk_mad_i16": ("v_mad_i16", I16),
}
SELECTIONS = ((0b000, 0b111, 0b000, 0b000), (0b011, 0b100, 0b001, 0b010), (0b101, 0b010, 0b111, 0b101))


def bits_text(name: str, bits: int, count: int, default: int) -> str:
    if bits & ((1 << count) - 1) == default & ((1 << count) - 1):
        return ""
    return f" {name}:[{','.join(str(bits >> i & 1) for i in range(count))}]"


@pytest.mark.parametrize("name", PACKED)
def test_packed_16(name: str, arch: str) -> None:
    plain, dtype = PACKED[name]
    count, function = packed_reference(plain, dtype)
    rng = np.random.default_rng(10)
    for op_sel, op_sel_hi, neg_lo, neg_hi in SELECTIONS:
        is_float = dtype is F16
        text = f"{name} v0, {', '.join(f'v{2 + i}' for i in range(count))}"
        text += bits_text("op_sel", op_sel, count, 0) + bits_text("op_sel_hi", op_sel_hi, count, 7)
        if is_float:
            text += bits_text("neg_lo", neg_lo, count, 0) + bits_text("neg_hi", neg_hi, count, 0)
        machine = Machine(arch)
        pairs = [np.stack([inputs(dtype, rng), inputs(dtype, rng)], 1) for _ in range(count)]
        for i, pair in enumerate(pairs):
            machine.set(2 + i, np.ascontiguousarray(pair))
        result = machine.run(text)
        for half, (select, negate) in enumerate(((op_sel, neg_lo), (op_sel_hi, neg_hi))):
            chosen = [np.ascontiguousarray(pair[:, select >> i & 1]) for i, pair in enumerate(pairs)]
            if is_float:
                chosen = [-c if negate >> i & 1 else c for i, c in enumerate(chosen)]
            want = function(*chosen)
            got = (result.v[0] >> 16 * half & 0xFFFF).astype(U16).view(want.dtype)
            assert_same(got, want, want.dtype, active(ALL_LANES))


@pytest.mark.parametrize("name", ["v_pk_maximum3_f16", "v_pk_minimum3_f16"])
def test_packed_minimum_maximum(name: str) -> None:
    rng = np.random.default_rng(11)
    machine = Machine("gfx950")
    pairs = [np.stack([floats(F16, rng), floats(F16, rng)], 1) for _ in range(3)]
    for i, pair in enumerate(pairs):
        machine.set(2 + i, np.ascontiguousarray(pair))
    result = machine.run(f"{name} v0, v2, v3, v4")
    stacked = np.stack(pairs).astype(F32)
    want = stacked.max(0) if "maximum" in name else stacked.min(0)  # NaN wins in NumPy, too
    got = result.v[0].view(F16).reshape(LANES, 2)
    same = (got.astype(F32) == want) | (np.isnan(got) & np.isnan(want))
    assert same.all()


@pytest.mark.parametrize("name", ["v_pk_add_f32", "v_pk_mul_f32", "v_pk_fma_f32"])
def test_packed_32(name: str, arch: str) -> None:
    count, function = packed_reference(name.replace("pk_", ""), F32)
    rng = np.random.default_rng(12)
    for op_sel, op_sel_hi, neg_lo, neg_hi in SELECTIONS:
        text = f"{name} v[0:1], {', '.join(f'v[{2 + 2 * i}:{3 + 2 * i}]' for i in range(count))}"
        text += bits_text("op_sel", op_sel, count, 0) + bits_text("op_sel_hi", op_sel_hi, count, 7)
        text += bits_text("neg_lo", neg_lo, count, 0) + bits_text("neg_hi", neg_hi, count, 0)
        machine = Machine(arch)
        pairs = [[floats(F32, rng), floats(F32, rng)] for _ in range(count)]
        for i, pair in enumerate(pairs):
            machine.set(2 + 2 * i, pair[0])
            machine.set(3 + 2 * i, pair[1])
        result = machine.run(text)
        for word, (select, negate) in enumerate(((op_sel, neg_lo), (op_sel_hi, neg_hi))):
            chosen = [pair[select >> i & 1] * F32(-1 if negate >> i & 1 else 1) for i, pair in enumerate(pairs)]
            assert_same(machine.values(result, word, F32), function(*chosen), F32, active(ALL_LANES))


def test_packed_move(arch: str) -> None:
    rng = np.random.default_rng(13)
    machine = Machine(arch)
    words = [inputs(U32, rng) for _ in range(4)]
    for i, word in enumerate(words):
        machine.set(2 + i, word)
    for first in (0, 1):
        for second in (0, 1):
            text = "v_pk_mov_b32 v[0:1], v[2:3], v[4:5]" + bits_text("op_sel", first | second << 1, 2, 0)
            result = machine.run(text)
            assert np.array_equal(result.v[0], words[first])
            assert np.array_equal(result.v[1], words[2 + second])


@pytest.mark.parametrize("name", ["v_fma_mix_f32", "v_fma_mixlo_f16", "v_fma_mixhi_f16"])
def test_fma_mix(name: str, arch: str) -> None:
    _, function = packed_reference("v_fma_f32", F32)
    rng = np.random.default_rng(14)
    for is_f16, high, modifiers in (
        (0b000, 0, "v2, v3, v4"),
        (0b101, 0b100, "-v2, |v3|, v4"),
        (0b111, 0b011, "v2, v3, -v4"),
    ):
        text = f"{name} v0, {modifiers}" + bits_text("op_sel", high, 3, 0) + bits_text("op_sel_hi", is_f16, 3, 0)
        machine = Machine(arch)
        sources = []
        for i in range(3):
            if is_f16 >> i & 1:
                pair = np.stack([floats(F16, rng), floats(F16, rng)], 1)
                machine.set(2 + i, np.ascontiguousarray(pair))
                sources.append(pair[:, high >> i & 1].astype(F32))
            else:
                sources.append(floats(F32, rng))
                machine.set(2 + i, sources[-1])
        old = inputs(U32, rng)
        machine.set(0, old)
        if "|v3|" in modifiers:
            sources[0], sources[1] = -sources[0], np.abs(sources[1])
        elif "-v4" in modifiers:
            sources[2] = -sources[2]
        result = machine.run(text)
        want = function(*sources)
        if name == "v_fma_mix_f32":
            assert_same(machine.values(result, 0, F32), want, F32, active(ALL_LANES))
            continue
        shift = 16 if "hi" in name else 0
        with np.errstate(all="ignore"):
            assert_same((result.v[0] >> shift & 0xFFFF).astype(U16).view(F16), want.astype(F16), F16, active(ALL_LANES))
        assert np.array_equal(result.v[0] >> (16 - shift) & 0xFFFF, old >> (16 - shift) & 0xFFFF)
