"""Every argument of merge_states and merge_attn_states, wrong in every way: the class, the exact text, and no byte of
any argument changed.

The base calls have 3 states of [4, 3, 64] bfloat16, as one tensor and as a list, and two of them in vLLM's form.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from boundary.producer import CUDA, Producer
from ids import part

import aiter_c
from aiter_c.testing import allocated_by, dtype_of
from aiter_c.testing.ops.merge_states import MergeStatesCase

SIZES = {"rows": 4, "heads": 3, "dim": 64, "given": True, "sink": True}
CASES = {
    "tensor": MergeStatesCase(states=3, **SIZES),
    "sequence": MergeStatesCase(states=3, form="sequence", **SIZES),
    "two": MergeStatesCase(form="two", layout="ht", **SIZES),
}
TENSORS = {
    "tensor": ("o", "lse", "out", "lse_out", "sink"),
    "two": ("output", "prefix_output", "prefix_lse", "suffix_output", "suffix_lse", "output_lse", "sink"),
}
OUTPUTS = ("out", "lse_out", "output", "output_lse")
OPTIONAL = ("out", "lse_out", "output_lse", "sink")
HALVES = ("o", "out", "output", "prefix_output", "suffix_output")  # tensors of values

#: (case, {argument: its wrong value or a function of the right one}, exception, text after the op's name).
ROWS: list[tuple[str, dict[str, object], type, str]] = []


def _bad(case: str, argument: str, value: object, error: type, text: str, named: str | None = None) -> None:
    ROWS.append((case, {argument: value}, error, f"{named or argument}: {text}"))


def _read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


def _nth(n: int, change: Callable) -> Callable:
    """A list with its n-th tensor changed."""
    return lambda tensors: [change(one) if i == n else one for i, one in enumerate(tensors)]


def _as(dtype: str) -> Callable:
    return lambda array: np.zeros(array.shape, dtype_of(dtype))


# --- not a tensor, dtype, memory ------------------------------------------------------------------------------------
_VALUES = "expected dtype bfloat16, float16 or float32, got"
_ELSEWHERE = "expected device cpu (of {}), got cuda:0"
for _case, _names in TENSORS.items():
    for _name in _names:
        _states = _name in ("o", "lse")
        _kind = "a tensor, or a list or tuple of tensors" if _states else "a tensor (DLPack or NumPy)"
        for _value in ("text", 3, object(), {1: 2}):
            _bad(_case, _name, _value, TypeError, f"expected {_kind}, got {type(_value).__name__}")
        if _name not in OPTIONAL:
            _bad(_case, _name, None, TypeError, f"expected {_kind}, got None")
        for _dtype in ("float64", "int32", "uint8", *(("float8_e4m3fn",) if _name in HALVES else ("bfloat16",))):
            _text = f"{_VALUES} {_dtype}" if _name in HALVES else f"expected dtype float32, got {_dtype}"
            _bad(_case, _name, _as(_dtype), TypeError, _text)
        if _name in OUTPUTS:
            _bad(_case, _name, _read_only, BufferError, "expected a writable tensor, got a read-only one")
        if _name not in ("o", "output"):
            _leader = "o" if _case == "tensor" else "output"
            _bad(_case, _name, lambda a: Producer(a, device=(CUDA, 0)), ValueError, _ELSEWHERE.format(_leader))
_bad("tensor", "o", lambda a: Producer(a, data=0), ValueError, "expected a tensor with memory, got a null pointer")

# --- lists ----------------------------------------------------------------------------------------------------------
for _name in ("o", "lse"):
    _bad("sequence", _name, [], ValueError, "expected 1 to 16 tensors, got 0")
    _bad("sequence", _name, lambda a: a * 6, ValueError, "expected 1 to 16 tensors, got 18")
    _bad("sequence", _name, _nth(1, lambda _: None), TypeError, "expected a tensor (DLPack or NumPy), got None",
         f"{_name}[1]")  # fmt: skip
    _bad("sequence", _name, _nth(2, lambda a: [a]), TypeError, "expected a tensor (DLPack or NumPy), got list",
         f"{_name}[2]")  # fmt: skip
    _bad("sequence", _name, _nth(2, lambda a: Producer(a, device=(CUDA, 0))), ValueError, _ELSEWHERE.format("o"),
         f"{_name}[2]")  # fmt: skip
_bad("sequence", "lse", lambda a: a[:2], ValueError, "expected as many tensors as o has (3), got 2")
_bad("sequence", "lse", np.stack, TypeError, "expected a list or tuple of tensors as o is, got one tensor")
_bad("tensor", "lse", list, TypeError, "expected one tensor as o is, got a list or tuple of tensors")
_bad("sequence", "o", _nth(1, _as("int8")), TypeError, f"{_VALUES} int8", "o[1]")
_OTHER = "expected dtype bfloat16, as the first state has, got float16"
_bad("sequence", "o", _nth(2, _as("float16")), TypeError, _OTHER, "o[2]")
_bad("two", "suffix_output", _as("float16"), TypeError, _OTHER)

# --- shapes ---------------------------------------------------------------------------------------------------------
_T, _H, _D = (f"{size} (of o)" for size in ("T=4", "H=3", "D=64"))
_N = "N=3 (of o)"
SHAPES = [
    ("tensor", "o", lambda a: a[0], "o", "N, T, H, D", "4, 3, 64"),
    ("tensor", "o", lambda a: a[None], "o", "N, T, H, D", "1, 3, 4, 3, 64"),
    ("tensor", "o", lambda a: a[:2], "lse", f"N=2 (of o), {_T}, {_H}", "3, 4, 3"),
    ("tensor", "o", lambda a: a[:, :3], "lse", f"{_N}, T=3 (of o), {_H}", "3, 4, 3"),
    ("tensor", "lse", lambda a: a[..., :2], "lse", f"{_N}, {_T}, {_H}", "3, 4, 2"),
    ("tensor", "lse", lambda a: a.swapaxes(1, 2), "lse", f"{_N}, {_T}, {_H}", "3, 3, 4"),
    ("tensor", "lse", lambda a: a[0], "lse", f"{_N}, {_T}, {_H}", "4, 3"),
    ("tensor", "out", lambda a: a[1:], "out", f"{_T}, {_H}, {_D}", "3, 3, 64"),
    ("tensor", "out", lambda a: a[..., :63], "out", f"{_T}, {_H}, {_D}", "4, 3, 63"),
    ("tensor", "out", lambda a: a[0], "out", f"{_T}, {_H}, {_D}", "3, 64"),
    ("tensor", "lse_out", lambda a: a.T, "lse_out", f"{_T}, {_H}", "3, 4"),
    ("tensor", "lse_out", lambda a: a[..., None], "lse_out", f"{_T}, {_H}", "4, 3, 1"),
    ("tensor", "sink", lambda a: a[:2], "sink", _H, "2"),
    ("tensor", "sink", lambda a: a[None], "sink", _H, "1, 3"),
    ("sequence", "o", _nth(0, lambda a: a[None]), "o[0]", "T, H, D", "1, 4, 3, 64"),
    ("sequence", "o", _nth(2, lambda a: a[:3]), "o[2]", f"{_T}, {_H}, {_D}", "3, 3, 64"),
    ("sequence", "lse", _nth(1, lambda a: a.T), "lse[1]", f"{_T}, {_H}", "3, 4"),
    ("sequence", "sink", lambda a: a[:2], "sink", _H, "2"),
    ("two", "output", lambda a: a[0], "output", "T, H, D", "3, 64"),
    ("two", "output", lambda a: a[1:], "prefix_output", "T=3, H=3, D=64", "4, 3, 64"),
    ("two", "prefix_lse", lambda a: a.T, "prefix_lse", "H=3, T=4", "4, 3"),
    ("two", "suffix_output", lambda a: a[..., :32], "suffix_output", "T=4, H=3, D=64", "4, 3, 32"),
    ("two", "suffix_lse", lambda a: a[0], "suffix_lse", "H=3, T=4", "4"),
    ("two", "output_lse", lambda a: a[:, :3], "output_lse", "H=3, T=4", "3, 3"),
    ("two", "sink", lambda a: a[:1], "sink", "H=3", "1"),
]
for _case, _name, _value, _named, _expected, _got in SHAPES:
    if _case == "two":  # sizes come from output
        _expected = ", ".join(f"{one} (of output)" if "=" in one else one for one in _expected.split(", "))
    ROWS.append((_case, {_name: _value}, ValueError, f"{_named}: expected shape [{_expected}], got [{_got}]"))

# --- strides --------------------------------------------------------------------------------------------------------
_SPREAD = "expected stride 1 in the last dimension, got 2"
_OVERLAP = "expected an output without overlapping elements, got strides that overlap"
for _case, _names in TENSORS.items():
    for _name in _names:
        if _name in (*HALVES, "sink"):
            _bad(_case, _name, lambda a: np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)[..., ::2], ValueError,
                 _SPREAD)  # fmt: skip
        if _name in OUTPUTS:
            _bad(_case, _name, lambda a: np.lib.stride_tricks.as_strided(a, strides=(0, *a.strides[1:])), ValueError,
                 _OVERLAP)  # fmt: skip

# --- sizes, choices -------------------------------------------------------------------------------------------------
_NONE = {"out": None, "lse_out": None, "sink": None}
for _name, _shape, _at in (("o.shape[0]", (0, 4, 3, 64), 0), ("o.shape[-2]", (3, 4, 0, 64), 2),
                           ("o.shape[-1]", (3, 4, 3, 0), 3)):  # fmt: skip
    _states = {"o": np.zeros(_shape, np.float32), "lse": np.zeros(_shape[:3], np.float32)}
    ROWS.append(("tensor", _NONE | _states, ValueError, f"{_name}: expected 1 to 2147483647, got 0"))
ROWS.append(
    ("sequence", _NONE | {"o": [np.zeros((4, 0, 8), np.float32)], "lse": [np.zeros((4, 0), np.float32)]}, ValueError,
     "o[0].shape[-2]: expected 1 to 2147483647, got 0")
)  # fmt: skip
for _value, _error, _text in (
    ("hT", ValueError, "expected one of 'th', 'ht', got 'hT'"), (None, TypeError, "expected str, got None"),
    (1, TypeError, "expected str, got int"),
):  # fmt: skip
    _bad("tensor", "lse_layout", _value, _error, _text)
_bad("tensor", "stream", "0", TypeError, "expected int, got str")
_bad("two", "stream", -1, ValueError, "expected a stream's handle, at least 0, got -1")


def _refused(case: str, changes: dict[str, object], error: type, text: str) -> None:
    """The call with these arguments replaced raises exactly this, and leaves every byte of the others alone."""
    inputs = CASES[case].inputs()
    inputs.freeze()
    arguments = inputs.arguments()
    values = {name: v(arguments[name]) if callable(v) else v for name, v in changes.items()}
    given = {name: v.tobytes() for name, v in values.items() if isinstance(v, np.ndarray)}
    with pytest.raises(Exception) as caught:
        getattr(aiter_c, CASES[case].op)(**arguments | values)
    assert str(caught.value) == f"{CASES[case].op}: {text}"
    assert type(caught.value) is error
    changed = [name for name, block in inputs.blocks.items() if block.first_change() is not None]
    assert not changed, f"a failed call changed {changed}"
    assert all(values[name].tobytes() == before for name, before in given.items())


@pytest.mark.parametrize(
    ("case", "changes", "error", "text"), ROWS,
    ids=[f"{i}-{row[0]}-{part('-'.join(row[1]))}" for i, row in enumerate(ROWS)],
)  # fmt: skip
def test_refusals(case: str, changes: dict[str, object], error: type, text: str) -> None:
    _refused(case, changes, error, text)


def _in(memory: np.ndarray, like: np.ndarray, offset: int) -> np.ndarray:
    """An array like that one in the bytes of `memory`."""
    out = np.ndarray(like.shape, like.dtype, memory.data, offset)
    out[...] = like
    return out


_OWN = "expected memory of its own or an input's, element by element, got memory shared with"


@pytest.mark.parametrize("case", ["tensor", "two"])
def test_an_output_in_the_memory_of_another_tensor(case: str) -> None:
    """Shifted by an element against an input, or over another output."""
    names = TENSORS[case]
    arguments = CASES[case].inputs().arguments()
    for output in (name for name in names if name in OUTPUTS):
        for other in names:
            if other == output:
                continue
            memory = np.zeros(1 << 16, np.uint8)
            changes = {other: _in(memory, arguments[other], 4), output: _in(memory, arguments[output], 8)}
            first, second = output, other
            if other in OUTPUTS:  # a pair is met once, the later is named first
                first, second = max(output, other, key=names.index), min(output, other, key=names.index)
            _refused(case, changes, ValueError, f"{first}: {_OWN} {second}")


def _views() -> dict[str, tuple[dict[str, object], str]]:
    """Outputs that are nearly an input."""
    o, lse = np.zeros((3, 4, 3, 64), np.float32), np.zeros((3, 4, 3), np.float32)
    padded = np.zeros((4, 4, 3, 64), np.float32)
    rows = np.zeros((4, 2, 3, 64), np.float32)  # two states, their rows between one another
    cubes = [np.zeros((4, 4, 4), np.float32) for _ in range(3)]  # an LSE may be a part of an o, by its shape
    four = np.zeros((4, 4, 4, 4), np.float32)
    wide = np.zeros((3, 8, 3, 64), np.float32)
    half = np.zeros((3, 4, 3, 64), np.float16)
    between = np.zeros((4, 5, 3, 64), np.float32).swapaxes(0, 1)  # five states, likewise
    same = np.broadcast_to(np.zeros((4, 3, 64), np.float32), (3, 4, 3, 64))
    writable = np.lib.stride_tricks.as_strided(np.zeros((4, 3, 64), np.float32), same.shape, same.strides)
    lists = [np.zeros((4, 3), np.float32)] * 2
    return {
        "rows of two states": ({"o": padded[:3], "lse": lse, "out": padded.reshape(16, 3, 64)[2:6]}, "out: {} o"),
        "rows in reverse": ({"o": o, "lse": lse, "out": o[1, ::-1]}, "out: {} o"),
        "heads in reverse": ({"o": o, "lse": lse, "out": o[0][:, ::-1]}, "out: {} o"),
        "an LSE in the output": (
            {"o": four, "lse": cubes[0], "out": cubes[1], "lse_out": cubes[1][2]}, "lse_out: {} out"
        ),
        "an LSE in a state's o": (
            {"o": cubes, "lse": [cube[0].copy() for cube in cubes], "lse_out": cubes[1][2]}, "lse_out: {} o[1]"
        ),
        "an output that is all LSEs": ({"o": four, "lse": cubes[1], "out": cubes[1]}, "out: {} lse"),
        "every other row": ({"o": wide[:, :4], "lse": lse, "out": wide[0, ::2]}, "out: {} o"),
        "every other row, of a list": (
            {"o": [wide[0, :4]], "lse": [lse[0]], "out": wide[0, ::2]}, "out: {} o[0]"
        ),
        "another dtype": ({"o": half, "lse": lse, "out": half[0].view(dtype_of("bfloat16"))}, "out: {} o"),
        "one after the last": ({"o": padded[:3], "lse": lse, "out": padded[3]}, ""),
        "a state that is every state": ({"o": writable, "lse": lse, "out": writable[0]}, "out: {} o"),
        "between another's rows": (
            {"o": [rows[:, 0], rows[:, 1]], "lse": lists, "out": rows[:, 0]}, "out: {} o[1]"
        ),
        "between all rows, before the first": ({"o": between[1:4], "lse": lse, "out": between[0]}, "out: {} o"),
        "between all rows, after the last": ({"o": between[1:4], "lse": lse, "out": between[4]}, "out: {} o"),
        "an LSE of two states": ({"o": o, "lse": lse, "lse_out": lse.reshape(12, 3)[2:6]}, "lse_out: {} lse"),
    }  # fmt: skip


@pytest.mark.parametrize("name", _views())
def test_nearly_in_place(name: str) -> None:
    """Only the very elements of an input may be an output's; `one after the last` shares none."""
    arguments, text = _views()[name]
    if not text:
        aiter_c.merge_states(**arguments)
        return
    with pytest.raises(ValueError) as caught:
        aiter_c.merge_states(**arguments)
    assert str(caught.value) == f"merge_states: {text.format(_OWN)}"


