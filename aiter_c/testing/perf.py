"""The shapes that the benches time, and what a call has to do at least."""

from __future__ import annotations

from .case import MlaCase


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


def least_work(case: MlaCase) -> tuple[int, int]:
    """(bytes, FLOP) of a plain cache: every cache row and every query and output row once; two operations for every
    element of a key and of a value that a row sees, 2 * (D + 512) per row, head and visible key."""
    seen = sum(
        min(max(length - q_len + i + 1, 0), length) if case.causal else length
        for q_len, length in zip(case.q_lens, case.kv_lens, strict=True)
        for i in range(q_len)
    )
    itemsize = 1 if case.kv_is_fp8 else 2
    row_bytes = sum(case.q_lens) * case.heads * (case.head_dim * (1 if case.q_is_fp8 else 2) + 512 * 2)
    return sum(case.kv_lens) * case.head_dim * itemsize + row_bytes, 2 * seen * case.heads * (case.head_dim + 512)
