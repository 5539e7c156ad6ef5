"""Run by test_launch.py: launches.py {hip,cuda} DRIVER, with aiter_c on a driver that computes nothing. What is
launched: which kernel, how many workgroups, on which stream; and what is too much for one launch."""

from __future__ import annotations

import sys

import numpy as np
from runtime.fake_driver import FakeDriver

import aiter_c
from aiter_c import _C, UnsupportedError, empty, from_host
from aiter_c.testing.ops.mla_prefill import LISTS

VENDOR, PLACE = sys.argv[1], f"{sys.argv[1]}:0"
ARCH = {"hip": "gfx942", "cuda": "sm_90a"}[VENDOR]
MOST = {"hip": (2**32 - 1) // 256, "cuda": 2**31 - 1}[VENDOR]
driver = FakeDriver(VENDOR, sys.argv[2])
kernels = {row["name"]: row for row in _C.kernel_table() if row["op"] == "mla_prefill" and row["arch"] == ARCH}
units = aiter_c._C.mla_metadata_workers(1, 1, PLACE)


def call(rows: int, heads: int, batch: int, *, workers: int = 0) -> None:
    """By lists, or by the grid."""
    half = lambda *shape: empty(shape, "bfloat16", PLACE)  # noqa: E731
    indptr = from_host(np.zeros(batch + 1, np.int32), PLACE)
    arguments = dict.fromkeys(LISTS)
    if workers:
        info = aiter_c.get_ps_metadata_info_v1(batch, heads, rows, num_workers=workers)
        sizes = zip(LISTS, (size for size, _ in info[1:]), strict=True)
        arguments = {name: from_host(np.zeros(size, np.int32), PLACE) for name, size in sizes}
    aiter_c.mla_prefill_ps_fwd(
        half(rows, heads, 192), half(4, heads, 192), half(4, heads, 128), half(rows, heads, 128), indptr, indptr, None,
        max_seqlen_q=max(rows, 1), is_causal=True, stream=7, **arguments,
    )  # fmt: skip


def launched(*sizes: int, **options: int) -> object:
    """The one launch of a call without an LSE, or of a call by lists its first."""
    call(*sizes, **options)
    return driver.last_launch()


def tiles_of(rows: int, kernel: dict) -> int:
    return -(-rows // kernel["tile_rows"])


for rows, heads, batch in ((300, 2, 1), (64, 3, 2), (1, 1, 5)):
    since = driver.launches()
    last = launched(rows, heads, batch)
    kernel = kernels[last.kernel.decode()]
    assert driver.launches() == since + 1 and kernel["dims"] == ("192/128",)
    tiles = batch * heads * tiles_of(rows, kernel)
    want = min(tiles, units) if kernel["takes_turns"] else tiles
    assert tuple(last.grid) == (want, 1, 1), (tuple(last.grid), want)
    got = (tuple(last.block), last.stream, last.local_bytes)
    assert got == ((kernel["threads"], 1, 1), 7, kernel["local_bytes"]), got
since = driver.launches()
call(300, 2, 1, workers=5)
assert driver.launches() == since + 2, "stage 1 and the merge"
for empty_call in ((0, 2, 1), (300, 2, 0)):  # no rows, no requests
    since = driver.launches()
    call(*empty_call)
    assert driver.launches() == since
if not any(kernel["takes_turns"] for kernel in kernels.values()):
    since = driver.launches()
    try:  # two rows of as many heads as there may be, and as many requests as it takes
        call(2, 65535, MOST // 65535 + 1)
    except UnsupportedError as error:
        assert str(error).startswith("mla_prefill_ps_fwd: qo_indptr: "), error
    else:
        raise AssertionError("not refused")
    assert driver.launches() == since
print("ok")
