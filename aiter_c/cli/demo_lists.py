"""Two more tables of the demo: decode by work lists beside the same call without them, and the keys of a batch dealt to
ranks of context parallelism, whose results are merged. Every row is checked against fp64."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

import aiter_c
from aiter_c.cli.timing import median_seconds
from aiter_c.testing import LSE, MlaCase, Outcome, run_case
from aiter_c.testing.compare import check_output

LISTED_HEADS = ((128, 1), (16, 1), (16, 4), (4, 1))  # with the query rows of a request
LISTED_LENS = (4096, 64, 700, 1337, 8, 0)  # one long among short, and a padded request without keys
RANK_HEADS = (128, 16, 4)
RANK_LENS = (2000, 700, 3)  # the last has fewer keys than there are ranks
RANKS = (1, 2, 4, 8)
INTERLEAVE = 16
MIN_WORKERS = 4  # so that lists are cut on a machine of one thread as well

LIST_COLUMNS = {
    "shape": "34s", "workers": "7d", "items": "5d", "partials": "8d", "max |o - ref|": "8.1e",
    "max |lists - grid|": "8.1e", "grid ms": "8.3f", "lists ms": "8.3f", "plan ms": "8.4f",
}  # fmt: skip
RANK_COLUMNS = {
    "shape": "34s", "ranks": "5d", "keys per rank": "24s", "max |o - ref|": "8.1e", "max |o - one device|": "8.1e",
    "max |lse - one device|": "8.1e", "slowest rank ms": "8.3f", "merge ms": "8.3f",
}  # fmt: skip


def _shape(case: MlaCase) -> str:
    return f"b {case.batch}  H {case.heads:<3}  q {case.served_q_len}  kv {case.kv_dtype}"


def _milliseconds(op: Any, arguments: dict[str, Any]) -> float:
    return 1e3 * median_seconds([lambda: op(**arguments)], min_seconds=0.05)


def _largest(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference; equal infinities have none."""
    return float(np.abs(np.subtract(a, b, where=a != b, out=np.zeros(a.shape), dtype=np.float64)).max())


def list_cases() -> Iterator[MlaCase]:
    """Calls by lists, with as many workers as a plan has by default."""
    for heads, q_len in LISTED_HEADS:
        for kv_dtype in ("bfloat16", "float8_e4m3fn"):
            most = aiter_c.get_mla_decode_fwd_max_splits(heads, q_len, "bfloat16", kv_dtype, device="cpu")
            yield MlaCase(
                heads=heads,
                q_lens=(q_len,) * len(LISTED_LENS),
                kv_lens=LISTED_LENS,
                page_size=16,
                kv_dtype=kv_dtype,
                kv_scale=0.5 if kv_dtype != "bfloat16" else None,
                splits=None,
                workers=max(most, MIN_WORKERS),
                split_cap=-1,
                granule=1,
            )


def list_row(case: MlaCase) -> dict[str, Any]:
    """The call with lists and without, checked and timed, and what the plan of the lists takes."""
    by_lists, by_grid = run_case(case), run_case(replace(case, workers=0))
    arguments = by_lists.inputs.arguments()
    heads, q_len = case.heads, case.served_q_len
    planned = {
        "seqlens_qo_indptr": arguments["qo_indptr"], "seqlens_kv_indptr": arguments["kv_indptr"],
        "kv_last_page_lens": arguments["kv_last_page_lens"], "num_heads_per_head_k": heads, "num_heads_k": 1,
        "is_causal": True, "page_size": case.page_size, "kv_granularity": case.granule, "max_seqlen_qo": q_len,
        "work_metadata_ptrs": arguments["work_meta_data"].copy(),
    }  # fmt: skip
    for name in ("work_info_set", "work_indptr", "reduce_indptr", "reduce_final_map", "reduce_partial_map"):
        planned[name] = arguments[name].copy()
    return {
        "shape": _shape(case),
        "workers": case.workers,
        "items": int(arguments["work_indptr"][-1]),
        "partials": int(arguments["reduce_indptr"][-1]),
        "max |o - ref|": _largest(by_lists.outputs["o"].astype(np.float64), by_lists.expected["o"].values),
        "max |lists - grid|": _largest(by_lists.outputs["o"], by_grid.outputs["o"]),
        "grid ms": _milliseconds(aiter_c.mla_decode_fwd, by_grid.inputs.arguments()),
        "lists ms": _milliseconds(aiter_c.mla_decode_fwd, arguments),
        "plan ms": _milliseconds(aiter_c.get_mla_metadata_v1, planned),
    }


def rank_rows(heads: int) -> Iterator[dict[str, Any]]:
    """One batch on one device, then its keys on 1, 2, 4 and 8 ranks."""
    one = run_case(MlaCase(heads=heads, q_lens=(2,) * len(RANK_LENS), kv_lens=RANK_LENS, splits=None))
    for ranks in RANKS:
        yield _rank_row(one, ranks)


def _rank_arguments(one: Outcome, ranks: int, rank: int) -> tuple[dict[str, Any], int]:
    """The call of one rank, whose cache holds its keys alone as far as the call can see; how many keys that are."""
    arguments = one.inputs.arguments()
    kv_indptr, held, indices = arguments["kv_indptr"], [], []
    for first, length in zip(kv_indptr.tolist(), one.case.kv_lens, strict=False):
        held.append(aiter_c.cp_local_len(length, ranks, rank, INTERLEAVE))
        places = aiter_c.cp_local_to_global(np.arange(held[-1]), ranks, rank, INTERLEAVE)
        indices.append(arguments["kv_indices"][first + places])
    own = {
        "o": np.zeros_like(arguments["o"]), "kv_indptr": np.cumsum([0, *held]).astype(np.int32),
        "kv_indices": np.concatenate(indices), "g_kv_indptr": kv_indptr, "cp_world_size": ranks, "cp_rank": rank,
        "cp_interleave": INTERLEAVE,
    }  # fmt: skip
    return arguments | own, sum(held)


def _rank_row(one: Outcome, ranks: int) -> dict[str, Any]:
    calls, keys = zip(*(_rank_arguments(one, ranks, rank) for rank in range(ranks)), strict=True)
    states = {"lse": [aiter_c.mla_decode_fwd(**arguments)[1] for arguments in calls]}
    states["o"] = [arguments["o"] for arguments in calls]
    o, lse = aiter_c.merge_states(**states)
    # A rank's o is rounded to bfloat16 before it is merged: half a unit of its largest element on top, as weights add
    # up to 1.
    rounding = 2.0**-8 * np.max([np.abs(state.astype(np.float64)) for state in states["o"]], 0)
    expected = one.expected["o"]
    check_output("o", o, replace(expected, allowance=expected.allowance + rounding), one.case.repro)
    check_output("lse", lse, replace(one.expected["lse"], tolerance=LSE), one.case.repro)
    return {
        "shape": _shape(one.case),
        "ranks": ranks,
        "keys per rank": f"{min(keys)} to {max(keys)} of {sum(keys)}",
        "max |o - ref|": _largest(o.astype(np.float64), expected.values),
        "max |o - one device|": _largest(o, one.outputs["o"]),
        "max |lse - one device|": _largest(lse, one.outputs["lse"]),
        "slowest rank ms": max(_milliseconds(aiter_c.mla_decode_fwd, arguments) for arguments in calls),
        "merge ms": _milliseconds(aiter_c.merge_states, states),
    }
