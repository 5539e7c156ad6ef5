"""get_ps_metadata_v1 where its tensors are: all on a device, in a captured graph too; some on the CPU, plain or pinned,
as vLLM and SGLang have them; buffers of any size, and lengths that are none."""

from __future__ import annotations

import numpy as np
import pytest
from boundary.producer import CUDA, CUDA_HOST, ROCM_HOST, Producer
from mla_prefill.lists_model import Plan, lists
from mla_prefill.test_metadata import NAMES, check_equal
from runtime.driver import Driver, Graph

import aiter_c
from aiter_c.testing import Device
from aiter_c.testing.device import Copies

PLAN = Plan((600, 3, 40), (700, 900, 40), 6, kv_heads=2, unit=64)
INPUTS = ("seqlens_qo_indptr", "pages_kv_indptr", "context_lens")
OUTPUTS = ("work_indptr", "work_info", "reduce_indptr", "reduce_final_map", "reduce_partial_map")
POISON = 0x7BADBADB


class Placed:
    """The tensors of a plan, those of `names` on the device, and the call on them."""

    def __init__(self, plan: Plan, device: Device, names: tuple[str, ...] = (*INPUTS, *OUTPUTS)) -> None:
        self.plan, self.names, self.device = plan, names, device
        info = aiter_c.get_ps_metadata_info_v1(
            len(plan.q_lens), plan.kv_heads, max(plan.q_lens), plan.tile, num_workers=plan.workers
        )
        arrays = [np.cumsum([0, *plan.q_lens]), np.cumsum([0, *plan.kv_lens]), np.array(plan.kv_lens)]
        self.arrays = {name: values.astype(np.int32) for name, values in zip(INPUTS, arrays, strict=True)}
        self.arrays |= {n: np.full(s, POISON, np.int32) for n, (s, _) in zip(OUTPUTS, info[1:], strict=True)}
        self.copies = Copies(device.place, exact=True)
        self.given = {n: self.copies.tensor(a) if n in names else a for n, a in self.arrays.items()}

    def call(self, stream: int | None = 0) -> None:
        """Nothing waits for what is on the device."""
        plan, given = self.plan, self.given
        aiter_c.get_ps_metadata_v1(
            *(given[name] for name in INPUTS), plan.group, plan.kv_heads, object(), *(given[name] for name in OUTPUTS),
            plan.group, plan.tile, plan.unit, plan.page, plan.causal, plan.need_lse, stream=stream,
        )  # fmt: skip

    def check(self) -> None:
        """The lists are those of the model, complete by now."""
        kept = {name: array.copy() for name, array in self.arrays.items() if name not in self.names}
        self.copies.fetch()
        got = self.arrays | kept
        check_equal(dict(zip(NAMES, (got[name] for name in OUTPUTS), strict=True)), lists(self.plan), self.plan)


MIXED = {"inputs": INPUTS, "outputs": OUTPUTS, "one input": INPUTS[2:], "some of both": (*INPUTS[:1], *OUTPUTS[1:3])}


@pytest.mark.accelerators
@pytest.mark.parametrize("name", MIXED)
def test_tensors_on_both_sides(name: str, device: Device) -> None:
    """Complete on return, whichever side they are on."""
    placed = Placed(PLAN, device, MIXED[name])
    placed.call()
    placed.check()


@pytest.mark.accelerators
@pytest.mark.parametrize("name", MIXED)
def test_both_sides_are_refused_under_capture(name: str, device: Device) -> None:
    """The host would have to wait. The capture goes on."""
    driver, placed, whole = Driver(device), Placed(PLAN, device, MIXED[name]), Placed(PLAN, device)
    stream = driver.stream()
    whole.call(stream)
    driver.synchronize(stream)
    with Graph(driver, stream) as graph:
        with pytest.raises(ValueError, match=rf"expected all tensors on {device.place} while its stream is captured"):
            placed.call(stream)
        whole.call(stream)
    assert graph.nodes == 1
    placed.copies.fetch()
    assert all((placed.arrays[name] == POISON).all() for name in OUTPUTS)


