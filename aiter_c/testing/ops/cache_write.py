"""One write of an MLA cache as a value, in any of its forms, and what it must give."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..case import Case
from ..compare import Expected
from ..inputs import Inputs
from ..memory import Block, dtype_of
from .exact import FP8, check_bits_but_of_nan, largest_size, stored, turned

if TYPE_CHECKING:
    from ..device import Device
    from ..run import Outcome

OPS = {
    "concat": "concat_and_cache_mla",
    "concat_seg": "concat_and_cache_mla_seg",
    "fused": "fused_qk_rope_concat_and_cache_mla",
    "fused_seg": "fused_qk_rope_concat_and_cache_mla_seg",
    "cat": "fused_qk_rope_cat_and_cache_mla",
}
RECORDS = ("fp8_ds_mla", "3buffer")
#: What the sources hold: N(0, 4); any bits; N(0, 4) times any power of two; zeros and the smallest numbers.
DATA = ("normal", "codes", "wide", "small")
#: Slots: each token one of its own; some none; just at the borders; none at all; any, the tokens then being alike.
SLOTS = ("all", "some", "borders", "none", "any")
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
_FAR = (INT64_MIN, INT64_MIN + 1, -(2**32), -(2**31), -2, -1, 2**31, 2**32, 2**40, INT64_MAX - 1, INT64_MAX)


def source(kind: str, rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Elements of a tensor that is read."""
    if kind == "codes":
        size = dtype_of(dtype).itemsize
        return rng.integers(0, 256, (*shape, size), np.uint8).view(dtype_of(dtype)).reshape(shape)
    values = rng.standard_normal(shape).astype(np.float32) * 4
    if kind == "wide":
        values *= np.exp2(rng.integers(-20, 11, shape)).astype(np.float32)
    if kind == "small":
        values *= np.float32(2.0**-134) * (rng.random((*shape[:-1], 1)) < 0.5)
    with np.errstate(over="ignore"):
        return values.astype(dtype_of(dtype))


def some_slots(kind: str, rng: np.random.Generator, count: int, total: int) -> np.ndarray:
    """int64 [count] for a cache of `total` slots."""
    slots = rng.permutation(max(total, count))[:count].astype(np.int64)  # those from `total` on are none
    if kind == "some":
        slots[rng.random(count) < 0.3] = rng.choice([-1, -1, total, *_FAR])
    elif kind == "none":
        slots[:] = -1
    elif kind == "borders":
        slots = np.resize(np.array([-1, 0, total - 1, total, *_FAR], np.int64), count)
        first = np.unique(slots, return_index=True)[1]
        slots[np.setdiff1d(np.arange(count), first)] = -1
    elif kind == "any":
        slots = np.where(rng.random(count) < 0.3, rng.choice(_FAR, count), rng.integers(-2, total + 3, count))
    return slots


def strided(values: np.ndarray, *, step: int = 1) -> Block:
    """A poisoned block of one dimension, `step` entries apart."""
    block = Block(values.shape, values.dtype, strides=(step,), poison=True)
    block.array[...] = values
    return block


def rows_block(values: np.ndarray, *, gap: int = 0, spare: int = 0, shift: int = 0, poison: bool = True) -> Block:
    """[tokens, ..] with `gap` elements between rows of the last dimension, and `spare` tokens more, which are NaN."""
    shape = (values.shape[0] + spare, *values.shape[1:])
    strides, step = [1], shape[-1] + gap
    for size in reversed(shape[1:-1]):
        strides.insert(0, step)
        step = step * size + gap
    strides.insert(0, step)
    block = Block(shape, values.dtype, strides=tuple(strides), shift=shift, poison=poison)
    block.fill_nan()
    block.array[: values.shape[0]] = values
    return block


