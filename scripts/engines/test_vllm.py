"""vLLM's own ROCM_AITER_MLA backend (metadata builder and implementation) on aiter_c, with tensors of the CPU: run by
scripts/test_engines, which says how. Every row of every output is compared with fp64."""

from __future__ import annotations

from types import SimpleNamespace as Facts
from typing import Any

import pytest
import torch
from compat.engine import FP8, Pool, check, i32, values
from vllm_here import INSTALLED, IS_GFX950, LAYER, UNITS, Blocks, _machine, config, step  # noqa: F401

from aiter_c.testing import Tolerance

# isort: split
import aiter
import vllm.model_executor.layers.attention.mla_attention as common
import vllm.v1.attention.backends.mla.rocm_aiter_mla as backend
from vllm import _aiter_ops
from vllm.platforms import current_platform
from vllm.v1.kv_cache_interface import MLAAttentionSpec

SCALE = 1 / 16
MOST_TOKENS = 256


def test_vllm_takes_this_for_a_rocm_machine_with_aiter() -> None:
    assert current_platform.is_rocm() and _aiter_ops.IS_AITER_FOUND and not INSTALLED.over_aiter
    assert _aiter_ops.rocm_aiter_ops.is_mla_enabled()


def _layer(heads: int) -> Any:
    """What the builder reads of a layer."""
    manager = object.__new__(common.MLADCPManager)
    manager.init_kv_gather = lambda *_: None
    return Facts(
        q_lora_rank=1536, kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128,
        prefill_backend=Facts(clone=lambda: Facts(get_name=lambda: "none")), num_heads=heads,
        non_causal_multi_token_decode=True, dcp_manager=manager,
    )  # fmt: skip


class Step:
    """A builder and an implementation for some heads and a cache in blocks of `block`; then steps over its requests."""

    def __init__(
        self, heads: int, q_lens: list[int], kv_lens: list[int], cache: str = "auto", *,
        dtype: torch.dtype = torch.bfloat16, drafts: int = 0, full_graph: bool = False, block: int = 16,
        adaptive: bool = False, ranks: int = 1,
    ) -> None:  # fmt: skip
        options = {"drafts": drafts, "full_graph": full_graph, "block": block, "adaptive": adaptive, "ranks": ranks}
        facts = config(heads, _layer(heads), cache_dtype=cache, dtype=dtype, most_tokens=MOST_TOKENS, **options)
        kv_dtype = current_platform.fp8_dtype() if cache != "auto" else dtype
        spec = MLAAttentionSpec(
            block, num_kv_heads=1, head_size=576, dtype=torch.uint8 if cache != "auto" else dtype, cache_dtype_str=cache
        )
        self.builder = backend.AiterMLAMetadataBuilder(spec, [LAYER], facts, torch.device("cpu"))
        self.impl = object.__new__(backend.AiterMLAImpl)
        self.impl.__dict__ |= {
            "num_heads": heads, "dcp_world_size": ranks, "kv_lora_rank": 512, "qk_rope_head_dim": 64, "scale": SCALE,
            "kv_cache_dtype": cache, "_sm_count": UNITS,
        }  # fmt: skip
        self.heads, self.q_lens, self.kv_dtype = heads, q_lens, kv_dtype
        self.blocks = Blocks(kv_lens, block, 576, MOST_TOKENS)
        self.cache, self.exact = self.blocks.filled(kv_dtype)
        self.layer = Facts(_q_scale=torch.tensor(0.5), _k_scale=torch.tensor(0.25))

    def metadata(self, *, causal: bool = True, padding: int = 0, token_padding: int = 0) -> Any:
        """Of a step of `padding` dummy requests and `token_padding` rows more."""
        return self.builder.build(
            0, step(self.blocks, self.q_lens, dummies=[0] * padding, rows=token_padding, causal=causal)
        )

    def run(self, *, seed: int = 1, causal: bool = True, **padding: int) -> tuple[torch.Tensor, Any]:
        """Decode, checked; the metadata."""
        found = self.metadata(causal=causal, **padding)
        rows = sum(self.q_lens) + padding.get("token_padding", 0)
        q = values(rows, self.heads, 576, dtype=self.kv_dtype, seed=seed)
        o, _ = self.impl.forward_mqa(q, self.cache, found, self.layer)
        is_fp8 = self.kv_dtype in FP8
        scales = {"q_scale": 0.5, "kv_scale": 0.25} if is_fp8 else {}
        pool = object.__new__(Pool)
        pool.lists = self.blocks.lists
        check(q, self.exact, pool.visible(self.q_lens, causal=causal), o, both_fp8=is_fp8, **scales)
        return o, found


@pytest.mark.parametrize("heads", [4, 6, 12, 16, 24, 48, 128])
@pytest.mark.parametrize("cache", ["auto", "fp8"])
def test_decode(heads: int, cache: str) -> None:
    _, found = Step(heads, [1, 1, 1], [37, 100, 5], cache).run()
    assert found.decode.max_qo_len == 1


def test_decode_of_fp16() -> None:
    Step(16, [1, 1], [37, 100], dtype=torch.float16).run()


@pytest.mark.parametrize("block", [1, 64])
def test_decode_of_other_blocks(block: int) -> None:
    Step(16, [1, 1], [37, 100], block=block).run()


@pytest.mark.parametrize("heads", [16, 128])
def test_a_full_graph(heads: int) -> None:
    """Two requests of what was captured for five: dummy requests and rows."""
    made = Step(heads, [1, 1], [37, 100], full_graph=True)
    for seed in (1, 2):
        made.run(seed=seed, padding=3, token_padding=3)


