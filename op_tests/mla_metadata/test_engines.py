"""The calls of vLLM, SGLang and ATOM, with the arguments that they pass, in the order in which they pass them. Buffers
are sized once, for the largest batch and often for other numbers than the fill has, and filled in every step."""

from __future__ import annotations

import numpy as np
import pytest
from mla_metadata.properties import Plans, Problem

import aiter_c
from aiter_c.testing import Device

CU = 132


def _buffers(device: Device, *arguments: object, **keywords: object) -> list[np.ndarray]:
    info = aiter_c.get_mla_metadata_info_v1(*arguments, **keywords, num_workers=CU, device=device.place)
    return [np.full(size, -1 if i else 0, np.uint64 if i == 0 else np.int32) for i, (size, _) in enumerate(info)]


def _fill(
    device: Device, q_lens: list[int], kv_lens: list[int], heads: int, causal: bool, buffers: list, **more
) -> None:
    """Twelve positionals; work_info_set before work_indptr. Then every promise of a plan."""
    pointers, work_indptr, work_info_set, *reduce = buffers
    qo = np.cumsum([0, *q_lens]).astype(np.int32)
    kv = np.cumsum([0, *kv_lens]).astype(np.int32)
    last = np.ones(len(kv_lens), np.int32)
    positionals = (qo, kv, last, heads, 1, causal, pointers, work_info_set, work_indptr, *reduce)
    device.call("get_mla_metadata_v1", *positionals, **more)
    numbers = {
        **{"num_heads_per_head_k": heads, "num_heads_k": 1, "is_causal": causal, "page_size": 1},
        **{"kv_granularity": more.get("kv_granularity", 16), "max_seqlen_qo": more["max_seqlen_qo"]},
        **{"max_split_per_batch": more.get("max_split_per_batch") or -1, "deterministic": False},
        "is_cp_round_robin": more.get("is_cp_round_robin", False),
    }
    names = ("work_info_set", "work_indptr", "reduce_indptr", "reduce_final_map", "reduce_partial_map")
    out = dict(zip(names, (work_info_set, work_indptr, *reduce), strict=True))
    Plans([Problem(np.array(q_lens), np.array(kv_lens), numbers, CU, out)]).check()


@pytest.mark.parametrize("heads", [16, 32, 96, 128])
def test_vllm_dense(heads: int, device: Device) -> None:
    """Sized for 64 requests of 4 rows; full graphs have a flat tail of requests without rows, and uni_seqlen_qo -1."""
    buffers = _buffers(
        device, 64, 4, heads, "bfloat16", "bfloat16", is_sparse=False, fast_mode=True, max_split_per_batch=CU
    )
    common = {"page_size": 1, "kv_granularity": 16, "fast_mode": True, "dtype_q": "bfloat16", "dtype_kv": "bfloat16"}
    steps = [([4] * 9, 4, 4), ([1] * 64, 1, 1), ([1] * 20 + [0] * 44, 1, -1), ([4, 1, 2, 0, 3], 4, -1), ([], 1, 1)]
    for q_lens, longest, uniform in steps:
        kv_lens = [0 if q == 0 else 37 * i + q for i, q in enumerate(q_lens)]
        for causal in (True, False):
            more = common | {"max_seqlen_qo": longest, "uni_seqlen_qo": uniform, "max_split_per_batch": CU}
            _fill(device, q_lens, kv_lens, heads, causal, buffers, **more, intra_batch_mode=False)


def test_vllm_context_parallel(device: Device) -> None:
    """Sized with padded heads (96 -> 128), filled with 96; local lists, no causal trim, empty shards."""
    buffers = _buffers(device, 32, 4, 128, "bfloat16", "bfloat16", is_sparse=False, fast_mode=True)
    more = {"page_size": 1, "kv_granularity": 16, "max_seqlen_qo": 3, "uni_seqlen_qo": 3, "fast_mode": True}
    for kv_lens in ([0, 0, 5, 900], [3] * 32, [70_000, 0]):
        q_lens = [3] * len(kv_lens)
        _fill(device, q_lens, kv_lens, 96, False, buffers, **more, is_cp_round_robin=True, max_split_per_batch=CU)


