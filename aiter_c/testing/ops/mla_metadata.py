"""One get_mla_metadata_v1 call as a value, and the planner a second time: item by item, in Python's integers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

import aiter_c

from ..case import Case
from ..compare import Expected
from ..inputs import INT32_MAX, Inputs, any_integers
from ..memory import Block, packed

if TYPE_CHECKING:
    from ..device import Device
    from ..run import Outcome


TAG, DETERMINISTIC = int.from_bytes(b"acwork01", "little"), 1
MOST_TILES, MOST_BLOCKS = 2**20, 2**29
FIXED_SPLITS, FIXED_MIN_KEYS, FIXED_GRANULE = 16, 512, 64
OUTPUTS = (
    *("work_metadata_ptrs", "work_info_set", "work_indptr", "reduce_indptr", "reduce_final_map"),
    "reduce_partial_map",
)


def ceil_div(a: int, b: int) -> int:
    """Of numbers from 0 on."""
    return -(-a // b)


def tile_pairs(arch: str, dtype: str, heads: int, max_q: int) -> int:
    """(query row, head) pairs of a tile; q and cache are of one dtype."""
    if arch != "gfx950":
        return 128
    if dtype.startswith("float8"):
        return 64 if heads == 32 and max_q == 3 else 128
    pairs = heads * max_q
    return 64 if pairs >= 64 and heads <= 64 and (pairs < 128 or heads == 48) else 128


@dataclass(frozen=True)
class Tile:
    """Query rows [first_row, last_row) of a request and the entries [begin, end) of kv_indices that they read; `unseen`
    of them are seen by none of the rows. rows: of a full tile. later: query rows of the request after the tile's."""

    request: int
    first_row: int
    last_row: int
    rows: int
    begin: int
    end: int
    unseen: int = 0
    later: int = 0


@dataclass
class Lists:
    """What a plan defines of the outputs. items: [n, 8]."""

    items: list[tuple[int, ...]] = field(default_factory=list)
    workers: list[int] = field(default_factory=list)  # of every item
    final: list[tuple[int, int]] = field(default_factory=list)  # of every tile
    counts: list[int] = field(default_factory=list)  # entries of every tile
    partial: list[int] = field(default_factory=list)
    rows: int = 0  # of the last partial


