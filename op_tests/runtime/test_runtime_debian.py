"""The HIP runtime on a real libamdhip64: Debian's, HIP 5.2, on a machine without an AMD GPU."""

from __future__ import annotations

import ctypes
import glob
import json
from pathlib import Path

import pytest
from interpreter import run_python
from runtime import fake_driver

#: Symbols of the table that came after HIP 5.2: what replaces them there.
NEWER = {"hipGetDevicePropertiesR0600": "hipGetDeviceProperties"}

LIBRARIES = sorted(glob.glob("/usr/lib/*-linux-gnu/libamdhip64.so.5"))
pytestmark = [
    pytest.mark.isolated,
    pytest.mark.skipif(not LIBRARIES, reason="Debian's libamdhip64-5 is not installed"),
    pytest.mark.skipif(Path("/dev/kfd").exists(), reason="this machine may have an AMD GPU"),
    pytest.mark.skipif(not fake_driver.SYMBOLS.exists(), reason="the C source is not beside the tests"),
]


def test_every_symbol_resolves_or_is_newer() -> None:
    names = fake_driver.symbols("hip")
    library = ctypes.CDLL(LIBRARIES[0])
    missing = {name for name in names if not hasattr(library, name)}
    assert missing == set(NEWER) and not any(names[name] for name in missing)
    assert all(hasattr(library, name) for name in NEWER.values()) and len(names) >= 18


def test_found_but_no_device() -> None:
    """By its name in the search path and by the switch: the driver's own name for having no device."""
    for settings in ({"AITER_C_HIP_LIBRARY": ""}, {"AITER_C_HIP_LIBRARY": LIBRARIES[0]}):
        done = run_python("-m", "aiter_c", "env", **settings)
        line = next(line.strip() for line in done.stdout.splitlines() if line.strip().startswith("hip: "))
        assert line.startswith("hip: runtime found (") and "libamdhip64.so.5, HIP 5.2." in line, line
        assert "no device: hipErrorNoDevice" in line


def test_it_serves_nothing_and_breaks_nothing() -> None:
    code = """
import json
import aiter_c
from aiter_c import _C
errors = []
for call in (lambda: aiter_c.empty(3, "float32", "hip:0"), lambda: aiter_c.mla_plan(1, 16, 1, 1, "bfloat16", "bfloat16",
                                                                                    device="hip:0")):
    try:
        call()
    except ValueError as error:
        errors.append(str(error))
print(json.dumps([errors, _C.runtime_info()["runtimes"]["hip"]]))
"""
    errors, info = json.loads(run_python("-c", code, AITER_C_HIP_LIBRARY=LIBRARIES[0]).stdout)
    text = "device: expected one of 0 hip devices, got hip:0; no device: hipErrorNoDevice"
    assert errors == [f"empty: {text}", f"mla_plan: {text}"]
    assert info["available"] and info["devices"] == 0 and info["reason"] == "no device: hipErrorNoDevice"
