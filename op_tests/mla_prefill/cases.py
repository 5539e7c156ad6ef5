"""The lists of cases. Everything is deterministic: the same commit gives the same ids.

SMOKE   one of everything: every width and dtype, causal and not, with lists and without.
CORNER  the corners by name: lengths around every tile and block of keys, keys more and fewer than query rows, groups of
        heads, masked keys, strides, scales.
SWEEP   random mixes of all features, from a fixed seed.
"""

from __future__ import annotations

import random
from itertools import product

from aiter_c.testing import Device
from aiter_c.testing.ops.mla_decode import DTYPES_FP8, MASK_PATTERNS
from aiter_c.testing.ops.mla_prefill import DIMS, DTYPES, ORDERS, PrefillCase, is_served

RANDOM = 80
SIMULATED_RANDOM = 12  # on each simulated architecture, others on each
LENGTHS = (1, 2, 15, 16, 17, 31, 33, 63, 64, 65, 95, 96, 97, 127, 128, 129)


def _smoke() -> list[PrefillCase]:
    cases = []
    for i, (dims, dtype, causal) in enumerate(product(DIMS, DTYPES, (True, False))):
        kind = {"dims": dims, "dtype": dtype, "causal": causal, "o_dtype": ("bfloat16", "float16")[i % 2]}
        scales = (0.5, 1.7, 0.3) if i % 3 else None
        cases.append(PrefillCase(q_lens=(5, 70), kv_lens=(9, 150), scales=scales, order=ORDERS[i % 3], **kind))
        cases.append(
            PrefillCase(
                q_lens=(33, 40), kv_lens=(90, 130), heads=2, workers=3 + i % 3, unit=32, need_lse=i % 4 < 2,
                scales=scales, trend=(40.0, -40.0)[i % 2], **kind,
            )
        )  # fmt: skip
    return cases


def _corner() -> list[PrefillCase]:
    cases = [PrefillCase(heads=1, q_lens=(n, 3), kv_lens=(n, 70), dims=DIMS[n % 2], order="shuffled") for n in LENGTHS]
    cases += [PrefillCase(heads=1, q_lens=(7,), kv_lens=(n,), dims=DIMS[n % 2], causal=n % 3 > 0) for n in LENGTHS]
    cases += [  # keys fewer than rows: the first rows see none; and none at all
        PrefillCase(heads=2, q_lens=(40, 5, 3), kv_lens=(11, 0, 300), workers=w, unit=16, causal=c)
        for w, c in product((0, 1, 4), (True, False))
    ]
    cases += [
        PrefillCase(heads=h, kv_heads=k, q_lens=(20, 3), kv_lens=(50, 90), workers=w, unit=16, dims=DIMS[h % 4 > 0])
        for (h, k), w in product(((2, 1), (4, 2), (8, 1), (6, 2), (3, 3)), (0, 6))
    ]
    cases += [
        PrefillCase(q_lens=(9, 70), kv_lens=(40, 170), masked=masked, order="shuffled", workers=w, unit=48)
        for masked, w in product(MASK_PATTERNS[1:], (0, 3))
    ]
    cases += [PrefillCase(q_lens=(70,), kv_lens=(170,), trend=t, dtype=d) for t, d in product((60.0, -60.0), DTYPES)]
    cases += [  # a value that only the last row sees
        PrefillCase(q_lens=(n,), kv_lens=(n + 20,), nan_value=True, dims=dims, dtype=d)
        for n, dims, d in ((2, DIMS[0], "bfloat16"), (70, DIMS[0], "float16"), (33, DIMS[1], "bfloat16"))
    ]
    cases += [
        PrefillCase(q_lens=(7, 40), kv_lens=(60, 40), dtype=q, kv_dtype=k, scales=(0.5, 2.0, 0.7), scales_as=a)
        for (q, k), a in product(product(DTYPES_FP8, DTYPES_FP8), ("scalar", "one"))
    ]
    return [
        *cases,
        *(PrefillCase(q_lens=(7, 40), kv_lens=(60, 40), dtype=d, as_bytes=True, strided=True) for d in DTYPES_FP8),
        *(PrefillCase(q_lens=(20, 9), kv_lens=(60, 40), strided=True, dims=d, dtype=t, workers=w, unit=16)
          for d, t, w in product(DIMS, ("bfloat16", "float16"), (0, 3))),
        PrefillCase(q_lens=(5, 0, 1), kv_lens=(3, 9, 0), unowned_rows=(2, 1), o_dtype="float16"),
        PrefillCase(q_lens=(5, 0, 1), kv_lens=(3, 9, 0), unowned_rows=(2, 1), workers=3, unit=16, stale_tails=True),
        PrefillCase(q_lens=(5, 9), kv_lens=(13, 9), max_seqlen_q=3),
        PrefillCase(q_lens=(5, 30), kv_lens=(13, 90), stale_tails=True, indptr_offset=3, order="shuffled"),
        PrefillCase(q_lens=(5, 30), kv_lens=(13, 90), indptr_offset=3, workers=4, unit=16),
        *(PrefillCase(q_lens=(5, n), kv_lens=(13, 90), workers=3, unit=16, need_lse=False) for n in (1, 30, 50)),
        PrefillCase(q_lens=(5, 30), kv_lens=(13, 90), indptr_offset=2, order="none"),
        PrefillCase(q_lens=(17,), kv_lens=(90,), return_lse=False),
        PrefillCase(q_lens=(17,), kv_lens=(90,), return_lse=False, workers=5, unit=16),
        PrefillCase(q_lens=(17,), kv_lens=(60,), softmax_scale=0.0),
        PrefillCase(q_lens=(17,), kv_lens=(60,), softmax_scale=-0.05),
        PrefillCase(q_lens=(17,), kv_lens=(60,), score_std=60.0),
        PrefillCase(q_lens=(1,), kv_lens=(1,), heads=1, score_std=0.05),
        PrefillCase(q_lens=(), kv_lens=()),
        PrefillCase(q_lens=(), kv_lens=(), workers=3),
        PrefillCase(q_lens=(), kv_lens=(), unowned_rows=(3, 0), workers=2),
        PrefillCase(q_lens=(0, 0), kv_lens=(5, 0), workers=2),
    ]  # fmt: skip


