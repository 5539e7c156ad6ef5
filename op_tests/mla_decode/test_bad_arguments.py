"""Every argument, wrong in every way: the class, the exact text, and no byte of any argument changed.

The base call has q [3, 4, 576], kv_buffer [8, 4, 1, 576], o [3, 4, 512], B = 2, five kv_indices, two splits.
"""

# ruff: noqa: E501 error texts stand on one line

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from boundary.producer import CUDA, Producer
from ids import PART, part

from aiter_c import UnsupportedError, empty, from_host, mla_decode_fwd, mla_plan, set_num_threads
from aiter_c.testing import MlaCase, build_inputs, digest, dtype_of, run_case

CASE = MlaCase(heads=4, q_lens=(2, 1), kv_lens=(9, 5), page_size=4, splits=2)
BF16 = dtype_of("bfloat16")

#: (argument, its wrong value or a function of the right one, exception, text behind "mla_decode_fwd: ").
TENSORS: list[tuple[str, object, type, str]] = []


def _bad(argument: str, value: object, error: type, text: str) -> None:
    TENSORS.append((argument, value, error, f"{argument}: {text}"))


# --- not a tensor -----------------------------------------------------------------------------------------------
for _name in ("q", "kv_buffer", "o", "qo_indptr", "kv_indptr", "kv_indices"):
    for _value in ([1, 2], "text", 3, 2.5, object()):
        _bad(_name, _value, TypeError, f"expected a tensor (DLPack or NumPy), got {type(_value).__name__}")
    _bad(_name, None, TypeError, "expected a tensor (DLPack or NumPy), got None")
_bad("kv_last_page_lens", [4, 1], TypeError, "expected a tensor (DLPack or NumPy), got list")
_bad("kv_last_page_lens", None, TypeError, "expected a tensor, got None")
_bad("num_kv_splits_indptr", [0, 2, 4], TypeError, "expected a tensor (DLPack or NumPy), got list")
_bad("q", np.ndarray, TypeError, "expected a tensor (DLPack or NumPy), got type")

# --- dtype ------------------------------------------------------------------------------------------------------
_Q = "expected dtype bfloat16, float16, float32, float8_e4m3fn or float8_e4m3fnuz, got"
_KV = "expected dtype bfloat16, float16, float8_e4m3fn or float8_e4m3fnuz, got"
for _dtype in ("float64", "int32", "int8", "bool", "complex64"):
    _bad("q", lambda a, d=_dtype: np.zeros(a.shape, d), TypeError, f"{_Q} {_dtype}")
    _bad("kv_buffer", lambda a, d=_dtype: np.zeros(a.shape, d), TypeError, f"{_KV} {_dtype}")
_bad("q", lambda a: np.zeros(a.shape, np.uint8), TypeError, f"{_Q} uint8")
_bad("q", lambda a: np.zeros(a.shape, dtype_of("float8_e4m3fn")).view(np.uint8), TypeError, f"{_Q} uint8")
_bad("kv_buffer", lambda a: np.zeros(a.shape, np.float32), TypeError, f"{_KV} float32")
for _dtype in ("float32", "float64", "int16", "uint16"):
    _bad("o", lambda a, d=_dtype: np.zeros(a.shape, d), TypeError, f"expected dtype bfloat16 or float16, got {_dtype}")
for _name in ("qo_indptr", "kv_indptr", "kv_indices", "kv_last_page_lens"):
    for _dtype in ("int64", "uint32", "int16", "float32"):
        _bad(_name, lambda a, d=_dtype: a.astype(d), TypeError, f"expected dtype int32, got {_dtype}")
_bad("num_kv_splits_indptr", np.array([0, 2, 4]), TypeError, "expected dtype int32, got int64")

