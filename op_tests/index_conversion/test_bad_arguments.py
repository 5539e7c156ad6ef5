"""Every argument, wrong in every way: the class, the exact text, and no byte of any argument changed.

The base calls have 3 requests and 8 columns.
"""

from __future__ import annotations

import numpy as np
import pytest
from boundary.producer import CUDA, Producer

import aiter_c
from aiter_c import UnsupportedError
from aiter_c.testing import allocated_by
from aiter_c.testing.ops.index_conversion import FORMS, IndexConversionCase

CASES = {form: IndexConversionCase(form=form) for form in FORMS}
TENSORS = {
    "lists": ("qo_indptr", "kv_indptr", "page_kv_indptr", "kv_indices", "token_indices", "out"),
    "gather": ("sparse_kv_indptr", "token_to_seq_idxs", "topk_indices", "kv_indices", "kv_indptr", "out"),
    "prefill": (
        "dsa_qo_indptr",
        "dsa_kv_indptr",
        "token_to_seq_idxs",
        "topk_indices",
        "block_table",
        "cu_seqlens_q",
        "out",
    ),
    "ragged": ("req_id", "block_table", "token_indices", "cu_seqlens", "paged_kv_indices"),
    "padded": ("req_id", "block_table", "token_indices", "out"),
    "valid": ("page_table", "kv_indptr", "kv_indices"),
}
OUTPUTS = dict.fromkeys(("lists", "gather", "prefill", "padded"), "out")
OUTPUTS |= {"ragged": "paged_kv_indices", "valid": "kv_indices"}

#: (form, argument, its wrong value or a function of the right one, exception, text after "op: argument: ").
ROWS: list[tuple[str, str, object, type, str]] = []


def _bad(form: str, argument: str, value: object, error: type, text: str) -> None:
    ROWS.append((form, argument, value, error, text))


def _read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


def _spread(array: np.ndarray) -> np.ndarray:
    return np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)[..., ::2]


for _form, _names in TENSORS.items():
    for _name in _names:
        for _value in ([1, 2], "text", object(), *(() if _name == "out" else (None,))):
            _text = f"expected a tensor (DLPack or NumPy), got {type(_value).__name__}"
            if _form == "prefill" or _name != "block_table":  # else the form is another
                _bad(_form, _name, _value, TypeError, _text.replace("NoneType", "None"))
        for _dtype in ("int64", "uint32", "float32"):
            _text = f"expected dtype int32, got {_dtype}"
            _bad(_form, _name, lambda a, d=_dtype: np.zeros(a.shape, d), TypeError, _text)
        if _name != _names[0]:
            _elsewhere = f"expected device cpu (of {_names[0]}), got cuda:0"
            _bad(_form, _name, lambda a: Producer(a, device=(CUDA, 0)), ValueError, _elsewhere)
        _bad(_form, _name, _spread, ValueError, "expected stride 1 in the last dimension, got 2")
    _out = OUTPUTS[_form]
    _bad(_form, _out, _read_only, BufferError, "expected a writable tensor, got a read-only one")
    _overlap = "expected an output without overlapping elements, got strides that overlap"
    if _form == "padded":
        _bad(_form, _out, lambda a: np.lib.stride_tricks.as_strided(a, strides=(16, 4)), ValueError, _overlap)

# --- shapes ---------------------------------------------------------------------------------------------------------
_EMPTY, _MATRIX = np.zeros(0, np.int32), np.zeros((3, 2, 2), np.int32)
_K = "at least topk=8 (of NUM_TOPK_TOKENS)"
for _form, _name, _symbol in (
    ("lists", "qo_indptr", "Q+1"), ("lists", "kv_indptr", "B+1"), ("lists", "page_kv_indptr", "P+1"),
    ("gather", "sparse_kv_indptr", "P+1"), ("gather", "kv_indptr", "B+1"), ("prefill", "dsa_qo_indptr", "Q+1"),
    ("prefill", "dsa_kv_indptr", "P+1"), ("prefill", "cu_seqlens_q", "S+1"),
):  # fmt: skip
    _bad(_form, _name, _EMPTY, ValueError, f"expected shape [{_symbol}], got [0]")
    if (_form, _name) != ("lists", "kv_indptr"):  # else it is a table of blocks
        _bad(_form, _name, lambda a: a[None], ValueError, f"expected shape [{_symbol}], got [1, 4]")
