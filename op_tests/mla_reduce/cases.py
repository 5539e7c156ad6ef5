"""The lists of cases. Everything is deterministic: the same commit gives the same ids.

CORNER  the corners by name: widths around every tile and vector, counts of partials around every chunk, both kinds of
        groups, every output dtype, empty and masked partials.
SWEEP   random mixes of all features, from a fixed seed.
"""

from __future__ import annotations

import random

from aiter_c.testing import Device
from aiter_c.testing.ops.mla_reduce import EMPTY_PATTERNS, MASK_PATTERNS, O_DTYPES, MlaReduceCase

RANDOM = 160
SIMULATED_RANDOM = 40  # on each simulated architecture, others on each
WIDTHS = (64, 128, 256, 512)  # of models
ODD_WIDTHS = (1, 2, 3, 5, 16, 60, 63, 65, 96, 100, 130, 192, 255, 257, 384, 500, 511, 513, 576, 1028)
HEADS = (1, 2, 7, 16, 24, 128, 130)
MIXED = ((2, 3), (1, 1), (3, 0), (1, 7), (0, 4), (5, 2))  # groups of every kind


def _smoke() -> list[MlaReduceCase]:
    cases = [
        MlaReduceCase(
            heads=5, dv=dv, groups=MIXED, o_dtype=o_dtype, unowned_rows=3, stale_groups=2, o_strided=dv == 256
        )
        for dv in WIDTHS
        for o_dtype in O_DTYPES
    ]
    cases += [MlaReduceCase(heads=3, groups=MIXED, empty=empty, rank=4) for empty in EMPTY_PATTERNS[1:]]
    cases += [MlaReduceCase(heads=3, dv=128, groups=MIXED, masked=masked) for masked in MASK_PATTERNS[1:]]
    return cases + [
        MlaReduceCase(heads=3, dv=dv, groups=((2, 3), (1, 1)), o_dtype=O_DTYPES[dv % 3]) for dv in ODD_WIDTHS
    ]


def _corner() -> list[MlaReduceCase]:
    cases = [MlaReduceCase(heads=h, dv=WIDTHS[h % 4], groups=((1, 2), (2, 1), (1, 0)), o_strided=True) for h in HEADS]
    # Partials: around the loads in flight, the parts of a workgroup and the chunks of LSEs; the most are many chunks.
    cases += [MlaReduceCase(heads=2, dv=64 << n % 4, groups=((1, n),), spread=1.0) for n in range(1, 20)]
    cases += [
        MlaReduceCase(heads=1, dv=dv, groups=((1, n), (2, 2)), empty=empty, spread=1.0)
        for n, dv, empty in (
            (31, 512, "none"), (32, 128, "some"), (33, 64, "none"), (63, 256, "last"), (64, 64, "some"),
            (65, 128, "first"), (127, 256, "some"), (128, 512, "none"), (129, 64, "some"), (255, 512, "some"),
            (256, 512, "none"), (257, 512, "last"), (300, 128, "some"), (600, 64, "none"), (1100, 512, "some"),
        )
    ]  # fmt: skip
    # Without a map the rows follow from the locations; of one partial from max_seqlen_q.
    cases += [
        MlaReduceCase(heads=4, dv=128, groups=groups, final_map=False, max_seqlen_q=q)
        for groups, q in (
            (((1, 2),) * 3, None), (((3, 2), (3, 5), (3, 0), (3, 3)), 1), (((2, 1), (2, 1)), 2), (((4, 3), (4, 1)), 4),
        )
    ]  # fmt: skip
    # max_seqlen_q and num_kv_splits are hints.
    cases += [
        MlaReduceCase(heads=9, dv=64, groups=((7, 2), (1, 3), (12, 1)), max_seqlen_q=q, num_kv_splits=splits)
        for q, splits in ((1, None), (2, -1), (5, 1), (11, 2), (4096, 2**31 - 1), (2**31 - 1, 16))
    ]
    cases += [
        MlaReduceCase(heads=3, dv=d, groups=((4, 3),) * 3, masked="straddle", empty="some", o_dtype=o)
        for d, o in ((512, "float32"), (192, "bfloat16"))
    ]
    # LSEs whose exponentials leave fp32, in both directions, and far apart from one another.
    cases += [
        MlaReduceCase(heads=3, dv=128, groups=MIXED, level=level, spread=spread, o_dtype="float32")
        for level, spread in ((300.0, 1.0), (-300.0, 1.0), (0.0, 60.0), (1e6, 1.0), (-1e30, 0.0), (0.0, 0.0))
    ]
    return [
        *cases,
        MlaReduceCase(groups=()),
        MlaReduceCase(groups=((0, 3), (2, 0))),
        MlaReduceCase(groups=((1, 0),), return_lse=False),
        MlaReduceCase(heads=128, groups=((256, 2), (9, 1)), dv=128, return_lse=False),
        MlaReduceCase(heads=16, groups=((1, 4),) * 40, dv=512, o_dtype="float16", rank=4),
        MlaReduceCase(heads=2, dv=512, groups=((600, 2),), max_seqlen_q=256),
    ]


def _random(rng: random.Random) -> MlaReduceCase:
    final_map = rng.random() < 0.85
    most = rng.choice((1, 2, 4, 9, 40))
    count = rng.choice((1, 2, 3, 8))
    rows = rng.choice((1, 1, 2, 5))
    groups = tuple(
        (rng.choice((0, 1, 1, 2, 5, 9)) if final_map else rows, rng.choice((0, 1, 2, rng.randint(1, most))))
        for _ in range(count)
    )
    largest = max(1, *(rows for rows, _ in groups))
    one_part = not final_map and any(parts == 1 for _, parts in groups)  # max_seqlen_q decides its rows
    return MlaReduceCase(
        heads=rng.choice((1, 3, 5, 8, 12, 16, 20)),
        dv=rng.choice((*WIDTHS, *WIDTHS, rng.randint(1, 600))),
        groups=groups,
        o_dtype=rng.choice(O_DTYPES),
        final_map=final_map,
        return_lse=rng.random() < 0.8,
        rank=rng.choice((3, 4)),
        max_seqlen_q=rows if one_part else rng.choice((None, None, 1, largest + 3)),
        o_strided=rng.random() < 0.4,
        unowned_rows=rng.choice((0, 0, 3)) if final_map else 0,
        stale_groups=rng.choice((0, 0, 5)) if final_map else 0,
        empty=rng.choice(EMPTY_PATTERNS),
        masked=rng.choice(MASK_PATTERNS) if final_map else "none",
        spread=rng.choice((0.5, 3.0, 20.0)),
        seed=rng.randrange(1000),
    )


SMOKE = _smoke()
CORNER = _corner()
_rng = random.Random(20)
SWEEP = [_random(_rng) for _ in range(RANDOM)]
ALL = list(dict.fromkeys(SMOKE + CORNER + SWEEP))


def on_device(cases: list[MlaReduceCase], device: Device) -> list[MlaReduceCase]:
    """On a simulated device a part of SWEEP, and nothing that is only large."""
    if not device.simulated:
        return cases
    part = {"gfx942": 0, "gfx950": 1}[device.name]
    random_cases = set(SWEEP[part * SIMULATED_RANDOM : (part + 1) * SIMULATED_RANDOM])
    return [case for case in cases if (case not in SWEEP or case in random_cases) and _elements(case) < 400_000]


def _elements(case: MlaReduceCase) -> int:
    return sum(rows * parts for rows, parts in case.groups) * case.heads * case.dv
