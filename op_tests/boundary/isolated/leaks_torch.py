"""Run by test_leaks.py where torch is: the exchange API, outputs through the managed form, failures behind them."""

import os

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


def resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def calls(count: int) -> None:
    for _ in range(count):
        aiter_c.mla_decode_fwd(**arguments)


# torch's memory is none of Python's blocks: the scratch of a call with partials.
calls(3000)
before = resident()
calls(15_000)
assert resident() - before < 1_000_000, (before, resident())
print("ok")
