"""set_allocator, the seam by which tests see what an op takes: nothing that it gives or does is trusted."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from aiter_c import _C, mla_decode_fwd
from aiter_c.testing import MlaCase, build_inputs
from aiter_c.testing.scratch import allocated_by

ARGUMENTS = build_inputs(MlaCase(heads=4, kv_lens=(40,), splits=2)).arguments()


def test_it_may_replace_itself_while_it_runs() -> None:
    def once(name: str, like: object, shape: tuple, dtype: str, stream: object) -> np.ndarray:
        _C.set_allocator(None)
        return np.empty(shape, dtype)

    try:
        for size in (0, 4):
            _C.set_allocator(lru_cache(size)(lambda *a, **k: once(*a, **k)) if size == 0 else once)
            mla_decode_fwd(**ARGUMENTS)
    finally:
        assert _C.set_allocator(None) is None


@pytest.mark.parametrize(
    ("made", "error", "text"),
    [
        (lambda shape: None, TypeError, "logits: expected a tensor"),
        (lambda shape: np.empty(shape[::-1], np.float32), ValueError, "logits: expected shape"),
        (lambda shape: np.empty(shape, np.float16), TypeError, "logits: expected dtype float32, got float16"),
        (lambda shape: np.broadcast_to(np.float32(0), shape), BufferError, "logits: expected a writable tensor"),
        (lambda shape: ARGUMENTS["q"], TypeError, "logits: expected dtype float32"),
    ],
)
def test_what_it_gives_is_checked(made: object, error: type, text: str) -> None:
    with allocated_by(lambda name, like, shape, dtype, stream: made(shape)), pytest.raises(error, match=text):
        mla_decode_fwd(**ARGUMENTS)


def test_only_a_callable() -> None:
    with pytest.raises(TypeError, match=r"^set_allocator: allocator: expected a callable or None, got int$"):
        _C.set_allocator(5)
