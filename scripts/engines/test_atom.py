"""ATOM's attention and its plans, executed on aiter_c and on tensors of the CPU: docs/engines.md. ATOM_SOURCE is the
folder of a checkout: there is no wheel."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace as Facts
from typing import Any

import pytest
import torch
from compat.engine import SCALE, Pool, buffers, check, i32, indptr, values

from aiter_c import compat

compat.install()
sys.path.insert(0, os.environ["ATOM_SOURCE"])

import aiter  # noqa: E402
from aiter import dtypes  # noqa: E402
from atom.model_ops import attention_mla  # noqa: E402
from atom.model_ops.attentions import aiter_mla  # noqa: E402

IS_GFX950 = "gfx950" in os.environ["GPU_ARCHS"]
FP8 = dtypes.fp8


@pytest.fixture(autouse=True)
def planned(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """One rank of data parallelism; of every decode, whether it went by lists."""
    calls: list[bool] = []

    def mla_decode_fwd(*args: Any, **kwargs: Any) -> Any:
        calls.append(kwargs["work_indptr"] is not None)
        return aiter.mla.mla_decode_fwd(*args, **kwargs)

    monkeypatch.setattr(attention_mla, "get_dp_group", lambda: Facts(world_size=1))
    monkeypatch.setattr(attention_mla, "mla_decode_fwd", mla_decode_fwd)
    return calls


class Step:
    """A layer without weights, whose result is taken before the value projection; and the builder that plans for it."""

    def __init__(
        self, heads: int, cache: str, *, ranks: int = 1, rank: int = 0, topk: int = 0, rows: int = 1, page: int = 1
    ) -> None:
        self.heads, self.dtype = heads, FP8 if cache == "fp8" else torch.bfloat16
        layer = self.layer = object.__new__(attention_mla.MLAAttention)
        torch.nn.Module.__init__(layer)
        one = torch.tensor(0.5)
        layer.__dict__ |= {
            "num_heads": heads, "min_query_heads": 16, "kv_cache_dtype": "fp8" if cache == "fp8" else "bf16",
            "kv_lora_rank": 512, "qk_rope_head_dim": 64, "scale": SCALE, "dtype": torch.bfloat16, "_q_scale": one,
            "_k_scale": one, "use_seg_mla": False, "use_triton_mla": False, "is_sparse_mla": topk > 0,
            "head_repeat_factor": 16 // heads if heads < 16 and 16 % heads == 0 else 1,
            "head_pad": 0 if 16 % heads == 0 else attention_mla.mla_kernel_num_heads(heads) - heads,
            "dcp_world_size": ranks, "dcp_rank": rank, "dcp_persistent_supported": IS_GFX950,
            "_dpa_persistent_supported": True, "topk_tokens": topk, "sparse_kv_indices_buffer": None,
        }  # fmt: skip
        layer._configure_dcp_decode_head_padding(ranks)
        self.kernel_heads = layer.dcp_kernel_num_heads if ranks > 1 else attention_mla.mla_kernel_num_heads(heads)
        builder = self.builder = object.__new__(aiter_mla.AiterMLAMetadataBuilder)
        sizes = aiter.get_mla_metadata_info_v1(
            8, rows, self.kernel_heads, self.dtype, self.dtype, is_sparse=topk > 0, fast_mode=True,
            **aiter_mla._mla_seg_meta_kwargs(),
        )  # fmt: skip
        builder.__dict__ |= {
            "block_size": page, "is_sparse": topk > 0, "dtype_q": self.dtype, "dtype_kv": self.dtype,
            "persistent_num_heads": self.kernel_heads, "model_runner": Facts(forward_vars=buffers(sizes)),
        }  # fmt: skip

    def metadata(self, pool: Pool, rows: list[int], *, is_round_robin: bool = False, **more: Any) -> Any:
        """What the pass reads: the lists of the step, and the plan for them by ATOM's own call."""
        variables = self.builder.model_runner.forward_vars
        facts = {
            "cu_seqlens_q": indptr(rows), "kv_indptr": pool.indptr, "kv_indices": pool.indices,
            "kv_last_page_lens": torch.ones(len(rows), dtype=torch.int32),
        }  # fmt: skip
        held = {"sparse_kv_indptr", "sparse_kv_last_page_lens"} & more.keys()
        for name in [*facts, *held]:
            variables[name] = Facts(gpu=(facts | more)[name])
        plan = self.builder.set_mla_persistent_worker_buffers(len(rows), max(rows), is_cp_round_robin=is_round_robin)
        return Facts(**(facts | {"causal": True, "max_seqlen_q": max(rows)} | plan | more))

    def check(self, q: torch.Tensor, pool: Pool, visible: list[list[int]], o: torch.Tensor, lse: Any) -> None:
        is_fp8 = self.dtype is FP8
        check(q, pool.exact, visible, o, lse, both_fp8=is_fp8, **({"q_scale": 0.5, "kv_scale": 0.5} if is_fp8 else {}))


