"""One call of the ops of the indexer's cache as a value, and what it must give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..case import Case
from ..compare import Expected
from ..inputs import Inputs
from ..memory import Block, dtype_of, packed
from .cache_write import INT64_MAX, SLOTS, rows_block, some_slots, source, strided
from .exact import FP8, check_bits_but_of_nan, largest_size, power_of_2_from, quantised, stored, turned

if TYPE_CHECKING:
    from ..device import Device
    from ..run import Outcome

DIM = 128
LIMIT = {"float8_e4m3fn": np.float32(448), "float8_e4m3fnuz": np.float32(224)}
INT32_MAX = 2**31 - 1


def key_places(size: int, dim: int, line: int, preshuffle: bool) -> np.ndarray:
    """Of a key's bytes, in a page of `size` keys."""
    d = np.arange(dim)
    if not preshuffle:
        return line * dim + d
    return line // 16 * 16 * dim + d // 16 * 256 + line % 16 * 16 + d % 16


def scale_places(size: int, dim: int, line: int, groups: int) -> np.ndarray:
    """Of the bytes of a key's scales."""
    return size * dim + line * groups * 4 + np.arange(4 * groups)


def quantise(values: np.ndarray, dtype: str, least: float, *, power_of_2: bool) -> tuple[np.ndarray, np.ndarray]:
    """float32 groups [.., n] -> (codes, scales [..])."""
    scales = np.maximum(largest_size(values), np.float32(least)) / LIMIT[dtype]
    if power_of_2:
        scales = power_of_2_from(scales)
    with np.errstate(all="ignore"):
        return quantised(values * (np.float32(1) / scales)[..., None], dtype), scales


