"""Run by test_guard_pages.py: every pointer of the op flush with a page that no one may touch, at both ends.

A read or a write one byte too far ends this process. Prints one line per cell of the matrix and a last line "ok N".
"""

from __future__ import annotations

import faulthandler
import sys

import numpy as np

import aiter_c
import aiter_c.mla
from aiter_c.testing import LSE, OUTPUT, GuardedArray, KvList, MlaCase, build_inputs, check_close, mla_decode_reference
from aiter_c.testing.inputs import MlaInputs

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
CASES = [
    MlaCase(
        heads=5, q_lens=(2, 1, 3), kv_lens=(9, 70, 0), page_size=p, splits=s, q_dtype=q, kv_dtype=k, kv_format=f, rope=r
    )
    for p, s in ((1, 1), (4, 3), (64, 1), (1, 70))
    for q, k, f, r in (
        ("bfloat16", "bfloat16", "plain", 64),
        ("float32", "float16", "plain", 0),
        ("float8_e4m3fn", "float8_e4m3fnuz", "plain", 64),
        ("float16", "float8_e4m3fn", "3buffer", 64),
        ("bfloat16", "float8_e4m3fn", "fp8_ds_mla", 64),
    )
]
OUTPUTS = ("o",)
INDICES = ("qo_indptr", "kv_indptr", "kv_indices", "kv_last_page_lens", "num_kv_splits_indptr")


class Guarded:
    """The arguments of a case with every tensor between guard pages; so are the LSE and the scratch."""

    def __init__(self, inputs: MlaInputs, *, end: bool, changed: dict[str, np.ndarray] | None = None) -> None:
        self.kept: list[GuardedArray] = []
        self.end = end
        arguments = inputs.arguments() | (changed or {})
        self.arguments = {
            name: self._place(value, name not in OUTPUTS) if isinstance(value, np.ndarray) else value
            for name, value in arguments.items()
        }

    def _place(self, value: np.ndarray, read_only: bool) -> np.ndarray:
        self.kept.append(GuardedArray(value, end=self.end, read_only=read_only))
        return self.kept[-1].array

    def _scratch(self, like: object, shape: tuple[int, ...]) -> np.ndarray:
        return self._place(np.full(shape, np.nan, np.float32), False)

    def call(self) -> tuple[np.ndarray, np.ndarray]:
        original, aiter_c.mla.empty_float32 = aiter_c.mla.empty_float32, self._scratch
        try:
            _, lse = aiter_c.mla_decode_fwd(**self.arguments)
        finally:
            aiter_c.mla.empty_float32 = original
        return self.arguments["o"], lse


def bounded(indptr: np.ndarray, most: int) -> list[range]:
    """Where each request's entries lie when the indptr is clamped to [0, most] and may not descend."""
    begins = np.clip(indptr[:-1], 0, most).tolist()
    return [range(b, max(b, min(int(stop), most))) for b, stop in zip(begins, indptr[1:].tolist(), strict=True)]


def expected(inputs: MlaInputs, changed: dict[str, np.ndarray]) -> object:
    """The reference for tensors of arbitrary values: indptr clamped to what it points into, descending counts as
    empty (SPEC 14.7). Request b's rows may overlap those of others; then there is no one answer (None)."""
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
    )  # fmt: skip


def check(name: str, inputs: MlaInputs, o: np.ndarray, lse: np.ndarray, want: object) -> None:
    """Served rows are right, the others as they were."""
    if want is None:
        return
    finite = ~np.isnan(want.lse)
    check_close(f"{name}: lse", np.where(finite, lse, np.nan), want.lse, LSE, inputs.case.repro)
    rows = want.written & finite.all(axis=1)
    check_close(f"{name}: o", o[rows], want.o[rows], OUTPUT, inputs.case.repro)
    assert np.isnan(o[~want.written].astype(np.float32)).all(), f"{name}: an unserved row was written"


def matrix() -> int:
    cells = 0
    for case in CASES:
        for end in (False, True):
            inputs = build_inputs(case)
            inputs.blocks["o"].fill_nan()
            o, lse = Guarded(inputs, end=end).call()
            check("valid", inputs, o, lse, inputs.reference())
            for argument in inputs.arguments():
                print(f"{case.id}: {argument} at the {'end' if end else 'start'} of a page: ok")
                cells += 1
    return cells


def fuzz(count: int) -> int:
    """Index tensors of extremes: each alone, then all together."""
    rng = np.random.default_rng(7)
    for n in range(count):
        case = CASES[n % len(CASES)]
        inputs = build_inputs(case)
        inputs.blocks["o"].fill_nan()
        present = [name for name in INDICES if name in inputs.blocks]
        arguments = inputs.arguments()
        if case.splits > 1 and n % 3 == 0:
            arguments["num_kv_splits_indptr"] = np.arange(4, dtype=np.int32) * case.splits
            present.append("num_kv_splits_indptr")
        chosen = present if n % 4 == 0 else [present[n // 4 % len(present)]]
        changed = (
            {"num_kv_splits_indptr": arguments["num_kv_splits_indptr"]} if "num_kv_splits_indptr" in arguments else {}
        )
        for name in chosen:
            values = np.asarray(arguments[name]).copy()
            capacity = len(inputs.pool)
            pool = [
                INT32_MIN,
                INT32_MIN + 1,
                -2,
                -1,
                0,
                1,
                3,
                len(values),
                capacity - 1,
                capacity,
                capacity + 1,
                INT32_MAX,
            ]
            hit = rng.random(len(values)) < 0.6
            values[hit] = rng.choice(pool, hit.sum())
            changed[name] = values
        o, lse = Guarded(inputs, end=bool(n % 2), changed=changed).call()
        check(f"fuzz {n} of {chosen}", inputs, o, lse, expected(inputs, changed))
    return count


if __name__ == "__main__":
    faulthandler.enable()
    threads, fuzzed = int(sys.argv[1]), int(sys.argv[2])
    aiter_c.set_num_threads(threads)
    print("ok", matrix() + fuzz(fuzzed))
