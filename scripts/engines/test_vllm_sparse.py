"""vLLM's own ROCM_AITER_MLA_SPARSE backend and its indexer (metadata builders, cache writes, logits, top-k, conversion
of indices, attention) on aiter_c, with tensors of the CPU: run by scripts/test_engines, which says how. Every row of
every output is compared with fp64."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace as Facts
from typing import Any

import numpy as np
import pytest
import torch
from compat.engine import SCALE, check, generator, values
from vllm_here import IS_GFX950, LAYER, Blocks, _machine, config, step  # noqa: F401

# isort: split
import vllm.v1.attention.backends.mla.indexer as indexer
import vllm.v1.attention.backends.mla.rocm_aiter_mla_sparse as backend
import vllm.v1.attention.ops.rocm_aiter_mla_sparse as ops
from vllm.config import CUDAGraphMode
from vllm.platforms import current_platform
from vllm.v1.kv_cache_interface import MLAAttentionSpec

TOPK = 128
CPU = torch.device("cpu")


class Sparse:
    """A builder and an implementation for some heads, over a pool in which two blocks of other layers lie between the
    blocks of this one. by_sparse_mla_fwd: through aiter's sparse_mla_fwd instead of mla_decode_fwd."""

    def __init__(
        self, heads: int, q_lens: list[int], kv_lens: list[int], cache: str = "auto", *,
        dtype: torch.dtype = torch.bfloat16, drafts: int = 0, block: int = 16, sinks: torch.Tensor | None = None,
        by_sparse_mla_fwd: bool = False, topk: int = TOPK, most_tokens: int = 512, with_prefill: bool = False,
    ) -> None:  # fmt: skip
        self.heads, self.q_lens, self.topk, self.sinks = heads, q_lens, topk, sinks
        self.q_dtype = current_platform.fp8_dtype() if cache != "auto" else dtype
        self.impl = object.__new__(backend.ROCMAiterMLASparseImpl)
        self.impl.__dict__ |= {
            "num_heads": heads, "kv_lora_rank": 512, "qk_rope_head_dim": 64, "scale": SCALE, "kv_cache_dtype": cache,
            "sinks": sinks, "use_aiter_sparse_mla": by_sparse_mla_fwd, "owns_indexer": True, "index_epoch": 1,
        }  # fmt: skip
        prefill = Facts(clone=lambda: Facts(prepare_metadata=lambda _: None)) if with_prefill else None
        facts = config(
            heads, Facts(prefill_backend=prefill, impl=self.impl), cache_dtype=cache, dtype=dtype, drafts=drafts,
            block=block, topk=topk, most_tokens=most_tokens,
        )  # fmt: skip
        spec = MLAAttentionSpec(
            block, num_kv_heads=1, head_size=576, dtype=torch.uint8 if cache != "auto" else dtype, cache_dtype_str=cache
        )
        self.builder = backend.ROCMAiterMLASparseMetadataBuilder(spec, [LAYER], facts, CPU)
        self.blocks = Blocks(kv_lens, block, 576, most_tokens, apart=2)
        self.cache, self.exact = self.blocks.filled(self.q_dtype)
        self.layer = Facts(_q_scale=torch.tensor(0.5), _k_scale=torch.tensor(0.25))
        self.buffer = torch.full((2 * most_tokens, topk), -1, dtype=torch.int32)
        self.impl.init_topk_indices_buffer(None, self.buffer)

    def choose(self, seed: int) -> list[list[int]]:
        """Some positions for each row, as the indexer leaves them: as many as the row sees, at most top-k, in any
        order, then -1. The slots that each row sees."""
        seen, row = [], 0
        self.buffer.fill_(-1)
        for slots, rows in zip(self.blocks.lists, self.q_lens, strict=True):
            for i in range(rows):
                visible = len(slots) - rows + i + 1
                chosen = torch.randperm(visible, generator=generator(seed + row))[: self.topk]
                self.buffer[row, : len(chosen)] = chosen.to(torch.int32)
                seen.append([slots[position] for position in chosen.tolist()])
                row += 1
        return seen

    def run(self, *, seed: int = 1, dummies: int = 0, seen: list[list[int]] | None = None) -> Any:
        """A step, checked; the metadata."""
        found = self.builder.build(0, step(self.blocks, self.q_lens, dummies=[1] * dummies))
        seen = seen or self.choose(seed)
        rows = sum(self.q_lens) + dummies
        q = values(rows, self.heads, 576, dtype=self.q_dtype, seed=seed)
        o, lse = self.impl.forward_mqa(q, self.cache, found, self.layer)
        is_fp8 = self.q_dtype.itemsize == 1
        scales = {"q_scale": 0.5, "kv_scale": 0.25} if is_fp8 else {}
        if self.sinks is None:
            check(q, self.exact, seen + [[]] * dummies, o, both_fp8=is_fp8, **scales)
        else:
            self.check_with_sinks(q, seen, o, lse, **scales)
            assert (o[sum(self.q_lens) :] == 0).all()
        return found

    def check_with_sinks(
        self, q: torch.Tensor, seen: list[list[int]], o: torch.Tensor, lse: torch.Tensor | None, q_scale: float = 1.0,
        kv_scale: float = 1.0,
    ) -> None:  # fmt: skip
        """The sink is in the sum of every row and head, and brings no value."""
        assert self.sinks is not None
        both_fp8 = q_scale != 1
        for row, slots in enumerate(seen):
            keys = self.exact[slots]
            scores = SCALE * q_scale * kv_scale * np.einsum("hd,kd->hk", q[row].double().numpy(), keys)
            top = np.maximum(scores.max(1), self.sinks.numpy())
            weights = np.exp(scores - top[:, None])
            total = weights.sum(1) + np.exp(self.sinks.double().numpy() - top)
            weights /= total[:, None]
            want = kv_scale * weights @ keys[:, :512]
            step_of_p = 2.0**-4 if both_fp8 else 2.0**-8
            bound = 8e-4 + np.abs(want) / 64 + 1.1 * step_of_p * kv_scale * weights @ np.abs(keys[:, :512])
            assert bool((np.abs(o[row].double().numpy() - want) <= bound).all()), f"row {row}"
            if lse is not None:
                np.testing.assert_allclose(lse[row].numpy(), top + np.log(total), rtol=2e-4, atol=1e-4)


