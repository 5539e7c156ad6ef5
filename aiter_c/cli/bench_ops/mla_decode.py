"""The bench of mla_decode: equal KV lengths, random data, shuffled pages of 64 tokens on a GPU and runs of 16 on a CPU;
the last query row of the first request is checked against fp64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import aiter_c
from aiter_c.cli import cpu_peers, gpu_peers
from aiter_c.cli.backend import Cpu, Gpu, random_values, torch_or_none
from aiter_c.testing import MlaCase
from aiter_c.testing.ops.cache import RECORD_BYTES
from aiter_c.testing.ops.mla_decode_perf import GPU_OTHERS, GPU_QUICK, GPU_SHAPES, GROWTH, OTHERS, TARGETS, least_work

_RUN = 16  # tokens that stand together at least

COLUMNS = {
    "batch": "5d", "length": "6d", "q": "1d", "heads": "5d", "dtypes": "27s", "splits": "6d", "path": "11s",
}  # fmt: skip


def cases(kind: str, quick: bool) -> list[MlaCase]:
    """Few of them, or all."""
    if kind == "gpu":
        return GPU_QUICK if quick else GPU_SHAPES + GPU_OTHERS
    return TARGETS if quick else TARGETS + OTHERS


def growth(kind: str) -> list[MlaCase]:
    """On a CPU, where the batch is what fills the threads."""
    return GROWTH if kind == "cpu" else []


def _records(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """fp8_ds_mla: 512 e4m3fn, their scales (here 2**-6 all), 64 bfloat16."""
    records = np.empty((*shape, RECORD_BYTES), np.uint8)
    records[..., :512] = random_values(rng, (*shape, 512), "float8_e4m3fn", 0.5 * 2**6).view(np.uint8)
    records[..., 512:528] = np.full(4, 2.0**-6, np.float32).view(np.uint8)
    records[..., 528:] = random_values(rng, (*shape, 64), "bfloat16").view(np.uint8)
    return records


def _keys_of(case: MlaCase, rows: np.ndarray) -> np.ndarray:
    """[n, 576] in fp64, of cache rows."""
    if case.kv_format == "plain":
        return rows.astype(np.float64)
    import ml_dtypes

    latent = rows[:, :512].copy().view(ml_dtypes.float8_e4m3fn).astype(np.float64).reshape(-1, 4, 128)
    scales = rows[:, 512:528].copy().view(np.float32).astype(np.float64)
    rope = rows[:, 528:].copy().view(ml_dtypes.bfloat16).astype(np.float64)
    return np.concatenate([(latent * scales[:, :, None]).reshape(-1, 512), rope], 1)


class Problem:
    """The tensors of a case with equal lengths. The peers use them, too: q [T, H, 576], pools of the cache, table
    [B, pages], lengths [B], qo_indptr [B+1], o."""

    tolerance = 0.03  # values are 0.5 * N(0, 1), P may be fp8

    def __init__(self, case: MlaCase, backend: Cpu | Gpu) -> None:
        self.case, self.backend = case, backend
        batch, heads, length, q_len, page = case.batch, case.heads, case.kv_lens[0], case.q_lens[0], case.page_size
        rng = np.random.default_rng(length + heads)
        pages, run = length // page, max(1, _RUN // page)
        self.num_bytes, self.flop = least_work(case)
        self.fp8_product = case.q_is_fp8 and case.kv_is_fp8

        order = rng.permutation(batch * pages // run).astype(np.int32)
        table = (order[:, None] * run + np.arange(run, dtype=np.int32)).reshape(batch, pages)
        self.pools = [self._put_cache(rng, batch * pages, table[0]) for _ in range(backend.copies(self.num_bytes))]
        q = random_values(rng, (batch * q_len, heads, 576), case.q_dtype)
        self._checked_q = q[q_len - 1].astype(np.float64)

        steps = np.arange(batch + 1, dtype=np.int32)
        self.q, self.table = backend.put(q), backend.put(table)
        self.o = backend.put(np.zeros((batch * q_len, heads, 512), random_values(rng, (1,), "bfloat16").dtype))
        self.qo_indptr, self.kv_indptr = backend.put(steps * q_len), backend.put(steps * pages)
        self.lengths = backend.put(np.full(batch, length, np.int32))
        self.last_page = backend.put(np.full(batch, page, np.int32))

        dtype = case.kv_dtype if case.kv_format == "plain" else case.kv_format
        self.plan = aiter_c.mla_plan(
            batch, heads, q_len, page, case.q_dtype, dtype, max_kv_len=length, device=backend.device
        )
        self.kernel = self.plan.stage1
        self.facts = {
            "batch": batch, "length": length, "q": q_len, "heads": heads, "dtypes": f"{case.q_dtype}*{dtype}",
            "splits": self.plan.num_kv_splits, "path": "stage 1" if self.plan.writes_output else "stage 1 + 2",
        }  # fmt: skip
        self.calls = [self._call(pool) for pool in self.pools]

    def _put_cache(self, rng: np.random.Generator, num_pages: int, checked: np.ndarray) -> Any:
        """A cache of its own memory; of the first one the checked keys are kept on the host."""
        case = self.case
        if case.kv_format == "plain":
            cache = random_values(rng, (num_pages, case.page_size, 1, 576), case.kv_dtype)
        else:
            cache = _records(rng, (num_pages, case.page_size))
        if not hasattr(self, "_keys"):
            self._keys = _keys_of(case, cache[checked].reshape(-1, cache.shape[-1]))
        return self.backend.put(cache)

    def _call(self, pool: Any) -> Callable[[], Any]:
        options: dict[str, Any] = {} if self.case.kv_format == "plain" else {"kv_format": self.case.kv_format}
        if self.backend.plans_ahead:
            options["plan"] = self.plan
        indices, q_len, page = self.table.reshape(-1), self.case.q_lens[0], self.case.page_size

        def call() -> Any:
            aiter_c.mla_decode_fwd(
                self.q, pool, self.o, self.qo_indptr, self.kv_indptr, indices, self.last_page, q_len, page, **options
            )
            return self.o

        return call

    def error(self, output: Any) -> float:
        """Of the first request's last query row, as the first pool has its keys."""
        q_len = self.case.q_lens[0]
        row = self.backend.get(output).reshape(-1, self.case.heads, 512)[q_len - 1]
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
