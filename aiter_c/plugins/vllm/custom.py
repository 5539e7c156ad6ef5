"""`Backend`: what vLLM gets for `--attention-backend CUSTOM`, the sparse backend for a model with an indexer, else the
dense one. vLLM takes the name from here for every layer, with the configuration of the model at hand.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if name != "Backend":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vllm.config import get_current_vllm_config_or_none

    config = get_current_vllm_config_or_none()
    model = getattr(config, "model_config", None)
    if hasattr(getattr(model, "hf_text_config", None), "index_topk"):
        from aiter_c.plugins.vllm.sparse import SparseMLABackend

        return SparseMLABackend
    from aiter_c.plugins.vllm.mla import MLABackend

    return MLABackend