@pytest.mark.parametrize("heads", [12, 16, 32])
@pytest.mark.parametrize("cache", ["auto", "fp8"])
def test_verify(heads: int, cache: str) -> None:
    """Three draft tokens and one; in eager mode and in a full graph with dummies, which get rows of their own."""
    Step(heads, [4, 4], [60, 9], cache, drafts=3).run()
    Step(heads, [4, 4], [60, 9], cache, drafts=3, full_graph=True).run(padding=1, token_padding=4)


@pytest.mark.parametrize("full_graph", [False, True])
def test_adaptive_verify(full_graph: bool) -> None:
    """Requests of different lengths as blocks of four rows."""
    Step(16, [4, 2, 1], [60, 9, 20], drafts=3, adaptive=True, full_graph=full_graph).run()


@pytest.mark.parametrize("heads", [16, 48])
def test_drafts_without_a_mask(heads: int) -> None:
    if not IS_GFX950:
        pytest.skip("vLLM serves them on gfx950 alone")
    Step(heads, [4, 4], [60, 9], drafts=3).run(causal=False)


@pytest.mark.parametrize(("heads", "rows", "cache"), [(8, 1, "auto"), (8, 1, "fp8"), (48, 3, "auto"), (16, 3, "fp8")])
@pytest.mark.parametrize("rank", [0, 1])
def test_context_parallel(monkeypatch: pytest.MonkeyPatch, rank: int, heads: int, rows: int, cache: str) -> None:
    """Two ranks gather their heads: one token over the local keys; verify rows round robin, on gfx942 by segments that
    vLLM merges. The first rows of a request see no key of the second rank."""
    ranks, totals = 2, [41, 3]
    group = Facts(world_size=ranks, rank_in_group=rank)
    monkeypatch.setattr(common, "get_dcp_group", lambda: group)
    monkeypatch.setattr(backend, "get_dcp_group", lambda: group)
    held = [len(range(rank, total, ranks)) for total in totals]
    made = Step(heads, [rows, rows], held, cache, drafts=rows - 1, ranks=ranks, full_graph=rows > 1)
    told = step(made.blocks, [rows, rows])
    told.seq_lens = told.seq_lens_cpu_upper_bound = i32(*totals)
    told.max_seq_len, told.dcp_local_seq_lens = max(totals), i32(*held)
    found = made.builder.build(0, told)
    q = values(2 * rows, heads * ranks, 576, dtype=made.kv_dtype, seed=5)
    o, lse = made.impl.forward_mqa(q, made.cache, found, made.layer)
    routes = backend._DCPDecodeRoute
    several = routes.CPRR if IS_GFX950 else routes.SEGMENTED
    assert found.decode.dcp_route is (routes.PLAIN if rows == 1 else several)
    seen = [
        [slot for j, slot in enumerate(slots) if j * ranks + rank <= total - rows + i]
        for slots, total in zip(made.blocks.lists, totals, strict=True)
        for i in range(rows)
    ]
    is_fp8 = cache != "auto"
    scales = {"q_scale": 0.5, "kv_scale": 0.25} if is_fp8 else {}
    # vLLM's merge of segments stores bfloat16, which Triton's interpreter cuts off instead of rounding.
    cut_off = Tolerance(8e-4, 4.02 / 128, 1e-3, 1e-3) if found.decode.dcp_route is routes.SEGMENTED else None
    check(q, made.exact, seen, o, lse, both_fp8=is_fp8, tolerance=cut_off, **scales)


@pytest.mark.parametrize("heads", [6, 16])
def test_prefill_by_lists(heads: int) -> None:
    """The builder's two sets of pinned tensors, and the pass that reads a copy of them; twice, in the same scratch."""
    if not IS_GFX950:
        pytest.skip("vLLM serves it on gfx950 alone")
    q_lens = [150, 40]
    made = Step(heads, q_lens, q_lens, "fp8")
    made.impl.__dict__ |= {
        "v_head_dim": 128, "_fp8_prefill_one_scale": None, "_mla_prefill_ps_asm_fwd": aiter.mla_prefill_ps_asm_fwd,
        "_mla_reduce_v1": aiter.mla_reduce_v1,
    }  # fmt: skip
    made.builder._prefill_backend = Facts(get_name=lambda: "none", prepare_metadata=lambda _: None)
    for seed in (1, 2):
        found = made.metadata()
        assert found.num_prefills == 2 and found.fp8_prefill_num_partial_tiles is not None
        q, k, v = (values(190, heads, width, seed=seed + width) for width in (192, 193, 128))
        k = k[..., :192].contiguous()
        out = torch.full((190, heads * 128), float("nan")).to(torch.bfloat16)
        made.impl._mla_fp8_prefill_attn(q, k, v, found, out)
        q, k, v = (tensor.to(current_platform.fp8_dtype()).double() for tensor in (q, k, v))
        first = 0
        for length in q_lens:
            part = slice(first, first + length)
            scores = SCALE * torch.einsum("qhd,khd->hqk", q[part], k[part])
            scores += torch.full((length, length), -torch.inf, dtype=torch.double).triu(1)
            weights = scores.softmax(2)
            want = torch.einsum("hqk,khd->qhd", weights, v[part])
            bound = 8e-4 + want.abs() / 64 + 0.07 * torch.einsum("hqk,khd->qhd", weights, v[part].abs())
            got = out.view(190, heads, 128)[part].double()
            assert ((got - want).abs() <= bound).all()
            first += length
