"""What the engines' backends share: q in the two forms that they have, and decode over a table."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from aiter_c._C import mla_decode_stage2, mla_decode_variant

LATENT = 512  # elements of a key that are its value as well


class Shard(NamedTuple):
    """Whose keys the cache holds, where ranks share a request: key p is on rank p // interleave % ranks."""

    totals: torch.Tensor  # int32 [B+1], cumulative: keys of all ranks
    ranks: int
    rank: int
    interleave: int


def joined(q: torch.Tensor | tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """q [T, H, 512 + rope]: the absorbed part and the rope part may come apart, and then lie apart in memory."""
    if not isinstance(q, tuple):
        return q
    return q[0] if q[1].shape[-1] == 0 else torch.cat(q, dim=-1)


def decode(
    q: torch.Tensor, cache: torch.Tensor, dtype: torch.dtype, qo_indptr: torch.Tensor | None, table: torch.Tensor,
    lens: torch.Tensor | None, max_seqlen_q: int, max_kv_len: int, *, scale: float, q_scale: Any, kv_scale: Any,
    causal: bool = True, slots: bool = False, kv_format: str = "plain", lse: bool = False,
    sink: torch.Tensor | None = None, shard: Shard | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:  # fmt: skip
    """o [T, H, 512] and, where it is asked for, the LSE float32 [T, H], of mla_decode_fwd over a table.

    cache   [blocks, block_size, D], blocks strided; or records. table: int32 [B, w], the blocks of each request, or the
            slots of each row (slots=True, then lens may be None). lens: int32 [B] or more: keys.
    sink    float32 [H]: a logit in the denominator of o, not in the LSE. shard: of context parallelism, for the mask.

    Launches kernels, reads nothing back and holds nothing but torch's own memory: a graph can capture it.
    """
    o = torch.empty((*q.shape[:2], LATENT), dtype=dtype, device=q.device)
    totals, ranks, rank, interleave = shard or (None, 1, 0, 1)
    plan, stream, logits, attn_lse, out_lse, _ = mla_decode_variant(
        q, None, cache, None, 0, o, qo_indptr, None, None, table, lens, max_seqlen_q, cache.shape[1], sm_scale=scale,
        max_kv_len=max_kv_len, q_scale=q_scale, kv_scale=kv_scale, return_lse=lse, causal=causal, slots=slots,
        kv_format=kv_format, sink=sink, g_kv_indptr=totals, cp_world_size=ranks, cp_rank=rank, cp_interleave=interleave,
    )  # fmt: skip
    if not plan.writes_output:
        mla_decode_stage2(logits, attn_lse, o, out_lse, qo_indptr, sink=sink, plan=plan, stream=stream)
    return o, out_lse
