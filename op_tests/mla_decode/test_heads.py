"""Heads are independent and native: 1 to 128, nothing padded, no head in another's bits (upstream #2585)."""

from __future__ import annotations

import numpy as np
import pytest

from aiter_c import UnsupportedError, mla_decode_fwd
from aiter_c.testing import CPU, Device, MlaCase, build_inputs, check_bits, run_case

pytestmark = pytest.mark.smoke

POISON = (np.nan, np.inf, -np.inf, 3e38)


def _decode(device: Device, case: MlaCase, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """o and lse of the case's call with another q [T, H', D]."""
    inputs = build_inputs(case)
    o = np.full((q.shape[0], q.shape[1], 512), np.nan, inputs.array("o").dtype)
    _, lse = device.call("mla_decode_fwd", **inputs.arguments() | {"q": q, "o": o})
    return o, lse


@pytest.mark.parametrize("heads", range(1, 129))
def test_every_count_is_native(heads: int, device: Device) -> None:
    """Two query rows and two splits: tiles that begin and end inside a token."""
    run_case(MlaCase(heads=heads, q_lens=(2,), kv_lens=(19,), splits=2, seed=heads), device=device)


@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize(("heads", "padded"), [(1, 16), (4, 16), (12, 16), (8, 64), (20, 32), (96, 128), (64, 65)])
def test_padding_heads_with_nan_change_no_bit(heads: int, padded: int, splits: int, device: Device) -> None:
    """Callers pad by heads that hold anything. The others come out bit for bit as without them."""
    case = MlaCase(heads=padded, q_lens=(2, 1), kv_lens=(50, 9), splits=splits)
    clean = build_inputs(case).array("q").copy()
    o, lse = _decode(device, case, clean)
    dirty = clean.copy()
    dirty[:, heads:] = np.resize(np.array(POISON, np.float32), dirty[:, heads:].shape).astype(dirty.dtype)
    dirty_o, dirty_lse = _decode(device, case, dirty)
    check_bits("o", dirty_o[:, :heads], o[:, :heads], case.repro)
    check_bits("lse", dirty_lse[:, :heads], lse[:, :heads], case.repro)
    assert np.isnan(dirty_lse[:, heads]).all(), "NaN in q must show in its own head"


@pytest.mark.parametrize("q_dtype", ["bfloat16", "float32", "float8_e4m3fn", "float8_e4m3fnuz"])
@pytest.mark.parametrize("kv_dtype", ["bfloat16", "float8_e4m3fn"])
def test_one_nan_row_stays_alone(q_dtype: str, kv_dtype: str, device: Device) -> None:
    """NaN in one head of one query row: o and lse of that head and row are NaN, every other bit is as before."""
    case = MlaCase(heads=6, q_lens=(3,), kv_lens=(40,), q_dtype=q_dtype, kv_dtype=kv_dtype, splits=2)
    q = build_inputs(case).array("q").copy()
    o, lse = _decode(device, case, q)
    q[1, 4, 300] = np.nan
    dirty_o, dirty_lse = _decode(device, case, q)
    assert np.isnan(dirty_lse[1, 4]) and np.isnan(dirty_o[1, 4].astype(np.float32)).all()
    o[1, 4], lse[1, 4] = dirty_o[1, 4], dirty_lse[1, 4]
    check_bits("o", dirty_o, o, case.repro)
    check_bits("lse", dirty_lse, lse, case.repro)


@pytest.mark.parametrize("heads", [1, 3, 16, 128])
def test_a_head_alone_and_among_others(heads: int, device: Device) -> None:
    """The result of a head does not depend on how many there are, within tolerance of the same reference."""
    case = MlaCase(heads=128, kv_lens=(100,))
    inputs = build_inputs(case)
    expected = inputs.reference()
    o, lse = _decode(device, case, inputs.array("q")[:, 128 - heads :])
    np.testing.assert_allclose(lse, expected.lse[:, 128 - heads :], rtol=2e-5, atol=1e-6)
    assert np.abs(o.astype(np.float64) - expected.o[:, 128 - heads :]).max() < 8e-3


@pytest.mark.parametrize("page_size", [1, 16])
@pytest.mark.parametrize("heads", range(1, 9))
@pytest.mark.parametrize(
    ("q_dtype", "cache"),
    [("float16", cache) for cache in ("bfloat16", "float16", "float8_e4m3fn", "float8_e4m3fnuz")]
    + [("bfloat16", cache) for cache in ("bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "fp8_ds_mla", "3buffer")],
)
def test_few_heads_over_every_cache(heads: int, q_dtype: str, cache: str, page_size: int) -> None:
    """The CPU's kernels for at most 8 rows: blocks of keys that end early, rows that do not see all of a block. fp16
    queries are served in fp32 where bf16 ones have dot products."""
    kv_format, kv_dtype = (cache, "float8_e4m3fn") if cache in ("fp8_ds_mla", "3buffer") else ("plain", cache)
    run_case(
        MlaCase(
            heads=heads, q_lens=(1, max(1, 8 // heads), 1), kv_lens=(37, 19, 0), page_size=page_size, q_dtype=q_dtype,
            kv_dtype=kv_dtype, kv_format=kv_format, seed=heads,
        )
    )  # fmt: skip


@pytest.mark.parametrize("cache", ["bfloat16", "float16", "float8_e4m3fn"])
def test_few_heads_alone_and_together_have_the_same_bits(cache: str) -> None:
    """Sums over the lanes have one order, whatever the register tile is. On the CPU, where both are one kernel."""
    case = MlaCase(heads=8, kv_lens=(75,), kv_dtype=cache, splits=1)
    q = build_inputs(case).array("q")
    o, lse = _decode(CPU, case, q)
    for first, count in [(0, 1), (7, 1), (3, 2), (5, 3), (0, 4), (1, 5), (2, 6), (1, 7)]:
        few_o, few_lse = _decode(CPU, case, np.ascontiguousarray(q[:, first : first + count]))
        check_bits("o", few_o, o[:, first : first + count], case.repro)
        check_bits("lse", few_lse, lse[:, first : first + count], case.repro)


@pytest.mark.parametrize("heads", [129, 256])
def test_more_than_128_are_refused_by_name(heads: int) -> None:
    case = MlaCase(heads=heads, kv_lens=(3,))
    with pytest.raises(UnsupportedError, match=rf"^mla_decode_fwd: num_heads: expected 1 to 128, got {heads}$"):
        mla_decode_fwd(**build_inputs(case).arguments())
