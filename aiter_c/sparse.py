"""Sparse MLA under AITER's names: every query row attends over a list of slots of its own, as an indexer has selected
them. The arithmetic and the kernels are those of mla_decode_fwd, which serves such lists as well (slots=True).
"""

from __future__ import annotations

from aiter_c._C import (
    UnsupportedError,
    merge_segments,
    mla_decode_stage2,
    mla_decode_variant,
    tensor_shape,
)
from aiter_c._call import allocate
from aiter_c._modules import home_of

TYPE_CHECKING = False  # of typing, which takes longer to import than all of this package
if TYPE_CHECKING:
    from typing import Any

    from aiter_c._types import DTypeLike, Scale, SupportsDLPack, Tensor

__all__ = ["sparse_mla_fwd", "unified_attention_sparse_mla"]

_LATENT, _ROPE = 512, 64
_RECORD, _V4_RECORD = 656, 584  # bytes of a key
_INT32_MAX = 2**31 - 1

#: The core's names of what these ops have under others: of sparse_mla_fwd's first list and of its second, of a table.
_FIRST = {"o": "out", "sm_scale": "softmax_scale", "num_kv_splits": "kv_splits", "sink": "attn_sink"}
_SECOND = _FIRST | {
    "kv_buffer": "extra_kv", "kv_indptr": "extra_indptr", "kv_indices": "extra_indices", "kv_scale": "extra_kv_scale",
}  # fmt: skip
_TABLE = {"o": "out", "sm_scale": "softmax_scale", "kv_buffer": "kv"}
_TABLE |= dict.fromkeys(("block_tables", "kv_indptr"), "topk_indices")  # it asks for an indptr where none is given


def _call(op: str, names: dict[str, str], function: Any, *args: Any, **kwargs: Any) -> Any:
    """A function of the core, whose errors speak of `op` and its arguments."""
    try:
        return function(*args, **kwargs)
    except (TypeError, ValueError, BufferError, UnsupportedError) as error:
        said_by, _, rest = str(error).partition(": ")
        if said_by not in ("mla_decode_fwd", "merge_segments"):
            raise
        argument, _, what = rest.partition(": ")
        raise type(error)(f"{op}: {names.get(argument, argument)}: {what}") from None


def _attend(op: str, names: dict[str, str], cache: Any, lists: tuple[Any, ...], q: Any, out: Any, **more: Any) -> Any:
    """What mla_decode_variant returns for one row of q per list. lists: indptr, indices, table, of which two or one are
    given. Its errors speak of `op`."""
    rows, kv_format = _cache(op, names.get("kv_buffer", "kv_buffer"), cache)
    indptr, indices = (
        _int32(op, names.get(name, name), one) for name, one in zip(("kv_indptr", "kv_indices"), lists, strict=False)
    )
    return _call(
        op, names, mla_decode_variant, q, None, cache, None, 0, out, None, indptr, indices, lists[2], None, 1, rows,
        slots=True, kv_format=kv_format, **more,
    )  # fmt: skip


def _geometry(op: str, q: Any, kv_lora_rank: int, rope: int | None) -> None:
    """The widths that are served, and that q has them. rope None: whatever q has."""
    width = tensor_shape(op, "q", q)[-1:]
    if kv_lora_rank != _LATENT or rope not in (None, 0, _ROPE):
        got = kv_lora_rank if rope is None else f"{kv_lora_rank} + {rope}"
        raise UnsupportedError(f"{op}: kv_lora_rank + qk_rope_head_dim: expected 512 + 64 or 512 + 0, got {got}")
    if rope is not None and width != (kv_lora_rank + rope,):
        raise ValueError(f"{op}: q: expected rows of {kv_lora_rank} + {rope} elements, got {list(width)}")


def _cache(op: str, name: str, kv: Any) -> tuple[int, str]:
    """Rows of a page, and the format, by the shape alone: [slots, R], [pages, rows, R] or [pages, rows, 1, R]."""
    shape = tensor_shape(op, name, kv)
    if len(shape) not in (2, 3, 4):
        expected = "[slots, R], [pages, rows, R] or [pages, rows, 1, R]"
        raise ValueError(f"{op}: {name}: expected {expected}, got {list(shape)}")
    if shape[-1] == _V4_RECORD:
        raise UnsupportedError(
            f"{op}: {name}: expected rows of 576 or 512 elements or records of 656 bytes, got records of 584 bytes "
            "(DeepSeek-V4's are not served)"
        )
    return (1 if len(shape) == 2 else shape[1]), "fp8_ds_mla" if shape[-1] == _RECORD else "plain"


def _int32(op: str, name: str, tensor: Any) -> Any:
    """int64 of torch or NumPy as int32; what int32 does not hold stays outside of every cache."""
    if not str(getattr(tensor, "dtype", "")).endswith("int64"):
        return tensor
    if torch := home_of(type(tensor), "torch.Tensor"):
        return tensor.clamp(-1, _INT32_MAX).to(torch.int32)
    if numpy := home_of(type(tensor), "numpy.ndarray"):
        return numpy.clip(tensor, -1, _INT32_MAX).astype(numpy.int32)
    raise TypeError(f"{op}: {name}: expected dtype int32 (int64 of torch or NumPy), got int64")


