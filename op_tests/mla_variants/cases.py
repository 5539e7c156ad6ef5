"""The lists of cases of the variants of MLA decode. Everything is deterministic: the same commit gives the same ids.

The arithmetic is that of mla_decode_fwd, which op_tests/mla_decode tests: here are the ways in and out.
"""

from __future__ import annotations

from itertools import product

from aiter_c.testing import Device
from aiter_c.testing.ops.mla_variants import GluonCase, SegmentedCase

_KINDS = (
    ("bfloat16", "bfloat16"),
    ("float16", "float16"),
    ("bfloat16", "float8_e4m3fn"),
    ("float8_e4m3fnuz", "float8_e4m3fnuz"),
)


def _segmented() -> list[SegmentedCase]:
    ones = (1, 1, 1, 1, 1)
    base = {"q_lens": ones, "kv_lens": (0, 5, 130, 64, 1)}
    cases = [
        SegmentedCase(heads=h, **base, page_size=p, skip_reduce=s, wider=p % 3, strided=p == 16)
        for (h, p), s in product(((1, 1), (3, 2), (12, 16), (16, 53), (20, 128)), (True, False))
    ]
    cases += [
        SegmentedCase(heads=h, q_lens=(1, 1), kv_lens=(260, 33), q_dtype=q, kv_dtype=k, kv_scale=1.7, q_scale=0.5,
                      skip_reduce=s, trend=40.0)
        for (h, (q, k)), s in product(zip((4, 32, 64, 128), _KINDS, strict=True), (True, False))
    ]  # fmt: skip
    ragged = {"q_lens": (2, 1, 4), "kv_lens": (70, 0, 131)}
    for s in (True, False):
        cases += [
            SegmentedCase(q_lens=(3, 3), kv_lens=(2, 90), skip_reduce=s, page_size=4),  # rows without keys
            SegmentedCase(**ragged, skip_reduce=s, masked="sparse", page_size=4),
            SegmentedCase(q_lens=(1, 1), kv_lens=(90, 700), skip_reduce=s, masked="all", page_size=8),
            SegmentedCase(q_lens=(1,), kv_lens=(1500,), skip_reduce=s, page_size=64, o_dtype="float16"),
            SegmentedCase(q_lens=(2, 2), kv_lens=(200, 40), skip_reduce=s, rope=0, masked="extremes", heads=96),
            SegmentedCase(q_lens=(), kv_lens=(), skip_reduce=s),
        ]
    return cases


def _gluon() -> list[GluonCase]:
    base = {"kv_lens": (0, 5, 130, 64, 1)}
    cases = [
        GluonCase(heads=h, **base, table=t, flat=n == 1 and h != 8, rows=n, strided=h > 8, wider=h % 3)
        for (h, n), t in product(((1, 1), (8, 1), (12, 4), (16, 1), (40, 2)), (True, False))
    ]
    cases += [
        GluonCase(heads=h, kv_lens=(260, 33), q_dtype=q, kv_dtype=k, kv_scale=1.7, table=h != 64, trend=40.0)
        for h, (q, k) in zip((12, 32, 64, 128), _KINDS, strict=True)
    ]
    return [
        *cases,
        GluonCase(kv_lens=(90, 3), k_apart=True, strided=True),
        GluonCase(kv_lens=(90, 3), k_apart=True, k_offset=512, table=False),
        GluonCase(kv_lens=(90, 3), k_apart=True, k_offset=40, rows=2, flat=False),
        GluonCase(kv_lens=(90, 3), rope=0, table=False, return_lse=False),
        GluonCase(kv_lens=(90, 700), masked="all", heads=6),
        GluonCase(kv_lens=(90, 70), masked="extremes", rows=3, flat=False, return_lse=False),
        GluonCase(kv_lens=(1500,), heads=12, o_dtype="float16"),
        GluonCase(heads=2, kv_lens=(900, 500, 700), rows=2, flat=False),  # splits, also on few threads
        GluonCase(kv_lens=()),
    ]


ALL = [*_segmented(), *_gluon()]
SMOKE = ALL[::4]


def on_device(cases: list, device: Device) -> list:
    """Simulated, without the longest list: it takes seconds."""
    return [case for case in cases if not device.simulated or max((0, *case.kv_lens)) * case.heads < 20_000]
