"""Every argument, wrong in every way: the class, the exact text, and no byte of any argument changed.

The base calls have logits [3, 30], k 5, and for decode next_n 2 (2 requests).
"""

# ruff: noqa: E501 error texts stand on one line

from __future__ import annotations

import numpy as np
import pytest
from boundary.producer import CUDA, Producer
from ids import PART, part

import aiter_c
from aiter_c import _C
from aiter_c.testing.ops.top_k import SPLIT_COLUMNS, TopKCase

CASES = {"prefill": TopKCase(columns=30, k=5), "decode": TopKCase(columns=30, k=5, next_n=2)}
PREFILL, DECODE, BOTH = ("prefill",), ("decode",), ("prefill", "decode")

#: (op, argument, its wrong value or a function of the right one, exception, text after "op: argument: ").
ROWS: list[tuple[str, str, object, type, str]] = []


def _bad(ops: tuple[str, ...], argument: str, value: object, error: type, text: str) -> None:
    ROWS.extend((op, argument, value, error, text) for op in ops)


def _read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


TENSORS = {
    "logits": (BOTH, "float32"),
    "rowStarts": (PREFILL, "int32"),
    "rowEnds": (PREFILL, "int32"),
    "seqLens": (DECODE, "int32"),
    "indices": (BOTH, "int32"),
    "values": (PREFILL, "float32"),
}
for _name, (_ops, _dtype) in TENSORS.items():
    for _value in ([1, 2], "text", 3, object()):
        _bad(_ops, _name, _value, TypeError, f"expected a tensor (DLPack or NumPy), got {type(_value).__name__}")
    if _name != "values":
        _bad(_ops, _name, None, TypeError, "expected a tensor (DLPack or NumPy), got None")
    for _other in sorted({"float64", "float16", "int64", "uint32", "int32", "float32"} - {_dtype}):
        _bad(_ops, _name, lambda a, d=_other: np.zeros(a.shape, d), TypeError, f"expected dtype {_dtype}, got {_other}")
    _bad(_ops, _name, lambda a: Producer(a, data=0), ValueError, "expected a tensor with memory, got a null pointer")
    if _name != "logits":
        _bad(
            _ops,
            _name,
            lambda a: Producer(a, device=(CUDA, 0)),
            ValueError,
            "expected device cpu (of logits), got cuda:0",
        )

# --- rank and shape ---------------------------------------------------------------------------------------------
_LOGITS = "expected shape [at least numRows=3 (of numRows), columns], got"
_bad(BOTH, "logits", lambda a: a[0], ValueError, f"{_LOGITS} [30]")
_bad(BOTH, "logits", lambda a: a[None], ValueError, f"{_LOGITS} [1, 3, 30]")
_bad(BOTH, "logits", lambda a: a[:2], ValueError, f"{_LOGITS} [2, 30]")
for _name in ("rowStarts", "rowEnds"):
    _rows = "expected shape [at least numRows=3 (of numRows)], got"
    _bad(PREFILL, _name, lambda a: a[:2], ValueError, f"{_rows} [2]")
    _bad(PREFILL, _name, lambda a: a[None], ValueError, f"{_rows} [1, 3]")
    _bad(PREFILL, _name, np.array(3, np.int32), ValueError, f"{_rows} []")
