"""python -m aiter_c bench call_overhead: nanoseconds of host work per call, with nothing to compute (no requests); on
a GPU of calls that launch, one request of 64 keys, beside what torch takes for a launch and for an allocation."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

import aiter_c
from aiter_c import _C
from aiter_c.cli.backend import Gpu, Unavailable, make, torch_or_none
from aiter_c.cli.bench_report import finish, read
from aiter_c.cli.report import Table
from aiter_c.cli.timing import nanoseconds_per_call, queueing_nanoseconds


def _empty_problem() -> dict[str, np.ndarray]:
    """Eight tensors of a call whose batch is 0: everything is checked, nothing runs."""
    int32 = lambda *values: np.array(values, np.int32)  # noqa: E731
    return {
        "q": np.zeros((1, 16, 576), ml_dtypes.bfloat16),
        "kv_buffer": np.zeros((4, 1, 1, 576), ml_dtypes.bfloat16),
        "o": np.zeros((1, 16, 512), ml_dtypes.bfloat16),
        "qo_indptr": int32(0),
        "kv_indptr": int32(0),
        "kv_indices": int32(0, 1, 2, 3),
        "kv_last_page_lens": int32(1),
        "lse": np.zeros((1, 16), np.float32),
    }


_Calls = dict[str, Callable[[], object]]


def _calls(t: dict[str, Any]) -> _Calls:
    """Calls of no requests, written out as a caller does: to make a tuple and a dict for each takes 200 ns."""
    q, kv, o, qo_indptr, kv_indptr, pages, last, lse = t.values()
    stage1, decode = _C.mla_decode_stage1, aiter_c.mla_decode_fwd
    plan = aiter_c.mla_plan(0, 16, 1, 1, "bfloat16", "bfloat16", num_kv_splits=1, return_lse=True)
    return {
        "_C.mla_decode_stage1, 8 tensors": lambda: stage1(
            q, kv, o, qo_indptr, kv_indptr, pages, last, 1, return_lse=True, plan=plan, lse=lse
        ),
        "mla_decode_fwd, plan given": lambda: decode(
            q, kv, o, qo_indptr, kv_indptr, pages, last, 1, num_kv_splits=1, return_lse=True, plan=plan
        ),
        "mla_decode_fwd": lambda: decode(
            q, kv, o, qo_indptr, kv_indptr, pages, last, 1, num_kv_splits=1, return_lse=True
        ),
    }


def _launching_calls(backend: Gpu) -> _Calls:
    """Calls of one request of 64 keys."""
    torch, decode = backend.torch, aiter_c.mla_decode_fwd
    q, kv, o, _, _, _, last, lse = (backend.put(array) for array in _empty_problem().values())
    qo_indptr, kv_indptr = (backend.put(np.array([0, count], np.int32)) for count in (1, 64))  # pages of one row
    pages = backend.put(np.zeros(64, np.int32))

    def plan(splits: int, *, return_lse: bool = False) -> aiter_c.MlaPlan:
        shape = (1, 16, 1, 1, "bfloat16", "bfloat16")
        return aiter_c.mla_plan(*shape, num_kv_splits=splits, return_lse=return_lse, device=backend.place)

    one, four, one_lse, four_lse = plan(1), plan(4), plan(1, return_lse=True), plan(4, return_lse=True)
    return {
        "torch: an allocation (empty)": lambda: torch.empty((1, 16), dtype=torch.float32, device=backend.device),
        "torch: a launch (zero_)": lse.zero_,
        "one split": lambda: decode(q, kv, o, qo_indptr, kv_indptr, pages, last, 1, num_kv_splits=1),
        "one split, plan given": lambda: decode(q, kv, o, qo_indptr, kv_indptr, pages, last, 1, plan=one),
        "one split and the LSE, plan given": lambda: decode(
            q, kv, o, qo_indptr, kv_indptr, pages, last, 1, return_lse=True, plan=one_lse
        ),
        "four splits": lambda: decode(q, kv, o, qo_indptr, kv_indptr, pages, last, 1, num_kv_splits=4),
        "four splits, plan given": lambda: decode(q, kv, o, qo_indptr, kv_indptr, pages, last, 1, plan=four),
        "four splits and the LSE, plan given": lambda: decode(
            q, kv, o, qo_indptr, kv_indptr, pages, last, 1, return_lse=True, plan=four_lse
        ),
    }


def _run_on_gpu(arguments: Namespace) -> int:
    try:
        backend = make(arguments)
    except Unavailable as reason:
        print(reason, file=sys.stderr)
        return 2
    assert isinstance(backend, Gpu)
    table = Table({"framework": "5s", "path": "10s", "call": "36s", "ns": "8.0f"})
    path = _C.dlpack_path(backend.put(np.zeros(1, np.float32)))
    for what, call in _launching_calls(backend).items():
        ns = queueing_nanoseconds(call, backend.torch.cuda.synchronize)
        table.add({"framework": "torch", "path": path, "call": what, "ns": ns})
    return finish(arguments, table.rows)


def run(arguments: Namespace) -> int:
    """Prints the nanoseconds of stage 1 alone and of the whole call, with a plan and without, per framework."""
    if arguments.read:
        return finish(arguments, read(arguments.read, arguments.what))
    if arguments.device != "cpu":
        return _run_on_gpu(arguments)
    tensors: dict[str, dict[str, Any]] = {"NumPy": _empty_problem()}
    torch = torch_or_none()
    if torch:
        bf16 = lambda array: torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)  # noqa: E731
        tensors["torch"] = {
            name: bf16(array) if array.dtype == ml_dtypes.bfloat16 else torch.from_numpy(array)
            for name, array in tensors["NumPy"].items()
        }
    table = Table({"framework": "5s", "path": "10s", "call": "32s", "ns": "8.0f"})
    for framework, t in tensors.items():
        path = _C.dlpack_path(t["q"])
        for what, call in _calls(t).items():
            table.add({"framework": framework, "path": path, "call": what, "ns": nanoseconds_per_call(call)})
    return finish(arguments, table.rows)
