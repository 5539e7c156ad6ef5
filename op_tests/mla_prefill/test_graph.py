"""Prefill in captured graphs, through the raw driver API: plan, stage 1, the merge; the lengths and lists that a replay
reads are those of then, and its bits are those of an eager call."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from runtime.driver import Driver, Graph

import aiter_c
from aiter_c.testing import Device, DeviceTensor, allocated_by, check_bits, check_outputs
from aiter_c.testing.device import Copies
from aiter_c.testing.memory import Block
from aiter_c.testing.ops.mla_prefill import DIMS, LISTS, PrefillCase, is_served

pytestmark = pytest.mark.accelerators

_BATCH = {"q_lens": (40, 9, 70), "kv_lens": (90, 9, 70), "heads": 2, "unit": 16, "order": "shuffled"}
CASES = {
    "grid": PrefillCase(**_BATCH),
    "lists": PrefillCase(workers=5, **_BATCH),
    "lists, final rows": PrefillCase(workers=3, need_lse=False, dims=DIMS[1], **_BATCH),
    "fp16, groups of heads": PrefillCase(workers=4, dtype="float16", kv_heads=1, **_BATCH),
}


class Live:
    """The tensors of a case on a device, which stay where they are while their contents change."""

    def __init__(self, case: PrefillCase, device: Device) -> None:
        self.case, self.copies, self.results = case, Copies(device.place), {}
        self.inputs = case.inputs()
        self.inputs.freeze()
        self.lens = np.array(case.kv_lens, np.int32)
        self.arguments = {
            name: self.copies.tensor(value) if isinstance(value, np.ndarray) and value.ndim else value
            for name, value in self.inputs.arguments().items()
        }
        self.device_lens = self.copies.tensor(self.lens)

    def _allocate(self, name: str, _like: object, shape: tuple, dtype: str, _stream: object) -> DeviceTensor:
        """The same memory in every call."""
        if name not in self.results:
            block = self.results[name] = Block(tuple(shape), dtype)
            block.fill_nan()
        return self.copies.tensor(self.results[name].array)

    def enqueue(self, stream: int) -> None:
        """What an engine does in a step: the plan, and a layer that runs by it. Nothing waits."""
        case, a = self.case, self.arguments
        group = case.heads // case.num_kv_heads
        if case.workers:
            aiter_c.get_ps_metadata_v1(
                a["qo_indptr"], a["kv_indptr"], self.device_lens, group, case.num_kv_heads, None,
                *(a[name] for name in LISTS), group, max(256 // group, 1), case.unit, 1, case.causal, case.need_lse,
                stream=stream,
            )  # fmt: skip
        with allocated_by(self._allocate):
            aiter_c.mla_prefill_ps_fwd(**a, stream=stream)

    def run(self, driver: Driver, launch: object, stream: int) -> dict[str, np.ndarray]:
        """One run on the contents of now: everything that it wrote."""
        self.inputs.blocks["output"].fill_nan()
        for block in self.results.values():
            block.fill_nan()
        for name in LISTS if self.case.workers else ():
            self.inputs.array(name)[...] = 0x7BADBADB
        for address, data in self.copies.blocks():
            driver.write(address, data)
        launch()
        driver.synchronize(stream)
        for address, data in self.copies.blocks():
            driver.read(address, data)
        lists = {name: self.inputs.array(name).copy() for name in LISTS if self.case.workers}
        return lists | {"output": self.inputs.array("output").copy(), "lse": self.results["final_lse"].array.copy()}

    def set_lengths(self, q_lens: tuple[int, ...], kv_lens: tuple[int, ...]) -> None:
        """Fewer query rows and keys, of the same requests, in the tensors of the longest."""
        a = self.inputs
        first = a.array("kv_indptr").copy()
        entries = [a.array("kv_page_indices")[b : b + n].copy() for b, n in zip(first[:-1], kv_lens, strict=True)]
        a.array("kv_page_indices")[: sum(kv_lens)] = np.concatenate(entries)
        a.array("qo_indptr")[:], a.array("kv_indptr")[:] = np.cumsum([0, *q_lens]), np.cumsum([0, *kv_lens])
        self.lens[:] = kv_lens
        starts = a.array("qo_indptr")
        a.q_rows = [range(starts[b], starts[b + 1]) for b in range(len(q_lens))]
        a.slots = [entry.astype(np.int64) for entry in entries]


@pytest.mark.parametrize("name", CASES)
def test_replays_follow_the_tensors(name: str, device: Device) -> None:
    """Shorter and shorter batches, down to requests without keys or rows: bitwise an eager call, right by fp64."""
    case, driver = CASES[name], Driver(device)
    if not is_served(case, device):
        return
    live, stream = Live(case, device), driver.stream()
    live.enqueue(stream)  # the first use loads the code
    driver.synchronize(stream)
    with Graph(driver, stream) as graph:
        live.enqueue(stream)
    assert graph.nodes == (4 if case.workers else 2), "plan, the LSE of rows of nobody, stage 1, merge"
    before = b""
    for q_lens, kv_lens in (((40, 9, 70), (90, 9, 70)), ((33, 0, 70), (60, 4, 70)), ((1, 9, 5), (0, 2, 70))):
        live.set_lengths(q_lens, kv_lens)
        replayed = live.run(driver, graph.launch, stream)
        eager = live.run(driver, lambda: live.enqueue(stream), stream)
        for what, got in replayed.items():
            check_bits(f"{name}, {what}", got, eager[what], case.repro)
        outputs = {"output": replayed["output"], "lse": replayed["lse"]}
        expected = case.expected(live.inputs, device)
        expected["lse"] = replace(expected["lse"], dtype=None)
        check_outputs(outputs, expected, f"{case.repro} with {q_lens}, {kv_lens}")
        assert before != replayed["output"].tobytes()
        before = replayed["output"].tobytes()
