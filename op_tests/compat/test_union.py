"""What a drop-in for AITER owes to all of its callers at once, where no call of one engine shows it. NumPy and AITER's
names; some of it in the simulator as well. Graphs and captures are in op_tests/runtime."""

from __future__ import annotations

import inspect
import itertools
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import aiter_c
import aiter_c.compat.aiter as aiter
from aiter_c import compat
from aiter_c.testing import LSE, OUTPUT, Device, attend, check_close

BF16 = ml_dtypes.bfloat16
SCALE = 1 / 16


def _i32(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def _values(*shape: int, dtype: Any = BF16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


PLAN = ("work_meta_data", "work_indptr", "work_info_set", "reduce_indptr", "reduce_final_map", "reduce_partial_map")


def _buffers(batch: int, heads: int, workers: int) -> list[np.ndarray]:
    """Of work lists, in the order of the sizing."""
    info = aiter.get_mla_metadata_info_v1(batch, 1, heads, BF16, BF16, False, num_workers=workers)
    return [np.zeros(size, dtype) for (size, _), dtype in zip(info, [np.uint64] + 5 * [np.int32], strict=True)]


class _Step:
    """Two requests of one row each, 20 keys and none, in a pool of 24 rows; the row of slot 0 is NaN."""

    def __init__(self, heads: int = 16, dtype: Any = BF16) -> None:
        self.q, self.cache = _values(2, heads, 576, dtype=dtype, seed=1), _values(24, 1, 1, 576, dtype=dtype, seed=2)
        self.indices = (np.random.default_rng(3).permutation(23)[:20] + 1).astype(np.int32)
        self.exact = self.cache[:, 0, 0].astype(np.float64)
        self.cache[0] = np.nan
        self.o = np.full((2, heads, 512), np.nan, BF16)
        self.paged = (_i32(0, 1, 2), _i32(0, 20, 20), self.indices, None, 1)

    def check(self, o: np.ndarray, lse: np.ndarray | None = None, *, slots: np.ndarray | None = None) -> None:
        keys = self.exact[self.indices if slots is None else slots]
        want = attend(self.q[0].astype(np.float64), keys, SCALE, 1.0, p_dtype="bfloat16")
        check_close("o", o[0].astype(np.float64), want.o, OUTPUT, "", allowance=want.rounding)
        assert (o[1] == 0).all()
        if lse is not None:
            check_close("lse", lse[0], want.lse, LSE, "", allowance=want.lse_rounding)
            assert (lse[1] == -np.inf).all()


@pytest.mark.parametrize("heads", [1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128])
def test_any_number_of_heads_is_native(heads: int) -> None:
    """No caller pads; the LSE has the heads that were passed, for every row, in every mode."""
    step = _Step(heads)
    buffers = _buffers(2, heads, 3)
    aiter.get_mla_metadata_v1(*step.paged[:3], heads, 1, True, buffers[0], buffers[2], buffers[1], *buffers[3:])
    for mode in ({}, {"num_kv_splits": 3}, dict(zip(PLAN, buffers, strict=True))):
        step.o[...] = np.nan
        returned = aiter.mla.mla_decode_fwd(
            step.q, step.cache, step.o, *step.paged, sm_scale=SCALE, return_lse=True, **mode
        )
        assert len(returned) == 2 and returned[1].shape == (2, heads) and returned[1].flags["C_CONTIGUOUS"]
        step.check(step.o, returned[1])


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("heads", [12, 16])
def test_on_every_device(device: Device, heads: int, persistent: bool) -> None:
    """vLLM's calls: an empty request, slot 0 NaN, oversize tensors with garbage behind their ends, an LSE."""
    step, plan = _Step(heads), {}
    kv_indptr, indices = _i32(0, 20, 20, 77, -5), np.concatenate((step.indices, _i32(99, -1, 1 << 30)))
    if persistent:
        buffers = _buffers(4, heads, 3)
        device.call(
            "get_mla_metadata_v1", step.paged[0], kv_indptr, _i32(1, 1), heads, 1, True, buffers[0], buffers[2],
            buffers[1], *buffers[3:], page_size=1, kv_granularity=16, max_seqlen_qo=1, uni_seqlen_qo=1, fast_mode=True,
            dtype_q=BF16, dtype_kv=BF16, max_split_per_batch=8, intra_batch_mode=False,
        )  # fmt: skip
        plan = dict(zip(PLAN, buffers, strict=True))
    _, lse = device.call(
        "mla_decode_fwd", step.q, step.cache, step.o, step.paged[0], kv_indptr, indices, _i32(5, 5), 1, sm_scale=SCALE,
        logit_cap=0.0, causal=True, q_scale=np.float32(0.5), kv_scale=None, return_lse=True, **plan,
    )  # fmt: skip
    step.check(step.o, lse)


NEUTRAL = {
    "intra_batch_mode": True, "return_logits": True, "num_kv_splits_indptr": None, "cp_world_size": 4, "cp_rank": 2,
    "logit_cap": -1.0, "nhead_kv": 1, "g_kv_indptr": None, "q_scale": 3.0, "kv_scale": np.float32(3),
}  # fmt: skip
REFUSED = {"logit_cap": 30.0, "nhead_kv": 2, "num_kv_splits": 0, "max_seqlen_q": 0}


@pytest.mark.parametrize("name", list(NEUTRAL))
def test_arguments_without_a_meaning_here_are_accepted(name: str) -> None:
    step = _Step()
    aiter.mla.mla_decode_fwd(step.q, step.cache, step.o, *step.paged, sm_scale=SCALE, **{name: NEUTRAL[name]})
    step.check(step.o)


@pytest.mark.parametrize("name", list(REFUSED))
def test_values_that_are_not_served_are_refused(name: str) -> None:
    """By name, and nothing is written."""
    step = _Step()
    arguments = inspect.signature(aiter.mla.mla_decode_fwd).bind(step.q, step.cache, step.o, *step.paged).arguments
    with pytest.raises((ValueError, aiter_c.UnsupportedError), match=name):
        aiter.mla.mla_decode_fwd(**arguments | {name: REFUSED[name]})
    assert np.isnan(step.o.astype(np.float32)).all()


def test_metadata_takes_what_newer_callers_pass() -> None:
    """dtype_*_nope and _rope, mla_version; a keyword of nobody is a TypeError."""
    buffers = _buffers(2, 16, 2)
    step = _Step()
    args = (*step.paged[:3], 16, 1, True, buffers[0], buffers[2], buffers[1], *buffers[3:])
    dtypes = {f"dtype_{name}": BF16 for name in ("q_nope", "q_rope", "kv_nope", "kv_rope")}
    aiter.get_mla_metadata_v1(*args, mla_version=6, **dtypes)
    with pytest.raises(TypeError, match="nobody"):
        aiter.get_mla_metadata_v1(*args, nobody=1)


@pytest.mark.parametrize("wrong", [-1, 24, 2**31 - 1])
def test_a_slot_outside_of_the_pool_is_a_masked_key(wrong: int) -> None:
    step = _Step()
    step.indices[7] = wrong
    _, lse = aiter.mla.mla_decode_fwd(step.q, step.cache, step.o, *step.paged, sm_scale=SCALE, return_lse=True)
    step.check(step.o, lse, slots=np.delete(step.indices, 7))


def test_rows_apart() -> None:
    """q 576 in 768, o a view, pages with rows of others between them; o is the caller's memory."""
    step = _Step()
    q = np.full((2, 16, 768), np.nan, BF16)
    q[..., :576] = step.q
    pool = np.full((24, 5, 1, 576), np.nan, BF16)
    pool[:, :1] = step.cache
    wide = np.full((2, 16, 640), 7, BF16)
    o = wide[..., 64:576]
    aiter.mla.mla_decode_fwd(q[..., :576], pool[:, :1], o, *step.paged, sm_scale=SCALE)
    step.check(o)
    assert (wide[..., :64] == 7).all() and (wide[..., 576:] == 7).all()


@pytest.mark.parametrize("scale", [None, 0.5, np.float32(0.5), np.array(0.5, np.float32), np.array([0.5], np.float32)])
@pytest.mark.parametrize("as_bytes", [False, True])
def test_a_scale_of_any_kind(scale: Any, as_bytes: bool) -> None:
    """And fp8 tensors that come as bytes, with their dtype beside them."""
    fp8 = ml_dtypes.float8_e4m3fn
    step = _Step(dtype=fp8)
    step.cache[0] = step.cache[1]
    q, cache = (step.q.view(np.uint8), step.cache.view(np.uint8)) if as_bytes else (step.q, step.cache)
    kinds = {"q_dtype": fp8, "kv_dtype": fp8} if as_bytes else {}
    aiter.mla.mla_decode_fwd(q, cache, step.o, *step.paged, sm_scale=SCALE, q_scale=scale, kv_scale=scale, **kinds)
    value = 1.0 if scale is None else 0.5
    keys = step.exact[step.indices]
    want = attend(step.q[0].astype(np.float64), keys, SCALE * value**2, value, p_dtype="float8_e4m3fn")
    error = np.abs(step.o[0].astype(np.float64) - want.o)
    assert (error <= 8e-4 + np.abs(want.o) / 64 + want.rounding).all()


def test_e5m2_is_refused() -> None:
    step = _Step()
    cache = step.cache.astype(ml_dtypes.float8_e5m2)
    with pytest.raises((TypeError, aiter_c.UnsupportedError), match="kv_buffer"):
        aiter.mla.mla_decode_fwd(step.q, cache, step.o, *step.paged)


def test_a_plan_is_copied_and_a_wrong_one_is_refused() -> None:
    """The copy gives the same bits; a plan of more rows than the buffers have is refused, not a fault."""
    step = _Step()
    buffers = _buffers(8, 16, 4)
    outputs = []
    for _ in range(2):  # refilled in place, for a smaller batch than they are for
        aiter.get_mla_metadata_v1(*step.paged[:3], 16, 1, True, buffers[0], buffers[2], buffers[1], *buffers[3:])
        for lists in (buffers, [tensor.copy() for tensor in buffers]):
            step.o[...] = np.nan
            plan = dict(zip(PLAN, lists, strict=True))
            aiter.mla.mla_decode_fwd(step.q, step.cache, step.o, *step.paged, sm_scale=SCALE, **plan)
            outputs.append(step.o.tobytes())
    assert len(set(outputs)) == 1
    step.check(step.o)
    with pytest.raises(ValueError, match="work_info_set"):
        aiter.get_mla_metadata_v1(
            *step.paged[:3], 16, 1, True, buffers[0], buffers[2][:1], buffers[1], *buffers[3:]
        )  # fmt: skip


def test_the_cap_of_splits_bounds_the_scratch() -> None:
    """Partial rows follow from the batch and the cap, in every mode; sizes grow with the batch."""
    for modes in ({}, {"fast_mode": False}):
        modes |= {"num_workers": 304, "max_split_per_batch": 2}
        sizes = [aiter.get_mla_metadata_info_v1(b, 4, 128, BF16, BF16, False, **modes) for b in (1, 2, 64, 4096)]
        entries = [info[5][0] for info in sizes]
        assert entries == sorted(entries) and entries[0] <= 2 * 304 and entries[-1] <= 2 * 304
        assert all(np.prod(a[2][0]) <= np.prod(b[2][0]) for a, b in itertools.pairwise(sizes))
    batched = aiter.get_mla_metadata_info_v1(3, 4, 128, BF16, BF16, False, True, 16, True, num_workers=304)
    tiles = batched[3][0] - 1
    assert batched[5][0] == tiles * 16


@pytest.mark.parametrize("splits", [None, -1, 1, 7, 304, 2**31 - 1])
def test_any_count_of_splits_is_safe(splits: int | None) -> None:
    step = _Step()
    lens, rank = _i32(0, 37, 39), {"cp_world_size": 2, "cp_rank": 1}
    for extra in ({}, {"g_kv_indptr": lens, **rank}):
        step.o[...] = np.nan
        _, lse = aiter.mla.mla_decode_fwd(
            step.q, step.cache, step.o, *step.paged, sm_scale=SCALE, num_kv_splits=splits, return_lse=True, **extra
        )
        seen = [slot for j, slot in enumerate(step.indices) if 2 * j + 1 <= 36] if extra else None
        step.check(step.o, lse, slots=seen)


def test_paged_logits_write_what_they_should() -> None:
    """All of [0, max_model_len) by default, with -inf beside the visible; without cleaning nothing for a row of length
    0, and nothing past a row's length."""
    fp8 = ml_dtypes.float8_e4m3fn
    cache = np.zeros((4, 16, 1, 132), np.uint8)
    q, weights, table = _values(2, 1, 64, 128, dtype=fp8), np.ones((2, 64), np.float32), _i32(0, 1, 2, 3).reshape(2, 2)
    for clean in (True, False):
        logits = np.full((2, 40), 5, np.float32)
        aiter.ops.triton.attention.pa_mqa_logits.deepgemm_fp8_paged_mqa_logits(
            q, cache, weights, logits, _i32(20, 0), table, 32, KVBlockSize=16, clean_logits=clean
        )
        assert (logits[:, 32:] == 5).all() and not np.isnan(logits).any() and (logits[0, :20] == 0).all()
        rest = np.concatenate((logits[0, 20:32], logits[1, :32]))
        assert (rest == (-np.inf if clean else 5)).all()


def test_reduction() -> None:
    """A group of one partial is a copy; any number of heads; no LSE; and the order of older AITER's arguments."""
    partial, lse = _values(3, 6, 128, dtype=np.float32, seed=4), _values(3, 6, dtype=np.float32, seed=5)
    lists = (_i32(0, 1, 3), _i32(0, 1, 1, 2).reshape(2, 2), _i32(0, 1, 2))
    want = np.full((2, 6, 128), np.nan, np.float32)
    want_lse = np.full((2, 6), np.nan, np.float32)
    aiter.mla_reduce_v1(partial, lse, *lists, 1, 0, want, want_lse)
    assert np.array_equal(want[0], partial[0]) and np.array_equal(want_lse[0], lse[0])
    weights = np.exp(lse[1:] - np.logaddexp(lse[1], lse[2]))
    assert np.allclose(want[1], (weights[..., None] * partial[1:]).sum(0), atol=1e-5)
    for middle in ((1, 0), (1,), ()):
        for with_lse in (True, False):
            out, out_lse = np.full_like(want, np.nan), np.full_like(want_lse, np.nan)
            aiter.mla_reduce_v1(partial, lse, *lists, *middle, out, *((out_lse,) if with_lse else ()))
            assert np.array_equal(out, want) and (not with_lse or np.array_equal(out_lse, want_lse))


REFUSED_BY_FLASH = {
    "dropout_p": 0.1, "logits_soft_cap": 30.0, "window_size": (128, 0, 0), "bias": 1, "alibi_slopes": 1,
    "return_attn_probs": True, "block_table": 1, "cu_seqlens_q_padded": 1, "cu_seqlens_k_padded": 1, "sink_ptr": 1,
    "min_seqlen_q": 2,
}  # fmt: skip


def _prefill(dtype: Any = np.float16) -> tuple:
    q, k, v = (_values(5, 2, width, seed=seed).astype(dtype) for seed, width in enumerate((192, 192, 128)))
    return q, k, v, _i32(0, 2, 5), _i32(0, 2, 5), 3, 3


@pytest.mark.parametrize("name", list(REFUSED_BY_FLASH))
def test_flash_attention_refuses_what_it_does_not_serve(name: str) -> None:
    with pytest.raises(aiter_c.UnsupportedError, match=f"flash_attn_varlen_func: {name}: expected"):
        aiter.flash_attn_varlen_func(*_prefill(), **{name: REFUSED_BY_FLASH[name]})


def test_flash_attention_of_triton_and_of_fp8() -> None:
    """The LSE of one is [T, H], of the other [H, T]; out is the caller's where it is given; fp8 has scales."""
    args = _prefill()
    options = {"causal": True, "softmax_scale": SCALE, "return_lse": True}
    out, lse = aiter.flash_attn_varlen_func(*args, window_size=(-1, -1), min_seqlen_q=1, deterministic=True, **options)
    mine = np.full_like(out, np.nan)
    got, other = aiter.ops.triton.mha.flash_attn_varlen_func(*args, out=mine, config={}, **options)
    assert got is mine and np.array_equal(got, out) and np.array_equal(other, lse.T) and lse.shape == (2, 5)
    for refused in ({"sink": np.zeros(2, np.float32)}, {"dropout_p": 0.5}, {"window_size": (-1, -1, 4)}):
        with pytest.raises(aiter_c.UnsupportedError, match=next(iter(refused))):
            aiter.ops.triton.mha.flash_attn_varlen_func(*args, **refused)
    q, k, v, *rest = _prefill(ml_dtypes.float8_e4m3fn)
    scales = (np.array([0.5], np.float32), np.array([2.0], np.float32), np.array([3.0], np.float32))
    scaled = aiter.flash_attn_varlen_fp8_pertensor_func(q, k, v, *scales, *rest, causal=True, softmax_scale=SCALE)
    plain = aiter.flash_attn_varlen_func(q, k, v, *rest, causal=True, softmax_scale=SCALE)
    assert scaled.dtype == BF16 == plain.dtype
    assert np.allclose(scaled.astype(np.float32), 3 * plain.astype(np.float32), rtol=2e-2, atol=1e-2)
    with pytest.raises(aiter_c.UnsupportedError, match="sink_ptr"):
        aiter.flash_attn_varlen_fp8_pertensor_func(q, k, v, *scales, *rest, sink_ptr=1)


def test_the_fast_names_of_top_k_select_2048() -> None:
    logits, indices = _values(1, 3000, dtype=np.float32), np.full((1, 2050), 9, np.int32)
    want = np.sort(np.argsort(-logits[0], kind="stable")[:2048])
    for function, window in (
        (aiter.ops.topk.top_k_per_row_prefill_fast, (_i32(0), _i32(3000))),
        (aiter.ops.topk.top_k_per_row_decode_fast, (1, _i32(3000))),
    ):
        indices[...] = 9
        extra = (indices, None) if len(window[:1]) and isinstance(window[0], np.ndarray) else (indices,)
        function(logits, *window, *extra, 1, 3000, 1)
        assert np.array_equal(indices[0, :2048], want) and (indices[0, 2048:] == 9).all()
    assert aiter.get_mla_decode_fwd_occupancy(16, 1, BF16, BF16) == 1


WRITERS = (
    "fused_qk_rope_concat_and_cache_mla", "indexer_qk_rope_quant_and_cache", "indexer_k_quant_and_cache",
    "concat_and_cache_mla", "cp_gather_indexer_k_quant_cache",
)  # fmt: skip


@pytest.mark.parametrize("name", WRITERS)
def test_cache_writers_are_served_or_say_that_they_are_not(name: str) -> None:
    """Their own tests are op_tests of theirs; here: one and the same under both of AITER's paths."""
    function = getattr(aiter.ops.cache, name)
    if name in compat.names.served("aiter.ops.cache"):
        assert function is getattr(aiter, name) is getattr(aiter_c, name)
    else:
        with pytest.raises(aiter_c.UnsupportedError, match=name):
            function(1, 2, 3)
