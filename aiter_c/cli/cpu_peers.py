"""What else can do MLA decode on this CPU: torch in two forms, vLLM's kernel, ggml (cpu_peers_ggml.py). Each is timed
where it is installed; the others are named.

A peer is a function of a bench_ops.mla_decode.Problem that returns its calls, one per pool, or None for what it does
not serve (lengths that differ, for one). All get the same problem: q [b, H, 576] and a bf16 cache [n, 576] with the
token slots [b, L].
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import aiter_c
from aiter_c._modules import is_installed
from aiter_c.cli import cpu_peers_ggml
from aiter_c.cli.backend import Call

if TYPE_CHECKING:
    from aiter_c.cli.bench_ops.mla_decode import Problem

_VLLM_PAGE = 16
_POOLS = 4  # of the problem's: peers are slow


def find(torch: Any) -> dict[str, Callable[[Problem], list[Call] | None]]:
    """name -> peer, of those that are installed; all on as many threads as we have."""
    torch.set_num_threads(aiter_c.get_num_threads())
    forms = {"torch eager": _torch_eager, "torch sdpa": _torch_sdpa}
    operator = _vllm_operator(torch)
    if operator is not None:
        forms["vLLM"] = partial(_vllm_decode, operator)
    found = {name: _peer(torch, form) for name, form in forms.items()} | cpu_peers_ggml.find()
    absent = [name for name in ("vLLM", "ggml") if name not in found]
    if absent:
        print(f"not here, and so not timed: {', '.join(absent)}", file=sys.stderr)
    return found


def _peer(torch: Any, form: Callable[..., Call]) -> Callable[[Problem], list[Call] | None]:
    def calls(problem: Problem) -> list[Call] | None:
        case = problem.case
        if (case.q_dtype, case.kv_dtype, case.q_lens[0], case.page_size) != ("bfloat16", "bfloat16", 1, 1):
            return None
        if len(set(case.kv_lens)) > 1:
            return None
        as_torch = lambda array: torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)  # noqa: E731
        q, slots = as_torch(problem.q), torch.from_numpy(problem.table).long()
        caches = [as_torch(pool).view(-1, 576) for pool in problem.pools[:_POOLS]]
        return [form(torch, q, cache, slots, 576**-0.5) for cache in caches]

    return calls


def _torch_eager(torch: Any, q: Any, cache: Any, slots: Any, scale: float) -> Call:
    """matmul, softmax, matmul, one request after another: the reference form in most repositories."""

    def call() -> Any:
        out = []
        for row, slot in zip(q, slots, strict=True):
            keys = cache[slot]
            out.append(torch.softmax((row @ keys.T).float() * scale, -1).to(q.dtype) @ keys[:, :512])
        return torch.stack(out)

    return call


def _torch_sdpa(torch: Any, q: Any, cache: Any, slots: Any, scale: float) -> Call:
    """scaled_dot_product_attention with one KV head for all query heads."""

    def call() -> Any:
        keys = cache[slots].unsqueeze(1)
        return torch.nn.functional.scaled_dot_product_attention(
            q.unsqueeze(2), keys, keys[..., :512], scale=scale, enable_gqa=True
        )

    return call


def _vllm_operator(torch: Any) -> Any:
    """torch.ops.*.mla_decode_kvcache of an installed vLLM CPU wheel, or None. vLLM itself is not imported."""
    spec = importlib.util.find_spec("vllm") if is_installed("vllm") else None
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations)))
    best_first = sorted(folder.glob("_C*.abi3.so"), key=lambda path: "AVX512" not in path.name)
    capability = torch.backends.cpu.get_cpu_capability()
    for library in best_first:
        if "AVX512" in library.name and "AVX512" not in capability:
            continue
        try:
            torch.ops.load_library(str(library))
        except OSError:
            continue
        namespace = getattr(torch.ops, library.name.split(".")[0])
        for operators in (namespace, torch.ops._C):
            if hasattr(operators, "mla_decode_kvcache"):
                return operators.mla_decode_kvcache
    return None


def _vllm_decode(operator: Any, torch: Any, q: Any, cache: Any, slots: Any, scale: float) -> Call:
    """vLLM's CPU kernel: pages of 16 slots."""
    pages = cache.view(-1, _VLLM_PAGE, cache.shape[-1])
    table = (slots[:, ::_VLLM_PAGE] // _VLLM_PAGE).int().contiguous()
    lens = torch.full((len(q),), slots.shape[1], dtype=torch.int32)
    out = torch.empty(len(q), q.shape[1], 512, dtype=q.dtype)

    def call() -> Any:
        operator(out, q, pages, scale, table, lens)
        return out

    return call
