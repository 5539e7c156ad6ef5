"""The lists of cases. Everything is deterministic: the same commit gives the same ids.

SMOKE    one of everything, seconds: other CPU paths and sanitizers run it.
PAGED    every page size, layout and shape of the lengths against lengths at the borders of pages and tiles.
RAGGED   every kind of window against sizes at the borders of tiles.
SWEEP    random mixes of all fields, from a fixed seed.
LONG     what only a whole GPU has: many tiles and rows for a workgroup.
"""

from __future__ import annotations

import random
from itertools import cycle, product

from aiter_c.testing import Device
from aiter_c.testing.ops.mqa_logits import DATA, FP8, INVALID, WINDOWS, LogitsCase, PagedLogitsCase

FN, FNUZ = FP8
RANDOM, RANDOM_ON_SIMULATORS = 120, 12
BLOCKS = (1, 5, 16, 53, 64, 128, 256)
HEADS = (1, 2, 4, 6, 8, 12, 16, 24, 31, 32, 33, 48, 64)
KINDS = tuple(product(FP8, FP8))

SMOKE = [
    PagedLogitsCase(lens=(130, 0, 64, 1), next_n=2),
    PagedLogitsCase(lens=(300, 17), next_n=3, block=16, preshuffle=True, heads=32, clean=False),
    PagedLogitsCase(lens=(70, 41), block=1, q_dtype=FNUZ, kv_dtype=FNUZ, bytes_cache=False),
    PagedLogitsCase(lens=(90,), next_n=2, lens_shape="bn", q_dtype=FN, kv_dtype=FNUZ, heads=12),
    PagedLogitsCase(lens=(100, 90), invalid="some", data="nan", spare_requests=1),
    PagedLogitsCase(lens=(100, 99), max_model_len=100, width=120, block=64, out_gap=3),  # aiter#2866
    LogitsCase(rows=9, keys=300, window="mixed"),
    LogitsCase(rows=9, keys=70, window="mixed", clean=False, q_dtype=FNUZ, kv_dtype=FNUZ, heads=32),
    LogitsCase(rows=4, keys=130, window="causal", out=False, scale_columns=True, data="codes"),
    LogitsCase(rows=0, keys=9),
    LogitsCase(rows=2, keys=0),
    PagedLogitsCase(lens=tuple(range(1, 40)) * 18, heads=16, block=16),  # more tiles than workgroups: a unit follows
    PagedLogitsCase(lens=()),
    PagedLogitsCase(lens=(), spare_requests=2, max_model_len=70),
]


