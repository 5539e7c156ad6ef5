"""python -m aiter_c bench call_overhead: nanoseconds of host work per call, with nothing to compute (no requests)."""

import ml_dtypes
import numpy as np

import aiter_c
from aiter_c import _C
from aiter_c.cli import peers
from aiter_c.cli.report import print_table, write_json
from aiter_c.cli.timing import nanoseconds_per_call


def _empty_problem():
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


def _stage1_call(t, plan):
    arguments = (
        t["q"], t["kv_buffer"], t["o"], t["qo_indptr"], t["kv_indptr"], t["kv_indices"], t["kv_last_page_lens"],
        1, 1, 1, None, 0.0, None, None, None, t["lse"], None, None, True,
    )  # fmt: skip
    return lambda: _C.mla_decode_stage1(*arguments, plan=plan)


def _shim_call(t, **options):
    arguments = [t[name] for name in list(t)[:7]]
    return lambda: aiter_c.mla_decode_fwd(*arguments, 1, num_kv_splits=1, return_lse=True, **options)


def run(arguments):
    """The command."""
    tensors = {"NumPy": _empty_problem()}
    torch = peers.torch_or_none()
    if torch:
        bf16 = lambda array: torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)  # noqa: E731
        tensors["torch"] = {
            name: bf16(array) if array.dtype == ml_dtypes.bfloat16 else torch.from_numpy(array)
            for name, array in tensors["NumPy"].items()
        }
    plan = aiter_c.mla_plan(0, 16, 1, 1, "bfloat16", "bfloat16", num_kv_splits=1, return_lse=True)
    rows = []
    for framework, t in tensors.items():
        path = _C.dlpack_path(t["q"])
        for what, call in (
            ("_C.mla_decode_stage1, 8 tensors", _stage1_call(t, plan)),
            ("mla_decode_fwd, plan given", _shim_call(t, plan=plan)),
            ("mla_decode_fwd", _shim_call(t)),
        ):
            rows.append({"framework": framework, "path": path, "call": what, "ns": nanoseconds_per_call(call)})
    print_table({"framework": "", "path": "", "call": "", "ns": ".0f"}, rows)
    if arguments.json:
        write_json(arguments.json, rows)
    return 0
