"""The cache formats, seen from outside: values to bytes for the inputs, bytes to exact fp64 for the reference.

plain        [num_page, ps, 1, 512 + rope] of one dtype.
3buffer      uint8 [num_page, ps*656]; per page latent e4m3fn [ps][512], scales fp32 [ps][4], rope bf16 [ps][64].
fp8_ds_mla   uint8 [num_page, ps, 656]; per token 512 e4m3fn, 4 fp32 scales, 64 bf16.
"""

from __future__ import annotations

import numpy as np

from ..memory import dtype_of, nan_bytes

LATENT, ROPE, GROUP = 512, 64, 128
RECORD_BYTES = LATENT + 4 * (LATENT // GROUP) + 2 * ROPE  # 656
_E4M3FN, _BFLOAT16 = dtype_of("float8_e4m3fn"), dtype_of("bfloat16")


def record_parts(pool: np.ndarray, kv_format: str, page_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Views into a uint8 pool [num_page, ps*656]: latent [num_page, ps, 512], scales [.., 4], rope [.., 64]."""
    pages = pool.shape[0]
    if kv_format == "fp8_ds_mla":
        records = pool.reshape(pages, page_size, RECORD_BYTES)
        latent, scales, rope = np.split(records, [LATENT, LATENT + 16], axis=2)
    else:
        regions = np.split(pool.reshape(pages, -1), [page_size * LATENT, page_size * (LATENT + 16)], axis=1)
        latent, scales, rope = (region.reshape(pages, page_size, -1) for region in regions)
    return latent.view(_E4M3FN), scales.view(np.float32), rope.view(_BFLOAT16)


def write_rows(pool: np.ndarray, kv_format: str, page_size: int, slots: np.ndarray, rows: np.ndarray) -> None:
    """Stores rows [n, 512 + rope] (float32) at slots [n] = page * ps + position, rounding to the format."""
    pages, positions = np.divmod(slots, page_size)
    if kv_format == "plain":
        pool[pages, positions, 0] = rows.astype(pool.dtype)
        return
    latent, scales, rope = record_parts(pool, kv_format, page_size)
    groups = rows[:, :LATENT].reshape(-1, LATENT // GROUP, GROUP)
    scale = np.maximum(np.abs(groups).max(-1) / 448, np.finfo(np.float32).tiny).astype(np.float32)
    latent[pages, positions] = (groups / scale[..., None]).reshape(-1, LATENT).astype(_E4M3FN)
    scales[pages, positions] = scale
    rope[pages, positions] = rows[:, LATENT:].astype(_BFLOAT16)


def fill_nan(pool: np.ndarray, kv_format: str, page_size: int) -> None:
    """Every slot of the pool becomes NaN in every part."""
    if kv_format == "plain":
        pool[...] = np.frombuffer(nan_bytes(pool.dtype), pool.dtype)[0]
        return
    for part in record_parts(pool, kv_format, page_size):
        part[...] = np.frombuffer(nan_bytes(part.dtype), part.dtype)[0]


def read_rows(pool: np.ndarray, kv_format: str, page_size: int, slots: np.ndarray) -> np.ndarray:
    """The exact values of slots [n] as float64 [n, 512 + rope]; per-tensor scales are not applied."""
    pages, positions = np.divmod(slots, page_size)
    if kv_format == "plain":
        return to_float64(pool[pages, positions, 0])
    latent, scales, rope = (part[pages, positions] for part in record_parts(pool, kv_format, page_size))
    grouped = to_float64(latent).reshape(-1, LATENT // GROUP, GROUP) * scales.astype(np.float64)[..., None]
    return np.concatenate([grouped.reshape(-1, LATENT), to_float64(rope)], axis=1)


def to_float64(values: np.ndarray) -> np.ndarray:
    """Exact: every dtype of the op is a subset of float32."""
    return values.astype(np.float32).astype(np.float64)
