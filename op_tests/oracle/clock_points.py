"""Published times of AITER's kernels beside what the simulator's clock says.

    cd op_tests && PYTHONPATH=.. AITER_WHEEL=... AITER_OBJECTS=... python -m oracle.clock_points

Every point is a decode call of which a code object can run, of the wheel or of a later commit (code_objects.py). All
were measured with AITER's op_tests/test_mla_persistent.py, or as it does: the sum of the times of the call's kernels,
which are the decode and one that joins the parts of split requests; pages of one token; 101 copies of the tensors in
turn, which the Infinity Cache holds where they are small. So a prediction is of two launches. The plan is the one that
the test asks for, with at most 32 parts of a request; one unit, of those with most work, is timed. AITER compiles the
joining kernel when it is first called, no package holds it: gfxsim/data/merge.hip, written to make the same accesses,
stands in for it.

Of the wheel's points two in five are held back, and all of the later commit's: no constant of the model was chosen by
them.
"""

from __future__ import annotations

import functools
import statistics
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import gfxsim
import numpy as np
from gfxsim import Simulator
from gfxsim.clock import Profile, constants
from oracle import code_objects, launch
from oracle.cases import call_of
from oracle.kernels import ARCHS, FP8, KERNELS, LATER, LATER_PERSISTENT, Kernel
from oracle.launch import Lists, run

MERGE = Path(gfxsim.__file__).parent / "data"  # ARCH/merge.co
TIMED = {"clock": 1, "clock_only": 1, "check_waits": 0, "check_races": 0, "check_uninitialized": 0}
#: Of the test's plan: parts of a request at most, keys of a block, blocks that an item counts beside its own.
MOST_PARTS, BLOCK, OVERHEAD = 32, 16, 16
#: Of the test's tensors; bytes (white papers of CDNA3 and CDNA4).
COPIES, INFINITY_CACHE = 101, 256 << 20

#: Keys, and whether they are all of the request's.
Item = tuple[int, bool]


def units_of(arch: str) -> int:
    return next(constant.value for constant in constants(arch) if constant.name == "units")


