"""Every argument, wrong in every way: the class, the exact text, and no byte of any argument changed.

The base calls: q [2, 1, 4, 128] with lengths (70, 30) in pages of 16, and Q [3, 4, 128] with 30 keys.
"""

from __future__ import annotations

import numpy as np
import pytest
from boundary.producer import CUDA, Producer
from ids import PART, part

import aiter_c
from aiter_c.testing.memory import dtype_of
from aiter_c.testing.ops.mqa_logits import FP8, LogitsCase, PagedLogitsCase

CASES = {
    "paged": PagedLogitsCase(lens=(70, 30), heads=4, block=16),
    "contiguous": LogitsCase(keys=30, heads=4),
}
PAGED, CONTIGUOUS, BOTH = ("paged",), ("contiguous",), ("paged", "contiguous")

#: (op, argument, its wrong value or a function of the right one, exception, text after "op: argument: ").
ROWS: list[tuple[str, str, object, type, str]] = []


def _bad(ops: tuple[str, ...], argument: str, value: object, error: type, text: str) -> None:
    ROWS.extend((op, argument, value, error, text) for op in ops)


def _read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


TENSORS = {
    "q_fp8": (PAGED, "float8_e4m3fn or float8_e4m3fnuz"),
    "kv_cache": (PAGED, "float8_e4m3fn, float8_e4m3fnuz, uint8 or int8"),
    "weights": (BOTH, "float32"),
    "out_logits": (PAGED, "float32"),
    "context_lens": (PAGED, "int32"),
    "kv_indices": (PAGED, "int32"),
    "Q": (CONTIGUOUS, "float8_e4m3fn or float8_e4m3fnuz"),
    "KV": (CONTIGUOUS, "float8_e4m3fn or float8_e4m3fnuz"),
    "kv_scales": (CONTIGUOUS, "float32"),
    "cu_starts": (CONTIGUOUS, "int32"),
    "cu_ends": (CONTIGUOUS, "int32"),
}
for _name, (_ops, _dtypes) in TENSORS.items():
    for _value in ([1, 2], "text", 3, None):
        _got = "None" if _value is None else type(_value).__name__
        _bad(_ops, _name, _value, TypeError, f"expected a tensor (DLPack or NumPy), got {_got}")
    for _other in sorted({"float64", "int64", "int32", "float32", "bfloat16"} - set(_dtypes.replace(",", " ").split())):
        _bad(
            _ops,
            _name,
            lambda a, d=_other: np.zeros(a.shape, dtype_of(d)),
            TypeError,
            f"expected dtype {_dtypes}, got {_other}",
        )
    for _op in _ops if _name not in ("q_fp8", "Q", "KV") else ():  # those are not told through DLPack by this producer
        _leader = "q_fp8" if _op == "paged" else "Q"
        _text = f"expected device cpu (of {_leader}), got cuda:0"
        _bad((_op,), _name, lambda a: Producer(a, device=(CUDA, 0)), ValueError, _text)

