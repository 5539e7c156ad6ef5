"""mla_prefill_ps_fwd against the fp64 reference: every case of cases.py, and what the case objects do not reach."""

from __future__ import annotations

import inspect
from dataclasses import replace

import numpy as np
import pytest
from mla_prefill.cases import ALL, CORNER, SMOKE, on_device

import aiter_c
from aiter_c import _C
from aiter_c.testing import LSE, OUTPUT, Device, check_bits, check_close, run_case
from aiter_c.testing.ops.mla_prefill import DIMS, LISTS, PrefillCase, is_served, kernel_of, p_dtype_of


@pytest.mark.cases(ALL, on_device=on_device, smoke=SMOKE)
def test_case(case: PrefillCase, device: Device) -> None:
    run_case(case, device=device)


def test_ids_tell_the_cases_apart() -> None:
    assert len({case.id for case in ALL}) == len(ALL) == len(set(ALL))


def test_every_kernel_of_a_device_has_cases(device: Device) -> None:
    """Each prefill kernel in the table without lists, with them, and with masked keys or strides."""
    chosen = [(case, kernel_of(case, device)) for case in on_device(ALL, device)]
    if not chosen:
        return
    arch = chosen[0][1]["arch"]
    archs = {kernel["arch"] for _, kernel in chosen}
    kernels = {row["name"] for row in _C.kernel_table() if row["op"] == "mla_prefill" and row["arch"] in archs}
    if device.place == "cpu":  # a lower instruction set's kernels serve what the highest has none for
        kernels = {kernel["name"] for _, kernel in chosen}
    for name, of in {
        "no lists": lambda case: not case.workers,
        "lists": lambda case: case.workers > 0,
        "masked or strided": lambda case: case.masked != "none" or case.strided or case.trend,
    }.items():
        missed = kernels - {kernel["name"] for case, kernel in chosen if of(case)}
        assert not missed, f"{name} on {arch}: no case for {sorted(missed)}"


def test_one_function_under_every_name() -> None:
    for name in ("mla_prefill_fwd", "mla_prefill_ps_fwd", "mla_prefill_ps_asm_fwd", "mla_prefill_reduce"):
        assert getattr(aiter_c, name) is getattr(aiter_c.mla, name) is getattr(aiter_c.prefill, name)


def test_aiters_signatures() -> None:
    """AITER's parameters in its order, then ours, keyword-only."""
    names = (
        "Q K V qo_indptr kv_indptr kv_page_indices work_indptr work_info_set max_seqlen_q softmax_scale is_causal "
        "splitData splitLse output q_scale k_scale v_scale"
    )
    parameters = inspect.signature(aiter_c.mla_prefill_ps_asm_fwd).parameters.values()
    assert [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY] == names.split()
    names = (
        "Q K V output qo_indptr kv_indptr kv_page_indices work_indptr work_info_set max_seqlen_q is_causal "
        "reduce_indptr reduce_final_map reduce_partial_map softmax_scale q_scale k_scale v_scale return_lse"
    )
    parameters = inspect.signature(aiter_c.mla_prefill_ps_fwd).parameters.values()
    assert [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY] == names.split()
    names = (
        "q kv_buffer o qo_indptr kv_indptr kv_indices kv_last_page_lens max_seqlen_q sm_scale logit_cap num_kv_splits"
    )
    parameters = inspect.signature(aiter_c.mla_prefill_fwd).parameters.values()
    assert [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY] == names.split()
    names = (
        "seqlens_qo_indptr pages_kv_indptr context_lens gqa_ratio num_heads_k work_metadata_ptrs work_indptr work_info "
        "reduce_indptr reduce_final_map reduce_partial_map qhead_granularity qlen_granularity kvlen_granularity "
        "block_size is_causal need_lse"
    )
    parameters = inspect.signature(aiter_c.get_ps_metadata_v1).parameters.values()
    assert [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY] == names.split()


# --- engines do the two stages by hand -------------------------------------------------------------------------------


