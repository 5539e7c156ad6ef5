"""One more table of the demo: chunked prefill. New tokens attend over a cached context, chunk by chunk without a mask,
and over themselves, causal; merge_states makes one pass of it. Every row is checked against fp64."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

import aiter_c
from aiter_c.cli.timing import median_seconds
from aiter_c.testing import LSE, Outcome, run_case
from aiter_c.testing.compare import check_output
from aiter_c.testing.ops.mla_prefill import LISTS, PrefillCase

NEW, CONTEXT = (200, 31, 64), (1000, 0, 300)  # tokens of three requests; the second has no context
CHUNKS = (128, 512, 1024)
WORKERS = 4

COLUMNS = {
    "shape": "34s", "chunk": "5d", "passes": "6d", "work": "5s", "max |o - ref|": "8.1e", "max |o - one pass|": "8.1e",
    "max |lse - one pass|": "8.1e", "one pass ms": "8.3f", "chunks ms": "8.3f", "merge ms": "8.3f",
}  # fmt: skip


def rows() -> Iterator[dict[str, Any]]:
    """Both widths, without lists and by lists."""
    for dims, dtype in (("192/128", "bfloat16"), ("256/256", "bfloat16"), ("192/128", "float8_e4m3fn")):
        lens = tuple(n + c for n, c in zip(NEW, CONTEXT, strict=True))
        one = run_case(PrefillCase(heads=4, q_lens=NEW, kv_lens=lens, dims=dims, dtype=dtype))
        for chunk in CHUNKS:
            yield _row(one, chunk, lists=chunk == CHUNKS[1])


def _calls(one: Outcome, chunk: int, *, lists: bool) -> list[dict[str, Any]]:
    """Arguments of the passes: the chunks of the context, then the new tokens."""
    a, starts = one.inputs.arguments(), one.inputs.array("kv_indptr")[:-1]
    calls = []
    for begin in [*range(0, max(CONTEXT), chunk), None]:
        spans = [
            (start + c, start + c + n) if begin is None else (start + min(begin, c), start + min(begin + chunk, c))
            for start, n, c in zip(starts, NEW, CONTEXT, strict=True)
        ]
        lens = [last - first for first, last in spans]
        call = a | dict.fromkeys(LISTS) | {"is_causal": begin is None, "output": np.zeros_like(a["output"])}
        call["kv_indptr"] = np.cumsum([0, *lens]).astype(np.int32)
        call["kv_page_indices"] = np.concatenate([a["kv_page_indices"][first:last] for first, last in spans])
        calls.append(call | (_lists_of(call, lens, one.case.heads) if lists else {}))
    return calls


def _lists_of(call: dict[str, Any], lens: list[int], heads: int) -> dict[str, np.ndarray]:
    sizes = aiter_c.get_ps_metadata_info_v1(len(NEW), heads, max(NEW), num_workers=WORKERS)
    lists = {name: np.zeros(size, np.int32) for name, (size, _) in zip(LISTS, sizes[1:], strict=True)}
    aiter_c.get_ps_metadata_v1(
        call["qo_indptr"], call["kv_indptr"], np.array(lens, np.int32), 1, heads, None, *lists.values(), 1, 256, 64, 1,
        call["is_causal"],
    )  # fmt: skip
    return lists


def _milliseconds(op: Any, arguments: dict[str, Any]) -> float:
    return 1e3 * median_seconds([lambda: op(**arguments)], min_seconds=0.05)


def _largest(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference; equal infinities have none."""
    return float(np.abs(np.subtract(a, b, where=a != b, out=np.zeros(a.shape), dtype=np.float64)).max())


def _row(one: Outcome, chunk: int, *, lists: bool) -> dict[str, Any]:
    calls, case = _calls(one, chunk, lists=lists), one.case
    states = {"lse": [aiter_c.mla_prefill_ps_fwd(**call)[1] for call in calls]}
    states["o"] = [call["output"] for call in calls]
    o, lse = aiter_c.merge_states(**states)
    # A pass's output is rounded to bfloat16 before it is merged: half a unit of its largest element on top.
    rounding = 2.0**-8 * np.max([np.abs(state.astype(np.float64)) for state in states["o"]], 0)
    expected = one.expected["output"]
    check_output("output", o, replace(expected, allowance=expected.allowance + rounding), case.repro)
    check_output("lse", lse, replace(one.expected["lse"], tolerance=LSE), case.repro)
    return {
        "shape": f"b {len(NEW)}  H {case.heads}  {case.dims}  {case.dtype}",
        "chunk": chunk,
        "passes": len(calls),
        "work": "lists" if lists else "grid",
        "max |o - ref|": _largest(o.astype(np.float64), expected.values),
        "max |o - one pass|": _largest(o, one.outputs["output"]),
        "max |lse - one pass|": _largest(lse, one.outputs["lse"]),
        "one pass ms": _milliseconds(aiter_c.mla_prefill_ps_fwd, one.inputs.arguments()),
        "chunks ms": sum(_milliseconds(aiter_c.mla_prefill_ps_fwd, call) for call in calls),
        "merge ms": _milliseconds(aiter_c.merge_states, states),
    }
