"""An Array's values through Python's own protocols: right, or refused with what to do; never quiet nonsense."""

from __future__ import annotations

import copy
import ctypes
import gc
import pickle
import sys
from collections.abc import Callable, Iterable

import ml_dtypes
import numpy as np
import pytest

import aiter_c
from aiter_c.testing.device import Device

#: Every dtype of aiter_c that the buffer protocol has a letter for.
BUFFERED = {
    "float16": "e", "float32": "f", "float64": "d", "int8": "b", "int16": "h", "int32": "i", "int64": "q",
    "uint8": "B", "uint16": "H", "uint32": "I", "uint64": "Q", "bool": "?", "complex64": "Zf", "complex128": "Zd",
}  # fmt: skip
UNBUFFERED = ["bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"]
SHAPES = [(), (1,), (5,), (2, 3), (2, 1, 3), (0, 3), (3, 0), (1, 1, 1)]


def _values(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    kind = getattr(ml_dtypes, dtype) if dtype in UNBUFFERED else np.dtype(dtype)
    return np.arange(1, int(np.prod(shape)) + 1).reshape(shape).astype(kind)


@pytest.mark.parametrize("dtype", [*BUFFERED, *UNBUFFERED])
@pytest.mark.parametrize("shape", SHAPES)
def test_asarray_is_the_same_memory(shape: tuple[int, ...], dtype: str) -> None:
    values = _values(shape, dtype)
    array = aiter_c.from_host(values)
    seen = np.asarray(array)
    assert seen.shape == shape and seen.dtype == values.dtype and seen.tobytes() == values.tobytes()
    if seen.size:
        assert np.shares_memory(seen, array.numpy())
        seen[...] = 0
        assert array.numpy().tobytes() == seen.tobytes() and seen.flags.writeable


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_asarray_keeps_the_array(dtype: str) -> None:
    array = aiter_c.from_host(_values((4,), dtype))
    before = sys.getrefcount(array)
    seen = np.asarray(array)
    assert sys.getrefcount(array) == before + 1
    del seen
    gc.collect()
    assert sys.getrefcount(array) == before
    seen = np.asarray(array)
    del array
    gc.collect()
    assert seen.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dtype_and_copy(dtype: str) -> None:
    array = aiter_c.from_host(_values((2, 3), dtype))
    own = array.numpy()
    assert np.shares_memory(array.__array__(), own) and np.shares_memory(array.__array__(copy=False), own)
    assert np.shares_memory(array.__array__(own.dtype, copy=False), own)
    assert not np.shares_memory(array.__array__(copy=True), own)
    assert not np.shares_memory(np.array(array, copy=True), own)
    for made in (array.__array__("float64"), np.asarray(array, "float64"), array.__array__(np.float64, True)):
        assert made.dtype == np.float64 and made.tolist() == [[1, 2, 3], [4, 5, 6]]
    text = f"Array.__array__: copy: expected None or True for another dtype than {dtype}, got False"
    with pytest.raises(ValueError) as caught:
        array.__array__("float64", copy=False)
    assert str(caught.value) == text
    with pytest.raises(TypeError, match=r"^Array\.__array__: copy: expected bool, got str$"):
        array.__array__(copy="no")
    with pytest.raises(TypeError, match="not understood"):
        array.__array__("no such dtype")


def test_numpy_functions_take_arrays() -> None:
    array = aiter_c.from_host(_values((2, 3), "float32"))
    assert np.sum(array) == 21 and np.array([array, array]).shape == (2, 2, 3)
    np.testing.assert_array_equal(array, [[1, 2, 3], [4, 5, 6]])
    assert (array.numpy() == array).all() and (array.numpy() + array).tolist() == [[2, 4, 6], [8, 10, 12]]


@pytest.mark.parametrize("dtype", BUFFERED)
@pytest.mark.parametrize("shape", SHAPES)
def test_memoryview(shape: tuple[int, ...], dtype: str) -> None:
    values = _values(shape, dtype)
    array = aiter_c.from_host(values)
    view = memoryview(array)
    assert (view.format, view.shape, view.itemsize, view.ndim) == (BUFFERED[dtype], shape, values.itemsize, len(shape))
    assert view.strides == tuple(s * values.itemsize for s in array.strides) and not view.readonly
    assert view.nbytes == values.nbytes and view.tobytes() == values.tobytes() == bytes(array)
    if view.format in "dbhiqBHIQ?f" and view.nbytes:  # Python itself reads these alone
        assert view.tolist() == values.tolist()


@pytest.mark.parametrize("dtype", UNBUFFERED)
def test_memoryview_of_a_dtype_that_it_cannot_name(dtype: str) -> None:
    array = aiter_c.from_host(_values((3,), dtype))
    text = rf"^Array: expected a dtype of the buffer protocol, got {dtype}; Array\.numpy\(\) has it$"
    with pytest.raises(BufferError, match=text):
        memoryview(array)
    with pytest.raises(BufferError, match=text):
        np.frombuffer(array, np.uint8)


class _Buffer(ctypes.Structure):
    """Py_buffer."""

    _fields_ = [
        ("buf", ctypes.c_void_p), ("obj", ctypes.py_object), ("len", ctypes.c_ssize_t), ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int), ("ndim", ctypes.c_int), ("format", ctypes.c_char_p), ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p), ("suboffsets", ctypes.c_void_p), ("internal", ctypes.c_void_p),
    ]  # fmt: skip