def by_hand(case: PrefillCase, device: Device) -> tuple[np.ndarray, np.ndarray]:
    """Stage 1 and mla_reduce_v1 as vLLM calls them, by position; the output, and the LSE that the merge wrote."""
    inputs = case.inputs()
    inputs.freeze()
    a = inputs.arguments()
    entries = len(a["reduce_partial_map"])
    logits = np.full((entries * 256, case.heads, case.value_dim), np.nan, np.float32)
    attn_lse = np.full((entries * 256, case.heads), np.nan, np.float32)
    final_lse = np.full((case.num_rows, case.heads), np.nan, np.float32)
    scales = [np.full((), scale, np.float32) for scale in case.scales or (1.0, 1.0, 1.0)]
    scales = [scale if device.place == "cpu" else scale.reshape(1) for scale in scales]
    device.call(
        "mla_prefill_ps_asm_fwd", a["Q"], a["K"], a["V"], a["qo_indptr"], a["kv_indptr"], a["kv_page_indices"],
        a["work_indptr"], a["work_info_set"], case.served_q_len, case.sm_scale, case.causal, logits, attn_lse,
        a["output"], *scales,
    )  # fmt: skip
    device.call(
        "mla_reduce_v1", logits, attn_lse, a["reduce_indptr"], a["reduce_final_map"], a["reduce_partial_map"], 256, 0,
        a["output"], final_lse,
    )  # fmt: skip
    inputs.check_untouched()
    reference = inputs.reference(p_dtype_of(case, device))
    check_close("output", a["output"], reference.o, OUTPUT, case.repro, allowance=reference.rounding)
    return a["output"], final_lse


HAND = PrefillCase(q_lens=(40, 300, 5), kv_lens=(90, 310, 0), workers=5, unit=32, heads=2)


def test_stage_1_and_the_merge_by_hand_give_every_lse(device: Device) -> None:
    """ROCm/aiter#3606: with need_lse the tiles that no split touches are groups of one partial. In fp16, which every
    device has in at least 11 bits of P."""
    case = replace(HAND, dtype="float16")
    if not is_served(case, device):
        return
    _, lse = by_hand(case, device)
    reference = case.inputs().reference()
    check_close("lse", lse, reference.lse, LSE, case.repro, allowance=reference.lse_rounding)


def test_without_need_lse_the_merge_alone_leaves_rows_out() -> None:
    """The test above can fail: these are the rows whose LSE was garbage."""
    _, lse = by_hand(replace(HAND, need_lse=False), Device())
    assert np.isnan(lse).any() and not np.isnan(lse).all()


@pytest.mark.parametrize("need_lse", [True, False])
def test_lists_that_split_nothing_change_no_bit(need_lse: bool) -> None:
    """One worker: as a call without lists, on the CPU, where both have the same tiles."""
    case = PrefillCase(q_lens=(40, 70), kv_lens=(90, 130), workers=1, need_lse=need_lse)
    listed, plain = (run_case(c).outputs for c in (case, replace(case, workers=0)))
    check_bits("output", listed["output"], plain["output"], case.repro)
    np.testing.assert_allclose(listed["lse"], plain["lse"], rtol=2e-7)  # a group of one is a copy


def test_the_same_lists_give_the_same_bits(device: Device) -> None:
    case = PrefillCase(q_lens=(40, 70), kv_lens=(190, 130), workers=5, unit=16)
    if not is_served(case, device):
        return
    first, second = (run_case(case, device=device).outputs for _ in range(2))
    for name in first:
        check_bits(name, first[name], second[name], case.repro)


def test_lists_without_the_map_of_rows(device: Device) -> None:
    """reduce_final_map None: the rows follow from the locations where every tile is split alike."""
    case = PrefillCase(q_lens=(256,), kv_lens=(400,), workers=3, unit=32, heads=1, causal=False)
    if not is_served(case, device) or device.simulated:
        return
    inputs = case.inputs()
    inputs.freeze()
    a = inputs.arguments() | {"reduce_final_map": None}
    _, lse = device.call("mla_prefill_ps_fwd", **a)
    reference = inputs.reference(p_dtype_of(case, device))
    check_close("output", a["output"], reference.o, OUTPUT, case.repro, allowance=reference.rounding)
    check_close("lse", lse, reference.lse, LSE, case.repro, allowance=reference.lse_rounding)


# --- chunked prefill -------------------------------------------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.parametrize("dims", DIMS)
@pytest.mark.parametrize("workers", [0, 4])
def test_chunks_merged_are_one_pass(dims: str, workers: int, device: Device) -> None:
    """[Chunks of the context, non-causal] merged with [the new tokens, causal]; a chunk in which a request has no key;
    by lists, in which most tiles are in one piece."""
    new, context, chunk = (5, 60, 33), (100, 0, 40), 48
    case = PrefillCase(q_lens=new, kv_lens=tuple(n + c for n, c in zip(new, context, strict=True)), dims=dims, heads=2)
    if not is_served(case, device):
        return
    inputs = case.inputs()
    a = inputs.arguments()
    starts = inputs.array("kv_indptr")[:3]
    outputs, lses = [], []
    parts = [(begin, begin + chunk) for begin in range(0, max(context), chunk)] + [None]
    for part in parts:
        ranges = [
            (start + c, start + c + n) if part is None else (start + min(part[0], c), start + min(part[1], c))
            for start, n, c in zip(starts, new, context, strict=True)
        ]
        lens = [end - begin for begin, end in ranges]
        indptr = np.cumsum([0, *lens]).astype(np.int32)
        indices = np.concatenate([a["kv_page_indices"][begin:end] for begin, end in ranges])
        out = np.full(a["output"].shape, np.nan, a["output"].dtype)
        changes = {"kv_indptr": indptr, "kv_page_indices": indices, "is_causal": part is None, "output": out}
        changes |= dict.fromkeys(LISTS)
        if workers:
            changes |= _lists_of(new, lens, workers, causal=part is None)
        _, lse = device.call("mla_prefill_ps_fwd", **a | changes)
        outputs.append(out)
        lses.append(lse)
    assert np.isneginf(lses[0][5:65]).all(), "the second request has no context"
    merged, lse = device.call("merge_states", outputs, lses)
    reference = inputs.reference(p_dtype_of(case, device))
    # Each pass's output is rounded to bf16 before it is merged: half a unit of the largest, as weights add up to 1.
    allowance = reference.rounding + 2.0**-8 * np.max([np.abs(out.astype(np.float64)) for out in outputs], 0)
    check_close("output", merged, reference.o, OUTPUT, case.repro, allowance=allowance)
    check_close("lse", lse, reference.lse, LSE, case.repro, allowance=reference.lse_rounding)


