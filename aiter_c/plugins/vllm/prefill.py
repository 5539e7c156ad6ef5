"""vLLM's backend of MLA prefill: keys and values of the prompt's own, and of the cached context in chunks, by
mla_prefill_ps_fwd without lists. `--attention-config '{"mla_prefill_backend": "CUSTOM"}'`; the only one on the CPU.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from vllm.v1.attention.backends.mla.prefill.base import MLAPrefillBackend

import aiter_c
from aiter_c.plugins.vllm.common import DTYPES, runs_on

WIDTHS = ((192, 128), (256, 256))  # of keys and of values


class PrefillBackend(MLAPrefillBackend):
    """bfloat16 and float16; nope + rope and value widths of 192 and 128, or 256 and 256."""

    supported_dtypes: ClassVar[list[torch.dtype]] = DTYPES

    @staticmethod
    def get_name() -> str:
        return "AITER_C_MLA_PREFILL"

    @classmethod
    def supports_compute_capability(cls, device_capability: Any) -> bool:
        return runs_on(device_capability)

    @classmethod
    def supports_mla_dimensions(cls, mla_dimensions: Any) -> bool:
        width = mla_dimensions.qk_nope_head_dim + mla_dimensions.qk_rope_head_dim
        return (width, mla_dimensions.v_head_dim) in WIDTHS

    def supports_out(self) -> bool:
        return True

    def _attend(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, q_indptr: torch.Tensor, kv_indptr: torch.Tensor,
        longest: int, causal: bool, lse: bool, out: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:  # fmt: skip
        """out [T, H, Dv], and the LSE as vLLM has it, float32 [H, T]."""
        if out is None:
            out = torch.empty((*q.shape[:2], v.shape[-1]), dtype=q.dtype, device=q.device)
        _, rows = aiter_c.mla_prefill_ps_fwd(
            q, k, v, out, q_indptr, kv_indptr, None, None, None, longest, causal, softmax_scale=self.scale,
            return_lse=lse,
        )  # fmt: skip
        return out, None if rows is None else rows.t().contiguous()

    def run_prefill_new_tokens(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, return_softmax_lse: bool,
        out: torch.Tensor | None = None, output_scale: torch.Tensor | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """The new tokens among themselves, with a causal mask."""
        if output_scale is not None:
            raise NotImplementedError(f"{self.get_name()}: output_scale: expected None (no fp8 output), got a tensor")
        step = self._prefill_metadata
        o, lse = self._attend(
            q, k, v, step.query_start_loc, step.query_start_loc, step.max_query_len, True, return_softmax_lse, out
        )
        return o if lse is None else (o, lse)

    def run_prefill_context_chunk(
        self, chunk: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The new tokens over a chunk of what stands before them."""
        o, lse = self._attend(q, k, v, chunk.query_start_loc, chunk.cu_seq_lens, chunk.max_query_len, False, True, out)
        assert lse is not None
        return o, lse
