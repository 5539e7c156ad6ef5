"""vLLM's CPU platform with our backends. Where vLLM would refuse, it goes on: sparse attention has a backend, and
chunks of prompts and cached prefixes have a prefill that can do them.
"""

from __future__ import annotations

from typing import Any

from vllm.platforms import cpu
from vllm.v1.attention.backends.mla.prefill.registry import MLAPrefillBackendEnum
from vllm.v1.attention.backends.registry import AttentionBackendEnum


class CpuPlatform(cpu.CpuPlatform):
    """CPU_MLA is ours by its entry in the registry; here is what has no entry."""

    @classmethod
    def get_attn_backend_cls(
        cls, selected_backend: Any, attn_selector_config: Any, num_heads: int | None = None
    ) -> str:
        if attn_selector_config.use_sparse:
            return AttentionBackendEnum.CUSTOM.get_path()
        return super().get_attn_backend_cls(selected_backend, attn_selector_config, num_heads)

    @classmethod
    def get_mla_prefill_backend_cls(cls, mla_selector_config: Any) -> Any:
        ours: Any = MLAPrefillBackendEnum.CUSTOM.get_class()
        if not ours.validate_configuration(None, mla_selector_config):
            return ours
        return super().get_mla_prefill_backend_cls(mla_selector_config)

    @classmethod
    def check_and_update_config(cls, vllm_config: Any) -> None:
        """As vLLM does; but what it turns off for its own MLA stays as it was asked for, block size included."""
        cache, scheduler = vllm_config.cache_config, vllm_config.scheduler_config
        chunked, prefixes = scheduler.enable_chunked_prefill, cache.enable_prefix_caching
        tokens, block_size = scheduler.max_num_batched_tokens, cache.block_size
        super().check_and_update_config(vllm_config)
        model = vllm_config.model_config
        if model is None or not model.use_mla:
            return
        if cache.user_specified_block_size:
            cache.block_size = block_size
        scheduler.enable_chunked_prefill, cache.enable_prefix_caching = chunked, prefixes
        scheduler.max_num_batched_tokens = tokens
