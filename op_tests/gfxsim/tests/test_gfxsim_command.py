"""The command, the README's example, and the data of the simulator's tests."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gfxsim import Kernel, Module, Simulator
from gfxsim.__main__ import main
from gfxsim.tests.machine_fixtures import ARCHS, DATA


@pytest.mark.parametrize("arch", ARCHS)
def test_the_command_lists_kernels(arch: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(DATA / arch / "clean.co")]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line.split() for line in lines[2:]}
    header = lines[1].split()
    assert rows["reverse_in_lds"][header.index("LDS")] == "1024"
    assert rows["uses_scratch"][header.index("scratch")] == "176"
    assert rows["mfma_tile"][header.index("mfma")] == "1"
    assert all(row[header.index("unknown")] == "0" for row in rows.values()) and len(rows) == 15
    assert main([str(DATA / arch / "clean.co"), "-d", "vector_add"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["0x000078", "s_endpgm"]


@pytest.mark.parametrize("arch", ARCHS)
def test_the_command_lists_hazards(arch: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(DATA / arch / "clean.co"), "--hazards"]) == 0
    assert capsys.readouterr().out == "0 hazards\n"
    assert main([str(DATA / arch / "planted.co"), "--hazards"]) == 1
    text = capsys.readouterr().out
    assert "m0_too_late: SALU writes M0 before" in text and "1 wait states needed, 0 found" in text


def test_the_example_in_the_readme() -> None:
    text = (DATA.parent / "README.md").read_text()
    example = text.split("```python\n")[1].split("```")[0]
    done = subprocess.run([sys.executable, "-c", example], cwd=DATA.parents[2], capture_output=True, text=True)
    assert done.returncode == 0 and "'vmem': " in done.stdout, done.stderr


def test_the_command_builds_the_library(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--library"]) == 0
    assert Path(capsys.readouterr().out.strip()).name == "libgfxsim.so"


def test_the_command_refuses_politely(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, content in {"empty": b"", "text": b"hello" * 100}.items():
        (tmp_path / name).write_bytes(content)
        assert main([str(tmp_path / name)]) == 1
    assert main([str(tmp_path / "missing")]) == 1
    assert main([str(DATA / "gfx942" / "clean.co"), "-d", "nothing"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 4


@pytest.mark.skipif(not shutil.which("clang-22"), reason="needs clang-22, lld-22 and llvm-22")
def test_the_code_objects_are_what_their_source_says(tmp_path: Path) -> None:
    subprocess.run([str(DATA / "build"), str(tmp_path)], check=True)
    files = sorted(path.relative_to(DATA) for path in DATA.rglob("*.co"))
    assert len(files) == 2 * len(list(DATA.glob("*.hip")))
    for file in files:
        assert (DATA / file).read_bytes() == (tmp_path / file).read_bytes(), file


def test_a_kernel_object_can_be_kept(sim: Simulator, clean: Module) -> None:
    kernel: Kernel = clean.kernel("vector_add")
    assert [size for _, size, _ in kernel.parameters()] == [8, 8, 8, 4]
    with pytest.raises(TypeError, match="4 arguments"):
        kernel([1], 1, 64)
