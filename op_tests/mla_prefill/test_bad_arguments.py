"""Every argument of the prefill ops, wrong in every way: the class, the exact text, no byte of an argument changed.

The base call has Q [9, 4, 192], K and V of 2 heads and 49 slots, two requests, lists of 3 workers.
"""

from __future__ import annotations

import numpy as np
import pytest
from boundary.producer import CUDA, Producer
from ids import PART, part
from mla_prefill.lists_model import Plan
from mla_prefill.test_metadata import planned

import aiter_c
from aiter_c import UnsupportedError
from aiter_c.testing import Device, dtype_of
from aiter_c.testing.ops.mla_prefill import PrefillCase, is_served

CASE = PrefillCase(heads=4, kv_heads=2, q_lens=(7, 2), kv_lens=(36, 9), workers=3, unit=16)
LISTS = ("work_indptr", "work_info_set", "reduce_indptr", "reduce_partial_map", "reduce_final_map")
INPUTS = ("Q", "K", "V", "qo_indptr", "kv_indptr", "kv_page_indices", *LISTS)

#: (argument, its wrong value or a function of the right one, exception, text behind "mla_prefill_ps_fwd: ").
TENSORS: list[tuple[str, object, type, str]] = []


def _bad(argument: str, value: object, error: type, text: str) -> None:
    TENSORS.append((argument, value, error, f"{argument}: {text}"))


def _as(dtype: str) -> object:
    return lambda array: np.zeros(array.shape, dtype_of(dtype))


def _read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


for _name in (*INPUTS, "output"):
    for _value in ([1, 2], "text", object()):
        _bad(_name, _value, TypeError, f"expected a tensor (DLPack or NumPy), got {type(_value).__name__}")
    if _name not in ("kv_page_indices", *LISTS):
        _bad(_name, None, TypeError, "expected a tensor (DLPack or NumPy), got None")
_FLOATS = "expected dtype bfloat16, float16, float8_e4m3fn or float8_e4m3fnuz, got"
for _name in "QKV":
    for _dtype in ("float32", "int32", "uint8", "float64"):
        _bad(_name, _as(_dtype), TypeError, f"{_FLOATS} {_dtype}")
for _name in INPUTS[3:]:
    for _dtype in ("int64", "float32"):
        _bad(_name, _as(_dtype), TypeError, f"expected dtype int32, got {_dtype}")
for _dtype in ("float32", "uint8"):
    _bad("output", _as(_dtype), TypeError, f"expected dtype bfloat16 or float16, got {_dtype}")
_bad("V", _as("float16"), TypeError, "expected dtype bfloat16, got float16")

_D, _N, _HKV, _TH = "D=192 (of Q)", "N=49 (of K)", "Hkv=2 (of K)", "T=9 (of Q), H=4 (of Q)"
SHAPES = [
    ("Q", lambda a: a[0], "Q", "T, H, D", "4, 192"),
    ("K", lambda a: a[..., :128], "K", f"N, Hkv, {_D}", "49, 2, 128"),
    ("V", lambda a: a[:48], "V", f"{_N}, {_HKV}, Dv", "48, 2, 128"),
    ("V", lambda a: a[:, :1], "V", f"{_N}, {_HKV}, Dv", "49, 1, 128"),
    ("output", lambda a: a[:8], "output", f"{_TH}, Dv=128 (of V)", "8, 4, 128"),
    ("output", lambda a: a[:, :3], "output", f"{_TH}, Dv=128 (of V)", "9, 3, 128"),
    ("qo_indptr", lambda a: a[None], "qo_indptr", "B+1", "1, 3"),
    ("kv_indptr", lambda a: a[:2], "kv_indptr", "at least B+1=3 (of qo_indptr)", "2"),
    ("kv_page_indices", lambda a: a[None], "kv_page_indices", "n", "1, 45"),
    ("work_info_set", lambda a: a[:, :7].copy(), "work_info_set", "i, 8", "{}, 7"),
    ("reduce_final_map", lambda a: a[:1].copy(), "reduce_final_map", "at least G=2 (of reduce_indptr), 2", "1, 2"),
]
TENSORS += [
    (argument, value, ValueError, f"{named}: expected shape [{expected}], got [{got}]")
    for argument, value, named, expected, got in SHAPES
]

