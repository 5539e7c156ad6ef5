"""MLA decode under AITER's names: mla_decode_fwd, the stage 1 / stage 2 shim, and mla_reduce_v1, which merges partials
by lists and comes from the C core as it is. AITER has prefill in this module as well: here it is aiter_c.prefill.

The C extension plans, takes scratch from the caller's framework, checks and launches; this file keeps the early return:
with one split stage 1 wrote `o` and the LSE, and stage 2 never runs.
"""

from __future__ import annotations

from aiter_c._C import MlaPlan, mla_decode_stage1, mla_decode_stage2, mla_reduce_v1
from aiter_c.metadata import get_meta_param
from aiter_c.prefill import (
    mla_prefill_fwd,
    mla_prefill_ps_asm_fwd,
    mla_prefill_ps_fwd,
    mla_prefill_reduce,
    mla_prefill_reduce_triton,
)

TYPE_CHECKING = False  # of typing, which takes longer to import than all of this package
if TYPE_CHECKING:
    from typing import Any

    from aiter_c._types import DTypeLike, KvFormat, Scale, SupportsDLPack, Tensor

__all__ = [
    "get_meta_param",
    "mla_decode_fwd",
    "mla_prefill_fwd",
    "mla_prefill_ps_asm_fwd",
    "mla_prefill_ps_fwd",
    "mla_prefill_reduce",
    "mla_prefill_reduce_triton",
    "mla_reduce_v1",
]


