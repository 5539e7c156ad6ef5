"""Sparse attention (DSA) under AITER's names: which keys a query row attends to."""

from __future__ import annotations

from aiter_c import _C
from aiter_c.indexer import deepgemm_fp8_paged_mqa_logits, flydsl_fp8_mqa_logits, fp8_mqa_logits

TYPE_CHECKING = False  # of typing, which takes longer to import than all of this package
if TYPE_CHECKING:
    from aiter_c._types import SupportsDLPack

__all__ = [
    "deepgemm_fp8_paged_mqa_logits",
    "flydsl_fp8_mqa_logits",
    "fp8_mqa_logits",
    "top_k_per_row_decode",
    "top_k_per_row_prefill",
]


def top_k_per_row_prefill(
    logits: SupportsDLPack,
    rowStarts: SupportsDLPack,
    rowEnds: SupportsDLPack,
    indices: SupportsDLPack,
    values: SupportsDLPack | None,
    numRows: int,
    stride0: int,
    stride1: int,
    k: int = 2048,
    stable: bool = False,
    *,
    stream: int | None = None,
) -> None:
    """Select the k best logits in a window of every row; writes `indices` (and `values`) in place.

    Row r is served within the columns [rowStarts[r], rowEnds[r]), clamped to [0, columns); a window that is empty or
    reversed has no column. Logits rank from +inf down to -inf, which is a value like any other; +0 ranks above -0, NaN
    of either sign ranks last, and of equal ones the lower column first. The indices of the best k are written in
    ascending order, then -1 where the window has fewer columns than k. They are columns of `logits`, not of the window.

    logits              [R, C] float32, R >= numRows, C < 2**31; rows may be strided.
    rowStarts, rowEnds  int32 [numRows], may be longer. Any value is safe.
    indices             int32 [numRows, k], may be larger, rows may be strided; what lies past k or numRows is kept.
    values              None, or float32 likewise: the logits at the indices, bit for bit, then 0.
    numRows             int: rows to serve; 0 or less: none.
    stride0, stride1    int: the strides of logits, in elements; others are refused where the stride has a meaning.
    k                   int, at least 0.
    stable              bool, without effect: the order is the stable one, and the same in every call.
    stream              int: the stream's handle; None: the framework's current one. The CPU has none.

    Returns None. Raises TypeError (not a tensor, wrong dtype), ValueError (shape, stride, range, device, shared
    memory), BufferError (read-only output, a producer that refuses), UnsupportedError (no kernel: GPUs have none yet)
    and MemoryError (no scratch for a long row that several threads share); then no argument was written.
    """
    _C.top_k_per_row_prefill(
        logits, rowStarts, rowEnds, indices, values, numRows, stride0, stride1, k, stable, stream=stream
    )


def top_k_per_row_decode(
    logits: SupportsDLPack,
    next_n: int,
    seqLens: SupportsDLPack,
    indices: SupportsDLPack,
    numRows: int,
    stride0: int,
    stride1: int,
    k: int = 2048,
    stable: bool = False,
    *,
    stream: int | None = None,
) -> None:
    """Select the k best logits that each decoded token sees; writes `indices` in place.

    Every request decodes next_n tokens, which are rows of `logits` one after the other: row r is token r % next_n of
    request r // next_n, and sees the columns [0, seqLens[r // next_n] - next_n + r % next_n + 1), clamped to [0, C).
    Ranks, order and padding are those of `top_k_per_row_prefill`.

    logits            [R, C] float32, R >= numRows, C < 2**31; rows may be strided.
    next_n            int, at least 1.
    seqLens           int32 [ceil(numRows / next_n)], may be longer: lengths, the decoded tokens included. Any value is
                      safe.
    indices           int32 [numRows, k], may be larger, rows may be strided; what lies past k or numRows is kept.
    numRows           int: rows to serve; 0 or less: none.
    stride0, stride1  int: the strides of logits, in elements; others are refused where the stride has a meaning.
    k                 int, at least 0.
    stable            bool, without effect: the order is the stable one, and the same in every call.
    stream            int: the stream's handle; None: the framework's current one. The CPU has none.

    Returns None. Raises what `top_k_per_row_prefill` raises; then no argument was written.
    """
    _C.top_k_per_row_decode(logits, next_n, seqLens, indices, numRows, stride0, stride1, k, stable, stream=stream)
