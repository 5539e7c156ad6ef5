"""What every plan promises, checked over many random problems at once: the plans are put one after the other into long
arrays, and each promise is one comparison of arrays. Knows nothing of how a plan is made."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

import numpy as np

import aiter_c
from aiter_c.testing import Device

OUTPUTS = ("work_info_set", "work_indptr", "reduce_indptr", "reduce_final_map", "reduce_partial_map")
REQUEST, PARTIAL, Q_BEGIN, Q_END, KV_BEGIN, KV_END, KV_AFTER, HEADS = range(8)
HEAD_COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128)
POISON = -0x5A5A5A5B
SPARE = 3  # entries of every output that its size does not count


@dataclass
class Problem:
    """A call, and what it wrote."""

    q_lens: np.ndarray
    lengths: np.ndarray  # keys
    numbers: dict[str, int]  # scalar arguments
    workers: int
    out: dict[str, np.ndarray] | None = field(default=None, repr=False)


def draw(rng: np.random.Generator) -> Problem:
    """Ragged and uniform, dense and deterministic; every request has its own list."""
    pick = iter(rng.random(16).tolist())
    choose = lambda *values: values[int(next(pick) * len(values))]  # noqa: E731
    batch = choose(*range(12)) if next(pick) < 0.95 else 12 + int(next(pick) * 400)
    most_q, heads, uniform = choose(1, 1, 1, 2, 3, 4, 8, 16), choose(*HEAD_COUNTS), choose(False, True)
    q_lens = np.full(batch, most_q) if uniform else rng.integers(0, most_q + 1, batch)
    scale, workers = choose(2, 30, 400, 5_000, 70_000, 1_000_000), choose(1, 2, 3, 7, 16, 66, 132, 256, 304)
    lengths = (rng.random(batch) ** choose(1, 2, 3, 4) * scale).astype(np.int64)
    numbers = {
        **{"num_heads_per_head_k": heads, "num_heads_k": 1, "is_causal": choose(False, True)},
        **{"page_size": choose(1, 1, 1, 2, 16, 64, 69), "max_seqlen_qo": most_q},
        "kv_granularity": choose(16, 16, 64, 1 if scale < 100_000 else 32),
        **{"uni_seqlen_qo": most_q if uniform else -1, "max_split_per_batch": choose(-1, -1, 1, 2, 8, 64, workers)},
        **{"deterministic": next(pick) < 0.2, "is_cp_round_robin": next(pick) < 0.2, "fast_mode": next(pick) < 0.5},
    }
    return Problem(q_lens, lengths, numbers, workers)


def solve(problem: Problem, device: Device) -> None:
    """Calls with buffers of just the sizes that the info op gives, inside longer ones."""
    numbers, batch = problem.numbers, len(problem.q_lens)
    info = aiter_c.get_mla_metadata_info_v1(
        batch, numbers["max_seqlen_qo"], numbers["num_heads_per_head_k"], "bfloat16", "bfloat16", False,
        numbers["fast_mode"], max_split_per_batch=numbers["max_split_per_batch"], num_workers=problem.workers,
        deterministic=numbers["deterministic"], device=device.place,
    )  # fmt: skip
    names = ("work_indptr", "work_info_set", "reduce_indptr", "reduce_final_map", "reduce_partial_map")
    shapes = [size if isinstance(size, tuple) else (size,) for size, _ in info[1:]]
    # One block with spare entries after every output.
    widths = [math.prod(shape) for shape in shapes]
    block = np.full(sum(widths) + SPARE * len(widths), POISON, np.int32)
    ends = [end + SPARE * i for i, end in enumerate(itertools.accumulate(widths))]
    out = {n: block[e - w : e].reshape(s) for n, s, e, w in zip(names, shapes, ends, widths, strict=True)}
    pages = -(-problem.lengths // numbers["page_size"])
    device.call(
        "get_mla_metadata_v1",
        np.concatenate([[0], np.cumsum(problem.q_lens)]).astype(np.int32),
        np.concatenate([[0], np.cumsum(pages)]).astype(np.int32),
        ((problem.lengths - 1) % numbers["page_size"] + 1).astype(np.int32),
        work_metadata_ptrs=np.zeros(2, np.uint64),
        **out,
        **numbers,
    )
    assert (block[np.add.outer(ends, range(SPARE))] == POISON).all(), problem
    problem.out = out


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, np.int64)


class Plans:
    """The plans of many problems, one after the other. problem [items], ...: whose an entry is."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        for number, problem in enumerate(problems):
            indptr = problem.out["work_indptr"]
            held = len(problem.out["work_info_set"])
            ascends = indptr[0] == 0 and (np.diff(indptr) >= 0).all() and indptr[-1] <= held
            assert ascends, f"work_indptr of problem {number}: {problem}"
        self.counts = np.array([p.out["work_indptr"][-1] for p in problems])
        self.items = _joined([p.out["work_info_set"][:n] for p, n in zip(problems, self.counts, strict=True)])
        self.items = self.items.reshape(-1, 8)
        self.problem = np.repeat(np.arange(len(problems)), self.counts)
        workers = [np.repeat(np.arange(p.workers), np.diff(p.out["work_indptr"])) for p in problems]
        self.worker = _joined(workers)
        # Facts of every request, and where a problem's begin.
        self.first_request = np.cumsum([0, *(len(p.q_lens) for p in problems)])
        self.q_lens = _joined([p.q_lens for p in problems])
        self.lengths = _joined([p.lengths for p in problems])
        self.first_row = _joined([np.cumsum(p.q_lens) - p.q_lens for p in problems])
        page_size = self.of_request("page_size")
        self.pages = -(-self.lengths // page_size)
        begins = [np.cumsum(-(-p.lengths // p.numbers["page_size"])) for p in problems]
        self.kv_begin = _joined(begins) - self.pages
        self.request = self.first_request[self.problem] + self.items[:, REQUEST]

    def number(self, name: str) -> np.ndarray:
        """A scalar argument of every problem."""
        return np.array([p.numbers[name] for p in self.problems], np.int64)

    def of_request(self, name: str) -> np.ndarray:
        """The same of every request."""
        return np.repeat(self.number(name), [len(p.q_lens) for p in self.problems])

    def expect(self, right: np.ndarray, what: str, problem: np.ndarray | None = None) -> None:
        """Raises AssertionError with the first problem where it is not."""
        if not right.all():
            at = int(np.flatnonzero(~right)[0])
            number = int((self.problem if problem is None else problem)[at])
            raise AssertionError(f"{what}, problem {number}: {self.problems[number]}")

    def check(self) -> None:
        """Every promise."""
        item, problem = self.items.T, self.problem
        inside = (item[REQUEST] >= 0) & (self.request < self.first_request[problem + 1])
        self.expect(inside, "a request of the batch")
        self.expect(item[HEADS] == 0, "all heads")
        self._check_rows(item, problem)
        self._check_keys(item, problem)
        self._check_merging(item, problem)
        self._check_balance(item, problem)

    def _starts(self) -> np.ndarray:
        """Where the items of a tile begin; they are beside one another."""
        keys = (self.problem, self.request, self.items[:, Q_BEGIN])
        new = np.ones(len(self.problem), bool)
        if len(new):
            new[1:] = np.any([np.diff(key) != 0 for key in keys], axis=0)
        return new

    def _check_rows(self, item: np.ndarray, problem: np.ndarray) -> None:
        """Tiles are the request's rows, each once, in order; at most 128 pairs in one, or one row."""
        new = self._starts()
        first, tiles = np.flatnonzero(new), self.request[new]
        begin, end, owner = item[Q_BEGIN][first], item[Q_END][first], problem[first]
        self.expect(end > begin, "rows in a tile", owner)
        first_of_request = np.ones(len(first), bool)
        first_of_request[1:] = np.diff(tiles) != 0
        previous_end = np.concatenate([[0], end[:-1]])
        wanted = np.where(first_of_request, self.first_row[tiles], previous_end)
        self.expect(begin == wanted, "tiles in the order of the rows", owner)
        last_of_request = np.concatenate([first_of_request[1:], [True]])[: len(first)]
        last = self.first_row[tiles] + self.q_lens[tiles]
        self.expect(~last_of_request | (end == last), "all rows of the request", owner)
        served = np.unique(tiles)
        assert np.array_equal(served, np.flatnonzero(self.q_lens > 0)), "requests with rows, and no others"
        pairs = (end - begin) * self.number("num_heads_per_head_k")[owner]
        self.expect((pairs <= 128) | (end - begin == 1), "pairs of a tile", owner)
        for place in (Q_BEGIN, Q_END):
            same = new | (item[place] == np.concatenate([[0], item[place][:-1]]))
            self.expect(same, "pieces of the same rows")

    def _check_keys(self, item: np.ndarray, problem: np.ndarray) -> None:
        """The pieces of a tile are its list up to the last key that some row sees, without gaps and overlaps."""
        new = self._starts()
        last = np.concatenate([new[1:], [True]])[: len(new)]
        begin, end, list_begin = item[KV_BEGIN], item[KV_END], self.kv_begin[self.request]
        list_end = list_begin + self.pages[self.request]
        self.expect(begin <= end, "no piece is reversed")
        self.expect(begin == np.where(new, list_begin, np.concatenate([[0], end[:-1]])), "pieces without gaps")
        trims = (self.number("is_causal") == 1) & (self.number("page_size") == 1)
        trims &= self.number("is_cp_round_robin") == 0
        unseen = self.q_lens[self.request] - (item[Q_END] - self.first_row[self.request])
        seen_end = np.where(trims[problem], np.maximum(list_end - unseen, list_begin), list_end)
        self.expect(~last | ((end >= seen_end) & (end <= list_end)), "all keys that a row of the tile sees")
        page_size, pages = self.number("page_size")[problem], list_end - end
        keys = np.where(pages > 0, self.lengths[self.request] - (end - list_begin) * page_size, 0)
        self.expect(item[KV_AFTER] == keys, "keys after the piece")
        granule = self.number("kv_granularity")[problem]
        deterministic = self.number("deterministic")[problem] == 1
        aligned = last | ((end - list_begin) % granule == 0) | (end == seen_end) | deterministic
        self.expect(aligned, "cuts at multiples of the granularity")

    def _check_merging(self, item: np.ndarray, problem: np.ndarray) -> None:
        """A tile of one piece writes final rows. Others have a group, whose partial rows follow one another densely."""
        new = self._starts()
        first = np.flatnonzero(new)
        pieces = np.diff(np.concatenate([first, [len(new)]]))
        split = np.repeat(pieces > 1, pieces)
        self.expect(split == (item[PARTIAL] >= 0), "partials where a list is cut, -1 elsewhere")
        self.expect(split | (item[PARTIAL] == -1), "-1 for one piece")
        for number, plan in enumerate(self.problems):
            mine = slice(*np.searchsorted(problem, [number, number + 1]))
            tiles = slice(*np.searchsorted(problem[first], [number, number + 1]))
            groups = np.where(pieces[tiles] > 1, pieces[tiles], 0)
            indptr, partial = plan.out["reduce_indptr"], item[PARTIAL][mine]
            wanted = np.full(len(indptr), groups.sum())
            wanted[: len(groups) + 1] = np.concatenate([[0], np.cumsum(groups)])
            assert np.array_equal(indptr, wanted), f"reduce_indptr, problem {number}: {plan}"
            partial = partial[partial >= 0]
            assert np.array_equal(plan.out["reduce_partial_map"][: len(partial)], partial), f"problem {number}: {plan}"
            if len(partial) == 0:
                continue
            starts = first[tiles][groups > 0]
            final = np.stack([item[Q_BEGIN][starts], item[Q_END][starts]], 1)
            assert np.array_equal(plan.out["reduce_final_map"][: len(groups)][groups > 0], final), f"{number}: {plan}"
            rows = np.repeat(final[:, 1] - final[:, 0], groups[groups > 0])
            steps, most = np.diff(partial), numbers_of(plan)
            # A tile with fewer rows than the request's others leaves room for as many.
            assert partial[0] == 0 and (steps >= rows[:-1]).all() and (steps <= most).all(), f"{number}: {plan}"

    def _check_balance(self, item: np.ndarray, problem: np.ndarray) -> None:
        """See docs/contract.md, "Work lists": what a worker has at most."""
        page_size, granule = self.number("page_size"), self.number("kv_granularity")
        overhead = np.maximum(1, -(-16 // page_size))
        deterministic = self.number("deterministic") == 1
        pages = item[KV_END] - item[KV_BEGIN]
        blocks = np.where(deterministic[problem], pages / granule[problem], -(-pages // granule[problem]))
        key = self.worker + problem * 1024
        cost = np.bincount(key, blocks + overhead[problem], minlength=len(self.problems) * 1024)
        most = cost.reshape(-1, 1024).max(axis=1)
        tiles = np.bincount(problem[self._starts()], minlength=len(self.problems))
        list_blocks = -(-self.pages[self.request] // granule[problem]) + overhead[problem]
        total = np.bincount(problem[self._starts()], list_blocks[self._starts()], minlength=len(self.problems))
        splits = np.array([self._splits(number, int(tiles[number])) for number in range(len(self.problems))])
        tail = np.where(page_size == 1, -(-self.number("max_seqlen_qo") // granule), 0)
        largest = np.zeros(len(self.problems))
        np.maximum.at(largest, problem, blocks + overhead[problem])
        workers = np.array([p.workers for p in self.problems])
        total_pieces = np.bincount(problem, minlength=len(self.problems))
        fixed = total + (total_pieces - tiles) * overhead
        share = -(-total // splits)
        whole = np.where(self.number("max_split_per_batch") <= 0, share // 16, 0)  # lists that are not cut
        bound = np.where(deterministic, -(-fixed // workers) + largest + 2, share + whole + overhead + tail)
        self.expect(most <= bound, "balance", np.arange(len(self.problems)))

    def _splits(self, number: int, tiles: int) -> int:
        """Workers that the contract shares the lists of a problem among: with an explicit cap W or cap * B, else as the
        lengths say, and no more than the buffers hold."""
        problem = self.problems[number]
        cap = problem.numbers["max_split_per_batch"]
        entries = len(problem.out["reduce_partial_map"])
        held = min(len(problem.out["work_info_set"]) - tiles + 1, 1 + max(entries // 2, entries - tiles))
        if cap > 0:
            return max(1, min(problem.workers, cap * len(problem.q_lens), held))
        mine = slice(self.first_request[number], self.first_request[number + 1])
        keys = self.pages[mine] * problem.numbers["page_size"]
        of_tile = np.maximum(1, keys // 64)
        heads = problem.numbers["num_heads_per_head_k"]
        rows = np.where(heads * problem.numbers["max_seqlen_qo"] <= 128, self.q_lens[mine], max(1, 128 // heads))
        counts = -(-self.q_lens[mine] // np.maximum(rows, 1))
        return max(1, min(problem.workers, int((of_tile * counts).sum()), held))


def numbers_of(problem: Problem) -> int:
    """Query rows of a tile at most."""
    return problem.numbers["max_seqlen_qo"]
