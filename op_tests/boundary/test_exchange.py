"""DLPack's C exchange API, the path of torch's tensors, with tables that behave in every way that a table can."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from boundary.exchange_producer import Exchange, exchange_type
from boundary.producer import READ_ONLY, Producer

import aiter_c
from aiter_c import _C, mla_decode_fwd
from aiter_c.testing import MlaCase, build_inputs, check_bits, digest

CASE = MlaCase(heads=4, q_lens=(2, 1), kv_lens=(9, 5), page_size=4, splits=2)
TENSORS = ("q", "kv_buffer", "o", "qo_indptr", "kv_indptr", "kv_indices", "kv_last_page_lens")
INPUTS = tuple(name for name in TENSORS if name != "o")
pytestmark = pytest.mark.skipif(
    _C.environment()["AITER_C_DLPACK_EXCHANGE"][0] == "0", reason="AITER_C_DLPACK_EXCHANGE=0"
)


def _tensors(exchange: Exchange, names: tuple[str, ...] = TENSORS, **fields: object) -> tuple[dict, dict]:
    """The case's arguments, and those of the names as tensors of one new type that has the table."""
    speaks_dlpack = fields.pop("speaks_dlpack", True)
    kind = exchange_type(exchange, speaks_dlpack=speaks_dlpack)
    inputs = build_inputs(CASE)
    made = {name: kind(inputs.array(name), shape=inputs.array(name).shape, **fields) for name in names}
    return inputs.arguments(), made


def _check_result(arguments: dict, swapped: dict) -> None:
    """The bits of NumPy's call; every managed export deleted once."""
    want = build_inputs(CASE)
    _, lse = mla_decode_fwd(**want.arguments())
    _, got = mla_decode_fwd(**arguments | swapped)
    check_bits("lse", np.asarray(got) if isinstance(got, np.ndarray) else got.numpy(), lse, "exchange")
    check_bits("o", arguments["o"], want.array("o"), "exchange")
    assert all(tensor.exported == tensor.deleted for tensor in swapped.values())


def test_inputs_are_borrowed_and_outputs_managed() -> None:
    """Only the managed form tells that an output may be written."""
    exchange = Exchange()
    arguments, swapped = _tensors(exchange)
    assert _C.dlpack_path(swapped["q"]) == "exchange"
    _check_result(arguments, swapped)
    assert {name for name, tensor in swapped.items() if tensor.exported} == {"o"}
    assert set(exchange.calls) == {"borrowed", "managed"}  # no stream on the CPU


def test_a_table_that_lends_nothing() -> None:
    exchange = Exchange(without=("borrowed",))
    arguments, swapped = _tensors(exchange)
    _check_result(arguments, swapped)
    assert all(tensor.exported for tensor in swapped.values()) and set(exchange.calls) == {"managed"}


@pytest.mark.parametrize("newer", [(2,), (9, 2)])
def test_an_older_table_behind_newer_ones_is_found(newer: tuple[int, ...]) -> None:
    exchange = Exchange(newer=newer)
    arguments, swapped = _tensors(exchange)
    _check_result(arguments, swapped)
    assert "borrowed" in exchange.calls


@pytest.mark.parametrize(
    "unusable",
    [{"major": 2}, {"major": 0}, {"without": ("managed",)}, {"without": ("stream",)}, {"capsule_name": "another"}],
)
def test_without_a_usable_table_the_method_is_asked(unusable: dict) -> None:
    exchange = Exchange(**unusable)
    arguments, swapped = _tensors(exchange)
    assert _C.dlpack_path(swapped["q"]) == "__dlpack__"
    _check_result(arguments, swapped)
    assert set(exchange.calls) == {"__dlpack__"}