@dataclass(frozen=True, repr=False)
class CacheWriteCase(Case):
    """T tokens with slots; those of "cat" may have more keys than queries, and fewer slots than keys."""

    small: ClassVar = (
        {},
        {"cache": "float8_e4m3fn", "scale": 0.5},
        {"cache": "fp8_ds_mla"},
        {"cache": "3buffer"},
        {"form": "concat_seg", "cache": "float8_e4m3fnuz"},
        {"form": "fused", "cache": "float8_e4m3fn", "q_out": "float8_e4m3fn"},
        {"form": "fused_seg", "cache": "float8_e4m3fn"},
        {"form": "cat", "decoded": 2, "more_keys": 2},
        {"form": "cat", "given": True},
    )

    form: str = "concat"
    tokens: int = 5
    heads: int = 3
    key_heads: int = 1
    latent: int = 512
    rope: int = 64
    q_latent: int | None = None  # None: latent
    dtype: str = "bfloat16"
    cache: str = "auto"  # or an fp8 dtype, or one of RECORDS
    q_out: str = "auto"  # or an fp8 dtype
    bytes_cache: bool = False  # an fp8 cache, and q_out, come as uint8
    pages: int = 3
    page_size: int = 4
    page_gap: int = 0  # elements between pages
    row_gap: int = 0  # elements between the rows of a page
    rank: int = 3  # of the cache, where it may have several
    slots: str = "some"
    data: str = "normal"
    scale: float | None = None  # of keys, and its inverse of queries
    tensor_scale: bool = False
    neox: bool = True
    nope_first: bool = True
    all_q: bool = False
    angles: int = 7  # rows of cos and sin
    angle_dtype: str = "bfloat16"
    own_angles: bool = False  # an angle for every element
    positions: str = "near"  # or "far": clamped
    more_keys: int = 0  # of "cat": tokens without queries
    fewer_slots: int = 0  # of "cat"
    decoded: int = 0  # of "cat"
    given: bool = False  # of "cat": outputs
    gap: int = 0  # elements between rows of what may be strided
    spare: int = 0  # rows more than are served
    step: int = 1  # entries between slots, and positions
    shift: int = 0  # elements that tensors begin off their alignment
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses a case that means nothing."""
        records = self.cache in RECORDS
        meaningful = (
            self.form in OPS
            and self.slots in SLOTS
            and self.data in DATA
            and not (records and (self.form != "concat" or self.latent != 512 or self.rope != 64))
            and (self.form == "cat" or not (self.more_keys or self.fewer_slots or self.decoded or self.given))
            and (self.fused or (self.heads == 3 and self.q_out == "auto"))
        )
        if not meaningful:
            raise ValueError(f"a case that means nothing: {self!r}")

    @property
    def op(self) -> str:
        """The function that is called."""
        return OPS[self.form]

    @property
    def fused(self) -> bool:
        """Whether there are queries."""
        return self.form in ("fused", "fused_seg", "cat")

    @property
    def q_width(self) -> int:
        """Latent elements of a query."""
        return self.latent if self.q_latent is None else self.q_latent

    @property
    def keys(self) -> int:
        """Tokens with keys."""
        return self.tokens + self.more_keys

    @property
    def cache_dtype(self) -> str:
        """Of the elements."""
        return self.dtype if self.cache == "auto" else "uint8" if self.cache in RECORDS else self.cache

    @property
    def q_out_dtype(self) -> str:
        """Of the elements."""
        return self.dtype if self.q_out == "auto" else self.q_out

    @property
    def inverse_scale(self) -> float | None:
        """The scale of queries."""
        with np.errstate(all="ignore"):
            return None if self.scale is None else float(np.float32(1) / np.float32(self.scale))

    @property
    def words(self) -> list[str]:
        """The form and what it writes, then what is not as usual."""
        rest = {n: v for n, v in self._changed().items() if n not in ("form", "cache")}
        return [self.form, self.cache, *(name if value is True else f"{name}{value}" for name, value in rest.items())]

    def inputs(self) -> CacheWriteInputs:
        """Every tensor in a block of its own."""
        return _build(self)

    def outputs(self, inputs: Inputs, returned: object) -> dict[str, np.ndarray | None]:
        """What was passed to be written, and what "cat" returned."""
        out = {name: inputs.array(name) for name in inputs.written}
        if self.form == "cat":
            out |= zip(("q_out", "decode_q_pe_out", "k_pe_out", "q_nope_zeros_out"), returned, strict=True)
        return out

    def expected(self, inputs: CacheWriteInputs, device: Device) -> dict[str, Expected]:
        """Equal, and nothing else written."""
        out = _expected(inputs)
        for name in inputs.written:
            if inputs.array(name).dtype == np.uint8:
                out[name] = replace(out[name], values=out[name].values.view(np.uint8))
        return out

    def check(self, outcome: Outcome) -> None:
        """Bits, which == does not see, and what is returned."""
        for name, want in outcome.expected.items():
            got = outcome.outputs[name]
            written = np.broadcast_to(True if want.written is None else want.written, got.shape)
            check_bits_but_of_nan(name, got, want.values, written, self.repro)
        if self.form != "cat" and outcome.returned is not None:
            raise AssertionError(f"expected None, got {type(outcome.returned).__name__}\n  {self.repro}")


@dataclass
class CacheWriteInputs(Inputs):
    """With how a row of the cache is found."""

    def parts(self, cache: np.ndarray, slot: int, head: int) -> tuple[np.ndarray, ...]:
        """Views of a slot's latent, rope part and, of records, scales, in an array of the cache's shape."""
        case = self.case
        latent, rope, size = case.latent, case.rope, case.page_size
        page, line = divmod(slot, size)
        if case.form.endswith("seg"):
            at, beside = line * latent, size * latent + line * rope
            return cache[page, at : at + latent], cache[page, beside : beside + rope]
        if case.cache == "3buffer":
            at, scales, beside = line * 512, size * 512 + line * 16, size * 528 + line * 128
            return cache[page, at : at + 512], cache[page, beside : beside + 128], cache[page, scales : scales + 16]
        if case.cache == "fp8_ds_mla":
            row = cache[page].reshape(-1)[line * 656 : line * 656 + 656] if cache.ndim == 2 else cache[page, line]
            row = row.reshape(-1)
            return row[:512], row[528:], row[512:528]
        if case.form == "cat" and cache.ndim == 3:
            row = cache[slot, head]
        else:
            row = cache[page, line, head] if cache.ndim == 4 else cache[page, line]
        return row[:latent], row[latent:]


def _cache_shape(case: CacheWriteCase) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shape and strides."""
    width = 656 if case.cache in RECORDS else case.latent + case.rope
    if case.form.endswith("seg") or case.cache == "3buffer" or (case.cache == "fp8_ds_mla" and case.rank == 2):
        shape = (case.pages, case.page_size * width)
        return shape, (shape[1] + case.page_gap, 1)
    row, heads = width + case.row_gap, case.key_heads
    if case.form == "cat" and case.rank == 3:
        return (case.pages * case.page_size, heads, width), (heads * row + case.page_gap, row, 1)
    page = case.page_size * heads * row + case.page_gap
    if case.rank == 4 or heads > 1:
        return (case.pages, case.page_size, heads, width), (page, heads * row, row, 1)
    return (case.pages, case.page_size, width), (page, row, 1)


