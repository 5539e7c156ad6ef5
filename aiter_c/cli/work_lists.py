"""The work lists of a decode problem of the bench: made anew, in place, by a call that can be timed."""

from __future__ import annotations

from typing import Any

import numpy as np

import aiter_c
from aiter_c.cli.backend import Cpu, Gpu
from aiter_c.testing import MlaCase

_NAMES = ("work_meta_data", "work_indptr", "work_info_set", "reduce_indptr", "reduce_final_map", "reduce_partial_map")


class WorkLists:
    """arguments: of mla_decode_fwd. The number of workers and the cap of splits are the automatic ones."""

    def __init__(self, case: MlaCase, backend: Cpu | Gpu, qo_indptr: Any, kv_indptr: Any, last_page: Any) -> None:
        self._case, self._indptrs, self._last_page = case, (qo_indptr, kv_indptr), last_page
        info = aiter_c.get_mla_metadata_info_v1(
            case.batch, case.served_q_len, case.heads, case.q_dtype, case.kv_dtype, False, device=backend.device
        )
        sizes = [size for size, _ in info]
        self.workers = sizes[1] - 1
        dtypes = [np.int64] + 5 * [np.int32]
        self.arguments = {
            name: backend.put(np.zeros(size, dtype)) for name, size, dtype in zip(_NAMES, sizes, dtypes, strict=True)
        }
        self.plan()
        self.items = int(backend.get(self.arguments["work_indptr"])[-1])

    def plan(self) -> Any:
        """Fills the lists."""
        meta, indptr, items, *reduce = self.arguments.values()
        page, q_len = self._case.page_size, self._case.served_q_len
        aiter_c.get_mla_metadata_v1(
            *self._indptrs, self._last_page, self._case.heads, 1, True, meta, items, indptr, *reduce, page_size=page,
            kv_granularity=max(1, 16 // page), max_seqlen_qo=q_len, uni_seqlen_qo=q_len,
        )  # fmt: skip
        return indptr
