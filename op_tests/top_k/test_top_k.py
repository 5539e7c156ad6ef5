"""Every case in every element, and what the cases cannot say."""

from __future__ import annotations

import numpy as np
import pytest
from signatures import plain
from top_k.cases import ALL, SMOKE, on_device

import aiter_c
from aiter_c.testing import Device, poisoned_scratch, run_case
from aiter_c.testing.ops.top_k import SPLIT_COLUMNS, TopKCase, top_k_reference

OPS = ("top_k_per_row_prefill", "top_k_per_row_decode")


@pytest.mark.cases(ALL, on_device=on_device, smoke=SMOKE)
def test_case(case: TopKCase, device: Device) -> None:
    run_case(case, device=device)


def test_ids_tell_the_cases_apart() -> None:
    assert len({case.id for case in ALL}) == len(ALL) == len(set(ALL))


def test_signatures_are_aiters() -> None:
    """Names, order and defaults; ours are keyword-only."""
    prefill = (
        "(logits, rowStarts, rowEnds, indices, values, numRows, stride0, stride1, k=2048, stable=False, *, stream=None)"
    )
    decode = "(logits, next_n, seqLens, indices, numRows, stride0, stride1, k=2048, stable=False, *, stream=None)"
    assert plain(aiter_c.top_k_per_row_prefill) == prefill
    assert plain(aiter_c.top_k_per_row_decode) == decode
    assert all(getattr(aiter_c, op) is getattr(aiter_c.dsa, op) for op in OPS)


def test_the_reference_on_a_row_that_a_person_can_sort() -> None:
    inf, nan = np.inf, np.nan
    row = np.array([[1.0, -0.0, nan, -inf, 0.0, inf, -nan, 1.0, inf]], np.float32)
    best_first = [5, 8, 0, 7, 4, 1, 3, 2, 6]
    for k in range(1, 11):
        indices, values = top_k_reference(row, [(0, 9)], k)
        assert indices[0].tolist() == sorted(best_first[:k]) + [-1] * (k - 9)
        assert values[0, : min(k, 9)].tobytes() == row[0, sorted(best_first[:k])].tobytes()
        got = np.full((1, k), 7, np.int32)
        bounds = np.array([0, 9], np.int32)
        aiter_c.top_k_per_row_prefill(row, bounds[:1], bounds[1:], got, None, 1, 9, 1, k)
        assert got.tolist() == indices.tolist()


def test_the_default_is_2048_and_what_engines_pass_by_position() -> None:
    logits = np.random.default_rng(0).standard_normal((2, 5000)).astype(np.float32)
    wide = np.full((4, 2100), 7, np.int32)
    lengths = np.array([5000, 2050], np.int32)
    aiter_c.top_k_per_row_decode(logits, 1, lengths, wide[:2, :2048], 2, 5000, 1)
    want, _ = top_k_reference(logits, [(0, 5000), (0, 2050)], 2048)
    assert np.array_equal(wide[:2, :2048], want) and (wide[2:] == 7).all() and (wide[:, 2048:] == 7).all()


@pytest.mark.parametrize("stable", [False, True])
def test_stable_changes_nothing(stable: bool) -> None:
    run_case(TopKCase(columns=500, k=60, data="few"), stable=stable)
    run_case(TopKCase(columns=500, k=60, data="few", next_n=2), stable=stable)


@pytest.mark.parametrize("rows", [0, -1, -(2**63) + 1])
def test_no_rows(rows: int) -> None:
    """AITER takes any number below 1 for an empty call."""
    inputs = TopKCase(spare_rows=0).inputs()
    inputs.freeze()
    aiter_c.top_k_per_row_prefill(**inputs.arguments() | {"numRows": rows})
    assert all(block.first_change() is None for block in inputs.blocks.values())


def test_rows_from_the_last_to_the_first() -> None:
    """Strides are signed."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((3, 200)).astype(np.float32)
    indices, values = np.zeros((3, 9), np.int32), np.zeros((3, 9), np.float32)
    begins, ends = np.zeros(3, np.int32), np.full(3, 200, np.int32)
    aiter_c.top_k_per_row_prefill(logits[::-1], begins, ends, indices[::-1], values[::-1], 3, -200, 1, 9)
    want = top_k_reference(logits, [(0, 200)] * 3, 9)
    assert np.array_equal(indices, want[0]) and np.array_equal(values, want[1])


def test_one_row_of_logits_for_all() -> None:
    """A row stride of 0 is fine for what is only read."""
    row = np.random.default_rng(0).standard_normal((1, 200)).astype(np.float32)
    indices, ends = np.zeros((5, 9), np.int32), np.arange(40, 45, dtype=np.int32)
    logits = np.broadcast_to(row, (5, 200))
    aiter_c.top_k_per_row_decode(logits, 1, ends, indices, 5, 0, 1, 9)
    assert np.array_equal(indices, top_k_reference(logits, [(0, int(end)) for end in ends], 9)[0])


def test_strides_of_sizes_without_a_meaning() -> None:
    """The stride of one row, or of one column, may be anything: frameworks differ in what they say."""
    indices, end = np.zeros((1, 2), np.int32), np.ones(1, np.int32)
    aiter_c.top_k_per_row_decode(np.ones((1, 1), np.float32), 1, end, indices, 1, 12345, -7, 2)
    assert indices.tolist() == [[0, -1]]


def test_in_place_replay() -> None:
    """Lengths and logits change in place between calls on the same tensors; nothing is remembered."""
    case = TopKCase(columns=SPLIT_COLUMNS, rows=1, k=100, next_n=1)
    inputs = case.inputs()
    logits, lengths = inputs.array("logits"), inputs.array("seqLens")
    for length in (SPLIT_COLUMNS, 3, 0, SPLIT_COLUMNS // 2 + 1):
        lengths[:] = length
        logits[...] = logits[:, ::-1].copy()
        aiter_c.top_k_per_row_decode(**inputs.arguments())
        assert np.array_equal(inputs.array("indices"), top_k_reference(logits, [(0, length)], 100)[0])


@pytest.mark.parametrize("next_n", [None, 1])
def test_scratch_is_bounded_and_only_for_rows_that_threads_share(next_n: int | None) -> None:
    wide = SPLIT_COLUMNS
    for threads, rows, columns, parts in ((1, 1, wide, 1), (4, 4, wide, 1), (4, 1, 3000, 1), (4, 1, wide, 2)):
        aiter_c.set_num_threads(threads)
        inputs = TopKCase(rows=rows, columns=columns, k=20, next_n=next_n).inputs()
        with poisoned_scratch() as scratch:
            getattr(aiter_c, inputs.case.op)(**inputs.arguments())
        taken = scratch.get("candidate_indices")
        assert (1 if taken is None else taken.shape[1]) == parts
        assert taken is None or taken.shape == scratch.get("candidate_values").shape == (rows, parts, 20)
    aiter_c.set_num_threads(0)
