"""All 256 codes of both fp8 flavours through the op, as value, as key and as query, against ml_dtypes."""

from __future__ import annotations

import numpy as np
import pytest

from aiter_c import UnsupportedError
from aiter_c.testing import CPU, Device, dtype_of
from aiter_c.testing.ops.mla_decode import DTYPES_FP8

pytestmark = pytest.mark.smoke

CODES = np.arange(256, dtype=np.uint8)
ONE = {"qo_indptr": [0, 1], "kv_indptr": [0, 1], "kv_indices": [0], "kv_last_page_lens": [1]}


def _decoded(flavour: str) -> np.ndarray:
    return CODES.view(dtype_of(flavour)).astype(np.float32)


def _call(
    device: Device, q: np.ndarray, kv_buffer: np.ndarray, o_dtype: str = "bfloat16", **more: object
) -> tuple[np.ndarray, np.ndarray]:
    """One query row over one key: q [1, H, D], kv_buffer [1, 1, 1, D]; the probability is 1. o [H, 512], lse [H]."""
    o = np.empty((1, q.shape[1], 512), dtype_of(o_dtype))
    indices = {name: np.array(value, np.int32) for name, value in ONE.items()}
    _, lse = device.call(
        "mla_decode_fwd", q=q, kv_buffer=kv_buffer, o=o, max_seqlen_q=1, return_lse=True, **indices | more
    )
    return o[0], lse[0]


def _floor(device: Device) -> float:
    """Of an LSE near zero. Kernels that shift p into the range of a narrow type add and subtract that shift: 1e-6, as
    the contract has it."""
    return 1e-6 if device.copies else 1e-7


