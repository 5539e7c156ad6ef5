"""How the other tests reach a device: copies with margins, copies of exact size, and what --device accepts. The copies
are tested on the CPU, through aiter_c's own arrays."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import devices
import numpy as np
import pytest
from mla_decode.cases import ALL, CORNER, SIMULATED_RANDOM, SMOKE, SWEEP, on_device

import aiter_c
from aiter_c.testing import Device, DeviceTensor, MlaCase, run_case

ROOT = Path(__file__).resolve().parents[2]
COPIES = Device("copies", "cpu", copies=True)
CASE = MlaCase(heads=3, q_lens=(2, 1), kv_lens=(20, 9), page_size=4, splits=2, o_strided=True, kv_strided=True)


@pytest.mark.parametrize("case", SMOKE[::4])
def test_copies_give_what_arrays_give(case: MlaCase) -> None:
    run_case(case, device=COPIES)


@pytest.mark.parametrize("exact", [True, False])
def test_copies_of_either_kind(exact: bool) -> None:
    run_case(CASE, device=COPIES, exact=exact)


def _address(tensor: DeviceTensor) -> int:
    return tensor._managed.tensor.data


def _spoils(name: str, offset: int) -> Callable:
    """mla_decode_fwd, then one byte changed `offset` bytes from the first element of an argument or of the LSE."""

    def op(**arguments: object) -> tuple[object, object]:
        logits, lse = aiter_c.mla_decode_fwd(**arguments)
        tensor = {"lse": lse, "logits": logits}.get(name, arguments.get(name))
        byte = ctypes.c_uint8.from_address(_address(tensor) + offset)
        byte.value ^= 0x41
        return logits, lse

    return op


@pytest.mark.parametrize(
    ("name", "offset", "text"),
    [
        ("o", -1, r"o: byte -1 from the first element"),
        ("o", 2 * 512, r"o: byte 1024 from the first element"),  # in the gap behind the first row
        ("q", 5, r"q: byte 5 from the first element"),
        ("kv_buffer", 4 * 576 * 2, r"kv_buffer: byte \d+ from the first element"),
        ("kv_indices", 0, r"kv_indices: byte 0 from the first element"),
        ("lse", -4, r"lse: byte -4 from the first element"),
        ("logits", -1, r"logits: byte -1 from the first element"),
        ("o", 1, r"o: 1 of"),
        ("lse", 3, r"lse: 1 of"),
    ],
)
def test_a_changed_byte_on_the_device_shows(monkeypatch: pytest.MonkeyPatch, name: str, offset: int, text: str) -> None:
    original = aiter_c.mla_decode_fwd
    spoil = _spoils(name, offset)

    def op(**arguments: object) -> tuple[object, object]:
        monkeypatch.setattr(aiter_c, "mla_decode_fwd", original)
        return spoil(**arguments)

    monkeypatch.setattr(aiter_c, "mla_decode_fwd", op)
    with pytest.raises(AssertionError, match=text):
        run_case(CASE, device=COPIES, exact=False)


@pytest.mark.parametrize("exact", [True, False])
def test_addresses_and_strides_are_those_of_the_view(exact: bool) -> None:
    from aiter_c.testing.device import Copies, address_of

    base = np.arange(600, dtype=np.int32).reshape(20, 30)
    view = base[3:17:2, 25:4:-3]
    copies = Copies("cpu", exact=exact)
    tensor = copies.tensor(view)
    back = np.from_dlpack(_OnTheHost(tensor))
    np.testing.assert_array_equal(back, view)
    assert back.strides == view.strides
    (copy,) = copies._copies.values()
    low, high = np.lib.array_utils.byte_bounds(view)
    assert copy.memory.nbytes == (high - low if exact else base.nbytes)
    assert _address(tensor) - address_of(copy.memory) == view.ctypes.data - copy.begin


class _OnTheHost:
    """NumPy insists on knowing `copy` and `dl_device`; the tensor ignores them."""

    def __init__(self, tensor: DeviceTensor) -> None:
        self.tensor = tensor

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.tensor.__dlpack_device__()

    def __dlpack__(self, **keywords: object) -> object:
        return self.tensor.__dlpack__(**keywords)


def test_names_of_devices() -> None:
    assert devices.requested(["cpu,gfx942", "cpu", "cuda"]) == ["cpu", "gfx942", "cuda"]
    assert devices.requested([]) == []
    with pytest.raises(pytest.UsageError, match="--device: expected cpu, gfx942, gfx950, cuda, hip, got 'gpu'"):
        devices.requested(["cpu,gpu"])
    with pytest.raises(pytest.UsageError, match="choose one"):
        devices.requested(["hip", "gfx950"])


@pytest.mark.isolated
@pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="the project is not around the tests")
def test_the_options_are_known_at_the_root() -> None:
    """The README's form: what follows --device is not taken for a path."""
    command = ["-m", "pytest", "--device", "cpu", "--collect-only", "-q", "-n", "0", "--ignore-glob=*/test_[!d]*.py"]
    env = os.environ | {"PYTEST_ADDOPTS": ""}
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "test_names_of_devices" in done.stdout, done.stdout + done.stderr


def test_every_selected_device_is_what_it_says(device: Device) -> None:
    plan = aiter_c.mla_plan(1, 16, 1, 1, "bfloat16", "bfloat16", device=device.place)
    assert plan.device == device.place
    if device.simulated:
        assert plan.arch == device.name
    elif device.name == "cuda":
        assert plan.arch == "sm_90a"


def test_what_runs_on_simulated_devices() -> None:
    """All named cases but a handful that take long, and a part of the random ones that no two architectures share."""
    archs = [Device(name, place, simulated=True, copies=True) for name, place in devices.SIMULATED.items()]
    for device in archs:
        assert on_device(SMOKE, device) == SMOKE
        assert len(on_device(CORNER, device)) > 0.98 * len(CORNER)
        assert len(on_device(SWEEP, device)) > 0.95 * SIMULATED_RANDOM
    first, second = ({*on_device(SWEEP, device)} for device in archs)
    assert not first & second
    assert on_device(ALL, Device("cuda", "cuda:0", copies=True)) == ALL
