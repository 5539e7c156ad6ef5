"""vLLM's CPU platform with our backends: sparse attention has one as well, and prefill is ours where it serves them."""

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