def test_vllm_sparse(device: Device) -> None:
    """Each token has its own compacted list, topk is not passed; fp16 queries, a cap by the lengths."""
    buffers = _buffers(device, 512, 1, 16, "float16", "bfloat16", is_sparse=True, fast_mode=True)
    rng = np.random.default_rng(0)
    for tokens, cap in ((512, 16), (7, 16), (1, 4), (300, 1)):
        kv_lens = rng.integers(0, 2049, tokens).tolist()
        more = {"max_seqlen_qo": 1, "uni_seqlen_qo": 1, "dtype_q": "float16", "dtype_kv": "float16"}
        _fill(device, [1] * tokens, kv_lens, 16, True, buffers, **more, max_split_per_batch=cap, fast_mode=True)


@pytest.mark.parametrize(("fast", "intra", "heads"), [(False, True, 16), (True, False, 128)])
def test_sglang_dense(fast: bool, intra: bool, heads: int, device: Device) -> None:
    """The KV dtype for both, is_causal False, sized by num_kv_splits; the cap only comes with the fill."""
    dtype = "float8_e4m3fn"
    buffers = _buffers(
        device, 40, 4, heads, dtype, dtype, is_sparse=False, fast_mode=fast, num_kv_splits=32, intra_batch_mode=intra
    )
    for batch, q_len, cap in ((40, 1, 32), (40, 4, 32), (3, 4, 64), (1, 1, -1)):
        more = {"kv_granularity": 16, "max_seqlen_qo": q_len, "uni_seqlen_qo": q_len, "fast_mode": fast}
        kv_lens = [q_len + 211 * i % 5000 for i in range(batch)]
        _fill(
            device, [q_len] * batch, kv_lens, heads, False, buffers, **more, max_split_per_batch=cap,
            intra_batch_mode=intra, is_cp_round_robin=False, dtype_q=dtype, dtype_kv=dtype,
        )  # fmt: skip


def test_sglang_sparse(device: Device) -> None:
    """Sized for bf16 and is_sparse, filled for fp8 with topk=-1 and 12 heads unpadded."""
    buffers = _buffers(
        device, 16, 2, 12, "bfloat16", "bfloat16", is_sparse=True, fast_mode=True, intra_batch_mode=False
    )
    more = {
        **{"page_size": 1, "kv_granularity": 16, "max_seqlen_qo": 1, "uni_seqlen_qo": 1, "fast_mode": True, "topk": -1},
        **{"max_split_per_batch": 64, "intra_batch_mode": False, "dtype_q": "float8_e4m3fn"},
    }
    _fill(device, [1] * 32, [2048] * 31 + [3], 12, False, buffers, **more, dtype_kv="float8_e4m3fn")


def test_atom_then_the_next_step(device: Device) -> None:
    """Speculative decode in blocks of two rows, then its incremental update to one row per request."""
    buffers = _buffers(
        device, 8, 2, 16, "bfloat16", "bfloat16", is_sparse=False, fast_mode=True, max_split_per_batch=16
    )
    more = {
        "max_seqlen_qo": 2,
        "uni_seqlen_qo": 2,
        "fast_mode": 1,
        "max_split_per_batch": 16,
        "is_cp_round_robin": False,
    }
    before = [900, 2, 77, 5000]
    _fill(device, [2] * 4, before, 16, False, buffers, **more, dtype_q_nope="bfloat16", dtype_kv_nope="bfloat16")
    pointers, work_indptr, work_info_set, *reduce = buffers
    rejected = np.array([0, 1, 0, 2], np.int32)
    after = np.array(before) + 1 - rejected
    kv = np.cumsum([0, *after]).astype(np.int32)
    qo, last = np.arange(0, 10, 2, dtype=np.int32), np.ones(4, np.int32)
    positionals = (qo, kv, last, 16, 1, False, pointers, work_info_set, work_indptr, *reduce)
    device.call("decode_update_mla_metadata_v1", *positionals, num_reject_tokens=rejected)
    numbers = {
        **{"num_heads_per_head_k": 16, "num_heads_k": 1, "is_causal": False, "page_size": 1, "kv_granularity": 16},
        **{"max_seqlen_qo": 1, "max_split_per_batch": -1, "deterministic": False, "is_cp_round_robin": False},
    }
    names = ("work_info_set", "work_indptr", "reduce_indptr", "reduce_final_map", "reduce_partial_map")
    out = dict(zip(names, (work_info_set, work_indptr, *reduce), strict=True))
    Plans([Problem(np.ones(4, int), after, numbers, CU, out)]).check()