_REQUESTS = "expected shape [at least requests=2 (of numRows / next_n)], got"
_bad(DECODE, "seqLens", lambda a: a[:1], ValueError, f"{_REQUESTS} [1]")
_bad(DECODE, "seqLens", lambda a: a[:, None], ValueError, f"{_REQUESTS} [2, 1]")
_OUTPUT = "expected shape [at least numRows=3 (of numRows), at least k=5 (of k)], got"
for _name in ("indices", "values"):
    _ops = TENSORS[_name][0]
    _bad(_ops, _name, lambda a: a[:2], ValueError, f"{_OUTPUT} [2, 5]")
    _bad(_ops, _name, lambda a: a[:, :4], ValueError, f"{_OUTPUT} [3, 4]")
    _bad(_ops, _name, lambda a: a[0], ValueError, f"{_OUTPUT} [5]")
    _spread = "expected stride 1 in the last dimension, got"
    _bad(_ops, _name, lambda a: np.zeros((3, 10), a.dtype)[:, ::2], ValueError, f"{_spread} 2")
    _bad(_ops, _name, lambda a: a[:, ::-1], ValueError, f"{_spread} -1")
    _overlap = "expected an output without overlapping elements, got strides that overlap"
    _bad(_ops, _name, lambda a: np.lib.stride_tricks.as_strided(a, strides=(0, 4)), ValueError, _overlap)
    _bad(_ops, _name, lambda a: np.lib.stride_tricks.as_strided(a, strides=(16, 4)), ValueError, _overlap)
    _bad(_ops, _name, _read_only, BufferError, "expected a writable tensor, got a read-only one")
_bad(
    BOTH,
    "logits",
    lambda a: np.zeros((3, 60), np.float32)[:, ::2],
    ValueError,
    "expected stride 1 in the last dimension, got 2",
)
for _name in ("rowStarts", "rowEnds", "seqLens"):
    _bad(
        TENSORS[_name][0],
        _name,
        np.zeros(8, np.int32)[::2],
        ValueError,
        "expected stride 1 in the last dimension, got 2",
    )

# --- numbers ----------------------------------------------------------------------------------------------------
for _name in ("numRows", "stride0", "stride1", "k"):
    _bad(BOTH, _name, 2.0, TypeError, "expected int, got float")
    _bad(BOTH, _name, "2", TypeError, "expected int, got str")
    _bad(BOTH, _name, None, TypeError, "expected int, got None")
    _bad(BOTH, _name, 2**64, ValueError, "expected a 64-bit integer, got 18446744073709551616")
_bad(BOTH, "k", -1, ValueError, "expected 0 to 2147483647, got -1")
_bad(BOTH, "k", 2**31, ValueError, "expected 0 to 2147483647, got 2147483648")
_bad(BOTH, "stride0", 29, ValueError, "expected 30 (logits.stride(0)), got 29")
_bad(BOTH, "stride1", 0, ValueError, "expected 1 (logits.stride(1)), got 0")
_bad(DECODE, "next_n", 0, ValueError, "expected 1 to 2147483647, got 0")
_bad(DECODE, "next_n", -1, ValueError, "expected 1 to 2147483647, got -1")
_bad(DECODE, "next_n", 2**31, ValueError, "expected 1 to 2147483647, got 2147483648")
_bad(DECODE, "next_n", "1", TypeError, "expected int, got str")
_bad(BOTH, "stable", "yes", TypeError, "expected bool, got str")
_bad(BOTH, "stable", None, TypeError, "expected bool, got None")
_bad(BOTH, "stream", "0", TypeError, "expected int, got str")


def _refused(case: TopKCase, changes: dict[str, object], error: type, text: str) -> None:
    """The call with these arguments replaced raises exactly this, and leaves every byte of the others alone."""
    inputs = case.inputs()
    inputs.freeze()
    arguments = inputs.arguments()
    values = {n: v(arguments[n]) if callable(v) else v for n, v in changes.items()}
    given = {n: v.tobytes() for n, v in values.items() if isinstance(v, np.ndarray)}
    with pytest.raises(Exception) as caught:
        getattr(aiter_c, case.op)(**arguments | values)
    assert str(caught.value) == text
    assert type(caught.value) is error
    changed = [name for name, block in inputs.blocks.items() if block.first_change() is not None]
    assert not changed, f"a failed call changed {changed}"
    assert all(values[name].tobytes() == before for name, before in given.items())


