"""Index tensors that hold anything: what a call must give then, and many of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from aiter_c.testing import (
    LSE,
    OUTPUT,
    KvList,
    MlaCase,
    MlaInputs,
    Reference,
    build_inputs,
    check_close,
    mla_decode_reference,
)

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
_PAGES = ((1, 1), (4, 3), (64, 1), (1, 70))  # with splits
_KINDS = (
    ("bfloat16", "bfloat16", "plain", 64),
    ("float32", "float16", "plain", 0),
    ("float8_e4m3fn", "float8_e4m3fnuz", "plain", 64),
    ("float16", "float8_e4m3fn", "3buffer", 64),
    ("bfloat16", "float8_e4m3fn", "fp8_ds_mla", 64),
)
CASES = [  # of 15 and of 6 rows, in turns: they have kernels of their own
    MlaCase(
        heads=(5, 2)[(i + j) % 2], q_lens=(2, 1, 3), kv_lens=(9, 70, 0), page_size=p, splits=s, q_dtype=q, kv_dtype=k,
        kv_format=f, rope=r,
    )
    for i, (p, s) in enumerate(_PAGES)
    for j, (q, k, f, r) in enumerate(_KINDS)
]  # fmt: skip
INDICES = ("qo_indptr", "kv_indptr", "kv_indices", "kv_last_page_lens", "num_kv_splits_indptr")


def bounded(indptr: np.ndarray, most: int) -> list[range]:
    """Where each request's entries lie when the indptr is clamped to [0, most] and may not descend."""
    begins = np.clip(indptr[:-1], 0, most).tolist()
    return [range(b, max(b, min(int(stop), most))) for b, stop in zip(begins, indptr[1:].tolist(), strict=True)]


def expected(inputs: MlaInputs, changed: dict[str, np.ndarray], p_dtype: str = "float32") -> Reference | None:
    """The reference for tensors of arbitrary values: indptr clamped to what it points into, descending counts as
    empty. Request b's rows may overlap those of others; then there is no one answer (None)."""
    case, a = inputs.case, inputs.arguments() | changed
    kv_indptr = a["kv_indptr"][: case.batch + 1]
    rows = bounded(a["qo_indptr"], case.num_rows)
    owned = [r for one in rows for r in one]
    if len(owned) != len(set(owned)):
        return None
    lists = []
    for b, entries in enumerate(bounded(kv_indptr, len(a["kv_indices"]))):
        last = int(a["kv_last_page_lens"][b]) if case.page_size > 1 else 1
        lists.append(
            KvList.gather(a["kv_indices"][entries.start : entries.stop], last, case.page_size, len(inputs.pool))
        )
    splits = a.get("num_kv_splits_indptr")
    none = lambda b, n: (0, 0) if splits is not None and int(splits[b + 1]) - int(splits[b]) <= 0 else (0, n)  # noqa: E731
    return mla_decode_reference(
        inputs.q_values, inputs.read_rows, rows, lists,
        score_scale=case.softmax_scale, value_scale=1.0, causal=case.causal, max_seqlen_q=case.served_q_len, cut=none,
        p_dtype=p_dtype,
    )  # fmt: skip


def check(name: str, inputs: MlaInputs, o: np.ndarray, lse: np.ndarray, want: Reference | None) -> None:
    """Served rows are right, the others as they were."""
    if want is None:
        return
    finite = ~np.isnan(want.lse)
    check_close(f"{name}: lse", np.where(finite, lse, np.nan), want.lse, LSE, inputs.case.repro)
    rows = want.written & finite.all(axis=1)
    tolerance = OUTPUT if want.rounding.ndim == 0 else replace(OUTPUT, cosine=np.inf, row_cosine=np.inf)
    allowance = 0.0 if want.rounding.ndim == 0 else want.rounding[rows]
    check_close(f"{name}: o", o[rows], want.o[rows], tolerance, inputs.case.repro, allowance=allowance)
    assert np.isnan(o[~want.written].astype(np.float32)).all(), f"{name}: an unserved row was written"


@dataclass(frozen=True)
class Fuzzed:
    """A case, and the arguments that are not as it made them."""

    name: str
    number: int
    inputs: MlaInputs
    changed: dict[str, np.ndarray]


def fuzz(count: int, seed: int = 7) -> Iterator[Fuzzed]:
    """Index tensors of extremes: each alone, then all together."""
    rng = np.random.default_rng(seed)
    for n in range(count):
        case = CASES[n % len(CASES)]
        inputs = build_inputs(case)
        inputs.blocks["o"].fill_nan()
        present = [name for name in INDICES if name in inputs.blocks]
        arguments = inputs.arguments()
        changed: dict[str, np.ndarray] = {}
        if case.splits > 1 and n % 3 == 0:
            changed["num_kv_splits_indptr"] = np.arange(4, dtype=np.int32) * case.splits
            present.append("num_kv_splits_indptr")
        chosen = present if n % 4 == 0 else [present[n // 4 % len(present)]]
        for name in chosen:
            values = np.array(changed.get(name, arguments.get(name)))
            length, capacity = len(values), len(inputs.pool)
            near = [0, 1, 3, length, capacity - 1, capacity, capacity + 1]
            pool = [INT32_MIN, INT32_MIN + 1, -2, -1, *near, INT32_MAX]
            hit = rng.random(length) < 0.6
            values[hit] = rng.choice(pool, hit.sum())
            changed[name] = values
        yield Fuzzed(f"fuzz {n} of {chosen}", n, inputs, changed)
