"""Split counts and (with the persistent mode) work lists, under AITER's names."""

import sys

from aiter_c import _C

_FP8_NAMES = frozenset(("float8_e4m3fn", "float8_e4m3fnuz", "fp8"))


def _units_of(torch, device):
    if torch.device(device).type == "cpu":
        return _C.get_num_threads()
    return torch.cuda.get_device_properties(device).multi_processor_count


def get_meta_param(
    num_kv_splits,
    bs,
    total_kv,
    nhead,
    max_seqlen_q,
    dtype,
    tg_factor=1,
    ignore_total_kv=0,
    *,
    cu_num=None,
    device=None,
):
    """How many splits AITER's heuristic gives, and the split indptr of `bs` requests.

    num_kv_splits: int; None or -1: the heuristic chooses (1 to 16). An fp8 `dtype` caps it, an explicit count too.
    total_kv: KV rows of all requests together. dtype: of q; a torch dtype makes the result a torch tensor.
    device: of the indptr, where it is a torch tensor; None: torch's current GPU, as in AITER, or the CPU without one.
    cu_num: compute units; None counts those of the device (threads of the pool on the CPU). With 304 (MI300X) or 256
    (MI355X) the numbers are AITER's.

    Returns (splits, int32 [bs+1] = 0, splits, 2*splits, ...): a fresh array on every call, nothing is cached.
    Raises ValueError for a count of 0 or below -1 and for a negative bs or total_kv.
    Source of the formula: ROCm/aiter aiter/mla.py, get_meta_param.
    """
    if num_kv_splits is None:
        num_kv_splits = -1
    if num_kv_splits == 0 or num_kv_splits < -1:
        raise ValueError(f"get_meta_param: num_kv_splits: expected None, -1 or a positive int, got {num_kv_splits}")
    for name, value in (("bs", bs), ("total_kv", total_kv)):
        if value < 0:
            raise ValueError(f"get_meta_param: {name}: expected 0 or more, got {value}")
    name = str(dtype).removeprefix("torch.") if not isinstance(dtype, type) else dtype.__name__
    torch = sys.modules.get("torch")
    is_torch = torch is not None and isinstance(dtype, torch.dtype)
    if is_torch and device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"  # HIP's devices have that name in torch, too
    units = cu_num if cu_num is not None else _units_of(torch, device) if is_torch else _C.get_num_threads()
    splits = _C.choose_kv_splits(
        num_kv_splits, bs, total_kv, nhead, max_seqlen_q, name in _FP8_NAMES, tg_factor, bool(ignore_total_kv), units
    )
    if is_torch:
        return splits, torch.arange(0, (bs + 1) * splits, splits, dtype=torch.int32, device=device)
    import numpy

    return splits, numpy.arange(0, (bs + 1) * splits, splits, dtype=numpy.int32)
