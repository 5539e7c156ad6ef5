"""Bits. The same call gives the same bits always; with deterministic=True whatever the batch around a row."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import aiter_c
from aiter_c.testing import CPU, Device, MlaCase, MlaInputs, build_inputs, check_bits, digest

pytestmark = pytest.mark.smoke

REQUESTS = ((1, 5), (3, 511), (1, 513), (2, 1300), (1, 0), (4, 64), (1, 2500))  # (q len, kv len)


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = aiter_c.get_num_threads()
    yield
    aiter_c.set_num_threads(before)


def _rows(
    inputs: MlaInputs, requests: list[int], device: Device = CPU, **more: object
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """The call with only these requests, in this order, over the same pool: request -> its (o, lse)."""
    a = inputs.arguments()
    q_parts = [a["q"][inputs.q_rows[b].start : inputs.q_rows[b].stop] for b in requests]
    lists = [a["kv_indices"][a["kv_indptr"][b] : a["kv_indptr"][b + 1]] for b in requests]
    ends = lambda parts: np.cumsum([0, *map(len, parts)]).astype(np.int32)  # noqa: E731
    rows = ends(q_parts)
    o = np.full((rows[-1], a["q"].shape[1], 512), np.nan, a["o"].dtype)
    changed = {
        "q": np.concatenate(q_parts),
        "o": o,
        "qo_indptr": rows,
        "kv_indptr": ends(lists),
        "kv_indices": np.concatenate([*lists, np.zeros(0, np.int32)]),
        "kv_last_page_lens": a["kv_last_page_lens"][requests],
    }
    _, lse = device.call("mla_decode_fwd", **a | changed | more)
    return {b: (o[rows[i] : rows[i + 1]], lse[rows[i] : rows[i + 1]]) for i, b in enumerate(requests)}


def _inputs(**fields: object) -> MlaInputs:
    q_lens, kv_lens = zip(*REQUESTS, strict=True)
    return build_inputs(MlaCase(q_lens=q_lens, kv_lens=kv_lens, **{"splits": None, "deterministic": True} | fields))


@pytest.mark.parametrize("heads", [1, 5, 16, 128])
@pytest.mark.parametrize(("page_size", "kv_dtype"), [(1, "bfloat16"), (64, "float8_e4m3fn"), (5, "float16")])
def test_a_row_does_not_depend_on_the_batch(heads: int, page_size: int, kv_dtype: str, device: Device) -> None:
    """Alone, in the whole batch, in reverse, beside itself, and with one more long list: bit for bit."""
    inputs = _inputs(heads=heads, page_size=page_size, kv_dtype=kv_dtype)
    everyone = list(range(len(REQUESTS)))
    whole = _rows(inputs, everyone, device)
    batches = [everyone[::-1], everyone[1::2], [2, 2, 2], [6, 0], *[[b] for b in everyone]]
    if device.simulated:
        batches = [[5, 3, 1], [2, 2], [0], [1]]
    for requests in batches:
        for b, (o, lse) in _rows(inputs, requests, device).items():
            name = f"request {b} of {requests}"
            check_bits(f"o, {name}", o, whole[b][0], inputs.case.repro)
            check_bits(f"lse, {name}", lse, whole[b][1], inputs.case.repro)


@pytest.mark.parametrize("splits", [1, 4, 16])
def test_an_explicit_split_count_is_batch_invariant_as_well(splits: int, device: Device) -> None:
    inputs = _inputs(heads=8, splits=splits)
    whole = _rows(inputs, list(range(len(REQUESTS))), device)
    for b in range(len(REQUESTS)):
        o, lse = _rows(inputs, [b], device)[b]
        check_bits(f"o, request {b}", o, whole[b][0], inputs.case.repro)
        check_bits(f"lse, request {b}", lse, whole[b][1], inputs.case.repro)


def test_neither_the_length_of_kv_indices_nor_max_seqlen_q_counts(device: Device) -> None:
    """Both are padded by callers under graphs; the number of splits must follow the row's own length."""
    inputs = _inputs(heads=16)
    everyone = list(range(len(REQUESTS)))
    whole = _rows(inputs, everyone, device)
    padded = np.concatenate([inputs.array("kv_indices"), np.full(60_000, -1, np.int32)])
    for more in ({"kv_indices": padded}, {"max_seqlen_q": 40}, {"kv_indices": padded, "max_seqlen_q": 9}):
        for b, (o, lse) in _rows(inputs, everyone, device, **more).items():
            check_bits(f"o, request {b}", o, whole[b][0], inputs.case.repro)
            check_bits(f"lse, request {b}", lse, whole[b][1], inputs.case.repro)


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("heads", [3, 128])
def test_thread_counts_change_no_bit_of_a_deterministic_call(heads: int, deterministic: bool) -> None:
    """1, 2, 3 and 7 threads. Without deterministic=True an automatic count follows the threads: it is given."""
    inputs = _inputs(heads=heads, deterministic=deterministic, splits=None if deterministic else 5)
    everyone = list(range(len(REQUESTS)))
    aiter_c.set_num_threads(1)
    one = _rows(inputs, everyone)
    for threads in (2, 3, 7):
        aiter_c.set_num_threads(threads)
        assert aiter_c.get_num_threads() == threads
        for b, (o, lse) in _rows(inputs, everyone).items():
            check_bits(f"o, request {b}, {threads} threads", o, one[b][0], inputs.case.repro)
            check_bits(f"lse, request {b}, {threads} threads", lse, one[b][1], inputs.case.repro)


@pytest.mark.parametrize("fields", [{"splits": None}, {"splits": 7}, {"splits": 1}])
def test_fifty_repeats(fields: dict, device: Device) -> None:
    inputs = build_inputs(MlaCase(heads=20, q_lens=(2, 1, 3), kv_lens=(300, 40, 90), **fields))
    _, first_lse = device.call("mla_decode_fwd", **inputs.arguments())
    first_o = inputs.array("o").copy()
    for _ in range(4 if device.simulated else 50):
        inputs.blocks["o"].fill_nan()
        _, lse = device.call("mla_decode_fwd", **inputs.arguments())
        check_bits("lse", lse, first_lse, inputs.case.repro)
        check_bits("o", inputs.array("o"), first_o, inputs.case.repro)


def test_calls_from_several_threads_at_once() -> None:
    """The pool is shared: calls queue and do not mix."""
    from concurrent.futures import ThreadPoolExecutor

    cases = [
        MlaCase(heads=h, q_lens=(2,), kv_lens=(n,), splits=s, seed=h)
        for h, n, s in ((3, 90, 1), (16, 40, 3), (9, 200, 2))
    ]
    prepared = [build_inputs(case) for case in cases for _ in range(3)]

    def work(inputs: MlaInputs) -> list[str]:
        out = set()
        for _ in range(20):
            _, lse = aiter_c.mla_decode_fwd(**inputs.arguments())
            out.add(digest(inputs.array("o"), lse))
        return list(out)

    expected = [work(inputs) for inputs in prepared]
    with ThreadPoolExecutor(9) as pool:
        assert list(pool.map(work, prepared)) == expected
    assert all(len(results) == 1 for results in expected)
