"""The rule by which a KV list is cut (csrc/core/mla_params.h, ac_splits_t), written again; what partials hold."""

from __future__ import annotations

import numpy as np

from aiter_c.testing import LSE, OUTPUT_FP8_P, PARTIAL, MlaCase, Outcome, check_close
from aiter_c.testing.ops.mla_decode import DTYPES_FP8, p_dtype_of


def runs_of(case: MlaCase, request: int, length: int, num_splits: int) -> list[tuple[int, int]]:
    """[begin, end) of every split of a request's list; runs of max(min_rows, round_up(ceil(L / n), granule)) rows."""
    if isinstance(case.splits, tuple):
        count = min(max(case.splits[request], 0), num_splits)
        least, granule = 0, 16
    elif case.splits in (None, -1) and case.deterministic:
        count, least, granule = 16, 512, 64
    else:
        count, least, granule = num_splits, 0, 16
    if count == 0:
        return [(0, 0)] * num_splits
    run = max(least, -(-max(1, -(-length // count)) // granule) * granule)
    return [(min(s * run, length), min((s + 1) * run, length)) for s in range(num_splits)]


def check_partials(outcome: Outcome) -> None:
    """logits [T, S, H, 512] and attn_lse [T, S, H, 1] against the reference of every run; rows of requests only."""
    case, inputs = outcome.case, outcome.inputs
    logits, attn_lse = outcome.scratch.get("logits"), outcome.scratch.get("attn_lse")
    if logits is None:
        return
    assert outcome.returned[0] is logits
    p_dtype = p_dtype_of(case, outcome.device)
    num_splits = logits.shape[1]
    for s in range(num_splits):
        run = inputs.reference(p_dtype=p_dtype, cut=lambda b, length, s=s: runs_of(case, b, length, num_splits)[s])
        rows = run.written
        got, allowance = attn_lse[rows, s, :, 0], run.lse_rounding[rows]
        check_close(f"attn_lse of split {s}", got, run.lse[rows], LSE, case.repro, allowance=allowance)
        holds = rows[:, None] & ~np.isneginf(run.lse)
        spread = run.rounding[holds] if p_dtype != "float32" else 0.0
        tolerance = OUTPUT_FP8_P if p_dtype in DTYPES_FP8 else PARTIAL
        check_close(f"logits of split {s}", logits[:, s][holds], run.o[holds], tolerance, case.repro, allowance=spread)
