"""Writes in captured graphs, through the raw driver API: captured once, then slots, positions, tables and values change
in place, and the graph is replayed."""

from __future__ import annotations

import numpy as np
import pytest
from runtime.driver import Driver, Graph

import aiter_c
from aiter_c.testing import Case, Device, check_outputs
from aiter_c.testing.device import Copies
from aiter_c.testing.ops.cache_write import CacheWriteCase, some_slots, source
from aiter_c.testing.ops.indexer_cache import IndexerGatherCase, IndexerRopeCase, IndexerWriteCase

pytestmark = pytest.mark.accelerators
CASES = [
    CacheWriteCase(tokens=9),
    CacheWriteCase(cache="fp8_ds_mla"),
    CacheWriteCase(form="concat_seg", cache="float8_e4m3fn", scale=0.3, tensor_scale=True),
    CacheWriteCase(form="fused", cache="float8_e4m3fnuz", q_out="float8_e4m3fn", positions="far", heads=5),
    CacheWriteCase(form="fused_seg", cache="float8_e4m3fn"),
    CacheWriteCase(form="cat", given=True, more_keys=2),
    IndexerWriteCase(tokens=9, page_size=16, preshuffle=True),
    IndexerRopeCase(all_q=True, positions="far"),
    IndexerGatherCase(table="any", lens=(9, 4, 0, 5)),
]


def _renew(case: Case, name: str, array: np.ndarray, rng: np.random.Generator) -> None:
    """Another step's content of an input."""
    if name == "slot_mapping":
        array[...] = some_slots("some", rng, len(array), case.pages * case.page_size)
    elif name in ("positions", "pos"):
        array[...] = rng.choice([-1, 0, 3, 6, 7, 2**40], array.shape)
    elif name == "block_table":
        array[...] = rng.integers(-2, case.pages + 2, array.shape)
    elif name == "cu_seq_lens":
        array[...] = rng.permutation(array)
    elif array.dtype.kind not in "iu" and array.dtype.itemsize > 1 and "scale" not in name:
        array[...] = source("normal", rng, array.shape, array.dtype.name)


@pytest.mark.parametrize("case", CASES)
def test_replays_follow_the_tensors(case: Case, device: Device) -> None:
    """Every replay is the eager call to the bit, and right by the reference; nothing changes around the outputs."""
    driver, inputs, copies = Driver(device), case.inputs(), Copies(device.place)
    stream, rng = driver.stream(), np.random.default_rng(5)
    arguments = {
        name: copies.tensor(value) if isinstance(value, np.ndarray) else value
        for name, value in inputs.arguments().items()
    }

    def enqueue() -> None:
        getattr(aiter_c, case.op)(**arguments, stream=stream)

    def eager() -> None:
        enqueue()
        driver.synchronize(stream)

    def after(launch: object) -> list[bytes]:
        inputs.freeze()
        for address, data in copies.blocks():
            driver.write(address, data)
        launch()
        for address, data in copies.blocks():
            driver.read(address, data)
        return [inputs.array(name).tobytes() for name in inputs.written]

    eager()  # loads the code
    with Graph(driver, stream) as graph:
        enqueue()
    assert graph.nodes == 1
    before = None
    for step in range(4):
        for name, block in inputs.blocks.items():
            if step and name not in inputs.written:
                _renew(case, name, block.array, rng)
        replayed = after(graph.launch)
        assert replayed == after(eager), f"step {step}: {case.repro}"
        inputs.check_untouched()
        returned = None
        if getattr(case, "form", "") == "cat":
            returned = (*(inputs.array(name) for name in inputs.written[1:]), None)
        check_outputs(case.outputs(inputs, returned), case.expected(inputs, device), case.repro)
        assert before != replayed
        before = replayed
