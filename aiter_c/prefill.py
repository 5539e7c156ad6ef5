"""Prefill under AITER's names: over keys and values of their own by work lists (mla_prefill_ps_fwd) or over the latent
cache (mla_prefill_fwd), the merge of partials, and what engines put around them: the projection of a cached context to
keys and values, and the cast of new ones to fp8.

mla_prefill_ps_asm_fwd, stage 1 alone, comes from the C core as it is. get_ps_metadata_v1 fills the lists.
"""

from __future__ import annotations

import operator

from aiter_c._C import (
    UnsupportedError,
    mla_decode_stage1,
    mla_prefill_partial_rows,
    mla_prefill_ps_asm_fwd,
    mla_prefill_stage1,
    mla_reduce_v1,
)
from aiter_c._modules import home_of

TYPE_CHECKING = False  # of typing, which takes longer to import than all of this package
if TYPE_CHECKING:
    from typing import Any

    from aiter_c._types import DTypeLike, KvFormat, Scale, SupportsDLPack, Tensor

__all__ = [
    "fused_mla_prefill_qkv_fp8",
    "gather_kv_b_proj",
    "mla_prefill_fwd",
    "mla_prefill_partial_rows",
    "mla_prefill_ps_asm_fwd",
    "mla_prefill_ps_fwd",
    "mla_prefill_reduce",
    "mla_prefill_reduce_triton",
]

_TILE_ROWS = 256  # query rows of an item of the lists, as a rule


def mla_prefill_ps_fwd(
    Q: Tensor,
    K: SupportsDLPack,
    V: SupportsDLPack,
    output: SupportsDLPack,
    qo_indptr: SupportsDLPack,
    kv_indptr: SupportsDLPack,
    kv_page_indices: SupportsDLPack | None,
    work_indptr: SupportsDLPack | None,
    work_info_set: SupportsDLPack | None,
    max_seqlen_q: int,
    is_causal: bool,
    reduce_indptr: SupportsDLPack | None = None,
    reduce_final_map: SupportsDLPack | None = None,
    reduce_partial_map: SupportsDLPack | None = None,
    softmax_scale: float | None = None,
    q_scale: Scale = None,
    k_scale: Scale = None,
    v_scale: Scale = None,
    return_lse: bool = False,
    *,
    stream: int | None = None,
    q_dtype: DTypeLike = None,
    kv_dtype: DTypeLike = None,
) -> tuple[Any, Tensor | None]:
    """Attention of new tokens over keys and values of their own, with a complete LSE; writes `output` in place.

    B requests, T query rows, H query heads, Hkv heads of keys and values (H a multiple of it), D and Dv = 192 and 128,
    or 256 and 256. For query row i of nq of a request with L keys:

        s[j] = softmax_scale * q_scale * k_scale * <Q[i], K[j]>        j <= L - nq + i if is_causal
        o    = v_scale * sum_j softmax(s)[j] * V[j]
        lse  = ln(sum_j exp(s[j]))                                     natural log, of the scaled scores

    A row that sees no key gets o = 0 and lse = -inf. Rows that no request owns keep their output and get lse = -inf.
    Chunks of a context, non-causal, and the new tokens, causal, are one pass when merge_states merges their outputs.

    Q                [T, H, D] bfloat16, float16 or fp8; rows and heads may be strided, here and below.
    K, V             [slots, Hkv, D] and [slots, Hkv, Dv], of Q's dtype; or fp8 of either kind where Q is fp8.
    output           [T, H, Dv] bfloat16 or float16. Written.
    qo_indptr        int32 [B+1]: query rows of the requests.
    kv_indptr        int32 [B+1], may be longer: their entries of kv_page_indices; independent of qo_indptr.
    kv_page_indices  int32 [n]: slots of K and V. One below 0 or past the last masks its key; it is not read. None:
                     entry i is slot i.
    work_indptr, work_info_set   int32 [W+1] and [items, 8], of get_ps_metadata_v1, with need_lse or without; or both
                     None: no lists, and the last three are None as well. Nothing in a list is trusted.
    max_seqlen_q     int, at least 1: query rows of the longest request; without lists later ones are not served.
    is_causal        bool: bottom-right causal mask, or none. The lists have to be made with the same.
    reduce_indptr, reduce_final_map, reduce_partial_map   int32 [G+1], [G, 2] or None, [P]: see mla_reduce_v1.
    softmax_scale    float; None: 1 / sqrt(D). (AITER: 1 / sqrt(Dv), a mistake.)
    q_scale, k_scale, v_scale   None, a float, or a float32 tensor of one element, on the CPU or the device; each counts
                     only for an fp8 operand.
    return_lse       bool: also return the LSE of every row, whether the lists split its tile or not.
    stream           int: the stream's handle; None: the framework's current one. The CPU has none.
    q_dtype, kv_dtype   the fp8 dtype of tensors that come as uint8.

    With lists the scratch, from Q's framework, is R * H * (Dv + 1) float32 with R = mla_prefill_partial_rows(T, B, W,
    Hkv, P): it follows from the batch, and is never sized by a pool or a maximum. Without lists there is none.

    Returns (output, lse): float32 [T, H], or None unless return_lse.

    Raises TypeError, ValueError, BufferError, UnsupportedError, DeviceError; a refused call wrote nothing.
    """
    _, used_stream, partial_output, partial_lse, final_lse = mla_prefill_stage1(
        Q, K, V, output, qo_indptr, kv_indptr, kv_page_indices, work_indptr, work_info_set, reduce_indptr,
        reduce_final_map, reduce_partial_map, max_seqlen_q, is_causal, softmax_scale, q_scale, k_scale, v_scale,
        return_lse, q_dtype, kv_dtype, stream,
    )  # fmt: skip
    if reduce_indptr is not None and reduce_partial_map is not None:  # stage 1 saw to it: with lists they are given
        mla_reduce_v1(
            partial_output, partial_lse, reduce_indptr, reduce_final_map, reduce_partial_map, _TILE_ROWS, None, output,
            final_lse, stream=used_stream,
        )  # fmt: skip
    return output, final_lse


