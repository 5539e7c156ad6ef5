"""The simulator's clock on AITER's kernels, beside published times: README.md, "Time"."""

from __future__ import annotations

import statistics

import pytest
from oracle import code_objects
from oracle.bites import bites
from oracle.clock_points import POINTS, QUOTED, Point, clocks_per_key
from oracle.kernels import KERNELS

from aiter_c.cli import simcost_clock

pytestmark = pytest.mark.aiter


@pytest.mark.slow
def test_held_back_points() -> None:
    """No constant was chosen by these: the median error is 15 % at most, the worst 35 %."""
    held = [point for point in POINTS if point.held_back]
    assert 3 * len(held) >= len(POINTS) and {point.arch for point in held} == {"gfx942", "gfx950"}
    errors = [abs(point.profile().us / point.us - 1) for point in held]
    assert statistics.median(errors) <= 0.15 and max(errors) <= 0.35, errors


@pytest.mark.slow
@pytest.mark.parametrize("key", QUOTED)
def test_what_simcost_quotes(key: tuple[str, str, int]) -> None:
    assert set(QUOTED.values()) == set(simcost_clock.AITER)
    assert clocks_per_key(*key) == pytest.approx(simcost_clock.AITER[QUOTED[key]], abs=0.1)


def test_a_point() -> None:
    """Keys are divided as AITER divides them; a timed run is a whole one of its unit."""
    split = Point("gfx950", "a8w8_h128", 16, 8192, 52.1, "")
    assert split.items == [512] and split.split and split.workers == 256
    whole = Point("gfx950", "a8w8_h128", 300, 100, 1.0, "")
    assert whole.items == [100, 100] and not whole.split and whole.workers == 256
    short = Point("gfx942", "a8w8_h128", 1, 21, 15.5, "").profile()
    assert short.active_units == 1 and short.units == 1 and 5 < short.us < 30
    assert short.instructions and code_objects.available()


@pytest.mark.parametrize(("kernel", "bite", "rows"), [("a16w16", 0, 0), ("a8w8_q1", 2, 0), ("a8w8_q2", 4, 212)])
def test_which_findings_bite(kernel: str, bite: int, rows: int) -> None:
    """Missing waits that use what has not arrived by the clock; rows that its order of the waves makes otherwise."""
    found = bites(next(k for k in KERNELS if (k.arch, k.id) == ("gfx950", kernel)))
    waits = [slack for (kind, _), slacks in found.by.items() if kind == "missing wait" for slack in slacks]
    assert sum(slack is not None and slack < 0 for slack in waits) == bite
    assert found.rows == rows
