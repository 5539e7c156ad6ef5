"""Split counts and the work lists of persistent decode and of prefill, under AITER's names."""

from __future__ import annotations

import operator
import sys

from aiter_c import _C, _modules

TYPE_CHECKING = False  # of typing, which takes longer to import than all of this package
if TYPE_CHECKING:
    from typing import Any

    from aiter_c._types import DeviceLike, DTypeLike, SupportsDLPack

__all__ = [
    "decode_update_mla_metadata_v1",
    "get_meta_param",
    "get_mla_decode_fwd_max_splits",
    "get_mla_metadata_info_v1",
    "get_mla_metadata_v1",
    "get_ps_metadata_info_v1",
    "get_ps_metadata_v1",
]

_FP8_NAMES = frozenset(("float8_e4m3fn", "float8_e4m3fnuz", "fp8"))
_INT32_MAX = 2**31 - 1
_INT64_MAX = 2**63 - 1


def _integer(name: str, value: Any, low: int, high: int = _INT32_MAX) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"get_meta_param: {name}: expected int, got {type(value).__name__}") from None
    if number < low:
        raise ValueError(f"get_meta_param: {name}: expected {low} or more, got {number}")
    if number > high:
        raise ValueError(f"get_meta_param: {name}: expected at most {high}, got {number}")
    return number


def _units_of(torch: Any, device: Any) -> int:
    if torch.device(device).type == "cpu":
        return _C.get_num_threads()
    return torch.cuda.get_device_properties(device).multi_processor_count


def get_meta_param(
    num_kv_splits: int | None,
    bs: int,
    total_kv: int,
    nhead: int,
    max_seqlen_q: int,
    dtype: DTypeLike,
    tg_factor: int = 1,
    ignore_total_kv: int | bool = 0,
    *,
    cu_num: int | None = None,
    device: Any = None,
) -> tuple[int, Any]:
    """How many splits AITER's heuristic gives, and the split indptr of `bs` requests.

    num_kv_splits: int; None or -1: the heuristic chooses (1 to 16). An fp8 `dtype` caps it, an explicit count too.
    total_kv: KV rows of all requests together. dtype: of q; a torch dtype makes the result a torch tensor.
    device: of the indptr, where it is a torch tensor; None: torch's current GPU, as in AITER, or the CPU without one.
    cu_num: compute units; None counts those of the device (threads of the pool on the CPU). With 304 (MI300X) or 256
    (MI355X) the numbers are AITER's.

    Returns (splits, int32 [bs+1] = 0, splits, 2*splits, ...): a fresh array on every call, nothing is cached.
    Raises TypeError for a number that is no int, and ValueError for one out of its range: counts fit int32 (total_kv:
    int64), and so does bs * splits, the end of the indptr.
    Source of the formula: ROCm/aiter aiter/mla.py, get_meta_param.
    """
    if num_kv_splits is None:
        num_kv_splits = -1
    if num_kv_splits == 0 or num_kv_splits < -1:
        raise ValueError(f"get_meta_param: num_kv_splits: expected None, -1 or a positive int, got {num_kv_splits}")
    num_kv_splits = _integer("num_kv_splits", num_kv_splits, -1)
    bs, total_kv = _integer("bs", bs, 0), _integer("total_kv", total_kv, 0, _INT64_MAX)
    nhead, max_seqlen_q = _integer("nhead", nhead, 1), _integer("max_seqlen_q", max_seqlen_q, 0)
    tg_factor = _integer("tg_factor", tg_factor, 0)
    if cu_num is not None:
        cu_num = _integer("cu_num", cu_num, 1)
    name = str(dtype).removeprefix("torch.") if not isinstance(dtype, type) else dtype.__name__
    torch = _modules.home_of(type(dtype), "torch.dtype")
    if torch and device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"  # HIP's devices have that name in torch, too
    units = cu_num if cu_num is not None else _units_of(torch, device) if torch else _C.get_num_threads()
    splits = _C.choose_kv_splits(
        num_kv_splits, bs, total_kv, nhead, max_seqlen_q, name in _FP8_NAMES, tg_factor, bool(ignore_total_kv), units
    )
    last = bs * splits
    if last > _INT32_MAX:
        most = _INT32_MAX // splits
        raise ValueError(f"get_meta_param: bs: expected at most {most} with {splits} splits (int32 indptr), got {bs}")
    if torch:
        return splits, torch.arange(0, last + 1, splits, dtype=torch.int32, device=device)
    import numpy

    return splits, numpy.arange(0, last + 1, splits, dtype=numpy.int32)


