"""Conversions in captured graphs, through the raw driver API, the regime of ATOM #1391: the graph is captured once,
then indptrs, positions and lists change in place, or stay behind, and it is replayed."""

from __future__ import annotations

import numpy as np
import pytest
from runtime.driver import Driver, Graph

import aiter_c
from aiter_c.testing import Device, check_outputs
from aiter_c.testing.device import Copies
from aiter_c.testing.ops.index_conversion import FORMS, INT32_MAX, INT32_MIN, IndexConversionCase, any_integers

pytestmark = pytest.mark.accelerators
#: Two steps of a batch in tensors of the same shapes.
BATCH = {"lens": (40, 3, 17, 0), "columns": 32, "spare": 2, "entries": "some"}


class LiveCall:
    """The tensors of a case on a device, and the call on them."""

    def __init__(self, case: IndexConversionCase, device: Device, driver: Driver) -> None:
        self.case, self.driver, self.inputs = case, driver, case.inputs()
        self.copies = Copies(device.place)
        self.arguments = {
            name: self.copies.tensor(value) if isinstance(value, np.ndarray) else value
            for name, value in self.inputs.arguments().items()
        }
        self.out = self.inputs.array(self.inputs.written[0])

    def enqueue(self, stream: int) -> None:
        """The call; nothing waits for it."""
        getattr(aiter_c, self.case.op)(**self.arguments, stream=stream)

    def after(self, launch: object) -> np.ndarray:
        """What a launch leaves, on the contents that the host has now."""
        self.inputs.freeze()
        for address, data in self.copies.blocks():
            self.driver.write(address, data)
        launch()
        for address, data in self.copies.blocks():
            self.driver.read(address, data)
        return self.out.copy()


@pytest.mark.parametrize("form", FORMS)
def test_replays_follow_the_tensors(form: str, device: Device) -> None:
    """New contents of everything, then index tensors of any integers: every replay is the eager call to the bit, and
    right by the reference; nothing changes around the output."""
    driver = Driver(device)
    case = IndexConversionCase(form=form, **BATCH)
    live, stream = LiveCall(case, device, driver), driver.stream()

    def eager() -> None:
        live.enqueue(stream)
        driver.synchronize(stream)

    eager()  # loads the code
    with Graph(driver, stream) as graph:
        live.enqueue(stream)
    assert graph.nodes == 1
    rng, before = np.random.default_rng(5), None
    for step in range(6):
        for name, block in live.inputs.blocks.items():
            if name in live.inputs.written:
                continue
            if step < 3 and step > 0 and block.array.ndim == 2:
                block.array[...] = rng.permuted(block.array, axis=1)
            any_integers(rng, block.array, (0.0, 0.0, 0.1, 0.5, 1.0, 0.3)[step])
        replayed = live.after(graph.launch)
        assert np.array_equal(replayed, live.after(eager)), f"step {step}: {case.repro}"
        live.inputs.check_untouched()
        check_outputs(case.outputs(live.inputs, live.out), case.expected(live.inputs, device), case.repro)
        assert step > 2 or before is None or not np.array_equal(replayed, before)
        before = replayed


@pytest.mark.parametrize("stale", [INT32_MIN, -5, 0, 3, 4096, INT32_MAX])
def test_a_replay_with_the_qo_indptr_of_another_step(stale: int, device: Device) -> None:
    """ATOM #1391 itself: an engine's replay leaves qo_indptr as some other step had it."""
    driver = Driver(device)
    live, stream = LiveCall(IndexConversionCase(**BATCH), device, driver), driver.stream()
    qo_indptr = live.inputs.array("qo_indptr")
    qo_indptr[...] = np.arange(len(qo_indptr))
    live.enqueue(stream)
    driver.synchronize(stream)
    with Graph(driver, stream) as graph:
        live.enqueue(stream)
    fresh = live.after(graph.launch)
    qo_indptr[...] = stale
    assert np.array_equal(live.after(graph.launch), fresh)
    qo_indptr[...] = np.arange(len(qo_indptr))[::-1] * 100
    assert np.array_equal(live.after(graph.launch), fresh)
    live.inputs.check_untouched()
    check_outputs(live.case.outputs(live.inputs, live.out), live.case.expected(live.inputs, device), live.case.repro)
