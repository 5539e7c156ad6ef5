"""Sparse attention (DSA): which keys a query row attends to, under AITER's names, and where they are in the cache,
under those of the engines."""

from __future__ import annotations

from aiter_c import _C
from aiter_c.indexer import deepgemm_fp8_paged_mqa_logits, flydsl_fp8_mqa_logits, fp8_mqa_logits

TYPE_CHECKING = False  # of typing, which takes longer to import than all of this package
if TYPE_CHECKING:
    from typing import Any

    from aiter_c._types import SupportsDLPack, Tensor

__all__ = [
    "convert_req_index_to_global_index",
    "convert_req_index_to_global_index_dsa_prefill",
    "deepgemm_fp8_paged_mqa_logits",
    "flydsl_fp8_mqa_logits",
    "fp8_mqa_logits",
    "gather_kv_indices_sparse",
    "get_valid_kv_indices",
    "top_k_per_row_decode",
    "top_k_per_row_prefill",
    "triton_convert_req_index_to_global_index",
    "triton_convert_req_index_to_global_index_dsa_prefill",
    "triton_gather_kv_indices_sparse",
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
    memory), BufferError (read-only output, a producer that refuses), UnsupportedError, DeviceError and MemoryError (no
    scratch for a long row that several threads or compute units share); then no argument was written.
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


def _check_hint(op: str, name: str, value: object, only: int | None = None) -> None:
    """A number of the Triton kernels that means nothing here, or that has to be `only`."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{op}: {name}: expected int, got {type(value).__name__}")
    if only is not None and value != only:
        raise _C.UnsupportedError(f"{op}: {name}: expected {only}, got {value}")


def _convert_lists(
    qo_indptr: Tensor,
    kv_indptr: SupportsDLPack,
    page_kv_indptr: SupportsDLPack,
    kv_indices: SupportsDLPack,
    token_indices: SupportsDLPack,
    NUM_TOPK_TOKENS: int = 2048,
    out: Tensor | None = None,
    *,
    BLOCK_SIZE: int = 1,
    BLOCK_N: int = 128,
    stream: int | None = None,
) -> Tensor:
    """ATOM's form."""
    _check_hint(_CONVERT, "BLOCK_SIZE", BLOCK_SIZE, 1)
    _check_hint(_CONVERT, "BLOCK_N", BLOCK_N)
    tensors = (qo_indptr, kv_indptr, page_kv_indptr, kv_indices, token_indices)
    return _C.convert_index_lists(*tensors, NUM_TOPK_TOKENS, out, stream=stream)[0]


def _convert_ragged(
    req_id: SupportsDLPack,
    block_table: SupportsDLPack,
    token_indices: SupportsDLPack,
    cu_seqlens: SupportsDLPack,
    paged_kv_indices: SupportsDLPack,
    *,
    BLOCK_STRIDE_ROWS: int | None = None,
    BLOCK_SIZE: int = 64,
    NUM_TOPK_TOKENS: int = 2048,
    BLOCK_N: int = 128,
    stream: int | None = None,
) -> None:
    """vLLM's form of packed lists."""
    _check_hint(_CONVERT, "BLOCK_N", BLOCK_N)
    _C.convert_index_ragged(
        req_id, block_table, token_indices, cu_seqlens, paged_kv_indices, BLOCK_STRIDE_ROWS=BLOCK_STRIDE_ROWS,
        BLOCK_SIZE=BLOCK_SIZE, NUM_TOPK_TOKENS=NUM_TOPK_TOKENS, stream=stream,
    )  # fmt: skip


def _convert_padded(
    req_id: Tensor,
    block_table: SupportsDLPack,
    token_indices: SupportsDLPack,
    BLOCK_SIZE: int = 64,
    NUM_TOPK_TOKENS: int = 2048,
    out: Tensor | None = None,
    *,
    BLOCK_STRIDE_ROWS: int | None = None,
    BLOCK_N: int = 128,
    return_valid_counts: bool = False,
    stream: int | None = None,
) -> Tensor:
    """vLLM's form of rows."""
    _check_hint(_CONVERT, "BLOCK_N", BLOCK_N)
    if return_valid_counts:
        raise _C.UnsupportedError(f"{_CONVERT}: return_valid_counts: expected False, got {return_valid_counts!r}")
    sizes = {"BLOCK_STRIDE_ROWS": BLOCK_STRIDE_ROWS, "stream": stream}
    return _C.convert_index_padded(req_id, block_table, token_indices, BLOCK_SIZE, NUM_TOPK_TOKENS, out, **sizes)[0]


_CONVERT = "convert_req_index_to_global_index"
for _form in (_convert_lists, _convert_ragged, _convert_padded):  # what Python says of a missing argument
    _form.__name__ = _form.__qualname__ = _CONVERT


