"""The benches of a GPU on a simulated one: `bench OP --device hip` from the command line to the JSON, with a torch that
has as much of a GPU as the backend asks for. Its tensors lie in the simulator's memory, the kernels of hsa/ run there,
the clock stands still, and a graph's replay calls nothing. Shapes are small. Takes the arguments of a Python
interpreter, and is one for all but benches: scripts/gpu_check runs it in its place."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from fake_torch import FakeTorch

from aiter_c.__main__ import main
from aiter_c.cli import bench_ops
from aiter_c.cli.backend import Gpu
from aiter_c.testing import DeviceTensor, MlaCase, dtype_of
from aiter_c.testing.device import Copies
from aiter_c.testing.dlpack import DTYPES
from aiter_c.testing.ops.merge_states import MergeStatesCase
from aiter_c.testing.ops.mla_decode_perf import Batch, page_shape
from aiter_c.testing.ops.mla_metadata import MlaMetadataCase
from aiter_c.testing.ops.mla_prefill import PrefillCase
from aiter_c.testing.ops.mla_reduce import MlaReduceCase
from aiter_c.testing.ops.top_k import TopKCase

PLACE = "hip:0"


class Tensor(DeviceTensor):
    """On the device where it has copies, else on the host."""

    is_cuda = True

    def __init__(self, array: np.ndarray) -> None:
        copies = Copies(PLACE)
        own = copies.tensor(array)
        super().__init__(own._memory, own.address, array, copies)
        self.device = TORCH.device("cuda", 0)

    def new_empty(self, shape: tuple[int, ...], dtype: str) -> Tensor:
        return Tensor(np.full(shape, 7, np.uint8).astype(dtype_of(dtype)))

    def double(self) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        self.copies.fetch()
        return self

    def numpy(self) -> np.ndarray:
        return self.array.astype(np.float64)

    def view(self, dtype: str) -> Tensor:
        return Tensor(self.array.view(dtype_of(dtype)))

    def reshape(self, *shape: int) -> Tensor:
        return Tensor(self.array.reshape(shape))

    def __getitem__(self, index: Any) -> Part:
        return Part(self.cpu().array[index])


class Part:
    """Of a tensor, on the host."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype.name

    def view(self, dtype: str) -> Part:
        return Part(self.array.view(dtype_of(dtype)))

    def double(self) -> Part:
        return self

    cpu = double

    def numpy(self) -> np.ndarray:
        return self.array.astype(np.float64)


class OnHost:
    """What from_numpy gives: it is put on the device, by the name of its dtype."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def to(self, device: Any) -> Any:
        return Bits(self.array) if self.array.dtype == np.uint16 else Tensor(self.array)


class Bits:
    """On their way to a dtype that NumPy has no code for."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def view(self, dtype: str) -> Tensor:
        return Tensor(self.array.view(dtype_of(dtype)))


class Bulk:
    """What the ceilings are measured on."""

    device = None

    def __len__(self) -> int:
        return 8

    def numel(self) -> int:
        return 1 << 20

    def same(self, *_: object) -> Bulk:
        return self

    zero_ = copy_ = bfloat16 = __matmul__ = same


class Event:
    def __init__(self, enable_timing: bool) -> None:
        self.enabled = enable_timing

    def record(self) -> None:
        pass

    def elapsed_time(self, end: Event) -> float:
        return 0.25


class Graph:
    def replay(self) -> None:
        pass


@contextmanager
def captured(graph: Graph) -> Iterator[None]:
    yield


def stand_in() -> ModuleType:
    """In sys.modules as torch."""
    FakeTorch("hip", PLACE)  # streams, version
    torch = sys.modules["torch"]
    torch.device = TORCH.device
    Tensor.__module__ = "torch"
    torch.Tensor, torch.from_numpy, torch.__version__ = Tensor, OnHost, "stand-in"
    torch.__spec__ = SimpleNamespace(origin="stand-in")
    for name in DTYPES:
        setattr(torch, name, name)
    bulk = Bulk()
    bulk.device = TORCH.device("cuda", 0)
    torch.empty = lambda *_, **__: bulk
    torch.empty_like = torch.randn = torch.empty
    torch.manual_seed = lambda seed: None
    torch.version = sys.modules["torch.version"]
    cuda = torch.cuda
    cuda.is_available, cuda.is_current_stream_capturing = lambda: True, lambda: False
    cuda.get_device_name, cuda.synchronize, cuda.empty_cache = lambda: "a simulated GPU", lambda *_: None, lambda: None
    cuda.get_device_properties = lambda index: SimpleNamespace(multi_processor_count=4)
    cuda.Event, cuda.CUDAGraph, cuda.graph = Event, Graph, captured
    return torch


TORCH = SimpleNamespace(device=None)


def small(name: str) -> list[Any]:
    """A shape or two of every form."""
    op = bench_ops.load(name)
    lists = replace(page_shape(1, 3, 64, 2), q_lens=(2, 2), kv_lens=(9, 70))
    records = replace(page_shape(2, 3, 70), kv_dtype="float8_e4m3fn", kv_format="fp8_ds_mla")
    fp8 = page_shape(1, 2, 64, 1, "float8_e4m3fn")
    one, keys = {"q_lens": (1, 1), "kv_lens": (90, 5)}, {"q_lens": (20,), "kv_lens": (40,)}
    return {
        "mla_decode": lambda: [page_shape(2, 3, 70), fp8, records, Batch("uniform", lists)],
        "mla_metadata": lambda: [MlaMetadataCase(**one, uniform=True)],
        "mla_prefill": lambda: [op.Shape(PrefillCase(**keys)), op.Shape(PrefillCase(**keys), lists=True)],
        "mla_reduce": lambda: [MlaReduceCase(heads=2, groups=((1, 2),) * 2)],
        "merge_states": lambda: [MergeStatesCase(rows=2, heads=2, form="sequence", given=True)],
        "mqa_logits": lambda: [op.Shape(1, 128), op.Shape(0, 128)],
        "top_k": lambda: [TopKCase(rows=2, columns=300, k=40)],
        "index_conversion": lambda: [op.Shape(3, 300, 40)],
        "cache_write": lambda: [op.Shape("concat", 5), op.Shape("fused", 5, heads=2), op.Shape("indexer", 5)],
        "sparse_mla": lambda: [op.Shape(2, 1, 2)],
        "every_op": lambda: [op.Row("mla_decode_fwd", MlaCase(heads=2)), op.cases("gpu", True)[-3]],
    }[name]()


def rehearse(arguments: list[str]) -> int:
    """bench OP ..., as the command line has it."""
    FakeTorch("hip", PLACE)
    TORCH.device = sys.modules["torch"].device
    stand_in()
    shapes = small(arguments[1])
    bench_ops.load(arguments[1]).cases = lambda kind, quick: shapes
    Gpu.calls, Gpu.warm_up = 2, 1
    return main([*arguments, "--no-peers"])


if __name__ == "__main__":
    if sys.argv[1:4] != ["-m", "aiter_c", "bench"]:
        os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
    sys.exit(rehearse(sys.argv[3:]))
