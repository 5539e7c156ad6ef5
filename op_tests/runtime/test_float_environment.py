"""A call computes in one float environment, whatever the caller's, on every thread; and leaves the caller's alone."""

from __future__ import annotations

import platform
import random
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from interpreter import run_python
from runtime import float_environment
from runtime.decode_call import arguments, bits
from runtime.float_environment import ALL_FLAGS, MODES, changed

import aiter_c
from aiter_c import _C

pytestmark = [
    pytest.mark.smoke,
    pytest.mark.skipif(
        platform.libc_ver()[0] != "glibc" or platform.machine() not in ("x86_64", "aarch64"),
        reason="the layout of fenv_t is known for glibc on x86-64 and aarch64",
    ),
]

CALLS = {
    "splits": arguments((200,) * 16, num_kv_splits=3, deterministic=True),
    "one_split": arguments((90, 300), heads=3, num_kv_splits=1),
    "subnormals": arguments((40,) * 8, q_dtype=np.float16, scale=1e-39, num_kv_splits=2),
}


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    yield
    aiter_c.set_num_threads(0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CALLS)
def test_the_callers_mode_changes_no_bit(name: str, mode: str) -> None:
    """Neither on the calling thread alone, nor with workers, nor with workers that were started in that mode."""
    call = CALLS[name]
    aiter_c.set_num_threads(1)
    expected = bits(call)
    with changed(mode):
        assert bits(call) == expected, "one thread"
        aiter_c.set_num_threads(3)
        for _ in range(20):
            assert bits(call) == expected, "workers of such a thread"
    for _ in range(20):
        assert bits(call) == expected, "afterwards"


def test_subnormals_are_kept() -> None:
    """The case above would prove nothing if nothing in it were subnormal."""
    call = CALLS["subnormals"]
    bits(call)
    values = np.abs(call["o"].astype(np.float64))
    assert 0 < values[values > 0].min() < 1e-38 and values.max() < 1e-37


@pytest.mark.parametrize("mode", MODES)
def test_the_callers_environment_is_as_before(mode: str) -> None:
    """Control bits and sticky flags: none is raised, none is lost. Also by a call that is refused."""
    call = CALLS["splits"]
    wrong = call | {"o": call["q"]}
    with changed(mode):
        for flags in (0, ALL_FLAGS):
            float_environment.set_flags(flags)
            before = float_environment.read()
            aiter_c.mla_decode_fwd(**call)
            assert float_environment.read() == before
            _C.choose_kv_splits(None, 33, 33 * 4097, 16, 1, True, 1, False, 80)
            assert float_environment.read() == before
            with pytest.raises(ValueError, match="o: "):
                aiter_c.mla_decode_fwd(**wrong)
            float_environment.set_flags(flags)
            assert float_environment.read() == before


def test_traps_of_the_caller_do_not_fire() -> None:
    """A process that traps on every exception would be killed by the first inexact product."""
    code = (
        "import ctypes\nfrom runtime import decode_call\n"
        "call = decode_call.arguments((200,) * 4)\n"
        "expected = decode_call.bits(call)\n"
        "libm = ctypes.CDLL('libm.so.6')\n"
        "libm.feclearexcept(0x3d)\n"
        "libm.feenableexcept(0x3d)\n"
        "got = decode_call.bits(call)\n"
        "libm.fedisableexcept(0x3d)\n"
        "assert got == expected\n"
        "print('ok')"
    )
    if platform.machine() != "x86_64":
        pytest.skip("traps are optional on aarch64")
    assert run_python("-c", code).stdout == "ok\n"


@pytest.mark.parametrize("mode", MODES)
def test_split_counts_do_not_depend_on_the_mode(mode: str) -> None:
    """The heuristic divides; such large counts make its quotients inexact."""
    draw = random.Random(0)
    for _ in range(2000):
        counts = (draw.randrange(2**50, 2**60), draw.randrange(2**40, 2**62), draw.choice((1, 16, 128)))
        request = (None, *counts, draw.randrange(1, 5), draw.random() < 0.5, 1, draw.random() < 0.5, 80)
        expected = _C.choose_kv_splits(*request)
        with changed(mode):
            assert _C.choose_kv_splits(*request) == expected, request


@pytest.mark.parametrize("mode", MODES)
def test_what_fits_float32_does_not_depend_on_the_mode(mode: str) -> None:
    """Half a unit above the largest float32 is out of range, a little less is not: by rounding to nearest."""
    call = CALLS["one_split"]
    with changed(mode):
        aiter_c.mla_decode_fwd(**call, sm_scale=3.40282356e38)
        with pytest.raises(ValueError, match="sm_scale: "):
            aiter_c.mla_decode_fwd(**call, sm_scale=3.4028235677973366e38)


def test_threads_of_different_modes_share_the_pool() -> None:
    """Each call's items run on its own thread and on the pool's."""
    calls = [dict(CALLS["splits"], o=CALLS["splits"]["o"].copy()) for _ in MODES]
    aiter_c.set_num_threads(2)
    expected, seen = bits(calls[0]), []

    def decode(mode: str, call: dict) -> None:
        with changed(mode):
            seen.extend(bits(call) for _ in range(10))

    threads = [threading.Thread(target=decode, args=pair) for pair in zip(MODES, calls, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 10 * len(MODES) and set(seen) == {expected}