SIMPLE, WRITABLE, FORMAT, ND, STRIDES, C_ORDER, F_ORDER = 0, 1, 4, 8, 0x18, 0x38, 0x58


@pytest.mark.parametrize("flags", [SIMPLE, WRITABLE, FORMAT, ND, ND | FORMAT, STRIDES, C_ORDER, C_ORDER | FORMAT])
def test_a_buffer_has_what_was_asked_for(flags: int) -> None:
    array = aiter_c.from_host(_values((2, 3), "float32"))
    before = sys.getrefcount(array)
    buffer = _Buffer()
    assert ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(array), ctypes.byref(buffer), flags) == 0
    assert (buffer.len, buffer.itemsize, buffer.ndim, buffer.readonly) == (24, 4, 2, 0)
    assert (buffer.format == b"f") == bool(flags & FORMAT) and bool(buffer.shape) == bool(flags & ND)
    assert bool(buffer.strides) == ((flags & STRIDES) == STRIDES) and not buffer.suboffsets
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))
    assert sys.getrefcount(array) == before


def test_column_major_order() -> None:
    get = ctypes.pythonapi.PyObject_GetBuffer
    with pytest.raises(BufferError, match="expected a request for row-major order"):
        get(ctypes.py_object(aiter_c.empty((2, 3), "float32")), ctypes.byref(_Buffer()), F_ORDER)
    for shape in ((), (4,), (1, 4, 1), (0, 3)):  # the same in both orders
        buffer = _Buffer()
        assert get(ctypes.py_object(aiter_c.empty(shape, "float32")), ctypes.byref(buffer), F_ORDER) == 0
        ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e4m3fn", "int32", "bool"])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_numbers_of_one_element(shape: tuple[int, ...], dtype: str) -> None:
    for value in (0, 1):
        array = aiter_c.from_host(np.full(shape, value, _values(shape, dtype).dtype))
        assert float(array) == value and type(float(array)) is float
        assert int(array) == value and type(int(array)) is int
        assert bool(array) is bool(value)


@pytest.mark.parametrize("shape", [(2,), (2, 3), (0,), (3, 0)])
@pytest.mark.parametrize("make", [bool, int, float])
def test_no_number_of_several_elements(make: Callable, shape: tuple[int, ...]) -> None:
    text = f"Array.__{make.__name__}__: expected an array of one element, got shape {list(shape)}"
    with pytest.raises(TypeError) as caught:
        make(aiter_c.empty(shape, "float32"))
    assert str(caught.value) == text