def _tall() -> list[PrefillCase]:
    """Query rows of several tiles of every kernel, and of several items of the lists."""
    return [
        PrefillCase(heads=1, q_lens=(257,), kv_lens=(257,)),
        PrefillCase(heads=1, q_lens=(300, 20), kv_lens=(310, 20), workers=4, unit=64),
        PrefillCase(heads=2, q_lens=(530,), kv_lens=(600,), workers=7, need_lse=False),
        PrefillCase(heads=2, kv_heads=1, q_lens=(270,), kv_lens=(100,), workers=3, unit=16, dims=DIMS[1]),
    ]


def _random(seed: int) -> PrefillCase:
    rng = random.Random(seed)
    batch, kv_heads = rng.randint(1, 4), rng.choice((1, 1, 2, 3))
    dtype = rng.choice(DTYPES)
    order, masked = rng.choice(ORDERS), rng.choice((*["none"] * 5, *MASK_PATTERNS))
    return PrefillCase(
        heads=kv_heads * rng.choice((1, 1, 2)),
        kv_heads=kv_heads,
        q_lens=tuple(rng.choice((0, 1, 5, 17, 40, 64, rng.randint(1, 140))) for _ in range(batch)),
        kv_lens=tuple(rng.choice((0, 3, 17, 64, 128, rng.randint(1, 300))) for _ in range(batch)),
        dims=rng.choice(DIMS),
        dtype=dtype,
        o_dtype=rng.choice(("bfloat16", "float16")),
        causal=rng.random() < 0.7,
        return_lse=rng.random() < 0.9,
        order=order,
        masked=masked if order != "none" else "none",
        scales=(0.7, 1.3, 2.5) if rng.random() < 0.5 else None,
        trend=rng.choice((0.0, 0.0, 30.0, -30.0)),
        strided=rng.random() < 0.3,
        unowned_rows=rng.choice(((0, 0), (2, 1))),
        indptr_offset=rng.choice((0, 0, 5)),
        stale_tails=order != "none" and rng.random() < 0.3,
        workers=rng.choice((0, 1, 2, 5, 9)),
        need_lse=rng.random() < 0.5,
        unit=rng.choice((16, 32, 128)),
        seed=seed,
    )


SMOKE, CORNER, TALL = _smoke(), _corner(), _tall()
SWEEP = [_random(seed) for seed in range(RANDOM)]
ALL = SMOKE + CORNER + TALL + SWEEP


def on_device(cases: list[PrefillCase], device: Device) -> list[PrefillCase]:
    """All of them on the CPU and on a GPU. A simulator is slow: every third corner, and its own part of the sweep. An
    fp8 kind that the architecture's matrix units do not have is refused there (test_bad_arguments.py)."""
    cases = [case for case in cases if is_served(case, device)]
    if not device.simulated:
        return cases
    which = {"gfx942": 0, "gfx950": 1}[device.name]
    mine = set(SWEEP[which * SIMULATED_RANDOM : (which + 1) * SIMULATED_RANDOM])
    kept = set(SMOKE) | set(CORNER[which::3]) | set(TALL[which::2]) | mine
    return [case for case in cases if case in kept]
