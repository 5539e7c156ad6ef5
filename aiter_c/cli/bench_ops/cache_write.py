"""The bench of the cache writes, of MLA and of the indexer, and of the gather: tokens to slots in any order, of caches
in pages of 64. The last token's key is checked. The floor reads every input and writes every result once. The peer, for
what is a copy, is torch: a concatenation and an indexed assignment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import aiter_c
from aiter_c.cli.backend import Cpu, Gpu, random_values, torch_or_none
from aiter_c.testing.memory import dtype_of
from aiter_c.testing.ops.indexer_cache import key_places, scale_places

COLUMNS = {"form": "12s", "tokens": "6d", "heads": "5d", "cache": "13s"}
PAGE = 64
FP8 = "float8_e4m3fn"


@dataclass(frozen=True)
class Shape:
    """One write; heads of queries, where there are any."""

    form: str
    tokens: int
    cache: str = FP8
    heads: int = 0


#: Decode steps, and chunks of prefill.
_QUICK = [Shape("concat", 256), Shape("fused", 64, heads=16), Shape("indexer", 4096)]
_OTHERS = [
    Shape("concat", 8192, "bfloat16"),
    Shape("concat", 8192),
    Shape("concat", 8192, "fp8_ds_mla"),
    Shape("fused", 512, heads=128),
    Shape("fused", 1024, "bfloat16", heads=16),
    Shape("indexer_rope", 512, heads=64),
    Shape("gather", 32768),
]
_LARGE = [
    Shape("concat", 131072, "bfloat16"),
    Shape("concat", 131072),
    Shape("concat", 131072, "fp8_ds_mla"),
    Shape("fused", 4096, heads=128),
    Shape("indexer", 262144),
    Shape("indexer_rope", 16384, heads=64),
    Shape("gather", 262144),
]


def cases(kind: str, quick: bool) -> list[Shape]:
    """Few of them, or all; on a GPU also those that fill it."""
    if kind == "gpu":
        return _LARGE if quick else _QUICK + _OTHERS + _LARGE
    return _QUICK if quick else _QUICK + _OTHERS


def growth(kind: str) -> list[Shape]:
    """Tokens are independent: there is nothing to show."""
    return []


class Problem:
    """pools: keyword arguments of the call, each of its own memory."""

    tolerance = 0.07  # of a value, half a step of fp8
    flop, fp8_product = 0, False

    def __init__(self, case: Shape, backend: Cpu | Gpu) -> None:
        self.case, self.backend = case, backend
        self.facts = {"form": case.form, "tokens": case.tokens, "heads": case.heads, "cache": case.cache}
        self.op, self.kernel, make = _FORMS[case.form]
        self.pages = -(-case.tokens // PAGE) + 1
        rng = np.random.default_rng(case.tokens)
        self.slots = rng.permutation(self.pages * PAGE)[: case.tokens].astype(np.int64)
        pool = make(self, rng)
        arrays = [array for array in pool.values() if isinstance(array, np.ndarray)]
        self.num_bytes = sum(array.nbytes for array in arrays)
        if case.form == "gather":  # reads what it writes
            self.num_bytes = 2 * case.tokens * 132
        copies = [pool] + [
            {name: array.copy() if isinstance(array, np.ndarray) else array for name, array in pool.items()}
            for _ in range(backend.copies(self.num_bytes) - 1)
        ]
        self.pools = [
            {name: backend.put(array) if isinstance(array, np.ndarray) else array for name, array in one.items()}
            for one in copies
        ]
        self.calls = [self._call(one) for one in self.pools]

    def _call(self, pool: dict[str, Any]) -> Callable[[], Any]:
        function, output = getattr(aiter_c, self.op), pool["dst_k" if self.case.form == "gather" else "kv_cache"]

        def call() -> Any:
            function(**pool)
            return output

        return call

    def error(self, output: Any) -> float:
        """Of the last token's key, its rope part left out; relative to each value."""
        if self.case.form == "gather":
            return float(np.abs(self.backend.get(output[-1:])[0] - self.wanted).max())
        page, line = divmod(int(self.slots[-1]), PAGE)
        got = self._key(self.backend.get(_bytes_of(output[page], self.case.cache)), line)
        return float((np.abs(got - self.wanted) / (np.abs(self.wanted) + 0.05)).max())

    def _key(self, page: np.ndarray, line: int) -> np.ndarray:
        if self.case.form in ("indexer", "indexer_rope"):
            data = page.astype(np.uint8).reshape(-1)
            scale = data[scale_places(PAGE, 128, line, 1)].view(np.float32)[0]
            return data[key_places(PAGE, 128, line, True)].view(dtype_of(FP8)).astype(np.float64) * scale
        if self.case.cache == "fp8_ds_mla":
            row = page.astype(np.uint8)[line]
            codes, scales = row[:512].view(dtype_of(FP8)).astype(np.float64), row[512:528].view(np.float32)
            return codes * np.repeat(scales, 128)
        return page[line, :512]


