"""The lists of cases of sparse attention. Everything is deterministic: the same commit gives the same ids.

The arithmetic is that of mla_decode_fwd, which op_tests/mla_decode tests: here are lists of slots in every cache
format, by every way in, and what comes out with a sink and with a second list.
"""

from __future__ import annotations

import math
import random
from itertools import cycle, product

from aiter_c.testing import Device
from aiter_c.testing.ops.mla_decode import MASK_PATTERNS
from aiter_c.testing.ops.sparse_mla import FORMS, SparseCase

RANDOM = 160
SIMULATED_RANDOM = 24  # on each simulated architecture, others on each
WIDTHS = (1, 63, 2048, 2063)
PAGE_SIZES = (1, 2, 5, 16, 53, 64, 69)
#: q, cache, format, rope
KINDS = (
    ("bfloat16", "bfloat16", "plain", 64),
    ("float16", "float16", "plain", 64),
    ("float8_e4m3fn", "float8_e4m3fn", "plain", 64),
    ("float8_e4m3fnuz", "float8_e4m3fnuz", "plain", 64),
    ("bfloat16", "float8_e4m3fn", "plain", 64),
    ("float16", "float8_e4m3fnuz", "plain", 64),
    ("bfloat16", "float8_e4m3fn", "fp8_ds_mla", 64),
    ("float16", "float8_e4m3fn", "fp8_ds_mla", 64),
    ("bfloat16", "bfloat16", "plain", 0),
    ("bfloat16", "float8_e4m3fn", "plain", 0),
    ("float32", "float16", "plain", 64),
)


def of_kind(kind: tuple[str, str, str, int], **fields: object) -> SparseCase:
    """A case of this kind of operands, with an output that is always one of the call's."""
    q, kv, kv_format, rope = kind
    given = {"given": True} if fields.get("form", "fwd") == "fwd" else {}
    return SparseCase(q_dtype=q, kv_dtype=kv, kv_format=kv_format, rope=rope, **given | fields)


def _formats() -> list[SparseCase]:
    """Every kind of operands by every way in, in tiles of every size, over pages with other layers between them."""
    masks, pages, heads = cycle(MASK_PATTERNS), cycle(PAGE_SIZES), cycle((16, 1, 32, 12, 64, 128, 5))
    cases = []
    for kind, form in product(KINDS, FORMS):
        lens = (70, 70) if form in ("table", "topk") else (70, 0, 131)
        cases.append(
            of_kind(kind, form=form, heads=next(heads), lens=lens, page_size=next(pages), kv_strided=True, kv_scale=None
                    if form == "table" else 1.7, q_scale=None if form == "table" else 0.5, masked=next(masks), splits=3)
        )  # fmt: skip
    regions = {"kv_dtype": "float8_e4m3fn", "kv_format": "3buffer"}
    cases += [
        SparseCase(form=form, heads=h, lens=(90, 90), page_size=p, kv_strided=h > 16, masked="extremes", **regions)
        for form, h, p in product(("decode", "lists", "topk"), (4, 64), (1, 16, 53))
    ]
    return cases


def _widths() -> list[SparseCase]:
    kinds = cycle(KINDS)
    return [
        of_kind(next(kinds), form=form, heads=h, lens=(n, n), splits=s, masked="sparse" if n == 63 else "extremes",
                page_size=64, stale=True)
        for (form, s), h, n in product((("fwd", 1), ("fwd", None), ("table", None), ("lists", 1), ("topk", 1)), (3, 16),
                                       WIDTHS)
    ]  # fmt: skip


def _sinks() -> list[SparseCase]:
    """Sinks that are nothing, that are all, beside rows of nothing; by every way in that has them."""
    levels = ((-200.0, "none"), (2.0, "sparse"), (20.0, "none"), (-math.inf, "none"), (0.0, "all"))
    return [
        of_kind(KINDS[i], form=form, heads=(5, 16, 64)[i % 3], lens=(40, 0, 70), sink=True, sink_level=level,
                masked=masked, splits=s, return_lse=lse, strided=i == 2)
        for i, (level, masked) in enumerate(levels)
        for form, s, lse in (("fwd", 1, True), ("fwd", 3, False), ("decode", 1, True), ("decode", 2, False),
                             ("lists", 1, True))
    ]  # fmt: skip


def _two_lists() -> list[SparseCase]:
    """A second cache: of the same and of another format, with rows that have keys in both, in one and in none."""
    seconds = (
        ("bfloat16", "plain", 1),
        ("float8_e4m3fn", "plain", 7),
        ("float8_e4m3fnuz", "plain", 64),
        ("float8_e4m3fn", "fp8_ds_mla", 16),
    )
    cases = []
    for i, (kind, (dtype, form, page)) in enumerate(product(KINDS[:8:2], seconds)):
        if form == "fp8_ds_mla" and kind[0] not in ("bfloat16", "float16"):
            continue
        extra = {"extra_dtype": dtype, "extra_format": form, "extra_page_size": page, "extra_scale": 0.7}
        cases.append(
            of_kind(kind, heads=(3, 16, 64, 12)[i % 4], lens=(70, 0, 130, 1, 0), extra_lens=(33, 128, 0, 1, 0),
                    sink=i % 2 == 0, masked=MASK_PATTERNS[i % len(MASK_PATTERNS)], splits=(1, None, 3)[i % 3],
                    page_size=16, kv_strided=i % 3 == 0, kv_scale=1.5, **extra)
        )  # fmt: skip
    one = {"lens": (1, 2), "extra_lens": (2, 1), "given": True, "sink": True}  # states that cancel one another
    cases += [SparseCase(heads=64, **one, seed=seed, score_std=4.0) for seed in range(4)]
    wide = {"lens": (3000,), "extra_lens": (700,), "given": True}  # many splits
    return [*cases, SparseCase(heads=2, splits=90, **wide), SparseCase(heads=2, splits=None, **wide)]


