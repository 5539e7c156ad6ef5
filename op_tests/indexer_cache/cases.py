"""The lists of cases of the three ops. Everything is deterministic: the same commit gives the same ids.

SMOKE   every op, layout, dtype and kind of slots and tables.
CORNER  widths of groups, page sizes, strides, nothing at all.
SWEEP   random mixes of all fields from a fixed seed.
"""

from __future__ import annotations

import random

from aiter_c.testing import Case, Device
from aiter_c.testing.ops.cache_write import DATA, SLOTS
from aiter_c.testing.ops.exact import FP8
from aiter_c.testing.ops.indexer_cache import IndexerGatherCase, IndexerRopeCase, IndexerWriteCase

RANDOM = 200
SIMULATED_RANDOM = 40  # on each simulated architecture, others on each
TABLES = ("good", "some", "short", "any")
FORMATS = ("ue8m0", "fp32", "", None)


def _smoke() -> list[Case]:
    cases: list[Case] = []
    for i, slots in enumerate(SLOTS):
        for cache in FP8:
            for preshuffle in (False, True):
                shared = {"slots": slots, "cache": cache, "preshuffle": preshuffle, "page_size": 16, "seed": i}
                shared |= {"scale_fmt": FORMATS[i % 4]}
                cases += [IndexerWriteCase(**shared), IndexerRopeCase(**shared, q_out=cache, all_q=i % 2 == 1)]
    cases += [IndexerRopeCase(neox=n, all_q=a, positions="far") for n in (True, False) for a in (True, False)]
    return cases + [
        IndexerGatherCase(table=table, preshuffle=tiled, page_size=16, bytes_scale=tiled)
        for table in TABLES
        for tiled in (True, False)
    ]


def _corner() -> list[Case]:
    cases: list[Case] = []
    for dim in (128, 64, 16, 48, 512, 7, 1, 192):
        for group in (n for n in (1, 2, 3, 4, 7, 8, 16, 24, 32, 64, 96, 128, 192, 256, 512) if dim % n == 0):
            cases.append(IndexerWriteCase(dim=dim, group=group, pad=group % 5, seed=group))
            cases.append(IndexerGatherCase(dim=dim, group=group, pad=group % 3, seed=group))
        if dim % 16 == 0:
            cases += [IndexerWriteCase(dim=dim, group=group, page_size=32, preshuffle=True)
                      for group in {dim, dim // 2, 4}]  # fmt: skip
            cases.append(IndexerGatherCase(dim=dim, group=dim, page_size=16, preshuffle=True))
    for size in (1, 2, 5, 16, 53, 64, 69, 256):
        for preshuffle in (False, True) if size % 16 == 0 else (False,):
            shared = {"page_size": size, "preshuffle": preshuffle, "page_gap": 64 * (size % 3), "pages": 2}
            cases += [IndexerWriteCase(**shared, tokens=9), IndexerRopeCase(**shared), IndexerGatherCase(**shared)]
    for dtype in ("bfloat16", "float16", "float32"):
        for data in DATA:
            for cache in FP8:
                for scale_fmt in ("ue8m0", None):
                    shared = {"dtype": dtype, "data": data, "cache": cache, "scale_fmt": scale_fmt}
                    cases += [IndexerWriteCase(**shared), IndexerRopeCase(**shared, q_out=cache, weights_dtype=dtype)]
    for kind in (IndexerWriteCase, IndexerRopeCase):
        cases += [kind(tokens=0), kind(pages=0), kind(page_size=0), kind(rank=4), kind(slots="none")]
        cases += [kind(tokens=21, step=3, gap=8, shift=1, pages=7), kind(page_gap=33, pad=3, shift=2)]
    cases += [IndexerRopeCase(pages=0, all_q=True), IndexerRopeCase(angles=1, positions="far", slots="all")]
    cases += [IndexerRopeCase(heads=h, spare=2, bytes_out=True, angle_dtype="float32") for h in (1, 8, 64)]
    cases += [IndexerWriteCase(bytes_cache=b) for b in ("uint8", "int8")]
    cases += [IndexerWriteCase(more_keys=3), IndexerWriteCase(more_slots=3)]
    cases += [IndexerGatherCase(lens=lens, more_tokens=3, rank=4) for lens in ((), (0, 0), (1,) * 70, (300,))]
    cases += [IndexerGatherCase(pages=0, table="any"), IndexerGatherCase(dtype="uint8", gap=5, shift=3)]
    return cases


def random_case(rng: random.Random, seed: int) -> Case:
    """Any of them."""
    size = rng.choice((1, 2, 16, 16, 48, 64))
    shared = {
        "pages": rng.randrange(1, 9),
        "page_size": size,
        "preshuffle": size % 16 == 0 and rng.random() < 0.6,
        "pad": rng.choice((0, 0, 4, 3)),
        "page_gap": rng.choice((0, 0, 16, 37)),
        "rank": rng.choice((3, 4)),
        "gap": rng.choice((0, 8, rng.randrange(9))),
        "shift": rng.choice((0, 0, 8, rng.randrange(9))),
        "seed": seed,
    }
    dim = rng.choice((128, 128, 64, 16 * rng.randrange(1, 20)))
    group = rng.choice([n for n in range(1, dim + 1) if dim % n == 0 and dim // n <= 64])
    if rng.random() < 0.3:
        lens = tuple(rng.choice((0, rng.randrange(40), rng.randrange(5))) for _ in range(rng.randrange(1, 6)))
        return IndexerGatherCase(
            lens=lens, dim=dim, group=group, table=rng.choice(TABLES), bytes_scale=rng.random() < 0.5,
            more_tokens=rng.randrange(3), **shared,
        )  # fmt: skip
    writes = {
        "tokens": rng.randrange(30),
        "dtype": rng.choice(("bfloat16", "float16", "float32")),
        "cache": rng.choice(FP8),
        "scale_fmt": rng.choice(FORMATS),
        "slots": rng.choice(SLOTS),
        "data": rng.choice(DATA),
        "step": rng.randrange(1, 4),
    }
    if rng.random() < 0.5:
        return IndexerWriteCase(dim=dim, group=group, **writes, **shared)
    return IndexerRopeCase(
        heads=rng.choice((1, 2, 5, 8)), q_out=rng.choice(FP8), neox=rng.random() < 0.5, all_q=rng.random() < 0.5,
        positions=rng.choice(("near", "far")), epsilon=rng.choice((1e-6, 1e-5, 0.1)), spare=rng.randrange(3),
        weights_scale=rng.choice((1.0, 0.0884, -3.0)), **writes, **shared,
    )  # fmt: skip


SMOKE = _smoke()
CORNER = _corner()
_rng = random.Random(16)
SWEEP = [random_case(_rng, seed) for seed in range(RANDOM)]
ALL = list(dict.fromkeys(SMOKE + CORNER + SWEEP))


def on_device(cases: list[Case], device: Device) -> list[Case]:
    """On a simulated device a part of the corners and of SWEEP."""
    if not device.simulated:
        return cases
    part = {"gfx942": 0, "gfx950": 1}[device.name]
    chosen = set(SMOKE) | set(CORNER[part::2]) | set(SWEEP[part * SIMULATED_RANDOM : (part + 1) * SIMULATED_RANDOM])
    return [case for case in cases if case in chosen]
