"""The simulator's clock on AITER's kernels, beside published times: README.md, "Time"."""

from __future__ import annotations

import itertools
import statistics
from pathlib import Path

import gfxsim
import numpy as np
import pytest
from gfxsim.__main__ import main as gfxsim_command
from oracle import code_objects
from oracle.bites import bites
from oracle.clock_points import (
    LATER_POINTS,
    LATER_QUOTED,
    MERGE,
    POINTS,
    QUOTED,
    Point,
    clocks_per_key,
    merge_inputs,
    plan,
)
from oracle.kernels import KERNELS

import aiter_c
from aiter_c.cli import simcost_clock

pytestmark = pytest.mark.aiter


def _errors(points: tuple[Point, ...]) -> list[float]:
    return [abs(point.predicted() / point.us - 1) for point in points]


@pytest.mark.slow
def test_held_back_points() -> None:
    """No constant was chosen by these: the median error is 15 % at most, the worst 35 %."""
    held = tuple(point for point in POINTS if point.held_back)
    assert 3 * len(held) >= len(POINTS) and {point.arch for point in held} == {"gfx942", "gfx950"}
    errors = _errors(held)
    assert statistics.median(errors) <= 0.15 and max(errors) <= 0.35, errors


@pytest.mark.slow
@pytest.mark.skipif(not code_objects.later_available(), reason=code_objects.LATER_MISSING)
def test_points_of_the_later_commit() -> None:
    """All are held back."""
    assert all(point.held_back for point in LATER_POINTS)
    errors = _errors(LATER_POINTS)
    assert statistics.median(errors) <= 0.15 and max(errors) <= 0.35, errors


@pytest.mark.slow
@pytest.mark.parametrize("key", QUOTED)
def test_what_simcost_quotes(key: tuple[str, str, int]) -> None:
    assert set(QUOTED.values()) == set(simcost_clock.AITER)
    assert clocks_per_key(*key) == pytest.approx(simcost_clock.AITER[QUOTED[key]], abs=0.1)


@pytest.mark.slow
@pytest.mark.skipif(not code_objects.later_available(), reason=code_objects.LATER_MISSING)
@pytest.mark.parametrize("key", LATER_QUOTED)
def test_what_simcost_quotes_of_the_later_commit(key: tuple[str, str, int]) -> None:
    """To 1 %: one of them takes 123.6 or 124.6, by where its memory is."""
    assert set(LATER_QUOTED.values()) == set(simcost_clock.LATER)
    assert clocks_per_key(*key) == pytest.approx(simcost_clock.LATER[LATER_QUOTED[key]], rel=0.01)


