"""Values inside tensors never fault: on the CPU both ends of every pointer at a forbidden page, in a child; on a device
every tensor in memory of exactly its size, which a simulator (and compute-sanitizer) guards to the byte."""

from __future__ import annotations

import signal

import pytest
from interpreter import run_python, script
from mla_decode.fuzz import check, expected, fuzz

from aiter_c.testing import Device
from aiter_c.testing.ops.mla_decode import p_dtype_of


@pytest.mark.isolated
@pytest.mark.parametrize("threads", [1, 3])
def test_no_pointer_is_followed_past_its_ends(threads: int) -> None:
    out = run_python(script("mla_decode/isolated/guard_pages.py"), str(threads), "320").stdout.split("\n")
    verdict, cells = out[-2].split()
    assert verdict == "ok" and int(cells) >= 500, out[-5:]


@pytest.mark.isolated
@pytest.mark.parametrize("end", [True, False])
def test_the_guard_guards(end: bool) -> None:
    """One element too far kills the process: the test above can fail."""
    code = (
        "import ctypes, numpy as np\n"
        "from aiter_c.testing import GuardedArray\n"
        f"g = GuardedArray(np.arange(5, dtype=np.int32), end={end})\n"
        f"print(ctypes.c_int32.from_address(g.array.ctypes.data + 4 * {4 if end else 0}).value, flush=True)\n"
        f"print(ctypes.c_int32.from_address(g.array.ctypes.data + 4 * {5 if end else -1}).value)\n"
    )
    done = run_python("-c", code, check=False)
    assert done.returncode in (-signal.SIGSEGV, -signal.SIGBUS) and done.stdout.strip() == ("4" if end else "0")


@pytest.mark.accelerators
@pytest.mark.parametrize("seed", range(4))
def test_any_index_on_a_device(seed: int, device: Device) -> None:
    for one in fuzz(40, seed):
        _, lse = device.call("mla_decode_fwd", **one.inputs.arguments() | one.changed, exact=True)
        want = expected(one.inputs, one.changed, p_dtype_of(one.inputs.case, device))
        check(one.name, one.inputs, one.inputs.array("o"), lse, want)
