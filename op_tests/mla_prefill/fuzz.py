"""Lists and index tensors that hold anything: what a call must give then, by a model of the contract's words, and many
of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from aiter_c.testing import LSE, OUTPUT, check_close
from aiter_c.testing.memory import nan_bytes
from aiter_c.testing.ops.mla_prefill import DIMS, PrefillCase, PrefillInputs

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
CASES = [
    PrefillCase(q_lens=(20, 3), kv_lens=(60, 40), workers=3, unit=16, dtype="float16", order="shuffled"),
    PrefillCase(heads=4, kv_heads=2, q_lens=(5, 9), kv_lens=(30, 9), workers=2, unit=16, dtype="float16", dims=DIMS[1]),
    PrefillCase(q_lens=(20, 3), kv_lens=(60, 40), dtype="float16", order="shuffled"),
    PrefillCase(q_lens=(20, 7), kv_lens=(60, 40), workers=4, unit=16, dtype="float16", causal=False, need_lse=False),
]
INDICES = ("qo_indptr", "kv_indptr", "kv_page_indices")
LISTS = ("work_indptr", "work_info_set", "reduce_indptr", "reduce_final_map", "reduce_partial_map")


@dataclass(frozen=True)
class Fuzzed:
    """A case, and its arguments as they are."""

    name: str
    number: int
    inputs: PrefillInputs
    arguments: dict[str, object]


def fuzz(count: int, seed: int = 7, of: int | None = None) -> Iterator[Fuzzed]:
    """Index tensors of extremes: each alone, then all together. of: one of CASES alone."""
    rng = np.random.default_rng(seed)
    for n in range(count):
        inputs = CASES[n % len(CASES) if of is None else of].inputs()
        inputs.freeze()
        arguments = inputs.arguments()
        present = [name for name in (*INDICES, *LISTS) if arguments.get(name) is not None]
        chosen = present if n % 3 == 0 else [present[n // 3 % len(present)]]
        for name in chosen:
            values = arguments[name].copy()
            pool = [INT32_MIN, -1, 0, 1, 2, 3, 16, 25, 60, 100, 256, 0x10000, 0x20001, INT32_MAX]
            hit = rng.random(values.shape) < rng.choice((0.1, 0.5))
            values[hit] = rng.choice(pool, hit.sum())
            arguments[name] = values
        yield Fuzzed(f"fuzz {n} of {chosen}, seed {seed}", n, inputs, arguments)


def _clamped(indptr: np.ndarray, b: int, most: int) -> tuple[int, int]:
    begin = min(max(int(indptr[b]), 0), most)
    return begin, min(max(int(indptr[b + 1]), begin), most)


class Model:
    """What stage 1 and the merge write, row by row and head by head; None: not defined, or several write it."""

    def __init__(self, one: Fuzzed) -> None:
        self.case, self.inputs, self.a = one.inputs.case, one.inputs, one.arguments
        case = self.case
        self.final: dict[tuple[int, int], object] = {}
        self.partials: dict[tuple[int, int], object] = {}
        self.rows = 0
        if case.workers:
            entries = len(self.a["reduce_partial_map"])
            cluster = case.workers // int(np.gcd(case.num_kv_heads, case.workers))
            self.rows = 256 * min(entries, -(-case.num_rows // 256) + len(case.q_lens) + cluster - 1)
            self._do_items()
            self._merge()
        else:
            for b in range(len(case.q_lens)):
                begin, end = _clamped(self.a["qo_indptr"], b, case.num_rows)
                count = len(self.a["kv_page_indices"])
                keys = _clamped(self.a["kv_indptr"], b, count)
                for row in range(begin, min(end, begin + case.served_q_len)):
                    for head in range(case.heads):
                        self._put(self.final, (row, head), self._attend(b, row, head, *keys))

    @staticmethod
    def _put(where: dict, key: tuple[int, int], value: object) -> None:
        where[key] = None if key in where else value

    def _attend(self, b: int, row: int, head: int, begin: int, end: int) -> tuple[np.ndarray, float]:
        """Over the entries [begin, end) of the request's list that the row sees."""
        case = self.case
        q_begin, q_end = _clamped(self.a["qo_indptr"], b, case.num_rows)
        first, last = _clamped(self.a["kv_indptr"], b, len(self.a["kv_page_indices"]))
        if case.causal:
            seen = first + (last - first) - (q_end - q_begin) + (row - q_begin) + 1
            end = max(min(end, seen), begin)
        slots = self.a["kv_page_indices"][begin:end].astype(np.int64)
        slots = slots[(slots >= 0) & (slots < len(self.inputs.k))]
        kv_head = head // (case.heads // case.num_kv_heads)
        if len(slots) == 0:
            return np.zeros(case.value_dim), -np.inf
        with np.errstate(invalid="ignore"):
            scores = case.sm_scale * (self.inputs.k[slots, kv_head] @ self.inputs.q[row, head])
            top = scores.max()
            weights = np.exp(scores - top)
            return weights @ self.inputs.v[slots, kv_head] / weights.sum(), float(top + np.log(weights.sum()))

    def _do_items(self) -> None:
        case, a = self.case, self.a
        items, indptr = a["work_info_set"], a["work_indptr"]
        for worker in range(case.workers):
            for at in range(*_clamped(indptr, worker, len(items))):
                request, partial, q_begin, q_end, kv_begin, kv_end, _, heads = (int(x) for x in items[at])
                if not 0 <= request < len(case.q_lens):
                    continue
                first_row, last_row = _clamped(a["qo_indptr"], request, case.num_rows)
                first, last = _clamped(a["kv_indptr"], request, len(a["kv_page_indices"]))
                begin = min(max(q_begin, first_row), last_row)
                end = min(max(q_end, begin), last_row)
                if partial >= 0:
                    end = min(end, begin + max(self.rows - partial, 0))
                kv_begin = min(max(kv_begin, first), last)
                kv_end = min(max(kv_end, kv_begin), last)
                low = min(heads & 0xFFFF, case.heads)
                high = case.heads if heads == 0 else min(max((heads & 0xFFFFFFFF) >> 16, low), case.heads)
                for row in range(begin, end):
                    for head in range(low, high):
                        value = self._attend(request, row, head, kv_begin, kv_end)
                        if partial < 0:
                            self._put(self.final, (row, head), value)
                        else:
                            self._put(self.partials, (partial + row - begin, head), value)

    def _merge(self) -> None:
        case, a = self.case, self.a
        groups = len(a["reduce_indptr"]) - 1
        for group in range(groups):
            begin, end = _clamped(a["reduce_indptr"], group, len(a["reduce_partial_map"]))
            if begin == end:
                continue
            first = min(max(int(a["reduce_final_map"][group, 0]), 0), case.num_rows)
            last = min(max(int(a["reduce_final_map"][group, 1]), first), case.num_rows)
            for row in range(first, last):
                for head in range(case.heads):
                    value = self._merged(a["reduce_partial_map"][begin:end], row - first, head)
                    key = (row, head)
                    # Stage 1 came before: the merge writes over its rows.
                    merged = ("merged", *key)
                    self.final[key] = None if merged in self.partials else value
                    self.partials[merged] = True

    def _merged(self, entries: np.ndarray, row: int, head: int) -> object:
        parts = []
        for entry in entries.astype(np.int64):
            at = int(entry) + row
            if entry < 0 or at >= self.rows:
                continue
            part = self.partials.get((at, head))
            if part is None:
                return None  # nobody wrote it, or several did
            parts.append(part)
        parts = [part for part in parts if not np.isneginf(part[1])]
        if not parts:
            return np.zeros(self.case.value_dim), -np.inf
        with np.errstate(invalid="ignore"):
            top = max(lse for _, lse in parts)
            weights = np.array([np.exp(lse - top) for _, lse in parts])
            return (
                sum(w * o for w, (o, _) in zip(weights, parts, strict=True)) / weights.sum(),
                float(top + np.log(weights.sum())),
            )


