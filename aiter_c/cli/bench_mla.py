"""python -m aiter_c bench mla_decode: time against the machine's roofline and against the peers, in one run.

Floor of a call = max(bytes / memory read, FLOP / arithmetic), see aiter_c.testing.ops.mla_decode_perf. The ceilings are
measured first, on the same threads; "% of roofline" is against the arithmetic that the kernel uses, "% of bf16" against
bf16 dots, which Intel's processors do at half the rate of fp32 multiply-adds. Every shape runs over several pools in
turn that together exceed the caches, in shuffled pages of 16 tokens.
"""

import sys

import ml_dtypes
import numpy as np

import aiter_c
from aiter_c.cli import peers
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
from aiter_c.testing.ops.mla_decode_perf import GROWTH, OTHERS, TARGETS, least_work

_PAGE = 16
_POOL_BYTES = 640 << 20  # of all pools of a shape together
_MAX_POOLS = 48


def _random_bits(rng, count, dtype):
    """`count` values of unit variance, cheap: a random block repeated; memory is distinct, which is what matters."""
    block = rng.standard_normal(1 << 20, np.float32).astype(dtype)
    return np.resize(block, count)


class Problem:
    """The arguments of one call of a case with equal KV lengths, over `pools` caches of distinct memory."""

    def __init__(self, case, pools):
        b, h, n = case.batch, case.heads, case.kv_lens[0]
        rng = np.random.default_rng(n + h)
        dtype = np.dtype(getattr(ml_dtypes, case.kv_dtype))
        tokens = b * n
        self.case = case
        self.pools = [_random_bits(rng, tokens * 576, dtype).reshape(tokens, 1, 1, 576) for _ in range(pools)]
        pages = rng.permutation(tokens // _PAGE).astype(np.int32)
        self.slots = (pages[:, None] * _PAGE + np.arange(_PAGE, dtype=np.int32)).reshape(b, n)
        self.q = rng.standard_normal((b, h, 576), np.float32).astype(ml_dtypes.bfloat16)
        self.o = np.empty((b, h, 512), ml_dtypes.bfloat16)
        self.arguments = (
            np.arange(b + 1, dtype=np.int32),
            np.arange(b + 1, dtype=np.int32) * n,
            self.slots.reshape(-1),
            np.ones(b, np.int32),
            1,
        )

    def calls(self):
        """One closure per pool."""
        return [lambda pool=pool: aiter_c.mla_decode_fwd(self.q, pool, self.o, *self.arguments) for pool in self.pools]

    def plan(self):
        """The plan that these calls get."""
        case = self.case
        return aiter_c.mla_plan(case.batch, case.heads, 1, 1, "bfloat16", case.kv_dtype, max_kv_len=case.kv_lens[0])


def _measure(case, ceilings):
    num_bytes, flop = least_work(case)
    problem = Problem(case, int(min(_MAX_POOLS, max(2, _POOL_BYTES // num_bytes))))
    plan = problem.plan()
    seconds = median_seconds(problem.calls())
    floor = roofline_seconds(ceilings, arithmetic_of(plan.stage1), num_bytes, flop)
    row = {
        "batch": case.batch,
        "heads": case.heads,
        "length": case.kv_lens[0],
        "kv_dtype": case.kv_dtype,
        "kernel": plan.stage1,
        "splits": plan.num_kv_splits,
        "path": "stage 1" if plan.writes_output else "stage 1 + 2",
        "ms": seconds * 1e3,
        "GB/s": num_bytes / seconds / 1e9,
        "GFLOP/s": flop / seconds / 1e9,
        "% of roofline": 100 * floor / seconds,
    }
    if ceilings["bf16_flop_per_s"]:
        row["% of bf16"] = 100 * roofline_seconds(ceilings, "bf16_flop_per_s", num_bytes, flop) / seconds
    return row, problem, seconds


def _time_peers(torch, vllm, problem, seconds):
    """Milliseconds of each peer on the first pools of the same problem, and the ratio to ours."""
    as_torch = lambda array: torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)  # noqa: E731
    q, slots = as_torch(problem.q), torch.from_numpy(problem.slots).long()
    caches = [as_torch(pool).view(-1, 576) for pool in problem.pools[:4]]
    scale, out = 576**-0.5, {}
    forms = {"eager": peers.torch_eager, "sdpa": peers.torch_sdpa}
    for name, form in forms.items():
        calls = [form(torch, q, cache, slots, scale) for cache in caches]
        out[f"torch {name} ms"] = median_seconds(calls, min_seconds=0.2, min_calls=3) * 1e3
        out[f"x torch {name}"] = out[f"torch {name} ms"] / (seconds * 1e3)
    if vllm is not None:
        calls = [peers.vllm_decode(torch, vllm, q, cache, slots, scale) for cache in caches]
        out["vllm ms"] = median_seconds(calls, min_seconds=0.2, min_calls=3) * 1e3
        out["x vllm"] = out["vllm ms"] / (seconds * 1e3)
    return out


_COLUMNS = {
    "batch": "d", "heads": "d", "length": "d", "kv_dtype": "", "kernel": "", "splits": "d", "path": "", "ms": ".3f",
    "GB/s": ".1f", "GFLOP/s": ".0f", "% of roofline": ".0f",
}  # fmt: skip
_OPTIONAL_COLUMNS = {
    "% of bf16": ".0f",
    "torch eager ms": ".1f", "x torch eager": ".1f", "torch sdpa ms": ".1f", "x torch sdpa": ".1f", "vllm ms": ".1f",
    "x vllm": ".1f",
}  # fmt: skip


def run(arguments):
    """The command."""
    if arguments.threads:
        aiter_c.set_num_threads(arguments.threads)
    torch = None if arguments.quick else peers.torch_or_none()
    vllm = peers.vllm_operator(torch) if torch else None
    if torch:
        torch.set_num_threads(aiter_c.get_num_threads())
    ceilings = measure_ceilings()
    print(ceilings_text(ceilings), file=sys.stderr)
    rows = []
    for case in progress(TARGETS if arguments.quick else TARGETS + OTHERS, "mla_decode"):
        row, problem, seconds = _measure(case, ceilings)
        if torch and case.kv_dtype == "bfloat16":
            row |= _time_peers(torch, vllm, problem, seconds)
        rows.append(row)
    known = {name: spec for name, spec in _OPTIONAL_COLUMNS.items() if any(name in row for row in rows)}
    print_table(_COLUMNS | known, rows)

    growth = []
    if not arguments.quick:
        for case in progress(GROWTH, "growth"):
            row, _, seconds = _measure(case, ceilings)
            per_request = seconds / case.batch
            row["x of batch 1"] = growth[0]["seconds per request"] / per_request if growth else 1.0
            growth.append(row | {"seconds per request": per_request})
        print("\nThroughput as the batch grows, against batch times the speed of one request:")
        print_table(
            {"batch": "d", "heads": "d", "length": "d", "splits": "d", "ms": ".3f", "x of batch 1": ".2f"}, growth
        )
    if arguments.json:
        write_json(arguments.json, {"ceilings": ceilings, "mla_decode": rows, "growth": growth})
    return 0