def _lists_of(q_lens: tuple[int, ...], kv_lens: list[int], workers: int, *, causal: bool) -> dict[str, np.ndarray]:
    sizes = aiter_c.get_ps_metadata_info_v1(len(q_lens), 2, max(q_lens), num_workers=workers)
    lists = {name: np.full(size, -1, np.int32) for name, (size, _) in zip(LISTS, sizes[1:], strict=True)}
    indptrs = [np.cumsum([0, *lens]).astype(np.int32) for lens in (q_lens, kv_lens)]
    aiter_c.get_ps_metadata_v1(
        *indptrs, np.array(kv_lens, np.int32), 1, 2, None, *lists.values(), 1, 256, 16, 1, causal
    )  # fmt: skip
    return lists


# --- what no row sees ------------------------------------------------------------------------------------------------


@pytest.mark.cases([case for case in CORNER if case.masked == "minus_one"], on_device=on_device)
def test_what_is_masked_changes_no_bit(case: PrefillCase, device: Device) -> None:
    """Slots that no list names hold NaN, or numbers."""
    first = run_case(case, device=device)
    inputs = case.inputs()
    used = np.unique(np.concatenate(inputs.slots))
    for name in ("K", "V"):
        rest = np.setdiff1d(np.arange(len(inputs.array(name))), used)
        inputs.array(name)[rest] = 3.0
    inputs.freeze()
    _, lse = device.call("mla_prefill_ps_fwd", **inputs.arguments())
    check_bits("output", inputs.array("output"), first.outputs["output"], case.repro)
    check_bits("lse", lse, first.outputs["lse"], case.repro)


def test_heads_are_independent(device: Device) -> None:
    """A padding head may hold anything, NaN included."""
    case = PrefillCase(heads=3, q_lens=(20,), kv_lens=(70,))
    if not is_served(case, device):
        return
    clean, dirty = case.inputs(), case.inputs()
    for name in "QKV":
        dirty.array(name)[:, 1] = np.nan
    results = []
    for inputs in (clean, dirty):
        inputs.freeze()
        _, lse = device.call("mla_prefill_ps_fwd", **inputs.arguments())
        results.append((inputs.array("output")[:, ::2].copy(), lse[:, ::2].copy()))
    check_bits("output", results[1][0], results[0][0], case.repro)
    check_bits("lse", results[1][1], results[0][1], case.repro)
    assert np.isnan(dirty.array("output")[:, 1].astype(np.float32)).all()


@pytest.mark.parametrize("offset", [1, 3])
def test_any_address_that_is_aligned_to_its_elements(offset: int, device: Device) -> None:
    """Operands `offset` elements into their memory, rows an odd number of elements apart."""
    for fields in ({}, {"dims": DIMS[1]}, {"dtype": "float8_e4m3fn"}, {"dtype": "float8_e4m3fnuz"}):
        case = PrefillCase(q_lens=(20,), kv_lens=(70,), **fields)
        if not is_served(case, device):
            continue
        inputs = case.inputs()
        a = inputs.arguments()
        device.call("mla_prefill_ps_fwd", **a)
        want, shifted = a["output"].copy(), {}
        for name in ("Q", "K", "V", "output"):
            array = a[name]
            wide = np.zeros((*array.shape[:-1], array.shape[-1] + 2 * offset + 1), array.dtype)
            shifted[name] = wide[..., offset : offset + array.shape[-1]]
            shifted[name][...] = array
        device.call("mla_prefill_ps_fwd", **a | shifted)
        assert np.array_equal(shifted["output"].view(np.uint16), want.view(np.uint16)), fields
