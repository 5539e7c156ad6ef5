"""Query rows that no request serves keep their o, and their LSE is -inf: whatever qo_indptr holds, however many splits
there are, and whatever memory the LSE comes from."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from aiter_c.testing.device import Device
from aiter_c.testing.ops.mla_decode import MlaCase
from aiter_c.testing.ops.mla_decode_inputs import build_inputs

#: qo_indptr of three requests, and max_seqlen_q.
INDPTRS = {
    "before and after": ([2, 3, 5, 6], 2),
    "flat tail": ([0, 2, 2, 2], 2),
    "longer than max_seqlen_q": ([0, 4, 5, 9], 2),
    "descends to rows of another": ([5, 2, 8, 8], 6),
    "ends below its begin": ([0, 4, 6, 3], 4),
    "ends in another's rows": ([0, 1, 5, 2], 4),
    "outside of q": ([-7, 1, 2**31 - 1, -(2**31)], 9),
    "nothing": ([9, 9, 9, 9], 1),
}


def _owners(indptr: list[int], longest: int, rows: int) -> np.ndarray:
    """How many requests serve each row."""
    owners = np.zeros(rows, int)
    for begin, end in pairwise(indptr):
        first = min(max(begin, 0), rows)
        owners[first : max(min(end, rows, first + longest), first)] += 1
    return owners


@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize("name", INDPTRS)
def test_rows_that_no_request_serves(name: str, splits: int, device: Device) -> None:
    indptr, longest = INDPTRS[name]
    case = MlaCase(heads=3, q_lens=(3, 3, 3), kv_lens=(70, 40, 90), causal=False, splits=splits, max_seqlen_q=longest)
    inputs = build_inputs(case)
    before = inputs.array("o").copy()
    owners = _owners(indptr, longest, case.num_rows)
    for _ in range(2):  # an allocator that hands the same memory out again finds ones in it
        _, lse = device.call("mla_decode_fwd", **inputs.arguments() | {"qo_indptr": np.array(indptr, np.int32)})
        written = (inputs.array("o").view(np.uint16) != before.view(np.uint16)).any(axis=(1, 2))
        assert np.isneginf(lse).all(axis=1).tolist() == (owners == 0).tolist(), (name, lse)
        assert np.isfinite(lse[owners > 0]).all()
        assert written.tolist() == (owners > 0).tolist()
        lse[:] = 1.0
