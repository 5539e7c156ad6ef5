"""The bench of merge_states: N states of equal shape, each a tensor of its own, into outputs that are given; the last
row is checked against fp64. The floor reads every state and writes the result once. The peer is the same merge in torch
operations, for two states also vLLM's merge_attn_states where vLLM is installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import aiter_c
from aiter_c.cli.backend import Cpu, Gpu, random_values, torch_or_none
from aiter_c.testing.ops.merge_states import MergeStatesCase, merge_states_reference

COLUMNS = {"rows": "5d", "heads": "5d", "dim": "4d", "states": "6d", "o": "8s"}


def _case(rows: int, heads: int, dim: int, states: int, o_dtype: str = "bfloat16") -> MergeStatesCase:
    return MergeStatesCase(rows=rows, heads=heads, dim=dim, states=states, form="sequence", given=True, o_dtype=o_dtype)


#: A decode step of context parallelism, a chunk of prefill, many ranks.
_QUICK = [_case(64, 128, 512, 2), _case(512, 16, 128, 2), _case(16, 16, 512, 8)]
_OTHERS = [
    _case(1, 128, 512, 8),
    _case(4096, 16, 128, 2),
    _case(256, 128, 512, 4, "float16"),
    _case(64, 12, 192, 2),
    _case(256, 16, 512, 2, "float32"),
]
_LARGE = [_case(4096, 128, 512, 2), _case(4096, 128, 128, 2), _case(1024, 128, 512, 8)]


def cases(kind: str, quick: bool) -> list[MergeStatesCase]:
    """Few of them, or all; on a GPU also those that fill it."""
    if kind == "gpu":
        return _QUICK + _LARGE[:1] if quick else _QUICK + _LARGE + _OTHERS
    return _QUICK if quick else _QUICK + _OTHERS


def growth(kind: str) -> list[MergeStatesCase]:
    """Nothing changes with the rows but the bytes."""
    return []


class Problem:
    """pools: (list of o, list of lse), each of its own memory; out, lse_out."""

    tolerance = 0.03
    fp8_product = False
    kernel = "merge_states"

    def __init__(self, case: MergeStatesCase, backend: Cpu | Gpu) -> None:
        self.case, self.backend = case, backend
        pairs, item = case.rows * case.heads, 4 if case.o_dtype == "float32" else 2
        self.num_bytes = (case.states + 1) * pairs * (case.dim * item + 4)
        self.flop = 2 * case.states * pairs * case.dim
        self.facts = {
            "rows": case.rows, "heads": case.heads, "dim": case.dim, "states": case.states, "o": case.o_dtype
        }  # fmt: skip
        rng = np.random.default_rng(case.dim + case.states)
        self.pools = [self._put_pool(rng) for _ in range(backend.copies(self.num_bytes))]
        shape = (case.rows, case.heads, case.dim)
        self.out = backend.put(np.zeros(shape, random_values(rng, (1,), case.o_dtype).dtype))
        self.lse_out = backend.put(np.zeros(shape[:2], np.float32))
        self.calls = [self._call(*pool) for pool in self.pools]

    def _put_pool(self, rng: np.random.Generator) -> tuple[list[Any], list[Any]]:
        case, shape = self.case, (self.case.rows, self.case.heads)
        o = [random_values(rng, (*shape, case.dim), case.o_dtype) for _ in range(case.states)]
        lse = [random_values(rng, shape, "float32", 2.0) for _ in range(case.states)]
        if not hasattr(self, "_checked"):
            last = [np.stack([one[-1:] for one in values]) for values in (o, lse)]
            self._checked = merge_states_reference(*last).o[0]
        return [self.backend.put(one) for one in o], [self.backend.put(one) for one in lse]

    def _call(self, o: list[Any], lse: list[Any]) -> Callable[[], Any]:
        def call() -> Any:
            aiter_c.merge_states(o, lse, self.out, self.lse_out)
            return self.out

        return call

    def error(self, output: Any) -> float:
        """Of the last row, as the first pool has its states."""
        return float(np.abs(self.backend.get(output[-1:])[0] - self._checked).max())


def _torch_peer(torch: Any) -> Callable[[Problem], Any]:
    """logsumexp and softmax over the states, weighted sum."""

    def calls(problem: Problem) -> list[Callable[[], Any]]:
        as_torch = lambda tensor: _as_torch(torch, tensor, problem)  # noqa: E731

        def form(o: list[Any], lse: list[Any]) -> Callable[[], Any]:
            states, lses = torch.stack(list(map(as_torch, o))), torch.stack(list(map(as_torch, lse)))

            def call() -> Any:
                torch.logsumexp(lses, 0)
                weights = torch.softmax(lses, 0).to(states.dtype)
                return (weights[..., None] * states).sum(0)

            return call

        return [form(*pool) for pool in problem.pools]

    return calls


def _as_torch(torch: Any, tensor: Any, problem: Problem) -> Any:
    if isinstance(tensor, torch.Tensor):
        return tensor
    bits = torch.from_numpy(tensor.view(f"i{tensor.itemsize}"))
    return bits.view(getattr(torch, tensor.dtype.name))


def _vllm_peer(torch: Any, merge: Callable) -> Callable[[Problem], Any]:
    """Of two states, LSEs [H, T]."""

    def calls(problem: Problem) -> list[Callable[[], Any]] | None:
        if problem.case.states != 2 or problem.backend.kind != "gpu":
            return None
        out, lse_out = torch.empty_like(problem.out), torch.empty_like(problem.lse_out.T.contiguous())

        def form(o: list[Any], lse: list[Any]) -> Callable[[], Any]:
            turned = [one.T.contiguous() for one in lse]

            def call() -> Any:
                merge(out, o[0], turned[0], o[1], turned[1], lse_out)
                return out

            return call

        made = [form(*pool) for pool in problem.pools]
        try:
            made[0]()
        except (AttributeError, RuntimeError, TypeError):  # a build without this kernel, or with another signature
            return None
        return made

    return calls


def peers(backend: Cpu | Gpu) -> dict[str, Callable[[Problem], Any]]:
    """torch and vLLM, where they are installed."""
    torch = torch_or_none()
    if torch is None:
        return {}
    if backend.kind == "cpu":
        torch.set_num_threads(aiter_c.get_num_threads())
        return {"torch": _torch_peer(torch)}
    found = {"torch": _torch_peer(torch)}
    try:
        from vllm._custom_ops import merge_attn_states

        found["vLLM"] = _vllm_peer(torch, merge_attn_states)
    except (ImportError, AttributeError):
        pass
    return found
