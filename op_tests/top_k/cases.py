"""The lists of cases. Everything is deterministic: the same commit gives the same ids.

SMOKE   one of everything, seconds: other CPU paths and sanitizers run it.
CORNER  every kind of data against sizes at the borders of vectors, blocks and k; every kind of window.
SWEEP   random mixes of all fields, from a fixed seed.
"""

from __future__ import annotations

import random
from itertools import cycle, product

from aiter_c.testing import Device
from aiter_c.testing.ops.top_k import DATA, SPLIT_COLUMNS, WINDOWS, TopKCase

RANDOM = 150
SIMULATED_RANDOM = 30  # on each simulated architecture, others on each
WIDTHS = (1, 3, 4, 5, 8, 15, 16, 17, 31, 33, 100)  # around vectors of 4, 8 and 16 lanes
BLOCKS = (1023, 1024, 1025, 1040, 2048, 2500)  # around what a pass looks at at once

SMOKE = [
    *(TopKCase(columns=1100, k=70, data=data, window="mixed", rows=9, gap=3, out_gap=5) for data in DATA),
    *(TopKCase(columns=77, k=13, window=window, spare_rows=1, spare_k=2) for window in WINDOWS),
    *(TopKCase(columns=77, k=13, window="mixed", rows=9, next_n=n, data="few") for n in (1, 2, 4)),
    *(TopKCase(columns=SPLIT_COLUMNS, rows=1, k=k, data=data) for k in (1, 2500) for data in ("normal", "few")),
    TopKCase(columns=SPLIT_COLUMNS + 5, rows=1, k=300, data="late_ties", window="inside", values=False),
    TopKCase(rows=0),
    TopKCase(k=0),
    TopKCase(columns=0, k=4),
]

# What only long rows show on a GPU: ties of two rounds of a workgroup, rows in parts, which a second launch merges.
LONG = [
    TopKCase(columns=33_000, rows=1, k=20_000, data="few"),
    TopKCase(columns=66_000, rows=2, k=5, gap=1),
]


def _corners() -> list[TopKCase]:
    data = cycle(DATA)
    cases = [
        TopKCase(columns=n, k=k, data=next(data), gap=gap)
        for n in WIDTHS
        for k, gap in zip(sorted({1, 2, n // 2 + 1, n - 1, n, n + 1} - {0}), cycle((0, 1, 7)), strict=False)
    ]
    cases += [TopKCase(columns=n, k=k, data=next(data), rows=2) for n, k in product(BLOCKS, (1, 64, 1000, 2047))]
    cases += [TopKCase(columns=1500, k=k, data=kind, rows=2) for kind in DATA for k in (1, 700, 1499)]
    cases += [
        TopKCase(columns=60, k=k, window=window, rows=6, next_n=n, data="few", spare_rows=1)
        for window in WINDOWS
        for n, k in ((None, 7), (1, 7), (3, 60), (5, 7))
    ]
    # More rows than a device has compute units: on a GPU other kernels, for short rows and for long ones.
    cases += [
        TopKCase(rows=310, columns=n, k=k, data=data, window="mixed", next_n=next_n)
        for n, k, data, next_n in ((300, 40, "few", None), (1100, 900, "normal", 2), (8200, 70, "some_nan", None))
    ]
    cases += LONG
    cases += [TopKCase(columns=SPLIT_COLUMNS, rows=1, k=2048, data=kind) for kind in DATA]
    cases += [
        TopKCase(columns=SPLIT_COLUMNS, rows=1, k=k, window="inside", seed=s) for k in (9, 4000) for s in (0, 1, 2)
    ]
    # On sm_90a: rows too many or too long for clusters; a cluster whose last workgroups have no columns.
    cases += [TopKCase(columns=9000, rows=20, k=70, data="some_nan", window="mixed")]
    cases += [TopKCase(columns=33_000, rows=17, k=20_000, data="few"), TopKCase(columns=20_000, rows=140, k=5000)]
    cases += [TopKCase(columns=n, rows=1, k=3000, data="late_ties") for n in (100_000, 262_144, 262_145)]
    cases += [TopKCase(columns=SPLIT_COLUMNS, rows=1, k=k, window="short", data="few") for k in (9, 4000)]
    cases += [TopKCase(columns=SPLIT_COLUMNS, rows=1, k=9, window=window) for window in WINDOWS]
    cases += [TopKCase(columns=SPLIT_COLUMNS, rows=1, k=500, next_n=1, seed=s, window="inside") for s in range(3)]
    return cases


def _sweep() -> list[TopKCase]:
    rng = random.Random(0)
    out = []
    for seed in range(RANDOM):
        columns = rng.choice((rng.randrange(1, 40), rng.randrange(1, 400), rng.randrange(1, 4000)))
        next_n = rng.choice((None, None, 1, rng.randrange(1, 6)))
        k = rng.choice((1, rng.randrange(1, columns + 1), rng.randrange(1, columns + 9), columns))
        small = {name: rng.choice((0, rng.randrange(4))) for name in ("spare_rows", "spare_k", "gap", "out_gap")}
        rows, data, window = rng.randrange(1, 8), rng.choice(DATA), rng.choice((*WINDOWS, "mixed"))
        out.append(
            TopKCase(
                rows=rows, columns=columns, k=k, next_n=next_n, data=data, window=window, **small, seed=seed,
                values=rng.random() < 0.7,
            )
        )  # fmt: skip
    return out


CORNER = _corners()
SWEEP = _sweep()
ALL = list(dict.fromkeys((*SMOKE, *CORNER, *SWEEP)))


def on_device(cases: list[TopKCase], device: Device) -> list[TopKCase]:
    """On a simulated device a part of SWEEP, and of the cases of long rows beside LONG."""
    if not device.simulated:
        return cases
    part = {"gfx942": 0, "gfx950": 1}[device.name]
    random_cases = set(SWEEP[part * SIMULATED_RANDOM : (part + 1) * SIMULATED_RANDOM])
    long = [case for case in cases if case.columns >= SPLIT_COLUMNS and case not in LONG]
    left_out = (set(SWEEP) - random_cases) | (set(long) - set(long[part::6]))
    return [case for case in cases if case not in left_out]
