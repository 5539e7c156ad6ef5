"""The bench of the indexer's logits: fp8 keys in pages of 64 in a random order (deepgemm_fp8_paged_mqa_logits), or
contiguous ones with whole windows (fp8_mqa_logits); the first row is checked against fp64. The floor reads keys and
scales once and writes the logits, or multiplies. The peers: DeepGEMM on a GPU, and the formula in torch operations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

import aiter_c
from aiter_c import _C
from aiter_c._modules import is_installed
from aiter_c.cli.backend import Cpu, Gpu, random_values, torch_or_none
from aiter_c.testing.ops.mqa_logits import DIM, logits_reference

COLUMNS = {"batch": "5d", "keys": "7d", "q": "5d", "heads": "5d"}
PAGE = 64
FN = np.dtype(ml_dtypes.float8_e4m3fn)


@dataclass(frozen=True)
class Shape:
    """batch requests of `keys` keys that decode q tokens; batch 0: q rows over contiguous keys."""

    batch: int
    keys: int
    q: int = 1
    heads: int = 64


_GPU = [Shape(1, 8192), Shape(64, 8192), Shape(64, 32768), Shape(64, 32768, 2), Shape(1, 131072), Shape(0, 4096, 4096)]
_GPU_MORE = [Shape(64, 32768, 1, 32), Shape(128, 4096, 2), Shape(64, 8192, 4), Shape(0, 32768, 2048)]
_CPU = [Shape(1, 8192), Shape(4, 4096, 2), Shape(0, 1024, 256)]
_CPU_MORE = [Shape(1, 65536), Shape(16, 2048, 1, 32), Shape(4, 4096, 4), Shape(0, 4096, 128), Shape(0, 1024, 256, 32)]


def cases(kind: str, quick: bool) -> list[Shape]:
    """Few of them, or all."""
    few, more = (_GPU, _GPU_MORE) if kind == "gpu" else (_CPU, _CPU_MORE)
    return few if quick else few + more


def growth(kind: str) -> list[Shape]:
    """The rows of a batch share nothing."""
    return []


def _kernel(paged: bool) -> str:
    """On a CPU the first that runs here: the table begins with the best."""
    return next(row["name"] for row in _C.kernel_table() if row["op"] == "mqa_logits" and row["available"])


class Problem:
    """pools: (keys, scales or None) each of its own memory."""

    tolerance, fp8_product = 2e-3, True

    def __init__(self, case: Shape, backend: Cpu | Gpu) -> None:
        self.case, self.backend, self.paged = case, backend, case.batch > 0
        self.kernel = _kernel(self.paged) if backend.kind == "cpu" else "mqa_logits"
        self.facts = {"batch": case.batch, "keys": case.keys, "q": case.q, "heads": case.heads}
        requests = max(case.batch, 1)
        self.rows = requests * case.q
        self.num_bytes = requests * case.keys * (DIM + 4) + self.rows * case.keys * 4
        self.flop = 2 * self.rows * case.keys * case.heads * DIM
        rng = np.random.default_rng(case.keys + case.q)
        self.q = random_values(rng, (self.rows, case.heads, DIM), "float8_e4m3fn", 1.0)
        self.weights = random_values(rng, (self.rows, case.heads), "float32", 1.0)
        self.lens = np.full((requests, 1), case.keys, np.int32)
        pages = requests * case.keys // PAGE
        self.table = rng.permutation(pages).astype(np.int32).reshape(requests, -1)
        self._put = {name: backend.put(getattr(self, name)) for name in ("q", "weights", "lens", "table")}
        self.out = backend.put(np.zeros((self.rows, case.keys), np.float32))
        self.bounds = backend.put(np.zeros(self.rows, np.int32)), backend.put(np.full(self.rows, case.keys, np.int32))
        self.pools = [self._pool(rng) for _ in range(backend.copies(self.num_bytes))]
        self.calls = [self._call(*pool) for pool in self.pools]

    def _pool(self, rng: np.random.Generator) -> tuple[Any, Any]:
        """Pages of keys and scales, or keys and scales apart."""
        count = max(self.case.batch, 1) * self.case.keys
        keys = random_values(rng, (count, DIM), "float8_e4m3fn", 1.0)
        scales = np.abs(random_values(rng, (count,), "float32", 1.0))
        if not hasattr(self, "_checked"):
            at = np.arange(self.case.keys)
            order = self.table[0, at // PAGE] * PAGE + at % PAGE if self.paged else at
            heads = self.q[0].view(FN)
            self._checked, self._sizes = logits_reference(heads, keys[order], scales[order], self.weights[0])
        if not self.paged:
            return self.backend.put(keys), self.backend.put(scales)
        bytes_of_keys = keys.view(np.uint8).reshape(-1, PAGE * DIM)
        bytes_of_scales = scales.view(np.uint8).reshape(-1, PAGE * 4)
        pages = np.concatenate([bytes_of_keys, bytes_of_scales], axis=1).reshape(-1, PAGE, 1, DIM + 4)
        return self.backend.put(pages), None

    def _call(self, keys: Any, scales: Any) -> Callable[[], Any]:
        put, case = self._put, self.case
        q = put["q"].reshape(case.batch, case.q, case.heads, DIM) if self.paged else put["q"]

        def paged() -> Any:
            aiter_c.deepgemm_fp8_paged_mqa_logits(
                q, keys, put["weights"], self.out, put["lens"], put["table"], case.keys, False, PAGE,
                clean_logits=False,
            )  # fmt: skip
            return self.out

        def contiguous() -> Any:
            return aiter_c.fp8_mqa_logits(q, keys, scales, put["weights"], *self.bounds, False, logits=self.out)

        return paged if self.paged else contiguous

    def error(self, output: Any) -> float:
        """Of the first row, against the magnitudes of what is added up: logits cancel."""
        got = self.backend.get(output[:1])[0][: self.case.keys]
        visible = self.case.keys if not self.paged else self.case.keys - self.case.q + 1
        return float((np.abs(got - self._checked)[:visible] / self._sizes[:visible]).max())


def _deep_gemm(problem: Problem) -> list[Callable[[], Any]] | None:
    """Its own row-major pages of 64; up to two tokens of a request."""
    import deep_gemm
    import torch

    case, put = problem.case, problem._put
    keys, scales = problem.pools[0]
    if problem.paged:
        if case.q > 2:
            return None
        lens = put["lens"].expand(-1, case.q).contiguous()
        units = torch.cuda.get_device_properties(0).multi_processor_count
        plan = deep_gemm.get_paged_mqa_logits_metadata(lens, PAGE, units)
        q = put["q"].reshape(case.batch, case.q, case.heads, DIM)
        if hasattr(deep_gemm, "fp8_paged_mqa_logits"):
            call = deep_gemm.fp8_paged_mqa_logits
            return [lambda: call(q, keys, put["weights"], lens, put["table"], plan, case.keys, False)]
        call = deep_gemm.fp8_fp4_paged_mqa_logits
        return [lambda: call((q, None), keys, put["weights"], lens, put["table"], plan, case.keys)]
    if hasattr(deep_gemm, "fp8_mqa_logits"):
        call = deep_gemm.fp8_mqa_logits
        return [lambda: call(put["q"], (keys, scales), put["weights"], *problem.bounds, False)]
    call = deep_gemm.fp8_fp4_mqa_logits
    return [lambda: call((put["q"], None), (keys, scales), put["weights"], *problem.bounds, 0)]


def _torch(torch: Any) -> Callable[[Problem], list[Callable[[], Any]] | None]:
    """Contiguous keys in bfloat16, which holds fp8: a product, relu, a product. Small ones: all scores are kept."""

    def calls(problem: Problem) -> list[Callable[[], Any]] | None:
        case = problem.case
        if problem.paged or problem.backend.kind == "gpu":
            return None
        as_bf16 = lambda array: torch.from_numpy(array.astype(np.float32)).bfloat16()  # noqa: E731
        q, weights = as_bf16(problem.q), torch.from_numpy(problem.weights)
        pools = [(as_bf16(keys), torch.from_numpy(scales)) for keys, scales in problem.pools[:2]]

        def form(keys: Any, scales: Any) -> Callable[[], Any]:
            def call() -> Any:
                scores = torch.relu((q.reshape(-1, DIM) @ keys.T).float()).reshape(problem.rows, case.heads, -1)
                return (torch.einsum("qh,qhk->qk", weights, scores) * scales).numpy()

            return call

        return [form(*pool) for pool in pools]

    return calls


def peers(backend: Cpu | Gpu) -> dict[str, Callable[[Problem], Any]]:
    """What is installed."""
    torch = torch_or_none()
    if backend.kind == "gpu":
        return {"DeepGEMM": _deep_gemm} if is_installed("deep_gemm") else {}
    if torch is None:
        return {}
    torch.set_num_threads(aiter_c.get_num_threads())
    return {"torch": _torch(torch)}
