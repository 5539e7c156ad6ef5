"""Context parallelism over a torch.distributed group: every rank has attended over its own keys; the ranks exchange
their states and merge them. This module alone needs torch; `import aiter_c` does not import it.

    merge = aiter_c.distributed.CpMerge(group, max_rows=64, heads=128, dim=512, dtype=torch.bfloat16, device="cuda")
    _, lse = aiter_c.mla_decode_fwd(q, kv_buffer, o, ..., g_kv_indptr=..., cp_world_size=W, cp_rank=r, return_lse=True)
    out, out_lse = merge(o, lse)  # of this rank's heads, over the keys of all ranks

The communicator is the caller's group: of NCCL, RCCL or gloo, or one that chooses by the tensor's device.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.distributed as dist

from aiter_c import merge_states

__all__ = ["DRIVERS", "KEEP", "CpMerge"]

KEEP = ("own", "all")
_DTYPES = (torch.bfloat16, torch.float16, torch.float32)

# torch 2.13 has new names for these two, and the old ones warn.
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor

# A collective by name, what it receives into, what it sends. An all_reduce is in place: both are one tensor.
_Step = tuple[str, torch.Tensor, torch.Tensor]


class _Exchange:
    """A rank's part but for the group: buffers, and the work before, between and after the collectives."""

    def __init__(
        self, rank: int, world_size: int, max_rows: int, heads: int, dim: int, dtype: torch.dtype,
        device: torch.device, keep: str,
    ) -> None:  # fmt: skip
        self.rank, self.world_size, self.heads, self.dim = rank, world_size, heads, dim
        self.dtype, self.device = dtype, device
        self.parts = world_size if keep == "own" else 1  # what the heads are divided into
        self.kept = heads // self.parts
        self.own = slice(rank * self.kept, (rank + 1) * self.kept) if keep == "own" else slice(heads)
        self._allocate(max_rows)

    def _allocate(self, max_rows: int) -> None:
        raise NotImplementedError

    def steps(self, o: torch.Tensor, lse: torch.Tensor, out: torch.Tensor, lse_out: torch.Tensor) -> Iterator[_Step]:
        """Yields the collectives, which the caller has to do one after the other. o and lse are not read after the last
        of them, out and lse_out not written before."""
        raise NotImplementedError

    def _empty(self, size: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.empty(size, dtype=dtype, device=self.device)

    def _divided(self, tensor: torch.Tensor) -> torch.Tensor:
        """[T, H, ...] as [parts, T, kept, ...]."""
        return tensor.unflatten(1, (self.parts, self.kept)).transpose(0, 1)


class _Packed(_Exchange):
    """One collective of messages, each a state's o and LSE, and merge_states in the order of the ranks."""

    def _allocate(self, max_rows: int) -> None:
        _, message = self._sizes(max_rows)
        self._sent = self._empty(self.parts * message, torch.uint8)
        self._received = self._empty(self.world_size * message, torch.uint8)

    def _sizes(self, rows: int) -> tuple[int, int]:
        """Bytes of a message before its LSE, and in all; multiples of 16, which keep the rows aligned."""
        values = _round_up(rows * self.kept * self.dim * self.dtype.itemsize, 16)
        return values, values + _round_up(rows * self.kept * 4, 16)

    def _messages(self, buffer: torch.Tensor, count: int, rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """`count` messages as bytes, their o [count, T, kept, D] and their LSE [count, T, kept]."""
        values, message = self._sizes(rows)
        pairs = rows * self.kept
        used = buffer[: count * message]
        each = used.view(count, message)
        o = each[:, : pairs * self.dim * self.dtype.itemsize].view(self.dtype)
        lse = each[:, values : values + pairs * 4].view(torch.float32)
        return used, o.unflatten(1, (rows, self.kept, self.dim)), lse.unflatten(1, (rows, self.kept))

    def steps(self, o: torch.Tensor, lse: torch.Tensor, out: torch.Tensor, lse_out: torch.Tensor) -> Iterator[_Step]:
        sent, sent_o, sent_lse = self._messages(self._sent, self.parts, len(o))
        received, states, lses = self._messages(self._received, self.world_size, len(o))
        sent_o.copy_(self._divided(o))
        sent_lse.copy_(self._divided(lse))
        yield "all_to_all" if self.parts > 1 else "all_gather", received, sent
        merge_states(states, lses, out, lse_out)


class _Summed(_Exchange):
    """All ranks tell their LSEs; each weighs its own o; the weighted are summed by the group.

    In which order the group adds is not known, so all sums are exact: of whole numbers. A = sum_n weight_n * max |o_n|
    of a row and head is 2^23 steps of its grid, and each weighted o a number of steps, rounded. Any sum of some of them
    is at most 2^23 + world_size / 2 and a little, which fp32 holds to the bit. A comes from merge_states, as the merge
    of states whose only value is max |o_n|, and so does a rank's weight, as the merge of 1 from it and 0 from others.
    """

    def _allocate(self, max_rows: int) -> None:
        pairs = max_rows * self.heads
        self._told, self._heard = self._empty(2 * pairs), self._empty(2 * pairs * self.world_size)
        self._terms = self._empty(pairs * self.dim)
        self._sums = self._empty(max_rows * self.kept * self.dim) if self.parts > 1 else self._terms
        self._grid, self._weight, self._lse = self._empty(pairs), self._empty(pairs), self._empty(pairs)
        self._nothing = self._empty(pairs, torch.bool)
        self._is_own = torch.zeros(self.world_size, 1, 1, 1, device=self.device)
        self._is_own[self.rank] = 1

    def steps(self, o: torch.Tensor, lse: torch.Tensor, out: torch.Tensor, lse_out: torch.Tensor) -> Iterator[_Step]:
        rows, pairs = len(o), len(o) * self.heads
        told, heard = self._told[: 2 * pairs], self._heard[: 2 * pairs * self.world_size]
        own_lse, own_most = told.view(2, rows, self.heads)
        lses, most = heard.view(self.world_size, 2, rows, self.heads).unbind(1)
        grid, weight, merged = (t[:pairs].view(rows, self.heads) for t in (self._grid, self._weight, self._lse))
        nothing = self._nothing[:pairs].view(rows, self.heads)
        terms = self._terms[: pairs * self.dim]
        term_of = terms.view(self.parts, rows, self.kept, self.dim)
        sums = self._sums[: rows * self.kept * self.dim]

        own_lse.copy_(lse)
        term_of.copy_(self._divided(o)).nan_to_num_(0.0, 0.0, 0.0)  # no measure of the others
        torch.linalg.vector_norm(term_of, math.inf, dim=-1, out=self._divided(own_most))
        torch.ne(torch.sub(own_lse, own_lse, out=weight), 0.0, out=nothing)  # NaN of what is not finite
        yield "all_gather", heard, told
        merge_states(most.unsqueeze(-1), lses, grid.unsqueeze(-1), merged)
        merge_states(self._is_own.expand(-1, rows, self.heads, 1), lses, weight.unsqueeze(-1), own_lse)
        grid.clamp_(min=2.0**-100).mul_(2.0**-23)
        weight.div_(grid)
        torch.mul(self._divided(o), self._divided(weight).unsqueeze(-1), out=term_of)
        term_of.masked_fill_(self._divided(nothing).unsqueeze(-1), 0.0).round_()
        yield "reduce_scatter" if self.parts > 1 else "all_reduce", sums, terms
        torch.mul(sums.view(rows, self.kept, self.dim), grid[:, self.own].unsqueeze(-1), out=out)
        lse_out.copy_(merged[:, self.own])


_EXCHANGES = {"a2a": _Packed, "ag_rs": _Summed}
DRIVERS = tuple(_EXCHANGES)


class CpMerge:
    """Merges the attention states of the ranks of a group into the state over all keys, by one of two drivers.

        merge = CpMerge(group, max_rows, heads, dim, dtype, device)   # collective: every rank of the group, once
        out, out_lse = merge(o, lse)                                  # collective, as often as wanted

    Every rank has o and LSE of the same T query rows and the same heads, each over its own keys.

    group           torch.distributed.ProcessGroup that this process is a rank of; None: the default group.
    max_rows        int, at least 1: the most rows T of a call. Buffers are allocated here, once, for so many.
    heads           int, at least 1: heads H of o. With keep="own" a multiple of the number of ranks W.
    dim             int, at least 1: values D of a row.
    dtype           of o: torch.bfloat16, float16 or float32.
    device          of all tensors. The group needs a backend that serves it.
    driver          "a2a": one collective. o and LSE of what a rank is to keep are one message to it (all-to-all; with
                    keep="all" an all-gather), and `merge_states` merges the messages in the order of the ranks. The
                    bits are those of `merge_states` over the states of all ranks.
                    "ag_rs": two collectives in fp32. The LSEs are gathered, each rank weighs its o by its share, and
                    the weighted are summed (reduce-scatter; with keep="all" an all-reduce). The LSE has the bits of
                    `merge_states`. Each term is rounded to a multiple of 2^-23 * A (or 2^-123), with A the sum of the
                    weighted largest |o| of the row and head: then the sums are exact, and in whatever order the group
                    adds, the bits are the same.
    keep            "own": a rank gets the merged rows of H / W heads, rank r of those from r * H / W on.
                    "all": every rank gets all H heads, to the same bits.
    cp_world_size, cp_rank, cp_interleave   None, or what this rank's decode calls are given: refused where they are not
                    the group's, or where the ranks differ.
    compare         whether every call compares the ranks' numbers of rows first, by a collective more, for which a GPU
                    is waited for: not in a graph. None: on the CPU. Without it a call that one rank makes with another
                    T, or that is refused on one rank, is for the others as if that rank were silent, or worse.

    The constructor exchanges these arguments. Where one rank's are wrong, or the ranks' differ, it raises on every
    rank: TypeError or ValueError where they are wrong and RuntimeError on the other ranks, ValueError on all where they
    differ. So does a call that compares. The group stays as it was.

    Bytes that stay allocated on each rank, with R = max_rows and b = bytes of dtype, about: for "a2a" 2*R*H*(D*b + 4),
    with keep="all" W + 1 in place of 2; for "ag_rs" R*H*(4*D * (1 + 1/W) + 8*W + 21), with keep="all" without the 1/W.
    """

    def __init__(
        self,
        group: dist.ProcessGroup | None,
        max_rows: int,
        heads: int,
        dim: int = 512,
        dtype: torch.dtype = torch.bfloat16,
        device: torch.device | str | int = "cuda",
        *,
        driver: str = "a2a",
        keep: str = "own",
        cp_world_size: int | None = None,
        cp_rank: int | None = None,
        cp_interleave: int | None = None,
        compare: bool | None = None,
    ) -> None:
        rank, world_size = dist.get_rank(group), dist.get_world_size(group)
        if rank < 0:
            raise ValueError("CpMerge: group: expected one that this process is a rank of, got another")
        self._group, self._rank, self._world_size = group, rank, world_size
        self._failed = ""
        device = _with_index(torch.device(device))
        self._device, self._compare = device, device.type == "cpu" if compare is None else bool(compare)
        told: dict[str, Any] = {"max_rows": max_rows, "heads": heads, "dim": dim, "dtype": dtype, "driver": driver}
        told |= {"keep": keep, "cp_world_size": cp_world_size, "cp_rank": cp_rank, "cp_interleave": cp_interleave}
        told["compare"] = self._compare
        names = [name for name in told if name != "cp_rank"]
        try:
            codes = _check(told, rank, world_size)
        except (TypeError, ValueError):
            self._agree(names, None)
            raise
        self._agree(names, codes)
        sizes = operator.index(max_rows), operator.index(heads), operator.index(dim)
        self._max_rows = sizes[0]
        self._exchange: _Exchange = _EXCHANGES[driver](rank, world_size, *sizes, dtype, device, keep)
        self._scatters = driver == "ag_rs" and keep == "own" and self._group_scatters()

    def _agree(self, names: list[str], codes: list[int] | None) -> None:
        """All ranks hear the numbers of all, None where one refuses its own and raises by itself; else raises where one
        refused or they differ."""
        mine = torch.tensor([codes is None, *(codes or [0] * len(names))], dtype=torch.int64, device=self._device)
        everyone = torch.empty(self._world_size * len(mine), dtype=torch.int64, device=self._device)
        self._do([("all_gather", everyone, mine)])
        if codes is None:
            return
        by_rank = everyone.view(self._world_size, -1).tolist()
        for rank, (wrong, *_) in enumerate(by_rank):
            if wrong:
                raise RuntimeError(f"CpMerge: rank {rank} of {self._world_size} refused its arguments (see its error)")
        for column, name in enumerate(names, 1):
            values = [_decoded(name, row[column]) for row in by_rank]
            if len(set(values)) > 1:
                raise ValueError(f"CpMerge: {name}: expected the same on all ranks, got {', '.join(values)}")

    def _group_scatters(self) -> bool:
        """Whether the backend has reduce-scatter; gloo has it since torch 2.8."""
        one, all_ones = (torch.ones(count, device=self._device) for count in (1, self._world_size))
        try:
            _reduce_scatter(one, all_ones, group=self._group)
        except (RuntimeError, NotImplementedError):
            return False
        return True

    @torch.no_grad()
    def __call__(
        self,
        o: torch.Tensor,
        lse: torch.Tensor,
        out: torch.Tensor | None = None,
        lse_out: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The merged state of the rows: (out [T, H'], lse_out), H' = H / W with keep="own", H with keep="all".

        o        [T, H, D], any strides: this rank's state, normalised. T from 0 to max_rows, the same on every rank.
        lse      [T, H] float32, natural log, any strides. -inf, +inf or NaN: the rank has nothing for the row (its
                 share had no keys), and o is not looked at.
        out      [T, H', D] bfloat16, float16 or float32, values dense, else strided; None: a fresh one of o's dtype.
        lse_out  [T, H'] float32, any strides; None: a fresh one.

        out and lse_out are written last: they may be o and lse, or parts of them. A row that no rank has anything for
        is out = 0, lse_out = -inf. No gradient is computed.

        On a GPU the call is asynchronous, on the current stream: no synchronisation, no read of the device, and no
        allocation when out and lse_out are given. After a first call it can be captured in a CUDA graph, which every
        rank has to replay. Calls of one CpMerge share its buffers: they belong on one stream. All ranks make the same
        calls in the same order.

        Raises TypeError and ValueError for arguments, and RuntimeError where another rank refused its own (see
        `compare`); then nothing was sent, and the next call is served. What torch.distributed raises for a rank that
        died, left or keeps silent comes as it is (RuntimeError), with a note, within the timeout of the group. With
        gloo it is raised here; with NCCL the watchdog ends the process (TORCH_NCCL_ASYNC_ERROR_HANDLING), but it does
        not watch the replays of a graph. Afterwards this object refuses every call (RuntimeError), since the ranks may
        be in different ones.
        """
        if self._failed:
            raise RuntimeError(f"CpMerge: an earlier call failed ({self._failed}); make a new group and a new CpMerge")
        if not self._compare:
            out, lse_out = self._checked(o, lse, out, lse_out)
        else:
            try:
                out, lse_out = self._checked(o, lse, out, lse_out)
            except (TypeError, ValueError):
                self._agree(["o.shape[0]"], None)
                raise
            self._agree(["o.shape[0]"], [len(o)])
        if len(o) > 0:
            self._do(self._exchange.steps(o, lse, out, lse_out))
        return out, lse_out

    def _checked(
        self, o: torch.Tensor, lse: torch.Tensor, out: torch.Tensor | None, lse_out: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The outputs, allocated where they are not given; refuses what does not fit."""
        exchange = self._exchange
        shape = ("T", exchange.heads, exchange.dim)
        _check_tensor("o", o, shape, (exchange.dtype,), exchange.device)
        if len(o) > self._max_rows:
            raise ValueError(f"CpMerge: o.shape[0]: expected at most max_rows={self._max_rows}, got {len(o)}")
        _check_tensor("lse", lse, (len(o), exchange.heads), (torch.float32,), exchange.device)
        out = self._output("out", out, (len(o), exchange.kept, exchange.dim), _DTYPES, o.dtype)
        lse_out = self._output("lse_out", lse_out, (len(o), exchange.kept), (torch.float32,), torch.float32)
        if out.stride(-1) != 1 and exchange.dim > 1:
            raise ValueError(f"CpMerge: out: expected dense rows, got stride {out.stride(-1)} between their values")
        return out, lse_out

    def _output(
        self, name: str, given: torch.Tensor | None, shape: tuple[int, ...], dtypes: tuple[torch.dtype, ...],
        fresh: torch.dtype,
    ) -> torch.Tensor:  # fmt: skip
        if given is None:
            return torch.empty(shape, dtype=fresh, device=self._device)
        _check_tensor(name, given, shape, dtypes, self._device)
        if given.requires_grad:
            raise ValueError(f"CpMerge: {name}: expected a tensor that does not require grad, got one that does")
        if any(size > 1 and stride == 0 for size, stride in zip(given.shape, given.stride(), strict=True)):
            raise ValueError(f"CpMerge: {name}: expected elements that are apart, got strides {given.stride()}")
        return given

    def _do(self, steps: Iterable[_Step]) -> None:
        """After a failure this object is of no more use: the ranks may be in different calls."""
        try:
            for name, received, sent in steps:
                self._collective(name, received, sent)
        except BaseException as error:
            self._failed = f"{type(error).__name__}: {error}"[:200]
            raise

    def _collective(self, name: str, received: torch.Tensor, sent: torch.Tensor) -> None:
        try:
            if name == "all_to_all":
                dist.all_to_all_single(received, sent, group=self._group)
            elif name == "all_gather":
                _all_gather(received, sent, group=self._group)
            elif name == "reduce_scatter" and self._scatters:
                _reduce_scatter(received, sent, group=self._group)
            else:
                dist.all_reduce(sent, group=self._group)
                if name == "reduce_scatter":
                    received.copy_(sent.view(self._world_size, -1)[self._rank])
        except RuntimeError as error:
            error.add_note(
                f"CpMerge: {name} on rank {self._rank} of {self._world_size}: another rank died, left, or did not make "
                "the same call within the group's timeout. The group is of no more use."
            )
            raise


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _with_index(device: torch.device) -> torch.device:
    """As tensors tell it."""
    if device.index is None and device.type != "cpu":
        return torch.device(device.type, torch.cuda.current_device())
    return device


def _check(told: dict[str, Any], rank: int, world_size: int) -> list[int]:
    """The arguments as numbers that ranks can compare, without cp_rank; refuses what is wrong by itself."""
    codes = []
    for name, value in told.items():
        if name == "dtype":
            codes.append(_one_of(name, value, _DTYPES))
        elif name in ("driver", "keep"):
            codes.append(_one_of(name, value, DRIVERS if name == "driver" else KEEP))
        elif value is None and name.startswith("cp_"):
            codes.append(-1)
        else:
            codes.append(_integer(name, value, 0 if name in ("cp_rank", "compare") else 1))
    numbers = dict(zip(told, codes, strict=True))
    if told["keep"] == "own" and numbers["heads"] % world_size:
        raise ValueError(
            f"CpMerge: heads: expected a multiple of the group's size {world_size}, got {numbers['heads']}"
        )
    for name, value, what in (("cp_world_size", world_size, "size"), ("cp_rank", rank, "rank")):
        if numbers[name] not in (-1, value):
            raise ValueError(f"CpMerge: {name}: expected {value}, the {what} of the group, got {numbers[name]}")
    return [code for name, code in numbers.items() if name != "cp_rank"]


def _decoded(name: str, code: int) -> str:
    """A number of _check as the caller wrote it."""
    choices: dict[str, tuple[Any, ...]] = {"dtype": _DTYPES, "driver": DRIVERS, "keep": KEEP}
    return str(choices[name][code]) if name in choices else "None" if code < 0 else str(code)


def _one_of(name: str, value: Any, choices: tuple[Any, ...]) -> int:
    if value not in choices:
        shown = ", ".join(map(str, choices))
        raise (ValueError if isinstance(value, type(choices[0])) else TypeError)(
            f"CpMerge: {name}: expected one of {shown}, got {value!r}"
        )
    return choices.index(value)


def _integer(name: str, value: Any, low: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"CpMerge: {name}: expected int, got {type(value).__name__}") from None
    if not low <= number < 2**31:
        raise ValueError(f"CpMerge: {name}: expected {low} to {2**31 - 1}, got {number}")
    return number


def _check_tensor(
    name: str, tensor: Any, shape: tuple[Any, ...], dtypes: tuple[torch.dtype, ...], device: torch.device
) -> None:
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"CpMerge: {name}: expected a torch.Tensor, got {type(tensor).__name__}")
    if tensor.dtype not in dtypes:
        raise TypeError(f"CpMerge: {name}: expected {' or '.join(map(str, dtypes))}, got {tensor.dtype}")
    if tensor.device != device:
        raise ValueError(f"CpMerge: {name}: expected a tensor on {device}, got {tensor.device}")
    fits = tensor.ndim == len(shape) and all(b in ("T", a) for a, b in zip(tensor.shape, shape, strict=True))
    if not fits:
        raise ValueError(f"CpMerge: {name}: expected shape [{', '.join(map(str, shape))}], got {list(tensor.shape)}")