# --- rank and shape ---------------------------------------------------------------------------------------------
_bad(PAGED, "q_fp8", lambda a: a[0], ValueError, "expected shape [B, N, H, D], got [1, 4, 128]")
_bad(
    PAGED,
    "kv_cache",
    lambda a: a[:, :8],
    ValueError,
    "expected shape [pages, block=16 (of KVBlockSize), 1, bytes], got [8, 8, 1, 132]",
)
_bad(
    PAGED, "kv_cache", lambda a: a[..., :131], ValueError, "expected at least 132 bytes of a key and its scale, got 131"
)
_bad(
    PAGED,
    "kv_cache",
    lambda a: np.zeros((8, 32, 1, 132), a.dtype)[:, ::2],
    ValueError,
    "expected contiguous pages (stride(1) 132), got stride(1) 264",
)
_bad(
    PAGED,
    "weights",
    lambda a: a[:1],
    ValueError,
    "expected shape [at least rows=2 (of q_fp8, B * N), H=4 (of q_fp8)], got [1, 4]",
)
_bad(
    PAGED,
    "weights",
    lambda a: a[:, :3],
    ValueError,
    "expected shape [at least rows=2 (of q_fp8, B * N), H=4 (of q_fp8)], got [2, 3]",
)
_bad(
    PAGED,
    "out_logits",
    lambda a: a[:1],
    ValueError,
    "expected shape [at least rows=2 (of q_fp8, B * N), columns], got [1, 70]",
)
_bad(PAGED, "context_lens", lambda a: np.zeros((2, 3), a.dtype), ValueError, "expected shape [L, 1], got [2, 3]")
_bad(PAGED, "kv_indices", lambda a: a[0], ValueError, "expected shape [tables, entries], got [5]")
_bad(CONTIGUOUS, "Q", lambda a: a[0], ValueError, "expected shape [Sq, H, D], got [4, 128]")
_bad(CONTIGUOUS, "KV", lambda a: a[:, :64], ValueError, "expected shape [Sk, D=128 (of Q)], got [30, 64]")
_bad(CONTIGUOUS, "kv_scales", lambda a: a[:29], ValueError, "expected shape [Sk=30 (of KV)], got [29]")
_bad(CONTIGUOUS, "kv_scales", lambda a: a.reshape(15, 2), ValueError, "expected shape [Sk=30 (of KV), 1], got [15, 2]")
_bad(CONTIGUOUS, "weights", lambda a: a[:2], ValueError, "expected shape [Sq=3 (of Q), H=4 (of Q)], got [2, 4]")
for _name in ("cu_starts", "cu_ends"):
    _bad(CONTIGUOUS, _name, lambda a: a[:2], ValueError, "expected shape [at least Sq=3 (of Q)], got [2]")
_bad(
    CONTIGUOUS,
    "logits",
    lambda a: a[:2],
    ValueError,
    "expected shape [Sq=3 (of Q), at least Sk=30 (of KV)], got [2, 30]",
)
_bad(
    CONTIGUOUS,
    "logits",
    lambda a: a[:, :29],
    ValueError,
    "expected shape [Sq=3 (of Q), at least Sk=30 (of KV)], got [3, 29]",
)
for _ops, _name in ((PAGED, "out_logits"), (CONTIGUOUS, "logits")):
    _bad(_ops, _name, lambda a: a[:, ::-1], ValueError, "expected stride 1 in the last dimension, got -1")
    _overlap = "expected an output without overlapping elements, got strides that overlap"
    _bad(_ops, _name, lambda a: np.lib.stride_tricks.as_strided(a, strides=(0, 4)), ValueError, _overlap)
    _bad(_ops, _name, _read_only, BufferError, "expected a writable tensor, got a read-only one")

# --- numbers ----------------------------------------------------------------------------------------------------
for _name, _low, _high in (("max_model_len", 0, 2**31 - 1), ("KVBlockSize", 1, 2**25)):
    _bad(PAGED, _name, 2.0, TypeError, "expected int, got float")
    _bad(PAGED, _name, None, TypeError, "expected int, got None")
    _bad(PAGED, _name, _low - 1, ValueError, f"expected {_low} to {_high}, got {_low - 1}")
    _bad(PAGED, _name, _high + 1, ValueError, f"expected {_low} to {_high}, got {_high + 1}")
_bad(PAGED, "Preshuffle", "yes", TypeError, "expected bool, got str")
_bad(BOTH, "clean_logits", None, TypeError, "expected bool, got None")
_bad(BOTH, "stream", "0", TypeError, "expected int, got str")
_bad(BOTH, "q_dtype", "float8_e4m3fnuz", TypeError, "")
_bad(BOTH, "kv_dtype", "bfloat16", TypeError, "")


