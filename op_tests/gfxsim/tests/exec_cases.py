"""What vector and scalar instructions compute, lane by lane, written down from the ISA documents with NumPy.

A case is a mnemonic, the types of its sources and its result, and a function of arrays. Nothing here comes from the C.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np

Array = np.ndarray
U8, U16, I16, U32, I32, U64, I64 = np.uint8, np.uint16, np.int16, np.uint32, np.int32, np.uint64, np.int64
F16, F32, F64, BF16 = np.float16, np.float32, np.float64, ml_dtypes.bfloat16


@dataclass(frozen=True)
class Case:
    name: str
    sources: tuple[Any, ...]
    result: Any
    function: Callable[..., Array]
    tolerance: float = 0  # relative, for the transcendental unit
    keeps: bool = False  # the function takes the old destination as a last argument
    modifiers: str = ""


CASES: list[Case] = []


def case(name: str, sources: Any, result: Any, function: Callable[..., Array], **more: Any) -> None:
    CASES.append(Case(name, tuple(sources), result, function, **more))


def lanewise(function: Callable[..., Any], dtype: Any) -> Callable[..., Array]:
    """A function of Python numbers, for every lane."""
    return lambda *arrays: np.array(
        [function(*lane) for lane in zip(*(a.tolist() for a in arrays), strict=True)], dtype
    )


# ---- exact rounding


def round_to(value: Fraction, mantissa: int, min_exponent: int, max_value: float) -> float:
    """To the nearest float with `mantissa` bits behind the point, ties to even, with gradual underflow."""
    if value == 0:
        return 0.0
    magnitude = abs(value)
    exponent = max(magnitude.numerator.bit_length() - magnitude.denominator.bit_length() - 1, min_exponent)
    while Fraction(2) ** (exponent + 1) <= magnitude:
        exponent += 1
    ulp = Fraction(2) ** (exponent - mantissa)
    steps, rest = divmod(magnitude, ulp)
    if rest * 2 > ulp or (rest * 2 == ulp and steps % 2):
        steps += 1
    rounded = steps * ulp
    result = math.inf if rounded > Fraction(max_value) else float(rounded)
    return -result if value < 0 else result


F32_FORMAT = (23, -126, float(np.finfo(F32).max))
F16_FORMAT = (10, -14, 65504.0)
F64_FORMAT = (52, -1022, float(np.finfo(F64).max))


def fma_exact(shape: tuple[int, int, float]) -> Callable[[float, float, float], float]:
    def fma(a: float, b: float, c: float) -> float:
        if not all(map(math.isfinite, (a, b, c))):
            return a * b + c
        exact = Fraction(a) * Fraction(b) + Fraction(c)
        if exact == 0:
            return a * b + c if (a == 0 or b == 0) else (0.0 if Fraction(c) else a * b)
        result = round_to(exact, *shape)
        return math.copysign(result, -1 if exact < 0 else 1)

    return fma


def quiet(function: Callable[..., Array]) -> Callable[..., Array]:
    def wrapped(*arrays: Array) -> Array:
        with np.errstate(all="ignore"):
            return function(*arrays)

    return wrapped


# ---- 32-bit integers


def _unary_ints() -> None:
    case("v_mov_b32", [U32], U32, lambda a: a)
    case("v_not_b32", [U32], U32, lambda a: ~a)
    case("v_bfrev_b32", [U32], U32, lanewise(lambda a: int(f"{a:032b}"[::-1], 2), U32))
    case("v_ffbh_u32", [U32], U32, lanewise(lambda a: 32 - a.bit_length() if a else 0xFFFFFFFF, U32))
    case("v_ffbl_b32", [U32], U32, lanewise(lambda a: (a & -a).bit_length() - 1 if a else 0xFFFFFFFF, U32))

    def ffbh_i32(a: int) -> int:
        sign = a >> 31
        same = next((i for i in range(32) if (a >> (31 - i) & 1) != sign), None)
        return 0xFFFFFFFF if same is None else same

    case("v_ffbh_i32", [U32], U32, lanewise(ffbh_i32, U32))
    case("v_prng_b32", [U32], U32, lanewise(lambda a: (a << 1 & 0xFFFFFFFF) ^ (197 if a >> 31 else 0), U32))
    case("v_sat_pk_u8_i16", [U32], U32, lambda a: _sat_pk(a))


def _sat_pk(a: Array) -> Array:
    low, high = (a & 0xFFFF).astype(U16).view(I16), (a >> 16).astype(U16).view(I16)
    return np.clip(low, 0, 255).astype(U32) | np.clip(high, 0, 255).astype(U32) << 8


def s24(a: int) -> int:
    return (a & 0xFFFFFF) - (1 << 24 if a & 0x800000 else 0)


def s32(a: int) -> int:
    return a - (1 << 32 if a >> 31 & 1 else 0)


def _perm(a: int, b: int, selectors: int) -> int:
    source = (a << 32 | b).to_bytes(8, "little")
    out = []
    for selector in selectors.to_bytes(4, "little"):
        if selector < 8:
            out.append(source[selector])
        elif selector < 12:
            out.append(0xFF if source[2 * (selector - 8) + 1] & 0x80 else 0)
        else:
            out.append(0 if selector == 12 else 0xFF)
    return int.from_bytes(bytes(out), "little")


def _bfe_i32(a: int, offset: int, width: int) -> int:
    width &= 31
    field = (s32(a) >> (offset & 31)) & ((1 << width) - 1)
    return field - (1 << width) if width and field >> (width - 1) else field


def _sad(size: int) -> Callable[[int, int], int]:
    def total(a: int, b: int) -> int:
        parts = range(0, 32, size)
        mask = (1 << size) - 1
        return sum(abs((a >> p & mask) - (b >> p & mask)) for p in parts)

    return total


def _binary_ints() -> None:
    wrap: Callable[[Callable[..., int]], Callable[..., Array]] = lambda f: lanewise(  # noqa: E731
        lambda *x: f(*x) & 0xFFFFFFFF, U32
    )
    two = {
        "v_add_u32": lambda a, b: a + b,
        "v_sub_u32": lambda a, b: a - b,
        "v_subrev_u32": lambda a, b: b - a,
        "v_add_i32": lambda a, b: a + b,
        "v_sub_i32": lambda a, b: a - b,
        "v_and_b32": lambda a, b: a & b,
        "v_or_b32": lambda a, b: a | b,
        "v_xor_b32": lambda a, b: a ^ b,
        "v_xnor_b32": lambda a, b: ~(a ^ b),
        "v_lshlrev_b32": lambda a, b: b << (a & 31),
        "v_lshrrev_b32": lambda a, b: b >> (a & 31),
        "v_ashrrev_i32": lambda a, b: s32(b) >> (a & 31),
        "v_min_u32": min,
        "v_max_u32": max,
        "v_min_i32": lambda a, b: min(s32(a), s32(b)),
        "v_max_i32": lambda a, b: max(s32(a), s32(b)),
        "v_mul_lo_u32": lambda a, b: a * b,
        "v_mul_hi_u32": lambda a, b: a * b >> 32,
        "v_mul_hi_i32": lambda a, b: s32(a) * s32(b) >> 32,
        "v_mul_u32_u24": lambda a, b: (a & 0xFFFFFF) * (b & 0xFFFFFF),
        "v_mul_i32_i24": lambda a, b: s24(a) * s24(b),
        "v_mul_hi_u32_u24": lambda a, b: (a & 0xFFFFFF) * (b & 0xFFFFFF) >> 32,
        "v_mul_hi_i32_i24": lambda a, b: s24(a) * s24(b) >> 32,
        "v_bfm_b32": lambda a, b: ((1 << (a & 31)) - 1) << (b & 31),
        "v_bcnt_u32_b32": lambda a, b: a.bit_count() + b,
    }
    for name, function in two.items():
        case(name, [U32, U32], U32, wrap(function))
    lanes = [(1 << lane) - 1 for lane in range(64)]
    for half, name in enumerate(("v_mbcnt_lo_u32_b32", "v_mbcnt_hi_u32_b32")):
        masks = np.array([mask >> 32 * half & 0xFFFFFFFF for mask in lanes], U32)
        case(name, [U32, U32], U32, lambda a, b, masks=masks: np.bitwise_count(a & masks).astype(U32) + b)
    three = {
        "v_mad_u32_u24": lambda a, b, c: (a & 0xFFFFFF) * (b & 0xFFFFFF) + c,
        "v_mad_i32_i24": lambda a, b, c: s24(a) * s24(b) + c,
        "v_add3_u32": lambda a, b, c: a + b + c,
        "v_lshl_add_u32": lambda a, b, c: (a << (b & 31)) + c,
        "v_add_lshl_u32": lambda a, b, c: ((a + b) & 0xFFFFFFFF) << (c & 31),
        "v_lshl_or_b32": lambda a, b, c: a << (b & 31) | c,
        "v_and_or_b32": lambda a, b, c: a & b | c,
        "v_or3_b32": lambda a, b, c: a | b | c,
        "v_xad_u32": lambda a, b, c: (a ^ b) + c,
        "v_bfe_u32": lambda a, b, c: (a >> (b & 31)) & ((1 << (c & 31)) - 1),
        "v_bfe_i32": _bfe_i32,
        "v_bfi_b32": lambda a, b, c: a & b | ~a & c,
        "v_alignbit_b32": lambda a, b, c: (a << 32 | b) >> (c & 31),
        "v_alignbyte_b32": lambda a, b, c: (a << 32 | b) >> 8 * (c & 3),
        "v_perm_b32": _perm,
        "v_min3_u32": min,
        "v_max3_u32": max,
        "v_med3_u32": lambda *x: sorted(x)[1],
        "v_min3_i32": lambda *x: min(map(s32, x)),
        "v_max3_i32": lambda *x: max(map(s32, x)),
        "v_med3_i32": lambda *x: sorted(map(s32, x))[1],
        "v_sad_u32": lambda a, b, c: abs(a - b) + c,
        "v_sad_u16": lambda a, b, c: _sad(16)(a, b) + c,
        "v_sad_u8": lambda a, b, c: _sad(8)(a, b) + c,
        "v_sad_hi_u8": lambda a, b, c: (_sad(8)(a, b) << 16) + c,
    }
    for name, function in three.items():
        case(name, [U32, U32, U32], U32, wrap(function))
    for table in (0x00, 0xE8, 0x96, 0x53):

        def bitop(a: int, b: int, c: int, table: int = table) -> int:
            places = ((a >> i & 1) << 2 | (b >> i & 1) << 1 | (c >> i & 1) for i in range(32))
            return sum((table >> place & 1) << i for i, place in enumerate(places))

        case("v_bitop3_b32", [U32, U32, U32], U32, wrap(bitop), modifiers=f" bitop3:0x{table:x}")
        half_op = lanewise(lambda a, b, c, f=bitop: f(a, b, c) & 0xFFFF, U16)
        case("v_bitop3_b16", [U16, U16, U16], U16, half_op, modifiers=f" bitop3:0x{table:x}")

    def shift(low: int, high: int) -> Callable[[int, int, int], int]:
        part = lambda x, c: min(max(s32(x) >> (c & 31), low), high) & 0xFF  # noqa: E731
        return lambda a, b, c: part(a, c) | part(b, c) << 8

    case("v_ashr_pk_i8_i32", [U32, U32, U32], U16, lanewise(shift(-128, 127), U16))
    case("v_ashr_pk_u8_i32", [U32, U32, U32], U16, lanewise(shift(0, 255), U16))
    clamped = " clamp"
    case("v_add_u32_e64", [U32, U32], U32, lanewise(lambda a, b: min(a + b, 0xFFFFFFFF), U32), modifiers=clamped)
    case("v_sub_u32_e64", [U32, U32], U32, lanewise(lambda a, b: max(a - b, 0), U32), modifiers=clamped)
    saturate = lambda x: min(max(x, -(1 << 31)), (1 << 31) - 1)  # noqa: E731
    case("v_add_i32", [I32, I32], I32, lanewise(lambda a, b: saturate(a + b), I32), modifiers=clamped)
    case("v_sub_i32", [I32, I32], I32, lanewise(lambda a, b: saturate(a - b), I32), modifiers=clamped)


def _sixteen_bits() -> None:
    def short(name: str, sources: int, signed: bool, function: Callable[..., int]) -> None:
        dtype = I16 if signed else U16
        case(name, [dtype] * sources, U16, lanewise(lambda *x: function(*x) & 0xFFFF, U16))

    short("v_add_u16", 2, False, lambda a, b: a + b)
    short("v_sub_u16", 2, False, lambda a, b: a - b)
    short("v_subrev_u16", 2, False, lambda a, b: b - a)
    short("v_add_i16", 2, True, lambda a, b: a + b)
    short("v_sub_i16", 2, True, lambda a, b: a - b)
    short("v_mul_lo_u16", 2, False, lambda a, b: a * b)
    short("v_lshlrev_b16", 2, False, lambda a, b: b << (a & 15))
    short("v_lshrrev_b16", 2, False, lambda a, b: b >> (a & 15))
    short("v_ashrrev_i16", 2, True, lambda a, b: b >> (a & 15))
    short("v_min_u16", 2, False, min)
    short("v_max_u16", 2, False, max)
    short("v_min_i16", 2, True, min)
    short("v_max_i16", 2, True, max)
    for suffix, signed in (("u16", False), ("i16", True)):
        short(f"v_mad_{suffix}", 3, signed, lambda a, b, c: a * b + c)
        short(f"v_mad_legacy_{suffix}", 3, signed, lambda a, b, c: a * b + c)
        short(f"v_min3_{suffix}", 3, signed, min)
        short(f"v_max3_{suffix}", 3, signed, max)
        short(f"v_med3_{suffix}", 3, signed, lambda *x: sorted(x)[1])
    wide = lambda a, b, c: (a * b + c) & 0xFFFFFFFF  # noqa: E731
    case("v_mad_u32_u16", [U16, U16, U32], U32, lanewise(wide, U32))
    case("v_mad_i32_i16", [I16, I16, U32], U32, lanewise(wide, U32))


def _sixty_four_bits() -> None:
    mask = (1 << 64) - 1
    case("v_mov_b64", [U64], U64, lambda a: a)
    case("v_lshlrev_b64", [U32, U64], U64, lanewise(lambda a, b: b << (a & 63) & mask, U64))
    case("v_lshrrev_b64", [U32, U64], U64, lanewise(lambda a, b: b >> (a & 63), U64))
    case("v_ashrrev_i64", [U32, I64], I64, lanewise(lambda a, b: b >> (a & 63), I64))
    # The shift of v_lshl_add_u64 is 0 to 4; more is not specified.
    case("v_lshl_add_u64", [U64, "shift4", U64], U64, lanewise(lambda a, b, c: (a << b) + c & mask, U64))


# ---- floats


def _max(a: Array, b: Array) -> Array:
    larger = np.where((a == b) & (a == 0), np.where(np.signbit(a), b, a), np.where(a > b, a, b))
    return np.where(np.isnan(a), b, np.where(np.isnan(b), a, larger)).astype(a.dtype)


def _min(a: Array, b: Array) -> Array:
    smaller = np.where((a == b) & (a == 0), np.where(np.signbit(a), a, b), np.where(a < b, a, b))
    return np.where(np.isnan(a), b, np.where(np.isnan(b), a, smaller)).astype(a.dtype)


def _med3(a: Array, b: Array, c: Array) -> Array:
    middle = _max(_min(a, b), _min(_max(a, b), c))
    any_nan = np.isnan(a) | np.isnan(b) | np.isnan(c)
    return np.where(any_nan, _min(_min(a, b), c), middle).astype(a.dtype)


def flush(a: Array) -> Array:
    return np.where(np.abs(a) < np.finfo(F32).tiny, np.copysign(F32(0), a), a).astype(F32)


def _floats() -> None:
    for suffix, dtype, shape in (("f32", F32, F32_FORMAT), ("f16", F16, F16_FORMAT), ("f64", F64, F64_FORMAT)):
        one, two, three = [dtype], [dtype] * 2, [dtype] * 3

        def add(name: str, sources: Any, function: Callable[..., Array], dtype: Any = dtype, **more: Any) -> None:
            case(name, sources, dtype, quiet(lambda *x: function(*x).astype(dtype)), **more)

        add(f"v_add_{suffix}", two, lambda a, b: a + b)
        add(f"v_mul_{suffix}", two, lambda a, b: a * b)
        add(f"v_max_{suffix}", two, _max)
        add(f"v_min_{suffix}", two, _min)
        add(f"v_fma_{suffix}", three, lanewise(fma_exact(shape), F64))
        add(f"v_floor_{suffix}", one, np.floor)
        add(f"v_ceil_{suffix}", one, np.ceil)
        add(f"v_trunc_{suffix}", one, np.trunc)
        add(f"v_rndne_{suffix}", one, np.rint)
        below_one = np.nextafter(dtype(1), dtype(0))
        add(f"v_fract_{suffix}", one, lambda a, top=below_one: np.minimum(a - np.floor(a), top))
        add(f"v_frexp_mant_{suffix}", one, lambda a: np.where(np.isfinite(a), np.frexp(a)[0], a))
        exponents = lambda a: np.where(np.isfinite(a), np.frexp(a)[1], 0)  # noqa: E731
        name, width = ("v_frexp_exp_i16_f16", I16) if dtype is F16 else (f"v_frexp_exp_i32_{suffix}", I32)
        case(name, one, width, lambda a, width=width, f=exponents: f(a).astype(width))
        if dtype is not F64:
            add(f"v_sub_{suffix}", two, lambda a, b: a - b)
            add(f"v_subrev_{suffix}", two, lambda a, b: b - a)
            add(f"v_max3_{suffix}", three, lambda a, b, c: _max(_max(a, b), c))
            add(f"v_min3_{suffix}", three, lambda a, b, c: _min(_min(a, b), c))
            add(f"v_med3_{suffix}", three, _med3)
    case("v_fmac_f32", [F32, F32], F32, lanewise(fma_exact(F32_FORMAT), F32), keeps=True)
    case("v_fmac_f64", [F64, F64], F64, lanewise(fma_exact(F64_FORMAT), F64), keeps=True)
    legacy = quiet(lambda a, b: np.where((a == 0) | (b == 0), F32(0), a * b).astype(F32))
    case("v_mul_legacy_f32", [F32, F32], F32, legacy)
    nan3 = lambda a, b, c: np.isnan(a) | np.isnan(b) | np.isnan(c)  # noqa: E731
    three = [F32] * 3
    maximum3 = lambda *x: np.where(nan3(*x), F32(np.nan), _max(_max(*x[:2]), x[2]))  # noqa: E731
    minimum3 = lambda *x: np.where(nan3(*x), F32(np.nan), _min(_min(*x[:2]), x[2]))  # noqa: E731
    case("v_maximum3_f32", three, F32, maximum3)
    case("v_minimum3_f32", three, F32, minimum3)
    literal = F32(1.5)
    exact = lanewise(fma_exact(F32_FORMAT), F32)
    case("v_fmaak_f32", [F32, F32], F32, lambda a, b: exact(a, b, np.full(64, literal)), modifiers=", 0x3fc00000")
    fmamk = lambda a, b: exact(a, np.full(64, literal), b)  # noqa: E731
    case("v_fmamk_f32", [F32, F32], F32, fmamk, modifiers=" via literal")
    case("v_ldexp_f32", [F32, "exponent"], F32, quiet(lambda a, b: np.ldexp(a, b).astype(F32)))
    case("v_ldexp_f64", [F64, "exponent"], F64, quiet(lambda a, b: np.ldexp(a, b)))
    case("v_ldexp_f16", [F16, "exponent16"], F16, quiet(lambda a, b: np.ldexp(a.astype(F64), b).astype(F16)))
    clamp = lambda f: quiet(lambda *x: (np.nan_to_num(np.clip(f(*x), 0, 1), nan=0) + 0).astype(x[0].dtype))  # noqa: E731
    case("v_add_f32_e64", [F32, F32], F32, clamp(lambda a, b: a + b), modifiers=" clamp")
    case("v_mul_f16_e64", [F16, F16], F16, clamp(lambda a, b: a * b), modifiers=" clamp")
    for text, factor in (("mul:2", 2), ("mul:4", 4), ("div:2", 0.5)):
        scaled = quiet(lambda a, b, k=factor: (a + b) * F32(k))
        case("v_add_f32_e64", [F32, F32], F32, scaled, modifiers=f" {text}")


def _transcendental() -> None:
    def trans(name: str, function: Callable[[Array], Array], tolerance: float = 3e-7) -> None:
        wide = lambda a: flush(function(flush(a).astype(F64)).astype(F32))  # noqa: E731
        case(f"{name}_f32", [F32], F32, quiet(wide), tolerance=tolerance)
        narrow = lambda a: function(a.astype(F64)).astype(F16)  # noqa: E731
        case(f"{name}_f16", [F16], F16, quiet(narrow), tolerance=2e-3)

    turn = 2 * np.pi
    trans("v_rcp", lambda a: 1 / a)
    trans("v_rsq", lambda a: 1 / np.sqrt(a))
    trans("v_sqrt", np.sqrt)
    trans("v_exp", np.exp2)
    trans("v_log", np.log2)
    case("v_rcp_iflag_f32", [F32], F32, quiet(lambda a: flush(1 / flush(a))), tolerance=3e-7)
    for name, function in (("v_exp_legacy_f32", np.exp2), ("v_log_legacy_f32", np.log2)):
        legacy = lambda a, f=function: flush(f(flush(a).astype(F64)).astype(F32))  # noqa: E731
        case(name, [F32], F32, quiet(legacy), tolerance=3e-7)
    case("v_sin_f16", ["turns16"], F16, lambda a: np.sin(turn * a.astype(F64)).astype(F16), tolerance=4e-3)
    case("v_cos_f16", ["turns16"], F16, lambda a: np.cos(turn * a.astype(F64)).astype(F16), tolerance=4e-3)
    case("v_sin_f32", ["turns"], F32, lambda a: np.sin(turn * a.astype(F64)).astype(F32), tolerance=1e-6)
    case("v_cos_f32", ["turns"], F32, lambda a: np.cos(turn * a.astype(F64)).astype(F32), tolerance=1e-6)
    double = {"v_rcp_f64": lambda a: 1 / a, "v_rsq_f64": lambda a: 1 / np.sqrt(a), "v_sqrt_f64": np.sqrt}
    for name, function in double.items():
        case(name, [F64], F64, quiet(function), tolerance=1e-15)


# ---- conversions


def _to_int(dtype: Any) -> Callable[[Array], Array]:
    info = np.iinfo(dtype)

    def convert(a: Array) -> Array:
        wide = np.nan_to_num(np.trunc(a.astype(F64)), nan=0.0, posinf=1e300, neginf=-1e300)
        return np.clip(wide, float(info.min), float(info.max)).astype(I64).astype(dtype)

    return quiet(convert)


def _pack16(low: Array, high: Array) -> Array:
    return low.view(U16).astype(U32) | high.view(U16).astype(U32) << 16


def _toward_zero_f16(a: Array) -> Array:
    nearest = a.astype(F16)
    too_big = (np.abs(nearest.astype(F64)) > np.abs(a.astype(F64))) & np.isfinite(a)
    return np.where(too_big, np.nextafter(nearest, F16(0)), nearest).astype(F16)


def _conversions() -> None:
    case("v_cvt_i32_f32", [F32], I32, _to_int(I32))
    case("v_cvt_u32_f32", [F32], U32, _to_int(U32))
    case("v_cvt_i32_f64", [F64], I32, _to_int(I32))
    case("v_cvt_u32_f64", [F64], U32, _to_int(U32))
    case("v_cvt_i16_f16", [F16], I16, _to_int(I16))
    case("v_cvt_u16_f16", [F16], U16, _to_int(U16))
    case("v_cvt_flr_i32_f32", [F32], I32, quiet(lambda a: _to_int(I32)(np.floor(a))))
    case("v_cvt_rpi_i32_f32", [F32], I32, quiet(lambda a: _to_int(I32)(np.floor(a + F32(0.5)))))
    case("v_cvt_f32_i32", [I32], F32, lambda a: a.astype(F32))
    case("v_cvt_f32_u32", [U32], F32, lambda a: a.astype(F32))
    case("v_cvt_f64_i32", [I32], F64, lambda a: a.astype(F64))
    case("v_cvt_f64_u32", [U32], F64, lambda a: a.astype(F64))
    case("v_cvt_f64_f32", [F32], F64, lambda a: a.astype(F64))
    case("v_cvt_f32_f64", [F64], F32, quiet(lambda a: a.astype(F32)))
    case("v_cvt_f16_i16", [I16], F16, lambda a: a.astype(F16))
    case("v_cvt_f16_u16", [U16], F16, quiet(lambda a: a.astype(F16)))
    case("v_cvt_f16_f32", [F32], F16, quiet(lambda a: a.astype(F16)))
    case("v_cvt_f32_f16", [F16], F32, lambda a: a.astype(F32))
    case("v_cvt_f32_bf16", [BF16], F32, lambda a: a.astype(F32))
    for byte in range(4):
        case(f"v_cvt_f32_ubyte{byte}", [U32], F32, lambda a, k=byte: (a >> 8 * k & 0xFF).astype(F32))
    case("v_cvt_off_f32_i4", [U32], F32, lambda a: (((a & 15).astype(I32) ^ 8) - 8).astype(F32) / 16)
    case("v_cvt_pk_f16_f32", [F32, F32], U32, quiet(lambda a, b: _pack16(a.astype(F16), b.astype(F16))))
    case("v_cvt_pk_bf16_f32", [F32, F32], "bf16x2", quiet(lambda a, b: _pack16(a.astype(BF16), b.astype(BF16))))
    rtz = quiet(lambda a, b: _pack16(_toward_zero_f16(a), _toward_zero_f16(b)))
    case("v_cvt_pkrtz_f16_f32", [F32, F32], "f16x2", rtz)
    clip = lambda low, high, dtype: lambda a: np.clip(a.astype(I64), low, high).astype(dtype)  # noqa: E731
    i16, u16 = clip(-32768, 32767, I16), clip(0, 65535, U16)
    case("v_cvt_pk_i16_i32", [I32, I32], U32, lambda a, b: _pack16(i16(a), i16(b)))
    case("v_cvt_pk_u16_u32", [U32, U32], U32, lambda a, b: _pack16(u16(a), u16(b)))
    norm = lambda low, k, dtype: lambda a: np.rint(np.clip(a, low, 1) * F32(k)).astype(dtype)  # noqa: E731
    snorm, unorm = norm(-1, 32767, I16), norm(0, 65535, U16)
    case("v_cvt_pknorm_i16_f32", ["small", "small"], U32, lambda a, b: _pack16(snorm(a), snorm(b)))
    case("v_cvt_pknorm_u16_f32", ["small", "small"], U32, lambda a, b: _pack16(unorm(a), unorm(b)))

    def insert(value: float, index: int, into: int) -> int:
        byte = 0 if not value > 0 else int(min(value, 255))
        shift = 8 * (index & 3)
        return into & ~(0xFF << shift) & 0xFFFFFFFF | byte << shift

    case("v_cvt_pk_u8_f32", [F32, U32, U32], U32, lanewise(insert, U32))
    case("v_pack_b32_f16", [F16, F16], U32, _pack16)


def _dots() -> None:
    def halves(a: Array, dtype: Any) -> tuple[Array, Array]:
        return (a & 0xFFFF).astype(U16).view(dtype), (a >> 16).astype(U16).view(dtype)

    def dot(size: int, signed: bool) -> Callable[[int, int, int], int]:
        def element(x: int, place: int) -> int:
            value = x >> place & ((1 << size) - 1)
            return value - (1 << size) if signed and value >> (size - 1) else value

        return lambda a, b, c: (sum(element(a, p) * element(b, p) for p in range(0, 32, size)) + c) & 0xFFFFFFFF

    for name, size, signed in (
        ("v_dot2_i32_i16", 16, True),
        ("v_dot2_u32_u16", 16, False),
        ("v_dot4_i32_i8", 8, True),
        ("v_dot4_u32_u8", 8, False),
        ("v_dot8_i32_i4", 4, True),
        ("v_dot8_u32_u4", 4, False),
    ):
        case(name, [U32] * 3, U32, lanewise(dot(size, signed), U32))
    for name, size in (("v_dot2c_i32_i16", 16), ("v_dot4c_i32_i8", 8), ("v_dot8c_i32_i4", 4)):
        case(name, [U32] * 2, U32, lanewise(dot(size, True), U32), keeps=True)

    def dot2(dtype: Any) -> Callable[[Array, Array, Array], Array]:
        def total(a: Array, b: Array, c: Array) -> Array:
            (al, ah), (bl, bh) = halves(a, dtype), halves(b, dtype)
            return (al.astype(F64) * bl.astype(F64) + ah.astype(F64) * bh.astype(F64) + c.astype(F64)).astype(F32)

        return total

    # The order of the additions is not specified: values that add up exactly.
    for kind, dtype in (("f16", F16), ("bf16", BF16)):
        pair = f"{kind}x2 small"
        case(f"v_dot2_f32_{kind}", [pair, pair, "quarters"], F32, dot2(dtype))
        case(f"v_dot2c_f32_{kind}", [pair, pair], F32, dot2(dtype), keeps=True)


for _section in (
    _unary_ints,
    _binary_ints,
    _sixteen_bits,
    _sixty_four_bits,
    _floats,
    _transcendental,
    _conversions,
    _dots,
):
    _section()
