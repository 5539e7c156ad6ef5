"""One call of the indexer's logits as a value, over keys in pages or contiguous ones, and what it must give."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..case import Case
from ..compare import Expected
from ..inputs import INT32_MAX, INT32_MIN, Inputs, any_integers
from ..memory import Block, dtype_of, packed
from ..tolerance import Tolerance, dot_product_bound

if TYPE_CHECKING:
    from ..device import Device
    from ..run import Outcome

DIM = 128
FP8 = ("float8_e4m3fn", "float8_e4m3fnuz")
_SHORT = {"float8_e4m3fn": "fn", "float8_e4m3fnuz": "fnuz"}

#: What q and keys are: N(0, 1); any code but NaN; N(0, 1) with a few NaN.
DATA = ("normal", "codes", "nan")
#: Entries of the table that are no pages.
INVALID = ("none", "some", "extremes", "all")
#: Windows of contiguous keys: see `_window`. "mixed": one of each.
WINDOWS = ("whole", "causal", "inside", "empty", "reversed", "outside", "extremes")

#: Roundings to fp32 that a logit may collect, in units of the magnitudes of all its products together. The fp8 matrix
#: unit of sm_90a aligns 32 products and the sum so far to the largest of them and cuts each to 13 bits below it.
FP32_ROUNDINGS, SM90_FP8_ROUNDINGS = 8.0, 2.0**24 * 2.0**-10
LOGIT = Tolerance(0.0, 2.0**-22)


def _fp8(kind: str, rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Elements as bytes."""
    normal = rng.standard_normal(shape).astype(dtype_of(dtype)).view(np.uint8)
    if kind == "normal":
        return normal
    nan = 0x80 if dtype.endswith("fnuz") else 0x7F
    if kind == "nan":
        return np.where(rng.random(shape) < 0.3 / DIM, np.uint8(nan), normal)
    codes = rng.integers(0, 256, shape, np.uint8)
    is_nan = codes == 0x80 if dtype.endswith("fnuz") else codes & 0x7F == 0x7F
    return np.where(is_nan, np.uint8(0), codes)


