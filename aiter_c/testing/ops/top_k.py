"""One top-k call as a value, and what it must give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..case import Case
from ..compare import Expected, check_bits
from ..inputs import Inputs
from ..memory import Block, packed

if TYPE_CHECKING:
    from ..device import Device
    from ..run import Outcome

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
SPLIT_COLUMNS = 40_000  # of a row that two threads share, one part each

#: What the logits are: see `_logits`.
DATA = (
    *("normal", "equal", "nan", "some_nan", "zeros", "subnormal", "ascending", "descending", "few", "infinities"),
    *("bits", "close", "late_ties"),
)
#: How the windows lie in the columns: see `_windows`. "mixed": a row of each kind.
WINDOWS = ("whole", "inside", "short", "empty", "reversed", "partly", "outside", "extremes")


def _logits(kind: str, rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """float32 of the shape; the columns are what matters."""
    normal = rng.standard_normal(shape).astype(np.float32)
    bits = rng.integers(0, 2**32, shape, np.uint32)
    match kind:
        case "normal":
            return normal
        case "equal":
            return np.full(shape, 1.5, np.float32)
        case "nan":  # quiet and signalling, of both signs
            return (bits | 0x7F800001).view(np.float32)
        case "some_nan":
            return np.where(bits % 3 == 0, (bits | 0x7F800001).view(np.float32), normal)
        case "zeros":
            return np.where(bits % 2 == 0, np.float32(0.0), np.float32(-0.0))
        case "subnormal":
            return (bits & 0x8000000F).view(np.float32)
        case "ascending":
            return np.sort(normal, axis=1)
        case "descending":
            return -np.sort(normal, axis=1)
        case "few":
            return (bits % 5).astype(np.float32) - 2
        case "infinities":
            return np.array([np.inf, -np.inf, 1.0, np.nan], np.float32)[bits % 4]
        case "bits":
            return bits.view(np.float32)
        case "close":  # one digit of the rank after the other decides
            return np.array([0x3F800000, 0x3F800001, 0x3F800400, 0x3F900000], np.uint32)[bits % 4].view(np.float32)
        case "late_ties":  # the k-th best is met many times, mostly at the end
            return np.where(np.arange(shape[1]) > shape[1] // 2, np.float32(0.5), np.minimum(normal, np.float32(0.5)))
    raise ValueError(kind)


def _window(kind: str, rng: np.random.Generator, columns: int, k: int) -> tuple[int, int]:
    """[begin, end) as the caller says it, anything that fits int32."""
    low, high = sorted(rng.integers(0, columns + 1, 2).tolist())
    match kind:
        case "whole":
            return 0, columns
        case "inside":
            return low, high
        case "short":
            return low, min(low + int(rng.integers(0, k + 1)), columns)
        case "empty":
            return low, low
        case "reversed":
            return high + 1, low
        case "partly":
            return (-7, high) if rng.integers(2) else (low, columns + 7)
        case "outside":
            return (columns, columns + 9) if rng.integers(2) else (-9, int(rng.integers(-3, 1)))
        case "extremes":
            choices = (INT32_MIN, INT32_MAX, 0, columns)
            return int(rng.choice(choices)), int(rng.choice(choices))
    raise ValueError(kind)


@dataclass(frozen=True, repr=False)
class TopKCase(Case):
    """top_k_per_row_prefill, or with next_n top_k_per_row_decode. Whatever a row's window does not hold is +inf, which
    would rank first."""

    small: ClassVar = ({}, {"next_n": 2}, {"rows": 1, "columns": SPLIT_COLUMNS})

    rows: int = 3
    columns: int = 100
    k: int = 16
    next_n: int | None = None
    data: str = "normal"
    window: str = "whole"
    values: bool = True  # of prefill
    spare_rows: int = 0  # of every tensor, after numRows
    spare_k: int = 0  # columns of the outputs after k
    gap: int = 0  # elements between the rows of logits
    out_gap: int = 0  # between the rows of the outputs
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses a case that means nothing."""
        if self.data not in DATA or self.window not in (*WINDOWS, "mixed"):
            raise ValueError(f"a case that means nothing: {self!r}")

    @property
    def op(self) -> str:
        """The function that is called."""
        return "top_k_per_row_prefill" if self.next_n is None else "top_k_per_row_decode"

    @property
    def words(self) -> list[str]:
        """Sizes, then what is not as usual."""
        sizes = [f"{self.rows}x{self.columns}", f"k{self.k}"]
        if self.next_n is not None:
            sizes.append(f"n{self.next_n}")
        told = ("rows", "columns", "k", "next_n", "data", "window")
        kinds = [word for word, usual in ((self.data, "normal"), (self.window, "whole")) if word != usual]
        return sizes + kinds + [f"{name}{value:d}" for name, value in self._changed().items() if name not in told]

    def inputs(self) -> TopKInputs:
        """Every array in a block of its own."""
        return TopKInputs.of(self)

    def expected(self, inputs: TopKInputs, device: Device) -> dict[str, Expected]:
        """Equal to the reference in every element; what lies past k and numRows is not written."""
        indices, values = inputs.reference()
        shape = inputs.array("indices").shape
        written = np.zeros(shape, bool)
        written[: self.rows, : self.k] = True
        wide = np.zeros(shape, np.int64)
        wide[: self.rows, : self.k] = indices
        out = {"indices": Expected(wide, written=written)}
        if "values" in inputs.written:
            wide = np.zeros(shape, np.float32)
            wide[: self.rows, : self.k] = values
            out["values"] = Expected(wide, written=written)
        return out

    def check(self, outcome: Outcome) -> None:
        """The bits of the values as well: payloads of NaN, signs of zero."""
        if outcome.returned is not None:
            raise AssertionError(f"expected None, got {outcome.returned!r}\n  {self.repro}")
        if "values" in outcome.outputs:
            got = outcome.outputs["values"][: self.rows, : self.k]
            check_bits("values", got, outcome.inputs.reference()[1], self.repro)


