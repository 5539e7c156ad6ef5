"""The bench of mla_reduce_v1: groups of equal numbers of final rows and partials, partials at shuffled places; the last
row is checked against fp64. The peer is the same merge in torch operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import aiter_c
from aiter_c.cli.backend import Cpu, Gpu, random_values, torch_or_none
from aiter_c.testing.ops.mla_reduce import MlaReduceCase

COLUMNS = {"groups": "6d", "rows": "5d", "parts": "5d", "heads": "5d", "dv": "4d", "o": "8s"}


def _case(groups: int, rows: int, parts: int, heads: int, dv: int, o_dtype: str = "bfloat16") -> MlaReduceCase:
    return MlaReduceCase(heads=heads, dv=dv, groups=((rows, parts),) * groups, o_dtype=o_dtype)


#: A decode step of many requests, of few, of one long one; chunked prefill.
_QUICK = [_case(64, 1, 4, 16, 512), _case(1, 1, 132, 128, 512), _case(8, 256, 2, 16, 128)]
_OTHERS = [
    _case(8, 1, 16, 128, 512),
    _case(64, 2, 2, 128, 512),
    _case(64, 1, 4, 16, 256, "float16"),
    _case(64, 1, 4, 64, 64, "float32"),
]


def cases(kind: str, quick: bool) -> list[MlaReduceCase]:
    """Few of them, or all."""
    return _QUICK if quick else _QUICK + _OTHERS


def growth(kind: str) -> list[MlaReduceCase]:
    """Nothing changes with the batch but the bytes."""
    return []


class Problem:
    """The tensors of a case with equal groups: pools of (partial_output, partial_lse), lists, outputs."""

    tolerance = 0.03
    fp8_product = False
    kernel = "mla_merge"

    def __init__(self, case: MlaReduceCase, backend: Cpu | Gpu) -> None:
        self.case, self.backend = case, backend
        groups, (rows, parts), heads, dv = len(case.groups), case.groups[0], case.heads, case.dv
        num_rows, num_partials = groups * rows, groups * rows * parts
        o = random_values(np.random.default_rng(0), (num_rows, heads, dv), case.o_dtype)
        self.num_bytes = num_partials * heads * (dv + 1) * 4 + o.nbytes + num_rows * heads * 4
        self.flop = 2 * num_partials * heads * dv
        self.facts = {"groups": groups, "rows": rows, "parts": parts, "heads": heads, "dv": dv, "o": case.o_dtype}

        rng = np.random.default_rng(parts + heads)
        locations = rng.permutation(groups * parts).astype(np.int32).reshape(groups, parts) * rows
        self.part_rows = (locations[:, None, :] + np.arange(rows)[:, None]).reshape(num_rows, parts)
        firsts = np.arange(groups, dtype=np.int32) * rows
        lists = (
            np.arange(groups + 1, dtype=np.int32) * parts, np.stack([firsts, firsts + rows], 1), locations.reshape(-1)
        )  # fmt: skip
        self.lists = [backend.put(values) for values in lists]
        self.pools = [self._put_pool(rng, num_partials) for _ in range(backend.copies(self.num_bytes))]
        self.o, self.lse = backend.put(o), backend.put(np.zeros((num_rows, heads), np.float32))
        self.calls = [self._call(*pool) for pool in self.pools]

    def _put_pool(self, rng: np.random.Generator, num_partials: int) -> tuple[Any, Any]:
        partial_output = random_values(rng, (num_partials, self.case.heads, self.case.dv), "float32")
        partial_lse = random_values(rng, (num_partials, self.case.heads), "float32", 2.0)
        if not hasattr(self, "_checked"):
            last = self.part_rows[-1]
            weights = np.exp(partial_lse[last].astype(np.float64))
            self._checked = (weights[..., None] * partial_output[last]).sum(0) / weights.sum(0)[:, None]
        return self.backend.put(partial_output), self.backend.put(partial_lse)

    def _call(self, partial_output: Any, partial_lse: Any) -> Callable[[], Any]:
        q_len = self.case.served_q_len

        def call() -> Any:
            aiter_c.mla_reduce_v1(partial_output, partial_lse, *self.lists, q_len, 0, self.o, self.lse)
            return self.o

        return call

    def error(self, output: Any) -> float:
        """Of the last row, as the first pool has its partials."""
        return float(np.abs(self.backend.get(output)[-1] - self._checked).max())


def _torch_peer(torch: Any) -> Callable[[Problem], Any]:
    """Gather, softmax over the partials, weighted sum."""

    def calls(problem: Problem) -> list[Callable[[], Any]]:
        dtype = getattr(torch, problem.case.o_dtype)
        as_torch = lambda tensor: torch.as_tensor(tensor, device=problem.backend.device)  # noqa: E731
        index = as_torch(problem.part_rows).long()

        def form(partial_output: Any, partial_lse: Any) -> Callable[[], Any]:
            def call() -> Any:
                lse = partial_lse[index]
                torch.logsumexp(lse, 1)
                return torch.einsum("rph,rphd->rhd", torch.softmax(lse, 1), partial_output[index]).to(dtype)

            return call

        return [form(*map(as_torch, pool)) for pool in problem.pools]

    return calls


def peers(backend: Cpu | Gpu) -> dict[str, Callable[[Problem], Any]]:
    """torch, where it is installed."""
    torch = torch_or_none()
    if torch is None:
        return {}
    if backend.kind == "cpu":
        torch.set_num_threads(aiter_c.get_num_threads())
    return {"torch": _torch_peer(torch)}