def _corners() -> list[SparseCase]:
    base = {"heads": 6, "lens": (40, 9)}
    return [
        SparseCase(**base, dims=2),
        SparseCase(**base, dims=3, page_size=4),
        SparseCase(**base, dims=3, page_size=1, kv_strided=True),
        SparseCase(**base, int64=True, masked="minus_one", page_size=5, extra_lens=(3, 8)),
        SparseCase(**base, given=True, wide=True, strided=True, o_dtype="float16"),
        SparseCase(**base, given=True, wide=True, sink=True, return_lse=False),
        SparseCase(**base, q_dtype="float16", kv_dtype="float16", o_dtype="float16"),
        SparseCase(**base, return_lse=False, stale=True),
        SparseCase(**base, form="decode", return_lse=False, sink=True, splits=None),
        SparseCase(heads=4, lens=(), given=True),
        SparseCase(heads=4, lens=(), sink=True),
        SparseCase(heads=4, lens=(), form="table"),
        SparseCase(heads=4, lens=(0, 0), extra_lens=(0, 0), sink=True),
        SparseCase(heads=4, lens=(0, 0), form="table", strided=True),
        SparseCase(heads=8, lens=(64, 64, 64), form="table", strided=True, stale=True, masked="all"),
        SparseCase(heads=8, lens=(70,) * 9, form="lists", workers=2),
        SparseCase(heads=16, lens=(5000,), splits=320),
        *(SparseCase(heads=h, lens=(80, 33), page_size=5, sink=h % 2 == 0) for h in (2, 7, 9, 17, 24, 48, 65, 96, 127)),
    ]


def random_case(rng: random.Random, seed: int, *, hostile: bool = False) -> SparseCase:
    """Sizes are kept such that the fp64 reference needs milliseconds."""
    form = rng.choice((*FORMS, "fwd", "fwd", "decode"))
    kind = rng.choice(KINDS)
    heads = rng.choice((rng.randint(1, 128), rng.choice((1, 4, 8, 16, 32, 64, 128))))
    most = max(1, min(300, 60_000 // heads))
    width = rng.randint(0, most)
    count = rng.choice((1, 1, 2, 3, 5))
    lens = tuple(width if form in ("table", "topk") else rng.choice((0, 1, rng.randint(0, most))) for _ in range(count))
    fields: dict[str, object] = {}
    if form == "fwd" and rng.random() < 0.4:
        dtype, extra_format = rng.choice(
            (("bfloat16", "plain"), ("float16", "plain"), ("float8_e4m3fn", "plain"), ("float8_e4m3fn", "fp8_ds_mla"))
        )
        if not (extra_format == "fp8_ds_mla" and (kind[3] == 0 or kind[0] not in ("bfloat16", "float16"))):
            fields |= {"extra_lens": tuple(rng.randint(0, most) for _ in range(count)), "extra_dtype": dtype}
            fields |= {"extra_format": extra_format, "extra_page_size": rng.choice(PAGE_SIZES)}
            fields |= {"extra_scale": rng.choice((None, 0.3))}
    if form != "table":
        fields |= {"kv_scale": rng.choice((None, 2.3)), "q_scale": rng.choice((None, 0.25))}
        fields |= {"sink": rng.random() < 0.4, "int64": form == "fwd" and not hostile and rng.random() < 0.2}
    if form in ("fwd", "decode"):
        fields["splits"] = rng.choice((None, -1, 1, 2, 5, 17))
    fields |= {"strided": rng.random() < 0.3, "kv_strided": rng.random() < 0.4, "stale": rng.random() < 0.3}
    return of_kind(
        kind, form=form, heads=heads, lens=lens, page_size=rng.choice((1, 1, *PAGE_SIZES)),
        o_dtype=rng.choice(("bfloat16", "float16")), return_lse=rng.random() < 0.8,
        score_std=rng.choice((0.05, 0.3, 1.0, 4.0)), masked=rng.choice(MASK_PATTERNS), workers=rng.choice((1, 3, 8)),
        seed=seed, hostile=hostile, **fields,
    )  # fmt: skip


def _sweep() -> list[SparseCase]:
    rng = random.Random(20261130)
    return [random_case(rng, seed) for seed in range(RANDOM)]


CORNER = list(dict.fromkeys([*_formats(), *_widths(), *_sinks(), *_two_lists(), *_corners()]))
SWEEP = _sweep()
ALL = list(dict.fromkeys([*CORNER, *SWEEP]))
SMOKE = CORNER[::5]
_SIMULATED_SWEEP = {"gfx942": {*SWEEP[:SIMULATED_RANDOM]}, "gfx950": {*SWEEP[SIMULATED_RANDOM : 2 * SIMULATED_RANDOM]}}
_SWEEP = {*SWEEP}


def on_device(cases: list[SparseCase], device: Device) -> list[SparseCase]:
    """Simulated: every named case and a part of the random ones; none that takes seconds. int64 is converted by torch
    and NumPy: the tensors that a test copies to a device are of neither."""
    if device.copies:
        cases = [case for case in cases if not case.int64]
    if not device.simulated:
        return cases
    part = _SIMULATED_SWEEP[device.name]
    keys = lambda case: max(1, sum(case.lens) + sum(case.extra_lens)) * max(case.heads, 16)  # noqa: E731
    return [case for case in cases if (case in part or case not in _SWEEP) and keys(case) <= 150_000]
