"""Arguments of a plain decode call, for tests of the pool and of what surrounds a call."""

from __future__ import annotations

import time

import ml_dtypes
import numpy as np

import aiter_c


def arguments(kv_lens: tuple[int, ...], heads: int = 16, **fields: object) -> dict:
    """One query token a request over a pool of 256 rows. `fields`: q_dtype, kv_dtype, scale (of the cache), options."""
    rng = np.random.default_rng(sum(kv_lens) + heads)
    q_dtype, kv_dtype = fields.pop("q_dtype", ml_dtypes.bfloat16), fields.pop("kv_dtype", ml_dtypes.bfloat16)
    batch, scale = len(kv_lens), fields.pop("scale", 1.0)
    return {
        "q": rng.standard_normal((batch, heads, 576)).astype(q_dtype),
        "kv_buffer": (rng.standard_normal((256, 1, 1, 576)) * scale).astype(kv_dtype),
        "o": np.zeros((batch, heads, 512), ml_dtypes.bfloat16),
        "qo_indptr": np.arange(batch + 1, dtype=np.int32),
        "kv_indptr": np.cumsum([0, *kv_lens]).astype(np.int32),
        "kv_indices": rng.integers(0, 256, sum(kv_lens), dtype=np.int32),
        "kv_last_page_lens": np.ones(batch, np.int32),
        "max_seqlen_q": 1,
        "return_lse": True,
    } | fields


def bits(call: dict) -> bytes:
    """The bits of both outputs; `o` is poisoned before."""
    call["o"].fill(np.nan)
    _, lse = aiter_c.mla_decode_fwd(**call)
    return call["o"].tobytes() + lse.tobytes()


def lasting(seconds: float) -> dict:
    """The arguments of a call that takes that long on this machine, or more."""
    length = 20_000
    while True:
        call = arguments((length,) * 8, heads=128, num_kv_splits=2)
        start = time.perf_counter()
        aiter_c.mla_decode_fwd(**call)
        took = time.perf_counter() - start
        if took >= seconds:
            return call
        length = int(length * max(1.5, 1.3 * seconds / took))
