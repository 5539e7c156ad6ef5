"""The lists of cases. Everything is deterministic: the same commit gives the same ids.

SMOKE   one of everything, seconds: other CPU paths and sanitizers run it.
CORNER  borders of tiles, chunks of the GPU's kernel and buffers; every kind of request.
`random_case` draws any mix of fields, index tensors of any integers among them.
"""

from __future__ import annotations

import random

from aiter_c.testing.ops.mla_metadata import MlaMetadataCase

HEADS = (1, 2, 4, 6, 8, 12, 16, 20, 24, 32, 33, 48, 63, 64, 65, 80, 96, 127, 128, 160)

SMOKE = [
    MlaMetadataCase(),
    MlaMetadataCase(cap=4),
    MlaMetadataCase(q_lens=(), kv_lens=()),
    MlaMetadataCase(q_lens=(0, 0), kv_lens=(5, 0)),
    MlaMetadataCase(q_lens=(1,) * 5, kv_lens=(0, 1, 15, 16, 17)),
    MlaMetadataCase(q_lens=(4, 4), kv_lens=(3, 1000), uniform=True, cap=4, heads=128),
    MlaMetadataCase(q_lens=(4, 0, 2, 1), kv_lens=(3, 50, 1000, 1), cap=8, heads=48, workers=7),
    MlaMetadataCase(q_lens=(3, 3), kv_lens=(200, 240), topk=64, cap=4, uniform=True),
    MlaMetadataCase(q_lens=(3, 0, 2), kv_lens=(200, 9, 240), topk=64, cap=4),
    MlaMetadataCase(kv_lens=(300, 500), page_size=64, granule=64, cap=4),
    MlaMetadataCase(kv_lens=(3000, 500), page_size=5, cap=4, spare=2),
    MlaMetadataCase(q_lens=(8, 8), kv_lens=(3000, 5), heads=32, shard=True, cap=4),
    MlaMetadataCase(kv_lens=(70_000, 9), deterministic=True, workers=7),
    MlaMetadataCase(kv_lens=(70_000, 9), deterministic=True, page_size=69),
    MlaMetadataCase(q_lens=(9, 2), kv_lens=(700, 9), max_q=-1, heads=64, sizes=(40, 20, 20)),
    MlaMetadataCase(kv_begin=100, kv_lens=(300, 4000), cap=4),
    MlaMetadataCase(kv_lens=(300, 4000), cap=4, signed_tag=True, causal=False),
    *(MlaMetadataCase(q_lens=(2, 3, 1, 0), kv_lens=(99, 0, 5000, 3), hostile=0.5, seed=s, cap=4) for s in range(4)),
    *(MlaMetadataCase(q_lens=(2,) * 4, kv_lens=(9,) * 4, topk=7, hostile=0.5, seed=s) for s in range(3)),
    MlaMetadataCase(q_lens=(2, 3), kv_lens=(2_000_000, 99), deterministic=True, hostile=0.3),
]