def mla_decode_fwd(
    q: Tensor,
    kv_buffer: SupportsDLPack,
    o: SupportsDLPack,
    qo_indptr: SupportsDLPack,
    kv_indptr: SupportsDLPack,
    kv_indices: SupportsDLPack,
    kv_last_page_lens: SupportsDLPack | None,
    max_seqlen_q: int,
    page_size: int = 1,
    nhead_kv: int = 1,
    sm_scale: float | None = None,
    logit_cap: float = 0.0,
    num_kv_splits: int | None = None,
    num_kv_splits_indptr: SupportsDLPack | None = None,
    work_meta_data: SupportsDLPack | None = None,
    work_indptr: SupportsDLPack | None = None,
    work_info_set: SupportsDLPack | None = None,
    reduce_indptr: SupportsDLPack | None = None,
    reduce_final_map: SupportsDLPack | None = None,
    reduce_partial_map: SupportsDLPack | None = None,
    q_scale: Scale = None,
    kv_scale: Scale = None,
    intra_batch_mode: object = False,
    return_logits: object = False,
    return_lse: bool = False,
    g_kv_indptr: SupportsDLPack | None = None,
    cp_world_size: int = 1,
    cp_rank: int = 0,
    causal: bool = True,
    *,
    deterministic: bool = False,
    kv_format: KvFormat | None = None,
    stream: int | None = None,
    plan: MlaPlan | None = None,
    q_dtype: DTypeLike = None,
    kv_dtype: DTypeLike = None,
    cp_interleave: int = 1,
    slots: bool = False,
    sink: SupportsDLPack | None = None,
) -> tuple[Any, Tensor | None]:
    """Decode with multi-head latent attention over a paged latent cache; writes `o` in place.

    B requests, T query rows, H heads (1 to 128), D = 576 (latent 512 + rope 64) or 512 (no rope). For query row r of
    request b, which has nq rows and L keys:

        s[j] = sm_scale * q_scale * kv_scale * <q[r, h], kv[j]>        j <= L - nq + (r - qo_indptr[b]) if causal
        o[r, h] = kv_scale * sum_j softmax(s)[j] * kv[j, :512]
        lse[r, h] = ln(sum_j exp(s[j]))                                natural log, of the scaled scores

    A row that sees no key gets o = 0 and lse = -inf. Rows that no request owns, and rows of a request from max_seqlen_q
    on, keep their `o` and get lse = -inf.

    q                     [T, H, D] bfloat16, float16, float32 or fp8; rows and heads may be strided.
    kv_buffer             [num_page, page_size, 1, D] bfloat16, float16 or fp8, pages and rows may be strided; or uint8
                          records of 656 bytes, see kv_format. Any mix of q and cache dtypes.
    o                     [T, H, 512] bfloat16 or float16; may be strided. Written.
    qo_indptr, kv_indptr  int32 [B+1]; kv_indptr counts pages, may be longer and may begin above 0.
    kv_indices            int32 [n]: pages, or slots. One below 0 or past the pool masks its keys; they are not read.
    kv_last_page_lens     int32 [B]: rows in the last page of each request. Not looked at when page_size is 1.
    max_seqlen_q          int, at least 1: query rows of the longest request.
    sm_scale              float; None: 1 / sqrt(D).
    logit_cap             must be <= 0: there is no soft cap.
    num_kv_splits         int: runs a KV list is cut into; None or -1: automatic.
    num_kv_splits_indptr  int32 [B+1]: ragged split counts, each at most num_kv_splits, which must be given.
    q_scale, kv_scale     None, float, or a float32 tensor of one element, on the CPU or the device; each counts only
                          for an fp8 operand of its own.
    return_lse            bool: also return the LSE.
    causal                bool: bottom-right causal mask among the query rows of a request, or none.
    deterministic         bool: the bits of a row do not depend on the batch around it.
    kv_format             None (from dtype and shape), "plain", "fp8_ds_mla" (uint8 [num_page, page_size, 656], token by
                          token: 512 e4m3fn, 4 float32 scales, 64 bfloat16) or "3buffer" (uint8 [num_page, page_size *
                          656], the same region by region).
    stream                int: the stream's handle; None: the framework's current one. The CPU has none.
                          The LSE and the scratch come from q's framework, for that stream; for an Array, and for a q
                          that only speaks DLPack, they are allocated at the call and freed with a wait for the device:
                          do not capture such calls in a graph in the relaxed mode (in the others the driver refuses).
    plan                  MlaPlan of mla_plan: used as it is, a call it was not made for is refused.
    q_dtype, kv_dtype     the fp8 dtype of a q or kv_buffer that comes as uint8.
    slots                 bool: kv_indices are slots, page * page_size + row, as sparse attention selects them. What
                          counts entries (kv_indptr, lists) counts slots then, and kv_last_page_lens is not looked at.
    sink                  float32 [H]: a logit without a value, exp(sink) in the denominator of `o`, not in the LSE. A
                          row that sees no key stays 0. A plan for it needs return_lse=True.

    Persistent mode: the work items come from lists that get_mla_metadata_v1 (or AITER's op, for heads that it does not
    fold) has filled, and the partials are merged by mla_reduce_v1. All but work_meta_data and reduce_final_map are
    needed, none of them is trusted, and they may change between replays of a graph.

    work_meta_data        uint64 or int64 [2]: the tag of the lists, looked at only in the host's memory; or None.
    work_indptr           int32 [W+1]: worker w does the items [work_indptr[w], work_indptr[w+1]).
    work_info_set         int32 [items, 8]; one that names no request or lies outside of its tensors is left out.
    reduce_indptr, reduce_final_map, reduce_partial_map   int32 [G+1], [G, 2] or None, [P]: see mla_reduce_v1.

    num_kv_splits and num_kv_splits_indptr are then hints without effect: the lists decide. With max_seqlen_q 1 no
    causal mask applies, and with page_size 1, or slots, an item's keys need then not be of its request's list (sparse
    attention).
    deterministic needs lists that were made so.

    Context parallelism: with g_kv_indptr the cache and kv_indptr hold the keys of one rank, and causal masks by their
    places in the whole request. Results of the ranks are merged by merge_states.

    g_kv_indptr           int32 [B+1], may be longer: keys of the requests on all ranks together.
    cp_world_size         int: ranks; key p of a request is on rank p // cp_interleave % cp_world_size.
    cp_rank               int: this one. Without g_kv_indptr the three have no effect.
    cp_interleave         int: keys that are dealt to a rank at a time.

    nhead_kv must be 1. intra_batch_mode and return_logits have no effect here.

    Returns (logits, lse). logits: with S > 1 splits the float32 partials [T, S, H, 512], with lists
    [P * max_seqlen_q, 1, H, 512], with one split `o` itself. lse: float32 [T, H], or None unless return_lse.

    Raises TypeError (not a tensor, wrong dtype), ValueError (shape, stride, range, device, shared memory), BufferError
    (read-only output, a producer that refuses) and UnsupportedError (no kernel); then no argument was written.

    No gradient is computed: a torch tensor that requires grad is read as data, and refused as an output (BufferError),
    as are tensors whose memory does not hold their values (negative bit, FakeTensor, vmap, sparse, ...). What was
    written counts in torch's version counter.
    """
    lists: tuple[Any, ...] | None = None
    if not (
        work_meta_data is None and work_indptr is None and work_info_set is None
        and reduce_indptr is None and reduce_final_map is None and reduce_partial_map is None
    ):  # fmt: skip
        lists = (work_meta_data, work_indptr, work_info_set, reduce_indptr, reduce_final_map, reduce_partial_map)
    if sink is None:  # twice, since above 30 arguments CPython makes a list and a tuple of them
        used_plan, used_stream, logits, attn_lse, lse = mla_decode_stage1(
            q, kv_buffer, o, qo_indptr, kv_indptr, kv_indices, kv_last_page_lens, max_seqlen_q, page_size, nhead_kv,
            sm_scale, logit_cap, num_kv_splits, num_kv_splits_indptr, lists, q_scale, kv_scale, return_lse,
            g_kv_indptr, cp_world_size, cp_rank, cp_interleave, causal, deterministic, kv_format, stream, plan, q_dtype,
            kv_dtype, slots,
        )  # fmt: skip
    else:
        used_plan, used_stream, logits, attn_lse, lse = mla_decode_stage1(
            q, kv_buffer, o, qo_indptr, kv_indptr, kv_indices, kv_last_page_lens, max_seqlen_q, page_size, nhead_kv,
            sm_scale, logit_cap, num_kv_splits, num_kv_splits_indptr, lists, q_scale, kv_scale, return_lse,
            g_kv_indptr, cp_world_size, cp_rank, cp_interleave, causal, deterministic, kv_format, stream, plan, q_dtype,
            kv_dtype, slots, sink=sink,
        )  # fmt: skip
    if used_plan.writes_output:
        return o, lse if return_lse else None
    if work_indptr is None or reduce_indptr is None or reduce_partial_map is None:  # stage 1 saw to it: all or none
        mla_decode_stage2(logits, attn_lse, o, lse, qo_indptr, sink=sink, plan=used_plan, stream=used_stream)
    else:
        mla_reduce_v1(
            logits, attn_lse, reduce_indptr, reduce_final_map, reduce_partial_map, max_seqlen_q, None, o, lse,
            lists_are_complete=True, sink=sink, stream=used_stream,
        )  # fmt: skip
    return logits, lse if return_lse else None
