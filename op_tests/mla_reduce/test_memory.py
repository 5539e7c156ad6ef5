"""Memory: nothing past the ends of a tensor whatever the index tensors hold (on the CPU both ends of every pointer at a
forbidden page, in a child; on a device every tensor in memory of exactly its size, which a simulator guards to the
byte), and no leak."""

from __future__ import annotations

import pytest
from interpreter import run_python, script
from mla_reduce.fuzz import check, fuzz

from aiter_c.testing import Device


@pytest.mark.isolated
@pytest.mark.parametrize("threads", [1, 3])
def test_no_pointer_is_followed_past_its_ends(threads: int) -> None:
    out = run_python(script("mla_reduce/isolated/guard_pages.py"), str(threads), "400").stdout.split("\n")
    verdict, calls = out[-2].split()
    assert verdict == "ok" and int(calls) >= 400, out[-5:]


@pytest.mark.smoke
def test_any_index(device: Device) -> None:
    for one in fuzz(60 if device.simulated else 300, seed=11):
        device.call("mla_reduce_v1", **one.arguments, **({"exact": True} if device.copies else {}))
        check(one, {name: one.inputs.array(name) for name in one.inputs.written})


@pytest.mark.isolated
def test_blocks_and_references_stay() -> None:
    """No leak, over calls that work and calls that are refused."""
    out = run_python(script("mla_reduce/isolated/leaks.py"), timeout=200).stdout.strip().split("\n")
    assert out[-1] == "ok" and len(out) > 10, out[-5:]
