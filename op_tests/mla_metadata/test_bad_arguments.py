"""Every argument, wrong in every way: the class, the exact text, and no byte of any argument changed.

The base call has 2 requests of 2 rows, 3 workers, buffers of 12 items, 9 tiles and 11 entries; pages of 4 keys.
"""

from __future__ import annotations

import numpy as np
import pytest
from boundary.producer import CUDA, Producer
from ids import PART, part

import aiter_c
from aiter_c.testing.ops.mla_metadata import OUTPUTS, MlaMetadataCase

OP = "get_mla_metadata_v1"
CASE = MlaMetadataCase(q_lens=(2, 2), kv_lens=(90, 40), page_size=4, workers=3, sizes=(12, 9, 11))
INPUTS = ("seqlens_qo_indptr", "seqlens_kv_indptr", "kv_last_page_lens")

#: (argument, its wrong value or a function of the right one, exception, text after "op: argument: ").
ROWS: list[tuple[str, object, type, str]] = []


def _bad(argument: str, value: object, error: type, text: str) -> None:
    ROWS.append((argument, value, error, text))


def _read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


for _name in (*INPUTS, *OUTPUTS):
    for _value in ([1, 2], "text", 3):
        _bad(_name, _value, TypeError, f"expected a tensor (DLPack or NumPy), got {type(_value).__name__}")
    _tag = _name == "work_metadata_ptrs"
    _given = "expected a tensor, got None" if _name == INPUTS[2] else "expected a tensor (DLPack or NumPy), got None"
    _bad(_name, None, TypeError, _given)
    _dtype = "int64 or uint64" if _tag else "int32"
    for _other in ("float32", "uint32", *(("int32",) if _tag else ("int64",))):
        _bad(_name, lambda a, d=_other: np.zeros(a.shape, d), TypeError, f"expected dtype {_dtype}, got {_other}")
    _bad(_name, lambda a: Producer(a, data=0), ValueError, "expected a tensor with memory, got a null pointer")

# --- rank and shape ---------------------------------------------------------------------------------------------
_bad("seqlens_qo_indptr", lambda a: a[None], ValueError, "expected shape [B+1], got [1, 3]")
_bad("seqlens_qo_indptr", lambda a: a[:0], ValueError, "expected shape [B+1], got [0]")
_bad(
    "seqlens_kv_indptr", lambda a: a[:2], ValueError, "expected shape [at least B+1=3 (of seqlens_qo_indptr)], got [2]"
)
_bad("kv_last_page_lens", lambda a: a[:1], ValueError, "expected shape [at least B=2 (of seqlens_qo_indptr)], got [1]")
_bad("work_metadata_ptrs", lambda a: np.zeros(3, a.dtype), ValueError, "expected shape [2], got [3]")
_bad("work_info_set", lambda a: a[:, :7], ValueError, "expected shape [items, 8], got [12, 7]")
_bad("work_info_set", lambda a: a[0], ValueError, "expected shape [items, 8], got [8]")
_bad("work_indptr", lambda a: np.zeros((3, 8), a.dtype), ValueError, "expected shape [W+1], got [3, 8]")
_bad("reduce_indptr", lambda a: a[:0], ValueError, "expected shape [tiles+1], got [0]")
_bad("reduce_final_map", lambda a: a[:, 0].copy(), ValueError, "expected shape [rows, 2], got [9]")
_bad("reduce_partial_map", lambda a: a[None], ValueError, "expected shape [entries], got [1, 11]")
for _name in INPUTS:
    _bad(_name, np.zeros(8, np.int32)[::2], ValueError, "expected stride 1 in the last dimension, got 2")
for _name, _shape in (("work_info_set", (12, 9)), ("reduce_final_map", (9, 3))):
    _width = _shape[1] - 1
    _bad(
        _name,
        lambda a, s=_shape, w=_width: np.zeros(s, a.dtype)[:, :w],
        ValueError,
        "expected a contiguous tensor, got strides with gaps",
    )