def _new_out(op: str, q: Any, stream: int | None) -> Any:
    """[C, H, 512] of q's framework: float16 as q, else bfloat16."""
    shape = tensor_shape(op, "q", q)
    dtype = "float16" if str(getattr(q, "dtype", "")).rpartition(".")[2] == "float16" else "bfloat16"
    return allocate("out", q, (*shape[:2], _LATENT), dtype, stream)


def _by_split(op: str, parts: list[Any]) -> Any:
    """[C, H, S, ...] of one list or two as [C, S, H, ...], AITER's order."""
    if torch := home_of(type(parts[0]), "torch.Tensor"):
        return (parts[0] if len(parts) == 1 else torch.cat(parts, 2)).transpose(1, 2)
    if numpy := home_of(type(parts[0]), "numpy.ndarray"):
        return (parts[0] if len(parts) == 1 else numpy.concatenate(parts, 2)).swapaxes(1, 2)
    raise TypeError(f"{op}: skip_reduce: expected False, or tensors of torch or NumPy, got {type(parts[0]).__name__}")


def _refuse_unserved(op: str, **given: object) -> None:
    for name, value in given.items():
        if value is not None:
            raise UnsupportedError(f"{op}: {name}: expected None (no DeepSeek-V4 output), got {type(value).__name__}")


def sparse_mla_fwd(
    q: Tensor,
    kv_buffer: SupportsDLPack,
    kv_indptr: SupportsDLPack,
    kv_indices: SupportsDLPack,
    softmax_scale: float | None,
    *,
    kv_scale: Scale = None,
    kv_lora_rank: int = _LATENT,
    qk_rope_head_dim: int = _ROPE,
    kv_splits: int | None = None,
    skip_reduce: bool = False,
    has_invalid: bool = False,
    dot_precision: str = "bf16",
    q_scale: Scale = None,
    out: Any = None,
    return_lse: bool = False,
    attn_sink: SupportsDLPack | None = None,
    extra_kv: SupportsDLPack | None = None,
    extra_indptr: SupportsDLPack | None = None,
    extra_indices: SupportsDLPack | None = None,
    extra_kv_scale: Scale = None,
    inv_rope_positions: None = None,
    inv_rope_cos_sin_cache: None = None,
    out_mxfp8: None = None,
    stream: int | None = None,
    q_dtype: DTypeLike = None,
    kv_dtype: DTypeLike = None,
) -> Any:
    """Attention of every query row over its own list of slots; AITER's aiter.ops.triton.attention.sparse_mla. One
    softmax over one list, or over two of two caches.

    C query rows, H heads (1 to 128), R = 512 + rope elements of a key. With key j of row c slot kv_indices[kv_indptr[c]
    + j], and behind them those of the second list:

        s[j] = softmax_scale * q_scale * kv_scale * <q[c, h], key[j]>
        out[c, h] = kv_scale * sum_j exp(s[j] - lse[c, h]) * key[j, :512]
        lse[c, h] = ln(exp(attn_sink[h]) + sum_j exp(s[j]))

    The sink counts once, and only here is it in the LSE. A row that sees no key gets out = 0 and lse = -inf, with or
    without a sink.

    q                       [C, H, R] as of mla_decode_fwd; rows and heads strided.
    kv_buffer               [slots, R], [pages, rows, R] or [pages, rows, 1, R] bfloat16, float16 or fp8 of either kind
                            (or uint8 with kv_dtype=); or uint8 [pages, rows, 656], records. Slot n is row n % rows of
                            page n // rows. Pages and rows may be strided (other layers between them).
    kv_indptr               int32 [C+1], may be longer.
    kv_indices              int32 [n]: slots. One below 0, or past the cache, masks its key, which is not read.
    softmax_scale           float; None: 1 / sqrt(R).
    kv_scale, q_scale       None, a float or a float32 tensor of one element, each for an fp8 operand of its own.
    kv_lora_rank, qk_rope_head_dim   512, and 64 or 0: the widths of q.
    kv_splits               int: runs that a list is cut into; None or -1: automatic.
    skip_reduce             bool: return the splits.
    has_invalid             without effect: masked slots are served always.
    dot_precision           "bf16" or "fp8": without effect, kernels are chosen by the dtypes.
    out                     [C, H, 512 or more] bfloat16 or float16, of which the first 512 columns are written (with
                            skip_reduce nothing is); None: a new tensor from q's framework, float16 as q, else bfloat16.
    return_lse              bool: also return the LSE.
    attn_sink               float32 [H], natural log; or None.
    extra_kv, extra_indptr, extra_indices, extra_kv_scale
                            a second cache and its lists, of any format; the first three come together. A scale of None
                            is kv_scale.
    inv_rope_positions, inv_rope_cos_sin_cache, out_mxfp8   must be None.
    stream, q_dtype, kv_dtype   as of mla_decode_fwd.

    kv_indptr, kv_indices, extra_indptr and extra_indices may be int64 tensors of torch or NumPy, which convert them.

    Returns (out, lse), lse float32 [C, H] in the natural logarithm, or None unless return_lse. With skip_reduce always
    (acc, m, l), float32 [C, S, H, 512], [C, S, H] and [C, S, H] of torch or NumPy, not contiguous, without the sink.
    For every row and head

        out = sum_s acc[s] * 2 ** (m[s] - top) / d,  d = sum_s l[s] * 2 ** (m[s] - top),  lse = ln(2) * (top + log2(d))

    and a split without keys has the lowest float32 as m.

    Raises as mla_decode_fwd does. 584-byte pages of DeepSeek-V4 are refused (UnsupportedError).
    """
    op = "sparse_mla_fwd"
    _refuse_unserved(
        op, inv_rope_positions=inv_rope_positions, inv_rope_cos_sin_cache=inv_rope_cos_sin_cache, out_mxfp8=out_mxfp8
    )
    if dot_precision not in ("bf16", "fp8"):
        raise ValueError(f"{op}: dot_precision: expected 'bf16' or 'fp8', got {dot_precision!r}")
    if skip_reduce and return_lse:
        raise ValueError(f"{op}: return_lse: expected False with skip_reduce, got True")
    extra = {"extra_kv": extra_kv, "extra_indptr": extra_indptr, "extra_indices": extra_indices}
    missing = [name for name, value in extra.items() if value is None]
    if 0 < len(missing) < len(extra):
        raise ValueError(f"{op}: {missing[0]}: expected a tensor (the extra ones come together), got None")
    _geometry(op, q, kv_lora_rank, qk_rope_head_dim)
    if out is None and not skip_reduce:
        out = _new_out(op, q, stream)
    more: dict[str, Any] = {"sm_scale": softmax_scale, "num_kv_splits": kv_splits, "q_scale": q_scale, "stream": stream}
    more |= {"q_dtype": q_dtype, "kv_dtype": kv_dtype}
    first = (op, _FIRST, kv_buffer, (kv_indptr, kv_indices, None), q)
    if extra_kv is None and attn_sink is None and not skip_reduce:
        plan, used, logits, attn_lse, lse, _ = _attend(*first, out, kv_scale=kv_scale, return_lse=return_lse, **more)
        if not plan.writes_output:
            mla_decode_stage2(logits, attn_lse, out, lse, None, plan=plan, stream=used)
        return out, lse
    more |= {"segmented": True, "natural": not skip_reduce}
    parts = [_attend(*first, out, kv_scale=kv_scale, **more)]
    if extra_kv is not None:
        second = (op, _SECOND, extra_kv, (extra_indptr, extra_indices, None), q)
        scale = kv_scale if extra_kv_scale is None else extra_kv_scale
        parts.append(_attend(*second, out, kv_scale=scale, **more))
    if skip_reduce:
        return tuple(_by_split(op, [part[place] for part in parts]) for place in (2, 3, 5))
    states = [state for part in parts for state in part[2:4]]
    states += (None,) * (4 - len(states))
    (lse,) = _call(op, _FIRST, merge_segments, *states, out, attn_sink, return_lse=return_lse, stream=parts[0][1])
    return out, lse