@pytest.mark.parametrize("flavour", DTYPES_FP8)
@pytest.mark.parametrize("kv_scale", [None, 1.0, 0.5, 0.37, 3.0])
@pytest.mark.parametrize("o_dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("q_dtype", ["bfloat16", "float32", *DTYPES_FP8])
def test_every_code_as_value(flavour: str, kv_scale: float | None, o_dtype: str, q_dtype: str, device: Device) -> None:
    """o = kv_scale * decoded, rounded once to o's dtype: exactly, signs of zero aside. NaN codes are tested as keys:
    one NaN in a key makes its score NaN."""
    decoded = _decoded(flavour)
    codes = CODES.copy()
    codes[np.isnan(decoded)] = 0
    value = np.where(np.isnan(decoded), 0, decoded)
    kv = np.concatenate([codes, codes]).view(dtype_of(flavour)).reshape(1, 1, 1, 512)
    q = np.zeros((1, 3, 512), dtype_of(q_dtype))
    o, lse = _call(device, q, kv, o_dtype, kv_scale=kv_scale)
    scale = np.float32(1.0 if kv_scale is None else kv_scale)
    expected = np.tile((value * scale).astype(dtype_of(o_dtype)), 2)
    assert (lse == 0).all()
    for head in range(3):
        np.testing.assert_array_equal(o[head].astype(np.float32), expected.astype(np.float32))


@pytest.mark.parametrize("heads", [1, 3, 9])
@pytest.mark.parametrize("q_dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("flavour", DTYPES_FP8)
def test_a_scale_near_the_largest_float(flavour: str, q_dtype: str, heads: int) -> None:
    """2**121: its product with a power of two that an engine keeps its keys by would be infinite. On the CPU."""
    key = np.full((1, 1, 1, 576), 2.0**-6, np.float32).astype(dtype_of(flavour))
    q = np.zeros((1, heads, 576), np.float32)
    q[:, :, 0] = 2.0**-112
    o, lse = _call(CPU, q.astype(dtype_of(q_dtype)), key, sm_scale=1.0, kv_scale=2.0**121)
    np.testing.assert_array_equal(o.astype(np.float32), np.full((heads, 512), 2.0**115, np.float32))
    np.testing.assert_allclose(lse, np.full(heads, 8.0), rtol=1e-6)


@pytest.mark.parametrize("flavour", DTYPES_FP8)
@pytest.mark.parametrize("q_dtype", ["bfloat16", "float16", "float32", *DTYPES_FP8])
def test_every_code_as_key(flavour: str, q_dtype: str, device: Device) -> None:
    """One key per code, each with the code in one column that q picks: the LSE of a list of one is the score."""
    decoded = _decoded(flavour)
    kv = np.zeros((256, 1, 1, 576), dtype_of(flavour))
    kv.view(np.uint8)[CODES, 0, 0, 2 * CODES.astype(int)] = CODES  # columns 0, 2, .. 510: the latent part
    q = np.zeros((256, 1, 576), np.float32)
    q[CODES, 0, 2 * CODES.astype(int)] = 2.0
    o = np.empty((256, 1, 512), dtype_of("bfloat16"))
    every = np.arange(257, dtype=np.int32)
    _, lse = device.call(
        "mla_decode_fwd",
        q.astype(dtype_of(q_dtype)),
        kv,
        o,
        every,
        every,
        every[:256],
        every[:256],
        1,
        sm_scale=0.25,
        return_lse=True,
    )
    np.testing.assert_array_equal(np.isnan(lse[:, 0]), np.isnan(decoded))
    finite = ~np.isnan(decoded)
    np.testing.assert_allclose(lse[finite, 0], 0.5 * decoded[finite], rtol=1e-6, atol=_floor(device))


@pytest.mark.parametrize("flavour", DTYPES_FP8)
@pytest.mark.parametrize("kv_dtype", ["bfloat16", "float16", *DTYPES_FP8])
@pytest.mark.parametrize("q_scale", [None, 0.5, 1.7])
def test_every_code_as_query(flavour: str, kv_dtype: str, q_scale: float | None, device: Device) -> None:
    """One query row per code; also in the rope columns, which the value does not have."""
    decoded = _decoded(flavour)
    q = np.zeros((1, 128, 576), dtype_of(flavour))
    kv = np.zeros((1, 1, 1, 576), np.float32)
    kv[..., 570] = 1.5
    kv = kv.astype(dtype_of(kv_dtype))
    scale = 1.0 if q_scale is None else q_scale
    for half in (CODES[:128], CODES[128:]):
        q.view(np.uint8)[0, :, 570] = half
        _, lse = _call(device, q, kv, sm_scale=0.5, q_scale=q_scale)
        want = decoded[half]
        np.testing.assert_array_equal(np.isnan(lse), np.isnan(want))
        finite = ~np.isnan(want)
        np.testing.assert_allclose(lse[finite], 0.75 * np.float32(scale) * want[finite], rtol=1e-6, atol=_floor(device))


@pytest.mark.parametrize("flavour", DTYPES_FP8)
def test_flavours_differ_by_a_factor_of_two(flavour: str, device: Device) -> None:
    """0x40 is 2 in fn and 1 in fnuz: a cache read in the wrong flavour shows (vllm#45562)."""
    kv = np.full((1, 1, 1, 512), 0x40, np.uint8).view(dtype_of(flavour))
    o, _ = _call(device, np.zeros((1, 1, 512), dtype_of("bfloat16")), kv)
    assert (o.astype(np.float32) == {"float8_e4m3fn": 2.0, "float8_e4m3fnuz": 1.0}[flavour]).all()


@pytest.mark.parametrize("mixed", [("float8_e4m3fn", "float8_e4m3fnuz"), ("float8_e4m3fnuz", "float8_e4m3fn")])
def test_one_call_may_mix_flavours(mixed: tuple[str, str], device: Device) -> None:
    q = np.full((1, 1, 512), 0x40, np.uint8).view(dtype_of(mixed[0]))
    kv = np.full((1, 1, 1, 512), 0x40, np.uint8).view(dtype_of(mixed[1]))
    _, lse = _call(device, q, kv, sm_scale=1.0)
    np.testing.assert_allclose(lse, 512 * 2.0)


@pytest.mark.parametrize("scales", [{"q_scale": 9.0}, {"kv_scale": 9.0}, {"q_scale": 9.0, "kv_scale": 9.0}])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_scales_of_16_bit_operands_are_ignored(scales: dict, dtype: str, device: Device) -> None:
    q, kv = np.ones((1, 2, 512), dtype_of(dtype)), np.ones((1, 1, 1, 512), dtype_of(dtype))
    o, lse = _call(device, q, kv, sm_scale=0.125, **scales)
    assert (o.astype(np.float32) == 1).all() and (lse == 64).all()


@pytest.mark.parametrize("kv_scale", [0.5, np.float32(0.5), np.array(0.5, np.float32), np.array([[0.5]], np.float32)])
def test_forms_of_a_scale(kv_scale: object, device: Device) -> None:
    """float, NumPy scalar, 0-d and one-element arrays of any rank."""
    kv = np.ones((1, 1, 1, 512), dtype_of("float8_e4m3fn"))
    o, lse = _call(device, np.ones((1, 2, 512), dtype_of("bfloat16")), kv, sm_scale=0.125, kv_scale=kv_scale)
    assert (o.astype(np.float32) == 0.5).all() and (lse == 32).all()


def test_record_scales_are_per_128_values(device: Device) -> None:
    """A record's four scales reach their own quarter of key and value, and nothing reaches the rope."""
    record = np.zeros(656, np.uint8)
    record[:512] = np.array(1.0).astype(dtype_of("float8_e4m3fn")).view(np.uint8)
    record[512:528] = np.array([1, 2, 4, 8], np.float32).view(np.uint8)
    record[528:] = np.full(64, 16.0).astype(dtype_of("bfloat16")).view(np.uint8)
    q = np.ones((1, 1, 576), dtype_of("bfloat16"))
    for kv_format, shape in (("fp8_ds_mla", (1, 1, 656)), ("3buffer", (1, 656)), (None, (1, 1, 1, 656))):
        o, lse = _call(device, q, record.reshape(shape), sm_scale=1 / 64, kv_format=kv_format, kv_scale=77.0)
        np.testing.assert_array_equal(o[0].astype(np.float32), np.repeat([1.0, 2, 4, 8], 128))
        np.testing.assert_allclose(lse[0], (128 * (1 + 2 + 4 + 8) + 64 * 16) / 64, rtol=1e-6)


@pytest.mark.parametrize("q_dtype", ["float32", *DTYPES_FP8])
@pytest.mark.parametrize("kv_format", ["fp8_ds_mla", "3buffer"])
def test_records_take_16_bit_queries_only(q_dtype: str, kv_format: str, device: Device) -> None:
    kv = np.zeros((1, 1, 656) if kv_format == "fp8_ds_mla" else (1, 656), np.uint8)
    text = (
        rf"^mla_decode_fwd: no kernel on \w+ for kv_format {kv_format}, .*q_dtype {q_dtype}, .*"
        r"which differs in q_dtype \((bfloat16|bfloat16 or float16)\)$"
    )
    with pytest.raises(UnsupportedError, match=text):
        _call(device, np.zeros((1, 1, 576), dtype_of(q_dtype)), kv, kv_format=kv_format)
