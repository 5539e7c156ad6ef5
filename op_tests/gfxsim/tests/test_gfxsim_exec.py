"""What vector instructions compute, lane by lane, against exec_cases.py."""

from __future__ import annotations

import numpy as np
import pytest
from ids import part

from gfxsim.tests.exec_cases import CASES, F16, F32, F64, I32, I64, U32, U64, Case
from gfxsim.tests.exec_machine import (
    ALL_LANES,
    ARCHS,
    LANES,
    VCC,
    Machine,
    existing,
    recording,
    semantic_names,
    word_table,
)
from gfxsim.tests.exec_values import COMPARED, active, assert_same, floats, inputs, mask_of, operand


@pytest.fixture(params=ARCHS)
def arch(request: pytest.FixtureRequest) -> str:
    return request.param


def text_of(case: Case) -> str:
    if case.name == "v_fmamk_f32":
        return "v_fmamk_f32 v0, v2, 0x3fc00000, v4"
    sources = [operand(2 + 2 * i, kind) for i, kind in enumerate(case.sources)]
    return f"{case.name} {operand(0, case.result)}, {', '.join(sources)}{case.modifiers}"


@pytest.mark.parametrize(
    ("arch", "case"), existing(CASES, text_of), ids=lambda x: part(getattr(x, "name", x) + getattr(x, "modifiers", ""))
)
def test_elementwise(case: Case, arch: str) -> None:
    text = text_of(case)
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
