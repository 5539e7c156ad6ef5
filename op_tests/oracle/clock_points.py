"""Published times of AITER's kernels beside what the simulator's clock says.

    cd op_tests && PYTHONPATH=.. AITER_WHEEL=... AITER_OBJECTS=... python -m oracle.clock_points

Every point is a decode call of which a code object can run, of the wheel or of a later commit (code_objects.py). Its
plan is AITER's: the keys of all requests in equal parts, one for each compute unit. One unit is timed; the others' work
is the same and is not run. What was published is the time of the whole call, with the kernel that joins split requests,
which is not in it; `split` says where there is one. A third of the wheel's points, and all of the later commit's, are
held back: no constant of the model was chosen by them.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import numpy as np
from gfxsim.clock import Profile, constants
from oracle import code_objects, launch
from oracle.cases import call_of
from oracle.kernels import ARCHS, FP8, KERNELS, LATER, Kernel
from oracle.launch import Lists, run


def units_of(arch: str) -> int:
    return next(constant.value for constant in constants(arch) if constant.name == "units")


def timed(kernel: Kernel, q_len: int, items: list[int], workers: int, split: bool) -> Profile:
    """A worker's items of so many keys, each of a request of its own or, `split`, a part of one; the other workers have
    as many, and do not run."""
    call = call_of(kernel, (q_len,) * len(items), tuple(items))
    inputs = call.inputs()
    pool = inputs.array("kv_buffer")
    pool[np.isnan(pool.astype(np.float32))] = 0
    starts, rows = inputs.array("kv_indptr").tolist(), 0
    work = []
    for request, queries in enumerate(inputs.q_rows):
        place = rows if split else -1
        work.append((request, place, queries.start, queries.stop, starts[request], starts[request + 1], 0, 0))
        rows += len(queries)
    array = lambda values, *shape: np.array(values, np.int32).reshape(-1, *shape)  # noqa: E731
    lists = Lists(array([0] + [len(work)] * workers), array(work, 8), array([0]), array([], 2), array([]))
    code = kernel.code
    kept = dict(launch.OPTIONS)
    launch.OPTIONS.update(clock=1, clock_only=1, check_waits=0, check_races=0, check_uninitialized=0)
    try:
        run(kernel.arch, code, inputs, lists, kernel.later)
    finally:
        launch.OPTIONS.clear()
        launch.OPTIONS.update(kept)
    return Profile.of(code)


def clocks_per_key(arch: str, kernel: str, q_len: int) -> float:
    """Of a compute unit, all units at work: 2048 keys minus 1024, as `bench simcost` has it for ours."""
    found, units = next(k for k in KERNELS if (k.arch, k.id) == (arch, kernel)), units_of(arch)
    long, short = (timed(found, q_len, [keys], units, split=False).cycles for keys in (2048, 1024))
    return (long - short) / 1024


@dataclass(frozen=True)
class Point:
    """`batch` requests of `ctx` keys, with as many query tokens as the kernel is for; us: published; source: where."""

    arch: str
    kernel: str
    batch: int
    ctx: int
    us: float
    source: str
    held_back: bool = False

    @property
    def object(self) -> Kernel:
        return next(k for k in (*KERNELS, *LATER) if (k.arch, k.id) == (self.arch, self.kernel))

    @property
    def units(self) -> int:
        return units_of(self.arch)

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
        return timed(self.object, self.object.q_lens[0], self.items, self.workers, self.split)


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

PERSISTENT, VERIFY = "AITER PR 5456, MI355X, 32 heads, page 1", "AITER PR 3003, MI355X, 32 heads, 4 tokens, fp8"
#: Of code_objects.LATER; nothing was fitted to them.
LATER_POINTS = (
    *(
        Point("gfx950", "a16w16_h32", batch, ctx, us, PERSISTENT, held_back=True)
        for ctx, row in ((4096, (34.8, 47.3, 75.8, 130.5)), (16384, (73.5, 126.0, 231.0, 429.0)))
        for batch, us in zip((16, 32, 64, 128), row, strict=True)
    ),
    Point("gfx950", "a16w16_h32", 16, 65536, 229.0, PERSISTENT, held_back=True),
    *(
        Point("gfx950", "a8w8_h32", batch, ctx, us, PERSISTENT, held_back=True)
        for ctx, row in ((4096, (26.9, 35.3, 48.9, 78.2)), (16384, (49.0,)))
        for batch, us in zip((16, 32, 64, 128), row, strict=False)
    ),
    *(
        Point("gfx950", "a8w8_h32_q4", 1, ctx, us, VERIFY, held_back=True)
        for ctx, us in ((1024, 20.0), (8192, 33.0), (32768, 57.1), (70000, 95.4))
    ),
)

#: (arch, kernel of the wheel, q length) -> its row in `bench simcost`, which quotes what clocks_per_key says of it.
QUOTED = {
    (arch, kernel, q_len): (arch, dtype if dtype == "bfloat16" else FP8[arch], heads, q_len)
    for arch in ARCHS
    for kernel, dtype, heads, q_len in (
        ("a16w16", "bfloat16", 16, 4),
        ("a8w8_q1", "fp8", 16, 1),
        ("a8w8_h128", "fp8", 128, 1),
    )
}


def report(points: tuple[Point, ...]) -> None:
    """Of every point what was published, what is predicted, and their ratio; then how far off they are."""
    print(f"{'arch':8}{'code object':44}{'batch':>6}{'keys':>7}{'published':>10}{'predicted':>10}{'ratio':>7}")
    errors: dict[bool, list[float]] = {True: [], False: []}
    for point in points:
        us = point.profile().us
        ratio = us / point.us
        errors[point.held_back].append(abs(ratio - 1))
        note = ("  held back" if point.held_back else "") + ("  split" if point.split else "")
        shape = f"{point.arch:8}{point.object.name:44}{point.batch:6}{point.ctx:7}"
        print(f"{shape}{point.us:10.1f}{us:10.1f}{ratio:7.2f}{note}", flush=True)
    for held, name in ((False, "fitted to"), (True, "held back")):
        if errors[held]:
            print(f"{name}: median error {statistics.median(errors[held]):.0%}, worst {max(errors[held]):.0%}")


def main() -> None:
    if code_objects.available():
        print(f"AITER {code_objects.VERSION}")
        report(POINTS)
    if code_objects.later_available():
        print(f"AITER {code_objects.LATER}")
        report(LATER_POINTS)
    if code_objects.available():
        print("clocks per key, as in bench simcost")
        for (arch, kernel, q_len), _ in QUOTED.items():
            print(f"{arch:8}{kernel:12}q {q_len}{clocks_per_key(arch, kernel, q_len):8.1f}", flush=True)


if __name__ == "__main__":
    main()
