"""vLLM's backend of MLA: decode and verification by mla_decode_fwd over vLLM's own block table, cache writes by
concat_and_cache_mla. Prefill is the engine's common code with whichever prefill backend was chosen. One class for ROCm,
CUDA and the CPU: no tensor is made but the output, and no metadata beside vLLM's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from vllm.distributed.parallel_state import get_dcp_group
from vllm.model_executor.layers.attention.mla_attention import (
    MLACommonBackend,
    MLACommonDecodeMetadata,
    MLACommonImpl,
    MLACommonMetadata,
    MLACommonMetadataBuilder,
    QueryLenSupport,
)
from vllm.v1.attention.backend import AttentionCGSupport, max_decode_query_len

from aiter_c.plugins.attend import Shard, decode, joined
from aiter_c.plugins.vllm.common import Latents, WritesLatents


class MLABackend(Latents, MLACommonBackend):
    """Dense MLA."""

    @staticmethod
    def get_name() -> str:
        return "AITER_C_MLA"

    @classmethod
    def supports_non_causal(cls) -> bool:
        return True

    @staticmethod
    def get_impl_cls() -> type[MLAImpl]:
        return MLAImpl

    @staticmethod
    def get_builder_cls() -> type[MLAMetadataBuilder]:
        return MLAMetadataBuilder


@dataclass
class MLADecodeMetadata(MLACommonDecodeMetadata):
    """Beside the table and the lengths: where the query rows of each request are, and how many at most; of several rows
    where ranks share the keys, whose the cache holds."""

    query_start_loc: torch.Tensor
    max_query_len: int
    shard: Shard | None


class MLAMetadataBuilder(MLACommonMetadataBuilder[MLACommonMetadata[MLADecodeMetadata]]):
    """Nothing is planned: the kernels read vLLM's own tensors, which a graph finds refilled at the same addresses. With
    context parallelism the lengths of all ranks, added up, are one more such tensor."""

    _cudagraph_support: ClassVar[AttentionCGSupport] = AttentionCGSupport.UNIFORM_BATCH
    query_len_support: ClassVar[QueryLenSupport] = QueryLenSupport.VARLEN
    supports_non_causal_multi_token_decode: ClassVar[bool] = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, supports_dcp_with_varlen=True, **kwargs)
        self.supports_draft_decode_metadata_update = self.dcp_world_size == 1
        most = self.vllm_config.scheduler_config.max_num_seqs
        self._totals = torch.zeros(most + 1, dtype=torch.int32, device=self.device)

    @classmethod
    def get_varlen_cudagraph_max_query_len(cls, vllm_config: Any, kv_cache_spec: Any) -> int | None:
        """Any batch of that many query rows or fewer per request: their places are read on the device."""
        return max_decode_query_len(vllm_config)

    def update_draft_decode_metadata(self, metadata: Any) -> None:
        """Nothing to do: there is nothing beside the runner's tensors."""

    def _build_decode(
        self, block_table_tensor: torch.Tensor, seq_lens_device: torch.Tensor, max_seq_len: int,
        query_start_loc_cpu: torch.Tensor, query_start_loc_device: torch.Tensor, num_decode_tokens: int,
        max_query_len: int, dcp_tot_seq_lens_device: torch.Tensor | None,
    ) -> MLADecodeMetadata:  # fmt: skip
        shard = None
        if dcp_tot_seq_lens_device is not None and max_query_len > 1:
            totals = self._totals[: len(dcp_tot_seq_lens_device) + 1]
            torch.cumsum(dcp_tot_seq_lens_device, 0, dtype=torch.int32, out=totals[1:])
            shard = Shard(totals, self.dcp_world_size, get_dcp_group().rank_in_group, self.dcp_local_block_size)
        return MLADecodeMetadata(
            block_table=block_table_tensor, seq_lens=seq_lens_device, dcp_tot_seq_lens=dcp_tot_seq_lens_device,
            query_start_loc=query_start_loc_device, max_query_len=max_query_len, shard=shard,
        )  # fmt: skip


class MLAImpl(WritesLatents, MLACommonImpl[MLACommonMetadata[MLADecodeMetadata]]):
    """Decode over the latent cache, q as the model has it: an fp8 cache does not make q fp8."""

    supports_dcp: bool = True

    def __init__(
        self, num_heads: int, head_size: int, scale: float, num_kv_heads: int, alibi_slopes: list[float] | None,
        sliding_window: int | None, kv_cache_dtype: str, logits_soft_cap: float | None, attn_type: str,
        kv_sharing_target_layer_name: str | None, **mla_args: Any,
    ) -> None:  # fmt: skip
        self.refuse_unserved(
            "AITER_C_MLA", alibi_slopes, sliding_window, logits_soft_cap, attn_type, kv_sharing_target_layer_name
        )
        super().__init__(
            num_heads, head_size, scale, num_kv_heads, alibi_slopes, sliding_window, kv_cache_dtype, logits_soft_cap,
            attn_type, kv_sharing_target_layer_name, **mla_args,
        )  # fmt: skip
        self.supports_quant_query_input = False

    def forward_mqa(
        self, q: torch.Tensor | tuple[torch.Tensor, torch.Tensor], kv_c_and_k_pe_cache: torch.Tensor,
        attn_metadata: MLACommonMetadata[MLADecodeMetadata], layer: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:  # fmt: skip
        """o [T, H, 512] of the decode rows, and their LSE, float32 [T, H], natural logarithm, where ranks merge."""
        step = attn_metadata.decode
        assert step is not None
        q = joined(q)
        return decode(
            q, kv_c_and_k_pe_cache, q.dtype, step.query_start_loc, step.block_table, step.seq_lens, step.max_query_len,
            attn_metadata.max_seq_len, scale=self.scale, q_scale=layer._q_scale, kv_scale=layer._k_scale,
            causal=attn_metadata.causal, lse=self.need_to_return_lse_for_decode, shard=step.shard,
        )  # fmt: skip