@pytest.mark.accelerators
def test_a_captured_plan_follows_the_lengths(device: Device) -> None:
    """One kernel and nothing else; replayed on other lengths it gives what the model gives."""
    plan, driver = Plan((600,) * 4, (700,) * 4, 9, kv_heads=3, unit=64), Driver(device)
    placed, stream = Placed(plan, device), driver.stream()
    placed.call(stream)
    driver.synchronize(stream)
    with Graph(driver, stream) as graph:
        placed.call(stream)
    assert graph.nodes == 1
    rng = np.random.default_rng(0)
    for step in range(5):
        q_lens, kv_lens = rng.integers(0, 601, 4), (rng.random(4) ** 2 * 3000 * (step < 4)).astype(int)
        placed.plan = Plan(tuple(map(int, q_lens)), tuple(map(int, kv_lens)), 9, kv_heads=3, unit=64)
        placed.arrays[INPUTS[0]][:], placed.arrays[INPUTS[1]][:] = np.cumsum([0, *q_lens]), np.cumsum([0, *kv_lens])
        placed.arrays[INPUTS[2]][:] = kv_lens
        for name in OUTPUTS:
            placed.arrays[name][...] = POISON
        for address, data in placed.copies.blocks():
            driver.write(address, data)
        graph.launch()
        driver.synchronize(stream)
        for address, data in placed.copies.blocks():
            driver.read(address, data)
        got = {name: placed.arrays[own] for name, own in zip(NAMES, OUTPUTS, strict=True)}
        check_equal(got, lists(placed.plan), placed.plan)


@pytest.mark.parametrize("kind", [CUDA_HOST, ROCM_HOST])
def test_vllms_call(kind: int) -> None:
    """Lengths on the CPU, five pinned outputs, and a work_metadata_ptrs on a device that nobody touches."""
    placed = Placed(PLAN, Device(), ())
    placed.given = {name: Producer(array, device=(kind, 0)) for name, array in placed.arrays.items()}
    pointers = Producer(np.zeros(2, np.uint64), device=(CUDA, 0))
    aiter_c.get_ps_metadata_v1(
        *(placed.given[n] for n in INPUTS), 1, 2, pointers, *(placed.given[n] for n in OUTPUTS),
        qhead_granularity=1, qlen_granularity=256, kvlen_granularity=64, block_size=1, is_causal=True,
    )  # fmt: skip
    assert pointers.exported == 0
    placed.check()


@pytest.mark.parametrize(("name", "size"), [("work_info", 1), ("reduce_indptr", 0), ("reduce_final_map", 0),
                                            ("reduce_partial_map", 0)])  # fmt: skip
def test_a_buffer_that_is_too_small(name: str, size: int) -> None:
    """One row less than the plan needs is refused before anything is written; exactly that many are enough."""
    want = lists(PLAN)
    needed = len(want[name])
    for rows in (needed, needed - 1):
        placed = Placed(PLAN, Device(), ())
        array = placed.arrays[name]
        placed.given[name] = placed.arrays[name] = np.full((rows, *array.shape[1:]), POISON, np.int32)
        if rows == needed:
            placed.call(None)
            placed.check()
            continue
        unit = "entries" if array.ndim == 1 else "rows"
        with pytest.raises(ValueError) as caught:
            placed.call(None)
        text = f"expected at least {needed} {unit} for these lengths, got {rows}"
        assert str(caught.value) == f"get_ps_metadata_v1: {name}: {text}"
        assert all((placed.arrays[other] == POISON).all() for other in OUTPUTS)


def test_hostile_lengths(device: Device) -> None:
    """Indptrs that descend, lengths below 0 and of 2^31 - 1: a plan, or on the CPU a refusal by the buffers' sizes; the
    buffers end where the memory ends."""
    rng, kept = np.random.default_rng(3), 0
    pool = np.array([-(2**31), -1, 0, 1, 7, 300, 2**31 - 1])
    for _ in range(40 if device.simulated else 300):
        placed = Placed(PLAN, device, () if device.place == "cpu" else (*INPUTS, *OUTPUTS))
        for name in INPUTS:
            array = placed.arrays[name]
            hit = rng.random(array.shape) < 0.4
            array[hit] = rng.choice(pool, hit.sum())
        if device.place != "cpu":
            placed = _again(placed, device)
        try:
            placed.call(None if device.place == "cpu" else 0)
        except ValueError as error:
            assert device.place == "cpu" and "expected" in str(error)
            continue
        placed.copies.fetch()
        work, kept = placed.arrays["work_indptr"], kept + 1
        assert (np.diff(work) >= 0).all() and work[0] >= 0 and work[-1] <= len(placed.arrays["work_info"])
        reduce = placed.arrays["reduce_indptr"]
        assert (np.diff(reduce) >= 0).all() and reduce[-1] <= len(placed.arrays["reduce_partial_map"])
        items = placed.arrays["work_info"][: work[-1]]
        assert (items[:, 3] >= items[:, 2]).all() and (items[:, 5] >= items[:, 4]).all() and (items[:, 6] >= 0).all()
    assert kept > 5


