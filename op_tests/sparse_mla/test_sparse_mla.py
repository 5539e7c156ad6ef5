"""Sparse attention against the fp64 reference restricted to the selected keys, and what the cases do not reach."""

from __future__ import annotations

import numpy as np
import pytest
from signatures import plain
from sparse_mla.cases import ALL, SMOKE, on_device

import aiter_c
from aiter_c.testing import CPU, Device, check_bits, check_close, run_case
from aiter_c.testing.ops.sparse_mla import SparseCase
from aiter_c.testing.tolerance import LSE, OUTPUT


@pytest.mark.cases(ALL, on_device=on_device, smoke=SMOKE)
def test_case(case: SparseCase, device: Device) -> None:
    run_case(case, device=device)


def test_ids_tell_the_cases_apart() -> None:
    assert len({(case.op, case.id) for case in ALL}) == len(ALL)


def test_signatures_are_pinned() -> None:
    """AITER's, and after them what this package adds by keyword."""
    text = "(q, kv_buffer, kv_indptr, kv_indices, softmax_scale, *, kv_scale=None, kv_lora_rank=512, "
    text += "qk_rope_head_dim=64, kv_splits=None, skip_reduce=False, has_invalid=False, dot_precision='bf16', "
    text += "q_scale=None, out=None, return_lse=False, attn_sink=None, extra_kv=None, extra_indptr=None, "
    text += "extra_indices=None, extra_kv_scale=None, inv_rope_positions=None, inv_rope_cos_sin_cache=None, "
    text += "out_mxfp8=None, stream=None, q_dtype=None, kv_dtype=None)"
    assert plain(aiter_c.sparse_mla_fwd) == text
    text = "(q, kv, out, cu_seqlens_q, max_seqlen_q, seqused_k, max_seqlen_k, softmax_scale, topk_indices, "
    text += "block_table, kv_lora_rank, *, stream=None)"
    assert plain(aiter_c.unified_attention_sparse_mla) == text


def test_every_head_count(device: Device) -> None:
    """1 to 128, one row of 40 keys of records: as one call of 128 heads, to the tolerance."""
    counts = range(1, 129) if not device.simulated else (1, 2, 6, 11, 16, 23, 40, 64, 90, 128)
    for heads in counts:
        run_case(
            SparseCase(heads=heads, lens=(40,), kv_dtype="float8_e4m3fn", kv_format="fp8_ds_mla", page_size=16,
                       given=True, masked="extremes", sink=heads % 3 == 0),
            device=device,
        )  # fmt: skip


def test_what_is_not_selected_changes_no_bit(device: Device) -> None:
    """The order of the list stays, masked entries among the keys come and go."""
    case = SparseCase(heads=12, lens=(90,), page_size=4, given=True, kv_strided=True)
    want = run_case(case, device=device)
    inputs = case.inputs()
    inputs.blocks["_kv_buffer"].array.view(np.uint16)[np.isnan(inputs.pools[0].astype(np.float32))] = 0x7F80  # inf
    _, lse = device.call(case.op, **inputs.arguments())
    check_bits("o", inputs.array("out"), want.outputs["o"], case.repro)
    check_bits("lse", lse, want.outputs["lse"], case.repro)


