"""Software-visible hazards: a planted pair for each rule, and its twin that is just far enough apart; and all of our
code objects, which are clean."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from gfxsim import CodeObject, hazard_rules, hazards_of_words
from gfxsim.tests.exec_machine import ARCHS, exists, words_of

HSA = Path(__file__).resolve().parents[3] / "hsa"
WITH_LOADS_TO_LDS = {("gfx950", "mla_decode"), ("gfx950", "mla_prefill")}
OBJECTS = sorted(path for arch in ARCHS for path in (HSA / arch).glob("*.co"))

MFMA16 = "v_mfma_f32_16x16x16_bf16 v[0:3], v[8:9], v[10:11], v[0:3]"
MFMA32 = "v_mfma_f32_32x32x8_bf16 v[0:15], v[16:17], v[18:19], v[0:15]"
MFMA4 = "v_mfma_f32_4x4x4_16b_bf16 v[0:3], v[8:9], v[10:11], v[0:3]"
SGEMM = "v_mfma_f32_16x16x4_f32 v[0:3], v8, v9, v[0:3]"
DGEMM = "v_mfma_f64_16x16x4_f64 v[0:7], v[8:9], v[10:11], v[0:7]"
DGEMM4 = "v_mfma_f64_4x4x4_4b_f64 v[0:1], v[8:9], v[10:11], v[0:1]"
MFMA4_ON_TOP = "v_mfma_f32_4x4x4_16b_bf16 v[0:3], v[16:17], v[18:19], v[0:3]"  # not that of the accumulator of MFMA32
ADD = "v_add_f32_e32 v5, v3, v3"
SDWA = "v_add_f16_sdwa v3, v4, v5 dst_sel:WORD_1 dst_unused:UNUSED_PAD src0_sel:DWORD src1_sel:DWORD"
MOV = "v_mov_b32_e32 v3, v4"
TO_LDS = "global_load_lds_dword v[10:11], off"

#: rule (the beginning of its text) -> first, second, wait states on gfx942, on gfx950.
PLANTED: dict[str, list[tuple[str, str, int, int]]] = {
    "s_setreg before": [
        ("s_setreg_imm32_b32 hwreg(HW_REG_MODE, 0, 4), 3", "s_getreg_b32 s4, hwreg(HW_REG_MODE)", 2, 2),
        ("s_setreg_b32 hwreg(HW_REG_MODE), s4", "s_setreg_b32 hwreg(HW_REG_MODE, 4, 4), s5", 2, 2),
    ],
    "SALU writes M0": [
        ("s_mov_b32 m0, s4", TO_LDS, 1, 1),
        ("s_add_u32 m0, m0, s4", "buffer_load_dword v12, s[8:11], 0 offen offset:8 lds", 1, 1),
        ("s_mov_b32 m0, s4", "s_movrels_b32 s5, s6", 1, 1),
    ],
    "VALU writes an SGPR that a vector memory": [
        ("v_readfirstlane_b32 s4, v1", "global_load_dword v0, v1, s[4:5]", 5, 5),
        ("v_readlane_b32 s9, v1, 3", "buffer_load_dword v0, v1, s[8:11], 0 offen", 5, 5),
    ],
    "VALU writes an SGPR that selects": [("v_readfirstlane_b32 s4, v1", "v_readlane_b32 s5, v2, s4", 4, 4)],
    "VALU writes VCC before v_div_fmas": [("v_cmp_eq_u32_e32 vcc, v0, v1", "v_div_fmas_f32 v2, v3, v4, v5", 4, 4)],
    "VALU writes VCC or EXEC before": [("v_cmp_eq_u32_e32 vcc, v0, v1", "v_mov_b32_e32 v2, src_vccz", 5, 5)],
    "VALU writes an SGPR or VCC": [
        ("v_cmp_eq_u32_e32 vcc, v0, v1", "v_cndmask_b32_e32 v2, v3, v4, vcc", 2, 2),
        ("v_readfirstlane_b32 s4, v1", "v_mov_b32_e32 v2, s4", 2, 2),
    ],
    "VALU writes EXEC before a lane": [("v_cmpx_eq_u32_e32 v0, v1", "v_readlane_b32 s5, v2, 1", 4, 4)],
    "VALU writes EXEC before DPP": [
        ("v_cmpx_eq_u32_e32 v0, v1", "v_mov_b32_dpp v2, v3 row_shr:1 row_mask:0xf bank_mask:0xf", 5, 5)
    ],
    "VALU writes EXEC before a matrix": [("v_cmpx_eq_u32_e32 v0, v1", MFMA16, 4, 4)],
    "VALU writes a VGPR that DPP": [(MOV, "v_mov_b32_dpp v2, v3 row_shr:1 row_mask:0xf bank_mask:0xf", 2, 2)],
    "VALU writes a VGPR that v_readlane": [(MOV, "v_readfirstlane_b32 s4, v3", 1, 1)],
    "VALU writes a VGPR that a lane swap": [(MOV, "v_permlane32_swap_b32_e32 v3, v5", 2, 2)],
    "a transcendental": [("v_exp_f32_e32 v3, v4", ADD, 1, 1)],
    "a result placed": [
        (SDWA, ADD, 1, 1),
        ("v_cvt_pk_fp8_f32 v3, v4, v5 op_sel:[0,0,1]", ADD, 1, 1),
    ],
    "VALU overwrites the data of a store": [("global_store_dwordx4 v[10:11], v[0:3], off", MOV, 2, 2)],
    "VALU writes a VGPR that a matrix": [("v_mov_b32_e32 v8, v4", MFMA16, 2, 2), (MOV, MFMA16, 2, 2)],
    "the result of v_dot": [("v_dot2_f32_f16 v3, v4, v5, v6", "v_add_f32_e32 v5, v3, v4", 3, 3)],
    "a matrix instruction's result read as A or B": [
        (MFMA16, "v_mfma_f32_16x16x16_bf16 v[12:15], v[2:3], v[10:11], v[12:15]", 7, 8),
        (MFMA32, "v_mfma_f32_16x16x16_bf16 v[20:23], v[2:3], v[24:25], v[20:23]", 11, 12),
        (MFMA4, "v_mfma_f32_16x16x16_bf16 v[12:15], v[2:3], v[10:11], v[12:15]", 5, 5),
        (SGEMM, "v_mfma_f32_16x16x16_bf16 v[12:15], v[2:3], v[10:11], v[12:15]", 10, 10),
    ],
    "a matrix instruction's result read as C of another, not": [
        (MFMA16, "v_mfma_f32_16x16x16_bf16 v[2:5], v[8:9], v[10:11], v[2:5]", 5, 6),
        (SGEMM, "v_mfma_f32_16x16x4_f32 v[2:5], v8, v9, v[2:5]", 8, 8),
    ],
    "a matrix instruction's result read as C of another, the same": [(MFMA4, MFMA4, 2, 2), (DGEMM4, DGEMM4, 4, 4)],
    "a matrix instruction's result read by": [
        (MFMA16, "v_add_f32_e32 v20, v3, v4", 7, 8),
        (MFMA16, "global_store_dword v[10:11], v3, off", 7, 8),
        (MFMA16, "ds_write_b32 v12, v3", 7, 8),
        (SGEMM, "v_add_f32_e32 v20, v3, v4", 10, 10),
        (DGEMM, "v_add_f32_e32 v20, v3, v4", 11, 19),
    ],
    "a matrix instruction's result overwritten": [
        (MFMA16, MOV, 7, 8),
        (MFMA16, "ds_read_b32 v3, v12", 7, 8),
    ],
    "VALU overwrites C": [
        ("v_mfma_f32_16x16x16_bf16 v[12:15], v[8:9], v[10:11], v[0:3]", MOV, 3, 3),
        ("v_mfma_f32_32x32x8_bf16 v[32:47], v[16:17], v[18:19], v[0:15]", MOV, 7, 7),
    ],
    "a 64-bit matrix": [(DGEMM, "v_fma_f64 v[20:21], v[22:23], v[24:25], v[26:27]", 2, 2)],
}
CASES = [
    pytest.param(arch, rule, *pair, id=f"{arch}-rule{number}-{index}")
    for number, (rule, pairs) in enumerate(PLANTED.items())
    for index, pair in enumerate(pairs)
    for arch in ARCHS
]


def found(arch: str, *program: str) -> list[tuple[str, int, int]]:
    words = [word for line in program for word in words_of(arch, line) or ()]
    return [(hazard.rule, hazard.needed, hazard.found) for hazard in hazards_of_words(arch, words)]


def test_every_rule_is_planted() -> None:
    rules = hazard_rules()
    assert [sum(rule.startswith(begin) for begin in PLANTED) for rule in rules] == [1] * len(rules)


@pytest.mark.parametrize(("arch", "rule", "first", "second", "gfx942", "gfx950"), CASES)
def test_planted(arch: str, rule: str, first: str, second: str, gfx942: int, gfx950: int) -> None:
    """One wait state less than needed is reported, as many as needed are not; nor is the pair the other way round."""
    if not (exists(arch, first) and exists(arch, second)):
        assert arch == "gfx942" and "permlane" in second
        return
    needed = {"gfx942": gfx942, "gfx950": gfx950}[arch]
    for states in range(needed):
        ((text, wanted, apart),) = found(arch, first, *["s_nop 0"] * states, second)
        assert text.startswith(rule) and (wanted, apart) == (needed, states)
    assert found(arch, first, *["s_nop 0"] * needed, second) == []
    assert found(arch, first, f"s_nop {needed - 1}", second) == []
    assert len(found(arch, second)) == 0


@pytest.mark.parametrize("arch", ARCHS)
def test_paths(arch: str) -> None:
    """Hazards go over branches and back edges; not behind an unconditional branch, nor past another write."""
    mov, load, other = "s_mov_b32 m0, s4", TO_LDS, "v_mov_b32_e32 v20, v21"
    assert len(found(arch, other, load, mov, "s_cbranch_scc0 65532")) == 0  # the branch itself is a wait state
    dpp = "v_mov_b32_dpp v2, v3 row_shr:1 row_mask:0xf bank_mask:0xf"
    assert len(found(arch, dpp, MOV, "s_cbranch_scc0 65532")) == 1
    assert len(found(arch, MOV, "s_branch 0", dpp)) == 1
    assert len(found(arch, "s_cbranch_scc0 2", MOV, "s_branch 1", dpp)) == 0
    assert len(found(arch, MFMA16, "v_mfma_f32_16x16x16_bf16 v[12:15], v[0:1], v[10:11], v[12:15]")) == 1
    chain = "v_mfma_f32_32x32x8_bf16 v[0:15], v[16:17], v[18:19], v[0:15]", MFMA4_ON_TOP, "s_nop 4"
    assert [needed for _, needed, _ in found(arch, *chain, "v_add_f32_e32 v20, v3, v3")] == [9 + (arch == "gfx950")]


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_our_objects(path: Path) -> None:
    with CodeObject(path) as code:
        assert [hazard for kernel in code.kernels() for hazard in code.hazards(kernel)] == []


S_MOV_M0, S_NOP = 0xBEFC00, 0xBF80


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_m0_before_loads_to_lds(path: Path) -> None:
    """Every s_nop between a write of M0 and a load to LDS is needed: without it there is a hazard."""
    arch, words = path.parent.name, _code_words(path)
    sequences = 0
    for at in np.flatnonzero((words[:-3] >> 8 == S_MOV_M0) & (words[1:-2] >> 16 == S_NOP)):
        load = words[at + 2 : at + 4].tolist()
        hazards = [hazard.rule for hazard in hazards_of_words(arch, [int(words[at]), *load])]
        assert [rule[:14] for rule in hazards] in ([], ["SALU writes M0"])
        assert hazards_of_words(arch, words[at : at + 4].tolist()) == []
        sequences += len(hazards)
    assert (sequences > 0) == ((arch, path.stem) in WITH_LOADS_TO_LDS)


def _code_words(path: Path) -> np.ndarray:
    data = path.read_bytes()
    with CodeObject(path) as code:
        address, size = code.text()
    offset, count = struct.unpack_from("<Q", data, 32)[0], struct.unpack_from("<H", data, 56)[0]
    for index in range(count):
        kind, _, at, virtual, _, in_file = struct.unpack_from("<IIQQQQ", data, offset + 56 * index)
        if kind == 1 and virtual <= address < virtual + in_file:
            return np.frombuffer(data, "<u4", size // 4, at + address - virtual)
    raise AssertionError(f"{path}: no segment with code")
