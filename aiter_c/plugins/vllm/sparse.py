"""vLLM's backend of sparse MLA (DSA): every token attends over the keys that its indexer selected, in decode,
verification and prompts alike, by mla_decode_fwd over slots. One class for ROCm, CUDA and the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from vllm.model_executor.layers.attention.sparse_mla_attention import SharedTopkIndicesBuffer
from vllm.v1.attention.backend import (
    AttentionBackend,
    AttentionCGSupport,
    AttentionMetadata,
    AttentionMetadataBuilder,
    CommonAttentionMetadata,
    MLAAttentionImpl,
    MultipleOf,
)

import aiter_c
from aiter_c.plugins.attend import decode, joined
from aiter_c.plugins.vllm.mla import CACHE_DTYPES, DTYPES, WritesCache, refuse_unserved, runs_on


class SparseMLABackend(AttentionBackend):
    """Sparse MLA, kv_lora 512 with rope 64 or none, any number of heads, any block size; records too."""

    supported_dtypes: ClassVar[list[torch.dtype]] = DTYPES
    supported_kv_cache_dtypes: ClassVar[list[Any]] = [*CACHE_DTYPES, "fp8_ds_mla"]

    @staticmethod
    def get_name() -> str:
        return "AITER_C_MLA_SPARSE"

    @classmethod
    def get_supported_head_sizes(cls) -> list[int]:
        return [512, 576]

    @staticmethod
    def get_supported_kernel_block_sizes(kv_cache_spec: Any = None) -> list[int | MultipleOf]:
        return [MultipleOf(1)]

    @classmethod
    def supports_compute_capability(cls, capability: Any) -> bool:
        return runs_on(capability)

    @classmethod
    def is_mla(cls) -> bool:
        return True

    @classmethod
    def is_sparse(cls) -> bool:
        return True

    @staticmethod
    def get_impl_cls() -> type[SparseMLAImpl]:
        return SparseMLAImpl

    @staticmethod
    def get_builder_cls() -> type[SparseMLAMetadataBuilder]:
        return SparseMLAMetadataBuilder


@dataclass
class SparseMLAMetadata(AttentionMetadata):
    """A step. Every token is a decode token to vLLM's common code, which then has no prefill of its own to do."""

    num_reqs: int
    max_query_len: int
    max_seq_len: int
    num_actual_tokens: int
    query_start_loc: torch.Tensor
    slot_mapping: torch.Tensor
    seq_lens: torch.Tensor
    block_table: torch.Tensor  # int32 [requests, blocks]
    req_id_per_token: torch.Tensor  # int32 [tokens]
    block_size: int
    num_decodes: int
    num_decode_tokens: int
    num_prefills: int = 0
    prefill: None = None
    decode: None = None


class SparseMLAMetadataBuilder(AttentionMetadataBuilder[SparseMLAMetadata]):
    """Which request a token is of: all that vLLM's tensors do not say already. Any batch can be replayed by a graph."""

    _cudagraph_support: ClassVar[AttentionCGSupport] = AttentionCGSupport.UNIFORM_BATCH

    def __init__(self, kv_cache_spec: Any, layer_names: list[str], vllm_config: Any, device: torch.device) -> None:
        super().__init__(kv_cache_spec, layer_names, vllm_config, device)
        self._init_reorder_batch_threshold(1, supports_spec_as_decode=True)
        tokens = vllm_config.scheduler_config.max_num_batched_tokens
        self._req_ids = torch.zeros(tokens, dtype=torch.int32, device=device)

    def build(
        self, common_prefix_len: int, common_attn_metadata: CommonAttentionMetadata, fast_build: bool = False
    ) -> SparseMLAMetadata:
        step = common_attn_metadata
        return SparseMLAMetadata(
            num_reqs=step.num_reqs, max_query_len=step.max_query_len, max_seq_len=step.max_seq_len,
            num_actual_tokens=step.num_actual_tokens, query_start_loc=step.query_start_loc,
            slot_mapping=step.slot_mapping, seq_lens=step.seq_lens, block_table=step.block_table_tensor,
            req_id_per_token=fill_req_ids(step, self._req_ids), block_size=self.kv_cache_spec.block_size,
            num_decodes=step.num_reqs, num_decode_tokens=step.num_actual_tokens,
        )  # fmt: skip


def fill_req_ids(step: CommonAttentionMetadata, buffer: torch.Tensor) -> torch.Tensor:
    """The request of every token of the step, at the buffer's address; of padding -1, whose keys are masked."""
    starts = np.asarray(step.query_start_loc_cpu, dtype=np.int64)
    owned = np.repeat(np.arange(len(starts) - 1, dtype=np.int32), np.diff(starts))
    ids = np.full(step.num_actual_tokens, -1, np.int32)
    ids[: len(owned)] = owned[: len(ids)]
    out = buffer[: step.num_actual_tokens]
    out.copy_(torch.from_numpy(ids))
    return out


class SparseMLAImpl(WritesCache, MLAAttentionImpl[SparseMLAMetadata], SharedTopkIndicesBuffer):
    """Attention over the slots of the positions in the indexer's buffer, -1 where a token sees fewer keys."""

    is_sparse = True
    supports_dense_mha_prefill = False
    can_return_lse_for_decode: bool = True
    lse_base_on_e: bool = True

    def __init__(
        self, num_heads: int, head_size: int, scale: float, num_kv_heads: int, alibi_slopes: list[float] | None,
        sliding_window: int | None, kv_cache_dtype: str, logits_soft_cap: float | None, attn_type: str,
        kv_sharing_target_layer_name: str | None, topk_indices_buffer: torch.Tensor | None = None,
        indexer: Any = None, **mla_args: Any,
    ) -> None:  # fmt: skip
        refuse_unserved(
            "AITER_C_MLA_SPARSE", attn_type, kv_sharing_target_layer_name, alibi_slopes, sliding_window, logits_soft_cap
        )
        self.num_heads, self.head_size, self.num_kv_heads = num_heads, head_size, num_kv_heads
        self.scale, self.kv_cache_dtype = float(scale), kv_cache_dtype
        self.kv_lora_rank = mla_args["kv_lora_rank"]
        self.init_topk_indices_buffer(indexer, topk_indices_buffer)

    def record_logical_topk_ready(self) -> None:
        """Nothing waits for the indices: they are read on the same stream."""

    def forward_mqa(
        self, q: torch.Tensor | tuple[torch.Tensor, torch.Tensor], kv_c_and_k_pe_cache: torch.Tensor,
        attn_metadata: SparseMLAMetadata, layer: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:  # fmt: skip
        """o [T, H, 512] and the LSE, float32 [T, H] in the natural logarithm, where ranks merge."""
        q = joined(q)
        tokens = q.shape[0]
        chosen = self.topk_indices_buffer
        assert chosen is not None
        width = chosen.shape[1]
        slots = aiter_c.convert_req_index_to_global_index(
            attn_metadata.req_id_per_token[:tokens], attn_metadata.block_table, chosen[:tokens],
            BLOCK_SIZE=kv_c_and_k_pe_cache.shape[1], NUM_TOPK_TOKENS=width,
        )  # fmt: skip
        records = self.kv_cache_dtype == "fp8_ds_mla"
        return decode(
            q, kv_c_and_k_pe_cache, q.dtype, None, slots, None, 1, min(width, attn_metadata.max_seq_len),
            scale=self.scale, q_scale=layer._q_scale, kv_scale=layer._k_scale, slots=True,
            kv_format="fp8_ds_mla" if records else "plain", lse=self.need_to_return_lse_for_decode,
        )  # fmt: skip