def _count(op: str, name: str, value: Any, low: int, high: int = _INT32_MAX) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{op}: {name}: expected int, got {type(value).__name__}") from None
    if not low <= number <= high:
        raise ValueError(f"{op}: {name}: expected {low} to {high}, got {number}")
    return number


def _loaded_torch() -> Any:
    """torch, if this process has imported all of it, else None."""
    torch = sys.modules.get("torch")
    return torch if hasattr(torch, "int32") and hasattr(torch, "cuda") else None


def _planning_device(device: Any) -> Any:
    """`device`, or torch's current GPU, or the CPU."""
    torch = _loaded_torch()
    if device is not None:
        return device
    if torch is None or not torch.cuda.is_available():
        return "cpu"
    return torch.device("cuda", torch.cuda.current_device())  # HIP's devices have that name in torch, too


def get_mla_decode_fwd_max_splits(
    num_head_qo: int, max_seqlen_qo: int, q_dtype: DTypeLike, kv_dtype: DTypeLike, *, device: DeviceLike = None
) -> int:
    """How many workers a plan for `device` has by default: work_indptr has one entry more.

    On the CPU: the threads of the pool. On a GPU: its compute units, or half of them where two workgroups share an item
    (sm_90a, more than 64 (query row, head) pairs). The dtypes make no difference.
    device: None: torch's current GPU, if torch is imported and has one, else the CPU.

    Raises TypeError, ValueError (a count below 1, no such device), UnsupportedError, DeviceError.
    """
    op = "get_mla_decode_fwd_max_splits"
    heads, rows = _count(op, "num_head_qo", num_head_qo, 1), _count(op, "max_seqlen_qo", max_seqlen_qo, 1)
    return _C.mla_metadata_workers(heads, rows, _planning_device(device))


