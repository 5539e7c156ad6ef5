"""The bench of every op, one row each: a usual shape, without peers. The benches of the families have more shapes, and
what the ops are compared with.

A result is checked as the tests do it, all of it against the reference, in a call of its own; what no reference knows
is checked by what it is another form of. Bytes are those of all tensors, each once, and the roofline is theirs alone.
What only computes sizes runs on the host wherever the tensors are, and moves nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import aiter_c
from aiter_c.cli.backend import Cpu, Gpu
from aiter_c.testing import CPU, Case, Device, MlaCase, check_bits, dtype_of, run_case
from aiter_c.testing.ops.cache_write import CacheWriteCase
from aiter_c.testing.ops.index_conversion import IndexConversionCase
from aiter_c.testing.ops.indexer_cache import IndexerGatherCase, IndexerRopeCase, IndexerWriteCase
from aiter_c.testing.ops.merge_states import MergeStatesCase
from aiter_c.testing.ops.mla_metadata import MlaMetadataCase
from aiter_c.testing.ops.mla_prefill import LISTS, PrefillCase
from aiter_c.testing.ops.mla_reduce import MlaReduceCase
from aiter_c.testing.ops.mla_variants import GluonCase, SegmentedCase
from aiter_c.testing.ops.mqa_logits import LogitsCase, PagedLogitsCase
from aiter_c.testing.ops.sparse_mla import SparseCase
from aiter_c.testing.ops.top_k import TopKCase

COLUMNS = {"op": "40s", "MB": "8.2f"}
#: Names that are kept and refuse every call.
UNSERVED = frozenset(
    (
        *("fused_fp8_bmm_rope_cat_and_cache_mla", "fused_qk_norm_rope_group_quant", "hk_mla_v32_decode_fwd"),
        *("hk_mla_v40_decode_fwd", "mla_decode_fwd_ds32", "mla_decode_fwd_v4_nm", "mla_v40_decode_fwd"),
    )
)
#: What is about the process, or makes an array.
NO_OPS = frozenset(["empty", "from_host", "get_num_threads", "set_num_threads"])

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """An op on a shape. case: of its arguments and its reference. Of another op: `arguments` makes this one's of them,
    and `returned` the other's result of this one's. Without a case `arguments` gets nothing, and `check` what a call of
    them on the CPU wrote and returned."""

    op: str
    case: Case | None = None
    arguments: Callable[..., Arguments] | None = None
    returned: Callable[[Any, Arguments], Any] = lambda result, arguments: result
    check: Callable[[Arguments, Any], None] | None = None
    is_host: bool = False

    def made(self) -> Arguments:
        """The arguments, as NumPy has them."""
        if self.case is None:
            return self.arguments()  # type: ignore[misc]
        inputs = self.case.inputs()
        inputs.freeze()
        return self._own(inputs.arguments())

    def _own(self, arguments: Arguments) -> Arguments:
        if self.arguments is not None:
            return self.arguments(arguments)
        if self.op == self.case.op:  # type: ignore[union-attr]
            return arguments
        known = inspect.signature(getattr(aiter_c, self.op)).parameters
        catches_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
        return {name: value for name, value in arguments.items() if name in known or catches_all}

    def verify(self, device: Device) -> None:
        """Raises AssertionError."""
        if self.case is None:
            arguments = self.made()
            result = getattr(aiter_c, self.op)(**arguments)
            if self.check is not None:
                self.check(arguments, result)
        elif self.op == self.case.op:
            run_case(self.case, device=device)
        else:

            def call(**arguments: Any) -> Any:
                arguments.pop("exact", None)
                own = self._own(arguments)
                return self.returned(device.call(self.op, **own), own)

            run_case(self.case, call, device=device)


def _of_reduce(a: Arguments) -> Arguments:
    names = ("partial_output", "partial_lse", "reduce_indptr", "reduce_final_map", "reduce_partial_map")
    return {name: a[name] for name in names} | {"output": a["final_output"], "tile_q": a["max_seqlen_q"]}


def _absorbed(a: Arguments) -> Arguments:
    left_out = ("num_kv_splits", "page_size", "return_lse", "deterministic")
    return {name: value for name, value in a.items() if name not in left_out}


def _lse_by_rows(result: Any, _: Arguments) -> Any:
    o, lse = result
    return o, lse.reshape(o.shape[:2])


def _asm(a: Arguments) -> Arguments:
    """With the buffers of the partials, which mla_prefill_ps_fwd takes itself."""
    q, workers, entries = a["Q"], len(a["work_indptr"]) - 1, len(a["reduce_partial_map"])
    batch, heads = len(a["qo_indptr"]) - 1, a["K"].shape[1]
    rows = aiter_c.mla_prefill_partial_rows(len(q), batch, workers, heads, entries)
    names = ("Q", "K", "V", "qo_indptr", "kv_indptr", "kv_page_indices", "work_indptr", "work_info_set", "output")
    own = {name: a[name] for name in (*names, "max_seqlen_q", "is_causal")}
    own |= {"splitData": np.zeros((rows, q.shape[1], a["V"].shape[2]), np.float32), "softmax_scale": q.shape[2] ** -0.5}
    return own | {"splitLse": np.zeros((rows, q.shape[1]), np.float32)}


def _prefill_by_two() -> Arguments:
    inputs = _LISTED.inputs()
    inputs.freeze()
    return _asm(inputs.arguments())


def _check_prefill_by_two(a: Arguments, _: Any) -> None:
    """Merged, the bits of the one call."""
    whole = _LISTED.inputs().arguments()
    lists = [whole[name] for name in LISTS[2:]]
    aiter_c.mla_prefill_reduce(a["splitData"], a["splitLse"], *lists, a["output"])
    aiter_c.mla_prefill_ps_fwd(**whole)
    check_bits("output", a["output"], whole["output"], _LISTED.repro)


def _lists_of_prefill() -> Arguments:
    lens = np.array([1000, 300, 60, 2000], np.int32)
    info = aiter_c.get_ps_metadata_info_v1(len(lens), 2, int(lens.max()), num_workers=8)
    indptr = np.concatenate([[0], np.cumsum(lens)]).astype(np.int32)
    names = ("work_metadata_ptrs", "work_indptr", "work_info", *LISTS[2:])
    sizes = zip(names, info, strict=True)
    lists = {n: np.zeros(size, np.int64 if n == names[0] else np.int32) for n, (size, _) in sizes}
    return {
        "seqlens_qo_indptr": indptr, "pages_kv_indptr": indptr, "context_lens": lens, "gqa_ratio": 1, "num_heads_k": 2,
        **lists, "block_size": 1,
    }  # fmt: skip


def _check_lists_of_prefill(a: Arguments, _: Any) -> None:
    """Prefill by the op's lists is the reference's."""
    run_case(_LISTED)
    if not np.diff(a["work_indptr"]).min() >= 0 < a["work_indptr"][-1]:
        raise AssertionError(f"work_indptr: {a['work_indptr']}")


def _projection() -> Arguments:
    rng, bf16 = np.random.default_rng(0), dtype_of("bfloat16")
    rows, heads = 256, 4
    indptr = np.array([0, rows], np.int32)
    return {
        "k_buffer": rng.standard_normal((512, 1, 576), np.float32).astype(bf16), "k_scale": None,
        "kv_indptr": indptr, "kv_indices": rng.permutation(512)[:rows].astype(np.int32),
        "kv_prefix_sum_context_lens": indptr,
        "kv_proj_weight": rng.standard_normal((heads * 256, 512), np.float32).astype(bf16), "kv_proj_scale": None,
        "k_prefix": np.zeros((rows, heads, 192), bf16), "v_prefix": np.zeros((rows, heads, 128), bf16),
    }  # fmt: skip


def _check_projection(a: Arguments, _: Any) -> None:
    """In fp64; each element is rounded to bf16 once."""
    context = a["k_buffer"][a["kv_indices"], 0].astype(np.float64)
    projected = (context[:, :512] @ a["kv_proj_weight"].astype(np.float64).T).reshape(len(context), -1, 256)
    k = np.concatenate([projected[..., :128], np.repeat(context[:, None, 512:], projected.shape[1], 1)], -1)
    for name, want in (("k_prefix", k), ("v_prefix", projected[..., 128:])):
        error = np.abs(a[name].astype(np.float64) - want) - 2.0**-8 * np.abs(want)
        if not error.max() < 1e-4:
            raise AssertionError(f"gather_kv_b_proj: {name} is {error.max():.3g} away from fp64")


def _fp8_operands() -> Arguments:
    rng = np.random.default_rng(0)
    made = lambda *shape: rng.standard_normal(shape, np.float32).astype(dtype_of("bfloat16"))  # noqa: E731
    q, k_nope, v, k_pe = made(256, 4, 192), made(256, 4, 128), made(256, 4, 128), made(256, 1, 64)
    return {"q": q, "k_nope": k_nope, "v": v, "k_pe": k_pe, "num_heads_out": 4, "out_dtype": "float8_e4m3fn"}


def _check_fp8_operands(a: Arguments, result: Any) -> None:
    k = np.concatenate([a["k_nope"], np.repeat(a["k_pe"], 4, 1)], -1)
    for got, want in zip(result, (a["q"], k, a["v"]), strict=True):
        check_bits("fused_mla_prefill_qkv_fp8", got, want.astype(got.dtype), "")


def _host(op: str, *positional: Any, **named: Any) -> Row:
    """What computes sizes."""
    bound = inspect.signature(getattr(aiter_c, op)).bind(*positional, **named)
    return Row(op, arguments=lambda: dict(bound.arguments), is_host=True)


_LISTED = PrefillCase(heads=2, q_lens=(300, 40), kv_lens=(700, 190), workers=4)


def _rows() -> list[Row]:
    lens = tuple(512 - 24 * i for i in range(16))
    one = {"q_lens": (1,) * 16, "kv_lens": lens}
    decode, metadata = MlaCase(heads=16, page_size=64, **one), MlaMetadataCase(**one, heads=16, workers=64)
    lists = {"lens": (2048,) * 16, "columns": 1024}
    gathered = IndexConversionCase(**lists, form="gather")
    ragged = IndexConversionCase(**lists, form="ragged", page_size=64)
    logits = {"rows": 16, "keys": 1024}
    merged = {"groups": ((1, 8),) * 32}
    pages = {"page_size": 16, "pages": 64}
    tokens, selected = {"tokens": 512, **pages}, {"lens": (512,) * 4, "page_size": 64}
    fp8 = "float8_e4m3fn"
    return [
        Row("mla_decode_fwd", decode),
        Row("mla_decode_segmented", SegmentedCase(heads=16, **one, skip_reduce=False)),
        Row("mla_gluon", gluon := GluonCase(heads=16, kv_lens=lens, rope=0, table=False)),
        Row("mla_decode_gluon", gluon),
        Row("mla_reduce_v1", MlaReduceCase(**merged)),
        Row("get_mla_metadata_v1", metadata),
        Row("decode_update_mla_metadata_v1", metadata),
        Row("mla_prefill_ps_fwd", PrefillCase(q_lens=(300, 40), kv_lens=(700, 190))),
        Row("mla_prefill_ps_asm_fwd", arguments=_prefill_by_two, check=_check_prefill_by_two),
        Row("mla_prefill_fwd", MlaCase(q_lens=(40, 3), kv_lens=(100, 300)), _absorbed, _lse_by_rows),
        Row("mla_prefill_reduce", no_lse := MlaReduceCase(**merged, return_lse=False), _of_reduce),
        Row("mla_prefill_reduce_triton", no_lse, _of_reduce),
        Row("get_ps_metadata_v1", arguments=_lists_of_prefill, check=_check_lists_of_prefill),
        Row("gather_kv_b_proj", arguments=_projection, check=_check_projection),
        Row("fused_mla_prefill_qkv_fp8", arguments=_fp8_operands, check=_check_fp8_operands),
        Row("merge_states", MergeStatesCase(rows=64, given=True)),
        Row("merge_attn_states", MergeStatesCase(rows=64, form="two", layout="ht", given=True)),
        Row("deepgemm_fp8_paged_mqa_logits", PagedLogitsCase(lens=(2048, 900))),
        Row("fp8_mqa_logits", LogitsCase(**logits)),
        Row("flydsl_fp8_mqa_logits", LogitsCase(**logits, out=False)),
        Row("top_k_per_row_prefill", TopKCase(rows=16, columns=16384, k=2048)),
        Row("top_k_per_row_decode", TopKCase(rows=16, columns=16384, k=2048, next_n=1)),
        Row("sparse_mla_fwd", SparseCase(**selected, given=True)),
        Row("unified_attention_sparse_mla", SparseCase(**selected, form="table")),
        Row("convert_req_index_to_global_index", ragged),
        Row("triton_convert_req_index_to_global_index", ragged),
        Row("convert_req_index_to_global_index_dsa_prefill", prefill := IndexConversionCase(**lists, form="prefill")),
        Row("triton_convert_req_index_to_global_index_dsa_prefill", prefill),
        Row("gather_kv_indices_sparse", gathered),
        Row("triton_gather_kv_indices_sparse", gathered),
        Row("get_valid_kv_indices", IndexConversionCase(**lists, form="valid")),
        Row("concat_and_cache_mla", CacheWriteCase(cache="fp8_ds_mla", **tokens)),
        Row("concat_and_cache_mla_seg", CacheWriteCase(form="concat_seg", cache=fp8, **tokens)),
        Row("fused_qk_rope_concat_and_cache_mla", CacheWriteCase(form="fused", cache=fp8, **tokens)),
        Row("fused_qk_rope_concat_and_cache_mla_seg", CacheWriteCase(form="fused_seg", **tokens)),
        Row("fused_qk_rope_cat_and_cache_mla", CacheWriteCase(form="cat", given=True, **tokens)),
        Row("indexer_k_quant_and_cache", IndexerWriteCase(tokens=512, **pages)),
        Row("indexer_qk_rope_quant_and_cache", IndexerRopeCase(tokens=64, **pages)),
        Row("cp_gather_indexer_k_quant_cache", IndexerGatherCase(**pages)),
        _host("mla_plan", 16, 16, 1, 64, "bfloat16", "bfloat16"),
        _host("mla_prefill_partial_rows", 340, 2, 4, 2, 64),
        _host("get_meta_param", None, 16, 20000, 16, 1, "bfloat16"),
        _host("get_mla_decode_fwd_max_splits", 16, 1, "bfloat16", "bfloat16"),
        _host("get_mla_metadata_info_v1", 16, 1, 16, "bfloat16", "bfloat16", False),
        _host("get_ps_metadata_info_v1", 4, 2, 2000, num_workers=8),
        _host("cp_local_len", np.arange(4096), 4, 1, 16),
        _host("cp_local_to_global", np.arange(4096), 4, 1, 16),
        _host("cp_owner", np.arange(4096), 4, 16),
    ]


def cases(kind: str, quick: bool) -> list[Row]:
    """All of them: it is one shape each."""
    return _rows()


def growth(kind: str) -> list[Row]:
    """Nothing grows."""
    return []


class Problem:
    """The arguments of a row in several copies; the calls return what the op does."""

    tolerance = 0.0
    flop, fp8_product = 0, False

    def __init__(self, case: Row, backend: Cpu | Gpu) -> None:
        self.row, self.backend, self.kernel = case, backend, "host" if case.is_host else "-"
        arguments = case.made()
        sizes = [array.nbytes for array in _tensors(arguments)]
        self.num_bytes = 0 if case.is_host else sum(sizes)
        self.facts = {"op": case.op, "MB": self.num_bytes / 1e6}
        copies = 1 if case.is_host else min(8, backend.copies(max(self.num_bytes, 1)))
        function, put = getattr(aiter_c, case.op), (lambda value: value) if case.is_host else backend.put
        sets = [_placed(arguments, put)]
        sets += [_placed(arguments, lambda array: put(array.copy(order="K"))) for _ in range(copies - 1)]
        if backend.kind == "gpu" and case.op == "get_meta_param":
            sets = [own | {"device": backend.device} for own in sets]
        self.calls = [(lambda own=own: function(**own)) for own in sets]

    def error(self, output: Any) -> float:
        """0, or AssertionError: a call of its own is checked, on the same device."""
        place = self.backend.place
        self.row.verify(CPU if place == "cpu" else Device(place.split(":")[0], place, copies=True))
        return 0.0


def _tensors(value: Any) -> list[np.ndarray]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [array for item in value for array in _tensors(item)]
    return [value] if isinstance(value, np.ndarray) else []


def _placed(value: Any, put: Callable[[np.ndarray], Any]) -> Any:
    if isinstance(value, dict):
        return {name: _placed(item, put) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_placed(item, put) for item in value)
    return put(value) if isinstance(value, np.ndarray) and value.ndim else value


def peers(backend: Cpu | Gpu) -> dict[str, Any]:
    """None: see the benches of the families."""
    return {}


def covered() -> set[str]:
    """The ops that have a row."""
    return {row.op for row in _rows()}


def public() -> set[str]:
    """Those that need one: everything public that is served."""
    names = {name for name in aiter_c.__all__ if not isinstance(getattr(aiter_c, name), type)}
    return names - NO_OPS - UNSERVED
