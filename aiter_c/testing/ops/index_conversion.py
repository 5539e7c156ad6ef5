"""One call of an index conversion as a value, and what it must give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..case import Case
from ..compare import Expected
from ..inputs import INT32_MAX, INT32_MIN, Inputs, any_integers
from ..memory import Block, packed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..device import Device
    from ..run import Outcome

#: ATOM's of one row per request, of many, of a prefill, vLLM's with packed lists and with rows, SGLang's compaction.
FORMS = ("lists", "gather", "prefill", "ragged", "padded", "valid")
#: What the entries are: positions within the list, some of them nothing, all nothing, just at the borders, any number.
ENTRIES = ("all", "some", "none", "borders", "any")
#: Ranges of the output: as many entries as the row has columns or keys, fewer, or more than it has.
RANGES = ("exact", "short", "long")


@dataclass(frozen=True, repr=False)
class IndexConversionCase(Case):
    """Request b has lens[b] keys; a request of the forms that name their own has q_len rows. Defaults are the plainest
    call."""

    small: ClassVar = (
        {"columns": 5},
        {"columns": 5, "form": "gather", "q_len": 2, "given": False},
        {"columns": 5, "form": "prefill", "page_size": 4},
        {"columns": 5, "form": "ragged", "page_size": 4, "page_gap": 3},
        {"columns": 5, "form": "padded", "page_size": 4},
        {"columns": 5, "form": "padded", "given": False},
        {"columns": 5, "form": "valid"},
    )

    form: str = "lists"  # one of FORMS
    lens: tuple[int, ...] = (9, 4, 0)
    q_len: int = 1
    columns: int = 8
    entries: str = "some"  # one of ENTRIES
    ranges: str = "exact"  # one of RANGES
    page_size: int = 1  # of the forms with a table
    page_gap: int = 0  # rows between the pages
    given: bool = True  # out; else the op allocates it
    gap: int = 0  # elements between the rows of what may be strided
    spare: int = 0  # rows and columns more than are served
    shift: int = 0  # elements that tensors begin off their alignment
    hostile: float = 0.0  # share of the entries of every index tensor that are any integers
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses a case that means nothing."""
        meaningful = (
            self.form in FORMS
            and self.entries in ENTRIES
            and self.ranges in RANGES
            and (self.q_len == 1 or self.form != "lists")
            and (self.page_size == 1 or self.form in ("prefill", "ragged", "padded"))
            and (self.page_gap == 0 or self.form in ("ragged", "padded"))
            and (self.given or self.form in ("lists", "gather", "prefill", "padded"))
            and (self.given or not self.hostile)
        )
        if not meaningful:
            raise ValueError(f"a case that means nothing: {self!r}")

    @property
    def op(self) -> str:
        """The function that is called."""
        others = {
            "gather": "gather_kv_indices_sparse", "prefill": "convert_req_index_to_global_index_dsa_prefill",
            "valid": "get_valid_kv_indices",
        }  # fmt: skip
        return others.get(self.form, "convert_req_index_to_global_index")

    @property
    def rows(self) -> int:
        """That are served."""
        return len(self.lens) * self.q_len

    @property
    def words(self) -> list[str]:
        """The sizes, and what is not as usual."""
        told = ("form", "lens", "columns")
        words = [self.form, f"{self.rows}x{self.columns}"]
        changed = self._changed()
        if "lens" in changed:
            words.append("lens" + "_".join(map(str, self.lens[:4])))
        rest = {name: value for name, value in changed.items() if name not in told}
        return words + [name if value is True else f"{name}{value}" for name, value in rest.items()]

    def inputs(self) -> IndexInputs:
        """Every tensor in a block of its own."""
        return _build(self)

    def outputs(self, inputs: Inputs, returned: object) -> dict[str, np.ndarray | None]:
        """Under the name "out"."""
        return {"out": inputs.array(inputs.written[0]) if self.given else returned}

    def expected(self, inputs: IndexInputs, device: Device) -> dict[str, Expected]:
        """Equal in every element. One that several rows write holds what one of them gives; one that none writes is
        kept, or -1 in a fresh tensor."""
        if not self.given:
            shape = (self.rows, self.columns) if self.form == "padded" else (self.rows * self.columns,)
            values = np.full(shape, -1, np.int64)
            for at, choices in inputs.writes().items():
                (values[at],) = choices
            return {"out": Expected(values, dtype="int32")}
        got = inputs.array(inputs.written[0])
        values, written = np.zeros(got.shape, np.int64), np.zeros(got.shape, bool)
        for at, choices in inputs.writes().items():
            written[at] = True
            values[at] = got[at] if int(got[at]) in choices else min(choices)
        return {"out": Expected(values, written=written)}

    def check(self, outcome: Outcome) -> None:
        """What was passed is returned, or nothing."""
        passed = outcome.inputs.array("out") if "out" in outcome.inputs.blocks else None
        if self.given and outcome.returned is not passed:
            raise AssertionError(f"expected {'out itself' if passed is not None else None} back\n  {self.repro}")


