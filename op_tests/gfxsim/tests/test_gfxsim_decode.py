"""The simulator's decoder and printer against LLVM's disassembler, and against expectations written by hand.

The comparisons with LLVM need llvm-22 and are skipped (and counted) without it.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from gfxsim.tools.random_encodings import Encoder

SIMULATOR = Path(__file__).resolve().parents[1]
ARCHS = ("gfx942", "gfx950")
CODE_OBJECTS = sorted(
    path
    for arch in ARCHS
    for folder in (SIMULATOR.parents[1] / "hsa" / arch, SIMULATOR / "data" / arch)
    for path in folder.glob("*.co")
)
ENCODINGS_PER_ROW = 30
SEED = 20

needs_llvm = pytest.mark.skipif(shutil.which("llvm-objdump-22") is None, reason="llvm-22 is not installed")

# Instructions per table. Raise a number when rows are added; one that falls is lost coverage.
ROWS = {
    "gfx942": {
        "SOP1": 54, "SOP2": 53, "SOPK": 21, "SOPC": 20, "SOPP": 31, "SMEM": 74, "VOP1": 84, "VOP2": 61, "VOPC": 198,
        "VOP3": 107, "VOP3P": 35, "MFMA": 46, "DS": 121, "FLAT": 54, "GLOBAL": 59, "SCRATCH": 27, "MUBUF": 55,
    },
    "gfx950": {
        "SOP1": 54, "SOP2": 53, "SOPK": 21, "SOPC": 20, "SOPP": 31, "SMEM": 74, "VOP1": 88, "VOP2": 62, "VOPC": 198,
        "VOP3": 166, "VOP3P": 39, "MFMA": 68, "DS": 125, "FLAT": 54, "GLOBAL": 61, "SCRATCH": 27, "MUBUF": 56,
    },
}  # fmt: skip


SCALED = [("MFMA", 0x2D), ("MFMA", 0x2E)]  # two rows each: alone, and behind v_mfma_ld_scale_b32


@pytest.fixture(scope="session")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tools/disassemble.c, built."""
    program = tmp_path_factory.mktemp("gfxsim") / "disassemble"
    source = SIMULATOR / "src"
    files = [
        *source.glob("decode*.c"),
        *source.glob("print*.c"),
        source / "constant.c",
        source / "encoding.c",
        SIMULATOR / "tools/disassemble.c",
    ]
    command = [
        *os.environ.get("CC", "cc").split(),
        "-std=c17",
        "-O1",
        f"-I{source}",
        *map(str, files),
        "-o",
        str(program),
    ]
    subprocess.run(command, check=True)
    return program


