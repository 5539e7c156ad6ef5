"""Groups of 1 to 8 ranks in one process: requests dealt to them, merged by each driver, against one device in fp64;
the bits, which depend on the states and their order alone; and what the states may be."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Iterator
from itertools import product

import pytest

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed", allow_module_level=True)

import numpy as np
import torch
from cp_merge.ranks import check, deal, exchanges, joined, play, same

import aiter_c
from aiter_c.distributed import DRIVERS, KEEP
from aiter_c.testing import MlaCase, build_inputs

pytestmark = pytest.mark.torch

#: Batches dealt per number of ranks; each is merged by both drivers, by ranks that keep their own heads, some also all.
DEALS = 320


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Of torch: the tensors are small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def stacked(o: torch.Tensor, lse: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """merge_states of all ranks' states on one device."""
    return aiter_c.merge_states(o, lse)


@pytest.mark.slow
@pytest.mark.parametrize("world_size", range(1, 9))
def test_merged_ranks_are_one_device(world_size: int) -> None:
    draw = random.Random(world_size)
    for number in range(DEALS):
        dealt = deal(draw, world_size, world_size * draw.choice((1, 1, 2, 3)))
        want = stacked(dealt.o, dealt.lse)
        for driver in DRIVERS:
            results = []
            for keep in KEEP[: 1 + (number % 3 == 0)]:
                ranks = exchanges(driver, keep, world_size, len(dealt.dense) + number % 2, dealt.o)
                results.append(joined(play(ranks, dealt.o, dealt.lse, draw), keep))
                out, lse = results[-1]
                assert same(out, results[0][0]) and same(lse, results[0][1]), f"{driver}, {keep}; {dealt.text}"
            check(dealt, driver, out, lse)
            assert same(lse, want[1]) and (driver == "ag_rs" or same(out, want[0])), f"{driver}; {dealt.text}"


def test_there_are_enough_cases() -> None:
    assert DEALS * 8 * len(DRIVERS) >= 5000


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_heads_that_do_not_divide(world_size: int) -> None:
    """Every rank keeps all."""
    draw = random.Random(world_size)
    for driver in DRIVERS:
        dealt = deal(draw, world_size, 7)
        ranks = exchanges(driver, "all", world_size, 12, dealt.o)
        check(dealt, driver, *joined(play(ranks, dealt.o, dealt.lse, draw), "all"))


def drawn_states(seed: int, shape: tuple[int, ...] = (6, 9, 12, 24), spread: float = 3.0) -> tuple:
    generator = torch.Generator().manual_seed(seed)
    o = torch.randn(shape, generator=generator)
    return o, spread * torch.randn(shape[:3], generator=generator)


@pytest.mark.parametrize("driver", DRIVERS)
def test_bits_are_of_a_row_alone(driver: str) -> None:
    """Not of what runs beside it, of where it stands, of strides, or of the order in which a group adds."""
    o, lse = drawn_states(1)
    draw = random.Random(2)
    ranks = exchanges(driver, "own", 6, 9, o)
    out, merged = joined(play(ranks, o, lse, draw), "own")
    for again in range(20):
        other = joined(play(ranks, o, lse, random.Random(again)), "own")
        assert same(other[0], out) and same(other[1], merged)
    for row in range(9):
        alone = joined(play(ranks, o[:, row : row + 1], lse[:, row : row + 1], draw), "own")
        assert same(alone[0], out[row : row + 1]) and same(alone[1], merged[row : row + 1])
    strided = o.permute(2, 3, 1, 0).contiguous().permute(3, 2, 0, 1), lse.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    assert not strided[0][0].is_contiguous() and strided[0].shape == o.shape and strided[1].shape == lse.shape
    other = joined(play(ranks, *strided, draw), "own")
    assert same(other[0], out) and same(other[1], merged)


