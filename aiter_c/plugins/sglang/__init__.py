"""SGLang's plugin: the attention backend "aiter_c" of MLA models. Entry point "aiter_c" of the group sglang.srt.plugins
(`register`), which SGLANG_PLUGINS chooses by name; the backend itself is taken with `--attention-backend aiter_c`.
"""

from __future__ import annotations

from typing import Any

from aiter_c._modules import is_installed

__all__ = ["NAME", "register"]

NAME = "aiter_c"


def _create(runner: Any) -> Any:
    """The backend of one model runner."""
    if not runner.use_mla_backend:
        raise ValueError(f"{NAME}: expected a model with MLA, got one without")
    from aiter_c.plugins.sglang.backend import MLABackend

    return MLABackend(runner)


def register() -> None:
    """Make "aiter_c" a choice of --attention-backend, and of the draft model's. As often as it is called.

    Raises ModuleNotFoundError without SGLang.
    """
    if not is_installed("sglang"):
        raise ModuleNotFoundError(
            "aiter_c.plugins.sglang: SGLang is not installed: pip install 'aiter_c[sglang]'", name="sglang"
        )
    from sglang.srt.arg_groups import choices
    from sglang.srt.layers.attention.attention_registry import register_attention_backend

    register_attention_backend(NAME)(_create)
    for names, add in (
        (choices.ATTENTION_BACKEND_CHOICES, choices.add_attention_backend_choices),
        (choices.DRAFT_ATTENTION_BACKEND_CHOICES, choices.add_draft_attention_backend_choices),
    ):
        if NAME not in names:
            add([NAME])
