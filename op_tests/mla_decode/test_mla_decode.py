"""mla_decode_fwd against the fp64 reference: every case of cases.py, and what the case objects do not reach."""

from __future__ import annotations

import numpy as np
import pytest
from mla_decode.cases import ALL, CORNER, SMOKE, SMOKE_ON_CPU, on_device
from mla_decode.partials import check_partials

import aiter_c
from aiter_c import _C
from aiter_c.testing import Device, MlaCase, build_inputs, check_bits, run_case
from aiter_c.testing.ops.mla_decode import plan_of
from aiter_c.testing.ops.mla_decode_perf import OTHERS, TARGETS

# Splits that leave partials behind, over everything that shapes them.
PARTIAL_CASES = [case for case in SMOKE + CORNER if case.splits != 1 and sum(case.kv_lens) < 1200][::7]
PARTIAL_CASES += [MlaCase(heads=4, q_lens=(2, 1), kv_lens=(1300, 600), deterministic=True, splits=None)]


@pytest.mark.cases(ALL, on_device=on_device, smoke=SMOKE_ON_CPU)
def test_case(case: MlaCase, device: Device) -> None:
    run_case(case, device=device)


@pytest.mark.smoke
@pytest.mark.cases(PARTIAL_CASES, on_device=on_device)
def test_partials(case: MlaCase, device: Device) -> None:
    """Partial s of a request is the softmax over its run of the list; -inf where the run holds nothing for a row."""
    check_partials(run_case(case, device=device))


@pytest.mark.cases(TARGETS + OTHERS, on_device=on_device)
def test_the_shapes_of_the_bench(case: MlaCase, device: Device) -> None:
    """Long lists, automatic splits: what is timed is right."""
    run_case(case, device=device)


def test_ids_tell_the_cases_apart() -> None:
    assert len({case.id for case in ALL}) == len(ALL) == len(set(ALL))


def test_every_kernel_of_a_device_has_cases(device: Device) -> None:
    """Each decode kernel of the table by the grid, by lists (both, if it can), and in a masked or a strided case."""
    plans = [(case, plan_of(case, device)) for case in on_device(ALL, device)]
    arch = plans[0][1].arch
    rows = [row for row in _C.kernel_table() if row["op"] == "mla_decode" and row["arch"] == arch]
    kernels, of_lists = {row["name"] for row in rows}, {row["name"] for row in rows if row["work_list"]}
    of_grid = {name for name in kernels if "_lists_" not in name}  # of a pair, one for each
    for name, needed, chosen in (
        ("one split", of_grid, lambda case: case.splits == 1 and not case.workers),
        ("partials", of_grid, lambda case: case.splits not in (1, None, -1) and not case.workers),
        ("lists", of_lists, lambda case: case.workers),
        ("masked or strided", kernels, lambda case: case.masked != "none" or case.kv_strided or case.q_strided),
    ):
        missed = needed - {plan.stage1 for case, plan in plans if chosen(case)}
        assert not missed, f"{name}: no case for {sorted(missed)}"


def test_top_level_name_is_the_same_function() -> None:
    assert aiter_c.mla_decode_fwd is aiter_c.mla.mla_decode_fwd


def test_one_split_returns_o_itself(device: Device) -> None:
    inputs = build_inputs(MlaCase(splits=1))
    logits, lse = device.call("mla_decode_fwd", **inputs.arguments())
    assert logits is inputs.array("o")
    assert lse.shape == (1, 16)


@pytest.mark.parametrize("automatic", [None, -1])
def test_none_and_minus_one_splits_are_automatic(automatic: int | None) -> None:
    """The count is get_meta_param's for kv_indices.shape[0] * page_size rows; None when left out, too."""
    case = MlaCase(heads=16, q_lens=(1, 1), kv_lens=(900, 300), splits=automatic)
    inputs = build_inputs(case)
    logits, _ = aiter_c.mla_decode_fwd(**inputs.arguments())
    left_out = inputs.arguments()
    del left_out["num_kv_splits"]
    again, _ = aiter_c.mla_decode_fwd(**left_out)
    assert logits.shape == again.shape
    expected, _ = aiter_c.get_meta_param(None, 2, 1200, 16, 1, "bfloat16")
    assert (logits.shape[1] if logits.ndim == 4 else 1) == expected