@dataclass
class IndexInputs(Inputs):
    """With the reference: what every row writes."""

    def _int(self, name: str, i: int) -> int:
        return int(self.array(name)[i])

    def _run(self, name: str, i: int, size: int) -> range:
        begin = min(max(self._int(name, i), 0), size)
        return range(begin, max(begin, min(self._int(name, i + 1), size)))

    def _slot(self, row: int, position: int) -> int:
        """The slot of a row's position; -1: there is none."""
        case = self.case
        names = {
            "gather": "token_to_seq_idxs", "prefill": "token_to_seq_idxs", "ragged": "req_id", "padded": "req_id",
        }  # fmt: skip
        request = self._int(names[case.form], row) if case.form in names else row
        if case.form in ("lists", "gather"):
            slots = self.array("kv_indices")
            if not 0 <= request < len(self.array("kv_indptr")) - 1:
                return -1
            run = self._run("kv_indptr", request, len(slots))
            return max(int(slots[run[position]]), -1) if 0 <= position < len(run) else -1
        table = self.array("block_table")
        if case.form == "prefill" and position >= 0:
            first = self.array("cu_seqlens_q")
            if not 0 <= request < len(first) - 1:
                return -1
            position -= max(0, int(first[request]))
        if not (0 <= request < len(table) and 0 <= position < table.shape[1] * case.page_size):
            return -1
        block = int(table[request, position // case.page_size])
        slot = block * (case.page_size + case.page_gap) + position % case.page_size
        return -1 if block < 0 or slot > INT32_MAX else slot

    def _row(self, row: int) -> list[int]:
        """What a row's columns give."""
        names = {"gather": "topk_indices", "prefill": "topk_indices", "valid": "page_table"}
        entries = self.array(names.get(self.case.form, "token_indices"))[row, : self.case.columns].tolist()
        if self.case.form != "valid":
            return [self._slot(row, position) for position in entries]
        kept = [max(slot, -1) for slot in entries if slot != -1]
        return kept + [-1] * (len(entries) - len(kept))

    def _places(self, row: int) -> Iterator[int | tuple[int, int]]:
        """Where a row's columns go."""
        if self.case.form == "padded":
            yield from ((row, c) for c in range(self.case.columns))
            return
        indptr = {
            "lists": "page_kv_indptr", "gather": "sparse_kv_indptr", "prefill": "dsa_kv_indptr", "ragged": "cu_seqlens",
            "valid": "kv_indptr",
        }  # fmt: skip
        size = len(self.array(self.written[0])) if self.written else self.case.rows * self.case.columns
        yield from self._run(indptr[self.case.form], row, size)[: self.case.columns]

    def writes(self) -> dict[int | tuple[int, int], set[int]]:
        """For every element that is written: what rows give it."""
        out: dict[int | tuple[int, int], set[int]] = {}
        for row in range(self.case.rows):
            for at, value in zip(self._places(row), self._row(row), strict=False):
                out.setdefault(at, set()).add(value)
        return out


def _entries(case: IndexConversionCase, rng: np.random.Generator, length: int) -> np.ndarray:
    """Positions of a row among `length` keys; or, of rows that hold slots, slots below it."""
    wanted, low = case.columns, max(length, 1)
    chosen = rng.integers(0, low, wanted)
    if case.entries == "none" or length == 0:
        chosen[:] = -1
    elif case.entries == "some":
        chosen[rng.random(wanted) < 0.3] = -1
    elif case.entries == "borders":
        chosen = rng.choice([-2, -1, 0, 1, length - 1, length, length + 1, INT32_MAX, INT32_MIN], wanted)
    elif case.entries == "any":
        any_integers(rng, chosen, 0.5)
    return chosen


def _range_lengths(case: IndexConversionCase, rng: np.random.Generator, kept: list[int]) -> list[int]:
    """Of each row's range, where `kept` would be exact."""
    if case.ranges == "exact":
        return kept
    if case.ranges == "short":
        return [int(rng.integers(0, n + 1)) for n in kept]
    return [n + int(rng.integers(0, 4)) for n in kept]


def _build(case: IndexConversionCase) -> IndexInputs:
    rng = np.random.default_rng([case.seed, *case.lens, case.columns, case.q_len])
    batch, rows, spare, blocks = len(case.lens), case.rows, case.spare, {}

    def add(name: str, values: list[int] | np.ndarray, *, spares: int = 0) -> None:
        values = np.concatenate([np.asarray(values, np.int64), np.full(spares, INT32_MAX)])
        blocks[name] = packed(values.astype(np.int32), shift=case.shift)
        any_integers(rng, blocks[name].array, case.hostile)

    def add_rows(name: str, values: np.ndarray, *, wide: int = 0) -> None:
        shape = (len(values) + spare, values.shape[1] + wide)
        blocks[name] = Block(shape, np.int32, strides=(shape[1] + case.gap, 1), shift=case.shift, poison=True)
        blocks[name].array[...] = INT32_MAX
        blocks[name].array[: len(values), : values.shape[1]] = values
        any_integers(rng, blocks[name].array, case.hostile)

    requests = np.repeat(np.arange(batch), case.q_len)
    top = 5 * sum(case.lens) + 9  # slots of the cache
    lengths = [case.lens[b] for b in requests]
    table = np.array([_entries(case, rng, top if case.form == "valid" else n) for n in lengths], np.int64)
    table = table.reshape(rows, case.columns)
    kept = [min(n, case.columns) for n in lengths]
    if case.form == "valid":
        kept = (table != -1).sum(1).tolist()
    ranges = np.cumsum([0, *_range_lengths(case, rng, kept)])
    values: dict[str, object] = {"NUM_TOPK_TOKENS": case.columns}
    if case.form in ("lists", "gather"):
        if case.form == "lists":
            stale = rng.choice([INT32_MIN, -1, 7, 10**6, INT32_MAX], batch + 1 + spare)
            blocks["qo_indptr"] = packed(stale.astype(np.int32), shift=case.shift)
        else:
            add("token_to_seq_idxs", requests)
        add("kv_indptr", np.cumsum([3 * case.spare, *case.lens]))
        slots = rng.permutation(top)[: 3 * case.spare + sum(case.lens)]
        slots[rng.random(len(slots)) < 0.1] = -1
        add("kv_indices", slots, spares=spare)
        add("page_kv_indptr" if case.form == "lists" else "sparse_kv_indptr", ranges, spares=spare)
        add_rows("token_indices" if case.form == "lists" else "topk_indices", table, wide=spare)
    elif case.form == "valid":
        values = {"bs": rows}
        add_rows("page_table", table)
        add("kv_indptr", ranges, spares=spare)
    else:
        values |= {"PAGE_SIZE" if case.form == "prefill" else "BLOCK_SIZE": case.page_size}
        if case.page_gap:
            values["BLOCK_STRIDE_ROWS"] = case.page_size + case.page_gap
        if case.form == "prefill":
            stale = rng.choice([INT32_MIN, -1, 7, 10**6, INT32_MAX], rows + 1 + spare)
            blocks["dsa_qo_indptr"] = packed(stale.astype(np.int32), shift=case.shift)
            add("dsa_kv_indptr", ranges, spares=spare)
            firsts = np.cumsum([0, *case.lens])
            shifted = table + firsts[requests][:, None]
            table = np.where((table >= 0) & (shifted <= INT32_MAX), shifted, table)
            add("cu_seqlens_q", firsts, spares=spare)
        add("token_to_seq_idxs" if case.form == "prefill" else "req_id", requests)
        width = max([-(-n // case.page_size) for n in case.lens], default=0) + spare
        pages = rng.integers(0, 1000, (batch, width))
        pages[rng.random((batch, width)) < 0.1] = -1
        pages[rng.random((batch, width)) < 0.05] = INT32_MAX // (case.page_size + case.page_gap)
        add_rows("block_table", pages)
        add_rows("topk_indices" if case.form == "prefill" else "token_indices", table, wide=spare)
        if case.form == "ragged":
            add("cu_seqlens", ranges, spares=spare)
    inputs = IndexInputs(case, blocks, values)
    if case.given:
        name = {"ragged": "paged_kv_indices", "valid": "kv_indices"}.get(case.form, "out")
        inputs.written = (name,)
        shape = (int(ranges[-1]) + 2 * spare,)
        if case.form == "padded":
            shape = (rows + spare, case.columns + spare)
        strides = (shape[1] + case.gap, 1) if case.form == "padded" else None
        blocks[name] = Block(shape, np.int32, strides=strides, shift=case.shift)
    return inputs