def _refused(case: PagedLogitsCase | LogitsCase, changes: dict[str, object], error: type, text: str) -> None:
    """The call with these arguments replaced raises exactly this, and leaves every byte of the others alone."""
    inputs = case.inputs()
    inputs.freeze()
    arguments = inputs.arguments()
    values = {n: v(arguments[n]) if callable(v) else v for n, v in changes.items()}
    with pytest.raises(Exception) as caught:
        getattr(aiter_c, case.op)(**arguments | values)
    assert str(caught.value) == text
    assert type(caught.value) is error
    changed = [name for name, block in inputs.blocks.items() if block.first_change() is not None]
    assert not changed, f"a failed call changed {changed}"


_KEYWORD_TEXTS = {
    ("paged", "q_dtype"): "q_fp8: expected uint8 data to read as q_dtype=float8_e4m3fnuz, got float8_e4m3fn",
    ("contiguous", "q_dtype"): "Q: expected uint8 data to read as q_dtype=float8_e4m3fnuz, got float8_e4m3fn",
    ("paged", "kv_dtype"): "kv_cache: expected uint8 data to read as kv_dtype=bfloat16, got uint8",
    ("contiguous", "kv_dtype"): "KV: expected uint8 data to read as kv_dtype=bfloat16, got float8_e4m3fn",
}


@pytest.mark.parametrize(
    ("op", "argument", "value", "error", "text"),
    ROWS,
    ids=[f"{i}-{row[0]}-{row[1]}-{part(row[4][-PART:])}" for i, row in enumerate(ROWS)],
)
def test_refusals(op: str, argument: str, value: object, error: type, text: str) -> None:
    case = CASES[op]
    whole = _KEYWORD_TEXTS.get((op, argument)) if not text else f"{argument}: {text}"
    _refused(case, {argument: value}, error, f"{case.op}: {whole}")


def test_a_preshuffled_page_has_whole_tiles() -> None:
    cache = np.zeros((4, 8, 1, 132), np.uint8)
    text = "deepgemm_fp8_paged_mqa_logits: KVBlockSize: expected a multiple of 16 with Preshuffle, got 8"
    _refused(CASES["paged"], {"Preshuffle": True, "KVBlockSize": 8, "kv_cache": cache}, ValueError, text)


@pytest.mark.parametrize(
    ("heads", "dim", "text"),
    [
        (65, 128, "num_heads 65 (at most 64)"),
        (4, 64, "head_dim 64 (a multiple of 128)"),
        (4, 256, "head_dim 256 (at most 128)"),
    ],
)
def test_what_no_kernel_serves(heads: int, dim: int, text: str) -> None:
    """Named with the column of the kernel table that differs."""
    q, kv = np.zeros((3, heads, dim), dtype_of(FP8[0])), np.zeros((9, dim), dtype_of(FP8[0]))
    weights, scales = np.zeros((3, heads), np.float32), np.zeros(9, np.float32)
    bounds = np.zeros(3, np.int32)
    with pytest.raises(aiter_c.UnsupportedError) as caught:
        aiter_c.fp8_mqa_logits(q, kv, scales, weights, bounds, bounds)
    name, number = text.split(" (")[0].split()
    assert str(caught.value).startswith("fp8_mqa_logits: ") and f"{name} {number}" in str(caught.value)


def test_no_heads() -> None:
    q = np.zeros((3, 0, 128), dtype_of(FP8[0]))
    text = "fp8_mqa_logits: heads: expected 1 to 2147483647, got 0"
    _refused(CASES["contiguous"], {"Q": q, "weights": np.zeros((3, 0), np.float32)}, ValueError, text)


def test_memory_that_is_shared() -> None:
    shared = "expected memory of its own, got memory shared with"
    memory = np.zeros((2, 70), np.float32)
    text = f"deepgemm_fp8_paged_mqa_logits: out_logits: {shared} weights"
    _refused(CASES["paged"], {"out_logits": memory, "weights": memory[:, :4]}, ValueError, text)
    memory = np.zeros((3, 30), np.float32)
    _refused(
        CASES["contiguous"],
        {"logits": memory, "kv_scales": memory[0]},
        ValueError,
        f"fp8_mqa_logits: logits: {shared} kv_scales",
    )
