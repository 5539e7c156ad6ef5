"""Calls of the variants of MLA decode as values: the segmented form and mla_gluon. Their tensors are those of an MLA
decode case, arranged otherwise, and so is what they must give.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from ..case import Case
from ..compare import Expected, check_outputs
from ..device import Device
from ..inputs import Inputs
from ..memory import Block, dtype_of, packed
from ..run import Outcome
from .mla_decode import MlaCase, expected_outputs, p_dtype_of
from .mla_decode_inputs import MlaInputs

LOWEST = np.finfo(np.float32).min  # the maximum of a segment in which a row sees no key
_STALE = np.array([-(2**31), 2**31 - 1, -1], np.int32)


@dataclass
class VariantInputs(Inputs):
    """base: the same problem as a call of mla_decode_fwd; `blocks` are the tensors of the call."""

    base: MlaInputs = field(kw_only=True)

    def arguments(self) -> dict[str, object]:
        """A block for its name; `values` has views of blocks, too."""
        named = {name: block.array for name, block in self.blocks.items() if not name.startswith("_")}
        return named | self.values


def _table(base: MlaInputs, extra: int) -> Block:
    """The base's lists as a table, `extra` entries wider than the longest, in a wider one."""
    case, indptr = base.case, base.array("kv_indptr")
    counts = np.diff(indptr[: case.batch + 1])
    width = max([1, *counts]) + extra
    block = Block((case.batch, width), "int32", strides=(width + 5, 1), poison=True)
    block.array[...] = np.resize(_STALE, block.array.shape)
    for b, count in enumerate(counts):
        block.array[b, :count] = base.array("kv_indices")[indptr[b] :][:count]
    return block


def _lengths(case: MlaCase, extra: int) -> np.ndarray:
    """Keys of each request, and what is not read."""
    return np.array([*case.kv_lens, *_STALE[:extra]], np.int32)


class _Variant:
    """What the cases of both variants share."""

    @property
    def base(self) -> MlaCase:
        """The same problem as a call of mla_decode_fwd."""
        raise NotImplementedError

    def expected(self, inputs: VariantInputs, device: Device) -> dict[str, Expected]:
        """Those of mla_decode_fwd."""
        p_dtype = p_dtype_of(self.base, device)
        return expected_outputs(self.base, inputs.base.reference(p_dtype=p_dtype), p_dtype)


