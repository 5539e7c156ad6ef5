"""`python -m aiter_c env`: the report comes, whatever the drivers and frameworks of the machine do."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from interpreter import run_python

import aiter_c
from aiter_c import _C
from aiter_c.cli import env

pytestmark = pytest.mark.isolated

FATES = {
    "import os; os.abort()": "does not import: the process was ended by SIGABRT",
    "raise SystemExit(3)": "does not import: exit status 3",
    "raise RuntimeError('no luck')": "does not import: RuntimeError: no luck",
    "print('hello'); __version__ = '9'": "9, a module of that name without ",
    "ndarray = Tensor = bfloat16 = Array = int; __version__ = 1": "1",
    "import sys; del sys.modules[__name__]": "does not import: KeyError: ",
}


def report(**environment: str) -> dict:
    """The report of a fresh process."""
    done = run_python("-m", "aiter_c", "env", "--json", "/dev/stderr", **environment)
    shown = json.loads(done.stderr)
    assert all(str(value) in done.stdout for section in shown.values() for value in section.values())
    return shown


@pytest.mark.parametrize("source", FATES)
@pytest.mark.parametrize("name", ["numpy", "torch", "ml_dtypes"])
def test_no_framework_ends_the_report(name: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    assert env._framework(name, env._FRAMEWORKS[name]).startswith(FATES[source])


def test_a_report_beside_a_broken_framework(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("import os; os.abort()")
    monkeypatch.syspath_prepend(tmp_path)
    shown = env.collect()
    assert shown["frameworks"]["torch"] == "does not import: the process was ended by SIGABRT"
    assert shown["aiter_c"]["version"] == aiter_c.__version__ and shown["runtimes"]["cpu"] == "on, 1 device"


def test_a_framework_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("import time; time.sleep(60)")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(env, "_PATIENCE", 1)
    assert env._framework("torch", "Tensor") == "does not import: no answer within 1 s"


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_driver_that_crashes(tmp_path: Path) -> None:
    library = tmp_path / "libamdhip64.so"
    (tmp_path / "driver.c").write_text(
        "#include <stdlib.h>\n__attribute__((constructor)) static void f(void) { abort(); }"
    )
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "driver.c"], check=True)
    shown = report(AITER_C_HIP_LIBRARY=str(library))
    assert shown["runtimes"] == {"unknown": "asking the drivers failed: the process was ended by SIGABRT"}
    assert shown["cpu"]["path"] and "numpy" in shown["frameworks"] and "gfx950" in shown["code objects"]


def test_texts_that_the_terminal_cannot_show() -> None:
    done = run_python("-m", "aiter_c", "env", AITER_C_HIP_LIBRARY="/\udcff/\N{SNOWMAN}", PYTHONIOENCODING="ascii")
    assert r"  AITER_C_HIP_LIBRARY: /\udcff/\u2603" in done.stdout


def test_a_section_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(env._SECTIONS, "system", lambda: {"cpus": 1 // 0})
    shown = env.collect()
    assert shown["system"] == {"unknown": "ZeroDivisionError: integer division or modulo by zero"}
    assert list(shown) == list(env._SECTIONS) and shown["aiter_c"]["compiler"]


@pytest.fixture
def hsa(tmp_path: Path) -> Path:
    """A copy of the code objects."""
    package = Path(aiter_c.__file__).parent
    found = next(folder for folder in (package / "hsa", package.parent / "hsa") if folder.is_dir())
    return Path(shutil.copytree(found, tmp_path / "hsa"))


def code_objects(hsa: Path) -> dict[str, str]:
    code = "import json; from aiter_c.cli.env import _code_objects; print(json.dumps(_code_objects()))"
    return json.loads(run_python("-c", code, AITER_C_HSA=str(hsa)).stdout)


def test_code_objects_that_are_here(hsa: Path) -> None:
    shown = code_objects(hsa)
    objects = {row["arch"]: set() for row in _C.kernel_table() if row["object"]}
    for row in _C.kernel_table():
        if row["object"]:
            objects[row["arch"]].add(row["object"])
    assert shown == {arch: f"{len(n)} of {len(n)} here and of these sources" for arch, n in objects.items()}


def test_code_objects_that_are_missing_or_of_other_sources(hsa: Path) -> None:
    """One is gone, one carries another hash: the others are as before."""
    gone, other = hsa / "gfx942/mla_merge.co", hsa / "gfx950/mla_decode.co"
    gone.unlink()
    marker = b"aiter_c kernel source "
    image = bytearray(other.read_bytes())
    assert image.count(marker) >= 1
    start = image.index(marker) + len(marker)
    image[start : start + 64] = b"0" * 64
    other.write_bytes(image)
    shown = code_objects(hsa)
    count = len({row["object"] for row in _C.kernel_table() if row["arch"] == "gfx942"})
    one_less = f"{count - 1} of {count} here"
    assert shown["gfx942"].startswith(one_less) and f"{gone} (not found)" in shown["gfx942"]
    assert shown["gfx950"].startswith(one_less) and f"got one built from {'0' * 64}: {other}" in shown["gfx950"]
    assert shown["sm_90a"].startswith(f"{count} of {count} here")