@pytest.mark.parametrize("heads", [4, 6, 12, 16, 48, 128])
@pytest.mark.parametrize("cache", ["auto", "fp8"])
def test_decode(heads: int, cache: str) -> None:
    """Lists shorter than top-k, as long, and of a part of the keys; by work lists, which are made once for equal
    lengths."""
    made = Sparse(heads, [1, 1, 1], [37, TOPK, 200], cache)
    plans = []
    for seed in (1, 2):
        found = made.run(seed=seed)
        assert found.work_meta_data is not None
        plans.append(found.work_info_set.clone())
    assert torch.equal(*plans)


@pytest.mark.parametrize("block", [1, 64])
def test_decode_of_other_blocks(block: int) -> None:
    Sparse(16, [1, 1], [70, 200], block=block).run()


def test_decode_of_fp16() -> None:
    """The plan is made for (fp16, bf16)."""
    Sparse(16, [1, 1], [70, 200], dtype=torch.float16).run()


@pytest.mark.parametrize("heads", [12, 16])
@pytest.mark.parametrize("cache", ["auto", "fp8"])
def test_a_step_of_everything(heads: int, cache: str) -> None:
    """Verify rows of two requests, the end of a prefill, and dummy requests without keys that fill a graph; a step of
    fewer rows follows in the same buffers."""
    made = Sparse(heads, [2, 2, 30], [150, 9, 31], cache, drafts=1)
    made.run(dummies=2)
    made.q_lens = [1, 2, 3]
    made.run(seed=3)