def mla_prefill_fwd(
    q: Tensor,
    kv_buffer: SupportsDLPack,
    o: SupportsDLPack,
    qo_indptr: SupportsDLPack,
    kv_indptr: SupportsDLPack,
    kv_indices: SupportsDLPack,
    kv_last_page_lens: SupportsDLPack | None,
    max_seqlen_q: int,
    sm_scale: float | None = None,
    logit_cap: float = 0.0,
    num_kv_splits: int | None = None,
    *,
    page_size: int | None = None,
    q_scale: Scale = None,
    kv_scale: Scale = None,
    causal: bool = True,
    kv_format: KvFormat | None = None,
    stream: int | None = None,
    q_dtype: DTypeLike = None,
    kv_dtype: DTypeLike = None,
) -> tuple[Any, Tensor]:
    """Prefill over the latent cache (absorbed queries): mla_decode_fwd with one split, for any number of query rows.

    Formula, masks, empty rows, shapes, dtypes, formats and errors are those of mla_decode_fwd, which its texts name.

    page_size      None: kv_buffer.shape[1].
    num_kv_splits  without effect: there is one.

    Returns (o, attn_lse): `o` itself, and the LSE of every row, float32 [T, 1, H, 1], natural log.
    """
    if page_size is None:
        shape: Any = getattr(kv_buffer, "shape", ())
        if len(shape) < 2:
            raise ValueError(f"mla_prefill_fwd: kv_buffer: expected 4 dimensions, got {list(shape)}")
        page_size = shape[1]
    lse = mla_decode_stage1(
        q, kv_buffer, o, qo_indptr, kv_indptr, kv_indices, kv_last_page_lens, max_seqlen_q, page_size, 1, sm_scale,
        logit_cap, 1, None, None, q_scale, kv_scale, True, None, 1, 0, 1, causal, False, kv_format, stream, None,
        q_dtype, kv_dtype, lse_per_split=True,
    )[4]  # fmt: skip
    return o, lse


def mla_prefill_reduce(
    partial_output: SupportsDLPack,
    partial_lse: SupportsDLPack,
    reduce_indptr: SupportsDLPack,
    reduce_final_map: SupportsDLPack | None,
    reduce_partial_map: SupportsDLPack,
    output: SupportsDLPack,
    tile_q: int = _TILE_ROWS,
    use_triton: object = True,
    *,
    final_lse: SupportsDLPack | None = None,
    stream: int | None = None,
) -> None:
    """mla_reduce_v1 with tile_q as max_seqlen_q. use_triton has no effect: no host loop, nothing waits, and a group may
    have any number of partials. A NaN in a partial stays one (AITER takes it for nothing, as it does not tell an empty
    partial by its LSE)."""
    mla_reduce_v1(
        partial_output, partial_lse, reduce_indptr, reduce_final_map, reduce_partial_map, tile_q, None, output,
        final_lse, stream=stream,
    )  # fmt: skip


