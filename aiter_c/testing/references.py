"""What a call must give, from its arguments alone: the fp64 references of the cases, for calls that no case made.

`python -m aiter_c replay FILE --against fp64` holds a dumped call against it. Arguments are NumPy arrays and plain
values, by name, with the defaults filled in; index tensors may hold anything. An output is known by its argument's
name, or as "returned", "returned[0]", ...
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np

from aiter_c import _C, mla_plan

from .compare import Expected, cosine_difference
from .device import CPU, Device
from .inputs import Inputs
from .memory import dtype_of
from .ops.attention import KvList, Shard, mla_decode_reference
from .ops.cache import RECORD_BYTES, read_rows, to_float64
from .ops.cache_write import RECORDS, CacheWriteCase, CacheWriteInputs
from .ops.index_conversion import IndexConversionCase, IndexInputs
from .ops.indexer_cache import IndexerGatherCase, IndexerWriteCase
from .ops.merge_states import MergeStatesCase
from .ops.mla_decode import DTYPES_FP8, expected_outputs
from .ops.mla_prefill import PrefillCase, PrefillInputs
from .ops.mla_reduce import expected_outputs as expected_of_reduce
from .ops.mqa_logits import ContiguousInputs, LogitsCase, PagedInputs, PagedLogitsCase
from .ops.sparse_mla import Source, SparseCase, SparseInputs
from .ops.top_k import TopKCase, TopKInputs

Arguments = dict[str, Any]


class NoReference(Exception):
    """The op has none, or not for such a call; the text says why."""


def _blocks(arguments: Arguments, *names: str) -> dict[str, Any]:
    """As the blocks of Inputs."""
    return {name: SimpleNamespace(array=arguments[name]) for name in names if arguments[name] is not None}


def _typed(array: np.ndarray, dtype: str | None) -> np.ndarray:
    """Bytes as the fp8 dtype that the call names for them."""
    return array.view(dtype_of(dtype)) if dtype is not None and array.dtype == np.uint8 else array


def _number(scale: Any) -> float:
    """A scale: None, a number, or a tensor of one element."""
    return 1.0 if scale is None else float(np.float32(np.asarray(scale).reshape(-1)[0]))


def _ranges(indptr: np.ndarray, count: int, most: int) -> list[range]:
    """[indptr[i], indptr[i + 1]) clamped to [0, most]; descending: empty."""
    ends = [min(max(int(value), 0), most) for value in indptr[: count + 1]]
    return [range(begin, max(begin, end)) for begin, end in pairwise(ends)]


def _cache(kv: np.ndarray, kv_format: str | None, kv_dtype: str | None, page_size: int) -> tuple[str, np.ndarray]:
    """The format, resolved as the ops do it, and the pool as `read_rows` takes it."""
    if kv_format is None:
        width = kv.shape[-1]
        is_records = kv.dtype == np.uint8 and kv_dtype is None
        regions = kv.ndim == 2 and width == page_size * RECORD_BYTES and width != RECORD_BYTES
        kv_format = "plain" if not is_records else "3buffer" if regions else "fp8_ds_mla"
    if kv_format != "plain":
        return kv_format, np.ascontiguousarray(kv).reshape(len(kv), -1)
    kv = _typed(kv, kv_dtype)
    if kv.ndim < 4:
        kv = kv.reshape(len(kv), -1, 1, kv.shape[-1])
    return kv_format, kv


def _p_dtype(device: Device, batch: int, rows: int, heads: int, page_size: int, q: str, kv: str, **plan: Any) -> str:
    """In which the kernel of such a decode there rounds the probabilities."""
    made = mla_plan(batch, heads, rows, page_size, q, kv, num_kv_splits=1, device=device.place, **plan)
    table = [row for row in _C.kernel_table() if row["name"] == made.stage1]
    return next(row["p_dtype"] for row in table if device.place == "cpu" or row["arch"] == made.arch)


def _refuse_partial_lists(a: Arguments, rows: list[range], lists: list[range]) -> None:
    """Unless every query row is given its whole list, each entry once."""
    parts: dict[int, list[tuple[int, int]]] = {row: [] for owned in rows for row in owned}
    indptr, base = a["work_indptr"], max(int(a["kv_indptr"][0]), 0)
    for item in a["work_info_set"][: max(int(indptr[-1]), 0)]:
        for row in range(int(item[2]), int(item[3])):
            if row in parts and int(item[4]) < int(item[5]):
                parts[row].append((int(item[4]) + base, int(item[5]) + base))
    for owned, entries in zip(rows, lists, strict=True):
        for row in owned[: a["max_seqlen_q"]]:
            runs = sorted(parts[row])
            joined = all(one[1] == two[0] for one, two in pairwise(runs))
            if runs and not (joined and runs[0][0] == entries.start and runs[-1][1] == entries.stop):
                raise NoReference("its work lists give a query row other entries than its request's")
            if not runs and len(entries):
                raise NoReference("its work lists leave out a query row")


def _decode(a: Arguments, device: Device) -> dict[str, Expected]:
    page_size, batch = a["page_size"], len(a["qo_indptr"]) - 1
    q = _typed(a["q"], a["q_dtype"])
    kv_format, pool = _cache(a["kv_buffer"], a["kv_format"], a["kv_dtype"], page_size)
    rows = _ranges(a["qo_indptr"], batch, len(q))
    entries = _ranges(a["kv_indptr"], batch, len(a["kv_indices"]))
    if a["work_indptr"] is not None:
        _refuse_partial_lists(a, rows, entries)
    lists = []
    for b, run in enumerate(entries):
        pages = a["kv_indices"][run.start : run.stop]
        if a["slots"]:
            inside = (pages >= 0) & (pages < len(pool) * page_size)
            lists.append(KvList(np.where(inside, pages, -1).astype(np.int64)))
        else:
            last = 1 if page_size == 1 else int(a["kv_last_page_lens"][b])
            lists.append(KvList.gather(pages, last, page_size, len(pool)))
    kv_dtype = pool.dtype.name if kv_format == "plain" else kv_format
    q_scale = _number(a["q_scale"]) if q.dtype.name in DTYPES_FP8 else 1.0
    kv_scale = _number(a["kv_scale"]) if kv_dtype in DTYPES_FP8 else 1.0
    sm_scale = a["sm_scale"] if a["sm_scale"] is not None else q.shape[-1] ** -0.5
    shard = None if a["g_kv_indptr"] is None else Shard(a["cp_world_size"], a["cp_rank"], a["cp_interleave"])
    totals = () if shard is None else tuple(np.maximum(np.diff(a["g_kv_indptr"][: batch + 1]), 0).tolist())
    splits = a["num_kv_splits_indptr"]
    options: dict[str, Any] = {"deterministic": a["deterministic"], "qk_rope_head_dim": q.shape[-1] - 512}
    if a["work_indptr"] is not None:
        options["num_workers"] = len(a["work_indptr"]) - 1
    p_dtype = _p_dtype(device, batch, a["max_seqlen_q"], q.shape[1], page_size, q.dtype.name, kv_dtype, **options)
    reference = mla_decode_reference(
        to_float64(q),
        lambda slots: read_rows(pool, kv_format, page_size, slots),
        rows,
        lists,
        score_scale=sm_scale * q_scale * kv_scale,
        value_scale=kv_scale,
        causal=a["causal"] and not (a["work_indptr"] is not None and a["max_seqlen_q"] == 1),
        max_seqlen_q=a["max_seqlen_q"],
        p_dtype=p_dtype,
        cut=lambda b, n: (0, 0) if splits is not None and splits[b + 1] <= splits[b] else (0, n),
        shard=shard,
        totals=totals,
    )
    if a["sink"] is not None:
        with np.errstate(over="ignore", invalid="ignore"):
            share = 1 / (1 + np.exp(a["sink"].astype(np.float64) - reference.lse))
        reference.o *= np.where(np.isneginf(reference.lse), 0.0, share)[..., None]
    expected = expected_outputs(SimpleNamespace(return_lse=a["return_lse"]), reference, p_dtype)  # type: ignore[arg-type]
    return {"o": expected["o"]} | ({"returned[1]": expected["lse"]} if a["return_lse"] else {})


def _sparse(a: Arguments, device: Device) -> dict[str, Expected]:
    if a["skip_reduce"]:
        raise NoReference("it leaves the merge to its caller (skip_reduce)")
    q = _typed(a["q"], a["q_dtype"])
    sources, pools, slots = [], [], []
    for names in (("kv_buffer", "kv_indptr", "kv_indices", "kv_scale"),
                  ("extra_kv", "extra_indptr", "extra_indices", "extra_kv_scale")):  # fmt: skip
        kv, indptr, indices, scale = (a[name] for name in names)
        if kv is None:
            continue
        kv_format, pool = _cache(kv, None, a["kv_dtype"], kv.shape[1] if kv.ndim > 2 else 1)
        page_size = pool.shape[1] if kv_format == "plain" else pool.shape[1] // RECORD_BYTES
        if scale is None and names[0] == "extra_kv":
            scale = a["kv_scale"]
        dtype = pool.dtype.name if kv_format == "plain" else "float8_e4m3fn"
        lists = [indices[run.start : run.stop] for run in _ranges(indptr, len(q), len(indices))]
        held = [np.where((one >= 0) & (one < len(pool) * page_size), one, -1).astype(np.int64) for one in lists]
        value = None if scale is None else _number(scale)
        sources.append(Source(tuple(map(len, lists)), dtype, kv_format, page_size, value))
        pools.append(pool)
        slots.append(held)
    scale = a["softmax_scale"] if a["softmax_scale"] is not None else q.shape[-1] ** -0.5
    o_dtype = a["out"].dtype.name if a["out"] is not None else "float16" if q.dtype.name == "float16" else "bfloat16"
    case = SimpleNamespace(
        form="fwd", sources=sources, softmax_scale=scale, heads=q.shape[1], q_dtype=q.dtype.name, o_dtype=o_dtype,
        rope=q.shape[-1] - 512, return_lse=a["return_lse"], given=True, sink=a["attn_sink"] is not None,
        counted_q_scale=_number(a["q_scale"]) if q.dtype.name in DTYPES_FP8 else 1.0,
    )  # fmt: skip
    case.p_dtype = lambda device: SparseCase.p_dtype(case, device)  # type: ignore[arg-type]
    inputs = SparseInputs(case, {}, q_values=to_float64(q), pools=pools, slots=slots, sink=a["attn_sink"])  # type: ignore[arg-type]
    expected = SparseCase.expected(case, inputs, device)  # type: ignore[arg-type]
    name = "returned[0]" if a["return_lse"] else "returned"
    out = expected["o"]
    if a["out"] is not None and a["out"].shape[-1] > 512:
        raise NoReference("`out` is wider than 512")
    return {name if a["out"] is None else "out": out} | ({"returned[1]": expected["lse"]} if a["return_lse"] else {})


def _prefill(a: Arguments, device: Device) -> dict[str, Expected]:
    batch = len(a["qo_indptr"]) - 1
    q, (k, v) = _typed(a["Q"], a["q_dtype"]), (_typed(a[name], a["kv_dtype"]) for name in "KV")
    named = a["kv_page_indices"]
    rows = _ranges(a["qo_indptr"], batch, len(q))
    runs = _ranges(a["kv_indptr"], batch, len(k) if named is None else len(named))
    lists = [np.array(run) if named is None else named[run.start : run.stop] for run in runs]
    slots = [np.where((one >= 0) & (one < len(k)), one, -1).astype(np.int64) for one in lists]
    q_scale = _number(a["q_scale"]) if q.dtype.name in DTYPES_FP8 else 1.0
    k_scale, v_scale = (_number(a[n]) if k.dtype.name in DTYPES_FP8 else 1.0 for n in ("k_scale", "v_scale"))
    scale = a["softmax_scale"] if a["softmax_scale"] is not None else q.shape[-1] ** -0.5
    case = SimpleNamespace(
        used_scales=(q_scale, k_scale, v_scale), num_rows=len(q), heads=q.shape[1], head_dim=q.shape[2],
        value_dim=v.shape[2], dims=f"{q.shape[2]}/{v.shape[2]}", served_q_len=a["max_seqlen_q"], causal=a["is_causal"],
        workers=0 if a["work_indptr"] is None else len(a["work_indptr"]) - 1, num_kv_heads=k.shape[1], sm_scale=scale,
        operand_dtypes=(q.dtype.name, k.dtype.name), o_dtype=a["output"].dtype.name, return_lse=a["return_lse"],
    )  # fmt: skip
    exact = {"q": to_float64(q), "k": to_float64(k), "v": to_float64(v)}
    inputs = PrefillInputs(case, {}, q_rows=rows, slots=slots, **exact)  # type: ignore[arg-type]
    expected = PrefillCase.expected(case, inputs, device)  # type: ignore[arg-type]
    return {"output": expected["output"]} | ({"returned[1]": expected["lse"]} if a["return_lse"] else {})


def _reduce(a: Arguments, device: Device) -> dict[str, Expected]:
    return expected_of_reduce(SimpleNamespace(o_dtype=a["final_output"].dtype.name), a)  # type: ignore[arg-type]


def _merged(
    o: np.ndarray, lse: np.ndarray, sink: np.ndarray | None, out_dtype: str, layout: str
) -> dict[str, Expected]:
    turned = lse.swapaxes(1, 2) if layout == "ht" else lse
    case = SimpleNamespace(given=True, out_dtype=out_dtype, return_lse=True, layout=layout)
    inputs = SimpleNamespace(o=o.astype(np.float64), lse=turned.astype(np.float64), sink=sink)
    return MergeStatesCase.expected(case, inputs, None)  # type: ignore[arg-type]


def _merge_states(a: Arguments, device: Device) -> dict[str, Expected]:
    o, lse = np.stack(list(a["o"])), np.stack(list(a["lse"]))
    dtype = (a["out"] if a["out"] is not None else o).dtype.name
    expected = _merged(o, lse, a["sink"], dtype, a["lse_layout"])
    names = {name: name if a[name] is not None else f"returned[{i}]" for i, name in enumerate(("out", "lse_out"))}
    return {names[name]: expected[name] for name in names}


def _merge_attn_states(a: Arguments, device: Device) -> dict[str, Expected]:
    o, lse = (np.stack([a[f"{part}_{name}"] for part in ("prefix", "suffix")]) for name in ("output", "lse"))
    expected = _merged(o, lse, a["sink"], a["output"].dtype.name, "ht")
    return {"output": expected["out"]} | ({} if a["output_lse"] is None else {"output_lse": expected["lse_out"]})


def _top_k(a: Arguments, device: Device) -> dict[str, Expected]:
    rows, next_n = max(a["numRows"], 0), a.get("next_n")
    case = TopKCase(rows=rows, columns=a["logits"].shape[1], k=a["k"], next_n=next_n)
    bounds = ("seqLens",) if next_n is not None else ("rowStarts", "rowEnds")
    cut = a | {"logits": a["logits"][:rows]}
    cut |= {name: a[name][:rows] for name in bounds if next_n is None}
    written = tuple(name for name in ("indices", "values") if a.get(name) is not None)
    inputs = TopKInputs(case, _blocks(cut, "logits", *bounds, *written), {}, written)
    inputs.find_windows()
    return case.expected(inputs, device)


def _paged_logits(a: Arguments, device: Device) -> dict[str, Expected]:
    q = a["q_fp8"]
    q_dtype = a["q_dtype"] or q.dtype.name
    kv_dtype = a["kv_dtype"] or (a["kv_cache"].dtype.name if a["kv_cache"].dtype != np.uint8 else q_dtype)
    case = PagedLogitsCase(
        next_n=q.shape[1], heads=q.shape[2], block=a["KVBlockSize"], preshuffle=bool(a["Preshuffle"]), q_dtype=q_dtype,
        kv_dtype=kv_dtype, max_model_len=a["max_model_len"], width=a["out_logits"].shape[1], clean=a["clean_logits"],
    )  # fmt: skip
    names = ("q_fp8", "kv_cache", "weights", "out_logits", "context_lens", "kv_indices")
    inputs = PagedInputs(case, _blocks(a, *names), {}, ("out_logits",))
    inputs.num_rows = q.shape[0] * q.shape[1]
    return case.expected(inputs, device)


def _logits(a: Arguments, device: Device) -> dict[str, Expected]:
    q, kv, out = a["Q"], a["KV"], a["logits"]
    keys = len(kv)
    case = LogitsCase(
        rows=len(q), keys=keys, heads=q.shape[1], q_dtype=a["q_dtype"] or q.dtype.name,
        kv_dtype=a["kv_dtype"] or kv.dtype.name, clean=a["clean_logits"], out=True,
        out_gap=0 if out is None else out.shape[1] - keys,
    )  # fmt: skip
    inputs = ContiguousInputs(case, _blocks(a, "Q", "KV", "kv_scales", "weights", "cu_starts", "cu_ends"), {}, ())
    (expected,) = case.expected(inputs, device).values()
    return {"returned" if out is None else "logits": expected}


def _concat(a: Arguments, device: Device) -> dict[str, Expected]:
    cache, latent, rope = a["kv_cache"], a["kv_c"].shape[-1], a["k_pe"].shape[-1]
    kind = a["kv_cache_dtype"]
    seg = cache.ndim == 2 and kind not in RECORDS
    if kind not in ("auto", *RECORDS):
        kind = a.get("kv_dtype") or (cache.dtype.name if cache.dtype != np.uint8 else "float8_e4m3fn")
    width = RECORD_BYTES if kind in RECORDS else latent + rope
    size = cache.shape[1] // width if cache.ndim == 2 else cache.shape[1]
    case = CacheWriteCase(
        form="concat_seg" if seg else "concat", tokens=len(a["slot_mapping"]), latent=latent, rope=rope,
        dtype=a["kv_c"].dtype.name, cache=kind, pages=len(cache), page_size=size,
        scale=None if a["scale"] is None else _number(a["scale"]),
    )  # fmt: skip
    inputs = CacheWriteInputs(case, _blocks(a, "kv_c", "k_pe", "kv_cache", "slot_mapping"), {}, ("kv_cache",))
    out = case.expected(inputs, device)
    return {"kv_cache": out["kv_cache"]}


def _indices(form: str, rows: int, columns: int, a: Arguments, written: str, **fields: int) -> dict[str, Expected]:
    """Of an index conversion, whose arguments are its blocks."""
    given = a[written] is not None
    case = IndexConversionCase(form=form, lens=(1,) * rows, columns=columns, given=given, **fields)  # type: ignore[arg-type]
    blocks = _blocks(a, *(name for name, value in a.items() if isinstance(value, np.ndarray)))
    inputs = IndexInputs(case, blocks, {}, (written,) if given else ())
    (expected,) = case.expected(inputs, CPU).values()
    return {written if given else "returned": expected}


def _gather_indices(a: Arguments, device: Device) -> dict[str, Expected]:
    rows = min(len(a["sparse_kv_indptr"]) - 1, len(a["token_to_seq_idxs"]), len(a["topk_indices"]))
    return _indices("gather", rows, a["NUM_TOPK_TOKENS"], a, "out")


def _valid_indices(a: Arguments, device: Device) -> dict[str, Expected]:
    return _indices("valid", a["bs"], a["page_table"].shape[1], a, "kv_indices")


_LISTS = ("qo_indptr", "kv_indptr", "page_kv_indptr", "kv_indices", "token_indices")
_TABLE = ("req_id", "block_table", "token_indices", "cu_seqlens", "paged_kv_indices")


def _convert_indices(a: Arguments, device: Device) -> dict[str, Expected]:
    """Of the three signatures the one whose tensors were given."""
    named = dict(a.get("kwargs", {}))
    placed = [*a.get("args", ()), *(named.pop(name) for name in sorted(named) if name.startswith("argument "))]
    if placed:
        tensors = [value for value in placed if isinstance(value, np.ndarray)]
        if len(tensors) < len(placed):
            raise NoReference("its numbers were given by position")
        in_lists = len(tensors) > 1 and tensors[1].ndim == 1
        named |= dict(zip(_LISTS if in_lists else _TABLE, tensors, strict=False))
    columns = named.get("NUM_TOPK_TOKENS", 2048)
    if "page_kv_indptr" in named:
        rows = min(*(len(named[name]) - 1 for name in _LISTS[:3]), len(named["token_indices"]))
        return _indices("lists", rows, columns, {"out": None} | named, "out")
    page = named.get("BLOCK_SIZE", 64)
    gap = (named.get("BLOCK_STRIDE_ROWS") or page) - page
    rows = min(len(named["req_id"]), len(named["token_indices"]))
    if "cu_seqlens" not in named:
        rows = min(rows, len(named["out"])) if named.get("out") is not None else rows
        return _indices("padded", rows, columns, {"out": None} | named, "out", page_size=page, page_gap=gap)
    rows = min(rows, len(named["cu_seqlens"]) - 1)
    return _indices("ragged", rows, columns, named, "paged_kv_indices", page_size=page, page_gap=gap)


def _quantised_keys(a: Arguments, device: Device) -> dict[str, Expected]:
    k, cache = a["k"], a["kv_cache"]
    kind = a["kv_dtype"] or (cache.dtype.name if cache.dtype.itemsize == 1 and cache.dtype.kind not in "iu" else None)
    if kind is None:
        raise NoReference("nothing says which fp8 its cache holds")
    case = IndexerWriteCase(
        tokens=min(len(k), len(a["slot_mapping"])), dim=k.shape[-1], group=a["quant_block_size"], cache=kind,
        scale_fmt=a["scale_fmt"], pages=len(cache), page_size=cache.shape[1], preshuffle=bool(a["preshuffle"]),
    )  # fmt: skip
    kept = {"k": k[: case.tokens], "kv_cache": cache, "slot_mapping": a["slot_mapping"]}
    return case.expected(Inputs(case, _blocks(kept, *kept), {}, ("kv_cache",)), device)


def _gathered_keys(a: Arguments, device: Device) -> dict[str, Expected]:
    keys, scales, cache = a["dst_k"], a["dst_scale"], a["kv_cache"]
    dim, groups = keys.shape[-1], scales.shape[-1] * scales.dtype.itemsize // 4
    case = IndexerGatherCase(
        lens=(1,) * (len(a["cu_seq_lens"]) - 1), dim=dim, group=dim // groups, pages=len(cache),
        page_size=cache.shape[1], preshuffle=bool(a["preshuffle"]),
    )  # fmt: skip
    names = ("kv_cache", "dst_k", "dst_scale", "block_table", "cu_seq_lens")
    return case.expected(Inputs(case, _blocks(a, *names), {}, names[1:3]), device)


#: By op. What is missing is compared with what another device gives.
REFERENCES: dict[str, Callable[[Arguments, Device], dict[str, Expected]]] = {
    "mla_decode_fwd": _decode,
    "sparse_mla_fwd": _sparse,
    "mla_prefill_ps_fwd": _prefill,
    "mla_reduce_v1": _reduce,
    "merge_states": _merge_states,
    "merge_attn_states": _merge_attn_states,
    "top_k_per_row_prefill": _top_k,
    "top_k_per_row_decode": _top_k,
    "deepgemm_fp8_paged_mqa_logits": _paged_logits,
    "fp8_mqa_logits": _logits,
    "concat_and_cache_mla": _concat,
    "concat_and_cache_mla_seg": _concat,
    "indexer_k_quant_and_cache": _quantised_keys,
    "cp_gather_indexer_k_quant_cache": _gathered_keys,
    "gather_kv_indices_sparse": _gather_indices,
    "get_valid_kv_indices": _valid_indices,
    "convert_req_index_to_global_index": _convert_indices,
}


def expected_of(op: str, arguments: Arguments, device: Device) -> dict[str, Expected]:
    """By output. Raises NoReference."""
    if op not in REFERENCES:
        raise NoReference(f"{op} has no fp64 reference; these have: {', '.join(sorted(REFERENCES))}")
    return REFERENCES[op](arguments, device)


def same_bits(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Element by element, of arrays of one shape and dtype."""
    one, other = (np.ascontiguousarray(array).view(f"u{array.itemsize}").reshape(array.shape) for array in (a, b))
    return one == other


