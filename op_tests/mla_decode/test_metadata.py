"""get_meta_param against AITER's formula, written again here in Python."""

from __future__ import annotations

import math
from itertools import product
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

import aiter_c
from aiter_c import _C
from aiter_c.metadata import get_meta_param

#: heads * max_seqlen_q -> KV rows per split at least, for fp8.
FP8_BLOCK = {8: 64, 16: 128, 24: 128, 32: 128, 48: 64, 64: 64, 128: 32, 256: 32, 384: 32, 512: 32}
OVERHEAD = 84.1
COMPUTE_UNITS = (304, 256, 80, 2, 1)
BATCHES = (1, 2, 3, 7, 16, 33, 64, 128, 200, 303, 304, 305, 512, 1024)
LENGTHS = (0, 1, 15, 64, 84, 100, 333, 1024, 4096, 8192, 131072)


def expected_splits(
    count: int | None, bs: int, total_kv: int, tile: int, q_len: int, fp8: bool, groups: int, ignore: bool, cu: int
) -> int:
    """AITER's; `tile` is heads * q_len and must be in FP8_BLOCK for fp8."""
    average = total_kv / bs
    if count is None:
        best, count = -1.0, 1
        for i in range(1, 17):
            work = bs * max(groups, 1) * i
            efficiency = work / (math.ceil(work / cu) * cu)
            value = efficiency if ignore else efficiency * average / (average + OVERHEAD * i)
            if value > best:
                best, count = value, i
    if fp8 and not ignore:
        block = FP8_BLOCK[tile]
        count = min(count, math.ceil(total_kv / (bs * block)))
        if count > 1:
            count = min(count, math.floor(abs(average - q_len) / block) + 1)
    return max(count, 1)


@pytest.mark.parametrize("cu", COMPUTE_UNITS)
@pytest.mark.parametrize("bs", BATCHES)
def test_automatic_counts(cu: int, bs: int) -> None:
    for length, heads, groups, ignore in product(LENGTHS, (16, 128), (1, 2), (0, 1)):
        total = bs * length + bs // 3
        want = expected_splits(None, bs, total, heads, 1, False, groups, bool(ignore), cu)
        got, indptr = get_meta_param(None, bs, total, heads, 1, "bfloat16", groups, ignore, cu_num=cu)
        assert got == want, (cu, bs, total, heads, groups, ignore)
        np.testing.assert_array_equal(indptr, np.arange(bs + 1) * want)


@pytest.mark.parametrize("cu", COMPUTE_UNITS)
@pytest.mark.parametrize("tile", FP8_BLOCK)
def test_fp8_cap_of_automatic_and_explicit_counts(cu: int, tile: int) -> None:
    heads = {8: 8, 24: 8, 48: 16, 384: 128}.get(tile, min(tile, 128))
    q_len = tile // heads
    for bs, length, count in product((1, 3, 64, 304), LENGTHS, (None, 1, 2, 16, 40)):
        total = bs * length + bs // 2
        want = expected_splits(count, bs, total, tile, q_len, True, 1, False, cu)
        got, _ = get_meta_param(count, bs, total, heads, q_len, "float8_e4m3fnuz", cu_num=cu)
        assert got == want, (cu, bs, total, heads, q_len, count)
        ignored, _ = get_meta_param(count, bs, total, heads, q_len, "float8_e4m3fnuz", 1, 1, cu_num=cu)
        assert ignored == expected_splits(count, bs, total, tile, q_len, True, 1, True, cu)


@pytest.mark.parametrize("heads", range(1, 129))
def test_any_product_is_served_for_fp8(heads: int) -> None:
    """AITER raises KeyError off its table (Q7). Here the count lies between those of its extreme blocks."""
    for q_len, bs, length in product((1, 2, 3, 4, 16), (1, 64), (100, 8192)):
        got, _ = get_meta_param(None, bs, bs * length, heads, q_len, "float8_e4m3fn", cu_num=304)
        bounds = [expected_splits(None, bs, bs * length, t, q_len, True, 1, False, 304) for t in (16, 128)]
        assert min(bounds) <= got <= max(bounds), (heads, q_len, bs, length)


def test_sixteen_bit_counts_are_taken_as_given() -> None:
    for count in (1, 2, 16, 17, 1000, 2**31 - 1):
        assert get_meta_param(count, 1, 5, 16, 1, "bfloat16", cu_num=304)[0] == count


@pytest.mark.parametrize("bs", [1, 2**31 - 1, 2**55, 2**62])
def test_huge_numbers_do_not_wrap(bs: int) -> None:
    for total, groups, fp8 in product((2**31, 2**53, 2**62, 2**63 - 1), (1, 2**31 - 1), (False, True)):
        want = expected_splits(None, bs, total, 16, 1, fp8, groups, False, 304)
        assert _C.choose_kv_splits(None, bs, total, 16, 1, fp8, groups, False, 304) == want, (total, groups, fp8)


def test_minus_one_is_automatic() -> None:
    assert (
        get_meta_param(-1, 4, 9000, 16, 1, "bfloat16", cu_num=304)[0]
        == get_meta_param(None, 4, 9000, 16, 1, "bfloat16", cu_num=304)[0]
    )


