"""Logits in captured graphs, through the raw driver API: lengths, pages, windows, queries and keys change in place
between replays."""

from __future__ import annotations

import numpy as np
import pytest
from runtime.live_inputs import LiveInputs

from aiter_c.testing import Device
from aiter_c.testing.inputs import any_integers
from aiter_c.testing.ops.mqa_logits import FP8, LogitsCase, PagedLogitsCase, make_hostile

pytestmark = pytest.mark.accelerators
FN, FNUZ = FP8
CASES = {
    "paged": PagedLogitsCase(lens=(200, 0, 130), next_n=2, max_model_len=200),
    "small_pages": PagedLogitsCase(lens=(90, 150, 1), block=16, heads=32, max_model_len=150),
    "tokens": PagedLogitsCase(lens=(70, 41), block=1, max_model_len=80, clean=False),
    "own_lengths": PagedLogitsCase(lens=(90, 80), next_n=3, lens_shape="bn", q_dtype=FN, kv_dtype=FNUZ),
    "contiguous": LogitsCase(rows=9, keys=300),
    "contiguous_fnuz": LogitsCase(rows=5, keys=70, clean=False, q_dtype=FNUZ, kv_dtype=FNUZ, heads=32),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_replays_follow_the_tensors(case: PagedLogitsCase | LogitsCase, device: Device) -> None:
    live = LiveInputs(case, device)
    graph = live.capture()
    assert graph.nodes == 1
    make_hostile(live.inputs, 0.0, 1)  # every key has a value: other pages and lengths may reach it
    kept = {name: live.inputs.array(name).copy() for name in live.inputs.blocks}
    rng, before = np.random.default_rng(5), None
    for step in range(6):
        for name in set(live.inputs.blocks) - set(live.inputs.written):
            array = live.inputs.array(name)
            array[...] = kept[name]
            if array.dtype == np.int32 and step:
                for values in array.reshape(len(array), -1):
                    rng.shuffle(values)
                any_integers(rng, array, (0.0, 0.0, 0.1, 0.5, 1.0, 0.3)[step])
            elif name in ("weights", "kv_scales"):
                array[...] = rng.standard_normal(array.shape)
        (replayed,) = live.check_replay(graph, step).values()
        assert before is None or not np.array_equal(replayed, before, equal_nan=True)
        before = replayed