# --- rank and shape ---------------------------------------------------------------------------------------------
_bad("q", lambda a: a[0], ValueError, "expected shape [T, H, D=576 (of kv_buffer)], got [4, 576]")
_bad("q", lambda a: a[None], ValueError, "expected shape [T, H, D=576 (of kv_buffer)], got [1, 3, 4, 576]")
_bad("q", lambda a: a[..., :575], ValueError, "expected shape [T, H, D=576 (of kv_buffer)], got [3, 4, 575]")
_bad("q", lambda a: a[..., :512], ValueError, "expected shape [T, H, D=576 (of kv_buffer)], got [3, 4, 512]")
TENSORS.append(("q", lambda a: a[:, :0], ValueError, "q.shape[1]: expected 1 to 2147483647, got 0"))
_bad("kv_buffer", lambda a: a[0], ValueError, "expected shape [num_page, page_size, 1, 512 or 576], got [4, 1, 576]")
_bad(
    "kv_buffer", lambda a: a[:, :3], ValueError, "expected shape [num_page, page_size=4, 1, D=576], got [8, 3, 1, 576]"
)
_bad(
    "kv_buffer",
    lambda a: a.reshape(8, 1, 4, 576),
    ValueError,
    "expected shape [num_page, page_size, 1, 512 or 576], got [8, 1, 4, 576]",
)
_bad(
    "kv_buffer",
    lambda a: a[..., :544],
    UnsupportedError,
    "expected rows of 576 (512 + rope 64) or 512 (rope 0) elements, got 544",
)
_bad("o", lambda a: a[0], ValueError, "expected shape [T=3 (of q), H=4 (of q), 512], got [4, 512]")
_bad("o", lambda a: a[:2], ValueError, "expected shape [T=3 (of q), H=4 (of q), 512], got [2, 4, 512]")
_bad(
    "o",
    lambda a: np.zeros((4, 4, 512), BF16),
    ValueError,
    "expected shape [T=3 (of q), H=4 (of q), 512], got [4, 4, 512]",
)
_bad("o", lambda a: a[:, :3], ValueError, "expected shape [T=3 (of q), H=4 (of q), 512], got [3, 3, 512]")
_bad("o", lambda a: a[..., :511], ValueError, "expected shape [T=3 (of q), H=4 (of q), 512], got [3, 4, 511]")
_bad(
    "o",
    lambda a: np.zeros((3, 4, 576), BF16),
    ValueError,
    "expected shape [T=3 (of q), H=4 (of q), 512], got [3, 4, 576]",
)
for _name in ("qo_indptr", "kv_indptr", "kv_indices", "kv_last_page_lens"):
    _bad(_name, lambda a: a[None].copy(), ValueError, {
        "qo_indptr": "expected shape [B+1], got [1, 3]",
        "kv_indptr": "expected shape [at least B+1=3 (of qo_indptr)], got [1, 3]",
        "kv_indices": "expected shape [n], got [1, 5]", "kv_last_page_lens": "expected shape [at least B=2 (of qo_indptr)], got [1, 2]",
    }[_name])  # fmt: skip
    _bad(_name, np.array(3, np.int32), ValueError, {
        "qo_indptr": "expected shape [B+1], got []", "kv_indices": "expected shape [n], got []",
        "kv_indptr": "expected shape [at least B+1=3 (of qo_indptr)], got []",
        "kv_last_page_lens": "expected shape [at least B=2 (of qo_indptr)], got []",
    }[_name])  # fmt: skip
_bad("qo_indptr", np.zeros(0, np.int32), ValueError, "expected shape [B+1], got [0]")
_bad("kv_indptr", lambda a: a[:2], ValueError, "expected shape [at least B+1=3 (of qo_indptr)], got [2]")
_bad("kv_last_page_lens", lambda a: a[:1], ValueError, "expected shape [at least B=2 (of qo_indptr)], got [1]")
_bad(
    "num_kv_splits_indptr",
    np.zeros(2, np.int32),
    ValueError,
    "expected shape [at least B+1=3 (of qo_indptr)], got [2]",
)