for _name in ("work_indptr", "reduce_indptr", "reduce_partial_map"):
    _bad(
        _name,
        lambda a: np.zeros(2 * len(a), a.dtype)[::2],
        ValueError,
        "expected a contiguous tensor, got strides with gaps",
    )
for _name in OUTPUTS:
    _bad(_name, _read_only, BufferError, "expected a writable tensor, got a read-only one")

# --- sizes: 2 tiles at least ------------------------------------------------------------------------------------
_bad("work_info_set", lambda a: a[:1], ValueError, "expected at least 2 rows for 2 tiles, got 1")
_bad("reduce_indptr", lambda a: a[:2], ValueError, "expected at least 3 rows for 2 tiles, got 2")
_bad("reduce_final_map", lambda a: a[:1], ValueError, "expected at least 2 rows for 2 tiles, got 1")

# --- numbers ----------------------------------------------------------------------------------------------------
_numbers = ("num_heads_per_head_k", "num_heads_k", "page_size", "kv_granularity", "max_seqlen_qo", "topk")
for _name in (*_numbers, "uni_seqlen_qo", "max_split_per_batch", "mla_version"):
    _bad(_name, 2.0, TypeError, "expected int, got float")
    _bad(_name, "2", TypeError, "expected int, got str")
    _bad(_name, 2**64, ValueError, "expected a 64-bit integer, got 18446744073709551616")
for _name in _numbers[:4]:
    _bad(_name, None, TypeError, "expected int, got None")
    for _value in (0, -1, 2**31):
        _bad(_name, _value, ValueError, f"expected 1 to 2147483647, got {_value}")
for _name in ("max_seqlen_qo", "topk", "uni_seqlen_qo"):
    _bad(_name, 2**31, ValueError, "expected -2147483648 to 2147483647, got 2147483648")
for _value in (0, -2, 2**31):
    _splits = "expected None or -1 (automatic) or 1 to 2147483647, got"
    _bad("max_split_per_batch", _value, ValueError, f"{_splits} {_value}")
for _name in ("is_causal", "fast_mode", "intra_batch_mode", "is_cp_round_robin", "deterministic"):
    _bad(_name, "yes", TypeError, "expected bool, got str")
    _bad(_name, None, TypeError, "expected bool, got None")
_bad("stream", "0", TypeError, "expected int, got str")
_bad("stream", -1, ValueError, "expected a stream's handle, at least 0, got -1")


def _refused(changes: dict[str, object], error: type, text: str, case: MlaMetadataCase = CASE) -> None:
    """The call with these arguments replaced raises exactly this, and leaves every byte of the others alone."""
    inputs = case.inputs()
    inputs.freeze()
    arguments = inputs.arguments()
    values = {n: v(arguments[n]) if callable(v) else v for n, v in changes.items()}
    given = {n: v.tobytes() for n, v in values.items() if isinstance(v, np.ndarray)}
    with pytest.raises(Exception) as caught:
        aiter_c.get_mla_metadata_v1(**arguments | values)
    assert str(caught.value) == text
    assert type(caught.value) is error
    changed = [name for name, block in inputs.blocks.items() if block.first_change() is not None]
    assert not changed, f"a failed call changed {changed}"
    assert all(values[name].tobytes() == before for name, before in given.items())


@pytest.mark.parametrize(
    ("argument", "value", "error", "text"),
    ROWS,
    ids=[f"{i}-{row[0]}-{part(row[3][-PART:])}" for i, row in enumerate(ROWS)],
)
def test_refusals(argument: str, value: object, error: type, text: str) -> None:
    _refused({argument: value}, error, f"{OP}: {argument}: {text}")


def test_no_worker() -> None:
    _refused(
        {"work_indptr": np.zeros(1, np.int32)},
        ValueError,
        f"{OP}: work_indptr.shape[0]: expected 2 to 2147483647, got 1",
    )


def test_heads_that_int32_does_not_count() -> None:
    text = f"{OP}: num_heads_per_head_k * num_heads_k: expected 1 to 2147483647, got 4294967296"
    _refused({"num_heads_per_head_k": 2**16, "num_heads_k": 2**16}, ValueError, text)


