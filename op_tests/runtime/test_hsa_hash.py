"""The hash of a code object: it follows what the object is made from, for its architecture, and nothing else; and
scripts/build_kernels compiles what it says has changed."""

from __future__ import annotations

import csv
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not (ROOT / "scripts").is_dir(), reason="the sources are not beside the tests")
needs_clang = pytest.mark.skipif(shutil.which("clang-22") is None, reason="clang-22 is not installed")

#: Those that are committed, "gfx942/mla_decode".
OBJECTS = {
    f"{row['arch']}/{row['object'].split('.')[0]}"
    for row in csv.DictReader((ROOT / "hsa/manifest.csv").read_text().splitlines())
}
AMD, GFX950, NVIDIA = ({name for name in OBJECTS if name.startswith(arch)} for arch in ("gfx", "gfx950", "sm_"))
DECODE, MERGE, LISTS, LOGITS, TOP_K = (
    {name for name in OBJECTS if name.endswith(what)}
    for what in ("mla_decode", "mla_merge", "mla_metadata", "mqa_logits", "top_k")
)
PLANNERS = {name for name in OBJECTS if name.endswith("_metadata")}
PREFILL = {name for name in OBJECTS if name.endswith("mla_prefill")}
STATES = {name for name in OBJECTS if name.endswith("merge_states")}
WRITES = {name for name in OBJECTS if name.endswith(("cache_write", "indexer_cache"))}
#: Those that need the largest float: a softmax has it as its base before the first key, logits as a bound on gfx9.
SOFTMAX = DECODE | MERGE | PREFILL | (LOGITS & AMD) | STATES


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of the sources."""
    for name in ("csrc", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def _hashes(root: Path, compiler: str | None = None) -> dict[str, str]:
    return runpy.run_path(str(root / "scripts/source_hash.py"))["object_hashes"](root, compiler)


def _changed_by(root: Path, path: str, old: str, new: str) -> set[str]:
    """The objects whose hash is another after the edit of one file."""
    file, before = root / path, _hashes(root)
    text = file.read_text()
    assert text.count(old) >= 1, f"{path} has no {old!r}"
    file.write_text(text.replace(old, new, 1))
    return {name for name, digest in _hashes(root).items() if digest != before[name]}


def test_a_compiler_that_finds_system_headers_anyway(tmp_path: Path) -> None:
    """Some are wrapped in a script with folders of its own; there `bool` is a macro, in others a word."""
    (tmp_path / "headers").mkdir()
    (tmp_path / "headers/stdbool.h").write_text("#define bool _Bool\n")
    wrapper = tmp_path / "wrapped"
    wrapper.write_text(f'#!/bin/sh\nexec cc -I{tmp_path}/headers "$@"\n')
    wrapper.chmod(0o755)
    assert _hashes(ROOT, str(wrapper)) == _hashes(ROOT)


@pytest.mark.parametrize(
    ("path", "old", "new", "changes"),
    [
        ("csrc/gpu/gpu.h", "/*", "/* another word,", set()),
        ("csrc/gpu/gpu.h", "\n\n", "\n\n\n// a line\n", set()),
        ("csrc/gpu/gpu.h", "#define GPU_FLT_MAX ", "#define  GPU_FLT_MAX   \\\n   ", set()),
        ("csrc/gpu/gpu.h", "GPU_INLINE int gpu_thread", "GPU_INLINE\n    int   gpu_thread", set()),
        ("csrc/gpu/gpu.h", "3.402823466e+38f", "3.402823467e+38f", SOFTMAX),
        ("csrc/gpu/gpu.h", "return threadIdx.x;", "return threadIdx.x + 0;", NVIDIA),
        ("csrc/gpu/gpu.h", "__builtin_amdgcn_workitem_id_x()", "__builtin_amdgcn_workitem_id_y()", AMD),
        ("csrc/gpu/gpu.h", "#if defined(__gfx950__)", "#if defined(__gfx950__) && 0", GFX950),
        (
            "csrc/gpu/sm90/ptx.h",
            "ex2.approx.ftz.f32",
            "ex2.approx.f32",
            NVIDIA & (DECODE | MERGE | PREFILL | LOGITS | TOP_K),
        ),
        ("csrc/gpu/gfx9/fp8.h", "0x1p119f", "0x1p118f", AMD & (DECODE | PREFILL | LOGITS)),
        ("csrc/core/fp8.h", "0x43e00000", "0x43e00001", WRITES | STATES),
        ("csrc/ops/attention/rope.h", "rope->neox ? i : 2 * i", "rope->neox ? i : 3 * i", WRITES),
        ("csrc/ops/mla_merge/kernel_params.h", "int32_t o_dtype;", "int32_t o_dtype, more;", MERGE),
        ("csrc/ops/mla_metadata/pieces.h", "return 0;", "return 0 + 0;", LISTS),
        ("csrc/core/check.h", "int ac_check_given", "long ac_check_given", set()),
        ("csrc/gpu/source_hash.h", "aiter_c kernel source", "aiter_c kernel sources", NVIDIA),
    ],
)
def test_the_hash_follows_what_the_object_is_made_from(
    path: str, old: str, new: str, changes: set[str], root: Path
) -> None:
    assert _changed_by(root, path, old, new) == changes


def test_tokens_are_kept_apart(root: Path) -> None:
    """A space that changes what the compiler reads is no layout."""
    (root / "csrc/ops/one.hip").write_text("int f(int a, int b) { return a - -b; }\n")
    assert _changed_by(root, "csrc/ops/one.hip", "- -", "-  -") == set()
    assert {name.split("/")[1] for name in _changed_by(root, "csrc/ops/one.hip", "-  -b", "--b")} == {"one"}
    assert {name.split("/")[1] for name in _changed_by(root, "csrc/ops/one.hip", "--b", 'b + "  "[0]')} == {"one"}
    assert {name.split("/")[1] for name in _changed_by(root, "csrc/ops/one.hip", '"  "', '" "')} == {"one"}


@pytest.mark.parametrize("compiler", ["gcc", "clang-22", "gcc -O2 -g3 -Wall", "clang-22 -march=native"])
def test_every_compiler_gives_the_same_hash(compiler: str, root: Path) -> None:
    if shutil.which(compiler.split()[0]) is None:
        pytest.skip(f"{compiler.split()[0]} is not installed")
    assert _hashes(root, compiler) == _hashes(root)


def test_a_source_that_does_not_preprocess_is_named(root: Path) -> None:
    (root / "csrc/gpu/gpu.h").write_text('#include "no_such_header.h"\n')
    with pytest.raises(SystemExit, match=r"\w+\.hip cannot be preprocessed for gfx942:\n[\s\S]*no_such_header\.h"):
        _hashes(root)


def _build(root: Path, *arguments: str) -> str:
    """What was compiled, as the script says."""
    command = [sys.executable, str(root / "scripts/build_kernels"), "--arch", "gfx942", "mla_merge", *arguments]
    environment = os.environ | {"NVCC": "no nvcc here"}
    done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode == 0, done.stderr
    return done.stdout.rstrip().rpartition("compiled ")[2]


@pytest.mark.isolated
@needs_clang
@pytest.mark.slow
def test_only_what_changed_is_compiled(root: Path) -> None:
    made, nothing = "gfx942/mla_merge", "none"
    assert [_build(root), _build(root), _build(root, "--force")] == [made, nothing, made]
    header, file = root / "csrc/gpu/gpu.h", root / "hsa/gfx942/mla_merge.co"
    header.write_text("/* A comment. */\n" + header.read_text())
    first = file.read_bytes()
    assert _build(root) == nothing
    header.write_text(header.read_text().replace("3.402823466e+38f", "3.4e+38f"))
    assert _build(root) == made and file.read_bytes() != first
    file.write_bytes(first)  # as after a checkout of an older commit
    assert [_build(root), _build(root)] == [made, nothing]
    manifest = root / "hsa/manifest.csv"
    manifest.write_text(manifest.read_text().replace("clang version", "another version"))
    assert [_build(root), _build(root)] == [made, nothing]
    file.unlink()
    assert [_build(root), _build(root)] == [made, nothing]
    header_line, rows = manifest.read_text().split("\n", 1)
    manifest.write_text(f"{header_line}\n<<<<<<< HEAD\n{rows}")  # a merge that is not resolved
    assert [_build(root), _build(root)] == [made, nothing]


@pytest.mark.isolated
@needs_clang
def test_a_code_object_without_the_hash_is_refused(root: Path) -> None:
    (root / "csrc/gpu/source_hash.h").write_text("")
    command = [sys.executable, str(root / "scripts/build_kernels"), "--arch", "gfx942", "mla_merge"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode == 1 and "gfx942/mla_merge: carries no source hash" in done.stderr


def test_machine_code_is_compared(tmp_path: Path) -> None:
    """scripts/compare_kernels.py: the same folder is equal; one other byte in a kernel, or a missing object, is not."""
    compare = [sys.executable, str(ROOT / "scripts/compare_kernels.py"), str(ROOT / "hsa"), str(tmp_path)]
    shutil.copytree(ROOT / "hsa", tmp_path, dirs_exist_ok=True)
    run = lambda: subprocess.run(compare, capture_output=True, text=True, check=False)  # noqa: E731
    assert (run().returncode, "differ" in run().stdout) == (0, False)
    for arch, suffix, at in (("gfx950", "co", b"mla_merge.kd"), ("sm_90a", "cubin", b"")):
        path = tmp_path / arch / f"mla_merge.{suffix}"
        good = path.read_bytes()
        assert at in good
        path.write_bytes(good[: len(good) // 2] + bytes([good[len(good) // 2] ^ 1]) + good[len(good) // 2 + 1 :])
        done = run()
        assert done.returncode == 1 and f"{arch}/mla_merge.{suffix}: " in done.stdout and "differ: " in done.stdout
        path.unlink()
        assert run().returncode == 1 and f"{arch}/mla_merge.{suffix}: not in {tmp_path}" in run().stdout
        path.write_bytes(good)
