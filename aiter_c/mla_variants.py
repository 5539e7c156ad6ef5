"""MLA decode under its other names: the segmented form, whose partials the caller merges, and mla_gluon. Both are
mla_decode_fwd with other tensors, on every device. And the members of AITER's decode family that need caches this
package does not have: they have AITER's signatures, and refuse.
"""

from __future__ import annotations

import operator

from aiter_c._C import UnsupportedError, mla_decode_stage2, mla_decode_variant
from aiter_c._modules import home_of

TYPE_CHECKING = False  # of typing, which takes longer to import than all of this package
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from aiter_c._types import DTypeLike, Scale, SupportsDLPack, Tensor

__all__ = [
    "hk_mla_v32_decode_fwd",
    "hk_mla_v40_decode_fwd",
    "mla_decode_fwd_ds32",
    "mla_decode_fwd_v4_nm",
    "mla_decode_gluon",
    "mla_decode_segmented",
    "mla_gluon",
    "mla_v40_decode_fwd",
]

_LATENT = 512  # elements of a key that are its value as well


def _refuse(op: str, argument: str, expected: str, got: object) -> NoReturn:
    raise UnsupportedError(f"{op}: {argument}: expected {expected}, got {got}")


def _int(op: str, name: str, value: int) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{op}: {name}: expected int, got {type(value).__name__}") from None


def _flag(op: str, name: str, value: object) -> bool:
    try:
        return bool(value)
    except Exception:
        raise TypeError(f"{op}: {name}: expected bool, got {type(value).__name__}") from None


def _shape_of(op: str, name: str, tensor: SupportsDLPack, dims: int) -> tuple[int, ...]:
    """The shape, of at least `dims` dimensions."""
    shape = getattr(tensor, "shape", None)
    if shape is None:
        raise TypeError(f"{op}: {name}: expected a tensor with a shape, got {type(tensor).__name__}")
    if len(shape) < dims:
        raise ValueError(f"{op}: {name}: expected {dims} dimensions or more, got {list(shape)}")
    return tuple(shape)


