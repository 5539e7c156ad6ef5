"""One call of sparse attention as a value, by every way into it, and what it must give: the fp64 reference restricted
to the keys that the lists select.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from aiter_c import get_mla_metadata_info_v1, get_mla_metadata_v1

from ..case import Case
from ..compare import Expected
from ..device import CPU, Device
from ..inputs import Inputs
from ..memory import Block, packed
from ..tolerance import LSE, OUTPUT, OUTPUT_FP8_P
from .attention import attend
from .cache import RECORD_BYTES, fill_nan, read_rows, to_float64, write_rows
from .mla_decode import DTYPES_FP8, MASK_PATTERNS, RECORD_FORMATS, MlaCase, p_dtype_of
from .mla_decode_inputs import INT32_MAX, INT32_MIN, mask_some, saturated

if TYPE_CHECKING:
    from ..run import Outcome

#: sparse_mla_fwd; unified_attention_sparse_mla; mla_decode_fwd with slots, by splits, by lists of compacted rows
#: (topk=-1) and by lists of a table (topk >= 0).
FORMS = ("fwd", "table", "decode", "lists", "topk")
_LISTS = ("work_meta_data", "work_indptr", "work_info_set", "reduce_indptr", "reduce_final_map", "reduce_partial_map")


@dataclass(frozen=True)
class Source:
    """One cache and the lengths of its lists."""

    lens: tuple[int, ...]
    kv_dtype: str
    kv_format: str
    page_size: int
    scale: float | None

    @property
    def counted_scale(self) -> float:
        """1 for a cache that is not plain fp8."""
        counts = self.kv_format == "plain" and self.kv_dtype in DTYPES_FP8 and self.scale is not None
        return float(np.float32(self.scale)) if counts else 1.0


@dataclass(frozen=True, repr=False)
class SparseCase(Case):
    """Symbols: C = len(lens) query rows, H = heads, D = 512 + rope. lens, extra_lens: keys that each row selects."""

    takes_twice: ClassVar = True
    small: ClassVar = (
        {"heads": 2, "lens": (9, 5), "page_size": 4, "sink": True, "extra_lens": (3, 0), "given": True},
        {"heads": 2, "lens": (9, 9), "form": "table", "page_size": 4},
        {"heads": 2, "lens": (9, 5), "form": "decode", "page_size": 4, "sink": True, "splits": 2},
    )

    form: str = "fwd"
    heads: int = 16
    lens: tuple[int, ...] = (64,)
    page_size: int = 1
    dims: int = 4  # of a plain cache: [slots, D], [pages, rows, D], [pages, rows, 1, D]
    q_dtype: str = "bfloat16"
    kv_dtype: str = "bfloat16"
    o_dtype: str = "bfloat16"
    kv_format: str = "plain"
    rope: int = 64
    splits: int | None = 1
    workers: int = 4  # of lists
    sink: bool = False
    sink_level: float = 0.0
    extra_lens: tuple[int, ...] = ()
    extra_dtype: str = "bfloat16"
    extra_format: str = "plain"
    extra_page_size: int = 1
    given: bool = False  # out is an argument, of sparse_mla_fwd
    wide: bool = False  # ... wider than 512
    return_lse: bool = True
    int64: bool = False
    q_scale: float | None = None
    kv_scale: float | None = None
    extra_scale: float | None = None
    score_std: float = 1.0
    strided: bool = False  # rows and heads of q and o
    kv_strided: bool = False  # rows of other layers lie between the pages
    masked: str = "none"  # one of MASK_PATTERNS, in every list
    stale: bool = False  # tensors of indices are longer than what is read
    hostile: bool = False  # index tensors hold any numbers; slots that are in the cache are those that hold values
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses a case that means nothing, so that a typing error in a list cannot pass as a test."""
        records = self.kv_format in RECORD_FORMATS
        meaningful = (
            self.form in FORMS
            and self.dims in (2, 3, 4)
            and (self.dims > 2 or self.page_size == 1)
            and self.rope in (0, 64)
            and not (records and (self.rope == 0 or self.kv_dtype != "float8_e4m3fn"))
            and not (self.kv_format == "3buffer" and self.form in ("fwd", "table"))
            and self.masked in MASK_PATTERNS
            and len(self.extra_lens) in (0, len(self.lens))
            and not (self.extra_lens and self.form != "fwd")
            and not (self.sink and self.form == "table")
            and not (self.hostile and self.int64)
            and not (self.wide and not (self.form == "fwd" and self.given))
            and (self.form not in ("table", "topk") or len(set(self.lens)) <= 1)
            and (self.o_dtype == "bfloat16" or self.form != "fwd" or self.given or self.q_dtype == "float16")
        )
        if not meaningful:
            raise ValueError(f"a case that means nothing: {self!r}")

    @property
    def op(self) -> str:
        """The function that is called."""
        return {"fwd": "sparse_mla_fwd", "table": "unified_attention_sparse_mla"}.get(self.form, "mla_decode_fwd")

    @property
    def sources(self) -> list[Source]:
        """The caches: one or two."""
        first = Source(self.lens, self.kv_dtype, self.kv_format, self.page_size, self.kv_scale)
        if not self.extra_lens:
            return [first]
        scale = self.kv_scale if self.extra_scale is None else self.extra_scale
        return [first, Source(self.extra_lens, self.extra_dtype, self.extra_format, self.extra_page_size, scale)]

    @property
    def softmax_scale(self) -> float:
        """1 / sqrt(D)."""
        return (512 + self.rope) ** -0.5

    @property
    def counted_q_scale(self) -> float:
        """1 for a q that is not fp8."""
        counts = self.q_dtype in DTYPES_FP8 and self.q_scale is not None
        return float(np.float32(self.q_scale)) if counts else 1.0

    def inputs(self) -> SparseInputs:
        """Caches hold values where a list selects them, and NaN everywhere else."""
        return _build(self)

    def outputs(self, inputs: Inputs, returned: object) -> dict[str, np.ndarray | None]:
        """o and the LSE, by whatever name."""
        if self.form == "fwd":
            return {"o": inputs.array("out")[..., :512] if self.given else returned[0], "lse": returned[1]}
        return {"o": inputs.array(inputs.written[0]), "lse": None if self.form == "table" else returned[1]}

    def expected(self, inputs: SparseInputs, device: Device) -> dict[str, Expected]:
        """By the fp64 reference, with the tolerance of the kernels that serve the case there."""
        p_dtype = self.p_dtype(device)
        o, lse, o_allowance, lse_allowance = inputs.reference(p_dtype)
        empty = np.isneginf(lse)
        tolerance = OUTPUT_FP8_P if p_dtype in DTYPES_FP8 else OUTPUT
        if self.sink and self.o_dtype == "float16":  # a sink may leave rows of subnormal numbers
            tolerance = replace(tolerance, row_cosine=np.inf)
        fresh = {"dtype": self.o_dtype} if self.form == "fwd" and not self.given else {}
        out = {"o": Expected(o, tolerance, exact=empty, allowance=o_allowance, **fresh)}
        if self.return_lse and self.form != "table":
            out["lse"] = Expected(lse, LSE, exact=empty, allowance=lse_allowance, dtype="float32")
        return out

    def p_dtype(self, device: Device = CPU) -> str:
        """The type of p in the kernel of the first source, and the coarser one of two."""
        order = ("float32", "float16", "bfloat16", "float8_e4m3fnuz", "float8_e4m3fn")
        kinds = [
            p_dtype_of(
                MlaCase(heads=self.heads, q_lens=(1,) * len(s.lens), kv_lens=s.lens, q_dtype=self.q_dtype,
                        kv_dtype=s.kv_dtype, kv_format=s.kv_format, rope=self.rope, o_dtype=self.o_dtype,
                        workers=self.workers if self.form in ("lists", "topk") else 0),
                device,
            )
            for s in self.sources
        ]  # fmt: skip
        return max(kinds, key=order.index)

    def check(self, outcome: Outcome) -> None:
        """An argument that is written is what is returned; of a wider one nothing else is written."""
        if self.form == "table" and outcome.returned is not None:
            raise AssertionError(f"returned: expected None\n  {self.repro}")
        if self.given and outcome.returned[0] is not outcome.inputs.array("out"):
            raise AssertionError(f"returned: expected out itself\n  {self.repro}")
        if self.wide and not np.isnan(outcome.inputs.array("out")[..., 512:].astype(np.float32)).all():
            raise AssertionError(f"out: columns from 512 on were written\n  {self.repro}")


