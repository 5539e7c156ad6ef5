"""get_mla_metadata_info_v1 and get_mla_decode_fwd_max_splits: sizes by the contract, and that plans fit into them."""

from __future__ import annotations

import math
import sys
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from ids import part

import aiter_c
from aiter_c.testing import Device
from aiter_c.testing.ops.mla_metadata import tile_pairs

INFO, WORKERS = aiter_c.get_mla_metadata_info_v1, aiter_c.get_mla_decode_fwd_max_splits
HEADS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 40, 48, 64, 80, 96, 128, 200)


def _sizes(*arguments: object, **keywords: object) -> list[object]:
    return [size for size, _ in INFO(*arguments, **{"device": "cpu", "num_workers": 7} | keywords)]


def _tiles(heads: int, rows: int, pairs: int) -> int:
    return math.ceil(rows / max(1, pairs // heads))


def test_shapes_and_dtypes() -> None:
    """1-D sizes are ints and 2-D ones tuples, as engines unpack them."""
    info = INFO(3, 2, 16, "bfloat16", "bfloat16", False, num_workers=7, device="cpu")
    assert [size for size, _ in info] == [2, 8, (10, 8), 4, (3, 2), 10]
    dtypes = [dtype for _, dtype in info]
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        assert dtypes == [torch.uint64, *[torch.int32] * 5]
    else:
        assert dtypes == [np.dtype("uint64"), *[np.dtype("int32")] * 5]


def test_numpy_dtypes_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also beside a stub, or a torch that is being imported."""
    for module in (None, SimpleNamespace(), SimpleNamespace(int32=1)):
        if module is None:
            monkeypatch.delitem(sys.modules, "torch", raising=False)
        else:
            monkeypatch.setitem(sys.modules, "torch", module)
        assert [dtype for _, dtype in INFO(1, 1, 16, None, None, False)] == [np.dtype("uint64"), *["int32"] * 5]


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 8, 16])
def test_tiles_of_any_head_count(rows: int, device: Device) -> None:
    """Enough for this and every smaller shape of any dtype on the device."""
    for heads in HEADS:
        tiles = _sizes(1, rows, heads, None, None, False, device=device.place)[3] - 1
        smaller = [
            _tiles(h, q, tile_pairs(device.name, dtype, h, q))
            for h in range(1, heads + 1)
            for q in range(1, rows + 1)
            for dtype in ("bfloat16", "float8_e4m3fn")
        ]
        assert max(smaller) <= tiles <= max(_tiles(heads, rows, 128), rows if heads >= 33 else 3, 1), (heads, rows)
        sparse = _sizes(5, rows, heads, None, None, True, device=device.place)
        assert sparse[3:5] == [5 * rows + 1, (5 * rows, 2)]


@pytest.mark.parametrize("fast", [True, False])
def test_the_cap_bounds_every_mode(fast: bool) -> None:
    """min(T + N, 2 N) entries with N = min(W, cap * T)."""
    for batch, heads, cap, workers in product((0, 1, 3, 200), (16, 128), (None, -1, 1, 4, 1000), (1, 7, 132)):
        sizes = _sizes(batch, 4, heads, None, None, False, fast, max_split_per_batch=cap, num_workers=workers)
        tiles = batch * (1 if heads == 16 else 4)
        splits = workers if cap in (None, -1) else min(workers, cap * tiles)
        assert sizes == [
            *(2, workers + 1, (tiles + splits, 8), tiles + 1, (tiles, 2), min(tiles + splits, 2 * splits)),
        ]


def test_modes_with_a_number_of_items_per_tile() -> None:
    for splits, items in ((32, 32), (None, 32), (-1, 32), (5, 5)):
        sizes = _sizes(3, 1, 16, None, None, False, False, splits, True)
        assert sizes[2] == (3 * items, 8) and sizes[5] == 3 * items
    sizes = _sizes(3, 1, 16, None, None, False, deterministic=True)
    assert sizes[2] == (48, 8) and sizes[5] == 48


@pytest.mark.parametrize(
    "keywords", [{}, {"max_split_per_batch": 2}, {"deterministic": True}, {"intra_batch_mode": True}]
)
def test_sizes_grow_with_the_batch(keywords: dict[str, object]) -> None:
    """So that the largest batch's buffers serve all."""
    before: list[int] = []
    for batch in range(60):
        sizes = [n if isinstance(n, int) else n[0] for n in _sizes(batch, 3, 48, None, None, False, **keywords)]
        assert not before or all(a <= b for a, b in zip(before, sizes, strict=True))
        before = sizes


def test_workers(device: Device) -> None:
    """Compute units, of which two share an item of more pairs than a workgroup has rows; on the CPU threads."""
    one, many = WORKERS(16, 1, None, None, device=device.place), WORKERS(128, 1, None, None, device=device.place)
    if device.place == "cpu":
        aiter_c.set_num_threads(3)
        assert WORKERS(128, 4, None, None, device="cpu") == WORKERS(1, 1, None, None, device="cpu") == 3
        aiter_c.set_num_threads(0)
        return
    assert one > 1 and many == (one // 2 if device.name == "cuda" else one)
    assert WORKERS(64, 1, None, None, device=device.place) == WORKERS(16, 4, None, None, device=device.place) == one
    assert WORKERS(16, 8, None, None, device=device.place) == WORKERS(16, 100, None, None, device=device.place) == many
    assert _sizes(1, 1, 128, None, None, False, device=device.place, num_workers=None)[1] == many + 1


def test_without_a_device_torchs_current_gpu_or_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert WORKERS(16, 1, None, None) == aiter_c.get_num_threads()


ROWS = "rows of work_info_set"
BAD = [
    ({"batch_size": -1}, ValueError, "batch_size: expected 0 to 2147483647, got -1"),
    ({"batch_size": 1.5}, TypeError, "batch_size: expected int, got float"),
    ({"max_seqlen_qo": 0}, ValueError, "max_seqlen_qo: expected 1 to 2147483647, got 0"),
    ({"num_head_qo": 0}, ValueError, "num_head_qo: expected 1 to 2147483647, got 0"),
    ({"num_head_qo": None}, TypeError, "num_head_qo: expected int, got NoneType"),
    ({"num_workers": 0}, ValueError, "num_workers: expected 1 to 2147483646, got 0"),
    *(
        ({name: value}, ValueError, f"{name}: expected None or -1 (automatic) or 1 to 2147483647, got {value}")
        for name in ("max_split_per_batch", "num_kv_splits")
        for value in (0, -2)
    ),
    ({"batch_size": 2**30, "deterministic": True}, ValueError, f"{ROWS}: expected 0 to 2147483647, got {2**34}"),
    ({"device": "tpu"}, ValueError, "device: expected a device such as 'cpu', 'cuda:0' or 'hip:1', got 'tpu'"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "error", "text"), BAD, ids=[part(row[2][-40:]) for row in BAD])
def test_refusals(change: dict[str, object], error: type, text: str) -> None:
    arguments = {
        **{"batch_size": 2, "max_seqlen_qo": 1, "num_head_qo": 16, "q_dtype": None, "kv_dtype": None},
        **{"is_sparse": False},
    }
    with pytest.raises(error) as caught:
        INFO(**arguments | change)
    assert str(caught.value) == f"get_mla_metadata_info_v1: {text}"
