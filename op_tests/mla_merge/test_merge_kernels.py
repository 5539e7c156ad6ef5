"""The merge kernels by their parameter struct: groups from requests and from lists, any width of values, every output
dtype, untrusted lists. fp64 reference; rows of no group and rows of groups without partials are not touched."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field

import ml_dtypes
import numpy as np
import pytest
from mla_decode.kernel_shim import MERGE_HEADS, MERGE_LOCAL_BYTES, Memory, params_of, shim

from aiter_c.testing import Device

DTYPES = {"bfloat16": (0, ml_dtypes.bfloat16), "float16": (1, np.float16), "float32": (2, np.float32)}  # ac_dtype_t
TOLERANCE = {"bfloat16": 2e-2, "float16": 2e-3, "float32": 1e-5}
ROWS, HEADS = 12, 3


@dataclass
class Groups:
    """Which partials each row of o has; and the struct's fields that say so."""

    partials: dict[int, list[int]]  # row -> partial rows; one that does not exist is empty
    fields: dict[str, object] = field(default_factory=dict)
    group_rows: int = 1


def of_requests(rows: list[int], splits: int, most: int) -> Groups:
    """Row r has partials r * splits ...; requests serve their first `most` rows."""
    qo = np.array([0, *np.cumsum(rows)], np.int32)
    served = [row for b, count in enumerate(rows) for row in range(qo[b], qo[b] + min(count, most))]
    partials = {row: list(range(row * splits, (row + 1) * splits)) for row in served}
    return Groups(partials, {"qo": qo, "splits": splits, "groups": len(rows)}, most)


def of_lists(groups: list[tuple[int, int, list[int]]], group_rows: int, with_final: bool = True) -> Groups:
    """(first row, past the last, locations of the partials) for each."""
    indptr = np.array([0, *np.cumsum([len(locations) for _, _, locations in groups])], np.int32)
    partial_map = np.array([at for _, _, locations in groups for at in locations], np.int32)
    final = np.array([[begin, end] for begin, end, _ in groups], np.int32)
    partials = {}
    for begin, end, locations in groups:
        for row in range(begin, min(end, ROWS)) if begin >= 0 and locations else ():
            partials[row] = [at + row - begin for at in locations]
    lists = {"reduce_indptr": indptr, "partial_map": partial_map, "groups": len(groups)}
    return Groups(partials, lists | ({"final_map": final} if with_final else {}), group_rows)


WIDE = [(3 * i) % 40 for i in range(300)]
SOURCES = {
    "requests": of_requests([2, 0, 5, 3], 4, 4),
    "one-split": of_requests([1, 6], 1, 8),
    "many-splits": of_requests([3], 300, 3),
    "lists": of_lists(
        [(0, 2, [10, 20]), (2, 3, [5]), (3, 6, []), (6, 7, [1, 2, 3, 4, 5, 6, 7, 8, 9]), (9, 12, WIDE)], 1
    ),
    "lists-in-steps": of_lists([(0, 5, [3, 30, 17]), (5, 12, [40, 12])], 2),
    "no-final-map": of_lists([(0, 3, [0, 3]), (3, 6, [9, 12, 15]), (6, 9, [21, 24])], 3, with_final=False),
    "outside": of_lists(
        [(0, 2, [-7, 4]), (2, 3, [10**6, 2**31 - 2]), (-1, 2, [1, 2]), (11, 400, [3, 4]), (5, 4, [1, 2])], 2
    ),
}


