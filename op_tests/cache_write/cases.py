"""The lists of cases. Everything is deterministic: the same commit gives the same ids.

SMOKE   every form with every kind of cache and of slots.
CORNER  page sizes, widths, dtypes, strides, no tokens, no pages, any bits in the sources.
SWEEP   random mixes of all fields from a fixed seed.
"""

from __future__ import annotations

import random

from aiter_c.testing import Device
from aiter_c.testing.ops.cache_write import DATA, OPS, RECORDS, SLOTS, CacheWriteCase
from aiter_c.testing.ops.exact import FP8

RANDOM = 240
SIMULATED_RANDOM = 50  # on each simulated architecture, others on each
PAGE_SIZES = (1, 2, 5, 16, 53, 64, 69, 256)
FORMS = tuple(OPS)


def form_of(form: str, **fields: object) -> CacheWriteCase:
    """Without what the form does not have."""
    if form not in ("fused", "fused_seg", "cat"):
        fields = {k: v for k, v in fields.items() if k not in ("heads", "q_out", "all_q", "q_latent", "own_angles")}
    if form in ("concat", "concat_seg", "fused_seg"):
        fields.pop("key_heads", None)
    if form != "cat":
        for name in ("more_keys", "fewer_slots", "decoded", "given", "own_angles"):
            fields.pop(name, None)
    if form != "fused":
        fields.pop("all_q", None)
    if form == "fused_seg" or form.startswith("concat"):
        fields.pop("nope_first", None)
    if form != "concat" and fields.get("cache") in RECORDS:
        fields["cache"] = FP8[0]
    if fields.get("cache") in RECORDS:
        fields |= {"latent": 512, "rope": 64}
        if fields.get("dtype", "bfloat16") != "bfloat16" and fields.get("data") == "codes":
            fields["data"] = "wide"  # the bits of a NaN that is rounded are the device's own
    if fields.get("given"):
        fields.setdefault("decoded", min(1, fields.get("tokens", 5)))
    return CacheWriteCase(form=form, **fields)


def _smoke() -> list[CacheWriteCase]:
    cases = [
        form_of(form, cache=cache, slots=slots, tokens=6, seed=i)
        for form in FORMS
        for i, cache in enumerate(("auto", *FP8))
        for slots in SLOTS
    ]
    cases += [form_of("concat", cache=cache, slots=slots) for cache in RECORDS for slots in SLOTS]
    cases += [
        form_of(form, neox=neox, q_out=q_out, cache=q_out, all_q=all_q, positions="far", scale=0.3, nope_first=all_q)
        for form in ("fused", "fused_seg", "cat")
        for neox in (True, False)
        for all_q in (True, False)
        for q_out in ("auto", *FP8)
    ]
    return cases


def _corner() -> list[CacheWriteCase]:
    caches = ("auto", *FP8, *RECORDS)
    cases = [
        form_of(form, page_size=size, cache=caches[i % 5], pages=2, page_gap=64 * (i % 3), tokens=9)
        for form in FORMS
        for i, size in enumerate(PAGE_SIZES)
    ]
    cases += [
        form_of(form, latent=latent, rope=rope, cache=cache, q_out=cache, gap=latent % 5, tokens=3, row_gap=latent % 4)
        for form in FORMS
        for latent, rope in ((1, 2), (7, 6), (8, 0), (128, 64), (500, 66), (513, 62), (1024, 130))
        for cache in ("auto", FP8[latent % 2])
        if not (form.startswith("fused") and rope == 0)
    ]
    cases += [form_of(form, dtype=dtype, cache=cache, data=data, q_out=cache if cache in FP8 else "auto", scale=0.7)
              for form in FORMS for dtype in ("bfloat16", "float16", "float32") for data in DATA
              for cache in caches]  # fmt: skip
    cases += [
        form_of(form, cache=FP8[0], scale=scale, tensor_scale=tensor, bytes_cache=tensor, q_out=FP8[1])
        for form in FORMS
        for scale in (1.0, 2.0**-130, 3e-3, 1e30, 0.0, float("inf"), float("nan"))
        for tensor in (True, False)
        if tensor or scale == scale
    ]
    for form in FORMS:
        cases += [form_of(form, tokens=0), form_of(form, pages=0, all_q=True), form_of(form, page_size=0, pages=3)]
        cases += [form_of(form, tokens=40, step=3, spare=2, gap=8, shift=1, pages=11, cache=c) for c in caches]
    cases += [form_of("fused", key_heads=g, heads=4, rank=4, row_gap=8, page_gap=32) for g in (1, 2, 4)]
    cases += [form_of("cat", key_heads=g, heads=4, rank=rank, more_keys=3, fewer_slots=2, decoded=2, given=given)
              for g in (1, 2) for rank in (3, 4) for given in (True, False)]  # fmt: skip
    cases += [form_of("cat", own_angles=True, neox=neox, angle_dtype=d) for neox in (True, False)
              for d in ("float32", "float16")]  # fmt: skip
    cases += [form_of("concat", cache="fp8_ds_mla", rank=rank, page_size=size) for rank in (2, 3) for size in (0, 1, 7)]
    cases += [form_of(form, q_latent=130, heads=128, tokens=2) for form in ("fused", "fused_seg", "cat")]
    cases += [form_of(form, angles=1, positions="far", slots="all") for form in ("fused", "fused_seg", "cat")]
    return cases