# --- strides ----------------------------------------------------------------------------------------------------
_SPREAD = "expected stride 1 in the last dimension, got 2"
_bad("q", lambda a: np.zeros((3, 4, 1152), BF16)[..., ::2], ValueError, _SPREAD)
_bad("q", lambda a: a[..., ::-1], ValueError, "expected stride 1 in the last dimension, got -1")
_bad("kv_buffer", lambda a: np.zeros((8, 4, 1, 1152), BF16)[..., ::2], ValueError, _SPREAD)
_bad("o", lambda a: np.zeros((3, 4, 1024), BF16)[..., ::2], ValueError, _SPREAD)
for _name, _size in (("qo_indptr", 3), ("kv_indptr", 3), ("kv_indices", 5), ("kv_last_page_lens", 2)):
    _bad(_name, lambda a, n=_size: np.zeros(2 * n, np.int32)[::2], ValueError, _SPREAD)
_OVERLAP = "expected an output without overlapping elements, got strides that overlap"
_bad("o", lambda a: np.lib.stride_tricks.as_strided(a, strides=(0, 1024, 2)), ValueError, _OVERLAP)
_bad("o", lambda a: np.lib.stride_tricks.as_strided(a, strides=(4096, 1022, 2)), ValueError, _OVERLAP)

# --- memory -----------------------------------------------------------------------------------------------------


def _read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


_bad("o", _read_only, BufferError, "expected a writable tensor, got a read-only one")
_bad("kv_buffer", lambda a: Producer(a, device=(CUDA, 0)), ValueError, "expected device cpu (of q), got cuda:0")
_bad("q", lambda a: Producer(a, data=0), ValueError, "expected a tensor with memory, got a null pointer")


def _refused(changes: dict[str, object], error: type, text: str, *, match_start: bool = False) -> None:
    """The call with these arguments replaced raises exactly this, and leaves every byte of the others alone."""
    inputs = build_inputs(CASE)
    inputs.freeze()
    arguments = inputs.arguments()
    values = {n: v(arguments[n]) if callable(v) and not isinstance(v, type) else v for n, v in changes.items()}
    given = {n: v.tobytes() for n, v in values.items() if isinstance(v, np.ndarray)}
    with pytest.raises(Exception) as caught:
        mla_decode_fwd(**arguments | values)
    message = str(caught.value)
    assert (message[: len(text)] if match_start else message) == text
    assert type(caught.value) is error
    changed = [name for name, block in inputs.blocks.items() if block.first_change() is not None]
    assert not changed, f"a failed call changed {changed}"
    assert all(values[name].tobytes() == before for name, before in given.items())


def _ids(rows: list) -> list[str]:
    return [f"{i}-{row[0]}-{part(row[3][-PART:])}" for i, row in enumerate(rows)]


@pytest.mark.parametrize(("argument", "value", "error", "text"), TENSORS, ids=_ids(TENSORS))
def test_tensors(argument: str, value: object, error: type, text: str) -> None:
    changes = {argument: value} | ({"num_kv_splits": 2} if argument == "num_kv_splits_indptr" else {})
    _refused(changes, error, f"mla_decode_fwd: {text}")


