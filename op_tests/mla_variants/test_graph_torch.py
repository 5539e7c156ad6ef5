"""The variants of MLA decode in CUDA graphs: they need a real GPU and torch; skipped and counted elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

import aiter_c

pytestmark = pytest.mark.gpu
BATCH, HEADS, PAGE, WIDTH, PAGES = 4, 12, 16, 20, 100


def _problem() -> dict:
    """Tensors that a graph reads again at every replay."""
    import torch

    torch.manual_seed(7)
    q = torch.randn(BATCH, HEADS, 576, device="cuda", dtype=torch.bfloat16)
    pool = torch.randn(PAGES, PAGE, 1, 576, device="cuda", dtype=torch.bfloat16)
    table = torch.randint(PAGES, (BATCH, WIDTH), device="cuda", dtype=torch.int32)
    lens = torch.tensor([320, 1, 77, 130], device="cuda", dtype=torch.int32)
    return {"q": q, "pool": pool, "table": table, "lens": lens, "out": torch.empty_like(q[..., :512])}


def _segmented(problem: dict, skip_reduce: bool) -> tuple:
    import torch

    cu = torch.arange(BATCH + 1, device="cuda", dtype=torch.int32)
    returned = aiter_c.mla_decode_segmented(
        problem["q"], problem["pool"], None if skip_reduce else problem["out"], cu, problem["lens"], WIDTH * PAGE,
        problem["table"], 1 / 24, 512, 64, True, None, None, skip_reduce=skip_reduce,
    )  # fmt: skip
    return returned if skip_reduce else (returned,)


def _gluon(problem: dict) -> tuple:
    q, rows = problem["q"], problem["pool"].view(-1, 576)
    return aiter_c.mla_gluon(
        q[..., :512], q[..., 512:], rows, problem["out"], problem["table"], problem["lens"].clamp(max=WIDTH), 1 / 24,
        min_kv_seq_len=5, return_lse=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    "call", [lambda p: _segmented(p, True), lambda p: _segmented(p, False), _gluon], ids=["segments", "out", "gluon"]
)
def test_a_graph_follows_its_tensors(call: object) -> None:
    """Captured once; then lengths, pages and queries change in place. Bit for bit the eager call."""
    import torch

    problem = _problem()
    call(problem)  # the first use loads the code
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = call(problem)
    rng, before = np.random.default_rng(3), b""
    for _ in range(4):
        problem["lens"].copy_(torch.from_numpy(rng.integers(0, WIDTH * PAGE + 9, BATCH).astype(np.int32)))
        problem["table"].copy_(torch.from_numpy(rng.integers(-1, PAGES, (BATCH, WIDTH)).astype(np.int32)))
        problem["q"].copy_(torch.randn(problem["q"].shape, device="cuda"))
        for tensor in captured:
            tensor.fill_(float("nan"))
        graph.replay()
        torch.cuda.synchronize()
        replayed = [tensor.clone() for tensor in captured]
        eager = call(problem)
        for got, want in zip(replayed, eager, strict=True):
            assert torch.equal(got, want) and not want.isnan().any()
        bits = replayed[0].float().cpu().numpy().tobytes()
        assert bits != before
        before = bits


def test_large_batches_of_many_pages() -> None:
    """One launch of both forms over 64 requests of thousands of keys, against torch."""
    import torch

    torch.manual_seed(5)
    batch, width = 64, 256
    q = torch.randn(batch, 16, 576, device="cuda", dtype=torch.bfloat16)
    pool = torch.randn(4096, PAGE, 1, 576, device="cuda", dtype=torch.bfloat16)
    table = torch.randint(4096, (batch, width), device="cuda", dtype=torch.int32)
    lens = torch.randint(width * PAGE, (batch,), device="cuda", dtype=torch.int32)
    cu = torch.arange(batch + 1, device="cuda", dtype=torch.int32)
    out = torch.empty_like(q[..., :512])
    rest = (cu, lens, width * PAGE, table, 1 / 24, 512, 64, True, None, None)
    aiter_c.mla_decode_segmented(q, pool, out, *rest)
    segments, maxima, sums = aiter_c.mla_decode_segmented(q, pool, None, *rest, skip_reduce=True)
    weight = torch.exp2(maxima - maxima.amax(-1, keepdim=True))
    merged = (segments * weight[..., None]).sum(-2) / (sums * weight).sum(-1)[..., None]
    torch.testing.assert_close(merged, out.float(), atol=4e-3, rtol=2e-2)
    for b in (0, 17, 63):
        keys = pool[table[b].long()].reshape(-1, 576)[: lens[b]].double()
        scores = q[b].double() @ keys.T / 24
        want = torch.softmax(scores, -1) @ keys[:, :512]
        torch.testing.assert_close(out[b].double(), want, atol=4e-3, rtol=2e-2)