def _paged() -> list[PagedLogitsCase]:
    kinds, heads = cycle(KINDS), cycle(HEADS)
    cases = []
    for block in BLOCKS:  # contexts at the borders of a block and of max_model_len, which is no multiple of it
        longest = 2 * block + 37
        for shuffled in (False, True) if block % 16 == 0 else (False,):
            for lens in ((0, 1, block - 1, block), (longest - 1, longest), (longest + 5, block + 1)):
                q_dtype, kv_dtype = next(kinds)
                cases.append(
                    PagedLogitsCase(
                        lens=lens, block=block, preshuffle=shuffled, max_model_len=longest, q_dtype=q_dtype,
                        kv_dtype=kv_dtype, heads=next(heads), out_gap=5,
                    )
                )  # fmt: skip
    for n in range(1, 9):
        for shape in ("b", "b1", "bn"):
            clean = n % 2 == 0
            cases.append(PagedLogitsCase(lens=(140, n, 0, n - 1), next_n=n, lens_shape=shape, clean=clean, heads=16))
            other = {"lens_shape": shape, "lens_stride": 3, "clean": not clean}
            cases.append(PagedLogitsCase(lens=(65, 64, 129), next_n=n, **other))
    cases += [PagedLogitsCase(lens=(99,), heads=h, data=data) for h, data in zip(HEADS, cycle(DATA), strict=False)]
    cases += [
        PagedLogitsCase(lens=(200, 100, 7), next_n=2, invalid=invalid, block=b, data=data, q_dtype=q, kv_dtype=k)
        for invalid, (b, data), (q, k) in zip(
            INVALID * 4, cycle(((64, "normal"), (16, "codes"), (1, "nan"), (53, "codes"))), cycle(KINDS), strict=False
        )
    ]
    cases += [
        PagedLogitsCase(lens=(90, 80), page_gap=gap, index_pad=pad, shift=shift, q_gap=q_gap, block=block)
        for gap, pad, shift, q_gap, block in (
            (0, 0, 4, 0, 64), (48, 12, 0, 16, 64), (4, 0, 0, 4, 16), (7, 3, 1, 1, 16), (1000, 0, 3, 0, 5),
            (0, 28, 0, 0, 1),
        )
    ]  # fmt: skip
    cases += [
        PagedLogitsCase(lens=(90, 80), next_n=2, spare_requests=2, spare_rows=3, spare_lens=1, table_gap=2),
        PagedLogitsCase(lens=(90, 80), spare_requests=1, spare_lens=1, clean=False),  # no column is below a length
        PagedLogitsCase(lens=(90, 80), next_n=2, lens_shape="bn", spare_requests=1, weights_gap=3, clean=False),
        PagedLogitsCase(lens=(300, 80), table_short=2, block=64),
        PagedLogitsCase(lens=(300, 80), table_short=5, block=64),  # a table without entries
        PagedLogitsCase(lens=(300, 80), width=70, max_model_len=300),
        PagedLogitsCase(lens=(300, 80), width=310, max_model_len=71, out_gap=1),
        PagedLogitsCase(lens=(300, 80), max_model_len=0, width=9),
        PagedLogitsCase(lens=(-1, -(2**31), 2**31 - 1), max_model_len=100, block=64),
        PagedLogitsCase(lens=(3, 2, 1), next_n=8, clean=False),
        PagedLogitsCase(lens=(90,), bytes_q=True, q_dtype=FNUZ, kv_dtype=FN, bytes_cache=False),
        PagedLogitsCase(lens=(2000, 3, 0, 700, 64), next_n=2, heads=32),
        PagedLogitsCase(lens=(5,) * 70, heads=4, block=16),
        PagedLogitsCase(lens=(1, 0, 0) * 620, heads=2, block=1),  # a worker's next tile is not in the next request
    ]
    return cases


def _ragged() -> list[LogitsCase]:
    kinds, data = cycle(KINDS), cycle(DATA)
    cases = []
    for keys, rows, window in zip(
        (1, 15, 16, 17, 63, 64, 65, 127, 255, 256, 257, 511, 512, 513, 600, 40, 41, 42, 43, 44, 45),
        cycle((1, 2, 5, 31, 32, 33)),
        cycle((*WINDOWS, "mixed")),
        strict=False,
    ):
        q, k = next(kinds)
        for clean in (True, False):
            cases.append(
                LogitsCase(rows=rows, keys=keys, window=window, clean=clean, q_dtype=q, kv_dtype=k, data=next(data))
            )
    cases += [LogitsCase(heads=h, rows=2, keys=80, window="causal") for h in HEADS]
    cases += [LogitsCase(heads=h, rows=2, keys=80, q_dtype=FNUZ, kv_dtype=FNUZ) for h in (5, 33)]
    cases += [
        LogitsCase(rows=4, keys=70, window="inside", q_gap=gap, kv_gap=gap, shift=shift, bytes=shift > 0)
        for gap, shift in ((16, 0), (4, 4), (3, 1), (128, 8))
    ]
    cases += [
        LogitsCase(scale_columns=True, scale_stride=4),
        LogitsCase(scale_stride=3, weights_gap=5, out_gap=7, spare_bounds=4, window="mixed", rows=8),
        LogitsCase(rows=70, keys=700, heads=4, window="causal"),
        LogitsCase(rows=40, keys=1100, heads=2, window="mixed", out=False),
    ]
    return cases


