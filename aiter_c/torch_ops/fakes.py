"""What the ops return, as tensors without memory: shapes and dtypes from those of the arguments."""

from __future__ import annotations

from typing import Any

import torch


def nothing(like: torch.Tensor) -> torch.Tensor:
    """In place of a result that the caller gave a tensor for, or did not ask for."""
    return like.new_empty((0,))


def _float32(like: torch.Tensor, *shape: int | torch.SymInt) -> torch.Tensor:
    return like.new_empty(shape, dtype=torch.float32)


def mla_decode_fwd(q: torch.Tensor, return_lse: bool, **_: Any) -> tuple[torch.Tensor, ...]:
    return (_float32(q, q.shape[0], q.shape[1]) if return_lse else nothing(q),)


def mla_gluon(q_nope: torch.Tensor, return_lse: bool, **_: Any) -> tuple[torch.Tensor, ...]:
    rows, heads = q_nope.shape[0], q_nope.shape[-2]
    queries = q_nope.shape[1] if q_nope.dim() == 4 else 1
    return (_float32(q_nope, rows, queries, heads) if return_lse else nothing(q_nope),)


def mla_decode_segmented(q: torch.Tensor, skip_reduce: bool, **_: Any) -> tuple[torch.Tensor, ...]:
    if not skip_reduce:
        return nothing(q), nothing(q), nothing(q)
    segments = torch.library.get_ctx().new_dynamic_size(min=1)  # the plan knows, when it is made
    shape = (q.shape[0], q.shape[1], segments)
    return _float32(q, *shape, 512), _float32(q, *shape), _float32(q, *shape)


def sparse_mla_fwd(
    q: torch.Tensor, out: torch.Tensor | None, skip_reduce: bool, return_lse: bool, **_: Any
) -> tuple[torch.Tensor, ...]:
    rows, heads = q.shape[:2]
    if skip_reduce:
        splits = torch.library.get_ctx().new_dynamic_size(min=1)  # as above
        acc, *sums = _float32(q, rows, heads, splits, 512), *(_float32(q, rows, heads, splits) for _ in range(2))
        return tuple(tensor.transpose(1, 2) for tensor in (acc, *sums))
    dtype = q.dtype if q.dtype is torch.float16 else torch.bfloat16
    return (
        q.new_empty((rows, heads, 512), dtype=dtype) if out is None else nothing(q),
        _float32(q, rows, heads) if return_lse else nothing(q),
        nothing(q),
    )


def mla_prefill_fwd(q: torch.Tensor, **_: Any) -> tuple[torch.Tensor, ...]:
    return (_float32(q, q.shape[0], 1, q.shape[1], 1),)


def mla_prefill_ps_fwd(Q: torch.Tensor, return_lse: bool, **_: Any) -> tuple[torch.Tensor, ...]:
    return (_float32(Q, Q.shape[0], Q.shape[1]) if return_lse else nothing(Q),)


def fused_mla_prefill_qkv_fp8(
    q: torch.Tensor, v: torch.Tensor, num_heads_out: int, out_dtype: torch.dtype, **given: Any
) -> tuple[torch.Tensor, ...]:
    shapes = {name: (q.shape[0], num_heads_out, like.shape[-1]) for name, like in (("q", q), ("k", q), ("v", v))}
    return tuple(
        q.new_empty(shape, dtype=out_dtype) if given[f"{name}_out"] is None else nothing(q)
        for name, shape in shapes.items()
    )