def mla_decode_segmented(
    q: Tensor,
    kv_buffer: SupportsDLPack,
    out: SupportsDLPack | None,
    cu_seqlens_q: SupportsDLPack,
    seqused_k: SupportsDLPack,
    max_seqlen_kv: int,
    block_tables: SupportsDLPack,
    softmax_scale: float,
    kv_lora_rank: int,
    qk_rope_head_dim: int,
    causal: bool,
    q_descale: Scale,
    kv_descale: Scale,
    q_scales: None = None,
    out_scale: None = None,
    shuffled_kv_cache: bool = False,
    skip_reduce: bool = False,
    *,
    max_seqlen_q: int | None = None,
    stream: int | None = None,
    q_dtype: DTypeLike = None,
    kv_dtype: DTypeLike = None,
) -> Any:
    """Decode over a table of pages; AITER's aiter.ops.triton.attention.mla.mla_decode_fwd. With skip_reduce it leaves
    the merge of its segments to the caller.

    B requests, R query rows, H heads, D = 512 + rope. What is computed is that of mla_decode_fwd, with causal=True.

    q                    [R, H, D] as of mla_decode_fwd.
    kv_buffer            [num_page, page_size, 1, D] as of mla_decode_fwd, but no records.
    out                  [R, H, 512] bfloat16 or float16, written; with skip_reduce not looked at.
    cu_seqlens_q         int32 [B+1]: query rows of request b: cu_seqlens_q[b] up to cu_seqlens_q[b+1].
    seqused_k            int32 [B], may be longer: keys of the requests, clamped to what the table can hold.
    max_seqlen_kv        int: the most of them, for the number of segments alone; 0 or less: not known.
    block_tables         int32 [B, w], rows strided, may have more: the pages of each request. An entry outside of the
                         cache masks its keys.
    softmax_scale        float; None: 1 / sqrt(D).
    kv_lora_rank, qk_rope_head_dim   512, and 64 or 0.
    causal               must be True.
    q_descale, kv_descale   None, a float or a float32 tensor of one element, each for an fp8 operand of its own.
    q_scales, out_scale  must be None.
    shuffled_kv_cache    must be False.
    skip_reduce          bool: return the segments.
    max_seqlen_q         int: query rows of the longest request. None: all have the same number, R / B.
    stream, q_dtype, kv_dtype   as of mla_decode_fwd.

    Returns `out`; or, with skip_reduce, always (segm_output, segm_max, segm_expsum), contiguous float32 [R, H, S, 512],
    [R, H, S] and [R, H, S], S a power of two. A segment is a run of ceil(L / (S * page_size)) pages of a request's L
    keys. With w[s] = segm_expsum[s] * 2 ** (segm_max[s] - max), which is 1 times a power here,

        o = sum_s segm_output[s] * 2 ** (segm_max[s] - max) / sum_s w[s]        lse = ln(2) * (max + log2(sum_s w[s]))

    A segment in which a row sees no key, and all past the last, have the lowest float32 as maximum, sum 1 and output 0:
    they add nothing. Rows that no request owns have undefined segm_output.

    Raises as mla_decode_fwd does, whose name and arguments (kv_lens: seqused_k) the texts of most errors have.
    """
    op = "mla_decode_segmented"
    if not _flag(op, "causal", causal):
        _refuse(op, "causal", "True", causal)
    if q_scales is not None:
        _refuse(op, "q_scales", "None (no block-scaled queries)", type(q_scales).__name__)
    if out_scale is not None:
        _refuse(op, "out_scale", "None (no fp8 output)", type(out_scale).__name__)
    if _flag(op, "shuffled_kv_cache", shuffled_kv_cache):
        _refuse(op, "shuffled_kv_cache", "False", shuffled_kv_cache)
    skip_reduce, most_keys = _flag(op, "skip_reduce", skip_reduce), _int(op, "max_seqlen_kv", max_seqlen_kv)
    kv_lora_rank = _int(op, "kv_lora_rank", kv_lora_rank)
    qk_rope_head_dim = _int(op, "qk_rope_head_dim", qk_rope_head_dim)
    pages = _shape_of(op, "kv_buffer", kv_buffer, 4)
    if kv_lora_rank != _LATENT or kv_lora_rank + qk_rope_head_dim != pages[3]:
        width = f"{_LATENT} + {pages[3] - _LATENT} (of kv_buffer)"
        raise ValueError(
            f"{op}: kv_lora_rank + qk_rope_head_dim: expected {width}, got {kv_lora_rank} + {qk_rope_head_dim}"
        )
    rows, requests = _shape_of(op, "q", q, 3)[0], _shape_of(op, "cu_seqlens_q", cu_seqlens_q, 1)[0] - 1
    if max_seqlen_q is None:
        if rows % max(requests, 1):
            raise ValueError(
                f"{op}: max_seqlen_q: expected a number, since {rows} rows are not the same number for each of "
                f"{requests} requests, got None"
            )
        max_seqlen_q = max(rows // max(requests, 1), 1)
    if not skip_reduce and out is None:
        raise TypeError(f"{op}: out: expected a tensor (None needs skip_reduce), got None")
    plan, stream, output, maxima, _, sums = mla_decode_variant(
        q, None, kv_buffer, None, 0, None if skip_reduce else out, cu_seqlens_q, None, None, block_tables, seqused_k,
        max_seqlen_q, pages[1], sm_scale=softmax_scale, max_kv_len=most_keys if 0 < most_keys < 2**63 else None,
        q_scale=q_descale, kv_scale=kv_descale, segmented=skip_reduce, stream=stream, q_dtype=q_dtype,
        kv_dtype=kv_dtype,
    )  # fmt: skip
    if skip_reduce or out is None:
        return output, maxima, sums
    if not plan.writes_output:
        mla_decode_stage2(output, maxima, out, None, cu_seqlens_q, plan=plan, stream=stream)
    return out


def _address_of(tensor: Any) -> int | None:
    """Of a tensor of torch or NumPy."""
    if home_of(type(tensor), "torch.Tensor"):
        return tensor.data_ptr()
    return tensor.__array_interface__["data"][0] if home_of(type(tensor), "numpy.ndarray") else None


def _strides_of(tensor: Any) -> tuple[int, ...]:
    """In units of its framework."""
    return tensor.stride() if home_of(type(tensor), "torch.Tensor") else tensor.strides


def _joined(op: str, q_nope: Any, q_pe: Any) -> tuple[Any, Any]:
    """q and None; or, where q_pe lies behind q_nope in memory, both as they are. Tensors of torch and NumPy are
    concatenated by their framework otherwise; of others the C core says that they are apart."""
    if type(q_nope) is not type(q_pe) or q_nope.shape[:-1] != q_pe.shape[:-1]:
        return q_nope, q_pe
    try:
        address, behind = _address_of(q_nope), _address_of(q_pe)
    except RuntimeError:  # a tensor of torch without memory, which the core refuses
        return q_nope, q_pe
    if address is None:
        return q_nope, q_pe
    if q_nope.dtype != q_pe.dtype:
        raise TypeError(f"{op}: q_pe: expected dtype {q_nope.dtype} as q_nope, got {q_pe.dtype}")
    if behind == address + _LATENT * q_nope.itemsize and _strides_of(q_nope) == _strides_of(q_pe):
        return q_nope, q_pe
    if torch := home_of(type(q_nope), "torch.Tensor"):
        return torch.cat((q_nope, q_pe), -1), None
    return home_of(type(q_nope), "numpy.ndarray").concatenate((q_nope, q_pe), -1), None


def mla_gluon(
    q_nope: Tensor,
    q_pe: Tensor | None,
    kv_c: SupportsDLPack,
    o: Tensor,
    page_table: SupportsDLPack,
    seq_info: SupportsDLPack,
    sm_scale: float,
    k_pe: SupportsDLPack | None = None,
    kv_pe_offset: int = _LATENT,
    use_2d_view: bool = True,
    kv_scale: Scale = 1.0,
    min_kv_seq_len: int = 1,
    return_lse: bool = False,
    has_pe: bool = True,
    attn_sink: None = None,
    *,
    stream: int | None = None,
    kv_dtype: DTypeLike = None,
) -> tuple[Tensor, Tensor | None]:
    """Decode with queries in two parts over a cache of page size 1; AITER's aiter.ops.triton.gluon.mla_gluon.

    B requests of n query rows each (n = 1 where q has three dimensions), H heads. What is computed is that of
    mla_decode_fwd: row i of n sees the keys j <= L - n + i. Writes `o` in place.

    q_nope, q_pe      [B, H, 512] and [B, H, 64], or [B, n, H, 512] and [B, n, H, 64]. Where q_pe is the memory behind
                      q_nope's rows, as in two views of one tensor, nothing is copied; otherwise the two are
                      concatenated by torch or NumPy, and refused if they are of neither.
    kv_c              [N, 576], rows strided; or [N, 512] with k_pe or without rope.
    o                 [B, H, 512] or [B, n, H, 512] bfloat16 or float16; rows and heads strided. Written.
    page_table        use_2d_view: int32 [B, w], rows strided: the slots of each request; else int32 [n]: all slots.
                      One outside of the cache is masked.
    seq_info          use_2d_view: int32 [B]: keys of each request; else int32 [B+1]: where its slots begin and end.
    sm_scale          float; None: 1 / sqrt(D).
    k_pe              [N, 64]: must be the memory behind the first 512 columns of kv_c; None: kv_c has it.
    kv_pe_offset      int: column of k_pe, or of kv_c, at which the rope part begins.
    kv_scale          None, a float or a float32 tensor of one element, for an fp8 cache.
    min_kv_seq_len    has no effect: any lengths, 0 included, are served.
    return_lse        bool: also return the LSE.
    has_pe            bool: False: there is no rope part, q_pe and k_pe are not looked at, page_table is 1-D.
    attn_sink         must be None.
    stream, kv_dtype  as of mla_decode_fwd.

    Returns (o, lse), lse float32 [B, n, H] in the natural logarithm, or None unless return_lse. Any number of heads,
    requests and keys, every mix of dtypes of mla_decode_fwd.

    Raises as mla_decode_fwd does, whose name and arguments (q, kv_buffer, block_tables, kv_lens, kv_indptr) the texts
    of most errors have.
    """
    op = "mla_gluon"
    if attn_sink is not None:
        _refuse(op, "attn_sink", "None (no sink)", type(attn_sink).__name__)
    has_pe, use_2d_view = _flag(op, "has_pe", has_pe), _flag(op, "use_2d_view", use_2d_view)
    kv_pe_offset = _int(op, "kv_pe_offset", kv_pe_offset)
    if not has_pe:
        q_pe = k_pe = None
        use_2d_view = False
    elif k_pe is kv_c:
        k_pe = None
    if has_pe and k_pe is None and kv_pe_offset != _LATENT:
        _refuse(op, "kv_pe_offset", f"{_LATENT} (the rope part behind the latent one)", kv_pe_offset)
    shape = _shape_of(op, "q_nope", q_nope, 3)
    if shape[-1] != _LATENT:
        _refuse(op, "q_nope", f"rows of {_LATENT} elements", list(shape))
    if has_pe:
        if q_pe is None:
            raise TypeError(f"{op}: q_pe: expected a tensor (None needs has_pe=False), got None")
        q_nope, q_pe = _joined(op, q_nope, q_pe)
    table, lens = (page_table, seq_info) if use_2d_view else (None, None)
    indices, indptr = (None, None) if use_2d_view else (page_table, seq_info)
    plan, stream, logits, attn_lse, lse, _ = mla_decode_variant(
        q_nope, q_pe, kv_c, k_pe, kv_pe_offset, o, None, indptr, indices, table, lens,
        shape[1] if len(shape) == 4 else 1, 1, sm_scale=sm_scale, kv_scale=kv_scale, return_lse=return_lse,
        stream=stream, kv_dtype=kv_dtype,
    )  # fmt: skip
    if not plan.writes_output:
        mla_decode_stage2(logits, attn_lse, o, lse, None, plan=plan, stream=stream)
    return o, lse


mla_decode_gluon = mla_gluon
"""The older name of mla_gluon."""

_V4 = "DeepSeek-V4's packed rows and sinks are not served; mla_decode_fwd serves keys of 512 + 64 and 512 elements"
_DS32 = "one E8M0 scale per 32 elements is not served; mla_decode_fwd(kv_format='fp8_ds_mla') serves records with four"


def _not_served(op: str, why: str) -> NoReturn:
    raise UnsupportedError(f"{op}: {why}")


def mla_decode_fwd_ds32(
    q_nope_buffer: object,
    q_rope_buffer: object,
    kv_nope_buffer: object,
    kv_rope_buffer: object,
    o: object,
    qo_indptr: object,
    kv_indptr: object,
    kv_indices: object,
    kv_last_page_lens: object,
    max_seqlen_q: object,
    page_size: object = 1,
    nhead_kv: object = 1,
    sm_scale: object = None,
    num_kv_splits: object = None,
    work_meta_data: object = None,
    work_indptr: object = None,
    work_info_set: object = None,
    reduce_indptr: object = None,
    reduce_final_map: object = None,
    reduce_partial_map: object = None,
    intra_batch_mode: object = False,
    q_scale: object = None,
    kv_scale: object = None,
    return_lse: object = False,
) -> NoReturn:
    """Not served: raises UnsupportedError. Queries and keys with one E8M0 scale per 32 elements."""
    _not_served("mla_decode_fwd_ds32", _DS32)


def mla_v40_decode_fwd(
    q: object,
    q_rope: object,
    kv_buffer: object,
    kv_buffer_rope: object,
    o: object,
    qo_indptr: object,
    kv_indptr: object,
    kv_indices: object,
    kv_last_page_lens: object,
    max_seqlen_q: object,
    work_indptr: object,
    work_info_set: object,
    reduce_indptr: object,
    reduce_final_map: object,
    reduce_partial_map: object,
    sm_scale: object = None,
    return_lse: object = False,
    attn_sink: object = None,
) -> NoReturn:
    """Not served: raises UnsupportedError. Decode of DeepSeek-V4."""
    _not_served("mla_v40_decode_fwd", _V4)


def mla_decode_fwd_v4_nm(
    q: object,
    qrope: object,
    kv_buffer: object,
    kvrope: object,
    output: object,
    qo_indptr: object,
    kv_indptr: object,
    kv_page_indices: object,
    max_seqlen_q: object,
    *,
    sink: object,
    split_indptr: object = None,
    sm_scale: object = None,
    out_16_nosplit: object = 0,
    num_kv_splits: object = None,
    logits: object = None,
    attn_lse: object = None,
    kv_last_page_lens: object = None,
) -> NoReturn:
    """Not served: raises UnsupportedError. Decode of DeepSeek-V4 without work lists."""
    _not_served("mla_decode_fwd_v4_nm", _V4)


def hk_mla_v32_decode_fwd(
    query: object,
    kv_buffer: object,
    qo_indptr: object,
    kv_indptr: object,
    kv_page_indices: object,
    kv_last_page_lens: object,
    work_indptr: object,
    work_info_set: object,
    max_seqlen_q: object,
    softmax_scale: object,
    split_output: object,
    split_lse: object,
    final_output: object,
) -> NoReturn:
    """Not served: raises UnsupportedError. The first stage of a decode by lists, without LSE."""
    _not_served("hk_mla_v32_decode_fwd", "a stage alone is not served; mla_decode_fwd serves both, with work lists")


def hk_mla_v40_decode_fwd(
    query: object,
    query_rope: object,
    kv_buffer: object,
    kv_buffer_rope: object,
    qo_indptr: object,
    kv_page_indices: object,
    kv_last_page_lens: object,
    work_indptr: object,
    work_info_set: object,
    max_seqlen_q: object,
    softmax_scale: object,
    split_output: object,
    split_lse: object,
    final_output: object,
    attn_sink: object = None,
) -> NoReturn:
    """Not served: raises UnsupportedError. The first stage of mla_v40_decode_fwd."""
    _not_served("hk_mla_v40_decode_fwd", _V4)
