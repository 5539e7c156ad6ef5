"""MLA decode in fp64, so that a reader can hold it against the formula (docs/contract.md):

    s[h,r,j] = sm_scale * (q_scale * kv_scale) * <q[r,h,:], kv[t_j,:]>
    allowed(r,j):  causal -> j <= L - nq + r,   else always;   and t_j lies inside the pool
    o[r,h,:]   = kv_scale * sum_j softmax_j(s) * kv[t_j,:512]
    lse[r,h]   = ln(sum_j exp(s[h,r,j]))

and at the corners: a row that sees no key is o = 0, lse = -inf; a key that a row does not see is
not part of its arithmetic, whatever it holds; q rows past max_seqlen_q and rows of no request keep their o and have
lse = -inf. A scale counts for an fp8 operand only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..tolerance import LSE_NEAR_ZERO, P_ROUNDING, dot_product_bound

VALUE = 512


@dataclass(frozen=True)
class Attended:
    """One query row over the keys it sees: o [H, 512], lse [H]; lse_rounding [H]: how far fp32 scores may move an LSE
    near zero, 0 elsewhere; rounding, on demand: ProbabilityRounding's bound [H, 512]."""

    o: np.ndarray
    lse: np.ndarray
    lse_rounding: np.ndarray
    rounding: np.ndarray | float = 0.0


def attend(
    q: np.ndarray, keys: np.ndarray, score_scale: float, value_scale: float, *, p_dtype: str = "float32"
) -> Attended:
    """q [H, D], keys [n, D], all fp64; the value is the first 512 columns of the key."""
    heads = q.shape[0]
    if keys.shape[0] == 0:
        return Attended(np.zeros((heads, VALUE)), np.full(heads, -np.inf), np.zeros(heads))
    with np.errstate(invalid="ignore"):  # NaN and infinite inputs give NaN, as the formula does
        scores = score_scale * (q @ keys.T)  # [H, n]
        top = scores.max(axis=1, keepdims=True)
        weights = np.exp(scores - top)
        total = weights.sum(axis=1, keepdims=True)
        value = value_scale * keys[:, :VALUE]
        o = weights @ value / total
        lse = top[:, 0] + np.log(total[:, 0])
        lse_rounding = np.zeros(heads)
        near = np.abs(lse) < LSE_NEAR_ZERO
        if near.any():
            magnitudes = abs(score_scale) * (np.abs(q[near]) @ np.abs(keys).T)
            lse_rounding[near] = dot_product_bound((weights[near] / total[near] * magnitudes).sum(axis=1))
        if p_dtype == "float32":
            return Attended(o, lse, lse_rounding)
        magnitude = np.abs(value)
        rounding = P_ROUNDING[p_dtype].bound(weights @ magnitude / total, magnitude.sum(axis=0) / total)
    return Attended(o, lse, lse_rounding, rounding)


@dataclass
class Reference:
    """o [T, H, 512], lse [T, H] in fp64; written [T]: whether o of that row belongs to the result; lse_rounding [T, H];
    rounding [T, H, 512] when asked for."""

    o: np.ndarray
    lse: np.ndarray
    written: np.ndarray
    lse_rounding: np.ndarray
    rounding: np.ndarray


@dataclass(frozen=True)
class KvList:
    """The KV list of one request: slots [L], -1 where the position is masked."""

    slots: np.ndarray

    @classmethod
    def gather(cls, pages: np.ndarray, last_page_len: int, page_size: int, num_pages: int) -> KvList:
        """L = (pages - 1) * ps + last; an index outside [0, num_pages) masks all rows of its page."""
        if len(pages) == 0:
            return cls(np.empty(0, np.int64))
        last = min(max(int(last_page_len), 0), page_size)
        length = (len(pages) - 1) * page_size + last
        page = pages.astype(np.int64)[:, None]
        slots = np.where((page >= 0) & (page < num_pages), page * page_size + np.arange(page_size), -1)
        return cls(slots.reshape(-1)[:length])


def last_visible(row: int, q_len: int, kv_len: int, causal: bool) -> int:
    """How many leading positions query row `row` of a request sees."""
    return min(max(kv_len - q_len + row + 1, 0), kv_len) if causal else kv_len


@dataclass(frozen=True)
class Shard:
    """The keys of a request that rank `rank` of `ranks` holds, which get `interleave` keys at a time."""

    ranks: int = 1
    rank: int = 0
    interleave: int = 1

    def places(self, total: int) -> np.ndarray:
        """Where the rank's keys are among the `total` keys of the request."""
        every = np.arange(total)
        return every[every // self.interleave % self.ranks == self.rank]


def mla_decode_reference(
    q: np.ndarray,
    read_rows: Callable[[np.ndarray], np.ndarray],
    q_rows: list[range],
    kv_lists: list[KvList],
    *,
    score_scale: float,
    value_scale: float,
    causal: bool,
    max_seqlen_q: int,
    p_dtype: str = "float32",
    cut: Callable[[int, int], tuple[int, int]] | None = None,
    shard: Shard | None = None,
    totals: tuple[int, ...] = (),
) -> Reference:
    """q [T, H, D] fp64; read_rows(slots [n]) -> [n, D] fp64; q_rows, kv_lists: per request.

    `cut(b, L)` -> (begin, end) restricts request b to a run of its list: the reference of one partial.
    shard: the lists hold one rank's keys of requests of `totals` keys.
    """
    rows, heads = q.shape[:2]
    out = Reference(
        np.zeros((rows, heads, VALUE)),
        np.full((rows, heads), -np.inf),
        np.zeros(rows, bool),
        np.zeros((rows, heads)),
        np.zeros((rows, heads, VALUE) if p_dtype != "float32" else ()),
    )
    for b, (owned, kv) in enumerate(zip(q_rows, kv_lists, strict=True)):
        length = len(kv.slots)
        begin, end = cut(b, length) if cut else (0, length)
        inside = np.flatnonzero(kv.slots >= 0)
        keys = read_rows(kv.slots[inside])
        places = shard.places(totals[b]) if shard else None
        for i, row in enumerate(owned[:max_seqlen_q]):
            visible = last_visible(i, len(owned), totals[b] if shard else length, causal)
            if shard:
                visible = int(np.searchsorted(places, visible))
            low, high = np.searchsorted(inside, (begin, min(end, visible)))
            result = attend(q[row], keys[low : max(low, high)], score_scale, value_scale, p_dtype=p_dtype)
            out.o[row], out.lse[row], out.written[row] = result.o, result.lse, True
            out.lse_rounding[row] = result.lse_rounding
            if p_dtype != "float32":
                out.rounding[row] = result.rounding
    return out