def random_case(rng: random.Random, seed: int, hostile: float = 0.0) -> PagedLogitsCase | LogitsCase:
    """Any of them."""
    q, k = rng.choice(KINDS)
    common = {"q_dtype": q, "kv_dtype": k, "heads": rng.choice(HEADS), "data": rng.choice(DATA), "seed": seed}
    common |= {"clean": rng.random() < 0.5, "hostile": hostile}
    if rng.random() < 0.4:
        sizes = {"rows": rng.randrange(1, 40), "keys": rng.randrange(1, 600)}
        return LogitsCase(window=rng.choice((*WINDOWS, "mixed")), **sizes, **common)
    block = rng.choice((*BLOCKS, rng.randrange(1, 70)))
    longest = rng.randrange(1, 400)
    return PagedLogitsCase(
        lens=tuple(rng.choice((0, rng.randrange(longest + 1), longest)) for _ in range(rng.randrange(1, 5))),
        next_n=rng.randrange(1, 5), block=block, preshuffle=block % 16 == 0 and rng.random() < 0.5,
        max_model_len=longest, width=longest + rng.choice((-longest // 3, 0, 9)),
        lens_shape=rng.choice(("b", "b1", "bn")), lens_stride=rng.choice((1, 2)),
        spare_requests=rng.choice((0, 0, 1)), index_pad=rng.choice((0, 12)), page_gap=rng.choice((0, 0, 16, 64)),
        invalid=rng.choice(("none", "none", "some", "extremes")), out_gap=rng.choice((0, 3)), **common,
    )  # fmt: skip


PAGED = _paged()
RAGGED = _ragged()
_rng = random.Random(0)
SWEEP = [random_case(_rng, seed) for seed in range(RANDOM)]
#: Where a workgroup of a big GPU has many tiles and rows: its ring of tiles comes round, and its keys end in a run.
LONG = [
    PagedLogitsCase(lens=(140_000, 300, 9_000), heads=32, block=64),
    PagedLogitsCase(lens=(140_000, 300, 9_000), heads=64, block=16, next_n=3, preshuffle=True),
    PagedLogitsCase(lens=(140_000, 9_000), heads=32, block=64, next_n=2, q_dtype=FNUZ, kv_dtype=FNUZ),
    # One request: on sm_90a its tiles are dealt out in turns.
    PagedLogitsCase(lens=(140_000,), heads=64, block=64),
    PagedLogitsCase(lens=(140_000,), heads=40, block=16, preshuffle=True, clean=False),
    PagedLogitsCase(lens=(60_000,), heads=32, block=53),
    PagedLogitsCase(lens=(140_000,), heads=32, block=16, next_n=3, preshuffle=True),
    PagedLogitsCase(lens=(40_000,), heads=32, block=53, q_dtype=FNUZ),
    PagedLogitsCase(lens=(700,), heads=32, block=64, max_model_len=140_000),
    # Many short requests: as many parts as a workgroup has places for, or just more.
    *(
        PagedLogitsCase(lens=tuple(range(20, 20 + n)), heads=64, next_n=4, q_dtype=kind, kv_dtype=kind)
        for n, kind in product((250, 300, 400), FP8)
    ),
    PagedLogitsCase(lens=tuple(range(20, 620)), heads=32, next_n=2),
    LogitsCase(rows=600, keys=7_000, heads=32),
    LogitsCase(rows=600, keys=7_000, heads=16, q_dtype=FNUZ, kv_dtype=FNUZ),
    *(LogitsCase(rows=3, keys=keys) for keys in (191, 193, 383, 385)),
]
ALL = list(dict.fromkeys((*SMOKE, *PAGED, *RAGGED, *SWEEP, *LONG)))
_SIMULATED = set(SMOKE) | set(PAGED) | set(RAGGED) | set(SWEEP[:RANDOM_ON_SIMULATORS])


def on_device(cases: list[PagedLogitsCase | LogitsCase], device: Device) -> list[PagedLogitsCase | LogitsCase]:
    """Simulators take fewer of the random ones, and only GPUs the long ones."""
    if device.simulated:
        return [case for case in cases if case in _SIMULATED]
    return [case for case in cases if device.place != "cpu" or case not in LONG]
