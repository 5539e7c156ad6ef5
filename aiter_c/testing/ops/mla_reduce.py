"""One mla_reduce_v1 call as a value, and what it must give."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..case import Case
from ..compare import Expected
from ..inputs import Inputs
from ..memory import Block, packed
from ..tolerance import Tolerance, dot_product_bound

if TYPE_CHECKING:
    from ..device import Device
    from ..run import Outcome

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
O_DTYPES = ("bfloat16", "float16", "float32")

#: Which partials hold nothing: LSE -inf, and NaN where the row would be.
EMPTY_PATTERNS = ("none", "some", "first", "last", "all")
#: Which entries of reduce_partial_map lie outside the partials.
MASK_PATTERNS = ("none", "minus_one", "rows", "extremes", "straddle", "all")

#: One rounding to the output's dtype; the sums are fp32: see `Merged.bound`.
OUTPUT_ROUNDING = {
    "bfloat16": Tolerance(2.0**-40, 1.01 * 2.0**-8),
    "float16": Tolerance(1.01 * 2.0**-25, 1.01 * 2.0**-11),
    "float32": Tolerance(2.0**-40, 1.01 * 2.0**-24),
}
LSE_ROUNDING = Tolerance(1e-6, 2.0**-22)


@dataclass
class Merged:
    """o [N, H, Dv] and lse [N, H] in fp64 (NaN where nothing is written); owners [N]: groups that write the row.

    bound, lse_bound: what rounding in fp32 may move an element by.
    """

    o: np.ndarray
    lse: np.ndarray
    owners: np.ndarray
    bound: np.ndarray
    lse_bound: np.ndarray


def merge(lse: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Partials of one row, lse [n, H] and rows [n, H, Dv], by log-sum-exp: (o, lse, bound, lse_bound) as in Merged.

    A partial with LSE -inf holds nothing, whatever stands in its row; a row of such partials is o = 0, lse = -inf.
    """
    holds = lse != -np.inf
    top = np.max(np.where(holds, lse, -np.inf), axis=0, initial=-np.inf)
    distance = np.where(holds, lse - np.where(np.isneginf(top), 0.0, top), 0.0)
    weights = np.where(holds, np.exp(distance), 0.0)
    total = weights.sum(axis=0)
    some = total != 0
    weights /= np.where(some, total, 1.0)
    terms = weights[..., None] * np.where(holds[..., None], rows, 0.0)
    # n additions; the exponent, a difference times log2(e), is off by its own roundings, and exp by a few units.
    roundings = len(lse) + 8 + 3 * np.abs(distance)
    bound = dot_product_bound((roundings[..., None] * np.abs(terms)).sum(axis=0))
    with np.errstate(divide="ignore"):
        merged = np.where(some, top + np.log(total), -np.inf)
    return terms.sum(axis=0), merged, bound, dot_product_bound((roundings * weights).sum(axis=0))


def _bounded(indptr: np.ndarray, i: int, most: int) -> range:
    """Entries [indptr[i], indptr[i + 1]) clamped to [0, most]; descending: none."""
    begin = min(max(int(indptr[i]), 0), most)
    return range(begin, min(max(int(indptr[i + 1]), begin), most))


def mla_reduce_reference(
    partial_output: np.ndarray,
    partial_lse: np.ndarray,
    reduce_indptr: np.ndarray,
    reduce_final_map: np.ndarray | None,
    reduce_partial_map: np.ndarray,
    max_seqlen_q: int,
    num_rows: int,
) -> Merged:
    """The whole call in fp64, for index tensors of any values. partial_output [P, H, Dv], partial_lse [P, H]."""
    num_partials, heads, dv = partial_output.shape
    out = Merged(
        np.full((num_rows, heads, dv), np.nan),
        np.full((num_rows, heads), np.nan),
        np.zeros(num_rows, int),
        np.zeros((num_rows, heads, dv)),
        np.zeros((num_rows, heads)),
    )
    for group in range(len(reduce_indptr) - 1):
        entries = _bounded(reduce_indptr, group, len(reduce_partial_map))
        if len(entries) == 0:
            continue
        locations = reduce_partial_map[entries.start : entries.stop].astype(np.int64)
        if reduce_final_map is not None:
            final = _bounded(reduce_final_map[group], 0, num_rows)
        else:
            step = int(locations[1] - locations[0]) if len(locations) > 1 else max_seqlen_q
            begin = min(max(group * step, 0), num_rows)
            final = range(begin, min(begin + max(step, 0), num_rows))
        for token, row in enumerate(final):
            parts = locations[(locations >= 0) & (locations + token < num_partials)] + token
            o, lse, bound, lse_bound = merge(
                partial_lse[parts].astype(np.float64), partial_output[parts].astype(np.float64)
            )
            out.o[row], out.lse[row], out.bound[row], out.lse_bound[row] = o, lse, bound, lse_bound
            out.owners[row] += 1
    return out


