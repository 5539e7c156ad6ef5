"""The matrix core: lane layout and values of every instruction, against matrices multiplied in fp64."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gfxsim.tests.exec_machine import AGPR0, ARCHS, Machine, existing, semantic_names

LANES = 64
FP8 = {
    "gfx942": {"fp8": ml_dtypes.float8_e4m3fnuz, "bf8": ml_dtypes.float8_e5m2fnuz},
    "gfx950": {"fp8": ml_dtypes.float8_e4m3fn, "bf8": ml_dtypes.float8_e5m2},
}
FORMATS = {0: ml_dtypes.float8_e4m3fn, 1: ml_dtypes.float8_e5m2, 2: ml_dtypes.float6_e2m3fn, 3: ml_dtypes.float6_e3m2fn}
FORMATS[4] = ml_dtypes.float4_e2m1fn
FORMAT_BITS = {0: 8, 1: 8, 2: 6, 3: 6, 4: 4}


@pytest.fixture(params=ARCHS)
def arch(request: pytest.FixtureRequest) -> str:
    return request.param


@dataclass(frozen=True)
class Shape:
    rows: int
    depth: int
    blocks: int
    kinds: tuple[str, str]

    @classmethod
    def of(cls, name: str) -> Shape:
        """v_mfma_f32_32x32x4_2b_bf16: a result of 32x32, a depth of 4, 2 blocks, both inputs bf16."""
        match = re.fullmatch(r"v_mfma_(?:scale_)?\w\d\d_(\d+)x\d+x(\d+)_(?:(\d+)b_)?(\w+)", name)
        assert match, name
        kinds = match[4].split("_")
        return cls(int(match[1]), int(match[2]), int(match[3] or 1), (kinds[0], kinds[-1]))

    @property
    def per_lane(self) -> int:
        return self.rows * self.depth * self.blocks // LANES

    def input_place(self, block: int, row: int, k: int) -> tuple[int, int]:
        """Lane, and element of the lane. Rows count fastest over the lanes, then blocks, then runs of k."""
        if self.blocks > 1:
            return block * self.rows + row, k
        return k // self.per_lane * self.rows + row, k % self.per_lane

    def result_place(self, block: int, row: int, column: int) -> tuple[int, int]:
        """Lane and register: a lane has one column; groups of 4 rows go round over the groups of lanes."""
        if self.rows == 4:
            return block * 4 + column, row
        groups = LANES // self.rows
        four, within = divmod(row, 4)
        register = block * self.rows * self.rows // LANES + four // groups * 4 + within
        return four % groups * self.rows + column, register


MFMA = [n for n in semantic_names() if n.startswith("v_mfma")]
PLAIN = [n for n in MFMA if "f8f6f4" not in n and "f64" not in n]


def pack(elements: np.ndarray, bits: int) -> np.ndarray:
    """[64, n] codes of `bits` bits, lowest first, to [64, words]."""
    lanes = []
    for row in elements.tolist():
        number = sum(int(code) << bits * i for i, code in enumerate(row))
        words = max(1, (len(row) * bits + 31) // 32)
        lanes.append([number >> 32 * w & 0xFFFFFFFF for w in range(words)])
    return np.array(lanes, np.uint32)


def dtype_of(kind: str, arch: str) -> Any:
    types = {"bf16": ml_dtypes.bfloat16, "f16": np.float16, "f32": np.float32, "xf32": np.float32, "i8": np.int8}
    return types.get(kind) or FP8[arch][kind]


def codes_of(values: np.ndarray) -> tuple[np.ndarray, int]:
    size = values.dtype.itemsize
    return values.view(f"u{size}"), 8 * size


def lay_out(shape: Shape, matrix: np.ndarray, bits: int) -> np.ndarray:
    """matrix[block, row, k] of codes to the lanes' registers."""
    elements = np.zeros((LANES, shape.per_lane), np.uint64)
    for block, row, k in np.ndindex(matrix.shape):
        lane, element = shape.input_place(block, row, k)
        elements[lane, element] = matrix[block, row, k]
    return pack(elements, bits)