def _bytes_of(page: Any, cache: str) -> Any:
    """A page of the indexer or of records by byte, of others as it is."""
    if page.shape[-1] == 576:
        return page
    if isinstance(page, np.ndarray):
        return page.view(np.uint8)
    import torch

    return page.view(torch.uint8)


def _mla_keys(problem: Problem, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Latents, rope parts and the cache."""
    case = problem.case
    latent = random_values(rng, (case.tokens, 512), "bfloat16")
    rope = random_values(rng, (case.tokens, 64), "bfloat16")
    problem.wanted = latent[-1].astype(np.float64)
    width, kind = (656, "uint8") if case.cache == "fp8_ds_mla" else (576, case.cache)
    return latent, rope, np.zeros((problem.pages, PAGE, width), dtype_of(kind))


def _concat(problem: Problem, rng: np.random.Generator) -> dict[str, Any]:
    latent, rope, cache = _mla_keys(problem, rng)
    mode = {"bfloat16": "auto", "fp8_ds_mla": "fp8_ds_mla"}.get(problem.case.cache, "fp8")
    return {
        "kv_c": latent, "k_pe": rope, "kv_cache": cache, "slot_mapping": problem.slots, "kv_cache_dtype": mode,
        "scale": 1.0,
    }  # fmt: skip


def _angles(rng: np.random.Generator) -> dict[str, np.ndarray]:
    turns, kind = rng.uniform(0, 6, (4096, 32)), dtype_of("bfloat16")
    return {"cos_cache": np.cos(turns).astype(kind), "sin_cache": np.sin(turns).astype(kind)}


def _fused(problem: Problem, rng: np.random.Generator) -> dict[str, Any]:
    case, (latent, rope, cache) = problem.case, _mla_keys(problem, rng)
    rows = (case.tokens, case.heads)
    return {
        "q_nope": random_values(rng, (*rows, 512), "bfloat16"), "q_pe": random_values(rng, (*rows, 64), "bfloat16"),
        "kv_c": latent, "k_pe": rope, "kv_cache": cache, "q_out": np.zeros((*rows, 576), cache.dtype),
        "slot_mapping": problem.slots, "k_scale": 1.0, "q_scale": 1.0,
        "positions": rng.integers(0, 4096, case.tokens), "is_neox": True, "is_nope_first": True,
    } | _angles(rng)  # fmt: skip


def _indexer(problem: Problem, rng: np.random.Generator) -> dict[str, Any]:
    k = random_values(rng, (problem.case.tokens, 128), "bfloat16")
    problem.wanted = k[-1].astype(np.float64)
    return {
        "k": k, "kv_cache": np.zeros((problem.pages, PAGE, 132), dtype_of(FP8)), "slot_mapping": problem.slots,
        "quant_block_size": 128, "scale_fmt": "ue8m0", "preshuffle": True,
    }  # fmt: skip


def _indexer_rope(problem: Problem, rng: np.random.Generator) -> dict[str, Any]:
    """Positions of angle 0, so that the key is its LayerNorm."""
    case, out = problem.case, _indexer(problem, rng)
    rows = (case.tokens, case.heads)
    wide = problem.wanted
    problem.wanted = (wide - wide.mean()) / np.sqrt(wide.var() + 1e-6)
    none = {"cos_cache": np.ones((1, 32), dtype_of("bfloat16")), "sin_cache": np.zeros((1, 32), dtype_of("bfloat16"))}
    return out | none | {
        "q": random_values(rng, (*rows, 128), "bfloat16"), "q_out": np.zeros((*rows, 128), dtype_of(FP8)),
        "weights": random_values(rng, rows, "bfloat16"), "weights_out": np.zeros(rows, np.float32),
        "norm_weight": np.ones(128, np.float32), "norm_bias": np.zeros(128, np.float32),
        "positions": np.zeros(case.tokens, np.int64), "epsilon": 1e-6, "weights_scale": 1.0,
    }  # fmt: skip


def _gather(problem: Problem, rng: np.random.Generator) -> dict[str, Any]:
    """Eight requests."""
    tokens, requests = problem.case.tokens, 8
    length = tokens // requests
    table = rng.permutation(problem.pages)[: requests * (length // PAGE)].reshape(requests, -1)
    cache = rng.integers(0, 120, (problem.pages, PAGE, 132), np.uint8)
    page = cache[table[-1, -1]].reshape(-1)
    problem.wanted = page[key_places(PAGE, 128, PAGE - 1, True)].astype(np.float64)
    return {
        "kv_cache": cache, "dst_k": np.zeros((tokens, 128), np.uint8), "dst_scale": np.zeros((tokens, 1), np.float32),
        "block_table": table.astype(np.int32), "cu_seq_lens": np.arange(0, tokens + 1, length, np.int32),
        "preshuffle": True,
    }  # fmt: skip


_FORMS: dict[str, tuple[str, str, Callable[[Problem, np.random.Generator], dict[str, Any]]]] = {
    "concat": ("concat_and_cache_mla", "cache_write", _concat),
    "fused": ("fused_qk_rope_concat_and_cache_mla", "cache_write", _fused),
    "indexer": ("indexer_k_quant_and_cache", "indexer_write", _indexer),
    "indexer_rope": ("indexer_qk_rope_quant_and_cache", "indexer_rope_write", _indexer_rope),
    "gather": ("cp_gather_indexer_k_quant_cache", "indexer_gather", _gather),
}


def _torch_copy(torch: Any) -> Callable[[Problem], list[Callable[[], Any]] | None]:
    def calls(problem: Problem) -> list[Callable[[], Any]] | None:
        if problem.case.form != "concat" or problem.case.cache != "bfloat16":
            return None

        def of(tensor: Any) -> Any:
            if isinstance(tensor, torch.Tensor):
                return tensor
            if tensor.dtype.kind == "i":
                return torch.from_numpy(tensor)
            return torch.from_numpy(tensor.view("i2")).view(torch.bfloat16)

        def form(pool: dict[str, Any]) -> Callable[[], Any]:
            latent, rope, cache, slots = (of(pool[name]) for name in ("kv_c", "k_pe", "kv_cache", "slot_mapping"))

            def call() -> Any:
                cache.view(-1, 576)[slots] = torch.cat([latent, rope], 1)
                return pool["kv_cache"]

            return call

        return [form(pool) for pool in problem.pools]

    return calls


def peers(backend: Cpu | Gpu) -> dict[str, Callable[[Problem], Any]]:
    """torch, where it is installed."""
    torch = torch_or_none()
    if torch is None:
        return {}
    if backend.kind == "cpu":
        torch.set_num_threads(aiter_c.get_num_threads())
    return {"torch": _torch_copy(torch)}