def _has_block_table(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the second tensor is vLLM's table of blocks, of two dimensions; ATOM has an indptr there."""
    if len(args) < 2:
        return "block_table" in kwargs
    return len(getattr(args[1], "shape", ())) == 2


def convert_req_index_to_global_index(*args: Any, stream: int | None = None, **kwargs: Any) -> Any:
    """Convert the key positions that top-k selected into slots of the cache. One name for three forms, told apart by
    the rank of the second tensor and the number of tensors; all tensors int32.

    ATOM's, one query row and one packed range per request:

        (qo_indptr [B+1], kv_indptr [B+1], page_kv_indptr [B+1], kv_indices [n], token_indices [B, k],
         NUM_TOPK_TOKENS=2048, out=None) -> out

    Entry c of request b's range out[page_kv_indptr[b]:page_kv_indptr[b+1]] is the slot of position token_indices[b, c]
    in its list kv_indices[kv_indptr[b]:kv_indptr[b+1]]. There are as many rows as all tensors have, and row b is
    request b's: nothing in qo_indptr is read. BLOCK_SIZE, where it is given, must be 1. For several query rows per
    request see `gather_kv_indices_sparse`. out [m]; None: a fresh one of k entries per row, -1 where no range is.

    vLLM's, with packed lists, and with a row of out for every row:

        (req_id [T], block_table [R, w], token_indices [T, k], cu_seqlens [T+1], paged_kv_indices [m],
         *, BLOCK_STRIDE_ROWS=None, BLOCK_SIZE=64, NUM_TOPK_TOKENS=2048) -> None
        (req_id [T], block_table [R, w], token_indices [T, k], BLOCK_SIZE=64, NUM_TOPK_TOKENS=2048, out=None,
         *, BLOCK_STRIDE_ROWS=None, return_valid_counts=False) -> out

    Entry c of row t is block_table[req_id[t], p // BLOCK_SIZE] * BLOCK_STRIDE_ROWS + p % BLOCK_SIZE with p =
    token_indices[t, c]: of the range paged_kv_indices[cu_seqlens[t]:cu_seqlens[t+1]], or out[t, c]. A block may lie
    more rows from the next than it has (None: it does not). out [T, k]; None: a fresh one. Counts of the entries that
    are not -1 (return_valid_counts, of vLLM's CUDA backends) are refused: the kernels that read these lists skip -1.

    In all of them k is NUM_TOPK_TOKENS; token_indices may have more columns, which are not read, and more rows; its
    rows, those of the table and of out may be strided. A range takes up to k entries.

    An entry is -1, and nothing is read for it, where the position is below 0 or past the keys of the request, or the
    request is not in the tensors; it is -1 as well where the block or slot there is below 0, or the result exceeds
    int32. Indptrs are clamped to their tensors, a descending one is an
    empty range: no value in a tensor moves a read or a write out of the arguments. What no range covers is not written.

    BLOCK_N is without effect, stream as of the other ops. Raises TypeError, ValueError, BufferError, UnsupportedError,
    DeviceError; a refused call writes nothing.
    """
    if not _has_block_table(args, kwargs):
        return _convert_lists(*args, stream=stream, **kwargs)
    if "cu_seqlens" in kwargs or "paged_kv_indices" in kwargs or (len(args) > 3 and not isinstance(args[3], int)):
        return _convert_ragged(*args, stream=stream, **kwargs)
    return _convert_padded(*args, stream=stream, **kwargs)


def gather_kv_indices_sparse(
    sparse_kv_indptr: Tensor,
    token_to_seq_idxs: SupportsDLPack,
    topk_indices: SupportsDLPack,
    kv_indices: SupportsDLPack,
    kv_indptr: SupportsDLPack,
    NUM_TOPK_TOKENS: int = 2048,
    out: Tensor | None = None,
    *,
    BLOCK_N: int = 1024,
    stream: int | None = None,
) -> Tensor:
    """Convert key positions into slots for any number of query rows per request (MTP), in ATOM's form.

    Entry c of row t's range out[sparse_kv_indptr[t]:sparse_kv_indptr[t+1]] is the slot of position topk_indices[t, c]
    in the list of request b = token_to_seq_idxs[t], kv_indices[kv_indptr[b]:kv_indptr[b+1]]; -1 as in
    `convert_req_index_to_global_index`, whose rules hold here.

    sparse_kv_indptr   int32 [T+1].
    token_to_seq_idxs  int32 [T]. One that is no request makes a row of -1.
    topk_indices       int32 [T, k], may be larger, rows may be strided. There are as many rows T as these three have.
    kv_indices         int32 [n].
    kv_indptr          int32 [B+1].
    NUM_TOPK_TOKENS    int: k, and the most entries of a range.
    out                int32 [m], written; None: a fresh one of k entries per row, -1 where no range is.
    BLOCK_N            without effect.
    stream             int: the stream's handle; None: the framework's current one. The CPU has none.

    Returns out. Raises TypeError, ValueError, BufferError, UnsupportedError, DeviceError; a refused call writes
    nothing.
    """
    _check_hint("gather_kv_indices_sparse", "BLOCK_N", BLOCK_N)
    tensors = (sparse_kv_indptr, token_to_seq_idxs, topk_indices, kv_indices, kv_indptr)
    return _C.gather_kv_indices_sparse(*tensors, NUM_TOPK_TOKENS, out, stream=stream)[0]


def convert_req_index_to_global_index_dsa_prefill(
    dsa_qo_indptr: Tensor,
    dsa_kv_indptr: SupportsDLPack,
    token_to_seq_idxs: SupportsDLPack,
    topk_indices: SupportsDLPack,
    block_table: SupportsDLPack,
    cu_seqlens_q: SupportsDLPack,
    PAGE_SIZE: int = 1,
    NUM_TOPK_TOKENS: int = 2048,
    BLOCK_N: int = 1024,
    out: Tensor | None = None,
    *,
    stream: int | None = None,
) -> Tensor:
    """Convert numbers of keys into slots for the rows of a prefill, in ATOM's form: the keys of all requests are
    numbered in a row, as contiguous logits have them.

    Entry c of row t's range out[dsa_kv_indptr[t]:dsa_kv_indptr[t+1]] is the slot of position p = topk_indices[t, c] -
    cu_seqlens_q[b] of request b = token_to_seq_idxs[t]: block_table[b, p // PAGE_SIZE] * PAGE_SIZE + p % PAGE_SIZE; -1
    as in `convert_req_index_to_global_index`, whose rules hold here, and where the number is another request's.

    dsa_qo_indptr      int32 [T+1]. Nothing in it is read.
    dsa_kv_indptr      int32 [T+1].
    token_to_seq_idxs  int32 [T]. One that is no request makes a row of -1.
    topk_indices       int32 [T, k], may be larger, rows may be strided. There are as many rows T as these four have.
    block_table        int32 [R, w], rows may be strided: the pages of each request.
    cu_seqlens_q       int32 [R+1], clamped to 0. There are as many requests as it and the table have.
    PAGE_SIZE          int, at least 1: rows of a page.
    NUM_TOPK_TOKENS    int: k, and the most entries of a range.
    BLOCK_N            without effect.
    out                int32 [m], written; None: a fresh one of k entries per row, -1 where no range is.
    stream             int: the stream's handle; None: the framework's current one. The CPU has none.

    Returns out. Raises TypeError, ValueError, BufferError, UnsupportedError, DeviceError; a refused call writes
    nothing.
    """
    _check_hint("convert_req_index_to_global_index_dsa_prefill", "BLOCK_N", BLOCK_N)
    tensors = (dsa_qo_indptr, dsa_kv_indptr, token_to_seq_idxs, topk_indices, block_table, cu_seqlens_q)
    return _C.convert_index_prefill(*tensors, PAGE_SIZE, NUM_TOPK_TOKENS, out, stream=stream)[0]


def get_valid_kv_indices(
    page_table: SupportsDLPack,
    kv_indptr: SupportsDLPack,
    kv_indices: SupportsDLPack,
    bs: int,
    *,
    stream: int | None = None,
) -> None:
    """Pack the slots of every row, without those that are -1, into one list per row: SGLang's compaction.

    page_table  int32 [bs, k], may have more rows, which may be strided.
    kv_indptr   int32 [bs+1], may be longer: row t's list is kv_indices[kv_indptr[t]:kv_indptr[t+1]], clamped to
                kv_indices, up to k entries of it. It takes the slots in their order, any other number below 0 as -1,
                and -1 where the row has no more; slots for which there is no place are dropped.
    kv_indices  int32 [m], written.
    bs          int, at least 0.
    stream      int: the stream's handle; None: the framework's current one. The CPU has none.

    Returns None. Raises TypeError, ValueError, BufferError, UnsupportedError, DeviceError; a refused call writes
    nothing.
    """
    _C.get_valid_kv_indices(page_table, kv_indptr, kv_indices, bs, stream=stream)


triton_convert_req_index_to_global_index = convert_req_index_to_global_index
triton_convert_req_index_to_global_index_dsa_prefill = convert_req_index_to_global_index_dsa_prefill
triton_gather_kv_indices_sparse = gather_kv_indices_sparse
