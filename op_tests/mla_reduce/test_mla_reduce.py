"""mla_reduce_v1 against the fp64 reference: every case of cases.py, and what the case objects do not reach."""

from __future__ import annotations

import inspect
import mmap
from collections.abc import Iterator

import numpy as np
import pytest
from mla_reduce.cases import ALL, SMOKE, WIDTHS, on_device

import aiter_c
from aiter_c import _C
from aiter_c.testing import Device, MlaCase, build_inputs, check_bits, run_case
from aiter_c.testing.ops.mla_reduce import MlaReduceCase


@pytest.mark.cases(ALL, on_device=on_device, smoke=SMOKE)
def test_case(case: MlaReduceCase, device: Device) -> None:
    run_case(case, device=device)


def test_ids_tell_the_cases_apart() -> None:
    assert len({case.id for case in ALL}) == len(ALL)


def test_one_function_under_every_name() -> None:
    assert aiter_c.mla_reduce_v1 is aiter_c.mla.mla_reduce_v1 is _C.mla_reduce_v1


def test_aiters_signature() -> None:
    """AITER's parameters in its order, then ours, keyword-only."""
    text = (
        "(partial_output, partial_lse, reduce_indptr, reduce_final_map, reduce_partial_map, max_seqlen_q, "
        "num_kv_splits, final_output, final_lse=None, *, lists_are_complete=False, sink=None, "
        "stream=None)"
    )
    assert str(inspect.signature(aiter_c.mla_reduce_v1)) == text


def _call(case: MlaReduceCase, device: Device, **changes: object) -> dict[str, np.ndarray]:
    """The outputs of the case's call with these arguments replaced; what is not written is NaN."""
    inputs = case.inputs()
    inputs.freeze()
    device.call("mla_reduce_v1", **inputs.arguments() | changes)
    return {name: inputs.array(name).copy() for name in inputs.written}


@pytest.mark.parametrize("dv", [*WIDTHS, 1, 131, 700])
def test_one_partial_is_copied(dv: int, device: Device) -> None:
    """Bit for bit in fp32, signs of zero and the smallest numbers included; so is its LSE."""
    case = MlaReduceCase(heads=3, dv=dv, groups=((2, 1), (1, 1)), o_dtype="float32", spread=30.0)
    inputs = case.inputs()
    a = inputs.arguments()
    a["partial_output"].reshape(-1)[::3] *= np.float32(0.0)
    a["partial_output"].reshape(-1)[1::3] *= np.float32(2.0**-120)
    inputs.freeze()
    device.call("mla_reduce_v1", **a)
    for (begin, end), at in zip(a["reduce_final_map"].tolist(), a["reduce_partial_map"].tolist(), strict=True):
        parts = slice(at, at + end - begin)
        check_bits("final_output", a["final_output"][begin:end], a["partial_output"][parts], case.repro)
        check_bits("final_lse", a["final_lse"][begin:end], a["partial_lse"][parts], case.repro)


@pytest.mark.parametrize("dv", [512, 131, 700])
def test_a_row_of_empty_partials_is_plus_zero(dv: int, device: Device) -> None:
    """Bit for bit, whatever lies in the partials that nobody wrote."""
    case = MlaReduceCase(heads=3, dv=dv, groups=((2, 3), (1, 1)), o_dtype="float32")
    inputs = case.inputs()
    a = inputs.arguments()
    a["partial_output"][...] = np.nan
    a["partial_lse"][...] = -np.inf
    inputs.freeze()
    device.call("mla_reduce_v1", **a)
    rows = slice(0, a["reduce_final_map"].max())
    check_bits("final_output", a["final_output"][rows], np.zeros_like(a["final_output"][rows]), case.repro)
    assert np.isneginf(a["final_lse"][rows]).all()


@pytest.mark.parametrize("case", [case for case in SMOKE if case.return_lse][::4])
def test_the_lse_is_optional(case: MlaReduceCase, device: Device) -> None:
    """Without it the rows are the same."""
    with_lse, without = _call(case, device), _call(case, device, final_lse=None)
    check_bits("final_output", without["final_output"], with_lse["final_output"], case.repro)
    assert np.isnan(without["final_lse"]).all()