_SPREAD = "expected stride 1 in the last dimension, got 2"
_OVERLAP = "expected an output without overlapping elements, got strides that overlap"
for _name in (*"QKV", "output"):
    _bad(_name, lambda a: np.zeros((*a.shape[:2], 2 * a.shape[2]), a.dtype)[..., ::2], ValueError, _SPREAD)
for _name in ("qo_indptr", "kv_indptr", "kv_page_indices", "work_indptr", "reduce_indptr", "reduce_partial_map"):
    _bad(_name, lambda a: np.zeros(2 * len(a), np.int32)[::2], ValueError, _SPREAD)
_bad("output", lambda a: np.lib.stride_tricks.as_strided(a, strides=(0, 256, 2)), ValueError, _OVERLAP)
_bad("output", _read_only, BufferError, "expected a writable tensor, got a read-only one")
for _name in (*INPUTS[1:], "output"):
    _bad(_name, lambda a: Producer(a, device=(CUDA, 0)), ValueError, "expected device cpu (of Q), got cuda:0")
for _name in LISTS[:4]:
    _other = "work_info_set" if _name == "work_indptr" else "work_indptr"
    _bad(_name, None, ValueError, f"expected a tensor with {_other} (lists come together), got None")


def _refused(changes: dict[str, object], error: type, text: str, case: PrefillCase = CASE) -> None:
    """The call with these arguments replaced raises exactly this, and leaves every byte of the others alone."""
    inputs = case.inputs()
    inputs.freeze()
    arguments = inputs.arguments()
    values = {name: v(arguments[name]) if callable(v) else v for name, v in changes.items()}
    with pytest.raises(Exception) as caught:
        aiter_c.mla_prefill_ps_fwd(**arguments | values)
    if "{}" in text:
        text = text.format(len(arguments["work_info_set"]))
    assert str(caught.value) == f"mla_prefill_ps_fwd: {text}"
    assert type(caught.value) is error
    changed = [name for name, block in inputs.blocks.items() if block.first_change() is not None]
    assert not changed, f"a failed call changed {changed}"


def _ids(rows: list) -> list[str]:
    return [f"{i}-{row[0]}-{part(row[3][-PART:])}" for i, row in enumerate(rows)]


@pytest.mark.parametrize(("argument", "value", "error", "text"), TENSORS, ids=_ids(TENSORS))
def test_tensors(argument: str, value: object, error: type, text: str) -> None:
    _refused({argument: value}, error, text)


NUMBERS = [
    ("max_seqlen_q", 0, ValueError, "max_seqlen_q: expected 1 to 2147483647, got 0"),
    ("max_seqlen_q", 2**31, ValueError, "max_seqlen_q: expected 1 to 2147483647, got 2147483648"),
    ("max_seqlen_q", 2.0, TypeError, "max_seqlen_q: expected int, got float"),
    ("max_seqlen_q", None, TypeError, "max_seqlen_q: expected int, got None"),
    ("softmax_scale", "x", TypeError, "softmax_scale: expected float, got str"),
    ("q_scale", "x", TypeError, "q_scale: expected None, a float or a tensor of one element, got str"),
    ("q_dtype", "float8_e4m3fn", TypeError, "Q: expected dtype float8_e4m3fn or uint8 with q_dtype, got bfloat16"),
    ("stream", "0", TypeError, "stream: expected int, got str"),
]


@pytest.mark.parametrize(("argument", "value", "error", "text"), NUMBERS)
def test_numbers(argument: str, value: object, error: type, text: str) -> None:
    inputs = CASE.inputs()
    with pytest.raises(error) as caught:
        aiter_c.mla_prefill_ps_fwd(**inputs.arguments() | {argument: value})
    assert str(caught.value).startswith(f"mla_prefill_ps_fwd: {text.split(': ')[0]}: ")


def test_heads_that_do_not_divide() -> None:
    wide = {"Q": lambda a: np.zeros((9, 3, 192), a.dtype), "output": lambda a: np.zeros((9, 3, 128), a.dtype)}
    _refused(wide, ValueError, "Q.shape[1]: expected a multiple of the 2 heads of K, got 3")
    one = {"Q": lambda a: np.zeros((9, 1, 192), a.dtype), "output": lambda a: np.zeros((9, 1, 128), a.dtype)}
    _refused(one, ValueError, "K.shape[1]: expected 1 to 1, got 2")


def test_widths_without_a_kernel() -> None:
    changes = {name: (lambda width: lambda a: np.zeros((*a.shape[:2], width), a.dtype))(128) for name in "QK"}
    text = "Q.shape[2], V.shape[2]: expected widths of 192/128 or 256/256, got 128 and 128"
    _refused(changes, UnsupportedError, text)


