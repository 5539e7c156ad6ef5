"""Runs a case of any op and holds everything that the call promises against what is expected."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .case import Case
from .compare import Expected, check_outputs
from .device import CPU, Device
from .inputs import Inputs
from .scratch import Scratch, poisoned_scratch


@dataclass
class Outcome:
    """One call: what it got, what it returned, its outputs by name, what they had to be, and the scratch it took."""

    case: Case
    device: Device
    inputs: Inputs
    returned: object
    outputs: dict[str, np.ndarray | None]
    expected: dict[str, Expected]
    scratch: Scratch


def run_case(case: Case, call: Callable | None = None, *, device: Device = CPU, **extra: object) -> Outcome:
    """Builds, calls, checks. Raises AssertionError with a one-line repro.

    call: `device.call` of the case's op, unless given; extra: more keyword arguments for it.
    """
    if call is None:
        call = device.op(case.op)
        if device.copies:  # half of the cases without margins: there the device itself guards the ends
            extra.setdefault("exact", zlib.crc32(repr(case).encode()) % 2 == 0)
    inputs = case.inputs()
    inputs.freeze()
    with poisoned_scratch() as scratch:
        returned = call(**inputs.arguments() | extra)
    inputs.check_untouched()
    scratch.check_margins(case.repro)
    if scratch.repeated and not case.takes_twice:
        raise AssertionError(f"allocated twice: {', '.join(scratch.repeated)}\n  {case.repro}")
    outputs, expected = case.outputs(inputs, returned), case.expected(inputs, device)
    check_outputs(outputs, expected, case.repro)
    outcome = Outcome(case, device, inputs, returned, outputs, expected, scratch)
    case.check(outcome)
    return outcome