NUMBERS = [
    ("max_seqlen_q", 0, ValueError, "expected 1 to 2147483647, got 0"),
    ("max_seqlen_q", -1, ValueError, "expected 1 to 2147483647, got -1"),
    ("max_seqlen_q", 2**31, ValueError, "expected 1 to 2147483647, got 2147483648"),
    ("max_seqlen_q", 2**64, ValueError, "expected a 64-bit integer, got 18446744073709551616"),
    ("max_seqlen_q", 2.0, TypeError, "expected int, got float"),
    ("max_seqlen_q", "2", TypeError, "expected int, got str"),
    ("max_seqlen_q", None, TypeError, "expected int, got None"),
    ("page_size", 0, ValueError, "expected 1 to 2147483647, got 0"),
    ("page_size", 2**31, ValueError, "expected 1 to 2147483647, got 2147483648"),
    ("page_size", 4.0, TypeError, "expected int, got float"),
    ("page_size", None, TypeError, "expected int, got None"),
    ("nhead_kv", 2, UnsupportedError, "expected 1 (MLA has one latent head), got 2"),
    ("nhead_kv", 0, UnsupportedError, "expected 1 (MLA has one latent head), got 0"),
    ("nhead_kv", "1", TypeError, "expected int, got str"),
    ("sm_scale", "0.1", TypeError, "expected float, got str"),
    ("sm_scale", 1j, TypeError, "expected float, got complex"),
    ("sm_scale", float("nan"), ValueError, "expected a finite float32, got nan"),
    ("sm_scale", float.fromhex("0x1.ffffffp127"), ValueError, "expected a finite float32, got 3.4028235677973366e+38"),
    ("q_scale", float("nan"), ValueError, "expected a finite float32, got nan"),
    ("kv_scale", -float("inf"), ValueError, "expected a finite float32, got -inf"),
    ("logit_cap", 30.0, UnsupportedError, "expected 0 (no soft cap), got 30"),
    ("logit_cap", float("nan"), UnsupportedError, "expected 0 (no soft cap), got nan"),
    ("logit_cap", None, TypeError, "expected float, got None"),
    ("num_kv_splits", 0, ValueError, "expected None or -1 (automatic) or 1 to 2147483647, got 0"),
    ("num_kv_splits", -2, ValueError, "expected None or -1 (automatic) or 1 to 2147483647, got -2"),
    ("num_kv_splits", 2**31, ValueError, "expected None or -1 (automatic) or 1 to 2147483647, got 2147483648"),
    ("num_kv_splits", 2.0, TypeError, "expected int, got float"),
    ("causal", None, TypeError, "expected bool, got None"),
    ("causal", "yes", TypeError, "expected bool, got str"),
    ("deterministic", "yes", TypeError, "expected bool, got str"),
    ("return_lse", "yes", TypeError, "expected bool, got str"),
    ("return_lse", None, TypeError, "expected bool, got None"),
    ("stream", "0", TypeError, "expected int, got str"),
    ("kv_format", "paged", ValueError, "expected one of 'plain', 'fp8_ds_mla', '3buffer', got 'paged'"),
    ("kv_format", 3, TypeError, "expected str or None, got int"),
    ("q_scale", "1", TypeError, "expected float or a one-element tensor, got str"),
    ("kv_scale", [1.0], TypeError, "expected float or a one-element tensor, got list"),
    ("q_scale", np.ones(2, np.float32), ValueError, "expected one element, got shape [2]"),
    ("kv_scale", np.ones(0, np.float32), ValueError, "expected one element, got shape [0]"),
    ("q_scale", np.ones(1), TypeError, "expected dtype float32, got float64"),
    ("kv_scale", np.ones(1, np.int32), TypeError, "expected dtype float32, got int32"),
    ("q_dtype", 7, TypeError, "expected a dtype (a name such as 'bfloat16', or one of NumPy, ml_dtypes or torch), got 7"),
    ("kv_dtype", "e4m3", TypeError, "expected a dtype (a name such as 'bfloat16', or one of NumPy, ml_dtypes or torch), got 'e4m3'"),
]  # fmt: skip


@pytest.mark.parametrize(("argument", "value", "error", "text"), NUMBERS)
def test_numbers_and_words(argument: str, value: object, error: type, text: str) -> None:
    _refused({argument: value}, error, f"mla_decode_fwd: {argument}: {text}")


