"""The lists of cases. Everything is deterministic: the same commit gives the same ids.

SMOKE   every form with every kind of entries and ranges.
CORNER  columns around the tiles of a work item, no rows, no columns, many requests, pages of every size.
SWEEP   random mixes of all fields, hostile index tensors among them, from a fixed seed.
"""

from __future__ import annotations

import random
from itertools import cycle

from aiter_c.testing import Device
from aiter_c.testing.ops.index_conversion import ENTRIES, FORMS, RANGES, IndexConversionCase

RANDOM = 250
SIMULATED_RANDOM = 60  # on each simulated architecture, others on each
PAGE_SIZES = (1, 2, 5, 16, 53, 64, 69, 256)


def form_of(form: str, **fields: object) -> IndexConversionCase:
    """Without what the form does not have."""
    if form not in ("prefill", "ragged", "padded"):
        fields["page_size"] = 1
    if form not in ("ragged", "padded"):
        fields["page_gap"] = 0
    if form == "lists":
        fields["q_len"] = 1
    if form in ("ragged", "valid") or fields.get("hostile"):
        fields["given"] = True
    return IndexConversionCase(form=form, **fields)


def _smoke() -> list[IndexConversionCase]:
    ranges, given = cycle(RANGES), cycle((True, False, True))
    return [
        form_of(
            form, entries=entries, ranges=next(ranges), given=next(given), q_len=2, page_size=4, page_gap=3, lens=lens,
            gap=3, spare=2 if lens[0] > 9 else 0, columns=11,
        )
        for form in FORMS
        for entries in ENTRIES
        for lens in ((9, 4, 0), (30, 2, 11))
    ]  # fmt: skip


def _corner() -> list[IndexConversionCase]:
    pages, ranges = cycle(PAGE_SIZES), cycle(RANGES)
    cases = [
        form_of(form, columns=columns, lens=(3 * columns // 2, columns // 3), page_size=next(pages), shift=columns % 4,
                ranges=next(ranges))
        for form in FORMS
        for columns in (1, 63, 64, 65, 255, 256, 257, 512, 1023, 1024, 1025, 2048, 2063, 3100)
    ]  # fmt: skip
    cases += [form_of(form, columns=0, given=given) for form in FORMS for given in (True, False)]
    cases += [form_of(form, lens=(), given=given) for form in FORMS for given in (True, False)]
    cases += [form_of(form, lens=(0, 0, 0), entries="borders", ranges="long") for form in FORMS]
    cases += [form_of(form, lens=(5,) * 70, q_len=3, columns=3, entries="borders") for form in FORMS]
    cases += [
        form_of(form, lens=(700, 90), page_size=size, page_gap=gap, entries=entries, columns=70, spare=gap)
        for form in ("prefill", "ragged", "padded")
        for size in PAGE_SIZES
        for gap, entries in ((0, "some"), (1000, "borders"))
    ]
    # MTP: rows of one request see lists of their own; the first ones fewer keys.
    return cases + [form_of(form, lens=(40, 3, 17), q_len=n, columns=32) for form in FORMS[1:] for n in (1, 2, 4, 8)]


def random_case(rng: random.Random, seed: int, *, hostile: float | None = None) -> IndexConversionCase:
    """Any of them."""
    lens = [rng.choice((0, 1, rng.randrange(20), rng.randrange(200))) for _ in range(rng.randrange(1, 7))]
    return form_of(
        rng.choice(FORMS),
        lens=tuple(lens),
        q_len=rng.choice((1, 1, 2, 3)),
        columns=rng.choice((1, rng.randrange(1, 20), rng.randrange(1, 300), 64)),
        entries=rng.choice(ENTRIES),
        ranges=rng.choice(RANGES),
        page_size=rng.choice((1, 2, 3, 16, 64)),
        page_gap=rng.choice((0, 0, 1, 100)),
        given=rng.random() < 0.7,
        gap=rng.randrange(4),
        spare=rng.randrange(3),
        shift=rng.randrange(4),
        hostile=rng.choice((0.0, 0.0, 0.1, 1.0)) if hostile is None else hostile,
        seed=seed,
    )


SMOKE = _smoke()
CORNER = _corner()
_rng = random.Random(12)
SWEEP = [random_case(_rng, seed) for seed in range(RANDOM)]
ALL = list(dict.fromkeys(SMOKE + CORNER + SWEEP))


def on_device(cases: list[IndexConversionCase], device: Device) -> list[IndexConversionCase]:
    """On a simulated device every second corner and a part of SWEEP, on each others."""
    if not device.simulated:
        return cases
    part = {"gfx942": 0, "gfx950": 1}[device.name]
    kept = {*SMOKE, *CORNER[part::2], *SWEEP[part * SIMULATED_RANDOM : (part + 1) * SIMULATED_RANDOM]}
    return [case for case in cases if case in kept]
