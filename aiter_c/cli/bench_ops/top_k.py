"""The bench of top_k_per_row_prefill: random rows with whole windows; the first row is checked. "x best peer" below 1
is faster than torch.topk, on a CPU on as many threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import aiter_c
from aiter_c import _C
from aiter_c.cli.backend import Cpu, Gpu, random_values, torch_or_none
from aiter_c.testing.ops.top_k import TopKCase, top_k_reference

COLUMNS = {"rows": "5d", "columns": "8d", "k": "5d"}

_QUICK = [TopKCase(rows=64, columns=32768, k=2048), TopKCase(rows=1, columns=131072, k=2048)]
_OTHERS = [
    TopKCase(rows=rows, columns=columns, k=k)
    for rows, columns, k in (
        (1, 32768, 2048),
        (64, 32768, 64),
        (512, 8192, 2048),
        (16, 131072, 2048),
        (1, 1048576, 2048),
        (4096, 2048, 64),
        (4096, 2048, 4096),
        (4096, 256, 32),
    )
]


#: What fills a GPU, and a decode step.
_GPU = [TopKCase(rows=rows, columns=columns, k=2048) for rows, columns in ((1, 32768), (64, 32768), (1024, 65536))]


def cases(kind: str, quick: bool) -> list[TopKCase]:
    """Few of them, or all."""
    if kind == "gpu":
        return _GPU if quick else _GPU + _QUICK[1:] + _OTHERS
    return _QUICK if quick else _QUICK + _OTHERS


def growth(kind: str) -> list[TopKCase]:
    """Rows are independent: there is nothing to show."""
    return []


def _kernel() -> str:
    """The first that runs here: the table begins with the best."""
    return next(row["name"] for row in _C.kernel_table() if row["op"] == "top_k" and row["available"])


class Problem:
    """matrices: float32 [rows, columns], each of its own memory. The peers use them, too."""

    tolerance = 0.0
    flop, fp8_product = 0, False

    def __init__(self, case: TopKCase, backend: Cpu | Gpu) -> None:
        self.case, self.backend, self.kernel = case, backend, _kernel() if backend.kind == "cpu" else "top_k"
        self.facts = {"rows": case.rows, "columns": case.columns, "k": case.k}
        self.num_bytes = 4 * case.rows * (case.columns + case.k)
        rng, shape = np.random.default_rng(case.columns + case.k), (case.rows, case.columns)
        values = [random_values(rng, shape, "float32") for _ in range(backend.copies(self.num_bytes))]
        self._row = values[0][:1]
        self.matrices = [backend.put(matrix) for matrix in values]
        self._begins = backend.put(np.zeros(case.rows, np.int32))
        self._ends = backend.put(np.full(case.rows, case.columns, np.int32))
        self._indices = backend.put(np.zeros((case.rows, case.k), np.int32))
        self.calls = [self._call(matrix) for matrix in self.matrices]

    def _call(self, matrix: Any) -> Callable[[], Any]:
        case = self.case

        def call() -> Any:
            aiter_c.top_k_per_row_prefill(
                matrix, self._begins, self._ends, self._indices, None, case.rows, case.columns, 1, case.k
            )
            return self._indices

        return call

    def error(self, output: Any) -> float:
        """Of the logits that the first row selects, in order: peers may choose other columns where logits are equal."""
        got = self.backend.get(output)[0].astype(np.int64)
        want = top_k_reference(self._row, [(0, self.case.columns)], self.case.k)[1][0, : self.case.columns]
        return float(np.abs(np.sort(self._row[0, got[got >= 0]]) - np.sort(want)).max())


def _torch_topk(torch: Any) -> Callable[[Problem], list[Callable[[], Any]] | None]:
    def calls(problem: Problem) -> list[Callable[[], Any]] | None:
        k = problem.case.k
        if k > problem.case.columns:
            return None
        matrices = [torch.as_tensor(matrix) for matrix in problem.matrices]
        return [lambda m=matrix: torch.topk(m, k, sorted=False).indices for matrix in matrices]

    return calls


def peers(backend: Cpu | Gpu) -> dict[str, Callable[[Problem], Any]]:
    """torch.topk, on as many threads as we have."""
    torch = torch_or_none()
    if torch is None:
        return {}
    if backend.kind == "cpu":
        torch.set_num_threads(aiter_c.get_num_threads())
    return {"torch.topk": _torch_topk(torch)}
