"""Failing orders of waves, shrunk to the turns that cause them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from gfxsim import Simulator, launch
from gfxsim.order import Turn, forget, play, record, shrink
from gfxsim.tests.machine_fixtures import ARCHS, DATA


@pytest.fixture(params=ARCHS)
def arch(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def sim() -> Iterator[Simulator]:
    simulator = Simulator()
    simulator.set_option("quiet", 1)
    yield simulator
    forget(simulator)
    simulator.reset()
    simulator.reset_options()
    simulator.set_device(0)


def arrival(arch: str, fixed: int = 0, grid: int = 1) -> np.ndarray:
    """Which of four waves came how early."""
    out = np.zeros(4, np.uint32)
    launch(DATA / arch / "planted.co", "arrival", [np.zeros(1, np.uint32), out, fixed], grid, 256)
    return out


def test_the_turn_that_matters(sim: Simulator, arch: str) -> None:
    """Wave 2 before wave 1: of a turn of each wave, one is left."""
    sim.set_option("check_races", 0)
    fails = lambda: bool(arrival(arch)[2] < arrival(arch)[1])  # noqa: E731
    seed = next(seed for seed in range(2, 50) if not sim.set_option("seed", seed) and fails())
    sim.set_option("seed", seed)
    assert {turn.wave for turn in record(sim, fails)} == {0, 1, 2, 3}
    turns = shrink(sim, fails)
    assert turns == [Turn(2, 0)] and str(turns[0]) == "wave 2 runs until it waits or ends"
    play(sim, turns)
    assert arrival(arch).tolist() == [1, 2, 0, 3]
    forget(sim)


def test_the_plain_order_may_fail_as_well(sim: Simulator, arch: str) -> None:
    """Rows of the other waves, read before they wrote them: no turn has to be kept."""
    for check in ("check_races", "check_waits", "check_uninitialized"):
        sim.set_option(check, 0)

    def fails() -> bool:
        data, out = np.arange(256, dtype=np.float32), np.zeros(256, np.float32)
        launch(DATA / arch / "planted.co", "reverse_without_barrier", [data, out], 1, 256)
        return not np.array_equal(out, data[::-1])

    sim.set_option("seed", 1)
    assert shrink(sim, fails) == []


def test_reports_are_failures(sim: Simulator, arch: str) -> None:
    def fails() -> bool:
        launch(DATA / arch / "planted.co", "swap_rows", [np.zeros(128, np.uint32), 2], 1, 128)
        return False

    sim.set_option("seed", 5)
    assert shrink(sim, fails) == []
    assert sim.last_report() is None


def test_what_cannot_be_shrunk(sim: Simulator, arch: str) -> None:
    sim.set_option("check_races", 0)
    with pytest.raises(ValueError, match="does not fail under these options"):
        shrink(sim, lambda: bool(arrival(arch, 1).tolist() != [0, 1, 2, 3]))
    calls: list[int] = []

    def only_once() -> bool:
        arrival(arch)
        calls.append(1)
        return len(calls) == 1

    with pytest.raises(ValueError, match="by the turns of workgroup 0 alone"):
        shrink(sim, only_once)


def test_turns_of_waves_that_cannot_run_are_passed_over(sim: Simulator, arch: str) -> None:
    play(sim, [Turn(9, 1), Turn(3, 0), Turn(3, 5), Turn(1, 0)])
    assert arrival(arch).tolist() == [2, 1, 3, 0]
