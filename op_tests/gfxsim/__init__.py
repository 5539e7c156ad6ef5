"""gfxsim: executes gfx942 and gfx950 code objects on a CPU. See README.md beside this file.

    from op_tests.gfxsim import Simulator, launch

    result = launch("kernels.co", "vector_add", [a, b, c, len(a)], grid=4, block=256)   # NumPy arrays; c is filled in

Simulator is the library that stands in for libamdhip64: the HIP functions themselves (sim.hip.hipMalloc(...)), a thin
layer over them, and the controls (options, reports, counters, injected failures).
"""

from __future__ import annotations

from .build import build
from .code import CodeObject, Hazard, KernelInfo, hazard_rules, hazards_of_words
from .simulator import Buffer, Finding, HipError, Kernel, LaunchRecord, Module, Report, Simulator, launch

__all__ = [
    "Buffer",
    "CodeObject",
    "Finding",
    "Hazard",
    "HipError",
    "Kernel",
    "KernelInfo",
    "LaunchRecord",
    "Module",
    "Report",
    "Simulator",
    "build",
    "hazard_rules",
    "hazards_of_words",
    "launch",
]
