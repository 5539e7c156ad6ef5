"""Calls by work lists of any contents: hostile tensors, items that were changed on the device, lists that are not the
plan of the call's own index tensors (sparse attention), and plans that were filled for something else.

Lists as the metadata op leaves them, with every dtype, tile and mask: the cases of test_mla_decode.py."""

from __future__ import annotations

import numpy as np
import pytest
from interpreter import run_python, script
from mla_decode.fuzz import check
from mla_decode.fuzz_lists import check_fuzzed, fuzz, is_one_item
from mla_decode.lists_model import KV_BEGIN, KV_END, LISTS, Model

import aiter_c
from aiter_c.testing import CPU, Device, MlaCase, MlaInputs, build_inputs, check_bits, poisoned_scratch, run_case
from aiter_c.testing.ops.mla_decode import p_dtype_of

_BASE = {"heads": 6, "granule": 1, "workers": 5}


def _call(inputs: MlaInputs, device: Device, **changed: object) -> np.ndarray:
    """`o` poisoned before; the LSE."""
    inputs.blocks["o"].fill_nan()
    with poisoned_scratch():
        _, lse = device.call("mla_decode_fwd", **inputs.arguments() | changed)
    return lse


def _check_model(name: str, inputs: MlaInputs, device: Device, rows: int, **changed: object) -> None:
    """Against the model; so many rows have one answer and keys."""
    lse = _call(inputs, device, **{key: value for key, value in changed.items() if key != "q_values"})
    want = Model(inputs, changed, one_item=is_one_item(inputs.case, device)).result(p_dtype_of(inputs.case, device))
    check(name, inputs, changed.get("o", inputs.array("o")), lse, want)
    found = int((want.written & np.isfinite(want.lse).all(axis=1)).sum())
    assert found >= rows, f"{name}: {found} rows were compared"


def _plan(case: MlaCase, inputs: MlaInputs, lists: dict[str, np.ndarray], **more: object) -> dict[str, np.ndarray]:
    """get_mla_metadata_v1 on the CPU, over the case's own lengths unless others are given."""
    pointers, indptr, items, *reduce = (lists[name] for name in LISTS)
    index = {"qo_indptr": inputs.array("qo_indptr"), "kv_indptr": inputs.array("kv_indptr")}
    qo, kv = (more.pop(name, value) for name, value in index.items())
    heads, causal = more.pop("heads", case.heads), more.pop("causal", case.causal)
    options = {"page_size": case.page_size, "kv_granularity": case.granule, "max_seqlen_qo": case.served_q_len}
    last = inputs.array("kv_last_page_lens")
    aiter_c.get_mla_metadata_v1(
        qo, kv, last, heads, 1, causal, pointers, items, indptr, *reduce, **options | {"uni_seqlen_qo": -1} | more
    )
    return lists


def _buffers(batch: int, most: int, heads: int, workers: int, **more: object) -> dict[str, np.ndarray]:
    """As an engine sizes them, full of what was there before."""
    info = aiter_c.get_mla_metadata_info_v1(
        batch, most, heads, *[more.pop("dtype", "bfloat16")] * 2, more.pop("is_sparse", False), num_workers=workers,
        **more,
    )  # fmt: skip
    dtypes = ("uint64", *["int32"] * 5)
    return {name: np.full(size, 0x7BADBADB, dtype) for name, (size, _), dtype in zip(LISTS, info, dtypes, strict=True)}


# Hostile contents.


@pytest.mark.isolated
@pytest.mark.parametrize(("threads", "calls"), [(1, 300), (3, 100)])
def test_lists_of_anything_between_guard_pages(threads: int, calls: int) -> None:
    out = run_python(script("mla_decode/isolated/guard_pages_lists.py"), str(threads), str(calls)).stdout.split("\n")
    verdict, made, rows = out[-2].split()
    assert verdict == "ok" and int(made) == calls and int(rows) > calls, out[-5:]