def get_mla_metadata_info_v1(
    batch_size: int,
    max_seqlen_qo: int,
    num_head_qo: int,
    q_dtype: DTypeLike,
    kv_dtype: DTypeLike,
    is_sparse: bool,
    fast_mode: bool = True,
    num_kv_splits: int | None = 32,
    intra_batch_mode: bool = False,
    max_split_per_batch: int | None = -1,
    *,
    num_workers: int | None = None,
    deterministic: bool = False,
    device: DeviceLike = None,
) -> tuple[tuple[Any, Any], ...]:
    """Sizes and dtypes of the six tensors that get_mla_metadata_v1 writes.

    batch_size, max_seqlen_qo, num_head_qo: the largest that will be planned; any number of heads from 1 on. Tensors for
        them hold every smaller plan too: fewer requests, shorter queries, fewer heads, other dtypes.
    q_dtype, kv_dtype, fast_mode: without effect, the sizes hold for any.
    is_sparse: every query row has a list of its own.
    max_split_per_batch: the cap of the plans, which bounds work_info_set and reduce_partial_map, and with the latter
        the scratch of decode. None or -1: no cap.
    num_kv_splits: counts in intra_batch_mode alone: items per tile. None or -1: 32.
    num_workers: of the plans; None: get_mla_decode_fwd_max_splits.
    deterministic: for plans with deterministic=True: 16 items per tile.
    device: where decode runs; None: torch's current GPU, if torch is imported and has one, else the CPU.

    With T tiles in all, W workers and N = W, or with a cap min(W, cap * T):
    Returns (size, dtype) of work_metadata_ptrs (2, uint64), work_indptr (W + 1, int32), work_info_set ((T + N, 8),
    int32), reduce_indptr (T + 1, int32), reduce_final_map ((T, 2), int32) and reduce_partial_map (min(T + N, 2 * N),
    int32); dtypes of torch where it is imported, else of NumPy. work_info_set and reduce_partial_map have 16 * T rows
    instead where deterministic, else T * num_kv_splits in intra_batch_mode.

    Raises TypeError, ValueError (a count out of its range, no such device), UnsupportedError, DeviceError.
    """
    op = "get_mla_metadata_info_v1"
    batch = _count(op, "batch_size", batch_size, 0)
    rows, heads = _count(op, "max_seqlen_qo", max_seqlen_qo, 1), _count(op, "num_head_qo", num_head_qo, 1)
    cap, splits = _splits(op, "max_split_per_batch", max_split_per_batch), _splits(op, "num_kv_splits", num_kv_splits)
    device = _planning_device(device)
    tiles = batch * (rows if is_sparse else _C.mla_metadata_tiles(heads, rows, device))
    if num_workers is None:
        workers = _C.mla_metadata_workers(heads, rows, device)
    else:
        workers = _count(op, "num_workers", num_workers, 1, _INT32_MAX - 1)
    most = workers if cap is None else min(workers, cap * tiles)
    items, entries = tiles + most, min(tiles + most, 2 * most)
    if intra_batch_mode:
        items = entries = tiles * (32 if splits is None else splits)
    if deterministic:
        items = entries = tiles * 16
    _count(op, "rows of work_info_set", items, 0)
    int32, uint64 = _dtypes()
    return (
        (2, uint64),
        (workers + 1, int32),
        ((items, 8), int32),
        (tiles + 1, int32),
        ((tiles, 2), int32),
        (entries, int32),
    )


def _splits(op: str, name: str, value: Any) -> int | None:
    """None for an automatic number."""
    if value is None:
        return None
    number = _count(op, name, value, -(2**31))
    if number == 0 or number < -1:
        raise ValueError(f"{op}: {name}: expected None or -1 (automatic) or 1 to {_INT32_MAX}, got {number}")
    return None if number == -1 else number


def _dtypes() -> tuple[Any, Any]:
    """int32 and uint64."""
    if torch := _loaded_torch():
        return torch.int32, getattr(torch, "uint64", torch.int64)  # torch 2.2 has none; a tag fits either
    import numpy

    return numpy.dtype("int32"), numpy.dtype("uint64")