def fused_qk_rope_cat_and_cache_mla(
    q_nope: torch.Tensor, q_pe: torch.Tensor, k_nope: torch.Tensor, k_pe: torch.Tensor, q_out: torch.Tensor | None,
    num_decode_toks_for_zeros: int, decode_q_pe_out: torch.Tensor | None, k_pe_out: torch.Tensor | None,
    q_out_dtype: torch.dtype | None, **_: Any,
) -> tuple[torch.Tensor, ...]:  # fmt: skip
    rows, heads, width = q_nope.shape
    decoded, latent, rope = num_decode_toks_for_zeros, k_nope.shape[-1], q_pe.shape[-1]
    zeros = q_nope.new_empty((decoded, heads, latent)) if decoded > 0 else nothing(q_nope)
    return (
        q_nope.new_empty((rows, heads, width + rope), dtype=q_out_dtype) if q_out is None else nothing(q_nope),
        q_nope.new_empty((decoded, heads, rope)) if decode_q_pe_out is None else nothing(q_nope),
        q_nope.new_empty(k_pe.shape) if k_pe_out is None else nothing(q_nope),
        zeros,
    )


def merge_states(
    o: list[torch.Tensor], lse: list[torch.Tensor], out: torch.Tensor | None, lse_out: torch.Tensor | None, **_: Any
) -> tuple[torch.Tensor, ...]:
    is_stack = len(o) == 1 and o[0].dim() == 4
    return (
        o[0].new_empty(o[0].shape[1:] if is_stack else o[0].shape) if out is None else nothing(o[0]),
        lse[0].new_empty(lse[0].shape[1:] if is_stack else lse[0].shape) if lse_out is None else nothing(o[0]),
    )


def fp8_mqa_logits(
    Q: torch.Tensor, KV: torch.Tensor, logits: torch.Tensor | None, **_: Any
) -> tuple[torch.Tensor, ...]:
    return (_float32(Q, Q.shape[0], KV.shape[0]) if logits is None else nothing(Q),)


def _lists(like: torch.Tensor, rows: list[Any], k: int, out: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
    count = rows[0]
    for other in rows[1:]:
        count = torch.sym_min(count, other)
    return (like.new_empty((count * k,)) if out is None else nothing(like),)


def convert_index_lists(
    qo_indptr: torch.Tensor, kv_indptr: torch.Tensor, page_kv_indptr: torch.Tensor, token_indices: torch.Tensor,
    NUM_TOPK_TOKENS: int, out: torch.Tensor | None, **_: Any,
) -> tuple[torch.Tensor, ...]:  # fmt: skip
    rows = [*(indptr.shape[0] - 1 for indptr in (qo_indptr, kv_indptr, page_kv_indptr)), token_indices.shape[0]]
    return _lists(qo_indptr, rows, NUM_TOPK_TOKENS, out)


def convert_req_index_to_global_index_dsa_prefill(
    dsa_qo_indptr: torch.Tensor, dsa_kv_indptr: torch.Tensor, token_to_seq_idxs: torch.Tensor,
    topk_indices: torch.Tensor, NUM_TOPK_TOKENS: int, out: torch.Tensor | None, **_: Any,
) -> tuple[torch.Tensor, ...]:  # fmt: skip
    rows = [dsa_qo_indptr.shape[0] - 1, dsa_kv_indptr.shape[0] - 1, token_to_seq_idxs.shape[0], topk_indices.shape[0]]
    return _lists(dsa_qo_indptr, rows, NUM_TOPK_TOKENS, out)


def convert_index_padded(
    req_id: torch.Tensor, NUM_TOPK_TOKENS: int, out: torch.Tensor | None, **_: Any
) -> tuple[torch.Tensor, ...]:
    return (req_id.new_empty((req_id.shape[0], NUM_TOPK_TOKENS)) if out is None else nothing(req_id),)


def gather_kv_indices_sparse(
    sparse_kv_indptr: torch.Tensor, token_to_seq_idxs: torch.Tensor, topk_indices: torch.Tensor, NUM_TOPK_TOKENS: int,
    out: torch.Tensor | None, **_: Any,
) -> tuple[torch.Tensor, ...]:  # fmt: skip
    rows = [sparse_kv_indptr.shape[0] - 1, token_to_seq_idxs.shape[0], topk_indices.shape[0]]
    return _lists(sparse_kv_indptr, rows, NUM_TOPK_TOKENS, out)
