"""Small calls of every op of torch.ops.aiter_c, by its name: lists of (args, kwargs), made anew each time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Call = tuple[tuple[Any, ...], dict[str, Any]]
BF16, F32, FP8 = torch.bfloat16, torch.float32, torch.float8_e4m3fn
HEADS = 3
LISTS = ("work_meta_data", "work_indptr", "work_info_set", "reduce_indptr", "reduce_final_map", "reduce_partial_map")


def _random(*shape: int, dtype: torch.dtype = BF16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator).to(dtype)


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    """An fp8 tensor as uint8: opcheck compares tensors, for which torch has no fp8."""
    return tensor.view(torch.uint8)


def _i32(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


def _paged(rows: int = 2, dtype: torch.dtype = BF16) -> tuple[torch.Tensor, ...]:
    """q, cache, o, the lists of two requests with 30 and 34 keys."""
    q, cache = _random(rows, HEADS, 576, dtype=dtype), _random(64, 1, 1, 576, dtype=dtype)
    o = torch.zeros(rows, HEADS, 512, dtype=BF16)
    each = rows // 2
    return q, cache, o, _i32(0, each, rows), _i32(0, 30, 64), torch.arange(64, dtype=torch.int32), _i32(1, 1)


def _lists() -> dict[str, torch.Tensor]:
    """Work lists of _paged() for two workers."""
    import aiter_c

    info = aiter_c.get_mla_metadata_info_v1(2, 1, HEADS, BF16, BF16, False, num_workers=2)
    lists = {name: torch.zeros(size, dtype=dtype) for name, (size, dtype) in zip(LISTS, info, strict=True)}
    lists["work_meta_data"] = lists["work_meta_data"].view(torch.int64)
    meta, indptr, work, *reduce = lists.values()
    aiter_c.get_mla_metadata_v1(_i32(0, 1, 2), _i32(0, 30, 64), None, HEADS, 1, True, meta, work, indptr, *reduce)
    return lists


def mla_decode_fwd() -> list[Call]:
    scale, fp8 = torch.full((), 0.5), {"q_dtype": FP8, "kv_dtype": FP8}
    q, cache, *rest = _paged(dtype=FP8)
    return [
        ((*_paged(), 1), {"return_lse": True, "num_kv_splits": 2}),
        ((*_paged(4), 2), {"causal": False}),
        ((_bytes(q), _bytes(cache), *rest, 1), {"q_scale": scale, "kv_scale": scale, "return_lse": True} | fp8),
        ((*_paged(), 1), {"return_lse": True, **_lists()}),
    ]


def _partials() -> tuple[torch.Tensor, ...]:
    """Two groups: of two partials, and of one."""
    return _random(3, HEADS, 512, dtype=F32), _random(3, HEADS, dtype=F32), _i32(0, 2, 3), torch.tensor(
        [[0, 1], [1, 2]], dtype=torch.int32
    ), _i32(0, 1, 2)  # fmt: skip


def mla_reduce_v1() -> list[Call]:
    out = torch.zeros(2, HEADS, 512, dtype=BF16)
    return [((*_partials(), 1, 0, out, torch.zeros(2, HEADS)), {}), ((*_partials(), 1, 0, out.clone()), {})]


def mla_prefill_reduce() -> list[Call]:
    out = torch.zeros(2, HEADS, 512, dtype=BF16)
    return [((*_partials(), out, 1), {"final_lse": torch.zeros(2, HEADS)})]


def mla_prefill_reduce_triton() -> list[Call]:
    return [((*_partials(), torch.zeros(2, HEADS, 512, dtype=BF16), 1), {})]


def mla_gluon() -> list[Call]:
    q, cache, o, _, kv_indptr, kv_indices, _ = _paged()
    args = (q[..., :512], q[..., 512:], cache.view(64, 576), o)
    table = torch.arange(64, dtype=torch.int32).view(2, 32)
    return [
        ((*args, kv_indices, kv_indptr, 0.05), {"use_2d_view": False, "return_lse": True}),
        ((*args, table, _i32(30, 32), 0.05), {}),
    ]


def mla_decode_segmented() -> list[Call]:
    q, cache, o, qo_indptr, *_ = _paged()
    pages = torch.arange(16, dtype=torch.int32).view(2, 8)
    rest = (qo_indptr, _i32(30, 32), 32, pages, 0.05, 512, 64, True, None, None)
    cache = cache.view(16, 4, 1, 576)
    return [((q, cache, o, *rest), {}), ((q, cache, None, *rest), {"skip_reduce": True})]


def sparse_mla_fwd() -> list[Call]:
    q, cache, out, _, kv_indptr, kv_indices, _ = _paged()
    args, scale = (q, cache, kv_indptr, kv_indices, 0.05), torch.full((), 0.5)
    fp8 = (q, _bytes(cache.to(FP8)), *args[2:])
    second = {"extra_kv": _bytes(_random(9, 576, dtype=FP8)), "extra_indptr": _i32(0, 3, 3), "extra_kv_scale": scale}
    second |= {"extra_indices": torch.tensor([8, 2, -1]), "attn_sink": torch.zeros(HEADS), "kv_dtype": FP8}
    return [
        (args, {"return_lse": True, "kv_splits": 2}),
        (args, {"out": out}),
        (fp8, second | {"return_lse": True}),
        (args, {"skip_reduce": True, "kv_splits": 2}),
        (args, {"skip_reduce": True, "kv_splits": 2, "out": out}),
    ]


def unified_attention_sparse_mla() -> list[Call]:
    q, cache, out, qo_indptr, _, _, lens = _paged()
    table = torch.tensor([[3, 9, -1, 60], [5, -1, 64, 1]], dtype=torch.int32)
    return [((q, cache, out, qo_indptr, 1, lens, 64, None, table, None, 512), {})]


def get_mla_metadata_v1() -> list[Call]:
    meta, indptr, work, *reduce = _lists().values()
    args = (_i32(0, 1, 2), _i32(0, 30, 64), None, HEADS, 1, True, meta, work, indptr, *reduce)
    return [(args, {"max_seqlen_qo": 1, "uni_seqlen_qo": 1, "dtype_q": BF16, "dtype_kv": FP8})]


def decode_update_mla_metadata_v1() -> list[Call]:
    return [(get_mla_metadata_v1()[0][0], {"dtype_q": BF16})]


def get_ps_metadata_v1() -> list[Call]:
    import aiter_c

    info = aiter_c.get_ps_metadata_info_v1(1, 1, 300, num_workers=2)
    buffers = [torch.zeros(size, dtype=torch.int64 if not i else dtype) for i, (size, dtype) in enumerate(info)]
    return [((_i32(0, 300), _i32(0, 300), _i32(300), HEADS, 1, *buffers), {"block_size": 1, "kvlen_granularity": 128})]


def mla_prefill_fwd() -> list[Call]:
    return [((*_paged(), 1), {"page_size": 1})]


def _prefill() -> tuple[torch.Tensor, ...]:
    q, k, v = _random(5, HEADS, 192), _random(9, HEADS, 192), _random(9, HEADS, 128)
    out, slots = torch.zeros(5, HEADS, 128, dtype=BF16), torch.arange(9, dtype=torch.int32)
    return q, k, v, out, _i32(0, 2, 5), _i32(0, 4, 9), slots


def mla_prefill_ps_fwd() -> list[Call]:
    return [((*_prefill(), None, None, 3, True), {"return_lse": lse}) for lse in (True, False)]


def mla_prefill_ps_asm_fwd() -> list[Call]:
    q, k, v, out, *indices = _prefill()
    return [((q, k, v, *indices, None, None, 3, 0.07, True, None, None, out), {"final_lse": torch.zeros(5, HEADS)})]


def gather_kv_b_proj() -> list[Call]:
    cache, weight, indptr = _random(8, 1, 576), _random(HEADS * 256, 512) / 20, _i32(0, 5)
    k, v = torch.zeros(5, HEADS, 192, dtype=BF16), torch.zeros(5, HEADS, 128, dtype=BF16)
    return [((cache, None, indptr, _i32(3, 1, 7, 0, 2), indptr, weight, None, k, v), {})]


def fused_mla_prefill_qkv_fp8() -> list[Call]:
    args = (_random(5, HEADS, 192), _random(5, HEADS, 128), _random(5, HEADS, 128), _random(5, 1, 64), 4, FP8)
    given = {f"{name}_out": torch.zeros(5, 4, 192, dtype=FP8) for name in "qk"}
    return [(args, {}), (args, given)]


def merge_states() -> list[Call]:
    states, lses = [_random(2, HEADS, 64) for _ in range(3)], [_random(2, HEADS, dtype=F32) for _ in range(3)]
    out = {"out": torch.zeros(2, HEADS, 64, dtype=BF16), "lse_out": torch.zeros(2, HEADS)}
    stacked = ([torch.stack(states)], [torch.stack(lses)])
    return [((states, lses), {}), (stacked, {"sink": _random(HEADS, dtype=F32)}), ((states, lses), out)]


def merge_attn_states() -> list[Call]:
    out, o, lse = torch.zeros(2, HEADS, 64, dtype=BF16), _random(2, HEADS, 64), _random(HEADS, 2, dtype=F32)
    return [((out, o, lse, o.clone(), lse.clone()), {"output_lse": torch.zeros(HEADS, 2)})]


def deepgemm_fp8_paged_mqa_logits() -> list[Call]:
    cache = torch.zeros(4, 16, 1, 132, dtype=torch.uint8)
    args = (_bytes(_random(2, 1, 4, 128, dtype=FP8)), cache, _random(2, 4, dtype=F32), torch.zeros(2, 40))
    table = torch.tensor([[0, 1], [2, 3]], dtype=torch.int32)
    return [((*args, _i32(30, 7), table, 32), {"KVBlockSize": 16, "q_dtype": FP8})]


def fp8_mqa_logits() -> list[Call]:
    q, k = _bytes(_random(3, 4, 128, dtype=FP8)), _bytes(_random(9, 128, dtype=FP8))
    args = (q, k, _random(9, dtype=F32), _random(3, 4, dtype=F32), _i32(0, 0, 2), _i32(3, 9, 2))
    fp8 = {"q_dtype": FP8, "kv_dtype": FP8}
    return [(args, fp8), (args, fp8 | {"logits": torch.zeros(3, 16)})]


def top_k_per_row_prefill() -> list[Call]:
    logits, indices = _random(3, 50, dtype=F32), torch.zeros(3, 8, dtype=torch.int32)
    windows = (_i32(0, 5, 9), _i32(50, 10, 9))
    return [((logits, *windows, indices, values, 3, 50, 1), {"k": 8}) for values in (None, torch.zeros(3, 8))]


def top_k_per_row_decode() -> list[Call]:
    return [((_random(4, 50, dtype=F32), 2, _i32(50, 3), torch.zeros(4, 8, dtype=torch.int32), 4, 50, 1), {"k": 8})]


def _positions() -> torch.Tensor:
    return torch.tensor([[0, 3, -1, 9], [2, 1, 0, -1]], dtype=torch.int32)


def _more_rows() -> torch.Tensor:
    """Than there are requests."""
    return torch.cat((_positions(), _positions()))


def convert_index_lists() -> list[Call]:
    args = (_i32(0, 1, 2), _i32(0, 10, 16), _i32(0, 4, 8), torch.arange(16, dtype=torch.int32), _more_rows(), 4)
    return [(args, {}), ((*args, torch.zeros(8, dtype=torch.int32)), {})]


def _table() -> tuple[torch.Tensor, ...]:
    return _i32(0, 1), torch.tensor([[5, 2], [7, 1]], dtype=torch.int32), _positions()


def convert_index_ragged() -> list[Call]:
    sizes = {"BLOCK_STRIDE_ROWS": 12, "BLOCK_SIZE": 8, "NUM_TOPK_TOKENS": 4}
    return [((*_table(), _i32(0, 3, 6), torch.zeros(6, dtype=torch.int32)), sizes)]


def convert_index_padded() -> list[Call]:
    return [((*_table(), 8, 4), {}), ((*_table(), 8, 4, torch.zeros(2, 4, dtype=torch.int32)), {})]


def convert_req_index_to_global_index_dsa_prefill() -> list[Call]:
    table = torch.tensor([[5, 2], [7, 1]], dtype=torch.int32)
    args = (_i32(0, 1, 2), _i32(0, 4, 8), _i32(0, 1), _more_rows(), table, _i32(0, 2, 4), 8, 4)
    return [(args, {}), (args, {"out": torch.zeros(8, dtype=torch.int32)})]


def gather_kv_indices_sparse() -> list[Call]:
    args = (_i32(0, 4, 8), _i32(0, 1), _more_rows(), torch.arange(16, dtype=torch.int32), _i32(0, 10, 16), 4)
    return [(args, {}), (args, {"out": torch.zeros(8, dtype=torch.int32)})]


def get_valid_kv_indices() -> list[Call]:
    return [((_positions(), _i32(0, 3, 6), torch.zeros(6, dtype=torch.int32), 2), {})]


def _slots() -> torch.Tensor:
    return torch.tensor([5, -1, 2])


def _latents(rope: int = 64) -> tuple[torch.Tensor, ...]:
    return _random(3, 512), _random(3, rope)


def concat_and_cache_mla() -> list[Call]:
    cache, pool = torch.zeros(2, 4, 576, dtype=BF16), torch.zeros(2, 4, 656, dtype=torch.uint8)
    scale = torch.full((), 0.5)
    return [
        ((*_latents(), cache, _slots(), "auto", scale), {}),
        ((*_latents(), pool, _slots(), "fp8_ds_mla", scale), {}),
    ]


def concat_and_cache_mla_seg() -> list[Call]:
    return [((*_latents(), torch.zeros(2, 4 * 576, dtype=BF16), _slots(), "auto", torch.full((), 0.5)), {})]


def _turned(cache: torch.Tensor) -> tuple[Any, ...]:
    q, angles = (_random(3, HEADS, 512), _random(3, HEADS, 64)), (_random(9, 32), _random(9, 32))
    one, out = torch.full((), 1.0), torch.zeros(3, HEADS, 576, dtype=cache.dtype)
    return *q, *_latents(), cache, out, _slots(), one, one, torch.tensor([0, 3, 8]), *angles


def fused_qk_rope_concat_and_cache_mla() -> list[Call]:
    return [((*_turned(torch.zeros(2, 4, 576, dtype=BF16)), True, True), {})]


def fused_qk_rope_concat_and_cache_mla_seg() -> list[Call]:
    pool = torch.zeros(2, 64 * 576, dtype=torch.uint8)
    return [((*_turned(pool), False), {"q_dtype": FP8, "kv_dtype": FP8})]


def fused_qk_rope_cat_and_cache_mla() -> list[Call]:
    q, k = (_random(3, HEADS, 512), _random(3, HEADS, 64)), (_random(4, 1, 512), _random(4, 1, 64))
    angles = _random(9, 32), _random(9, 32)
    cache, pool = torch.zeros(8, 1, 576, dtype=BF16), torch.zeros(8, 1, 576, dtype=torch.uint8)
    rest = (torch.tensor([5, -1, 2, 6]), torch.tensor([0, 3, 8]), *angles)
    given = {"q_out": torch.zeros(3, HEADS, 576, dtype=BF16), "k_pe_out": torch.zeros(4, 1, 64, dtype=BF16)}
    return [
        ((*q, *k, cache, *rest, None, True), {}),
        ((*q, *k, pool, *rest, torch.full((), 0.5), False), {"kv_dtype": FP8, "num_decode_toks_for_zeros": 2}),
        ((*q, *k, cache, *rest, None, True, 2), given),
    ]


def indexer_k_quant_and_cache() -> list[Call]:
    pool = torch.zeros(2, 16, 132, dtype=torch.uint8)
    return [((_random(3, 128), pool, _slots(), 128, "ue8m0"), {"kv_dtype": FP8})]


def indexer_qk_rope_quant_and_cache() -> list[Call]:
    q, weights, k = _random(3, HEADS, 128), _random(3, HEADS, dtype=F32), _random(3, 128)
    out, weights_out = torch.zeros(3, HEADS, 128, dtype=torch.uint8), torch.zeros(3, HEADS)
    pool, norm = torch.zeros(2, 16, 132, dtype=torch.uint8), (_random(128, dtype=F32), _random(128, dtype=F32))
    args = (q, out, weights, weights_out, k, pool, _slots(), *norm, torch.tensor([0, 3, 8]))
    angles = (_random(9, 32), _random(9, 32))
    return [((*args, *angles, 1e-6, 128, "ue8m0", 0.5), {"q_dtype": FP8, "kv_dtype": FP8})]


def cp_gather_indexer_k_quant_cache() -> list[Call]:
    pool, scales = torch.arange(2 * 16 * 132).to(torch.uint8).view(2, 16, 132), torch.zeros(5, 1)
    return [((pool, torch.zeros(5, 128, dtype=torch.uint8), scales, torch.tensor([[1], [0]], dtype=torch.int32),
              _i32(0, 3, 5)), {})]  # fmt: skip


def of(name: str) -> list[Call]:
    """Those of an op."""
    make: Callable[[], list[Call]] = globals()[name]
    return make()
