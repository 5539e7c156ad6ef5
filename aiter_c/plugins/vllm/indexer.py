"""vLLM's indexer of sparse attention (DSA) on our ops: keys are quantised and cached by indexer_k_quant_and_cache,
scored over pages by deepgemm_fp8_paged_mqa_logits, selected by top_k_per_row_decode. Every token is a row of its own,
in prompts as in decode, so there is one path for all devices. `install()` puts it in place of vLLM's: on the CPU,
which has none, that is done by the plugin itself; elsewhere with AITER_C_VLLM=all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import vllm.envs as envs
from vllm.forward_context import get_forward_context
from vllm.model_executor.custom_op import CustomOp
from vllm.model_executor.layers.sparse_attn_indexer import SparseAttnIndexer
from vllm.model_executor.models import deepseek_v2
from vllm.platforms import current_platform
from vllm.v1.attention.backend import CommonAttentionMetadata
from vllm.v1.attention.backends.mla.indexer import DeepseekV32IndexerBackend

import aiter_c
from aiter_c.plugins.vllm.common import AnyBlockSize, RowsOfRequests


@dataclass
class IndexerMetadata:
    """Per token: how many keys it sees, and of which request it is."""

    lens: torch.Tensor  # int32 [tokens]
    req_ids: torch.Tensor  # int32 [tokens], -1 of padding
    block_table: torch.Tensor  # int32 [requests, blocks]
    slot_mapping: torch.Tensor
    max_seq_len: int


class IndexerMetadataBuilder(RowsOfRequests[IndexerMetadata]):
    """Fills one more buffer: how many keys each token sees."""

    def __init__(self, kv_cache_spec: Any, layer_names: list[str], vllm_config: Any, device: torch.device) -> None:
        super().__init__(kv_cache_spec, layer_names, vllm_config, device)
        self._lens = torch.zeros(self.most_tokens, dtype=torch.int32, device=device)
        self._places = torch.arange(self.most_tokens, dtype=torch.int32, device=device)

    def build(
        self, common_prefix_len: int, common_attn_metadata: CommonAttentionMetadata, fast_build: bool = False
    ) -> IndexerMetadata:
        step = common_attn_metadata
        req_ids, lens = self.req_ids(step), self._lens[: step.num_actual_tokens]
        of = req_ids.clamp(min=0).long()
        behind = step.query_start_loc[of + 1] - 1 - self._places[: step.num_actual_tokens]  # rows of the request
        lens.copy_(torch.where(req_ids < 0, 0, step.seq_lens[of] - behind))
        return IndexerMetadata(lens, req_ids, step.block_table_tensor, step.slot_mapping, step.max_seq_len)


class IndexerBackend(AnyBlockSize, DeepseekV32IndexerBackend):
    """The indexer's cache, blocks of any size, keys in order."""

    @staticmethod
    def get_builder_cls() -> Any:
        return IndexerMetadataBuilder


class Indexer(SparseAttnIndexer):
    """Writes the keys of the step and selects: rows [0, tokens) of the buffer become positions, then -1."""

    def forward_native(
        self, hidden_states: torch.Tensor, q_quant: Any, k: torch.Tensor | None, weights: torch.Tensor
    ) -> torch.Tensor:
        if not isinstance(q_quant, torch.Tensor) or self.candidate_blocks is not None or self.dcp_world_size > 1:
            raise NotImplementedError(
                "aiter_c.plugins.vllm.indexer: q, candidate_blocks, ranks: expected fp8 queries, None and 1, got "
                f"{type(q_quant).__name__}, {type(self.candidate_blocks).__name__} and {self.dcp_world_size}"
            )
        metadata = get_forward_context().attn_metadata
        if isinstance(metadata, dict):  # not in the run that measures memory
            step = metadata[self.k_cache.prefix]
            if k is not None and not self.skip_k_cache_insert:
                self._write(k, step)
            self._select(q_quant, weights, step)
        return self.topk_indices_buffer

    forward_cuda = forward_hip = forward_cpu = forward_xpu = forward_native

    def _write(self, k: torch.Tensor, step: IndexerMetadata) -> None:
        slots = step.slot_mapping
        aiter_c.indexer_k_quant_and_cache(
            k[: slots.shape[0]], self.k_cache.kv_cache, slots.long(), self.quant_block_size, self.scale_fmt,
            kv_dtype=current_platform.fp8_dtype(),
        )  # fmt: skip

    def _select(self, q: torch.Tensor, weights: torch.Tensor, step: IndexerMetadata) -> None:
        tokens, width = step.lens.shape[0], max(step.max_seq_len, 1)
        cache = self.k_cache.kv_cache
        at_once = max(1, envs.VLLM_SPARSE_INDEXER_MAX_LOGITS_MB * 2**18 // width)  # rows of float32
        for first in range(0, tokens, at_once):
            rows = slice(first, min(first + at_once, tokens))
            lens = step.lens[rows]
            table = step.block_table[step.req_ids[rows].clamp(min=0).long()]
            logits = torch.empty((lens.shape[0], width), dtype=torch.float32, device=q.device)
            aiter_c.deepgemm_fp8_paged_mqa_logits(
                q[rows].unsqueeze(1), cache.unsqueeze(2), weights[rows].float(), logits, lens, table, width,
                KVBlockSize=cache.shape[1], clean_logits=False, kv_dtype=q.dtype,
            )  # fmt: skip
            aiter_c.top_k_per_row_decode(
                logits, 1, lens, self.topk_indices_buffer[rows], lens.shape[0], *logits.stride(), k=self.topk_tokens
            )


def per_token_group_quant_fp8(
    x: torch.Tensor, group_size: int, column_major_scales: bool = False, use_ue8m0: bool | None = None, **_: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """vLLM's function of that name for the CPU, where it has none: x [rows, group_size] as fp8, and a float32 scale per
    row, max(amax, 1e-10) / limit, with use_ue8m0 rounded up to a power of two."""
    dtype = current_platform.fp8_dtype()
    limit = torch.finfo(dtype).max
    groups = x.float().unflatten(-1, (-1, group_size))
    scale = groups.abs().amax(-1, keepdim=True).clamp(min=1e-10) / limit
    if use_ue8m0:
        scale = torch.exp2(torch.ceil(torch.log2(scale)))
    codes = (groups / scale).clamp(-limit, limit).to(dtype)
    return codes.flatten(-2), scale.squeeze(-1)


def install() -> None:
    """Put `Indexer` and its cache in the place of vLLM's, in this process, for models that are made from now on."""
    from vllm.model_executor.custom_op import op_registry_oot

    if "SparseAttnIndexer" not in op_registry_oot:
        CustomOp.register_oot(Indexer, name="SparseAttnIndexer")
    deepseek_v2.DeepseekV32IndexerCache.get_attn_backend = lambda self: IndexerBackend  # type: ignore[method-assign]
    if current_platform.is_cpu():
        deepseek_v2.per_token_group_quant_fp8 = per_token_group_quant_fp8
