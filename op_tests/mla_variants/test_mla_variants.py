"""mla_decode_segmented and mla_gluon against the fp64 reference, and what the case objects do not reach."""

from __future__ import annotations

import numpy as np
import pytest
from mla_variants.cases import ALL, SMOKE, on_device
from signatures import plain

import aiter_c
from aiter_c.testing import Device, check_bits, run_case
from aiter_c.testing.ops.mla_variants import GluonCase, SegmentedCase


@pytest.mark.cases(ALL, on_device=on_device, smoke=SMOKE)
def test_case(case: SegmentedCase | GluonCase, device: Device) -> None:
    run_case(case, device=device)


def test_ids_tell_the_cases_apart() -> None:
    assert len({(case.op, case.id) for case in ALL}) == len(ALL)


def test_signatures_are_pinned() -> None:
    """AITER's, and after them what this package adds by keyword."""
    text = "(q, kv_buffer, out, cu_seqlens_q, seqused_k, max_seqlen_kv, block_tables, softmax_scale, kv_lora_rank, "
    text += "qk_rope_head_dim, causal, q_descale, kv_descale, q_scales=None, out_scale=None, shuffled_kv_cache=False, "
    text += "skip_reduce=False, *, max_seqlen_q=None, stream=None, q_dtype=None, kv_dtype=None)"
    assert plain(aiter_c.mla_decode_segmented) == text
    text = "(q_nope, q_pe, kv_c, o, page_table, seq_info, sm_scale, k_pe=None, kv_pe_offset=512, use_2d_view=True, "
    text += "kv_scale=1.0, min_kv_seq_len=1, return_lse=False, has_pe=True, attn_sink=None, *, stream=None, "
    text += "kv_dtype=None)"
    assert plain(aiter_c.mla_gluon) == text
    assert aiter_c.mla_decode_gluon is aiter_c.mla_gluon


def test_more_segments_than_one(device: Device) -> None:
    """Few rows and long lists are cut on every device, into a power of two of runs."""
    before = aiter_c.get_num_threads()
    try:
        for threads in (2, 3, 5, 7):  # what the number of splits depends on, on the CPU
            aiter_c.set_num_threads(threads)
            outcome = run_case(SegmentedCase(q_lens=(1,), kv_lens=(1000,), page_size=8), device=device)
            assert outcome.returned[0].shape[2] > 1
            if device.place != "cpu":
                break
    finally:
        aiter_c.set_num_threads(before)


def test_lengths_are_clamped_to_the_table(device: Device) -> None:
    """Below 0 and beyond the table."""
    case = SegmentedCase(heads=2, q_lens=(1, 1, 1), kv_lens=(0, 96, 96), skip_reduce=False)
    want = run_case(case, device=device).inputs.array("out")
    inputs = case.inputs()
    inputs.array("seqused_k")[:3] = (-(2**31), 97, 2**31 - 1)
    got = device.call(case.op, **inputs.arguments())
    check_bits("out", got, np.array(want), case.repro)


def test_a_hint_changes_no_bit(device: Device) -> None:
    """min_kv_seq_len is a lower bound in one engine and the maximum in another."""
    case = GluonCase(kv_lens=(130, 3))
    want = run_case(case, device=device).outputs["o"]
    for hint in (0, 130, 2**31):
        inputs = case.inputs()
        device.call(case.op, **inputs.arguments(), min_kv_seq_len=hint)
        check_bits("o", inputs.array("_o"), want, case.repro)


def test_queries_in_two_tensors_are_concatenated() -> None:
    """Apart, or with other strides."""
    case = GluonCase(kv_lens=(130, 3), rows=2, flat=False)
    want = run_case(case).outputs["o"]
    for view in (np.copy, lambda part: np.repeat(part, 2, 1)[:, ::2]):
        inputs = case.inputs()
        arguments = inputs.arguments()
        aiter_c.mla_gluon(**arguments | {"q_pe": view(arguments["q_pe"])})
        check_bits("o", inputs.array("_o"), want, case.repro)


@pytest.mark.torch
@pytest.mark.parametrize("apart", [False, True])
def test_torch_tensors(apart: bool) -> None:
    """Results are torch's, and views of one tensor are used without a copy."""
    import torch

    case = GluonCase(kv_lens=(130, 3), rows=2, flat=False)
    outcome = run_case(case)
    inputs = case.inputs()
    bits = lambda array: torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)  # noqa: E731
    arguments = {
        name: value if not isinstance(value, np.ndarray) else torch.from_numpy(value) if value.dtype == np.int32 else
        bits(value) for name, value in inputs.arguments().items()
    }  # fmt: skip
    if apart:
        arguments["q_pe"] = arguments["q_pe"].clone()
    o, lse = aiter_c.mla_gluon(**arguments)
    assert o is arguments["o"] and lse.shape == (2, 2, 4) and lse.dtype == torch.float32
    check_bits("o", inputs.array("_o"), outcome.outputs["o"], case.repro)
    assert np.array_equal(lse.numpy().reshape(4, 4), outcome.outputs["lse"])


def test_arrays_are_served_as_they_are(device: Device) -> None:
    """The package's own arrays have no views: the segmented form needs none."""
    case = SegmentedCase(kv_lens=(130, 3), q_lens=(1, 1))
    inputs = case.inputs()
    arguments = {
        name: aiter_c.from_host(np.ascontiguousarray(value), device.place) if getattr(value, "ndim", 0) else value
        for name, value in inputs.arguments().items()
    }
    stream = {} if device.place == "cpu" else {"stream": 0}
    returned = aiter_c.mla_decode_segmented(**arguments, **stream)
    assert all(type(one) is aiter_c.Array for one in returned)
    want = run_case(case, device=device).returned
    for got, one in zip(returned, want, strict=True):
        assert got.numpy().tobytes() == one.tobytes()
