"""Context parallelism from end to end: every rank attends over the keys that it was dealt, merge_states joins the
ranks, and the result is that of one device which has all keys, in fp64."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from mla_decode.lists_model import LISTS

import aiter_c
from aiter_c.testing import (
    LSE,
    OUTPUT,
    Device,
    MlaCase,
    MlaInputs,
    build_inputs,
    check_bits,
    check_close,
    poisoned_scratch,
)
from aiter_c.testing.ops.attention import Shard
from aiter_c.testing.ops.mla_decode import p_dtype_of

NONE = np.zeros(0, np.int32)


@dataclass
class Rank:
    """The tensors of one rank's calls over the keys of `inputs` that it was dealt; o and the LSE are those of all."""

    inputs: MlaInputs
    world: int
    rank: int
    interleave: int
    padding: int = 0  # requests behind those of the case: local length q_len, global q_len * world

    def __post_init__(self) -> None:
        case, a = self.inputs.case, self.inputs.arguments()
        shard, longest = Shard(self.world, self.rank, self.interleave), case.served_q_len
        held = [kv.slots[shard.places(len(kv.slots))] for kv in self.inputs.kv_lists]
        held += [np.full(longest, a["kv_indices"][0])] * self.padding
        q_lens = [*case.q_lens, *[longest] * self.padding]
        q = np.concatenate([a["q"], np.full((longest * self.padding, *a["q"].shape[1:]), np.nan, a["q"].dtype)])
        ends = lambda lens: np.cumsum([0, *lens]).astype(np.int32)  # noqa: E731
        self.arguments = {
            **{"q": q, "kv_buffer": a["kv_buffer"], "max_seqlen_q": longest, "causal": case.causal},
            **{"qo_indptr": ends(q_lens), "kv_indptr": ends(map(len, held))},
            **{"kv_indices": np.concatenate([NONE, *held]).astype(np.int32), "return_lse": True},
            **{"kv_last_page_lens": None, "cp_world_size": self.world, "cp_rank": self.rank},
            "g_kv_indptr": ends([*case.kv_lens, *[longest * self.world] * self.padding]),
            "cp_interleave": self.interleave,
        }

    def plan(self, device: Device, workers: int) -> dict[str, np.ndarray]:
        """The lists, made on the device: over the rank's own lengths, never causal."""
        a, heads = self.arguments, self.inputs.case.heads
        info = aiter_c.get_mla_metadata_info_v1(
            len(a["qo_indptr"]) - 1, a["max_seqlen_q"], heads, "bfloat16", "bfloat16", False, num_workers=workers,
            device=device.place,
        )  # fmt: skip
        dtypes = ("uint64", *["int32"] * 5)
        lists = {n: np.full(size, 0x7BADBADB, dtype) for n, (size, _), dtype in zip(LISTS, info, dtypes, strict=True)}
        pointers, indptr, items, *reduce = lists.values()
        device.call(
            "get_mla_metadata_v1", a["qo_indptr"], a["kv_indptr"], None, heads, 1, False, pointers, items, indptr,
            *reduce, page_size=1, kv_granularity=1, max_seqlen_qo=a["max_seqlen_q"], is_cp_round_robin=True,
        )  # fmt: skip
        return lists

    def call(self, device: Device, workers: int, splits: int) -> tuple[np.ndarray, np.ndarray]:
        """o and the LSE of the case's rows; by lists of so many workers, or with splits where that is 0."""
        a = self.arguments
        o = np.full((*a["q"].shape[:2], 512), np.nan, self.inputs.array("o").dtype)
        more = self.plan(device, workers) if workers else {"num_kv_splits": splits}
        with poisoned_scratch() as scratch:
            _, lse = device.call("mla_decode_fwd", **a | {"o": o} | more)
        scratch.check_margins(self.inputs.case.repro)
        rows = self.inputs.case.num_rows
        assert not np.isnan(o[:rows].astype(np.float32)).any() and not np.isnan(lse[:rows]).any()
        return o[:rows], lse[:rows]


def _check(inputs: MlaInputs, states: list, device: Device, what: str) -> None:
    """The ranks' states, merged on the device, against all keys on one device in fp64. A rank's o is rounded to
    bfloat16 before it is merged: half a unit of each, weighed as the merge does."""
    os, lses = zip(*states, strict=True)
    for o, lse in states:  # what a rank leaves where it has nothing to say
        assert (o[np.isneginf(lse)] == 0).all(), what
    o, lse = device.call("merge_states", list(os), list(lses))
    want = inputs.reference(p_dtype=p_dtype_of(inputs.case, device))
    check_close(f"{what}: lse", lse, want.lse, LSE, inputs.case.repro, allowance=2 * want.lse_rounding)
    base = np.where(np.isneginf(want.lse), 0.0, want.lse)
    rounded = sum(np.exp(one - base)[..., None] * np.abs(part.astype(np.float64)) for part, one in states)
    allowance = 2.0**-9 * rounded + (want.rounding if want.rounding.ndim else 0.0)
    check_close(f"{what}: o", o, want.o, OUTPUT, inputs.case.repro, allowance=allowance)
    assert (o[np.isneginf(want.lse)] == 0).all(), what


