"""Functions of AITER whose arguments or results are not those of an op here: each is an op with other tensors."""

from __future__ import annotations

from typing import Any

from aiter_c import (
    UnsupportedError,
    _call,
    mla_prefill_ps_fwd,
    top_k_per_row_decode,
    top_k_per_row_prefill,
)
from aiter_c import mla_reduce_v1 as _reduce
from aiter_c._types import Scale

__all__ = [
    "flash_attn_varlen_fp8_pertensor_func",
    "flash_attn_varlen_func",
    "get_mla_decode_fwd_occupancy",
    "mla_reduce_v1",
    "top_k_per_row_decode_fast",
    "top_k_per_row_prefill_fast",
    "triton_flash_attn_varlen_func",
]


def _refuse_unless_neutral(op: str, arguments: dict[str, tuple[Any, bool]]) -> None:
    """arguments: by name, the value, and whether it changes nothing."""
    for name, (value, is_neutral) in arguments.items():
        if not is_neutral:
            shown = value if isinstance(value, (bool, int, float, tuple, list, str)) else type(value).__name__
            raise UnsupportedError(f"{op}: {name}: expected a value without effect, got {shown}")


def _window(window_size: Any) -> tuple[Any, bool]:
    """None, (-1, -1) or (-1, -1, 0): no window, and no sink."""
    return window_size, window_size is None or (tuple(window_size[:2]) == (-1, -1) and not any(window_size[2:]))


def _prefill(
    q: Any, k: Any, v: Any, cu_seqlens_q: Any, cu_seqlens_k: Any, max_seqlen_q: int, causal: bool, softmax_scale: Any,
    out: Any, return_lse: bool, *scales: Scale,
) -> tuple[Any, Any]:  # fmt: skip
    """mla_prefill_ps_fwd without lists; (out, LSE [T, H])."""
    if out is None:
        dtype = str(q.dtype).rpartition(".")[2]
        shape = (*q.shape[:2], v.shape[-1])
        out = _call.allocate("out", q, shape, "bfloat16" if dtype.startswith("float8") else dtype, None)
    rows = max(int(max_seqlen_q), 1)
    q_scale, k_scale, v_scale = scales or (None, None, None)
    return mla_prefill_ps_fwd(
        q, k, v, out, cu_seqlens_q, cu_seqlens_k, None, None, None, rows, causal, softmax_scale=softmax_scale,
        q_scale=q_scale, k_scale=k_scale, v_scale=v_scale, return_lse=return_lse,
    )  # fmt: skip


def _transposed(lse: Any) -> Any:
    """[H, T], contiguous: what vLLM's kernels take."""
    return lse.T.contiguous() if hasattr(lse, "contiguous") else lse.T.copy()


def flash_attn_varlen_func(
    q: Any,
    k: Any,
    v: Any,
    cu_seqlens_q: Any,
    cu_seqlens_k: Any,
    max_seqlen_q: int,
    max_seqlen_k: int,
    min_seqlen_q: int = 0,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    logits_soft_cap: float = 0.0,
    causal: bool = False,
    window_size: Any = (-1, -1, 0),
    bias: None = None,
    alibi_slopes: None = None,
    deterministic: bool = False,
    return_lse: bool = False,
    return_attn_probs: bool = False,
    how_v3_bf16_cvt: int = 1,
    block_table: None = None,
    out: Any = None,
    cu_seqlens_q_padded: None = None,
    cu_seqlens_k_padded: None = None,
    sink_ptr: None = None,
) -> Any:
    """Attention of ragged requests over their own keys and values, of MLA's widths: mla_prefill_ps_fwd without lists.

    q [T, H, D], k [S, Hkv, D], v [S, Hkv, Dv], D and Dv = 192 and 128 or 256 and 256; cu_seqlens_* int32 [B+1]. out
    [T, H, Dv], or None: a fresh one of q's dtype. max_seqlen_k, deterministic and how_v3_bf16_cvt have no effect.
    Returns out, or with return_lse (out, LSE [H, T]).

    Raises UnsupportedError by name for dropout, a soft cap, a window, a bias, paged keys, padding and sinks, and for
    other widths, and what mla_prefill_ps_fwd raises.
    """
    op = "flash_attn_varlen_func"
    neutral = {
        "min_seqlen_q": (min_seqlen_q, min_seqlen_q in (0, 1)), "dropout_p": (dropout_p, dropout_p == 0),
        "logits_soft_cap": (logits_soft_cap, logits_soft_cap <= 0), "window_size": _window(window_size),
        "return_attn_probs": (return_attn_probs, not return_attn_probs),
    }  # fmt: skip
    absent = {
        "bias": bias, "alibi_slopes": alibi_slopes, "block_table": block_table, "sink_ptr": sink_ptr,
        "cu_seqlens_q_padded": cu_seqlens_q_padded, "cu_seqlens_k_padded": cu_seqlens_k_padded,
    }  # fmt: skip
    _refuse_unless_neutral(op, neutral | {name: (value, value is None) for name, value in absent.items()})
    out, lse = _prefill(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, causal, softmax_scale, out, return_lse)
    return (out, _transposed(lse)) if return_lse else out


