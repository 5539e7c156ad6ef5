"""Run by test_leaks.py: resident memory and file descriptors over 20,000 calls, a third of which fail."""

import os
from contextlib import suppress

import numpy as np

import aiter_c
from aiter_c.testing import MlaCase, build_inputs

PAGE = os.sysconf("SC_PAGESIZE")


def resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * PAGE


good = build_inputs(MlaCase(heads=2, kv_lens=(5,), splits=2)).arguments()
bad = good | {"kv_indices": np.zeros(5, np.int64)}


def calls(count: int) -> None:
    for i in range(count):
        with suppress(TypeError):
            aiter_c.mla_decode_fwd(**(bad if i % 3 == 0 else good))


calls(3000)
memory, files = resident(), len(os.listdir("/proc/self/fd"))
calls(20_000)
assert resident() - memory < 1_000_000, (memory, resident())
assert len(os.listdir("/proc/self/fd")) == files
