"""The logits of the indexer of sparse attention (DSA) under AITER's names: how much each key matters to a query row."""

from __future__ import annotations

from aiter_c import _C

TYPE_CHECKING = False  # of typing, which takes longer to import than all of this package
if TYPE_CHECKING:
    from typing import Any

    from aiter_c._types import DTypeLike, SupportsDLPack

__all__ = ["deepgemm_fp8_paged_mqa_logits", "flydsl_fp8_mqa_logits", "fp8_mqa_logits"]


def deepgemm_fp8_paged_mqa_logits(
    q_fp8: SupportsDLPack,
    kv_cache: SupportsDLPack,
    weights: SupportsDLPack,
    out_logits: SupportsDLPack,
    context_lens: SupportsDLPack,
    kv_indices: SupportsDLPack,
    max_model_len: int,
    Preshuffle: bool = False,
    KVBlockSize: int = 1,
    ChunkK: int = 256,
    TotalCuCount: int | None = None,
    WavePerEU: int = 2,
    VarCtxSchedule: SupportsDLPack | None = None,
    *,
    clean_logits: bool = True,
    q_dtype: DTypeLike | None = None,
    kv_dtype: DTypeLike | None = None,
    stream: int | None = None,
) -> None:
    """Write the indexer's logits over keys in pages: rows [b * N, (b + 1) * N) of `out_logits` are request b's.

        out_logits[b*N + n, j] = k_scale[j] * sum_h weights[b*N + n, h] * max(<q_fp8[b, n, h], key[j]>, 0)

    in fp32; max(NaN, 0) is 0. Scales of q and of the softmax are part of the weights. Columns from
    min(columns of out_logits, max_model_len) on are never written, whatever the lengths say.

    q_fp8         [B, N, H, 128] float8_e4m3fn or float8_e4m3fnuz, or uint8 with q_dtype; H from 1 to 64. All
                  dimensions but the last may be strided.
    kv_cache      [pages, KVBlockSize, 1, 132 or more] of one byte. A page is KVBlockSize keys of 128 bytes, then their
                  KVBlockSize float32 scales, then padding. Byte d of key t of a page is number t * 128 + d, or with
                  Preshuffle t // 16 * 2048 + d // 16 * 256 + t % 16 * 16 + d % 16. Pages may be strided (rows of other
                  layers between them), the rest is contiguous. uint8 and int8 are read as kv_dtype, by default q's.
    weights       [B*N, H] float32, may have more rows; rows may be strided.
    out_logits    [B*N, columns] float32, may have more rows; rows may be strided. Written in place.
    context_lens  int32 [requests] or [requests, 1]: row n of a request of length L sees the columns j <= L - N + n; or
                  [requests, N]: it sees j < context_lens[b, n]. Any strides, any values. Requests of q past the last
                  one have length 0.
    kv_indices    int32 [requests, entries]: page of key j is entry j // KVBlockSize of its request's row; rows may be
                  strided. A key whose entry is missing, below 0 or past the pool gets -inf, and nothing is read.
    max_model_len int, at least 0.
    Preshuffle    bool; KVBlockSize has to be a multiple of 16.
    KVBlockSize   int, 1 to 2^25: keys per page.
    ChunkK, TotalCuCount, WavePerEU, VarCtxSchedule   without effect: the work is balanced on the device by the lengths.
    clean_logits  True: every column that a row does not see becomes -inf. False: only the columns below the row's
                  length are written (those of them that it does not see become -inf), the others keep what they hold.
    q_dtype, kv_dtype   the fp8 kind of a tensor that comes as uint8.
    stream        int: the stream's handle; None: the framework's current one. The CPU has none.

    Returns None. Raises TypeError (not a tensor, wrong dtype), ValueError (shape, stride, range, device, shared
    memory), BufferError (read-only output, a producer that refuses), UnsupportedError (no kernel) and DeviceError; then
    no argument was written.
    """
    _C.deepgemm_fp8_paged_mqa_logits(
        q_fp8, kv_cache, weights, out_logits, context_lens, kv_indices, max_model_len, Preshuffle, KVBlockSize,
        ChunkK, TotalCuCount, WavePerEU, VarCtxSchedule, clean_logits=clean_logits, q_dtype=q_dtype, kv_dtype=kv_dtype,
        stream=stream,
    )  # fmt: skip


def fp8_mqa_logits(
    Q: SupportsDLPack,
    KV: SupportsDLPack,
    kv_scales: SupportsDLPack,
    weights: SupportsDLPack,
    cu_starts: SupportsDLPack,
    cu_ends: SupportsDLPack,
    clean_logits: bool = True,
    *,
    q_dtype: DTypeLike | None = None,
    kv_dtype: DTypeLike | None = None,
    stream: int | None = None,
    logits: SupportsDLPack | None = None,
) -> Any:
    """The indexer's logits over contiguous keys, of which row i sees the columns [cu_starts[i], cu_ends[i]).

        logits[i, j] = kv_scales[j] * sum_h weights[i, h] * max(<Q[i, h], KV[j]>, 0)

    in fp32; max(NaN, 0) is 0. Windows are clamped to [0, Sk]; one that is empty or reversed has no column.

    Q                   [Sq, H, 128] float8_e4m3fn or float8_e4m3fnuz, or uint8 with q_dtype; H from 1 to 64. Rows and
                        heads may be strided.
    KV                  [Sk, 128] likewise; rows may be strided.
    kv_scales           float32 [Sk] or [Sk, 1], any strides.
    weights             float32 [Sq, H]; rows may be strided.
    cu_starts, cu_ends  int32 [Sq], may be longer, any stride. Any value is safe.
    clean_logits        True: columns outside of a row's window become -inf. False: they keep what they hold.
    q_dtype, kv_dtype   the fp8 kind of a tensor that comes as uint8.
    stream              int: the stream's handle; None: the framework's current one. The CPU has none.
    logits              float32 [Sq, Sk or more columns], rows may be strided; written in place. None: a new tensor
                        [Sq, Sk] from the framework of Q. It may have any size in bytes.

    Returns the logits. Raises what `deepgemm_fp8_paged_mqa_logits` raises, and MemoryError (no new tensor); then no
    argument was written.
    """
    return _C.fp8_mqa_logits(
        Q, KV, kv_scales, weights, cu_starts, cu_ends, clean_logits, q_dtype=q_dtype, kv_dtype=kv_dtype, stream=stream,
        logits=logits,
    )[0]  # fmt: skip


def flydsl_fp8_mqa_logits(
    Q: SupportsDLPack,
    KV: SupportsDLPack,
    kv_scales: SupportsDLPack,
    weights: SupportsDLPack,
    cu_starts: SupportsDLPack,
    cu_ends: SupportsDLPack,
    clean_logits: bool = True,
    stream: int | None = None,
    variant: object = None,
) -> Any:
    """`fp8_mqa_logits` under its FlyDSL name; `variant`, which chooses a kernel there, is without effect."""
    return fp8_mqa_logits(Q, KV, kv_scales, weights, cu_starts, cu_ends, clean_logits, stream=stream)
