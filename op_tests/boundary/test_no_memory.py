"""Each allocation of a call fails once: MemoryError, nothing written, nothing left, and the next call works. For every
op that has cases in aiter_c.testing.ops."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from interpreter import run_python, script

pytestmark = [
    pytest.mark.isolated,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="needs Linux with glibc"),
]
SCRIPT = script("boundary/isolated/no_memory.py")


def test_pythons_allocators() -> None:
    pytest.importorskip("_testcapi", reason="this Python has no _testcapi")
    out = run_python(SCRIPT, "python", timeout=250).stdout.strip().split("\n")
    assert len(out) >= 5 and all("failures" in line for line in out[:-1]) and out[-1] == "ok", out[-3:]
    assert all(int(line.rpartition(": ")[2].split()[0]) >= 1 for line in out[:-1]), out


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_the_c_librarys(tmp_path: Path) -> None:
    library = tmp_path / "fail_malloc.so"
    subprocess.run(
        ["cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(Path(__file__).with_name("fail_malloc.c")), "-ldl"],
        check=True,
    )
    settings = {"LD_PRELOAD": str(library), "AITER_C_FAIL_MALLOC": str(library)}
    out = run_python(SCRIPT, "libc", timeout=250, **settings).stdout.strip().split("\n")
    failures = [int(line.rpartition(": ")[2].split()[0]) for line in out[:-1]]
    assert out[-1] == "ok" and max(failures) >= 1, out
