"""Sparse attention in captured graphs, through the raw driver API: captured once, then lists, caches and queries change
in place, and it is replayed."""

from __future__ import annotations

import numpy as np
import pytest
from runtime.driver import Driver, Graph

import aiter_c
from aiter_c.testing import Device, DeviceTensor, allocated_by, check_outputs
from aiter_c.testing.device import Copies
from aiter_c.testing.memory import Block
from aiter_c.testing.ops.sparse_mla import SparseCase

pytestmark = pytest.mark.accelerators
RECORDS = {"kv_dtype": "float8_e4m3fn", "kv_format": "fp8_ds_mla"}
#: Launches of each call: decode, merge, fills.
CASES = {
    "one split": (SparseCase(heads=12, lens=(90, 20, 0), page_size=4, given=True, **RECORDS), 1),
    "splits": (SparseCase(heads=12, lens=(90, 20, 0), page_size=4, given=True, splits=3), 2),
    "sink": (SparseCase(heads=12, lens=(90, 20, 0), page_size=4, given=True, sink=True, splits=3), 2),
    "two lists": (SparseCase(heads=12, lens=(90, 20, 0), given=True, sink=True, splits=2, extra_lens=(9, 0, 33),
                             extra_page_size=8), 3),
    "table": (SparseCase(heads=12, lens=(64, 64), page_size=4, form="table", masked="minus_one"), None),
    "decode": (SparseCase(heads=12, lens=(90, 20, 0), page_size=4, form="decode", sink=True, splits=2), 3),
    "lists": (SparseCase(heads=12, lens=(90, 20, 0), page_size=4, form="lists", sink=True, **RECORDS), 4),
}  # fmt: skip


class LiveCall:
    """The tensors of a case on a device, scratch and LSE included, and the call on them."""

    def __init__(self, case: SparseCase, device: Device, driver: Driver) -> None:
        self.case, self.driver, self.inputs = case, driver, case.inputs()
        self.copies = Copies(device.place)
        self.arguments = {
            name: self.copies.tensor(value) if isinstance(value, np.ndarray) else value
            for name, value in self.inputs.arguments().items()
        }
        self.scratch: list[Block] = []
        self.lse: DeviceTensor | None = None

    def enqueue(self, stream: int) -> None:
        """The call, whose n-th allocation is the same memory every time; nothing waits for it."""
        taken = iter(range(100))

        def allocate(_name: str, _like: object, shape: tuple[int, ...], dtype: str, _stream: object) -> DeviceTensor:
            number = next(taken)
            if number == len(self.scratch):
                self.scratch.append(Block(tuple(shape), dtype))
                self.scratch[-1].fill_nan()
            return self.copies.tensor(self.scratch[number].array)

        with allocated_by(allocate):
            returned = getattr(aiter_c, self.case.op)(**self.arguments, stream=stream)
        self.lse = None if returned is None else returned[1]

    def after(self, launch: object) -> dict[str, np.ndarray]:
        """What a launch leaves, on the contents that the host has now."""
        for name in self.inputs.written:
            self.inputs.blocks[name].fill_nan()
        for block in self.scratch:
            block.fill_nan()
        for address, data in self.copies.blocks():
            self.driver.write(address, data)
        launch()
        for address, data in self.copies.blocks():
            self.driver.read(address, data)
        lse = None if self.lse is None else self.lse.array
        outputs = self.case.outputs(self.inputs, (self.arguments.get("out"), lse))
        return {name: value.copy() for name, value in outputs.items() if value is not None}


@pytest.mark.parametrize("name", CASES)
def test_replays_follow_the_tensors(name: str, device: Device) -> None:
    """Lists of any numbers, other queries and keys: every replay is the eager call to the bit, and right."""
    case, nodes = CASES[name]
    driver = Driver(device)
    live, stream = LiveCall(case, device, driver), driver.stream()

    def eager() -> None:
        live.enqueue(stream)
        driver.synchronize(stream)

    eager()  # loads the code
    with Graph(driver, stream) as graph:
        live.enqueue(stream)
    assert nodes is None or graph.nodes == nodes
    rng, before = np.random.default_rng(5), None
    for step in range(5):
        if step:
            live.inputs.array("q")[...] = rng.permuted(live.inputs.array("q"), axis=0)
            live.inputs.q_values = live.inputs.array("q").astype(np.float64)
        if step > 1:
            live.inputs.make_hostile(rng)
        replayed = live.after(graph.launch)
        again = live.after(eager)
        assert all(replayed[one].tobytes() == again[one].tobytes() for one in replayed), f"step {step}: {case.repro}"
        check_outputs(replayed, case.expected(live.inputs, device), case.repro)
        assert before is None or before.tobytes() != replayed["o"].tobytes()
        before = replayed["o"]
