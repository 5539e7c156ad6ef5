"""The bench of get_mla_metadata_v1: what planning the work lists of a decode step takes, for lists of any lengths. The
plan is checked against the planner in Python; the peer is FlashMLA's scheduler, where it can be called on its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import aiter_c
from aiter_c import _C
from aiter_c._modules import is_installed
from aiter_c.cli.backend import Cpu, Gpu, torch_or_none
from aiter_c.testing.ops.mla_metadata import Lists, MlaMetadataCase, Planner

COLUMNS = {"batch": "5d", "q": "3d", "heads": "5d", "keys": "8d", "lists": "8s", "workers": "7d", "items": "5d"}


def _case(batch: int, keys: int, *, q_len: int = 1, heads: int = 16, **fields: object) -> MlaMetadataCase:
    """Lengths from 1 to `keys`, the first of them the longest."""
    kv_lens = (keys, *(1 + (7919 * i) % keys for i in range(1, batch)))
    return MlaMetadataCase(q_lens=(q_len,) * batch, kv_lens=kv_lens, heads=heads, uniform=True, **fields)


_QUICK = [_case(1, 65536), _case(16, 8192), _case(128, 8192)]
_OTHERS = [
    _case(16, 1_000_000),
    _case(128, 256),
    _case(128, 1_000_000),
    _case(128, 8192, q_len=4, heads=128),
    _case(512, 8192),
    _case(4096, 2048),
    _case(128, 8192, deterministic=True),
    _case(1, 65536, deterministic=True),
]


def cases(kind: str, quick: bool) -> list[MlaMetadataCase]:
    """Few of them, or all."""
    return _QUICK if quick else _QUICK + _OTHERS


def growth(kind: str) -> list[MlaMetadataCase]:
    """The table says it."""
    return []


def _kernel(backend: Cpu | Gpu) -> str:
    """On the CPU the first that runs here: the table begins with the best."""
    rows = [row["name"] for row in _C.kernel_table() if row["op"] == "mla_metadata" and row["available"]]
    return rows[0] if backend.kind == "cpu" else "mla_metadata"


class Problem:
    """One set of tensors: a plan is filled in place. num_bytes: what is read and written at least."""

    tolerance = 0.0
    flop, fp8_product = 0, False

    def __init__(self, case: MlaMetadataCase, backend: Cpu | Gpu) -> None:
        self.case, self.backend = case, backend
        device = "cpu" if backend.kind == "cpu" else backend.device
        heads, q_len, batch = case.heads, case.q_lens[0], len(case.q_lens)
        info = aiter_c.get_mla_metadata_info_v1(
            batch, q_len, heads, "bfloat16", "bfloat16", False, deterministic=case.deterministic, device=device
        )
        lists = [np.zeros(size, np.int64 if i == 0 else np.int32) for i, (size, _) in enumerate(info)]
        self.workers = len(lists[1]) - 1
        indptrs = [np.cumsum([0, *lens]).astype(np.int32) for lens in (case.q_lens, case.kv_lens)]
        self._expected = self._plan(indptrs, lists)
        self.kernel = _kernel(backend)
        self.indptrs = [backend.put(indptr) for indptr in indptrs]
        self.lists = [backend.put(values) for values in lists]
        self.num_bytes = 8 * batch + 32 * len(self._expected.items) + 4 * (batch + self.workers)
        self.facts = {
            **{"batch": batch, "q": q_len, "heads": heads, "keys": max(case.kv_lens), "workers": self.workers},
            **{"lists": "fixed" if case.deterministic else "filled", "items": len(self._expected.items)},
        }
        self.calls = [self._call]

    def _plan(self, indptrs: list[np.ndarray], lists: list[np.ndarray]) -> Lists:
        """By the planner in Python."""
        return Planner(
            *(indptr.tolist() for indptr in indptrs), None, self.case.heads, self.workers, len(lists[2]),
            len(lists[4]), len(lists[5]), max_q=self.case.q_lens[0], uniform=self.case.q_lens[0],
            deterministic=self.case.deterministic,
        ).plan()  # fmt: skip

    def _call(self) -> Any:
        q_len, (pointers, work_indptr, work_info, *reduce) = self.case.q_lens[0], self.lists
        aiter_c.get_mla_metadata_v1(
            *self.indptrs, None, self.case.heads, 1, True, pointers, work_info, work_indptr, *reduce,
            max_seqlen_qo=q_len, uni_seqlen_qo=q_len, deterministic=self.case.deterministic,
        )  # fmt: skip
        return work_info

    def error(self, output: Any) -> float:
        """Of any field of any item."""
        got = self.backend.get(output)
        if got.ndim != 2 or got.shape[1] != 8:
            return 0.0  # a peer's schedule is another one
        want = np.array(self._expected.items, np.float64)
        return float(np.abs(got[: len(want)] - want).max())


def _flash_mla(torch: Any) -> Callable[[Problem], Any] | None:
    if not is_installed("flash_mla"):
        return None
    from flash_mla import flash_mla_interface as interface

    legacy = {"use_legacy": True} if is_installed("flash_mla._loader") else {}
    plan = getattr(interface, "get_mla_decoding_metadata", None)
    if plan is None:
        return None

    def calls(problem: Problem) -> list[Callable[[], Any]] | None:
        lengths = torch.tensor(problem.case.kv_lens, dtype=torch.int32, device=problem.backend.device)
        pairs = problem.case.q_lens[0] * problem.case.heads
        positional = (lengths, pairs, 1, problem.case.heads, False, None)
        try:
            plan(*positional, **legacy)
        except (TypeError, RuntimeError):  # of another version
            return None
        return [lambda: plan(*positional, **legacy)[0]]

    return calls


def peers(backend: Cpu | Gpu) -> dict[str, Callable[[Problem], Any]]:
    """FlashMLA's, on a GPU where it is installed."""
    torch = torch_or_none()
    peer = _flash_mla(torch) if torch is not None and backend.kind == "gpu" else None
    return {} if peer is None else {"FlashMLA scheduler": peer}
