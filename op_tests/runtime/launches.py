"""The test that each op with kernels of a GPU has: its isolated/launches.py, on a driver that computes nothing, sees
what the driver is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from interpreter import run_python, script
from runtime import fake_driver


def launches_of(op: str) -> Callable[[str, Path], None]:
    """The test of op_tests/OP."""

    @pytest.mark.isolated
    @pytest.mark.skipif(not fake_driver.SYMBOLS.exists(), reason="the C source is not beside the tests")
    @pytest.mark.parametrize("vendor", ["hip", "cuda"])
    def test_launches(vendor: str, tmp_path: Path) -> None:
        fake_driver.build(tmp_path, vendor)
        fake_driver.write_code_objects(tmp_path / "hsa")
        library = tmp_path / fake_driver.LIBRARIES[vendor]
        settings = fake_driver.environment(vendor, library, tmp_path / "hsa")
        out = run_python(script(f"{op}/isolated/launches.py"), vendor, str(library), **settings).stdout
        assert out.strip().endswith("ok")

    return test_launches