@pytest.fixture
def threads() -> Iterator[None]:
    """As before, afterwards."""
    before = aiter_c.get_num_threads()
    yield
    aiter_c.set_num_threads(before)


@pytest.mark.smoke
@pytest.mark.parametrize("dv", [*WIDTHS, 100])
def test_the_same_bits_whatever_runs_beside(dv: int, device: Device, threads: None) -> None:
    """Of a group: in any batch, at any place, with any hint and on any number of threads."""
    groups = ((2, 3), (1, 40), (3, 9), (1, 300))
    whole = MlaReduceCase(heads=3, dv=dv, groups=groups, o_dtype="float32")
    inputs = whole.inputs()
    expected = _call(whole, device)
    a = inputs.arguments()
    for count in (1, 2, 5):
        aiter_c.set_num_threads(count)
        for name, got in _call(whole, device, max_seqlen_q=count).items():
            check_bits(name, got, expected[name], whole.repro)
    for i in range(len(groups)):
        begin, end = a["reduce_final_map"][i].tolist()
        entries = slice(*a["reduce_indptr"][i : i + 2].tolist())
        alone = {
            "reduce_indptr": np.array([0, entries.stop - entries.start], np.int32),
            "reduce_final_map": np.array([[0, end - begin]], np.int32),
            "reduce_partial_map": a["reduce_partial_map"][entries].copy(),
        }
        for name, got in _call(whole, device, **alone).items():
            check_bits(f"{name}, group {i}", got[: end - begin], expected[name][begin:end], whole.repro)


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_torch_tensors(dtype: str) -> None:
    """Written in place, and torch knows."""
    import torch

    case = MlaReduceCase(heads=3, dv=100, groups=((2, 3), (1, 1)), o_dtype="float32")
    a = case.inputs().arguments()
    tensors = {n: torch.from_numpy(v.copy()) if isinstance(v, np.ndarray) else v for n, v in a.items()}
    tensors["final_output"] = tensors["final_output"].to(getattr(torch, dtype))
    versions = [tensors[name]._version for name in ("final_output", "final_lse")]
    aiter_c.mla_reduce_v1(**a)
    assert aiter_c.mla_reduce_v1(**tensors) is None
    assert [tensors[name]._version for name in ("final_output", "final_lse")] > versions
    assert torch.equal(tensors["final_output"], torch.from_numpy(a["final_output"]).to(getattr(torch, dtype)))
    assert torch.equal(tensors["final_lse"], torch.from_numpy(a["final_lse"]))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_partial_without_a_number_shows(value: float, device: Device) -> None:
    """An LSE that is no number is nothing to hide: its row, and no other, is NaN."""
    case = MlaReduceCase(heads=2, dv=64, groups=((1, 3), (1, 2)))
    inputs = case.inputs()
    a = inputs.arguments()
    a["partial_lse"][a["reduce_partial_map"][1], 1] = value
    inputs.freeze()
    device.call("mla_reduce_v1", **a)
    row = a["reduce_final_map"][0, 0]
    bad = np.zeros(a["final_lse"].shape, bool)
    bad[row, 1] = True
    assert np.array_equal(np.isnan(a["final_lse"]), bad)
    assert np.array_equal(np.isnan(a["final_output"].astype(np.float32)), np.broadcast_to(bad[..., None], (2, 2, 64)))


@pytest.mark.parametrize("splits", [2, 5])
@pytest.mark.parametrize("o_dtype", ["bfloat16", "float16"])
def test_it_is_stage_2_of_the_decode(splits: int, o_dtype: str, device: Device) -> None:
    """The partials of mla_decode_fwd, merged by lists, are what it merged: bit for bit."""
    case = MlaCase(heads=7, q_lens=(2, 1, 3), kv_lens=(90, 33, 0), splits=splits, o_dtype=o_dtype)
    inputs = build_inputs(case)
    a = inputs.arguments()
    logits, lse = device.call("mla_decode_fwd", **a)
    attn_lse = _attn_lse(case, device)
    numbers = np.arange(case.num_rows + 1, dtype=np.int32)
    lists = (
        numbers * splits,
        np.stack([numbers[:-1], numbers[1:]], 1),
        np.arange(numbers[-1] * splits, dtype=np.int32),
    )
    partials = logits.reshape(-1, 7, 512), attn_lse.reshape(-1, 7)
    o, merged_lse = np.full_like(a["o"], np.nan), np.full_like(lse, np.nan)
    device.call("mla_reduce_v1", *partials, *lists, 1, 0, o, merged_lse)
    check_bits("o", o, np.ascontiguousarray(a["o"]), case.repro)
    check_bits("lse", merged_lse, lse, case.repro)


