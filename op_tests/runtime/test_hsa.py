"""The code objects in hsa/: the manifest, the kernel table, the files and the sources say the same thing, and building
them again gives the same bytes."""

from __future__ import annotations

import csv
import runpy
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

import aiter_c

ROOT = Path(__file__).resolve().parents[2]
HSA = ROOT / "hsa"
ARCHS = ("gfx942", "gfx950", "sm_90a")
SUFFIX = {"gfx942": ".co", "gfx950": ".co", "sm_90a": ".cubin"}
MOST_BYTES = 6 << 20  # in a wheel, which is a zip file
NUMBERS = ("vgpr", "agpr", "sgpr", "lds", "scratch", "threads")
LDS_BYTES = {"gfx942": 64 << 10, "gfx950": 160 << 10, "sm_90a": 227 << 10}
REGISTERS = {"gfx942": 512, "gfx950": 512, "sm_90a": 255}
HASHES = runpy.run_path(str(ROOT / "scripts/source_hash.py")) if (ROOT / "scripts").is_dir() else {}
pytestmark = [
    pytest.mark.device,
    pytest.mark.skipif(not (ROOT / "scripts").is_dir(), reason="the sources are not beside the tests"),
]


def _manifest(path: Path = HSA / "manifest.csv") -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _files() -> list[Path]:
    return sorted(path for path in HSA.glob("*/*") if path.is_file())


def _symbols(elf: bytes) -> dict[str, tuple[int, int]]:
    """name -> (offset in the file, size) of every defined symbol of a 64-bit little-endian ELF file."""
    assert elf[:6] == b"\x7fELF\x02\x01"
    table, entry_size, count = struct.unpack_from("<Q", elf, 40)[0], *struct.unpack_from("<HH", elf, 58)
    headers = [struct.unpack_from("<IIQQQQIIQQ", elf, table + i * entry_size) for i in range(count)]
    out: dict[str, tuple[int, int]] = {}
    for _, kind, _, _, offset, size, link, _, _, width in headers:
        if kind not in (2, 11):  # SHT_SYMTAB, SHT_DYNSYM
            continue
        for at in range(offset, offset + size, width):
            name, _, _, section, value, length = struct.unpack_from("<IBBHQQ", elf, at)
            if not 0 < section < count:
                continue
            begin = headers[link][4] + name
            text = elf[begin : elf.index(b"\0", begin)].decode()
            out[text] = (value - headers[section][3] + headers[section][4], length)
    return out


def _table() -> dict[tuple[str, str], dict[str, str]]:
    return runpy.run_path(str(ROOT / "scripts/build_kernels"))["kernel_table"]()


def test_the_manifest_has_every_kernel_of_the_table() -> None:
    """And no other; each in the object, with the threads and outputs that the table names; on every arch."""
    rows, table = _manifest(), _table()
    assert [(row["arch"], row["kernel"]) for row in rows] == sorted(
        ((row["arch"], row["kernel"]) for row in rows), key=lambda key: (ARCHS.index(key[0]), *_place(rows, key))
    )
    assert {(row["arch"], row["kernel"]) for row in rows} == set(table) and len(rows) == len(table)
    assert {arch for arch, _ in table} == set(ARCHS)
    for row in rows:
        known = table[row["arch"], row["kernel"]]
        written = "+".join(name for name in ("output", "partials", "lse") if known[name] == "1")
        assert (row["object"], row["threads"], row["writes"]) == (known["object"], known["threads"], written), row
    of_the_extension = {(row["arch"], row["name"]) for row in aiter_c._C.kernel_table() if row["arch"] in ARCHS}
    assert of_the_extension == set(table), "the extension was built from another kernel table"


def _place(rows: list[dict[str, str]], key: tuple[str, str]) -> tuple[str, str]:
    (row,) = [row for row in rows if (row["arch"], row["kernel"]) == key]
    return row["object"], row["kernel"]


def test_the_manifest_has_every_file_and_no_other() -> None:
    named = {HSA / row["arch"] / (row["object"] + SUFFIX[row["arch"]]) for row in _manifest()}
    assert named == set(_files())
    assert sum(len(zlib.compress(path.read_bytes())) for path in _files()) < MOST_BYTES


def test_the_code_objects_are_of_these_sources() -> None:
    """The hash in the manifest, in every file, in the extension and of the source now: a stale binary is never
    committed."""
    now = HASHES["object_hashes"](ROOT)
    assert {f"{row['arch']}/{row['object']}": row["source_hash"] for row in _manifest()} == now, "run build_kernels"
    for path in _files():
        digest = now[f"{path.parent.name}/{path.stem}"]
        assert f"aiter_c kernel source {digest}".encode() in path.read_bytes(), path
    assert aiter_c._C.build_info()["code_objects"] == now, "the extension was built from other sources"


