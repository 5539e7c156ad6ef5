"""The calls of SGLang 0.5.23's backends "aiter" and "dsa", and of its indexer; checked by fp64."""

from __future__ import annotations

import importlib.util

import pytest

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed", allow_module_level=True)
import torch
from compat import engine
from compat.engine import SCALE, Pool, buffers, check, i32, indptr, poisoned, values

pytestmark = pytest.mark.torch
aiter = engine.names()
BF16, FP8 = torch.bfloat16, torch.float8_e4m3fn
GARBAGE = 1 << 30


def _metadata(
    pool: Pool, q_lens: list[int], heads: int, dtype: torch.dtype, *, fast: bool = False, cap: int | None = 32,
    tail: int = 2,
) -> dict[str, object]:  # fmt: skip
    """The keywords of a decode call, whose plan is for (dtype, dtype) whatever q is."""
    batch, most = len(q_lens), max(q_lens)
    sizes = aiter.get_mla_metadata_info_v1(
        batch, most, heads, dtype, dtype, is_sparse=False, fast_mode=fast,
        num_kv_splits=32 if cap in (None, -1) else cap, intra_batch_mode=not fast,
    )  # fmt: skip
    plan = buffers(sizes)
    kv_indptr = torch.cat((pool.indptr, torch.full((tail,), GARBAGE, dtype=torch.int32)))[: batch + 1]
    qo_indptr, last = indptr(q_lens), torch.ones(batch, dtype=torch.int32)
    meta, work_indptr, work_info, *reduce = plan.values()
    aiter.get_mla_metadata_v1(
        qo_indptr, kv_indptr, last, heads, 1, False, meta, work_info, work_indptr, *reduce, kv_granularity=16,
        max_seqlen_qo=most, uni_seqlen_qo=most, fast_mode=fast, max_split_per_batch=-1 if cap is None else cap,
        intra_batch_mode=not fast, is_cp_round_robin=False, dtype_q=dtype, dtype_kv=dtype,
    )  # fmt: skip
    indices = torch.cat((pool.indices, torch.full((50,), GARBAGE, dtype=torch.int32)))
    return {
        "qo_indptr": qo_indptr, "kv_indptr": kv_indptr, "kv_indices": indices, "kv_last_page_lens": last,
        "max_seqlen_q": most, "sm_scale": SCALE, "logit_cap": 0.0, "intra_batch_mode": not fast, "num_kv_splits": cap,
        **plan,
    }  # fmt: skip


@pytest.mark.parametrize("cap", [32, None, -1])
@pytest.mark.parametrize(("q_dtype", "kv_dtype"), [(BF16, BF16), (BF16, FP8), (FP8, FP8), (FP8, BF16)], ids=str)
def test_decode(q_dtype: torch.dtype, kv_dtype: torch.dtype, cap: int | None) -> None:
    """All keywords; q_scale is the k scale, for a bf16 q as well; an fp8 q on a plan for bf16; caps of every kind."""
    pool = Pool([70, 5], kv_dtype)
    keywords = _metadata(pool, [1, 1], 16, kv_dtype, cap=cap, fast=cap is None)
    q, o, k_scale = values(2, 16, 576, dtype=q_dtype, seed=1), poisoned(2, 16, 512), torch.tensor([0.5])
    aiter.mla.mla_decode_fwd(q, pool.kv, o, q_scale=k_scale.reshape(()), kv_scale=k_scale, **keywords)
    scales = {"q_scale": 0.5 if q_dtype is FP8 else 1.0, "kv_scale": 0.5 if kv_dtype is FP8 else 1.0}
    check(q, pool.exact, pool.visible([1, 1]), o, both_fp8=q_dtype is kv_dtype is FP8, **scales)


