"""Tensors of one device while another is current, in a torch without the exchange API: the same contract as with it.

On a fake driver with two devices; test_two_gpus.py is the same on real ones.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from interpreter import run_python, script
from runtime import fake_driver

pytestmark = [
    pytest.mark.isolated,
    pytest.mark.skipif(not fake_driver.SYMBOLS.exists(), reason="the C source is not beside the tests"),
]


@pytest.mark.parametrize("vendor", ["hip", "cuda"])
def test_current_device(vendor: str, tmp_path: Path) -> None:
    library = fake_driver.build(tmp_path, vendor)
    fake_driver.write_code_objects(tmp_path / "hsa")
    settings = fake_driver.environment(vendor, library, tmp_path / "hsa")
    done = run_python(script("boundary/isolated/current_device.py"), vendor, str(library), timeout=120, **settings)
    assert done.stdout == "ok\n"
