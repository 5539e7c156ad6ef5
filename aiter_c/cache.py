"""Writes of KV caches under AITER's names: latent caches of MLA, and the quantised keys of the indexer (DSA).

In all of them `slot_mapping` says where a token goes: row slot % page_size of page slot // page_size. A slot below 0 or
past the cache is none, and nothing is written for it. Two tokens of one slot leave what one of them gives, or parts of
both. fp8 (e4m3fn, e4m3fnuz) is rounded to nearest even, saturates at the largest finite value, 448 or 240, and keeps
NaN. Arithmetic is fp32, every operation rounded on its own in one order: results are equal on all devices, bit for bit,
but for the bits of a NaN."""

from __future__ import annotations

from aiter_c import _C

TYPE_CHECKING = False  # of typing, which takes longer to import than all of this package
if TYPE_CHECKING:
    from typing import NoReturn

    from aiter_c._types import CacheDtype, DTypeLike, Scale, ScaleFormat, SupportsDLPack, Tensor

__all__ = [
    "concat_and_cache_mla",
    "concat_and_cache_mla_seg",
    "cp_gather_indexer_k_quant_cache",
    "fused_fp8_bmm_rope_cat_and_cache_mla",
    "fused_qk_norm_rope_group_quant",
    "fused_qk_rope_cat_and_cache_mla",
    "fused_qk_rope_concat_and_cache_mla",
    "fused_qk_rope_concat_and_cache_mla_seg",
    "indexer_k_quant_and_cache",
    "indexer_qk_rope_quant_and_cache",
]


def concat_and_cache_mla(
    kv_c: SupportsDLPack,
    k_pe: SupportsDLPack,
    kv_cache: SupportsDLPack,
    slot_mapping: SupportsDLPack,
    kv_cache_dtype: CacheDtype,
    scale: Scale,
    *,
    kv_dtype: DTypeLike | None = None,
    stream: int | None = None,
) -> None:
    """Write the key of each token, [kv_c | k_pe], into its row of the cache.

    kv_c            [T, L] bfloat16, float16 or float32: latents. May have more rows; rows may be strided.
    k_pe            [T, R] or [T, 1, R] of the same dtype: rope parts, likewise.
    kv_cache        written; pages and rows may be strided, beyond 32 bits too:
                    "auto"          [pages, page_size, L + R] or [pages, page_size, 1, L + R] of the dtype of kv_c. The
                                    bits are copied.
                    "fp8"           the same of float8_e4m3fn or float8_e4m3fnuz: x / scale. Also "fp8_e4m3".
                    "fp8_ds_mla"    uint8 [pages, page_size, 656], [pages, page_size, 1, 656] or [pages, page_size *
                                    656]: per token 512 float8_e4m3fn, 4 float32 scales, 64 bfloat16. A scale is
                                    max(amax / 448, the smallest normal float32) of 128 latents, their codes are x /
                                    scale; NaN does not count in amax, and an infinity counts as the largest float32.
                    "3buffer"       uint8 [pages, page_size * 656]: per page all latents, all scales, all rope parts.
    slot_mapping    int64 [T], any stride.
    kv_cache_dtype  str, one of those.
    scale           None (1), float, or a float32 tensor of one element on the device or the CPU; "fp8" alone uses it.
    kv_dtype        the fp8 kind of a kv_cache that comes as uint8.
    stream          int: the stream's handle; None: the framework's current one. The CPU has none.

    Returns None. Raises TypeError (not a tensor, wrong dtype), ValueError (shape, stride, range, device, shared
    memory), BufferError (read-only output, a producer that refuses), UnsupportedError (records of other sizes,
    "fp8_e5m2") and DeviceError; then no argument was written.
    """
    _C.concat_and_cache_mla(kv_c, k_pe, kv_cache, slot_mapping, kv_cache_dtype, scale, kv_dtype=kv_dtype, stream=stream)