def ask(command: list[str | Path], cases: list[list[int]]) -> list[str]:
    """One line of answer per instruction."""
    lines = "".join(" ".join(f"{word:08x}" for word in words) + "\n" for words in cases)
    answers = subprocess.run(command, input=lines, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(answers) == len(cases)
    return answers


def disassemble(command: list[str | Path], cases: list[list[int]]) -> list[tuple[int, str]]:
    return [(int(size), text) for size, text in (line.split("\t") for line in ask(command, cases))]


def rows(tool: Path, arch: str) -> list[tuple[str, int, str]]:
    """The tables: format, opcode, name."""
    lines = subprocess.run([tool, arch, "--rows"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [(layout, int(opcode), name) for layout, opcode, name in (line.split("\t") for line in lines)]


# ---- against LLVM ---------------------------------------------------------------------------------------------------


def listing(path: Path, arch: str) -> list[tuple[tuple[int, ...], str]]:
    """Words and text of the instructions of a code object, each once, as llvm-objdump gives them."""
    command = ["llvm-objdump-22", "-d", f"--mcpu={arch}", str(path)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    found = [re.fullmatch(r"\s+(\S.*?)\s*// [0-9A-F]+: ((?:[0-9A-F]{8} ?)+)(?:<.*>)?", line) for line in lines]
    once = {tuple(int(word, 16) for word in match[2].split()): match[1] for match in found if match}
    return [(words, re.sub(r"\s+", " ", text)) for words, text in once.items()]


@needs_llvm
@pytest.mark.slow
@pytest.mark.parametrize("path", CODE_OBJECTS)
def test_code_object(tool: Path, path: Path) -> None:
    arch = path.parent.name
    instructions = listing(path, arch)
    assert len(instructions) > 10
    answers = disassemble([tool, arch], [words for words, _ in instructions])
    wrong = []
    for (words, expected), (size, text) in zip(instructions, answers, strict=True):
        if re.match(r"s_c?branch\S* [^\d]", expected):  # the listing has a label where the file has a symbol
            expected = f"{expected.split()[0]} {words[0] & 0xFFFF}"
        if (size, text) != (4 * len(words), expected):
            wrong.append(f"{' '.join(f'{word:08x}' for word in words)}: LLVM {expected!r}, gfxsim {text!r}")
    assert not wrong, f"{len(wrong)} of {len(instructions)} differ, first:\n" + "\n".join(wrong[:10])


def llvm_is_lax(layout: str, name: str, text: str) -> bool:
    """What LLVM prints and no chip executes: the decoder refuses it."""
    register = r"(?:v|a|s)\[\d*"
    return bool(
        re.search(r"\b[va]\[\d*[13579]:", text)  # register tuples begin at an even register
        or re.search(r"\b[va]\[\d+:(?:25[6-9]|2[6-9]\d|3\d\d)\]", text)  # tuples that end behind the last register
        or re.search(r"\bs\[\d+:10[2-9]\]", text)
        or re.search(r"\bnull\b", text)  # s125 is no register on these chips
        or (layout == "VOP2" and re.search(rf"(?:_co_u32|cndmask_b32)_e64 .*, {register}", text) and ", v[" in text)
        # src_scc and the like where only a vector register, or a scalar result, may stand
        or re.match(r"v_(?:read|accvgpr|swap|permlane|s?mfma|mqsad|cvt_scalef32).*\bsrc_", text)
        or "v_pk_fmac_f16_sdwa" in text  # SDWA selects 16 bits, the operation is on two halves
        or re.search(r"f8f6f4 .*(?:cbsz|blgp):[567]", text)  # formats that do not exist
        or (layout == "MFMA" and text.startswith("v_mfma_ld_scale_b32"))  # before a scaled MFMA that is not valid
        or name in ("v_nop", "v_clrexcp")  # with SDWA or DPP
    )


def gfxsim_is_lax(text: str) -> bool:
    """An AGPR result of these atomics, which LLVM 22 knows for some combinations of bits only."""
    return bool(re.match(r"(?:flat|global)_atomic_(?:pk_)?(?:add|min|max)_b?f\d+ a", text))


@needs_llvm
@pytest.mark.parametrize("arch", ARCHS)
def test_random_encodings(tool: Path, arch: str) -> None:
    encoder = Encoder(random.Random(f"{SEED} {arch}"))
    cases = [
        (layout, name, encoder.encode(layout, opcode, name))
        for layout, opcode, name in rows(tool, arch)
        for _ in range(ENCODINGS_PER_ROW)
    ]
    words = [(case[2] + [0x3F80, 0, 0])[:4] for case in cases]
    ours = disassemble([tool, arch], words)
    llvm = disassemble([sys.executable, SIMULATOR / "tools" / "llvm_oracle.py", arch], words)
    equal: Counter[str] = Counter()
    wrong, lax = [], 0
    for (layout, name, _), code, mine, theirs in zip(cases, words, ours, llvm, strict=True):
        if mine == theirs:
            equal[layout, name] += mine[0] > 0
        elif (mine[0] == 0 and llvm_is_lax(layout, name, theirs[1])) or (theirs[0] == 0 and gfxsim_is_lax(mine[1])):
            lax += 1
        else:
            wrong.append(f"{name} {' '.join(f'{word:08x}' for word in code)}: LLVM {theirs}, gfxsim {mine}")
    assert not wrong, f"{len(wrong)} of {len(cases)} differ, first:\n" + "\n".join(wrong[:10])
    never = [name for layout, _, name in rows(tool, arch) if not equal[layout, name]]
    assert not never, f"never an instruction, so never compared: {never}"
    assert sum(equal.values()) > 0.5 * len(cases)
    assert lax < 0.05 * len(cases), "too much is excused"


# ---- without LLVM ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", ARCHS)
def test_coverage_does_not_shrink(tool: Path, arch: str) -> None:
    table = rows(tool, arch)
    assert Counter(layout for layout, _, _ in table) == ROWS[arch]
    twice = [row for row, count in Counter((layout, opcode) for layout, opcode, _ in table).items() if count > 1]
    assert [row for row in twice if row not in SCALED] == []


TEXTS = [
    ("gfx942", "bf8c0f70", "s_waitcnt vmcnt(0)"),
    ("gfx942", "bf85ffdc", "s_cbranch_scc1 65500"),
    ("gfx942", "c00200c0 0000002c", "s_load_dword s3, s[0:1], 0x2c"),
    ("gfx942", "68000002", "v_add_u32_e32 v0, s2, v0"),
    ("gfx942", "020402ff 3fb8aa3b", "v_add_f32_e32 v2, 0x3fb8aa3b, v1"),
    ("gfx942", "d2080004 04010004", "v_lshl_add_u64 v[4:5], s[4:5], 0, v[0:1]"),
    ("gfx942", "7e20a8f9 00020608", "v_cvt_f32_fp8_sdwa v16, v8 src0_sel:BYTE_2"),
    (
        "gfx942",
        "7e2002fa 5f086108",
        "v_mov_b32_dpp v16, v8 quad_perm:[1,0,2,1] row_mask:0x5 bank_mask:0xf bound_ctrl:1",
    ),
    ("gfx942", "d3e18004 1a021104", "v_mfma_f32_16x16x16_bf16 a[4:7], a[4:5], a[8:9], 0"),
    ("gfx942", "d3b04000 18020502", "v_pk_fma_f32 v[0:1], v[2:3], v[2:3], s[0:1]"),
    ("gfx942", "dc508000 067f0004", "global_load_dword v6, v[4:5], off"),
    ("gfx942", "e0501000 80030208", "buffer_load_dword v2, v8, s[12:15], 0 offen"),
    ("gfx942", "d87a801f 07000005", "ds_swizzle_b32 v7, v5 offset:swizzle(QUAD_PERM,3,3,1,0)"),
    ("gfx950", "d9c60010 00000008", "ds_read_b64_tr_b16 v[0:1], v8 offset:16"),
    ("gfx950", "e05d1000 80030008", "buffer_load_dwordx4 v8, s[12:15], 0 offen lds"),
    (
        "gfx950",
        "d3ac0000 00020501 d3ad0808 05024110",
        "v_mfma_scale_f32_16x16x128_f8f6f4 v[8:11], v[16:23], v[32:39], v[64:67], v1, v2 op_sel_hi:[0,0,0]",
    ),
]


@pytest.mark.parametrize(("arch", "code", "text"), TEXTS)
def test_text(tool: Path, arch: str, code: str, text: str) -> None:
    words = [int(word, 16) for word in code.split()]
    assert disassemble([tool, arch], [words]) == [(4 * len(words), text)]


# What the text does not show: implicit operands, widths below 32 bits, the bits behind a constant.
OPERANDS = [
    ("gfx942", "7d880004", "VOPC v_cmp_gt_i32 s106:64 <- s4:32 v0:32"),
    ("gfx942", "00000501", "VOP2 v_cndmask_b32 v0:32 <- v1:32 v2:32 s106:64"),
    ("gfx942", "38000501", "VOP2 v_addc_co_u32 v0:32 s106:64 <- v1:32 v2:32 s106:64"),
    ("gfx942", "320004f2", "VOP2 v_add_co_u32 v0:32 s106:64 <- 0x3f800000:32 v2:32"),
    ("gfx942", "020004f2", "VOP2 v_add_f32 v0:32 <- 0x3f800000:32 v2:32"),
    ("gfx942", "3e0004f2", "VOP2 v_add_f16 v0:16 <- 0x3c00:16 v2:16"),
    ("gfx942", "3e0004ff 00003555", "VOP2 v_add_f16 v0:16 <- 0x3555:16 v2:16"),
    ("gfx942", "4c0004c1", "VOP2 v_add_u16 v0:16 <- 0xffff:16 v2:16"),
    ("gfx942", "080004f8", "VOP2 v_fmac_f64 v0:64 <- 0x3fc45f306dc9c882:64 v2:64"),
    ("gfx942", "080004ff 40091eb8", "VOP2 v_fmac_f64 v0:64 <- 0x40091eb800000000:64 v2:64"),
    ("gfx942", "be8001c1", "SOP1 s_mov_b64 s0:64 <- 0xffffffffffffffff:64"),
    ("gfx942", "be8001ff ffffff00", "SOP1 s_mov_b64 s0:64 <- 0xffffff00:64"),
    ("gfx942", "908002ff ffffff00", "SOP2 s_ashr_i64 s0:64 <- 0xffffffffffffff00:64 s2:32"),
    ("gfx942", "7dc204ff ffffff00", "VOPC v_cmp_lt_i64 s106:64 <- 0xffffffffffffff00:64 v2:64"),
    ("gfx942", "2e000501 3f000000", "VOP2 v_fmamk_f32 v0:32 <- v1:32 0x3f000000:32 v2:32"),
    ("gfx942", "30000501 3f000000", "VOP2 v_fmaak_f32 v0:32 <- v1:32 v2:32 0x3f000000:32"),
    ("gfx942", "d38f4000 180204f2", "VOP3P v_pk_add_f16 v0:32 <- 0x3c00:32 v2:32"),
    ("gfx942", "d38a4000 180204c1", "VOP3P v_pk_add_u16 v0:32 <- 0xffffffff:32 v2:32"),
    ("gfx942", "d3b14000 180204f2", "VOP3P v_pk_mul_f32 v0:64 <- 0x3f800000:64 v2:64"),
    ("gfx942", "d3a00000 0bca04f2", "VOP3P v_fma_mix_f32 v0:32 <- 0x3c00:16 v2:32 0x3f800000:32"),
    ("gfx950", "d39a4000 1c0a02f2", "VOP3P v_dot2_f32_bf16 v0:32 <- 0x3f80:32 v1:32 v2:32"),
    ("gfx950", "d2680000 00020501", "VOP3 v_cvt_pk_bf16_f32 v0:32 <- v1:32 v2:32"),
    ("gfx942", "d3d84005 18000102", "VOP3P v_accvgpr_read_b32 v5:32 <- a2:32"),
    ("gfx942", "d3e18004 1a021104", "MFMA v_mfma_f32_16x16x16_bf16 a4:128 <- a4:64 a8:64 0x0:128"),
    ("gfx942", "d3cc0010 04421904", "MFMA v_mfma_f32_32x32x8_f16 v16:512 <- v4:64 v12:64 v16:512"),
    ("gfx950", "d3ad0400 84021910", "MFMA v_mfma_f32_16x16x128_f8f6f4 v0:128 <- v16:128 v12:128 v0:128"),
    ("gfx942", "7e020504", "VOP1 v_readfirstlane_b32 s1:32 <- v4:32"),
    ("gfx942", "d86c0010 07000005", "DS ds_read_b32 v7:32 <- v5:32"),
    ("gfx942", "dc848000 06020004", "GLOBAL global_load_ubyte_d16_hi v6:16 <- v4:32 none s2:64"),
    ("gfx942", "dc708000 007f0604", "GLOBAL global_store_dword <- v4:64 v6:32 none"),
    ("gfx942", "dd048000 007f0604", "GLOBAL global_atomic_cmpswap <- v4:64 v6:64 none"),
    ("gfx942", "dd058000 057f0604", "GLOBAL global_atomic_cmpswap v5:32 <- v4:64 v6:64 none"),
    ("gfx942", "dc504000 067f0000", "SCRATCH scratch_load_dword v6:32 <- none none none"),
    ("gfx942", "e0501000 80030208", "MUBUF buffer_load_dword v2:32 <- v8:32 s12:128 0x0:32"),
    ("gfx942", "e0700000 05030200", "MUBUF buffer_store_dword <- v2:32 none s12:128 s5:32"),
    ("gfx950", "e05d1000 80030008", "MUBUF buffer_load_dwordx4 <- v8:32 s12:128 0x0:32"),
    ("gfx942", "c0024100 0a000010", "SMEM s_load_dword s4:32 <- s0:64 s5:32"),
]


@pytest.mark.parametrize(("arch", "code", "operands"), OPERANDS)
def test_operands(tool: Path, arch: str, code: str, operands: str) -> None:
    assert ask([tool, arch, "--operands"], [[int(word, 16) for word in code.split()]]) == [operands]


@pytest.mark.parametrize(
    ("arch", "code"),
    [
        ("gfx942", "ffffffff ffffffff"),
        ("gfx942", "d9c60010 00000008"),  # ds_read_b64_tr_b16 is of gfx950
        ("gfx950", "d3be0000 04020501"),  # v_mfma_f32_16x16x8_xf32 is of gfx942
        ("gfx942", "e05d1000 80030008"),  # 16 bytes per lane to LDS are of gfx950
        ("gfx942", "dc508000"),  # the second word is missing
        ("gfx942", "020402ff"),  # the literal is missing
        ("gfx942", "d1010000 000202ff 3f800000"),  # VOP3 has no literals
        ("gfx942", "d2800001 00020501"),  # v[1:2] is no tuple
        ("gfx942", "be810102"),  # nor is s[1:2]
        ("gfx950", "d3ad0500 04021910"),  # there is no fp8 format 5
        ("gfx942", "f0000000 00000000"),  # images
    ],
)
def test_refused(tool: Path, arch: str, code: str) -> None:
    assert disassemble([tool, arch], [[int(word, 16) for word in code.split()]]) == [(0, "")]