@dataclass
class SparseInputs(Inputs):
    """q_values [C, H, D] fp64; pools, and slots of each source and row, -1 where masked; sink [H] or None."""

    case: SparseCase
    q_values: np.ndarray = field(kw_only=True)
    pools: list[np.ndarray] = field(kw_only=True)
    slots: list[list[np.ndarray]] = field(kw_only=True)
    sink: np.ndarray | None = field(kw_only=True)

    def arguments(self) -> dict[str, object]:
        """Blocks whose names begin with "_" are passed by their views alone."""
        named = {name: block.array for name, block in self.blocks.items() if not name.startswith("_")}
        return named | self.values

    def select_again(self) -> None:
        """slots as the index tensors have them now."""
        for n, (source, pool) in enumerate(zip(self.case.sources, self.pools, strict=True)):
            capacity = len(pool) * source.page_size
            lists = self._lists(n, len(source.lens))
            self.slots[n] = [np.where((one >= 0) & (one < capacity), one, -1).astype(np.int64) for one in lists]

    def _lists(self, source: int, rows: int) -> list[np.ndarray]:
        if self.case.form == "table":
            return list(self.array("topk_indices")[:rows])
        if self.case.form == "topk":
            width = self.case.lens[0] if rows else 0
            return list(self.array("kv_indices")[: rows * width].reshape(rows, width))
        indptr, indices = (self.array(name) for name in (_FIRST_NAMES, _SECOND_NAMES)[source][1:])
        begins = np.clip(indptr[:rows], 0, len(indices))
        return [indices[b : max(int(b), min(int(e), len(indices)))] for b, e in zip(begins, indptr[1:], strict=False)]

    def make_hostile(self, rng: np.random.Generator) -> None:
        """Any numbers in the index tensors. By lists the indptr stays: it is the plan that says where a list is."""
        for n, pool in enumerate(self.pools):
            capacity = len(pool) * self.case.sources[n].page_size
            used = np.unique(np.concatenate([*self.slots[n], [-1]]))
            extremes = np.array([INT32_MIN, INT32_MIN + 1, -2, -1, capacity, capacity + 1, INT32_MAX])
            names = ("", "", "topk_indices") if self.case.form == "table" else (_FIRST_NAMES, _SECOND_NAMES)[n]
            _scatter(rng, self.array(names[2]), np.concatenate([used, used, extremes]), 0.5)
            if self.case.form in ("fwd", "decode"):
                length = len(self.array(names[2]))
                near = np.array([INT32_MIN, -1, 0, 1, length // 2, length - 1, length, length + 1, INT32_MAX])
                _scatter(rng, self.array(names[1]), near, 0.4)
        self.select_again()

    def keys(self, row: int) -> np.ndarray:
        """The keys that a row selects, of all sources, with their scales."""
        parts = []
        for source, pool, slots in zip(self.case.sources, self.pools, self.slots, strict=True):
            chosen = slots[row][slots[row] >= 0]
            parts.append(read_rows(pool, source.kv_format, source.page_size, chosen) * source.counted_scale)
        return np.concatenate(parts)

    def reference(self, p_dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """o [C, H, 512], lse [C, H], and what rounding may move either by."""
        case, shape = self.case, self.q_values.shape[:2]
        o, lse, lse_allowance = np.zeros((*shape, 512)), np.full(shape, -np.inf), np.zeros(shape)
        allowance = np.zeros((*shape, 512))
        scale = case.softmax_scale * case.counted_q_scale
        for row in range(shape[0]):
            result = attend(self.q_values[row], self.keys(row), scale, 1.0, p_dtype=p_dtype)
            o[row], lse[row], lse_allowance[row] = result.o, result.lse, result.lse_rounding
            allowance[row] = result.rounding
        if self.sink is not None:
            held = ~np.isneginf(lse)
            with np.errstate(invalid="ignore"):  # NaN stays NaN
                with_sink = np.logaddexp(np.where(held, lse, 0.0), self.sink.astype(np.float64))
                o *= np.where(held, np.exp(np.where(held, lse, 0.0) - with_sink), 0.0)[..., None]
            if case.form == "fwd":
                lse_allowance = lse_allowance + 2.0**-22
                lse = np.where(held, with_sink, -np.inf)
        return o, lse, allowance, lse_allowance


_FIRST_NAMES, _SECOND_NAMES = ("kv_buffer", "kv_indptr", "kv_indices"), ("extra_kv", "extra_indptr", "extra_indices")


def _scatter(rng: np.random.Generator, array: np.ndarray, numbers: np.ndarray, share: float) -> None:
    hit = rng.random(array.shape) < share
    array[hit] = rng.choice(numbers, int(hit.sum()))


def _strides(case: SparseCase, width: int) -> tuple[int, ...] | None:
    return (case.heads * (width + 64) + 40, width + 64, 1) if case.strided else None


def _query(case: SparseCase, rng: np.random.Generator, shift: int) -> Block:
    width = 512 + case.rope
    shape = (len(case.lens), case.heads, width)
    block = Block(shape, case.q_dtype, strides=_strides(case, width), shift=shift, poison=True)
    spread = case.score_std / (case.softmax_scale * math.sqrt(width) * case.counted_q_scale)
    values = rng.standard_normal(block.array.shape, np.float32) * np.float32(spread)
    block.array[...] = saturated(values, case.q_dtype)
    return block


def _pool(case: SparseCase, source: Source, rng: np.random.Generator, shift: int) -> tuple[Block, np.ndarray, list]:
    """The cache as a block, as the call sees it, and the slots of every row (what is masked in place)."""
    pages = 3 + -(-(max((1, *source.lens)) * 5 // 4) // source.page_size)
    plain = source.kv_format == "plain"
    row = (source.page_size, 1, 512 + case.rope) if plain else (source.page_size * RECORD_BYTES,)
    gap = (48 * (3 if plain else 16)) if case.kv_strided else 0
    inner = tuple(math.prod(row[i + 1 :]) for i in range(len(row)))
    block = Block(
        (pages, *row), source.kv_dtype if plain else "uint8", strides=(math.prod(row) + gap, *inner), shift=shift,
        poison=True,
    )  # fmt: skip
    fill_nan(block.array, source.kv_format, source.page_size)
    capacity = pages * source.page_size
    lists = [rng.integers(1, capacity, n) for n in source.lens]  # a slot may be selected twice
    for one in lists:
        mask_some(case.masked, rng, one, capacity)
    used = np.unique(np.concatenate([*lists, np.empty(0, np.int64)]))
    used = used[(used >= 0) & (used < capacity)]
    values = rng.standard_normal((len(used), 512 + case.rope), np.float32)
    if plain and source.kv_dtype in DTYPES_FP8:
        values = saturated(values / np.float32(source.counted_scale), source.kv_dtype).astype(np.float32)
    write_rows(block.array, source.kv_format, source.page_size, used, values)
    return block, _seen(case, source, block.array), lists


def _seen(case: SparseCase, source: Source, pool: np.ndarray) -> np.ndarray:
    """The pool in the shape in which the call gets it."""
    if source.kv_format == "fp8_ds_mla":
        return pool.reshape(len(pool), source.page_size, RECORD_BYTES)
    if source.kv_format != "plain" or case.dims == 4 or case.form not in ("fwd", "table"):
        return pool
    return pool[:, 0, 0] if case.dims == 2 else pool[:, :, 0]


def _lists_of(
    case: SparseCase, lists: list[np.ndarray], capacity: int, rng: np.random.Generator, shift: int
) -> list[Block]:
    """indptr and indices, with what is not read behind them."""
    indptr = np.concatenate([[0], np.cumsum([len(one) for one in lists])])
    indices = np.concatenate([*lists, np.empty(0, np.int64)])
    if case.form == "topk":  # of the requests, which are longer than what is selected
        indptr = np.arange(len(lists) + 1) * (len(indices) // max(len(lists), 1) + 7)
    if case.stale:
        tail = np.array([INT32_MIN, -1, 0, capacity, INT32_MAX])
        indptr, indices = np.concatenate([indptr, tail]), np.concatenate([indices, tail])
    dtype = np.int64 if case.int64 else np.int32
    if case.int64:  # what int32 does not hold: low halves of some are slots
        indices = np.where(indices < 0, 2**32 + rng.integers(0, 3, len(indices)), indices)
    return [packed(values.astype(dtype), shift=shift) for values in (indptr, indices)]


def _table(case: SparseCase, lists: list[np.ndarray], shift: int) -> Block:
    width = len(lists[0]) if lists else 0
    rows = len(lists) + (2 if case.stale else 0)
    block = Block((rows, width), "int32", strides=(width + (3 if case.strided else 0), 1), shift=shift, poison=True)
    block.array[...] = INT32_MAX
    for row, one in enumerate(lists):
        block.array[row] = one
    return block


def _build(case: SparseCase) -> SparseInputs:
    rng = np.random.default_rng([case.seed, case.heads, len(case.lens), sum(case.lens), case.page_size])
    shift = int(rng.integers(0, 8))
    blocks = {"q": _query(case, rng, shift)}
    values: dict[str, object] = {}
    pools, slots = [], []
    for source, (kv, indptr, indices) in zip(case.sources, (_FIRST_NAMES, _SECOND_NAMES), strict=False):
        block, seen, lists = _pool(case, source, rng, shift)
        capacity = len(block.array) * source.page_size
        pools.append(block.array)
        slots.append([np.where((one >= 0) & (one < capacity), one, -1) for one in lists])
        blocks[f"_{kv}"] = block
        values["kv" if case.form == "table" else kv] = seen
        if case.form == "table":
            blocks["topk_indices"] = _table(case, lists, shift)
        else:
            blocks[indptr], blocks[indices] = _lists_of(case, lists, capacity, rng, shift)
    width = 640 if case.wide else 512
    out = Block((len(case.lens), case.heads, width), case.o_dtype, strides=_strides(case, width), shift=shift)
    sink = None
    if case.sink:
        sink = (case.sink_level + 2 * rng.standard_normal(case.heads)).astype(np.float32)
        blocks["attn_sink" if case.form == "fwd" else "sink"] = packed(sink, shift=shift)
    written = {"fwd": ("out",) if case.given else (), "table": ("out",)}.get(case.form, ("o",))
    if written:
        blocks[written[0]] = out
    scales = {"q_scale": case.q_scale, "kv_scale": case.kv_scale, "extra_kv_scale": case.extra_scale}
    values |= {name: value for name, value in scales.items() if value is not None and case.form != "table"}
    if case.form == "fwd":
        values |= {"softmax_scale": case.softmax_scale, "qk_rope_head_dim": case.rope, "kv_splits": case.splits}
        values |= {"return_lse": case.return_lse, "has_invalid": case.masked != "none"}
    elif case.form == "table":
        nothing = dict.fromkeys(("cu_seqlens_q", "max_seqlen_q", "seqused_k", "max_seqlen_k", "block_table"))
        values |= nothing | {"softmax_scale": case.softmax_scale, "kv_lora_rank": 512}
    else:
        values |= {"max_seqlen_q": 1, "page_size": case.page_size, "slots": True, "return_lse": case.return_lse}
        values |= {"num_kv_splits": case.splits, "kv_last_page_lens": None, "sm_scale": case.softmax_scale}
        values |= {"kv_format": case.kv_format}
        blocks["qo_indptr"] = packed(np.arange(len(case.lens) + 1, dtype=np.int32), shift=shift)
        if case.form != "decode":
            blocks |= _work_lists(case, blocks, shift)
    q_values = to_float64(blocks["q"].array)
    inputs = SparseInputs(case, blocks, values, written, q_values=q_values, pools=pools, slots=slots, sink=sink)
    if case.hostile:
        inputs.make_hostile(rng)
    return inputs


def _work_lists(case: SparseCase, blocks: dict[str, Block], shift: int) -> dict[str, Block]:
    """Of get_mla_metadata_v1, in buffers that held anything before it."""
    rows = len(case.lens)
    sizes = get_mla_metadata_info_v1(rows, 1, case.heads, "bfloat16", "bfloat16", True, num_workers=case.workers)
    lists = {
        name: np.full(size, 0x7BADBADB, dtype)
        for name, dtype, (size, _) in zip(_LISTS, ("uint64", *["int32"] * 5), sizes, strict=True)
    }
    get_mla_metadata_v1(
        blocks["qo_indptr"].array, blocks["kv_indptr"].array, None, case.heads, 1, False, lists["work_meta_data"],
        lists["work_info_set"], lists["work_indptr"], *(lists[name] for name in _LISTS[3:]), page_size=1,
        max_seqlen_qo=1, uni_seqlen_qo=1, topk=case.lens[0] if case.form == "topk" else -1,
    )  # fmt: skip
    return {name: packed(values, shift=shift) for name, values in lists.items()}