def logits_reference(
    q: np.ndarray, keys: np.ndarray, scales: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of one query row in fp64: q [H, D], keys [n, D], scales [n], weights [H] -> (logits [n], magnitudes [n])."""
    with np.errstate(invalid="ignore", over="ignore"):
        q, keys = q.astype(np.float64), keys.astype(np.float64)
        scales, weights = scales.astype(np.float64), weights.astype(np.float64)
        relu = np.fmax(q @ keys.T, 0.0)  # 0 for NaN
        sizes = np.abs(np.nan_to_num(q)) @ np.abs(np.nan_to_num(keys)).T
        return weights @ relu * scales, np.abs(weights) @ sizes * np.abs(scales)


def _roundings(device: Device, case: _Logits) -> float:
    native = case.q_dtype == case.kv_dtype == "float8_e4m3fn"
    return SM90_FP8_ROUNDINGS if device.name in ("cuda", "sm_90a") and native else FP32_ROUNDINGS


def make_hostile(inputs: Inputs, share: float, seed: int) -> None:
    """A share of the entries of the index tensors becomes any integers; everything that may be read by them has a
    value."""
    rng = np.random.default_rng([seed, 1])
    for name, block in inputs.blocks.items():
        if name in ("q_fp8", "kv_cache", "Q", "KV"):
            dtype = inputs.case.q_dtype if name in ("q_fp8", "Q") else inputs.case.kv_dtype
            block.array.view(np.uint8)[...] = _fp8("normal", rng, block.array.shape, dtype)
        elif name in ("weights", "kv_scales"):
            block.array[...] = rng.standard_normal(block.array.shape)
        elif name not in inputs.written:
            any_integers(rng, block.array, share)


class _Logits:
    """What both kinds of cases have."""

    heads: int
    q_dtype: str
    kv_dtype: str

    def check(self, outcome: Outcome) -> None:
        """Paged logits return nothing."""
        if isinstance(self, PagedLogitsCase) and outcome.returned is not None:
            raise AssertionError(f"expected None, got {type(outcome.returned).__name__}\n  {self.repro}")

    @property
    def words(self) -> list[str]:
        """Sizes and dtypes, then what is not as usual."""
        return [f"h{self.heads}", _SHORT[self.q_dtype] + "." + _SHORT[self.kv_dtype]] + [
            f"{name}={value}" for name, value in self._changed().items() if name not in ("heads", "q_dtype", "kv_dtype")
        ]


@dataclass(frozen=True, repr=False)
class PagedLogitsCase(_Logits, Case):
    """lens: a length per request; its rows see one less each up to the last. Every page that no request has, every key
    past a length, and every query row that sees nothing is NaN."""

    op: ClassVar[str] = "deepgemm_fp8_paged_mqa_logits"
    small: ClassVar = ({"lens": (70, 3)}, {"heads": 8, "q_dtype": FP8[1], "kv_dtype": FP8[1], "block": 16})

    lens: tuple[int, ...] = (130,)
    next_n: int = 1
    heads: int = 64
    block: int = 64
    preshuffle: bool = False
    q_dtype: str = FP8[0]
    kv_dtype: str = FP8[0]
    bytes_cache: bool = True  # uint8, with kv_dtype= where it is not that of q
    bytes_q: bool = False
    max_model_len: int | None = None  # None: the longest
    width: int | None = None  # columns of out_logits; None: max_model_len
    lens_shape: str = "b"  # "b1", or "bn": a length of its own for every row
    lens_stride: int = 1
    spare_requests: int = 0  # of q, weights and logits, past the lengths
    spare_lens: int = 0  # lengths past the rows of the table
    spare_rows: int = 0  # of weights and logits, past those of q
    table_short: int = 0  # entries that the longest request lacks
    table_gap: int = 0
    index_pad: int = 0  # bytes of a key's share of a page past key and scale
    page_gap: int = 0  # bytes between pages
    q_gap: int = 0  # bytes between heads
    weights_gap: int = 0
    out_gap: int = 0
    shift: int = 0  # bytes that the cache and q are off their alignment
    invalid: str = "none"
    clean: bool = True
    data: str = "normal"
    hostile: float = 0.0  # share of the entries of index tensors that is any integers; `data` then means nothing
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses a case that means nothing."""
        known = self.lens_shape in ("b", "b1", "bn") and self.invalid in INVALID and self.data in DATA
        if not known or self.q_dtype not in FP8 or self.kv_dtype not in FP8:
            raise ValueError(f"a case that means nothing: {self!r}")

    @property
    def served_len(self) -> int:
        """The max_model_len argument."""
        return max((0, *self.lens)) if self.max_model_len is None else self.max_model_len

    @property
    def columns(self) -> int:
        """Of out_logits."""
        return self.served_len if self.width is None else self.width

    def inputs(self) -> PagedInputs:
        """Every array in a block of its own."""
        return PagedInputs.of(self)

    def expected(self, inputs: PagedInputs, device: Device) -> dict[str, Expected]:
        """-inf in every column that is not seen; with clean=False nothing past the length."""
        out = inputs.array("out_logits")
        values, written = np.full(out.shape, -np.inf), np.zeros(out.shape, bool)
        sizes = np.zeros(out.shape)
        limit = min(self.columns, self.served_len)
        for row in range(inputs.num_rows):
            length, seen = inputs.window(row, limit)
            written[row, : limit if self.clean else length] = True
            values[row, :seen], sizes[row, :seen] = inputs.reference(row, seen)
        allowance = dot_product_bound(_roundings(device, self) * sizes)
        return {"out_logits": Expected(values, LOGIT, written=written, allowance=allowance)}


class PagedInputs(Inputs):
    """The tensors of a PagedLogitsCase."""

    num_rows: int

    @classmethod
    def of(cls, case: PagedLogitsCase) -> PagedInputs:
        """Deterministic."""
        rng = np.random.default_rng([case.seed, case.next_n, case.heads, case.block, abs(sum(case.lens))])
        n, listed = case.next_n, len(case.lens)
        batch = listed + case.spare_requests
        longest = min(max((0, *case.lens)), case.served_len)
        lens, entries = _lengths(case, rng), math.ceil(longest / case.block) - case.table_short
        table, pages = _table(case, rng, max(entries, 0))
        limit = min(case.columns, case.served_len)
        q = Block(
            (batch, n, case.heads, DIM),
            "uint8" if case.bytes_q else case.q_dtype,
            strides=(n * case.heads * (DIM + case.q_gap) + 16, case.heads * (DIM + case.q_gap), DIM + case.q_gap, 1),
            shift=case.shift,
            poison=True,
        )
        rows = batch * n + case.spare_rows
        weights = Block((rows, case.heads), "float32", strides=(case.heads + case.weights_gap, 1), poison=True)
        weights.array[...] = np.nan
        q_bytes = q.array.view(np.uint8)
        q_bytes[...] = 0xFF if case.q_dtype == FP8[0] else 0x80
        out = Block((rows, case.columns), "float32", strides=(case.columns + case.out_gap, 1))
        blocks = {
            "q_fp8": q,
            "kv_cache": _cache(case, rng, table, pages, np.minimum(lens, limit)),
            "weights": weights,
            "out_logits": out,
            "context_lens": _int32(lens if case.lens_shape == "bn" else lens[:, -1], case),
            "kv_indices": _int32_rows(table, case.table_gap),
        }
        values: dict[str, object] = {
            "max_model_len": case.served_len, "Preshuffle": case.preshuffle, "KVBlockSize": case.block,
            "clean_logits": case.clean,
        }  # fmt: skip
        if case.bytes_q:
            values["q_dtype"] = case.q_dtype
        if case.bytes_cache and case.q_dtype != case.kv_dtype:
            values["kv_dtype"] = case.kv_dtype
        inputs = cls(case, blocks, values, written=("out_logits",))
        inputs.num_rows = batch * n
        for row in range(inputs.num_rows):
            if inputs.window(row, limit)[1] > 0:
                q_bytes[row // n, row % n] = _fp8(case.data, rng, (case.heads, DIM), case.q_dtype)
                weights.array[row] = rng.standard_normal(case.heads)
        if case.hostile:
            make_hostile(inputs, case.hostile, case.seed)
        return inputs

    def window(self, row: int, limit: int) -> tuple[int, int]:
        """(columns below the length, columns that the row sees) of those below `limit`, as the tensors say now."""
        request, n = divmod(row, self.case.next_n)
        lens = self.array("context_lens")
        if request >= min(len(lens), len(self.array("kv_indices"))):
            return 0, 0
        own = lens.ndim == 2 and lens.shape[1] > 1
        length = int(lens[request, n] if own else lens.reshape(len(lens))[request])
        seen = length if own else length - self.case.next_n + n + 1
        return min(max(length, 0), limit), min(max(seen, 0), limit)

    def reference(self, row: int, seen: int) -> tuple[np.ndarray, np.ndarray]:
        """Logits and magnitudes of the first `seen` columns; -inf where there is no page."""
        case, (request, n) = self.case, divmod(row, self.case.next_n)
        table, cache = self.array("kv_indices"), self.array("kv_cache")
        if seen == 0:
            return np.zeros(0), np.zeros(0)
        j = np.arange(seen)
        entry = j // case.block
        listed = np.append(table[request], -1)  # what an entry past the table is
        pages = listed[np.minimum(entry, len(listed) - 1)]
        exists = (pages >= 0) & (pages < len(cache))
        keys, scales = np.zeros((seen, DIM), np.uint8), np.zeros(seen, np.float32)
        for at in np.flatnonzero(exists):
            keys[at], scales[at] = read_key(cache[pages[at]].view(np.uint8), j[at] % case.block, case)
        q = self.array("q_fp8")[request, n].view(np.uint8).view(dtype_of(case.q_dtype))
        logits, sizes = logits_reference(q, keys.view(dtype_of(case.kv_dtype)), scales, self.array("weights")[row])
        return np.where(exists, logits, -np.inf), np.where(exists, sizes, 0)


def key_bytes(page: np.ndarray, token: int, case: PagedLogitsCase) -> np.ndarray:
    """A view [8, 16] of the runs of a key in a page, uint8 [block, 1, index_dim] and contiguous."""
    flat = page.reshape(-1)
    if case.preshuffle:
        first = token // 16 * 16 * DIM + token % 16 * 16
        return np.lib.stride_tricks.as_strided(flat[first:], (8, 16), (256, 1))
    return flat[token * DIM : (token + 1) * DIM].reshape(8, 16)


def read_key(page: np.ndarray, token: int, case: PagedLogitsCase) -> tuple[np.ndarray, np.float32]:
    """(bytes [D], scale)."""
    at = case.block * DIM + 4 * token
    return key_bytes(page, token, case).reshape(DIM), page.reshape(-1)[at : at + 4].copy().view(np.float32)[0]


def _lengths(case: PagedLogitsCase, rng: np.random.Generator) -> np.ndarray:
    """[requests, next_n]: the length of each row's own context."""
    lens = np.array(case.lens, np.int32).reshape(-1, 1)
    lens = np.repeat(lens, case.next_n, axis=1)
    if case.lens_shape == "bn":  # of a row before the last, any
        lens[:, :-1] -= rng.integers(0, 9, lens[:, :-1].shape, np.int32)
    stale = np.full((case.spare_lens, case.next_n), 9, np.int32)  # of requests without a row of the table
    return np.concatenate([lens, stale])


def _table(case: PagedLogitsCase, rng: np.random.Generator, entries: int) -> tuple[np.ndarray, int]:
    """Pages in any order, none of them twice; entries past a length are huge. Also the number of pages."""
    table = np.full((len(case.lens), entries), INT32_MAX, np.int32)
    counts = [min(math.ceil(max(length, 0) / case.block), entries) for length in case.lens]
    total = sum(counts) + 1
    order = iter(rng.permutation(total).tolist())
    for row, count in zip(table, counts, strict=True):
        row[:count] = [next(order) for _ in range(count)]
        wrong = {"none": [], "some": [-1], "extremes": [INT32_MIN, total, INT32_MAX, -2], "all": [-1]}[case.invalid]
        if wrong:
            hit = rng.random(count) < (1.0 if case.invalid == "all" else 0.4)
            row[:count][hit] = rng.choice(wrong, int(hit.sum()))
    return table, total


def _cache(case: PagedLogitsCase, rng: np.random.Generator, table: np.ndarray, pages: int, lens: np.ndarray) -> Block:
    """Keys below the lengths; everything else is NaN."""
    width = DIM + 4 + case.index_pad
    strides = (case.block * width + case.page_gap, width, width, 1)
    dtype = "uint8" if case.bytes_cache else case.kv_dtype
    block = Block((pages, case.block, 1, width), dtype, strides=strides, shift=case.shift, poison=True)
    cache = block.array.view(np.uint8)
    for row, length in zip(table, lens.max(axis=1, initial=0), strict=False):
        for j in range(max(int(length), 0)):
            entry, token = divmod(j, case.block)
            if entry >= len(row) or not 0 <= row[entry] < pages:
                continue
            page = cache[row[entry]]
            key_bytes(page, token, case)[...] = _fp8(case.data, rng, (8, 16), case.kv_dtype)
            at = case.block * DIM + 4 * token
            page.reshape(-1)[at : at + 4] = np.array([rng.random() + 0.1], np.float32).view(np.uint8)
    return block


def _int32(values: np.ndarray, case: PagedLogitsCase) -> Block:
    """Lengths in the shape and with the strides of the case."""
    if case.lens_shape == "b1":
        values = values.reshape(-1, 1)
    step = case.lens_stride
    strides = (step,) if values.ndim == 1 else (values.shape[1] * step + step - 1, step)
    block = Block(values.shape, "int32", strides=strides, poison=True)
    block.array[...] = values
    return block


def _int32_rows(values: np.ndarray, gap: int) -> Block:
    block = Block(values.shape, "int32", strides=(values.shape[1] + gap, 1), poison=True)
    block.array[...] = values
    return block


@dataclass(frozen=True, repr=False)
class LogitsCase(_Logits, Case):
    """fp8_mqa_logits. Keys that no row sees, and query rows that see no key, are NaN."""

    op: ClassVar[str] = "fp8_mqa_logits"
    small: ClassVar = ({}, {"heads": 32, "q_dtype": FP8[1], "kv_dtype": FP8[1], "clean": False})

    rows: int = 3
    keys: int = 70
    heads: int = 64
    q_dtype: str = FP8[0]
    kv_dtype: str = FP8[0]
    bytes: bool = False  # Q and KV as uint8
    window: str = "whole"
    scale_columns: bool = False  # kv_scales [Sk, 1]
    scale_stride: int = 1
    clean: bool = True
    q_gap: int = 0  # bytes between heads
    kv_gap: int = 0  # bytes between keys
    shift: int = 0  # bytes that Q and KV are off their alignment
    spare_bounds: int = 0
    weights_gap: int = 0
    out: bool = True  # `logits` is passed
    out_gap: int = 0  # columns of `logits` past Sk
    data: str = "normal"
    hostile: float = 0.0  # share of the entries of index tensors that is any integers; `data` then means nothing
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses a case that means nothing."""
        if self.window not in (*WINDOWS, "mixed") or self.data not in DATA or (not self.out and not self.clean):
            raise ValueError(f"a case that means nothing: {self!r}")

    def inputs(self) -> ContiguousInputs:
        """Every array in a block of its own."""
        return ContiguousInputs.of(self)

    def outputs(self, inputs: Inputs, returned: object) -> dict[str, np.ndarray | None]:
        """The logits, whether they were passed or not."""
        return {"logits": inputs.array("logits") if self.out else returned}

    def expected(self, inputs: ContiguousInputs, device: Device) -> dict[str, Expected]:
        """-inf outside of the windows, or nothing."""
        shape = (self.rows, self.keys + self.out_gap)
        values, sizes, written = np.full(shape, -np.inf), np.zeros(shape), np.zeros(shape, bool)
        keys, q = inputs.array("KV").view(np.uint8), inputs.array("Q").view(np.uint8)
        scales = inputs.array("kv_scales").reshape(-1)
        for row, (begin, end) in enumerate(inputs.windows()):
            seen = slice(begin, end)
            written[row, slice(0, self.keys) if self.clean else seen] = True
            values[row, seen], sizes[row, seen] = logits_reference(
                q[row].view(dtype_of(self.q_dtype)),
                np.ascontiguousarray(keys[seen]).view(dtype_of(self.kv_dtype)),
                scales[seen],
                inputs.array("weights")[row],
            )
        allowance = dot_product_bound(_roundings(device, self) * sizes)
        return {"logits": Expected(values, LOGIT, written=written, allowance=allowance)}


def _window(kind: str, rng: np.random.Generator, row: int, case: LogitsCase) -> tuple[int, int]:
    """[begin, end) as the caller says it, anything that fits int32."""
    low, high = sorted(rng.integers(0, case.keys + 1, 2).tolist())
    match kind:
        case "whole":
            return 0, case.keys
        case "causal":
            return 0, max(case.keys - case.rows + row + 1, 0)
        case "inside":
            return low, high
        case "empty":
            return low, low
        case "reversed":
            return high + 1, low
        case "outside":
            return [(-7, high), (low, case.keys + 7), (case.keys, case.keys + 9), (-9, 0)][rng.integers(4)]
        case "extremes":
            choices = (INT32_MIN, INT32_MAX, 0, case.keys)
            return int(rng.choice(choices)), int(rng.choice(choices))
    raise ValueError(kind)


class ContiguousInputs(Inputs):
    """The tensors of a LogitsCase."""

    @classmethod
    def of(cls, case: LogitsCase) -> ContiguousInputs:
        """Deterministic."""
        rng = np.random.default_rng([case.seed, case.rows, case.keys, case.heads])
        kinds = WINDOWS if case.window == "mixed" else (case.window,)
        bounds = [_window(kinds[r % len(kinds)], rng, r, case) for r in range(case.rows)]
        bounds += [(0, case.keys)] * case.spare_bounds
        begins, ends = np.array(bounds, np.int32).reshape(-1, 2).T
        q_dtype, kv_dtype = ("uint8", "uint8") if case.bytes else (case.q_dtype, case.kv_dtype)
        pitch = DIM + case.q_gap
        q = Block(
            (case.rows, case.heads, DIM), q_dtype, strides=(case.heads * pitch + case.q_gap, pitch, 1),
            shift=case.shift, poison=True,
        )  # fmt: skip
        kv = Block((case.keys, DIM), kv_dtype, strides=(DIM + case.kv_gap, 1), shift=case.shift, poison=True)
        scale_shape = (case.keys, 1) if case.scale_columns else (case.keys,)
        scale_strides = (case.scale_stride, 1) if case.scale_columns else (case.scale_stride,)
        scales = Block(scale_shape, "float32", strides=scale_strides, poison=True)
        weights = Block((case.rows, case.heads), "float32", strides=(case.heads + case.weights_gap, 1), poison=True)
        blocks = {
            "Q": q, "KV": kv, "kv_scales": scales, "weights": weights, "cu_starts": packed(begins),
            "cu_ends": packed(ends),
        }  # fmt: skip
        values: dict[str, object] = {"clean_logits": case.clean}
        if case.bytes:
            values |= {"q_dtype": case.q_dtype, "kv_dtype": case.kv_dtype}
        if case.out:
            blocks["logits"] = Block((case.rows, case.keys + case.out_gap), "float32")
        inputs = cls(case, blocks, values, written=("logits",) if case.out else ())
        inputs._fill(rng)
        if case.hostile:
            make_hostile(inputs, case.hostile, case.seed)
        return inputs

    def windows(self) -> list[tuple[int, int]]:
        """As the contract reads the bounds, as they are now."""
        keys = self.case.keys
        bounds = zip(self.array("cu_starts").tolist(), self.array("cu_ends").tolist(), strict=True)
        clamped = [(max(begin, 0), min(end, keys)) for begin, end in bounds][: self.case.rows]
        return [(begin, end) if begin < end else (0, 0) for begin, end in clamped]

    def _fill(self, rng: np.random.Generator) -> None:
        case, q, kv = self.case, self.array("Q").view(np.uint8), self.array("KV").view(np.uint8)
        scales, weights = self.array("kv_scales").reshape(-1), self.array("weights")
        q[...] = 0xFF if case.q_dtype == FP8[0] else 0x80
        kv[...] = 0xFF if case.kv_dtype == FP8[0] else 0x80
        weights[...] = np.nan
        self.array("kv_scales")[...] = np.nan
        seen = np.zeros(case.keys, bool)
        for row, (begin, end) in enumerate(self.windows()):
            seen[begin:end] = True
            if begin < end:
                q[row] = _fp8(case.data, rng, (case.heads, DIM), case.q_dtype)
                weights[row] = rng.standard_normal(case.heads)
        kv[seen] = _fp8(case.data, rng, (int(seen.sum()), DIM), case.kv_dtype)
        values = (rng.random(case.keys) + 0.1).astype(np.float32)
        self.array("kv_scales")[seen] = values[seen].reshape(-1, *scales.shape[1:], *(1,) * case.scale_columns)