def sum_of_key(values: np.ndarray) -> np.ndarray:
    """Over 128 elements, in the order of the kernels: fours, then a tree over them."""
    four = values.reshape(*values.shape[:-1], DIM // 4, 4)
    sums = (four[..., 0] + four[..., 1]) + (four[..., 2] + four[..., 3])
    while sums.shape[-1] > 1:
        half = sums.shape[-1] // 2
        sums = sums[..., :half] + sums[..., half:]
    return sums[..., 0]


def normalised(k: np.ndarray, weight: np.ndarray, bias: np.ndarray, epsilon: float) -> np.ndarray:
    """LayerNorm of float32 rows [.., 128], every operation rounded."""
    share = np.float32(1 / DIM)
    with np.errstate(all="ignore"):
        centred = k - (sum_of_key(k) * share)[..., None]
        variance = sum_of_key(centred * centred) * share
        factor = np.float32(1) / np.sqrt(variance + np.float32(epsilon))
        return centred * factor[..., None] * weight + bias


class _IndexerCase:
    """What all three have."""

    pages: int
    page_size: int
    preshuffle: bool
    pad: int
    page_gap: int
    rank: int
    shift: int

    def check(self, outcome: Outcome) -> None:
        """Bits, which == does not see, and that nothing is returned."""
        for name, want in outcome.expected.items():
            got = outcome.outputs[name]
            written = np.broadcast_to(True if want.written is None else want.written, got.shape)
            check_bits_but_of_nan(name, got, want.values, written, self.repro)
        if outcome.returned is not None:
            raise AssertionError(f"expected None, got {type(outcome.returned).__name__}\n  {self.repro}")

    def cache_block(self, width: int, dtype: str) -> Block:
        """Pages of keys and scales of `width` bytes each together, then padding."""
        width += self.pad
        shape = (self.pages, self.page_size, 1, width) if self.rank == 4 else (self.pages, self.page_size, width)
        page = self.page_size * width + self.page_gap
        strides = (page, width, width, 1) if self.rank == 4 else (page, width, 1)
        return Block(shape, dtype, strides=strides, shift=self.shift)


@dataclass(frozen=True, repr=False)
class IndexerWriteCase(_IndexerCase, Case):
    """indexer_k_quant_and_cache."""

    op: ClassVar[str] = "indexer_k_quant_and_cache"
    small: ClassVar = ({}, {"page_size": 16, "preshuffle": True, "cache": FP8[1], "scale_fmt": "ue8m0"}, {"group": 32})

    tokens: int = 5
    dim: int = DIM
    group: int = DIM  # elements of a scale
    dtype: str = "bfloat16"
    cache: str = FP8[0]
    bytes_cache: str = ""  # "uint8" or "int8"
    scale_fmt: str | None = None
    pages: int = 3
    page_size: int = 4
    preshuffle: bool = False
    pad: int = 0  # bytes of a key's share of a page past key and scales
    page_gap: int = 0  # bytes between pages
    rank: int = 3
    slots: str = "some"
    data: str = "normal"
    more_keys: int = 0  # rows of k without a slot
    more_slots: int = 0  # slots without a row of k
    gap: int = 0
    step: int = 1
    shift: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses a case that means nothing."""
        if self.dim % self.group or self.slots not in SLOTS or (self.preshuffle and self.page_size % 16):
            raise ValueError(f"a case that means nothing: {self!r}")

    @property
    def groups(self) -> int:
        """Scales of a key."""
        return self.dim // self.group

    def inputs(self) -> Inputs:
        """Every tensor in a block of its own."""
        rng = np.random.default_rng([self.seed, self.tokens, self.dim, self.page_size])
        k = source(self.data, rng, (self.tokens + self.more_keys, self.dim), self.dtype)
        slots = some_slots(self.slots, rng, self.tokens, self.pages * self.page_size)
        if self.slots == "any":
            k[...] = k[:1]
        slots = np.append(slots, np.arange(0 if self.more_keys else self.more_slots))  # of keys that there are not
        blocks = {
            "k": rows_block(k, gap=self.gap, shift=self.shift),
            "kv_cache": self.cache_block(self.dim + 4 * self.groups, self.bytes_cache or self.cache),
            "slot_mapping": strided(slots.astype(np.int64), step=self.step),
        }
        values: dict[str, object] = {
            "quant_block_size": self.group, "scale_fmt": self.scale_fmt, "preshuffle": self.preshuffle,
        }  # fmt: skip
        if self.bytes_cache:
            values["kv_dtype"] = self.cache
        return Inputs(self, blocks, values, ("kv_cache",))

    def outputs(self, inputs: Inputs, returned: object) -> dict[str, np.ndarray]:
        """By byte."""
        return {"kv_cache": inputs.array("kv_cache")}

    def expected(self, inputs: Inputs, device: Device) -> dict[str, Expected]:
        """Equal in every byte of every key that has a slot."""
        groups = inputs.array("k").astype(np.float32).reshape(-1, self.groups, self.group)
        codes, scales = quantise(groups, self.cache, 1e-4, power_of_2=self.scale_fmt == "ue8m0")
        return {"kv_cache": _expected_cache(self, inputs, codes, scales, inputs.array("slot_mapping")[: self.tokens])}


def _expected_cache(
    case: _IndexerCase, inputs: Inputs, codes: np.ndarray, scales: np.ndarray, slots: np.ndarray
) -> Expected:
    """codes [tokens, groups, ..], scales [tokens, groups]."""
    cache = inputs.array("kv_cache")
    flat = np.zeros((case.pages, int(np.prod(cache.shape[1:]))), np.uint8)
    written = np.zeros(flat.shape, bool)
    groups, dim, size = codes.shape[1], codes.shape[1] * codes.shape[2], case.page_size
    for t, slot in enumerate(slots.tolist()):
        if not 0 <= slot < case.pages * size:
            continue
        page, line = divmod(slot, size)
        at, beside = key_places(size, dim, line, case.preshuffle), scale_places(size, dim, line, groups)
        flat[page, at] = codes[t].reshape(-1).view(np.uint8)
        flat[page, beside] = scales[t].view(np.uint8)
        written[page, at] = written[page, beside] = True
    values = flat.reshape(cache.shape)
    if cache.dtype != np.uint8:
        values = values.view(cache.dtype)
    return Expected(values, written=written.reshape(cache.shape))


@dataclass(frozen=True, repr=False)
class IndexerRopeCase(_IndexerCase, Case):
    """indexer_qk_rope_quant_and_cache."""

    op: ClassVar[str] = "indexer_qk_rope_quant_and_cache"
    small: ClassVar = ({}, {"page_size": 16, "preshuffle": True, "cache": FP8[1], "q_out": FP8[1], "neox": False})

    tokens: int = 4
    heads: int = 3
    dtype: str = "bfloat16"
    weights_dtype: str = "bfloat16"
    angle_dtype: str = "bfloat16"
    cache: str = FP8[0]
    q_out: str = FP8[0]
    bytes_out: bool = False  # the cache and q_out come as uint8
    scale_fmt: str | None = None
    pages: int = 3
    page_size: int = 4
    preshuffle: bool = False
    pad: int = 0
    page_gap: int = 0
    rank: int = 3
    slots: str = "some"
    data: str = "normal"
    epsilon: float = 1e-6
    weights_scale: float = 0.125
    neox: bool = True
    all_q: bool = False
    angles: int = 7
    positions: str = "near"
    gap: int = 0
    spare: int = 0
    step: int = 1
    shift: int = 0
    seed: int = 0

    def inputs(self) -> Inputs:
        """Every tensor in a block of its own."""
        rng = np.random.default_rng([self.seed, self.tokens, self.heads, self.page_size])
        count, alike = self.tokens, self.slots == "any"

        def rows(*shape: int, dtype: str | None = None, kind: str = self.data) -> Block:
            data = source(kind, rng, shape, dtype or self.dtype)
            if alike:
                data[...] = data[:1]
            return rows_block(data, gap=self.gap, spare=self.spare, shift=self.shift)

        near = rng.integers(0, self.angles, count + self.spare)
        if self.positions == "far":
            near = rng.choice([-(2**63), -1, 0, self.angles - 1, self.angles, 2**32, INT64_MAX], len(near))
        near = np.resize(near[:1], len(near)) if alike else near
        angles = rng.standard_normal((self.angles, 32))
        out = dtype_of("uint8" if self.bytes_out else self.q_out)
        written = {"gap": self.gap, "spare": self.spare, "shift": self.shift, "poison": False}
        blocks = {
            "q": rows(count, self.heads, DIM),
            "q_out": rows_block(np.zeros((count, self.heads, DIM), out), **written),
            "weights": rows(
                count, self.heads, dtype=self.weights_dtype, kind="normal" if self.data == "small" else self.data
            ),
            "weights_out": rows_block(np.zeros((count, self.heads), np.float32), **written),
            "k": rows(count, DIM),
            "kv_cache": self.cache_block(DIM + 4, "uint8" if self.bytes_out else self.cache),
            "slot_mapping": strided(some_slots(self.slots, rng, count, self.pages * self.page_size), step=self.step),
            "norm_weight": packed(rng.standard_normal(DIM).astype(np.float32)),
            "norm_bias": packed(rng.standard_normal(DIM).astype(np.float32)),
            "positions": strided(near.astype(np.int64), step=self.step),
            "cos_cache": rows_block(np.cos(angles).astype(dtype_of(self.angle_dtype)), gap=self.gap),
            "sin_cache": rows_block(np.sin(angles).astype(dtype_of(self.angle_dtype)), gap=self.gap),
        }
        values: dict[str, object] = {
            "epsilon": self.epsilon, "quant_block_size": DIM, "scale_fmt": self.scale_fmt,
            "weights_scale": self.weights_scale, "preshuffle": self.preshuffle, "is_neox": self.neox,
            "compute_all_q_rope": self.all_q,
        }  # fmt: skip
        if self.bytes_out:
            values |= {"q_dtype": self.q_out, "kv_dtype": self.cache}
        return Inputs(self, blocks, values, ("q_out", "weights_out", "kv_cache"))

    def expected(self, inputs: Inputs, device: Device) -> dict[str, Expected]:
        """Equal in every element."""
        count, dtype = self.tokens, dtype_of(self.dtype)
        slots = inputs.array("slot_mapping")[:count]
        wrote = ((slots >= 0) & (slots < self.pages * self.page_size)) | self.all_q
        rows = inputs.array("positions")[:count].clip(0, self.angles - 1)
        cos, sin = (inputs.array(name).astype(np.float32)[rows] for name in ("cos_cache", "sin_cache"))
        power_of_2 = self.scale_fmt == "ue8m0"

        def rounded(values: np.ndarray) -> np.ndarray:
            return stored(values, self.dtype).astype(np.float32)

        def turn(values: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
            return np.concatenate([turned(values[..., :64], cos, sin, neox=self.neox), values[..., 64:]], axis=-1)

        k = inputs.array("k")[:count].astype(np.float32)
        k = normalised(k, inputs.array("norm_weight"), inputs.array("norm_bias"), self.epsilon)
        codes, scales = quantise(rounded(turn(rounded(k), cos, sin))[:, None], self.cache, 1e-4, power_of_2=power_of_2)
        cache = _expected_cache(self, inputs, codes, scales, slots)
        q = rounded(turn(inputs.array("q")[:count].astype(np.float32), cos[:, None], sin[:, None]))
        q_codes, q_scales = quantise(q, self.q_out, 1e-10, power_of_2=power_of_2)
        assert dtype == inputs.array("q").dtype
        with np.errstate(all="ignore"):
            weights = inputs.array("weights")[:count].astype(np.float32) * q_scales * np.float32(self.weights_scale)
        out = {"kv_cache": cache}
        for name, values in (("q_out", q_codes), ("weights_out", weights)):
            got = inputs.array(name)
            whole, mask = np.zeros(got.shape, got.dtype), np.zeros(got.shape, bool)
            whole[:count] = values.view(got.dtype)
            mask[:count] = wrote.reshape(-1, *(1,) * (got.ndim - 1))
            out[name] = Expected(whole, written=mask)
        return out


@dataclass(frozen=True, repr=False)
class IndexerGatherCase(_IndexerCase, Case):
    """cp_gather_indexer_k_quant_cache. Pages that no request has are NaN."""

    op: ClassVar[str] = "cp_gather_indexer_k_quant_cache"
    small: ClassVar = ({}, {"page_size": 16, "preshuffle": True, "group": 64, "bytes_scale": True})

    lens: tuple[int, ...] = (9, 0, 5)
    dim: int = DIM
    group: int = DIM
    dtype: str = FP8[0]  # of cache and keys
    bytes_scale: bool = False
    pages: int = 6
    page_size: int = 4
    preshuffle: bool = False
    pad: int = 0
    page_gap: int = 0
    rank: int = 3
    table: str = "good"  # "some": pages that are none; "short": too few; "any": with any numbers in indptr as well
    more_tokens: int = 0  # rows of dst_k that no request has
    gap: int = 0
    shift: int = 0
    seed: int = 0

    @property
    def groups(self) -> int:
        """Scales of a key."""
        return self.dim // self.group

    def inputs(self) -> Inputs:
        """Every tensor in a block of its own."""
        rng = np.random.default_rng([self.seed, sum(self.lens), self.dim, self.page_size])
        count, width = sum(self.lens) + self.more_tokens, self.dim + 4 * self.groups
        cache = self.cache_block(width, self.dtype)
        cache.array.view(np.uint8)[...] = rng.integers(0, 256, cache.array.shape, np.uint8)
        indptr = np.cumsum([0, *self.lens])
        entries = max((-(-n // self.page_size) for n in self.lens), default=0) + (self.table != "short")
        table = rng.integers(0, max(self.pages, 1), (len(self.lens), max(entries - (self.table == "short"), 0)))
        wrong = [-(2**31), -1, self.pages, INT32_MAX]
        if self.table in ("some", "any"):
            table = np.where(rng.random(table.shape) < 0.4, rng.choice(wrong, table.shape), table)
        if self.table == "any":
            far = rng.choice([-(2**31), -1, count, count + 1, INT32_MAX], len(indptr))
            indptr = np.where(rng.random(len(indptr)) < 0.4, far, rng.permutation(indptr))
        kept = {"gap": self.gap, "shift": self.shift, "poison": False}
        dst_scale = np.zeros((count, self.groups), np.float32)
        if self.bytes_scale:
            dst_scale = dst_scale.view(np.uint8)
        blocks = {
            "kv_cache": cache,
            "dst_k": rows_block(np.zeros((count, self.dim), dtype_of(self.dtype)), **kept),
            "dst_scale": rows_block(dst_scale, **kept),
            "block_table": rows_block(table.astype(np.int32), gap=self.gap),
            "cu_seq_lens": packed(indptr.astype(np.int32)),
        }
        return Inputs(self, blocks, {"preshuffle": self.preshuffle}, ("dst_k", "dst_scale"))

    def outputs(self, inputs: Inputs, returned: object) -> dict[str, np.ndarray]:
        """By byte, but scales that are float32."""
        return {name: inputs.array(name) for name in inputs.written}

    def expected(self, inputs: Inputs, device: Device) -> dict[str, Expected]:
        """Equal in every byte; zeros where there is no page."""
        indptr, table = inputs.array("cu_seq_lens").astype(np.int64), inputs.array("block_table")
        cache = inputs.array("kv_cache").view(np.uint8)
        pages = cache.reshape(self.pages, -1) if cache.size else np.zeros((self.pages, 0), np.uint8)
        keys, scales = inputs.array("dst_k"), inputs.array("dst_scale")
        codes = np.zeros(keys.shape, np.uint8)
        factors = np.zeros((len(keys), 4 * self.groups), np.uint8)
        written = np.zeros(len(keys), bool)
        for t in range(len(keys)):
            owners = [b for b in range(len(self.lens)) if indptr[b] <= t < indptr[b + 1]]
            if not owners:
                continue
            written[t] = True
            entry, line = divmod(t - int(indptr[owners[0]]), self.page_size)
            page = int(table[owners[0], entry]) if entry < table.shape[1] else -1
            if 0 <= page < self.pages:
                codes[t] = pages[page, key_places(self.page_size, self.dim, line, self.preshuffle)]
                factors[t] = pages[page, scale_places(self.page_size, self.dim, line, self.groups)]
        return {
            "dst_k": Expected(codes.view(keys.dtype), written=written),
            "dst_scale": Expected(factors.view(scales.dtype), written=written),
        }

    def check(self, outcome: Outcome) -> None:
        """Bits, those of a NaN as well."""
        for name, want in outcome.expected.items():
            got = np.ascontiguousarray(outcome.outputs[name]).view(np.uint8)
            unlike = (got != np.ascontiguousarray(want.values).view(np.uint8)) & want.written[:, None]
            if unlike.any() or outcome.returned is not None:
                raise AssertionError(f"{name}: another byte at {np.argwhere(unlike)[:1].tolist()}\n  {self.repro}")