def plan(batch: int, ctx: int, heads: int, units: int) -> list[list[tuple[int, int, int]]]:
    """(request, first key, behind the last one) of each unit's items, as AITER plans requests of one length: units are
    filled one after the other, a request goes on where the one before is full."""
    most = min(MOST_PARTS, -(-units // batch)) if heads >= 128 else MOST_PARTS
    blocks = -(-ctx // BLOCK)
    budget = -(-batch * (blocks + OVERHEAD) // min(units, most * batch)) + OVERHEAD
    work: list[list[tuple[int, int, int]]] = []
    request = done = 0
    while request < batch:
        left = budget
        work.append([])
        while request < batch and left > OVERHEAD:
            take = min(blocks - done, left - OVERHEAD)
            work[-1].append((request, done * BLOCK, min((done + take) * BLOCK, ctx)))
            left, done = left - take - OVERHEAD, done + take
            if done == blocks:
                request, done = request + 1, 0
    return work


def timed(kernel: Kernel, q_len: int, items: list[Item], workers: int, near: bool = False) -> Profile:
    """A worker's items, each of a request of its own; the other workers have as many, and do not run. near: what they
    read is in the Infinity Cache."""
    call = call_of(kernel, (q_len,) * len(items), tuple(keys for keys, _ in items))
    inputs = call.inputs()
    pool = inputs.array("kv_buffer")
    pool[np.isnan(pool.astype(np.float32))] = 0
    starts, rows = inputs.array("kv_indptr").tolist(), 0
    work = []
    for request, queries in enumerate(inputs.q_rows):
        place = -1 if items[request][1] else rows
        work.append((request, place, queries.start, queries.stop, starts[request], starts[request + 1], 0, 0))
        rows += len(queries)
    array = lambda values, *shape: np.array(values, np.int32).reshape(-1, *shape)  # noqa: E731
    lists = Lists(array([0] + [len(work)] * workers), array(work, 8), array([0]), array([], 2), array([]))
    code = kernel.code
    kept = dict(launch.OPTIONS)
    launch.OPTIONS.update(TIMED, clock_near=int(near))
    try:
        run(kernel.arch, code, inputs, lists, kernel.later)
    finally:
        launch.OPTIONS.clear()
        launch.OPTIONS.update(kept)
    return Profile.of(code)


def merge_inputs(q_len: int, parts: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of requests in so many parts, 0: whole: where their parts begin and end among all, the final rows, where the
    partial rows of each part begin."""
    bounds = np.concatenate([[0], np.cumsum(parts)]).astype(np.int32)
    rows = np.arange(len(parts) + 1, dtype=np.int32) * q_len
    return bounds, np.stack([rows[:-1], rows[1:]], axis=1), np.arange(max(sum(parts), 1), dtype=np.int32) * q_len


@functools.cache
def merged(arch: str, heads: int, q_len: int, parts: tuple[int, ...]) -> Profile:
    """The merge of requests in so many parts. AITER launches its own where none is split, too: it looks at one list and
    ends."""
    parts = parts if any(parts) else (0,)
    lists, code = merge_inputs(q_len, parts), MERGE / arch / "merge.co"
    rows = max(sum(parts), 1) * q_len
    partials, lse = np.zeros((rows, heads, 512), np.float32), np.zeros((rows, heads), np.float32)
    out = np.zeros((len(parts) * q_len, heads, 512), np.uint16)
    simulator = Simulator()
    for name, value in (TIMED | {"clock_near": 1}).items():  # the decode has just written the parts
        simulator.set_option(name, value)
    try:
        gfxsim.launch(code, "merge", [*lists, lse, partials, out, heads], (heads, q_len, len(parts)), 128)
    finally:
        simulator.reset_options()
    return Profile.of(code)


def clocks_per_key(arch: str, kernel: str, q_len: int) -> float:
    """Of a compute unit, all units at work: 2048 keys minus 1024, as `bench simcost` has it for ours."""
    known, units = (*KERNELS, *LATER, *LATER_PERSISTENT), units_of(arch)
    found = next(k for k in known if (k.arch, k.id) == (arch, kernel))
    long, short = (timed(found, q_len, [(keys, True)], units).cycles for keys in (2048, 1024))
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
    def q_len(self) -> int:
        return self.object.q_lens[0]

    @property
    def plan(self) -> list[list[tuple[int, int, int]]]:
        units = MI300_UNITS if self.arch == "gfx942" else units_of(self.arch)
        return plan(self.batch, self.ctx, self.object.heads, units)

    @property
    def parts(self) -> tuple[int, ...]:
        """Of each request; 0: it is whole."""
        counts = Counter(request for items in self.plan for request, _, _ in items)
        return tuple(counts[request] if counts[request] > 1 else 0 for request in range(self.batch))

    @property
    def items(self) -> list[Item]:
        """Of the unit with most work."""
        cost = lambda items: sum(end - begin + OVERHEAD * BLOCK for _, begin, end in items)  # noqa: E731
        return [(end - begin, end - begin == self.ctx) for _, begin, end in max(self.plan, key=cost)]

    @property
    def near(self) -> bool:
        """The test goes around over 101 copies of the tensors: whether the Infinity Cache holds all."""
        kernel = self.object
        q_bytes, kv_bytes = (2 if dtype == "bfloat16" else 1 for dtype in kernel.dtypes)
        row = kernel.heads * (576 * q_bytes + 512 * 2)
        return COPIES * self.batch * (self.ctx * 576 * kv_bytes + self.q_len * row) <= INFINITY_CACHE

    def profiles(self) -> tuple[Profile, Profile]:
        """Of the decode, and of the merge."""
        decode = timed(self.object, self.q_len, self.items, len(self.plan), self.near)
        return decode, merged(self.arch, self.object.heads, self.q_len, self.parts)

    def predicted(self) -> float:
        return sum(profile.us for profile in self.profiles())


#: What AITER's pull request 2039 calls MI300 has fewer than 256 units, as 256 requests take twice the time of 128: an
#: MI300A, which has 228.
MI300_UNITS = 228
LONG, SHORT = "AITER PR 3072, MI355X, 128 heads, fp8, asm", "AITER PR 2039, 128 heads, fp8, asm"


def _row(arch: str, source: str, ctx: int, *row: tuple[int, float, bool]) -> tuple[Point, ...]:
    """(batch, us, held back)."""
    return tuple(Point(arch, "a8w8_h128", batch, ctx, us, source, held) for batch, us, held in row)


#: Of the wheel. Its code objects are those that pull request 2039 has.
POINTS = (
    *_row("gfx950", LONG, 8192, (1, 29.8, False), (3, 29.8, False), (5, 31.6, True), (16, 52.1, False)),
    *_row("gfx950", LONG, 23333, (1, 52.5, False), (3, 54.6, True), (5, 57.6, False), (16, 110.0, True)),
    *_row("gfx950", LONG, 23333, (32, 199.8, False), (64, 403.9, True), (128, 724.4, False), (256, 1422.0, True)),
    *_row("gfx950", SHORT, 21, (1, 12.1, False), (16, 13.6, False), (128, 16.2, True), (256, 20.4, False)),
    *_row("gfx942", SHORT, 21, (1, 15.5, False), (16, 16.4, False), (64, 18.9, True), (128, 20.6, True)),
    *_row("gfx942", SHORT, 21, (256, 40.9, False)),
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
        for ctx, us in ((21, 15.8), (256, 19.0), (1024, 20.0), (3200, 24.4), (8192, 33.0))
    ),
    *(
        Point("gfx950", "a8w8_h32_q4", 1, ctx, us, VERIFY, held_back=True)
        for ctx, us in ((32768, 57.1), (49152, 74.6), (70000, 95.4))
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


#: The same of the later commit, of which `bench simcost` quotes the fastest.
LATER_QUOTED = {
    (arch, kernel, q_len): (arch, dtype if dtype == "bfloat16" else FP8[arch], heads, q_len)
    for arch, kernel, dtype, heads, q_len in (
        ("gfx942", "a8w8_qh64_qseqlen1_gqaratio64_v3_ps", "fp8", 64, 1),
        ("gfx942", "a8w8_qh64_qseqlen4_gqaratio16_ps", "fp8", 16, 4),
        ("gfx950", "a16w16_h32", "bfloat16", 32, 1),
        ("gfx950", "a16w16_h64", "bfloat16", 64, 1),
        ("gfx950", "a16w16_qh16_qseqlen4_gqaratio16_ps", "bfloat16", 16, 4),
        ("gfx950", "a16w16_qh32_qseqlen4_gqaratio32_ps", "bfloat16", 32, 4),
        ("gfx950", "a8w8_h32", "fp8", 32, 1),
        ("gfx950", "a8w8_qh16_qseqlen4_gqaratio16_v3_ps", "fp8", 16, 4),
        ("gfx950", "a8w8_qh32_qseqlen4_gqaratio32_ps", "fp8", 32, 4),
    )
}


def report(points: tuple[Point, ...]) -> None:
    """Of every point what was published, what is predicted, and their ratio; then how far off they are."""
    widths = f"{'published':>10}{'decode':>8}{'merge':>7}{'both':>8}{'ratio':>7}"
    print(f"{'arch':8}{'code object':44}{'batch':>6}{'keys':>7}{'parts':>6}{widths}")
    errors: dict[bool, list[float]] = {True: [], False: []}
    for point in points:
        decode, merge = point.profiles()
        us = decode.us + merge.us
        errors[point.held_back].append(abs(us / point.us - 1))
        shape = f"{point.arch:8}{point.object.name:44}{point.batch:6}{point.ctx:7}{max(max(point.parts), 1):6}"
        times = f"{point.us:10.1f}{decode.us:8.1f}{merge.us:7.1f}{us:8.1f}{us / point.us:7.2f}"
        print(shape + times + ("  held back" if point.held_back else ""), flush=True)
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
    print("clocks per key, as in bench simcost")
    quoted = (*(QUOTED if code_objects.available() else ()), *(LATER_QUOTED if code_objects.later_available() else ()))
    for arch, kernel, q_len in quoted:
        print(f"{arch:8}{kernel:40}q {q_len}{clocks_per_key(arch, kernel, q_len):8.1f}", flush=True)


if __name__ == "__main__":
    main()
