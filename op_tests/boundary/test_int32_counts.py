"""What the helpers compute and a kernel later indexes with fits its type, or the argument at fault is refused."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

import aiter_c
from aiter_c import get_meta_param

MOST = 2**31 - 1
NUMBERS = {"num_kv_splits": 2, "bs": 4, "total_kv": 1000, "nhead": 16, "max_seqlen_q": 1, "tg_factor": 1, "cu_num": 80}


def _call(dtype: object = "bfloat16", **changed: object) -> tuple:
    return get_meta_param(**NUMBERS | changed, dtype=dtype)


@pytest.mark.parametrize("name", [name for name in NUMBERS if name != "total_kv"])
@pytest.mark.parametrize("value", [MOST + 1, 2**63, 2**64])
def test_beyond_int32(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"^get_meta_param: {name}: expected at most {MOST}, got {value}$"):
        _call(**{name: value})


def test_kv_rows_beyond_int64() -> None:
    assert _call(total_kv=2**63 - 1)[0] == 2
    with pytest.raises(ValueError, match=f"^get_meta_param: total_kv: expected at most {2**63 - 1}, got {2**63}$"):
        _call(total_kv=2**63)


@pytest.mark.parametrize(
    ("name", "least"), [("bs", 0), ("total_kv", 0), ("nhead", 1), ("max_seqlen_q", 0), ("tg_factor", 0), ("cu_num", 1)]
)
def test_below_the_least(name: str, least: int) -> None:
    _call(**{name: least})
    with pytest.raises(ValueError, match=f"^get_meta_param: {name}: expected {least} or more, got {least - 1}$"):
        _call(**{name: least - 1})


@pytest.mark.parametrize("name", [name for name in NUMBERS if name != "num_kv_splits"])
@pytest.mark.parametrize("value", [1.0, "4", [4]])
def test_no_int(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"^get_meta_param: {name}: expected int, got {type(value).__name__}$"):
        _call(**{name: value})


def test_ints_of_numpy_are_ints() -> None:
    assert _call(bs=np.int64(4), total_kv=np.int32(1000), nhead=np.uint8(16))[1].tolist() == [0, 2, 4, 6, 8]


@pytest.mark.parametrize(("bs", "splits"), [(1, MOST), (7, 306783378), (2, 2**30 - 1)])
def test_the_indptr_ends_within_int32(bs: int, splits: int) -> None:
    _, indptr = _call(bs=bs, num_kv_splits=splits)
    assert indptr.tolist() == [i * splits for i in range(bs + 1)] and indptr.dtype == np.int32


@pytest.mark.parametrize("framework", ["numpy", "torch"])
@pytest.mark.parametrize(("bs", "splits"), [(2, MOST), (8, 306783378), (2**27, 16), (2, 2**30)])
def test_an_indptr_beyond_int32(bs: int, splits: int, framework: str) -> None:
    dtype: object = "bfloat16"
    if framework == "torch":
        if importlib.util.find_spec("torch") is None:
            pytest.skip("torch is not installed")
        import torch

        dtype = torch.bfloat16
    text = rf"^get_meta_param: bs: expected at most {MOST // splits} with {splits} splits \(int32 indptr\), got {bs}$"
    with pytest.raises(ValueError, match=text):
        _call(dtype, bs=bs, num_kv_splits=splits, device="cpu")


def test_numbers_of_a_plan() -> None:
    """By argument, before anything is computed from them."""
    for name in ("batch", "num_heads", "max_seqlen_q", "page_size", "num_kv_splits"):
        numbers = {"batch": 1, "num_heads": 16, "max_seqlen_q": 1, "page_size": 1} | {name: MOST + 1}
        with pytest.raises(ValueError, match=f"^mla_plan: {name}: expected .*, got {MOST + 1}$"):
            aiter_c.mla_plan(**numbers, q_dtype="bfloat16", kv_dtype="bfloat16")
    with pytest.raises(ValueError, match=r"^mla_plan: max_kv_len: expected .*, got 9223372036854775807$"):
        aiter_c.mla_plan(2, 16, 1, 1, "bfloat16", "bfloat16", max_kv_len=2**63 - 1)
    plan = aiter_c.mla_plan(4, 16, 1, 1, "bfloat16", "bfloat16", num_kv_splits=8)
    with pytest.raises(ValueError, match=r"^MlaPlan\.workspace_bytes: num_rows: expected less than 2\*\*63 bytes"):
        plan.workspace_bytes(2**62)