def concat_and_cache_mla_seg(
    kv_c: SupportsDLPack,
    k_pe: SupportsDLPack,
    kv_cache: SupportsDLPack,
    slot_mapping: SupportsDLPack,
    kv_cache_dtype: CacheDtype,
    scale: Scale,
    *,
    kv_dtype: DTypeLike | None = None,
    stream: int | None = None,
) -> None:
    """`concat_and_cache_mla` into pages that hold all latents of the page, then all its rope parts.

    kv_cache        [pages, page_size * (L + R)] of the dtype of kv_c ("auto"), or fp8 ("fp8", "fp8_e4m3"). Written;
                    pages may be strided. The page size follows from the shape.

    All else, errors included, is as there.
    """
    _C.concat_and_cache_mla_seg(
        kv_c, k_pe, kv_cache, slot_mapping, kv_cache_dtype, scale, kv_dtype=kv_dtype, stream=stream
    )


def fused_qk_rope_concat_and_cache_mla(
    q_nope: SupportsDLPack,
    q_pe: SupportsDLPack,
    kv_c: SupportsDLPack,
    k_pe: SupportsDLPack,
    kv_cache: SupportsDLPack,
    q_out: SupportsDLPack,
    slot_mapping: SupportsDLPack,
    k_scale: Scale,
    q_scale: Scale,
    positions: SupportsDLPack,
    cos_cache: SupportsDLPack,
    sin_cache: SupportsDLPack,
    is_neox: bool,
    is_nope_first: bool,
    compute_all_q_rope: bool = False,
    *,
    q_dtype: DTypeLike | None = None,
    kv_dtype: DTypeLike | None = None,
    stream: int | None = None,
) -> None:
    """Turn the rope parts of queries and keys; write [q_nope | q_pe] to `q_out`, and [kv_c | k_pe] into the cache.

    With c and s in row positions[t] of cos_cache and sin_cache a pair (a, b) becomes (a c - b s, b c + a s) in fp32.

    q_nope, q_pe    [T, H, N] and [T, H, R] bfloat16, float16 or float32, R even. These and all that follow may have
                    more rows than T, the length of slot_mapping; rows and heads may be strided.
    kv_c, k_pe      [T, L] and [T, R], or with G key heads [T, G, L] and [T, G, R], of the same dtype.
    kv_cache        [pages, page_size, L + R], or [pages, page_size, G, L + R], of the same dtype or fp8: x * (1 /
                    k_scale). Written.
    q_out           [T, H, N + R] of the same dtype or fp8: x * (1 / q_scale). Written. Latents of the same dtype are
                    copied, bit for bit.
    slot_mapping    int64 [T], any stride. A token without a slot is skipped, its q_out as well.
    k_scale, q_scale   None (1), float, or a float32 tensor of one element on the device or the CPU; fp8 alone uses it.
    positions       int64 [T], any stride; clamped to the rows of cos_cache.
    cos_cache, sin_cache   [P, R / 2] bfloat16, float16 or float32, P at least 1; rows may be strided.
    is_neox         True: pairs are elements (i, i + R / 2); False: (2i, 2i + 1).
    is_nope_first   False: q_out is [q_pe | q_nope]. The cache is the same.
    compute_all_q_rope   True: q_out is written of every token; a token without a slot still leaves the cache alone.
    q_dtype, kv_dtype   the fp8 kind of a q_out or kv_cache that comes as uint8.
    stream          int: the stream's handle; None: the framework's current one. The CPU has none.

    Returns None. Raises what `concat_and_cache_mla` raises; then no argument was written.
    """
    _C.fused_qk_rope_concat_and_cache_mla(
        q_nope, q_pe, kv_c, k_pe, kv_cache, q_out, slot_mapping, k_scale, q_scale, positions, cos_cache, sin_cache,
        is_neox, is_nope_first, compute_all_q_rope, q_dtype=q_dtype, kv_dtype=kv_dtype, stream=stream,
    )  # fmt: skip


