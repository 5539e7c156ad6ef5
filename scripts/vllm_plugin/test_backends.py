"""What whole models on one CPU do not reach, on vLLM's builders and implementations without a model: verification where
ranks share the keys, sinks, steps that a graph replays. On the CPU, and on an NVIDIA GPU where torch sees one."""

from types import SimpleNamespace as Facts

import pytest
import torch
from vllm.v1.attention.backend import CommonAttentionMetadata

import aiter_c
from aiter_c.plugins.vllm import mla, sparse

SCALE, HEADS, BLOCK = 0.06, 4, 16
LAYER = Facts(_q_scale=None, _k_scale=None)


@pytest.fixture(params=["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"], autouse=True)
def device(request):
    with torch.device(request.param):
        yield torch.device(request.param)


def tokens(*shape, seed=0):
    made = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed), device="cpu")
    return made.bfloat16().to(torch.get_default_device())


def shuffled(count, seed=0):
    """0 .. count - 1, int32."""
    order = torch.randperm(count, generator=torch.Generator("cpu").manual_seed(seed), device="cpu")
    return order.int().to(torch.get_default_device())


def replayable(function, device):
    """What the function returned, and how to have the same memory filled again: by a graph, on the CPU by a call."""
    out = function()
    if device.type == "cpu":
        return out, lambda: out.copy_(function())
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = function()
    return out, graph.replay


def attend(q, keys, seen, sink=None):
    """o [n, H, 512] and the LSE in fp64: row i of q sees the first seen[i] keys."""
    scores = SCALE * torch.einsum("nhd,kd->nhk", q.double(), keys.double())
    scores.masked_fill_((torch.arange(len(keys)) >= torch.tensor(seen)[:, None])[:, None], -torch.inf)
    lse = scores.logsumexp(-1)
    below = lse if sink is None else torch.logaddexp(lse, sink.double())
    weights = torch.where(lse[..., None] == -torch.inf, 0.0, (scores - below[..., None]).exp())
    return torch.einsum("nhk,kd->nhd", weights, keys[:, :512].double()), lse


def common(q_lens, lens, table, **more):
    """What the scheduler tells of a step."""
    starts = torch.tensor([0, *q_lens], dtype=torch.int32).cumsum(0, dtype=torch.int32)
    lens = torch.tensor(lens, dtype=torch.int32)
    return CommonAttentionMetadata(
        query_start_loc=starts, query_start_loc_cpu=starts.cpu(), seq_lens=lens, num_reqs=len(lens),
        num_actual_tokens=int(starts[-1]), max_query_len=max(q_lens), max_seq_len=int(lens.max()),
        block_table_tensor=table, slot_mapping=torch.zeros(int(starts[-1]), dtype=torch.int64), causal=True,
        seq_lens_cpu_upper_bound=lens.cpu(), **more,
    )  # fmt: skip


def dense_builder(device, rows, ranks=1, interleave=1):
    builder = object.__new__(mla.MLAMetadataBuilder)
    builder.__dict__ |= {
        "dcp_world_size": ranks, "dcp_local_block_size": interleave, "dcp_virtual_block_size": ranks * interleave,
        "cp_kv_cache_interleave_size": interleave, "reorder_batch_threshold": rows, "device": device,
        "metadata_cls": mla.MLACommonMetadata, "model_config": Facts(get_head_size=lambda: 576), "use_pcp": False,
        "non_causal_multi_token_decode": False, "query_len_support": mla.QueryLenSupport.VARLEN,
    }  # fmt: skip
    return builder


def dense_impl(lse):
    impl = object.__new__(mla.MLAImpl)
    impl.__dict__ |= {"scale": SCALE, "need_to_return_lse_for_decode": lse}
    return impl