def unified_attention_sparse_mla(
    q: SupportsDLPack,
    kv: SupportsDLPack,
    out: SupportsDLPack,
    cu_seqlens_q: SupportsDLPack | None,
    max_seqlen_q: int,
    seqused_k: SupportsDLPack | None,
    max_seqlen_k: int,
    softmax_scale: float | None,
    topk_indices: SupportsDLPack,
    block_table: SupportsDLPack | None,
    kv_lora_rank: int,
    *,
    stream: int | None = None,
) -> None:
    """Attention of every query row over the slots of its row of a table; AITER's op of that name. Writes `out`.

    q                [T, H, D] as of mla_decode_fwd, D = 512 + rope; H from 1 to 128.
    kv               [pages, rows, 1, D] or [slots, 1, D] as of mla_decode_fwd; or records, uint8 [pages, rows, 656].
    out              [T, H, 512] bfloat16 or float16; rows and heads strided. A row without a valid slot becomes 0.
    softmax_scale    float; None: 1 / sqrt(D).
    topk_indices     int32 [T, k], may have more rows, which may be strided: slot n is row n % rows of page n // rows.
                     One below 0, or past the cache, masks its key.
    kv_lora_rank     512.
    stream           as of mla_decode_fwd.
    cu_seqlens_q, max_seqlen_q, seqused_k, max_seqlen_k and block_table are without effect: the slots say it all.

    Returns None. Raises as mla_decode_fwd does.
    """
    op = "unified_attention_sparse_mla"
    _geometry(op, q, kv_lora_rank, None)
    lists = (None, None, topk_indices)
    plan, used, logits, attn_lse, _, _ = _attend(op, _TABLE, kv, lists, q, out, sm_scale=softmax_scale, stream=stream)
    if not plan.writes_output:
        mla_decode_stage2(logits, attn_lse, out, None, None, plan=plan, stream=used)