def check(one: Fuzzed, output: np.ndarray, lse: np.ndarray) -> int:
    """Rows with one answer are right, rows of nobody as they were; returns how many had an answer."""
    model, case = Model(one), one.inputs.case
    want, want_lse = output.astype(np.float64), lse.astype(np.float64)
    kept = np.ones(lse.shape, bool)
    answers = 0
    for (row, head), value in model.final.items():
        kept[row, head] = False
        if value is not None and np.isfinite(value[0]).all():
            want[row, head], want_lse[row, head] = value
            answers += 1
    poison = np.frombuffer(nan_bytes(output.dtype), output.dtype)[0].view(np.uint16)
    assert (output.view(np.uint16)[kept] == poison).all(), f"{one.name}: a row of nobody was written"
    assert np.isneginf(lse[kept]).all(), f"{one.name}: the LSE of a row of nobody"
    with np.errstate(invalid="ignore"):
        rounding = 2.0**-10 * np.abs(one.inputs.v[np.isfinite(one.inputs.v)]).max()
    check_close(f"{one.name}: output", output, want, _LOOSE, case.repro, allowance=rounding)
    check_close(f"{one.name}: lse", lse, want_lse, LSE, case.repro, allowance=2e-6)
    return answers


_LOOSE = type(OUTPUT)(OUTPUT.absolute, OUTPUT.relative)  # some rows are taken from the output: no cosine
