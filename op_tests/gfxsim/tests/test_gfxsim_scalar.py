"""The simulator's scalar instructions and control flow, on both architectures, against Python integers."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest

from gfxsim.tests.exec_machine import ALL_LANES, ARCHS, VCC, Machine

LANES, U32 = 64, np.uint32


@pytest.fixture(params=ARCHS)
def arch(request: pytest.FixtureRequest) -> str:
    return request.param


# ---- arithmetic


def scalar_cases() -> Iterator[tuple[str, int, int, Callable[..., tuple[int, int | None]]]]:
    """Mnemonic, sources, bits, and a function of sources and SCC to result and new SCC (None: unchanged)."""
    for bits in (32, 64):
        full = (1 << bits) - 1
        nonzero = lambda r, full=full: (r & full, int(r & full != 0))  # noqa: E731
        for name, op in (
            ("and", lambda a, b: a & b),
            ("or", lambda a, b: a | b),
            ("xor", lambda a, b: a ^ b),
            ("andn2", lambda a, b: a & ~b),
            ("orn2", lambda a, b: a | ~b),
            ("nand", lambda a, b: ~(a & b)),
            ("nor", lambda a, b: ~(a | b)),
            ("xnor", lambda a, b: ~(a ^ b)),
        ):
            yield f"s_{name}_b{bits}", 2, bits, lambda a, b, scc, op=op, nz=nonzero: nz(op(a, b))
        yield f"s_not_b{bits}", 1, bits, lambda a, scc, nz=nonzero: nz(~a)
        yield f"s_mov_b{bits}", 1, bits, lambda a, scc: (a, None)
        yield f"s_brev_b{bits}", 1, bits, lambda a, scc, n=bits: (int(f"{a:0{n}b}"[::-1], 2), None)
        yield f"s_cselect_b{bits}", 2, bits, lambda a, b, scc: (a if scc else b, None)

        def wqm(a: int, scc: int, n: int = bits) -> tuple[int, int]:
            r = sum(0xF << q for q in range(0, n, 4) if a >> q & 0xF)
            return r, int(r != 0)

        yield f"s_wqm_b{bits}", 1, bits, wqm
    signed = lambda a: a - (1 << 32) if a >> 31 else a  # noqa: E731
    full = 0xFFFFFFFF
    flag = lambda r: (r & full, int(r & full != 0))  # noqa: E731
    overflow = lambda r: (r & full, int(not -(1 << 31) <= r < 1 << 31))  # noqa: E731
    yield "s_add_u32", 2, 32, lambda a, b, scc: (a + b & full, a + b >> 32)
    yield "s_addc_u32", 2, 32, lambda a, b, scc: (a + b + scc & full, a + b + scc >> 32)
    yield "s_sub_u32", 2, 32, lambda a, b, scc: (a - b & full, int(b > a))
    yield "s_subb_u32", 2, 32, lambda a, b, scc: (a - b - scc & full, int(b + scc > a))
    yield "s_add_i32", 2, 32, lambda a, b, scc: overflow(signed(a) + signed(b))
    yield "s_sub_i32", 2, 32, lambda a, b, scc: overflow(signed(a) - signed(b))
    yield "s_min_i32", 2, 32, lambda a, b, scc: (min(a, b, key=signed), int(signed(a) < signed(b)))
    yield "s_max_i32", 2, 32, lambda a, b, scc: (max(a, b, key=signed), int(signed(a) > signed(b)))
    yield "s_min_u32", 2, 32, lambda a, b, scc: (min(a, b), int(a < b))
    yield "s_max_u32", 2, 32, lambda a, b, scc: (max(a, b), int(a > b))
    yield "s_lshl_b32", 2, 32, lambda a, b, scc: flag(a << (b & 31))
    yield "s_lshr_b32", 2, 32, lambda a, b, scc: flag(a >> (b & 31))
    yield "s_ashr_i32", 2, 32, lambda a, b, scc: flag(signed(a) >> (b & 31))
    yield "s_bfm_b32", 2, 32, lambda a, b, scc: (((1 << (a & 31)) - 1) << (b & 31) & full, None)
    yield "s_mul_i32", 2, 32, lambda a, b, scc: (a * b & full, None)
    yield "s_mul_hi_u32", 2, 32, lambda a, b, scc: (a * b >> 32, None)
    yield "s_mul_hi_i32", 2, 32, lambda a, b, scc: (signed(a) * signed(b) >> 32 & full, None)

    def absdiff(a: int, b: int, scc: int) -> tuple[int, int]:
        difference = a - b & full
        return flag(-difference if difference >> 31 else difference)

    yield "s_absdiff_i32", 2, 32, absdiff
    for k in range(1, 5):
        add = lambda a, b, scc, k=k: ((a << k) + b & full, int((a << k) + b >> 32 != 0))  # noqa: E731
        yield f"s_lshl{k}_add_u32", 2, 32, add
    yield "s_pack_ll_b32_b16", 2, 32, lambda a, b, scc: (a & 0xFFFF | (b & 0xFFFF) << 16, None)
    yield "s_pack_lh_b32_b16", 2, 32, lambda a, b, scc: (a & 0xFFFF | b & 0xFFFF0000, None)
    yield "s_pack_hh_b32_b16", 2, 32, lambda a, b, scc: (a >> 16 | b & 0xFFFF0000, None)
    yield "s_abs_i32", 1, 32, lambda a, scc: flag(abs(signed(a)))
    extend = lambda a, n: a - (1 << n) & full if a >> (n - 1) & 1 else a  # noqa: E731
    yield "s_sext_i32_i8", 1, 32, lambda a, scc: (extend(a & 0xFF, 8), None)
    yield "s_sext_i32_i16", 1, 32, lambda a, scc: (extend(a & 0xFFFF, 16), None)
    yield "s_bcnt0_i32_b32", 1, 32, lambda a, scc: flag(32 - a.bit_count())
    yield "s_bcnt1_i32_b32", 1, 32, lambda a, scc: flag(a.bit_count())
    low = lambda a: (a & -a).bit_length() - 1 if a else full  # noqa: E731
    yield "s_ff0_i32_b32", 1, 32, lambda a, scc: (low(~a & full), None)
    yield "s_ff1_i32_b32", 1, 32, lambda a, scc: (low(a), None)
    yield "s_flbit_i32_b32", 1, 32, lambda a, scc: (32 - a.bit_length() if a else full, None)

    def sign_run(a: int, n: int) -> int:
        bits = f"{a:0{n}b}"
        other = bits.find("1" if bits[0] == "0" else "0")
        return other if other >= 0 else full

    yield "s_flbit_i32", 1, 32, lambda a, scc: (sign_run(a, 32), None)


def set_scalar(machine: Machine, reg: int, value: int, bits: int) -> None:
    machine.s[reg] = value & 0xFFFFFFFF
    if bits == 64:
        machine.s[reg + 1] = value >> 32


def name_of(reg: int, bits: int) -> str:
    return f"s{reg}" if bits == 32 else f"s[{reg}:{reg + 1}]"


def scalar_values(bits: int, rng: random.Random) -> int:
    corners = [0, 1, 2, 31, 32, 33, 63, 64, (1 << bits) - 1, 1 << (bits - 1), (1 << (bits - 1)) - 1, 0xFFFF, 0x8000]
    return rng.choice(corners) if rng.random() < 0.5 else rng.getrandbits(bits)


@pytest.mark.parametrize("case", list(scalar_cases()), ids=lambda c: c[0])
def test_scalar(case: tuple[str, int, int, Callable[..., tuple[int, int | None]]], arch: str) -> None:
    name, count, bits, function = case
    rng = random.Random(name)
    corners = (0, 1, (1 << (bits - 1)) - 1, 1 << (bits - 1), (1 << bits) - 1)
    starts = [(values, scc) for values in product(corners, repeat=count) for scc in (0, 1)]
    starts += [(tuple(scalar_values(bits, rng) for _ in range(count)), rng.getrandbits(1)) for _ in range(15)]
    for values, scc_before in starts:
        machine = Machine(arch, scc=scc_before)
        for i, value in enumerate(values):
            set_scalar(machine, 4 + 2 * i, value, bits)
        sources = ", ".join(name_of(4 + 2 * i, bits) for i in range(count))
        result = machine.run(f"{name} {name_of(20, bits)}, {sources}")
        assert result.kind == "none", result.text
        want, scc = function(*values, machine.scc)
        assert (result.s[20] if bits == 32 else result.pair(20)) == want, values
        assert result.scc == (machine.scc if scc is None else scc), values


SHIFTED_64: dict[str, Callable[[int, int], int]] = {
    "s_lshl_b64": lambda a, b: a << (b & 63),
    "s_lshr_b64": lambda a, b: a >> (b & 63),
    "s_ashr_i64": lambda a, b: (a - (1 << 64) if a >> 63 else a) >> (b & 63),
}


def field(value: int, control: int, bits: int, signed: bool) -> int:
    """s_bfe: offset in the low bits, width in [22:16]. Beyond the top come zeros, or the sign."""
    offset, width = control & (bits - 1), control >> 16 & 127
    if signed and value >> (bits - 1):
        value -= 1 << bits
    width = min(width, bits)
    part = value >> offset & ((1 << width) - 1)
    return part - (1 << width) if signed and width and part >> (width - 1) else part


@pytest.mark.parametrize("name", [*SHIFTED_64, "s_bfe_u64", "s_bfe_i64", "s_bfe_u32", "s_bfe_i32"])
def test_scalar_shifts_and_fields(name: str, arch: str) -> None:
    rng, bits = random.Random(name), 32 if name.endswith("32") else 64
    for _ in range(25):
        machine = Machine(arch)
        value, control = scalar_values(bits, rng), rng.randrange(64) | rng.choice((0, 1, 7, 31, 32, 40, 63, 64)) << 16
        set_scalar(machine, 4, value, bits)
        machine.s[6] = control
        result = machine.run(f"{name} {name_of(20, bits)}, {name_of(4, bits)}, s6")
        want = SHIFTED_64[name](value, control) if name in SHIFTED_64 else field(value, control, bits, "_i" in name[5:])
        want &= (1 << bits) - 1
        assert (result.s[20] if bits == 32 else result.pair(20)) == want, (hex(value), hex(control))
        assert result.scc == int(want != 0)


@pytest.mark.parametrize(
    "name",
    ["s_bcnt0_i32_b64", "s_bcnt1_i32_b64", "s_ff0_i32_b64", "s_ff1_i32_b64", "s_flbit_i32_b64", "s_flbit_i32_i64"],
)
def test_scalar_counts_64(name: str, arch: str) -> None:
    rng = random.Random(name)
    for _ in range(20):
        value = scalar_values(64, rng)
        machine = Machine(arch)
        set_scalar(machine, 4, value, 64)
        got = int(machine.run(f"{name} s20, s[4:5]").s[20])
        text = f"{value:064b}"
        other = text.find("1" if text[0] == "0" else "0")
        want = {
            "s_bcnt0_i32_b64": text.count("0"),
            "s_bcnt1_i32_b64": text.count("1"),
            "s_ff0_i32_b64": text[::-1].find("0"),
            "s_ff1_i32_b64": text[::-1].find("1"),
            "s_flbit_i32_b64": text.find("1"),
            "s_flbit_i32_i64": other,
        }[name]
        assert got == want & 0xFFFFFFFF


def test_scalar_moves_with_immediates(arch: str) -> None:
    machine = Machine(arch, s={4: 100, 5: 7})
    assert machine.run("s_movk_i32 s20, 0x8001").s[20] == 0xFFFF8001
    result = machine.run("s_addk_i32 s4, 0xff9b")
    assert (result.s[4], result.scc) == (0xFFFFFFFF, 0)
    machine.s[4] = 0x7FFFFFFF
    assert machine.run("s_addk_i32 s4, 0x1").scc == 1
    assert machine.run("s_mulk_i32 s5, 0xfffd").s[5] == (7 * -3) & 0xFFFFFFFF
    result = machine.run("s_bfm_b64 s[20:21], 9, 50")
    assert result.pair(20) == ((1 << 9) - 1) << 50 & ((1 << 64) - 1)
    for scc in (0, 1):
        machine = Machine(arch, s={4: 1, 5: 2, 20: 3, 21: 4}, scc=scc)
        assert machine.run("s_cmov_b32 s20, s4").s[20] == (1 if scc else 3)
        assert machine.run("s_cmov_b64 s[20:21], s[4:5]").pair(20) == (1 | 2 << 32 if scc else 3 | 4 << 32)
        assert machine.run("s_cmovk_i32 s20, 0xfff0").s[20] == (0xFFFFFFF0 if scc else 3)
    machine = Machine(arch, s={4: 37, 20: 0xF0, 21: 0xF0})
    assert machine.run("s_bitset0_b32 s20, s4").s[20] == 0xD0
    assert machine.run("s_bitset1_b32 s20, 0").s[20] == 0xF1
    assert machine.run("s_bitset0_b64 s[20:21], s4").pair(20) == 0xD0 << 32 | 0xF0
    assert machine.run("s_bitset1_b64 s[20:21], 32").pair(20) == 0xF1 << 32 | 0xF0


SCALAR_CONDITIONS: dict[str, Callable[[int, int], bool]] = {
    "eq": lambda a, b: a == b,
    "lg": lambda a, b: a != b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
}


def test_scalar_compare(arch: str) -> None:
    rng = random.Random(5)
    signed = lambda a, n: a - (1 << n) if a >> (n - 1) else a  # noqa: E731
    for condition, holds in SCALAR_CONDITIONS.items():
        for _ in range(12):
            a = scalar_values(32, rng)
            b = a if rng.random() < 0.3 else scalar_values(32, rng)
            machine = Machine(arch, s={4: a, 6: b})
            assert machine.run(f"s_cmp_{condition}_u32 s4, s6").scc == holds(a, b)
            assert machine.run(f"s_cmp_{condition}_i32 s4, s6").scc == holds(signed(a, 32), signed(b, 32))
            machine.s[4] = 0xFFFF8000
            assert machine.run(f"s_cmpk_{condition}_i32 s4, 0x8000").scc == holds(-32768, -32768)
            assert machine.run(f"s_cmpk_{condition}_u32 s4, 0x8000").scc == holds(0xFFFF8000, 0x8000)
    machine = Machine(arch, s={4: 1, 5: 2, 6: 1, 7: 3})
    assert machine.run("s_cmp_eq_u64 s[4:5], s[6:7]").scc == 0
    assert machine.run("s_cmp_lg_u64 s[4:5], s[6:7]").scc == 1
    machine = Machine(arch, s={4: 0x10, 5: 0x10})
    for bit, width, want in ((4, 32, 1), (5, 32, 0), (36, 64, 1), (35, 64, 0)):
        source = name_of(4, width)
        assert machine.run(f"s_bitcmp1_b{width} {source}, {bit}").scc == want
        assert machine.run(f"s_bitcmp0_b{width} {source}, {bit}").scc == 1 - want


MASKS: dict[str, Callable[[int, int], int]] = {
    "s_and_saveexec_b64": lambda a, e: a & e,
    "s_or_saveexec_b64": lambda a, e: a | e,
    "s_xor_saveexec_b64": lambda a, e: a ^ e,
    "s_andn2_saveexec_b64": lambda a, e: a & ~e,
    "s_orn2_saveexec_b64": lambda a, e: a | ~e,
    "s_nand_saveexec_b64": lambda a, e: ~(a & e),
    "s_nor_saveexec_b64": lambda a, e: ~(a | e),
    "s_xnor_saveexec_b64": lambda a, e: ~(a ^ e),
    "s_andn1_saveexec_b64": lambda a, e: ~a & e,
    "s_orn1_saveexec_b64": lambda a, e: ~a | e,
    "s_andn1_wrexec_b64": lambda a, e: ~a & e,
    "s_andn2_wrexec_b64": lambda a, e: a & ~e,
}


@pytest.mark.parametrize("name", MASKS)
def test_exec_masks(name: str, arch: str) -> None:
    rng = random.Random(name)
    for _ in range(8):
        a, mask = rng.getrandbits(64), rng.getrandbits(64)
        machine = Machine(arch, exec=mask)
        set_scalar(machine, 4, a, 64)
        result = machine.run(f"{name} s[20:21], s[4:5]")
        want = MASKS[name](a, mask) & ALL_LANES
        assert result.pair(126) == want and result.scc == int(want != 0)
        assert result.pair(20) == (want if "wrexec" in name else mask)


def test_branches(arch: str) -> None:
    """Each conditional branch jumps over the move, or not."""

    def jumps(text: str, **start: Any) -> bool:
        machine = Machine(arch, **start)
        machine.s.setdefault(20, 1)
        result = machine.run(f"{text} 1", "s_mov_b32 s20, 2")
        assert result.kind == "none", result.text
        return bool(result.s[20] == 1)

    for scc in (0, 1):
        assert jumps("s_cbranch_scc0", scc=scc) == (scc == 0)
        assert jumps("s_cbranch_scc1", scc=scc) == (scc == 1)
    for low, high in ((0, 0), (1, 0), (0, 1)):
        nonzero = bool(low or high)
        assert jumps("s_cbranch_vccz", s={VCC: low, VCC + 1: high}) != nonzero
        assert jumps("s_cbranch_vccnz", s={VCC: low, VCC + 1: high}) == nonzero
        assert jumps("s_cbranch_execz", exec=low | high << 32) != nonzero
        assert jumps("s_cbranch_execnz", exec=low | high << 32) == nonzero
    assert jumps("s_branch")


def test_jumps_and_program_counter(arch: str) -> None:
    machine = Machine(arch, s={20: 1})
    result = machine.run(
        "s_getpc_b64 s[8:9]", "s_add_u32 s8, s8, 16", "s_addc_u32 s9, s9, 0", "s_setpc_b64 s[8:9]", "s_mov_b32 s20, 2"
    )
    assert result.kind == "none" and result.s[20] == 1, result.text
    result = machine.run("s_call_b64 s[8:9], 1", "s_mov_b32 s20, 2", "s_getpc_b64 s[10:11]")
    assert result.s[20] == 1 and result.pair(10) - result.pair(8) == 8
    result = machine.run(
        "s_getpc_b64 s[8:9]",
        "s_add_u32 s8, s8, 16",
        "s_addc_u32 s9, s9, 0",
        "s_swappc_b64 s[10:11], s[8:9]",
        "s_mov_b32 s20, 2",
    )
    assert result.s[20] == 1 and result.pair(8) - result.pair(10) == 4


def test_gpr_index_mode(arch: str) -> None:
    machine = Machine(arch, s={4: 3, 5: 1})
    for reg in range(2, 12):
        machine.set(reg, np.full(LANES, reg, U32))
    on = "s_set_gpr_idx_on s4, gpr_idx(SRC0)"
    assert machine.run(on, "v_mov_b32_e32 v0, v2", "s_set_gpr_idx_off").v[0][0] == 5
    assert machine.run("s_set_gpr_idx_on s4, gpr_idx(DST)", "v_mov_b32_e32 v6, v2", "s_set_gpr_idx_off").v[9][0] == 2
    assert machine.run(on, "s_set_gpr_idx_idx s5", "v_mov_b32_e32 v0, v2").v[0][0] == 3
    assert machine.run(on, "s_set_gpr_idx_mode gpr_idx(DST)", "v_mov_b32_e32 v2, v3").v[5][0] == 3


def test_hardware_registers(arch: str) -> None:
    machine = Machine(arch, mode=0xF0)
    assert machine.run("s_getreg_b32 s20, hwreg(HW_REG_MODE, 4, 4)").s[20] == 0xF
    result = machine.run("s_setreg_imm32_b32 hwreg(HW_REG_MODE, 4, 2), 0", "s_getreg_b32 s20, hwreg(HW_REG_MODE, 0, 8)")
    assert result.s[20] == 0xC0
    result = machine.run("s_setreg_imm32_b32 hwreg(HW_REG_MODE, 0, 2), 1")
    assert result.kind == "unsupported"
    for text in ("s_memtime s[20:21]", "s_memrealtime s[20:21]"):
        assert machine.run(text, "s_waitcnt lgkmcnt(0)", "s_mov_b32 s4, s20").kind == "none"


NO_OPERATIONS = (
    "s_nop 0", "s_sleep 1", "s_setprio 1", "s_sethalt 0", "s_icache_inv", "s_dcache_inv", "s_dcache_wb",
    "s_dcache_inv_vol", "s_ttracedata", "s_incperflevel 0", "s_decperflevel 0", "s_sendmsg sendmsg(MSG_INTERRUPT)",
    "buffer_inv sc1", "buffer_wbl2 sc1", "v_nop",
)  # fmt: skip


def test_no_operations(arch: str) -> None:
    for text in NO_OPERATIONS:
        machine = Machine(arch)
        result = machine.run(text)
        assert result.kind == "none", result.text


def test_end_and_barrier(arch: str) -> None:
    machine = Machine(arch, s={20: 1})
    assert machine.run("s_endpgm", "s_mov_b32 s20, 2").s[20] == 1
    assert machine.run("s_barrier", "s_mov_b32 s20, 2").s[20] == 1
