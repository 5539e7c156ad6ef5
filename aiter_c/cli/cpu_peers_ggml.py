"""ggml, llama.cpp's tensor library, as a peer on the CPU: flash_attn_ext of the package llama-cpp-python, where that is
installed. ggml has no tables of slots: it gets every request's keys in a row, as llama.cpp's cache has them, and in
place of fp8 its own type of about that size, q8_0.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import aiter_c
from aiter_c._modules import is_installed
from aiter_c.cli.backend import Call

if TYPE_CHECKING:
    from aiter_c.cli.bench_ops.mla_decode import Problem

_GGML_TYPES = {"float16": 1, "float8_e4m3fn": 8, "bfloat16": 30}  # q8_0 for fp8
_POOLS = 4


def find() -> dict[str, Callable[[Problem], list[Call] | None]]:
    """{"ggml": the peer}, or {} without it."""
    if not is_installed("llama_cpp"):
        return {}
    package = importlib.util.find_spec("llama_cpp")
    for folder in (Path(place, "lib") for place in (package and package.submodule_search_locations) or ()):
        if (folder / "libggml-cpu.so").is_file():
            return {"ggml": partial(_ggml, _load_ggml(folder))}
    return {}


def _is_plain(problem: Problem) -> bool:
    """One query row per request, slots one by one, equal lengths."""
    case = problem.case
    return case.q_lens[0] == 1 and case.page_size == 1 and case.kv_format == "plain" and len(set(case.kv_lens)) == 1


class _Params(ctypes.Structure):
    _fields_ = (("size", ctypes.c_size_t), ("buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


class _Plan(ctypes.Structure):
    _fields_ = (
        ("work_size", ctypes.c_size_t), ("work", ctypes.c_void_p), ("threads", ctypes.c_int),
        ("pool", ctypes.c_void_p), ("abort", ctypes.c_void_p), ("abort_data", ctypes.c_void_p),
        ("use_ref", ctypes.c_bool),
    )  # fmt: skip


class _Ggml:
    """The functions of ggml's two libraries."""

    def __init__(self, base: ctypes.CDLL, cpu: ctypes.CDLL) -> None:
        pointer, size, count, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64, ctypes.c_float

        def function(library: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Any:
            found = getattr(library, f"ggml_{name}")
            found.restype, found.argtypes = result, arguments
            return found

        self.init = function(base, "init", pointer, _Params)
        self.free = function(base, "free", None, pointer)
        self.tensor = function(base, "new_tensor_4d", pointer, pointer, ctypes.c_int, *[count] * 4)
        self.view = function(base, "view_4d", pointer, pointer, pointer, *[count] * 4, *[size] * 4)
        self.data = function(base, "get_data", pointer, pointer)
        self.row_size = function(base, "row_size", size, ctypes.c_int, count)
        self.attention = function(base, "flash_attn_ext", pointer, *[pointer] * 5, *[number] * 3)
        self.graph = function(base, "new_graph", pointer, pointer)
        self.expand = function(base, "build_forward_expand", None, pointer, pointer)
        self.quantize = function(
            base, "quantize_chunk", size, ctypes.c_int, pointer, pointer, count, count, count, pointer
        )
        self.plan = function(cpu, "graph_plan", _Plan, pointer, ctypes.c_int, pointer)
        self.compute = function(cpu, "graph_compute", ctypes.c_int, pointer, pointer)
        function(cpu, "cpu_init", None)()


def _load_ggml(folder: Path) -> _Ggml:
    base = ctypes.CDLL(str(folder / "libggml-base.so"), mode=ctypes.RTLD_GLOBAL)
    return _Ggml(base, ctypes.CDLL(str(folder / "libggml-cpu.so")))


def _ggml(ggml: _Ggml, problem: Problem) -> list[Call] | None:
    if not _is_plain(problem) or problem.case.kv_dtype not in _GGML_TYPES:
        return None
    return [_GgmlCall(ggml, problem, pool) for pool in problem.pools[:_POOLS]]


class _GgmlCall:
    """A graph of one flash_attn_ext over a cache of its own."""

    def __init__(self, ggml: _Ggml, problem: Problem, pool: np.ndarray) -> None:
        case, self._ggml = problem.case, ggml
        dtype, batch, heads, length = _GGML_TYPES[case.kv_dtype], case.batch, case.heads, case.kv_lens[0]
        row = ggml.row_size(dtype, 576)
        room = row * length * batch + 4 * batch * heads * (576 + 512) + (4 << 20)
        self._context = ggml.init(_Params(room, None, False))
        query = ggml.tensor(self._context, 0, 576, 1, heads, batch)
        keys = ggml.tensor(self._context, dtype, 576, length, 1, batch)
        strides = (row, row * length, row * length)
        values = ggml.view(self._context, keys, 512, length, 1, batch, *strides, 0)
        self._out = ggml.attention(self._context, query, keys, values, None, 576**-0.5, 0.0, 0.0)
        self._graph = ggml.graph(self._context)
        ggml.expand(self._graph, self._out)

        self._put(query, problem.q.astype(np.float32))
        rows = pool.reshape(-1, 576)[problem.table.reshape(-1)]
        if case.kv_dtype == "float8_e4m3fn":
            values_f32 = np.ascontiguousarray(rows.astype(np.float32))
            ggml.quantize(dtype, values_f32.ctypes.data, ggml.data(keys), 0, len(rows), 576, None)
        else:
            self._put(keys, rows)
        self._plan = ggml.plan(self._graph, aiter_c.get_num_threads(), None)
        self._work = np.empty(self._plan.work_size + 64, np.uint8)
        self._plan.work = self._work.ctypes.data
        self._shape = (batch, heads, 512)

    def __del__(self) -> None:
        self._ggml.free(self._context)

    def _put(self, tensor: int, array: np.ndarray) -> None:
        array = np.ascontiguousarray(array)
        ctypes.memmove(self._ggml.data(tensor), array.ctypes.data, array.nbytes)

    def __call__(self) -> np.ndarray:
        if self._ggml.compute(self._graph, ctypes.byref(self._plan)) != 0:
            raise RuntimeError("ggml_graph_compute failed")
        out = (ctypes.c_float * int(np.prod(self._shape))).from_address(self._ggml.data(self._out))
        out.owner = self  # of the memory, for as long as the array is there
        return np.ctypeslib.as_array(out).reshape(self._shape)