def mla_prefill_reduce_triton(
    partial_output: SupportsDLPack,
    partial_lse: SupportsDLPack,
    reduce_indptr: SupportsDLPack,
    reduce_final_map: SupportsDLPack | None,
    reduce_partial_map: SupportsDLPack,
    output: SupportsDLPack,
    tile_q: int = _TILE_ROWS,
    max_partials_static: object = None,
) -> None:
    """mla_prefill_reduce under AITER's other name. max_partials_static has no effect."""
    mla_prefill_reduce(partial_output, partial_lse, reduce_indptr, reduce_final_map, reduce_partial_map, output, tile_q)


_FLOATS = ("bfloat16", "float16", "float32", "float8_e4m3fn", "float8_e4m3fnuz")


class _Framework:
    """torch or NumPy, whichever the first tensor of a call is of; what the others must be."""

    def __init__(self, op: str, name: str, tensor: object) -> None:
        self.op, torch = op, home_of(type(tensor), "torch.Tensor")
        self.is_torch = torch is not None
        self.module = torch if self.is_torch else home_of(type(tensor), "numpy.ndarray")
        if self.module is None:
            raise TypeError(f"{op}: {name}: expected a tensor of torch or NumPy, got {type(tensor).__name__}")

    def check(self, name: str, tensor: Any, dims: int, *, integers: bool = False) -> Any:
        """The tensor, of this framework and of so many dimensions."""
        label, kind = ("torch", "torch.Tensor") if self.is_torch else ("NumPy", "numpy.ndarray")
        if home_of(type(tensor), kind) is None:
            raise TypeError(f"{self.op}: {name}: expected a tensor of {label}, got {type(tensor).__name__}")
        dtype = str(tensor.dtype).removeprefix("torch.")
        if dtype not in _FLOATS if not integers else not dtype.startswith(("int", "uint")):
            wanted = "integers" if integers else "bfloat16, float16, float32 or fp8"
            raise TypeError(f"{self.op}: {name}: expected dtype {wanted}, got {dtype}")
        if len(tensor.shape) != dims:
            raise ValueError(f"{self.op}: {name}: expected {dims} dimensions, got {list(tensor.shape)}")
        return tensor

    def scale(self, name: str, scale: Any) -> Any:
        """A number, or a tensor without dimensions; None: 1."""
        if scale is None or (isinstance(scale, (int, float)) and not isinstance(scale, bool)):
            return scale
        if home_of(type(scale), "torch.Tensor" if self.is_torch else "numpy.ndarray") is None:
            raise TypeError(f"{self.op}: {name}: expected None, a float or a tensor, got {type(scale).__name__}")
        if str(scale.dtype).removeprefix("torch.") != "float32" or _elements(scale.shape) != 1:
            shown = f"{scale.dtype} {list(scale.shape)}"
            raise ValueError(f"{self.op}: {name}: expected one element of float32, got {shown}")
        return scale.reshape(())


def _elements(shape: Any) -> int:
    """Elements of that shape."""
    count = 1
    for size in shape:
        count *= size
    return count


def _as_float32(tensor: Any, is_torch: bool) -> Any:
    return tensor.float() if is_torch else tensor.astype("float32")


