"""Published times of AITER's kernels beside what the simulator's clock says.

    cd op_tests && PYTHONPATH=.. AITER_WHEEL=... python -m oracle.clock_points

Every point is a decode call of which a code object of the wheel can run. Its plan is AITER's: the keys of all requests
in equal parts, one for each compute unit. One unit is timed; the others' work is the same and is not run. What was
published is the time of the whole call, with the kernel that joins split requests, which is not in the wheel; `split`
says where there is one. A third of the points are held back: no constant of the model was chosen by them.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import numpy as np
from gfxsim.clock import Profile, constants
from oracle import code_objects, launch
from oracle.cases import call_of
from oracle.kernels import KERNELS, Kernel
from oracle.launch import Lists, run


@dataclass(frozen=True)
class Point:
    """`batch` requests of `ctx` keys, one query token each; us: published; source: where."""

    arch: str
    kernel: str
    batch: int
    ctx: int
    us: float
    source: str
    held_back: bool = False

    @property
    def object(self) -> Kernel:
        return next(k for k in KERNELS if (k.arch, k.id) == (self.arch, self.kernel))

    @property
    def units(self) -> int:
        return next(c.value for c in constants(self.arch) if c.name == "units")

    @property
    def items(self) -> list[int]:
        """Keys of each item of the unit with most work: a whole request, or a part of one."""
        if self.batch * 2 > self.units or self.ctx < 64:
            return [self.ctx] * -(-self.batch // self.units)
        return [-(-self.ctx // (self.units // self.batch))]

    @property
    def split(self) -> bool:
        return self.items[0] < self.ctx

    @property
    def workers(self) -> int:
        """Units with work."""
        return self.units if self.split else min(self.batch, self.units)

    def profile(self) -> Profile:
        call = call_of(self.object, (1,) * len(self.items), tuple(self.items))
        inputs = call.inputs()
        pool = inputs.array("kv_buffer")
        pool[np.isnan(pool.astype(np.float32))] = 0
        starts, rows = inputs.array("kv_indptr").tolist(), 0
        items = []
        for request, queries in enumerate(inputs.q_rows):
            place = rows if self.split else -1
            items.append((request, place, queries.start, queries.stop, starts[request], starts[request + 1], 0, 0))
            rows += len(queries)
        array = lambda values, *shape: np.array(values, np.int32).reshape(-1, *shape)  # noqa: E731
        lists = Lists(array([0] + [len(items)] * self.workers), array(items, 8), array([0]), array([], 2), array([]))
        code = code_objects.read(self.arch, self.object.name)
        kept = dict(launch.OPTIONS)
        launch.OPTIONS.update(clock=1, clock_only=1, check_waits=0, check_races=0, check_uninitialized=0)
        try:
            run(self.arch, code, inputs, lists)
        finally:
            launch.OPTIONS.clear()
            launch.OPTIONS.update(kept)
        return Profile.of(code)


LONG, SHORT = "AITER PR 3072, MI355X, 128 heads, fp8, asm", "AITER PR 2039, 128 heads, fp8, asm"
POINTS = (
    Point("gfx950", "a8w8_h128", 1, 8192, 29.8, LONG),
    Point("gfx950", "a8w8_h128", 16, 8192, 52.1, LONG),
    Point("gfx950", "a8w8_h128", 1, 23333, 52.5, LONG),
    Point("gfx950", "a8w8_h128", 16, 23333, 110.0, LONG, held_back=True),
    Point("gfx950", "a8w8_h128", 32, 23333, 200.0, LONG),
    Point("gfx950", "a8w8_h128", 64, 23333, 404.0, LONG, held_back=True),
    Point("gfx950", "a8w8_h128", 128, 23333, 724.0, LONG),
    Point("gfx950", "a8w8_h128", 256, 23333, 1422.0, LONG, held_back=True),
    Point("gfx950", "a8w8_h128", 1, 21, 12.1, SHORT),
    Point("gfx950", "a8w8_h128", 128, 21, 16.2, SHORT, held_back=True),
    Point("gfx942", "a8w8_h128", 1, 21, 15.5, SHORT),
    Point("gfx942", "a8w8_h128", 128, 21, 20.6, SHORT, held_back=True),
    Point("gfx942", "a8w8_h128", 256, 21, 40.9, SHORT),
)


def main() -> None:
    print(f"AITER {code_objects.VERSION}")
    print(f"{'arch':8}{'code object':38}{'batch':>6}{'keys':>7}{'published':>10}{'predicted':>10}{'ratio':>7}")
    errors: dict[bool, list[float]] = {True: [], False: []}
    for point in POINTS:
        us = point.profile().us
        ratio = us / point.us
        errors[point.held_back].append(abs(ratio - 1))
        note = ("  held back" if point.held_back else "") + ("  split" if point.split else "")
        print(
            f"{point.arch:8}{point.object.name:38}{point.batch:6}{point.ctx:7}{point.us:10.1f}{us:10.1f}{ratio:7.2f}{note}",
            flush=True,
        )
    for held, name in ((False, "fitted to"), (True, "held back")):
        print(f"{name}: median error {statistics.median(errors[held]):.0%}, worst {max(errors[held]):.0%}")


if __name__ == "__main__":
    main()
