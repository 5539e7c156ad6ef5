"""One call of mla_prefill_ps_fwd as a value, and what it must give: in fp64, by the formula of docs/contract.md."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from aiter_c import _C, get_ps_metadata_info_v1, get_ps_metadata_v1, mla_plan

from ..case import Case
from ..compare import Expected
from ..inputs import Inputs
from ..memory import Block, packed
from ..tolerance import LSE, LSE_NEAR_ZERO, OUTPUT, OUTPUT_FP8_P, P_ROUNDING, dot_product_bound, e4m3_product_bound
from .attention import last_visible
from .cache import to_float64
from .mla_decode import DTYPES_16, DTYPES_FP8, MASK_PATTERNS
from .mla_decode_inputs import mask_some, saturated

if TYPE_CHECKING:
    from ..device import Device
    from ..run import Outcome

DIMS = ("192/128", "256/256")
DTYPES = (*DTYPES_16, *DTYPES_FP8)
#: How kv_page_indices names the slots: in any order, one after the other, or not at all (None).
ORDERS = ("shuffled", "in_order", "none")
INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
_SPARE_SLOTS = 3  # never referred to, besides slot 0
LISTS = ("work_indptr", "work_info_set", "reduce_indptr", "reduce_final_map", "reduce_partial_map")


@dataclass(frozen=True, repr=False)
class PrefillCase(Case):
    """Symbols: B = len(q_lens) requests, T query rows, H heads, Hkv heads of keys and values. Defaults are the plainest
    call."""

    op: ClassVar[str] = "mla_prefill_ps_fwd"
    small: ClassVar = (
        {"q_lens": (3, 1), "kv_lens": (5, 9), "heads": 2},
        {"q_lens": (3, 40), "kv_lens": (5, 190), "heads": 2, "workers": 3, "unit": 16, "order": "shuffled"},
    )

    heads: int = 2
    kv_heads: int | None = None  # None: as many
    q_lens: tuple[int, ...] = (17,)
    kv_lens: tuple[int, ...] = (17,)
    dims: str = "192/128"
    dtype: str = "bfloat16"
    kv_dtype: str | None = None  # None: dtype
    o_dtype: str = "bfloat16"
    causal: bool = True
    return_lse: bool = True
    order: str = "in_order"  # one of ORDERS
    masked: str = "none"  # one of MASK_PATTERNS
    scales: tuple[float, float, float] | None = None  # of q, k and v
    scales_as: str = "float"  # "float", "scalar" (0-d array), "one" ([1] array)
    softmax_scale: float | None = None
    score_std: float = 1.0  # standard deviation of the scaled scores
    trend: float = 0.0  # how far the scaled scores rise from a request's first key to its last
    max_seqlen_q: int | None = None  # None: max(q_lens)
    strided: bool = False  # rows and heads of every operand with gaps
    as_bytes: bool = False  # fp8 operands come as uint8 with q_dtype= and kv_dtype=
    unowned_rows: tuple[int, int] = (0, 0)  # query rows before and after those of the requests
    indptr_offset: int = 0  # kv_indptr[0]
    stale_tails: bool = False  # kv_indptr and kv_page_indices are longer than the batch
    nan_value: bool = False  # the value of every request's last key
    workers: int = 0  # of the lists; 0: no lists
    need_lse: bool = True  # of the lists
    unit: int = 128  # of the lists: kvlen_granularity
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses a case that means nothing, so that a typing error in a list cannot pass as a test."""
        meaningful = (
            len(self.q_lens) == len(self.kv_lens)
            and self.dims in DIMS
            and self.dtype in DTYPES
            and (self.kv_dtype is None or {self.dtype, self.kv_dtype} <= set(DTYPES_FP8))
            and self.o_dtype in DTYPES_16
            and self.order in ORDERS
            and self.masked in MASK_PATTERNS
            and (self.order != "none" or (self.masked == "none" and not self.stale_tails))
            and self.scales_as in ("float", "scalar", "one")
            and self.heads % self.num_kv_heads == 0
        )
        if not meaningful:
            raise ValueError(f"a case that means nothing: {self!r}")

    @property
    def num_kv_heads(self) -> int:
        """Hkv."""
        return self.kv_heads or self.heads

    @property
    def head_dim(self) -> int:
        """D."""
        return int(self.dims.split("/")[0])

    @property
    def value_dim(self) -> int:
        """Dv."""
        return int(self.dims.split("/")[1])

    @property
    def num_rows(self) -> int:
        """T, rows that no request owns included."""
        return sum(self.q_lens) + sum(self.unowned_rows)

    @property
    def served_q_len(self) -> int:
        """The max_seqlen_q argument."""
        return self.max_seqlen_q if self.max_seqlen_q is not None else max((1, *self.q_lens))

    @property
    def operand_dtypes(self) -> tuple[str, str]:
        """Of q, and of k and v."""
        return self.dtype, self.kv_dtype or self.dtype

    @property
    def used_scales(self) -> tuple[float, float, float]:
        """Those that count: of fp8 operands."""
        q, k, v = (float(np.float32(scale)) for scale in self.scales or (1, 1, 1))
        return (q if self.dtype in DTYPES_FP8 else 1.0), *((k, v) if self.operand_dtypes[1] in DTYPES_FP8 else (1, 1))

    @property
    def sm_scale(self) -> float:
        """softmax_scale, resolved."""
        return self.softmax_scale if self.softmax_scale is not None else self.head_dim**-0.5

    @property
    def words(self) -> list[str]:
        """Sizes, dtypes and what is not as usual."""
        heads = f"h{self.heads}" if self.kv_heads is None else f"h{self.heads}.{self.kv_heads}"
        words = [heads, f"q{_runs(self.q_lens)}", f"kv{_runs(self.kv_lens)}", f"d{self.head_dim}", self.dtype]
        told = ("heads", "kv_heads", "q_lens", "kv_lens", "dims", "dtype")
        for name, value in self._changed().items():
            if name not in told:
                words.append(name if value is True else f"{name}={value}")
        return words

    def inputs(self) -> PrefillInputs:
        """Every tensor in a block of its own; what no list refers to is NaN."""
        return _build(self)

    def outputs(self, inputs: Inputs, returned: tuple) -> dict[str, np.ndarray | None]:
        """The output and the LSE."""
        return {"output": inputs.array("output"), "lse": returned[1]}

    def expected(self, inputs: PrefillInputs, device: Device) -> dict[str, Expected]:
        """By the fp64 reference, with the tolerance of the kernel that serves the case there."""
        p_dtype = p_dtype_of(self, device)
        reference = inputs.reference(p_dtype)
        tolerance = OUTPUT_FP8_P if p_dtype in DTYPES_FP8 else OUTPUT
        empty = np.isneginf(reference.lse)
        out = {
            "output": Expected(
                reference.o, tolerance, written=reference.written, exact=empty, allowance=reference.rounding
            )
        }
        if self.return_lse:
            allowance = reference.lse_rounding
            if p_dtype in DTYPES_FP8 and kernel_of(self, device)["arch"] == "sm_90a":
                allowance = allowance + e4m3_product_bound(reference.magnitudes)
            out["lse"] = Expected(reference.lse, LSE, allowance=allowance, dtype="float32")
        return out

    def check(self, outcome: Outcome) -> None:
        """What was passed is returned; scratch of exactly the rows of the closed formula, and none without lists."""
        if outcome.returned[0] is not outcome.inputs.array("output"):
            raise AssertionError(f"another tensor was returned than was passed\n  {self.repro}")
        data = outcome.scratch.get("splitData")
        if not self.workers:
            if data is not None:
                raise AssertionError(f"scratch without lists: {data.shape}\n  {self.repro}")
            return
        want = (scratch_rows(self, len(outcome.inputs.array("reduce_partial_map"))), self.heads, self.value_dim)
        if data is not None and data.shape != want:
            raise AssertionError(f"scratch: expected {want}, got {data.shape}\n  {self.repro}")