def gather_kv_b_proj(
    k_buffer: Any,
    k_scale: Scale,
    kv_indptr: Any,
    kv_indices: Any,
    kv_prefix_sum_context_lens: Any,
    kv_proj_weight: Any,
    kv_proj_scale: None,
    k_prefix: Any,
    v_prefix: Any,
    weight_preshuffle: bool = False,
    shuffled_kv_cache: bool = False,
) -> None:
    """Keys and values of a cached context: gathers latents, projects them, and writes k_prefix and v_prefix.

    c = k_scale * k_buffer[kv_indices[t]] for an fp8 cache, else without the scale; then, per head,
    [k_nope | v] = kv_proj_weight @ c[:512] in fp32, k = [k_nope | c[512:]], each rounded once. It runs by the operators
    of the tensors' own framework (torch or NumPy), on its current stream: no synchronisation, no read of the device.

    k_buffer        [slots, 1, 576] (latent 512, rope 64) bfloat16, float16 or fp8.
    k_scale         None, a float, or a float32 tensor of one element.
    kv_indptr, kv_prefix_sum_context_lens   [B+1]: the same, with pages of one key; not looked at: the first T entries
                    of kv_indices are taken.
    kv_indices      integers [T] or more: slots. One outside of k_buffer gives a row of zeros.
    kv_proj_weight  [H * (nope + Dv), 512] bfloat16 or float16; k_prefix [T, H, nope + 64], v_prefix [T, H, Dv] say how
                    it is divided. kv_proj_scale must be None, weight_preshuffle and shuffled_kv_cache False.

    Raises ValueError (shapes) and UnsupportedError.
    """
    op = "gather_kv_b_proj"
    framework = _Framework(op, "k_buffer", k_buffer)
    if kv_proj_scale is not None:
        raise UnsupportedError(f"{op}: kv_proj_scale: expected None (no quantised weight), got a scale")
    for name, flag in (("weight_preshuffle", weight_preshuffle), ("shuffled_kv_cache", shuffled_kv_cache)):
        if flag is not False and flag != 0:
            raise UnsupportedError(f"{op}: {name}: expected False, got {flag!r}")
    for name, tensor, dims in (
        ("k_buffer", k_buffer, 3), ("kv_proj_weight", kv_proj_weight, 2), ("k_prefix", k_prefix, 3),
        ("v_prefix", v_prefix, 3),
    ):  # fmt: skip
        framework.check(name, tensor, dims)
    framework.check("kv_indices", kv_indices, 1, integers=True)
    if k_buffer.shape[1] != 1:
        raise UnsupportedError(f"{op}: k_buffer: expected [slots, 1, D] (pages of one key), got {list(k_buffer.shape)}")
    rows, heads, width = k_prefix.shape
    latent, value = kv_proj_weight.shape[1], v_prefix.shape[2]
    nope = width - (k_buffer.shape[2] - latent)
    wanted = (heads * (nope + value), latent)
    if tuple(v_prefix.shape[:2]) != (rows, heads) or not 0 <= nope <= width or kv_proj_weight.shape[0] != wanted[0]:
        shapes = f"k_prefix {list(k_prefix.shape)} and v_prefix {list(v_prefix.shape)}"
        got = list(kv_proj_weight.shape)
        raise ValueError(f"{op}: kv_proj_weight: expected {list(wanted)} with {shapes}, got {got}")
    if kv_indices.shape[0] < rows:
        raise ValueError(f"{op}: kv_indices: expected at least {rows} entries (of k_prefix), got {kv_indices.shape[0]}")
    scale = framework.scale("k_scale", k_scale)
    if "float8" not in str(k_buffer.dtype):
        scale = None
    weight = _as_float32(kv_proj_weight, framework.is_torch).T
    for first in range(0, rows, _GATHERED_ROWS):
        part = slice(first, first + _GATHERED_ROWS)
        context = _gathered(framework.module, framework.is_torch, k_buffer, kv_indices[part][: rows - first])
        if scale is not None:
            context = context * scale
        projected = (context[:, :latent] @ weight).reshape(-1, heads, nope + value)
        k_prefix[part, :, :nope] = _rounded(projected[..., :nope], k_prefix)
        k_prefix[part, :, nope:] = _rounded(context[:, None, latent:], k_prefix)
        v_prefix[part] = _rounded(projected[..., nope:], v_prefix)


_GATHERED_ROWS = 8192  # that are in fp32 at a time


def _gathered(framework: Any, is_torch: bool, k_buffer: Any, indices: Any) -> Any:
    """Rows of the cache in fp32, zeros for those that it does not have."""
    slots = indices.long() if is_torch else indices.astype("int64")
    inside = (slots >= 0) & (slots < k_buffer.shape[0])
    if k_buffer.shape[0] == 0:
        return framework.zeros((slots.shape[0], k_buffer.shape[2]), **({"device": k_buffer.device} if is_torch else {}))
    rows = k_buffer[:, 0][framework.where(inside, slots, 0)]
    return framework.where(inside[:, None], _as_float32(rows, is_torch), 0.0)