@pytest.mark.parametrize(
    ("name", "needed", "size"), [("work_info_set", 32, 31), ("reduce_partial_map", 32, 31), ("reduce_indptr", 3, 2)]
)
def test_buffers_of_a_deterministic_plan(name: str, needed: int, size: int) -> None:
    """16 items and entries per tile."""
    case = MlaMetadataCase(q_lens=(2, 2), kv_lens=(90, 40), deterministic=True, sizes=(32, 2, 32))
    text = f"{OP}: {name}: expected at least {needed} rows for 2 tiles, got {size}"
    _refused({name: lambda a: a[:size]}, ValueError, text, case)


def test_tiles_of_long_queries() -> None:
    """max_seqlen_qo says how many there may be."""
    case = MlaMetadataCase(q_lens=(2, 2), kv_lens=(90, 40), heads=128, sizes=(4, 3, 11))
    _refused({}, ValueError, f"{OP}: reduce_indptr: expected at least 5 rows for 4 tiles, got 4", case)


def test_too_many_tiles() -> None:
    """The planner counts 2**20."""
    arguments = CASE.inputs().arguments() | {"page_size": 1}
    arguments["seqlens_qo_indptr"] = np.zeros(2**20 + 2, np.int32)
    arguments["seqlens_kv_indptr"] = arguments["seqlens_qo_indptr"]
    with pytest.raises(ValueError) as caught:
        aiter_c.get_mla_metadata_v1(**arguments)
    text = "seqlens_qo_indptr.shape[0] - 1: expected 0 to 1048576, got 1048577"
    assert str(caught.value) == f"{OP}: {text}"
    inputs = CASE.inputs().arguments() | {"max_seqlen_qo": 2**30, "num_heads_per_head_k": 128}
    with pytest.raises(ValueError, match=f"^{OP}: tiles of the query rows: expected 0 to 1048576, got 2147483648$"):
        aiter_c.get_mla_metadata_v1(**inputs)


def test_memory_that_is_shared() -> None:
    shared = "expected memory of its own, got memory shared with"
    buffer = np.zeros(64, np.int32)
    both = {"reduce_indptr": buffer[:9], "reduce_partial_map": buffer[4:]}
    _refused(both, ValueError, f"{OP}: reduce_partial_map: {shared} reduce_indptr")
    _refused(
        {"work_indptr": lambda a: a, "seqlens_kv_indptr": buffer, "reduce_partial_map": buffer[9:]},
        ValueError,
        f"{OP}: reduce_partial_map: {shared} seqlens_kv_indptr",
    )


def test_a_device_without_a_runtime() -> None:
    """An output elsewhere is the device of the call: here there is no such driver."""
    with pytest.raises(NotImplementedError, match=f"^{OP}: reduce_indptr: expected a device with a runtime, got "):
        aiter_c.get_mla_metadata_v1(
            **CASE.inputs().arguments() | {"reduce_indptr": Producer(np.zeros(9, np.int32), device=(7, 0))}
        )


@pytest.mark.skipif(aiter_c._C.runtime_info()["runtimes"]["cuda"]["available"], reason="there is a CUDA driver")
def test_a_driver_that_is_missing() -> None:
    with pytest.raises(
        NotImplementedError, match=f"^{OP}: work_indptr: expected a device with a runtime, got cuda:0: no "
    ):
        aiter_c.get_mla_metadata_v1(
            **CASE.inputs().arguments() | {"work_indptr": Producer(np.zeros(9, np.int32), device=(CUDA, 0))}
        )


def test_last_page_lens_are_not_looked_at_without_pages() -> None:
    """SGLang passes cu_seqlens_q there."""
    case = MlaMetadataCase()
    for value in (None, np.zeros(0, np.int32), np.zeros((2, 2)), Producer(np.zeros(3, np.int32), device=(CUDA, 0))):
        aiter_c.get_mla_metadata_v1(**case.inputs().arguments() | {"kv_last_page_lens": value})
