"""Run by test_launch.py: launches.py {hip,cuda} DRIVER, with aiter_c on a driver that computes nothing. What the kernel
is launched with: which one, how many work items, on which stream; and what is too much for one launch."""

from __future__ import annotations

import sys

import numpy as np
from runtime.fake_driver import FakeDriver

import aiter_c
from aiter_c import _C, UnsupportedError, empty, from_host

VENDOR = sys.argv[1]
MOST = {"hip": (2**32 - 1) // 256, "cuda": 2**31 - 1}[VENDOR]
driver = FakeDriver(VENDOR, sys.argv[2])


def call(heads: int, dv: int, groups: int, rows: int, max_seqlen_q: int, *, with_lse: bool = True) -> None:
    """Of `groups` groups; where they begin is in the memory of the first entries."""
    place = f"{VENDOR}:0"
    aiter_c.mla_reduce_v1(
        empty((2, heads, dv), "float32", place), empty((2, heads), "float32", place),
        from_host(np.zeros(groups + 1, np.int32), place), None, from_host(np.zeros(2, np.int32), place),
        max_seqlen_q, 0, empty((rows, heads, dv), "bfloat16", place),
        empty((rows, heads), "float32", place) if with_lse else None, stream=7,
    )  # fmt: skip


def launched(*sizes: int, **options: bool) -> object:
    since = driver.launches()
    call(*sizes, **options)
    assert driver.launches() == since + 1
    return driver.last_launch()


def grid(items: int) -> int:
    """Workgroups: one per work item, or on sm_90a two per unit, which take turns."""
    return 2 * 132 if VENDOR == "cuda" else items


ARCH = {"hip": "gfx942", "cuda": "sm_90a"}[VENDOR]
kernels = {row["name"]: row for row in _C.kernel_table() if row["op"] == "mla_merge" and row["arch"] == ARCH}
widths = (
    {64: "_d64", 128: "_d128", 256: "_d256", 512: "", 1000: ""} if VENDOR == "hip" else dict.fromkeys((64, 512), "")
)
for dv, suffix in widths.items():
    last = launched(16, dv, 5, 9, 3)
    kernel = kernels["mla_merge_lists" + suffix]
    tiles = -(-16 // kernel["tile_rows"])
    assert last.kernel.decode() == kernel["name"], dv
    assert tuple(last.grid) == (grid(5 * 3 * tiles), 1, 1), (dv, last.grid[0])
    got = (tuple(last.block), last.stream, last.local_bytes)
    assert got == ((256, 1, 1), 7, kernel["local_bytes"]), got
assert launched(16, 512, 5, 2, 2**31 - 1).grid[0] == grid(5 * 2 * 16), "more slots than final rows"
assert launched(16, 512, 5, 9, 3, with_lse=False).grid[0] == grid(5 * 3 * 16)

# As many slots as a launch holds: later rows follow in the same work items.
groups, heads, rows = 40_000, 128, 5000
slots = MOST // (groups * heads)
assert 1 < slots < rows and launched(heads, 512, groups, rows, 2**31 - 1).grid[0] == grid(groups * heads * slots)

for sizes in ((16, 512, 0, 9, 3), (16, 512, 5, 0, 3)):  # no groups, no final rows
    since = driver.launches()
    call(*sizes)
    assert driver.launches() == since

since = driver.launches()
try:
    call(128, 512, MOST // 128 + 1, 1, 1)
except UnsupportedError as error:
    assert str(error).startswith("mla_reduce_v1: reduce_indptr: mla_merge_lists: expected at most "), error
else:
    raise AssertionError("not refused")
assert driver.launches() == since
print("ok")