@pytest.mark.accelerators
@pytest.mark.parametrize("seed", range(3))
def test_lists_of_anything_on_a_device(seed: int, device: Device) -> None:
    rows = 0
    for one in fuzz(40 if device.simulated else 250, seed):
        with poisoned_scratch() as scratch:
            _, lse = device.call("mla_decode_fwd", **one.inputs.arguments() | one.changed, exact=True)
        scratch.check_margins(one.name)
        rows += check_fuzzed(one, one.inputs.array("o"), lse, device)
    assert rows > 40


def test_a_tag_of_anything(device: Device) -> None:
    """It is a hint: the lists decide."""
    inputs = build_inputs(MlaCase(q_lens=(2, 1), kv_lens=(60, 200), **_BASE))
    lse, o = _call(inputs, device), inputs.array("o").copy()
    rng = np.random.default_rng(1)
    for tag in (np.zeros(2, np.uint64), rng.integers(0, 2**63, 2, np.uint64), np.full(2, -1, np.int64), None):
        check_bits("lse", _call(inputs, device, work_meta_data=tag), lse, inputs.case.repro)
        check_bits("o", inputs.array("o"), o, inputs.case.repro)


def test_the_model_sees_a_wrong_row(device: Device) -> None:
    """The tests with the model can fail: an item that ends one key early, while the model thinks that it does not."""
    inputs = build_inputs(MlaCase(q_lens=(1, 1), kv_lens=(20, 30), **_BASE | {"workers": 1}))
    items = inputs.array("work_info_set").copy()
    lse = _call(inputs, device, work_info_set=np.where(np.arange(8) == KV_END, items - 1, items))
    with pytest.raises(AssertionError, match="elements outside"):
        check("planted", inputs, inputs.array("o"), lse, Model(inputs, {}).result(p_dtype_of(inputs.case, device)))


# Items and index tensors that were changed after the plan was made.