_bad("prefill", "block_table", lambda a: a[0], ValueError, "expected shape [R, blocks], got [9]")
_bad("prefill", "topk_indices", lambda a: a[:, :7], ValueError, f"expected shape [rows, {_K}], got [3, 7]")
for _form, _name in (("lists", "token_indices"), ("gather", "topk_indices")):
    _bad(_form, _name, lambda a: a[:, :7], ValueError, f"expected shape [rows, {_K}], got [3, 7]")
    _bad(_form, _name, lambda a: a[0], ValueError, f"expected shape [rows, {_K}], got [8]")
    _bad(_form, "out", lambda a: a[None], ValueError, "expected shape [m], got [1, 12]")
    _bad(_form, "kv_indices", lambda a: a[None], ValueError, "expected shape [n], got [1, 13]")
for _form in ("ragged", "padded"):
    _T = "at least T=3 (of req_id)"
    _bad(_form, "req_id", _MATRIX, ValueError, "expected shape [T], got [3, 2, 2]")
    _bad(_form, "token_indices", lambda a: a[:2], ValueError, f"expected shape [{_T}, {_K}], got [2, 8]")
    _bad(_form, "token_indices", lambda a: a[:, 1:], ValueError, f"expected shape [{_T}, {_K}], got [3, 7]")
_bad("ragged", "cu_seqlens", lambda a: a[:3], ValueError, "expected shape [at least T+1=4 (of req_id)], got [3]")
_bad("ragged", "paged_kv_indices", lambda a: a[None], ValueError, "expected shape [m], got [1, 12]")
_bad("padded", "out", lambda a: a[:2], ValueError, f"expected shape [at least T=3 (of req_id), {_K}], got [2, 8]")
_bad("padded", "out", lambda a: a[:, :5], ValueError, f"expected shape [at least T=3 (of req_id), {_K}], got [3, 5]")
_BS = "at least bs=3 (of bs)"
_bad("valid", "page_table", lambda a: a[:2], ValueError, f"expected shape [{_BS}, k], got [2, 8]")
_bad("valid", "kv_indptr", lambda a: a[:3], ValueError, "expected shape [at least bs+1=4 (of bs)], got [3]")
_bad("valid", "kv_indices", lambda a: a[None], ValueError, "expected shape [m], got [1, {}]")

# --- numbers --------------------------------------------------------------------------------------------------------
_SIZES = {
    **dict.fromkeys(("lists", "gather"), ("NUM_TOPK_TOKENS",)),
    "prefill": ("NUM_TOPK_TOKENS", "PAGE_SIZE"),
    **dict.fromkeys(("ragged", "padded"), ("NUM_TOPK_TOKENS", "BLOCK_SIZE", "BLOCK_STRIDE_ROWS")),
    "valid": ("bs",),
}
for _form, _names in _SIZES.items():
    for _name in _names:
        _bad(_form, _name, 2.0, TypeError, "expected int, got float")
        _bad(_form, _name, "2", TypeError, "expected int, got str")
        _bad(_form, _name, 2**64, ValueError, "expected a 64-bit integer, got 18446744073709551616")
        _least = 0 if _name in ("NUM_TOPK_TOKENS", "bs") else 1
        for _value in (-1, 2**31):
            _bad(_form, _name, _value, ValueError, f"expected {_least} to 2147483647, got {_value}")
    _bad(_form, "stream", "0", TypeError, "expected int, got str")
    if _form != "valid":
        _bad(_form, "BLOCK_N", "128", TypeError, "expected int, got str")