LISTS = {
    "work_meta_data": np.zeros(2, np.uint64),
    "work_indptr": np.zeros(3, np.int32),
    "work_info_set": np.zeros((4, 8), np.int32),
    "reduce_indptr": np.zeros(3, np.int32),
    "reduce_final_map": np.zeros((2, 2), np.int32),
    "reduce_partial_map": np.zeros(4, np.int32),
}
_TOGETHER = "(lists come together), got None"
WRONG_LISTS = [
    ({"work_indptr": None}, ValueError, f"work_indptr: expected a tensor with work_info_set {_TOGETHER}"),
    ({"work_info_set": None}, ValueError, f"work_info_set: expected a tensor with work_indptr {_TOGETHER}"),
    ({"reduce_indptr": None}, ValueError, f"reduce_indptr: expected a tensor with work_indptr {_TOGETHER}"),
    ({"reduce_partial_map": None}, ValueError, f"reduce_partial_map: expected a tensor with work_indptr {_TOGETHER}"),
    ({"work_meta_data": np.zeros(3, np.uint64)}, ValueError, "work_meta_data: expected shape [2], got [3]"),
    (
        {"work_meta_data": np.zeros(2, np.int32)},
        TypeError,
        "work_meta_data: expected dtype int64 or uint64, got int32",
    ),
    ({"work_indptr": np.zeros(1, np.int32)}, ValueError, "work_indptr.shape[0]: expected 2 to 2147483647, got 1"),
    ({"work_indptr": np.zeros(3, np.int64)}, TypeError, "work_indptr: expected dtype int32, got int64"),
    ({"work_info_set": np.zeros((4, 7), np.int32)}, ValueError, "work_info_set: expected shape [i, 8], got [4, 7]"),
    (
        {"work_info_set": np.zeros((4, 16), np.int32)[:, ::2]},
        ValueError,
        "work_info_set: expected a contiguous tensor, got strides with gaps",
    ),
    (
        {"reduce_final_map": np.zeros((1, 2), np.int32)},
        ValueError,
        "reduce_final_map: expected shape [at least G=2 (of reduce_indptr), 2], got [1, 2]",
    ),
    (
        {"reduce_partial_map": np.zeros((4, 1), np.int32)},
        ValueError,
        "reduce_partial_map: expected shape [P], got [4, 1]",
    ),
    ({"num_kv_splits": 0}, ValueError, "num_kv_splits: expected None or -1 (automatic) or 1 to 2147483647, got 0"),
    ({"deterministic": True}, ValueError, "work_meta_data: expected lists made with deterministic=True, got others"),
    ({"work_indptr": 3}, TypeError, "work_indptr: expected a tensor (DLPack or NumPy), got int"),
]


@pytest.mark.parametrize(("changes", "kind", "text"), WRONG_LISTS, ids=lambda value: str(value)[:30])
def test_lists_are_refused_by_name(changes: dict[str, object], kind: type[Exception], text: str) -> None:
    _refused(LISTS | changes, kind, f"mla_decode_fwd: {text}")


def test_folded_heads_are_refused_where_the_host_sees_them() -> None:
    """A list of AITER's that counts groups of 16 heads as requests."""
    items = np.zeros((4, 8), np.int32)
    items[:, :6] = [[b, -1, b, b + 1, 0, 1] for b in range(4)]
    lists = LISTS | {"work_info_set": items, "work_indptr": np.array([0, 2, 4], np.int32)}
    text = "expected items of requests below 2 (no folded heads), got one of request 3"
    _refused(lists, ValueError, f"mla_decode_fwd: work_info_set: {text}")


WRONG_SHARDS = [
    ({"cp_world_size": 0}, "cp_world_size: expected 1 to 2147483647, got 0"),
    ({"cp_world_size": 2, "cp_rank": 2}, "cp_rank: expected 0 to 1, got 2"),
    ({"cp_world_size": 2, "cp_rank": -1}, "cp_rank: expected 0 to 1, got -1"),
    ({"cp_world_size": 2, "cp_interleave": 0}, "cp_interleave: expected 1 to 1073741823, got 0"),
    ({"cp_world_size": 2, "cp_interleave": 2**30}, "cp_interleave: expected 1 to 1073741823, got 1073741824"),
    ({"g_kv_indptr": np.zeros(1, np.int32)}, "g_kv_indptr: expected shape [at least B+1=3 (of qo_indptr)], got [1]"),
]