class TopKInputs(Inputs):
    """The tensors of a case. windows: the columns of every row as the contract reads its bounds."""

    windows: list[tuple[int, int]]

    @classmethod
    def of(cls, case: TopKCase) -> TopKInputs:
        """Deterministic."""
        rng = np.random.default_rng([case.seed, case.rows, case.columns, case.k])
        kinds = WINDOWS if case.window == "mixed" else (case.window,)
        rows, outputs = case.rows + case.spare_rows, (case.rows + case.spare_rows, case.k + case.spare_k)
        bounds = [_window(kinds[r % len(kinds)], rng, case.columns, case.k) for r in range(rows)]
        begins, ends = np.array(bounds, np.int32).reshape(rows, 2).T
        indices = _output(outputs, np.int32, case.out_gap)
        blocks = {"logits": _matrix((rows, case.columns), case.gap), "indices": indices}
        strides = [stride // 4 for stride in blocks["logits"].array.strides]
        numbers = {"numRows": case.rows, "stride0": strides[0], "stride1": strides[1], "k": case.k}
        if case.next_n is not None:
            blocks["seqLens"] = packed(ends[: -(-rows // case.next_n)])
            numbers["next_n"] = case.next_n
        else:
            blocks |= {"rowStarts": packed(begins), "rowEnds": packed(ends)}
            if case.values:
                blocks["values"] = _output(outputs, np.float32, case.out_gap)
            else:
                numbers["values"] = None
        inputs = cls(case, blocks, numbers, tuple(name for name in ("indices", "values") if name in blocks))
        inputs.find_windows()
        inputs._fill(_logits(case.data, rng, (rows, case.columns)))
        return inputs

    def find_windows(self) -> None:
        """From the tensors, again after a change of them."""
        columns, n = self.case.columns, self.case.next_n
        if n is None:
            bounds = zip(self.array("rowStarts").tolist(), self.array("rowEnds").tolist(), strict=True)
        else:
            lengths = self.array("seqLens").tolist()
            bounds = ((0, lengths[r // n] - n + r % n + 1) for r in range(len(self.array("logits"))))
        self.windows = [(max(begin, 0), max(begin, 0, min(end, columns))) for begin, end in bounds]

    def _fill(self, values: np.ndarray) -> None:
        logits = self.array("logits")
        logits[...] = np.inf
        for row, bits, (begin, end) in zip(logits.view(np.uint32), values.view(np.uint32), self.windows, strict=True):
            row[begin:end] = bits[begin:end]

    def reference(self) -> tuple[np.ndarray, np.ndarray]:
        """(indices, values) [numRows, k]."""
        rows = self.case.rows
        return top_k_reference(self.array("logits")[:rows], self.windows[:rows], self.case.k)


def _matrix(shape: tuple[int, int], gap: int) -> Block:
    """An input whose gaps are +inf."""
    block = Block((shape[0], shape[1] + gap), np.float32, poison=True)
    block.array[...] = np.inf
    block.array = block.array[:, : shape[1]]
    return block


def _output(shape: tuple[int, int], dtype: type, gap: int) -> Block:
    return Block(shape, dtype, strides=(shape[1] + gap, 1))


def top_k_reference(logits: np.ndarray, windows: list[tuple[int, int]], k: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorts every window [begin, end): NaN last, then by value, then +0 before -0, then by column. Returns the first k
    in ascending order and what stands there, then -1 and 0."""
    indices, values = np.full((len(logits), k), -1, np.int32), np.zeros((len(logits), k), np.float32)
    for r, (begin, end) in enumerate(windows):
        row = logits[r, begin:end]
        nan = np.isnan(row)
        number = np.where(nan, np.float32(0), row)
        order = np.lexsort((np.arange(len(row)), np.signbit(number) & (number == 0), -number, nan))
        best = np.sort(order[:k])
        indices[r, : len(best)] = best + begin
        values.view(np.uint32)[r, : len(best)] = row.view(np.uint32)[best]
    return indices, values
