"""One decode call whose tensors stay where they are while their contents change: what lives in a captured graph."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from mla_decode.lists_model import LISTS
from runtime.driver import Driver

import aiter_c
from aiter_c.testing import (
    Device,
    DeviceTensor,
    KvList,
    MlaCase,
    allocated_by,
    build_inputs,
    check_bits,
    check_outputs,
)
from aiter_c.testing.device import Copies
from aiter_c.testing.memory import Block
from aiter_c.testing.ops.mla_decode import expected_outputs, p_dtype_of

OUTPUTS = ("lse", "logits", "attn_lse")
INDPTR = ("qo_indptr", "kv_indptr", "kv_last_page_lens")
STALE = 0x7BADBADB  # what lists hold where no plan has written


class LiveCall:
    """The tensors of a case on a device, outputs and scratch included, and the call on them."""

    def __init__(self, case: MlaCase, device: Device, driver: Driver) -> None:
        assert all(length % case.page_size == 0 for length in case.kv_lens), "whole pages, so that any order is valid"
        self.case, self.device, self.driver = case, device, driver
        self.inputs = build_inputs(case)
        self.inputs.freeze()
        self.copies = Copies(device.place)
        self.arguments = {
            name: self.copies.tensor(value) if isinstance(value, np.ndarray) and value.ndim else value
            for name, value in self.inputs.arguments().items()
        }
        self.results: dict[str, Block] = {}
        self.first_lists: list[np.ndarray] | None = None
        self.p_dtype = p_dtype_of(case, device)

    def _allocate(
        self, name: str, _like: DeviceTensor, shape: tuple[int, ...], dtype: str, _stream: object
    ) -> DeviceTensor:
        """The same memory in every call."""
        if name not in self.results:
            block = self.results[name] = Block(tuple(shape), dtype)
            block.fill_nan()
        return self.copies.tensor(self.results[name].array)

    def enqueue(self, stream: int) -> None:
        """The call; nothing waits for it."""
        with allocated_by(self._allocate):
            aiter_c.mla_decode_fwd(**self.arguments, stream=stream)

    def poison(self) -> None:
        """Everything that the call writes becomes NaN on the host."""
        for block in (self.inputs.blocks["o"], *self.results.values()):
            block.fill_nan()

    def send(self) -> None:
        """The host's bytes into the same device memory: metadata, queries, scales and poison, in place."""
        for address, data in self.copies.blocks():
            self.driver.write(address, data)

    def fetch(self) -> dict[str, np.ndarray]:
        """What the call wrote, as copies."""
        for address, data in self.copies.blocks():
            if data.flags.writeable:
                self.driver.read(address, data)
        arrays = {"o": self.inputs.array("o")} | {name: block.array for name, block in self.results.items()}
        return {name: array.copy() for name, array in arrays.items()}

    def change(self, step: int) -> None:
        """New contents on the host, different in every step: lengths, pages, queries, scales, splits; from step 1 on
        the last request is padding: its queries are NaN and its list is empty, or holds -1 and huge indices."""
        inputs, case = self.inputs, self.case
        rng = np.random.default_rng([case.seed, step])
        indices, indptr = inputs.array("kv_indices"), inputs.array("kv_indptr")
        valid = np.unique(inputs.first_indices) if hasattr(inputs, "first_indices") else None
        if valid is None:
            inputs.first_indices = indices.copy()
            valid = np.unique(indices)
        indices[:] = rng.permutation(valid)[: len(indices)]
        counts = np.array([rng.integers(0, -(-length // case.page_size) + 1) for length in case.kv_lens])
        counts[0] = max(counts[0], 1)
        inputs.array("q")[...] = (rng.standard_normal(inputs.array("q").shape) * 2).astype(inputs.array("q").dtype)
        if step > 0:
            counts[-1] = 0 if step == 1 else min(3, case.kv_lens[-1] // case.page_size)
        indptr[: case.batch + 1] = np.concatenate([[0], np.cumsum(counts)])
        last = rng.integers(1, case.page_size + 1, case.batch)
        inputs.array("kv_last_page_lens")[: case.batch] = last
        q_ends = np.cumsum([min(n, int(rng.integers(1, n + 1))) for n in case.q_lens])
        inputs.array("qo_indptr")[:] = np.concatenate([[0], q_ends])
        if step > 0:
            inputs.array("q")[q_ends[-2] :] = np.nan
            indices[indptr[case.batch - 1] :] = rng.choice([-1, -(2**31), 2**31 - 1, 10**6], len(indices) - indptr[-2])
        if "num_kv_splits_indptr" in inputs.blocks:
            splits = rng.integers(1, max(case.splits) + 1, case.batch)
            inputs.array("num_kv_splits_indptr")[:] = np.concatenate([[0], np.cumsum(splits)])
        for name in ("q_scale", "kv_scale"):
            if isinstance(inputs.scales.get(name), np.ndarray):
                inputs.scales[name][...] = rng.uniform(0.25, 2.0)
        if case.workers:
            self.plan()
        self._describe(last)

    def keep(self, requests: int) -> None:
        """Fewer requests than the tensors are for: the tails of the indptrs are flat, and no row is theirs."""
        for name in ("qo_indptr", "kv_indptr"):
            indptr = self.inputs.array(name)
            indptr[requests + 1 :] = indptr[requests]
        if self.case.workers:
            self.plan()
        self._describe(self.inputs.array("kv_last_page_lens"))

    def set_lengths(self, lengths: list[int]) -> None:
        """The first so many keys of every request's list, in pages of one; nothing else changes."""
        inputs = self.inputs
        if self.first_lists is None:
            indices, ends = inputs.array("kv_indices").copy(), inputs.array("kv_indptr").tolist()
            self.first_lists = [indices[begin:end] for begin, end in pairwise(ends)]
        kept = [one[:length] for one, length in zip(self.first_lists, lengths, strict=True)]
        inputs.array("kv_indptr")[:] = np.cumsum([0, *lengths])
        inputs.array("kv_indices")[:] = -1
        inputs.array("kv_indices")[: sum(lengths)] = np.concatenate(kept)
        self._describe(inputs.array("kv_last_page_lens"))

    def plan(self) -> None:
        """New lists on the host, over what the host's index tensors hold now; they reach the device with the rest."""
        case, inputs = self.case, self.inputs
        self.forget_plan()
        self._plan_with(aiter_c.get_mla_metadata_v1, {name: inputs.array(name) for name in (*LISTS, *INDPTR)}, case)

    def forget_plan(self) -> None:
        """The host's lists hold what no plan has."""
        for name in LISTS:
            self.inputs.array(name)[...] = STALE

    def enqueue_plan(self, stream: int) -> None:
        """The same on the device, of what its memory holds then; nothing waits."""
        self._plan_with(aiter_c.get_mla_metadata_v1, self.arguments, self.case, stream=stream)

    @staticmethod
    def _plan_with(op: Callable, tensors: dict, case: MlaCase, **more: int) -> None:
        pointers, indptr, items, *reduce = (tensors[name] for name in LISTS)
        op(
            *(tensors[name] for name in INDPTR), case.heads, 1, case.causal and case.shard is None, pointers, items,
            indptr, *reduce, page_size=case.page_size, kv_granularity=case.granule, max_seqlen_qo=case.served_q_len,
            max_split_per_batch=case.split_cap, is_cp_round_robin=case.shard is not None,
            deterministic=case.deterministic, **more,
        )  # fmt: skip

    def _describe(self, last: np.ndarray) -> None:
        """What the reference needs of the new contents."""
        inputs, case = self.inputs, self.case
        ends, rows = inputs.array("kv_indptr"), inputs.array("qo_indptr")
        pages = [inputs.array("kv_indices")[ends[b] : ends[b + 1]] for b in range(case.batch)]
        lengths = last if case.page_size > 1 else np.ones(case.batch, int)
        inputs.kv_lists = [
            KvList.gather(pages[b], lengths[b], case.page_size, len(inputs.pool)) for b in range(case.batch)
        ]
        inputs.q_rows = [range(rows[b], rows[b + 1]) for b in range(case.batch)]
        inputs.q_values = inputs.array("q").astype(np.float32).astype(np.float64)

    def check(self, got: dict[str, np.ndarray]) -> None:
        """o and lse against the fp64 reference of the contents now."""
        case = self.case
        scales = {name: self.inputs.scales.get(name) for name in ("q_scale", "kv_scale")}
        value = {name: 1.0 if scale is None else float(np.ravel(scale)[0]) for name, scale in scales.items()}
        q_scale, kv_scale = value["q_scale"] if case.q_is_fp8 else 1.0, value["kv_scale"] if case.kv_is_fp8 else 1.0
        expected = self.inputs.reference(p_dtype=self.p_dtype, scales=(q_scale, kv_scale))
        outputs = {"o": got["o"], "lse": got["lse"]}
        check_outputs(outputs, expected_outputs(case, expected, self.p_dtype), case.repro)


def check_same(got: dict[str, np.ndarray], want: dict[str, np.ndarray], repro: str) -> None:
    """Bit for bit, scratch included."""
    assert got.keys() == want.keys()
    for name in want:
        check_bits(name, got[name], want[name], repro)