def _of_cosines(have: np.ndarray, need: np.ndarray, written: np.ndarray, want: Expected) -> float:
    """The larger of the two cosine differences, as a multiple of its bound."""
    if want.tolerance is None or not have.ndim or not have.size:
        return 0.0
    counts = np.isfinite(need) & np.isfinite(have) & written
    have, need = np.where(counts, have, 0.0), np.where(counts, need, 0.0)
    whole, rows = float(cosine_difference(have, need)), cosine_difference(have, need, axis=-1).max()
    return max(whole / want.tolerance.cosine, float(rows) / want.tolerance.row_cosine)


def largest_error(got: np.ndarray, before: np.ndarray | None, want: Expected) -> dict[str, Any]:
    """How far an output is from what it must hold: the largest error, as a number and as a multiple of the element's
    tolerance (the cosines count as well), how many elements are outside, and the first of them. before: what an
    argument held, which elements that the call does not write must still hold, bit for bit.

    NaN and infinities must stand at their places; an element without tolerance that differs is infinitely far outside.
    """
    if got.shape != want.values.shape:
        return {"error": math.inf, "of tolerance": math.inf, "outside": got.size, "elements": got.size,
                "first": f"shape {list(got.shape)}, expected {list(want.values.shape)}"}  # fmt: skip
    spread = lambda mask: np.broadcast_to(  # noqa: E731
        np.asarray(mask).reshape(np.shape(mask) + (1,) * (got.ndim - np.ndim(mask))), got.shape
    )
    written = spread(True if want.written is None else want.written)
    with np.errstate(all="ignore"):
        have, need = (values.astype(np.float64) for values in (got, want.values))
        exact = want.tolerance is None and want.values.dtype == got.dtype
        same = same_bits(got, want.values) if exact else have == need
        same |= np.isnan(have) & np.isnan(need)
        bound = np.zeros(got.shape)
        if want.tolerance is not None:
            bound = want.tolerance.absolute + want.tolerance.relative * np.abs(need) + want.allowance
            bound = np.where(np.isfinite(need), bound, 0.0)
        if want.exact is not None:
            bound = np.where(spread(want.exact), 0.0, bound)
        error = np.where(same, 0.0, np.abs(have - need))
        error = np.where(np.isnan(error) | (~same & (error == 0)), np.inf, error)
        ratio = np.where(error == 0, 0.0, np.where(bound > 0, error / bound, np.inf))
        changed = np.zeros(got.shape, bool) if before is None else ~written & ~same_bits(got, before)
        error, ratio = (np.where(changed, np.inf, np.where(written, values, 0.0)) for values in (error, ratio))
    outside = ratio > 1
    first = ""
    if outside.any():
        at = tuple(int(i) for i in np.unravel_index(int(outside.argmax()), got.shape))
        first = f"[{', '.join(map(str, at))}]: got {float(have[at]):.9g}"
        first += f", expected {float(need[at]):.9g} +- {float(bound[at]):.3g}" if written[at] else ", must be kept"
    worst = int(ratio.argmax()) if got.size else 0
    largest = max(float(ratio.max()) if got.size else 0.0, _of_cosines(have, need, written, want))
    if largest > 1 and not first:
        first = "the cosine of the whole, or of a row"
    return {
        "error": float(error.reshape(-1)[worst]) if got.size else 0.0,
        "of tolerance": largest,
        "outside": int(outside.sum()),
        "elements": int(written.sum()),
        "first": first,
    }
