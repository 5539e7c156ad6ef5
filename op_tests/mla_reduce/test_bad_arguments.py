"""Every argument of mla_reduce_v1, wrong in every way: the class, the exact text, and no byte of any argument changed.

The base call has partial_output [16, 3, 64], final_output [5, 3, 64], three groups, six partials.
"""

from __future__ import annotations

import numpy as np
import pytest
from boundary.producer import CUDA, Producer
from ids import PART, part

import aiter_c
from aiter_c.testing import dtype_of
from aiter_c.testing.ops.mla_reduce import MlaReduceCase

CASE = MlaReduceCase(heads=3, dv=64, groups=((2, 3), (1, 1), (2, 2)))
INPUTS = ("partial_output", "partial_lse", "reduce_indptr", "reduce_final_map", "reduce_partial_map")
OUTPUTS = ("final_output", "final_lse")

#: (argument, its wrong value or a function of the right one, exception, text behind "mla_reduce_v1: ").
TENSORS: list[tuple[str, object, type, str]] = []


def _bad(argument: str, value: object, error: type, text: str) -> None:
    TENSORS.append((argument, value, error, f"{argument}: {text}"))


def _read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


# --- not a tensor -----------------------------------------------------------------------------------------------
for _name in (*INPUTS, *OUTPUTS):
    for _value in ([1, 2], "text", 3, object()):
        _bad(_name, _value, TypeError, f"expected a tensor (DLPack or NumPy), got {type(_value).__name__}")
    if _name not in ("reduce_final_map", "final_lse"):
        _bad(_name, None, TypeError, "expected a tensor (DLPack or NumPy), got None")


# --- dtype ------------------------------------------------------------------------------------------------------
def _as(dtype: str) -> object:
    return lambda array: np.zeros(array.shape, dtype_of(dtype))


for _name in ("partial_output", "partial_lse", "final_lse"):
    for _dtype in ("float64", "float16", "bfloat16", "int32"):
        _bad(_name, _as(_dtype), TypeError, f"expected dtype float32, got {_dtype}")
for _name in ("reduce_indptr", "reduce_final_map", "reduce_partial_map"):
    for _dtype in ("int64", "uint32", "int16", "float32"):
        _bad(_name, _as(_dtype), TypeError, f"expected dtype int32, got {_dtype}")
for _dtype in ("float64", "int16", "uint8", "float8_e4m3fn"):
    _bad("final_output", _as(_dtype), TypeError, f"expected dtype bfloat16, float16 or float32, got {_dtype}")

# --- rank and shape: (argument that is wrong, its value, argument that is named, what is expected, what came) --------
_P, _H, _D = (f"{size} (of partial_output)" for size in ("P=16", "H=3", "Dv=64"))
_MAP, _LSE = "at least G=3 (of reduce_indptr), 2", f"N=5 (of final_output), {_H}"
SHAPES = [
    ("partial_output", lambda a: a[0], "partial_output", "P, H, Dv", "3, 64"),
    ("partial_output", lambda a: a[None, None], "partial_output", "P, H, Dv", "1, 1, 16, 3, 64"),
    ("partial_output", lambda a: a[None], "partial_output", "P, 1, H, Dv", "1, 16, 3, 64"),
    ("partial_output", lambda a: a[:9], "partial_lse", f"P=9 (of partial_output), {_H}", "16, 3"),
    ("partial_lse", lambda a: a[:-1], "partial_lse", f"{_P}, {_H}", "15, 3"),
    ("partial_lse", lambda a: a.T.copy(), "partial_lse", f"{_P}, {_H}", "3, 16"),
    ("partial_lse", lambda a: np.stack([a, a], 2), "partial_lse", f"{_P}, {_H}, 1", "16, 3, 2"),
    ("partial_lse", lambda a: a[:, None, None], "partial_lse", f"{_P}, 1, {_H}, 1", "16, 1, 1, 3"),
    ("partial_lse", lambda a: a.reshape(-1), "partial_lse", f"{_P}, {_H}", "48"),
    ("reduce_indptr", lambda a: a[None], "reduce_indptr", "G+1", "1, 4"),
    ("reduce_indptr", lambda a: a[:0], "reduce_indptr", "G+1", "0"),
    ("reduce_indptr", np.zeros(5, np.int32), "reduce_final_map", _MAP.replace("3", "4", 1), "3, 2"),
    ("reduce_final_map", lambda a: a[:2], "reduce_final_map", _MAP, "2, 2"),
    ("reduce_final_map", lambda a: a.reshape(-1), "reduce_final_map", _MAP, "6"),
    ("reduce_final_map", np.zeros((3, 3), np.int32), "reduce_final_map", _MAP, "3, 3"),
    ("reduce_partial_map", lambda a: a[None], "reduce_partial_map", "n", "1, 6"),
    ("reduce_partial_map", np.array(3, np.int32), "reduce_partial_map", "n", ""),
    ("final_output", lambda a: a[0], "final_output", f"N, {_H}, {_D}", "3, 64"),
    ("final_output", lambda a: a[:, :2], "final_output", f"N, {_H}, {_D}", "5, 2, 64"),
    ("final_output", lambda a: a[..., :63], "final_output", f"N, {_H}, {_D}", "5, 3, 63"),
    ("final_output", lambda a: a[:4], "final_lse", _LSE.replace("5", "4", 1), "5, 3"),
    ("final_lse", lambda a: a[:, :2].copy(), "final_lse", _LSE, "5, 2"),
    ("final_lse", lambda a: a[..., None].copy(), "final_lse", _LSE, "5, 3, 1"),
]
TENSORS += [
    (argument, value, ValueError, f"{named}: expected shape [{expected}], got [{got}]")
    for argument, value, named, expected, got in SHAPES
]