@pytest.mark.parametrize(
    ("op", "argument", "value", "error", "text"),
    ROWS,
    ids=[f"{i}-{row[0]}-{row[1]}-{part(row[4][-PART:])}" for i, row in enumerate(ROWS)],
)
def test_refusals(op: str, argument: str, value: object, error: type, text: str) -> None:
    case = CASES[op]
    _refused(case, {argument: value}, error, f"{case.op}: {argument}: {text}")


def test_more_columns_than_int32_counts() -> None:
    arguments = TopKCase(rows=1, next_n=1).inputs().arguments()
    arguments["logits"] = np.lib.stride_tricks.as_strided(arguments["logits"], (1, 2**31))  # no such memory: not read
    with pytest.raises(ValueError) as caught:
        aiter_c.top_k_per_row_decode(**arguments)
    assert str(caught.value) == "top_k_per_row_decode: logits.shape[1]: expected 0 to 2147483647, got 2147483648"


@pytest.mark.parametrize("rows", [4, 2**40, 2**63 - 1])
def test_more_rows_than_there_are(rows: int) -> None:
    text = f"top_k_per_row_prefill: logits: expected shape [at least numRows={rows} (of numRows), columns], got [3, 30]"
    _refused(CASES["prefill"], {"numRows": rows}, ValueError, text)


def test_the_largest_counts_of_requests() -> None:
    text = "top_k_per_row_decode: logits: expected shape [at least numRows=9223372036854775807 (of numRows), columns], got [3, 30]"
    _refused(CASES["decode"], {"numRows": 2**63 - 1, "next_n": 1}, ValueError, text)


def test_memory_that_is_shared() -> None:
    """An output with an input, and the outputs with each other; columns of one buffer are apart only as far as their
    rows do not interleave."""
    case = CASES["prefill"]
    shared = "expected memory of its own, got memory shared with"
    logits = case.inputs().array("logits")
    _refused(case, {"logits": logits, "values": logits}, ValueError, f"{case.op}: values: {shared} logits")
    buffer = np.zeros((3, 5), np.int32)
    both = {"indices": buffer, "values": buffer.view(np.float32)}
    _refused(case, both, ValueError, f"{case.op}: values: {shared} indices")
    _refused(case, {"indices": buffer, "rowEnds": buffer[0]}, ValueError, f"{case.op}: indices: {shared} rowEnds")


CANDIDATES = [
    ({"candidate_indices": [1]}, TypeError, "candidate_indices: expected a tensor (DLPack or NumPy), got list"),
    ({"candidate_indices": np.zeros((1, 2, 20))}, TypeError, "candidate_indices: expected dtype int32, got float64"),
    (
        {"candidate_indices": np.zeros((1, 2, 19), np.int32)},
        ValueError,
        "candidate_indices: expected shape [numRows=1 (of numRows), parts=2 (of the number of threads), part_k=20 (of k)], got [1, 2, 19]",
    ),
    (
        {"candidate_values": np.zeros((1, 2, 40), np.float32)[..., ::2]},
        ValueError,
        "candidate_values: expected a contiguous tensor, got strides with gaps",
    ),
]


@pytest.mark.parametrize(("changes", "error", "text"), CANDIDATES)
def test_scratch_that_a_caller_passes(changes: dict, error: type, text: str) -> None:
    """_C takes the scratch of rows that are cut into parts; the public ops allocate it."""
    aiter_c.set_num_threads(2)
    inputs = TopKCase(rows=1, columns=SPLIT_COLUMNS, k=20).inputs()
    inputs.freeze()
    with pytest.raises(error) as caught:
        _C.top_k_per_row_prefill(**inputs.arguments() | changes)
    assert str(caught.value) == f"top_k_per_row_prefill: {text}"
    assert all(block.first_change() is None for block in inputs.blocks.values())
    shared = inputs.array("logits")[:, :40].reshape(1, 2, 20)
    with pytest.raises(
        ValueError, match=r"candidate_values: expected memory of its own, got memory shared with logits$"
    ):
        _C.top_k_per_row_prefill(**inputs.arguments() | {"candidate_values": shared})
    aiter_c.set_num_threads(0)