def test_length() -> None:
    assert len(aiter_c.empty((3, 2), "int8")) == 3 and len(aiter_c.empty(0, "int8")) == 0
    with pytest.raises(TypeError, match=r"^Array\.__len__: expected an array with dimensions, got shape \[\]$"):
        len(aiter_c.empty((), "int8"))


def test_comparison_is_refused_and_identity_stays() -> None:
    """A comparison by identity would call two arrays of the same values different."""
    a, b = (aiter_c.from_host(_values((2,), "float32")) for _ in range(2))
    text = r"^Array: == and != do not compare values; compare Array\.numpy\(\), or use `is`$"
    for other in (a, b, 1, "auto", [1, 2], a.numpy()):
        with pytest.raises(TypeError, match=text):
            assert a == other
        with pytest.raises(TypeError, match=text):
            assert a != other
    assert (a == None) is False and (a != None) is True  # noqa: E711
    assert a in [a] and {a: 1}[a] == 1 and hash(a) == object.__hash__(a) and len({a, b}) == 2
    with pytest.raises(TypeError, match="'<' not supported"):
        assert a < b


@pytest.mark.parametrize("use", [list, sum, lambda a: 1 in a, iter])
def test_no_iteration(use: Callable) -> None:
    array = aiter_c.from_host(_values((2,), "float32"))
    with pytest.raises(TypeError, match="not iterable"):
        use(array)
    assert not isinstance(array, Iterable)


def test_no_indexing() -> None:
    array = aiter_c.from_host(_values((2,), "float32"))
    text = r"^Array: expected no index; index Array\.numpy\(\) or a framework's from_dlpack\(\)$"
    for key in (0, slice(None), (0, 1), ..., "x"):
        with pytest.raises(TypeError, match=text):
            array[key]
        with pytest.raises(TypeError, match=text):
            array[key] = 1
        with pytest.raises(TypeError, match=text):
            del array[key]


def _pickled(array: aiter_c.Array) -> aiter_c.Array:
    return pickle.loads(pickle.dumps(array))


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, _pickled])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "complex64", "bool"])
@pytest.mark.parametrize("shape", [(), (2, 3), (0, 3)])
def test_copies(shape: tuple[int, ...], dtype: str, make: Callable) -> None:
    array = aiter_c.from_host(_values(shape, dtype))
    made = make({"o": [array]})["o"][0] if make is not copy.copy else make(array)
    assert type(made) is aiter_c.Array and made is not array
    assert (made.shape, made.dtype, made.device) == (array.shape, array.dtype, array.device)
    assert made.numpy().tobytes() == array.numpy().tobytes()
    assert not np.shares_memory(made.numpy(), array.numpy())


@pytest.mark.accelerators
def test_copies_on_a_device(device: Device) -> None:
    array = aiter_c.from_host(_values((2, 3), "bfloat16"), device.place)
    for make in (copy.copy, copy.deepcopy, _pickled):
        made = make(array)
        assert made.device == array.device and made.numpy().tobytes() == array.numpy().tobytes()


@pytest.mark.accelerators
def test_on_a_device_the_values_are_not_pythons(device: Device) -> None:
    array = aiter_c.from_host(np.ones((1,), np.float32), device.place)
    advice = rf"expected an array on the cpu, got one on {array.device}; Array\.numpy\(\) copies it$"
    with pytest.raises(TypeError, match=rf"^Array\.__array__: {advice}"):
        np.asarray(array)
    for make in (bool, int, float):
        with pytest.raises(TypeError, match=rf"^Array\.__{make.__name__}__: {advice}"):
            make(array)
    with pytest.raises(BufferError, match=f"^Array: {advice}"):
        memoryview(array)
    assert len(array) == 1 and float(aiter_c.from_host(array.numpy())) == 1