def test_a_sum_in_any_order_is_exact() -> None:
    """Weighted terms of one sign and nearly one size: where sums of fp32 that are not exact differ most."""
    draw = random.Random(3)
    for number in range(40):
        o, lse = drawn_states(number, (8, 3, 8, 40), spread=(0.0, 0.1, 5.0)[number % 3])
        o = o.abs() * 2.0 ** draw.randint(-90, 90)
        ranks = exchanges("ag_rs", "own", 8, 3, o)
        first, second = (joined(play(ranks, o, lse, draw), "own") for _ in range(2))
        assert same(first[0], second[0])
        scale = o.double().abs().amax((0, 3), keepdim=True)[0]
        want = (torch.softmax(lse.double(), 0).unsqueeze(-1) * o.double()).sum(0)
        assert ((first[0].double() - want).abs() <= 2.0**-19 * scale).all()


@pytest.mark.parametrize("driver", DRIVERS)
def test_levels_of_the_lse(driver: str) -> None:
    """Exponentials that leave fp32 in both directions, states far apart, and one that is all there is."""
    for level, spread in ((300.0, 1.0), (-300.0, 1.0), (0.0, 60.0), (1e6, 1.0), (-1e30, 0.0)):
        o, lse = drawn_states(4, spread=spread)
        lse += level
        want = stacked(o, lse)
        out, merged = joined(play(exchanges(driver, "own", 6, 9, o), o, lse, random.Random(5)), "own")
        assert same(merged, want[1])
        assert ((out - want[0]).abs() <= 2.0**-19 * o.abs().amax((0, 3)).unsqueeze(-1)).all(), (level, spread)


@pytest.mark.parametrize("nothing", [-torch.inf, torch.inf, torch.nan])
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_rank_that_has_nothing_is_not_looked_at(driver: str, nothing: float) -> None:
    """The bits are those without its numbers; no rank has anything: 0 and -inf."""
    o, lse = drawn_states(6)
    for gone in ((0,), (5,), (1, 3, 4), (0, 1, 2, 3, 4), tuple(range(6))):
        lse_gone, o_gone = lse.clone(), o.clone()
        lse_gone[list(gone)] = nothing
        o_gone[list(gone)] = 0.0
        ranks = exchanges(driver, "own", 6, 9, o)
        calm = joined(play(ranks, o_gone, lse_gone, random.Random(7)), "own")
        for garbage in (torch.nan, torch.inf, 3e38):
            o_gone[list(gone)] = garbage
            got = joined(play(ranks, o_gone, lse_gone, random.Random(8)), "own")
            assert same(got[0], calm[0]) and same(got[1], calm[1]), gone
        if len(gone) == 6:
            assert (calm[0] == 0).all() and not calm[0].signbit().any() and calm[1].isneginf().all()
        else:
            assert calm[0].isfinite().all() and calm[1].isfinite().all()


@pytest.mark.parametrize("driver", DRIVERS)
def test_values_that_are_no_numbers_reach_their_own_place_alone(driver: str) -> None:
    """NaN and infinities in o where the LSE is finite: what the formula gives, and all others' bits as without them."""
    o, lse = drawn_states(9)
    draw = random.Random(10)
    ranks = exchanges(driver, "own", 6, 9, o)
    o[2, 1, 3, 4] = o[0, 1, 3, 5] = o[4, 8, 11, 23] = 0.0
    calm, _ = joined(play(ranks, o, lse, draw), "own")
    o[2, 1, 3, 4], o[0, 1, 3, 5], o[4, 8, 11, 23] = torch.nan, torch.inf, -torch.inf
    out, _ = joined(play(ranks, o, lse, draw), "own")
    assert out[1, 3, 4].isnan() and out[1, 3, 5] == torch.inf and out[8, 11, 23] == -torch.inf
    o[3, 1, 3, 5] = -torch.inf
    out, _ = joined(play(ranks, o, lse, draw), "own")
    assert out[1, 3, 5].isnan()
    for place in ((1, 3, 4), (1, 3, 5), (8, 11, 23)):
        out[place] = calm[place] = 0.0
    assert same(out, calm)