@pytest.mark.parametrize(("changes", "text"), WRONG_SHARDS, ids=lambda value: str(value)[:30])
def test_ranks_are_refused_by_name(changes: dict[str, object], text: str) -> None:
    _refused({"g_kv_indptr": np.zeros(9, np.int32)} | changes, ValueError, f"mla_decode_fwd: {text}")


DTYPE_HINTS = [
    ({"q_dtype": "float8_e4m3fn"}, TypeError, "q: expected uint8 data to read as q_dtype=float8_e4m3fn, got bfloat16"),
    (
        {"kv_dtype": "float8_e4m3fn"},
        TypeError,
        "kv_buffer: expected uint8 data to read as kv_dtype=float8_e4m3fn, got bfloat16",
    ),
    ({"kv_format": "fp8_ds_mla"}, TypeError, "kv_buffer: expected dtype uint8, got bfloat16"),
    ({"kv_format": "3buffer"}, TypeError, "kv_buffer: expected dtype uint8, got bfloat16"),
    (
        {"kv_format": "3buffer", "kv_buffer": np.zeros((8, 2624), np.uint8), "kv_dtype": "float8_e4m3fn"},
        TypeError,
        "kv_dtype: expected uint8 or None for kv_format='3buffer', got float8_e4m3fn",
    ),
    (
        {"kv_buffer": np.zeros((8, 4, 1, 576), np.uint8)},
        TypeError,
        "kv_buffer: expected kv_dtype= or kv_format= with a uint8 cache that is neither [num_page, page_size * 656] nor "
        "[..., 656], got neither",
    ),
    (
        {"kv_buffer": np.zeros((8, 4, 1, 576), np.uint8), "kv_dtype": "float8_e5m2"},
        UnsupportedError,
        "kv_buffer: expected dtype bfloat16, float16, float8_e4m3fn or float8_e4m3fnuz, got float8_e5m2",
    ),
    (
        {"q": np.zeros((3, 4, 576), np.uint8), "q_dtype": "float8_e5m2"},
        UnsupportedError,
        "q: expected dtype bfloat16, float16, float32, float8_e4m3fn or float8_e4m3fnuz, got float8_e5m2",
    ),
    (
        {"kv_format": "3buffer", "kv_buffer": np.zeros((8, 2623), np.uint8)},
        ValueError,
        "kv_buffer: expected shape [num_page, page_size * 656=2624], got [8, 2623]",
    ),
    (
        {"kv_format": "fp8_ds_mla", "kv_buffer": np.zeros((8, 3, 656), np.uint8)},
        ValueError,
        "kv_buffer: expected shape [num_page, page_size=4, 656], got [8, 3, 656]",
    ),
]


@pytest.mark.parametrize(("changes", "error", "text"), DTYPE_HINTS)
def test_formats_and_dtype_hints(changes: dict, error: type, text: str) -> None:
    _refused(changes, error, f"mla_decode_fwd: {text}")


def test_a_ragged_split_indptr_needs_a_count() -> None:
    """AITER throws the indptr away; here it is refused. -1 is None."""
    for count in (None, -1):
        changes = {"num_kv_splits": count, "num_kv_splits_indptr": np.array([0, 2, 4], np.int32)}
        _refused(
            changes,
            ValueError,
            "mla_decode_fwd: num_kv_splits_indptr: expected num_kv_splits with it",
            match_start=True,
        )


# --- aliasing ---------------------------------------------------------------------------------------------------


def _in(memory: np.ndarray, shape: tuple[int, ...], dtype: object, offset: int = 0) -> np.ndarray:
    """An array in the bytes of `memory` (uint8)."""
    return np.ndarray(shape, dtype, memory.data, offset)


@pytest.mark.parametrize("name", ["q", "kv_buffer"])
def test_o_in_the_memory_of_an_input(name: str) -> None:
    inputs = build_inputs(MlaCase(heads=4, kv_lens=(90,)))
    arguments = inputs.arguments()
    memory = np.zeros(120 * 576 * 2, np.uint8)
    other, o = _in(memory, arguments[name].shape, BF16), _in(memory, arguments["o"].shape, BF16, 2)
    with pytest.raises(
        ValueError, match=rf"^mla_decode_fwd: o: expected memory of its own, got memory shared with {name}$"
    ):
        mla_decode_fwd(**arguments | {name: other, "o": o})