def _states(inputs: MlaInputs, world: int, interleave: int, device: Device, **how: int) -> list:
    padding = how.pop("padding", 0)
    return [Rank(inputs, world, rank, interleave, padding).call(device, **how) for rank in range(world)]


#: (query rows, keys): shorter than the number of ranks, than the query rows, than an interleave; and empty.
SHAPES = (((1, 1, 1), (131, 3, 0)), ((2, 1, 2), (70, 1, 9)), ((3, 3), (200, 2)), ((4, 2, 4), (129, 64, 5)))
HEADS = (1, 4, 12, 16, 96)


def _cells() -> list[tuple]:
    """Every number of ranks with every interleave, in both modes; shapes and heads in turn, so that each meets each."""
    cells = list(product(range(1, 9), (1, 16, 64), (0, 5)))
    return [(w, i, n, SHAPES[k // 2 % 4], HEADS[k % 5], k % 11 != 10) for k, (w, i, n) in enumerate(cells)]


@pytest.mark.parametrize("world", range(1, 9))
def test_ranks_give_what_one_device_gives(world: int, device: Device) -> None:
    for number, (ranks, interleave, workers, (q_lens, kv_lens), heads, causal) in enumerate(_cells()):
        elsewhere = device.simulated and number // 2 % 2 != (device.name == "gfx950")
        if ranks != world or elsewhere:  # a half of the cells on each simulated architecture
            continue
        inputs = build_inputs(MlaCase(heads=heads, q_lens=q_lens, kv_lens=kv_lens, causal=causal, seed=number))
        states = _states(inputs, world, interleave, device, workers=workers, splits=1 + number % 3)
        mode = f"{workers} workers" if workers else "a grid"
        _check(inputs, states, device, f"{world} ranks, interleave {interleave}, {mode}")


def test_the_cells_have_every_pair() -> None:
    cells = _cells()
    assert {(c[2], c[4]) for c in cells} == set(product((0, 5), HEADS))
    assert {(c[2], max(c[3][0])) for c in cells} == set(product((0, 5), (1, 2, 3, 4)))
    assert {(c[0], c[1], c[2]) for c in cells} == set(product(range(1, 9), (1, 16, 64), (0, 5)))


@pytest.mark.parametrize("workers", [0, 5])
def test_padding_requests_of_a_graph(workers: int, device: Device) -> None:
    """vLLM's: local length as many keys as query rows, global length that times the ranks, queries of anything. The
    other rows' bits are those of the batch without them, and nothing is left unwritten."""
    inputs = build_inputs(MlaCase(heads=12, q_lens=(3, 3), kv_lens=(50, 2)))
    for rank in range(4):
        padded = Rank(inputs, 4, rank, 1, padding=3)
        o, lse = padded.call(device, workers, 1)
        if workers:
            continue  # another batch is another plan
        plain_o, plain_lse = Rank(inputs, 4, rank, 1).call(device, workers, 1)
        check_bits("o", o, plain_o, inputs.case.repro)
        check_bits("lse", lse, plain_lse, inputs.case.repro)
    _check(inputs, _states(inputs, 4, 1, device, workers=workers, splits=1, padding=3), device, "padded")


@pytest.mark.parametrize("workers", [0, 3])
def test_a_rank_without_any_key(workers: int, device: Device) -> None:
    """No key at all: o = 0 and lse = -inf for every row, and the merge is the other rank's state, bit for bit."""
    inputs = build_inputs(MlaCase(heads=4, q_lens=(2, 1), kv_lens=(9, 16)))
    o, lse = Rank(inputs, 2, 1, 16).call(device, workers, 1)
    assert (o == 0).all() and np.isneginf(lse).all()
    full = Rank(inputs, 2, 0, 16).call(device, workers, 1)
    merged, merged_lse = device.call("merge_states", [full[0], o], [full[1], lse])
    check_bits("o", merged, full[0], inputs.case.repro)
    check_bits("lse", merged_lse, full[1], inputs.case.repro)


def test_a_wrong_rank_shows(device: Device) -> None:
    """The tests above can fail: rank 1's keys under the number of rank 0."""
    inputs = build_inputs(MlaCase(heads=4, q_lens=(3,), kv_lens=(40,)))
    states = [Rank(inputs, 2, rank, 1) for rank in range(2)]
    states[1].arguments["cp_rank"] = 0
    with pytest.raises(AssertionError, match="elements outside"):
        _check(inputs, [state.call(device, 0, 1) for state in states], device, "planted")
