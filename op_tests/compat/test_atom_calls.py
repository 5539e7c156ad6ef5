"""The calls of ATOM's attention, builder and indexer; checked by fp64."""

from __future__ import annotations

import importlib.util
import inspect

import pytest

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed", allow_module_level=True)
import torch
from compat import engine
from compat.engine import SCALE, Pool, buffers, check, i32, indptr, poisoned, values

pytestmark = pytest.mark.torch
aiter = engine.names()
BF16, FP8 = torch.bfloat16, torch.float8_e4m3fn


@pytest.mark.parametrize("splits", [None, 16])
@pytest.mark.parametrize("persistent", [True, False])
def test_decode_over_pages(persistent: bool, splits: int | None) -> None:
    """Pages of 64, q rows of 576 in 768, scales on the CPU, fast_mode=1, the keywords of context parallelism at their
    defaults; the LSE [T, H]."""
    page, lens, heads = 64, [130, 64, 1], 16
    pages = [-(-length // page) for length in lens]
    pool = values(20, page, 1, 576, seed=1)
    order = torch.randperm(20, generator=engine.generator(2))[: sum(pages)].to(torch.int32)
    last = i32(*[length - (count - 1) * page for length, count in zip(lens, pages, strict=True)])
    q, o = values(3, heads, 768, seed=3)[..., :576], poisoned(3, heads, 512)
    qo_indptr, kv_indptr, plan = indptr([1, 1, 1]), indptr(pages), {}
    if persistent:
        assert "max_split_per_batch" in inspect.signature(aiter.get_mla_metadata_info_v1).parameters
        options = {"is_sparse": False, "fast_mode": 1, "max_split_per_batch": 16}
        plan = buffers(aiter.get_mla_metadata_info_v1(8, 1, heads, BF16, BF16, **options))
        meta, work_indptr, work_info, *reduce = plan.values()
        aiter.get_mla_metadata_v1(
            qo_indptr, kv_indptr, last, heads, 1, True, meta, work_info, work_indptr, *reduce, page_size=page,
            kv_granularity=max(page, 16), max_seqlen_qo=1, uni_seqlen_qo=1, fast_mode=1, max_split_per_batch=16,
            dtype_q=BF16, dtype_kv=BF16, is_cp_round_robin=False,
        )  # fmt: skip
    one = torch.tensor([1.0])
    _, lse = aiter.mla.mla_decode_fwd(
        q, pool, o, qo_indptr, kv_indptr, order, last, 1, page_size=page, num_kv_splits=splits, sm_scale=SCALE,
        q_scale=one, kv_scale=one, return_lse=True, g_kv_indptr=None, cp_world_size=1, cp_rank=0, causal=True, **plan,
    )  # fmt: skip
    first, visible = 0, []
    for length, count in zip(lens, pages, strict=True):
        mine = order[first : first + count].tolist()
        visible.append([mine[j // page] * page + j % page for j in range(length)])
        first += count
    check(q, pool.double().numpy().reshape(-1, 576), visible, o, lse)


@pytest.mark.parametrize("dtype", [BF16, FP8], ids=str)
def test_prefill_over_the_latent_cache(dtype: torch.dtype) -> None:
    """With an LSE by decode; without one by mla_prefill_fwd, eleven arguments by position. A request without keys."""
    pool = Pool([40, 0], dtype)
    q, args = values(23, 12, 576, dtype=dtype, seed=4), (indptr([20, 3]), pool.indptr, pool.indices, i32(1, 1), 20)
    o, is_fp8 = poisoned(23, 12, 512), dtype is FP8
    _, lse = aiter.mla.mla_decode_fwd(
        q, pool.kv, o, *args, page_size=1, num_kv_splits=16, sm_scale=SCALE, q_scale=torch.tensor(1.0),
        kv_scale=torch.tensor(1.0), **dict.fromkeys(engine.PLAN), return_lse=True,
    )  # fmt: skip
    check(q, pool.exact, pool.visible([20, 3]), o, lse, both_fp8=is_fp8)
    o = poisoned(23, 12, 512)
    aiter.mla.mla_prefill_fwd(q, pool.kv, o, *args, SCALE, 0.0, None)
    check(q, pool.exact, pool.visible([20, 3]), o, both_fp8=is_fp8)


def test_drafts_without_a_causal_mask() -> None:
    """Blocks of pages: is_causal=False in the plan, causal=False in the call; the plan is brought to the next step."""
    pool, heads = Pool([30, 7]), 8
    plan = buffers(aiter.get_mla_metadata_info_v1(2, 4, heads, BF16, BF16, is_sparse=False, fast_mode=True))
    meta, work_indptr, work_info, *reduce = plan.values()
    last = i32(1, 1)
    args = (last, heads, 1, False, meta, work_info, work_indptr, *reduce)
    aiter.get_mla_metadata_v1(indptr([4, 4]), pool.indptr, *args, max_seqlen_qo=4, uni_seqlen_qo=4, fast_mode=True)
    q, o = values(8, heads, 576, seed=5), poisoned(8, heads, 512)
    common = {"page_size": 1, "sm_scale": SCALE, "causal": False}
    aiter.mla.mla_decode_fwd(q, pool.kv, o, indptr([4, 4]), pool.indptr, pool.indices, last, 4, **common, **plan)
    check(q, pool.exact, pool.visible([4, 4], causal=False), o)
    rejected = i32(1, 2)
    aiter.decode_update_mla_metadata_v1(indptr([1, 1]), pool.indptr, *args, num_reject_tokens=rejected)
    o = poisoned(2, heads, 512)
    aiter.mla.mla_decode_fwd(q[:2], pool.kv, o, indptr([1, 1]), pool.indptr, pool.indices, last, 1, **common, **plan)
    check(q[:2], pool.exact, pool.visible([1, 1]), o)


def test_indexer_by_keywords() -> None:
    rows, keys = 4, 30
    q, k = values(rows, 32, 128, dtype=FP8, seed=6), values(keys, 128, dtype=FP8, seed=7)
    scales, weights = torch.ones(keys), torch.randn(rows, 32, generator=engine.generator(1))
    starts, ends = i32(0, 0, 5, 5), i32(10, 30, 6, 5)
    logits = aiter.ops.triton.fp8_mqa_logits.fp8_mqa_logits(
        Q=q, KV=k, kv_scales=scales, weights=weights, cu_starts=starts, cu_ends=ends
    )
    assert [int(row.isfinite().sum()) for row in logits] == [10, 30, 1, 0]
    indices = torch.zeros(rows, 16, dtype=torch.int32)
    aiter.top_k_per_row_prefill(
        logits=logits, rowStarts=starts, rowEnds=ends, indices=indices, values=None, numRows=rows,
        stride0=logits.stride(0), stride1=logits.stride(1), k=16, stable=True,
    )  # fmt: skip
    assert indices[2].tolist() == [5, *[-1] * 15] and indices[3].tolist() == [-1] * 16
    aiter.top_k_per_row_decode(
        logits, 2, i32(12, 30), indices, rows, logits.stride(0), logits.stride(1), 16, stable=True
    )
    assert indices[0].tolist() == [*range(11), *[-1] * 5]


def test_index_conversion_and_sparse_decode() -> None:
    """A row for each request; invalid positions become -1, which decode masks."""
    import aiter_c

    pool, topk = Pool([40, 6]), 16
    positions = torch.full((2, topk), -1, dtype=torch.int32)
    positions[0, :10] = torch.randperm(40, generator=engine.generator(8))[:10].to(torch.int32)
    positions[1, :8] = i32(0, 5, 3, 99, 1, -7, 2, 4)  # 99 is past its keys
    packed = indptr([topk, topk])
    slots = aiter_c.triton_convert_req_index_to_global_index(
        indptr([1, 1]), pool.indptr, packed, pool.indices, positions, NUM_TOPK_TOKENS=topk
    )
    visible = [
        [owned[p] for p in row.tolist() if 0 <= p < len(owned)]
        for row, owned in zip(positions, pool.lists, strict=True)
    ]
    q, o = values(2, 16, 576, seed=9), poisoned(2, 16, 512)
    aiter.mla.mla_decode_fwd(
        q, pool.kv, o, indptr([1, 1]), packed, slots, i32(1, 1), 1, page_size=1, num_kv_splits=16, sm_scale=SCALE
    )
    check(q, pool.exact, visible, o)