@pytest.mark.parametrize("heads", [4, 16])
def test_a_long_prefill(heads: int) -> None:
    """Without work lists; gfx942 has kernels of vLLM's own for it."""
    if not IS_GFX950:
        pytest.skip("vLLM has its own kernels for it on gfx942")
    found = Sparse(heads, [40, 3], [150, 140], with_prefill=True).run()
    assert found.num_prefills == 2 and found.work_meta_data is None


@pytest.mark.parametrize("heads", [4, 6, 12, 16, 48, 128])
@pytest.mark.parametrize("cache", ["auto", "fp8"])
def test_sinks(heads: int, cache: str) -> None:
    """By the LSE of a call without work lists, fp8 with a count of splits; 48 heads go as 64 or 128. A row without keys
    is the sink alone."""
    if heads == 48 and cache == "auto" and not IS_GFX950:
        pytest.skip("vLLM has its own kernels for them on gfx942")
    sinks = torch.randn(heads, generator=generator(heads))
    made = Sparse(heads, [1, 2, 1], [37, 9, 200], cache, drafts=1, sinks=sinks)
    found = made.run(dummies=1)
    assert found.work_meta_data is None


@pytest.mark.parametrize("heads", [4, 6, 12, 16, 48, 128])
@pytest.mark.parametrize("cache", ["auto", "fp8"])
@pytest.mark.parametrize("has_sinks", [False, True])
def test_by_sparse_mla_fwd(heads: int, cache: str, has_sinks: bool) -> None:
    """VLLM_ROCM_USE_AITER_TRITON_SPARSE_MLA: heads as they are, a scale for fp8 queries, sinks in the op."""
    sinks = torch.randn(heads, generator=generator(heads)) if has_sinks else None
    made = Sparse(heads, [1, 2, 1], [37, 9, 200], cache, drafts=1, sinks=sinks, by_sparse_mla_fwd=True)
    made.run(dummies=1)


