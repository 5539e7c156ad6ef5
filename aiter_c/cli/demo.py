"""python -m aiter_c demo: the main job on real input. A ragged batch is decoded over a paged latent cache at the head
counts of DeepSeek-V3 (128) and Kimi (64, 96) under tensor parallelism, by work lists, and on several ranks of context
parallelism; a prompt is prefilled in chunks; layers of DeepSeek-V3.2 select keys and attend to them. Every row is
checked against fp64."""

from __future__ import annotations

import itertools
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

import numpy as np

import aiter_c
from aiter_c import _C
from aiter_c.cli import demo_lists, demo_prefill, demo_sparse
from aiter_c.cli.ceilings import MOVED, Ceilings, arithmetic_of, cpu_floor_seconds, hints, measure_cpu
from aiter_c.cli.plot import why_no_plot
from aiter_c.cli.report import Table, write_json
from aiter_c.cli.timing import median_seconds
from aiter_c.testing import MlaCase, run_case
from aiter_c.testing.ops.mla_decode_perf import least_work

HEADS = (128, 64, 32, 16, 12, 8, 4)
KV_LENS = (1337, 512, 700, 64)  # ragged, and 1337 is no multiple of the page size
PAGE_SIZE = 16
SPLITS = {"1": 1, "4": 4, "auto": None}


ROOFLINE = "% of ceiling"
_MEASURE_AGAIN = 5.0  # seconds; most rows take less than a measurement of the ceilings
_COLUMNS = {
    "shape": "34s", "splits": "6s", "device": "16s", "path": "11s", "max |o - ref|": "8.1e", "max |lse - ref|": "8.1e",
    "ms": "8.3f", ROOFLINE: "6.0f",
}  # fmt: skip


def _cases() -> Iterator[tuple[str, MlaCase]]:
    for heads, kv_dtype, q_len, (label, splits) in itertools.product(
        HEADS, ("bfloat16", "float8_e4m3fn"), (1, 4), SPLITS.items()
    ):
        case = MlaCase(
            heads=heads,
            q_lens=(q_len,) * len(KV_LENS),
            kv_lens=KV_LENS,
            page_size=PAGE_SIZE,
            kv_dtype=kv_dtype,
            kv_scale=0.5 if kv_dtype != "bfloat16" else None,
            splits=splits,
        )
        yield label, case


def _run_case(label: str, case: MlaCase, ceilings: Ceilings) -> dict[str, Any]:
    result = run_case(case)  # raises where a single element lies outside the tolerance
    arguments = result.inputs.arguments()
    call = lambda: aiter_c.mla_decode_fwd(**arguments)  # noqa: E731
    seconds, around = ceilings.around(lambda: median_seconds([call], min_seconds=0.05))
    plan = aiter_c.mla_plan(
        case.batch, case.heads, case.served_q_len, case.page_size, case.q_dtype, case.kv_dtype,
        num_kv_splits=case.splits, max_kv_len=max(case.kv_lens), return_lse=True,
    )  # fmt: skip
    early = result.returned[0] is result.outputs["o"]
    floor = cpu_floor_seconds(around.best, arithmetic_of(plan.stage1), *least_work(case))
    return {
        "shape": f"b {case.batch}  H {case.heads:<3}  q {case.served_q_len}  kv {case.kv_dtype}",
        "splits": label,
        "device": f"cpu ({_C.cpu_arch()})",
        "path": "stage 1" if early else "stage 1 + 2",
        "max |o - ref|": float(np.abs(result.outputs["o"].astype(np.float64) - result.expected["o"].values).max()),
        "max |lse - ref|": float(np.abs(result.outputs["lse"] - result.expected["lse"].values).max()),
        "ms": seconds * 1e3,
        ROOFLINE: 100 * floor / seconds,
        MOVED: around.moved,
    }


def _plot(path: str, rows: list[Any]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 0.16 * len(rows) + 2))
    left, right = figure.subplots(1, 2, sharey=True)
    labels = [f"{row['shape']}  splits {row['splits']}" for row in rows]
    for axis, column in ((left, "ms"), (right, ROOFLINE)):
        axis.barh(labels, [row[column] for row in rows])
        axis.set_xlabel(column)
        axis.tick_params(labelsize=6)
        axis.margins(y=0.005)
    left.set_xscale("log")
    left.invert_yaxis()
    figure.suptitle(f"aiter_c {aiter_c.__version__}, {rows[0]['device']}")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def _more_tables() -> dict[str, list[Any]]:
    """Printed, and by their names in the JSON."""
    print("\nBy work lists, beside the same calls without them:")
    lists = Table(demo_lists.LIST_COLUMNS)
    for case in demo_lists.list_cases():
        lists.add(demo_lists.list_row(case))
    print(f"\nContext parallelism, {demo_lists.INTERLEAVE} keys at a time, merged by merge_states:")
    ranks = Table(demo_lists.RANK_COLUMNS)
    for heads in demo_lists.RANK_HEADS:
        for row in demo_lists.rank_rows(heads):
            ranks.add(row)
    print("\nChunked prefill, the chunks of a context and the new tokens merged by merge_states:")
    prefill = Table(demo_prefill.COLUMNS)
    for row in demo_prefill.rows():
        prefill.add(row)
    print("\nSparse attention, whole layers from the indexer to the merge, the steps of one rank timed:")
    sparse = Table(demo_sparse.COLUMNS)
    for layer in demo_sparse.layers():
        sparse.add(demo_sparse.row(layer))
    print()
    tables = {"persistent": lists, "context_parallel": ranks, "chunked_prefill": prefill, "sparse_layer": sparse}
    return {name: list(table.rows) for name, table in tables.items()}


def run(arguments: Namespace) -> int:
    """Prints a row per call as it is done and checked; 2 when --plot cannot be served, which is known before."""
    if arguments.plot and (problem := why_no_plot(arguments.plot)):
        print(f"--plot: {problem}", file=sys.stderr)
        return 2
    start = time.perf_counter()
    ceilings = Ceilings(measure_cpu, _MEASURE_AGAIN)
    print(f"{_C.cpu_arch()}, {_C.get_num_threads()} threads; ceilings measured now: {ceilings.text()}", flush=True)
    table = Table(_COLUMNS)
    for label, case in _cases():
        table.add(_run_case(label, case, ceilings))
    more = _more_tables()
    print(
        f"{len(table.rows) + sum(map(len, more.values()))} rows, every element of every result within tolerance of the "
        f"fp64 reference, in {time.perf_counter() - start:.0f} s; ceilings meanwhile: {ceilings.text()}"
    )
    print("".join(f"{line}\n" for line in hints(table.rows, ROOFLINE)), end="")
    if arguments.json:
        write_json(arguments.json, {"ceilings": ceilings.spread(), "demo": table.rows} | more)
    if arguments.plot:
        _plot(arguments.plot, table.rows)
    return 0
