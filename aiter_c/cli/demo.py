"""python -m aiter_c demo: the main job on real input. A ragged batch is decoded over a paged latent cache at the head
counts of DeepSeek-V3 (128) and Kimi (64, 96) under tensor parallelism, and every row is checked against fp64."""

import itertools
import sys
import time

import numpy as np

import aiter_c
from aiter_c import _C
from aiter_c.cli.report import (
    arithmetic_of,
    ceilings_text,
    measure_ceilings,
    print_table,
    progress,
    roofline_seconds,
    write_json,
)
from aiter_c.cli.timing import median_seconds
from aiter_c.testing import MlaCase, run_case
from aiter_c.testing.ops.mla_decode_perf import least_work

HEADS = (128, 64, 32, 16, 12, 8, 4)
KV_LENS = (1337, 512, 700, 64)  # ragged, and 1337 is no multiple of the page size
PAGE_SIZE = 16
SPLITS = {"1": 1, "4": 4, "auto": None}


def _cases():
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


def _run_case(label, case, ceilings):
    result = run_case(case)  # raises where a single element lies outside the tolerance
    arguments = result.inputs.arguments()
    seconds = median_seconds([lambda: aiter_c.mla_decode_fwd(**arguments)], min_seconds=0.05)
    plan = aiter_c.mla_plan(
        case.batch, case.heads, case.served_q_len, case.page_size, case.q_dtype, case.kv_dtype,
        num_kv_splits=case.splits, max_kv_len=max(case.kv_lens), return_lse=True,
    )  # fmt: skip
    early = result.returned[0] is result.outputs["o"]
    floor = roofline_seconds(ceilings, arithmetic_of(plan.stage1), *least_work(case))
    return {
        "shape": f"b {case.batch}  H {case.heads:<3}  q {case.served_q_len}  kv {case.kv_dtype}",
        "splits": label,
        "device": f"cpu ({_C.cpu_arch()})",
        "path": "stage 1" if early else "stage 1 + 2",
        "max |o - ref|": float(np.abs(result.outputs["o"].astype(np.float64) - result.expected["o"].values).max()),
        "max |lse - ref|": float(np.abs(result.outputs["lse"] - result.expected["lse"].values).max()),
        "ms": seconds * 1e3,
        "% of ceiling": 100 * floor / seconds,
    }


def _plot(path, rows):
    try:
        import matplotlib
    except ModuleNotFoundError:
        print("--plot needs matplotlib: pip install 'aiter_c[plot]'", file=sys.stderr)
        return 2
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 0.16 * len(rows) + 2), sharey=True)
    labels = [f"{row['shape']}  splits {row['splits']}" for row in rows]
    for axis, column in ((left, "ms"), (right, "% of ceiling")):
        axis.barh(labels, [row[column] for row in rows])
        axis.set_xlabel(column)
        axis.tick_params(labelsize=6)
        axis.margins(y=0.005)
    left.set_xscale("log")
    left.invert_yaxis()
    figure.suptitle(f"aiter_c {aiter_c.__version__}, {rows[0]['device']}")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    return 0


def run(arguments):
    """The command."""
    start = time.perf_counter()
    ceilings = measure_ceilings()
    print(ceilings_text(ceilings))
    rows = [_run_case(label, case, ceilings) for label, case in progress(list(_cases()), "demo")]
    columns = {
        "shape": "", "splits": "", "device": "", "path": "", "max |o - ref|": ".1e", "max |lse - ref|": ".1e",
        "ms": ".3f", "% of ceiling": ".0f",
    }  # fmt: skip
    print_table(columns, rows)
    print(
        f"{len(rows)} calls, every element of every row within tolerance of the fp64 reference, in "
        f"{time.perf_counter() - start:.0f} s"
    )
    if arguments.json:
        write_json(arguments.json, {"ceilings": ceilings, "demo": rows})
    return _plot(arguments.plot, rows) if arguments.plot else 0