@pytest.mark.parametrize("lies", ["ndim", "sizes"])
@pytest.mark.parametrize("without", [(), ("borrowed",)])
def test_a_table_that_contradicts_the_shape_is_not_used_again(lies: str, without: tuple[str, ...]) -> None:
    exchange = Exchange(lies=lies, without=without)
    arguments, swapped = _tensors(exchange, INPUTS)
    kind = type(swapped["q"])
    assert _C.dlpack_path(kind) == "exchange"
    aiter_c.from_host(kind(np.arange(6, dtype=np.float32), shape=(6,)))
    assert _C.dlpack_path(kind) == "__dlpack__" and exchange.calls.count("__dlpack__") == 1
    before = [name for name in exchange.calls if name != "__dlpack__"]
    _check_result(arguments, swapped)
    assert [name for name in exchange.calls if name != "__dlpack__"] == before


def test_a_table_that_contradicts_the_shape_of_a_type_without_the_method() -> None:
    exchange = Exchange(lies="sizes")
    arguments, swapped = _tensors(exchange, ("q",), speaks_dlpack=False)
    text = "^mla_decode_fwd: q: the exchange API contradicts .shape, and there is no __dlpack__$"
    with pytest.raises(BufferError, match=text):
        mla_decode_fwd(**arguments | swapped)


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize(("name", "function"), [("q", "borrowed"), ("o", "managed")])
def test_a_refusal_is_a_buffer_error(name: str, function: str, silent: bool) -> None:
    arguments, swapped = _tensors(Exchange(failing=(function,), silent=silent), (name,))
    with pytest.raises(BufferError, match=f"^mla_decode_fwd: {name}: the producer refused DLPack export") as caught:
        mla_decode_fwd(**arguments | swapped)
    assert isinstance(caught.value.__cause__, TypeError) != silent


def test_no_tensor_and_no_error() -> None:
    arguments, swapped = _tensors(Exchange(returns_null=True), ("o",))
    text = "^mla_decode_fwd: o: the producer refused DLPack export: no tensor, and no error$"
    with pytest.raises(BufferError, match=text):
        mla_decode_fwd(**arguments | swapped)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"flags": READ_ONLY}, "o: expected a writable tensor, got a read-only one"),
        ({"version": (2, 0)}, "o: expected DLPack version 1, got 2.0"),
    ],
)
def test_a_managed_tensor_that_cannot_be_used(fields: dict, text: str) -> None:
    arguments, swapped = _tensors(Exchange(), ("o",), **fields)
    before = digest(arguments["o"])
    with pytest.raises(BufferError, match=f"^mla_decode_fwd: {text}$"):
        mla_decode_fwd(**arguments | swapped)
    assert swapped["o"].exported == swapped["o"].deleted == 1 and digest(arguments["o"]) == before


@pytest.mark.parametrize("kind", ["versioned", "legacy"])
def test_a_tensor_without_sizes(kind: str) -> None:
    """A shape that is NULL although there are dimensions."""
    for make in (Producer, exchange_type(Exchange()), exchange_type(Exchange(without=("borrowed",)))):
        tensor = make(np.arange(6, dtype=np.float32), shape=(6,), kind=kind)
        original = tensor._tensor

        def without_sizes(original: object = original) -> object:
            made = original()
            made.shape = None
            return made

        tensor._tensor = without_sizes
        with pytest.raises(BufferError, match=r"^from_host: array: expected the sizes of 1 dimensions, got none$"):
            aiter_c.from_host(tensor)
        assert tensor.exported == tensor.deleted


def test_shapes_that_are_no_shapes() -> None:
    """`.shape` is any object: what is no sequence says nothing."""
    kind = exchange_type(Exchange())
    assert aiter_c.from_host(kind(np.arange(6, dtype=np.float32))).shape == (6,)  # .shape is None


def test_types_are_let_go() -> None:
    """The cache of types holds sixteen."""
    for _ in range(40):
        kind = exchange_type(Exchange())
        aiter_c.from_host(kind(np.arange(6, dtype=np.float32), shape=(6,)))
    gc.collect()
    types = [thing for thing in gc.get_objects() if type(thing) is type and "exchange_type" in thing.__qualname__]
    assert len(types) < 40
