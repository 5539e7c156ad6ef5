"""All ranks of a group in one process: the exchanges of aiter_c.distributed in lock step, the collectives by hand;
and requests whose keys were dealt to ranks, with the attention of one device in fp64."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

import aiter_c
from aiter_c.distributed import _EXCHANGES, _Exchange

Pair = tuple[torch.Tensor, torch.Tensor]


def exchanges(driver: str, keep: str, world_size: int, max_rows: int, o: torch.Tensor) -> list[_Exchange]:
    """Of all ranks, for states as o [W, T, H, D]."""
    sizes = max_rows, *o.shape[2:], o.dtype, o.device, keep
    return [_EXCHANGES[driver](rank, world_size, *sizes) for rank in range(world_size)]


def poison(exchange: _Exchange) -> None:
    """What an earlier call may have left: every byte 0xFF, which is NaN."""
    for name, buffer in vars(exchange).items():
        if isinstance(buffer, torch.Tensor) and name != "_is_own":
            buffer.view(torch.uint8).fill_(1 if buffer.dtype == torch.bool else 255)


def framed(
    count: int, shape: Sequence[int], dtype: torch.dtype, device: torch.device
) -> tuple[list[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """`count` tensors of NaN, and what lies before and behind them, NaN as well."""
    size = math.prod(shape)
    whole = torch.full((count, size + 64), torch.nan, dtype=dtype, device=device)
    return [row[32 : 32 + size].view(*shape) for row in whole], (whole[:, :32], whole[:, 32 + size :])


def collective(name: str, received: list[torch.Tensor], sent: list[torch.Tensor], draw: random.Random) -> None:
    """What the group does. The order of a sum is drawn, for every part anew."""
    world_size = len(sent)
    if name == "all_gather":
        for one in received:
            one.copy_(torch.cat(sent))
    elif name == "all_to_all":
        for rank, one in enumerate(received):
            one.copy_(torch.cat([other.view(world_size, -1)[rank] for other in sent]))
    else:
        assert name in ("reduce_scatter", "all_reduce"), name
        parts = [other.clone().view(-1, len(received[0])) for other in sent]
        for rank, one in enumerate(received):
            terms = [part[rank if name == "reduce_scatter" else 0] for part in parts]
            while len(terms) > 1:  # any tree
                draw.shuffle(terms)
                terms.append(terms.pop() + terms.pop())
            one.copy_(terms[0])


def play(
    ranks: list[_Exchange], o: torch.Tensor, lse: torch.Tensor, draw: random.Random,
    out_dtype: torch.dtype | None = None,
) -> list[Pair]:  # fmt: skip
    """(out, lse_out) of every rank, from states o [W, T, H, D] and lse [W, T, H]. Nothing beside the outputs is
    written, and the states stay."""
    before = o.clone(), lse.clone()
    kept = o.shape[1], ranks[0].kept
    outs, beside_outs = framed(len(ranks), (*kept, o.shape[3]), out_dtype or o.dtype, o.device)
    lses, beside_lses = framed(len(ranks), kept, torch.float32, o.device)
    for rank in ranks:
        poison(rank)
    steps = [rank.steps(o[n], lse[n], outs[n], lses[n]) for n, rank in enumerate(ranks)]
    for calls in zip(*steps, strict=True):
        names, received, sent = zip(*calls, strict=True)
        assert len(set(names)) == 1, names
        collective(names[0], received, sent, draw)
    assert all(margin.isnan().all() for margin in (*beside_outs, *beside_lses)), "written beside an output"
    assert same(o, before[0]) and same(lse, before[1]), "a state was written"
    return list(zip(outs, lses, strict=True))


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """To the bit, but for the payload of a NaN."""
    return torch.equal(one.nan_to_num(7.0), other.nan_to_num(7.0)) and torch.equal(one.isnan(), other.isnan())


def joined(results: list[Pair], keep: str) -> Pair:
    """All heads: what the ranks keep together, or what each of them has, to the same bits."""
    if keep == "own":
        return torch.cat([out for out, _ in results], 1), torch.cat([lse for _, lse in results], 1)
    for out, lse in results[1:]:
        assert same(out, results[0][0]) and same(lse, results[0][1]), "ranks differ"
    return results[0]


@dataclass
class Dealt:
    """Requests whose keys were dealt to ranks. o [W, T, H, D], lse [W, T, H]: the ranks' states, rounded; dense,
    dense_lse: fp64, of all keys on one device; rounded [T, H, D]: what rounding the states may move dense by; scale
    [T, H, 1]: sum_n weight_n * max |o_n|."""

    o: torch.Tensor
    lse: torch.Tensor
    dense: np.ndarray
    dense_lse: np.ndarray
    rounded: np.ndarray
    scale: np.ndarray
    text: str


#: Half a unit in the last place of 1, and half the smallest number.
EPSILON = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11, torch.float32: 2.0**-24}
TINY = {torch.bfloat16: 0.0, torch.float16: 2.0**-25, torch.float32: 0.0}


def _attend(scores: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """o [q, H, D] and lse [q, H] of scores [q, H, K], -inf where masked, over values [K, D]."""
    top = scores.max(2, initial=-np.inf)
    weights = np.exp(scores - np.where(np.isneginf(top), 0.0, top)[..., None])
    total = weights.sum(2)
    with np.errstate(divide="ignore"):
        lse = np.where(total > 0, top + np.log(total), -np.inf)
    return weights @ values / np.where(total > 0, total, 1.0)[..., None], lse


def deal(draw: random.Random, world_size: int, heads: int) -> Dealt:
    """Up to three requests of 1 to 4 query rows, causal by the place in the whole request."""
    interleave, dim = draw.choice((1, 2, 16, 64)), draw.choice((1, 3, 8, 20))
    dtype = draw.choice(tuple(EPSILON))
    whole = world_size * interleave
    edges = (0, 1, world_size - 1, world_size, world_size + 1, whole - 1, whole, whole + 1, draw.randint(0, 80))
    requests = [(draw.randint(1, 4), draw.choice(edges)) for _ in range(draw.randint(1, 3))]
    rng = np.random.default_rng(draw.getrandbits(32))
    parts, dense = [], []
    for q_len, kv_len in requests:
        scores = 2 * rng.standard_normal((q_len, heads, kv_len))
        place = np.arange(kv_len)
        scores[np.broadcast_to((place > kv_len - q_len + np.arange(q_len)[:, None])[:, None], scores.shape)] = -np.inf
        values = rng.standard_normal((kv_len, dim))
        dense.append(_attend(scores, values))
        owner = aiter_c.cp_owner(place, world_size, interleave)
        parts.append([_attend(scores[:, :, owner == rank], values[owner == rank]) for rank in range(world_size)])
    exact = np.stack([np.concatenate([request[rank][0] for request in parts]) for rank in range(world_size)])
    lses = np.stack([np.concatenate([request[rank][1] for request in parts]) for rank in range(world_size)])
    dense_o, dense_lse = (np.concatenate(one) for one in zip(*dense, strict=True))
    weights = np.exp(lses - np.where(np.isneginf(dense_lse), 0.0, dense_lse))[..., None]
    magnitude = weights * np.abs(exact)
    o, lse = torch.from_numpy(exact).to(dtype), torch.from_numpy(lses).float()
    nothing = lse.isneginf()
    o[nothing] = torch.nan  # what a rank without keys leaves there does not matter
    lse[nothing & torch.from_numpy(rng.random(lses.shape) < 0.2)] = draw.choice((torch.nan, torch.inf))
    text = f"{world_size} ranks, interleave {interleave}, {heads} heads of {dim} {dtype}, (q, kv) lengths {requests}"
    rounded = magnitude.sum(0) * 1.01 * EPSILON[dtype] + TINY[dtype]
    scale = (weights * np.abs(exact).max(3, keepdims=True)).sum(0)
    return Dealt(o, lse, dense_o, dense_lse, rounded, scale, text)


def check(dealt: Dealt, driver: str, out: torch.Tensor, lse: torch.Tensor) -> None:
    """Against one device in fp64, every element; a row without keys to the bit."""
    empty = np.isneginf(dealt.dense_lse)
    assert np.array_equal(lse.isneginf().numpy(), empty), dealt.text
    assert (out.numpy(force=True) if out.dtype != torch.bfloat16 else out.float().numpy())[empty].sum() == 0, dealt.text
    assert not out[torch.from_numpy(empty)].signbit().any(), dealt.text
    got = out.double().numpy()
    # fp32 arithmetic of the merge, then the grid of the exact sums: half of 2^-23 of scale for every rank.
    arithmetic = 2.0**-20 + (len(dealt.o) * 2.0**-24 if driver == "ag_rs" else 0.0)
    allowed = dealt.rounded + arithmetic * dealt.scale
    allowed = allowed + 1.01 * EPSILON[out.dtype] * (np.abs(dealt.dense) + allowed) + TINY[out.dtype]
    wrong = ~(np.abs(got - dealt.dense) <= allowed)
    assert not wrong.any(), f"{driver}: {wrong.sum()} of {wrong.size} elements of out are wrong; {dealt.text}"
    distance = np.abs(lse.double().numpy()[~empty] - dealt.dense_lse[~empty])
    assert (distance <= 1e-6 + 2.0**-21 * np.abs(dealt.dense_lse[~empty])).all(), f"{driver}: lse; {dealt.text}"
