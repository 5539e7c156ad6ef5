"""Nothing leaks, a call without scratch fails whole, and a long call can be interrupted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from interpreter import run_python, script

import aiter_c
from aiter_c.testing import allocated_by
from aiter_c.testing.ops.top_k import SPLIT_COLUMNS, TopKCase

INTERRUPT = """
import signal, time
import numpy as np
import aiter_c
signal.signal(signal.SIGALRM, signal.default_int_handler)
rows, columns = 1_000_000, 20_000
logits = np.broadcast_to(np.random.default_rng(0).standard_normal(columns).astype(np.float32), (rows, columns))
indices, lengths = np.empty((rows, 9), np.int32), np.full(rows, columns, np.int32)
signal.setitimer(signal.ITIMER_REAL, 0.3)
start = time.perf_counter()
try:
    aiter_c.top_k_per_row_decode(logits, 1, lengths, indices, rows, 0, 1, 9)
except KeyboardInterrupt:
    print(time.perf_counter() - start < 1.3)
"""


@pytest.fixture
def two_threads() -> Iterator[None]:
    aiter_c.set_num_threads(2)
    yield
    aiter_c.set_num_threads(0)


@pytest.mark.isolated
def test_blocks_and_references_stay() -> None:
    out = run_python(script("top_k/isolated/leaks.py")).stdout.strip().split("\n")
    assert out[-1] == "ok" and len(out) > 20, out[-5:]


@pytest.mark.parametrize("next_n", [None, 1])
@pytest.mark.parametrize("missing", ["candidate_indices", "candidate_values"])
def test_no_memory_for_scratch(missing: str, next_n: int | None, two_threads: None) -> None:
    """The framework has none for one of the two buffers; every other allocation: boundary/test_no_memory.py."""
    inputs = TopKCase(rows=1, columns=SPLIT_COLUMNS, next_n=next_n).inputs()
    inputs.freeze()

    def allocate(name: str, _like: object, shape: tuple[int, ...], dtype: str, _stream: object) -> np.ndarray:
        if name == missing:
            raise MemoryError(name)
        return np.empty(shape, dtype)

    with allocated_by(allocate), pytest.raises(MemoryError, match=f"^{missing}$"):
        getattr(aiter_c, inputs.case.op)(**inputs.arguments())
    assert all(block.first_change() is None for block in inputs.blocks.values())
    getattr(aiter_c, inputs.case.op)(**inputs.arguments())
    assert np.array_equal(inputs.array("indices"), inputs.reference()[0])


@pytest.mark.isolated
def test_a_long_call_is_interrupted() -> None:
    assert run_python("-c", INTERRUPT, timeout=60).stdout == "True\n"
