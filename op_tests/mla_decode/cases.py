"""The lists of cases. Everything is deterministic: the same commit gives the same ids.

SMOKE   one of everything, seconds: other architectures, sanitizers and planted faults run it.
CORNER  the corners by name: every dtype mix, every border of tiles, pages, lists and splits.
SWEEP   random mixes of all features, from a fixed seed.

What the lists are for is to tell right kernels from wrong ones: op_tests/mutants says which wrong ones they tell.

The shapes of the bench are in aiter_c.testing.ops.mla_decode_perf.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import cycle, product

from aiter_c.testing import Device, MlaCase
from aiter_c.testing.ops.mla_decode import DTYPES_FP8, KV_DTYPES, O_DTYPES, Q_DTYPES, RECORD_FORMATS

RANDOM = 480  # cases of SWEEP on the CPU, and on a GPU
SIMULATED_RANDOM = 96  # on each simulated architecture, others on each
PAGE_SIZES = (1, 2, 5, 16, 53, 64, 69, 256)
LIST_LENGTHS = (1, 63, 512, 2048, 2063)
RECORDS = {"kv_dtype": "float8_e4m3fn"}


def _smoke() -> list[MlaCase]:
    base = {"q_lens": (1, 4, 2), "kv_lens": (70, 5, 130)}
    cases = [MlaCase(heads=h, **base, splits=s) for h, s in product((1, 3, 8, 16, 20, 64, 128), (1, 3))]
    cases += [
        MlaCase(heads=12, **base, q_dtype=q, kv_dtype=k, splits=2, q_scale=0.5, kv_scale=1.7, scales_as="one")
        for q, k in product(Q_DTYPES, KV_DTYPES)
    ]
    cases += [
        MlaCase(heads=5, **base, page_size=p, kv_format=f, **RECORDS, splits=s, kv_strided=True, kv_scale=3.0)
        for p, f, s in product((1, 7, 64), ("3buffer", "fp8_ds_mla"), (1, 2))
    ]
    return [
        *cases,
        MlaCase(heads=4, **base, page_size=64, masked="extremes", splits=None),
        MlaCase(heads=4, **base, page_size=16, rope=0, causal=False, q_strided=True, o_strided=True, kv_strided=True),
        MlaCase(heads=16, **base, splits=(0, 9, 2), stale_tails=True, indptr_offset=3, extra_indices=9),
        MlaCase(heads=2, q_lens=(5, 0, 1), kv_lens=(3, 9, 0), splits=40, unowned_rows=(2, 1), o_dtype="float16"),
        MlaCase(heads=2, q_lens=(5, 2), kv_lens=(13, 9), max_seqlen_q=3, masked="all"),
        MlaCase(heads=16, q_lens=(2,), kv_lens=(1500,), deterministic=True, splits=None),
        *(MlaCase(heads=h, **base, workers=w, granule=1) for h, w in ((4, 5), (12, 2), (128, 7))),
        MlaCase(heads=4, q_lens=(1, 1, 1), kv_lens=(200, 5, 130), workers=6, granule=1, page_size=16),
        MlaCase(heads=16, **base, ranks=(2, 1, 4), splits=2, stale_tails=True),
        MlaCase(heads=16, q_lens=(), kv_lens=()),
    ]


def _tiles() -> list[MlaCase]:
    """Every kernel: the dtypes that have kernels of their own, in tiles of 16 to 128 rows. One split with strides and
    masked keys, then partials; scores that rise or fall along the list, so that every sum has to be rescaled."""
    kinds = (
        ("bfloat16", "bfloat16", "plain"),
        ("float16", "float16", "plain"),
        ("float32", "bfloat16", "plain"),
        ("float8_e4m3fn", "float8_e4m3fn", "plain"),
        ("float8_e4m3fnuz", "float8_e4m3fnuz", "plain"),
        ("bfloat16", "float8_e4m3fn", "plain"),
        ("float16", "float8_e4m3fnuz", "plain"),
        ("bfloat16", "float8_e4m3fn", "fp8_ds_mla"),
        ("float16", "float8_e4m3fn", "3buffer"),
    )
    cases = []
    for (q, k, f), h in product(kinds, (16, 32, 64, 128)):
        kind = {"heads": h, "q_lens": (1, 1), "q_dtype": q, "kv_dtype": k, "kv_format": f}
        cases.append(
            MlaCase(kv_lens=(170, 21), q_strided=True, kv_strided=True, masked="minus_one", trend=60.0, **kind)
        )
        cases.append(MlaCase(kv_lens=(70, 140), page_size=16, splits=3, trend=-40.0 if h == 32 else 40.0, **kind))
    # fp8 of 64 and 128 rows: more keys than are located at a time; a causal tail in a last tile that is full.
    for d, (h, q) in product(DTYPES_FP8, ((64, 1), (32, 2), (128, 1), (64, 2))):
        kind = {"heads": h, "q_lens": (q,), "q_dtype": d, "kv_dtype": d}
        cases.append(MlaCase(kv_lens=(1152,), page_size=16, trend=40.0, **kind))
        cases.append(MlaCase(kv_lens=(590,), rope=0, kv_strided=True, masked="sparse", **kind))
    return cases


def _four_tokens() -> list[MlaCase]:
    """12 heads and 4 tokens: 48 rows, for which fp8 caches have a tile on gfx942."""
    cases = []
    for q, k in (("bfloat16", "float8_e4m3fnuz"), ("float16", "float8_e4m3fn")):
        kind = {"heads": 12, "q_lens": (4, 3, 4), "q_dtype": q, "kv_dtype": k, "kv_scale": 0.5}
        cases += [
            MlaCase(kv_lens=(170, 4, 230), trend=60.0, **kind),
            MlaCase(kv_lens=(150, 90, 33), masked="minus_one", trend=-40.0, kv_strided=True, **kind),
            MlaCase(kv_lens=(200, 70, 140), page_size=16, splits=3, trend=40.0, **kind),
            MlaCase(kv_lens=(300, 0, 97), workers=5, trend=40.0, **kind),
        ]
    return cases


def _lists() -> list[MlaCase]:
    """Work lists: every kernel by its dtypes and tiles, with items that hold all of a list, pieces, and nothing; with
    several items a worker, and workers without any."""
    kinds = (
        ("bfloat16", "bfloat16", "plain"),
        ("float16", "float16", "plain"),
        ("float32", "float16", "plain"),
        ("float8_e4m3fn", "float8_e4m3fn", "plain"),
        ("float8_e4m3fnuz", "float8_e4m3fnuz", "plain"),
        ("bfloat16", "float8_e4m3fnuz", "plain"),
        ("float16", "float8_e4m3fn", "plain"),
        ("bfloat16", "float8_e4m3fn", "3buffer"),
        ("float16", "float8_e4m3fn", "fp8_ds_mla"),
    )
    cases = []
    for i, ((q, k, f), h) in enumerate(product(kinds, (4, 12, 16, 32, 64, 128))):
        kind = {"heads": h, "q_dtype": q, "kv_dtype": k, "kv_format": f, "kv_scale": 1.5, "page_size": (1, 16)[i % 2]}
        lists = {"workers": (2, 5, 9)[i % 3], "granule": (1, 16)[i // 2 % 2], "split_cap": (1, 64)[i % 4 > 0]}
        cases.append(MlaCase(q_lens=((1, 1, 1), (2, 1, 2))[i % 2], kv_lens=(170, 0, 330), trend=40.0, **kind, **lists))
    base = {"granule": 1, "heads": 6}
    return [
        *cases,
        *(MlaCase(q_lens=(n, 1, n), kv_lens=(61, 7, 200), workers=7, **base) for n in range(3, 17)),
        MlaCase(q_lens=(3, 3), kv_lens=(2, 90), workers=4, causal=False, **base),
        MlaCase(q_lens=(5, 5), kv_lens=(1, 700), heads=128, workers=11, granule=1),  # a row a tile
        MlaCase(q_lens=(4, 4), kv_lens=(90, 700), heads=48, workers=6, granule=1),  # more than one tile an item
        MlaCase(q_lens=(2, 0, 1), kv_lens=(40, 0, 300), workers=5, unowned_rows=(2, 3), stale_tails=True, **base),
        MlaCase(q_lens=(1, 1), kv_lens=(3000, 10), workers=9, deterministic=True, heads=16),
        MlaCase(q_lens=(2, 1), kv_lens=(1300, 600), workers=4, deterministic=True, heads=64, page_size=64),
        MlaCase(
            q_lens=(1, 3), kv_lens=(100, 200), workers=6, masked="extremes", indptr_offset=3, extra_indices=5, **base
        ),
        MlaCase(q_lens=(1, 1), kv_lens=(100, 200), workers=6, masked="all", return_lse=False, **base),
        *(
            MlaCase(q_lens=(2, 1), kv_lens=(90, 300), heads=h, q_dtype=q, kv_dtype=k, workers=4, masked=m, granule=1)
            for q, k, h, m in (
                ("float8_e4m3fn", "float8_e4m3fn", 8, "sparse"),
                ("bfloat16", "float8_e4m3fn", 5, "tail"),
                ("float16", "float16", 8, "head"),
                ("float16", "float16", 24, "sparse"),
            )
        ),
        *(
            MlaCase(q_lens=(2, 1), kv_lens=(170, 30), workers=3, q_dtype=q, kv_dtype=k, **base)
            for q, k in (("float16", "bfloat16"), ("float32", "float8_e4m3fn"))
        ),
        *(
            MlaCase(
                heads=h,
                q_lens=(1, 1),
                kv_lens=(100, 200),
                workers=6,
                granule=1,
                masked="extremes",
                kv_strided=True,
                q_dtype=q,
                kv_dtype=k,
                kv_scale=1.5,
            )
            for h, q, k in (
                (128, "float16", "float8_e4m3fn"),
                (128, "float8_e4m3fn", "float8_e4m3fn"),
                (16, "float16", "float16"),
            )
        ),
        MlaCase(q_lens=(), kv_lens=(), workers=3, **base),
        MlaCase(q_lens=(1,) * 9, kv_lens=(5,) * 9, workers=2, o_strided=True, q_strided=True, kv_strided=True, **base),
    ]


def _ranks() -> list[MlaCase]:
    """Context parallelism with splits and by lists: shards without keys, shorter than the query rows, and padding."""
    shapes = (((1, 1, 1), (90, 3, 0)), ((4, 2, 3), (131, 1, 40)), ((16, 1, 2), (300, 2, 17)))
    shards = ((2, 0, 1), (2, 1, 1), (8, 7, 1), (3, 1, 16), (4, 3, 64))
    cases = []
    for i, ((q, kv), ranks) in enumerate(product(shapes, shards)):
        mode = {"workers": 5, "granule": 1} if i % 2 else {"splits": 1 + i % 3}
        kind = {"heads": (1, 4, 12, 16, 96)[i % 5], "causal": i % 7 != 3, "page_size": (1, 1, 4)[i % 3]}
        cases.append(MlaCase(q_lens=q, kv_lens=kv, ranks=ranks, stale_tails=i % 4 == 0, **mode, **kind))
    return cases


def _heads() -> list[MlaCase]:
    """Counts at the borders of tiles and of what divides them, with dtypes in turn. Every count: test_heads.py."""
    borders = (1, 2, 3, 5, 7, 8, 9, 12, 15, 16, 17, 20, 24, 31, 32, 33, 40, 47, 48, 49, 63, 64, 65, 80, 96, 97, 127)
    return [
        MlaCase(heads=h, q_lens=(3, 1), kv_lens=(33, 80), splits=1 + i % 3, kv_dtype=KV_DTYPES[i % 4], q_dtype=q)
        for i, (h, q) in enumerate(zip(borders, cycle(Q_DTYPES), strict=False))
    ]


def _query_lengths() -> list[MlaCase]:
    return [
        MlaCase(heads=h, q_lens=(n, 1, n), kv_lens=(n + 40, 9, n // 2), causal=c, splits=1 + 2 * ((n + c) % 2))
        for n, h, c in product((1, 2, 3, 4, 5, 8, 11, 15, 16), (4, 16), (True, False))
    ]


def _dtypes() -> list[MlaCase]:
    """Every mix of q, cache and o, as themselves and as bytes; every record format under both q dtypes."""
    scales = {"q_scale": 0.5, "kv_scale": 0.37}
    cases = [
        MlaCase(heads=9, q_lens=(2, 1), kv_lens=(90, 40), q_dtype=q, kv_dtype=k, o_dtype=o, splits=s, **scales)
        for q, k, o, s in product(Q_DTYPES, KV_DTYPES, O_DTYPES, (1, 2))
    ]
    cases += [
        MlaCase(heads=6, kv_lens=(77,), page_size=16, q_dtype=q, kv_dtype=k, as_bytes=True, scales_as=w, **scales)
        for q, k, w in product(DTYPES_FP8, DTYPES_FP8, ("float", "scalar", "one"))
    ]
    cases += [
        MlaCase(heads=6, kv_lens=(77, 30), q_lens=(1, 2), rope=0, q_dtype=q, kv_dtype=k, page_size=p)
        for q, k, p in product(Q_DTYPES, KV_DTYPES, (1, 16))
    ]
    cases += [
        MlaCase(
            heads=h, q_lens=(2, 1), kv_lens=(150, 3), page_size=p, kv_format=f, q_dtype=q, o_dtype=o, splits=s,
            **RECORDS,
        )
        for (h, s), p, f, (q, o) in product(
            ((2, 1), (16, 4)), (1, 5, 64, 69), RECORD_FORMATS, (("bfloat16", "float16"), ("float16", "bfloat16"))
        )
    ]  # fmt: skip
    return cases


def _pages_and_lists() -> list[MlaCase]:
    """Lengths one below, at and one above the borders of pages; lists of many tiles; splits around the tokens. Page
    sizes and lengths against formats and masks, with one split: test_masking.py."""
    masks, cases = cycle(("none", "extremes", "head", "tail", "sparse")), []
    for p, d in product(PAGE_SIZES, (-1, 0, 1)):
        lens = (max(p + d, 0), 2 * p + d, 1)
        cases.append(
            MlaCase(heads=3, q_lens=(1, 2, 1), kv_lens=lens, page_size=p, masked=next(masks), splits=1 + p % 3)
        )
    kinds = cycle((m, k) for m in ("none", "sparse") for k in ("bfloat16", "float8_e4m3fn"))
    for n, h, s in product(LIST_LENGTHS, (2, 16), (1, 4, None)):
        masked, kv_dtype = next(kinds)
        cases.append(MlaCase(heads=h, kv_lens=(n,), splits=s, masked=masked, kv_dtype=kv_dtype))
    cases.append(MlaCase(heads=2, kv_lens=(5000,), splits=320, trend=30.0))  # more than a GPU's merge takes at a time
    cases += [
        MlaCase(heads=4, q_lens=(1, 3), kv_lens=(n, 20), splits=s)
        for n, s in product((0, 1, 2, 15, 16, 17, 31, 33), (1, 2, 5, 16, 33, None, (7, 2), (0, 3)))
    ]
    return cases


def _corners() -> list[MlaCase]:
    """What is left, each alone and in pairs."""
    cases = [
        MlaCase(heads=h, q_lens=n, kv_lens=k, causal=c, splits=s)
        for (h, (n, k)), c, s in product(
            zip(
                cycle((3, 16)),
                (((1,), (0,)), ((4,), (2,)), ((16, 1), (1, 0)), ((0, 2), (5, 5)), ((), ())),
                strict=False,
            ),
            (True, False),
            (1, 3, None),
        )
    ]
    cases += [
        MlaCase(
            heads=10, q_lens=(2, 1), kv_lens=(50, 33), page_size=p, q_strided=q, o_strided=o, kv_strided=k, splits=s
        )
        for p, q, o, k, s in product((1, 16), (True, False), (True, False), (True, False), (1, 2))
        if q + o + k != 2 or s == 2
    ]
    cases += [
        MlaCase(heads=16, q_lens=(1, 2), kv_lens=(100, 37), score_std=std, sm_scale=scale, q_dtype=q, splits=s)
        for std, scale, (q, s) in product(
            (0.05, 0.5, 2.0, 4.0), (None, 0.1352, 1.0), (("bfloat16", 1), ("bfloat16", 3), ("float32", 2))
        )
    ]
    cases += [
        MlaCase(heads=8, q_lens=(3, 6), kv_lens=(44, 9), max_seqlen_q=m, unowned_rows=u, return_lse=lse, splits=s)
        for m, u, (lse, s) in product((1, 2, 5, 6, 50), ((0, 0), (2, 3)), ((True, 3), (False, 1), (False, 3)))
    ]
    cases += [
        MlaCase(heads=16, q_lens=(1, 2), kv_lens=(n, 30), deterministic=True, splits=s, page_size=p)
        for n, (s, p) in product((5, 511, 512, 513, 1100), ((None, 1), (1, 64), (3, 64)))
    ]
    cases += [
        MlaCase(heads=4, q_lens=(2, 2), kv_lens=(20, 40), page_size=p, indptr_offset=a, extra_indices=e, stale_tails=t)
        for p, a, (e, t) in product((1, 5), (0, 1, 100), ((0, True), (1, False), (1000, True)))
    ]
    return cases


def _draw(rng: random.Random, seed: int) -> MlaCase:
    """One random mix. Sizes are kept such that the fp64 reference needs milliseconds."""
    heads = rng.choice((rng.randint(1, 128), rng.choice((1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128))))
    budget = 200_000  # heads * query rows * keys
    q_lens, kv_lens = [], []
    for _ in range(rng.choice((1, 1, 2, 3, 5, 8))):
        q_len = rng.choice((1, 1, 1, rng.randint(0, 16)))
        most = min(300, budget // max(1, heads * max(1, q_len)))
        kv_len = rng.choice((0, 1, rng.randint(0, max(most, 1)), rng.randint(0, max(most, 1)), max(most, 1)))
        budget -= heads * q_len * kv_len
        q_lens.append(q_len)
        kv_lens.append(kv_len)
    kv_format = rng.choice(("plain",) * 5 + ("3buffer", "fp8_ds_mla"))
    plain = kv_format == "plain"
    splits = rng.choice((1, 1, None, -1, 2, 3, rng.randint(4, 40), tuple(rng.randint(0, 6) for _ in q_lens)))
    if isinstance(splits, int) and splits > 3:  # the scratch is rows * splits * heads * 2 KB
        splits = max(3, min(splits, 20_000 // max(1, heads * sum(q_lens))))
    most_q = max((1, *q_lens))
    return MlaCase(
        heads=heads,
        q_lens=tuple(q_lens),
        kv_lens=tuple(kv_lens),
        page_size=rng.choice((1, 1, 16, 64, *PAGE_SIZES, rng.randint(2, 100))),
        q_dtype=rng.choice(Q_DTYPES if plain else ("bfloat16", "float16")),
        kv_dtype=rng.choice(KV_DTYPES) if plain else "float8_e4m3fn",
        o_dtype=rng.choice(O_DTYPES),
        kv_format=kv_format,
        rope=rng.choice((64, 64, 64, 0)) if plain else 64,
        splits=splits,
        causal=rng.random() < 0.7,
        return_lse=rng.random() < 0.8,
        q_scale=rng.choice((None, 1.0, 0.25, 1.7, 0.031)),
        kv_scale=rng.choice((None, 1.0, 0.5, 2.3, 0.07)),
        scales_as=rng.choice(("float", "scalar", "one")),
        sm_scale=rng.choice((None, None, 0.1, 1.0)),
        score_std=rng.choice((0.05, 0.3, 1.0, 2.0, 4.0)),
        max_seqlen_q=rng.choice((None, None, None, most_q + 3, max(1, most_q - 1))),
        q_strided=rng.random() < 0.25,
        o_strided=rng.random() < 0.25,
        kv_strided=rng.random() < 0.25,
        as_bytes=rng.random() < 0.2,
        extra_indices=rng.choice((0, 0, 1, 50)),
        indptr_offset=rng.choice((0, 0, 1, 9)),
        stale_tails=rng.random() < 0.3,
        unowned_rows=rng.choice(((0, 0), (0, 0), (1, 0), (0, 2))),
        masked=rng.choice((*["none"] * 3, "minus_one", "capacity", "extremes", "sparse", "head", "tail", "all")),
        deterministic=rng.random() < 0.1,
        seed=seed,
    )  # fmt: skip


def _unique(cases: list[MlaCase]) -> list[MlaCase]:
    return list(dict.fromkeys(cases))


def _sweep(count: int) -> list[MlaCase]:
    rng = random.Random(20261121)
    return [_draw(rng, seed) for seed in range(count)]


SMOKE = _unique(_smoke())
CORNER = _unique(
    _tiles()
    + _heads()
    + _query_lengths()
    + _dtypes()
    + _pages_and_lists()
    + _corners()
    + _lists()
    + _ranks()
    + _four_tokens()
)
_NAMED = _unique(SMOKE + CORNER)
SWEEP = _sweep(RANDOM)
ALL = _NAMED + SWEEP


#: The part that runs again on every CPU path and under sanitizers.
SMOKE_ON_CPU = {*SMOKE, *CORNER[::3]}


def work(case: MlaCase) -> int:
    """(query row, head) pairs times keys: what a simulated device spends its time on."""
    return sum(q * max(k, 64) for q, k in zip(case.q_lens, case.kv_lens, strict=True)) * max(case.heads, 16)


#: On simulated devices: every named case, and a part of the random ones, others for each architecture; none that takes
#: seconds.
SIMULATED_WORK = 500_000
_SIMULATED_SWEEP = {"gfx942": {*SWEEP[:SIMULATED_RANDOM]}, "gfx950": {*SWEEP[SIMULATED_RANDOM : 2 * SIMULATED_RANDOM]}}
_SWEEP = {*SWEEP}


def on_device(cases: Iterable[MlaCase], device: Device) -> list[MlaCase]:
    """Those of the cases that run there."""
    if not device.simulated:
        return list(cases)
    sample = _SIMULATED_SWEEP[device.name]
    return [case for case in cases if (case in sample or case not in _SWEEP) and work(case) <= SIMULATED_WORK]