def test_positional_call_in_aiters_order() -> None:
    """vLLM passes the first eight by position; the order of all of them is AITER's."""
    case = MlaCase(heads=8, q_lens=(2,), kv_lens=(40,), page_size=16)
    inputs = build_inputs(case)
    a = inputs.arguments()
    names = ("q", "kv_buffer", "o", "qo_indptr", "kv_indptr", "kv_indices", "kv_last_page_lens")
    none = [None] * 7
    _, lse = aiter_c.mla_decode_fwd(
        *[a[n] for n in names], 2, 16, 1, None, 0.0, 1, *none, None, None, False, False, True, None, 1, 0, True
    )
    by_name, o = run_case(case).outputs, inputs.array("o")
    assert np.array_equal(lse, by_name["lse"]) and np.array_equal(o.view(np.uint16), by_name["o"].view(np.uint16))


def test_neutral_arguments_change_nothing() -> None:
    """intra_batch_mode, return_logits and, without g_kv_indptr, cp_world_size and cp_rank have no effect."""
    neutral = {"intra_batch_mode": True, "return_logits": True, "cp_world_size": 4, "cp_rank": 3, "logit_cap": -1.0}
    run_case(MlaCase(heads=8, q_lens=(2,), kv_lens=(40,), splits=2), **neutral, nhead_kv=1, stream=0)


@pytest.mark.parametrize("sm_scale", [0.0, -0.3])
def test_zero_and_negative_softmax_scales(sm_scale: float, device: Device) -> None:
    """A scale of 0 is the mean of the values; of a negative one only the product counts."""
    inputs = build_inputs(MlaCase(heads=4, kv_lens=(50,)))
    _, lse = device.call("mla_decode_fwd", **inputs.arguments() | {"sm_scale": sm_scale})
    keys = inputs.read_rows(inputs.kv_lists[0].slots)
    scores = sm_scale * inputs.q_values[0] @ keys.T
    weights = np.exp(scores - scores.max(1, keepdims=True))
    expected = weights @ keys[:, :512] / weights.sum(1, keepdims=True)
    assert np.abs(inputs.array("o")[0].astype(np.float64) - expected).max() < 0.02
    np.testing.assert_allclose(lse[0], np.log(np.exp(scores).sum(1)), rtol=2e-5)


