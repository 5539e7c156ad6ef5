"""python -m aiter_c bench call_overhead: nanoseconds of host work per call, with nothing to compute (no requests)."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

import aiter_c
from aiter_c import _C
from aiter_c.cli.backend import torch_or_none
from aiter_c.cli.bench_report import finish, read
from aiter_c.cli.report import Table
from aiter_c.cli.timing import nanoseconds_per_call


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


def _stage1_call(t: dict[str, Any], plan: aiter_c.MlaPlan) -> Callable[[], object]:
    arguments = [t[name] for name in list(t)[:7]]
    return lambda: _C.mla_decode_stage1(*arguments, 1, return_lse=True, plan=plan, lse=t["lse"])


def _shim_call(t: dict[str, Any], **options: Any) -> Callable[[], object]:
    arguments = [t[name] for name in list(t)[:7]]
    return lambda: aiter_c.mla_decode_fwd(*arguments, 1, num_kv_splits=1, return_lse=True, **options)


def run(arguments: Namespace) -> int:
    """Prints the nanoseconds of stage 1 alone and of the whole call, with a plan and without, per framework."""
    if arguments.read:
        return finish(arguments, read(arguments.read, arguments.what))
    tensors: dict[str, dict[str, Any]] = {"NumPy": _empty_problem()}
    torch = torch_or_none()
    if torch:
        bf16 = lambda array: torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)  # noqa: E731
        tensors["torch"] = {
            name: bf16(array) if array.dtype == ml_dtypes.bfloat16 else torch.from_numpy(array)
            for name, array in tensors["NumPy"].items()
        }
    plan = aiter_c.mla_plan(0, 16, 1, 1, "bfloat16", "bfloat16", num_kv_splits=1, return_lse=True)
    table = Table({"framework": "5s", "path": "10s", "call": "32s", "ns": "8.0f"})
    for framework, t in tensors.items():
        path = _C.dlpack_path(t["q"])
        for what, call in (
            ("_C.mla_decode_stage1, 8 tensors", _stage1_call(t, plan)),
            ("mla_decode_fwd, plan given", _shim_call(t, plan=plan)),
            ("mla_decode_fwd", _shim_call(t)),
        ):
            table.add({"framework": framework, "path": path, "call": what, "ns": nanoseconds_per_call(call)})
    return finish(arguments, table.rows)