@dataclass(frozen=True)
class Planner:
    """The arguments of the call as the contract reads them; index tensors of any values."""

    qo_indptr: list[int]
    kv_indptr: list[int]
    last_page_lens: list[int] | None
    heads: int
    workers: int
    items: int  # rows of work_info_set
    tiles: int  # that reduce_indptr and reduce_final_map hold
    entries: int  # of reduce_partial_map
    pairs: int = 128
    causal: bool = True
    page_size: int = 1
    granule: int = 16
    max_q: int = -1
    uniform: int = -1
    topk: int = -1
    cap: int = -1
    shard: bool = False
    deterministic: bool = False

    @property
    def overhead(self) -> int:
        """Blocks that an item costs beside its own."""
        return max(1, ceil_div(16, self.page_size))

    def rows_of(self, request: int) -> tuple[int, int]:
        """[begin, end) of a request's query rows."""
        if self.uniform > 0:
            count = self.uniform
            if self.topk >= 0 and count == 1:
                count = max(self.qo_indptr[1] - self.qo_indptr[0], 0)
            begin, end = request * count, (request + 1) * count
            if end > INT32_MAX:
                return 0, 0
        else:
            begin = max(self.qo_indptr[request], 0)
            end = max(self.qo_indptr[request + 1], begin)
        if self.topk < 0 and self.max_q > 0:
            end = min(end, begin + self.max_q)
        return begin, end

    def counted(self) -> list[tuple[int, int]]:
        """(tiles, pages of a tile's list) of every request."""
        out = []
        for request in range(len(self.qo_indptr) - 1):
            begin, end = self.rows_of(request)
            pages = self._pages(request)
            out.append((end - begin if self.topk >= 0 else self._cut(end - begin)[0], pages))
        return out

    def _pages(self, request: int) -> int:
        begin = max(self.kv_indptr[request], 0)
        pages = max(self.kv_indptr[request + 1], begin) - begin
        return pages if self.topk < 0 else min(pages, ceil_div(self.topk, self.page_size))

    def _cut(self, rows: int) -> tuple[int, int]:
        """(tiles, rows of a full one)."""
        if rows == 0 or (self.max_q > 0 and self.heads * self.max_q <= self.pairs):
            return int(rows > 0), rows
        tiles = rows if 2 * self.heads > self.pairs else ceil_div(rows, self.pairs // self.heads)
        return tiles, ceil_div(rows, tiles)

    def all_tiles(self, most: int) -> list[Tile]:
        """The first `most`."""
        out: list[Tile] = []
        for request in range(len(self.qo_indptr) - 1):
            first, last = self.rows_of(request)
            pages = self._pages(request)
            if self.topk >= 0:
                width = ceil_div(self.topk, self.page_size)
                for row in range(first, min(last, first + most - len(out))):
                    begin = min(row * width, INT32_MAX)
                    end = min(begin + pages, INT32_MAX)
                    later = last - 1 - row if self.page_size == 1 else 0
                    out.append(Tile(request, row, row + 1, 1, begin, end, later=later))
                continue
            begin = max(self.kv_indptr[request], 0) - max(self.kv_indptr[0], 0)
            count, rows = self._cut(last - first)
            for tile in range(min(count, most - len(out))):
                row = first + tile * rows
                unseen = count - 1 - tile if self.causal and self.page_size == 1 and not self.shard else 0
                end = min(begin + pages, INT32_MAX)
                out.append(Tile(request, row, min(row + rows, last), rows, begin, end, unseen))
        return out

    def plan(self) -> Lists:
        """The lists."""
        counted, lists = self.counted(), Lists()
        most = min(self.tiles, self.items, MOST_TILES)
        if self.deterministic:
            most = min(most, self.items // FIXED_SPLITS, self.entries // FIXED_SPLITS)
        tiles = self.all_tiles(most)
        limit = INT32_MAX
        blocks = sum(count * self._blocks(pages, limit) for count, pages in counted)
        if blocks > MOST_BLOCKS:
            limit = MOST_BLOCKS // max(len(tiles), 1)
            blocks = sum(count * self._blocks(pages, limit) for count, pages in counted)
        blocks = min(blocks, MOST_BLOCKS + 1)
        if self.deterministic:
            self._deal(tiles, blocks, limit, counted, lists)
        else:
            cost = blocks + len(tiles) * self.overhead
            splits = self._splits(counted, len(tiles))
            longest = max((self._blocks(pages, limit) for count, pages in counted if count), default=0)
            share = self._share(ceil_div(cost, splits), longest, len(tiles), splits, blocks)
            self._fill(tiles, max(share, 1), limit, lists)
        return lists

    def _blocks(self, pages: int, limit: int) -> int:
        return min(ceil_div(pages, self.granule), limit)

    def _share(self, share: int, longest: int, tiles: int, workers: int, blocks: int) -> int:
        """Without a cap: no more than a piece where every tile gets as many workers as any other, whole tiles of 64
        keys; with more tiles than workers, all of one length, whole lists, if that is no more than a 16th more."""
        if self.cap > 0 or longest == 0 or tiles == 0:
            return share
        if tiles <= workers:
            unit = max(1, 64 // (self.page_size * self.granule))
            return min(share, ceil_div(ceil_div(longest, workers // tiles), unit) * unit)
        if longest * tiles != blocks:
            return share
        each = ceil_div(tiles, workers)
        whole = each * longest + (each - 1) * self.overhead
        return whole if share < whole <= share + share // 16 else share

    def _splits(self, counted: list[tuple[int, int]], tiles: int) -> int:
        if self.cap > 0:
            splits = self.cap * (len(self.qo_indptr) - 1)
        else:
            keys = [min(pages * self.page_size, INT32_MAX) for _, pages in counted]
            splits = sum(count * max(1, n // 64) for (count, _), n in zip(counted, keys, strict=True))
        splits = min(splits, self.workers, MOST_TILES, self.items - tiles + 1)
        return max(1, min(splits, 1 + max(self.entries // 2, self.entries - tiles)))

    def _fill(self, tiles: list[Tile], share: int, limit: int, lists: Lists) -> None:
        """Bins, one after the other."""
        worker, left = 0, share + self.overhead
        for tile in tiles:
            blocks, done = self._blocks(tile.end - tile.begin, limit), 0
            cuts, workers = [0], []
            while True:
                if blocks - done + self.overhead <= left or self._ends_here(tile, done + left - self.overhead, left):
                    left -= blocks - done + self.overhead
                    workers.append(worker)
                    break
                if left > self.overhead:
                    done += left - self.overhead
                    cuts.append(done * self.granule)
                    workers.append(worker)
                worker, left = worker + 1, share + self.overhead
            self._emit(tile, cuts, workers, lists)

    def _ends_here(self, tile: Tile, cut: int, left: int) -> bool:
        """A cut after so many blocks would leave too few keys."""
        if left <= self.overhead or self.page_size > 1 or self.max_q <= 0:
            return False
        return tile.end - min(tile.begin + cut * self.granule, tile.end - tile.unseen) < self.max_q

    def _deal(self, tiles: list[Tile], blocks: int, limit: int, counted: list[tuple[int, int]], lists: Lists) -> None:
        """Cut by length alone; every worker takes what begins in its share of the cost."""
        pieces = min(sum(count * len(self._fixed_cuts(pages)) for count, pages in counted), MOST_TILES * FIXED_SPLITS)
        share, cost = max(1, ceil_div(blocks + pieces * self.overhead, self.workers)), 0
        for tile in tiles:
            pages = tile.end - tile.begin
            cuts = self._fixed_cuts(pages)
            begins = [cost + self._blocks(cut, limit) + i * self.overhead for i, cut in enumerate(cuts)]
            self._emit(tile, cuts, [min(begin // share, self.workers - 1) for begin in begins], lists)
            cost += self._blocks(pages, limit) + len(cuts) * self.overhead

    def _fixed_cuts(self, pages: int) -> list[int]:
        keys = ceil_div(ceil_div(pages * self.page_size, FIXED_SPLITS), FIXED_GRANULE) * FIXED_GRANULE
        return list(range(0, max(pages, 1), ceil_div(max(keys, FIXED_MIN_KEYS), self.page_size)))

    def _emit(self, tile: Tile, cuts: list[int], workers: list[int], lists: Lists) -> None:
        """An item per piece."""
        seen_end = max(tile.end - tile.unseen, tile.begin)
        split, partial = len(cuts) > 1, lists.partial[-1] + lists.rows if lists.partial else 0
        for i, cut in enumerate(cuts):
            begin = min(tile.begin + cut, seen_end)
            end = seen_end if i == len(cuts) - 1 else max(begin, min(tile.begin + cuts[i + 1], seen_end))
            row = partial + i * tile.rows if split else -1
            lists.items.append(
                (tile.request, row, tile.first_row, tile.last_row, begin, end, self._after(tile, end), 0)
            )
            lists.workers.append(workers[i])
            if split:
                lists.partial.append(row)
        if split:
            lists.rows = tile.rows
        lists.final.append((tile.first_row, tile.last_row))
        lists.counts.append(len(cuts) if split else 0)

    def _after(self, tile: Tile, end: int) -> int:
        """Keys of the request after the piece."""
        pages = tile.end - end
        if self.page_size == 1:
            return min(pages + tile.later, INT32_MAX)
        if pages == 0:
            return 0
        last = min(max(self.last_page_lens[tile.request], 0), self.page_size)
        return min((pages - 1) * self.page_size + last, INT32_MAX)


@dataclass(frozen=True, repr=False)
class MlaMetadataCase(Case):
    """A plan. Defaults are the plainest call."""

    op: ClassVar[str] = "get_mla_metadata_v1"
    small: ClassVar = (  # every entry of their outputs is written
        {"q_lens": (1, 1, 1), "kv_lens": (5, 0, 9), "sizes": (3, 3, 0)},
        {"q_lens": (1,), "kv_lens": (3000,), "workers": 2, "sizes": (2, 1, 2)},
        {"q_lens": (1,), "kv_lens": (100_000,), "deterministic": True, "sizes": (16, 1, 16)},
    )

    q_lens: tuple[int, ...] = (1, 1)
    kv_lens: tuple[int, ...] = (300, 40)  # keys
    heads: int = 16
    workers: int = 4
    page_size: int = 1
    granule: int = 16
    max_q: int | None = None  # None: of q_lens; -1: not known
    uniform: bool = False  # uni_seqlen_qo is given
    causal: bool = True
    topk: int = -1
    cap: int | None = None  # max_split_per_batch
    shard: bool = False  # is_cp_round_robin
    deterministic: bool = False
    dtype: str = "bfloat16"
    kv_begin: int = 0  # kv_indptr[0]
    spare: int = 0  # entries of the inputs after those of the batch
    sizes: tuple[int, int, int] | None = None  # items, tiles, entries; None: get_mla_metadata_info_v1
    signed_tag: bool = False  # work_metadata_ptrs is int64
    hostile: float = 0.0  # share of the index tensors' entries that are any integers
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses a case that means nothing."""
        if len(self.q_lens) != len(self.kv_lens) or (self.uniform and len(set(self.q_lens)) > 1):
            raise ValueError(f"a case that means nothing: {self!r}")

    @property
    def words(self) -> list[str]:
        """The sizes, and what is not as usual."""
        told = ("q_lens", "kv_lens", "heads", "workers")
        sizes = [f"b{len(self.q_lens)}", f"q{max(self.q_lens, default=0)}", f"kv{sum(self.kv_lens)}", f"h{self.heads}"]
        return [*sizes, f"w{self.workers}", *(f"{n}={v}" for n, v in self._changed().items() if n not in told)]

    @property
    def max_seqlen_q(self) -> int:
        """The max_seqlen_qo argument. A plan for sparse lists has one query row per request."""
        if self.max_q is not None:
            return self.max_q
        return 1 if self.topk >= 0 else max((1, *self.q_lens))

    def inputs(self) -> Inputs:
        """Every tensor in a block of its own."""
        return _build(self)

    def planner(self, inputs: Inputs, arch: str) -> Planner:
        """The reference for these tensors."""
        uniform, last = inputs.values["uni_seqlen_qo"], inputs.blocks.get("kv_last_page_lens")
        return Planner(
            inputs.array("seqlens_qo_indptr").tolist(),
            inputs.array("seqlens_kv_indptr").tolist(),
            last and last.array.tolist(),
            self.heads,
            self.workers,
            len(inputs.array("work_info_set")),
            min(len(inputs.array("reduce_indptr")) - 1, len(inputs.array("reduce_final_map"))),
            len(inputs.array("reduce_partial_map")),
            tile_pairs(arch, self.dtype, self.heads, self.max_seqlen_q),
            *(self.causal, self.page_size, self.granule, self.max_seqlen_q, uniform, self.topk),
            *(self.cap or -1, self.shard, self.deterministic),
        )

    def expected(self, inputs: Inputs, device: Device) -> dict[str, Expected]:
        """Equal to the reference in every entry that a plan defines; the others are not written."""
        return expected_outputs(inputs, self.planner(inputs, device.name).plan(), self)

    def check(self, outcome: Outcome) -> None:
        """The op returns nothing."""
        if outcome.returned is not None:
            raise AssertionError(f"expected None, got {type(outcome.returned).__name__}\n  {self.repro}")


def expected_outputs(inputs: Inputs, lists: Lists, case: MlaMetadataCase) -> dict[str, Expected]:
    """The six tensors of the plan."""
    indptr = np.searchsorted(np.array(lists.workers, np.int64), np.arange(case.workers + 1))
    groups = np.full(len(inputs.array("reduce_indptr")), sum(lists.counts), np.int64)
    groups[: len(lists.counts) + 1] = np.cumsum([0, *lists.counts])
    tag = np.array([TAG, DETERMINISTIC if case.deterministic else 0], np.int64)
    return {
        "work_metadata_ptrs": Expected(tag),
        "work_indptr": Expected(indptr),
        "reduce_indptr": Expected(groups),
        "work_info_set": _prefix(lists.items, inputs.array("work_info_set").shape),
        "reduce_final_map": _prefix(lists.final, inputs.array("reduce_final_map").shape),
        "reduce_partial_map": _prefix(lists.partial, inputs.array("reduce_partial_map").shape),
    }


def _prefix(rows: list, shape: tuple[int, ...]) -> Expected:
    values, written = np.zeros(shape, np.int64), np.zeros(shape[0], bool)
    written[: len(rows)] = True
    if rows:
        values[: len(rows)] = rows
    return Expected(values, written=written)


def _build(case: MlaMetadataCase) -> Inputs:
    rng = np.random.default_rng([case.seed, len(case.q_lens), sum(case.q_lens), sum(case.kv_lens)])
    pages = [ceil_div(length, case.page_size) for length in case.kv_lens]
    last = [(length - 1) % case.page_size + 1 if length else 0 for length in case.kv_lens]
    index = {
        "seqlens_qo_indptr": np.cumsum([0, *case.q_lens]),
        "seqlens_kv_indptr": np.concatenate([np.cumsum([case.kv_begin, *pages]), [INT32_MAX] * case.spare]),
    }
    if case.page_size > 1:
        index["kv_last_page_lens"] = np.array([*last, *[INT32_MAX] * case.spare])
    blocks = {}
    for name, values in index.items():
        blocks[name] = packed(values.astype(np.int32), shift=int(rng.integers(0, 4)))
        if case.hostile:
            any_integers(rng, blocks[name].array, case.hostile, 40)
    shapes = [(2,), (case.workers + 1,), *_sizes(case)]
    names = ("work_metadata_ptrs", "work_indptr", "work_info_set", "reduce_indptr", "reduce_final_map")
    for name, shape in zip((*names, "reduce_partial_map"), shapes, strict=True):
        tag = np.int64 if case.signed_tag else np.uint64
        blocks[name] = Block(shape, tag if name == names[0] else np.int32, shift=int(rng.integers(0, 4)))
    values = {
        **{"num_heads_per_head_k": case.heads, "num_heads_k": 1, "is_causal": case.causal, "topk": case.topk},
        **{"page_size": case.page_size, "kv_granularity": case.granule, "max_seqlen_qo": case.max_seqlen_q},
        **{"uni_seqlen_qo": _uniform(case), "max_split_per_batch": case.cap, "is_cp_round_robin": case.shard},
        **{"deterministic": case.deterministic, "dtype_q": case.dtype, "dtype_kv": case.dtype},
    }
    if case.page_size == 1:
        values["kv_last_page_lens"] = None
    return Inputs(case, blocks, values, OUTPUTS)


def _uniform(case: MlaMetadataCase) -> int:
    if not case.uniform:
        return -1
    return 1 if case.topk >= 0 else max(case.q_lens, default=1)


def _sizes(case: MlaMetadataCase) -> list[tuple[int, ...]]:
    """Shapes of work_info_set, reduce_indptr, reduce_final_map, reduce_partial_map."""
    if case.sizes is not None:
        items, tiles, entries = case.sizes
        return [(items, 8), (tiles + 1,), (tiles, 2), (entries,)]
    info = aiter_c.get_mla_metadata_info_v1(  # twice the heads: some tiles of gfx950 hold half as much
        len(case.q_lens), max((1, *case.q_lens)), 2 * case.heads, case.dtype, case.dtype, case.topk >= 0,
        max_split_per_batch=case.cap, num_workers=case.workers, deterministic=case.deterministic, device="cpu",
    )  # fmt: skip
    return [size if isinstance(size, tuple) else (size,) for size, _ in info[2:]]