def test_every_kernel_has_its_symbol_and_no_scratch() -> None:
    """AMD: function and 64-byte descriptor, which names LDS and scratch. NVIDIA: the function and its code."""
    symbols = {path: _symbols(path.read_bytes()) for path in _files()}
    for row in _manifest():
        path = HSA / row["arch"] / (row["object"] + SUFFIX[row["arch"]])
        assert symbols[path][row["kernel"]][1] > 0, row
        values = {name: int(row[name]) for name in NUMBERS}
        assert values["scratch"] == 0 and 0 < values["vgpr"] + values["agpr"] <= REGISTERS[row["arch"]], row
        assert 0 <= values["lds"] <= LDS_BYTES[row["arch"]] and values["threads"] % 32 == 0 < values["threads"], row
        if path.suffix == ".co":
            offset, size = symbols[path][row["kernel"] + ".kd"]
            assert size == 64
            static_lds, scratch = struct.unpack_from("<II", path.read_bytes(), offset)
            assert (static_lds, scratch) == (0, 0), f"{row['kernel']}: kernels use dynamic LDS only, and no scratch"


def _copy_of_the_sources(folder: Path) -> Path:
    for name in ("csrc", "scripts"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def _build(root: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(root / "scripts/build_kernels"), *arguments]
    return subprocess.run(command, cwd="/", capture_output=True, text=True, check=False, timeout=900)


def _compiler_version(arch: str) -> str | None:
    compiler = runpy.run_path(str(ROOT / "scripts/build_kernels"))["find_compiler"](arch)
    return compiler and compiler.version


@pytest.mark.slow
@pytest.mark.isolated
@pytest.mark.timeout(1000)
@pytest.mark.parametrize("arch", ARCHS)
def test_a_rebuild_in_another_folder_gives_the_same_bytes(arch: str, tmp_path: Path) -> None:
    committed = [row for row in _manifest() if row["arch"] == arch]
    version = _compiler_version(arch)
    if version is None:
        pytest.skip(f"no compiler for {arch} is installed")
    if version not in {row["compiler"] for row in committed}:
        pytest.skip(f"{arch}: built by {committed[0]['compiler']}, here is {version}")
    root = _copy_of_the_sources(tmp_path / "a folder of another length")
    done = _build(root, "--arch", arch)
    assert done.returncode == 0, done.stderr[-4000:]
    fresh = sorted(path for path in (root / "hsa" / arch).iterdir())
    assert [path.name for path in fresh] == [path.name for path in _files() if path.parent.name == arch]
    for path in fresh:
        assert path.read_bytes() == (HSA / arch / path.name).read_bytes(), path.name
    assert _manifest(root / "hsa/manifest.csv") == committed


_KERNEL = """
extern "C" __attribute__((global)) void k_first(float *x) {{ {body} }}
"""
_FAMILY = """#include "../../core/kernel.h"
static const ac_column_t columns[] = {{{{"rows", AC_FACT, 0}}}};
#define AC_FAMILY {name}
#define AC_FAMILY_ROWS "{name}/kernels.inc"
#include "../kernel_rows.inc"
"""
_SCRATCH = "volatile float a[64]; for (int i = 0; i < 64; i++) a[i] = x[i]; x[0] = a[(int)x[1]];"
_STATIC = "__attribute__((shared)) static float a[64]; a[(int)x[1]] = x[2]; x[0] = a[(int)x[0]];"
MISTAKES = {  # rows of the table (name, object), body of the kernel, what the script says
    "none": ([("k_first", "only")], "x[0] = 1;", ""),
    "static": ([("k_first", "only")], _STATIC, "kernel k_first has static local memory"),
    "scratch": ([("k_first", "only")], _SCRATCH, "kernel k_first has 272 bytes of scratch per lane, not 0"),
    "unknown": ([], "x[0] = 1;", "kernel k_first has no row in csrc/ops"),
    "missing": ([("k_first", "only"), ("k_second", "only")], "", "kernel k_second of the kernel table is not in it"),
    "elsewhere": ([("k_first", "other")], "", "kernel k_first is in object other by the kernel table"),
    "no source": ([("k_first", "only"), ("k_x", "other")], "", "there is no other.hip in csrc for kernel k_x"),
    "syntax": ([("k_first", "only")], "x[0] = ;", "gfx942/only does not compile"),
}


@pytest.mark.isolated
@pytest.mark.skipif(shutil.which("clang-22") is None, reason="clang-22 is not installed")
@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_script_refuses(mistake: str, tmp_path: Path) -> None:
    """Every mistake is named and ends in exit status 1; without one the same sources build."""
    table, body, text = MISTAKES[mistake]
    root = _copy_of_the_sources(tmp_path)
    for path in root.glob("csrc/**/*.hip"):
        path.unlink()
    for path in root.glob("csrc/ops/*/kernels.*"):
        path.unlink()
    (root / "csrc/ops/only.hip").write_text(_KERNEL.format(body=body))
    families = ("only", "other")
    for family in families:
        (root / "csrc/ops" / family).mkdir()
        (root / "csrc/ops" / family / "kernels.c").write_text(_FAMILY.format(name=family))
        rows = [f"GPU({name}, GFX942, 1, 64, 0, 0, 0)\n" for name, where in table if where == family]
        rows = rows or ["CPU(none, PORTABLE, portable, 1, 0, 0, 0)\n"]
        (root / "csrc/ops" / family / "kernels.inc").write_text("".join(rows))
    (root / "csrc/ops/ops.inc").write_text("".join(f"KERNELS({family})\n" for family in families))
    done = _build(root, "--arch", "gfx942")
    assert (done.returncode, text in done.stderr) == (int(mistake != "none"), True), done.stderr
