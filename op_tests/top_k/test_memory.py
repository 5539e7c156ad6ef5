"""Nothing leaks, calls without memory fail whole, and a long call can be interrupted."""

from __future__ import annotations

import importlib.util

import pytest
from interpreter import run_python, script

pytestmark = pytest.mark.isolated

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


def test_blocks_and_references_stay() -> None:
    out = run_python(script("top_k/isolated/leaks.py")).stdout.strip().split("\n")
    assert out[-1] == "ok" and len(out) > 20, out[-5:]


@pytest.mark.skipif(importlib.util.find_spec("_testcapi") is None, reason="this Python has no _testcapi")
def test_every_allocation_that_fails() -> None:
    assert run_python(script("top_k/isolated/no_memory.py")).stdout.startswith("ok ")


def test_a_long_call_is_interrupted() -> None:
    assert run_python("-c", INTERRUPT, timeout=60).stdout == "True\n"
