"""Run by test_boundary_leaks.py: an Array's protocols, and torch tensors that are refused or written, leave nothing."""

import copy
import importlib.util
import pickle
from contextlib import suppress

import ml_dtypes
import numpy as np
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

    def values() -> None:
        np.asarray(array), np.asarray(bf16), np.asarray(bf16, np.float64), array.__array__(copy=True)
        memoryview(array).tolist(), bytes(array), float(one), int(one), bool(one)
        copy.copy(array), copy.deepcopy(bf16), pickle.loads(pickle.dumps(bf16))
        assert (array == None) is False and {array: 1}[array]  # noqa: E711

    def refusals() -> None:
        refuse(lambda: array.__array__(np.int8, copy=False))
        refuse(lambda: array.__array__("nonsense"))
        refuse(lambda: memoryview(bf16))
        refuse(lambda: float(array))
        refuse(lambda: array == bf16)
        refuse(lambda: array[0])

    check("values of an Array", values, [array, bf16, one])
    check("refusals of an Array", refusals, [array, bf16, one])


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
    for name in ("q", "o"):
        made = [make(arguments[name]) for make in states.values()]

        def call(made: list = made, name: str = name) -> None:
            for tensor in made:
                with suppress(*REFUSED):
                    aiter_c.mla_decode_fwd(**arguments | {name: tensor})

        check(f"torch, {name}", call, [*tensors, *made])


check_arrays()
if importlib.util.find_spec("torch") is not None:
    check_torch()
print("ok")