@dataclass(frozen=True, repr=False)
class SegmentedCase(_Variant, Case):
    """Fields as of MlaCase. `wider`: entries of the table that no list needs."""

    op: ClassVar[str] = "mla_decode_segmented"
    small: ClassVar = tuple({"heads": 2, "kv_lens": (9, 5), "q_lens": (1, 1), "skip_reduce": s} for s in (True, False))

    heads: int = 4
    q_lens: tuple[int, ...] = (1,)
    kv_lens: tuple[int, ...] = (64,)
    page_size: int = 16
    q_dtype: str = "bfloat16"
    kv_dtype: str = "bfloat16"
    o_dtype: str = "bfloat16"
    rope: int = 64
    q_scale: float | None = None
    kv_scale: float | None = None
    strided: bool = False
    masked: str = "none"
    trend: float = 0.0
    wider: int = 0
    skip_reduce: bool = True
    seed: int = 0

    @property
    def base(self) -> MlaCase:
        """With one split."""
        shared = ("heads", "q_lens", "kv_lens", "page_size", "q_dtype", "kv_dtype", "o_dtype", "rope", "q_scale")
        fields = {name: getattr(self, name) for name in (*shared, "kv_scale", "masked", "trend", "seed")}
        strides = dict.fromkeys(("q_strided", "o_strided", "kv_strided"), self.strided)
        return MlaCase(**fields, **strides, scales_as="one", return_lse=self.skip_reduce)

    def inputs(self) -> VariantInputs:
        """The table, and the other tensors by their other names."""
        case, base = self.base, self.base.inputs()
        blocks = {
            "q": base.blocks["q"],
            "kv_buffer": base.blocks["kv_buffer"],
            "cu_seqlens_q": base.blocks["qo_indptr"],
            "seqused_k": packed(_lengths(case, 2)),
            "block_tables": _table(base, self.wider),
        }
        written = () if self.skip_reduce else ("out",)
        if not self.skip_reduce:
            blocks["out"] = base.blocks["o"]
        values = {"max_seqlen_kv": max((0, *self.kv_lens)), "softmax_scale": case.softmax_scale, "kv_lora_rank": 512}
        values |= {"qk_rope_head_dim": self.rope, "causal": True, "skip_reduce": self.skip_reduce}
        values |= {"q_descale": base.scales.get("q_scale"), "kv_descale": base.scales.get("kv_scale")}
        if len(set(self.q_lens)) > 1:
            values["max_seqlen_q"] = max(self.q_lens)
        if self.skip_reduce:
            values["out"] = None
        return VariantInputs(self, blocks, values, written, base=base)

    def outputs(self, inputs: VariantInputs, returned: object) -> dict[str, np.ndarray | None]:
        """`out`; or what the consumer makes of the segments."""
        if not self.skip_reduce:
            return {"o": inputs.array("out")}
        o, lse = merge_segments(*map(np.asarray, returned), self)
        return {"o": o.astype(dtype_of(self.o_dtype)), "lse": lse.astype(np.float32)}

    def check(self, outcome: Outcome) -> None:
        """`out` itself; or segments of whole pages, each by the reference of its run."""
        if not self.skip_reduce:
            if outcome.returned is not outcome.inputs.array("out"):
                raise AssertionError(f"returned: expected out itself\n  {self.repro}")
            return
        segments, maxima, sums = outcome.returned
        shape = (sum(self.q_lens), self.heads, segments.shape[2])
        for name, got, want in (("output", segments, (*shape, 512)), ("max", maxima, shape), ("expsum", sums, shape)):
            if got.shape != want or got.dtype != np.float32 or not got.flags["C_CONTIGUOUS"]:
                raise AssertionError(f"segm_{name}: expected float32 {want}, got {got.dtype} {got.shape}\n{self.repro}")
        if shape[2] & (shape[2] - 1) or not (sums == 1).all():
            raise AssertionError(f"expected 2**n segments of sum 1, got {shape[2]}, {sums}\n  {self.repro}")
        p_dtype = p_dtype_of(self.base, outcome.device)
        for s in range(shape[2]):
            cut = lambda b, n, s=s: _run(s, n, shape[2] * self.page_size, self.page_size)  # noqa: E731
            reference = outcome.inputs.base.reference(p_dtype=p_dtype, cut=cut)
            empty = np.isneginf(reference.lse)
            lowest = maxima[..., s] == LOWEST
            lse = np.where(lowest, -np.inf, maxima[..., s] * np.log(2)).astype(np.float32)
            want = expected_outputs(self.base, reference, p_dtype)
            if not np.array_equal(lowest, empty) or segments[..., s, :][empty].any():
                raise AssertionError(f"segment {s}: expected the lowest maximum and 0 where empty\n  {self.repro}")
            got = {"o": segments[..., s, :].astype(dtype_of(self.o_dtype)), "lse": lse}
            check_outputs(got, want, f"segment {s} of {self.repro}")