@pytest.mark.parametrize(("batch", "ctx", "heads"), [(16, 8192, 128), (1, 21, 128), (3, 1000, 32)])
def test_a_plan(batch: int, ctx: int, heads: int) -> None:
    """Ours, asked for as many parts, is the same: it cuts as AITER does."""
    units, most = 256, min(32, -(-256 // batch)) if heads >= 128 else 32
    asked = {"max_split_per_batch": most}
    info = aiter_c.get_mla_metadata_info_v1(batch, 1, heads, "fp8", "fp8", False, num_workers=units, **asked)
    (ptrs, _), *sizes = info
    bounds, items, *reduction = (np.zeros(size, np.int32) for size, _ in sizes)
    starts = np.arange(batch + 1, dtype=np.int32)
    lists = (np.zeros(ptrs, np.uint64), items, bounds, *reduction)
    aiter_c.get_mla_metadata_v1(starts, starts * ctx, None, heads, 1, True, *lists, uni_seqlen_qo=1, **asked)
    places = [(r, begin - r * ctx, end - r * ctx) for r, begin, end in items[:, [0, 4, 5]].tolist()]
    cut = [places[i:j] for i, j in itertools.pairwise(bounds)]
    assert [work for work in plan(batch, ctx, heads, units) if work] == [work for work in cut if work]


def test_a_point() -> None:
    """Keys are divided as AITER divides them; a timed run is a whole one of its unit, and a merge comes behind it."""
    split = Point("gfx950", "a8w8_h128", 16, 8192, 52.1, "")
    assert split.items == [(528, False)] and split.parts == (16,) * 16 and len(split.plan) == 256
    whole = Point("gfx942", "a8w8_h128", 256, 21, 40.9, "")
    assert whole.items == [(21, True)] * 2 and not any(whole.parts) and len(whole.plan) == 128
    decode, merge = Point("gfx942", "a8w8_h128", 1, 21, 15.5, "").profiles()
    assert decode.active_units == 2 and decode.units == 1 and 5 < decode.us < 30
    assert decode.instructions and merge.instructions and 0.5 < merge.us < decode.us


def test_what_the_infinity_cache_holds() -> None:
    """101 copies of a short call, not of a long one."""
    held = [Point("gfx950", "a8w8_h128", batch, ctx, 0, "").near for batch, ctx in ((1, 21), (16, 21), (1, 8192))]
    assert held == [True, False, False]


@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
def test_the_merge(arch: str) -> None:
    """What stands in for AITER's is a merge: whole requests are left alone, the rows of others joined by their LSEs."""
    heads, q_len, parts = 3, 2, (5, 0, 2, 70)
    rng = np.random.default_rng(0)
    rows = sum(parts) * q_len
    partials = rng.standard_normal((rows, heads, 512), np.float32)
    lse = rng.uniform(-5, 5, (rows, heads)).astype(np.float32)
    out = np.full((len(parts) * q_len, heads, 512), 0x7FFF, np.uint16)
    arrays = [*merge_inputs(q_len, parts), lse, partials, out, heads]
    gfxsim.launch(MERGE / arch / "merge.co", "merge", arrays, (heads, q_len, len(parts)), 128)
    first = 0
    for request, count in enumerate(parts):
        own = out[request * q_len : (request + 1) * q_len]
        if not count:
            assert (own == 0x7FFF).all()
            continue
        places = slice(first * q_len, (first + count) * q_len)
        values = partials[places].reshape(count, q_len, heads, 512).astype(np.float64)
        weights = np.exp(lse[places].reshape(count, q_len, heads, 1).astype(np.float64))
        expected = (values * weights).sum(0) / weights.sum(0)
        got = (own.astype(np.uint32) << 16).view(np.float32)
        np.testing.assert_allclose(got, expected, rtol=2**-8, atol=1e-6)
        first += count


@pytest.mark.parametrize(("kernel", "bite", "rows"), [("a16w16", 0, 0), ("a8w8_q1", 2, 0), ("a8w8_q2", 0, 20)])
def test_which_findings_bite(kernel: str, bite: int, rows: int) -> None:
    """Missing waits that use what has not arrived by the clock; rows that its order of the waves makes otherwise."""
    found = bites(next(k for k in KERNELS if (k.arch, k.id) == ("gfx950", kernel)))
    waits = [slack for (kind, _), slacks in found.by.items() if kind == "missing wait" for slack in slacks]
    assert sum(slack is not None and slack < 0 for slack in waits) == bite
    assert found.rows == rows


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """gfxsim's times a kernel whose metadata names no arguments, on one item of 512 keys."""
    code, picture = tmp_path / "aiter.co", tmp_path / "aiter.svg"
    code.write_bytes(code_objects.read("gfx950", "mla_a16w16_qh16_m16x4_n16x1_coex0_mask1_ps"))
    description = Path(gfxsim.__file__).parent / "data/aiter_a16w16.json"
    assert gfxsim_command([str(code), "--profile", str(description), "--svg", str(picture)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert " us: " in lines[0] and any("v_mfma_f32_16x16x16_bf16" in line for line in lines)
    assert picture.read_text().startswith("<svg")
