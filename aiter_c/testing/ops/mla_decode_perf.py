"""The shapes that the benches time, and what a call has to do at least."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .cache import RECORD_BYTES
from .mla_decode import MlaCase


def decode_shape(batch: int, heads: int, length: int, kv_dtype: str = "bfloat16") -> MlaCase:
    """`batch` requests of `length` keys and one query row each, automatic splits."""
    return MlaCase(heads=heads, q_lens=(1,) * batch, kv_lens=(length,) * batch, kv_dtype=kv_dtype, splits=None)


#: Where the speed of the package is judged: one request of few and of many heads, and a batch.
TARGETS = [
    decode_shape(*dims, kv)
    for dims in ((1, 16, 8192), (1, 128, 8192), (16, 16, 4096))
    for kv in ("bfloat16", "float8_e4m3fn")
]
OTHERS = [decode_shape(*dims) for dims in ((1, 4, 8192), (4, 32, 2048), (16, 128, 1024), (1, 16, 1024))]
GROWTH = [decode_shape(batch, 16, 4096) for batch in (1, 2, 3, 4, 8, 16)]


def page_shape(batch: int, heads: int, length: int, q_len: int = 1, dtype: str = "bfloat16") -> MlaCase:
    """`batch` requests of `length` keys in pages of 64 and `q_len` query rows each; q and cache of one dtype."""
    return MlaCase(
        heads=heads, q_lens=(q_len,) * batch, kv_lens=(length,) * batch, page_size=64, q_dtype=dtype, kv_dtype=dtype,
        splits=None,
    )  # fmt: skip


#: What a GPU is judged by: (batch, KV length, query rows) -> head counts.
GPU_DIMS = {
    (1, 1024, 1): (16, 128),
    (1, 8192, 1): (4, 8, 16, 64, 128),
    (1, 65536, 1): (16, 64, 128),
    (16, 1024, 1): (16, 128),
    (16, 8192, 1): (16, 32, 64, 128),
    (64, 4096, 1): (16, 64, 128),
    (128, 4096, 1): (16, 64, 128),
    (128, 4096, 2): (16, 128),
    (128, 1024, 1): (4, 8, 16, 32),
}
GPU_SHAPES = [
    page_shape(batch, heads, length, q_len, dtype)
    for (batch, length, q_len), counts in GPU_DIMS.items()
    for heads in counts
    for dtype in ("bfloat16", "float8_e4m3fn")
]
#: What the peers do not serve, or not on this hardware: an fp8 cache under bf16 queries, and 656-byte records.
GPU_OTHERS = [
    replace(page_shape(batch, heads, 4096), kv_dtype="float8_e4m3fn", kv_format=kv_format)
    for batch, heads in ((1, 16), (64, 16), (64, 128))
    for kv_format in ("plain", "fp8_ds_mla")
]
GPU_QUICK = [
    page_shape(batch, heads, length, 1, dtype)
    for batch, heads, length in ((1, 16, 8192), (64, 16, 4096), (64, 128, 4096))
    for dtype in ("bfloat16", "float8_e4m3fn")
]


@dataclass(frozen=True)
class Batch:
    """A call by work lists: how its lengths are spread, in a word, and the call without lists."""

    lengths: str
    case: MlaCase


def spread_lens(lengths: str, batch: int, longest: int, shortest: int) -> tuple[int, ...]:
    """ "equal" (all the longest), "uniform", "one long" (the others are of the shortest), "Zipf" (multiples of the
    shortest by the power law of exponent 1.3, cut at the longest); always the same ones."""
    rng = np.random.default_rng(1)
    if lengths == "uniform":
        return tuple(rng.integers(shortest, longest, batch).tolist())
    if lengths == "Zipf":
        return tuple(np.minimum(shortest * rng.zipf(1.3, batch), longest).tolist())
    return (longest,) + ((longest if lengths == "equal" else shortest),) * (batch - 1)


#: (lengths, batch, longest, shortest); the first three are the quick ones.
CPU_SPREADS = (("uniform", 16, 4096, 1), ("one long", 16, 8192, 64), ("equal", 16, 1024, 1), ("Zipf", 32, 4096, 16))
GPU_SPREADS = (
    ("uniform", 64, 32768, 1),
    ("one long", 64, 65536, 512),
    ("equal", 128, 4096, 1),
    ("Zipf", 128, 32768, 64),
    ("equal", 16, 8192, 1),
    ("equal", 1, 8192, 1),
)
LISTED = {
    "cpu": [
        Batch(spread[0], replace(decode_shape(1, 16, 1), q_lens=(1,) * spread[1], kv_lens=spread_lens(*spread)))
        for spread in CPU_SPREADS
    ],
    "gpu": [
        Batch(
            spread[0],
            replace(page_shape(1, heads, 64, 1, dtype), q_lens=(1,) * spread[1], kv_lens=spread_lens(*spread)),
        )
        for heads, dtype in ((16, "bfloat16"), (16, "float8_e4m3fn"), (128, "bfloat16"), (128, "float8_e4m3fn"))
        for spread in GPU_SPREADS
    ],
}
LISTED_QUICK = 3


def least_work(case: MlaCase) -> tuple[int, int]:
    """(bytes, FLOP): every cache row and every query and output row once; two operations for every
    element of a key and of a value that a row sees, 2 * (D + 512) per row, head and visible key."""
    seen = sum(
        min(max(length - q_len + i + 1, 0), length) if case.causal else length
        for q_len, length in zip(case.q_lens, case.kv_lens, strict=True)
        for i in range(q_len)
    )
    key_bytes = case.head_dim * (1 if case.kv_is_fp8 else 2) if case.kv_format == "plain" else RECORD_BYTES
    row_bytes = sum(case.q_lens) * case.heads * (case.head_dim * (1 if case.q_is_fp8 else 2) + 512 * 2)
    return sum(case.kv_lens) * key_bytes + row_bytes, 2 * seen * case.heads * (case.head_dim + 512)
