"""The last table of the demo: whole layers of DeepSeek-V3.2's sparse attention, step by step. Index keys and records
are in pages of 64; every row selects 2,048 keys. The selection, the slots, o and the LSE are checked against fp64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import aiter_c
from aiter_c.cli.timing import median_seconds
from aiter_c.testing.dsa_layer import Layer, LayerRun

HEADS = ((128, 1, 1), (64, 2, 1), (16, 1, 2), (8, 2, 1))  # with the query rows of a request, and ranks
LENS = (6000, 2500, 300)
TOP_K, INDEX_HEADS = 2048, 64
STEPS = ("write", "logits", "top-k", "slots", "plan", "decode", "merge")

COLUMNS = {
    "shape": "34s", "ranks": "5d", "keys": "5d", "selected": "8d", "max |o - ref|": "8.1e",
    **{f"{name} ms": "8.3f" for name in STEPS},
}  # fmt: skip


def layers() -> Iterator[Layer]:
    """Head counts under tensor parallelism."""
    for heads, q_len, ranks in HEADS:
        yield Layer(heads, q_len, LENS, TOP_K, INDEX_HEADS, ranks=ranks)


def _milliseconds(op: str, arguments: dict[str, Any]) -> float:
    return 1e3 * median_seconds([lambda: getattr(aiter_c, op)(**arguments)], min_seconds=0.05)


def row(layer: Layer) -> dict[str, Any]:
    """A layer, run and checked, then each of its steps timed."""
    run = LayerRun(layer)
    run.run()
    error = run.check()
    times: dict[str, float | None] = dict.fromkeys(f"{name} ms" for name in STEPS)
    for name, op, arguments in [*run.writes(new_only=True), *run.steps(), run.decode()]:
        times[f"{name} ms"] = (times[f"{name} ms"] or 0) + _milliseconds(op, arguments)
    if layer.ranks > 1:
        states = {"o": [o for o, _ in run.states], "lse": [lse for _, lse in run.states]}
        times["merge ms"] = _milliseconds("merge_states", states)
    return {
        "shape": f"b {len(layer.lens)}  H {layer.heads:<3}  q {layer.q_len}  kv {layer.kv_format}",
        "ranks": layer.ranks,
        "keys": sum(map(layer.seen, range(layer.rows))),
        "selected": int((run.a["slots"] >= 0).sum()),
        "max |o - ref|": error,
        **times,
    }