@pytest.mark.parametrize(
    "fields", [{"q_lens": (1, 1, 1)}, {"q_lens": (3, 1, 2)}, {"page_size": 4}, {"page_size": 7, "q_lens": (1, 1, 1)}]
)
def test_a_kv_end_that_was_lowered(fields: dict, device: Device) -> None:
    """A planner whose lengths are upper bounds, and the true ones reach the device later: kv_end of each item is
    lowered there (vLLM's sparse backend does so), down to none."""
    case = MlaCase(**_BASE | {"q_lens": (1, 2, 1), "kv_lens": (300, 40, 120)} | fields)
    inputs, rng = build_inputs(case), np.random.default_rng(4)
    for share in (0.1, 0.5, 1.0):
        items = inputs.array("work_info_set").copy()
        count = int(inputs.array("work_indptr")[-1])
        span = items[:count, KV_END] - items[:count, KV_BEGIN]
        items[:count, KV_END] -= np.where(rng.random(count) < 0.7, (rng.random(count) * share * span).astype(int), 0)
        if share == 1.0:
            items[: count // 2, KV_END] = items[: count // 2, KV_BEGIN]
        _check_model(f"lowered by {share}", inputs, device, 1, work_info_set=items)


def test_a_list_that_became_shorter_and_longer_than_the_plan(device: Device) -> None:
    """kv_indptr and qo_indptr of another step under lists of this one: masked, and right where both agree."""
    inputs = build_inputs(MlaCase(q_lens=(1, 3, 1), kv_lens=(90, 200, 40), **_BASE))
    for ends in ([0, 40, 240, 280], [0, 90, 90, 330], [5, 90, 290, 330], [0, 330, 330, 330]):
        _check_model(f"kv_indptr {ends}", inputs, device, 1, kv_indptr=np.array(ends, np.int32))
    _check_model("qo_indptr", inputs, device, 2, qo_indptr=np.array([0, 1, 3, 5], np.int32))


# Sparse attention: one list per query row.


def _table(rng: np.random.Generator, shape: tuple[int, ...], pages: int) -> np.ndarray:
    """Indices into a pool of `pages`, a third of them outside of it."""
    out = rng.integers(0, pages, shape)
    hit = rng.random(shape) < 0.33
    out[hit] = rng.choice([-1, -2, -(2**31), pages, pages + 1, 2**31 - 1], int(hit.sum()))
    return out.astype(np.int32)


def _sparse_inputs(rows: int, heads: int, **kind: str) -> MlaInputs:
    """A pool of 600 keys without NaN, `rows` query rows."""
    case = MlaCase(
        heads=heads, q_lens=(1,) * rows, kv_lens=(600, *(0,) * (rows - 1)), return_lse=True, workers=6, **kind
    )
    inputs = build_inputs(case)
    pool = inputs.pool
    used = np.unique(inputs.array("kv_indices"))
    pool[np.setdiff1d(np.arange(len(pool)), used)] = pool[used[0]]
    return inputs


@pytest.mark.parametrize("kind", [{}, {"q_dtype": "float16", "kv_dtype": "float16"}, {"kv_dtype": "float8_e4m3fn"}])
@pytest.mark.parametrize("heads", [4, 16, 128])
def test_sparse_lists_in_a_dense_table(heads: int, kind: dict, device: Device) -> None:
    """topk >= 0: row r of [T, topk] is query row r's list, as far as min(topk, length of its request) entries, and
    kv_indptr is the requests'. Entries outside the pool anywhere; two query rows a request."""
    batch, q_len, topk = 4, 2, 70
    inputs = _sparse_inputs(batch * q_len, heads, **kind)
    rng, lengths = np.random.default_rng(heads), np.array([500, 30, 0, 71])
    table = _table(rng, (batch * q_len, topk), len(inputs.pool))
    qo, kv = np.arange(batch + 1, dtype=np.int32) * q_len, np.cumsum([0, *lengths]).astype(np.int32)
    lists = _buffers(batch, q_len, heads, 6, is_sparse=True)
    _plan(inputs.case, inputs, lists, qo_indptr=qo, kv_indptr=kv, topk=topk, max_seqlen_qo=1, uni_seqlen_qo=q_len)
    changed = lists | {"qo_indptr": qo, "kv_indptr": kv, "kv_indices": table.reshape(-1)}
    _check_model("dense table", inputs, device, 0, **changed)
    want = Model(inputs, changed)
    final, partial = want.stage1()
    for row in range(batch * q_len):  # of every row exactly the first entries of its line, piece after piece
        keys = [k for place in (final, partial) for _, k in sorted(place.items()) if k.row == row]
        count = min(topk, lengths[row // q_len])
        line = [page for page in table[row, :count].tolist() if 0 <= page < len(inputs.pool)]
        assert [slot for key in keys for slot in key.slots] == line, row


@pytest.mark.parametrize("heads", [12, 64])
def test_sparse_lists_that_are_compact(heads: int, device: Device) -> None:
    """topk = -1: every token is a request of its own, kv_indptr [T+1] counts what it selected; entries outside the
    pool anywhere, tokens without a key, a stale tail behind the lists."""
    rows = 9
    inputs, rng = _sparse_inputs(rows, heads), np.random.default_rng(heads)
    lengths = [0, 1, 64, 200, 17, 0, 300, 3, 64]
    kv = np.cumsum([0, *lengths]).astype(np.int32)
    indices = _table(rng, (int(kv[-1]) + 20,), len(inputs.pool))
    indices[kv[4] : kv[5]] = -1  # a token whose keys are all masked
    lists = _buffers(rows, 1, heads, 6, is_sparse=True)
    _plan(inputs.case, inputs, lists, kv_indptr=kv, topk=-1, uni_seqlen_qo=1, max_split_per_batch=16)
    _check_model("compact", inputs, device, 6, kv_indptr=kv, kv_indices=indices, **lists)
    assert (inputs.array("o")[[0, 4, 5]] == 0).all()


# Plans for something else than the call, as engines make them.


@pytest.mark.parametrize(
    ("sized", "filled"),
    [
        ({"heads": 12}, {"heads": 12, "dtype_q": "float8_e4m3fn", "dtype_kv": "float8_e4m3fn"}),
        ({"heads": 128}, {"heads": 16}),  # padded heads, which the call does not have
        ({"heads": 16}, {"heads": 1}),
        ({"heads": 128}, {"heads": 96}),
        ({"heads": 12, "most": 8}, {"heads": 12}),
        ({"heads": 12, "max_split_per_batch": 2}, {"heads": 12, "max_split_per_batch": 2}),
        ({"heads": 12, "batch": 40}, {"heads": 12, "max_split_per_batch": -1}),
        ({"heads": 12}, {"heads": 12, "uni_seqlen_qo": 3}),
        ({"heads": 12}, {"heads": 12, "max_seqlen_qo": -1, "causal": False}),
    ],
)
def test_a_plan_that_was_sized_and_filled_for_others(sized: dict, filled: dict, device: Device) -> None:
    """Other dtypes, padded heads or fewer, shorter queries, a cap or none: served, and right."""
    fields = {"q_lens": (3, 3, 3), "kv_lens": (200, 3, 77)} | _BASE | {"heads": 12}
    case = MlaCase(**fields)
    inputs, sized = build_inputs(case), {"batch": 5, "most": 4} | sized
    lists = _buffers(sized.pop("batch"), sized.pop("most"), sized.pop("heads"), 5, **sized)
    _check_model("other plan", inputs, device, 9, **_plan(case, inputs, lists, **filled))


def test_items_of_more_rows_than_a_tile(device: Device) -> None:
    """A plan that was made for one head has items of many query rows: with 96 heads of several tiles of every kernel,
    one item after the other for the same worker."""
    case = MlaCase(q_lens=(5, 4, 5), kv_lens=(40, 90, 9), **_BASE | {"heads": 96, "workers": 2})
    inputs = build_inputs(case)
    lists = _plan(case, inputs, _buffers(3, 5, 96, 2), heads=1)
    rows = lists["work_info_set"][: lists["work_indptr"][-1], 2:4]
    assert (rows[:, 1] - rows[:, 0] >= 4).all() and len(rows) >= 4
    _check_model("large items", inputs, device, 14, **lists)


@pytest.mark.parametrize("uniform", [-1, 2])
def test_flat_tails_and_dummies(uniform: int, device: Device) -> None:
    """A full graph's batch: fewer requests than it was captured for, qo_indptr flat behind them, dummies without rows
    or with rows and without keys, rows of q and o that nobody owns; uni_seqlen_qo -1 or fixed."""
    q_lens, kv_lens = (2, 2, 2, 2), (90, 0, 150, 2)
    case = MlaCase(q_lens=q_lens, kv_lens=kv_lens, unowned_rows=(0, 3), **_BASE | {"heads": 20})
    inputs = build_inputs(case)
    qo = np.array([0, 2, 4, 6, 8], np.int32)
    if uniform < 0:  # the last two requests are gone
        qo[3:] = 4
    lists = _buffers(8, 4, 20, 5)
    _plan(case, inputs, lists, qo_indptr=qo, uni_seqlen_qo=uniform)
    _check_model("flat tail", inputs, device, 2, qo_indptr=qo, **lists)
    lse = _call(inputs, device, qo_indptr=qo, **lists)
    served = 4 if uniform < 0 else 8
    assert np.isneginf(lse[served:]).all() and np.isnan(inputs.array("o")[served:].astype(np.float32)).all()


def test_a_copy_of_the_lists_is_the_plan(device: Device) -> None:
    inputs = build_inputs(MlaCase(q_lens=(2, 1), kv_lens=(300, 900), **_BASE))
    lse, o = _call(inputs, device), inputs.array("o").copy()
    copies = {name: np.concatenate([inputs.array(name)] * 2)[len(inputs.array(name)) :] for name in LISTS}
    for name in LISTS:
        inputs.array(name)[...] = 0
    check_bits("lse", _call(inputs, device, **copies), lse, inputs.case.repro)
    check_bits("o", inputs.array("o"), o, inputs.case.repro)


def test_lists_without_partials(device: Device) -> None:
    """No entry, no group: the items that write final rows count, the others have no place."""
    inputs = build_inputs(MlaCase(q_lens=(1, 2, 1), kv_lens=(9, 0, 200), **_BASE | {"workers": 2}))
    assert (inputs.array("work_info_set")[: inputs.array("work_indptr")[-1], 1] >= 0).any()
    nothing = {"reduce_partial_map": np.zeros(0, np.int32), "reduce_indptr": np.zeros(1, np.int32)}
    _check_model("no partials", inputs, device, 1, **nothing)
    _check_model("no map", inputs, device, 1, **nothing, reduce_final_map=np.zeros((0, 2), np.int32))
    _check_model("no items", inputs, device, 0, **nothing, work_info_set=np.zeros((0, 8), np.int32))


@pytest.mark.torch
@pytest.mark.parametrize("tag", ["uint64", "int64"])
def test_lists_of_torch(tag: str) -> None:
    """Every tensor as torch has it, the tag in either dtype; scratch from torch."""
    import torch

    inputs = build_inputs(MlaCase(q_lens=(2, 1), kv_lens=(300, 900), q_dtype="float16", kv_dtype="float16",
                                  o_dtype="float16", **_BASE))  # fmt: skip
    lse, o = _call(inputs, CPU), inputs.array("o").copy()
    inputs.blocks["o"].fill_nan()
    arguments = {n: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for n, v in inputs.arguments().items()}
    arguments["work_meta_data"] = arguments["work_meta_data"].view(getattr(torch, tag))
    logits, got = aiter_c.mla_decode_fwd(**arguments)
    assert isinstance(logits, torch.Tensor) and isinstance(got, torch.Tensor)
    check_bits("lse", got.numpy(), lse, inputs.case.repro)
    check_bits("o", inputs.array("o"), o, inputs.case.repro)


@pytest.mark.parametrize("splits", [None, -1, 1, 7, 304])
def test_hints_change_no_bit(splits: int | None, device: Device) -> None:
    """num_kv_splits is None, -1 or the number of compute units in engines, with or without its indptr; return_logits
    and intra_batch_mode; the partials come back as they are."""
    inputs = build_inputs(MlaCase(q_lens=(2, 1), kv_lens=(300, 90), splits=None, **_BASE))
    lse, o = _call(inputs, device), inputs.array("o").copy()
    hints = {"num_kv_splits": splits, "num_kv_splits_indptr": np.array([0, 5, 9], np.int32)}
    for more in (hints, {"num_kv_splits": splits, "return_logits": True, "intra_batch_mode": True}):
        if splits not in (None, -1) or "num_kv_splits_indptr" not in more:
            check_bits("lse", _call(inputs, device, **more), lse, inputs.case.repro)
            check_bits("o", inputs.array("o"), o, inputs.case.repro)
    run_case(inputs.case, device=device, return_logits=True, num_kv_splits=splits)


@pytest.mark.parametrize("q_len", [1, 3])
def test_without_the_final_map(q_len: int, device: Device) -> None:
    """Where every request is a tile of equally many rows, the groups say their rows themselves."""
    case = MlaCase(q_lens=(q_len,) * 4, kv_lens=(200, 300, 150, 90), split_cap=3, **_BASE | {"workers": 12})
    inputs = build_inputs(case)
    counts = np.diff(inputs.array("reduce_indptr"))
    assert (counts > 1).sum() >= 3, "groups with partials"
    lse, o = _call(inputs, device), inputs.array("o").copy()
    check_bits("lse", _call(inputs, device, reduce_final_map=None), lse, case.repro)
    check_bits("o", inputs.array("o"), o, case.repro)


# The same bits.


def test_two_calls_give_the_same_bits(device: Device) -> None:
    for fields in ({}, {"heads": 128, "q_lens": (1, 4), "kv_dtype": "float8_e4m3fn"}):
        case = MlaCase(**{"q_lens": (2, 1), "kv_lens": (100, 300)} | _BASE | fields)
        inputs = build_inputs(case)
        lse, o = _call(inputs, device), inputs.array("o").copy()
        for _ in range(2 if device.simulated else 20):
            check_bits("lse", _call(inputs, device), lse, case.repro)
            check_bits("o", inputs.array("o"), o, case.repro)


def test_a_deterministic_call_needs_a_deterministic_plan() -> None:
    """As far as the host sees the tag; without one it is the caller's promise."""
    for made in (True, False):
        case = MlaCase(q_lens=(1, 1), kv_lens=(90, 20), deterministic=made, **_BASE)
        inputs = build_inputs(case)
        _call(inputs, CPU, deterministic=False)
        _call(inputs, CPU, deterministic=True, work_meta_data=None)
        if made:
            _call(inputs, CPU, deterministic=True)
            continue
        inputs.blocks["o"].fill_nan()
        with pytest.raises(ValueError, match="work_meta_data: expected lists made with deterministic=True"):
            aiter_c.mla_decode_fwd(**inputs.arguments() | {"deterministic": True})
        assert np.isnan(inputs.array("o").astype(np.float32)).all()


REQUESTS = ((1, 5), (3, 513), (1, 1100), (2, 1300), (1, 0), (4, 64))  # (q len, kv len)


def _some(inputs: MlaInputs, requests: list[int], workers: int, device: Device) -> dict[int, tuple]:
    """A deterministic plan and call with only these requests, in this order: request -> its (o, lse)."""
    a, case = inputs.arguments(), inputs.case
    q_parts = [a["q"][inputs.q_rows[b].start : inputs.q_rows[b].stop] for b in requests]
    parts = [a["kv_indices"][a["kv_indptr"][b] : a["kv_indptr"][b + 1]] for b in requests]
    ends = lambda many: np.cumsum([0, *map(len, many)]).astype(np.int32)  # noqa: E731
    rows = ends(q_parts)
    changed = {"q": np.concatenate(q_parts), "o": np.full((rows[-1], case.heads, 512), np.nan, a["o"].dtype)}
    changed |= {"qo_indptr": rows, "kv_indptr": ends(parts), "kv_indices": np.concatenate(parts)}
    changed["kv_last_page_lens"] = a["kv_last_page_lens"][requests]
    lists = _buffers(len(requests) + 1, case.served_q_len, case.heads, workers, deterministic=True)
    index = {name: changed[name] for name in ("qo_indptr", "kv_indptr")}
    _plan(case, inputs, lists, deterministic=True, **index)
    used = int(lists["reduce_indptr"][-1])  # of a buffer for 16 pieces a tile, whose partials would take a while
    lists["reduce_partial_map"] = lists["reduce_partial_map"][:used]
    with poisoned_scratch():
        _, lse = device.call("mla_decode_fwd", **a | changed | lists)
    return {b: (changed["o"][rows[i] : rows[i + 1]], lse[rows[i] : rows[i + 1]]) for i, b in enumerate(requests)}


@pytest.mark.parametrize("heads", [5, 16, 128])
def test_a_deterministic_row_does_not_depend_on_the_batch(heads: int, device: Device) -> None:
    """Other requests, another order, another number of workers: bit for bit."""
    q_lens, kv_lens = zip(*REQUESTS, strict=True)
    inputs = build_inputs(MlaCase(heads=heads, q_lens=q_lens, kv_lens=kv_lens, deterministic=True, workers=3))
    everyone = list(range(len(REQUESTS)))
    whole = _some(inputs, everyone, 3, device)
    batches = [(everyone[::-1], 1), ([3, 5, 1], 7), ([2, 2], 40), ([4, 0], 2), *(([b], 5) for b in everyone)]
    some = 2 if heads == 128 else 4
    for requests, workers in batches[: some if device.simulated else None]:
        for b, (o, lse) in _some(inputs, requests, workers, device).items():
            name = f"request {b} of {requests}, {workers} workers"
            check_bits(f"o, {name}", o, whole[b][0], inputs.case.repro)
            check_bits(f"lse, {name}", lse, whole[b][1], inputs.case.repro)
    assert device is not CPU or len(batches) == 10