@pytest.mark.parametrize("interleave", [1, BLOCK])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("rank", [0, 1])
def test_context_parallel_verify(monkeypatch, device, rank, rows, interleave):
    """Two ranks with every other run of `interleave` keys. Of the short request one rank has no key."""
    totals = [75, rows]
    monkeypatch.setattr(mla, "get_dcp_group", lambda: Facts(rank_in_group=rank))
    places = [[p for p in range(total) if p // interleave % 2 == rank] for total in totals]
    cache = torch.full((8, BLOCK, 576), float("nan")).bfloat16()
    table = torch.tensor([[3, 5, 1, 2], [7, 0, 0, 0]], dtype=torch.int32)
    for request, held in enumerate(places):
        for j in range(len(held)):
            cache[table[request, j // BLOCK], j % BLOCK] = tokens(576, seed=100 * request + j)
    builder = dense_builder(device, rows, ranks=2, interleave=interleave)
    builder._totals = torch.full((5,), 2**30, dtype=torch.int32).index_fill_(0, torch.tensor(0), 0)
    held = torch.tensor([len(own) for own in places], dtype=torch.int32)
    step = builder.build(0, common([rows] * 2, totals, table, dcp_local_seq_lens=held))
    assert step.num_decodes == 2 and (step.decode.shard is None) == (rows == 1)
    impl = dense_impl(lse=True)
    q = tokens(2 * rows, HEADS, 576, seed=7)
    o, lse = impl.forward_mqa(q, cache, step, LAYER)
    for request, own in enumerate(places):
        keys = cache[table[request].long()].flatten(0, 1)[: len(own)]
        mine = slice(request * rows, (request + 1) * rows)
        seen = [sum(p <= totals[request] - rows + i for p in own) for i in range(rows)]
        wanted, wanted_lse = attend(q[mine], keys, seen)
        torch.testing.assert_close(o[mine].double(), wanted, atol=0.02, rtol=0.02)
        torch.testing.assert_close(lse[mine].double(), wanted_lse, atol=1e-3, rtol=1e-3)


def sparse_impl(chosen, sinks=None):
    impl = sparse.SparseMLAImpl(
        HEADS, 576, SCALE, 1, None, None, "auto", None, "decoder", None, topk_indices_buffer=chosen, kv_lora_rank=512,
        sinks=sinks,
    )  # fmt: skip
    impl.need_to_return_lse_for_decode = False
    return impl


@pytest.mark.parametrize("with_sinks", [True, False])
def test_sinks(with_sinks):
    """Of sparse attention, from the layer's arguments; the backend says so when it is chosen."""
    sinks = torch.tensor([3.0, 0.0, -2.0, 5.0]) if with_sinks else None
    cache, table = tokens(6, BLOCK, 576), torch.tensor([[4, 1, 0], [2, 5, 3]], dtype=torch.int32)
    chosen = torch.full((3, 24), -1, dtype=torch.int32)
    for row, count in enumerate((24, 5, 0)):
        chosen[row, :count] = shuffled(48, seed=row)[:count]
    impl = sparse_impl(chosen, sinks)
    q = tokens(3, HEADS, 576, seed=8)
    step = Facts(req_id_per_token=torch.tensor([0, 1, 1], dtype=torch.int32), block_table=table, max_seq_len=48)
    o, _ = impl.forward_mqa(q, cache, step, LAYER)
    for row, request in enumerate((0, 1, 1)):
        places = chosen[row][chosen[row] >= 0].long()
        keys = cache[table[request][places // BLOCK].long(), places % BLOCK]
        wanted, _ = attend(q[row : row + 1], keys, [len(keys)], sinks)
        torch.testing.assert_close(o[row : row + 1].double(), wanted, atol=0.02, rtol=0.02)
    assert sparse.SparseMLABackend.supports_sink() and aiter_c.__version__
    if with_sinks:
        impl.need_to_return_lse_for_decode = True
        with pytest.raises(NotImplementedError, match=r"sinks: expected None where ranks merge, got a tensor"):
            impl.forward_mqa(q, cache, step, LAYER)


@pytest.mark.parametrize("rows", [1, 2])
def test_dense_steps_replayed(device, rows):
    """The lengths of one step are not those of the next, and each step's metadata is made anew: what was captured reads
    the same memory, and finds what the builder left there."""
    blocks, steps = 40, [[3 * BLOCK, 1 + rows, 200], [BLOCK - 1, 411, rows], [rows, rows, 640]]
    lens, table = torch.zeros(3, dtype=torch.int32), shuffled(3 * blocks).view(3, blocks)
    cache, q = tokens(3 * blocks, BLOCK, 576, seed=1), tokens(3 * rows, HEADS, 576, seed=2)
    impl, builder = dense_impl(lse=False), dense_builder(device, rows)

    def built(now):
        lens.copy_(torch.tensor(now, dtype=torch.int32))
        step = common([rows] * 3, now, table)
        step.seq_lens, step.max_seq_len = lens, blocks * BLOCK
        return builder.build(0, step)

    step = built(steps[0])
    o, again = replayable(lambda: impl.forward_mqa(q, cache, step, LAYER)[0], device)
    for now in steps:
        built(now)
        o.fill_(float("nan"))
        again()
        for request, length in enumerate(now):
            keys = cache[table[request].long()].flatten(0, 1)[:length]
            mine = slice(request * rows, (request + 1) * rows)
            wanted, _ = attend(q[mine], keys, [length - rows + 1 + i for i in range(rows)])
            torch.testing.assert_close(o[mine].double(), wanted, atol=0.02, rtol=0.02)


def test_sparse_steps_replayed(device):
    """The indexer selects anew in each step; request 1 is padding in the second."""
    blocks, width = 8, 64
    table, cache = shuffled(2 * blocks).view(2, blocks), tokens(2 * blocks, BLOCK, 576, seed=1)
    q, ids = tokens(3, HEADS, 576, seed=2), torch.zeros(3, dtype=torch.int32)
    chosen = torch.zeros((3, width), dtype=torch.int32)
    impl = sparse_impl(chosen)
    step = Facts(req_id_per_token=ids, block_table=table, max_seq_len=blocks * BLOCK)

    def select(counts, owners):
        ids.copy_(torch.tensor(owners, dtype=torch.int32))
        chosen.fill_(-1)
        for row, count in enumerate(counts):
            chosen[row, :count] = shuffled(blocks * BLOCK, seed=row + count)[:count]

    select((width, 5, 0), (0, 1, 1))
    o, again = replayable(lambda: impl.forward_mqa(q, cache, step, LAYER)[0], device)
    for counts, owners in [((3, width, 17), (0, 0, 1)), ((width, 2, 9), (0, 0, -1))]:
        select(counts, owners)
        o.fill_(float("nan"))
        again()
        for row, owner in enumerate(owners):
            places = chosen[row][chosen[row] >= 0].long() if owner >= 0 else chosen[row, :0].long()
            keys = cache[table[owner][places // BLOCK].long(), places % BLOCK]
            wanted, _ = attend(q[row : row + 1], keys, [len(keys)])
            torch.testing.assert_close(o[row : row + 1].double(), wanted, atol=0.02, rtol=0.02)
