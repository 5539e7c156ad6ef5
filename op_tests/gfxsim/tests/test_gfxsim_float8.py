"""Conversions to and from 8-bit floats: fnuz on gfx942, OCP on gfx950."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gfxsim.tests.exec_cases import F32, U16, U32, U64
from gfxsim.tests.exec_machine import ALL_LANES, ARCHS, DENORMALS, LANES, Machine
from gfxsim.tests.exec_values import FLOAT_CORNERS, active, assert_same, inputs


@pytest.fixture(params=ARCHS)
def arch(request: pytest.FixtureRequest) -> str:
    return request.param


FP8 = {
    "gfx942": {"fp8": ml_dtypes.float8_e4m3fnuz, "bf8": ml_dtypes.float8_e5m2fnuz},
    "gfx950": {"fp8": ml_dtypes.float8_e4m3fn, "bf8": ml_dtypes.float8_e5m2},
}


def fp8_inputs(dtype: Any, rng: np.random.Generator) -> np.ndarray:
    """Values of the format, the middles between them, what is beside the middles, and fp32 corners."""
    codes = np.arange(256, dtype=np.uint8).view(dtype).astype(F32)
    exact = np.unique(codes[np.isfinite(codes)])
    middles = (exact[1:] + exact[:-1]) / 2
    beside = np.concatenate([np.nextafter(middles, F32(-np.inf)), np.nextafter(middles, F32(np.inf))])
    corners = np.array([float(c) for c in FLOAT_CORNERS[F32].split()], F32)
    pool = np.concatenate([exact, middles, beside, corners, exact * F32(1.3)])
    rng.shuffle(pool)
    return np.resize(pool, (len(pool) // LANES + 1) * LANES).reshape(-1, LANES).astype(F32)


@pytest.mark.parametrize("kind", ["fp8", "bf8"])
def test_fp8_encode(kind: str, arch: str) -> None:
    dtype = FP8[arch][kind]
    rng = np.random.default_rng(9)
    for high in (0, 1):
        for a in fp8_inputs(dtype, rng):
            b = rng.permutation(a)
            machine = Machine(arch)
            old = inputs(U32, rng)
            for reg, value in ((0, old), (2, a), (4, b)):
                machine.set(reg, value)
            result = machine.run(f"v_cvt_pk_{kind}_f32 v0, v2, v4" + (" op_sel:[0,0,1]" if high else ""))
            kept = result.v[0] & (0xFFFF if high else 0xFFFF0000)
            assert np.array_equal(kept, old & (0xFFFF if high else 0xFFFF0000))
            pair = (result.v[0] >> 16 * high & 0xFFFF).astype(U16)
            with np.errstate(all="ignore"):
                for place, source in enumerate((a, b)):
                    got = (pair >> 8 * place & 0xFF).astype(np.uint8)
                    want = source.astype(dtype)
                    both_nan = np.isnan(got.view(dtype)) & np.isnan(want)
                    assert np.array_equal(got[~both_nan], want.view(np.uint8)[~both_nan])


def test_fp8_encode_saturates_with_fp16_ovfl(arch: str) -> None:
    machine = Machine(arch, mode=DENORMALS, s={2: 1})
    machine.set(2, np.full(LANES, 1e9, F32))
    machine.set(4, np.full(LANES, -1e9, F32))
    machine.set(0, np.zeros(LANES, U32))
    result = machine.run("s_setreg_b32 hwreg(HW_REG_MODE, 23, 1), s2", "v_cvt_pk_fp8_f32 v0, v2, v4")
    largest = np.array([np.finfo(np.float32).max], F32)
    top = float(ml_dtypes.finfo(FP8[arch]["fp8"]).max)
    want = np.array([top, -top], F32).astype(FP8[arch]["fp8"]).view(np.uint8)
    assert result.v[0][0] == int(want[0]) | int(want[1]) << 8 and largest.size


@pytest.mark.parametrize("kind", ["fp8", "bf8"])
def test_fp8_decode(kind: str, arch: str) -> None:
    dtype = FP8[arch][kind]
    codes = np.arange(256, dtype=np.uint8)
    for start in range(0, 256, LANES):
        part = codes[start : start + LANES]
        word = part.astype(U32) | np.roll(part, 1).astype(U32) << 8 | np.roll(part, 2).astype(U32) << 16 | 0x5A << 24
        machine = Machine(arch)
        machine.set(2, word)
        result = machine.run(f"v_cvt_f32_{kind}_e32 v0, v2")
        assert_same(machine.values(result, 0, F32), part.view(dtype).astype(F32), F32, active(ALL_LANES))
        for byte in range(1, 4):
            result = machine.run(f"v_cvt_f32_{kind}_sdwa v0, v2 src0_sel:BYTE_{byte}")
            want = (word >> 8 * byte & 0xFF).astype(np.uint8).view(dtype).astype(F32)
            assert_same(machine.values(result, 0, F32), want, F32, active(ALL_LANES))
        for text, shift in (
            ("v_cvt_pk_f32_{}_e32 v[0:1], v2", 0),
            ("v_cvt_pk_f32_{}_sdwa v[0:1], v2 src0_sel:WORD_1", 16),
        ):
            result = machine.run(text.format(kind))
            for i in range(2):
                want = (word >> (shift + 8 * i) & 0xFF).astype(np.uint8).view(dtype).astype(F32)
                assert_same(machine.values(result, i, F32), want, F32, active(ALL_LANES))


@pytest.mark.parametrize("kind", ["fp8", "bf8"])
def test_fp8_stochastic_rounding(kind: str, arch: str) -> None:
    """The result is one of the two neighbours; which one follows the random number in proportion to the distance."""
    dtype = FP8[arch][kind]
    steps = 3 if kind == "fp8" else 2
    machine = Machine(arch)
    share = 0.375
    randoms = (np.arange(LANES, dtype=U64) * (1 << 26)).astype(U32)
    machine.set(2, np.full(LANES, 1 + share * 2**-steps, F32))
    machine.set(4, randoms)
    machine.set(0, np.zeros(LANES, U32))
    for byte in range(4):
        bits = f" op_sel:[0,0,{byte & 1},{byte >> 1}]" if byte else ""
        result = machine.run(f"v_cvt_sr_{kind}_f32 v0, v2, v4{bits}")
        got = (result.v[0] >> 8 * byte & 0xFF).astype(np.uint8).view(dtype).astype(F32)
        assert set(got.tolist()) == {1.0, 1 + 2**-steps}
        assert np.count_nonzero(got > 1) == round(share * LANES)
        assert not (result.v[0] & ~np.uint32(0xFF << 8 * byte)).any()
