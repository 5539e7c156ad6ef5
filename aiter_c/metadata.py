"""Split counts and (with the persistent mode) work lists, under AITER's names."""

from __future__ import annotations

import operator

from aiter_c import _C, _modules

TYPE_CHECKING = False  # of typing, which takes longer to import than all of this package
if TYPE_CHECKING:
    from typing import Any

    from aiter_c._types import DTypeLike

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