class Indexer:
    """The indexer of a model: its builder, and a cache in blocks. Keys are written by vLLM's own kernel."""

    def __init__(
        self, q_lens: list[int], kv_lens: list[int], *, topk: int, block: int = 64, heads: int = 64, drafts: int = 0,
        most_tokens: int = 512, scale_fmt: str = "ue8m0",
    ) -> None:  # fmt: skip
        self.q_lens, self.topk, self.heads, self.most_tokens, self.format = q_lens, topk, heads, most_tokens, scale_fmt
        self.fp8 = current_platform.fp8_dtype()
        self.blocks = Blocks(kv_lens, block, 132, most_tokens)
        facts = config(16, Facts(), drafts=drafts, block=block, topk=topk, most_tokens=most_tokens)
        spec = MLAAttentionSpec(block, num_kv_heads=1, head_size=132, dtype=torch.uint8)
        width = self.blocks.table.shape[1]
        self.builder = indexer.DeepseekV32IndexerMetadataBuilder(spec, [LAYER], facts, CPU, block_table_width=width)
        self.cache = torch.full((self.blocks.count, block, 132), 0x5A, dtype=torch.uint8)
        self.keys = [values(length, 128, seed=length) for length in kv_lens]
        for keys in self.keys:  # Triton's interpreter writes a small negative number as fnuz's NaN
            keys[keys.abs() < 2**-6] = 2**-6

    def written(self, request: int, first: int, last: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The keys of a request's positions, and their slots."""
        slots = torch.tensor(self.blocks.lists[request][first:last], dtype=torch.int64)
        return self.keys[request][first:last], slots

    def run(self) -> torch.Tensor:
        """The op of a step, as the model calls it: earlier tokens are in the cache, those of the step are written. The
        buffer of positions; every logit is checked, and every choice."""
        news = []
        for request, (rows, length) in enumerate(zip(self.q_lens, self.blocks.kv_lens, strict=True)):
            keys, slots = self.written(request, 0, length - rows)
            ops.indexer_k_quant_and_cache_triton(keys, self.cache, slots, 128, self.format)
            news.append(self.written(request, length - rows, length))
        told = step(self.blocks, self.q_lens)
        told.slot_mapping = torch.cat([slots for _, slots in news])
        found = self.builder.build(0, told)
        rows = sum(self.q_lens)
        q = values(rows, self.heads, 128, seed=7).to(self.fp8)
        weights = torch.randn(rows, self.heads, generator=generator(8))
        buffer = torch.full((2 * self.most_tokens, self.topk + 16), 77, dtype=torch.int32)
        logits: list[torch.Tensor] = []

        def kept(real: Any, *args: Any, **options: Any) -> torch.Tensor:
            logits.append(real(*args, **options))
            return logits[-1]

        context = Facts(attn_metadata={LAYER: found}, cudagraph_runtime_mode=CUDAGraphMode.NONE)
        with pytest.MonkeyPatch.context() as patch:
            for name in ("rocm_fp8_paged_mqa_logits", "rocm_fp8_mqa_logits"):
                patch.setattr(ops, name, partial(kept, getattr(ops, name)))
            patch.setattr(ops, "get_forward_context", lambda: context)
            patch.setattr(torch.ops._C, "top_k_per_row_decode", _top_k_per_row_decode, raising=False)
            patch.setattr(torch.ops._C, "top_k_per_row_prefill", _top_k_per_row_prefill, raising=False)
            ops.rocm_aiter_sparse_attn_indexer(
                torch.empty(rows, 8), LAYER, self.cache, q, torch.cat([keys for keys, _ in news]), weights, 128,
                self.format, self.topk, 128, self.most_tokens, sum(self.blocks.kv_lens), buffer,
            )  # fmt: skip
        self._check(q, weights, logits[0], buffer, is_paged=found.num_prefills == 0)
        return buffer

    def _stored(self, request: int) -> torch.Tensor:
        """Keys of a request as the cache has them, fp64. They are the written ones, within the steps of fp8; Triton's
        interpreter halves those that it rounds up to a power of two."""
        slots = torch.tensor(self.blocks.lists[request])
        block = self.blocks.block
        flat = self.cache.view(self.blocks.count, -1)
        page, row, d = slots[:, None] // block, slots[:, None] % block, torch.arange(128)
        tiled = row // 16 * 2048 + d // 16 * 256 + row % 16 * 16 + d % 16 if block > 1 else row * 128 + d
        codes = flat[page, tiled].contiguous().view(self.fp8).double()
        scales = flat[:, block * 128 :].contiguous().view(torch.float32)[slots // block, slots % block].double()
        stored = codes * scales[:, None]
        written = self.keys[request].double()
        within = (stored - written).abs() <= 0.55 * written.abs() + written.abs().amax(1, keepdim=True) / 200
        assert bool(within.all()), "the cache does not hold the keys"
        return stored

    def _check(
        self, q: torch.Tensor, weights: torch.Tensor, logits: torch.Tensor, buffer: torch.Tensor, *, is_paged: bool
    ) -> None:
        row, base = 0, 0
        for request, (rows, length) in enumerate(zip(self.q_lens, self.blocks.kv_lens, strict=True)):
            keys = self._stored(request)
            for i in range(rows):
                visible = length - rows + i + 1
                scores = (q[row].double() @ keys[:visible].T).relu()
                want = weights[row].double() @ scores
                bound = 1e-3 + 2e-5 * (weights[row].double().abs() @ scores)
                first = 0 if is_paged else base
                got = logits[row, first : first + visible].double()
                assert bool(((got - want).abs() <= bound).all()), f"logits of row {row}"
                chosen = buffer[row, : self.topk]
                count = min(visible, self.topk)
                assert (chosen[count:] == -1).all() and len(set(chosen[:count].tolist())) == count
                assert (chosen[:count] >= 0).all() and (chosen[:count] < visible).all()
                worst = want[chosen[:count].long()].min()
                others = torch.ones(visible, dtype=torch.bool)
                others[chosen[:count].long()] = False
                assert count == visible or (want[others] <= worst + 2 * bound.max()).all()
                row += 1
            base += length
        assert (buffer[:row, self.topk :] == -1).all() and (buffer[row:] == 77).all()


def _top_k(logits: torch.Tensor, first: int, last: int, k: int) -> torch.Tensor:
    """Positions in a window, from its beginning; -1 behind them."""
    out = torch.full((k,), -1, dtype=torch.int32)
    chosen = logits[first:last].topk(min(k, last - first)).indices
    out[: len(chosen)] = chosen.to(torch.int32)
    return out


def _top_k_per_row_decode(
    logits: torch.Tensor, next_n: int, lens: torch.Tensor, indices: torch.Tensor, rows: int, s0: int, s1: int, k: int
) -> None:
    """vLLM's own kernel, which is not compiled here: where it does not take AITER's."""
    for row in range(rows):
        per_row = lens.numel() == rows
        last = int(lens.reshape(-1)[row]) if per_row else int(lens[row // next_n]) - next_n + row % next_n + 1
        indices[row, :k] = _top_k(logits[row], 0, last, k)


def _top_k_per_row_prefill(
    logits: torch.Tensor, starts: torch.Tensor, ends: torch.Tensor, indices: torch.Tensor, rows: int, s0: int, s1: int,
    k: int,
) -> None:  # fmt: skip
    """Likewise."""
    for row in range(rows):
        indices[row, :k] = _top_k(logits[row], int(starts[row]), int(ends[row]), k)


@pytest.mark.parametrize("block", [1, 64])
@pytest.mark.parametrize("heads", [32, 64])
def test_indexer_decode(heads: int, block: int) -> None:
    Indexer([1, 1, 1], [150, 7, 64], topk=64, heads=heads, block=block).run()


@pytest.mark.parametrize("drafts", [1, 3])
def test_indexer_verify(drafts: int) -> None:
    """Two rows of a request at once; four are flattened to one each."""
    Indexer([1 + drafts] * 2, [150, 5], topk=64, drafts=drafts).run()


@pytest.mark.parametrize("scale_fmt", ["ue8m0", "fp32"])
def test_indexer_prefill(scale_fmt: str) -> None:
    """Requests with earlier tokens and without, gathered behind each other."""
    Indexer([20, 40], [90, 40], topk=64, scale_fmt=scale_fmt).run()


def test_top_k_of_aiter(monkeypatch: pytest.MonkeyPatch) -> None:
    """On gfx950, for k = 2048: more keys than that, and fewer."""
    called = []
    from vllm._aiter_ops import rocm_aiter_ops

    real = rocm_aiter_ops.indexer_top_k_decode
    monkeypatch.setattr(rocm_aiter_ops, "indexer_top_k_decode", lambda *a: called.append(1) or real(*a))
    Indexer([1, 1], [2100, 40], topk=2048, most_tokens=2304).run()
    assert bool(called) is IS_GFX950


@pytest.mark.parametrize(("heads", "cache"), [(16, "auto"), (12, "fp8"), (128, "fp8")])
def test_from_keys_to_attention(heads: int, cache: str) -> None:
    """The indexer's positions are what attention reads: for decode, and for prefill."""
    for q_lens in ([1, 1], [7, 12]):
        kv_lens = [300, 40]
        buffer = Indexer(q_lens, kv_lens, topk=TOPK).run()
        made = Sparse(heads, q_lens, kv_lens, cache, block=64)
        made.buffer[:] = buffer[: len(made.buffer), :TOPK]
        owners = [request for request, rows in enumerate(q_lens) for _ in range(rows)]
        seen = [
            [made.blocks.lists[owner][position] for position in row.tolist() if position >= 0]
            for owner, row in zip(owners, buffer, strict=False)
        ]
        made.run(seen=seen)
