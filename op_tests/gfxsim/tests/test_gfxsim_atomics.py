"""The simulator's atomics, in LDS, global, flat and buffer memory, against Python's integers and floats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gfxsim.tests.exec_machine import ARCHS, LANES, Machine, existing, memory, semantic_names
from gfxsim.tests.exec_memory import U32, U64, addresses, clean, registers, set_pair


@pytest.fixture(params=ARCHS)
def arch(request: pytest.FixtureRequest) -> str:
    return request.param


def wrap(value: int, bits: int) -> int:
    return value & ((1 << bits) - 1)


def signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


def float_op(bits: int, op: Callable[[float, float], float]) -> Callable[[int, int, int], int]:
    dtype, word = (np.float32, U32) if bits == 32 else (np.float64, U64)

    def apply(old: int, data: int, bits: int) -> int:
        a, b = (word(x).view(dtype) for x in (old, data))
        return int(dtype(op(a, b)).view(word))

    return apply


def halves_op(dtype: Any) -> Callable[[int, int, int], int]:
    def apply(old: int, data: int, bits: int) -> int:
        a, b = (np.array([x], U32).view(dtype) for x in (old, data))
        return int((a + b).astype(dtype).view(U32)[0])

    return apply


ATOMICS: dict[str, Callable[[int, int, int], int]] = {
    "add": lambda old, data, bits: wrap(old + data, bits),
    "sub": lambda old, data, bits: wrap(old - data, bits),
    "rsub": lambda old, data, bits: wrap(data - old, bits),
    "umin": lambda old, data, bits: min(old, data),
    "umax": lambda old, data, bits: max(old, data),
    "smin": lambda old, data, bits: min(old, data, key=lambda x: signed(x, bits)),
    "smax": lambda old, data, bits: max(old, data, key=lambda x: signed(x, bits)),
    "and": lambda old, data, bits: old & data,
    "or": lambda old, data, bits: old | data,
    "xor": lambda old, data, bits: old ^ data,
    "inc": lambda old, data, bits: 0 if old >= data else old + 1,
    "dec": lambda old, data, bits: data if old == 0 or old > data else old - 1,
    "swap": lambda old, data, bits: data,
    "pk_add_f16": halves_op(np.float16),
    "pk_add_bf16": halves_op(ml_dtypes.bfloat16),
    "add_f32": float_op(32, lambda a, b: a + b),
    "add_f64": float_op(64, lambda a, b: a + b),
    "min_f32": float_op(32, min),
    "max_f32": float_op(32, max),
    "min_f64": float_op(64, min),
    "max_f64": float_op(64, max),
}
LDS_NAMES = {"min_i": "smin", "max_i": "smax", "min_u": "umin", "max_u": "umax", "wrxchg_b": "swap"}


def atomic_of(name: str) -> tuple[str, int]:
    """The operation and bits of global_atomic_umin_x2, ds_min_rtn_u32, ..."""
    if not name.startswith("ds_"):
        op = name.split("_atomic_")[1]
        bits = 64 if op.endswith(("_x2", "f64")) else 32
        return op.removesuffix("_x2"), bits
    op = name.removeprefix("ds_").replace("_rtn", "")
    bits = 64 if op.endswith("64") else 32
    if op.startswith("pk_add") or (op[-3] == "f" and op != "wrxchg_b32"):
        return op, bits
    stem = op[:-2]
    return LDS_NAMES.get(stem, stem.split("_")[0]), bits


NO_ATOMICS = ("ds_read", "ds_write", "ds_bpermute", "ds_permute", "ds_swizzle")
ATOMIC_NAMES = [
    n for n in semantic_names() if "_atomic_" in n or (n.startswith("ds_") and not n.startswith(NO_ATOMICS))
]
SIMPLE = [n for n in ATOMIC_NAMES if "cmp" not in n]
COMPARING = [n for n in ATOMIC_NAMES if "cmp" in n]


def float_or_noise(op: str, bits: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if op.endswith("bf16"):
        return rng.standard_normal(2 * LANES).astype(ml_dtypes.bfloat16).view(U32)
    if op.endswith("f16"):
        return rng.standard_normal(2 * LANES).astype(np.float16).view(U32)
    if op.endswith(("f32", "f64")):
        return (
            rng.standard_normal(LANES).astype(np.float32 if bits == 32 else np.float64).view(U32 if bits == 32 else U64)
        )
    values = rng.integers(0, 1 << bits, LANES, U64).astype(U32 if bits == 32 else U64)
    values[::5] = 3
    return values


def text_of(name: str) -> str:
    """The atomic at v12 (an offset) or v[10:11] (an address) with data at v20; the old value comes back if it can."""
    size = atomic_of(name)[1] // 8
    returned, source = f"{registers(0, size)}, ", registers(20, size)
    if name.startswith("ds_"):
        return f"{name} {returned if '_rtn' in name or 'wrxchg' in name else ''}v12, {source}"
    if name.startswith("buffer"):
        return f"{name} {source}, v12, s[8:11], 0 offen sc0"
    return f"{name} {returned}v[10:11], {source}{', off' if name.startswith('global') else ''} sc0"


@pytest.mark.parametrize(("arch", "name"), existing(SIMPLE, text_of))
def test_atomics(name: str, arch: str) -> None:
    op, bits = atomic_of(name)
    text = text_of(name)
    size = bits // 8
    old, data = float_or_noise(op, bits, 1), float_or_noise(op, bits, 2)
    want = np.array([ATOMICS[op](int(o), int(d), bits) for o, d in zip(old, data, strict=True)], old.dtype)
    target = old.copy()
    lds = name.startswith("ds_")
    returned = registers(0, size) + ", "
    with memory(target) as base:
        machine = Machine(arch, lds=target.view(np.uint8).copy() if lds else np.zeros(0, np.uint8))
        machine.set(20, data)
        machine.set(10, addresses(base, size))
        machine.set(12, (np.arange(LANES) * size).astype(U32))
        set_pair(machine, 8, base)
        machine.s.update({10: target.nbytes, 11: 0})
        back = not lds or "_rtn" in name or "wrxchg" in name
        result = clean(machine.run(text, "s_waitcnt vmcnt(0) lgkmcnt(0)"))
        got = machine.values(result, 20 if name.startswith("buffer") else 0, old.dtype)
        assert not back or np.array_equal(got, old)
        after = result.lds.view(old.dtype) if lds else target
        assert np.array_equal(after, want)
        if not lds:  # without sc0: the same, and nothing comes back
            target[...] = old
            text = text.removesuffix(" sc0").replace(f" {returned}" if not name.startswith("buffer") else "\0", " ", 1)
            clean(machine.run(text))
            assert np.array_equal(target, want)


@pytest.mark.parametrize("name", COMPARING)
def test_compare_and_swap(name: str, arch: str) -> None:
    bits = 64 if name.endswith(("x2", "64")) else 32
    size, dtype = bits // 8, U32 if bits == 32 else U64
    old = float_or_noise("swap", bits, 1)
    compare = np.where(np.arange(LANES) % 3 == 0, old, old + dtype(1))
    data = float_or_noise("swap", bits, 2)
    want = np.where(compare == old, data, old)
    target = old.copy()
    with memory(target) as base:
        lds = name.startswith("ds_")
        machine = Machine(arch, lds=target.view(np.uint8).copy() if lds else np.zeros(0, np.uint8))
        machine.set(20, compare if lds else data)
        machine.set(20 + size // 4, data if lds else compare)
        machine.set(10, addresses(base, size))
        machine.set(12, (np.arange(LANES) * size).astype(U32))
        set_pair(machine, 8, base)
        machine.s.update({10: target.nbytes, 11: 0})
        both, first, second = registers(20, 2 * size), registers(20, size), registers(20 + size // 4, size)
        if lds:
            text = f"{name} {registers(0, size) + ', ' if '_rtn' in name else ''}v12, {first}, {second}"
        elif name.startswith("buffer"):
            text = f"{name} {both}, v12, s[8:11], 0 offen sc0"
        else:
            text = f"{name} {registers(0, size)}, v[10:11], {both}{', off' if name.startswith('global') else ''} sc0"
        result = clean(machine.run(text, "s_waitcnt vmcnt(0) lgkmcnt(0)"))
    assert np.array_equal(result.lds.view(dtype) if lds else target, want)
    if "_rtn" in name or not lds:
        assert np.array_equal(machine.values(result, 20 if name.startswith("buffer") else 0, dtype), old)
