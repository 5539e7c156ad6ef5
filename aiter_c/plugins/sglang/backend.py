"""SGLang's backend of MLA. Decode, verification of a chain of drafts and prompts with a cached prefix are absorbed
attention over the pool, of which SGLang keeps a table of slots per request; prompts without a prefix come with keys and
values of their own. One class for ROCm, CUDA and the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from sglang.srt.layers.attention.base_attn_backend import AttentionBackend
from sglang.srt.mem_cache.memory_pool import KVWriteLoc
from sglang.srt.runtime_context import get_parallel, get_spec

import aiter_c
from aiter_c.plugins.attend import decode, joined


@dataclass
class Step:
    """A forward pass: of every request the slots, the keys and where its query rows are."""

    table: torch.Tensor  # int32 [B, w]: slots
    lens: torch.Tensor  # int32 [B]: keys, the new ones included
    qo_indptr: torch.Tensor | None  # int32 [B+1]; None: max_seqlen_q rows each
    max_seqlen_q: int
    max_kv_len: int


class MLABackend(AttentionBackend):
    """`--attention-backend aiter_c`."""

    def __init__(self, model_runner: Any) -> None:
        super().__init__()
        if (ranks := get_parallel().attn_dcp_size) > 1:
            raise NotImplementedError(f"aiter_c: dcp_size: expected 1 (no context parallelism), got {ranks}")
        self.req_to_token = model_runner.req_to_token_pool.req_to_token
        self.token_to_kv_pool = model_runner.token_to_kv_pool
        self.context_len = int(model_runner.model_config.context_len)
        self.drafts = get_spec().speculative_num_draft_tokens or 0
        if (get_spec().speculative_eagle_topk or 0) > 1:
            raise NotImplementedError(
                "aiter_c: speculative_eagle_topk: expected 1 (a chain, no tree), got "
                f"{get_spec().speculative_eagle_topk}"
            )
        self.forward_metadata: Step | None = None
        self._buffers: Step | None = None

    # What a step needs: in eager mode from the batch, under a graph in buffers that stay where they are.

    def init_forward_metadata(self, forward_batch: Any) -> None:
        """Of an eager step. Reads lengths that are on the host."""
        lens = self._lens(forward_batch)
        longest = self.context_len
        if forward_batch.seq_lens_cpu is not None and forward_batch.batch_size:
            longest = int(forward_batch.seq_lens_cpu.max()) + self._behind(forward_batch)
        table = self.req_to_token[forward_batch.req_pool_indices.long(), :longest].int()
        indptr, rows = self._rows(forward_batch)
        self.forward_metadata = Step(table, lens, indptr, rows, longest)

    def init_cuda_graph_state(self, max_bs: int, max_num_tokens: int) -> None:
        device = self.req_to_token.device
        self._buffers = Step(
            torch.zeros((max_bs, self.context_len), dtype=torch.int32, device=device),
            torch.zeros(max_bs, dtype=torch.int32, device=device),
            torch.zeros(max_bs + 1, dtype=torch.int32, device=device),
            max(1, max_num_tokens // max(max_bs, 1)), self.context_len,
        )  # fmt: skip

    def init_forward_metadata_out_graph(self, forward_batch: Any, in_capture: bool = False) -> None:
        """Refills the buffers before a graph is captured or replayed. Waits for nothing."""
        buffers = self._buffers
        assert buffers is not None and buffers.qo_indptr is not None
        bs = forward_batch.batch_size
        width = min(self.context_len, self.req_to_token.shape[1])
        buffers.table[:bs, :width].copy_(self.req_to_token[forward_batch.req_pool_indices[:bs].long(), :width])
        buffers.lens[:bs].copy_(self._lens(forward_batch)[:bs])
        if forward_batch.forward_mode.is_draft_extend_v2():  # of a graph, equally many rows of every request
            indptr, rows = None, forward_batch.input_ids.shape[0] // max(bs, 1)
        else:
            indptr, rows = self._rows(forward_batch)
        if indptr is not None:
            buffers.qo_indptr[: bs + 1].copy_(indptr[: bs + 1])
            indptr = buffers.qo_indptr[: bs + 1]
        self.forward_metadata = Step(buffers.table[:bs], buffers.lens[:bs], indptr, rows, self.context_len)

    def get_cuda_graph_seq_len_fill_value(self) -> int:
        """Of the rows that fill a graph up: they see one key, and nobody looks at what they give."""
        return 1

    def _behind(self, forward_batch: Any) -> int:
        """New keys that seq_lens does not count: drafts that are being verified."""
        return self.drafts if forward_batch.forward_mode.is_target_verify() else 0

    def _lens(self, forward_batch: Any) -> torch.Tensor:
        return forward_batch.seq_lens.int() + self._behind(forward_batch)

    def _rows(self, forward_batch: Any) -> tuple[torch.Tensor | None, int]:
        """qo_indptr and the rows of the longest request."""
        mode = forward_batch.forward_mode
        if mode.is_decode_or_idle():
            return None, 1
        if mode.is_target_verify():
            return None, self.drafts
        counts = forward_batch.extend_seq_lens
        indptr = torch.zeros(counts.shape[0] + 1, dtype=torch.int32, device=counts.device)
        torch.cumsum(counts, 0, dtype=torch.int32, out=indptr[1:])
        return indptr, max(1, *forward_batch.extend_seq_lens_cpu)

    # The passes.

    def forward_decode(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layer: Any, forward_batch: Any,
        save_kv_cache: bool = True, q_rope: torch.Tensor | None = None, k_rope: torch.Tensor | None = None,
        **unserved: Any,
    ) -> torch.Tensor:  # fmt: skip
        """o [T, H * 512] of one row per request."""
        self._check(layer, unserved)
        if save_kv_cache and k is not None:
            self._write(k, v, k_rope, layer, forward_batch)
        return self._absorbed(q, q_rope, layer)

    def forward_extend(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layer: Any, forward_batch: Any,
        save_kv_cache: bool = True, q_rope: torch.Tensor | None = None, k_rope: torch.Tensor | None = None,
        **unserved: Any,
    ) -> torch.Tensor:  # fmt: skip
        """o [T, H * Dv] of many rows per request, causal: over the pool, or over k and v where they are not latents."""
        self._check(layer, unserved)
        latent = self.token_to_kv_pool.get_key_buffer(layer.layer_id).shape[-1]
        if layer.qk_head_dim != latent:
            return self._own_keys(q, k, v, layer, forward_batch)
        if save_kv_cache and k is not None:
            self._write(k, v, k_rope, layer, forward_batch)
        return self._absorbed(q, q_rope, layer)

    def _check(self, layer: Any, unserved: dict[str, Any]) -> None:
        given = {name: value for name, value in unserved.items() if value is not None and value is not False}
        window = getattr(layer, "sliding_window_size", None)
        if window is not None and window >= 0:
            given["sliding_window_size"] = window
        if getattr(layer, "logit_cap", 0.0):
            given["logit_cap"] = layer.logit_cap
        for name, value in given.items():
            raise NotImplementedError(f"aiter_c: {name}: not served, got {value!r}")

    def _write(self, k: torch.Tensor, v: torch.Tensor, k_rope: torch.Tensor | None, layer: Any, batch: Any) -> None:
        """The new keys into the pool, by the pool, which knows what they are quantised to."""
        if k_rope is not None:
            k = torch.cat((k.view(-1, 1, k.shape[-1]), k_rope.view(-1, 1, k_rope.shape[-1])), -1)
        if layer.k_scale is not None:
            k = k / layer.k_scale
        self.token_to_kv_pool.set_kv_buffer(layer, KVWriteLoc.for_batch(batch, swa_loc=None), k, v)

    def _absorbed(self, q: torch.Tensor, q_rope: torch.Tensor | None, layer: Any) -> torch.Tensor:
        step = self.forward_metadata
        assert step is not None
        heads = layer.tp_q_head_num
        q = q.view(q.shape[0], heads, -1)
        q = joined(q if q_rope is None else (q, q_rope.view(q.shape[0], heads, -1)))
        pool = self.token_to_kv_pool.get_key_buffer(layer.layer_id)
        o, _ = decode(
            q, pool.view(-1, 1, pool.shape[-1]), q.dtype, step.qo_indptr, step.table, step.lens, step.max_seqlen_q,
            step.max_kv_len, scale=layer.scaling, q_scale=None, kv_scale=layer.k_scale,
        )  # fmt: skip
        return o.flatten(1)

    def _own_keys(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layer: Any, batch: Any) -> torch.Tensor:
        """A prompt without a cached prefix: k [T, H, D] and v [T, H, Dv]. The model's code has written the latents."""
        step = self.forward_metadata
        assert step is not None and step.qo_indptr is not None
        if any(batch.extend_prefix_lens_cpu):
            raise NotImplementedError("aiter_c: extend_prefix_lens: expected 0 with keys that are no latents")
        heads, keys = layer.tp_q_head_num, layer.tp_k_head_num
        out = torch.empty((q.shape[0], heads, layer.v_head_dim), dtype=q.dtype, device=q.device)
        aiter_c.mla_prefill_ps_fwd(
            q.view(-1, heads, layer.qk_head_dim), k.view(-1, keys, layer.qk_head_dim),
            v.view(-1, keys, layer.v_head_dim), out, step.qo_indptr, step.qo_indptr, None, None, None,
            step.max_seqlen_q, True, softmax_scale=layer.scaling,
        )  # fmt: skip
        return out.flatten(1)