def get_mla_metadata_v1(
    seqlens_qo_indptr: SupportsDLPack,
    seqlens_kv_indptr: SupportsDLPack,
    kv_last_page_lens: SupportsDLPack | None,
    num_heads_per_head_k: int,
    num_heads_k: int,
    is_causal: bool,
    work_metadata_ptrs: SupportsDLPack,
    work_info_set: SupportsDLPack,
    work_indptr: SupportsDLPack,
    reduce_indptr: SupportsDLPack,
    reduce_final_map: SupportsDLPack,
    reduce_partial_map: SupportsDLPack,
    page_size: int = 1,
    kv_granularity: int = 16,
    max_seqlen_qo: int | None = -1,
    uni_seqlen_qo: int | None = -1,
    fast_mode: bool = True,
    topk: int | None = -1,
    max_split_per_batch: int | None = -1,
    intra_batch_mode: bool = False,
    is_cp_round_robin: bool = False,
    mla_version: int | None = 0,
    dtype_q_nope: DTypeLike = None,
    dtype_q_rope: DTypeLike = None,
    dtype_kv_nope: DTypeLike = None,
    dtype_kv_rope: DTypeLike = None,
    dtype_q: DTypeLike = None,
    dtype_kv: DTypeLike = None,
    *,
    deterministic: bool = False,
    stream: int | None = None,
) -> None:
    """Plan the work lists of persistent MLA decode: which worker reads which part of which KV list.

    B requests, W workers. Tensors of any sizes from get_mla_metadata_info_v1 for a batch at least as large will do.

    seqlens_qo_indptr     int32 [B+1]: query rows of request b are [indptr[b], indptr[b+1]).
    seqlens_kv_indptr     int32 [B+1] or longer: its pages; may begin above 0.
    kv_last_page_lens     int32 [B] or longer: keys in the last page. Not looked at when page_size is 1.
    num_heads_per_head_k, num_heads_k   their product are the query heads, any number from 1 on; they are never folded.
    is_causal             bool: a tile's list ends at the last key that some row of the tile sees.
    work_metadata_ptrs    uint64 or int64 [2]: gets a tag and no addresses. Written, like those that follow.
    work_info_set         int32 [items, 8]; mind the order: it comes before work_indptr.
    work_indptr           int32 [W+1]: its length says for how many workers the plan is.
    reduce_indptr, reduce_final_map, reduce_partial_map   int32 [tiles+1], [tiles, 2], [entries].
    page_size             keys per page.
    kv_granularity        pages per block: a list is cut at multiples of it.
    max_seqlen_qo         query rows of a request at most: later ones get no item. None or -1: not known.
    uni_seqlen_qo         n: request b has the query rows [b*n, (b+1)*n). None or -1: those of seqlens_qo_indptr.
    topk                  0 or more: query row r has its own list, min(topk, length of its request) entries from r*topk
                          on; with uni_seqlen_qo=1 every request has as many rows as the first.
    max_split_per_batch   n: the lists are shared among min(W, n * B) workers. None or -1: among min(W, the sum over all
                          tiles of keys // 64, at least 1), and lists of one length are cut into equal pieces, or,
                          more than workers, not at all where that is at most a 16th more for a worker.
    is_cp_round_robin     the lists are a context-parallel shard's: every tile reads all of them.
    dtype_q_nope, dtype_q, dtype_kv_nope, dtype_kv   of q and cache (None: bfloat16); they decide tiles on gfx950.
    deterministic         a list is cut by its own length alone, as mla_decode_fwd(deterministic=True) cuts it.
    stream                the stream's handle; None: the framework's current one.

    fast_mode, intra_batch_mode, mla_version, dtype_q_rope and dtype_kv_rope change nothing.

    The buffers bound the number of splits, too. One that cannot hold an item per tile is refused where the host can see
    it; where lengths are known on the device alone, tiles that find no place are left out. No value in a tensor is an
    error, and none makes the op touch memory outside its arguments.

    With all tensors on one device the plan is made there: one kernel, nothing waits, a graph may capture it. Tensors on
    the CPU (pinned or not) are complete on return. With tensors on both sides the CPU plans, and the call waits for the
    device; it is refused while the stream is captured. A copy of the six tensors is the same plan.

    Returns None. Raises TypeError (not a tensor, wrong dtype), ValueError (shape, range, device, shared memory, a
    buffer that is too small), BufferError, UnsupportedError, DeviceError; then nothing was written.
    """
    if page_size == 1:
        kv_last_page_lens = None  # callers pass any tensor, wherever it is
    arguments = (
        seqlens_qo_indptr, seqlens_kv_indptr, kv_last_page_lens, num_heads_per_head_k, num_heads_k, is_causal,
        work_metadata_ptrs, work_info_set, work_indptr, reduce_indptr, reduce_final_map, reduce_partial_map, page_size,
        kv_granularity, max_seqlen_qo, uni_seqlen_qo, fast_mode, topk, max_split_per_batch, intra_batch_mode,
        is_cp_round_robin, mla_version, dtype_q_nope, dtype_q_rope, dtype_kv_nope, dtype_kv_rope, dtype_q, dtype_kv,
    )  # fmt: skip
    words = _C.mla_metadata(*arguments, deterministic=deterministic, stream=stream)
    if words:  # tensors are on both sides
        staging = _C.empty((words,), "int32", "cpu")
        _C.mla_metadata(*arguments, deterministic=deterministic, stream=stream, staging=staging)


