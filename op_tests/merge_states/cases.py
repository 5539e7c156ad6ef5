"""The lists of cases. Everything is deterministic: the same commit gives the same ids.

SMOKE   every form, dtype and width of a kernel.
CORNER  the corners by name: widths around every vector, numbers of states around every group of loads, sinks, LSEs that
        leave fp32's exponentials.
SWEEP   random mixes of all features, from a fixed seed.
"""

from __future__ import annotations

import math
import random

from aiter_c.testing import Device
from aiter_c.testing.ops.merge_states import DTYPES, EMPTY_PATTERNS, FORMS, MergeStatesCase

RANDOM = 120
SIMULATED_RANDOM = 15  # on each simulated architecture, others on each
WIDTHS = (64, 128, 256, 512)  # of models
ODD_WIDTHS = (1, 2, 3, 4, 5, 7, 8, 9, 24, 60, 63, 65, 96, 100, 136, 192, 255, 257, 384, 500, 513, 520, 576, 1028)


def form_of(form: str, **fields: object) -> MergeStatesCase:
    """With what merge_attn_states wants of every call."""
    two = {"form": "two", "layout": "ht", "given": True, "states": 2}
    return MergeStatesCase(**fields | (two if form == "two" else {"form": form}))


def _smoke() -> list[MergeStatesCase]:
    cases = [
        form_of(
            FORMS[(i + k) % 3], heads=5, dim=dim, o_dtype=o_dtype, aligned=True, states=3, empty="some",
            sink=dim == 128, strided=dim == 256,
        )
        for i, dim in enumerate(WIDTHS)
        for k, o_dtype in enumerate(DTYPES)
    ]  # fmt: skip
    cases += [
        MergeStatesCase(heads=3, dim=72, o_dtype=o, out_dtype=out, given=True, aligned=o != out)
        for o in DTYPES
        for out in DTYPES
    ]
    cases += [form_of(form, heads=3, dim=64, empty=empty) for form in FORMS for empty in EMPTY_PATTERNS[1:]]
    return cases + [
        form_of(FORMS[dim % 3], heads=3, dim=dim, o_dtype=DTYPES[dim % 3], empty="some", sink=dim % 2 == 0)
        for dim in ODD_WIDTHS
    ]


def _corner() -> list[MergeStatesCase]:
    cases = [MergeStatesCase(heads=h, dim=WIDTHS[h % 4], rows=2, aligned=True) for h in (1, 2, 4, 7, 12, 24, 128, 130)]
    cases += [MergeStatesCase(rows=rows, heads=3, dim=64, given=True) for rows in (0, 1, 10, 11, 43)]
    cases += [
        MergeStatesCase(states=n, heads=2, dim=64 << n % 4, aligned=n % 2 == 0, empty="some") for n in range(1, 11)
    ]
    cases += [MergeStatesCase(states=n, rows=1, heads=2, dim=65, spread=1.0) for n in (16, 17, 31, 64, 100, 300)]
    cases += [
        form_of("sequence", states=n, rows=2, heads=3, dim=24, layout=layout, strided=n > 4)
        for n, layout in ((1, "th"), (2, "ht"), (3, "th"), (5, "ht"), (8, "th"), (15, "th"), (16, "ht"))
    ]
    # Strided in every form, vectors that are aligned and not.
    cases += [
        form_of(form, states=3, heads=3, dim=dim, strided=True, aligned=aligned, layout=layout, given=given)
        for form in FORMS
        for dim, aligned, layout, given in ((512, True, "th", True), (136, True, "ht", False), (515, False, "ht", True))
    ]
    # LSEs whose exponentials leave fp32, in both directions, and far apart from one another.
    cases += [
        MergeStatesCase(states=3, heads=3, dim=64, level=level, spread=spread, o_dtype="float32", sink=sink,
                        sink_level=level)
        for level, spread in ((300.0, 1.0), (-300.0, 1.0), (0.0, 60.0), (1e6, 1.0), (-1e30, 0.0), (0.0, 0.0))
        for sink in (False, True)
    ]  # fmt: skip
    # Sinks that are nothing, that are all, and beside rows of nothing.
    cases += [
        form_of(form, heads=3, dim=64, o_dtype="float32", sink=True, sink_level=level, empty=empty)
        for form in FORMS
        for level, empty in ((-200.0, "none"), (80.0, "none"), (500.0, "some"), (-math.inf, "some"), (3.0, "all"))
    ]
    cases += [form_of("two", heads=3, dim=dim, return_lse=False, sink=sink) for dim, sink in ((64, True), (100, False))]
    return cases


def _random(rng: random.Random) -> MergeStatesCase:
    form = rng.choice(FORMS)
    given = form == "two" or rng.random() < 0.5
    return form_of(
        form,
        states=rng.choice((1, 2, 2, 3, 4, 7, 8)),
        rows=rng.choice((1, 2, 5)),
        heads=rng.choice((1, 3, 4, 8, 12, 16)),
        dim=rng.choice((*WIDTHS, *WIDTHS, rng.randint(1, 600))),
        o_dtype=rng.choice(DTYPES),
        out_dtype=rng.choice((None, *DTYPES)) if given else None,
        layout=rng.choice(("th", "ht")),
        given=given,
        return_lse=form != "two" or rng.random() < 0.7,
        strided=rng.random() < 0.4,
        aligned=rng.random() < 0.5,
        sink=rng.random() < 0.4,
        empty=rng.choice(EMPTY_PATTERNS),
        spread=rng.choice((0.5, 3.0, 20.0)),
        seed=rng.randrange(1000),
    )


SMOKE = _smoke()
CORNER = _corner()
_rng = random.Random(10)
SWEEP = [_random(_rng) for _ in range(RANDOM)]
ALL = list(dict.fromkeys(SMOKE + CORNER + SWEEP))


def on_device(cases: list[MergeStatesCase], device: Device) -> list[MergeStatesCase]:
    """On a simulated device a part of SWEEP."""
    if not device.simulated:
        return cases
    part = {"gfx942": 0, "gfx950": 1}[device.name]
    random_cases = set(SWEEP[part * SIMULATED_RANDOM : (part + 1) * SIMULATED_RANDOM])
    return [case for case in cases if case not in SWEEP or case in random_cases]