@dataclass(frozen=True, repr=False)
class MlaReduceCase(Case):
    """Symbols: groups of (final rows, partials), H heads, Dv values of a row. Defaults are the plainest call."""

    op: ClassVar[str] = "mla_reduce_v1"
    small: ClassVar = ({"heads": 2},)

    heads: int = 16
    dv: int = 512
    groups: tuple[tuple[int, int], ...] = ((1, 2),)  # final rows, partials; 0 partials: the rows stay
    o_dtype: str = "bfloat16"
    final_map: bool = True  # else None: group i owns rows [i * q, (i + 1) * q)
    return_lse: bool = True
    rank: int = 3  # of partial_output; 4: [P, 1, H, Dv], and partial_lse [P, 1, H, 1]
    max_seqlen_q: int | None = None  # None: rows of the largest group. Any other number serves as well
    num_kv_splits: int | None = 0
    o_strided: bool = False
    unowned_rows: int = 0  # among the final rows
    stale_groups: int = 0  # more entries of reduce_indptr, all the total; of the maps, any
    empty: str = "none"  # one of EMPTY_PATTERNS
    masked: str = "none"  # one of MASK_PATTERNS
    spread: float = 3.0  # standard deviation of the partials' LSEs
    level: float = 0.0  # their mean
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses a case that means nothing, so that a typing error in a list cannot pass as a test."""
        equal = len({rows for rows, _ in self.groups}) <= 1
        meaningful = (
            self.heads >= 1
            and self.dv >= 1
            and self.o_dtype in O_DTYPES
            and self.rank in (3, 4)
            and self.empty in EMPTY_PATTERNS
            and self.masked in MASK_PATTERNS
            and (self.final_map or (equal and not self.unowned_rows and not self.stale_groups))
        )
        if not meaningful:
            raise ValueError(f"a case that means nothing: {self!r}")

    @property
    def served_q_len(self) -> int:
        """The max_seqlen_q argument."""
        return self.max_seqlen_q if self.max_seqlen_q is not None else max((1, *(rows for rows, _ in self.groups)))

    @property
    def words(self) -> list[str]:
        """The sizes, and what is not as usual."""
        words = [f"h{self.heads}", f"d{self.dv}", f"g{_runs(self.groups)}", _SHORT[self.o_dtype]]
        told = ("heads", "dv", "groups", "o_dtype")
        return words + [f"{name}={value}" for name, value in self._changed().items() if name not in told]

    def inputs(self) -> Inputs:
        """Partials at shuffled places with gaps between them, final rows in another order than the groups."""
        return _build(self)

    def expected(self, inputs: Inputs, device: Device) -> dict[str, Expected]:
        """By the fp64 reference; a row of one partial is that partial, rounded once."""
        return expected_outputs(self, inputs.arguments())

    def check(self, outcome: Outcome) -> None:
        """The op returns nothing."""
        if outcome.returned is not None:
            raise AssertionError(f"expected None, got {type(outcome.returned).__name__}\n  {self.repro}")


_SHORT = {"bfloat16": "bf16", "float16": "f16", "float32": "f32"}


def _runs(groups: tuple[tuple[int, int], ...]) -> str:
    """((1, 2), (1, 2), (3, 0)) -> "1.2x2_3.0"."""
    runs = [(group, len(list(same))) for group, same in itertools.groupby(groups)]
    return "_".join(f"{rows}.{parts}" + (f"x{count}" if count > 1 else "") for (rows, parts), count in runs)


def _merged(arguments: dict[str, object]) -> Merged:
    num_rows, heads, dv = arguments["final_output"].shape
    partials = arguments["partial_output"]
    return mla_reduce_reference(
        partials.reshape(len(partials), heads, dv),
        arguments["partial_lse"].reshape(len(partials), heads),
        arguments["reduce_indptr"],
        arguments["reduce_final_map"],
        arguments["reduce_partial_map"],
        arguments["max_seqlen_q"],
        num_rows,
    )


def owners_of(arguments: dict[str, object]) -> np.ndarray:
    """How many groups write each final row. With more than one it has no one answer."""
    return _merged(arguments).owners


def expected_outputs(case: MlaReduceCase, arguments: dict[str, object]) -> dict[str, Expected]:
    """For the arguments of a call, of any values as long as no row has two owners."""
    merged = _merged(arguments)
    written = merged.owners > 0
    empty = np.isneginf(merged.lse)
    o = Expected(merged.o, OUTPUT_ROUNDING[case.o_dtype], written=written, exact=empty, allowance=merged.bound)
    if arguments.get("final_lse") is None:
        return {"final_output": o}
    return {
        "final_output": o,
        "final_lse": Expected(merged.lse, LSE_ROUNDING, written=written, allowance=merged.lse_bound),
    }


def _place_rows(case: MlaReduceCase, rng: np.random.Generator) -> tuple[list[int], list[list[int]], int, int]:
    """First final row of every group, first partial row of each of its partials; N and P."""
    if not case.final_map:
        return _place_equal_groups(case)
    firsts, at = [0] * len(case.groups), case.unowned_rows // 2
    for group in rng.permutation(len(case.groups)):
        firsts[group] = at
        at += case.groups[group][0]
    num_rows = at + case.unowned_rows - case.unowned_rows // 2
    wanted = [(group, part) for group, (_, parts) in enumerate(case.groups) for part in range(parts)]
    locations = [[0] * parts for _, parts in case.groups]
    at = 1
    for i in rng.permutation(len(wanted)):
        group, part = wanted[i]
        locations[group][part] = at
        at += case.groups[group][0] + int(rng.integers(0, 2))
    return firsts, locations, num_rows, at + 1


def _place_equal_groups(case: MlaReduceCase) -> tuple[list[int], list[list[int]], int, int]:
    """Without a map: the first two partials of a group are as far apart as a group has rows."""
    q = case.groups[0][0] if case.groups else 1
    locations, at = [], 1
    for _, parts in case.groups:
        locations.append([at + part * q for part in range(parts)])
        at += parts * q + 1
    return [i * q for i in range(len(case.groups))], locations, len(case.groups) * q, at + 1


def _partial_values(
    case: MlaReduceCase, rng: np.random.Generator, locations: list[list[int]], num_partials: int
) -> tuple[Block, Block]:
    """N(0, 1) where a group has a partial, and in the last row, which a "straddle" reaches; NaN elsewhere."""
    heads, dv = case.heads, case.dv
    o_shape, lse_shape = {
        3: ((num_partials, heads, dv), (num_partials, heads)),
        4: ((num_partials, 1, heads, dv), (num_partials, 1, heads, 1)),
    }[case.rank]
    shift = int(rng.integers(0, 4))
    partial_output = Block(o_shape, "float32", shift=shift, poison=True)
    partial_lse = Block(lse_shape, "float32", shift=shift, poison=True)
    o = partial_output.array.reshape(num_partials, heads, dv)
    lse = partial_lse.array.reshape(num_partials, heads)
    o[...] = lse[...] = np.nan
    used = [[(at, rows) for at in starts] for starts, (rows, _) in zip(locations, case.groups, strict=True)]
    for group in [*used, [(num_partials - 1, 1)]]:
        for part, (at, rows) in enumerate(group):
            o[at : at + rows] = rng.standard_normal((rows, heads, dv))
            lse[at : at + rows] = case.level + case.spread * rng.standard_normal((rows, heads))
            nothing = {
                "none": np.zeros((rows, heads), bool),
                "some": rng.random((rows, heads)) < 0.4,
                "first": np.full((rows, heads), part == 0),
                "last": np.full((rows, heads), part == len(group) - 1),
                "all": np.ones((rows, heads), bool),
            }[case.empty]
            lse[at : at + rows][nothing] = -np.inf
            o[at : at + rows][nothing] = np.nan
    return partial_output, partial_lse


def _masked_map(case: MlaReduceCase, rng: np.random.Generator, partial_map: np.ndarray, num_partials: int) -> None:
    """Entries that lie outside, or whose later rows do."""
    values = {
        "none": [],
        "minus_one": [-1],
        "rows": [num_partials],
        "extremes": [INT32_MIN, -2, num_partials + 1, INT32_MAX],
        "straddle": [num_partials - 1],
        "all": [-1, num_partials],
    }[case.masked]
    if values:
        hit = rng.random(len(partial_map)) < (1.0 if case.masked == "all" else 0.5)
        partial_map[hit] = rng.choice(values, int(hit.sum()))


def _build(case: MlaReduceCase) -> Inputs:
    rng = np.random.default_rng([case.seed, case.heads, case.dv, len(case.groups), sum(map(sum, case.groups))])
    firsts, locations, num_rows, num_partials = _place_rows(case, rng)
    blocks = dict(
        zip(("partial_output", "partial_lse"), _partial_values(case, rng, locations, num_partials), strict=True)
    )
    partial_map = np.array([at for starts in locations for at in starts], np.int32)
    _masked_map(case, rng, partial_map, num_partials)
    indptr = np.cumsum([0, *(parts for _, parts in case.groups)], dtype=np.int32)
    indptr = np.concatenate([indptr, np.full(case.stale_groups, indptr[-1], np.int32)])
    stale = rng.integers(INT32_MIN, INT32_MAX, 2 * case.stale_groups, np.int32)
    blocks["reduce_indptr"] = packed(indptr)
    blocks["reduce_partial_map"] = packed(np.concatenate([partial_map, stale]))
    if case.final_map:
        ends = [[first, first + rows] for first, (rows, _) in zip(firsts, case.groups, strict=True)]
        blocks["reduce_final_map"] = packed(
            np.concatenate([np.array(ends, np.int32).reshape(-1, 2), stale.reshape(-1, 2)])
        )
    shape = (num_rows, case.heads, case.dv)
    strides = (case.heads * (case.dv + 24) + 40, case.dv + 24, 1) if case.o_strided else None
    blocks["final_output"] = Block(shape, case.o_dtype, strides=strides, shift=int(rng.integers(0, 8)))
    values = {"max_seqlen_q": case.served_q_len, "num_kv_splits": case.num_kv_splits}
    if case.return_lse:
        blocks["final_lse"] = Block((num_rows, case.heads), "float32", shift=int(rng.integers(0, 4)))
    if not case.final_map:
        values["reduce_final_map"] = None
    return Inputs(case, blocks, values, written=("final_output", "final_lse")[: 1 + case.return_lse])