@pytest.mark.parametrize("heads", [4, 6, 12, 16, 48, 128])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("cache", ["bf16", "fp8"])
def test_decode(monkeypatch: pytest.MonkeyPatch, planned: list[bool], cache: str, rows: int, heads: int) -> None:
    """By the builder's plan, heads padded or repeated as ATOM does; then without one."""
    made, counts = Step(heads, cache, rows=rows), [rows] * 3
    pool = Pool([37, 100, 5], made.dtype)
    q = values(3 * rows, heads, 576, dtype=made.dtype, seed=3)
    step = made.metadata(pool, counts)
    made.check(q, pool, pool.visible(counts), *made.layer._forward_decode(q, pool.kv[:, 0], step, return_lse=True))
    made.layer._dpa_persistent_supported = False
    monkeypatch.setattr(attention_mla, "get_dp_group", lambda: Facts(world_size=2))
    made.check(q, pool, pool.visible(counts), *made.layer._forward_decode(q, pool.kv[:, 0], step, return_lse=True))
    assert planned == [True, False]


@pytest.mark.parametrize("heads", [6, 16, 128])
@pytest.mark.parametrize("cache", ["bf16", "fp8"])
def test_prefill_over_the_latent_cache(cache: str, heads: int) -> None:
    """By decode for an fp8 cache and for an LSE, else by mla_prefill_fwd."""
    made, rows = Step(heads, cache, rows=20), [20, 3]
    pool = Pool([40, 7], made.dtype)
    q = values(23, heads, 576, dtype=made.dtype, seed=4)
    step = made.metadata(pool, rows)
    made.check(q, pool, pool.visible(rows), *made.layer._forward_prefill_mla(q, pool.kv[:, 0], step, return_lse=True))
    made.layer._v_up_proj_and_o_proj = lambda o: o
    made.check(q, pool, pool.visible(rows), made.layer._forward_prefill_mla(q, pool.kv[:, 0], step), None)


@pytest.mark.parametrize("heads", [6, 16])
@pytest.mark.parametrize("cache", ["bf16", "fp8"])
def test_sparse_decode(cache: str, heads: int) -> None:
    """Positions become slots by ATOM's own kernel, in Triton's interpreter; a plan over those lists."""
    topk = 128
    made = Step(heads, cache, topk=topk)
    pool = Pool([200, 60], made.dtype)
    counts = [topk, 60]
    positions = torch.full((2, topk), -1, dtype=torch.int32)
    positions[0] = torch.randperm(200, generator=torch.Generator().manual_seed(5))[:topk].int()
    positions[1, :60] = torch.randperm(60, generator=torch.Generator().manual_seed(6)).int()
    packed, out = indptr(counts), torch.zeros(2 * topk, dtype=torch.int32)
    made.layer.sparse_kv_indices_buffer = attention_mla.triton_convert_req_index_to_global_index(
        indptr([1, 1]), pool.indptr, packed, pool.indices, positions, NUM_TOPK_TOKENS=topk, out=out
    )
    q = values(2, heads, 576, dtype=made.dtype, seed=9)
    step = made.metadata(pool, [1, 1], sparse_kv_indptr=packed, sparse_kv_last_page_lens=i32(1, 1))
    visible = [[owned[p] for p in row.tolist() if p >= 0] for row, owned in zip(positions, pool.lists, strict=True)]
    made.check(q, pool, visible, *made.layer._forward_decode(q, pool.kv[:, 0], step, return_lse=True))


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(("heads", "rows", "cache"), [(8, 1, "bf16"), (24, 1, "fp8"), (8, 3, "bf16"), (16, 3, "fp8")])
def test_context_parallel(planned: list[bool], heads: int, rows: int, cache: str, rank: int) -> None:
    """Every second key and the heads of both ranks: one token, and verify rows by their places in the whole request."""
    totals, ranks = [41, 5], 2
    held = [len(range(rank, total, ranks)) for total in totals]
    made = Step(heads, cache, ranks=ranks, rank=rank, rows=rows)
    pool = Pool(held, made.dtype)
    step = made.metadata(pool, [rows] * 2, is_round_robin=rows > 1, g_kv_indptr=indptr(totals))
    q = values(2 * rows, heads * ranks, 576, dtype=made.dtype, seed=5)
    o, lse = made.layer._forward_decode(q, pool.kv[:, 0], step, return_lse=True)
    assert planned == [IS_GFX950]
    visible = [
        [slot for j, slot in enumerate(slots) if j * ranks + rank <= total - rows + i]
        for slots, total in zip(pool.lists, totals, strict=True)
        for i in range(rows)
    ]
    made.check(q, pool, visible, o, lse)
