"""Work items and the causal rule, context parallelism included: csrc/ops/attention/work.h against a model in Python,
and the decode kernels of every device over shards of a request against the formula."""

from __future__ import annotations

import ctypes
import random

import ml_dtypes
import numpy as np
import pytest
from mla_decode import kernel_shim
from mla_decode.kernel_shim import DECODE_ROWS, Memory, params_of, shim

from aiter_c.testing import Device

SHARDS = [(1, 0, 1), (2, 0, 1), (2, 1, 1), (3, 1, 16), (4, 3, 64), (8, 5, 16), (5, 4, 3)]


def clamp(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))


def positions(count: int, shard: tuple[int, int, int]) -> list[int]:
    """The places in the request of a shard's first `count` keys, dealt one by one."""
    stride, phase, block = shard
    out, place = [], 0
    while len(out) < count:
        if place // block % stride == phase:
            out.append(place)
        place += 1
    return out


def held(total: int, shard: tuple[int, int, int]) -> int:
    """Keys of a request that the shard has."""
    stride, phase, block = shard
    return sum(place // block % stride == phase for place in range(total))


@pytest.mark.parametrize("shard", SHARDS, ids=lambda s: "-".join(map(str, s)))
def test_a_key_and_its_place(shard: tuple[int, int, int]) -> None:
    assert [shim().shim_shard_key(*shard, j) for j in range(300)] == positions(300, shard)


def _random_item(draw: random.Random) -> dict:
    shard = draw.choice(SHARDS)
    batch = draw.randint(1, 4)
    rows, indices = draw.randint(0, 20), draw.randint(0, 300)
    wild = lambda most: draw.choice([draw.randint(0, most), draw.randint(-3, most + 5), -(2**31), 2**31 - 1])  # noqa: E731
    ordered = lambda most: sorted(draw.randint(0, most) for _ in range(batch + 1))  # noqa: E731
    return {
        "qo": ordered(rows) if draw.random() < 0.7 else [wild(rows) for _ in range(batch + 1)],
        "kv": ordered(indices) if draw.random() < 0.7 else [wild(indices) for _ in range(batch + 1)],
        "total": ordered(2000) if draw.random() < 0.8 else [wild(2000) for _ in range(batch + 1)],
        "heads": draw.choice([1, 3, 16, 128]), "rows": rows, "indices": indices, "batch": batch,
        "most": draw.randint(1, 6), "splits": draw.randint(1, 5), "causal": draw.randint(0, 1),
        "final": draw.randint(0, 1), "shard": shard, "tile": draw.choice([16, 64]),
    }  # fmt: skip


def _model(item: dict, index: int, tokens: int) -> tuple[list[int], list[int]] | None:
    """What work.h is to give: the item's numbers, and what each token sees."""
    tile_count = -(-item["most"] * item["heads"] // item["tile"])
    tile, rest = index % tile_count, index // tile_count
    request, split = divmod(rest, item["splits"])
    begin = clamp(item["qo"][request], 0, item["rows"])
    queries = clamp(item["qo"][request + 1], begin, item["rows"]) - begin
    pairs = min(queries, item["most"]) * item["heads"]
    if tile * item["tile"] >= pairs:
        return None
    first = clamp(item["kv"][request], 0, item["indices"])
    length = clamp(item["kv"][request + 1], first, item["indices"]) - first
    run = max(1, -(-length // item["splits"]))
    keys = min(split * run, length), min((split + 1) * run, length)
    total = length
    if item["shard"][0] > 1:
        total = clamp(item["total"][request + 1] - item["total"][request], 0, 2**31 - 1)
    place = positions(keys[1], item["shard"])
    seen = []
    for token in range(tokens):
        last = total - queries + token if item["causal"] else total - 1
        seen.append(max(keys[0], sum(p <= last for p in place)) if keys[1] else 0)
    partial = -1 - split if item["final"] else begin * item["splits"] + split
    numbers = [begin, tile * item["tile"], min(pairs - tile * item["tile"], item["tile"]), *keys]
    return [*numbers, first if length else -1, partial, item["splits"]], seen


def _decode_numbers(item: dict, pointers: dict[str, int]) -> list[int]:
    names = ("q", "kv", "o", "lse", "partial_o", "partial_lse", "qo", "kv_indptr", "kv_indices", "total")
    rest = (item["heads"], item["rows"], item.get("pages", 0), item["indices"], item["most"], item["splits"])
    return [*(pointers.get(n, 0) for n in names), *rest, item["final"], item["causal"], *item["shard"], item["tile"]]


def test_work_items_are_those_of_the_model() -> None:
    draw = random.Random(11)
    items = 0
    for _ in range(400):
        item = _random_item(draw)
        arrays = {name: np.array(item[name], np.int32) for name in ("qo", "kv", "total")}
        indices = np.zeros(max(item["indices"], 1), np.int32)
        pointers = {"qo": arrays["qo"].ctypes.data, "kv_indptr": arrays["kv"].ctypes.data}
        pointers |= {"total": arrays["total"].ctypes.data, "kv_indices": indices.ctypes.data}
        params = params_of("decode", _decode_numbers(item, pointers))
        tiles = -(-item["most"] * item["heads"] // item["tile"])
        for index in range(item["batch"] * item["splits"] * tiles):
            numbers, seen = (ctypes.c_int64 * 8)(), (ctypes.c_int64 * 8)()
            found = shim().shim_work(params, ctypes.c_int64(index), ctypes.c_int64(item["tile"]), 8, numbers, seen)
            expected = _model(item, index, 8)
            assert (found == 0) == (expected is None), (item, index)
            if expected:
                assert (list(numbers), list(seen)) == expected, (item, index)
                items += 1
    assert items > 2000


def _softmax(scores: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, float]:
    if len(scores) == 0:
        return np.zeros(values.shape[1]), -np.inf
    weights = np.exp(scores - scores.max())
    return weights @ values / weights.sum(), scores.max() + np.log(weights.sum())


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "all"])
@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize("shard", SHARDS, ids=lambda s: "-".join(map(str, s)))
def test_kernels_over_a_shard(shard: tuple[int, int, int], splits: int, causal: bool, device: Device) -> None:
    """Every device masks by the keys' places in the request. Rows that see nothing are 0 and -inf; the masked keys hold
    NaN."""
    if device.name not in DECODE_ROWS:
        pytest.skip("runs the machine code that the simulator has, and the CPU")
    rng, tile = np.random.default_rng(3), DECODE_ROWS[device.name]
    queries, totals, heads = [3, 1, 2, 4], [403, 64, 1, 0], 5
    locals_ = [held(total, shard) for total in totals]
    if shard[0] > 1:
        locals_[-1] = 1  # of a request without keys: a padding entry past its end
    rows, count = sum(queries), sum(locals_)
    item = {"heads": heads, "rows": rows, "pages": count + 1, "indices": count, "batch": 4, "most": 4, "splits": splits}
    item |= {"final": int(splits == 1), "causal": int(causal), "shard": shard, "tile": tile}
    indptr = lambda sizes: np.array([0, *np.cumsum(sizes)], np.int32)  # noqa: E731
    indices = rng.permutation(count + 1)[:count].astype(np.int32)
    kv = rng.standard_normal((count + 1, 576)).astype(ml_dtypes.bfloat16)
    q = rng.standard_normal((rows, heads, 576)).astype(ml_dtypes.bfloat16)
    expected_o, expected_lse = np.zeros((rows, heads, 512)), np.full((rows, heads), -np.inf)
    for b, (nq, total) in enumerate(zip(queries, totals, strict=True)):
        row, first, places = sum(queries[:b]), sum(locals_[:b]), np.array(positions(locals_[b], shard))
        kv[indices[first : first + locals_[b]][places >= total]] = np.nan
        for t in range(nq):
            limit = total - nq + t + 1 if causal else total
            keys = kv[indices[first : first + locals_[b]][places < limit]].astype(np.float64)
            for h in range(heads):
                scores = keys @ q[row + t, h].astype(np.float64) / 24
                expected_o[row + t, h], expected_lse[row + t, h] = _softmax(scores, keys[:, :512])
    memory = Memory(device.name)
    o, lse = np.zeros((rows, heads, 512), ml_dtypes.bfloat16), np.full((rows, heads), np.nan, np.float32)
    partial_o = np.full((rows, splits, heads, 512), np.nan, np.float32)
    partial_lse = np.full((rows, splits, heads), np.nan, np.float32)
    arrays = {"q": q, "kv": kv, "o": o, "lse": lse, "partial_o": partial_o, "partial_lse": partial_lse}
    arrays |= {"qo": indptr(queries), "kv_indptr": indptr(locals_), "kv_indices": indices, "total": indptr(totals)}
    params = params_of("decode", _decode_numbers(item, {name: memory.put(array) for name, array in arrays.items()}))
    grid = 4 * splits * -(-4 * heads // tile)
    if device.name == "cpu":
        shim().shim_decode(params, ctypes.c_int64(grid), ctypes.create_string_buffer(shim().shim_scratch_bytes()))
    else:
        local_bytes = {"gfx942": 65536, "gfx950": 131072}[device.name]
        memory.launch("mla_decode", "mla_decode_bf16_r16", bytes(params), grid, local_bytes)
        memory.fetch()
    if splits > 1:
        weights = np.exp(partial_lse - np.maximum(partial_lse.max(1, keepdims=True), -1e30))[..., None]
        filled = np.where(weights > 0, partial_o, 0).astype(np.float64)
        total_weight = weights.sum(1)
        o = (filled * weights).sum(1) / np.where(total_weight == 0, 1, total_weight)
        with np.errstate(divide="ignore"):
            lse = np.log(total_weight[..., 0]) + np.maximum(partial_lse.max(1), -1e30)
            lse[total_weight[..., 0] == 0] = -np.inf
    np.testing.assert_array_equal(np.isneginf(lse), np.isneginf(expected_lse))
    np.testing.assert_allclose(o.astype(np.float64), expected_o, atol=2e-2, rtol=2e-2)
    finite = np.isfinite(expected_lse)
    np.testing.assert_allclose(lse[finite], expected_lse[finite], atol=2e-3)


def test_the_shim_is_beside_the_sources() -> None:
    assert (kernel_shim.ROOT / "csrc/ops/attention/work.h").is_file()
