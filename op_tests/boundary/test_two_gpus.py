"""Two GPUs, torch tensors on either, any of them current: streams, threads, graphs; with the exchange API and without.

Skipped and counted where torch sees fewer; test_current_device.py covers the rules on a fake driver.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from devices import torch_gpus
from interpreter import run_python, script

SCRIPT = script("boundary/isolated/two_gpus.py")
CHECKS = re.findall(r"^def check_(\w+)", Path(SCRIPT).read_text(), re.M)


pytestmark = [pytest.mark.isolated, pytest.mark.skipif(torch_gpus() < 2, reason="torch sees fewer than two GPUs")]


@pytest.mark.parametrize("switch", ["1", "0"], ids=["exchange", "dlpack"])
@pytest.mark.parametrize("check", CHECKS)
def test_two_gpus(check: str, switch: str) -> None:
    assert run_python(SCRIPT, check, timeout=200, AITER_C_DLPACK_EXCHANGE=switch).stdout == "ok\n"
