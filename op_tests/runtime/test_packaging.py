"""What is built from a checkout: a full sdist, and errors that say what to install. CI installs and tests the sdist."""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
from pathlib import Path

import pytest

from aiter_c import _C

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("setuptools")
pytestmark = pytest.mark.isolated


def setup(*arguments: str, folder: Path = ROOT, before: str = "", **environment: str) -> subprocess.CompletedProcess:
    """setup.py in `folder`, with `before` run in its interpreter first."""
    code = f"import runpy, sys\n{before}\nsys.argv = ['setup.py', *{arguments!r}]\nrunpy.run_path('setup.py')"
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git checkout")
def test_the_sdist_is_the_checkout(tmp_path: Path) -> None:
    """Every tracked file: the kernels and their code objects, the scripts, the tests, the documents."""
    done = setup("-q", "egg_info", "--egg-base", str(tmp_path), "sdist", "--dist-dir", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        inside = {name.partition("/")[2]: tar.getmember(name).mode for name in tar.getnames()}
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    tracked = {name for name in listed if name and (ROOT / name).exists()}
    assert len(tracked) > 300 and tracked - set(inside) == set()
    assert inside["scripts/build_kernels"] & 0o100, "a script that cannot be run"
    assert not [name for name in inside if name.endswith((".so", ".o", ".pyc"))]


@pytest.mark.parametrize(
    ("numpy", "found"),
    [("raise ImportError('no such thing')", "found none (no such thing)"), ("__version__ = '1.26.4'", "found 1.26.4")],
)
def test_a_build_without_numpys_headers(numpy: str, found: str, tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text(numpy)
    done = setup(
        "-q", "build_ext", "--build-lib", str(tmp_path), "--build-temp", str(tmp_path), PYTHONPATH=str(tmp_path)
    )
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and last.startswith(
        "aiter_c: building needs NumPy 2.0 or newer for its headers, " + found
    )
    assert "pip install 'numpy>=2.0'" in last


def test_a_build_without_a_compiler(tmp_path: Path) -> None:
    places = ("--build-lib", str(tmp_path), "--build-temp", str(tmp_path))
    done = setup("-q", "build_ext", *places, CC="no-such-compiler -O2")
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and last.startswith(
        "aiter_c: building needs a C compiler, found no 'no-such-compiler'."
    )
    assert "apt install gcc libc6-dev" in last and "CC=" in last


def test_a_build_without_pythons_headers(tmp_path: Path) -> None:
    places = ("--build-lib", str(tmp_path), "--build-temp", str(tmp_path))
    fake = "import sysconfig; sysconfig.get_path = lambda *_, **__: '/no/such/include'"
    done = setup("-q", "build_ext", *places, before=fake)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1
    assert last.startswith("aiter_c: building needs Python's headers, found no /no/such/include/Python.h.")


def test_a_copy_without_code_objects_is_no_package(tmp_path: Path) -> None:
    """It would install, and fail on the first GPU."""
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("aiter_c", "csrc", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    done = setup("-q", "build_py", "--build-lib", str(tmp_path / "out"), folder=tmp_path)
    assert done.returncode == 1 and "aiter_c: expected code objects in hsa/, found none" in done.stderr


_EXTENSIONS = """
import setuptools
def seen(ext_modules, options, **_):
    macros = dict(ext_modules[0].define_macros)
    print(macros.get("Py_LIMITED_API"), ext_modules[0].py_limited_api, options.get("bdist_wheel"))
setuptools.setup = seen
"""


def test_the_stable_abi_is_said_the_same_way_everywhere(tmp_path: Path) -> None:
    """The macro, the name of the module, the tag of the wheel, and what pip may install it on. A free-threaded CPython
    has no stable ABI: there a module of its own is built."""
    done = setup(before=_EXTENSIONS)
    assert done.stdout.split() == ["0x030B0000", "True", "{'py_limited_api':", "'cp311'}"], done.stderr
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11"
    free = "import sysconfig\nget = sysconfig.get_config_var\n"
    free += "sysconfig.get_config_var = lambda name: 1 if name == 'Py_GIL_DISABLED' else get(name)\n"
    assert setup(before=free + _EXTENSIONS).stdout.split() == ["None", "False", "None"]


def test_a_release_build_loads_with_an_old_glibc() -> None:
    """The wheel's tag, manylinux_2_17, is that of the newest version of a glibc function that the module asks for."""
    if _C.build_info()["variant"] != "release" or platform.machine() != "x86_64" or platform.libc_ver()[0] != "glibc":
        pytest.skip("csrc/core/glibc.h is for release builds for x86-64 with glibc")
    versions = re.findall(rb"\0GLIBC_(\d+)\.(\d+)", Path(_C.__file__).read_bytes())
    assert max((int(major), int(minor)) for major, minor in versions) == (2, 17)


def test_the_module_says_that_it_needs_the_gil() -> None:
    """Where Python's headers have the slot, which those of the limited API of 3.11 do not: the source as the compiler
    of a free-threaded CPython 3.13 sees it."""
    source = (ROOT / "csrc/module/module.c").read_text()
    begin, end = source.index("static PyModuleDef_Slot slots[]"), source.index("static PyModuleDef definition")
    text = "#define Py_mod_gil 4\n#define Py_MOD_GIL_USED NEEDED\n" + source[begin:end]
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")[0]
    done = subprocess.run([compiler, "-E", "-P", "-"], input=text, capture_output=True, text=True, check=True)
    assert "{4, NEEDED}" in done.stdout