def _build(case: CacheWriteCase) -> CacheWriteInputs:
    rng = np.random.default_rng([case.seed, case.tokens, case.heads, case.page_size, case.latent])
    total, mapped = case.pages * case.page_size, case.keys - case.fewer_slots
    alike, blocks = case.slots == "any", {}
    values: dict[str, object] = {}

    def add(name: str, *shape: int, dtype: str | None = None) -> None:
        data = source(case.data, rng, shape, dtype or case.dtype)
        if alike:
            data[...] = data[:1]
        spare = 0 if case.form == "cat" else case.spare
        blocks[name] = rows_block(data, gap=case.gap, spare=spare, shift=case.shift)

    def add_out(name: str, *shape: int, dtype: str | None = None, spare: int = 0) -> None:
        dtype = dtype or case.dtype
        made = "uint8" if case.bytes_cache and dtype in FP8 else dtype
        blocks[name] = rows_block(
            np.zeros(shape, dtype_of(made)), gap=case.gap, spare=spare, shift=case.shift, poison=False
        )
        written.append(name)

    def add_longs(name: str, numbers: np.ndarray) -> None:
        blocks[name] = strided(numbers.astype(np.int64), step=case.step)

    written = ["kv_cache"]
    by_head = (case.key_heads,) if case.key_heads > 1 or case.form == "cat" else ()
    latent, positions, cos, sin = "kv_c", "positions", "cos_cache", "sin_cache"
    if case.form == "cat":
        latent, positions, cos, sin = "k_nope", "pos", "cos", "sin"
    if case.fused:
        add("q_nope", case.tokens, case.heads, case.q_width)
        add("q_pe", case.tokens, case.heads, case.rope)
    add(latent, case.keys, *by_head, case.latent)
    add("k_pe", case.keys, *by_head, case.rope)
    made = "uint8" if case.bytes_cache and case.cache in FP8 else case.cache_dtype
    shape, strides = _cache_shape(case)
    blocks["kv_cache"] = Block(shape, made, strides=strides, shift=case.shift)
    add_longs("slot_mapping", some_slots(case.slots, rng, mapped, total))
    if case.fused:
        near = rng.integers(0, case.angles, case.tokens + (case.spare if case.form != "cat" else 2 * case.spare))
        if case.positions == "far":
            pick = rng.choice([*_FAR, case.angles, case.angles - 1], len(near))
            near = np.where(rng.random(len(near)) < 0.6, pick, near)
        add_longs(positions, np.resize(near[:1], len(near)) if alike else near)
        width = case.rope if case.own_angles else case.rope // 2
        angles = rng.standard_normal((case.angles, width))
        for name, function in ((cos, np.cos), (sin, np.sin)):
            blocks[name] = rows_block(function(angles).astype(dtype_of(case.angle_dtype)), gap=case.gap)
        values["is_neox"] = case.neox
        values["k_scale"] = _scale(case, case.scale)
    if case.form in ("fused", "fused_seg"):
        tail = 5 if case.form == "fused_seg" else 0
        width = case.q_width + case.rope + tail * bool(case.gap)
        add_out("q_out", case.tokens, case.heads, width, dtype=case.q_out_dtype, spare=case.spare)
        values |= {"q_scale": _scale(case, case.inverse_scale)}
        values |= {"is_nope_first": case.nope_first}
        if case.form == "fused":
            values |= {"compute_all_q_rope": case.all_q}
    elif case.form == "cat":
        values |= {"num_decode_toks_for_zeros": case.decoded, "apply_scale": case.nope_first}
        if case.given:
            add_out("q_out", case.tokens, case.heads, case.q_width + case.rope, dtype=case.q_out_dtype)
            add_out("decode_q_pe_out", case.decoded, case.heads, case.rope)
            add_out("k_pe_out", case.keys, case.key_heads, case.rope)
        if case.q_out != "auto" and (not case.given or case.bytes_cache):
            values["q_out_dtype"] = case.q_out
    else:
        mode = "fp8" if case.cache in FP8 else case.cache
        values |= {"kv_cache_dtype": mode, "scale": _scale(case, case.scale)}
    if case.bytes_cache and case.cache in FP8:
        values["kv_dtype"] = case.cache
    if case.bytes_cache and case.q_out != "auto" and case.form != "cat":
        values["q_dtype"] = case.q_out
    return CacheWriteInputs(case, blocks, values, tuple(written))