def scratch_rows(case: PrefillCase, entries: int) -> int:
    """Rows of the scratch with lists: the contract's formula."""
    if case.num_rows == 0 or not case.q_lens:
        return 0
    cluster = case.workers // math.gcd(case.num_kv_heads, case.workers)
    return 256 * min(entries, -(-case.num_rows // 256) + len(case.q_lens) + cluster - 1)


def _runs(values: tuple[int, ...]) -> str:
    """(1, 1, 1, 7) -> "1x3.7"."""
    runs = [(value, len(list(group))) for value, group in itertools.groupby(values)]
    return ".".join(f"{value}x{count}" if count > 1 else str(value) for value, count in runs)


#: Instruction sets of the CPU, each serving what those before it serve.
_CPU = ("portable", "avx2", "avx512", "avx512bf16", "amx")


def kernel_of(case: PrefillCase, device: Device) -> dict[str, object] | None:
    """The row of the kernel table that serves the case there, if one does."""
    arch = mla_plan(1, 1, 1, 1, "bfloat16", "bfloat16", device=device.place).arch
    archs = _CPU[: _CPU.index(arch) + 1] if arch in _CPU else (arch,)
    q, kv = case.operand_dtypes
    rows = [
        row
        for row in _C.kernel_table()
        if row["op"] == "mla_prefill"
        and row["arch"] in archs
        and case.dims in row["dims"]
        and q in row["q_dtype"]
        and kv in row["kv_dtype"]
        and case.o_dtype in row["o_dtype"]
    ]
    if not rows:
        return None
    best = max(archs.index(row["arch"]) for row in rows)
    wanted = 256 if case.workers else min(case.served_q_len, case.num_rows)
    fitting = [row for row in rows if row["arch"] == archs[best]]
    return min(fitting, key=lambda row: (-(-max(wanted, 1) // row["tile_rows"]), row["tile_rows"]))


def is_served(case: PrefillCase, device: Device) -> bool:
    """Whether a kernel there serves the case."""
    return kernel_of(case, device) is not None


def p_dtype_of(case: PrefillCase, device: Device) -> str:
    """The type of p in the kernel that serves the case there."""
    kernel = kernel_of(case, device)
    if kernel is None:
        raise AssertionError(f"no kernel on {device}\n  {case.repro}")
    return str(kernel["p_dtype"])


@dataclass
class PrefillReference:
    """o [T, H, Dv], lse [T, H] in fp64; written [T]; lse_rounding [T, H], rounding [T, H, Dv]: see Attended. magnitudes
    [T, H]: those of the scores' terms together, weighted like the values; of fp8 P."""

    o: np.ndarray
    lse: np.ndarray
    written: np.ndarray
    lse_rounding: np.ndarray
    rounding: np.ndarray
    magnitudes: np.ndarray


@dataclass
class PrefillInputs(Inputs):
    """q, k, v in exact fp64, without their scales; the query rows and the slots of every request, -1 where masked."""

    case: PrefillCase
    q: np.ndarray = field(kw_only=True)
    k: np.ndarray = field(kw_only=True)
    v: np.ndarray = field(kw_only=True)
    q_rows: list[range] = field(kw_only=True)
    slots: list[np.ndarray] = field(kw_only=True)

    def arguments(self) -> dict[str, object]:
        """Keyword arguments of mla_prefill_ps_fwd."""
        case, out = self.case, super().arguments()
        out |= {"max_seqlen_q": case.served_q_len, "is_causal": case.causal, "return_lse": case.return_lse}
        if case.order == "none":
            out["kv_page_indices"] = None
        if not case.workers:
            out |= dict.fromkeys(LISTS)
        if case.softmax_scale is not None:
            out["softmax_scale"] = case.softmax_scale
        if case.as_bytes:
            q, kv = case.operand_dtypes
            out |= {name: out[name].view(np.uint8) for name in "QKV"} | {"q_dtype": q, "kv_dtype": kv}
        return out

    def reference(self, p_dtype: str = "float32", rows: slice | None = None) -> PrefillReference:
        """The fp64 result of the whole call; rows: of each request these alone."""
        case = self.case
        q_scale, k_scale, v_scale = case.used_scales
        shape = (case.num_rows, case.heads)
        out = PrefillReference(
            np.zeros((*shape, case.value_dim)),
            np.full(shape, -np.inf),
            np.zeros(case.num_rows, bool),
            np.zeros(shape),
            np.zeros((*shape, case.value_dim)),
            np.zeros(shape),
        )
        most = None if case.workers else case.served_q_len
        for owned, slots in zip(self.q_rows, self.slots, strict=True):
            inside = np.flatnonzero(slots >= 0)
            keys, values = self.k[slots[inside]].transpose(1, 2, 0), v_scale * self.v[slots[inside]].swapaxes(0, 1)
            for i, row in list(enumerate(owned[:most]))[rows or slice(None)]:
                seen = np.searchsorted(inside, last_visible(i, len(owned), len(slots), case.causal))
                q = self.q[row].reshape(case.num_kv_heads, -1, case.head_dim)
                out.written[row] = True
                if seen:
                    _attend(out, row, case.sm_scale * q_scale * k_scale, q, keys[..., :seen], values[:, :seen], p_dtype)
        return out


def _attend(
    out: PrefillReference,
    row: int,
    scale: float,
    q: np.ndarray,
    keys: np.ndarray,
    values: np.ndarray,
    p_dtype: str,
) -> None:
    """One query row: q [Hkv, g, D] over keys [Hkv, D, n] and values [Hkv, n, Dv]."""
    heads, width = out.lse.shape[1], values.shape[2]
    with np.errstate(invalid="ignore"):  # NaN and infinite inputs give NaN, as the formula does
        scores = scale * (q @ keys)
        top = scores.max(-1, keepdims=True)
        weights = np.exp(scores - top)
        total = weights.sum(-1, keepdims=True)
        out.o[row] = (weights @ values / total).reshape(heads, width)
        lse = (top + np.log(total)).reshape(heads)
        out.lse[row] = lse
        if p_dtype in DTYPES_FP8 or (np.abs(lse) < LSE_NEAR_ZERO).any():
            magnitudes = abs(scale) * (np.abs(q) @ np.abs(keys))
            out.magnitudes[row] = (weights / total * magnitudes).sum(-1).reshape(heads)
            out.lse_rounding[row] = np.where(np.abs(lse) < LSE_NEAR_ZERO, dot_product_bound(out.magnitudes[row]), 0.0)
        if p_dtype != "float32":
            size = np.abs(values)
            bound = P_ROUNDING[p_dtype].bound(weights @ size / total, size.sum(1, keepdims=True) / total)
            out.rounding[row] = bound.reshape(heads, width)


def _operand(shape: tuple[int, ...], dtype: str, strided: bool, shift: int, *, poison: bool = True) -> Block:
    """All NaN. strided: heads 40 elements apart, rows 24."""
    head = shape[2] + 40
    strides = (shape[1] * head + 24, head, 1) if strided else None
    block = Block(shape, dtype, strides=strides, shift=shift, poison=poison)
    block.fill_nan()
    return block


def _build(case: PrefillCase) -> PrefillInputs:
    """Deterministic in `case`."""
    rng = np.random.default_rng([case.seed, case.heads, case.num_rows, sum(case.kv_lens)])
    shift = int(rng.integers(0, 8))
    keys = sum(case.kv_lens)
    num_slots = keys + 1 + _SPARE_SLOTS if case.order != "none" else keys + case.indptr_offset
    blocks = {
        "Q": _operand((case.num_rows, case.heads, case.head_dim), case.dtype, case.strided, shift),
        "K": _operand((num_slots, case.num_kv_heads, case.head_dim), case.operand_dtypes[1], case.strided, shift),
        "V": _operand((num_slots, case.num_kv_heads, case.value_dim), case.operand_dtypes[1], case.strided, shift),
        "output": _operand(
            (case.num_rows, case.heads, case.value_dim), case.o_dtype, case.strided, shift, poison=False
        ),
    }
    indices, slots = _index_blocks(case, rng, num_slots, shift)
    blocks |= indices
    _fill(case, rng, blocks, slots)
    if case.workers:
        blocks |= _lists(case, blocks, shift)
    first = case.unowned_rows[0]
    starts = first + np.concatenate([[0], np.cumsum(case.q_lens)]).astype(int)
    exact = {name.lower(): to_float64(blocks[name].array) for name in "QKV"}
    make = {"float": float, "scalar": np.float32, "one": lambda value: np.array([value], np.float32)}[case.scales_as]
    names = ("q_scale", "k_scale", "v_scale")
    given = dict(zip(names, map(make, case.scales), strict=True)) if case.scales else {}
    if case.scales_as == "scalar":
        given = {name: np.array(value, np.float32) for name, value in given.items()}
    return PrefillInputs(
        case,
        blocks,
        values=given,
        written=("output",),
        q_rows=[range(a, b) for a, b in itertools.pairwise(starts)],
        slots=slots,
        **exact,
    )


def _index_blocks(
    case: PrefillCase, rng: np.random.Generator, num_slots: int, shift: int
) -> tuple[dict[str, Block], list[np.ndarray]]:
    """The indptrs and kv_page_indices, and what they mean: the slots of every request, -1 where masked."""
    keys, offset = sum(case.kv_lens), case.indptr_offset
    stale = lambda n: rng.choice([INT32_MIN, -1, 0, num_slots, INT32_MAX], n)  # noqa: E731
    kv_indptr = offset + np.concatenate([[0], np.cumsum(case.kv_lens)])
    if case.order == "none":
        named = offset + np.arange(keys)
    else:
        named = 1 + (np.arange(keys) if case.order == "in_order" else rng.permutation(num_slots - 1)[:keys])
    named = named.astype(np.int64)
    parts = [named[a - offset : b - offset] for a, b in itertools.pairwise(kv_indptr.astype(int))]
    for part in parts:
        mask_some(case.masked, rng, part, num_slots)
    slots = [np.where((part >= 0) & (part < num_slots), part, -1) for part in parts]
    entries = np.concatenate([stale(offset), named, stale(5 if case.stale_tails else 0)])
    tensors = {
        "qo_indptr": case.unowned_rows[0] + np.concatenate([[0], np.cumsum(case.q_lens)]),
        "kv_indptr": np.concatenate([kv_indptr, stale(3)]) if case.stale_tails else kv_indptr,
        "kv_page_indices": entries,
    }
    return {name: packed(np.asarray(v).astype(np.int32), shift=shift) for name, v in tensors.items()}, slots


def _fill(case: PrefillCase, rng: np.random.Generator, blocks: dict[str, Block], slots: list[np.ndarray]) -> None:
    """Values: queries such that the scaled scores have standard deviation score_std against N(0, 1) keys; keys and
    values only where a list refers to."""
    q_scale, k_scale, v_scale = case.used_scales
    kv_dtype = case.operand_dtypes[1]
    direction = np.random.default_rng([case.seed, 1]).choice(np.array([-1, 1], np.float32), case.head_dim)
    spread = case.score_std / (case.sm_scale * math.sqrt(case.head_dim)) if case.sm_scale else 1.0
    q = rng.standard_normal(blocks["Q"].array.shape, np.float32)
    if case.trend:
        q += direction
    blocks["Q"].array[...] = saturated(q * np.float32(spread / q_scale), case.dtype)
    for part in slots:
        used = part[part >= 0]
        keys = rng.standard_normal((len(used), case.num_kv_heads, case.head_dim), np.float32)
        values = rng.standard_normal((len(used), case.num_kv_heads, case.value_dim), np.float32)
        if case.trend:
            step = case.trend / (case.score_std * math.sqrt(case.head_dim))
            along = np.linspace(-0.5, 0.5, len(part))[part >= 0].astype(np.float32)
            keys += along[:, None, None] * np.float32(step) * direction
        blocks["K"].array[used] = saturated(keys / np.float32(k_scale), kv_dtype)
        blocks["V"].array[used] = saturated(values / np.float32(v_scale), kv_dtype)
        if case.nan_value and len(part) and part[-1] >= 0:
            blocks["V"].array[part[-1]] = np.nan


def _lists(case: PrefillCase, blocks: dict[str, Block], shift: int) -> dict[str, Block]:
    """The lists of get_ps_metadata_v1 as they are after the op, in buffers that held anything before it."""
    group = case.heads // case.num_kv_heads
    tile = max(256 // group, 1)
    sizes = get_ps_metadata_info_v1(
        len(case.q_lens), case.num_kv_heads, max((0, *case.q_lens)), tile, num_workers=case.workers
    )
    lists = {name: np.full(size, 0x7BADBADB, np.int32) for name, (size, _) in zip(LISTS, sizes[1:], strict=True)}
    get_ps_metadata_v1(
        blocks["qo_indptr"].array, blocks["kv_indptr"].array, np.array(case.kv_lens, np.int32), group,
        case.num_kv_heads, None, *lists.values(), group, tile, case.unit, 1, case.causal, case.need_lse,
    )  # fmt: skip
    return {name: packed(values, shift=shift) for name, values in lists.items()}