def _rounded(values: Any, like: Any) -> Any:
    """In the dtype of `like`."""
    return values.to(like.dtype) if home_of(type(values), "torch.Tensor") else values.astype(like.dtype)


#: The largest finite value of an fp8 dtype, by its name.
_LARGEST = {"float8_e4m3fn": 448.0, "float8_e4m3fnuz": 240.0}


def fused_mla_prefill_qkv_fp8(
    q: Any,
    k_nope: Any,
    v: Any,
    k_pe: Any,
    num_heads_out: int,
    out_dtype: DTypeLike,
    q_out: Any = None,
    k_out: Any = None,
    v_out: Any = None,
) -> tuple[Any, Any, Any]:
    """q, k = [k_nope | k_pe] and v as fp8, rounded to nearest even and saturated (NaN stays), without scales.

    q [T, H, nope + rope], k_nope [T, H, nope], v [T, H, Dv], k_pe [T, 1, rope], any strides; torch or NumPy, whose
    operators it runs by. The outputs have num_heads_out heads: output head h is head h % H. q_out, k_out and v_out are
    written where they are given, else they are fresh.

    Returns (q_out, k_out, v_out). Raises ValueError and UnsupportedError.
    """
    op = "fused_mla_prefill_qkv_fp8"
    framework = _Framework(op, "q", q)
    module, is_torch = framework.module, framework.is_torch
    for label, tensor in (("q", q), ("k_nope", k_nope), ("v", v), ("k_pe", k_pe)):
        framework.check(label, tensor, 3)
    for label, tensor in (("q_out", q_out), ("k_out", k_out), ("v_out", v_out)):
        if tensor is not None:
            framework.check(label, tensor, 3)
    try:
        num_heads_out = operator.index(num_heads_out)
    except TypeError:
        raise TypeError(f"{op}: num_heads_out: expected int, got {type(num_heads_out).__name__}") from None
    name = str(out_dtype).removeprefix("torch.") if not isinstance(out_dtype, type) else out_dtype.__name__
    if name not in _LARGEST:
        raise UnsupportedError(f"{op}: out_dtype: expected {' or '.join(_LARGEST)}, got {name}")
    rows, heads, width = q.shape
    nope, rope = k_nope.shape[-1], k_pe.shape[-1]
    for label, tensor, shape in (
        ("k_nope", k_nope, (rows, heads, width - rope)),
        ("v", v, (rows, heads, v.shape[-1])),
        ("k_pe", k_pe, (rows, 1, width - nope)),
    ):
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{op}: {label}: expected shape {list(shape)} (of q), got {list(tensor.shape)}")
    if not heads <= num_heads_out <= 65535:
        raise ValueError(f"{op}: num_heads_out: expected {heads} (of q) to 65535, got {num_heads_out}")
    if is_torch:
        dtype, broadcast, join = getattr(module, name), k_pe.expand(rows, heads, rope), module.cat
    else:
        import ml_dtypes

        dtype, broadcast, join = getattr(ml_dtypes, name), module.broadcast_to(k_pe, (rows, heads, rope)), None
    k = join((k_nope, broadcast), -1) if join else module.concatenate((k_nope, broadcast), -1)
    out = []
    for label, values, given in (("q_out", q, q_out), ("k_out", k, k_out), ("v_out", v, v_out)):
        cast = _saturated(values, _LARGEST[name], dtype, is_torch)
        shape = (rows, num_heads_out, values.shape[-1])
        if given is None:
            given = q.new_empty(shape, dtype=dtype) if is_torch else module.empty(shape, dtype)
        elif tuple(given.shape) != shape or given.dtype != dtype:
            raise ValueError(f"{op}: {label}: expected {name} {list(shape)}, got {given.dtype} {list(given.shape)}")
        for first in range(0, num_heads_out, max(heads, 1)):
            given[:, first : first + heads] = cast[:, : num_heads_out - first]
        out.append(given)
    return out[0], out[1], out[2]


def _saturated(values: Any, largest: float, dtype: Any, is_torch: bool) -> Any:
    """Rounded to fp8; beyond its range the largest finite value."""
    wide = _as_float32(values, is_torch)
    return wide.clamp(-largest, largest).to(dtype) if is_torch else wide.clip(-largest, largest).astype(dtype)
