"""Context parallelism: the helpers against a model that deals keys one by one and against the kernels' own arithmetic,
and simulated ranks whose merged states are the attention of one device."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
from mla_decode.kernel_shim import shim
from signatures import plain

import aiter_c
from aiter_c.testing import Device, check_bits, check_close
from aiter_c.testing.ops.merge_states import merge_states_reference
from aiter_c.testing.ops.mla_reduce import LSE_ROUNDING
from aiter_c.testing.tolerance import Tolerance

INTERLEAVES = (1, 16, 64)
LAYOUTS = [(w, s) for w in range(1, 9) for s in (1, 2, 3, 16, 64)]


def deal(count: int, world_size: int, interleave: int) -> list[list[int]]:
    """The positions that each rank gets, one key after the other."""
    ranks: list[list[int]] = [[] for _ in range(world_size)]
    rank = left = 0
    for position in range(count):
        if left == 0:
            rank, left = (rank + 1) % world_size if position else 0, interleave
        ranks[rank].append(position)
        left -= 1
    return ranks


def test_signatures_are_pinned() -> None:
    assert plain(aiter_c.cp_owner) == "(position, world_size, interleave=1)"
    assert plain(aiter_c.cp_local_len) == "(length, world_size, rank, interleave=1)"
    assert plain(aiter_c.cp_local_to_global) == "(index, world_size, rank, interleave=1)"


@pytest.mark.smoke
@pytest.mark.parametrize(("world_size", "interleave"), LAYOUTS)
def test_who_has_which_key(world_size: int, interleave: int) -> None:
    """As ints, and as tensors of NumPy: every key has one place, and every length is dealt out."""
    count = 3 * world_size * interleave + 5
    ranks = deal(count, world_size, interleave)
    owner = {position: rank for rank, positions in enumerate(ranks) for position in positions}
    everything = np.arange(count)
    owners = np.array([owner[p] for p in range(count)])
    assert [aiter_c.cp_owner(p, world_size, interleave) for p in range(count)] == owners.tolist()
    assert np.array_equal(aiter_c.cp_owner(everything, world_size, interleave), owners)
    lengths = np.arange(count + 1)
    for rank, positions in enumerate(ranks):
        layout = world_size, rank, interleave
        index = np.arange(len(positions))
        assert [aiter_c.cp_local_to_global(i, *layout) for i in index.tolist()] == positions
        assert np.array_equal(aiter_c.cp_local_to_global(index, *layout), positions)
        held = np.searchsorted(positions, lengths)
        assert [aiter_c.cp_local_len(n, *layout) for n in lengths.tolist()] == held.tolist()
        assert np.array_equal(aiter_c.cp_local_len(lengths, *layout), held)


def test_they_are_what_the_kernels_compute() -> None:
    """csrc/ops/attention/work.h, up to the largest counts that it takes."""
    draw = random.Random(20)
    for _ in range(4000):
        world_size, interleave = draw.randint(1, 300), draw.choice((1, 2, 16, 64, draw.randint(1, 5000)))
        rank = draw.randrange(world_size)
        count = draw.choice((draw.randint(0, 3 * world_size * interleave), draw.randint(0, 2**31 - 1)))
        held = aiter_c.cp_local_len(count, world_size, rank, interleave)
        assert held == shim().shim_shard_count(world_size, rank, interleave, count), (world_size, rank, interleave)
        for key in {0, held // 2, max(held - 1, 0)}:
            position = aiter_c.cp_local_to_global(key, world_size, rank, interleave)
            assert position == shim().shim_shard_key(world_size, rank, interleave, key)
            assert aiter_c.cp_owner(position, world_size, interleave) == rank
            assert (position < count) == (key < held)


DTYPES = ("int32", "int64", "uint32", "uint64", "int16", "uint16")


@pytest.mark.parametrize("dtype", DTYPES)
def test_tensors_keep_their_dtype(dtype: str) -> None:
    """Also one without a sign, in which no difference may fall below 0; of any shape, strided, scalars of NumPy."""
    values = np.arange(24, dtype=dtype).reshape(2, 3, 4)[:, ::2]
    for call in (
        lambda x: aiter_c.cp_owner(x, 3, 4),
        lambda x: aiter_c.cp_local_len(x, 3, 1, 4),
        lambda x: aiter_c.cp_local_to_global(x, 3, 1, 4),
    ):
        got = call(values)
        assert got.dtype == values.dtype and got.shape == values.shape
        assert got.tolist() == [[[call(int(x)) for x in row] for row in part] for part in values]
        for value in values.ravel():
            one = call(value)
            assert one.dtype == values.dtype and int(one) == call(int(value))
    assert type(aiter_c.cp_owner(True, 2)) is int  # an int by __index__


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["int32", "int64", "int16"])
def test_torch_tensors(dtype: str) -> None:
    import torch

    values = torch.arange(60, dtype=getattr(torch, dtype))
    for call in (
        lambda x: aiter_c.cp_owner(x, 5, 3),
        lambda x: aiter_c.cp_local_len(x, 5, 2, 3),
        lambda x: aiter_c.cp_local_to_global(x, 5, 2, 3),
    ):
        got = call(values)
        assert got.dtype == values.dtype and got.tolist() == [call(x) for x in range(60)]


REFUSED = [
    (lambda: aiter_c.cp_owner(-1, 2), ValueError, "cp_owner: position: expected 0 or more, got -1"),
    (lambda: aiter_c.cp_local_len(-1, 2, 0), ValueError, "cp_local_len: length: expected 0 or more, got -1"),
    (lambda: aiter_c.cp_local_to_global(-7, 2, 0), ValueError, "cp_local_to_global: index: expected 0 or more, got -7"),
    (lambda: aiter_c.cp_owner(1.0, 2), TypeError,
     "cp_owner: position: expected int or a tensor of integers, got float"),
    (lambda: aiter_c.cp_local_len([1], 2, 0), TypeError,
     "cp_local_len: length: expected int or a tensor of integers, got list"),
    (lambda: aiter_c.cp_local_to_global(np.zeros(2), 2, 0), TypeError,
     "cp_local_to_global: index: expected int or a tensor of integers, got dtype float64"),
    (lambda: aiter_c.cp_owner(np.zeros(2, bool), 2), TypeError,
     "cp_owner: position: expected int or a tensor of integers, got dtype bool"),
    (lambda: aiter_c.cp_owner(np.zeros(2, np.int16), 512, 64), ValueError,
     "cp_owner: position: expected a dtype that holds world_size * interleave=32768, got int16"),
    (lambda: aiter_c.cp_local_len(np.uint32(3), 2**16, 0, 2**16), ValueError,
     "cp_local_len: length: expected a dtype that holds world_size * interleave=4294967296, got uint32"),
    (lambda: aiter_c.cp_owner(1, 0), ValueError, "cp_owner: world_size: expected 1 or more, got 0"),
    (lambda: aiter_c.cp_local_len(1, -1, 0), ValueError, "cp_local_len: world_size: expected 1 or more, got -1"),
    (lambda: aiter_c.cp_owner(1, 2, 0), ValueError, "cp_owner: interleave: expected 1 or more, got 0"),
    (lambda: aiter_c.cp_owner(1, 2.0), TypeError, "cp_owner: world_size: expected int, got float"),
    (lambda: aiter_c.cp_owner(1, 2, None), TypeError, "cp_owner: interleave: expected int, got NoneType"),
    (lambda: aiter_c.cp_local_len(1, 2, 2), ValueError, "cp_local_len: rank: expected 0 to 1, got 2"),
    (lambda: aiter_c.cp_local_to_global(1, 2, -1), ValueError, "cp_local_to_global: rank: expected 0 to 1, got -1"),
    (lambda: aiter_c.cp_local_len(1, 2, "0"), TypeError, "cp_local_len: rank: expected int, got str"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "text"), REFUSED, ids=[str(i) for i in range(len(REFUSED))])
def test_refusals(call: Callable, error: type, text: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == text and type(caught.value) is error


def _attend(q: np.ndarray, keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """o [H, D] and LSE [H] of one query over keys [L, K], values [L, D], in fp64; 0 and -inf over none."""
    if len(keys) == 0:
        return np.zeros((len(q), values.shape[1])), np.full(len(q), -np.inf)
    scores = q @ keys.T
    top = scores.max(1, keepdims=True)
    weights = np.exp(scores - top)
    total = weights.sum(1, keepdims=True)
    return weights @ values / total, (top + np.log(total))[:, 0]


@pytest.mark.parametrize("heads", [1, 4, 12, 16, 128])
@pytest.mark.parametrize("interleave", INTERLEAVES)
@pytest.mark.parametrize("world_size", range(1, 9))
def test_merged_ranks_are_one_device(world_size: int, interleave: int, heads: int, device: Device) -> None:
    """Each rank attends over its own keys in fp64; the states, rounded to fp32, merged. Rows of 0 keys, of fewer keys
    than ranks, of whole rounds and of one key more or less; causal, by the position in the request."""
    rng = np.random.default_rng([world_size, interleave, heads])
    dim, width = 40, 8
    whole = world_size * interleave
    lengths = [0, 1, world_size, whole - 1, whole, whole + 1, 2 * whole + interleave // 2 + 1]
    q = rng.standard_normal((len(lengths), heads, width))
    keys, values = rng.standard_normal((max(lengths), width)), rng.standard_normal((max(lengths), dim))
    states = np.zeros((world_size, len(lengths), heads, dim)), np.zeros((world_size, len(lengths), heads))
    one = np.zeros((len(lengths), heads, dim)), np.zeros((len(lengths), heads))
    for row, length in enumerate(lengths):
        one[0][row], one[1][row] = _attend(q[row], keys[:length], values[:length])
        for rank in range(world_size):
            held = np.arange(aiter_c.cp_local_len(length, world_size, rank, interleave))
            own = aiter_c.cp_local_to_global(held, world_size, rank, interleave)
            states[0][rank, row], states[1][rank, row] = _attend(q[row], keys[own], values[own])
    o, lse = (state.astype(np.float32) for state in states)
    o[np.isneginf(lse)] = np.nan  # what a rank without keys leaves there does not matter
    out, lse_out = device.call("merge_states", o, lse)
    allowance = merge_states_reference(np.nan_to_num(o), lse).bound + 2.0**-23 * np.abs(values).max()
    check_close("out", out, one[0], Tolerance(2.0**-40, 2.0**-23), "", allowance=allowance)
    # The states' LSEs were rounded to fp32 themselves.
    check_close("lse", lse_out, one[1], LSE_ROUNDING, "", allowance=2.0**-22)
    # Every rank merges the same states in the same order, however it has them.
    again, lse_again = device.call("merge_states", list(o), list(lse))
    check_bits("out", np.array(again), np.array(out), "")
    check_bits("lse", np.array(lse_again), np.array(lse_out), "")
