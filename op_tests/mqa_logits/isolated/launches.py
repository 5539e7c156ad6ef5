"""Run by test_launch.py: launches.py {hip,cuda} DRIVER, with aiter_c on a driver that computes nothing. What the
kernels are launched with: which one, how many workgroups, how much shared memory, on which stream."""

from __future__ import annotations

import sys

from runtime.fake_driver import FakeDriver

import aiter_c
from aiter_c import _C, empty

VENDOR = sys.argv[1]
PLACE = f"{VENDOR}:0"
ARCH, OWN, OTHER = {
    "hip": ("gfx942", "float8_e4m3fnuz", "float8_e4m3fn"),
    "cuda": ("sm_90a", "float8_e4m3fn", "float8_e4m3fnuz"),
}[VENDOR]
driver = FakeDriver(VENDOR, sys.argv[2])
kernels = {row["name"]: row for row in _C.kernel_table() if row["op"] == "mqa_logits" and row["arch"] == ARCH}


def paged(batch: int, q_len: int, heads: int, columns: int, dtype: str = OWN) -> None:
    """Over pages of 64."""
    rows = batch * q_len
    aiter_c.deepgemm_fp8_paged_mqa_logits(
        empty((batch, q_len, heads, 128), "uint8", PLACE), empty((9, 64, 1, 132), "uint8", PLACE),
        empty((rows, heads), "float32", PLACE), empty((rows, columns), "float32", PLACE),
        empty((batch,), "int32", PLACE), empty((batch, 9), "int32", PLACE), columns, False, 64, q_dtype=dtype,
        kv_dtype=OWN, stream=7,
    )  # fmt: skip


def contiguous(rows: int, keys: int, heads: int, dtype: str = OWN) -> None:
    aiter_c.fp8_mqa_logits(
        empty((rows, heads, 128), "uint8", PLACE), empty((keys, 128), "uint8", PLACE), empty((keys,), "float32", PLACE),
        empty((rows, heads), "float32", PLACE), empty((rows,), "int32", PLACE), empty((rows,), "int32", PLACE),
        q_dtype=dtype, kv_dtype=OWN, logits=empty((rows, keys), "float32", PLACE), stream=7,
    )  # fmt: skip


def check(name: str, groups: int) -> None:
    """Of the launch that was the last."""
    last, kernel = driver.last_launch(), kernels[name]
    assert last.kernel.decode() == name, (name, last.kernel)
    got = (tuple(last.grid), tuple(last.block), last.stream, last.local_bytes)
    assert got == ((groups, 1, 1), (kernel["threads"], 1, 1), 7, kernel["local_bytes"]), (name, got)


for heads, dtype, suffix in ((5, OWN, "_h32"), (32, OWN, "_h32"), (33, OWN, "_h64"), (64, OTHER, "_h64_f16")):
    name = f"mqa_logits_paged{suffix}"
    keys, rows = kernels[name]["block_keys"], kernels[name]["block_rows"]
    paged(2, 7, heads, 1000, dtype)
    check(name, 2 * -(-7 // rows) * -(-1000 // keys))
    name = f"mqa_logits_contiguous{suffix}"
    contiguous(40, 700, heads, dtype)
    check(name, -(-700 // kernels[name]["block_keys"]) * -(-40 // 16))

for heads, dtype, suffix in ((5, OWN, "_h32"), (33, OWN, "_h64"), (64, OTHER, "_h64_f16")):  # a single row
    one = "_one" if VENDOR == "cuda" and dtype == OWN else ""
    paged(1, 1, heads, 1000, dtype)
    check(f"mqa_logits_paged{one}{suffix}", -(-1000 // kernels[f"mqa_logits_paged{suffix}"]["block_keys"]))
    paged(2, 1, heads, 1000, dtype)
    check(f"mqa_logits_paged{suffix}", 2 * -(-1000 // kernels[f"mqa_logits_paged{suffix}"]["block_keys"]))

since = driver.launches()
paged(0, 1, 64, 100)  # no requests, no columns, no rows, no keys
paged(2, 1, 64, 0)
contiguous(0, 9, 64)
contiguous(9, 0, 64)
assert driver.launches() == since
print("ok")
