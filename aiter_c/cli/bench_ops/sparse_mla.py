"""The bench of sparse attention (sparse_mla_fwd): every query row selects 2,048 slots of a cache of its own choice, in
a random order; the last row is checked against fp64. The floor reads every selected key once, or multiplies. Beside it
the same rows by work lists (mla_decode_fwd), planned before. The peer is FlashMLA's sparse decode over the same
records; below 64 heads, which it does not take, it gets 64 of which the rest is zero, as its callers do."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import aiter_c
from aiter_c._modules import is_installed
from aiter_c.cli.backend import Cpu, Gpu, random_values
from aiter_c.cli.bench_ops.mla_decode import keys_of, records_of
from aiter_c.cli.work_lists import WorkLists
from aiter_c.testing import MlaCase

COLUMNS = {"batch": "5d", "q": "1d", "heads": "5d", "keys": "5d", "cache": "10s"}
PAGE, TOP_K = 64, 2048


@dataclass(frozen=True)
class Shape:
    """batch * q rows of `heads` heads."""

    batch: int
    q: int
    heads: int
    cache: str = "fp8_ds_mla"
    keys: int = TOP_K


#: What FlashMLA's sparse decode was measured at, then what it does not take.
_GPU = [Shape(*one) for one in ((1, 1, 64), (16, 1, 64), (16, 1, 128), (64, 1, 128), (128, 1, 64), (128, 1, 128))]
_GPU += [Shape(128, 2, 128), *(Shape(128, 1, heads) for heads in (8, 16, 32))]
_GPU_MORE = [Shape(b, 1, h, cache) for cache in ("bfloat16", "float8_e4m3fn") for b, h in ((1, 64), (128, 128))]
_CPU = [Shape(1, 1, 16), Shape(4, 1, 16, "bfloat16")]
_CPU_MORE = [Shape(16, 1, 16), Shape(1, 1, 128), Shape(4, 2, 64, "float8_e4m3fn")]


def cases(kind: str, quick: bool) -> list[Shape]:
    """Few of them, or all."""
    few, more = (_GPU, _GPU_MORE) if kind == "gpu" else (_CPU, _CPU_MORE)
    return few if quick else few + more


def growth(kind: str) -> list[Shape]:
    """The rows of a batch share nothing."""
    return []


def beside_columns(unit: str) -> dict[str, str]:
    """By lists, as graphs on a GPU."""
    return {f"lists {unit}": "8.3f" if unit == "ms" else "8.1f"}


class Problem:
    """q [rows, heads, 576]; pools of the cache; slots [rows, keys]; out."""

    tolerance, fp8_product = 0.03, False  # values are 0.5 * N(0, 1)

    def __init__(self, case: Shape, backend: Cpu | Gpu) -> None:
        self.case, self.backend = case, backend
        self.rows = rows = case.batch * case.q
        self.records = case.cache == "fp8_ds_mla"
        itemsize = 2 if case.cache == "bfloat16" else 1
        self.num_bytes = rows * (case.keys * (656 if self.records else 576 * itemsize) + case.heads * (576 + 512) * 2)
        self.flop = 2 * rows * case.heads * case.keys * (576 + 512)
        rng = np.random.default_rng(rows + case.heads)
        pages = max(4096 if backend.kind == "gpu" else 0, 2 * case.keys // PAGE)
        slots = rng.integers(0, pages * PAGE, (rows, case.keys)).astype(np.int32)
        q = random_values(rng, (rows, case.heads, 576), "bfloat16")
        self._q, self._slots = q[-1].astype(np.float64), slots[-1]
        self.pools = [self._put_cache(rng, pages) for _ in range(backend.copies(self.num_bytes))]
        self.q, self.slots, self.flat = (backend.put(one) for one in (q, slots, slots.reshape(-1)))
        self.out = backend.put(np.zeros((rows, case.heads, 512), q.dtype))
        self.indptr = backend.put(np.arange(rows + 1, dtype=np.int32) * case.keys)
        self.qo_indptr = backend.put(np.arange(rows + 1, dtype=np.int32))
        shape = (rows, case.heads, 1, 1, "bfloat16", case.cache)
        self.kernel = aiter_c.mla_plan(*shape, max_kv_len=case.keys, device=backend.device).stage1
        self.calls = [self._call(pool) for pool in self.pools]
        facts = {"batch": case.batch, "q": case.q, "heads": case.heads, "keys": case.keys, "cache": case.cache}
        self.facts: dict[str, Any] = facts

    def _put_cache(self, rng: np.random.Generator, pages: int) -> Any:
        """A cache of its own memory; of the first one the checked keys are kept on the host."""
        if self.records:
            cache = records_of(rng, (pages, PAGE))
        else:
            cache = random_values(rng, (pages, PAGE, 576), self.case.cache)
        if not hasattr(self, "_keys"):
            kind = MlaCase(kv_format="fp8_ds_mla", kv_dtype="float8_e4m3fn") if self.records else MlaCase()
            self._keys = keys_of(kind, cache.reshape(-1, cache.shape[-1])[self._slots])
        return self.backend.put(cache)

    def _call(self, pool: Any) -> Callable[[], Any]:
        def call() -> Any:
            return aiter_c.sparse_mla_fwd(self.q, pool, self.indptr, self.flat, None, out=self.out)[0]

        return call

    def beside(self) -> dict[str, float]:
        """The same by lists."""
        backend, case = self.backend, self.case
        rows = {"heads": case.heads, "q_lens": (1,) * self.rows, "kv_lens": (case.keys,) * self.rows}
        lists = WorkLists(MlaCase(**rows), backend, self.qo_indptr, self.indptr, None)
        caches = [pool if self.records else pool.reshape(-1, PAGE, 1, 576) for pool in self.pools]

        def form(cache: Any) -> Callable[[], Any]:
            def call() -> Any:
                aiter_c.mla_decode_fwd(
                    self.q, cache, self.out, self.qo_indptr, self.indptr, self.flat, None, 1, PAGE, slots=True,
                    **lists.arguments,
                )  # fmt: skip
                return self.out

            return call

        calls = [form(cache) for cache in caches]
        if not self.error(calls[0]()) <= self.tolerance:
            raise RuntimeError(f"{case}: by lists the output is wrong")
        return {f"lists {backend.unit}": backend.replayed(calls) * backend.per_second}

    def error(self, output: Any) -> float:
        """Of the last row, as the first pool has its keys."""
        row = self.backend.get(output).reshape(-1, self.case.heads, 512)[-1]
        scores = self._q @ self._keys.T * 576**-0.5
        weights = np.exp(scores - scores.max(1, keepdims=True))
        return float(np.abs(row - weights @ self._keys[:, :512] / weights.sum(1, keepdims=True)).max())


def _flash_mla(problem: Problem) -> list[Callable[[], Any]] | None:
    """The wheel sgl-flash-mla, or one that is called flash_mla."""
    import torch
    from flash_mla import flash_mla_interface as interface

    if not problem.records:
        return None
    case, heads = problem.case, max(problem.case.heads, 64)
    q = torch.zeros(case.batch, case.q, heads, 576, dtype=torch.bfloat16, device="cuda")
    q[:, :, : case.heads] = problem.q.view(case.batch, case.q, case.heads, 576)
    cache = problem.pools[0].view(torch.float8_e4m3fn).unsqueeze(2)
    indices = problem.slots.view(case.batch, case.q, case.keys)
    schedule = interface.FlashMLASchedMeta()
    options = {"is_fp8_kvcache": True, "indices": indices}
    options |= {"use_legacy": True} if is_installed("flash_mla._loader") else {}

    def call() -> Any:
        o = interface.flash_mla_with_kvcache(q, cache, None, None, 512, schedule, **options)[0]
        return o[:, :, : case.heads]

    try:
        call()
    except Exception as error:  # a shape that it refuses is left out, and said
        print(f"FlashMLA: {case}: {type(error).__name__}: {str(error)[:160]}", file=sys.stderr)
        return None
    return [call]


def peers(backend: Cpu | Gpu) -> dict[str, Callable[[Problem], Any]]:
    """What is installed."""
    return {"FlashMLA": _flash_mla} if backend.kind == "gpu" and is_installed("flash_mla") else {}