def _again(placed: Placed, device: Device) -> Placed:
    """With the arrays as they are now on the device."""
    placed.copies = Copies(device.place, exact=True)
    placed.given = {name: placed.copies.tensor(array) for name, array in placed.arrays.items()}
    return placed


@pytest.mark.torch
def test_sizes_and_tensors_of_torch() -> None:
    """Sizes as vLLM takes them apart; need_lse given by name, as SGLang does."""
    torch = pytest.importorskip("torch")
    info = aiter_c.get_ps_metadata_info_v1(
        batch_size=3, num_head_k=2, max_qlen=600, qlen_granularity=256, num_workers=6
    )
    tensors = [torch.empty(*(size if isinstance(size, tuple) else (size,)), dtype=dtype) for size, dtype in info]
    assert [t.dtype for t in tensors] == [torch.uint64, *[torch.int32] * 5]
    lens = [torch.tensor(np.cumsum([0, *PLAN.q_lens]), dtype=torch.int32),
            torch.tensor(np.cumsum([0, *PLAN.kv_lens]), dtype=torch.int32),
            torch.tensor(PLAN.kv_lens, dtype=torch.int32)]  # fmt: skip
    aiter_c.get_ps_metadata_v1(*lens, 1, 2, *tensors, kvlen_granularity=64, block_size=1, is_causal=True, need_lse=True)
    got = dict(zip(NAMES, (tensor.numpy() for tensor in tensors[1:]), strict=True))
    check_equal(got, lists(PLAN), PLAN)
    assert got["reduce_indptr"][-1] > 0


def test_partials_are_few_and_dense() -> None:
    """Locations 0, 256, 512, ... without gaps, at most (q tiles + workers of a cluster - 1): what engines lock."""
    rng = np.random.default_rng(1)
    for _ in range(200):
        batch = int(rng.integers(1, 6))
        plan = Plan(
            tuple(map(int, rng.integers(1, 2000, batch))), tuple(map(int, rng.integers(1, 3000, batch))),
            int(rng.choice([4, 60, 256])), kv_heads=int(rng.choice([1, 4, 16])), causal=bool(rng.random() < 0.5),
        )  # fmt: skip
        made = lists(plan)
        at = np.sort(made["reduce_partial_map"])
        assert np.array_equal(at, 256 * np.arange(len(at)))
        cluster = plan.workers // np.gcd(plan.kv_heads, plan.workers)
        assert len(at) <= sum(-(-n // 256) for n in plan.q_lens) + cluster - 1
        rows = aiter_c.mla_prefill_partial_rows(sum(plan.q_lens), batch, plan.workers, plan.kv_heads, 2**31 - 1)
        assert at[-1] + 256 <= rows == 256 * (-(-sum(plan.q_lens) // 256) + batch + cluster - 1)


@pytest.mark.accelerators
@pytest.mark.parametrize("name", OUTPUTS[1:])
def test_what_finds_no_place_on_a_device_is_left_out(name: str, device: Device) -> None:
    """The host does not see the lengths there. Nothing is written past an end, and the lists name nothing past it."""
    needed = len(lists(PLAN)[name])
    for rows in (needed - 1, needed // 2, 1):
        placed = Placed(PLAN, device)
        array = placed.arrays[name]
        placed.arrays[name] = np.full((rows, *array.shape[1:]), POISON, np.int32)
        placed = _again(placed, device)
        placed.call()
        placed.copies.fetch()
        work, reduce = placed.arrays["work_indptr"], placed.arrays["reduce_indptr"]
        assert (np.diff(work) >= 0).all() and work[-1] <= len(placed.arrays["work_info"])
        assert (np.diff(reduce) >= 0).all() and reduce[-1] <= len(placed.arrays["reduce_partial_map"])
        assert not (placed.arrays[name] == POISON).any()
