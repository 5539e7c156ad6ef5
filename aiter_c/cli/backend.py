"""Where a bench runs, a CPU or a GPU: how arrays get there, how a call is timed, what the machine can do at most. No
op's name in it; the arrays come from NumPy, so that both see the same problem."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import ml_dtypes
import numpy as np

import aiter_c
from aiter_c import _C
from aiter_c._modules import is_installed
from aiter_c.cli.ceilings import Rates, arithmetic_of, cpu_floor_seconds, measure_cpu
from aiter_c.cli.timing import median_seconds

if TYPE_CHECKING:
    from aiter_c.cli.bench import Problem

Call = Callable[[], Any]


class Unavailable(Exception):
    """This machine has no such backend; the text is for the person who asked for it."""


def torch_or_none() -> Any:
    """The module, where it is installed."""
    if not is_installed("torch"):
        return None
    import torch

    return torch


class Cpu:
    """NumPy arrays. Cold caches: calls run over several copies of the large arrays in turn."""

    kind, device, place, plans_ahead = "cpu", "cpu", "cpu", False
    unit, per_second = "ms", 1e3
    flop_unit, flop_scale = "GFLOP/s", 1e9
    columns: ClassVar = {"% of bf16": "6.0f"}
    copied_bytes = 640 << 20  # of all copies of a problem together
    max_copies = 48

    def __init__(self, threads: int = 0) -> None:
        if threads:
            aiter_c.set_num_threads(threads)
        self.name = f"{_C.cpu_arch()}, {_C.get_num_threads()} threads"

    def copies(self, num_bytes: int) -> int:
        """How many copies of a problem that reads `num_bytes` exceed the caches together."""
        return int(min(self.max_copies, max(2, self.copied_bytes // num_bytes)))

    def put(self, array: np.ndarray) -> Any:
        """The array as a call takes it: at the start of a cache line, as torch allocates and NumPy does not."""
        room = np.empty(array.nbytes + 64, np.uint8)
        start = -room.ctypes.data % 64
        out = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
        out[...] = array
        return out

    def get(self, tensor: Any) -> np.ndarray:
        """Values of a result, ours or a peer's, in fp64."""
        values = tensor if isinstance(tensor, np.ndarray) else tensor.float().numpy()
        return values.astype(np.float64)

    def seconds(self, calls: Sequence[Call], *, peer: bool = False) -> float:
        """The median; peers take longer and get fewer calls."""
        return median_seconds(calls, min_seconds=0.2, min_calls=3) if peer else median_seconds(calls)

    def replayed(self, calls: Sequence[Call]) -> float:
        """As a graph would run it: there is none."""
        return self.seconds(calls)

    def measure(self) -> Rates:
        """The ceilings, now."""
        return measure_cpu()

    def floor_seconds(self, rates: Rates, problem: Problem) -> float:
        """Against the arithmetic that the kernel uses."""
        return cpu_floor_seconds(rates, arithmetic_of(problem.kernel), problem.num_bytes, problem.flop)

    def extra(self, problem: Problem, seconds: float, rates: Rates) -> dict[str, float]:
        """Against bf16 dots, which Intel's processors do at half the rate of fp32 multiply-adds."""
        if not rates["bf16_flop_per_s"] or not problem.flop:
            return {}
        return {
            "% of bf16": 100 * cpu_floor_seconds(rates, "bf16_flop_per_s", problem.num_bytes, problem.flop) / seconds
        }

    def facts(self) -> dict[str, str]:
        """For the JSON."""
        return {"name": self.name}

    def tidy(self) -> None:
        """Between two problems: nothing to do."""


