"""One answer: whatever the number of threads, and so of parts that a row is cut into, and whoever calls beside it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import aiter_c
from aiter_c.testing import check_bits, run_case
from aiter_c.testing.ops.top_k import DATA, TopKCase

WIDE = 70_000  # columns: up to four parts


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    yield
    aiter_c.set_num_threads(0)


def _call(case: TopKCase) -> tuple[np.ndarray, np.ndarray]:
    inputs = case.inputs()
    getattr(aiter_c, case.op)(**inputs.arguments())
    return inputs.array("indices"), inputs.array("values")


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("window", ["whole", "inside"])
def test_thread_counts_change_no_bit(data: str, window: str) -> None:
    case = TopKCase(rows=1, columns=WIDE, k=500, data=data, window=window)
    aiter_c.set_num_threads(1)
    alone = _call(case)
    for threads in (2, 3, 4, 7):
        aiter_c.set_num_threads(threads)
        for name, got, want in zip(("indices", "values"), _call(case), alone, strict=True):
            check_bits(f"{name}, {threads} threads", got, want, case.repro)


@pytest.mark.parametrize("threads", [2, 3, 4, 7])
@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("k", [1, 1000, 4096])
def test_parts_of_every_number_against_the_reference(threads: int, rows: int, k: int) -> None:
    aiter_c.set_num_threads(threads)
    run_case(TopKCase(rows=rows, columns=WIDE, k=k, data="late_ties"))
    run_case(TopKCase(rows=rows, columns=WIDE, k=k, data="some_nan", window="mixed", seed=k))
    run_case(TopKCase(rows=rows, columns=WIDE, k=k, next_n=rows, window="inside", seed=threads))


def test_calls_from_several_threads_at_once() -> None:
    """The pool is shared: calls queue and do not mix."""
    cases = [TopKCase(rows=2, columns=n, k=50, data="few", seed=n) for n in (300, 5000, WIDE)]
    prepared = [case.inputs() for case in cases for _ in range(3)]

    def work(inputs: object) -> set[tuple[bytes, bytes]]:
        out = set()
        for _ in range(20):
            aiter_c.top_k_per_row_prefill(**inputs.arguments())
            out.add((inputs.array("indices").tobytes(), inputs.array("values").tobytes()))
        return out

    expected = [work(inputs) for inputs in prepared]
    with ThreadPoolExecutor(9) as pool:
        assert list(pool.map(work, prepared)) == expected
    assert all(len(results) == 1 for results in expected)