def fused_qk_rope_concat_and_cache_mla_seg(
    q_nope: SupportsDLPack,
    q_pe: SupportsDLPack,
    kv_c: SupportsDLPack,
    k_pe: SupportsDLPack,
    kv_cache: SupportsDLPack,
    q_out: SupportsDLPack,
    slot_mapping: SupportsDLPack,
    k_scale: Scale,
    q_scale: Scale,
    positions: SupportsDLPack,
    cos_cache: SupportsDLPack,
    sin_cache: SupportsDLPack,
    is_neox: bool,
    is_nope_first: bool = True,
    *,
    q_dtype: DTypeLike | None = None,
    kv_dtype: DTypeLike | None = None,
    stream: int | None = None,
) -> None:
    """`fused_qk_rope_concat_and_cache_mla` into pages that hold all latents of the page, then all its rope parts.

    kv_cache        [pages, page_size * (L + R)] of the dtype of q_nope, or fp8. Written; pages may be strided. The page
                    size follows from the shape. There is one key head.
    q_out           its rows may be longer than N + R; what is behind is not written.
    is_nope_first   has to be True, else UnsupportedError.

    All else, errors included, is as there.
    """
    _C.fused_qk_rope_concat_and_cache_mla_seg(
        q_nope, q_pe, kv_c, k_pe, kv_cache, q_out, slot_mapping, k_scale, q_scale, positions, cos_cache, sin_cache,
        is_neox, is_nope_first, q_dtype=q_dtype, kv_dtype=kv_dtype, stream=stream,
    )  # fmt: skip


