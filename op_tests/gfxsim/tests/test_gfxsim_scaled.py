"""gfx950's scaled conversions in the simulator, against ml_dtypes; and the table of machine words against LLVM."""

from __future__ import annotations

import shutil
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gfxsim.tests.exec_machine import ARCHS, Machine, assemble_with_llvm, word_table, words_of

LANES = 64
SMALL = {
    "fp8": ml_dtypes.float8_e4m3fn,
    "bf8": ml_dtypes.float8_e5m2,
    "fp6": ml_dtypes.float6_e2m3fn,
    "bf6": ml_dtypes.float6_e3m2fn,
    "fp4": ml_dtypes.float4_e2m1fn,
}
WIDE = {"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16}
BITS = {"fp8": 8, "bf8": 8, "fp6": 6, "bf6": 6, "fp4": 4}


def start(*names: str) -> tuple[Machine, np.random.Generator, np.ndarray, np.ndarray]:
    """A machine with a scale in v60, the scale's factor, and what v0 held."""
    rng = np.random.default_rng([ord(c) for c in "".join(names)])
    machine = Machine("gfx950")
    exponent = rng.integers(-6, 7, LANES)
    scale = (2.0**exponent * rng.uniform(1, 1.99, LANES)).astype(np.float32)  # the mantissa does not matter
    machine.set(60, scale)
    old = rng.integers(0, 1 << 32, LANES, np.uint64).astype(np.uint32)
    machine.set(0, old)
    return machine, rng, (2.0**exponent).astype(np.float64), old


def narrow(values: np.ndarray, small: str) -> np.ndarray:
    with np.errstate(all="ignore"):
        return values.astype(np.float32).astype(SMALL[small]).view(np.uint8)


def same_codes(got: np.ndarray, want: np.ndarray, small: str) -> bool:
    nan = np.isnan(want.view(SMALL[small]).astype(np.float32))
    return bool(np.all((got == want) | (nan & np.isnan(got.astype(np.uint8).view(SMALL[small]).astype(np.float32)))))


def wide_pair(rng: np.random.Generator, wide: str, factor: np.ndarray, small: str) -> np.ndarray:
    top = float(ml_dtypes.finfo(SMALL[small]).max)
    spread = rng.standard_normal((LANES, 2)) * factor[:, None] * top / 2
    if small in ("fp4", "fp6", "bf6"):  # what ml_dtypes does beyond the range is not saturation
        spread = np.clip(spread, -top * factor[:, None], top * factor[:, None])
    with np.errstate(all="ignore"):
        return spread.astype(WIDE[wide])


@pytest.mark.parametrize("wide", WIDE)
@pytest.mark.parametrize("small", ["fp8", "bf8", "fp4"])
def test_pairs(small: str, wide: str) -> None:
    bits = BITS[small]
    for place in range(4 if small == "fp4" else 2):
        machine, rng, factor, old = start(f"pk_{small}_{wide}")
        pair = wide_pair(rng, wide, factor, small)
        if wide == "f32":
            machine.set(2, pair[:, 0].copy())
            machine.set(3, pair[:, 1].copy())
        else:
            machine.set(2, np.ascontiguousarray(pair))
        sources = "v2, v3, v60" if wide == "f32" else "v2, v60"
        # 4 bits: a byte of the destination, op_sel[3:2]; 8 bits: a half, op_sel[3].
        select = [0, 0, place & 1, place >> 1] if small == "fp4" else [0, 0] + [0] * (wide == "f32") + [place]
        op_sel = f" op_sel:[{','.join(map(str, select))}]" if place else ""
        text = f"v_cvt_scalef32_pk_{small}_{wide} v0, {sources}{op_sel}"
        result = machine.run(text)
        assert result.kind == "none", result.text
        shift = place * 2 * bits
        codes = [result.v[0] >> (shift + bits * i) & ((1 << bits) - 1) for i in range(2)]
        for i in range(2):
            assert same_codes(codes[i], narrow(pair[:, i].astype(np.float64) / factor, small), small)
        rest = np.uint32(~(((1 << 2 * bits) - 1) << shift) & 0xFFFFFFFF)
        assert np.array_equal(result.v[0] & rest, old & rest)


@pytest.mark.parametrize("wide", WIDE)
@pytest.mark.parametrize("small", ["fp8", "bf8", "fp4"])
def test_wide_pairs(small: str, wide: str) -> None:
    bits = BITS[small]
    for place in range(4 if small == "fp4" else 2):
        machine, rng, factor, _ = start(f"pk_{wide}_{small}")
        word = rng.integers(0, 1 << 32, LANES, np.uint64).astype(np.uint32)
        machine.set(2, word)
        target = "v[0:1]" if wide == "f32" else "v0"
        select = f" op_sel:[{place & 1},{place >> 1},0]" if place else ""
        result = machine.run(f"v_cvt_scalef32_pk_{wide}_{small} {target}, v2, v60{select}")
        assert result.kind == "none", result.text
        for i in range(2):
            code = (word >> (place * 2 * bits + bits * i) & ((1 << bits) - 1)).astype(np.uint8)
            with np.errstate(all="ignore"):
                want = (code.view(SMALL[small]).astype(np.float64) * factor).astype(WIDE[wide])
            if wide == "f32":
                got = result.v[i].view(np.float32)
            else:
                got = (result.v[0] >> 16 * i & 0xFFFF).astype(np.uint16).view(WIDE[wide])
            assert ((got == want) | (np.isnan(got) & np.isnan(want))).all()


@pytest.mark.parametrize("wide", ["f32", "f16"])
@pytest.mark.parametrize("small", ["fp8", "bf8"])
def test_single_values(small: str, wide: str) -> None:
    for byte in range(4):
        for high in (0, 1) if wide == "f16" else (0,):
            machine, rng, factor, old = start(f"{wide}_{small}")
            word = rng.integers(0, 1 << 32, LANES, np.uint64).astype(np.uint32)
            machine.set(2, word)
            select = f" op_sel:[{byte & 1},{byte >> 1},{high}]" if byte or high else ""
            result = machine.run(f"v_cvt_scalef32_{wide}_{small} v0, v2, v60{select}")
            assert result.kind == "none", result.text
            code = (word >> 8 * byte & 0xFF).astype(np.uint8)
            with np.errstate(all="ignore"):
                want = (code.view(SMALL[small]).astype(np.float64) * factor).astype(WIDE[wide])
            got = result.v[0].view(np.float32)
            if wide == "f16":
                got = (result.v[0] >> 16 * high & 0xFFFF).astype(np.uint16).view(np.float16)
                assert np.array_equal(result.v[0] >> 16 * (1 - high) & 0xFFFF, old >> 16 * (1 - high) & 0xFFFF)
            assert ((got == want) | (np.isnan(got) & np.isnan(want))).all()


@pytest.mark.parametrize("wide", WIDE)
@pytest.mark.parametrize("small", ["fp8", "bf8"])
def test_stochastic_rounding(small: str, wide: str) -> None:
    """Between two neighbours, as often as the distance says."""
    steps = 3 if small == "fp8" else 2
    machine, _, factor, old = start(f"sr_{small}_{wide}")
    value = ((1 + 0.375 * 2**-steps) * factor).astype(WIDE[wide])
    machine.set(2, value)
    machine.set(3, (np.arange(LANES, dtype=np.uint64) * (1 << 26)).astype(np.uint32))
    for byte in range(4):
        select = f" op_sel:[0,0,{byte & 1},{byte >> 1}]" if byte else ""
        result = machine.run(f"v_cvt_scalef32_sr_{small}_{wide} v0, v2, v3, v60{select}")
        assert result.kind == "none", result.text
        got = (result.v[0] >> 8 * byte & 0xFF).astype(np.uint8).view(SMALL[small]).astype(np.float32)
        assert set(got.tolist()) == {1.0, 1 + 2**-steps}
        assert np.count_nonzero(got > 1) == 24
        rest = np.uint32(~(0xFF << 8 * byte) & 0xFFFFFFFF)
        assert np.array_equal(result.v[0] & rest, old & rest)


def codes_of_lane(words: np.ndarray) -> list[int]:
    number = int.from_bytes(np.ascontiguousarray(words).tobytes(), "little")
    return [number >> 6 * i & 63 for i in range(32)]


@pytest.mark.parametrize("small", ["fp6", "bf6"])
def test_six_bits(small: str) -> None:
    rng = np.random.default_rng(4)
    top = float(ml_dtypes.finfo(SMALL[small]).max)
    for wide, dtype in WIDE.items():
        name = f"2xpk16_{small}_f32" if wide == "f32" else f"pk32_{small}_{wide}"
        machine, _, factor, _ = start(name)
        values = np.clip(rng.standard_normal((LANES, 32)) * top / 2, -top, top) * factor[:, None]
        values = values.astype(dtype)
        if wide == "f32":  # two vectors that take turns
            machine.set(64, np.ascontiguousarray(values[:, 0::2]))
            machine.set(80, np.ascontiguousarray(values[:, 1::2]))
            sources = "v[64:79], v[80:95], v60"
        else:
            machine.set(64, values)
            sources = "v[64:79], v60"
        result = machine.run(f"v_cvt_scalef32_{name} v[0:5], {sources}")
        assert result.kind == "none", result.text
        for lane in range(LANES):
            want = narrow(values[lane].astype(np.float64) / factor[lane], small)
            assert codes_of_lane(result.v[:6, lane]) == want.tolist()
        widening = f"pk32_{wide}_{small}"
        machine, _, factor, _ = start(widening)
        words = rng.integers(0, 1 << 32, (LANES, 6), np.uint64).astype(np.uint32)
        machine.set(64, words)
        count = 32 if wide == "f32" else 16
        result = machine.run(f"v_cvt_scalef32_{widening} v[0:{count - 1}], v[64:69], v60")
        assert result.kind == "none", result.text
        got = np.ascontiguousarray(result.v[:count].T).view(dtype).astype(np.float64)
        for lane in range(LANES):
            codes = np.array(codes_of_lane(words[lane]), np.uint8)
            want_values: Any = (codes.view(SMALL[small]).astype(np.float64) * factor[lane]).astype(dtype)
            assert np.array_equal(got[lane], want_values.astype(np.float64))


def test_scale_beyond_the_exponents() -> None:
    """An infinite scale gives NaN; 4 and 6 bits saturate."""
    machine, _, _, _ = start("pk_fp4_f32")
    machine.set(2, np.full(LANES, 1e9, np.float32))
    machine.set(3, np.full(LANES, -1e9, np.float32))
    assert machine.run("v_cvt_scalef32_pk_fp4_f32 v0, v2, v3, v60").v[0][0] & 0xFF == 0xF7
    machine.set(60, np.full(LANES, np.inf, np.float32))
    machine.set(2, np.full(LANES, 0x3838, np.uint32))
    result = machine.run("v_cvt_scalef32_f32_fp8 v0, v2, v60")
    assert np.isnan(result.v[0].view(np.float32)).all()


@pytest.mark.parametrize("arch", ARCHS)
def test_words_are_those_of_llvm(arch: str) -> None:
    """The committed table is what llvm-mc-22 assembles today, instructions of the other architecture included."""
    if shutil.which("llvm-mc-22") is None:
        pytest.skip("llvm-mc-22 is not installed")
    texts = sorted(set().union(*(word_table()[each] for each in ARCHS)))
    assembled = assemble_with_llvm(arch, texts)
    assert {text: words_of(arch, text) for text in texts if words_of(arch, text)} == assembled