for _form in ("ragged", "padded"):
    _bad(_form, "BLOCK_SIZE", 0, ValueError, "expected 1 to 2147483647, got 0")
_bad("prefill", "PAGE_SIZE", 0, ValueError, "expected 1 to 2147483647, got 0")
_bad("padded", "return_valid_counts", True, UnsupportedError, "expected False, got True")
_bad("lists", "BLOCK_SIZE", 64, UnsupportedError, "expected 1, got 64")
_bad("lists", "BLOCK_SIZE", 1.0, TypeError, "expected int, got float")


def _refused(form: str, changes: dict[str, object]) -> tuple[BaseException, bool]:
    """What a call raised, and whether every tensor is as before."""
    inputs = CASES[form].inputs()
    inputs.freeze()
    arguments = inputs.arguments()
    for name, value in changes.items():
        arguments[name] = value(arguments[name]) if callable(value) and not isinstance(value, type) else value
    try:
        getattr(aiter_c, CASES[form].op)(**arguments)
    except Exception as error:
        return error, all(block.first_change() is None for block in inputs.blocks.values())
    raise AssertionError("not refused")


@pytest.mark.parametrize("row", ROWS, ids=[f"{i}-{r[0]}-{r[1]}" for i, r in enumerate(ROWS)])
def test_refusals(row: tuple) -> None:
    form, name, value, kind, text = row
    error, untouched = _refused(form, {name: value})
    if "{}" in text:
        text = text.format(len(CASES[form].inputs().array(name)))
    assert type(error) is kind and str(error) == f"{CASES[form].op}: {name}: {text}"
    assert untouched


@pytest.mark.parametrize("form", FORMS)
def test_an_output_in_the_memory_of_an_input(form: str) -> None:
    """Of any of them, by one element."""
    output = OUTPUTS[form]
    for name in set(TENSORS[form]) - {output}:
        inputs, memory = CASES[form].inputs(), np.zeros(200, np.int32)
        out, other = inputs.array(output), inputs.array(name)
        at = other.size - 1
        memory[: other.size] = other.ravel()
        shared = {name: memory[: other.size].reshape(other.shape)}
        shared[output] = memory[at : at + out.size].reshape(out.shape)
        with pytest.raises(ValueError) as caught:
            getattr(aiter_c, CASES[form].op)(**inputs.arguments() | shared)
        text = f"{CASES[form].op}: {output}: expected memory of its own, got memory shared with {name}"
        assert str(caught.value) == text and not memory[other.size :].any()


def test_a_stride_of_blocks_below_their_size() -> None:
    error, untouched = _refused("padded", {"BLOCK_SIZE": 64, "BLOCK_STRIDE_ROWS": 63})
    assert type(error) is ValueError and untouched
    text = "convert_req_index_to_global_index: BLOCK_STRIDE_ROWS: expected 64 to 2147483647, got 63"
    assert str(error) == text


@pytest.mark.parametrize("missing", ["req_id", "block_table", "token_indices", "kv_indices"])
def test_a_missing_argument(missing: str) -> None:
    """Python's own words, under the name of the function."""
    form = "lists" if missing == "kv_indices" else "padded"
    arguments = CASES[form].inputs().arguments()
    del arguments[missing]
    with pytest.raises(TypeError, match=rf"^{CASES[form].op}\(\) (missing|got an unexpected)"):
        aiter_c.convert_req_index_to_global_index(**arguments)


@pytest.mark.parametrize("form", ["lists", "gather", "prefill", "padded"])
def test_an_allocator_that_gives_something_else(form: str) -> None:
    """A fresh output is looked at like one that was passed."""
    arguments = IndexConversionCase(form=form, given=False).inputs().arguments()
    for wrong in (np.zeros(1, np.int32)[:, None, None], np.zeros(24, np.int64)):
        with allocated_by(lambda *_, a=wrong: a), pytest.raises((TypeError, ValueError), match=": out: expected"):
            getattr(aiter_c, CASES[form].op)(**arguments)