def test_slots_are_pages_of_one_row(device: Device) -> None:
    """A flat view with the rows of other layers in between, as vLLM passes it, gives the bits of the slots of pages."""
    case = SparseCase(heads=12, lens=(90, 20), page_size=4, given=True)
    want = run_case(case, device=device).outputs
    inputs = case.inputs()
    arguments = inputs.arguments()
    flat = arguments["kv_buffer"].reshape(-1, 576)
    device.call(case.op, **arguments | {"kv_buffer": flat})
    check_bits("o", inputs.array("out"), want["o"], case.repro)
    wide = np.full((len(flat) // 4, 7, 576), np.nan, flat.dtype)  # blocks of 4 rows, 3 rows of others behind each
    wide[:, :4] = flat.reshape(-1, 4, 576)
    slots = arguments["kv_indices"] // 4 * 7 + arguments["kv_indices"] % 4
    device.call(case.op, **arguments | {"kv_buffer": wide.reshape(-1, 576), "kv_indices": slots.astype(np.int32)})
    check_bits("o", inputs.array("out"), want["o"], case.repro)
    device.call(case.op, **arguments | {"kv_buffer": wide[:, :4]})
    check_bits("o", inputs.array("out"), want["o"], case.repro)


def test_hints_change_nothing(device: Device) -> None:
    case = SparseCase(heads=4, lens=(90, 20), given=True, masked="minus_one")
    want = run_case(case, device=device).outputs["o"]
    for hints in ({"has_invalid": False}, {"dot_precision": "fp8"}, {"q_scale": 9.0, "kv_scale": 9.0}):
        inputs = case.inputs()
        device.call(case.op, **inputs.arguments() | hints)
        check_bits("o", inputs.array("out"), want, case.repro)


@pytest.mark.parametrize("extra", [False, True])
@pytest.mark.parametrize("splits", [1, 4, None])
def test_splits_that_the_caller_merges(extra: bool, splits: int | None) -> None:
    """skip_reduce: [C, S, H, ...] in base 2, always three tensors, of both lists, without the sink."""
    case = SparseCase(heads=3, lens=(700, 0, 33), splits=splits, masked="minus_one", sink=True,
                      extra_lens=(9, 0, 80) if extra else ())  # fmt: skip
    inputs = case.inputs()
    values = inputs.arguments()
    values.pop("return_lse")
    acc, m, total = aiter_c.sparse_mla_fwd(**values, skip_reduce=True)
    assert acc.shape == (3, acc.shape[1], 3, 512) and m.shape == total.shape == acc.shape[:3]
    assert splits is None or acc.shape[1] == splits * (1 + extra)
    top = m.max(1, keepdims=True).astype(np.float64)
    weight = total * 2.0 ** (m - top)
    o = (acc * 2.0 ** (m - top)[..., None]).sum(1) / weight.sum(1)[..., None]
    lse = np.log(2) * (top[:, 0] + np.log2(weight.sum(1)))
    want, want_lse, allowance, _ = SparseCase(**case._changed() | {"sink": False}).inputs().reference(case.p_dtype(CPU))
    check_close("o", o, want, OUTPUT, case.repro, allowance=allowance)
    check_close("lse", np.where(lse < -1e38, -np.inf, lse), want_lse, LSE, case.repro)


def test_a_plan_for_a_sink_has_the_lse() -> None:
    case = SparseCase(form="decode", heads=4, lens=(60,), sink=True, page_size=4)
    plans = [
        aiter_c.mla_plan(1, 4, 1, 1, "bfloat16", "bfloat16", num_kv_splits=1, return_lse=lse) for lse in (True, False)
    ]
    want = run_case(case).outputs["o"]
    inputs = case.inputs()
    aiter_c.mla_decode_fwd(**inputs.arguments(), plan=plans[0])
    check_bits("o", inputs.array("o"), want, case.repro)
    with pytest.raises(ValueError, match=r"mla_decode_fwd: plan\.return_lse: expected a plan made for True"):
        aiter_c.mla_decode_fwd(**inputs.arguments() | {"return_lse": False}, plan=plans[1])


def test_rows_of_nobody_keep_what_they_hold(device: Device) -> None:
    """With a sink as without."""
    case = SparseCase(form="decode", heads=4, lens=(60, 0, 9), sink=True, splits=1)
    inputs = case.inputs()
    inputs.blocks["o"].fill_nan()
    _, lse = device.call(case.op, **inputs.arguments() | {"qo_indptr": np.array([0, 1], np.int32)})
    assert np.isnan(inputs.array("o")[1:].astype(np.float32)).all() and np.isneginf(lse[1:]).all()
    assert np.isfinite(inputs.array("o")[0].astype(np.float32)).all()


@pytest.mark.torch
@pytest.mark.parametrize("sink", [False, True])
def test_torch_tensors(sink: bool) -> None:
    """Results are torch's, int64 indices included."""
    import torch

    case = SparseCase(heads=4, lens=(60, 9), sink=sink, int64=True, extra_lens=(5, 0), masked="minus_one")
    outcome = run_case(case)
    arguments = {
        name: value if not isinstance(value, np.ndarray) else torch.from_numpy(value.copy())
        if value.dtype.kind in "if" and value.dtype.itemsize > 2 else
        torch.from_numpy(np.ascontiguousarray(value).view(np.int16)).view(torch.bfloat16)
        for name, value in outcome.inputs.arguments().items()
    }  # fmt: skip
    out, lse = aiter_c.sparse_mla_fwd(**arguments)
    assert out.dtype == torch.bfloat16 and out.shape == (2, 4, 512) and lse.shape == (2, 4)
    check_bits("o", out.view(torch.int16).numpy().view(outcome.outputs["o"].dtype), outcome.outputs["o"], case.repro)
    check_bits("lse", lse.numpy(), outcome.outputs["lse"], case.repro)
    arguments.pop("return_lse")
    acc, m, _ = aiter_c.sparse_mla_fwd(**arguments, skip_reduce=True)
    assert acc.shape[::2] == (2, 4) and m.dtype == torch.float32


@pytest.mark.parametrize("name", ["kv_indices", "extra_indices"])
@pytest.mark.parametrize("sink", [False, True])
def test_a_list_of_a_key_of_nan_is_not_left_out(name: str, sink: bool, device: Device) -> None:
    """Its LSE is NaN, and so are output and LSE of the row, whatever the other list holds."""
    case = SparseCase(heads=3, lens=(9, 6, 5), extra_lens=(4, 5, 6), given=True, page_size=4, sink=sink)
    want = run_case(case, device=device).outputs
    inputs = case.inputs()
    arguments = inputs.arguments()
    begin = arguments[name.replace("indices", "indptr")][1]
    indices = arguments[name].copy()
    indices[begin] = 0  # of row 1: the slot that no row selects holds NaN
    _, lse = device.call(case.op, **arguments | {name: indices})
    got = inputs.array("out").astype(np.float32)
    assert np.isnan(got[1]).all() and np.isnan(lse[1]).all()
    others = [0, 2]
    check_bits("o", inputs.array("out")[others], want["o"][others], case.repro)
    check_bits("lse", lse[others], want["lse"][others], case.repro)
