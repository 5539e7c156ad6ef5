"""One call of merge_states or merge_attn_states as a value, and what it must give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..case import Case
from ..compare import Expected
from ..inputs import Inputs
from ..memory import Block, dtype_of
from ..tolerance import dot_product_bound
from .mla_reduce import LSE_ROUNDING, OUTPUT_ROUNDING, merge

if TYPE_CHECKING:
    from ..device import Device
    from ..run import Outcome

DTYPES = ("bfloat16", "float16", "float32")
#: How the states come: one tensor, a tensor for each, or merge_attn_states, which takes two.
FORMS = ("tensor", "sequence", "two")
#: Which states hold nothing: LSE -inf, +inf or NaN, and NaN where the row would be.
EMPTY_PATTERNS = ("none", "some", "first", "last", "all")


@dataclass
class Merged:
    """o [T, H, D] and lse [T, H] in fp64; bound, lse_bound: what rounding in fp32 may move an element by."""

    o: np.ndarray
    lse: np.ndarray
    bound: np.ndarray
    lse_bound: np.ndarray


def merge_states_reference(o: np.ndarray, lse: np.ndarray, sink: np.ndarray | None = None) -> Merged:
    """States o [N, T, H, D], lse [N, T, H], sink [H], in fp64. A state whose LSE is no number below +inf holds nothing,
    whatever stands in its row."""
    states, *shape = o.shape
    lse = np.where(lse < np.inf, lse, -np.inf).astype(np.float64)  # NaN as well
    rows, merged, bound, lse_bound = merge(lse.reshape(states, -1), o.astype(np.float64).reshape(states, -1, shape[-1]))
    pairs = shape[:2]
    out = Merged(rows.reshape(shape), merged.reshape(pairs), bound.reshape(shape), lse_bound.reshape(pairs))
    if sink is None:
        return out
    top = lse.max(0)
    top[np.isneginf(top)] = 0.0
    distance = sink.astype(np.float64) - top
    total = np.exp(lse - top).sum(0)
    share = np.exp(np.minimum(distance, 700.0)) / np.where(total == 0, 1.0, total)  # of the sink, beside all states
    weight = 1 / (1 + share)
    # exp, the addition and the division are rounded; the exponent by as many units as it is large.
    units = 8 + share * weight * (8 + 3 * np.where(np.isneginf(distance), 0.0, np.abs(distance)))
    out.o *= weight[..., None]
    out.bound = out.bound * weight[..., None] + dot_product_bound(units[..., None] * np.abs(out.o))
    return out


@dataclass(frozen=True, repr=False)
class MergeStatesCase(Case):
    """Symbols: N states, T rows, H heads, D values of a row. Defaults are the plainest call."""

    small: ClassVar = (
        {"heads": 2},
        {"heads": 3, "form": "sequence", "layout": "ht", "sink": True, "given": True},
        {"heads": 2, "dim": 65, "form": "two", "layout": "ht", "given": True},
    )

    states: int = 2
    rows: int = 3
    heads: int = 16
    dim: int = 512
    o_dtype: str = "bfloat16"
    out_dtype: str | None = None  # None: that of o
    form: str = "tensor"  # one of FORMS
    layout: str = "th"  # of the LSEs
    given: bool = False  # out and lse_out; else the op allocates them
    return_lse: bool = True  # of merge_attn_states
    strided: bool = False  # every tensor with gaps; in one tensor the states stand between the rows of each other
    aligned: bool = False  # every tensor begins at a multiple of 16 bytes; else anywhere
    sink: bool = False
    sink_level: float = 0.0  # mean of the sink's logits
    empty: str = "none"  # one of EMPTY_PATTERNS
    spread: float = 3.0  # standard deviation of the LSEs
    level: float = 0.0  # their mean
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses a case that means nothing, so that a typing error in a list cannot pass as a test."""
        meaningful = (
            min(self.states, self.heads, self.dim) >= 1
            and self.o_dtype in DTYPES
            and self.out_dtype in (None, *DTYPES)
            and self.form in FORMS
            and self.layout in ("th", "ht")
            and self.empty in EMPTY_PATTERNS
            and (self.out_dtype is None or self.given)
            and (self.return_lse or self.form == "two")
            and (self.form != "two" or (self.given and self.layout == "ht" and self.states == 2))
            and (self.form != "sequence" or self.states <= 16)
        )
        if not meaningful:
            raise ValueError(f"a case that means nothing: {self!r}")

    @property
    def op(self) -> str:
        """The function that is called."""
        return "merge_attn_states" if self.form == "two" else "merge_states"

    @property
    def words(self) -> list[str]:
        """The sizes, and what is not as usual."""
        words = [f"n{self.states}", f"t{self.rows}", f"h{self.heads}", f"d{self.dim}", self.o_dtype]
        told = ("states", "rows", "heads", "dim", "o_dtype")
        for name, value in self._changed().items():
            if name not in told:
                words.append(name if value is True else f"{name}={value}")
        return words

    def inputs(self) -> MergeStatesInputs:
        """Every tensor in a block of its own; the rows of states that hold nothing are NaN."""
        return _build(self)

    def outputs(self, inputs: Inputs, returned: object) -> dict[str, np.ndarray | None]:
        """Under the names of merge_states."""
        if self.form != "two":
            return dict(zip(("out", "lse_out"), returned, strict=True))
        return {"out": inputs.array("output"), "lse_out": inputs.array("output_lse") if self.return_lse else None}

    def expected(self, inputs: MergeStatesInputs, device: Device) -> dict[str, Expected]:
        """By the fp64 reference; a row of nothing is 0 and -inf to the bit."""
        merged = merge_states_reference(inputs.o, inputs.lse, inputs.sink)
        empty = np.isneginf(merged.lse)
        fresh = {} if self.given else {"dtype": self.out_dtype or self.o_dtype}
        out = Expected(
            merged.o, OUTPUT_ROUNDING[self.out_dtype or self.o_dtype], exact=empty, allowance=merged.bound, **fresh
        )
        if not self.return_lse:
            return {"out": out}
        turn = np.transpose if self.layout == "ht" else np.asarray
        lse = Expected(
            turn(merged.lse), LSE_ROUNDING, exact=turn(empty), allowance=turn(merged.lse_bound),
            **({} if self.given else {"dtype": "float32"}),
        )  # fmt: skip
        return {"out": out, "lse_out": lse}

    def check(self, outcome: Outcome) -> None:
        """What was passed is returned, and merge_attn_states returns nothing. A row of nothing is +0.0."""
        returned, passed = outcome.returned, [outcome.inputs.array(name) for name in outcome.inputs.written]
        if self.form == "two":
            as_passed = returned is None
        else:
            as_passed = not passed or all(one is other for one, other in zip(returned, passed, strict=True))
        if not as_passed:
            raise AssertionError(f"other tensors were returned than were passed\n  {self.repro}")
        nothing = ~np.isfinite(outcome.inputs.lse).any(0)
        if np.signbit(outcome.outputs["out"].astype(np.float32)[nothing]).any():
            raise AssertionError(f"-0.0 in a row of nothing\n  {self.repro}")


