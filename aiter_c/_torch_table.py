"""Which functions are ops of torch.ops.aiter_c, one row each, without torch: aiter_c.torch_ops makes the ops of it.

torch.compile finds them by the attribute that `announce` puts on the functions: where it meets one it traces the op in
its place, and imports aiter_c.torch_ops for that. Nothing is asked in an ordinary call.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # of typing, which takes longer to import than all of this package
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any


class GraphOp:
    """One op. Its schema is the signature of the function, without `stream` and `plan`.

    home, function: where the function is, in aiter_c. name: of the op; "": the function's.
    rows: the op of the C core whose rows say which parameters are written.
    writes: those that its rows do not know by the same name.
    result: what the function returns, by name: a parameter, or else something fresh; None: None in a graph. A name that
        is both is fresh where no argument was given.
    instead: what some calls of the function return in its place, all of it fresh.
    """

    def __init__(
        self, home: str, function: str, rows: str = "", result: str | tuple[str | None, ...] | None = None, *,
        writes: str = "", name: str = "", instead: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self.home, self.function, self.rows, self.result = home, function, rows, result
        self.writes, self.name, self.instead = frozenset(writes.split()), name or function, instead

    def direct(self) -> Callable[..., Any]:
        """The function."""
        return getattr(importlib.import_module(f"aiter_c.{self.home}"), self.function)


_SEGMENTS = ("segm_output", "segm_max", "segm_expsum")
_PREFILL_QKV = ("q_out", "k_out", "v_out")
_CAT = ("q_out", "decode_q_pe_out", "k_pe_out", "q_nope_zeros_out")
GRAPH_OPS = (
    GraphOp("mla", "mla_decode_fwd", "mla_decode_stage1", (None, "lse")),
    GraphOp("mla", "mla_reduce_v1", "mla_reduce_v1"),
    GraphOp("mla_variants", "mla_gluon", "mla_decode_variant", ("o", "lse")),
    GraphOp("mla_variants", "mla_decode_segmented", result="out", writes="out", instead=_SEGMENTS),
    GraphOp("sparse", "sparse_mla_fwd", result=("out", "lse"), writes="out", instead=("acc", "m", "l")),
    GraphOp("sparse", "unified_attention_sparse_mla", writes="out"),
    GraphOp("metadata", "get_mla_metadata_v1", "mla_metadata"),
    GraphOp("metadata", "decode_update_mla_metadata_v1", "mla_metadata"),
    GraphOp("metadata", "get_ps_metadata_v1", "ps_metadata"),
    GraphOp("prefill", "mla_prefill_fwd", "mla_decode_stage1", ("o", "attn_lse")),
    GraphOp("prefill", "mla_prefill_ps_fwd", "mla_prefill_stage1", ("output", "lse")),
    GraphOp("prefill", "mla_prefill_ps_asm_fwd", "mla_prefill_ps_asm_fwd"),
    GraphOp("prefill", "mla_prefill_reduce", writes="output final_lse"),
    GraphOp("prefill", "mla_prefill_reduce_triton", writes="output"),
    GraphOp("prefill", "gather_kv_b_proj", writes="k_prefix v_prefix"),
    GraphOp("prefill", "fused_mla_prefill_qkv_fp8", writes="q_out k_out v_out", result=_PREFILL_QKV),
    GraphOp("context_parallel", "merge_states", "merge_states", ("out", "lse_out")),
    GraphOp("context_parallel", "merge_attn_states", "merge_attn_states"),
    GraphOp("indexer", "deepgemm_fp8_paged_mqa_logits", "deepgemm_fp8_paged_mqa_logits"),
    GraphOp("indexer", "fp8_mqa_logits", "fp8_mqa_logits", "logits"),
    GraphOp("dsa", "top_k_per_row_prefill", "top_k_per_row_prefill"),
    GraphOp("dsa", "top_k_per_row_decode", "top_k_per_row_decode"),
    GraphOp("dsa", "_convert_lists", "convert_index_lists", "out", name="convert_index_lists"),
    GraphOp("dsa", "_convert_ragged", "convert_index_ragged", name="convert_index_ragged"),
    GraphOp("dsa", "_convert_padded", "convert_index_padded", "out", name="convert_index_padded"),
    GraphOp("dsa", "convert_req_index_to_global_index_dsa_prefill", "convert_index_prefill", "out"),
    GraphOp("dsa", "gather_kv_indices_sparse", "gather_kv_indices_sparse", "out"),
    GraphOp("dsa", "get_valid_kv_indices", "get_valid_kv_indices"),
    GraphOp("cache", "concat_and_cache_mla", "concat_and_cache_mla"),
    GraphOp("cache", "concat_and_cache_mla_seg", "concat_and_cache_mla_seg"),
    GraphOp("cache", "fused_qk_rope_concat_and_cache_mla", "fused_qk_rope_concat_and_cache_mla"),
    GraphOp("cache", "fused_qk_rope_concat_and_cache_mla_seg", "fused_qk_rope_concat_and_cache_mla_seg"),
    GraphOp("cache", "fused_qk_rope_cat_and_cache_mla", "fused_qk_rope_cat_and_cache_mla", _CAT),
    GraphOp("cache", "indexer_k_quant_and_cache", "indexer_k_quant_and_cache"),
    GraphOp("cache", "indexer_qk_rope_quant_and_cache", "indexer_qk_rope_quant_and_cache"),
    GraphOp("cache", "cp_gather_indexer_k_quant_cache", "cp_gather_indexer_k_quant_cache"),
)


def traced(name: str) -> Callable[..., Any]:
    """What torch.compile is to trace in place of the function of the op `name`."""

    def in_graph(*args: Any, **kwargs: Any) -> Any:
        from aiter_c import torch_ops

        return torch_ops.CALLS[name](*args, **kwargs)

    return in_graph


def announce() -> None:
    """Lets torch.compile find the ops of the Python functions; those of the C core have no attributes, and are found
    once aiter_c.torch_ops is imported."""
    for op, function in of_python():
        function._torchdynamo_inline = traced(op.name)  # type: ignore[attr-defined]


def of_python() -> Iterator[tuple[GraphOp, Callable[..., Any]]]:
    """The ops whose functions are Python."""
    for op in GRAPH_OPS:
        function = op.direct()
        if hasattr(function, "__code__"):
            yield op, function
