"""Run by test_launch.py: launches.py {hip,cuda} DRIVER, with aiter_c on a driver that computes nothing. What the kernel
is launched with: which one, how many work items, on which stream; and what is too much for one launch."""

from __future__ import annotations

import sys

from runtime.fake_driver import FakeDriver

import aiter_c
from aiter_c import _C, UnsupportedError, empty

VENDOR = sys.argv[1]
PLACE = f"{VENDOR}:0"
driver = FakeDriver(VENDOR, sys.argv[2])


def call(rows: int, heads: int, dim: int) -> None:
    states = [empty((rows, heads, dim), "bfloat16", PLACE) for _ in range(2)]
    lses = [empty((heads, rows), "float32", PLACE) for _ in range(2)]
    aiter_c.merge_attn_states(states[0], states[0], lses[0], states[1], lses[1], lses[1], stream=7)


ARCH = {"hip": "gfx942", "cuda": "sm_90a"}[VENDOR]
kernels = {row["name"]: row for row in _C.kernel_table() if row["op"] == "merge_states" and row["arch"] == ARCH}
suffixes = {64: "_d64", 128: "_d128", 256: "_d256", 512: "", 1000: ""}
for dim, suffix in suffixes.items():
    since = driver.launches()
    call(11, 16, dim)
    last, kernel = driver.last_launch(), kernels["merge_states" + suffix]
    assert driver.launches() == since + 1
    assert last.kernel.decode() == kernel["name"], (dim, last.kernel)
    assert tuple(last.grid) == (-(-11 * 16 // kernel["tile_rows"]), 1, 1), (dim, last.grid[0])
    got = (tuple(last.block), last.stream, last.local_bytes)
    assert got == ((256, 1, 1), 7, 0), got

since = driver.launches()
call(0, 16, 512)  # no rows
assert driver.launches() == since

out, lse = empty((1, 1, 1), "bfloat16", PLACE), empty((1, 1), "float32", PLACE)


class Broadcast:
    """A tensor of one element as one of many rows."""

    def __init__(self, array: aiter_c.Array, shape: tuple[int, ...]) -> None:
        self.array, self.shape = array, shape

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()

    def __dlpack__(self, **options: object) -> object:
        from aiter_c.testing.dlpack import int64s, pointer_to, tensor_in

        capsule = self.array.__dlpack__(**options)
        self.sizes, self.strides = int64s(self.shape), int64s((0,) * len(self.shape))
        tensor = tensor_in(capsule)
        tensor.shape, tensor.strides = pointer_to(self.sizes), pointer_to(self.strides)
        return capsule


rows = 2**46
try:
    aiter_c.merge_states([Broadcast(out, (rows, 1, 1))], [Broadcast(lse, (rows, 1))], stream=7)
except UnsupportedError as error:
    assert str(error).startswith("merge_states: o: merge_states"), error
else:
    raise AssertionError("not refused")
assert driver.launches() == since
print("ok")