def _scale(case: CacheWriteCase, value: float | None) -> object:
    return np.array([value], np.float32) if case.tensor_scale and value is not None else value


def _expected(inputs: CacheWriteInputs) -> dict[str, Expected]:
    case = inputs.case
    fused, cat = case.fused, case.form == "cat"
    names = {n: n for n in ("kv_c", "positions", "cos_cache", "sin_cache")}
    if cat:
        names = {"kv_c": "k_nope", "positions": "pos", "cos_cache": "cos", "sin_cache": "sin"}
    slots = inputs.array("slot_mapping").tolist() + [-1] * case.fewer_slots
    valid = [0 <= slot < case.pages * case.page_size for slot in slots]
    k_scale = np.float32(1 if case.scale is None or (cat and not case.nope_first) else case.scale)

    def of_keys(array: np.ndarray) -> np.ndarray:
        return array[: case.keys].reshape(case.keys, case.key_heads, array.shape[-1])

    latents, ropes = of_keys(inputs.array(names["kv_c"])), of_keys(inputs.array("k_pe"))
    wide = ropes.astype(np.float32)
    if fused:
        rows = inputs.array(names["positions"])[: case.tokens].clip(0, case.angles - 1)
        cos, sin = (inputs.array(names[n]).astype(np.float32)[rows][:, None] for n in ("cos_cache", "sin_cache"))
        wide[: case.tokens] = turned(wide[: case.tokens], cos, sin, neox=case.neox)
    out: dict[str, Expected] = {}
    cache = np.zeros(inputs.array("kv_cache").shape, dtype_of(case.cache_dtype))
    touched = np.zeros(cache.shape, bool)
    for t, slot in enumerate(slots):
        for head in range(case.key_heads if valid[t] else 0):
            rotated = fused and t < case.tokens
            _write_row(inputs, cache, slot, head, latents[t, head], wide[t, head], ropes[t, head], rotated, k_scale)
            for part in inputs.parts(touched, slot, head):
                part[...] = True
    out["kv_cache"] = Expected(cache, written=touched)
    if not fused:
        return out
    q = inputs.array("q_nope")[: case.tokens]
    pe = turned(inputs.array("q_pe")[: case.tokens].astype(np.float32), cos, sin, neox=case.neox)
    scale = np.float32(1 if cat or case.scale is None else case.inverse_scale)
    q_row = np.concatenate(
        [_kept(q, case.q_out_dtype, scale), stored(pe, case.q_out_dtype, multiply=scale)][
            :: 1 if case.nope_first or cat else -1
        ],
        axis=-1,
    )
    wrote = np.array(valid[: case.tokens], bool) | (case.all_q or cat)
    if cat:
        out["q_out"] = Expected(q_row, dtype=None if case.given else q_row.dtype.name)
        fresh = None if case.given else case.dtype
        out["decode_q_pe_out"] = Expected(stored(pe[: case.decoded], case.dtype), dtype=fresh)
        out["k_pe_out"] = Expected(
            np.concatenate([stored(wide[: case.tokens], case.dtype), ropes[case.tokens :]]), dtype=fresh
        )
        if case.decoded:
            zeros = np.zeros((case.decoded, case.heads, case.latent), dtype_of(case.dtype))
            out["q_nope_zeros_out"] = Expected(zeros, dtype=case.dtype)
        return out
    values = np.zeros(inputs.array("q_out").shape, q_row.dtype)
    mask = np.zeros(values.shape, bool)
    values[: case.tokens, :, : q_row.shape[-1]] = q_row
    mask[: case.tokens, :, : q_row.shape[-1]] = wrote[:, None, None]
    out["q_out"] = Expected(values, written=mask)
    return out