@pytest.mark.parametrize("name", ["qo_indptr", "kv_indptr", "kv_indices", "kv_last_page_lens", "num_kv_splits_indptr"])
def test_o_in_the_memory_of_an_index_tensor(name: str) -> None:
    arguments = build_inputs(CASE).arguments() | {"num_kv_splits_indptr": np.array([0, 2, 4], np.int32)}
    memory = np.zeros(arguments["o"].nbytes, np.uint8)
    o, inside = _in(memory, arguments["o"].shape, BF16), _in(memory, arguments[name].shape, np.int32, 2048)
    inside[:] = arguments[name]
    before = digest(o)
    with pytest.raises(
        ValueError, match=rf"^mla_decode_fwd: o: expected memory of its own, got memory shared with {name}$"
    ):
        mla_decode_fwd(**arguments | {"o": o, name: inside})
    assert digest(o) == before


@pytest.mark.parametrize("name", ["q_scale", "kv_scale"])
def test_o_in_the_memory_of_a_scale(name: str) -> None:
    arguments = build_inputs(CASE).arguments()
    memory = np.zeros(arguments["o"].nbytes, np.uint8)
    o, scale = _in(memory, arguments["o"].shape, BF16), _in(memory, (1,), np.float32, 4)
    with pytest.raises(
        ValueError, match=rf"^mla_decode_fwd: o: expected memory of its own, got memory shared with {name}$"
    ):
        mla_decode_fwd(**arguments | {"o": o, name: scale})


def test_neighbours_in_one_allocation_are_not_aliases() -> None:
    """o directly behind q: extents that touch do not overlap."""
    arguments = build_inputs(CASE).arguments()
    memory = np.zeros(3 * 4 * (576 + 512) * 2, np.uint8)
    q = _in(memory, (3, 4, 576), BF16)
    q[...] = arguments["q"]
    o = _in(memory, (3, 4, 512), BF16, q.nbytes)
    mla_decode_fwd(**arguments | {"q": q, "o": o})
    assert o.astype(np.float32).any()


def test_o_interleaved_with_q_is_refused_by_extent() -> None:
    """Rows of o inside the gaps of q: no shared byte, but the extents meet; the rule is by extent."""
    arguments = build_inputs(CASE).arguments()
    memory = np.zeros((3, 4, 576 + 512), BF16)
    with pytest.raises(ValueError, match=r"o: expected memory of its own, got memory shared with q$"):
        mla_decode_fwd(**arguments | {"q": memory[..., :576], "o": memory[..., 576:]})


def test_o_below_the_first_row_of_a_reversed_q() -> None:
    """With a negative stride the memory of a tensor begins below its first element."""
    arguments = build_inputs(CASE).arguments()
    rows = arguments["q"].shape[0]
    memory = np.zeros((rows, 4 * 576 + rows * 4 * 512), BF16)
    q = memory[::-1, : 4 * 576].reshape(rows, 4, 576)
    o = memory[0, 4 * 576 :].reshape(rows, 4, 512)
    assert q.strides[0] < 0 and q.base is not None and rows > 1
    with pytest.raises(ValueError, match=r"o: expected memory of its own, got memory shared with q$"):
        mla_decode_fwd(**arguments | {"q": q, "o": o})