# --- strides ----------------------------------------------------------------------------------------------------
_SPREAD = "expected stride 1 in the last dimension, got 2"
_GAPS = "expected a contiguous tensor, got strides with gaps"
_OVERLAP = "expected an output without overlapping elements, got strides that overlap"
_bad("partial_output", lambda a: np.zeros((16, 3, 65), np.float32)[..., :64], ValueError, _GAPS)
_bad("partial_lse", lambda a: np.zeros((16, 4), np.float32)[:, :3], ValueError, _GAPS)
_bad("reduce_final_map", lambda a: np.zeros((3, 4), np.int32)[:, :2], ValueError, _GAPS)
_bad("final_lse", lambda a: np.zeros((5, 4), np.float32)[:, :3], ValueError, _GAPS)
_bad("final_output", lambda a: np.zeros((5, 3, 128), a.dtype)[..., ::2], ValueError, _SPREAD)
_bad("reduce_indptr", lambda a: np.zeros(8, np.int32)[::2], ValueError, _SPREAD)
_bad("reduce_partial_map", lambda a: np.zeros(12, np.int32)[::2], ValueError, _SPREAD)
_bad("final_output", lambda a: np.lib.stride_tricks.as_strided(a, strides=(0, 128, 2)), ValueError, _OVERLAP)

# --- memory -----------------------------------------------------------------------------------------------------
_ELSEWHERE = "expected device cpu (of partial_output), got cuda:0"
for _name in OUTPUTS:
    _bad(_name, _read_only, BufferError, "expected a writable tensor, got a read-only one")
for _name in (*INPUTS[1:], *OUTPUTS):
    _bad(_name, lambda a: Producer(a, device=(CUDA, 0)), ValueError, _ELSEWHERE)
_bad("partial_output", lambda a: Producer(a, data=0), ValueError, "expected a tensor with memory, got a null pointer")


def _refused(changes: dict[str, object], error: type, text: str) -> None:
    """The call with these arguments replaced raises exactly this, and leaves every byte of the others alone."""
    inputs = CASE.inputs()
    inputs.freeze()
    arguments = inputs.arguments()
    values = {name: v(arguments[name]) if callable(v) else v for name, v in changes.items()}
    given = {name: v.tobytes() for name, v in values.items() if isinstance(v, np.ndarray)}
    with pytest.raises(Exception) as caught:
        aiter_c.mla_reduce_v1(**arguments | values)
    assert str(caught.value) == f"mla_reduce_v1: {text}"
    assert type(caught.value) is error
    changed = [name for name, block in inputs.blocks.items() if block.first_change() is not None]
    assert not changed, f"a failed call changed {changed}"
    assert all(values[name].tobytes() == before for name, before in given.items())