def triton_flash_attn_varlen_func(
    q: Any,
    k: Any,
    v: Any,
    cu_seqlens_q: Any,
    cu_seqlens_k: Any,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Any = (-1, -1),
    bias: None = None,
    alibi_slopes: None = None,
    deterministic: bool = False,
    return_lse: bool = False,
    return_attn_probs: bool = False,
    block_table: None = None,
    out: Any = None,
    sink: None = None,
    config: object = None,
) -> Any:
    """flash_attn_varlen_func of AITER's Triton module: the same, but for the LSE, which is [T, H]. config has no
    effect."""
    neutral = {
        "dropout_p": (dropout_p, dropout_p == 0), "window_size": _window(window_size),
        "return_attn_probs": (return_attn_probs, not return_attn_probs),
    }  # fmt: skip
    absent = {"bias": bias, "alibi_slopes": alibi_slopes, "block_table": block_table, "sink": sink}
    neutral |= {name: (value, value is None) for name, value in absent.items()}
    _refuse_unless_neutral("flash_attn_varlen_func", neutral)
    out, lse = _prefill(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, causal, softmax_scale, out, return_lse)
    return (out, lse) if return_lse else out


def flash_attn_varlen_fp8_pertensor_func(
    q: Any,
    k: Any,
    v: Any,
    q_descale: Scale,
    k_descale: Scale,
    v_descale: Scale,
    cu_seqlens_q: Any,
    cu_seqlens_k: Any,
    max_seqlen_q: int,
    max_seqlen_k: int,
    min_seqlen_q: int = 0,
    logits_soft_cap: float = 0.0,
    causal: bool = False,
    window_size: Any = (-1, -1, 0),
    softmax_scale: float | None = None,
    sink_ptr: None = None,
) -> Any:
    """flash_attn_varlen_func of fp8 tensors, with one scale for each; returns out, bfloat16."""
    neutral = {
        "min_seqlen_q": (min_seqlen_q, min_seqlen_q in (0, 1)), "window_size": _window(window_size),
        "logits_soft_cap": (logits_soft_cap, logits_soft_cap <= 0), "sink_ptr": (sink_ptr, sink_ptr is None),
    }  # fmt: skip
    _refuse_unless_neutral("flash_attn_varlen_fp8_pertensor_func", neutral)
    scales = (q_descale, k_descale, v_descale)
    return _prefill(
        q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, causal, softmax_scale, None, False, *scales
    )[0]  # fmt: skip


def _is_tensor(value: Any) -> bool:
    """And no number of NumPy."""
    return len(getattr(value, "shape", ())) > 0


def mla_reduce_v1(
    partial_output: Any,
    partial_lse: Any,
    reduce_indptr: Any,
    reduce_final_map: Any,
    reduce_partial_map: Any,
    max_seqlen_q: Any,
    num_kv_splits: Any = None,
    final_output: Any = None,
    final_lse: Any = None,
    *,
    stream: int | None = None,
) -> None:
    """aiter_c.mla_reduce_v1, also in the order of older AITER, without num_kv_splits, or without it and max_seqlen_q:
    the first tensor behind reduce_partial_map is the output."""
    if _is_tensor(max_seqlen_q):
        max_seqlen_q, num_kv_splits, final_output, final_lse = 1, None, max_seqlen_q, num_kv_splits
    elif _is_tensor(num_kv_splits):
        num_kv_splits, final_output, final_lse = None, num_kv_splits, final_output
    _reduce(
        partial_output, partial_lse, reduce_indptr, reduce_final_map, reduce_partial_map, max_seqlen_q, num_kv_splits,
        final_output, final_lse, stream=stream,
    )  # fmt: skip


def get_mla_decode_fwd_occupancy(num_head_qo: int, max_seqlen_qo: int, q_dtype: object, kv_dtype: object) -> int:
    """1: get_mla_decode_fwd_max_splits counts all workers."""
    return 1


def top_k_per_row_prefill_fast(
    logits: Any, rowStarts: Any, rowEnds: Any, indices: Any, values: Any, numRows: int, stride0: int, stride1: int
) -> None:
    """top_k_per_row_prefill with k = 2048."""
    top_k_per_row_prefill(logits, rowStarts, rowEnds, indices, values, numRows, stride0, stride1)


def top_k_per_row_decode_fast(
    logits: Any, next_n: int, seqLens: Any, indices: Any, numRows: int, stride0: int, stride1: int
) -> None:
    """top_k_per_row_decode with k = 2048."""
    top_k_per_row_decode(logits, next_n, seqLens, indices, numRows, stride0, stride1)
