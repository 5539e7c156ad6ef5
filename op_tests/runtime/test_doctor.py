"""`python -m aiter_c doctor`: what is wrong is said with what to do, and by the exit status."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from interpreter import run_python
from runtime import fake_driver

from aiter_c.testing import Device

pytestmark = pytest.mark.isolated
_RUN = """
import sys
from aiter_c.__main__ import main
sys.path.insert(0, {folder!r})
sys.exit(main(["doctor", "--json", {file!r}]))
"""


def doctor(folder: Path, **environment: str) -> tuple[int, dict[str, dict]]:
    """Exit status and findings by what they are about, of a fresh process that finds modules in `folder` first; torch
    is a stub there, which loads faster, unless the test has written one."""
    if not (folder / "torch.py").exists():
        stub = "__version__ = '2.13.0+cpu'\nclass Tensor: __dlpack__ = __dlpack_device__ = len"
        (folder / "torch.py").write_text(stub)
    file = folder / "found.json"
    settings = {"AITER_C_HIP_LIBRARY": "", "AITER_C_HSA": ""} | environment
    done = run_python("-c", _RUN.format(folder=str(folder), file=str(file)), check=False, **settings)
    assert file.is_file(), done.stderr
    found = json.loads(file.read_text())
    assert all(finding["text"] in done.stdout and finding["remedy"] in done.stdout for finding in found)
    assert all(finding["remedy"] for finding in found if finding["wrong"])
    assert (done.returncode == 1) == any(finding["wrong"] for finding in found)
    return done.returncode, {finding["about"]: finding for finding in found}


def test_an_installation_that_works(tmp_path: Path) -> None:
    status, found = doctor(tmp_path)
    assert status == 0
    assert [finding["text"] for about, finding in found.items() if about.startswith("cpu (")] == ["two calls: right"]


def test_much_that_is_wrong(tmp_path: Path) -> None:
    """Each is found beside the others."""
    (tmp_path / "torch.py").write_text("import os; os.abort()")
    (tmp_path / "hsa").mkdir()
    environment = {"AITER_C_NUM_THREADS": "many", "AITER_C_HSA": str(tmp_path / "hsa"), "AITER_C_WISH": "1"}
    _, found = doctor(tmp_path, **environment)
    wrong = {about for about, finding in found.items() if finding["wrong"]}
    objects = {f"code objects of {arch}" for arch in ("gfx942", "gfx950", "sm_90a")}
    assert wrong == {"torch", "AITER_C_NUM_THREADS"} | objects
    assert not found["AITER_C_WISH"]["wrong"]


@pytest.mark.parametrize("source", ["raise ImportError('no luck')", "__version__ = '1.25.2'; ndarray = int"])
def test_numpy_that_is_no_good(source: str, tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text(source)
    status, found = doctor(tmp_path)
    assert status == 1 and found["numpy"]["wrong"]
    assert not any(about.startswith("cpu (") for about in found)  # which needs it


@pytest.mark.skipif(not fake_driver.SYMBOLS.exists(), reason="the C source is not beside the tests")
def test_a_device_that_computes_wrongly(tmp_path: Path) -> None:
    """The fake driver has devices and launches nothing."""
    library = fake_driver.build(tmp_path, "hip")
    status, found = doctor(tmp_path, AITER_C_HIP_LIBRARY=str(library), FAKE_ARCHS="gfx942")
    (finding,) = (finding for about, finding in found.items() if about.startswith("hip:0"))
    assert status == 1 and finding["wrong"]


def test_devices_that_compute(device: Device, tmp_path: Path) -> None:
    if not device.simulated:
        pytest.skip("the CPU is in every test above")
    status, found = doctor(tmp_path, AITER_C_HIP_LIBRARY=os.environ["AITER_C_HIP_LIBRARY"])
    hip = [finding["text"] for about, finding in found.items() if about.startswith("hip:")]
    assert status == 0 and hip and set(hip) == {"two calls: right"}
