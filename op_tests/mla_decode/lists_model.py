"""What a call by work lists gives, item by item in Python's integers: docs/contract.md and the comments of
csrc/ops/attention/work_items.h a second time, for lists and index tensors of any values."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from aiter_c.testing import MlaInputs, Reference, attend
from aiter_c.testing.ops.attention import Attended
from aiter_c.testing.ops.mla_reduce import mla_reduce_reference

LISTS = (
    *("work_meta_data", "work_indptr", "work_info_set", "reduce_indptr", "reduce_final_map"),
    "reduce_partial_map",
)
REQUEST, PARTIAL, Q_BEGIN, Q_END, KV_BEGIN, KV_END = range(6)


def clamp(value: int, low: int, high: int) -> int:
    """Within [low, high]; low where they cross."""
    return low if value < low else min(value, high)


@dataclass(frozen=True)
class Key:
    """What one query row of one item meets: equal keys give equal results."""

    row: int
    slots: tuple[int, ...]


class Model:
    """The arguments of a call, index tensors of any values.

    one_item: the kernel does every item of [0, work_indptr[-1]), whichever worker has it.
    """

    def __init__(self, inputs: MlaInputs, changed: dict[str, object], *, one_item: bool = False) -> None:
        self.inputs, self.case, self.one_item = inputs, inputs.case, one_item
        self.a = inputs.arguments() | changed
        self.q_values = changed.get("q_values", inputs.q_values)
        self.indices = self.a["kv_indices"].astype(np.int64)
        self.num_pages, self.page_size = len(inputs.pool), self.case.page_size
        self.ranks = self.case.ranks if self.case.shard else (1, 0, 1)
        self.most = int(self.a["max_seqlen_q"])
        self.causal = bool(self.a["causal"]) and self.most != 1
        self.num_partials = len(self.a["reduce_partial_map"]) * self.most
        self.num_rows = len(self.a["q"])

    def executed(self) -> list[int]:
        """The items that some worker does."""
        ends, count = self.a["work_indptr"].tolist(), len(self.a["work_info_set"])
        if self.one_item:
            return list(range(clamp(ends[-1], 0, count)))
        out: set[int] = set()
        for begin, end in itertools.pairwise(ends):
            begin = clamp(begin, 0, count)
            out.update(range(begin, clamp(end, begin, count)))
        return sorted(out)

    def _entry(self, name: str, i: int, most: int, least: int = 0) -> int:
        return clamp(int(self.a[name][i]), least, most)

    def _tokens(self, item: list[int]) -> tuple[int, int, int]:
        """(request, first query row, rows); no rows where the item is left out."""
        request, partial = item[REQUEST], item[PARTIAL]
        begin = clamp(item[Q_BEGIN], 0, self.num_rows)
        rows = min(clamp(item[Q_END], begin, self.num_rows) - begin, self.most)
        if not 0 <= request < len(self.a["qo_indptr"]) - 1:
            rows = 0
        elif partial >= 0:
            rows = clamp(self.num_partials - partial, 0, rows)
        return request, begin, rows

    def slots(self, item: list[int], row: int) -> tuple[int, ...]:
        """Cache slots of the keys that query row `row` sees of the item."""
        n, request = len(self.indices), item[REQUEST]
        first = self._entry("kv_indptr", 0, n)
        begin = clamp(first + item[KV_BEGIN], 0, n)
        end = clamp(first + item[KV_END], begin, n)
        placed = self.causal or self.ranks[0] != 1 or self.page_size != 1
        if not placed:
            pages = self.indices[begin:end]
            return tuple(page for page in pages.tolist() if 0 <= page < self.num_pages)
        origin = self._entry("kv_indptr", request, n)
        stop = self._entry("kv_indptr", request + 1, n, origin)
        length = (stop - origin) * self.page_size
        if self.page_size > 1 and stop > origin:
            length -= self.page_size - self._entry("kv_last_page_lens", request, self.page_size)
        low = clamp((begin - origin) * self.page_size, 0, length)
        high = clamp((end - origin) * self.page_size, low, length)
        high = min(high, self._visible(request, row, length))
        out = []
        for key in range(low, high):
            page = int(self.indices[origin + key // self.page_size])
            if 0 <= page < self.num_pages:
                out.append(page * self.page_size + key % self.page_size)
        return tuple(out)

    def _visible(self, request: int, row: int, length: int) -> int:
        """How many of the rank's keys of the request the query row may see."""
        ranks, rank, interleave = self.ranks
        total = length
        if ranks != 1:
            ends = self.a["g_kv_indptr"]
            total = clamp(int(ends[request + 1]) - int(ends[request]), 0, 2**31 - 1)
        seen = total
        if self.causal:
            seen = total - self._entry("qo_indptr", request + 1, self.num_rows) + row + 1
        if ranks == 1:
            return max(seen, 0)
        rounds, rest = divmod(max(seen, 0), ranks * interleave)
        return rounds * interleave + clamp(rest - rank * interleave, 0, interleave)

    def stage1(self) -> tuple[dict[int, Key | None], dict[int, Key | None]]:
        """Final rows and partial rows that items write; None where they do not agree on what."""
        final: dict[int, Key | None] = {}
        partial: dict[int, Key | None] = {}
        for number in self.executed():
            item = [int(value) for value in self.a["work_info_set"][number]]
            _, begin, rows = self._tokens(item)
            for token in range(rows):
                key = Key(begin + token, self.slots(item, begin + token))
                places, at = (final, begin) if item[PARTIAL] < 0 else (partial, item[PARTIAL])
                places[at + token] = key if places.get(at + token, key) == key else None
        return final, partial

    def result(self, p_dtype: str) -> Reference:
        """Rows with no one answer, and those whose merge reads a partial that nobody wrote, are NaN."""
        final, partial = self.stage1()
        heads, cache = self.case.heads, {}
        o, lse = np.full((self.num_rows, heads, 512), np.nan), np.full((self.num_rows, heads), -np.inf)
        out = Reference(o, lse, np.zeros(self.num_rows, bool), np.zeros(lse.shape), np.zeros(o.shape))
        parts, part_lse = np.full((self.num_partials, heads, 512), np.nan), np.full((self.num_partials, heads), np.nan)
        part_bound = np.zeros(parts.shape)
        for place, key in partial.items():
            if key is not None:
                one = self._attended(key, p_dtype, cache)
                parts[place], part_lse[place], part_bound[place] = one.o, one.lse, one.rounding
        for row, key in final.items():
            out.written[row] = True
            lse[row] = np.nan
            if key is not None:
                one = self._attended(key, p_dtype, cache)
                o[row], lse[row] = one.o, one.lse
                out.rounding[row], out.lse_rounding[row] = one.rounding, one.lse_rounding
        lists = [self.a[name] for name in ("reduce_indptr", "reduce_final_map", "reduce_partial_map")]
        merged = mla_reduce_reference(parts, part_lse, *lists, self.most, self.num_rows)
        bound = mla_reduce_reference(part_bound, part_lse, *lists, self.most, self.num_rows)
        owned = merged.owners > 0
        out.written |= owned
        o[owned], lse[owned] = merged.o[owned], merged.lse[owned]
        out.rounding[owned], out.lse_rounding[owned] = bound.o[owned] + merged.bound[owned], merged.lse_bound[owned]
        lse[merged.owners > 1] = np.nan
        return out

    def _attended(self, key: Key, p_dtype: str, cache: dict[Key, Attended]) -> Attended:
        if key not in cache:
            case, a = self.case, self.a
            scale = lambda name, counts: float(np.ravel(a.get(name) or 1.0)[0]) if counts else 1.0  # noqa: E731
            q_scale, kv_scale = scale("q_scale", case.q_is_fp8), scale("kv_scale", case.kv_is_fp8)
            keys = self.inputs.read_rows(np.array(key.slots, np.int64))
            cache[key] = attend(
                self.q_values[key.row], keys, case.softmax_scale * q_scale * kv_scale, kv_scale, p_dtype=p_dtype
            )
        return cache[key]
