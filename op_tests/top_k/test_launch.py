"""What a GPU's driver is asked for, on one that computes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from interpreter import run_python, script
from runtime import fake_driver


@pytest.mark.isolated
@pytest.mark.skipif(not fake_driver.SYMBOLS.exists(), reason="the C source is not beside the tests")
@pytest.mark.parametrize("vendor", ["hip", "cuda"])
def test_launches(vendor: str, tmp_path: Path) -> None:
    fake_driver.build(tmp_path, vendor)
    fake_driver.write_code_objects(tmp_path / "hsa")
    library = tmp_path / fake_driver.LIBRARIES[vendor]
    settings = fake_driver.environment(vendor, library, tmp_path / "hsa")
    out = run_python(script("top_k/isolated/launches.py"), vendor, str(library), **settings).stdout
    assert out.strip().endswith("ok")
