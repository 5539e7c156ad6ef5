"""A simulator for tests of whole launches, the code objects of gfxsim/data, and how a report is expected."""

from __future__ import annotations

import ctypes as ct
import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from gfxsim import HipError, Module, Simulator

DATA = Path(__file__).resolve().parents[1] / "data"
ARCHS = ("gfx942", "gfx950")


@pytest.fixture
def sim() -> Iterator[Simulator]:
    gc.collect()  # what earlier tests hold only in cycles (modules, buffers) must not go in the middle of this one
    simulator = Simulator()
    simulator.set_option("quiet", 1)
    yield simulator
    simulator.reset()
    simulator.reset_options()
    simulator.set_device(0)


@pytest.fixture(params=ARCHS)
def arch(request: pytest.FixtureRequest, sim: Simulator) -> str:
    sim.set_device(sim.device_of(request.param))
    return request.param


@pytest.fixture
def clean(sim: Simulator, arch: str) -> Module:
    return sim.load(DATA / arch / "clean.co")


@pytest.fixture
def planted(sim: Simulator, arch: str) -> Module:
    return sim.load(DATA / arch / "planted.co")


def floats(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(count).astype(np.float32)


def expect_report(sim: Simulator, kind: str, run: Callable[[], None], *words: str) -> None:
    """The launch fails with 719 and a report of this kind; then the device is dead until a reset."""
    with pytest.raises(HipError) as caught:
        run()
    assert caught.value.code == 719 and caught.value.report is not None
    assert caught.value.report.kind == kind, caught.value.report
    for word in words:
        assert word in caught.value.report.text, caught.value.report.text
    with pytest.raises(HipError, match="hipErrorContextIsDestroyed"):
        sim.synchronize()
    sim.reset()
    sim.synchronize()


def current_device(sim: Simulator) -> int:
    device = ct.c_int()
    sim.call("hipGetDevice", ct.byref(device))
    return device.value


def expect_error(name: str, run: Callable[[], object]) -> None:
    with pytest.raises(HipError) as caught:
        run()
    assert caught.value.name == name