@pytest.mark.parametrize("heads", [4, 12, 128])
def test_verify(heads: int) -> None:
    """Four draft tokens; 4 heads tiled to 16, 12 padded by zeros; -1 reaches the op; row 0 of the pool is NaN."""
    pool = Pool([40, 4])
    assert pool.rows[0].isnan().all()
    padded = 16 if heads < 16 else heads
    q = values(8, heads, 576, seed=2)
    wide = q.repeat(1, 4, 1) if heads == 4 else torch.nn.functional.pad(q, (0, 0, 0, padded - heads))
    o = poisoned(8, padded, 512)
    keywords = _metadata(pool, [4, 4], padded, BF16) | {"num_kv_splits": -1}
    aiter.mla.mla_decode_fwd(wide, pool.kv, o, q_scale=None, kv_scale=None, **keywords)
    check(q, pool.exact, pool.visible([4, 4]), o[:, :heads])


def test_draft_extend_of_ragged_requests() -> None:
    pool = Pool([30, 2, 9])
    q, o = values(6, 16, 576, seed=3), poisoned(6, 16, 512)
    keywords = _metadata(pool, [3, 2, 1], 16, BF16, fast=True)
    keywords["num_kv_splits"] = -1
    for name in engine.PLAN:  # without lists, as with 16 heads in bf16
        keywords[name] = None
    aiter.mla.mla_decode_fwd(q, pool.kv, o, q_scale=None, kv_scale=None, **keywords)
    check(q, pool.exact, pool.visible([3, 2, 1]), o)


def test_ranks_that_have_no_key() -> None:
    """8 positions, an fp8 q over bf16, q_scale without dimensions and kv_scale with one; a shard of length 0."""
    pool = Pool([25, 0])
    keywords = _metadata(pool, [1, 1], 16, BF16, cap=32)
    q, o = values(2, 16, 576, dtype=FP8, seed=4), poisoned(2, 16, 512)
    names = ("qo_indptr", "kv_indptr", "kv_indices", "kv_last_page_lens", "max_seqlen_q")
    _, lse = aiter.mla.mla_decode_fwd(
        q, pool.kv, o, *(keywords.pop(name) for name in names), q_scale=torch.ones(()), kv_scale=torch.ones(1),
        return_lse=True, **keywords | {"intra_batch_mode": False},
    )  # fmt: skip
    check(q, pool.exact, pool.visible([1, 1]), o, lse.view(2, 16))
    assert (o[1] == 0).all() and (lse[1] == -torch.inf).all()


def test_absorbed_prefill() -> None:
    """Ten arguments by position; 12 heads padded by zeros."""
    pool = Pool([70, 8])
    q = values(48, 12, 576, seed=5)
    wide, o = torch.nn.functional.pad(q, (0, 0, 0, 4)), poisoned(48, 16, 512)
    aiter.mla.mla_prefill_fwd(
        wide.view(-1, 16, 576), pool.kv, o.view(-1, 16, 512), indptr([40, 8]), pool.indptr, pool.indices, i32(1, 1), 40,
        SCALE, 0.0,
    )  # fmt: skip
    check(q, pool.exact, pool.visible([40, 8]), o[:, :12])


