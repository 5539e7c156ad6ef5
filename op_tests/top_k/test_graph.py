"""Top-k in captured graphs, through the raw driver API: logits and windows change in place between replays."""

from __future__ import annotations

import numpy as np
import pytest
from runtime.live_inputs import LiveInputs

from aiter_c.testing import Device
from aiter_c.testing.inputs import any_integers
from aiter_c.testing.ops.top_k import TopKCase

pytestmark = pytest.mark.accelerators
CASES = {
    "prefill": TopKCase(rows=7, columns=1100, k=70, window="inside"),
    "decode": TopKCase(rows=6, columns=300, k=40, next_n=2),
    "few": TopKCase(rows=3, columns=900, k=200, data="few", values=False),
    "many_rows": TopKCase(rows=310, columns=90, k=7),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_replays_follow_the_tensors(case: TopKCase, device: Device) -> None:
    live = LiveInputs(case, device)
    graph = live.capture()
    assert graph.nodes == 1
    rng, before = np.random.default_rng(5), None
    live.inputs.array("logits")[...] = rng.standard_normal(live.inputs.array("logits").shape)
    for step in range(6):
        live.inputs.array("logits")[...] = rng.permuted(live.inputs.array("logits"), axis=1)
        for name in ("rowStarts", "rowEnds", "seqLens"):
            if name in live.inputs.blocks:
                any_integers(rng, live.inputs.array(name), (0.0, 0.2, 0.1, 0.5, 1.0, 0.3)[step])
        live.inputs.find_windows()
        replayed = live.check_replay(graph, step)["indices"]
        assert step > 3 or before is None or not np.array_equal(replayed, before)
        before = replayed
