"""What is written is what the readers read: decode over every format, the indexer's logits in pages and gathered, and a
reader of the tests for all of them, whose values are those that were passed, within the step of the format."""

from __future__ import annotations

import numpy as np
import pytest

from aiter_c.testing import LSE, OUTPUT, Device, attend, check_close, dtype_of
from aiter_c.testing.ops.cache import RECORD_BYTES, read_rows
from aiter_c.testing.ops.exact import FP8
from aiter_c.testing.ops.indexer_cache import key_places, scale_places
from aiter_c.testing.ops.mla_decode import MlaCase, p_dtype_of
from aiter_c.testing.ops.mqa_logits import LogitsCase, PagedLogitsCase, _roundings, logits_reference
from aiter_c.testing.tolerance import Tolerance, dot_product_bound

TOKENS, PAGE, PAGES = 83, 16, 9
#: Half a step of a format, of the value and absolutely.
STEPS = {
    "float8_e4m3fn": (2.0**-4, 2.0**-10),
    "float8_e4m3fnuz": (2.0**-4, 2.0**-11),
    "bfloat16": (0, 0),
    "float16": (0, 0),
}


def _keys(dtype: str, seed: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.random.Generator]:
    """Latents, rope parts and slots of TOKENS tokens."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((TOKENS, 576), np.float32).astype(dtype_of(dtype))
    return rows[:, :512], rows[:, 512:], rng.permutation(PAGES * PAGE)[:TOKENS].astype(np.int64), rng


def _check_near(got: np.ndarray, want: np.ndarray, step: tuple[float, float], scale: float | np.ndarray = 1.0) -> None:
    assert (np.abs(got - want) <= step[0] * np.abs(want) + step[1] * scale).all()


@pytest.mark.parametrize("cache", ["bfloat16", "float16", *FP8])
@pytest.mark.parametrize("form", ["concat", "fused"])
def test_decode_reads_rows(form: str, cache: str, device: Device) -> None:
    dtype = "float16" if cache == "float16" else "bfloat16"
    latent, rope, slots, rng = _keys(dtype)
    scale = np.array([0.25], np.float32) if cache in FP8 else None
    pool = np.zeros((PAGES, PAGE, 576), dtype_of(cache))
    if form == "concat":
        mode = "fp8" if cache in FP8 else "auto"
        device.call("concat_and_cache_mla", latent, rope, pool, slots, mode, scale)
    else:  # positions of angle 0
        q, out = np.zeros((TOKENS, 1, 576), latent.dtype), np.zeros((TOKENS, 1, 576), latent.dtype)
        angles = np.ones((1, 32), latent.dtype), np.zeros((1, 32), latent.dtype)
        device.call(
            "fused_qk_rope_concat_and_cache_mla", q[..., :512], q[..., 512:], latent, rope, pool, out, slots, scale,
            None, np.full(TOKENS, 10**6), *angles, True, True,
        )  # fmt: skip
    factor = 1.0 if scale is None else float(scale[0])
    keys = read_rows(pool[:, :, None], "plain", PAGE, slots) * factor
    whole = np.concatenate([latent, rope], axis=1).astype(np.float64)
    _check_near(keys, whole, STEPS[cache], factor)
    _check_decode(device, pool[:, :, None], slots, keys, rng, cache, "plain", scale)


@pytest.mark.parametrize("kv_format", ["fp8_ds_mla", "3buffer"])
def test_decode_reads_records(kv_format: str, device: Device) -> None:
    latent, rope, slots, rng = _keys("bfloat16")
    latent = latent * np.exp2(rng.integers(-3, 4, (TOKENS, 1))).astype(latent.dtype) / 4
    shape = (PAGES, PAGE * RECORD_BYTES) if kv_format == "3buffer" else (PAGES, PAGE, RECORD_BYTES)
    pool = np.zeros(shape, np.uint8)
    device.call("concat_and_cache_mla", latent, rope, pool, slots, kv_format, None)
    keys = read_rows(pool, kv_format, PAGE, slots)
    groups = latent.astype(np.float64).reshape(TOKENS, 4, 128)
    steps = np.repeat(np.abs(groups).max(-1) / 448, 128, axis=1)
    _check_near(keys[:, :512], latent.astype(np.float64), STEPS[FP8[0]], steps)
    assert np.array_equal(keys[:, 512:], rope.astype(np.float64))
    _check_decode(device, pool, slots, keys, rng, "float8_e4m3fn", kv_format, None)


def _check_decode(
    device: Device, pool: np.ndarray, slots: np.ndarray, keys: np.ndarray, rng: np.random.Generator, kv_dtype: str,
    kv_format: str, scale: np.ndarray | None,
) -> None:  # fmt: skip
    """One request over all tokens, in pages of one row where a page may be one."""
    page_size = PAGE
    q = rng.standard_normal((1, 5, 576), np.float32).astype(dtype_of("bfloat16"))
    used = np.unique(slots // PAGE).astype(np.int32)
    every = (used[:, None] * PAGE + np.arange(PAGE)).reshape(-1)
    rows = np.zeros((PAGES * PAGE, 576))
    rows[slots] = keys  # slots that nobody wrote are zeros
    indptr, last = np.array([0, len(used)], np.int32), np.array([PAGE], np.int32)
    o = np.full((1, 5, 512), np.nan, q.dtype)
    _, lse = device.call(
        "mla_decode_fwd", q=q, kv_buffer=pool, o=o, qo_indptr=np.array([0, 1], np.int32), kv_indptr=indptr,
        kv_indices=used, kv_last_page_lens=last, max_seqlen_q=1, page_size=page_size, return_lse=True,
        kv_format=kv_format, kv_scale=scale,
    )  # fmt: skip
    case = MlaCase(heads=5, kv_lens=(len(every),), page_size=PAGE, kv_dtype=kv_dtype, kv_format=kv_format)
    want = attend(q[0].astype(np.float64), rows[every], 1 / 24, 1.0, p_dtype=p_dtype_of(case, device))
    check_close("lse", lse[0], want.lse, LSE, kv_format)
    check_close("o", o[0], want.o, OUTPUT, kv_format, allowance=want.rounding)


@pytest.mark.parametrize("kind", FP8)
@pytest.mark.parametrize("preshuffle", [False, True])
@pytest.mark.parametrize("scale_fmt", ["ue8m0", None])
def test_logits_read_keys(scale_fmt: str | None, preshuffle: bool, kind: str, device: Device) -> None:
    """In pages, and gathered into contiguous keys."""
    rng = np.random.default_rng(7)
    k = (rng.standard_normal((TOKENS, 128)) * np.exp2(rng.integers(-6, 7, (TOKENS, 1)))).astype(dtype_of("bfloat16"))
    lens = np.array([50, TOKENS - 50], np.int32)
    table = rng.permutation(PAGES)[: 2 * 4].reshape(2, 4).astype(np.int32)
    slots = np.concatenate([table[b, (j := np.arange(n)) // PAGE].astype(np.int64) * PAGE + j % PAGE
                            for b, n in enumerate(lens)])  # fmt: skip
    cache = np.zeros((PAGES, PAGE, 1, 132), dtype_of(kind))
    device.call("indexer_k_quant_and_cache", k, cache[:, :, 0], slots, 128, scale_fmt, preshuffle)
    codes, scales = np.zeros((TOKENS, 128), dtype_of(kind)), np.zeros(TOKENS, np.float32)
    pages = cache.view(np.uint8).reshape(PAGES, -1)
    for t, slot in enumerate(slots.tolist()):
        page, line = divmod(slot, PAGE)
        codes[t] = pages[page, key_places(PAGE, 128, line, preshuffle)].view(dtype_of(kind))
        scales[t] = pages[page, scale_places(PAGE, 128, line, 1)].view(np.float32)[0]
    values = codes.astype(np.float64) * scales[:, None]
    _check_near(values, k.astype(np.float64), STEPS[kind], scales[:, None])

    q = rng.standard_normal((2, 1, 8, 128)).astype(np.float32).astype(dtype_of(kind))
    weights = rng.standard_normal((2, 8)).astype(np.float32)
    out = np.full((2, 64), np.nan, np.float32)
    device.call("deepgemm_fp8_paged_mqa_logits", q, cache, weights, out, lens, table, 64, preshuffle, PAGE)
    gathered, factors = np.zeros((TOKENS, 128), dtype_of(kind)), np.zeros((TOKENS, 1), np.float32)
    indptr = np.array([0, *np.cumsum(lens)], np.int32)
    device.call("cp_gather_indexer_k_quant_cache", cache, gathered, factors, table, indptr, preshuffle)
    assert gathered.tobytes() == codes.tobytes() and np.array_equal(factors[:, 0], scales)
    flat = device.call("fp8_mqa_logits", q[:, 0], gathered, factors, weights, indptr[:-1].copy(), indptr[1:].copy())
    for b, length in enumerate(lens.tolist()):
        mine = slice(int(indptr[b]), int(indptr[b + 1]))
        want, sizes = logits_reference(q[b, 0], codes[mine], scales[mine], weights[b])
        for case, got in ((PagedLogitsCase(), out[b, :length]), (LogitsCase(), flat[b, mine])):
            case = type(case)(q_dtype=kind, kv_dtype=kind)
            allowed = dot_product_bound(_roundings(device, case) * sizes)
            check_close("logits", got, want, Tolerance(0.0, 2.0**-22), kind, allowance=allowed)


@pytest.mark.parametrize("neox", [True, False])
def test_rope_and_layer_norm_are_those_of_fp64(neox: bool, device: Device) -> None:
    """The model that the cases compare bits with, against the formulas in fp64: a key and a query of the indexer."""
    rng = np.random.default_rng(9)
    q, k = rng.standard_normal((4, 2, 128)).astype(np.float32), rng.standard_normal((4, 128)).astype(np.float32) + 2
    weight, bias = rng.standard_normal((2, 128)).astype(np.float32)
    angles = rng.uniform(-3, 3, (9, 32))
    positions = np.array([3, -5, 8, 100])
    cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    cache, q_out = np.zeros((1, 4, 132), dtype_of(FP8[0])), np.zeros((4, 2, 128), dtype_of(FP8[0]))
    weights, weights_out = np.ones((4, 2), np.float32), np.zeros((4, 2), np.float32)
    device.call(
        "indexer_qk_rope_quant_and_cache", q, q_out, weights, weights_out, k, cache, np.arange(4), weight, bias,
        positions, cos, sin, 1e-5, 128, None, 1.0, False, neox,
    )  # fmt: skip
    turn = np.exp(1j * angles[positions.clip(0, 8)])

    def turned(rows: np.ndarray) -> np.ndarray:
        first, second = (slice(0, 32), slice(32, 64)) if neox else (slice(0, 64, 2), slice(1, 64, 2))
        pairs = (rows[..., first] + 1j * rows[..., second]) * turn.reshape(4, *(1,) * (rows.ndim - 2), 32)
        out = rows.copy()
        out[..., first], out[..., second] = pairs.real, pairs.imag
        return out

    wide = k.astype(np.float64)
    wide = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + 1e-5) * weight + bias
    page = cache.view(np.uint8)[0].reshape(-1)
    scales = page[512:528].view(np.float32)
    keys = page[:512].reshape(4, 128).view(dtype_of(FP8[0])).astype(np.float64) * scales[:, None]
    wanted_keys, wanted_q = turned(wide), turned(q.astype(np.float64))
    got_q = q_out.astype(np.float64) * weights_out[..., None]
    for got, want in ((keys, wanted_keys), (got_q, wanted_q)):
        largest = np.abs(want).max(-1, keepdims=True)
        assert (np.abs(got - want) <= np.abs(want) * 2.0**-4 + largest * (2.0**-10 / 448 + 1e-6)).all()