def decode_update_mla_metadata_v1(
    seqlens_qo_indptr: SupportsDLPack,
    seqlens_kv_indptr: SupportsDLPack,
    kv_last_page_lens: SupportsDLPack | None,
    num_heads_per_head_k: int,
    num_heads_k: int,
    is_causal: bool,
    work_metadata_ptrs: SupportsDLPack,
    work_info_set: SupportsDLPack,
    work_indptr: SupportsDLPack,
    reduce_indptr: SupportsDLPack,
    reduce_final_map: SupportsDLPack,
    reduce_partial_map: SupportsDLPack,
    page_size: int = 1,
    kv_granularity: int = 16,
    max_seqlen_qo: int = 1,
    dtype_q: DTypeLike = "bfloat16",
    dtype_kv: DTypeLike = "bfloat16",
    num_reject_tokens: SupportsDLPack | None = None,
    *,
    deterministic: bool = False,
    stream: int | None = None,
) -> None:
    """Bring the work lists of a decode step to the next one, in which every request has one query row.

    The lists are planned anew from seqlens_kv_indptr, which has the lengths of the next step, in the same tensors. Row
    b is that of request b, whatever seqlens_qo_indptr and max_seqlen_qo say of the step before. The tokens that were
    rejected are missing in those lengths already: num_reject_tokens, like the contents of the lists, is not read.
    Everything else is as in get_mla_metadata_v1 with max_seqlen_qo = uni_seqlen_qo = 1.
    """
    get_mla_metadata_v1(
        seqlens_qo_indptr, seqlens_kv_indptr, kv_last_page_lens, num_heads_per_head_k, num_heads_k, is_causal,
        work_metadata_ptrs, work_info_set, work_indptr, reduce_indptr, reduce_final_map, reduce_partial_map, page_size,
        kv_granularity, 1, 1, dtype_q=dtype_q, dtype_kv=dtype_kv, deterministic=deterministic, stream=stream,
    )  # fmt: skip


