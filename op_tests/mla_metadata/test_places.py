"""Where the tensors are: all on a device, in a captured graph too; some on the CPU, plain or pinned; torch's."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from boundary.producer import CUDA_HOST, ROCM_HOST, Producer
from runtime.driver import Driver, Graph

import aiter_c
from aiter_c.testing import Device, Inputs
from aiter_c.testing.device import Copies
from aiter_c.testing.ops.mla_metadata import OUTPUTS, MlaMetadataCase

CASE = MlaMetadataCase(q_lens=(1, 2, 1), kv_lens=(3000, 40, 900), page_size=4, cap=4)
INPUTS = ("seqlens_qo_indptr", "seqlens_kv_indptr", "kv_last_page_lens")
SOME = ("work_metadata_ptrs", "work_info_set", "reduce_partial_map")


def _check(case: MlaMetadataCase, inputs: Inputs, device: Device, got: dict[str, np.ndarray] | None = None) -> None:
    """Equal in what the plan defines."""
    for name, want in case.expected(inputs, device).items():
        output = inputs.array(name) if got is None else got[name]
        written = np.ones(len(output), bool) if want.written is None else want.written
        assert np.array_equal(output[written], want.values[written]), (name, case.repro)


class Placed:
    """The arguments of a case, those of `names` on the device."""

    def __init__(self, case: MlaMetadataCase, device: Device, names: tuple[str, ...]) -> None:
        self.inputs = case.inputs()
        self.inputs.freeze()
        self.copies = Copies(device.place, exact=True)
        values = self.inputs.arguments()
        self.arguments = values | {
            name: self.copies.tensor(values[name]) for name in names if name in self.inputs.blocks
        }

    def call(self, stream: int = 0) -> None:
        """Nothing waits for what is on the device."""
        aiter_c.get_mla_metadata_v1(**self.arguments, stream=stream)


#: Which tensors are on the device.
MIXED = {
    "inputs": INPUTS,
    "outputs": OUTPUTS,
    "the tag": OUTPUTS[:1],
    "all but the tag": (*INPUTS, *OUTPUTS[1:]),
    "one input": INPUTS[1:2],
    "inputs and some outputs": (*INPUTS, *SOME),
    "some outputs": SOME,
}


@pytest.mark.accelerators
@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize("deterministic", [False, True])
def test_tensors_on_both_sides(name: str, deterministic: bool, device: Device) -> None:
    """Complete on return, and what the plan does not define is as it was."""
    case = MlaMetadataCase(**CASE._changed() | {"deterministic": deterministic})
    placed = Placed(case, device, MIXED[name])
    placed.call()
    before = {output: placed.inputs.array(output).copy() for output in OUTPUTS if output not in MIXED[name]}
    placed.copies.fetch()
    _check(case, placed.inputs, device, {n: placed.inputs.array(n) for n in OUTPUTS} | before)
    placed.inputs.check_untouched()
    for output, want in case.expected(placed.inputs, device).items():
        if want.written is not None and output != "reduce_final_map":
            poison = np.iinfo(np.int32).max
            assert (placed.inputs.array(output)[~want.written] == poison).all(), output


@pytest.mark.accelerators
@pytest.mark.parametrize("name", MIXED)
def test_both_sides_are_refused_under_capture(name: str, device: Device) -> None:
    """The host would have to wait. The capture goes on."""
    driver, placed = Driver(device), Placed(CASE, device, MIXED[name])
    stream, whole = driver.stream(), Placed(CASE, device, (*INPUTS, *OUTPUTS))
    whole.call(stream)
    driver.synchronize(stream)
    first = next(n for n in (*INPUTS[:2], *OUTPUTS, INPUTS[2]) if n in MIXED[name])
    text = f"get_mla_metadata_v1: {first}: expected all tensors on {device.place} while its stream is captured"
    with Graph(driver, stream) as graph:
        with pytest.raises(ValueError) as caught:
            placed.call(stream)
        whole.call(stream)
    assert str(caught.value) == f"{text}, got some on the CPU"
    assert graph.nodes == 1
    placed.copies.fetch()
    poison = {n: np.iinfo(placed.inputs.array(n).dtype).max for n in OUTPUTS}
    assert all((placed.inputs.array(n) == poison[n]).all() for n in OUTPUTS)


@pytest.mark.accelerators
def test_two_devices_are_refused(device: Device) -> None:
    kind, _, index = device.place.partition(":")
    other = f"{kind}:{int(index) + (2 if device.simulated else 1)}"
    placed = Placed(CASE, device, INPUTS)
    try:
        elsewhere = aiter_c.from_host(np.zeros(99, np.int32), other)
    except ValueError:
        pytest.skip("one device")
    text = rf"reduce_partial_map: expected device {device.place} \(of seqlens_qo_indptr\), got {other}$"
    with pytest.raises(ValueError, match=text):
        aiter_c.get_mla_metadata_v1(**placed.arguments | {"reduce_partial_map": elsewhere}, stream=0)


@pytest.mark.parametrize("kind", [CUDA_HOST, ROCM_HOST])
def test_pinned_memory_is_host_memory(kind: int) -> None:
    """vLLM's five pinned outputs; nothing asks for a stream."""
    inputs = CASE.inputs()
    inputs.freeze()
    pinned = {name: Producer(inputs.array(name), device=(kind, 0)) for name in (*INPUTS, *OUTPUTS)}
    aiter_c.get_mla_metadata_v1(**inputs.arguments() | pinned)
    _check(CASE, inputs, Device())