class Gpu:
    """torch tensors. Events around every call, the L2 flushed before it: the flush also keeps the queue full, so that
    the host does not count."""

    kind, plans_ahead = "gpu", True
    unit, per_second = "us", 1e6
    flop_unit, flop_scale = "TFLOP/s", 1e12
    columns: ClassVar = {"graph us": "8.1f"}
    flush_bytes = 256 << 20
    calls, warm_up = 40, 3

    def __init__(self, torch: Any) -> None:
        self.torch = torch
        torch.manual_seed(0)
        self.device = torch.empty(0, device="cuda").device  # HIP, too: the package asks torch which it is
        self.place = f"{'hip' if torch.version.hip else 'cuda'}:{self.device.index}"  # as the package calls it
        self.name = torch.cuda.get_device_name()
        self._flush = torch.empty(self.flush_bytes, dtype=torch.int8, device=self.device)
        self._source = torch.empty(1 << 30, dtype=torch.int8, device=self.device)
        self._target = torch.empty_like(self._source)
        self._factors = [torch.randn(8192, 8192, device=self.device).bfloat16() for _ in range(2)]

    def copies(self, num_bytes: int) -> int:
        """The flush makes one enough."""
        return 1

    def put(self, array: np.ndarray) -> Any:
        """The array on the GPU; torch knows bfloat16 and fp8 by names of its own."""
        dtype = array.dtype
        if dtype.isbuiltin != 1:
            bits = self.torch.from_numpy(array.view(f"u{dtype.itemsize}")).to(self.device)
            return bits.view(getattr(self.torch, dtype.name))
        return self.torch.from_numpy(array).to(self.device)

    def get(self, tensor: Any) -> np.ndarray:
        """Values of a result in fp64."""
        return tensor.double().cpu().numpy()

    def seconds(self, calls: Sequence[Call], *, peer: bool = False) -> float:
        """The median of calls, each on a cold L2."""
        return self._median(calls[0], self.calls)

    def _median(self, call: Call, count: int) -> float:
        torch = self.torch
        for _ in range(self.warm_up):
            call()
        pairs = []
        for _ in range(count):
            self._flush.zero_()
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            call()
            end.record()
            pairs.append((begin, end))
        torch.cuda.synchronize()
        return sorted(begin.elapsed_time(end) * 1e-3 for begin, end in pairs)[count // 2]

    def measure(self) -> Rates:
        """Copy bandwidth, read and write counted [byte/s], and the bf16 matrix product [FLOP/s]."""
        copy = 2 * self._source.numel() / self._median(lambda: self._target.copy_(self._source), 15)
        a, b = self._factors
        return {"copy_bytes_per_s": copy, "bf16_flop_per_s": 2 * len(a) ** 3 / self._median(lambda: a @ b, 10)}

    def floor_seconds(self, rates: Rates, problem: Problem) -> float:
        """Every byte once at the copy's rate, or every operation at the matrix product's rate, twice that in fp8."""
        matrix = rates["bf16_flop_per_s"] * (2 if problem.fp8_product else 1)
        return max(problem.num_bytes / rates["copy_bytes_per_s"], problem.flop / matrix)

    def replayed(self, calls: Sequence[Call]) -> float:
        """The median of replays of a graph of one call, each on a cold L2."""
        graph = self.torch.cuda.CUDAGraph()
        with self.torch.cuda.graph(graph):
            calls[0]()
        return self._median(graph.replay, self.calls)

    def extra(self, problem: Problem, seconds: float, rates: Rates) -> dict[str, float]:
        """The time of a graph of one call."""
        return {"graph us": 1e6 * self.replayed(problem.calls)}

    def facts(self) -> dict[str, str]:
        """For the JSON."""
        return {"name": self.name, "torch": self.torch.__version__}

    def tidy(self) -> None:
        """Between two problems: the next one needs the memory."""
        self.torch.cuda.empty_cache()


def make(arguments: Namespace) -> Cpu | Gpu:
    """The backend that --device names; Unavailable says what it needs."""
    if arguments.device == "cpu":
        return Cpu(arguments.threads)
    torch = torch_or_none()
    if torch is None or not torch.cuda.is_available():
        raise Unavailable(f"--device {arguments.device}: needs torch that sees the GPU")
    return Gpu(torch)


def random_values(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, scale: float = 0.5) -> np.ndarray:
    """Normal values, cheap: a random block repeated. Memory is distinct, which is what matters."""
    kind = np.dtype(getattr(ml_dtypes, dtype, None) or dtype)
    block = (scale * rng.standard_normal(1 << 20, np.float32)).astype(kind)
    return np.resize(block.view(f"u{kind.itemsize}"), shape).view(kind)
