"""The GPU runtimes on a driver that computes nothing: devices, streams, threads, forks, captures, errors."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from interpreter import run_python, script
from runtime import fake_driver

VENDORS = ("hip", "cuda")
pytestmark = [
    pytest.mark.isolated,
    pytest.mark.skipif(not fake_driver.SYMBOLS.exists(), reason="the C source is not beside the tests"),
]
CHECKS = re.findall(r"^def check_(\w+)", Path(script("runtime/isolated/runtime_checks.py")).read_text(), re.M)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both drivers, and code objects that they load."""
    folder = tmp_path_factory.mktemp("drivers")
    for vendor in VENDORS:
        fake_driver.build(folder, vendor)
    fake_driver.write_code_objects(folder / "hsa")
    return folder


def run_check(home: Path, vendor: str, name: str, **environment: str) -> None:
    library = home / fake_driver.LIBRARIES[vendor]
    settings = fake_driver.environment(vendor, library, home / "hsa") | environment
    run_python(script("runtime/isolated/runtime_checks.py"), vendor, str(library), name, timeout=120, **settings)


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("name", [name for name in CHECKS if name != "no_device"])
def test_check(home: Path, vendor: str, name: str) -> None:
    run_check(home, vendor, name)


@pytest.mark.parametrize("vendor", VENDORS)
def test_no_device(home: Path, vendor: str) -> None:
    run_check(home, vendor, "no_device", FAKE_ARCHS="")


#: Not in a script that succeeds; what calls them is tested above and by the injected failures.
AFTER_FAILURES = {"hipModuleUnload", "hipGetErrorName", "hipGetLastError", "cuModuleUnload", "cuGetErrorName"}
#: Asked by runtime_info alone, and HIP 5's form of what HIP 6 asks otherwise.
ELSEWHERE = {"hipRuntimeGetVersion", "cuDriverGetVersion", "hipGetDeviceProperties"}


@pytest.mark.parametrize("vendor", VENDORS)
def test_every_call_fails_once_with_every_code(home: Path, vendor: str) -> None:
    library = home / fake_driver.LIBRARIES[vendor]
    settings = fake_driver.environment(vendor, library, home / "hsa")
    done = run_python(script("runtime/isolated/runtime_injection.py"), vendor, str(library), timeout=250, **settings)
    result = json.loads(done.stdout)
    assert set(result["functions"]) == set(fake_driver.symbols(vendor)) - AFTER_FAILURES - ELSEWHERE
    assert result["calls"] > 60 and result["runs"] > 200