def test_an_allocators_tensors_are_checked() -> None:
    """Whatever set_allocator's function returns for a fresh output."""
    inputs = MergeStatesCase(rows=4, heads=3, dim=64).inputs()
    shapes = {"out": (4, 3, 64), "lse_out": (4, 3)}

    def wrong(name: str) -> Callable:
        return lambda given, _like, shape, dtype, _stream: np.zeros(shape[: 1 if given == name else 3], dtype_of(dtype))

    for name, shape in shapes.items():
        expected = ", ".join(f"{symbol}={size} (of o)" for symbol, size in zip("THD", shape, strict=False))
        with allocated_by(wrong(name)), pytest.raises(ValueError) as caught:
            aiter_c.merge_states(**inputs.arguments())
        assert str(caught.value) == f"merge_states: {name}: expected shape [{expected}], got [4]"


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: aiter_c.merge_states(), "merge_states() missing required argument 'o' (pos 1)"),
        (lambda: aiter_c.merge_states(*range(6)), "merge_states() takes at most 5 positional arguments (6 given)"),
        (lambda: aiter_c.merge_attn_states(1, 2), "merge_attn_states() missing required argument 'prefix_lse' (pos 3)"),
        (lambda: aiter_c.merge_states(1, 2, x=1), "merge_states() got an unexpected keyword argument 'x'"),
    ],
)  # fmt: skip
def test_wrong_calls_in_cpythons_words(call: Callable, text: str) -> None:
    with pytest.raises(TypeError) as caught:
        call()
    assert str(caught.value) == text
