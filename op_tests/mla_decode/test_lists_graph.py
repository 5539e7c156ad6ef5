"""Work lists in captured graphs, through the raw driver API: the plan inside of the graph, or made anew before every
replay; shorter batches in the tensors of a longer one; and the regime of ROCm/aiter#2585. test_graph.py has decode over
lists that the host refills, and what a call asks of the driver."""

from __future__ import annotations

import numpy as np
import pytest
from mla_decode.fuzz import check
from mla_decode.lists_model import Model
from runtime.driver import Driver, Graph
from runtime.replay import LiveCall, check_same

from aiter_c.testing import Device, MlaCase

pytestmark = pytest.mark.accelerators

_BATCH = {"q_lens": (2, 1, 3, 1), "kv_lens": (96, 32, 80, 48), "splits": None, "granule": 1, "workers": 6}
CASES = {
    "plain": MlaCase(heads=12, **_BATCH),
    "one row": MlaCase(heads=4, **_BATCH | {"q_lens": (1, 1, 1, 1)}),
    "pages": MlaCase(heads=16, page_size=16, **_BATCH),
    "deterministic": MlaCase(heads=16, deterministic=True, **_BATCH | {"kv_lens": (640, 32, 80, 1100)}),
    "fp8": MlaCase(heads=20, q_dtype="float8_e4m3fn", kv_dtype="float8_e4m3fn", **_BATCH),
    "several tiles": MlaCase(heads=64, **_BATCH | {"q_lens": (1, 1, 3, 1), "kv_lens": (40, 32, 70, 9)}),
}


@pytest.fixture
def driver(device: Device) -> Driver:
    return Driver(device)


def _step(live: LiveCall, stream: int, *, plans: bool) -> None:
    """What an engine does in a step: the plan, and a layer that decodes by it."""
    if plans:
        live.enqueue_plan(stream)
    live.enqueue(stream)


def _captured(live: LiveCall, stream: int, *, plans: bool) -> Graph:
    _step(live, stream, plans=plans)  # the first use loads the code
    live.driver.synchronize(stream)
    with Graph(live.driver, stream) as graph:
        _step(live, stream, plans=plans)
    assert graph.nodes == 3 + plans
    return graph


def _replay(live: LiveCall, graph: Graph, stream: int, *, plans: bool, what: str) -> dict[str, np.ndarray]:
    """One replay on the contents of now: what it wrote, which an eager step gives as well, bit for bit."""
    results = []
    for launch in (graph.launch, lambda: _step(live, stream, plans=plans)):
        if plans:
            live.forget_plan()
        live.poison()
        live.send()
        launch()
        live.driver.synchronize(stream)
        results.append(live.fetch())
    check_same(*results, f"{what}: {live.case.repro}")
    return results[0]


@pytest.mark.parametrize("plans", [True, False], ids=["plan_inside", "plan_outside"])
@pytest.mark.parametrize("name", CASES)
def test_replays_follow_the_tensors(name: str, plans: bool, device: Device, driver: Driver) -> None:
    """Other lengths, pages and queries in place; padded rows with -1 and no keys; fewer requests and fewer still."""
    live, stream = LiveCall(CASES[name], device, driver), driver.stream()
    graph = _captured(live, stream, plans=plans)
    for step, requests in enumerate((4, 4, 3, 0, 4)):
        live.change(step % 4)
        if requests < 4:
            live.keep(requests)
        got = _replay(live, graph, stream, plans=plans, what=f"{name}, step {step}")
        live.check(got)


@pytest.mark.parametrize("heads", [4, 16])
def test_kimi_decodes_in_a_graph_as_without(heads: int, device: Device, driver: Driver) -> None:
    """ROCm/aiter#2585: fewer than 16 heads, persistent, replayed. Prompts of 1k, 2k and 4k keys, then token by token:
    the plan is in the graph, every step reads one key more of each request."""
    prompts, steps = ((60, 130, 250), 5) if device.simulated else ((1024, 2048, 4096), 64)
    workers = 8 if device.simulated else 132
    case = MlaCase(
        heads=heads, q_lens=(1, 1, 1), kv_lens=tuple(n + steps for n in prompts), splits=None, workers=workers,
        granule=16,
    )  # fmt: skip
    live, stream = LiveCall(case, device, driver), driver.stream()
    graph = _captured(live, stream, plans=True)
    before = np.zeros(0)
    for step in range(1, steps + 1):
        live.set_lengths([n + step for n in prompts])
        got = _replay(live, graph, stream, plans=True, what=f"step {step}")
        if step in (1, 2, steps):
            live.check(got)
        assert not np.array_equal(got["lse"], before), "every key counts"
        before = got["lse"]


@pytest.mark.parametrize("rank", [0, 3])
def test_a_rank_in_a_graph(rank: int, device: Device, driver: Driver) -> None:
    """Context parallelism: lengths on this rank and on all, and the plan, follow the step; shards that become empty."""
    case = MlaCase(heads=12, q_lens=(2, 1, 3), kv_lens=(200, 90, 160), splits=None, granule=1, workers=6,
                   ranks=(4, rank, 2))  # fmt: skip
    live, stream = LiveCall(case, device, driver), driver.stream()
    graph = _captured(live, stream, plans=True)
    for totals in ((200, 90, 160), (3, 90, 1), (101, 0, 7), (1, 1, 160)):
        live.set_lengths([len(case.shard.places(total)) for total in totals])
        live.inputs.array("g_kv_indptr")[:4] = np.cumsum([0, *totals])
        got = _replay(live, graph, stream, plans=True, what=f"totals {totals}")
        live.plan()
        check(f"totals {totals}", live.inputs, got["o"], got["lse"], Model(live.inputs, {}).result(live.p_dtype))


def test_a_plan_of_another_step_shows(device: Device, driver: Driver) -> None:
    """The tests above can fail: lists that are not made anew leave keys out."""
    live, stream = LiveCall(CASES["one row"], device, driver), driver.stream()
    graph = _captured(live, stream, plans=False)
    live.set_lengths([20, 8, 20, 12])
    live.plan()
    stale = [live.inputs.array(name).copy() for name in ("work_info_set", "work_indptr")]
    live.set_lengths([96, 32, 80, 48])
    live.plan()
    live.inputs.array("work_info_set")[...], live.inputs.array("work_indptr")[...] = stale
    got = _replay(live, graph, stream, plans=False, what="stale")
    with pytest.raises(AssertionError, match="elements outside"):
        live.check(got)
