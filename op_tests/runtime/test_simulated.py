"""What only the simulator sees of the kernels: results that depend on the order of waves and workgroups, barriers that
waves reach at different instructions; and that its reports fail a test."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator

import numpy as np
import pytest
from mla_decode.cases import SMOKE, on_device

import aiter_c
from aiter_c.testing import Device, MlaCase, build_inputs, run_case
from aiter_c.testing.device import Copies

pytestmark = pytest.mark.accelerators


@pytest.fixture
def simulator(device: Device) -> Iterator[ctypes.CDLL]:
    """With options that a test may set; they are as before afterwards."""
    if not device.simulated:
        pytest.skip("not a simulated device")
    library = ctypes.CDLL(os.environ["AITER_C_HIP_LIBRARY"])
    library.gfxsim_set_option.argtypes = [ctypes.c_char_p, ctypes.c_uint64]
    yield library
    for option, value in ((b"order_check", 0), (b"check_barriers", 1), (b"seed", 0), (b"quantum", 4096), (b"quiet", 0)):
        assert library.gfxsim_set_option(option, value) == 0


@pytest.mark.parametrize("index", range(0, len(SMOKE), 3))
def test_no_order_matters(index: int, device: Device, simulator: ctypes.CDLL) -> None:
    """Each launch three times in all, waves and workgroups interleaved otherwise every few instructions: the same bits
    in all memory. All waves of a workgroup wait at the same barrier, but in the kernels of fp8 for more than 32 rows
    (gfx942) and of keys that need no change for more than 64 (gfx950), whose halves do different things between two
    barriers."""
    for case in on_device(SMOKE[index : index + 1], device):
        rows = case.heads * max(case.q_lens, default=0)
        in_halves = case.q_is_fp8 and case.kv_is_fp8 and rows > 32
        if device.name == "gfx950":
            in_halves = case.q_dtype == case.kv_dtype and rows > 64
        for option, value in ((b"order_check", 2), (b"check_barriers", 1 if in_halves else 2), (b"quantum", 50)):
            assert simulator.gfxsim_set_option(option, value) == 0
        run_case(case, device=device)


@pytest.mark.parametrize("name", ["q", "kv_indptr", "o"])
def test_memory_that_is_too_small_is_reported(name: str, device: Device, simulator: ctypes.CDLL) -> None:
    """The guard guards: a tensor that says more than its memory holds ends in DeviceError, and the next call works."""
    case = MlaCase(heads=16, kv_lens=(64,))
    inputs = build_inputs(case)
    assert simulator.gfxsim_set_option(b"quiet", 1) == 0
    copies = Copies(device.place, exact=True)
    arguments = {
        key: copies.tensor(value) if isinstance(value, np.ndarray) and value.ndim else value
        for key, value in inputs.arguments().items()
    }
    whole = inputs.array(name)
    small = aiter_c.from_host(np.zeros(max(whole.nbytes - 4, 1), np.uint8), device.place)
    arguments[name] = _claiming(small, whole)
    with pytest.raises(aiter_c.DeviceError):
        aiter_c.mla_decode_fwd(**arguments, stream=0)
        small.numpy()
    text = ctypes.create_string_buffer(4096)
    assert simulator.gfxsim_last_report(text, ctypes.c_size_t(len(text))) != 0
    assert b"alloc" in text.value and b"mla_decode" in text.value, text.value
    simulator.gfxsim_reset()
    run_case(case, device=device)


def _claiming(memory: aiter_c.Array, whole: np.ndarray) -> object:
    from aiter_c.testing import DeviceTensor
    from aiter_c.testing.device import address_of

    return DeviceTensor(memory, address_of(memory), np.ascontiguousarray(whole), None)