def _ids(rows: list) -> list[str]:
    return [f"{i}-{row[0]}-{part(row[3][-PART:])}" for i, row in enumerate(rows)]


@pytest.mark.parametrize(("argument", "value", "error", "text"), TENSORS, ids=_ids(TENSORS))
def test_tensors(argument: str, value: object, error: type, text: str) -> None:
    _refused({argument: value}, error, text)


_SPLITS = "expected None, -1 or 0 (automatic) or 1 to 2147483647, got"
NUMBERS = [
    ("max_seqlen_q", 0, ValueError, "expected 1 to 2147483647, got 0"),
    ("max_seqlen_q", -1, ValueError, "expected 1 to 2147483647, got -1"),
    ("max_seqlen_q", 2**31, ValueError, "expected 1 to 2147483647, got 2147483648"),
    ("max_seqlen_q", 2**64, ValueError, "expected a 64-bit integer, got 18446744073709551616"),
    ("max_seqlen_q", 2.0, TypeError, "expected int, got float"),
    ("max_seqlen_q", None, TypeError, "expected int, got None"),
    ("num_kv_splits", -2, ValueError, f"{_SPLITS} -2"),
    ("num_kv_splits", 2**31, ValueError, f"{_SPLITS} 2147483648"),
    ("num_kv_splits", "2", TypeError, "expected int, got str"),
    ("stream", "0", TypeError, "expected int, got str"),
    ("stream", 2**64, ValueError, None),
]


@pytest.mark.parametrize(("argument", "value", "error", "text"), NUMBERS)
def test_numbers(argument: str, value: object, error: type, text: str | None) -> None:
    if text is not None:
        _refused({argument: value}, error, f"{argument}: {text}")
        return
    with pytest.raises(error, match=rf"^mla_reduce_v1: {argument}: "):
        aiter_c.mla_reduce_v1(**CASE.inputs().arguments() | {argument: value})


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((5, 0, 64), "partial_output.shape[-2]: expected 1 to 2147483647, got 0"),
        ((5, 3, 0), "partial_output.shape[-1]: expected 1 to 2147483647, got 0"),
    ],
)
def test_sizes(shape: tuple[int, ...], text: str) -> None:
    rows, heads, dv = shape
    changes = {
        "partial_output": np.zeros((16, heads, dv), np.float32),
        "partial_lse": np.zeros((16, heads), np.float32),
        "final_output": np.zeros(shape, np.float32),
        "final_lse": np.zeros((rows, heads), np.float32),
    }
    _refused(changes, ValueError, text)


def _in(memory: np.ndarray, like: np.ndarray, offset: int) -> np.ndarray:
    """An array like that one in the bytes of `memory`."""
    return np.ndarray(like.shape, like.dtype, memory.data, offset)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("other", [*INPUTS, "final_output"])
def test_an_output_in_the_memory_of_another_tensor(output: str, other: str) -> None:
    if output == other:
        other = "final_lse"
    arguments = CASE.inputs().arguments()
    memory = np.zeros(1 << 20, np.uint8)
    changes = {other: _in(memory, arguments[other], 4), output: _in(memory, arguments[output], 8)}
    changes[other][...] = arguments[other]
    # Two outputs are met once: the later one is named first.
    first, second = ("final_lse", "final_output") if {output, other} == set(OUTPUTS) else (output, other)
    _refused(changes, ValueError, f"{first}: expected memory of its own, got memory shared with {second}")


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: aiter_c.mla_reduce_v1(), "mla_reduce_v1() missing required argument 'partial_output' (pos 1)"),
        (lambda: aiter_c.mla_reduce_v1(*range(7)), "mla_reduce_v1() missing required argument 'final_output' (pos 8)"),
        (lambda: aiter_c.mla_reduce_v1(*range(10)), "mla_reduce_v1() takes at most 9 positional arguments (10 given)"),
        (lambda: aiter_c.mla_reduce_v1(*range(9), x=1), "mla_reduce_v1() got an unexpected keyword argument 'x'"),
    ],
)  # fmt: skip
def test_wrong_calls_in_cpythons_words(call: object, text: str) -> None:
    with pytest.raises(TypeError) as caught:
        call()
    assert str(caught.value) == text