def _corners() -> list[MlaMetadataCase]:
    ones = lambda batch: (1,) * batch  # noqa: E731
    cases = [
        MlaMetadataCase(q_lens=(q, q), kv_lens=(q + 300, 20), heads=heads, uniform=heads % 2 == 0, cap=8)
        for heads in HEADS
        for q in (1, 2, 3, 5)
    ]
    cases += [MlaMetadataCase(kv_lens=(2000 + n, n), workers=w, cap=w) for w in (1, 2, 132) for n in (0, 1, 16)]
    cases += [  # around the chunks of a GPU's kernel
        MlaMetadataCase(q_lens=ones(b), kv_lens=tuple(1 + 37 * i % 900 for i in range(b)), workers=132)
        for b in (63, 64, 65, 255, 256, 257, 600)
    ]
    cases += [
        MlaMetadataCase(q_lens=(3,) * 200, kv_lens=(500,) * 200, heads=128, workers=132, deterministic=d, cap=16)
        for d in (False, True)
    ]
    cases += [
        MlaMetadataCase(q_lens=(300, 0, 1), kv_lens=(500, 20, 9), heads=128, workers=9, deterministic=d)
        for d in (False, True)
    ]
    # More lists than workers: whole where that is a 16th more at most.
    cases += [
        MlaMetadataCase(q_lens=ones(b), kv_lens=(n,) * b, workers=5) for n in (2000, 2048) for b in (8, 9, 10, 14, 19)
    ]
    cases += [MlaMetadataCase(q_lens=ones(31), kv_lens=(8192,) * 31, workers=w, page_size=64) for w in (31, 32)]
    cases += [
        MlaMetadataCase(q_lens=ones(10), kv_lens=(n, *(4096,) * 9), workers=5, page_size=64, granule=1)
        for n in (3200, 4096)
    ]
    cases += [
        MlaMetadataCase(q_lens=ones(9), kv_lens=(4096,) * 8 + (n,), workers=5, page_size=64)
        for n in (2000, 3900, 4200, 9000)
    ]
    # Buffers bound the splits: from one item per tile on.
    cases += [
        MlaMetadataCase(kv_lens=(5000, 3000), workers=16, cap=16, sizes=(items, tiles, entries))
        for items, tiles, entries in (
            *((2, 2, 0), (2, 2, 99), (3, 2, 1), (3, 2, 2), (9, 2, 3), (9, 2, 5), (40, 9, 4), (17, 2, 99)),
        )
    ]
    # Without the longest query the host cannot see that the tiles are too many.
    cases += [
        MlaMetadataCase(q_lens=(40, 40), kv_lens=(900, 900), heads=128, max_q=-1, sizes=(n, n, n)) for n in (2, 7, 80)
    ]
    cases += [
        MlaMetadataCase(q_lens=(9, 3), kv_lens=(9000, 9000), heads=128, max_q=-1, deterministic=True, sizes=(n, 20, n))
        for n in (32, 100, 400)
    ]
    # The rule of the tail: cuts shortly before the end of a list.
    cases += [
        MlaMetadataCase(q_lens=(4, 4, 4), kv_lens=(256 + n, 64, 700), workers=5, cap=5, granule=g, uniform=True)
        for n in range(6)
        for g in (1, 16)
    ]
    cases += [
        MlaMetadataCase(q_lens=(8, 8), kv_lens=(n, 900), heads=128, uniform=True, causal=c, cap=8)
        for n in (0, 1, 5, 8, 9)
        for c in (False, True)
    ]
    # More blocks than the planner counts.
    huge = (2**31 - 1 - 4096, 4096 - 100, 99)
    cases += [MlaMetadataCase(q_lens=ones(3), kv_lens=huge, granule=g, workers=w) for g in (1, 16) for w in (1, 9)]
    cases += [
        MlaMetadataCase(q_lens=(9, 1, 1), kv_lens=huge, granule=1, heads=128, workers=30, deterministic=d)
        for d in (False, True)
    ]
    cases += [
        MlaMetadataCase(q_lens=(3, 1), kv_lens=(500, 9), heads=h, dtype=d) for h in (32, 64) for d in ("float8_e4m3fn",)
    ]
    return cases


def random_case(rng: random.Random, seed: int) -> MlaMetadataCase:
    """Any mix of fields."""
    batch, uniform, q = rng.randrange(9), rng.random() < 0.5, rng.choice((1, 1, 2, 3, 4, 5, 9))
    scale = rng.choice((3, 40, 500, 5000, 100_000))
    return MlaMetadataCase(
        q_lens=(q,) * batch if uniform else tuple(rng.randint(0, q) for _ in range(batch)),
        kv_lens=tuple(int(rng.random() ** 2 * scale) for _ in range(batch)),
        heads=rng.choice(HEADS),
        workers=rng.choice((1, 2, 3, 4, 7, 16, 33, 132)),
        page_size=rng.choice((1, 1, 1, 2, 5, 16, 64)),
        granule=rng.choice((16, 16, 1, 3, 64, 128)),
        max_q=rng.choice((None, None, None, -1)),
        uniform=uniform,
        causal=rng.random() < 0.5,
        topk=rng.choice((-1, -1, -1, 0, 16, 64, 100, 2048)),
        cap=rng.choice((None, 1, 2, 4, 16, 132)),
        shard=rng.random() < 0.2,
        deterministic=rng.random() < 0.25,
        dtype=rng.choice(("bfloat16", "bfloat16", "float8_e4m3fn")),
        kv_begin=rng.choice((0, 0, 7)),
        spare=rng.randrange(2),
        hostile=rng.choice((0.0, 0.0, 0.3)),
        seed=seed,
    )


CORNER = _corners()
ALL = list(dict.fromkeys([*SMOKE, *CORNER]))
