"""Run by test_boundary_leaks.py: an Array's protocols, and torch tensors that are refused or written, leave nothing."""

import importlib.util
import sys
from contextlib import suppress
from pathlib import Path

import ml_dtypes
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "isolated"))
from leak_check import check

import aiter_c
from aiter_c.testing import MlaCase, build_inputs

REFUSED = (TypeError, ValueError, BufferError)


def refuse(call: object) -> None:
    try:
        call()
    except REFUSED:
        return
    raise AssertionError("not refused")


def check_arrays() -> None:
    array = aiter_c.from_host(np.ones((2, 3), np.float32))
    bf16 = aiter_c.from_host(np.ones((2, 3), ml_dtypes.bfloat16))
    one = aiter_c.from_host(np.ones((1,), np.float32))
    watched = [array, bf16, one]
    for name, call in {
        "asarray": lambda: np.asarray(array),
        "asarray, bfloat16": lambda: np.asarray(bf16),
        "asarray, dtype": lambda: np.asarray(bf16, np.float64),
        "copy": lambda: array.__array__(copy=True),
        "no copy": lambda: refuse(lambda: array.__array__(np.int8, copy=False)),
        "no dtype": lambda: refuse(lambda: array.__array__("nonsense")),
        "memoryview": lambda: memoryview(array).tolist(),
        "memoryview, bfloat16": lambda: refuse(lambda: memoryview(bf16)),
        "bytes": lambda: bytes(array),
        "numbers": lambda: (float(one), int(one), bool(one)),
        "several": lambda: refuse(lambda: float(array)),
        "compare": lambda: refuse(lambda: array == bf16),
        "none": lambda: array == None,  # noqa: E711
        "index": lambda: refuse(lambda: array[0]),
        "hash": lambda: {array: 1},
    }.items():
        check(name, call, watched)


def check_torch() -> None:
    import torch

    case = MlaCase(heads=3, kv_lens=(9,), q_dtype="float16", kv_dtype="float16", o_dtype="float16", splits=2)
    arguments = {
        n: torch.from_numpy(np.ascontiguousarray(v)) if isinstance(v, np.ndarray) else v
        for n, v in build_inputs(case).arguments().items()
    }
    tensors = [v for v in arguments.values() if isinstance(v, torch.Tensor)]

    class Dispatching(torch.Tensor):
        @classmethod
        def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
            raise NotImplementedError

    states = {
        "grad": lambda t: t.detach().requires_grad_(),
        "negative": torch._neg_view,
        "sparse": lambda t: t.to_sparse(),
        "dispatching": lambda t: t.as_subclass(Dispatching),
    }
    for state, make in states.items():
        for name in ("q", "o"):
            made = make(arguments[name])

            def call(made: object = made, name: str = name) -> None:
                with suppress(*REFUSED):
                    aiter_c.mla_decode_fwd(**arguments | {name: made})

            check(f"torch, {state} {name}", call, [*tensors, made])


check_arrays()
if importlib.util.find_spec("torch") is not None:
    check_torch()
print("ok")
