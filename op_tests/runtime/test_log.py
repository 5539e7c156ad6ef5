"""AITER_C_LOG: what calls say on standard error."""

from __future__ import annotations

import re

import pytest
from interpreter import run_python

pytestmark = pytest.mark.isolated
_CALLS = """
import aiter_c
from aiter_c.testing import MlaCase, build_inputs
arguments = build_inputs(MlaCase(heads=3, kv_lens=(40,), kv_strided=True, splits=2)).arguments()
aiter_c.mla_decode_fwd(**arguments)
try:
    aiter_c.mla_decode_fwd(**arguments | {"q": arguments["q"][:, :, 1:]})
except ValueError as error:
    print(error)
else:
    raise SystemExit("not refused")
"""


def said(level: str) -> tuple[list[str], str]:
    """The log's lines, and the text of the refusal."""
    done = run_python("-c", _CALLS, AITER_C_LOG=level)
    return [line for line in done.stderr.splitlines() if line.startswith("aiter_c: ")], done.stdout.strip()


@pytest.mark.parametrize("level", ["", "0"])
def test_nothing(level: str) -> None:
    assert said(level)[0] == []


def test_calls_and_refusals() -> None:
    lines, refusal = said("1")
    assert len(lines) == 3  # stage 1, stage 2, the refused call
    assert lines[0].startswith("aiter_c: mla_decode_fwd: q bfloat16[1, 3, 576], kv_buffer bfloat16[")
    assert re.search(r", 1, 1, 576\] strides \d+,\d+,\d+,1, o bfloat16", lines[0])
    assert all(re.search(r": \d+\.\d us$", line) for line in lines[:2])
    assert lines[2].endswith(f": ValueError: {refusal}")


@pytest.mark.parametrize("level", ["2", "3"])
def test_plans_and_launches(level: str) -> None:
    """The CPU is done when the call returns: level 3 says no more of it."""
    lines, _ = said(level)
    launched = [line for line in lines if "launch " in line]
    assert [re.search(r"launch (\w+?_\w+?)_", line)[1] for line in launched] == ["mla_decode", "mla_merge"]
    assert sum("aiter_c.MlaPlan(batch=1, num_heads=3" in line for line in lines) == 2