def random_case(rng: random.Random, seed: int) -> CacheWriteCase:
    """Any of them."""
    cache = rng.choice(("auto", *FP8, *RECORDS))
    return form_of(
        rng.choice(FORMS),
        tokens=rng.choice((1, rng.randrange(20), rng.randrange(70))),
        heads=rng.choice((1, 2, 5, 16)),
        key_heads=rng.choice((1, 1, 2)),
        latent=rng.choice((512, 512, rng.randrange(1, 300), 64)),
        rope=rng.choice((64, 64, 2 * rng.randrange(1, 50))),
        dtype=rng.choice(("bfloat16", "bfloat16", "float16", "float32")),
        cache=cache,
        q_out=rng.choice(("auto", *FP8)),
        bytes_cache=rng.random() < 0.3,
        pages=rng.randrange(1, 9),
        page_size=rng.choice((1, 2, 3, 16, 64)),
        page_gap=rng.choice((0, 0, 16, 37)) if cache not in RECORDS else 16 * rng.randrange(3),
        row_gap=rng.choice((0, 0, 8, 3)) if cache not in RECORDS else 0,
        slots=rng.choice(SLOTS),
        data=rng.choice(DATA),
        scale=rng.choice((None, 1.0, 0.25, 0.3, 17.0)),
        tensor_scale=rng.random() < 0.5,
        neox=rng.random() < 0.5,
        nope_first=rng.random() < 0.5,
        all_q=rng.random() < 0.5,
        angles=rng.choice((1, 4, 50)),
        angle_dtype=rng.choice(("bfloat16", "float32")),
        positions=rng.choice(("near", "far")),
        more_keys=rng.randrange(3),
        fewer_slots=rng.randrange(2),
        given=rng.random() < 0.5,
        gap=rng.choice((0, 8, rng.randrange(9))),
        spare=rng.randrange(3),
        step=rng.randrange(1, 4),
        shift=rng.choice((0, 0, 8, rng.randrange(9))),
        seed=seed,
    )


SMOKE = _smoke()
CORNER = _corner()
_rng = random.Random(15)
SWEEP = [random_case(_rng, seed) for seed in range(RANDOM)]
ALL = list(dict.fromkeys(SMOKE + CORNER + SWEEP))


def on_device(cases: list[CacheWriteCase], device: Device) -> list[CacheWriteCase]:
    """On a simulated device a part of the corners and of SWEEP."""
    if not device.simulated:
        return cases
    part = {"gfx942": 0, "gfx950": 1}[device.name]
    chosen = set(SMOKE) | set(CORNER[part::2]) | set(SWEEP[part * SIMULATED_RANDOM : (part + 1) * SIMULATED_RANDOM])
    return [case for case in cases if case in chosen]