@pytest.mark.accelerators
@pytest.mark.parametrize("deterministic", [False, True])
def test_a_captured_plan_follows_the_lengths(deterministic: bool, device: Device) -> None:
    """One kernel and nothing else; replayed on other lengths it gives what an eager call gives."""
    case = MlaMetadataCase(q_lens=(2,) * 6, kv_lens=(900,) * 6, cap=4, heads=128, deterministic=deterministic)
    live, driver = Placed(case, device, (*INPUTS, *OUTPUTS)), Driver(device)
    stream = driver.stream()
    live.call(stream)
    driver.synchronize(stream)
    with Graph(driver, stream) as graph:
        live.call(stream)
    assert graph.nodes == 1
    rng = np.random.default_rng(0)
    for step in range(6):
        q_lens = np.sort(rng.integers(0, 3, 6))[::-1] if step % 2 else np.full(6, 2)
        kv_lens = (rng.random(6) ** 3 * 20_000).astype(int) if step < 5 else np.zeros(6, int)
        live.inputs.array("seqlens_qo_indptr")[:] = np.cumsum([0, *q_lens])
        live.inputs.array("seqlens_kv_indptr")[:] = np.cumsum([0, *kv_lens])
        results = []
        for run in (graph.launch, lambda: (live.call(stream), driver.synchronize(stream))):
            for name in OUTPUTS:
                live.inputs.blocks[name].fill_nan()
            for address, data in live.copies.blocks():
                driver.write(address, data)
            run()
            for address, data in live.copies.blocks():
                driver.read(address, data)
            _check(case, live.inputs, device)
            results.append([live.inputs.array(name).tobytes() for name in OUTPUTS])
        assert results[0] == results[1]


@pytest.mark.torch
def test_torch_tensors_on_the_cpu() -> None:
    torch = pytest.importorskip("torch")
    inputs = CASE.inputs()
    inputs.freeze()
    tensors = {name: torch.from_numpy(inputs.array(name)) for name in (*INPUTS, *OUTPUTS)}
    aiter_c.get_mla_metadata_v1(**inputs.arguments() | tensors | {"dtype_q": torch.bfloat16, "dtype_kv": torch.float16})
    _check(CASE, inputs, Device())
    info = aiter_c.get_mla_metadata_info_v1(2, 1, 16, torch.bfloat16, torch.bfloat16, False)
    fresh = [torch.empty(size, dtype=dtype) for size, dtype in info]
    assert fresh[0].dtype == torch.uint64 and torch.empty(*info[2][0], dtype=info[2][1]).shape == fresh[2].shape


def test_every_pair_of_places_is_covered() -> None:
    """Inputs on either side meet outputs on either side, and both."""
    seen = set()
    for names in MIXED.values():
        inputs, outputs = ({n in names for n in group} for group in (INPUTS, OUTPUTS))
        seen |= set(product(inputs, outputs))
    assert seen == set(product((False, True), repeat=2))