def test_duplicate_indices_are_separate_keys(device: Device) -> None:
    """A page may stand in a list more than once: each entry is a key of its own."""
    inputs = build_inputs(MlaCase(heads=4, kv_lens=(8,)))
    inputs.array("kv_indices")[:] = inputs.array("kv_indices")[0]
    _, lse = device.call("mla_decode_fwd", **inputs.arguments())
    key = inputs.read_rows(inputs.array("kv_indices")[:1].astype(np.int64))
    scores = inputs.q_values[0] @ key[0] / 24
    np.testing.assert_allclose(lse[0], scores + np.log(8), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("magnitude", [60.0, 3000.0])
def test_large_scores_neither_overflow_nor_lose_the_largest(magnitude: float, device: Device) -> None:
    """exp(3000) overflows everything; the running maximum must take it out."""
    run_case(
        MlaCase(heads=4, q_lens=(2,), kv_lens=(90,), q_dtype="float32", score_std=magnitude, splits=1), device=device
    )
    run_case(
        MlaCase(heads=4, q_lens=(2,), kv_lens=(90,), q_dtype="float32", score_std=magnitude, splits=3), device=device
    )


def test_negative_strides_of_q(device: Device) -> None:
    """Heads and rows in reverse: strides are signed."""
    inputs = build_inputs(MlaCase(heads=8, q_lens=(3,), kv_lens=(40,), causal=False))
    arguments = inputs.arguments()
    plain_o = arguments["o"]
    device.call("mla_decode_fwd", **arguments)
    flipped = np.zeros_like(plain_o)
    device.call("mla_decode_fwd", **arguments | {"q": arguments["q"][::-1, ::-1], "o": flipped})
    assert np.array_equal(flipped[::-1, ::-1].view(np.uint16), plain_o.view(np.uint16))


@pytest.mark.parametrize("splits", [1, 2])
def test_negative_strides_of_o_and_of_the_pages(splits: int, device: Device) -> None:
    inputs = build_inputs(MlaCase(heads=8, q_lens=(3,), kv_lens=(40,), page_size=4, splits=splits))
    arguments = inputs.arguments()
    pool, plain_o = arguments["kv_buffer"], arguments["o"]
    device.call("mla_decode_fwd", **arguments)
    o, pages = np.zeros_like(plain_o), np.ascontiguousarray(pool[::-1])
    device.call("mla_decode_fwd", **arguments | {"o": o[::-1, ::-1], "kv_buffer": pages[::-1]})
    assert np.array_equal(o[::-1, ::-1].view(np.uint16), plain_o.view(np.uint16))


@pytest.mark.parametrize("offset", [1, 3])
def test_any_address_that_is_aligned_to_its_elements(offset: int, device: Device) -> None:
    """q, cache and o `offset` elements into their memory, rows an odd number of elements apart."""
    for fields in ({}, {"kv_dtype": "float8_e4m3fn"}, {"q_dtype": "float8_e4m3fn", "kv_dtype": "float8_e4m3fn"}):
        inputs = build_inputs(MlaCase(heads=8, q_lens=(2,), kv_lens=(70,), page_size=4, splits=2, **fields))
        arguments = inputs.arguments()
        device.call("mla_decode_fwd", **arguments)
        want, shifted = arguments["o"].copy(), {}
        for name in ("q", "kv_buffer", "o"):
            array = arguments[name]
            wide = np.zeros((*array.shape[:-1], array.shape[-1] + 2 * offset + 1), array.dtype)
            shifted[name] = wide[..., offset : offset + array.shape[-1]]
            shifted[name][...] = array
        device.call("mla_decode_fwd", **arguments | shifted)
        assert np.array_equal(shifted["o"].view(np.uint16), want.view(np.uint16)), fields


def test_broadcast_strides_of_inputs(device: Device) -> None:
    """A stride of 0 is fine for what is only read."""
    inputs = build_inputs(MlaCase(heads=8, q_lens=(3,), kv_lens=(40,), causal=False))
    arguments = inputs.arguments()
    one_head = np.broadcast_to(arguments["q"][:, :1], arguments["q"].shape)
    _, lse = device.call("mla_decode_fwd", **arguments | {"q": one_head})
    assert (lse == lse[:, :1]).all()


def test_rows_of_a_page_may_be_strided(device: Device) -> None:
    """Token rows of 576 inside 640, in pages of 16: [num_page, ps, 1, 576] with a gap after every row."""
    inputs = build_inputs(MlaCase(heads=8, kv_lens=(70,), page_size=16))
    arguments = inputs.arguments()
    pool = arguments["kv_buffer"]
    wide = np.full((*pool.shape[:3], 640), np.nan, pool.dtype)
    wide[..., :576] = pool
    device.call("mla_decode_fwd", **arguments)
    expected = arguments["o"].copy()
    device.call("mla_decode_fwd", **arguments | {"kv_buffer": wide[..., :576]})
    assert np.array_equal(arguments["o"].view(np.uint16), expected.view(np.uint16))


@pytest.mark.parametrize("splits", [1, 3])
def test_in_place_replay(splits: int, device: Device) -> None:
    """Lengths and indices change in place between calls on the same tensors; nothing is remembered."""
    inputs = build_inputs(MlaCase(heads=8, q_lens=(1, 1), kv_lens=(60, 60), splits=splits))
    arguments = inputs.arguments()
    kv_indptr, kv_indices = arguments["kv_indptr"], arguments["kv_indices"]
    for length in (60, 1, 0, 33):
        kv_indptr[:] = [0, length, 60 + length]
        kv_indices[:] = kv_indices[::-1].copy()
        _, lse = device.call("mla_decode_fwd", **arguments)
        keys = inputs.read_rows(kv_indices[:length].astype(np.int64))
        scores = inputs.q_values[0] @ keys.T / 24
        with np.errstate(divide="ignore"):
            np.testing.assert_allclose(lse[0], np.log(np.exp(scores).sum(1)), rtol=2e-5, atol=1e-6)


@pytest.mark.smoke
@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn"])
@pytest.mark.parametrize("heads", [8, 32, 64, 128])
def test_where_the_cache_begins_changes_no_bit(heads: int, dtype: str, device: Device) -> None:
    """Aligned rows may be loaded by other instructions than rows that begin anywhere. Many tiles, and masked keys."""
    case = MlaCase(
        heads=heads, q_lens=(1, 1), kv_lens=(700, 330), q_dtype=dtype, kv_dtype=dtype, page_size=4, masked="tail"
    )
    results = []
    for aligned in (True, False):
        inputs = build_inputs(case)
        assert inputs.array("kv_buffer").ctypes.data % 16, "another seed: this one begins at a multiple of 16"
        _, lse = device.call(
            "mla_decode_fwd", exact=aligned, **inputs.arguments()
        )  # an exact copy begins where an allocation does
        results.append((inputs.array("o"), lse))
    check_bits("o", results[0][0], results[1][0], case.repro)
    check_bits("lse", results[0][1], results[1][1], case.repro)
    run_case(case, device=device)
