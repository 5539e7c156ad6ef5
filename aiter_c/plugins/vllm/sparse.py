"""vLLM's backend of sparse MLA (DSA): every token attends over the keys that its indexer selected, in decode,
verification and prompts alike, by mla_decode_fwd over slots. One class for ROCm, CUDA and the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from vllm.model_executor.layers.attention.sparse_mla_attention import SharedTopkIndicesBuffer
from vllm.v1.attention.backend import (
    AttentionBackend,
    AttentionMetadata,
    CommonAttentionMetadata,
    MLAAttentionImpl,
)

import aiter_c
from aiter_c.plugins.attend import decode, joined
from aiter_c.plugins.vllm.common import CACHE_DTYPES, Latents, RowsOfRequests, WritesLatents


class SparseMLABackend(Latents, AttentionBackend):
    """Sparse MLA; over records too."""

    supported_kv_cache_dtypes: ClassVar[list[Any]] = [*CACHE_DTYPES, "fp8_ds_mla"]

    @staticmethod
    def get_name() -> str:
        return "AITER_C_MLA_SPARSE"

    @classmethod
    def is_mla(cls) -> bool:
        return True

    @classmethod
    def is_sparse(cls) -> bool:
        return True

    @classmethod
    def supports_sink(cls) -> bool:
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


class SparseMLAMetadataBuilder(RowsOfRequests[SparseMLAMetadata]):
    """Any batch can be replayed by a graph."""

    def build(
        self, common_prefix_len: int, common_attn_metadata: CommonAttentionMetadata, fast_build: bool = False
    ) -> SparseMLAMetadata:
        step = common_attn_metadata
        return SparseMLAMetadata(
            num_reqs=step.num_reqs, max_query_len=step.max_query_len, max_seq_len=step.max_seq_len,
            num_actual_tokens=step.num_actual_tokens, query_start_loc=step.query_start_loc,
            slot_mapping=step.slot_mapping, seq_lens=step.seq_lens, block_table=step.block_table_tensor,
            req_id_per_token=self.req_ids(step), block_size=self.kv_cache_spec.block_size,
            num_decodes=step.num_reqs, num_decode_tokens=step.num_actual_tokens,
        )  # fmt: skip


class SparseMLAImpl(WritesLatents, MLAAttentionImpl[SparseMLAMetadata], SharedTopkIndicesBuffer):
    """Attention over the slots of the positions in the indexer's buffer, -1 where a token sees fewer keys."""

    is_sparse = True
    supports_dense_mha_prefill = False

    def __init__(
        self, num_heads: int, head_size: int, scale: float, num_kv_heads: int, alibi_slopes: list[float] | None,
        sliding_window: int | None, kv_cache_dtype: str, logits_soft_cap: float | None, attn_type: str,
        kv_sharing_target_layer_name: str | None, topk_indices_buffer: torch.Tensor | None = None,
        indexer: Any = None, **mla_args: Any,
    ) -> None:  # fmt: skip
        self.refuse_unserved(
            "AITER_C_MLA_SPARSE", alibi_slopes, sliding_window, logits_soft_cap, attn_type, kv_sharing_target_layer_name
        )
        self.num_heads, self.head_size, self.num_kv_heads = num_heads, head_size, num_kv_heads
        self.scale, self.kv_cache_dtype = float(scale), kv_cache_dtype
        self.kv_lora_rank, self.sinks = mla_args["kv_lora_rank"], mla_args.get("sinks")
        self.init_topk_indices_buffer(indexer, topk_indices_buffer)

    def record_logical_topk_ready(self) -> None:
        """Nothing waits for the indices: they are read on the same stream."""

    def forward_mqa(
        self, q: torch.Tensor | tuple[torch.Tensor, torch.Tensor], kv_c_and_k_pe_cache: torch.Tensor,
        attn_metadata: SparseMLAMetadata, layer: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:  # fmt: skip
        """o [T, H, 512] and the LSE, float32 [T, H] in the natural logarithm, where ranks merge."""
        if self.sinks is not None and self.need_to_return_lse_for_decode:
            raise NotImplementedError("AITER_C_MLA_SPARSE: sinks: expected None where ranks merge, got a tensor")
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
            kv_format="fp8_ds_mla" if records else "plain", lse=self.need_to_return_lse_for_decode, sink=self.sinks,
        )  # fmt: skip