def test_compute_units_are_the_threads_of_the_cpu() -> None:
    before = aiter_c.get_num_threads()
    try:
        for threads in (1, 2, 5):
            aiter_c.set_num_threads(threads)
            got, _ = get_meta_param(None, 3, 30_000, 16, 1, "bfloat16")
            assert got == expected_splits(None, 3, 30_000, 16, 1, False, 1, False, threads)
    finally:
        aiter_c.set_num_threads(before)


def test_the_indptr_is_fresh_every_time() -> None:
    """Q4: AITER caches a device tensor by plain ints. Writing into one result must not reach the next."""
    splits, first = get_meta_param(None, 4, 9000, 16, 1, "bfloat16", cu_num=304)
    first[:] = -1
    again, second = get_meta_param(None, 4, 9000, 16, 1, "bfloat16", cu_num=304)
    assert again == splits and type(splits) is int
    assert second is not first and second.dtype == np.int32 and second.shape == (5,)
    np.testing.assert_array_equal(second, np.arange(5) * splits)
    assert not hasattr(get_meta_param, "cache_info")


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", ml_dtypes.float8_e4m3fn, np.dtype(ml_dtypes.float8_e4m3fn)])
def test_forms_of_a_dtype(dtype: object) -> None:
    """The fp8 cap is seen through every form of the dtype."""
    assert get_meta_param(16, 1, 100, 16, 1, dtype)[0] == 1
    assert (
        get_meta_param(16, 1, 100, 16, 1, "bfloat16")[0]
        == get_meta_param(16, 1, 100, 16, 1, ml_dtypes.bfloat16)[0]
        == 16
    )


@pytest.mark.torch
def test_a_torch_dtype_gives_a_torch_tensor() -> None:
    import torch

    splits, indptr = get_meta_param(16, 3, 300, 16, 1, torch.float8_e4m3fnuz)
    assert splits == 1 and isinstance(indptr, torch.Tensor) and indptr.dtype == torch.int32
    assert indptr.tolist() == [0, 1, 2, 3]


@pytest.mark.torch
def test_on_a_gpu_the_units_and_the_tensor_are_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in AITER, whose indptr lies on the GPU: mla_decode_fwd takes it as it is. device= says otherwise."""
    import torch

    made = []
    units = {"cuda": 304, "cuda:1": 80}
    arange = torch.arange
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(multi_processor_count=units[str(device)])
    )
    monkeypatch.setattr(
        torch, "arange", lambda *values, device, dtype: made.append(str(device)) or arange(*values, dtype=dtype)
    )
    cases = (
        ({}, "cuda", 304),
        ({"device": "cuda:1"}, "cuda:1", 80),
        ({"device": torch.device("cuda:1")}, "cuda:1", 80),
        ({"device": "cpu"}, "cpu", aiter_c.get_num_threads()),
        ({"cu_num": 256}, "cuda", 256),
    )
    for keywords, place, cu in cases:
        got, _ = get_meta_param(None, 33, 33 * 4096, 16, 1, torch.bfloat16, **keywords)
        assert got == expected_splits(None, 33, 33 * 4096, 16, 1, False, 1, False, cu) and made.pop() == place
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    got, _ = get_meta_param(None, 33, 33 * 4096, 16, 1, torch.bfloat16)
    want = expected_splits(None, 33, 33 * 4096, 16, 1, False, 1, False, aiter_c.get_num_threads())
    assert made == ["cpu"] and got == want


@pytest.mark.parametrize("count", [None, -1, 1, 7])
def test_batch_zero(count: int | None) -> None:
    """AITER divides by zero."""
    splits, indptr = get_meta_param(count, 0, 0, 16, 1, "bfloat16", cu_num=304)
    assert splits == (count if count and count > 0 else 1) and indptr.tolist() == [0]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0, 1, 5, 16, 1), "get_meta_param: num_kv_splits: expected None, -1 or a positive int, got 0"),
        ((-2, 1, 5, 16, 1), "get_meta_param: num_kv_splits: expected None, -1 or a positive int, got -2"),
        ((None, -1, 5, 16, 1), "get_meta_param: bs: expected 0 or more, got -1"),
        ((None, 1, -5, 16, 1), "get_meta_param: total_kv: expected 0 or more, got -5"),
    ],
)
def test_bad_numbers(arguments: tuple, text: str) -> None:
    with pytest.raises(ValueError) as caught:
        get_meta_param(*arguments, "bfloat16")
    assert str(caught.value) == text


def test_the_op_uses_it() -> None:
    """The automatic count of a call is this function's, with q's dtype and kv_indices.shape[0] * page_size rows."""
    for q_dtype, heads, batch, length in product(("bfloat16", "float8_e4m3fn"), (16, 128), (1, 3), (64, 700, 20_000)):
        total = batch * length
        plan = aiter_c.mla_plan(batch, heads, 1, 1, q_dtype, "float8_e4m3fn", max_kv_len=length)
        want, _ = get_meta_param(None, batch, total, heads, 1, q_dtype)
        assert plan.num_kv_splits == want, (q_dtype, heads, batch, length)


def test_all_the_ways_to_it() -> None:
    assert aiter_c.get_meta_param is aiter_c.mla.get_meta_param is get_meta_param