def _kept(values: np.ndarray, dtype: str, scale: np.float32) -> np.ndarray:
    """Elements of another dtype are converted, others copied."""
    return values if values.dtype == dtype_of(dtype) else stored(values.astype(np.float32), dtype, multiply=scale)


def _write_row(
    inputs: CacheWriteInputs, cache: np.ndarray, slot: int, head: int, latent: np.ndarray, wide: np.ndarray,
    rope: np.ndarray, rotated: bool, scale: np.float32,
) -> None:  # fmt: skip
    """One key's row, of an array of the cache's shape."""
    case = inputs.case
    parts = inputs.parts(cache, slot, head)
    if case.cache in RECORDS:
        groups = latent.astype(np.float32).reshape(4, 128)
        scales = np.maximum(largest_size(groups) / np.float32(448), np.finfo(np.float32).tiny)
        with np.errstate(all="ignore"):
            codes = stored(groups / scales[:, None], "float8_e4m3fn")
        kept = rope if case.dtype == "bfloat16" else stored(rope.astype(np.float32), "bfloat16")
        for part, value in zip(parts, (codes, kept, scales), strict=True):
            part[...] = np.frombuffer(value.tobytes(), np.uint8)
        return
    how = {"multiply": scale} if case.fused else {"divide": scale}
    if case.cache == "auto":
        parts[0][...] = latent
        parts[1][...] = stored(wide, case.dtype) if rotated else rope
    else:
        parts[0][...] = stored(latent.astype(np.float32), case.cache, **how)
        parts[1][...] = stored(wide, case.cache, **how)
