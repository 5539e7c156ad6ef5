"""Conversions in captured graphs, through the raw driver API, the regime of ATOM #1391: the graph is captured once,
then indptrs, positions and lists change in place, or stay behind, and it is replayed."""

from __future__ import annotations

import numpy as np
import pytest
from runtime.live_inputs import LiveInputs

from aiter_c.testing import Device
from aiter_c.testing.inputs import INT32_MAX, INT32_MIN, any_integers
from aiter_c.testing.ops.index_conversion import FORMS, IndexConversionCase

pytestmark = pytest.mark.accelerators
#: Two steps of a batch in tensors of the same shapes.
BATCH = {"lens": (40, 3, 17, 0), "columns": 32, "spare": 2, "entries": "some"}


@pytest.mark.parametrize("form", FORMS)
def test_replays_follow_the_tensors(form: str, device: Device) -> None:
    """New contents of everything, then index tensors of any integers."""
    live = LiveInputs(IndexConversionCase(form=form, **BATCH), device)
    graph = live.capture()
    assert graph.nodes == 1
    (written,) = live.inputs.written
    rng, before = np.random.default_rng(5), None
    for step in range(6):
        for name, block in live.inputs.blocks.items():
            if name in live.inputs.written:
                continue
            if step < 3 and step > 0 and block.array.ndim == 2:
                block.array[...] = rng.permuted(block.array, axis=1)
            any_integers(rng, block.array, (0.0, 0.0, 0.1, 0.5, 1.0, 0.3)[step])
        replayed = live.check_replay(graph, step)[written]
        assert step > 2 or before is None or not np.array_equal(replayed, before)
        before = replayed


@pytest.mark.parametrize("stale", [INT32_MIN, -5, 0, 3, 4096, INT32_MAX])
def test_a_replay_with_the_qo_indptr_of_another_step(stale: int, device: Device) -> None:
    """ATOM #1391 itself: an engine's replay leaves qo_indptr as some other step had it."""
    live = LiveInputs(IndexConversionCase(**BATCH), device)
    qo_indptr = live.inputs.array("qo_indptr")
    qo_indptr[...] = np.arange(len(qo_indptr))
    graph = live.capture()
    (fresh,) = live.after(graph.launch).values()
    for values in (stale, np.arange(len(qo_indptr))[::-1] * 100):
        qo_indptr[...] = values
        (replayed,) = live.check_replay(graph, stale).values()
        assert np.array_equal(replayed, fresh)
