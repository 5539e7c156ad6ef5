"""The checks inside a wave: each reports its planted bug, and not the twin that is correct."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gfxsim.tests.exec_machine import ARCHS, LANES, M0, Machine, memory
from gfxsim.tests.exec_memory import U32, addresses, clean, set_pair


@pytest.fixture(params=ARCHS)
def arch(request: pytest.FixtureRequest) -> str:
    return request.param


# ---- s_waitcnt


def waits(arch: str, *program: str) -> str:
    """Runs with 64 zero dwords at v[10:11], s[4:5] and in LDS; v12 and v13 hold 0."""
    data = np.zeros(256, U32)
    with memory(data) as base:
        machine = Machine(arch, lds=np.zeros(512, np.uint8), s={M0: 0, 6: 0, 7: 0})
        machine.set(10, addresses(base, 4))
        for reg in (0, 1, 2, 3, 12, 13):
            machine.set(reg, np.zeros(LANES, U32))
        set_pair(machine, 4, base)
        result = machine.run(*program)
    if result.kind == "wait":
        assert "before" in result.text and "code+0x" in result.text
    return result.kind


LOAD0, LOAD1 = "global_load_dword v0, v[10:11], off", "global_load_dword v1, v[10:11], off offset:4"
USE0, USE1 = "v_add_u32_e32 v2, v0, v12", "v_add_u32_e32 v2, v1, v12"
READ0, READ1 = "ds_read_b32 v0, v12", "ds_read_b32 v1, v12 offset:4"
SCALAR = "s_load_dword s6, s[4:5], 0x0"
USE_SCALAR = "s_add_u32 s7, s6, 1"
FLAT = "flat_load_dword v0, v[10:11]"
DIRECT = "global_load_lds_dword v[10:11], off"
STORE = "global_store_dword v[10:11], v3, off"


@pytest.mark.parametrize(
    ("program", "kind"),
    [
        ((LOAD0, USE0), "wait"),
        ((LOAD0, "s_waitcnt vmcnt(0)", USE0), "none"),
        ((LOAD0, LOAD1, "s_waitcnt vmcnt(1)", USE0), "none"),
        ((LOAD0, LOAD1, "s_waitcnt vmcnt(1)", USE1), "wait"),
        ((LOAD0, STORE, "s_waitcnt vmcnt(1)", USE0), "none"),  # stores count
        ((LOAD0, "s_waitcnt lgkmcnt(0)", USE0), "wait"),  # the other counter
        ((LOAD0, "v_mov_b32_e32 v0, v12"), "wait"),  # overwritten
        ((LOAD0, LOAD0, "s_waitcnt vmcnt(0)", USE0), "none"),  # loads return in order
        ((LOAD0, "global_store_dword v[10:11], v0, off"), "wait"),
        ((READ0, USE0), "wait"),
        ((READ0, "s_waitcnt lgkmcnt(0)", USE0), "none"),
        ((READ0, READ1, "s_waitcnt lgkmcnt(1)", USE0), "none"),
        ((READ0, READ1, "s_waitcnt lgkmcnt(1)", USE1), "wait"),
        ((READ0, "ds_write_b32 v12, v13 offset:8", "s_waitcnt lgkmcnt(1)", USE0), "none"),
        (("ds_bpermute_b32 v0, v12, v13", USE0), "wait"),
        ((SCALAR, USE_SCALAR), "wait"),
        ((SCALAR, "s_waitcnt lgkmcnt(0)", USE_SCALAR), "none"),
        ((SCALAR, SCALAR.replace("s6", "s7"), "s_waitcnt lgkmcnt(1)", "s_mov_b32 s8, s6"), "wait"),  # no order
        ((READ0, SCALAR, "s_waitcnt lgkmcnt(1)", USE0), "wait"),  # the scalar load may have been the one
        ((SCALAR, "s_mov_b32 s6, 0"), "wait"),
        ((FLAT, "s_waitcnt vmcnt(0)", USE0), "wait"),  # flat needs both
        ((FLAT, "s_waitcnt vmcnt(0) lgkmcnt(0)", USE0), "none"),
        ((DIRECT, "ds_read_b32 v2, v12"), "wait"),
        ((DIRECT, "s_waitcnt vmcnt(0)", "ds_read_b32 v2, v12"), "none"),
        ((DIRECT, "ds_read_b32 v2, v12 offset:256"), "none"),  # other bytes
        ((DIRECT, "ds_write_b32 v12, v13"), "wait"),
        ((DIRECT, LOAD0, "s_waitcnt vmcnt(1)", "ds_read_b32 v2, v12"), "none"),
        ((LOAD0, "s_barrier"), "none"),
        ((LOAD0, "v_mfma_f32_4x4x1_16b_f32 v[0:3], v12, v13, 0"), "wait"),
    ],
)
def test_waits(program: tuple[str, ...], kind: str, arch: str) -> None:
    assert waits(arch, *program) == kind


def test_counters_have_a_limit(arch: str) -> None:
    """With 64 loads on the way the hardware cannot issue another before the first has returned."""
    loads = [f"global_load_dword v{20 + i}, v[10:11], off" for i in range(2)]
    assert waits(arch, loads[0], *[LOAD1] * 25, "v_mov_b32_e32 v2, v20") == "wait"
    assert waits(arch, *[READ1] * 3, *[READ0] * 15, USE1) == "none"
    assert waits(arch, *[READ1] * 3, *[READ0] * 14, USE1) == "wait"


# ---- undefined data


def undefined(arch: str, *program: str, **start: Any) -> str:
    """v200 and s40 were never written; v[10:11] addresses 64 dwords, v12 holds lanes, LDS is unwritten."""
    data = np.zeros(256, U32)
    with memory(data) as base:
        machine = Machine(arch, lds=np.zeros(512, np.uint8), lds_defined=False, s={6: 3, 7: 0}, **start)
        machine.set(10, addresses(base, 4))
        machine.set(12, (np.arange(LANES) * 4).astype(U32))
        machine.set(13, np.zeros(LANES, U32))
        set_pair(machine, 4, base)
        return machine.run(*program).kind


STORE0 = "global_store_dword v[10:11], v0, off"
MOVE = "v_mov_b32_e32 v0, v200"


@pytest.mark.parametrize(
    ("program", "kind"),
    [
        ((MOVE,), "none"),  # copies alone are harmless
        ((MOVE, STORE0), "uninitialized"),
        (("v_mov_b32_e32 v0, v12", STORE0), "none"),
        (("v_add_u32_e32 v0, v12, v200", STORE0), "uninitialized"),
        (("v_and_b32_e32 v0, 0, v200", STORE0), "none"),  # and with zeros
        (("v_and_b32_e32 v0, 0xff, v200", STORE0), "uninitialized"),
        (("v_and_b32_e32 v0, 0xff, v200", "v_lshrrev_b32_e32 v0, 8, v0", STORE0), "none"),
        (("v_or_b32_e32 v0, -1, v200", STORE0), "none"),
        (("v_xor_b32_e32 v0, v200, v200", STORE0), "none"),  # a register with itself
        (("v_xor_b32_e32 v0, v200, v201", STORE0), "uninitialized"),
        (("v_add_f32_e32 v0, v12, v200", STORE0), "uninitialized"),
        (("v_max_f32_e32 v0, v12, v200", STORE0), "uninitialized"),
        (("v_mov_b32_e32 v0, s40", STORE0), "uninitialized"),
        (("v_perm_b32 v0, v12, v200, s6", STORE0), "uninitialized"),
        (("v_mov_b32_e32 v2, 0x0c0c0c0c", "v_perm_b32 v0, v12, v200, v2", STORE0), "none"),
        (("v_mov_b32_e32 v0, v200", "v_mov_b32_e32 v0, v12", STORE0), "none"),  # overwritten
        (("s_mov_b64 exec, 0xff", "v_mov_b32_e32 v0, v12", STORE0), "none"),
        (("s_mov_b64 exec, 0xff", "v_mov_b32_e32 v0, v12", "s_mov_b64 exec, -1", STORE0), "uninitialized"),
        (("v_cmp_gt_u32_e32 vcc, v200, v12",), "none"),
        (("v_cmp_gt_u32_e32 vcc, v200, v12", "s_cbranch_vccz 0"), "uninitialized"),
        (("v_cmp_gt_u32_e32 vcc, v200, v12", "s_and_saveexec_b64 s[20:21], vcc"), "uninitialized"),
        (("v_cmp_gt_u32_e32 vcc, v200, v12", "s_mov_b64 exec, vcc"), "uninitialized"),
        (("v_cmp_gt_u32_e32 vcc, v200, v12", "s_and_b64 vcc, vcc, 0", "s_cbranch_vccz 0"), "none"),
        (("v_cmpx_gt_u32_e32 vcc, v200, v12",), "uninitialized"),
        (("v_cmp_gt_u32_e32 vcc, v200, v12", "v_cndmask_b32_e32 v0, v12, v13, vcc", STORE0), "uninitialized"),
        (("v_cmp_gt_u32_e32 vcc, v12, v13", "v_cndmask_b32_e32 v0, v200, v12, vcc", STORE0), "uninitialized"),
        (("v_cmp_eq_u32_e32 vcc, v12, v12", "v_cndmask_b32_e32 v0, v200, v12, vcc", STORE0), "none"),  # not chosen
        (("s_cmp_eq_u32 s40, 0", "s_cbranch_scc1 0"), "uninitialized"),
        (("s_cmp_eq_u32 s6, 0", "s_cbranch_scc1 0"), "none"),
        (("v_readfirstlane_b32 s20, v200", "s_cmp_eq_u32 s20, 0", "s_cbranch_scc1 0"), "uninitialized"),
        (("global_load_dword v0, v200, s[4:5]",), "uninitialized"),
        (("global_load_dword v0, v12, s[40:41]",), "uninitialized"),
        (("s_load_dword s20, s[40:41], 0x0",), "uninitialized"),
        (("s_load_dword s20, s[4:5], s40",), "uninitialized"),
        (("ds_read_b32 v0, v200",), "uninitialized"),
        (("ds_read_b32 v0, v12", "s_waitcnt lgkmcnt(0)"), "none"),
        (("ds_read_b32 v0, v12", "s_waitcnt lgkmcnt(0)", STORE0), "uninitialized"),  # LDS that nobody wrote
        (("ds_write_b32 v12, v12", "ds_read_b32 v0, v12", "s_waitcnt lgkmcnt(0)", STORE0), "none"),
        (("ds_write_b32 v12, v200", "ds_read_b32 v0, v12", "s_waitcnt lgkmcnt(0)", STORE0), "uninitialized"),
        (("ds_write_b16 v12, v12", "ds_read_b32 v0, v12", "s_waitcnt lgkmcnt(0)", STORE0), "uninitialized"),
        (("ds_write_b16 v12, v12", "ds_read_u16 v0, v12", "s_waitcnt lgkmcnt(0)", STORE0), "none"),
        (("ds_bpermute_b32 v0, v12, v200", "s_waitcnt lgkmcnt(0)", STORE0), "uninitialized"),
        (("v_mov_b32_dpp v0, v200 row_shr:1 row_mask:0xf bank_mask:0xf", STORE0), "uninitialized"),
        (("v_mov_b32_dpp v0, v12 row_shr:1 row_mask:0xf bank_mask:0xf", STORE0), "uninitialized"),  # lane 0 keeps v0
        (("v_mov_b32_dpp v0, v12 row_shr:1 row_mask:0xf bank_mask:0xf bound_ctrl:0", STORE0), "none"),
        # Half a register: the compilers build pairs in two steps.
        (("global_load_short_d16 v0, v[10:11], off", "s_waitcnt vmcnt(0)", STORE0), "uninitialized"),
        (
            (
                "global_load_short_d16 v0, v[10:11], off",
                "global_load_short_d16_hi v0, v[10:11], off",
                "s_waitcnt vmcnt(0)",
                STORE0,
            ),
            "none",
        ),
        (("v_cvt_pk_fp8_f32 v0, v12, v12", STORE0), "uninitialized"),
        (("v_cvt_pk_fp8_f32 v0, v12, v12", "v_cvt_pk_fp8_f32 v0, v12, v12 op_sel:[0,0,1]", STORE0), "none"),
        (("v_fma_mixlo_f16 v0, v12, v12, v12", "global_store_short v[10:11], v0, off"), "none"),
        (("v_fma_mixlo_f16 v0, v12, v12, v12", STORE0), "uninitialized"),
        (("v_fma_mixlo_f16 v0, v12, v12, v12", "v_fma_mixhi_f16 v0, v12, v12, v12", STORE0), "none"),
        (("global_store_byte v[10:11], v200, off",), "uninitialized"),
        # A carry goes up only: the low half of a sum needs the low halves alone.
        (("v_mov_b32_e32 v2, v12", "v_mad_u64_u32 v[0:1], s[20:21], v12, v12, v[2:3]", STORE0), "none"),
        (("v_mov_b32_e32 v3, v12", "v_mad_u64_u32 v[0:1], s[20:21], v12, v12, v[2:3]", STORE0), "uninitialized"),
        # v_pk_*_f32: each half of the result needs only the words that op_sel and op_sel_hi name.
        (("v_pk_mul_f32 v[0:1], v[12:13], v[200:201]", STORE0), "uninitialized"),
        (("v_mov_b32_e32 v200, v12", "v_pk_mul_f32 v[0:1], v[12:13], v[200:201]", STORE0), "none"),
        (("v_mov_b32_e32 v201, v12", "v_pk_mul_f32 v[0:1], v[12:13], v[200:201]", STORE0), "uninitialized"),
        (
            (
                "v_mov_b32_e32 v200, v12",
                "v_pk_mul_f32 v[0:1], v[12:13], v[200:201] op_sel_hi:[1,0]",
                "v_mov_b32_e32 v0, v1",
                STORE0,
            ),
            "none",
        ),
        (
            ("v_mov_b32_e32 v200, v12", "v_pk_mul_f32 v[0:1], v[12:13], v[200:201]", "v_mov_b32_e32 v0, v1", STORE0),
            "uninitialized",
        ),
        (("v_mfma_f32_4x4x1_16b_f32 v[0:3], v12, v200, 0", STORE0), "uninitialized"),
        (("v_mfma_f32_4x4x1_16b_f32 v[0:3], v12, v13, 0", STORE0), "none"),
    ],
)
def test_undefined_data(program: tuple[str, ...], kind: str, arch: str) -> None:
    got = undefined(arch, *program)
    assert got == kind
    if kind == "uninitialized":
        assert undefined(arch, *program, checks=3) != "uninitialized", "the check is off"


# ---- the rest


def test_unknown_instruction(arch: str) -> None:
    result = Machine(arch).run("s_rfe_b64 s[4:5]")
    assert result.kind == "unknown" and "s_rfe_b64 s[4:5]" in result.text


def test_bad_pc(arch: str) -> None:
    assert Machine(arch).run("s_branch 100").kind == "bad_pc"


def test_counters_by_class(arch: str) -> None:
    machine = Machine(arch, checks=0, lds=np.zeros(512, np.uint8))
    machine.set(12, (np.arange(LANES) * 4).astype(U32))
    result = clean(
        machine.run(
            "v_exp_f32_e32 v0, v12",
            "v_rcp_f32_e32 v0, v12",
            "v_add_f32_e32 v0, v12, v12",
            "ds_read_b32 v1, v12",
            "s_waitcnt lgkmcnt(0)",
            "s_nop 0",
            "s_mov_b32 s4, 0",
            "s_branch 0",
            "v_mfma_f32_4x4x1_16b_f32 v[0:3], v12, v12, 0",
        )
    )
    wanted = {"trans": 2, "valu": 1, "lds": 1, "wait": 2, "salu": 1, "branch": 2, "mfma": 1}
    assert {k: v for k, v in result.instructions.items() if v} == wanted
    assert result.mfma_clocks == 8 and result.bytes_moved["lds_read_bytes"] == 256
