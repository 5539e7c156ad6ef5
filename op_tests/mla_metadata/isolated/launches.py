"""Run by test_launch.py: launches.py {hip,cuda} DRIVER, with aiter_c on a driver that computes nothing. One launch of
one workgroup and nothing else, on the stream of the call; how many workers a device has."""

from __future__ import annotations

import sys

import numpy as np
from runtime.fake_driver import FakeDriver

import aiter_c
from aiter_c import _C, from_host

VENDOR, PLACE = sys.argv[1], f"{sys.argv[1]}:0"
ARCH, LAUNCH = {"hip": ("gfx942", "hipModuleLaunchKernel"), "cuda": ("sm_90a", "cuLaunchKernel")}[VENDOR]
AROUND = {"hipGetDevice", "hipSetDevice", "cuCtxPushCurrent_v2", "cuCtxPopCurrent_v2"}
driver = FakeDriver(VENDOR, sys.argv[2])

info = aiter_c.get_mla_metadata_info_v1(3, 1, 16, None, None, False, device=PLACE)
work_meta_data, work_indptr, work_info_set, *reduce = (
    from_host(np.zeros(size, np.int64 if i == 0 else np.int32), PLACE) for i, (size, _) in enumerate(info)
)
indptr = from_host(np.arange(4, dtype=np.int32), PLACE)


def call() -> None:
    positional = (indptr, indptr, None, 16, 1, True, work_meta_data, work_info_set, work_indptr, *reduce)
    aiter_c.get_mla_metadata_v1(*positional, max_seqlen_qo=1, stream=7)


call()  # loads the kernel
since = driver.call_count()
call()
names = driver.calls(since)
assert names.count(LAUNCH) == 1 and set(names) <= {LAUNCH, *AROUND}, names
last = driver.last_launch()
(row,) = (row for row in _C.kernel_table() if row["op"] == "mla_metadata" and row["arch"] == ARCH)
assert last.kernel.decode() == row["name"] == "mla_metadata"
got = (tuple(last.grid), tuple(last.block), last.stream, last.local_bytes)
assert got == ((1, 1, 1), (256, 1, 1), 7, row["local_bytes"]), got

# Workgroups of sm_90a have 64 rows at most, those of gfx942 128: a tile of more takes two of them.
units = work_indptr.shape[0] - 1
for heads, rows, pairs in (
    (1, 1, 1),
    (16, 4, 64),
    (64, 1, 64),
    (65, 1, 65),
    (16, 8, 128),
    (128, 1, 128),
    (128, 4, 128),
):
    share = 2 if pairs > 64 and VENDOR == "cuda" else 1
    assert aiter_c.get_mla_decode_fwd_max_splits(heads, rows, None, None, device=PLACE) == units // share, (heads, rows)
assert units > 100, units
print("ok")
