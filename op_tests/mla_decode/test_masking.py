"""What a row does not see is not part of its arithmetic: bad indices, causal mask, short pages, empty lists.

All inputs of a case hold NaN in page 0 and in every slot that no list refers to, so `run_case` alone shows a masked
key that was read into the arithmetic (0 * NaN leaks).
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from mla_decode.cases import LIST_LENGTHS, PAGE_SIZES

from aiter_c.testing import Device, MlaCase, build_inputs, check_bits, check_outputs, run_case
from aiter_c.testing.memory import nan_bytes
from aiter_c.testing.ops.cache import record_parts
from aiter_c.testing.ops.mla_decode import KV_DTYPES, MASK_PATTERNS

pytestmark = pytest.mark.smoke

BAD_INDICES = (-1, -2, -(2**31), 2**31 - 1, "capacity", "capacity + 1")
FORMATS = [("plain", dtype) for dtype in KV_DTYPES] + [(f, "float8_e4m3fn") for f in ("3buffer", "fp8_ds_mla")]


@pytest.mark.parametrize(("length", "masked", "splits"), list(product(LIST_LENGTHS, MASK_PATTERNS, (1, 5))))
def test_list_lengths(length: int, masked: str, splits: int, device: Device) -> None:
    run_case(MlaCase(heads=2, kv_lens=(length,), masked=masked, splits=splits), device=device)


@pytest.mark.parametrize(
    ("page_size", "masked", "kv"),
    list(product(PAGE_SIZES, ("none", "extremes", "tail", "all"), FORMATS)),
)
def test_page_sizes(page_size: int, masked: str, kv: tuple[str, str], device: Device) -> None:
    kv_format, kv_dtype = kv
    lens = (2 * page_size + 1, page_size, max(page_size - 1, 1))
    run_case(
        MlaCase(
            heads=2,
            q_lens=(1, 2, 1),
            kv_lens=lens,
            page_size=page_size,
            masked=masked,
            kv_dtype=kv_dtype,
            kv_format=kv_format,
        ),
        device=device,
    )


@pytest.mark.parametrize("bad", BAD_INDICES)
@pytest.mark.parametrize("page_size", [1, 5])
def test_a_bad_index_is_a_key_less(bad: int | str, page_size: int, device: Device) -> None:
    """Exactly the list without it: the same softmax; positions still count for the causal mask."""
    case = MlaCase(heads=3, q_lens=(3,), kv_lens=(10 * page_size,), page_size=page_size, causal=True)
    inputs = build_inputs(case)
    value = len(inputs.pool) + ("+" in bad) if isinstance(bad, str) else bad
    inputs.array("kv_indices")[4] = value
    inputs.kv_lists[0].slots[4 * page_size : 5 * page_size] = -1
    _, lse = device.call("mla_decode_fwd", **inputs.arguments())
    np.testing.assert_allclose(lse, inputs.reference().lse, rtol=2e-5, atol=1e-6)
    assert np.abs(inputs.array("o").astype(np.float64) - inputs.reference().o).max() < 2e-2


@pytest.mark.parametrize(("kv_format", "kv_dtype"), FORMATS)
@pytest.mark.parametrize("splits", [1, 4])
def test_causally_invisible_keys_may_be_nan(kv_format: str, kv_dtype: str, splits: int, device: Device) -> None:
    """The last keys are NaN. Rows that do not see them keep their bits; rows that do are NaN. In one tile."""
    case = MlaCase(
        heads=5, q_lens=(6,), kv_lens=(40,), page_size=4, kv_format=kv_format, kv_dtype=kv_dtype, splits=splits
    )
    inputs = build_inputs(case)
    _, clean_lse = device.call("mla_decode_fwd", **inputs.arguments())
    clean_o = inputs.array("o").copy()
    poison_positions(inputs, range(37, 40))  # rows 3, 4, 5 see the first of them, 0 to 2 none
    _, lse = device.call("mla_decode_fwd", **inputs.arguments())
    check_bits("o of rows that see no NaN", inputs.array("o")[:3], clean_o[:3], case.repro)
    check_bits("lse of rows that see no NaN", lse[:3], clean_lse[:3], case.repro)
    assert np.isnan(lse[3:]).all() and np.isnan(inputs.array("o")[3:].astype(np.float32)).all()


def poison_positions(inputs: object, positions: range) -> None:
    """NaN into the cache rows of request 0's positions, in every part of the row."""
    from aiter_c.testing.ops.cache import record_parts

    case = inputs.case
    pages, rows = np.divmod(inputs.kv_lists[0].slots[list(positions)], case.page_size)
    parts = (
        (inputs.pool[:, :, 0],)
        if case.kv_format == "plain"
        else record_parts(inputs.pool, case.kv_format, case.page_size)
    )
    for part in parts:
        part[pages, rows] = np.frombuffer(nan_bytes(part.dtype), part.dtype)[0]


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("splits", [1, 2])
def test_a_nan_key_of_one_request_stays_there(causal: bool, splits: int, device: Device) -> None:
    case = MlaCase(heads=5, q_lens=(2, 2), kv_lens=(30, 30), causal=causal, splits=splits)
    inputs = build_inputs(case)
    _, clean_lse = device.call("mla_decode_fwd", **inputs.arguments())
    clean_o = inputs.array("o").copy()
    poison_positions(inputs, range(3, 4))
    _, lse = device.call("mla_decode_fwd", **inputs.arguments())
    check_bits("o", inputs.array("o")[2:], clean_o[2:], case.repro)
    check_bits("lse", lse[2:], clean_lse[2:], case.repro)
    assert np.isnan(lse[:2]).all() and np.isnan(inputs.array("o")[:2].astype(np.float32)).all()


