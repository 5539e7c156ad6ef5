"""Run by test_launch.py: launches.py {hip,cuda} DRIVER, with aiter_c on a driver that computes nothing. What the
kernels are launched with: which one, how many workgroups, on which stream; and when there are two launches, or none."""

from __future__ import annotations

import sys

from runtime.fake_driver import FakeDriver

import aiter_c
from aiter_c import _C, empty

VENDOR = sys.argv[1]
PLACE = f"{VENDOR}:0"
ARCH = {"hip": "gfx942", "cuda": "sm_90a"}[VENDOR]
driver = FakeDriver(VENDOR, sys.argv[2])
kernels = {row["name"]: row for row in _C.kernel_table() if row["op"].startswith("top_k") and row["arch"] == ARCH}


def prefill(rows: int, columns: int, k: int, **values: object) -> None:
    logits, bounds = empty((rows, columns), "float32", PLACE), empty((rows,), "int32", PLACE)
    indices = empty((rows, k), "int32", PLACE)
    aiter_c.top_k_per_row_prefill(logits, bounds, bounds, indices, None, rows, columns, 1, k=k, stream=7, **values)


def decode(rows: int, columns: int, k: int, next_n: int) -> None:
    logits, lengths = empty((rows, columns), "float32", PLACE), empty((rows // next_n,), "int32", PLACE)
    indices = empty((rows, k), "int32", PLACE)
    aiter_c.top_k_per_row_decode(logits, next_n, lengths, indices, rows, columns, 1, k=k, stream=7)


def check(launches: int, name: str, groups: int) -> None:
    """So many since the last check; of the last one the rest."""
    global since
    last, kernel = driver.last_launch(), kernels[name]
    assert driver.launches() == since + launches, (name, driver.launches() - since)
    since = driver.launches()
    got = (last.kernel.decode(), tuple(last.grid), tuple(last.block), last.stream, last.local_bytes)
    assert got == (name, (groups, 1, 1), (kernel["threads"], 1, 1), 7, kernel["local_bytes"]), got


since = driver.launches()
prefill(17, 5000, 2048)
check(1, "top_k_t1024", 17)
decode(20, 5000, 64, 4)
check(1, "top_k_t1024", 20)
prefill(2000, 5000, 64)
check(1, "top_k_t256", 2000)
prefill(2000, 9000, 64)
check(1, "top_k_t512", 2000)

# Few rows: a cluster of workgroups each, or one workgroup; the longest row that is never cut.
few, shared, whole = {"hip": ("top_k_t1024", 1, 65536), "cuda": ("top_k_cluster", 8, 262_144)}[VENDOR]
prefill(16, 5000, 2048)
check(1, few, 16 * shared)
decode(8, 5000, 64, 4)
check(1, few, 8 * shared)
prefill(1, whole, 2048)
check(1, few, shared)
prefill(1, 1 << 20, 2048)  # parts, then what they hand on
check(2, "top_k_t1024", 1)

prefill(0, 100, 5)  # no rows, nothing to select
prefill(5, 100, 0)
decode(0, 100, 5, 1)
assert driver.launches() == since
prefill(5, 0, 4)  # no columns: the pads are written
check(1, few, 5 * shared)
print("ok")
