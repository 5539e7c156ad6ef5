"""vLLM's backend of MLA: decode and verification by mla_decode_fwd over vLLM's own block table, cache writes by
concat_and_cache_mla. Prefill is the engine's common code with whichever prefill backend was chosen. One class for ROCm,
CUDA and the CPU: no tensor is made but the output, and no metadata beside vLLM's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from vllm.model_executor.layers.attention.mla_attention import (
    MLACommonBackend,
    MLACommonDecodeMetadata,
    MLACommonImpl,
    MLACommonMetadata,
    MLACommonMetadataBuilder,
    QueryLenSupport,
)
from vllm.v1.attention.backend import AttentionCGSupport, AttentionType, MultipleOf, max_decode_query_len

import aiter_c
from aiter_c.plugins.attend import decode, joined

CACHE_DTYPES = ["auto", "float16", "bfloat16", "fp8", "fp8_e4m3"]
DTYPES = [torch.bfloat16, torch.float16]


def runs_on(capability: Any) -> bool:
    """Whether the ops have kernels for the device: gfx942 and gfx950 on ROCm, sm_90 on CUDA, any CPU."""
    from vllm.platforms import current_platform

    if current_platform.is_rocm():
        return (capability.major, capability.minor) in ((9, 4), (9, 5))
    return not current_platform.is_cuda() or (capability.major, capability.minor) == (9, 0)


class WritesCache:
    """do_kv_cache_update of both impls."""

    def do_kv_cache_update(
        self, kv_c_normed: torch.Tensor, k_pe: torch.Tensor, kv_cache: torch.Tensor, slot_mapping: torch.Tensor,
        kv_cache_dtype: str, k_scale: torch.Tensor,
    ) -> None:  # fmt: skip
        """Writes the new tokens' latents and rope parts into their slots; one below 0 is padding and is skipped."""
        if kv_cache.numel() == 0:
            return
        kind = kv_cache_dtype if kv_cache_dtype.startswith("fp8") else "auto"
        kv_dtype = None
        if kind in ("fp8", "fp8_e4m3"):
            from vllm.platforms import current_platform

            kv_dtype = current_platform.fp8_dtype()
        aiter_c.concat_and_cache_mla(
            kv_c_normed, k_pe, kv_cache, slot_mapping.flatten().long(), kind, k_scale, kv_dtype=kv_dtype
        )


def refuse_unserved(
    name: str, attn_type: str, sharing: str | None, alibi_slopes: object, sliding_window: object, soft_cap: object
) -> None:
    """What neither backend has."""
    given = {
        "alibi_slopes": alibi_slopes, "sliding_window": sliding_window, "logits_soft_cap": soft_cap,
        "kv_sharing_target_layer_name": sharing,
    }  # fmt: skip
    for argument, value in given.items():
        if value:
            raise NotImplementedError(f"{name}: {argument}: expected None, got {value!r}")
    if attn_type != AttentionType.DECODER:
        raise NotImplementedError(f"{name}: attn_type: expected {AttentionType.DECODER!r}, got {attn_type!r}")


class MLABackend(MLACommonBackend):
    """Dense MLA, kv_lora 512 with rope 64 or none, any number of heads, any block size."""

    supported_dtypes: ClassVar[list[torch.dtype]] = DTYPES
    supported_kv_cache_dtypes: ClassVar[list[Any]] = CACHE_DTYPES

    @staticmethod
    def get_name() -> str:
        return "AITER_C_MLA"

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
    """Beside the table and the lengths: where the query rows of each request are, and how many at most."""

    query_start_loc: torch.Tensor
    max_query_len: int


class MLAMetadataBuilder(MLACommonMetadataBuilder[MLACommonMetadata[MLADecodeMetadata]]):
    """Nothing is planned: the kernels read vLLM's own tensors, which a graph finds refilled at the same addresses."""

    _cudagraph_support: ClassVar[AttentionCGSupport] = AttentionCGSupport.UNIFORM_BATCH
    query_len_support: ClassVar[QueryLenSupport] = QueryLenSupport.VARLEN
    supports_non_causal_multi_token_decode: ClassVar[bool] = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.supports_draft_decode_metadata_update = self.dcp_world_size == 1

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
        return MLADecodeMetadata(
            block_table=block_table_tensor, seq_lens=seq_lens_device, dcp_tot_seq_lens=dcp_tot_seq_lens_device,
            query_start_loc=query_start_loc_device, max_query_len=max_query_len,
        )  # fmt: skip


class MLAImpl(WritesCache, MLACommonImpl[MLACommonMetadata[MLADecodeMetadata]]):
    """Decode over the latent cache, q as the model has it: an fp8 cache does not make q fp8."""

    can_return_lse_for_decode: bool = True
    lse_base_on_e: bool = True
    supports_dcp: bool = True

    def __init__(
        self, num_heads: int, head_size: int, scale: float, num_kv_heads: int, alibi_slopes: list[float] | None,
        sliding_window: int | None, kv_cache_dtype: str, logits_soft_cap: float | None, attn_type: str,
        kv_sharing_target_layer_name: str | None, **mla_args: Any,
    ) -> None:  # fmt: skip
        refuse_unserved(
            "AITER_C_MLA", attn_type, kv_sharing_target_layer_name, alibi_slopes, sliding_window, logits_soft_cap
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
            causal=attn_metadata.causal, lse=self.need_to_return_lse_for_decode,
        )  # fmt: skip