def _by_lists(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, q_lens: list[int], kv_lens: list[int], *, causal: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """A pass with need_lse: o and the LSE of every row. The engine asserts of the plan what is asserted here."""
    heads, total = q.shape[1], len(q)
    plan = buffers(aiter.get_ps_metadata_info_v1(len(q_lens), heads, max(q_lens), qlen_granularity=256))
    qo_indptr, kv_indptr = indptr(q_lens), indptr(kv_lens)
    aiter.get_ps_metadata_v1(
        qo_indptr, kv_indptr, i32(*kv_lens), 1, heads, *plan.values(), qhead_granularity=1, qlen_granularity=256,
        kvlen_granularity=128, block_size=1, is_causal=causal, need_lse=True,
    )  # fmt: skip
    _, work_indptr, work_info, reduce_indptr, final_map, partial_map = plan.values()
    tiles = len(partial_map)
    locations = work_info[: int(work_indptr[-1]), 1]
    assert int(reduce_indptr[-1]) > 0 and int(locations.max()) + 256 <= tiles * 256
    logits, attn_lse = torch.empty(tiles * 256, heads, 128), torch.empty(tiles * 256, heads)
    o, final_lse = poisoned(total, heads, 128), poisoned(total, heads, dtype=torch.float32)
    one = torch.ones(1)
    aiter.mla_prefill_ps_asm_fwd(
        q, k, v, qo_indptr, kv_indptr, torch.arange(len(k), dtype=torch.int32), work_indptr, work_info, max(q_lens),
        SCALE, causal, logits, attn_lse, o, one, one, one,
    )  # fmt: skip
    aiter.mla_reduce_v1(logits, attn_lse, reduce_indptr, final_map, partial_map, 256, 0, o, final_lse)
    return o, final_lse


def test_prefill_in_chunks() -> None:
    """A causal pass over the new tokens and one over each chunk of the prefix, merged by their LSEs [T, H]; in the
    second chunk a request has no key."""
    q_lens, chunks, heads = [60, 30], ([100, 20], [50, 0]), 4
    q, new_k, new_v = (values(90, heads, n, dtype=FP8, seed=n) for n in (192, 193, 128))
    new_k = values(90, heads, 192, dtype=FP8, seed=6)
    states, keys, vals = [_by_lists(q, new_k, new_v, q_lens, q_lens, causal=True)], [], []
    for number, lens in enumerate(chunks):
        k = values(sum(lens), heads, 192, dtype=FP8, seed=10 + number)
        v = values(sum(lens), heads, 128, dtype=FP8, seed=20 + number)
        states.append(_by_lists(q, k, v, q_lens, lens, causal=False))
        keys.append(torch.split(k, lens)), vals.append(torch.split(v, lens))
    assert (states[2][1][60:] == -torch.inf).all() and (states[2][0][60:] == 0).all()
    lse = torch.stack([lse for _, lse in states]).double()
    weights = torch.exp(lse - lse.logsumexp(0))
    merged = sum(w[..., None] * o.double() for w, (o, _) in zip(weights, states, strict=True))
    for row in (0, 59, 60, 89):
        request = row // 60
        first = 60 * request
        seen_k = torch.cat([*(part[request] for part in keys), new_k[first : row + 1]]).double()
        seen_v = torch.cat([*(part[request] for part in vals), new_v[first : row + 1]]).double()
        scores = SCALE * torch.einsum("hd,shd->hs", q[row].double(), seen_k)
        want = torch.einsum("hs,shd->hd", scores.softmax(1), seen_v)
        bound = 8e-4 + want.abs() / 32 + torch.einsum("hs,shd->hd", scores.softmax(1), seen_v.abs()) / 14
        assert ((merged[row] - want).abs() <= bound).all()
        assert torch.allclose(lse[:, row].logsumexp(0), scores.logsumexp(1), rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize(("heads", "padded"), [(6, 12), (8, 16), (128, 128)])
@pytest.mark.parametrize("dtype", [BF16, FP8], ids=str)
def test_sparse_decode(heads: int, padded: int, dtype: torch.dtype) -> None:
    """-1 is left out and the slots are packed; kv_indptr has a stale tail; in bf16 the lengths of last pages are the
    indptr of queries. Heads are repeated 16 // heads times."""
    import aiter_c

    tokens, topk = 3, 64
    pool = Pool([200], dtype)
    table = torch.full((tokens, topk), -1, dtype=torch.int32)
    for token, count in enumerate((64, 10, 0)):
        chosen = torch.randperm(200, generator=engine.generator(token))[:count]
        table[token, torch.randperm(topk, generator=engine.generator(9))[:count]] = pool.indices[chosen]
    kv_indptr = torch.full((12,), GARBAGE, dtype=torch.int32)
    kv_indptr[: tokens + 1] = torch.nn.functional.pad((table != -1).sum(1).cumsum(0), (1, 0))
    kv_indices = torch.full((tokens * topk,), GARBAGE, dtype=torch.int32)
    aiter_c.get_valid_kv_indices(table, kv_indptr, kv_indices, tokens)
    cu_seqlens_q = torch.arange(tokens + 1, dtype=torch.int32)
    q, o = values(tokens, heads, 576, dtype=dtype, seed=7), poisoned(tokens, padded, 512)
    is_fp8 = dtype is FP8
    plan: dict[str, torch.Tensor] = {}
    if is_fp8:
        sizes = aiter.get_mla_metadata_info_v1(
            tokens, 1, padded, dtype, dtype, is_sparse=True, fast_mode=True, intra_batch_mode=False
        )
        plan = buffers(sizes)
        meta, work_indptr, work_info, *reduce = plan.values()
        aiter.get_mla_metadata_v1(
            cu_seqlens_q, kv_indptr, torch.ones(tokens, dtype=torch.int32), padded, 1, False, meta, work_info,
            work_indptr, *reduce, page_size=1, kv_granularity=16, max_seqlen_qo=1, uni_seqlen_qo=1, fast_mode=True,
            topk=-1, max_split_per_batch=64, intra_batch_mode=False, dtype_q=dtype, dtype_kv=dtype,
        )  # fmt: skip
    last, scale = (torch.ones(tokens, dtype=torch.int32), torch.ones(())) if is_fp8 else (cu_seqlens_q, None)
    aiter.mla.mla_decode_fwd(
        q.repeat_interleave(padded // heads, 1), pool.kv, o, cu_seqlens_q, kv_indptr, kv_indices, last, 1,
        sm_scale=SCALE, logit_cap=0.0, q_scale=scale, kv_scale=scale, **plan,
    )  # fmt: skip
    visible = [row[row >= 0].tolist() for row in table]
    check(q, pool.exact, visible, o[:, :: padded // heads], both_fp8=is_fp8)


def test_indexer_of_more_rows_than_requests() -> None:
    """q, weights and logits are not trimmed; a logit of +inf is one that must be selected."""
    block, rows, batch = 64, 5, 2
    cache = torch.zeros(4, block, 1, 132, dtype=torch.uint8)
    cache.view(4, -1)[:, : block * 128] = values(4, block * 128, dtype=FP8, seed=8).view(torch.uint8)
    cache.view(4, -1)[:, block * 128 :] = torch.ones(4, block).view(torch.uint8)
    q, weights = values(rows, 32, 128, dtype=FP8, seed=9), torch.randn(rows, 32, generator=engine.generator(3))
    logits, lens = torch.full((rows, 128), 7.0), i32(100, 20)
    table = torch.tensor([[2, 1], [3, 0]], dtype=torch.int32)
    aiter.ops.triton.pa_mqa_logits.deepgemm_fp8_paged_mqa_logits(
        q.unsqueeze(1), cache, weights, logits, lens, table, 128, Preshuffle=True, KVBlockSize=block
    )
    assert logits[:batch].isfinite().sum() == 120
    logits[0, 3] = torch.inf
    indices = torch.full((batch, 8), 5, dtype=torch.int32)
    aiter.ops.topk.top_k_per_row_decode(logits, 1, lens, indices, batch, logits.stride(0), logits.stride(1), k=8)
    assert 3 in indices[0].tolist() and indices[1].max() < 20


def test_one_row_loses_its_stride() -> None:
    """What torch's exporter does to a dimension of size 1."""
    import aiter_c

    logits = torch.randn(1, 64, generator=engine.generator(5)).as_strided((1, 50), (1, 1))
    indices = torch.zeros(1, 8, dtype=torch.int32)
    aiter_c.top_k_per_row_decode(logits, 1, i32(50), indices, 1, 64, 1, 8)
    assert sorted(logits[0].topk(8).indices.tolist()) == indices[0].tolist()
