"""What the backends of MLA, of sparse MLA and of the indexer share: what they serve, cache writes, whose rows are
whose."""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from vllm.v1.attention.backend import (
    AttentionCGSupport,
    AttentionMetadataBuilder,
    AttentionType,
    CommonAttentionMetadata,
    MultipleOf,
)

import aiter_c

CACHE_DTYPES = ["auto", "float16", "bfloat16", "fp8", "fp8_e4m3"]
DTYPES = [torch.bfloat16, torch.float16]
Metadata = TypeVar("Metadata")


def runs_on(capability: Any) -> bool:
    """Whether the ops have kernels for the device: gfx942 and gfx950 on ROCm, sm_90 on CUDA, any CPU."""
    from vllm.platforms import current_platform

    if current_platform.is_rocm():
        return (capability.major, capability.minor) in ((9, 4), (9, 5))
    return not current_platform.is_cuda() or (capability.major, capability.minor) == (9, 0)


class AnyBlockSize:
    """Of a backend whose kernels take pages of any size."""

    @staticmethod
    def get_supported_kernel_block_sizes(kv_cache_spec: Any = None) -> list[int | MultipleOf]:
        return [MultipleOf(1)]


class Latents(AnyBlockSize):
    """Of a backend of MLA: kv_lora 512 with rope 64 or none, any number of heads."""

    supported_dtypes: ClassVar[list[torch.dtype]] = DTYPES
    supported_kv_cache_dtypes: ClassVar[list[Any]] = CACHE_DTYPES

    @classmethod
    def get_supported_head_sizes(cls) -> list[int]:
        return [512, 576]

    @classmethod
    def supports_compute_capability(cls, capability: Any) -> bool:
        return runs_on(capability)


class WritesLatents:
    """Of an implementation: its cache writes, the LSE that it leaves, and what it refuses."""

    can_return_lse_for_decode: bool = True
    lse_base_on_e: bool = True

    @staticmethod
    def refuse_unserved(
        name: str, alibi_slopes: object, sliding_window: object, logits_soft_cap: object, attn_type: str,
        kv_sharing_target_layer_name: str | None,
    ) -> None:  # fmt: skip
        given = {
            "alibi_slopes": alibi_slopes, "sliding_window": sliding_window, "logits_soft_cap": logits_soft_cap,
            "kv_sharing_target_layer_name": kv_sharing_target_layer_name,
        }  # fmt: skip
        for argument, value in given.items():
            if value:
                raise NotImplementedError(f"{name}: {argument}: expected None, got {value!r}")
        if attn_type != AttentionType.DECODER:
            raise NotImplementedError(f"{name}: attn_type: expected {AttentionType.DECODER!r}, got {attn_type!r}")

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


class RowsOfRequests(AttentionMetadataBuilder[Metadata], Generic[Metadata]):
    """Of a builder that takes every token for a row of its own: whose it is, in a buffer that stays where it is for a
    graph. That is all that vLLM's tensors do not say already."""

    _cudagraph_support: ClassVar[AttentionCGSupport] = AttentionCGSupport.UNIFORM_BATCH

    def __init__(self, kv_cache_spec: Any, layer_names: list[str], vllm_config: Any, device: torch.device) -> None:
        super().__init__(kv_cache_spec, layer_names, vllm_config, device)
        self._init_reorder_batch_threshold(1, supports_spec_as_decode=True)
        self.most_tokens = vllm_config.scheduler_config.max_num_batched_tokens
        self._req_ids = torch.zeros(self.most_tokens, dtype=torch.int32, device=device)

    def req_ids(self, step: CommonAttentionMetadata) -> torch.Tensor:
        """int32 [tokens]: the request of every token of the step; of padding -1, whose keys are masked."""
        starts = np.asarray(step.query_start_loc_cpu, dtype=np.int64)
        owned = np.repeat(np.arange(len(starts) - 1, dtype=np.int32), np.diff(starts))
        ids = np.full(step.num_actual_tokens, -1, np.int32)
        ids[: len(owned)] = owned[: len(ids)]
        out = self._req_ids[: step.num_actual_tokens]
        out.copy_(torch.from_numpy(ids))
        return out