def _partials(count: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Values and LSEs; some partials are empty and hold NaN, one row has only such."""
    rng = np.random.default_rng(count + width)
    values = rng.standard_normal((count, HEADS, width)).astype(np.float32)
    lse = (4 * rng.standard_normal((count, HEADS))).astype(np.float32)
    empty = rng.random((count, HEADS)) < 0.25
    empty[5] = True
    lse[empty], values[empty] = -np.inf, np.nan
    return values, lse


def _expected(groups: Groups, values: np.ndarray, lse: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """fp64; NaN where nothing is to be written."""
    out, out_lse = np.full((ROWS, HEADS, values.shape[2]), np.nan), np.full((ROWS, HEADS), np.nan)
    for row, partials in groups.partials.items():
        known = [at for at in partials if 0 <= at < len(values)]
        for head in range(HEADS):
            kept = [at for at in known if lse[at, head] != -np.inf]
            out[row, head], out_lse[row, head] = 0, -np.inf
            if not kept:
                continue
            top = max(float(lse[at, head]) for at in kept)
            weights = np.array([np.exp(float(lse[at, head]) - top) for at in kept])
            out[row, head] = weights @ values[kept, head].astype(np.float64) / weights.sum()
            out_lse[row, head] = top + np.log(weights.sum())
    return out, out_lse


CASES = [(source, width, "float32") for source in SOURCES for width in (64, 128, 256, 512, 68, 4, 260)]
CASES += [("lists", width, dtype) for width in (64, 260, 512) for dtype in ("bfloat16", "float16")]
CASES += [("requests", 512, dtype) for dtype in ("bfloat16", "float16")]


@pytest.mark.parametrize(("source", "width", "dtype"), CASES)
def test_merge(source: str, width: int, dtype: str, device: Device) -> None:
    if device.name not in MERGE_HEADS:
        pytest.skip("runs the machine code that the simulator has, and the CPU")
    groups = SOURCES[source]
    count = max([60, *(at + 1 for partials in groups.partials.values() for at in partials if at < 10**5)])
    values, lse = _partials(count, width)
    code, kind = DTYPES[dtype]
    poison = np.array(-123.5, kind)
    o, out_lse = np.full((ROWS + 1, HEADS, width), poison), np.full((ROWS + 1, HEADS), -123.5, np.float32)
    memory = Memory(device.name)
    put, fields = memory.put, groups.fields
    lists = [put(fields[name]) if name in fields else 0 for name in ("reduce_indptr", "final_map", "partial_map")]
    tile = MERGE_HEADS[device.name]
    params = params_of(
        "merge",
        [
            put(values), put(lse), put(o), put(out_lse), tile, ROWS, count, HEADS, width, code, fields["groups"],
            groups.group_rows, put(fields.get("qo")), fields.get("splits", 0), *lists,
            len(fields.get("partial_map", ())),
        ],
    )  # fmt: skip
    grid = fields["groups"] * groups.group_rows * -(-HEADS // tile)
    if device.name == "cpu":
        shim().shim_merge(params, ctypes.c_int64(grid))
    else:
        memory.launch("mla_merge", "mla_merge", bytes(params), grid, MERGE_LOCAL_BYTES)
        memory.fetch()
    expected, expected_lse = _expected(groups, values, lse)
    untouched = np.isnan(expected_lse)
    assert groups.partials and not untouched.all()
    np.testing.assert_array_equal(out_lse[ROWS:], -123.5)
    np.testing.assert_array_equal(out_lse[:ROWS][untouched], -123.5)
    np.testing.assert_array_equal(o[ROWS:], poison)
    np.testing.assert_array_equal(o[:ROWS][untouched], poison)
    np.testing.assert_allclose(out_lse[:ROWS][~untouched], expected_lse[~untouched], rtol=2e-6, atol=2e-6)
    written = o[:ROWS][~untouched].astype(np.float64)
    np.testing.assert_allclose(written, expected[~untouched], rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_a_lone_partial_is_copied(device: Device) -> None:
    """Bit by bit, -0.0 and NaN included, whatever its LSE."""
    if device.name not in MERGE_HEADS:
        pytest.skip("runs the machine code that the simulator has, and the CPU")
    values = np.array([[[0.0, -0.0, 1e-30, 3.4e38, -np.inf, np.nan, 1.0, -2.5]]] * 2, np.float32)
    lse, o, out_lse = (
        np.array([[-80.5], [1.0]], np.float32),
        np.zeros((1, 1, 8), np.float32),
        np.zeros((1, 1), np.float32),
    )
    memory = Memory(device.name)
    put, tile = memory.put, MERGE_HEADS[device.name]
    indptr, final, partial_map = np.array([0, 1], np.int32), np.array([[0, 1]], np.int32), np.array([0], np.int32)
    rest = [0, 0, put(indptr), put(final), put(partial_map), 1]
    numbers = [put(values), put(lse), put(o), put(out_lse), tile, 1, 2, 1, 8, DTYPES["float32"][0], 1, 1, *rest]
    params = params_of("merge", numbers)
    if device.name == "cpu":
        shim().shim_merge(params, ctypes.c_int64(1))
    else:
        memory.launch("mla_merge", "mla_merge", bytes(params), 1, MERGE_LOCAL_BYTES)
        memory.fetch()
    np.testing.assert_array_equal(o.view(np.uint32)[..., :5], values[:1].view(np.uint32)[..., :5])
    np.testing.assert_array_equal(np.isnan(o), np.isnan(values[:1]))
    assert out_lse[0, 0] == lse[0, 0]
