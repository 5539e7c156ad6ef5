"""The bench of convert_req_index_to_global_index in vLLM's padded form, every row a request of its own; the first row
is checked. The floor reads every position and the blocks that they are in, and writes every slot. The peer is the same
in torch operations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import aiter_c
from aiter_c import _C
from aiter_c.cli.backend import Cpu, Gpu, torch_or_none

COLUMNS = {"rows": "5d", "keys": "7d", "k": "5d"}
BLOCK = 64


@dataclass(frozen=True)
class Shape:
    """k positions in `keys` keys for each of the rows."""

    rows: int
    keys: int
    k: int = 2048


_QUICK = [Shape(1, 32768), Shape(64, 32768)]
_OTHERS = [Shape(1024, 8192), Shape(1024, 65536), Shape(4096, 4096, 512)]


def cases(kind: str, quick: bool) -> list[Shape]:
    """Few of them, or all."""
    return _QUICK if quick else _QUICK + _OTHERS


def growth(kind: str) -> list[Shape]:
    """Rows are independent: there is nothing to show."""
    return []


def _kernel() -> str:
    """The first that runs here: the table begins with the best."""
    return next(row["name"] for row in _C.kernel_table() if row["op"] == "index_conversion" and row["available"])


class Problem:
    """pools: positions, each of its own memory. The peer uses them, too."""

    tolerance = 0.0
    flop, fp8_product = 0, False

    def __init__(self, case: Shape, backend: Cpu | Gpu) -> None:
        self.case, self.backend = case, backend
        self.kernel = _kernel() if backend.kind == "cpu" else "index_conversion"
        self.facts = {"rows": case.rows, "keys": case.keys, "k": case.k}
        blocks = -(-case.keys // BLOCK)
        self.num_bytes = 4 * case.rows * (2 * case.k + min(blocks, case.k))
        rng = np.random.default_rng(case.keys + case.rows)
        table = rng.permutation(case.rows * blocks).astype(np.int32).reshape(case.rows, blocks)
        positions = [
            np.sort(rng.integers(0, case.keys, (case.rows, case.k), np.int32), axis=1)
            for _ in range(backend.copies(self.num_bytes))
        ]
        self._want = table[0, positions[0][0] // BLOCK] * BLOCK + positions[0][0] % BLOCK
        self.requests, self.table = backend.put(np.arange(case.rows, dtype=np.int32)), backend.put(table)
        self.out = backend.put(np.zeros((case.rows, case.k), np.int32))
        self.pools = [backend.put(one) for one in positions]
        self.calls = [self._call(one) for one in self.pools]

    def _call(self, positions: Any) -> Callable[[], Any]:
        sizes = {"BLOCK_SIZE": BLOCK, "NUM_TOPK_TOKENS": self.case.k}

        def call() -> Any:
            aiter_c.convert_req_index_to_global_index(self.requests, self.table, positions, out=self.out, **sizes)
            return self.out

        return call

    def error(self, output: Any) -> float:
        """Of the first row."""
        return float(np.abs(self.backend.get(output[:1])[0] - self._want).max())


def _torch(torch: Any) -> Callable[[Problem], list[Callable[[], Any]]]:
    def calls(problem: Problem) -> list[Callable[[], Any]]:
        table = torch.as_tensor(problem.table)

        def form(positions: Any) -> Callable[[], Any]:
            def call() -> Any:
                blocks = torch.gather(table, 1, (positions // BLOCK).long())
                return torch.where(positions >= 0, blocks * BLOCK + positions % BLOCK, -1)

            return call

        return [form(torch.as_tensor(one)) for one in problem.pools]

    return calls


def peers(backend: Cpu | Gpu) -> dict[str, Callable[[Problem], Any]]:
    """torch, on as many threads as we have."""
    torch = torch_or_none()
    if torch is None:
        return {}
    if backend.kind == "cpu":
        torch.set_num_threads(aiter_c.get_num_threads())
    return {"torch": _torch(torch)}
