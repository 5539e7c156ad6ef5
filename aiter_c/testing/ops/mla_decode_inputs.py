"""The tensors of an MLA decode case."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

import ml_dtypes
import numpy as np

from aiter_c import get_mla_metadata_info_v1, get_mla_metadata_v1

from ..inputs import Inputs
from ..memory import Block, dtype_of, packed
from .attention import KvList, Reference, mla_decode_reference
from .cache import RECORD_BYTES, fill_nan, read_rows, to_float64, write_rows
from .mla_decode import DTYPES_FP8, MlaCase

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
_SPARE_PAGES = 2  # never referred to, besides page 0


@dataclass
class MlaInputs(Inputs):
    """q_values [T, H, D], kv_lists: what the reference needs, exact."""

    case: MlaCase
    q_values: np.ndarray = field(kw_only=True)
    q_rows: list[range] = field(kw_only=True)
    kv_lists: list[KvList] = field(kw_only=True)
    scales: dict[str, object] = field(kw_only=True)

    @property
    def pool(self) -> np.ndarray:
        """The cache as it is in memory."""
        return self.array("kv_buffer")

    def read_rows(self, slots: np.ndarray) -> np.ndarray:
        """Exact cache rows [n, D], float64."""
        return read_rows(self.pool, self.case.kv_format, self.case.page_size, slots)

    def arguments(self) -> dict[str, object]:
        """Keyword arguments of mla_decode_fwd."""
        case = self.case
        out = super().arguments() | self.scales
        out |= {"max_seqlen_q": case.served_q_len, "page_size": case.page_size, "causal": case.causal}
        out |= {"return_lse": case.return_lse, "deterministic": case.deterministic}
        if case.sm_scale is not None:
            out["sm_scale"] = case.sm_scale
        if case.shard:
            out |= {"cp_world_size": case.ranks[0], "cp_rank": case.ranks[1], "cp_interleave": case.ranks[2]}
        out["num_kv_splits"] = max((1, *case.splits)) if isinstance(case.splits, tuple) else case.splits
        if case.kv_format == "fp8_ds_mla":
            out["kv_buffer"] = self.pool.reshape(len(self.pool), case.page_size, RECORD_BYTES)
        if case.as_bytes and case.q_is_fp8:
            out |= {"q": out["q"].view(np.uint8), "q_dtype": case.q_dtype}
        if case.as_bytes and case.kv_is_fp8:
            out |= {"kv_buffer": out["kv_buffer"].view(np.uint8), "kv_dtype": case.kv_dtype}
        return out

    def reference(
        self, *, p_dtype: str = "float32", cut: object = None, scales: tuple[float, float] | None = None
    ) -> Reference:
        """The fp64 result of the whole call, or of one run of every list (see `mla_decode_reference`).

        scales: q_scale and kv_scale where they are no longer those of the case.

        An entry of a ragged split indptr that gives a request no split makes its rows empty.
        """
        case = self.case
        q_scale = float(np.float32(case.q_scale)) if case.q_is_fp8 and case.q_scale is not None else 1.0
        kv_scale = float(np.float32(case.kv_scale)) if case.kv_is_fp8 and case.kv_scale is not None else 1.0
        q_scale, kv_scale = scales or (q_scale, kv_scale)
        return mla_decode_reference(
            self.q_values,
            self.read_rows,
            self.q_rows,
            self.kv_lists,
            score_scale=case.softmax_scale * q_scale * kv_scale,
            value_scale=kv_scale,
            causal=case.causal,
            max_seqlen_q=case.served_q_len,
            p_dtype=p_dtype,
            cut=cut or self._no_split,
            shard=case.shard,
            totals=case.kv_lens,
        )

    def _no_split(self, request: int, length: int) -> tuple[int, int]:
        splits = self.case.splits
        return (0, 0) if isinstance(splits, tuple) and splits[request] <= 0 else (0, length)


def build_inputs(case: MlaCase) -> MlaInputs:
    """Deterministic in `case`."""
    rng = np.random.default_rng([case.seed, case.heads, case.num_rows, sum(case.kv_lens), case.page_size])
    shift = int(rng.integers(0, 8))
    page_counts = [-(-length // case.page_size) for length in case.held_lens]
    num_pages = 1 + sum(page_counts) + _SPARE_PAGES
    blocks = {"q": _query(case, rng, shift), "kv_buffer": _pool(case, num_pages, shift)}
    blocks["o"] = _output(case, shift)
    blocks |= _index_blocks(case, rng, page_counts, num_pages, shift)
    pages = _pages_of_requests(blocks["kv_indices"].array, blocks["kv_indptr"].array, case.batch)
    kv_lists = [
        KvList.gather(p, length - (n - 1) * case.page_size, case.page_size, num_pages)
        for p, length, n in zip(pages, case.held_lens, page_counts, strict=True)
    ]
    _write_cache(case, rng, blocks["kv_buffer"].array, kv_lists)
    first = case.unowned_rows[0]
    starts = first + np.concatenate([[0], np.cumsum(case.q_lens)]).astype(int)
    q_rows = [range(a, b) for a, b in pairwise(starts)]
    if case.workers:
        blocks |= _lists(case, blocks, shift)
    return MlaInputs(
        case,
        blocks,
        written=("o",),
        q_values=to_float64(blocks["q"].array),
        q_rows=q_rows,
        kv_lists=kv_lists,
        scales=_scales(case),
    )


def _query(case: MlaCase, rng: np.random.Generator, shift: int) -> Block:
    """q [T, H, D] with values such that the scaled scores have standard deviation score_std against N(0, 1) keys."""
    shape = (case.num_rows, case.heads, case.head_dim)
    strides = (case.heads * 768 + 64, 768, 1) if case.q_strided else None
    block = Block(shape, case.q_dtype, strides=strides, shift=shift, poison=True)
    spread = case.score_std / (case.softmax_scale * math.sqrt(case.head_dim))
    if case.q_is_fp8:
        spread /= case.q_scale or 1.0
    values = rng.standard_normal(shape, np.float32)
    if case.trend:
        values += _direction(case)
    block.array[...] = saturated(values * np.float32(spread), case.q_dtype)
    return block


def _direction(case: MlaCase) -> np.ndarray:
    """What the queries have in common, [D] of +-1: keys along it score higher with all of them."""
    return np.random.default_rng([case.seed, 1]).choice(np.array([-1, 1], np.float32), case.head_dim)


def saturated(values: np.ndarray, dtype: str) -> np.ndarray:
    """Rounded to nearest even, clipped to the largest finite value of an fp8 type."""
    if dtype in DTYPES_FP8:
        largest = float(ml_dtypes.finfo(dtype_of(dtype)).max)
        values = np.clip(values, -largest, largest)
    return values.astype(dtype_of(dtype))


def _output(case: MlaCase, shift: int) -> Block:
    shape = (case.num_rows, case.heads, 512)
    strides = (case.heads * 576 + 24, 576, 1) if case.o_strided else None
    return Block(shape, case.o_dtype, strides=strides, shift=shift)


def _pool(case: MlaCase, num_pages: int, shift: int) -> Block:
    """The cache, all NaN. kv_strided: every page is followed by one of another layer and an odd gap."""
    if case.kv_format == "plain":
        row: tuple[int, ...] = (case.page_size, 1, case.head_dim)
        dtype = case.kv_dtype
    else:
        row, dtype = (case.page_size * RECORD_BYTES,), "uint8"
    inner = tuple(math.prod(row[i + 1 :]) for i in range(len(row)))
    page = math.prod(row)
    gap = page + 16 if case.kv_strided else 0
    block = Block((num_pages, *row), dtype, strides=(page + gap, *inner), shift=shift, poison=True)
    fill_nan(block.array, case.kv_format, case.page_size)
    return block


def _index_blocks(
    case: MlaCase, rng: np.random.Generator, page_counts: list[int], num_pages: int, shift: int
) -> dict[str, Block]:
    """qo_indptr [B+1], kv_indptr [>= B+1], kv_indices [>= total], kv_last_page_lens [>= B], and the split indptr."""
    pages = 1 + rng.permutation(num_pages - 1)[: sum(page_counts)].astype(np.int64)
    kv_indptr = case.indptr_offset + np.concatenate([[0], np.cumsum(page_counts)])
    for begin, end in zip(kv_indptr[:-1] - case.indptr_offset, kv_indptr[1:] - case.indptr_offset, strict=True):
        mask_some(case.masked, rng, pages[int(begin) : int(end)], num_pages)
    stale = lambda n: rng.choice([INT32_MIN, -1, 0, num_pages, INT32_MAX], n)  # noqa: E731
    kv_indices = np.concatenate([stale(case.indptr_offset), pages, stale(case.extra_indices)])
    qo_indptr = case.unowned_rows[0] + np.concatenate([[0], np.cumsum(case.q_lens)])
    last = [
        length - (n - 1) * case.page_size if n else 0 for length, n in zip(case.held_lens, page_counts, strict=True)
    ]
    if case.page_size == 1:  # not looked at: callers pass all sorts of things here
        last = list(stale(case.batch))
    if case.stale_tails:
        kv_indptr, last = np.concatenate([kv_indptr, stale(5)]), [*last, *stale(3)]
    tensors = {
        "qo_indptr": qo_indptr,
        "kv_indptr": kv_indptr,
        "kv_indices": kv_indices,
        "kv_last_page_lens": last,
    }
    if case.shard:
        totals = np.concatenate([[0], np.cumsum(case.kv_lens)])
        tensors["g_kv_indptr"] = np.concatenate([totals, stale(3)]) if case.stale_tails else totals
    if isinstance(case.splits, tuple):
        tensors["num_kv_splits_indptr"] = np.concatenate([[0], np.cumsum(case.splits)])
    return {name: packed(np.asarray(values).astype(np.int32), shift=shift) for name, values in tensors.items()}


def _lists(case: MlaCase, blocks: dict[str, Block], shift: int) -> dict[str, Block]:
    """The lists of get_mla_metadata_v1 as they are after the op, in buffers that held anything before it."""
    heads, most = case.heads, case.served_q_len
    sizes = get_mla_metadata_info_v1(
        case.batch, most, heads, "bfloat16", "bfloat16", False, max_split_per_batch=case.split_cap,
        num_workers=case.workers, deterministic=case.deterministic,
    )  # fmt: skip
    names = (
        "work_meta_data",
        "work_indptr",
        "work_info_set",
        "reduce_indptr",
        "reduce_final_map",
        "reduce_partial_map",
    )
    dtypes = ("uint64", *["int32"] * 5)
    lists = {
        name: np.full(size, 0x7BADBADB, dtype) for name, dtype, (size, _) in zip(names, dtypes, sizes, strict=True)
    }
    a = {name: block.array for name, block in blocks.items()}
    get_mla_metadata_v1(
        a["qo_indptr"], a["kv_indptr"], a["kv_last_page_lens"], heads, 1, case.causal and case.shard is None,
        lists["work_meta_data"], lists["work_info_set"], lists["work_indptr"], *(lists[name] for name in names[3:]),
        page_size=case.page_size, kv_granularity=case.granule, max_seqlen_qo=most, uni_seqlen_qo=-1,
        max_split_per_batch=case.split_cap, is_cp_round_robin=case.shard is not None, deterministic=case.deterministic,
    )  # fmt: skip
    return {name: packed(values, shift=shift) for name, values in lists.items()}


def mask_some(pattern: str, rng: np.random.Generator, pages: np.ndarray, num_pages: int) -> None:
    """Overwrites entries of one request's list, in place, by indices outside [0, num_pages)."""
    extremes = np.array([-1, -2, INT32_MIN, INT32_MAX, num_pages, num_pages + 1])
    n = len(pages)
    if pattern == "minus_one":
        pages[rng.random(n) < 0.3] = -1
    elif pattern == "capacity":
        pages[rng.random(n) < 0.3] = num_pages
    elif pattern == "extremes":
        hit = rng.random(n) < 0.3
        pages[hit] = rng.choice(extremes, hit.sum())
    elif pattern == "sparse":
        pages[rng.random(n) < 0.95] = -1
    elif pattern == "head":
        pages[: n // 2] = -2
    elif pattern == "tail":
        pages[n // 2 :] = INT32_MAX
    elif pattern == "all":
        pages[:] = -1


def _pages_of_requests(kv_indices: np.ndarray, kv_indptr: np.ndarray, batch: int) -> list[np.ndarray]:
    return [kv_indices[kv_indptr[b] : kv_indptr[b + 1]] for b in range(batch)]


def _write_cache(case: MlaCase, rng: np.random.Generator, pool: np.ndarray, kv_lists: list[KvList]) -> None:
    """Values only where a list refers to; every other slot stays NaN."""
    used = np.concatenate([kv.slots for kv in kv_lists]) if kv_lists else np.empty(0, np.int64)
    used = used[used >= 0]
    values = rng.standard_normal((len(used), case.head_dim), np.float32)
    if case.trend:
        along = [np.linspace(-0.5, 0.5, len(kv.slots))[kv.slots >= 0] for kv in kv_lists]
        step = case.trend / (case.score_std * math.sqrt(case.head_dim))
        values += (np.concatenate(along)[:, None] * step * _direction(case)).astype(np.float32)
    if case.kv_is_fp8:
        values = saturated(values / np.float32(case.kv_scale or 1.0), case.kv_dtype).astype(np.float32)
    write_rows(pool, case.kv_format, case.page_size, used, values)


def _scales(case: MlaCase) -> dict[str, object]:
    """q_scale and kv_scale as the case wants them passed; also for operands that ignore them."""
    make = {
        "float": float,
        "scalar": lambda value: np.array(value, np.float32),
        "one": lambda value: np.array([value], np.float32),
    }[case.scales_as]
    given = {"q_scale": case.q_scale, "kv_scale": case.kv_scale}
    return {name: make(value) for name, value in given.items() if value is not None}
