"""python -m aiter_c bench torch_ops: nanoseconds that torch.ops.aiter_c adds to the functions, beside those of an op of
the same schema that does nothing. The calls have nothing to compute (no rows), and one thread: one more would only be
woken up. What an op adds is to be at most LIMIT times the other's."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import Any

import aiter_c
from aiter_c.cli.backend import torch_or_none
from aiter_c.cli.report import Table, write_json

LIMIT = 1.1


def _calls(torch: Any) -> dict[str, tuple[tuple[Any, ...], dict[str, Any]]]:
    """By the name of an op: arguments of a call of no rows."""
    i32 = lambda *values: torch.tensor(values, dtype=torch.int32)  # noqa: E731
    bf16 = lambda *shape: torch.zeros(shape, dtype=torch.bfloat16)  # noqa: E731
    table, indices = torch.zeros((1, 1), dtype=torch.int32), torch.zeros((1, 8), dtype=torch.int32)
    paged = (bf16(1, 16, 576), bf16(4, 1, 1, 576), bf16(1, 16, 512), i32(0), i32(0), i32(0, 1, 2, 3), i32(1), 1)
    info = aiter_c.get_mla_metadata_info_v1(1, 1, 16, torch.bfloat16, torch.bfloat16, False, num_workers=2)
    meta, indptr, work, *reduce = (torch.zeros(size, dtype=dtype) for size, dtype in info)
    lists = {"work_meta_data": meta, "work_indptr": indptr, "work_info_set": work}
    lists |= zip(("reduce_indptr", "reduce_final_map", "reduce_partial_map"), reduce, strict=True)
    fp8_q, cache = bf16(0, 1, 64, 128).to(torch.float8_e4m3fn), torch.zeros((4, 64, 1, 132), dtype=torch.uint8)
    lse = torch.zeros(16, 1)
    return {
        "mla_decode_fwd": (paged, {"sm_scale": 0.1, "num_kv_splits": 1, "return_lse": True}),
        "mla_decode_fwd by lists": (paged, {"sm_scale": 0.1, "return_lse": True} | lists),
        "get_mla_metadata_v1": (
            (i32(0), i32(0), i32(1), 16, 1, True, meta, work, indptr, *reduce),
            {"page_size": 1, "kv_granularity": 16, "max_seqlen_qo": 1, "uni_seqlen_qo": 1, "fast_mode": True},
        ),
        "mla_reduce_v1": ((torch.zeros(1, 16, 512), lse.view(1, 16), i32(0), None, i32(0), 1, 0, paged[2]), {}),
        "merge_attn_states": ((bf16(0, 16, 128), bf16(0, 16, 128), lse[:, :0], bf16(0, 16, 128), lse[:, :0]), {}),
        "deepgemm_fp8_paged_mqa_logits": (
            (fp8_q, cache, torch.zeros(0, 64), torch.zeros(0, 64), i32(1), table, 64),
            {"Preshuffle": True, "KVBlockSize": 64},
        ),
        "top_k_per_row_decode": ((torch.zeros(1, 64), 1, i32(0), indices, 0, 64, 1, 8), {}),
        "convert_index_ragged": ((i32(0), table, indices, i32(0, 0), i32(0)), {"BLOCK_SIZE": 1, "NUM_TOPK_TOKENS": 8}),
    }


def _idle(torch: Any, library: Any, name: str, number: int) -> Callable[..., Any]:
    """An op with the schema of `name` that does nothing: it returns fresh tensors where the schema says so."""
    idle = f"{name}_{number}"
    library.define(aiter_c.torch_ops.SCHEMAS[name].replace(f"{name}(", f"{idle}(", 1))
    returns = len(getattr(torch.ops.aiter_c, name).default._schema.returns)
    nothing: dict[int, Callable[..., Any]] = {
        0: lambda *args, **kwargs: None,
        1: lambda *args, **kwargs: args[0].new_empty((1, 16), dtype=torch.float32),
    }
    library.impl(idle, nothing[returns], "CPU")
    return getattr(torch.ops.aiter_c_idle, idle)


def _best_nanoseconds(calls: Sequence[Callable[[], object]], rounds: int = 40, count: int = 200) -> list[float]:
    """Of each call, all of them in turn, since other work may come and go."""
    best = [float("inf")] * len(calls)
    for _ in range(rounds):
        for number, call in enumerate(calls):
            start = time.perf_counter_ns()
            for _ in range(count):
                call()
            best[number] = min(best[number], (time.perf_counter_ns() - start) / count)
    return best


def run(arguments: Namespace) -> int:
    """Prints the table; 2 without torch, 1 where an op is over the limit (but not of a quick run)."""
    torch = torch_or_none()
    if torch is None:
        print("This bench needs torch.")
        return 2
    import aiter_c.torch_ops  # registers them
    from aiter_c._torch_table import GRAPH_OPS

    direct = {row.name: row.direct() for row in GRAPH_OPS}
    library = torch.library.Library("aiter_c_idle", "DEF")
    columns = {"op": "30s", "function ns": "8.0f", "op ns": "8.0f", "idle op ns": "8.0f", "x of idle": "6.2f"}
    table = Table(columns)
    threads = aiter_c.get_num_threads()
    aiter_c.set_num_threads(1)
    try:
        for number, (what, (args, kwargs)) in enumerate(_calls(torch).items()):
            name = what.partition(" ")[0]
            function, op, idle = direct[name], getattr(torch.ops.aiter_c, name), _idle(torch, library, name, number)
            timed = [
                lambda call=call, args=args, kwargs=kwargs: call(*args, **kwargs)  # type: ignore[misc]
                for call in (function, op, idle)
            ]
            times = _best_nanoseconds(timed, 3 if arguments.quick else 40)
            row = {"op": what, "function ns": times[0], "op ns": times[1], "idle op ns": times[2]}
            table.add(row | {"x of idle": (times[1] - times[0]) / times[2]})
    finally:
        aiter_c.set_num_threads(threads)
    if arguments.json:
        write_json(arguments.json, table.rows)
    over = [row["op"] for row in table.rows if row["x of idle"] > LIMIT]
    print(f"at most {LIMIT} x of idle: {'all' if not over else 'not ' + ', '.join(over)}")
    return int(bool(over) and not arguments.quick)
