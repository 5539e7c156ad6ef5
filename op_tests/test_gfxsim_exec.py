"""The simulator's vector arithmetic, every instruction on both architectures, against NumPy."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from exec_cases import BF16, CASES, F16, F32, F64, I16, I32, I64, U16, U32, U64, Case
from exec_machine import ALL_LANES, ARCHS, DENORMALS, VCC, Machine, recording, semantic_names, word_table, words_of

LANES = 64


@pytest.fixture(params=ARCHS)
def arch(request: pytest.FixtureRequest) -> str:
    return request.param


# ---- inputs

FLOAT_CORNERS = {
    F32: "0 -0 1 -1 0.5 1.5 2.5 -2.5 inf -inf nan 1e-45 -1e-45 1.1754942e-38 1.1754944e-38 3.4028235e38 -3.4028235e38 "
    "16777216 16777217 2147483648 4294967296 -2147483648 65504 65519 65520 448 464 480 6e-8 5.9e-8 240 248 57344 61440",
    F16: "0 -0 1 -1 0.5 1.5 2.5 -2.5 inf -inf nan 6e-8 -6e-8 6.1e-5 6.09e-5 65504 -65504 1024 1025 32767 -32768 0.9995",
    F64: "0 -0 1 -1 0.5 1.5 2.5 -2.5 inf -inf nan 5e-324 2.2250738585072014e-308 1.7976931348623157e308 2147483647 "
    "2147483648 -2147483648 4294967295 4294967296 3.4028235677973366e38 1e-40 7.0064923216240854e-46",
    BF16: "0 -0 1 -1 inf -inf nan 1e-40 3.3895314e38",
}


def integers(dtype: Any, rng: np.random.Generator) -> np.ndarray:
    info = np.iinfo(dtype)
    values = rng.integers(info.min, info.max, LANES, dtype, endpoint=True)
    corners = [info.min, info.max, 0, 1, 2, info.max // 2, info.max // 2 + 1, 31, 32, 33, info.max - 1]
    small = rng.integers(0, 64, LANES).astype(dtype)
    pick = rng.integers(0, 4, LANES)
    return np.choose(pick, [values, rng.choice(np.array(corners, dtype), LANES), small, values]).astype(dtype)


def floats(dtype: Any, rng: np.random.Generator) -> np.ndarray:
    bits = {2: U16, 4: U32, 8: U64}[np.dtype(dtype).itemsize]
    raw = rng.integers(0, np.iinfo(bits).max, LANES, bits, endpoint=True).view(dtype)
    nice = (rng.standard_normal(LANES) * 10.0 ** rng.integers(-3, 4, LANES)).astype(dtype)
    corners = rng.choice(np.array([float(c) for c in FLOAT_CORNERS[dtype].split()]).astype(dtype), LANES)
    pick = rng.integers(0, 4, LANES)
    return np.where(pick == 0, raw, np.where(pick == 1, corners, nice)).astype(dtype)


def halves(dtype: Any, rng: np.random.Generator) -> np.ndarray:
    pair = (rng.integers(-16, 17, (LANES, 2)) / 4).astype(dtype)
    return np.ascontiguousarray(pair).view(U32)[:, 0]


def inputs(kind: Any, rng: np.random.Generator) -> np.ndarray:
    special: dict[Any, Callable[[], np.ndarray]] = {
        "shift4": lambda: rng.integers(0, 5, LANES).astype(U32),
        "exponent": lambda: rng.integers(-300, 300, LANES).astype(I32),
        "exponent16": lambda: rng.integers(-40, 40, LANES).astype(I16),
        "turns": lambda: rng.uniform(-256, 256, LANES).astype(F32),
        "turns16": lambda: rng.uniform(-4, 4, LANES).astype(F16),
        "small": lambda: rng.uniform(-2, 2, LANES).astype(F32),
        "quarters": lambda: (rng.integers(-64, 65, LANES) / 4).astype(F32),
        "f16x2 small": lambda: halves(F16, rng),
        "bf16x2 small": lambda: halves(BF16, rng),
    }
    if kind in special:
        return special[kind]()
    return floats(kind, rng) if kind in FLOAT_CORNERS else integers(kind, rng)


# ---- comparison


def assert_same(got: np.ndarray, want: np.ndarray, kind: Any, lanes: np.ndarray, tolerance: float = 0) -> None:
    if kind in ("f16x2", "bf16x2"):
        dtype = F16 if kind == "f16x2" else BF16
        lanes = np.repeat(lanes, 2)
        got, want, kind = got.view(U32).view(dtype), want.view(U32).view(dtype), dtype
    if np.dtype(kind).kind in "iu":
        same = got == want
    else:
        bits = {2: U16, 4: U32, 8: U64}[np.dtype(kind).itemsize]
        same = (got.view(bits) == want.view(bits)) | (np.isnan(got) & np.isnan(want))
        if tolerance:
            with np.errstate(all="ignore"):
                wide, other = got.astype(F64), want.astype(F64)
                floor = 0 if np.dtype(kind).itemsize > 2 else 6e-8
                same |= np.abs(wide - other) <= tolerance * np.abs(other) + floor
    bad = np.flatnonzero(~same & lanes)
    assert not bad.size, f"lane {bad[0]}: {got[bad[0]]!r} instead of {want[bad[0]]!r}, {bad.size} lanes in all"


def active(mask: int) -> np.ndarray:
    return np.array([bool(mask >> lane & 1) for lane in range(LANES)])


# ---- element by element


def operand(reg: int, kind: Any) -> str:
    size = 4 if isinstance(kind, str) else np.dtype(kind).itemsize
    return f"v[{reg}:{reg + 1}]" if size == 8 else f"v{reg}"


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name + c.modifiers.replace(" ", "_"))
def test_elementwise(case: Case, arch: str) -> None:
    sources = [operand(2 + 2 * i, kind) for i, kind in enumerate(case.sources)]
    text = f"{case.name} {operand(0, case.result)}, {', '.join(sources)}{case.modifiers}"
    if case.name == "v_fmamk_f32":
        text = "v_fmamk_f32 v0, v2, 0x3fc00000, v4"
    if words_of(arch, text) is None:
        pytest.skip(f"{arch} does not have it")
    rng = np.random.default_rng([ord(c) for c in case.name])
    for turn in range(4):
        machine = Machine(arch, exec=ALL_LANES if turn < 2 else int(rng.integers(1, 1 << 63)))
        values = [inputs(kind, rng) for kind in case.sources]
        for i, value in enumerate(values):
            machine.set(2 + 2 * i, value)
        old_kind = "quarters" if case.name.startswith("v_dot2c_f32") else case.result
        old = inputs(U32 if old_kind in ("f16x2", "bf16x2") else old_kind, rng)
        machine.set(0, old)
        result = machine.run(text)
        assert result.kind == "none", result.text
        want = case.function(*values, old) if case.keeps else case.function(*values)
        dtype = U32 if isinstance(case.result, str) else case.result
        lanes = active(machine.exec)
        assert_same(machine.values(result, 0, dtype), want.astype(dtype), case.result, lanes, case.tolerance)
        assert np.array_equal(result.v[0][~lanes], machine.v[0][~lanes]), "a lane that is off was written"
        assert not result.v_undefined[0]
        if np.dtype(dtype).itemsize == 2:
            assert not (result.v[0][lanes] >> 16).any(), "the high half is cleared"


def test_fma_f16_rounds_once(arch: str) -> None:
    """The exact sum lies just beside a tie: one that is rounded to fp32 first goes wrong."""
    machine = Machine(arch)
    a, b, c = F16(1 + 2**-10), F16(2**-14 + 2**-24), F16(1 + 2**-10)
    for reg, value in ((2, a), (4, b), (6, c)):
        machine.set(reg, np.full(LANES, value))
    got = machine.values(machine.run("v_fma_f16 v0, v2, v4, v6"), 0, F16)[0]
    exact = float(a) * float(b) + float(c)
    assert got == F16(np.float64(exact))


# ---- compares

CONDITIONS: dict[str, Callable[[Any, Any], Any]] = {
    "f": lambda a, b: np.zeros(LANES, bool),
    "lt": lambda a, b: a < b,
    "eq": lambda a, b: a == b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "t": lambda a, b: np.ones(LANES, bool),
    "ne": lambda a, b: a != b,
    "lg": lambda a, b: (a < b) | (a > b),
    "o": lambda a, b: ~(np.isnan(a) | np.isnan(b)),
    "u": lambda a, b: np.isnan(a) | np.isnan(b),
    "nge": lambda a, b: ~(a >= b),
    "nlg": lambda a, b: ~((a < b) | (a > b)),
    "ngt": lambda a, b: ~(a > b),
    "nle": lambda a, b: ~(a <= b),
    "neq": lambda a, b: a != b,
    "nlt": lambda a, b: ~(a < b),
    "tru": lambda a, b: np.ones(LANES, bool),
}
INTEGER_CONDITIONS = ("f", "lt", "eq", "le", "gt", "ne", "ge", "t")
FLOAT_CONDITIONS = ("f", "lt", "eq", "le", "gt", "lg", "ge", "o", "u", "nge", "nlg", "ngt", "nle", "neq", "nlt", "tru")
COMPARED = {"i16": I16, "u16": U16, "i32": I32, "u32": U32, "i64": I64, "u64": U64, "f16": F16, "f32": F32, "f64": F64}


def mask_of(lanes: np.ndarray) -> int:
    return sum(1 << int(lane) for lane in np.flatnonzero(lanes))


@pytest.mark.parametrize("suffix", COMPARED)
@pytest.mark.parametrize("prefix", ["v_cmp", "v_cmpx"])
def test_compare(suffix: str, prefix: str, arch: str) -> None:
    dtype = COMPARED[suffix]
    rng = np.random.default_rng(7)
    for condition in FLOAT_CONDITIONS if suffix[0] == "f" else INTEGER_CONDITIONS:
        machine = Machine(arch, exec=int(rng.integers(1, 1 << 63)))
        a, b = inputs(dtype, rng), inputs(dtype, rng)
        b = np.where(rng.integers(0, 3, LANES) == 0, a, b).astype(dtype)
        machine.set(2, a)
        machine.set(4, b)
        result = machine.run(f"{prefix}_{condition}_{suffix} vcc, {operand(2, dtype)}, {operand(4, dtype)}")
        assert result.kind == "none", result.text
        want = mask_of(CONDITIONS[condition](a, b)) & machine.exec
        assert result.pair(VCC) == want, condition
        assert result.pair(126) == (want if prefix == "v_cmpx" else machine.exec)


@pytest.mark.parametrize("suffix", ["f16", "f32", "f64"])
def test_compare_class(suffix: str, arch: str) -> None:
    dtype = COMPARED[suffix]
    bits = {2: U16, 4: U32, 8: U64}[np.dtype(dtype).itemsize]
    info = np.finfo(dtype)
    signaling = (np.array(np.inf, dtype).view(bits) + bits(1)).view(dtype)
    classes = [signaling, dtype(np.nan), dtype(-np.inf), -info.max, -info.smallest_subnormal, dtype(-0.0), dtype(0.0)]
    classes += [info.smallest_subnormal, info.tiny, dtype(np.inf)]
    values = np.array([classes[lane % 10] for lane in range(LANES)], dtype)
    values.view(bits)[::10] = np.array(signaling).view(bits)
    for wanted in (*range(10), None):
        machine = Machine(arch)
        machine.set(2, values)
        machine.set(4, np.full(LANES, 1 << wanted if wanted is not None else 0x204, U32))
        for name in ("v_cmp_class", "v_cmpx_class"):
            result = machine.run(f"{name}_{suffix} vcc, {operand(2, dtype)}, v4")
            hits = (wanted,) if wanted is not None else (2, 9)
            assert result.pair(VCC) == sum(1 << lane for lane in range(LANES) if lane % 10 in hits)


# ---- carries, selects, division


@pytest.mark.parametrize("name", ["add", "sub", "subrev", "addc", "subb", "subbrev"])
def test_carry(name: str, arch: str) -> None:
    rng = np.random.default_rng(3)
    machine = Machine(arch, exec=int(rng.integers(1, 1 << 63)))
    a, b = inputs(U32, rng), inputs(U32, rng)
    machine.set(2, a)
    machine.set(4, b)
    machine.set(0, a)
    carry_in = int(rng.integers(1, 1 << 63))
    machine.s.update({4: carry_in & 0xFFFFFFFF, 5: carry_in >> 32})
    takes = name in ("addc", "subb", "subbrev")
    result = machine.run(f"v_{name}_co_u32_e64 v0, s[6:7], v2, v4" + (", s[4:5]" if takes else ""))
    assert result.kind == "none", result.text
    lanes, wide_a, wide_b = active(machine.exec), a.astype(I64), b.astype(I64)
    carry = active(carry_in).astype(I64) if takes else np.zeros(LANES, I64)
    total = {"add": wide_a + wide_b + carry, "sub": wide_a - wide_b - carry}.get(name.rstrip("c")[:3])
    if name.endswith("rev"):
        total = wide_b - wide_a - carry
    assert np.array_equal(result.v[0][lanes], (total & 0xFFFFFFFF).astype(U32)[lanes])
    assert result.pair(6) == mask_of(((total < 0) | (total > 0xFFFFFFFF)) & lanes)


@pytest.mark.parametrize("signed", [False, True])
def test_mad_64(signed: bool, arch: str) -> None:
    rng = np.random.default_rng(4)
    name, small, wide = ("v_mad_i64_i32", I32, I64) if signed else ("v_mad_u64_u32", U32, U64)
    for _ in range(4):
        machine = Machine(arch)
        a, b, c = inputs(small, rng), inputs(small, rng), inputs(wide, rng)
        for reg, value in ((2, a), (4, b), (6, c)):
            machine.set(reg, value)
        result = machine.run(f"{name} v[0:1], s[6:7], v2, v4, v[6:7]")
        sums = [int(x) * int(y) + int(z) for x, y, z in zip(a, b, c, strict=True)]
        assert [int(x) for x in machine.values(result, 0, U64)] == [s & ((1 << 64) - 1) for s in sums]
        assert result.pair(6) == sum((s >> 64 & 1) << lane for lane, s in enumerate(sums))


def test_cndmask(arch: str) -> None:
    rng = np.random.default_rng(5)
    machine = Machine(arch)
    a, b = inputs(U32, rng), inputs(U32, rng)
    machine.set(2, a)
    machine.set(4, b)
    chosen = int(rng.integers(1, 1 << 63))
    machine.s.update({VCC: chosen & 0xFFFFFFFF, VCC + 1: chosen >> 32})
    result = machine.run("v_cndmask_b32_e32 v0, v2, v4, vcc")
    assert np.array_equal(result.v[0], np.where(active(chosen), b, a))


@pytest.mark.parametrize("suffix", ["f32", "f64"])
def test_division(suffix: str, arch: str) -> None:
    """The whole sequence that compilers emit; the quotient is the correctly rounded one, whatever the operands."""
    dtype = COMPARED[suffix]
    r = (lambda reg: f"v{reg}") if dtype is F32 else (lambda reg: f"v[{reg}:{reg + 1}]")
    n, d, scaled_d, scaled_n, x, e, q, t = (r(2 * i) for i in range(1, 9))
    program = [
        f"v_div_scale_{suffix} {scaled_d}, s[4:5], {d}, {d}, {n}",
        f"v_div_scale_{suffix} {scaled_n}, vcc, {n}, {d}, {n}",
        f"v_rcp_{suffix} {x}, {scaled_d}",
    ]
    refine = [f"v_fma_{suffix} {e}, -{scaled_d}, {x}, 1.0", f"v_fma_{suffix} {x}, {e}, {x}, {x}"]
    program += refine * (1 if dtype is F32 else 2)
    program += [
        f"v_mul_{suffix} {q}, {scaled_n}, {x}",
        f"v_fma_{suffix} {t}, -{scaled_d}, {q}, {scaled_n}",
        f"v_fma_{suffix} {q}, {t}, {x}, {q}",
        f"v_fma_{suffix} {t}, -{scaled_d}, {q}, {scaled_n}",
        f"v_div_fmas_{suffix} {q}, {t}, {x}, {q}",
        f"v_div_fixup_{suffix} {r(0)}, {q}, {d}, {n}",
    ]
    rng = np.random.default_rng(6)
    for turn in range(6):
        machine = Machine(arch)
        a, b = floats(dtype, rng), floats(dtype, rng)
        if turn == 0:
            a, b = rng.standard_normal(LANES).astype(dtype), rng.standard_normal(LANES).astype(dtype)
        machine.set(2, a)
        machine.set(4, b)
        result = machine.run(*program)
        assert result.kind == "none", result.text
        with np.errstate(all="ignore"):
            want = a / b
        # The sequence rounds denormal quotients twice; one unit of the last place is allowed there.
        unit = float(np.finfo(dtype).smallest_subnormal)
        got = machine.values(result, 0, dtype)
        with np.errstate(all="ignore"):
            denormal = (np.abs(want) < np.finfo(dtype).tiny) & (np.abs(got.astype(F64) - want.astype(F64)) <= unit)
        assert_same(got, want, dtype, ~denormal)


def test_division_f16(arch: str) -> None:
    rng = np.random.default_rng(8)
    machine = Machine(arch)
    a, b = floats(F16, rng), floats(F16, rng)
    with np.errstate(all="ignore"):
        want = (a.astype(F32) / b.astype(F32)).astype(F16)
    for reg, value in ((2, want), (4, b), (6, a)):
        machine.set(reg, value)
    assert_same(machine.values(machine.run("v_div_fixup_f16 v0, v2, v4, v6"), 0, F16), want, F16, active(ALL_LANES))


# ---- 8-bit floats: fnuz on gfx942, OCP on gfx950

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


# ---- packed math


def packed_reference(name: str, dtype: Any) -> tuple[int, Callable[..., np.ndarray]]:
    for case in CASES:
        if case.name == name and not case.modifiers:
            return len(case.sources), case.function
    raise KeyError(name)


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
def test_packed_minimum_maximum(name: str, arch: str) -> None:
    if words_of(arch, f"{name} v0, v2, v3, v4") is None:
        pytest.skip("gfx950 only")
    rng = np.random.default_rng(11)
    machine = Machine(arch)
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


# ---- modifiers


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


# ---- lanes


def test_read_and_write_lanes(arch: str) -> None:
    rng = np.random.default_rng(18)
    values = inputs(U32, rng)
    machine = Machine(arch, exec=0xFF00, s={4: 37, 5: 0xABCD})
    machine.set(2, values)
    machine.set(3, values)
    assert machine.run("v_readfirstlane_b32 s6, v2").s[6] == values[8]
    assert machine.run("v_readlane_b32 s6, v2, s4").s[6] == values[37]
    result = machine.run("v_writelane_b32 v3, s5, 11")
    want = values.copy()
    want[11] = 0xABCD
    assert np.array_equal(result.v[3], want)


def test_accumulation_registers(arch: str) -> None:
    values = np.arange(LANES, dtype=U32)
    machine = Machine(arch)
    machine.set(2, values)
    result = machine.run("v_accvgpr_write_b32 a5, v2", "v_accvgpr_mov_b32 a6, a5", "v_accvgpr_read_b32 v0, a6")
    assert result.kind == "none", result.text
    assert np.array_equal(result.v[0], values) and np.array_equal(result.v[256 + 5], values)


def test_swaps(arch: str) -> None:
    rng = np.random.default_rng(19)
    a, b = inputs(U32, rng), inputs(U32, rng)
    machine = Machine(arch)
    machine.set(0, a)
    machine.set(2, b)
    result = machine.run("v_swap_b32 v0, v2")
    assert np.array_equal(result.v[0], b) and np.array_equal(result.v[2], a)
    for width in (16, 32):
        text = f"v_permlane{width}_swap_b32 v0, v2"
        if words_of(arch, text) is None:
            continue
        result = machine.run(text)
        # The odd rows of the first register change places with the even rows of the second.
        rows_a, rows_b = a.reshape(-1, width).copy(), b.reshape(-1, width).copy()
        rows_a[1::2], rows_b[0::2] = b.reshape(-1, width)[0::2], a.reshape(-1, width)[1::2]
        assert np.array_equal(result.v[0], rows_a.ravel()) and np.array_equal(result.v[2], rows_b.ravel())


def test_floats_do_not_leak_the_host_state(arch: str) -> None:
    """Flushing ends with the run: the host computes with denormals again."""
    machine = Machine(arch, mode=0xC0)
    machine.set(2, np.full(LANES, 1, F32))
    machine.run("v_add_f32_e32 v0, v2, v2")
    assert F32(2.0**-140) * F32(1) != 0


# ---- all of them


def test_every_instruction_is_tested() -> None:
    """The tests ask for their machine words by assembly text: the table of words has every mnemonic that they use."""
    if recording:
        pytest.skip("the table is being made")
    used: set[str] = set()
    for arch in ARCHS:
        for text in word_table()[arch]:
            name = text.split()[0]
            for suffix in ("_e32", "_e64", "_dpp", "_sdwa"):
                name = name.removesuffix(suffix)
            used.add(name)
    assert [name for name in semantic_names() if name not in used] == []