@pytest.mark.parametrize("driver", DRIVERS)
def test_rows_of_zeros_and_of_the_smallest_numbers(driver: str) -> None:
    """A grid has a smallest step."""
    o, lse = drawn_states(15)
    for largest in (0.0, 2.0**-149, 1e-42, 1e-38, 1e-33):
        out, merged = joined(play(exchanges(driver, "own", 6, 9, o), o * largest, lse, random.Random(16)), "own")
        want, want_lse = stacked(o * largest, lse)
        assert same(merged, want_lse) and ((out - want).abs() <= 2.0**-19 * 5 * largest + 6 * 2.0**-124).all(), largest
        assert largest > 0.0 or (out == 0.0).all()


@pytest.mark.parametrize(("driver", "keep"), list(product(DRIVERS, KEEP)))
def test_dtypes_of_the_output(driver: str, keep: str) -> None:
    dtypes = (torch.bfloat16, torch.float16, torch.float32)
    for o_dtype, out_dtype in product(dtypes, dtypes):
        o, lse = drawn_states(11)
        o = o.to(o_dtype)
        exact = joined(play(exchanges(driver, keep, 6, 9, o), o, lse, random.Random(12), torch.float32), keep)
        got = joined(play(exchanges(driver, keep, 6, 9, o), o, lse, random.Random(13), out_dtype), keep)
        assert same(got[0], exact[0].to(out_dtype)) and same(got[1], exact[1])  # rounded once


@pytest.mark.parametrize("driver", DRIVERS)
def test_decode_on_every_rank_and_the_merge(driver: str) -> None:
    """From the op's own states, by torch tensors: what one device gives that has all keys."""
    case = MlaCase(heads=12, q_lens=(2, 1, 1), kv_lens=(131, 3, 0), o_dtype="bfloat16")
    inputs = build_inputs(case)
    a = inputs.arguments()

    def tensor(array: np.ndarray) -> torch.Tensor:
        array = np.ascontiguousarray(array)
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16) if array.dtype.itemsize == 2 else (
            torch.from_numpy(array)
        )  # fmt: skip

    q, cache = tensor(a["q"]), tensor(a["kv_buffer"])
    ends = lambda lens: torch.tensor(np.cumsum([0, *lens]), dtype=torch.int32)  # noqa: E731
    states = []
    for rank in range(4):
        held = [aiter_c.cp_local_len(len(kv.slots), 4, rank, 2) for kv in inputs.kv_lists]
        mine = [
            kv.slots[aiter_c.cp_local_to_global(np.arange(n), 4, rank, 2)]
            for n, kv in zip(held, inputs.kv_lists, strict=True)
        ]
        o = torch.full((4, 12, 512), torch.nan, dtype=torch.bfloat16)
        _, lse = aiter_c.mla_decode_fwd(
            q, cache, o, ends(case.q_lens), ends(held), tensor(np.concatenate(mine).astype(np.int32)), None, 2,
            return_lse=True, g_kv_indptr=ends(case.kv_lens), cp_world_size=4, cp_rank=rank, cp_interleave=2,
        )  # fmt: skip
        states.append((o, lse))
    o, lse = (torch.stack(one) for one in zip(*states, strict=True))
    out, merged = joined(play(exchanges(driver, "own", 4, 4, o), o, lse, random.Random(14)), "own")
    want = inputs.reference()
    some = ~np.isneginf(want.lse)
    assert np.array_equal(merged.isneginf().numpy(), ~some) and (out.float().numpy()[~some] == 0).all()
    assert np.allclose(merged.numpy()[some], want.lse[some], atol=2e-3, rtol=0)
    assert np.allclose(out.float().numpy(), want.o, atol=2e-2, rtol=2e-2)
