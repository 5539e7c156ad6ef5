"""The bench of mla_decode: random data, shuffled pages of 64 tokens on a GPU and runs of 16 on a CPU; the last query
row of the longest request is checked against fp64. Equal KV lengths from the grid; then lengths that differ, and equal
ones, by work lists, with the same call from the grid and the plan of the lists beside, on a GPU all three as graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import aiter_c
from aiter_c.cli import cpu_peers, gpu_peers
from aiter_c.cli.backend import Cpu, Gpu, random_values, torch_or_none
from aiter_c.cli.work_lists import WorkLists
from aiter_c.testing import MlaCase
from aiter_c.testing.ops.cache import RECORD_BYTES
from aiter_c.testing.ops.mla_decode_perf import (
    GPU_OTHERS,
    GPU_QUICK,
    GPU_SHAPES,
    GROWTH,
    LISTED,
    LISTED_QUICK,
    OTHERS,
    TARGETS,
    Batch,
    least_work,
)

_RUN = 16  # tokens that stand together at least

COLUMNS = {
    "batch": "5d", "length": "6d", "lengths": "8s", "q": "1d", "heads": "5d", "dtypes": "27s", "work": "5s",
    "splits": "6d", "items": "5d", "path": "11s",
}  # fmt: skip


def cases(kind: str, quick: bool) -> list[MlaCase | Batch]:
    """Few of them, or all; those by lists last."""
    grid = (
        (GPU_QUICK if quick else GPU_SHAPES + GPU_OTHERS) if kind == "gpu" else TARGETS if quick else TARGETS + OTHERS
    )
    return grid + (LISTED[kind][:LISTED_QUICK] if quick else LISTED[kind])


def beside_columns(unit: str) -> dict[str, str]:
    """Of the rows by lists: the same call from the grid, as a multiple of the one by lists, and the plan."""
    return {f"grid {unit}": "8.3f" if unit == "ms" else "8.1f", "x grid": "6.2f", f"plan {unit}": "7.4f"}


def growth(kind: str) -> list[MlaCase]:
    """On a CPU, where the batch is what fills the threads."""
    return GROWTH if kind == "cpu" else []


def records_of(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """fp8_ds_mla: 512 e4m3fn, their scales (here 2**-6 all), 64 bfloat16."""
    records = np.empty((*shape, RECORD_BYTES), np.uint8)
    records[..., :512] = random_values(rng, (*shape, 512), "float8_e4m3fn", 0.5 * 2**6).view(np.uint8)
    records[..., 512:528] = np.full(4, 2.0**-6, np.float32).view(np.uint8)
    records[..., 528:] = random_values(rng, (*shape, 64), "bfloat16").view(np.uint8)
    return records


def keys_of(case: MlaCase, rows: np.ndarray) -> np.ndarray:
    """[n, 576] in fp64, of cache rows."""
    if case.kv_format == "plain":
        return rows.astype(np.float64)
    import ml_dtypes

    latent = rows[:, :512].copy().view(ml_dtypes.float8_e4m3fn).astype(np.float64).reshape(-1, 4, 128)
    scales = rows[:, 512:528].copy().view(np.float32).astype(np.float64)
    rope = rows[:, 528:].copy().view(ml_dtypes.bfloat16).astype(np.float64)
    return np.concatenate([(latent * scales[:, :, None]).reshape(-1, 512), rope], 1)


def _page_lists(rng: np.random.Generator, case: MlaCase) -> tuple[list[np.ndarray], int]:
    """The pages of each request, runs of tokens that stand together in random order; how many there are in all."""
    run = max(1, _RUN // case.page_size)
    counts = [-(-length // case.page_size) for length in case.kv_lens]
    runs = [-(-count // run) for count in counts]
    order = rng.permutation(sum(runs)).astype(np.int32)
    pages = (order[:, None] * run + np.arange(run, dtype=np.int32)).reshape(-1)
    starts = np.cumsum([0, *runs[:-1]]) * run
    return [pages[start : start + count] for start, count in zip(starts, counts, strict=True)], len(pages)


class Problem:
    """The tensors of a case. The peers use them, too: q [T, H, 576], pools of the cache, table [B, pages] (0 past a
    request's own), lengths [B], qo_indptr [B+1], o."""

    tolerance = 0.03  # values are 0.5 * N(0, 1), P may be fp8

    def __init__(self, case: MlaCase | Batch, backend: Cpu | Gpu) -> None:
        spread, case = (case.lengths, case.case) if isinstance(case, Batch) else (None, case)
        self.case, self.backend = case, backend
        batch, heads, longest, q_len, page = case.batch, case.heads, max(case.kv_lens), case.q_lens[0], case.page_size
        rng = np.random.default_rng(longest + heads)
        self.num_bytes, self.flop = least_work(case)
        self.fp8_product = case.q_is_fp8 and case.kv_is_fp8
        self._checked = case.kv_lens.index(longest)

        lists, num_pages = _page_lists(rng, case)
        checked, copies = lists[self._checked], backend.copies(self.num_bytes)
        self.pools = [self._put_cache(rng, num_pages, checked) for _ in range(copies)]
        q = random_values(rng, (batch * q_len, heads, 576), case.q_dtype)
        self._checked_q = q[self._checked_row].astype(np.float64)

        counts, lengths = np.array([len(pages) for pages in lists], np.int32), np.array(case.kv_lens, np.int32)
        table = np.zeros((batch, max(counts)), np.int32)
        for row, pages in zip(table, lists, strict=True):
            row[: len(pages)] = pages
        self.q, self.table, self.lengths = backend.put(q), backend.put(table), backend.put(lengths)
        self.kv_indices = backend.put(np.concatenate(lists))
        self.o = backend.put(np.zeros((batch * q_len, heads, 512), random_values(rng, (1,), "bfloat16").dtype))
        self.qo_indptr = backend.put(np.arange(batch + 1, dtype=np.int32) * q_len)
        self.kv_indptr = backend.put(np.cumsum([0, *counts]).astype(np.int32))
        self.last_page = backend.put(lengths - (counts - 1) * page)

        self.plan = self._plan()
        self.calls = self._grid_calls = [self._call(pool, self.plan, {}) for pool in self.pools]
        self.lists = None
        if spread is not None:
            self._use_lists()
        self.kernel = self.plan.stage1
        direct = self.plan.writes_output
        self.facts = {
            **{"batch": batch, "length": longest, "lengths": spread or "equal", "q": q_len, "heads": heads},
            **{"dtypes": f"{case.q_dtype}*{self._kv_dtype}", "work": "lists" if self.lists else "grid"},
            "splits": None if self.lists else self.plan.num_kv_splits,
            "items": self.lists.items if self.lists else None,
            "path": "stage 1" if direct else "stage 1 + 2",
        }

    @property
    def _kv_dtype(self) -> str:
        return self.case.kv_dtype if self.case.kv_format == "plain" else self.case.kv_format

    @property
    def _checked_row(self) -> int:
        return (self._checked + 1) * self.case.q_lens[0] - 1

    def _plan(self, **options: Any) -> aiter_c.MlaPlan:
        """As automatic as without a plan: by the average length."""
        case = self.case
        return aiter_c.mla_plan(
            case.batch, case.heads, case.q_lens[0], case.page_size, case.q_dtype, self._kv_dtype,
            max_kv_len=-(-sum(case.kv_lens) // case.batch), device=self.backend.device, **options,
        )  # fmt: skip

    def _use_lists(self) -> None:
        """Instead of the grid."""
        indptrs = (self.qo_indptr, self.kv_indptr)
        self.lists = WorkLists(self.case, self.backend, *indptrs, self.last_page)
        self.plan = self._plan(num_workers=self.lists.workers)
        self.calls = [self._call(pool, self.plan, self.lists.arguments) for pool in self.pools]

    def beside(self) -> dict[str, float]:
        """Of a problem by lists: the call from the grid and the plan, measured after one another."""
        if self.lists is None:
            return {}
        backend, unit = self.backend, self.backend.unit
        own, grid = backend.replayed(self.calls), backend.replayed(self._grid_calls)
        plan = backend.replayed([self.lists.plan])
        scale = backend.per_second
        return {f"grid {unit}": grid * scale, "x grid": grid / own, f"plan {unit}": plan * scale}

    def _put_cache(self, rng: np.random.Generator, num_pages: int, checked: np.ndarray) -> Any:
        """A cache of its own memory; of the first one the checked keys are kept on the host."""
        case = self.case
        if case.kv_format == "plain":
            cache = random_values(rng, (num_pages, case.page_size, 1, 576), case.kv_dtype)
        else:
            cache = records_of(rng, (num_pages, case.page_size))
        if not hasattr(self, "_keys"):
            keys = cache[checked].reshape(-1, cache.shape[-1])
            self._keys = keys_of(case, keys[: max(case.kv_lens)])
        return self.backend.put(cache)

    def _call(self, pool: Any, plan: aiter_c.MlaPlan, lists: dict[str, Any]) -> Callable[[], Any]:
        options = dict(lists) if self.case.kv_format == "plain" else lists | {"kv_format": self.case.kv_format}
        if self.backend.plans_ahead:
            options["plan"] = plan
        indices, q_len, page = self.kv_indices, self.case.q_lens[0], self.case.page_size

        def call() -> Any:
            aiter_c.mla_decode_fwd(
                self.q, pool, self.o, self.qo_indptr, self.kv_indptr, indices, self.last_page, q_len, page, **options
            )
            return self.o

        return call

    def error(self, output: Any) -> float:
        """Of the longest request's last query row, as the first pool has its keys."""
        row = self.backend.get(output).reshape(-1, self.case.heads, 512)[self._checked_row]
        scores = self._checked_q @ self._keys.T * 576**-0.5
        weights = np.exp(scores - scores.max(1, keepdims=True))
        expected = weights @ self._keys[:, :512] / weights.sum(1, keepdims=True)
        return float(np.abs(row - expected).max())


def peers(backend: Cpu | Gpu) -> dict[str, Callable[[Problem], Any]]:
    """What else is installed."""
    torch = torch_or_none()
    if torch is None:
        return {}
    return gpu_peers.find(torch) if backend.kind == "gpu" else cpu_peers.find(torch)