def get_ps_metadata_info_v1(
    batch_size: int,
    num_head_k: int,
    max_qlen: int,
    qlen_granularity: int = 256,
    *,
    num_workers: int | None = None,
    device: DeviceLike = None,
) -> tuple[tuple[Any, Any], ...]:
    """Sizes and dtypes of the six tensors that get_ps_metadata_v1 takes.

    batch_size, max_qlen: the largest that will be planned. num_head_k: heads of keys and values.
    qlen_granularity: that of the plans, or less.
    num_workers: of the plans; None: the compute units of `device`, on the CPU the threads of the pool.
    device: where prefill runs; None: torch's current GPU, if torch is imported and has one, else the CPU.

    With W workers, t = W / gcd(num_head_k, W) of them for each cluster, B requests and s = ceil(max_qlen /
    qlen_granularity) tiles of each:
    Returns (size, dtype) of work_metadata_ptrs (2, uint64), work_indptr (W + 1, int32), work_info
    ((max((B + t - 1) * s, 1) * num_head_k, 8), int32), reduce_indptr (B * s + 1, int32), reduce_final_map
    ((B * s, 2), int32) and reduce_partial_map (B * s + t - 1, int32); dtypes of torch where it is imported, else of
    NumPy.

    Raises TypeError, ValueError (a count out of its range, no such device), UnsupportedError, DeviceError.
    """
    from math import gcd

    op = "get_ps_metadata_info_v1"
    batch, heads = _count(op, "batch_size", batch_size, 0), _count(op, "num_head_k", num_head_k, 1)
    rows = _count(op, "max_qlen", max_qlen, 0)
    tile = _count(op, "qlen_granularity", qlen_granularity, 1)
    if num_workers is None:
        workers = _C.mla_metadata_workers(1, 1, _planning_device(device))
    else:
        workers = _count(op, "num_workers", num_workers, 1, _INT32_MAX - 1)
    tiles, cluster = -(-rows // tile), workers // gcd(heads, workers)
    items = max((batch + cluster - 1) * tiles, 1) * heads
    _count(op, "rows of work_info", items, 0)
    int32, uint64 = _dtypes()
    return (
        (2, uint64),
        (workers + 1, int32),
        ((items, 8), int32),
        (batch * tiles + 1, int32),
        ((batch * tiles, 2), int32),
        (batch * tiles + cluster - 1, int32),
    )


def get_ps_metadata_v1(
    seqlens_qo_indptr: SupportsDLPack,
    pages_kv_indptr: SupportsDLPack,
    context_lens: SupportsDLPack,
    gqa_ratio: int,
    num_heads_k: int,
    work_metadata_ptrs: object,
    work_indptr: SupportsDLPack,
    work_info: SupportsDLPack,
    reduce_indptr: SupportsDLPack,
    reduce_final_map: SupportsDLPack,
    reduce_partial_map: SupportsDLPack,
    qhead_granularity: int = 1,
    qlen_granularity: int = 256,
    kvlen_granularity: int = 16,
    block_size: int = 16,
    is_causal: bool = True,
    need_lse: bool = True,
    *,
    stream: int | None = None,
) -> None:
    """Plan the work lists of prefill: which worker reads which part of whose keys, for which query rows and heads.

    B requests, W workers. Tensors of any sizes from get_ps_metadata_info_v1 for a batch at least as large will do.

    seqlens_qo_indptr   int32 [B+1]: query rows of request b are [indptr[b], indptr[b+1]).
    pages_kv_indptr     int32 [B+1] or longer: its pages; may begin above 0.
    context_lens        int32 [B] or longer: its keys.
    gqa_ratio, num_heads_k   query heads of a head of keys and values, and heads of those; their product fits 16 bits.
    work_metadata_ptrs  not touched, wherever it is.
    work_indptr         int32 [W+1]: its length says for how many workers the plan is. Written, as those that follow:
                        all of them, 0 where the plan has nothing.
    work_info           int32 [items, 8]; mind the order: here it comes after work_indptr.
    reduce_indptr, reduce_final_map, reduce_partial_map   int32 [tiles+1], [tiles, 2], [entries].
    qhead_granularity   without effect: an item has all query heads of its head of keys and values.
    qlen_granularity    query rows of a tile, 1 to 256; a partial has as many rows.
    kvlen_granularity   keys of a unit, a multiple of block_size: keys are cut at multiples of it.
    block_size          keys of a page. mla_prefill_ps_fwd takes pages of one key.
    is_causal           bool: a tile reads the keys up to the last that one of its rows sees.
    need_lse            bool: a tile that one worker has leaves a partial too, in a group of one, so that stage 1 and
                        mla_reduce_v1 by hand write the LSE of every row. False: it is final after stage 1.
                        mla_prefill_ps_fwd returns a complete LSE with either, and writes less with False.
    stream              the stream's handle; None: the framework's current one.

    With all tensors on one device the plan is made there: one kernel, nothing waits, a graph may capture it; tiles that
    find no place in the buffers are left out. Tensors on the CPU (pinned or not) are complete on return. With tensors
    on both sides the CPU plans, and the call waits for the device; it is refused while the stream is captured. A copy
    of the five lists is the same plan. No value in a tensor is an error, but for buffers that are too small.

    Returns None. Raises TypeError (not a tensor, wrong dtype), ValueError (shape, range, device, shared memory, a
    buffer that is too small), BufferError, UnsupportedError, DeviceError; then nothing was written.
    """
    arguments = (
        seqlens_qo_indptr, pages_kv_indptr, context_lens, gqa_ratio, num_heads_k, work_metadata_ptrs, work_indptr,
        work_info, reduce_indptr, reduce_final_map, reduce_partial_map, qhead_granularity, qlen_granularity,
        kvlen_granularity, block_size, is_causal, need_lse,
    )  # fmt: skip
    words = _C.ps_metadata(*arguments, stream=stream)
    if words:  # tensors are on both sides
        staging = _C.empty((words,), "int32", "cpu")
        _C.ps_metadata(*arguments, stream=stream, staging=staging)