@dataclass
class MergeStatesInputs(Inputs):
    """With the states' values in their usual order: o [N, T, H, D], lse [N, T, H], sink [H] or None."""

    o: np.ndarray | None = None
    lse: np.ndarray | None = None
    sink: np.ndarray | None = None

    def arguments(self) -> dict[str, object]:
        """The blocks "o[0]", "o[1]", ... are one argument, a list."""
        out, lists = super().arguments(), {}
        for name in list(out):
            if name.endswith("]"):
                lists.setdefault(name.partition("[")[0], []).append(out.pop(name))
        return lists | out


def _values(case: MergeStatesCase, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """o and lse in fp32: N(0, 1), and NaN where a state holds nothing."""
    shape = (case.states, case.rows, case.heads)
    o = rng.standard_normal((*shape, case.dim)).astype(np.float32)
    lse = (case.level + case.spread * rng.standard_normal(shape)).astype(np.float32)
    nothing = np.zeros(shape, bool)
    if case.empty == "some":
        nothing = rng.random(shape) < 0.5
    elif case.empty != "none":
        nothing[{"first": slice(1), "last": slice(-1, None), "all": slice(None)}[case.empty]] = True
    lse[nothing] = rng.choice([-np.inf, -np.inf, np.inf, np.nan], int(nothing.sum()))
    o[nothing] = np.nan
    return o, lse


def _strides(case: MergeStatesCase, shape: tuple[int, ...], *, lse: bool) -> tuple[int, ...] | None:
    """Of a tensor of this shape, with gaps: rows, or a state's rows, stand between those of the others."""
    if not case.strided:
        return None
    if lse:
        inner = (2 * shape[-1] + 3, 2)
        return (inner[0] * shape[-2] + 1, *inner) if len(shape) == 3 else inner
    head = case.dim + (8 if case.aligned else 3)
    if len(shape) == 3:
        return (case.heads * head + (16 if case.aligned else 5), head, 1)
    return (case.heads * head, case.states * case.heads * head, head, 1)


def _build(case: MergeStatesCase) -> MergeStatesInputs:
    rng = np.random.default_rng([case.seed, case.states, case.rows, case.heads, case.dim])
    o, lse = _values(case, rng)
    blocks: dict[str, Block] = {}

    def add(name: str, values: np.ndarray | None, shape: tuple[int, ...], dtype: str, *, lse: bool = False) -> None:
        shift = 0 if case.aligned else int(rng.integers(0, 8))
        block = Block(shape, dtype, strides=_strides(case, shape, lse=lse), shift=shift, poison=values is not None)
        if values is not None:
            block.array[...] = values
        blocks[name] = block

    turn = (lambda array: np.swapaxes(array, -1, -2)) if case.layout == "ht" else np.asarray
    if case.form == "tensor":
        states = [("o", o, "lse", lse)]
    elif case.form == "sequence":
        states = [(f"o[{n}]", o[n], f"lse[{n}]", lse[n]) for n in range(case.states)]
    else:
        states = [(f"{side}_output", o[n], f"{side}_lse", lse[n]) for n, side in enumerate(("prefix", "suffix"))]
    for o_name, o_values, lse_name, lse_values in states:
        add(o_name, o_values, o_values.shape, case.o_dtype)
        add(lse_name, turn(lse_values), turn(lse_values).shape, "float32", lse=True)
    written = ("output", "output_lse") if case.form == "two" else ("out", "lse_out")
    written = written[: 1 + case.return_lse] if case.given else ()
    if case.given:
        add(written[0], None, o[0].shape, case.out_dtype or case.o_dtype)
    if len(written) > 1:
        add(written[1], None, turn(lse[0]).shape, "float32", lse=True)
    sink = None
    if case.sink:
        sink = (case.sink_level + 2 * rng.standard_normal(case.heads)).astype(np.float32)
        blocks["sink"] = Block(sink.shape, "float32", shift=int(rng.integers(0, 4)), poison=True)
        blocks["sink"].array[...] = sink
    values = {} if case.form == "two" else {"lse_layout": case.layout}
    rounded = o.astype(dtype_of(case.o_dtype)).astype(np.float64)
    return MergeStatesInputs(case, blocks, values, written, rounded, lse, sink)
