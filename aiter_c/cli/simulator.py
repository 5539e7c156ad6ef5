"""The simulator of a checkout (op_tests/gfxsim) in the place of libamdhip64. The package reads its environment when it
is imported, so a command that wants it runs itself again in a process of its own."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import aiter_c

#: What each simulated device is called, with `environment()`.
PLACES = {"gfx942": "hip:0", "gfx950": "hip:1"}


def is_used() -> bool:
    """Whether this process has it."""
    return "gfxsim" in Path(os.environ.get("AITER_C_HIP_LIBRARY", "")).name


def environment() -> dict[str, str] | None:
    """The variables of a process that has it, built when it was not; None outside of a checkout."""
    script = Path(aiter_c.__file__).resolve().parents[1] / "op_tests/gfxsim/build.py"
    if not script.is_file():
        return None
    paths = [str(Path(aiter_c.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {
        "AITER_C_HIP_LIBRARY": str(runpy.run_path(str(script))["build"]()),
        "GFXSIM_DEVICES": ",".join(PLACES),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