def _run(segment: int, length: int, keys: int, page_size: int) -> tuple[int, int]:
    tiles = max(1, -(-length // keys))
    begin = min(segment * tiles * page_size, length)
    return begin, min(begin + tiles * page_size, length)


def merge_segments(
    output: np.ndarray, maxima: np.ndarray, sums: np.ndarray, case: SegmentedCase
) -> tuple[np.ndarray, np.ndarray]:
    """What vLLM makes of segments: o and lse in fp64. t tiles of a page make a segment, those past the keys' end are
    anything (here NaN), and it has no guard but one for requests without keys."""
    count, first = output.shape[2], 0
    o, lse = np.zeros((*output.shape[:2], 512)), np.full(output.shape[:2], -np.inf)
    for rows, length in zip(case.q_lens, case.kv_lens, strict=True):
        own = slice(first, first := first + rows)
        if length == 0:
            continue
        tiles = max(1, -(-length // (count * case.page_size)))
        active = -(-length // (tiles * case.page_size))
        m = maxima[own, :, :active].astype(np.float64)
        top = m.max(-1, keepdims=True)
        weight = 2.0 ** (m - top)
        total = (sums[own, :, :active] * weight).sum(-1)
        o[own] = (output[own, :, :active] * weight[..., None]).sum(-2) / total[..., None]
        lse[own] = (top[..., 0] + np.log2(total)) * np.log(2)
    return o, np.where(lse < -1e38, -np.inf, lse)  # as every further merge takes it


@dataclass(frozen=True, repr=False)
class GluonCase(_Variant, Case):
    """Fields as of MlaCase. rows: query rows of each request; flat: without a dimension for them. table: pages come in
    one. k_apart: the rope part of the keys is an argument; k_offset: with the columns before it."""

    op: ClassVar[str] = "mla_gluon"
    small: ClassVar = (  # without rope parts, which are views: the package's own arrays have none
        {"heads": 2, "kv_lens": (9, 5), "rope": 0, "table": False},
        {"heads": 2, "kv_lens": (9, 5), "rope": 0, "table": False, "rows": 2, "flat": False, "return_lse": False},
    )

    heads: int = 4
    rows: int = 1
    flat: bool = True
    kv_lens: tuple[int, ...] = (64,)
    table: bool = True
    q_dtype: str = "bfloat16"
    kv_dtype: str = "bfloat16"
    o_dtype: str = "bfloat16"
    rope: int = 64
    kv_scale: float | None = None
    strided: bool = False
    k_apart: bool = False
    k_offset: int = 0
    masked: str = "none"
    trend: float = 0.0
    wider: int = 0
    return_lse: bool = True
    seed: int = 0

    @property
    def base(self) -> MlaCase:
        """With one split."""
        shared = ("heads", "kv_lens", "q_dtype", "kv_dtype", "o_dtype", "rope", "kv_scale", "masked", "trend", "seed")
        fields = {name: getattr(self, name) for name in (*shared, "return_lse")}
        strides = dict.fromkeys(("q_strided", "o_strided", "kv_strided"), self.strided)
        return MlaCase(**fields, **strides, q_lens=(self.rows,) * len(self.kv_lens))

    def inputs(self) -> VariantInputs:
        """Views of the base's tensors: blocks whose names begin with "_" are passed by their views alone."""
        case, base = self.base, self.base.inputs()
        views = {name: base.array(name) for name in ("q", "o")}
        if not self.flat and self.rows == 1:
            views = {name: array[:, None] for name, array in views.items()}  # a stride of 0
        elif not self.flat:
            views = {
                name: np.lib.stride_tricks.as_strided(
                    array,
                    (case.batch, self.rows, *array.shape[1:]),
                    (self.rows * array.strides[0], *array.strides),
                )
                for name, array in views.items()
            }
        q, keys = views["q"], base.array("kv_buffer")[:, 0, 0]
        blocks = {"_q": base.blocks["q"], "_o": base.blocks["o"], "_kv": base.blocks["kv_buffer"]}
        values = {"q_nope": q[..., :512], "q_pe": q[..., 512:], "kv_c": keys, "o": views["o"]}
        values |= {"sm_scale": case.softmax_scale, "use_2d_view": self.table, "return_lse": self.return_lse}
        values |= base.scales
        if self.k_apart:
            at = 512 - self.k_offset
            values |= {"kv_c": keys[:, :512], "k_pe": keys[:, at:], "kv_pe_offset": self.k_offset}
        if self.rope == 0:
            values |= {"q_pe": None, "has_pe": False}
        if self.table:
            blocks |= {"page_table": _table(base, self.wider), "seq_info": packed(_lengths(case, 2))}
        else:
            blocks |= {"page_table": base.blocks["kv_indices"], "seq_info": base.blocks["kv_indptr"]}
        return VariantInputs(self, blocks, values, ("_o",), base=base)

    def outputs(self, inputs: VariantInputs, returned: tuple) -> dict[str, np.ndarray | None]:
        """o and the LSE, row by row."""
        lse = returned[1]
        if lse is not None:
            if lse.shape != (len(self.kv_lens), self.rows, self.heads):
                raise AssertionError(f"lse: expected [B, n, H], got {lse.shape}\n  {self.repro}")
            lse = np.asarray(lse).reshape(-1, self.heads)
        return {"o": inputs.array("_o"), "lse": lse}

    def check(self, outcome: Outcome) -> None:
        """o is the argument itself."""
        if outcome.returned[0] is not outcome.inputs.values["o"]:
            raise AssertionError(f"returned: expected o itself\n  {self.repro}")
