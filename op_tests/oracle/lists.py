"""Work lists as AITER's scheduler fills them (greedy, one budget for every worker)."""

from __future__ import annotations

import numpy as np
from oracle.launch import Lists

from aiter_c.testing import MlaInputs

GRANULE = 16  # pages
PACKED = 128  # rows of query heads in one tile


def make_lists(inputs: MlaInputs, workers: int) -> Lists:
    case = inputs.case
    overhead = max(1, -(-16 // case.page_size))
    starts = inputs.array("kv_indptr").astype(int)
    split_rows = case.served_q_len * case.heads > PACKED
    units = []  # request, first row, end row, pages trimmed at the end
    for b, rows in enumerate(inputs.q_rows):
        step = 1 if split_rows else max(len(rows), 1)
        for first in range(rows.start, rows.stop, step):
            units.append((b, first, first + step, rows.stop - first - step if case.page_size == 1 else 0))
    blocks = [-(-int(starts[b + 1] - starts[b]) // GRANULE) for b, *_ in units]
    budget = -(-sum(n + overhead for n in blocks) // workers) + overhead
    items, indptr, groups, final, partial, location = [], [0], [0], [], [], 0
    unit, done, pieces = 0, 0, []
    for _ in range(workers):
        left = budget
        while unit < len(units) and left > 0:
            b, first, end, trim = units[unit]
            begin, last = starts[b] + done * GRANULE, starts[b + 1] - trim
            stop = begin + (left - overhead) * GRANULE
            fits = blocks[unit] - done + overhead <= left
            if not fits and left <= overhead:
                break
            finish = fits or starts[b + 1] - stop < case.served_q_len
            where = -1
            if not finish or done:
                where, location = location, location + end - first
                pieces.append(where)
            stop = last if finish else stop
            after = starts[b + 1] - stop
            if case.page_size > 1 and after:
                after = (after - 1) * case.page_size + inputs.array("kv_last_page_lens")[b]
            items.append([b, where, first, end, begin, stop, after, 0])
            if not finish:
                done += left - overhead
                break
            left -= blocks[unit] - done + overhead
            partial += pieces
            groups.append(len(partial))
            final.append((first, end))
            unit, done, pieces = unit + 1, 0, []
        indptr.append(len(items))
    assert unit == len(units)
    array = lambda values, *shape: np.array(values, np.int32).reshape(-1, *shape)  # noqa: E731
    return Lists(array(indptr), array(items, 8), array(groups), array(final, 2), array(partial))