@pytest.mark.parametrize(("flavour", "is_nan"), [("float8_e4m3fn", False), ("float8_e4m3fnuz", True)])
def test_0x80_is_minus_zero_in_fn_and_nan_in_fnuz(flavour: str, is_nan: bool, device: Device) -> None:
    case = MlaCase(heads=2, kv_lens=(20,), kv_dtype=flavour)
    inputs = build_inputs(case)
    slot = inputs.kv_lists[0].slots[7]
    inputs.pool.view(np.uint8)[slot, 0, 0, :512] = 0x80
    _, lse = device.call("mla_decode_fwd", **inputs.arguments())
    assert np.isnan(lse).all() == is_nan
    assert np.isnan(inputs.array("o").astype(np.float32)).all() == is_nan
    if not is_nan:
        np.testing.assert_allclose(lse, inputs.reference().lse, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("splits", [1, 3, None])
@pytest.mark.parametrize("return_lse", [True, False])
@pytest.mark.parametrize(
    "case",
    [
        MlaCase(q_lens=(), kv_lens=()),
        MlaCase(q_lens=(), kv_lens=(), unowned_rows=(3, 0)),
        MlaCase(q_lens=(0, 0), kv_lens=(5, 0)),
        MlaCase(q_lens=(1, 2), kv_lens=(0, 0)),
        MlaCase(q_lens=(7,), kv_lens=(3,)),
        MlaCase(q_lens=(7,), kv_lens=(0,), causal=False),
        MlaCase(q_lens=(2, 1), kv_lens=(9, 0), page_size=4, masked="all"),
        MlaCase(q_lens=(2, 1), kv_lens=(90, 70), page_size=1, masked="all"),
    ],
)
def test_nothing_to_see(case: MlaCase, splits: int | None, return_lse: bool, device: Device) -> None:
    """Batch 0, no keys, q longer than the list, all -1: o = 0 and lse = -inf, rows of no request untouched."""
    from dataclasses import replace

    run_case(replace(case, splits=splits, return_lse=return_lse), device=device)


@pytest.mark.parametrize(
    ("last", "length"), [(0, 8), (-5, 8), (-(2**31), 8), (3, 11), (4, 12), (5, 12), (2**31 - 1, 12)]
)
def test_last_page_length_is_clamped(last: int, length: int, device: Device) -> None:
    """Clamped to [0, page size]; three pages of four."""
    whole = build_inputs(MlaCase(heads=3, kv_lens=(12,), page_size=4))
    whole.array("kv_last_page_lens")[0] = last
    _, lse = device.call("mla_decode_fwd", **whole.arguments())
    slots = whole.kv_lists[0].slots[:length]
    scores = whole.q_values[0] @ whole.read_rows(slots).T / 24
    np.testing.assert_allclose(lse[0], np.log(np.exp(scores).sum(1)), rtol=2e-5, atol=1e-6)


def test_more_ragged_splits_than_num_kv_splits_are_that_many(device: Device) -> None:
    """The scratch has room for num_kv_splits: every key is in one of them."""
    case = MlaCase(heads=4, q_lens=(1, 2), kv_lens=(200, 90), splits=3)
    for ends in ([0, 9, 18], [0, 2, 10**6], [0, 3, 2**31 - 1], [-(2**31), 0, 2**31 - 1]):
        inputs = build_inputs(case)
        inputs.freeze()
        indptr = np.array(ends, np.int32)
        returned = device.call("mla_decode_fwd", **inputs.arguments() | {"num_kv_splits_indptr": indptr})
        check_outputs(case.outputs(inputs, returned), case.expected(inputs, device), f"{case.repro}, splits {ends}")


def test_kv_last_page_lens_is_not_looked_at_at_page_size_1(device: Device) -> None:
    """vLLM passes cu_seqlens_q there: content, length and dtype do not matter, nor does None."""
    inputs = build_inputs(MlaCase(heads=3, kv_lens=(12,)))
    _, expected = device.call("mla_decode_fwd", **inputs.arguments())
    for anything in (None, np.zeros(0, np.int32), np.full(1, -7, np.int32), np.zeros((3, 3))):
        _, lse = device.call("mla_decode_fwd", **inputs.arguments() | {"kv_last_page_lens": anything})
        check_bits("lse", lse, expected, repr(anything))


#: Caches that hold an infinity, each with every q dtype that is served for it.
INFINITE = [
    *product((("plain", "bfloat16"), ("plain", "float16")), ("bfloat16", "float16", "float32", "float8_e4m3fn")),
    *product((("fp8_ds_mla", "float8_e4m3fn"),), ("bfloat16", "float16")),
]


@pytest.mark.parametrize(("kv", "q_dtype"), INFINITE)
@pytest.mark.parametrize("heads", [2, 33])
def test_a_score_of_minus_infinity_is_a_key_less(heads: int, kv: tuple[str, str], q_dtype: str, device: Device) -> None:
    """An infinite rope element against long and short numbers: no part of a product may be 0 times infinity."""
    kv_format, kv_dtype = kv
    case = MlaCase(heads=heads, kv_lens=(40,), q_dtype=q_dtype, kv_dtype=kv_dtype, kv_format=kv_format)
    inputs = build_inputs(case)
    q, exact, slots = inputs.array("q"), inputs.q_values, inputs.kv_lists[0].slots
    exact[:, ::2, 520], exact[:, 1::2, 520] = 1.0, 0.8125
    # Where it has the bits: a number that the nearest bfloat16 is larger than.
    exact[:, :, 521] = -(1 + 3 * 2**-9) if q_dtype in ("float16", "float32") else -1.25
    q[:, :, 520:522] = exact[:, :, 520:522].astype(q.dtype)
    rope = inputs.pool[..., 0, 512:] if kv_format == "plain" else record_parts(inputs.pool, kv_format, 1)[2]
    rope[slots[7], 0, 8], rope[slots[30], 0, 9] = -np.inf, np.inf
    _, lse = device.call("mla_decode_fwd", **inputs.arguments())
    expected = inputs.reference()
    np.testing.assert_allclose(lse, expected.lse, rtol=2e-5, atol=1e-5)
    assert np.abs(inputs.array("o").astype(np.float64) - expected.o).max() < 2e-2
