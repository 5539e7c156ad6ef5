"""The calls of vLLM 0.33.0, with its dtypes, strides, mix of positions and keywords, and garbage; checked by fp64."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed", allow_module_level=True)
import torch
from compat import engine
from compat.engine import SCALE, Pool, buffers, check, i32, indptr, poisoned, values

pytestmark = pytest.mark.torch
aiter = engine.names()
mla_decode_fwd = aiter.mla.mla_decode_fwd
UNITS = 8  # compute units, which vLLM takes as the cap of splits
BF16, FP8 = torch.bfloat16, torch.float8_e4m3fn


def _plan(
    pool: Pool, q_lens: list[int], heads: int, dtype: torch.dtype, *, most: int = 0, uniform: int = -1,
    causal: bool = True, size: int | None = None, cprr: bool = False, sized: int | None = None,
) -> tuple[dict[str, torch.Tensor], tuple[torch.Tensor, ...]]:  # fmt: skip
    """Metadata of a step in buffers for more requests, and its index tensors with their tails."""
    requests = size or len(q_lens) + 3
    sizes = aiter.get_mla_metadata_info_v1(
        requests, max(q_lens) or 1, sized or heads, dtype, dtype, is_sparse=False, fast_mode=True,
        max_split_per_batch=UNITS,
    )  # fmt: skip
    plan = buffers(sizes)
    qo_indptr = indptr(q_lens, size=requests + 1)[: len(q_lens) + 1]
    kv_indptr = indptr([len(slots) for slots in pool.lists], size=requests + 1)
    kv_indices = torch.full((len(pool.indices) + 40,), -1, dtype=torch.int32)
    kv_indices[: len(pool.indices)] = pool.indices
    last_page_len = torch.ones(requests, dtype=torch.int32)
    meta, work_indptr, work_info, reduce_indptr, final_map, partial_map = plan.values()
    extra = {"is_cp_round_robin": True} if cprr else {}
    aiter.get_mla_metadata_v1(
        qo_indptr, kv_indptr, last_page_len, heads, 1, causal, meta, work_info, work_indptr, reduce_indptr, final_map,
        partial_map, page_size=1, kv_granularity=16, max_seqlen_qo=most or max(q_lens), uni_seqlen_qo=uniform,
        fast_mode=True, dtype_q=dtype, dtype_kv=dtype, max_split_per_batch=UNITS, intra_batch_mode=False, **extra,
    )  # fmt: skip
    return plan, (qo_indptr, kv_indptr, kv_indices, last_page_len)


def _padded(q: torch.Tensor, heads: int, *, garbage: bool) -> torch.Tensor:
    """To `heads`: repeated, or behind the real ones whatever was in the buffer."""
    if heads == q.shape[1]:
        return q
    if not garbage:
        return q.repeat_interleave(heads // q.shape[1], dim=1)
    wide = torch.empty(q.shape[0], heads, 576, dtype=q.dtype)
    wide.view(torch.uint8).fill_(0xFF)  # NaN
    wide[:, : q.shape[1]] = q
    return wide


@pytest.mark.parametrize("dtype", [BF16, torch.float16, FP8, torch.float8_e4m3fnuz], ids=str)
@pytest.mark.parametrize(("heads", "padded", "garbage"), [(4, 16, False), (12, 16, True), (6, 6, False)])
def test_decode(heads: int, padded: int, garbage: bool, dtype: torch.dtype) -> None:
    """Scales without dimensions, for 16-bit tensors too; fp16 models have an fp16 o. Returns (.., None)."""
    pool = Pool([70, 3, 200], dtype)
    plan, index = _plan(pool, [1, 1, 1], padded, dtype, uniform=1)
    is_fp8 = dtype in engine.FP8
    q = values(3, heads, 576, dtype=dtype, seed=1)
    o = poisoned(3, padded, 512, dtype=BF16 if is_fp8 else dtype)
    q_scale, k_scale = torch.tensor(0.5), torch.tensor(0.25)
    returned = mla_decode_fwd(
        _padded(q, padded, garbage=garbage), pool.kv, o, *index, 1, sm_scale=SCALE, logit_cap=0.0, causal=True,
        q_scale=q_scale, kv_scale=k_scale, **plan,
    )  # fmt: skip
    assert len(returned) == 2 and returned[1] is None
    real = o[:, :heads] if garbage or padded == heads else o[:, :: padded // heads]
    scales = {"q_scale": 0.5, "kv_scale": 0.25} if is_fp8 else {}
    check(q, pool.exact, pool.visible([1, 1, 1]), real, both_fp8=is_fp8, **scales)


@pytest.mark.parametrize("heads", [16, 128])
def test_a_full_graph_of_one_token_each(heads: int) -> None:
    """More rows than requests: dummies have no row, length 0 and a flat tail; their o keeps what it has."""
    pool = Pool([33, 90])
    plan, (_, *index) = _plan(pool, [1, 1], heads, BF16, size=6)
    flat = indptr([1, 1], size=7)
    q, o = values(6, heads, 576, seed=2), poisoned(6, heads, 512)
    mla_decode_fwd(q, pool.kv, o, flat, *index, 1, sm_scale=SCALE, logit_cap=0.0, causal=True, **plan)
    check(q, pool.exact, pool.visible([1, 1]), o)
    assert o[2:].isnan().all()


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("dtype", [BF16, FP8], ids=str)
def test_verify(causal: bool, dtype: torch.dtype) -> None:
    """Several rows for each request; drafts without a causal mask."""
    pool = Pool([70, 4, 5], dtype)
    plan, index = _plan(pool, [4, 4, 4], 16, dtype, uniform=4, causal=causal)
    q, o = values(12, 16, 576, dtype=dtype, seed=3), poisoned(12, 16, 512)
    mla_decode_fwd(q, pool.kv, o, *index, 4, sm_scale=SCALE, logit_cap=0.0, causal=causal, **plan)
    check(q, pool.exact, pool.visible([4, 4, 4], causal=causal), o, both_fp8=dtype is FP8)


def test_adaptive_verify() -> None:
    """Blocks of 4 rows of which some are copies: the list grows by as many entries, copies of its first page."""
    pool, real = Pool([20, 9]), [4, 2]
    seen = pool.visible(real)
    pool.lists[1] = pool.lists[1] + [pool.lists[1][0]] * 2
    pool.indices = torch.tensor([slot for slots in pool.lists for slot in slots], dtype=torch.int32)
    q = values(8, 16, 576, seed=4)
    q[6:] = q[4]
    plan, index = _plan(pool, [4, 4], 16, BF16, uniform=4)
    o = poisoned(8, 16, 512)
    mla_decode_fwd(q, pool.kv, o, *index, 4, sm_scale=SCALE, logit_cap=0.0, causal=True, **plan)
    check(q, pool.exact, seen, o)


@pytest.mark.parametrize("persistent", [True, False])
def test_context_parallel_ranks(persistent: bool) -> None:
    """Plain: one token, each rank over its own keys, LSE [T, H] in natural log, merged. A rank has no key at all."""
    whole = Pool([50, 1])
    q, parts = values(2, 12, 576, seed=5), []
    for rank in range(2):
        pool = Pool([50, 1])
        pool.lists = [slots[rank::2] for slots in whole.lists]
        pool.indices = torch.tensor([slot for slots in pool.lists for slot in slots], dtype=torch.int32)
        plan, index = _plan(pool, [1, 1], 12, BF16, uniform=1)
        o = poisoned(2, 12, 512)
        _, lse = mla_decode_fwd(
            q, pool.kv, o, *index, 1, sm_scale=SCALE, return_lse=True, causal=True, q_scale=torch.tensor(1.0),
            kv_scale=torch.tensor(1.0), **(plan if persistent else {}),
        )  # fmt: skip
        assert lse.dtype is torch.float32 and lse.shape == (2, 12) and lse.is_contiguous()
        check(q, pool.exact, pool.visible([1, 1]), o, lse)
        parts.append((o, lse))
    assert (parts[1][1][1] == -torch.inf).all() and (parts[1][0][1] == 0).all()
    weights = torch.softmax(torch.stack([lse for _, lse in parts]), 0)[..., None]
    check(q, whole.exact, whole.visible([1, 1]), sum(w * o.float() for w, (o, _) in zip(weights, parts, strict=True)))


@pytest.mark.parametrize("persistent", [True, False])
@pytest.mark.parametrize("heads", [12, 96])
def test_round_robin_ranks(heads: int, persistent: bool) -> None:
    """Verify rows over every fourth key, by global position; sizes for 128 heads, a plan for 96; a dummy request."""
    q_len, ranks, totals = 3, 4, [41, 2, 3 * 4]
    q = values(9, heads, 576, seed=6)
    for rank in (0, 3):
        held = [len(range(rank, total, ranks)) for total in totals[:2]]
        pool = Pool([*held, 3])
        plan, index = _plan(pool, [3, 3, 3], heads, BF16, uniform=3, causal=False, cprr=True, sized=heads + 32)
        o = poisoned(9, heads, 512)
        _, lse = mla_decode_fwd(
            q, pool.kv, o, *index, q_len, sm_scale=SCALE, return_lse=True, causal=True, q_scale=None, kv_scale=None,
            g_kv_indptr=indptr(totals, size=7), cp_world_size=ranks, cp_rank=rank, num_kv_splits=UNITS,
            intra_batch_mode=False, **(plan if persistent else {}),
        )  # fmt: skip
        seen = [
            [slot for j, slot in enumerate(slots) if j * ranks + rank <= total - q_len + i]
            for slots, total in zip(pool.lists, totals, strict=True)
            for i in range(q_len)
        ]
        check(q, pool.exact, seen, o, lse)


@pytest.mark.parametrize(("heads", "need_lse"), [(16, True), (6, False)])
def test_prefill_by_lists(heads: int, need_lse: bool) -> None:
    """Planned on the CPU into tensors of the CPU, two sets in turn, copied before use; 17 arguments by position; the
    scratch is what an earlier step left; the reduction takes max_seqlen_q and num_kv_splits by position."""
    q_lens, width = [300, 70], 192
    total = sum(q_lens)
    info = aiter.get_ps_metadata_info_v1(batch_size=4, num_head_k=heads, max_qlen=300, qlen_granularity=256)
    plan = buffers(info)
    cu_seqlens, lens = indptr(q_lens), i32(*q_lens)
    before = plan["work_meta_data"].clone()
    extra = {} if need_lse else {"need_lse": False}
    aiter.get_ps_metadata_v1(
        cu_seqlens, cu_seqlens, lens, 1, heads, *plan.values(), qhead_granularity=1, qlen_granularity=256,
        kvlen_granularity=128, block_size=1, is_causal=True, **extra,
    )  # fmt: skip
    assert torch.equal(plan["work_meta_data"], before)
    _, work_indptr, work_info, reduce_indptr, final_map, partial_map = (tensor.clone() for tensor in plan.values())
    for tensor in plan.values():
        tensor.view(torch.uint8).fill_(0x77)  # the next step's plan
    tiles = len(partial_map)
    shapes = ((tiles * 256, heads, 128), (tiles * 256, heads), (total, heads))
    logits, attn_lse, final_lse = (poisoned(*shape, dtype=torch.float32) for shape in shapes)
    out = poisoned(total, heads, 128)
    q, k, v = (values(total, heads, n, dtype=FP8, seed=n) for n in (width, width, 128))
    one, kv_indices = torch.ones(()), torch.arange(total, dtype=torch.int32)
    aiter.mla_prefill_ps_asm_fwd(
        q, k, v, cu_seqlens, cu_seqlens, kv_indices, work_indptr, work_info, 300, SCALE, True, logits, attn_lse, out,
        one, one, one,
    )  # fmt: skip
    aiter.mla_reduce_v1(logits, attn_lse, reduce_indptr, final_map, partial_map, 256, 0, out, final_lse)
    _check_prefill(q, k, v, q_lens, q_lens, out, final_lse if need_lse else None, fp8=True)


def _check_prefill(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, q_lens: list[int], kv_lens: list[int], out: torch.Tensor,
    lse: torch.Tensor | None, *, causal: bool = True, fp8: bool = False,
) -> None:  # fmt: skip
    """Rows of the first, a middle and the last place of each request, over all heads."""
    row, first = 0, 0
    for rows, keys in zip(q_lens, kv_lens, strict=True):
        for i in {0, rows // 2, rows - 1}:
            seen = slice(first, first + (max(keys - rows + i + 1, 0) if causal else keys))
            scores = SCALE * torch.einsum("hd,shd->hs", q[row + i].double(), k[seen].double())
            weights = scores.softmax(1)
            want = torch.einsum("hs,shd->hd", weights, v[seen].double())
            error = (out[row + i].double() - want).abs()
            step = 2.0**-4 if fp8 else 2.0**-8
            bound = 8e-4 + want.abs() / 64 + 1.1 * step * torch.einsum("hs,shd->hd", weights, v[seen].double().abs())
            assert (error <= bound).all(), (row + i, error.max())
            if lse is not None:
                assert torch.allclose(lse[row + i].double(), scores.logsumexp(1), rtol=2e-4, atol=1e-5)
        row, first = row + rows, first + keys


@pytest.mark.parametrize("width", [192, 256])
def test_prefill_by_flash_attention(width: int) -> None:
    """By keyword, k and v as views of one projection, and for a chunk of context with its LSE [H, T]."""
    heads, value = 6, 128 if width == 192 else 256
    kv = values(90, heads, 128 + value, seed=7)
    k, v = torch.cat((kv[..., :128], values(90, heads, width - 128, seed=8)), -1), kv[..., 128:]
    for causal, q_lens, kv_lens in ((True, [40, 50], [40, 50]), (False, [5, 7], [90, 0])):
        q = values(sum(q_lens), heads, width, seed=9)
        out, lse = aiter.flash_attn_varlen_func(
            q=q, k=k, v=v, softmax_scale=SCALE, return_lse=True, cu_seqlens_q=indptr(q_lens),
            cu_seqlens_k=indptr(kv_lens), max_seqlen_q=max(q_lens), max_seqlen_k=max(kv_lens), causal=causal,
        )  # fmt: skip
        assert lse.shape == (heads, len(q)) and lse.is_contiguous() and lse.dtype is torch.float32
        used = 2 if causal else 1  # the other has no context here
        _check_prefill(q, k, v, q_lens[:used], kv_lens[:used], out, lse.T, causal=causal)
        if not causal:
            assert (out[5:] == 0).all() and (lse[:, 5:] == -torch.inf).all()


@pytest.mark.parametrize("topk", [64, 128])
def test_sparse_decode_over_a_pool_of_blocks(topk: int) -> None:
    """Rows of other layers lie between the blocks of the pool; a batch row for each token, lists packed by the
    converter, sizes for sparse lists, metadata without topk; then sinks by the LSE."""
    blocks, block, stride, tokens, heads = 6, 16, 40, 5, 16
    pool = values(blocks * stride, 576, seed=10)
    table = torch.tensor([[3, 0, 5, -1], [1, 4, -1, -1]], dtype=torch.int32)
    lens, request = [45, 20], i32(0, 0, 1, 1, 1)
    positions = torch.full((tokens, topk), -1, dtype=torch.int32)
    counts = []
    for token, owner in enumerate(request.tolist()):
        chosen = torch.randperm(lens[owner], generator=engine.generator(token))[: 30 - token]
        positions[token, : len(chosen)] = chosen.to(torch.int32)
        counts.append(len(chosen))
    cu_seqlens = indptr(counts)
    indices = torch.full((tokens * topk,), 77, dtype=torch.int32)
    import aiter_c

    aiter_c.triton_convert_req_index_to_global_index(
        request, table, positions, cu_seqlens, indices, BLOCK_STRIDE_ROWS=stride, BLOCK_SIZE=block, NUM_TOPK_TOKENS=topk
    )
    visible = [
        [int(table[owner, p // block]) * stride + p % block for p in positions[token, : counts[token]].tolist()]
        for token, owner in enumerate(request.tolist())
    ]
    exact = pool.double().numpy().copy()
    others = torch.ones(len(pool), dtype=torch.bool)
    others.view(blocks, stride)[:, :block] = False
    pool[others] = float("nan")
    q, o = values(tokens, heads, 576, seed=11), poisoned(tokens, heads, 512)
    sizes = aiter.get_mla_metadata_info_v1(32, 1, heads, BF16, BF16, is_sparse=True, fast_mode=True)
    plan = buffers(sizes)
    meta, work_indptr, work_info, *reduce = plan.values()
    rows, ones = torch.arange(tokens + 1, dtype=torch.int32), torch.ones(32, dtype=torch.int32)
    aiter.get_mla_metadata_v1(
        rows, cu_seqlens, ones, heads, 1, True, meta, work_info, work_indptr, *reduce, page_size=1, kv_granularity=16,
        max_seqlen_qo=1, uni_seqlen_qo=1, fast_mode=True, dtype_q=BF16, dtype_kv=BF16, max_split_per_batch=2,
    )  # fmt: skip
    mla_decode_fwd(
        q, pool.view(-1, 1, 1, 576), o, rows, cu_seqlens, indices, ones, 1, sm_scale=SCALE, logit_cap=0.0, causal=True,
        q_scale=torch.tensor(1.0), kv_scale=torch.tensor(1.0), **plan,
    )  # fmt: skip
    check(q, exact, visible, o)
    splits, _ = aiter.mla.get_meta_param(None, tokens, indices.numel(), heads, 1, BF16)
    o = poisoned(tokens, heads, 512)
    _, lse = mla_decode_fwd(
        q, pool.view(-1, 1, 1, 576), o, rows, cu_seqlens, indices, ones, 1, sm_scale=SCALE, logit_cap=0.0,
        num_kv_splits=max(splits, 2), return_lse=True, causal=True,
    )  # fmt: skip
    check(q, exact, visible, o, lse)


def _indexer_cache(pages: int, block: int, fp8: torch.dtype, *, padded: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pages of `block` keys in 16x16 tiles, then their scales, in a larger pool; and the keys with their scales."""
    keys = values(pages, block, 128, dtype=fp8, seed=12)
    scales = torch.rand(pages, block, generator=engine.generator(13))
    pool = torch.full((pages, block * 132 + padded), 0x5A, dtype=torch.uint8)
    tiles = keys.view(torch.uint8).view(pages, block // 16, 16, 8, 16).transpose(2, 3) if block > 1 else keys
    pool[:, : block * 128] = tiles.reshape(pages, -1).view(torch.uint8)
    pool[:, block * 128 : block * 132] = scales.view(torch.uint8).view(pages, -1)
    cache = pool.as_strided((pages, block, 1, 132), (pool.stride(0), 132, 132, 1))
    return cache, keys.float() * scales[..., None]


@pytest.mark.parametrize("block", [1, 64])
@pytest.mark.parametrize("fp8", engine.FP8, ids=str)
def test_indexer_of_pages(block: int, fp8: torch.dtype) -> None:
    """Lengths [B, 1], stale logits, pages apart; a row of length 0 whose table row is stale but for its first entry.
    Then top-k into columns of a wider buffer."""
    pages = 200 // block + 3
    cache, keys = _indexer_cache(pages, block, fp8, padded=0 if block == 1 else 256)
    q, weights = values(3, 1, 64, 128, dtype=fp8, seed=14), torch.randn(3, 64, generator=engine.generator(15))
    lens, most = i32(150, 0, 7)[:, None], 256
    table = torch.randint(0, pages, (3, -(-most // block)), generator=engine.generator(16), dtype=torch.int32)
    table[1, 0] = 0
    logits = torch.full((3, most), 3.5)
    aiter.ops.triton.attention.pa_mqa_logits.deepgemm_fp8_paged_mqa_logits(
        q, cache, weights, logits, lens, table, most, ChunkK=256, Preshuffle=block > 1, KVBlockSize=block, WavePerEU=2
    )
    flat = keys.double()[table.long()].reshape(3, -1, 128)[:, :most]
    want = torch.einsum("bh,bhk->bk", weights.double(), torch.einsum("bhd,bkd->bhk", q[:, 0].double(), flat).relu())
    for row, length in enumerate(lens[:, 0].tolist()):
        assert torch.allclose(logits[row, :length].double(), want[row, :length], rtol=1e-4, atol=1e-2)
    buffer = torch.full((3, 64), -1, dtype=torch.int32)
    indices = buffer[:, :16]
    aiter.ops.topk.top_k_per_row_decode(logits, 1, lens[:, 0], indices, 3, logits.stride(0), logits.stride(1), k=16)
    assert sorted(logits[0, :150].topk(16).indices.tolist()) == indices[0].tolist()
    assert indices[1].tolist() == [-1] * 16 and indices[2].tolist() == [*range(7), *[-1] * 9]
    assert (buffer[:, 16:] == -1).all()


@pytest.mark.parametrize(
    "path", ["ops.triton.attention.fp8_mqa_logits.fp8_mqa_logits", "ops.flydsl.flydsl_fp8_mqa_logits"]
)
def test_indexer_of_a_chunk(path: str) -> None:
    """Scales [N, 1], a view of bytes; windows; columns outside uninitialised, or cleaned by default."""
    rows, keys = 6, 40
    q, k = values(rows, 64, 128, dtype=FP8, seed=17), values(keys, 128, dtype=FP8, seed=18)
    scale = torch.rand(keys, generator=engine.generator(19)).view(torch.uint8).view(keys, 4).view(torch.float32)
    weights = torch.randn(rows, 64, generator=engine.generator(20))
    starts, ends = i32(0, 0, 0, 10, 10, 40), i32(1, 20, 40, 11, 39, 40)
    function = aiter
    for name in path.split("."):
        function = getattr(function, name)
    is_flydsl = "flydsl" in path
    logits = function(q, k, scale, weights, starts, ends, **({} if is_flydsl else {"clean_logits": False}))
    want = torch.einsum("rh,rhk->rk", weights.double(), torch.einsum("rhd,kd->rhk", q.double(), k.double()).relu())
    inside = (torch.arange(keys) >= starts[:, None]) & (torch.arange(keys) < ends[:, None])
    assert torch.allclose(logits.double()[inside], (want * scale[:, 0])[inside], rtol=1e-4, atol=1e-2)
    assert not is_flydsl or (logits[~inside] == -torch.inf).all()
    indices = torch.full((rows, 32), 9, dtype=torch.int32)[:, :16]
    aiter.ops.topk.top_k_per_row_prefill(logits, starts, ends, indices, None, rows, *logits.stride(), k=16)
    assert indices[5].tolist() == [-1] * 16 and indices[0].tolist() == [0, *[-1] * 15]


def test_segments_of_verify_rows() -> None:
    """A row for each request, a table of pages; three tensors always, merged as vLLM's kernel does."""
    rows, page, heads = 4, 16, 12
    pool = values(28 * page, 576, seed=21)
    lens = [100, 1, 0, 64]
    table = torch.randperm(28, generator=engine.generator(22)).to(torch.int32).view(4, 7)
    table = torch.cat((table, torch.full((4, 3), 99, dtype=torch.int32)), 1)
    q = values(rows, heads, 576, seed=23)
    segments, maxima, sums = aiter.ops.triton.attention.mla.mla_decode_fwd(
        q, pool.view(-1, page, 1, 576), None, torch.arange(rows + 1, dtype=torch.int32), i32(*lens), 128, table, SCALE,
        512, 64, True, None, torch.tensor(1.0), skip_reduce=True,
    )  # fmt: skip
    count = segments.shape[2]
    assert segments.shape == (rows, heads, count, 512) and maxima.shape == sums.shape == (rows, heads, count)
    o, lse = torch.zeros(rows, heads, 512), torch.full((rows, heads), -torch.inf)
    for row, length in enumerate(lens):
        if length:
            tiles = max(1, -(-length // (count * page)))
            active = -(-length // (tiles * page))
            weights = torch.exp2(maxima[row, :, :active] - maxima[row, :, :active].amax(1, keepdim=True))
            total = (sums[row, :, :active] * weights).sum(1)
            o[row] = (segments[row, :, :active] * weights[..., None]).sum(1) / total[:, None]
            lse[row] = (maxima[row, :, :active].amax(1) + total.log2()) * np.log(2)
    visible = [[int(table[row, j // page]) * page + j % page for j in range(length)] for row, length in enumerate(lens)]
    check(q, pool.double().numpy(), visible, o, lse)


def test_gluon() -> None:
    """Queries as views of one tensor, four rows for each request in 4-D, slots and where they begin; 12 heads."""
    pool = Pool([70, 9])
    q, o = values(2, 4, 12, 576, seed=24), poisoned(2, 4, 12, 512)
    aiter.ops.triton.gluon.mla_gluon.mla_gluon(
        q[..., :512], q[..., 512:], pool.rows, o, pool.indices, pool.indptr, SCALE, use_2d_view=False, kv_scale=1.0,
        min_kv_seq_len=9, k_pe=None, kv_pe_offset=512,
    )  # fmt: skip
    check(q.view(8, 12, 576), pool.exact, pool.visible([4, 4]), o.view(8, 12, 512))


def test_context_of_an_fp8_cache() -> None:
    """gather_kv_b_proj, and the cast of new tokens for prefill: views with strides, heads padded to 16."""
    heads, rows = 6, 9
    cache, weight = values(20, 1, 576, dtype=FP8, seed=25), values(heads * 256, 512, seed=26) / 16
    indices, cu = torch.randperm(20, generator=engine.generator(27))[:rows].to(torch.int32), i32(0, 4, rows)
    k, v = poisoned(rows, heads, 192), poisoned(rows, heads, 128)
    scale = torch.tensor(0.5)
    aiter.ops.triton.gather_kv_b_proj.gather_kv_b_proj(cache, scale, cu, indices, cu, weight, None, k, v)
    latent = cache[indices.long(), 0].float() * 0.5
    projected = (latent[:, :512] @ weight.float().T).view(rows, heads, 256)
    assert torch.allclose(k[..., :128].float(), projected[..., :128], rtol=1e-2, atol=1e-2)
    assert torch.equal(k[..., 128:], latent[:, None, 512:].expand(rows, heads, 64).to(BF16))
    assert torch.allclose(v.float(), projected[..., 128:], rtol=1e-2, atol=1e-2)
    both, q, k_pe = values(rows, heads, 256, seed=28), values(rows, heads, 192, seed=29), values(rows, 1, 64, seed=30)
    made = aiter.ops.triton.fusions.fused_mla_prefill_qkv_fp8.fused_mla_prefill_qkv_fp8(
        q, both[..., :128], both[..., 128:], k_pe, 16, FP8
    )
    assert [tuple(t.shape) for t in made] == [(rows, 16, 192), (rows, 16, 192), (rows, 16, 128)]
    assert torch.equal(made[0].view(torch.uint8)[:, :heads], q.to(FP8).view(torch.uint8))