def test_a_mix_without_a_kernel() -> None:
    """16-bit queries over fp8 keys."""
    changes = {name: _as("float8_e4m3fn") for name in "KV"}
    _refused(changes, UnsupportedError, "K: expected the dtype of Q (bfloat16), got float8_e4m3fn")


@pytest.mark.parametrize("other", INPUTS)
def test_an_output_in_the_memory_of_another_tensor(other: str) -> None:
    arguments = CASE.inputs().arguments()
    memory = np.zeros(1 << 20, np.uint8)
    shared = np.ndarray(arguments[other].shape, arguments[other].dtype, memory.data, 4)
    shared[...] = arguments[other]
    output = np.ndarray(arguments["output"].shape, arguments["output"].dtype, memory.data, 8)
    text = f"output: expected memory of its own, got memory shared with {other}"
    _refused({other: shared, "output": output}, ValueError, text)


@pytest.mark.parametrize("name", ["splitData", "splitLse"])
def test_stage_1_needs_room_for_partials(name: str) -> None:
    """mla_prefill_ps_asm_fwd: lists without buffers, and buffers of another shape."""
    a = CASE.inputs().arguments()
    buffers = {"splitData": np.zeros((9, 4, 128), np.float32), "splitLse": np.zeros((9, 4), np.float32)}
    given = [a[n] for n in ("Q", "K", "V", "qo_indptr", "kv_indptr", "kv_page_indices", "work_indptr", "work_info_set")]

    def call(**changes: object) -> None:
        values = buffers | changes
        aiter_c.mla_prefill_ps_asm_fwd(
            *given, 7, None, True, values["splitData"], values["splitLse"], a["output"]
        )  # fmt: skip

    with pytest.raises(TypeError) as caught:
        call(**{name: None})
    assert str(caught.value) == f"mla_prefill_ps_asm_fwd: {name}: expected a tensor, got None"
    with pytest.raises(ValueError, match=rf"^mla_prefill_ps_asm_fwd: {name}: expected shape \["):
        call(**{name: buffers[name][:, :3].copy()})
    call()  # nine rows of partials: what finds no place is left out


@pytest.mark.accelerators
def test_an_fp8_kind_that_the_device_has_not(device: Device) -> None:
    """Served, or refused by name."""
    for dtype in ("float8_e4m3fn", "float8_e4m3fnuz"):
        case = PrefillCase(dtype=dtype)
        if not is_served(case, device):
            with pytest.raises(UnsupportedError, match=rf"^mla_prefill_ps_fwd: no kernel on .*{dtype}"):
                device.call("mla_prefill_ps_fwd", **case.inputs().arguments())


METADATA = [
    ({"group": 0}, ValueError, "gqa_ratio: expected 1 to 65535, got 0"),
    ({"group": 2**15, "kv_heads": 2}, ValueError, "gqa_ratio * num_heads_k: expected 1 to 65535, got 65536"),
    ({"tile": 257}, ValueError, "qlen_granularity: expected 1 to 256, got 257"),
    ({"unit": 24, "page": 16}, ValueError, "kvlen_granularity: expected a multiple of block_size 16, got 24"),
]


@pytest.mark.parametrize(("changes", "error", "text"), METADATA)
def test_numbers_of_the_planner(changes: dict, error: type, text: str) -> None:
    fields = {"q_lens": (5,), "kv_lens": (5,), "workers": 2} | changes
    if "group" in changes and changes["group"] == 0:
        fields["tile"] = 256
    with pytest.raises(error) as caught:
        planned(Plan(**fields))
    assert str(caught.value) == f"get_ps_metadata_v1: {text}"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((-1, 1, 1), "batch_size: expected 0 to 2147483647, got -1"),
        ((1, 0, 1), "num_head_k: expected 1 to 2147483647, got 0"),
        ((1, 1, 1, 0), "qlen_granularity: expected 1 to 2147483647, got 0"),
        ((2**20, 2**10, 2**20), "rows of work_info: expected 0 to 2147483647, got 4398046511104"),
    ],
)
def test_sizes_refuse(arguments: tuple, text: str) -> None:
    with pytest.raises(ValueError) as caught:
        aiter_c.get_ps_metadata_info_v1(*arguments, num_workers=1)
    assert str(caught.value) == f"get_ps_metadata_info_v1: {text}"
