"""Run by test_leaks.py where torch is: the exchange API, outputs through the managed form, failures behind them."""

import numpy as np
import torch
from leak_check import check

import aiter_c
from aiter_c.testing import MlaCase, build_inputs

for splits in (1, 3):
    case = MlaCase(heads=3, kv_lens=(9,), q_dtype="float16", kv_dtype="float16", o_dtype="float16", splits=splits)
    arguments = build_inputs(case).arguments()
    tensors = {n: torch.from_numpy(np.ascontiguousarray(v)) for n, v in arguments.items() if isinstance(v, np.ndarray)}
    arguments |= tensors
    check(f"torch, {splits} splits", lambda a=arguments: aiter_c.mla_decode_fwd(**a), list(tensors.values()))
    wrong = arguments | {"kv_indices": tensors["kv_indices"].long()}

    def fails(a: dict = wrong) -> None:
        try:
            aiter_c.mla_decode_fwd(**a)
        except TypeError:
            return
        raise AssertionError("expected a TypeError")

    check(f"torch, {splits} splits, failing", fails, list(tensors.values()))
print("ok")