def _attn_lse(case: MlaCase, device: Device) -> np.ndarray:
    return run_case(case, device=device).scratch.get("attn_lse")


#: The golden vectors A, B, D, E and PS of the schedulers: what a plan of four workers leaves to be merged.
GOLDEN = {
    "A": ([0, 2, 2], [(0, 1), (9, 9)], [0, 1], {0: [0, 1]}),
    "B": ([0, 2, 2], [(0, 2), (9, 9)], [0, 2], {0: [0, 2], 1: [1, 3]}),
    "D": ([0, 0, 2, 2, 2, 2, 2], [(9, 9), (1, 2), (0, 6), (0, 6), (0, 6), (0, 6)], [0, 1], {1: [0, 1]}),
    "E": ([0, 0, 0, 0, 2], [(0, 4), (0, 4), (0, 4), (3, 4)], [0, 1], {3: [0, 1]}),
    "PS": (
        [0, 1, 3, 6], [(0, 256), (256, 512), (512, 600)], [1280, 768, 1024, 0, 256, 512],
        {r: [1280 + r] if r < 256 else [512 + r, 768 + r] if r < 512 else [r - 512, r - 256, r] for r in range(600)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_plans(name: str, device: Device) -> None:
    """Which partial rows a final row is made of, written out; the others stay. An empty group's map entry is stale."""
    indptr, final_map, partial_map, made_of = GOLDEN[name]
    num_rows, num_partials, heads, dv = max(made_of) + 3, 1 + max(map(max, made_of.values())), 2, 64
    rng = np.random.default_rng(3)
    partial_output = rng.standard_normal((num_partials, heads, dv)).astype(np.float32)
    partial_lse = rng.standard_normal((num_partials, heads)).astype(np.float32)
    o, lse = np.full((num_rows, heads, dv), np.nan, np.float32), np.full((num_rows, heads), np.nan, np.float32)
    lists = (np.array(values, np.int32) for values in (indptr, final_map, partial_map))
    device.call("mla_reduce_v1", partial_output, partial_lse, *lists, 256 if name == "PS" else 2, 0, o, lse)
    want, want_lse = np.full(o.shape, np.nan), np.full(lse.shape, np.nan)
    for row, parts in made_of.items():
        weights = np.exp(partial_lse[parts].astype(np.float64))
        want[row] = (weights[..., None] * partial_output[parts]).sum(0) / weights.sum(0)[:, None]
        want_lse[row] = np.log(weights.sum(0))
    np.testing.assert_allclose(o, want, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(lse, want_lse, rtol=1e-6, atol=1e-6)


def _sparse(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Zero pages that cost nothing until they are written."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
    return np.ndarray(shape, dtype, mmap.mmap(-1, int(np.prod(shape)) * np.dtype(dtype).itemsize, flags=flags))


@pytest.mark.large
def test_offsets_of_more_than_32_bits() -> None:
    """The last rows of partials of 17 GB and of an output of 9 GB: virtual memory of which a few pages are touched."""
    heads, dv, num_partials, num_rows = 128, 512, 66_000, 70_000
    partial_output = _sparse((num_partials, heads, dv), np.float32)
    partial_lse = np.full((num_partials, heads), np.nan, np.float32)
    o = _sparse((num_rows, heads, dv), np.float16)
    parts, row = [num_partials - 1, num_partials - 3], num_rows - 1
    partial_output[parts] = np.float32([1.0, 3.0])[:, None, None]
    partial_lse[parts] = 0.0
    lists = (np.array(values, np.int32) for values in ([0, 2], [[row, row + 1]], parts))
    aiter_c.mla_reduce_v1(partial_output, partial_lse, *lists, 1, 0, o)
    assert (o[row] == 2.0).all() and not o[:8].any() and not o[row - 8 : row].any()