def spread_result(shape: Shape, matrix: np.ndarray) -> np.ndarray:
    """matrix[block, row, column] to [64, registers]."""
    registers = np.zeros((LANES, shape.rows * shape.rows * shape.blocks // LANES), matrix.dtype)
    for place in np.ndindex(matrix.shape):
        registers[shape.result_place(*place)] = matrix[place]
    return registers


def registers(first: int, count: int, letter: str = "v") -> str:
    return f"{letter}{first}" if count == 1 else f"{letter}[{first}:{first + count - 1}]"


def small_values(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Numbers that every format here holds and whose sums of products are exact in fp32."""
    if dtype is np.int8:
        return rng.integers(-128, 128, shape).astype(np.int8)
    return rng.choice(np.array([-3, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3]), shape).astype(dtype)


def text_of(name: str, c: str = "") -> str:
    """The instruction with A at v40, B at v60, C at v80 or as given, and its result at v0."""
    shape = Shape.of(name)
    bits = [{"f32": 32, "xf32": 32, "bf16": 16, "f16": 16}.get(kind, 8) for kind in shape.kinds]
    n_a, n_b = (max(1, shape.per_lane * each // 32) for each in bits)
    n_c = shape.rows**2 * shape.blocks // LANES
    return f"{name} {registers(0, n_c)}, {registers(40, n_a)}, {registers(60, n_b)}, {c or registers(80, n_c)}"


@pytest.mark.parametrize(("arch", "name"), existing(PLAIN, text_of))
def test_layout(name: str, arch: str) -> None:
    shape = Shape.of(name)
    rng = np.random.default_rng(len(name))
    dtypes = [dtype_of(kind, arch) for kind in shape.kinds]
    out = np.int32 if "_i32_" in name else np.float32
    a, b = (small_values(rng, (shape.blocks, shape.rows, shape.depth), dtype) for dtype in dtypes)
    c = rng.integers(-9, 10, (shape.blocks, shape.rows, shape.rows)).astype(out)
    laid_a, laid_b = (lay_out(shape, *codes_of(x)) for x in (a, b))
    laid_c = spread_result(shape, c)
    n_a, n_b, n_c = laid_a.shape[1], laid_b.shape[1], laid_c.shape[1]
    machine = Machine(arch, exec=0x123456789)  # EXEC does not matter
    for reg, values in ((40, laid_a), (60, laid_b), (80, laid_c)):
        machine.set(reg, values)
    result = machine.run(text_of(name))
    assert result.kind == "none", result.text
    wide = np.einsum("bik,bjk->bij", a.astype(np.float64), b.astype(np.float64)) + c
    want = spread_result(shape, wide.astype(out))
    got = result.v[:n_c].T.copy().view(out)
    assert np.array_equal(got, want)
    assert not result.v_undefined[:n_c].any()
    accumulators = f"{name} {registers(0, n_c, 'a')}, {registers(40, n_a)}, {registers(60, n_b)}, 0"
    result = machine.run(accumulators)
    want = spread_result(shape, (wide - c).astype(out))
    assert np.array_equal(result.v[AGPR0 : AGPR0 + n_c].T.copy().view(out), want)


@pytest.mark.parametrize("kind", ["bf16", "f16", "f32", "fp8", "bf8"])
def test_all_codes(kind: str, arch: str) -> None:
    """Every code of the 8-bit kinds, random ones of the others, times one: conversion alone, with NaN and infinity."""
    name = {"bf16": "16x16x16_bf16", "f16": "16x16x16_f16", "f32": "16x16x4_f32"}.get(kind, f"16x16x32_{kind}_{kind}")
    name = f"v_mfma_f32_{name}"
    shape, dtype = Shape.of(name), dtype_of(kind, arch)
    rng = np.random.default_rng(2)
    size = np.dtype(dtype).itemsize
    for start in range(0, 256 if size == 1 else 8 * 16, 16):
        codes = rng.integers(0, 1 << 8 * size, 16, np.uint64).astype(f"u{size}")
        if size == 1:
            codes = np.arange(start, start + 16, dtype=np.uint8)
        a = np.zeros((1, 16, shape.depth), dtype)
        a[0, :, start // 16 % shape.depth] = codes.view(dtype)
        b = np.zeros((1, 16, shape.depth), dtype)
        b[0, :, start // 16 % shape.depth] = 1
        machine = Machine(arch)
        laid_a, laid_b = (lay_out(shape, *codes_of(x)) for x in (a, b))
        machine.set(40, laid_a)
        machine.set(60, laid_b)
        n = laid_a.shape[1]
        result = machine.run(f"{name} v[0:3], {registers(40, n)}, {registers(60, n)}, 0")
        got = result.v[:4].T.copy().view(np.float32)
        with np.errstate(all="ignore"):
            column = codes.view(dtype).astype(np.float32)
        want = spread_result(shape, np.repeat(column[None, :, None], 16, 2))
        assert ((got == want) | (np.isnan(got) & np.isnan(want))).all()


def test_accumulates_in_fp32(arch: str) -> None:
    """Random numbers: the error is that of fp32 sums, and the products are exact."""
    name = "v_mfma_f32_32x32x8_bf16"
    shape = Shape.of(name)
    rng = np.random.default_rng(3)
    a, b = (rng.standard_normal((1, 32, 8)).astype(ml_dtypes.bfloat16) for _ in range(2))
    machine = Machine(arch)
    machine.set(40, lay_out(shape, *codes_of(a)))
    machine.set(60, lay_out(shape, *codes_of(b)))
    got = machine.run(f"{name} v[0:15], v[40:41], v[60:61], 1.0").v[:16].T.copy().view(np.float32)
    wide = np.einsum("bik,bjk->bij", a.astype(np.float64), b.astype(np.float64)) + 1
    assert np.abs(got - spread_result(shape, wide)).max() < 4e-6


@pytest.mark.parametrize("first", FORMATS)
@pytest.mark.parametrize("second", FORMATS)
@pytest.mark.parametrize("rows", [16, 32])
def test_formats(first: int, second: int, rows: int) -> None:
    """f8f6f4: each pair of formats, with and without scales."""
    depth = {16: 128, 32: 64}[rows]
    shape = Shape(rows, depth, 1, ("", ""))
    rng = np.random.default_rng(first * 8 + second)
    codes = [rng.integers(0, 1 << FORMAT_BITS[f], (1, rows, depth)).astype(np.uint8) for f in (first, second)]
    values = [c.view(FORMATS[f]).astype(np.float64) for c, f in zip(codes, (first, second), strict=True)]
    for i, f in enumerate((first, second)):  # neither NaN nor infinity here
        codes[i][~np.isfinite(values[i])] = 0
        values[i] = codes[i].view(FORMATS[f]).astype(np.float64)
    laid = [lay_out(shape, c, FORMAT_BITS[f]) for c, f in zip(codes, (first, second), strict=True)]
    n_a, n_b, n_c = laid[0].shape[1], laid[1].shape[1], rows * rows // LANES
    machine = Machine("gfx950")
    machine.set(40, laid[0])
    machine.set(60, laid[1])
    scales = [rng.integers(120, 134, (LANES, 4)) for _ in range(2)]
    for i, scale in enumerate(scales):
        machine.set(100 + i, scale.astype(np.uint8))
    operands = f"{registers(0, n_c)}, {registers(40, n_a)}, {registers(60, n_b)}, 0"
    formats = (f" cbsz:{first}" if first else "") + (f" blgp:{second}" if second else "")
    suffix = f"f32_{rows}x{rows}x{depth}_f8f6f4"

    def check(text: str, a: np.ndarray, b: np.ndarray) -> None:
        result = machine.run(text)
        assert result.kind == "none", result.text
        got = result.v[:n_c].T.copy().view(np.float32).astype(np.float64)
        want = spread_result(shape, a @ b.transpose(0, 2, 1))
        bound = spread_result(shape, np.abs(a) @ np.abs(b).transpose(0, 2, 1))
        assert (np.abs(got - want) <= bound * 2e-6 + 1e-30).all()
        eight = first < 2 or second < 2
        assert result.mfma_clocks == (2 if rows == 32 else 1) * (32 if eight else 16)

    check(f"v_mfma_{suffix} {operands}{formats}", *values)
    for byte_a, byte_b in ((0, 0), (1, 2), (3, 1)):
        select = ""
        if byte_a or byte_b:
            select = f" op_sel:[{byte_a & 1},{byte_b & 1},0] op_sel_hi:[{byte_a >> 1},{byte_b >> 1},0]"
        scaled = []
        for value, scale, byte in zip(values, scales, (byte_a, byte_b), strict=True):
            factor = np.zeros((1, rows, depth))
            for row in range(rows):
                for k in range(depth):
                    factor[0, row, k] = 2.0 ** (scale[shape.input_place(0, row, k)[0], byte] - 127)
            scaled.append(value * factor)
        check(f"v_mfma_scale_{suffix} {operands}, v100, v101{select}{formats}", *scaled)


def test_f64(arch: str) -> None:
    rng = np.random.default_rng(5)
    a, b = rng.standard_normal(LANES), rng.standard_normal(LANES)
    machine = Machine(arch)
    machine.set(40, a)
    machine.set(60, b)
    c = rng.standard_normal((LANES, 4))
    machine.set(80, c)
    result = machine.run("v_mfma_f64_16x16x4_f64 v[0:7], v[40:41], v[60:61], v[80:87]")
    matrix_a, matrix_b = a.reshape(4, 16).T, b.reshape(4, 16)  # lane = 16 k + row
    want = matrix_a @ matrix_b
    got = result.v[:8].T.copy().view(np.float64)
    for lane in range(LANES):
        for i in range(4):
            assert np.isclose(got[lane, i], want[4 * i + lane // 16, lane % 16] + c[lane, i], rtol=1e-13)
    assert result.mfma_clocks == {"gfx942": 32, "gfx950": 64}[arch]
    machine.set(80, c[:, 0].copy())
    result = machine.run("v_mfma_f64_4x4x4_4b_f64 v[0:1], v[40:41], v[60:61], v[80:81] neg:[1,0,0]")
    for lane in range(LANES):
        block, row, column = lane % 16 // 4, lane // 16, lane % 4
        total = sum(-a[16 * k + 4 * block + row] * b[16 * k + 4 * block + column] for k in range(4))
        assert np.isclose(machine.values(result, 0, np.float64)[lane], total + c[lane, 0], rtol=1e-13)


def test_block_broadcast(arch: str) -> None:
    """cbsz and abid: two of four blocks share the A of one of them."""
    shape = Shape.of("v_mfma_f32_16x16x4_4b_bf16")
    rng = np.random.default_rng(6)
    a, b = (small_values(rng, (4, 16, 4), ml_dtypes.bfloat16) for _ in range(2))
    machine = Machine(arch)
    machine.set(40, lay_out(shape, *codes_of(a)))
    machine.set(60, lay_out(shape, *codes_of(b)))
    result = machine.run("v_mfma_f32_16x16x4_4b_bf16 v[0:15], v[40:41], v[60:61], 0 cbsz:1 abid:1")
    shared = a[[1, 1, 3, 3]].astype(np.float64)
    want = spread_result(shape, np.einsum("bik,bjk->bij", shared, b.astype(np.float64)).astype(np.float32))
    assert np.array_equal(result.v[:16].T.copy().view(np.float32), want)


CLOCKS = {
    "v_mfma_f32_16x16x16_bf16": 16, "v_mfma_f32_32x32x8_bf16": 32, "v_mfma_f32_16x16x16_f16": 16,
    "v_mfma_f32_32x32x8_f16": 32, "v_mfma_f32_16x16x32_fp8_fp8": 16, "v_mfma_f32_32x32x16_fp8_fp8": 32,
    "v_mfma_f32_16x16x32_bf16": 16, "v_mfma_f32_32x32x16_bf16": 32, "v_mfma_f32_32x32x2_f32": 64,
    "v_mfma_f32_16x16x4_f32": 32, "v_mfma_f32_4x4x4_16b_f16": 8, "v_mfma_f32_32x32x4_2b_bf16": 64,
    "v_mfma_i32_32x32x16_i8": 32, "v_mfma_i32_16x16x64_i8": 16,
}  # fmt: skip


@pytest.mark.parametrize(("arch", "name"), existing(CLOCKS, lambda name: text_of(name, "0")))
def test_clocks(name: str, arch: str) -> None:
    """AMD's tables of passes, 4 clocks each."""
    result = Machine(arch, checks=0).run(text_of(name, "0"))
    assert result.mfma_clocks == CLOCKS[name] and result.instructions["mfma"] == 1


def test_undefined_rows_stay_in_their_rows(arch: str) -> None:
    """An undefined row of A spoils its row of the result, a column of B its column, and nothing else."""
    shape = Shape.of("v_mfma_f32_16x16x16_bf16")
    machine = Machine(arch, exec=(1 << 64) - 1)
    for reg in (40, 41, 60, 61):
        machine.set(reg, np.zeros(LANES, np.uint32))
    machine.set(5, np.zeros(LANES, np.uint32))
    undefine = f"s_mov_b64 exec, {1 << 3}"  # lane 3 of v40 gets what v200, which nobody wrote, holds
    program = [undefine, "v_mov_b32_e32 v40, v200", "s_mov_b64 exec, -1"]
    result = machine.run(*program, "v_mfma_f32_16x16x16_bf16 v[0:3], v[40:41], v[60:61], 0")
    assert result.kind == "none", result.text
    spoiled = np.zeros((1, 16, 16), bool)
    spoiled[0, 3, :] = True
    want = spread_result(shape, spoiled)
    for register in range(4):
        assert int(result.v_undefined[register]) == sum(1 << lane for lane in range(LANES) if want[lane, register])
    result = machine.run(*program, "v_mfma_f32_16x16x16_bf16 v[0:3], v[60:61], v[40:41], 0")
    want = spread_result(shape, spoiled.transpose(0, 2, 1))
    for register in range(4):
        assert int(result.v_undefined[register]) == sum(1 << lane for lane in range(LANES) if want[lane, register])


def test_unsupported_lane_swizzle(arch: str) -> None:
    machine = Machine(arch, checks=0)
    result = machine.run("v_mfma_f32_16x16x16_f16 v[0:3], v[40:41], v[60:61], 0 blgp:1")
    assert result.kind == "unsupported"


def test_every_shape_is_here() -> None:
    tested = {*PLAIN, "v_mfma_f64_16x16x4_f64", "v_mfma_f64_4x4x4_4b_f64"}
    for rows, depth in ((16, 128), (32, 64)):
        tested |= {f"v_mfma_{scale}f32_{rows}x{rows}x{depth}_f8f6f4" for scale in ("", "scale_")}
    assert tested == set(MFMA)
