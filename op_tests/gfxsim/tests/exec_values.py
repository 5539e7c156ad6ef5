"""Values to try an instruction on, for every type of a source, and how a result is compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gfxsim.tests.exec_cases import BF16, CASES, F16, F32, F64, I16, I32, I64, U16, U32, U64
from gfxsim.tests.exec_machine import LANES

COMPARED = {"i16": I16, "u16": U16, "i32": I32, "u32": U32, "i64": I64, "u64": U64, "f16": F16, "f32": F32, "f64": F64}


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


def packed_reference(name: str, dtype: Any) -> tuple[int, Callable[..., np.ndarray]]:
    for case in CASES:
        if case.name == name and not case.modifiers:
            return len(case.sources), case.function
    raise KeyError(name)


def mask_of(lanes: np.ndarray) -> int:
    return sum(1 << int(lane) for lane in np.flatnonzero(lanes))


def operand(reg: int, kind: Any) -> str:
    size = 4 if isinstance(kind, str) else np.dtype(kind).itemsize
    return f"v[{reg}:{reg + 1}]" if size == 8 else f"v{reg}"
