"""Run by test_launch.py: launches.py {hip,cuda} DRIVER, with aiter_c on a driver that computes nothing. How many
workgroups each form is launched with, on which stream, and when nothing is launched."""

from __future__ import annotations

import sys

from runtime.fake_driver import FakeDriver

import aiter_c
from aiter_c import _C, Array, empty

VENDOR = sys.argv[1]
PLACE = f"{VENDOR}:0"
ARCH = {"hip": "gfx942", "cuda": "sm_90a"}[VENDOR]
driver = FakeDriver(VENDOR, sys.argv[2])
(kernel,) = (row for row in _C.kernel_table() if row["op"] == "index_conversion" and row["arch"] == ARCH)


def ints(*shape: int) -> Array:
    return empty(shape, "int32", PLACE)


def call(form: str, rows: int, k: int, size: int | None = None) -> None:
    """With `size` entries of a packed out; None: as many as there may be."""
    out, table = ints(rows * k if size is None else size), ints(2, 9)
    convert, prefill = aiter_c.convert_req_index_to_global_index, aiter_c.convert_req_index_to_global_index_dsa_prefill
    positions, ranges = ints(rows, k), ints(rows + 1)
    if form == "lists":
        convert(ranges, ints(rows + 1), ranges, ints(50), positions, k, out, stream=7)
    elif form == "gather":
        aiter_c.gather_kv_indices_sparse(ranges, ints(rows), positions, ints(50), ints(3), k, out, stream=7)
    elif form == "prefill":
        prefill(ranges, ranges, ints(rows), positions, table, ints(3), 4, k, 1, out, stream=7)
    elif form == "ragged":
        convert(ints(rows), table, positions, ranges, out, BLOCK_SIZE=4, NUM_TOPK_TOKENS=k, stream=7)
    elif form == "padded":
        convert(ints(rows), table, positions, 4, k, ints(rows, k), stream=7)
    else:
        aiter_c.get_valid_kv_indices(positions, ranges, out, rows, stream=7)


FORMS = ("lists", "gather", "prefill", "ragged", "padded", "valid")
for form in FORMS:
    for rows, k in ((1, 1), (5, 1024), (7, 1025), (3, 2048)):
        since = driver.launches()
        call(form, rows, k)
        last, groups = driver.last_launch(), rows * (1 if form == "valid" else -(-k // 1024))
        assert driver.launches() == since + 1, form
        got = (last.kernel.decode(), tuple(last.grid), tuple(last.block), last.stream, last.local_bytes)
        assert got == (kernel["name"], (groups, 1, 1), (kernel["threads"], 1, 1), 7, kernel["local_bytes"]), (form, got)

since = driver.launches()
for form in FORMS:
    call(form, 0, 8)  # no rows, no columns, no place
    call(form, 3, 0)
    if form != "padded":
        call(form, 3, 8, 0)
assert driver.launches() == since
print("ok")