# --- wrong calls ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: mla_plan(), "mla_plan() missing required argument 'batch' (pos 1)"),
        (lambda: mla_plan(1, 2, 3, 4, "bfloat16"), "mla_plan() missing required argument 'kv_dtype' (pos 6)"),
        (
            lambda: mla_plan(1, 2, 3, 4, "bfloat16", "bfloat16", 7),
            "mla_plan() takes exactly 6 positional arguments (7 given)",
        ),
        (
            lambda: mla_plan(1, 2, 3, 4, 5, 6, batch=1),
            "argument for mla_plan() given by name ('batch') and position (1)",
        ),
        (lambda: mla_plan(1, 2, 3, 4, 5, 6, splits=1), "mla_plan() got an unexpected keyword argument 'splits'"),
        (lambda: empty(), "empty() missing required argument 'shape' (pos 1)"),
        (lambda: empty((1,), "float32", "cpu", 1), "empty() takes at most 3 arguments (4 given)"),
        (lambda: empty(1.5, "float32"), "empty: shape: expected int or a sequence of int, got float"),
        (lambda: empty("12", "float32"), "empty: shape: expected int or a sequence of int, got str"),
        (lambda: empty((1, 2.0), "float32"), "empty: shape: expected int, got float"),
        (lambda: from_host([1]), "from_host: array: expected a tensor (DLPack or NumPy), got list"),
        (lambda: set_num_threads("2"), "set_num_threads: n: expected int, got str"),
        (lambda: mla_decode_fwd(), None),
        (lambda: mla_decode_fwd(*range(30)), None),
    ],
)
def test_wrong_calls_in_cpythons_words(call: Callable, text: str | None) -> None:
    with pytest.raises(TypeError) as caught:
        call()
    assert text is None or str(caught.value) == text


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: empty((-1,), "float32"), ValueError, "empty: shape: expected sizes >= 0, got -1 in dimension 0"),
        (lambda: empty((2**62, 2), "float32"), ValueError, "empty: shape: expected less than 2**63 bytes in all"),
        (lambda: empty((1,) * 9, "float32"), ValueError, "empty: shape: expected at most 8 dimensions, got 9"),
        (lambda: empty((2**50,), "float32"), MemoryError, None),
        (lambda: empty(3, "float32", "cpu:x"), ValueError, "empty: device: expected a device such as 'cpu', 'cuda:0' or 'hip:1', got 'cpu:x'"),
        (lambda: set_num_threads(-1), ValueError, None),
        (lambda: set_num_threads(2**31), ValueError, None),
    ],
)  # fmt: skip
def test_bad_values_of_the_small_functions(call: Callable, error: type, text: str | None) -> None:
    with pytest.raises(error) as caught:
        call()
    assert text is None or str(caught.value) == text


def test_any_split_count_is_safe() -> None:
    """Any positive int32. What no list could fill and no memory could hold is lowered to 4096."""
    result = run_case(MlaCase(heads=2, q_lens=(2, 1), kv_lens=(9, 50), splits=4096))
    arguments = result.inputs.arguments() | {"num_kv_splits": 2**31 - 1, "o": np.empty_like(result.outputs["o"])}
    logits, lse = mla_decode_fwd(**arguments)
    assert logits.shape == (3, 4096, 2, 512) and np.array_equal(lse, result.outputs["lse"])
    assert digest(arguments["o"]) == digest(result.outputs["o"])
    assert mla_plan(1, 2, 1, 1, "bfloat16", "bfloat16", num_kv_splits=2**31 - 1).num_kv_splits == 4096
    assert mla_plan(1, 2, 1, 1, "bfloat16", "bfloat16", num_kv_splits=9000, max_kv_len=160_000).num_kv_splits == 9000


_WITH_PLAN = [row for row in TENSORS if row[0] != "num_kv_splits_indptr"]


@pytest.mark.parametrize(("argument", "value", "error", "text"), _WITH_PLAN, ids=_ids(_WITH_PLAN))
def test_a_plan_does_not_switch_the_checks_off(argument: str, value: object, error: type, text: str) -> None:
    """With plan= the same wrong tensors are refused with the same words."""
    plan = mla_plan(2, 4, 2, 4, "bfloat16", "bfloat16", num_kv_splits=2, return_lse=True)
    _refused({argument: value, "plan": plan}, error, f"mla_decode_fwd: {text}")