def fused_qk_rope_cat_and_cache_mla(
    q_nope: Tensor,
    q_pe: SupportsDLPack,
    k_nope: SupportsDLPack,
    k_pe: SupportsDLPack,
    kv_cache: SupportsDLPack,
    slot_mapping: SupportsDLPack,
    pos: SupportsDLPack,
    cos: SupportsDLPack,
    sin: SupportsDLPack,
    k_scale: Scale,
    is_neox: bool,
    num_decode_toks_for_zeros: int = 0,
    apply_scale: bool = True,
    q_out: Tensor | None = None,
    decode_q_pe_out: Tensor | None = None,
    k_pe_out: Tensor | None = None,
    q_out_dtype: DTypeLike | None = None,
    shuffled_kv_cache: bool = False,
    upcast_operand: bool = False,
    *,
    kv_dtype: DTypeLike | None = None,
    stream: int | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The work of `fused_qk_rope_concat_and_cache_mla` in the form of AITER's Triton op, which returns what it made.

    q_nope, q_pe    [T, H, N] and [T, H, R] bfloat16, float16 or float32, R even; rows and heads may be strided.
    k_nope, k_pe    [K, G, L] and [K, G, R] of the same dtype, K >= T; likewise. Keys of tokens from T on stay unturned.
    kv_cache        [slots, G, L + R] or [pages, page_size, G, L + R] of the same dtype, or fp8: x * (1 / k_scale).
                    Written; all but the last dimension may be strided.
    slot_mapping    int64, up to K entries, any stride. A token without a slot leaves the cache alone; all else is
                    written of every token.
    pos             int64 [T], may be longer, any stride; clamped to the rows of cos.
    cos, sin        [P, R / 2], or [P, R] with an angle of its own for every element, or either with two dimensions of 1
                    between; bfloat16, float16 or float32, P at least 1.
    k_scale         None (1), float, or a float32 tensor of one element; an fp8 kv_cache alone uses it.
    is_neox         True: pairs are elements (i, i + R / 2); False: (2i, 2i + 1).
    num_decode_toks_for_zeros   int n, 0 to T: tokens of decode_q_pe_out and q_nope_zeros_out.
    apply_scale     False: k_scale is taken as 1.
    q_out           [T, H, N + R] of the dtype of q_nope, or fp8 without a scale. None: a fresh one of q_out_dtype.
    decode_q_pe_out [n, H, R]: the turned q_pe of the first n tokens. None: a fresh one.
    k_pe_out        [K, G, R]: the turned k_pe. None: a fresh one.
    q_out_dtype     of a fresh q_out: None (as q_nope) or fp8; also the kind of a q_out that comes as uint8.
    shuffled_kv_cache   has to be False, else UnsupportedError.
    upcast_operand  without effect: all arithmetic is fp32.
    kv_dtype        the fp8 kind of a kv_cache that comes as uint8.
    stream          int: the stream's handle; None: the framework's current one. The CPU has none.

    Returns (q_out, decode_q_pe_out, k_pe_out, q_nope_zeros_out), the last a fresh [n, H, L] of zeros, or None where n
    is 0. Raises what `concat_and_cache_mla` raises, and MemoryError (no new tensor); then no argument was written.
    """
    return _C.fused_qk_rope_cat_and_cache_mla(
        q_nope, q_pe, k_nope, k_pe, kv_cache, slot_mapping, pos, cos, sin, k_scale, is_neox, num_decode_toks_for_zeros,
        apply_scale, q_out, decode_q_pe_out, k_pe_out, q_out_dtype, shuffled_kv_cache, upcast_operand,
        kv_dtype=kv_dtype, stream=stream,
    )  # fmt: skip


def indexer_k_quant_and_cache(
    k: SupportsDLPack,
    kv_cache: SupportsDLPack,
    slot_mapping: SupportsDLPack,
    quant_block_size: int,
    scale_fmt: ScaleFormat | None,
    preshuffle: bool = False,
    *,
    kv_dtype: DTypeLike | None = None,
    stream: int | None = None,
) -> None:
    """Quantise the indexer's keys to fp8, a scale for every `quant_block_size` elements, and write them into its cache.

    The scale of a group is max(amax, 1e-4) / limit, limit 448 for float8_e4m3fn and 224 for float8_e4m3fnuz; its codes
    are x * (1 / scale). NaN does not count in amax, and an infinity counts as the largest float32.

    k                 [tokens, D] bfloat16, float16 or float32; rows may be strided.
    kv_cache          [pages, page_size, bytes] or [pages, page_size, 1, bytes] of one byte, written. A page is
                      page_size keys of D bytes, then their float32 scales, D / quant_block_size each, in the order of
                      the keys, then padding: bytes is at least D + 4 * (D / quant_block_size). Byte d of key t of a
                      page is number t * D + d, or with preshuffle t // 16 * 16 * D + d // 16 * 256 + t % 16 * 16 + d %
                      16. Pages may be strided, beyond 32 bits too, the rest is contiguous.
    slot_mapping      int64, any stride; as many tokens are written as both k and it have.
    quant_block_size  int, divides D.
    scale_fmt         "ue8m0": every scale is rounded up to a power of two. "fp32", "" or None: it is not.
    preshuffle        bool; page_size and D have to be multiples of 16.
    kv_dtype          the fp8 kind of a kv_cache that comes as uint8 or int8.
    stream            int: the stream's handle; None: the framework's current one. The CPU has none.

    Returns None. Raises what `concat_and_cache_mla` raises; then no argument was written.
    """
    _C.indexer_k_quant_and_cache(
        k, kv_cache, slot_mapping, quant_block_size, scale_fmt, preshuffle, kv_dtype=kv_dtype, stream=stream
    )


def indexer_qk_rope_quant_and_cache(
    q: SupportsDLPack,
    q_out: SupportsDLPack,
    weights: SupportsDLPack,
    weights_out: SupportsDLPack,
    k: SupportsDLPack,
    kv_cache: SupportsDLPack,
    slot_mapping: SupportsDLPack,
    norm_weight: SupportsDLPack,
    norm_bias: SupportsDLPack,
    positions: SupportsDLPack,
    cos_cache: SupportsDLPack,
    sin_cache: SupportsDLPack,
    epsilon: float,
    quant_block_size: int,
    scale_fmt: ScaleFormat | None,
    weights_scale: float,
    preshuffle: bool = False,
    is_neox: bool = True,
    compute_all_q_rope: bool = False,
    *,
    q_dtype: DTypeLike | None = None,
    kv_dtype: DTypeLike | None = None,
    stream: int | None = None,
) -> None:
    """Make the indexer's operands of a step: keys normalised, turned, quantised into its cache; queries turned and
    quantised into `q_out`, their scales put into `weights_out`.

        key    = turn(LayerNorm(k, epsilon) * norm_weight + norm_bias)      as indexer_k_quant_and_cache writes it
        query  = turn(q)
        q_out  = fp8(query * (1 / sq)),  sq = max(amax of a head, 1e-10) / limit
        weights_out = weights * sq * weights_scale

    The first 64 elements turn, as in `fused_qk_rope_concat_and_cache_mla`. Steps are fp32; what LayerNorm and turn give
    is rounded to the dtype of q. The limit is 448 for float8_e4m3fn and 224 for float8_e4m3fnuz, scale_fmt holds for
    both scales.

    q                 [T, H, 128] bfloat16, float16 or float32. This and all that follow may have more rows than T, the
                      length of slot_mapping; rows and heads may be strided.
    q_out             [T, H, 128] fp8. Written.
    weights           [T, H] bfloat16, float16 or float32, any strides.
    weights_out       [T, H] float32, any strides. Written.
    k                 [T, 128] of the dtype of q.
    kv_cache, preshuffle   see `indexer_k_quant_and_cache`. Written.
    slot_mapping      int64 [T], any stride. A token without a slot is skipped, its query as well.
    norm_weight, norm_bias   float32 [128].
    positions         int64 [T], any stride; clamped to the rows of cos_cache.
    cos_cache, sin_cache   [P, 32] bfloat16, float16 or float32, P at least 1.
    epsilon, weights_scale   float, finite.
    quant_block_size  has to be 128, else UnsupportedError.
    is_neox           True: pairs are elements (i, i + 32); False: (2i, 2i + 1).
    compute_all_q_rope   True: q_out and weights_out are written of every token.
    q_dtype, kv_dtype the fp8 kind of a q_out or kv_cache that comes as bytes.
    stream            int: the stream's handle; None: the framework's current one. The CPU has none.

    Returns None. Raises what `concat_and_cache_mla` raises; then no argument was written.
    """
    _C.indexer_qk_rope_quant_and_cache(
        q, q_out, weights, weights_out, k, kv_cache, slot_mapping, norm_weight, norm_bias, positions, cos_cache,
        sin_cache, epsilon, quant_block_size, scale_fmt, weights_scale, preshuffle, is_neox, compute_all_q_rope,
        q_dtype=q_dtype, kv_dtype=kv_dtype, stream=stream,
    )  # fmt: skip


def cp_gather_indexer_k_quant_cache(
    kv_cache: SupportsDLPack,
    dst_k: SupportsDLPack,
    dst_scale: SupportsDLPack,
    block_table: SupportsDLPack,
    cu_seq_lens: SupportsDLPack,
    preshuffle: bool = False,
    *,
    stream: int | None = None,
) -> None:
    """Copy the quantised keys of requests out of the indexer's cache, request after request, for `fp8_mqa_logits`.

    Token t of request b, cu_seq_lens[b] <= t < cu_seq_lens[b+1], is its key number p = t - cu_seq_lens[b], in page
    block_table[b, p // page_size]. Of several requests that have t the first counts; a token that none has is not
    written. A key whose page is not in the table, below 0 or past the cache is zeros with scales 0.

    kv_cache     as `indexer_k_quant_and_cache` wrote it, with n scales per key.
    dst_k        [T, D] of one byte; rows may be strided. Written, never preshuffled.
    dst_scale    [T, n] float32, or [T, 4 * n] of one byte; n divides D; rows may be strided. Written.
    block_table  int32 [B, entries]; rows may be strided.
    cu_seq_lens  int32 [B+1]. Any value is safe.
    preshuffle   bool: how the cache was written.
    stream       int: the stream's handle; None: the framework's current one. The CPU has none.

    Returns None. Raises what `concat_and_cache_mla` raises; then no argument was written.
    """
    _C.cp_gather_indexer_k_quant_cache(kv_cache, dst_k, dst_scale, block_table, cu_seq_lens, preshuffle, stream=stream)


def _not_served(op: str, why: str) -> NoReturn:
    raise _C.UnsupportedError(f"{op}: {why}")


def fused_fp8_bmm_rope_cat_and_cache_mla(
    q_nope: object,
    w_k: object,
    w_scale: object,
    q_pe: object,
    k_nope: object,
    k_rope: object,
    kv_cache: object,
    slot_mapping: object,
    positions: object,
    cos: object,
    sin: object,
    group_size: object = 128,
    k_scale: object = None,
    is_neox: object = True,
    q_out_dtype: object = None,
    **others: object,
) -> NoReturn:
    """Not served: raises UnsupportedError. A product of queries and weights, then fused_qk_rope_cat_and_cache_mla."""
    _not_served(
        "fused_fp8_bmm_rope_cat_and_cache_mla",
        "products with weights are the caller's; fused_qk_rope_cat_and_cache_mla serves the rest",
    )


def fused_qk_norm_rope_group_quant(*arguments: object, **others: object) -> NoReturn:
    """Not served: raises UnsupportedError. The cache writes of DeepSeek-V4."""
    _not_served("fused_qk_norm_rope_group_quant", "DeepSeek-V4's two pools are not served")
