"""Run by test_processes.py: eight processes, forked after the imports, and gloo. Every rank prints "CHECK RANK: COUNT"
per check; the calls after which a group is of no more use come last. Arguments: folder of the store, seconds."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from itertools import product

import torch
import torch.distributed as dist
from cp_merge.processes import say, start
from cp_merge.ranks import exchanges, joined, play, same

import aiter_c
from aiter_c import distributed
from aiter_c.distributed import DRIVERS, KEEP, CpMerge

RANKS = 8
HALVES = range(4), range(4, 8)
PATIENCE = 3.0  # seconds, the timeout of groups that will fail; a machine under load needs some
HEADS, DIM, ROWS = 840, 2, 3  # heads that 2 to 8 ranks divide
DTYPES = (torch.bfloat16, torch.float16, torch.float32)


def states(seed: int, world_size: int, rows: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Of all ranks, the same on all; a third of them have nothing for a row."""
    generator = torch.Generator().manual_seed(seed)
    o = torch.randn(world_size, rows, HEADS, DIM, generator=generator).to(dtype)
    lse = 3 * torch.randn(world_size, rows, HEADS, generator=generator)
    nothing = torch.rand(lse.shape, generator=generator) < 0.3
    o[nothing], lse[nothing] = torch.nan, -torch.inf
    lse[:, -1:, 0] = -torch.inf
    return o, lse


def make(group: dist.ProcessGroup, driver: str = "a2a", keep: str = "own", **changed: object) -> CpMerge:
    arguments = {"max_rows": ROWS, "heads": HEADS, "dim": DIM, "dtype": torch.bfloat16, "device": "cpu"}
    return CpMerge(group, **arguments | {"driver": driver, "keep": keep} | changed)


def check_values(rank: int, groups: dict[int, dist.ProcessGroup]) -> int:
    """Every number of ranks, by both drivers, keeping own heads and all: the bits of ranks in one process."""
    calls = 0
    for world_size, group in groups.items():
        if rank >= world_size:
            continue
        merges = {
            (driver, keep): make(group, driver, keep, dtype=DTYPES[world_size % 3], cp_world_size=world_size,
                                 cp_rank=rank, cp_interleave=16)
            for driver, keep in product(DRIVERS, KEEP)
        }  # fmt: skip
        for number in range(8):
            rows = (ROWS, 1, 2, 0)[number % 4]
            o, lse = states(number, world_size, rows, DTYPES[world_size % 3])
            want = {"a2a": aiter_c.merge_states(o, lse)}
            if rank == number % world_size:
                ranks = exchanges("ag_rs", "own", world_size, ROWS, o)
                want["ag_rs"] = joined(play(ranks, o, lse, random.Random(number)), "own") if rows else want["a2a"]
            own = slice(rank * HEADS // world_size, (rank + 1) * HEADS // world_size)
            for driver in DRIVERS:
                got = {keep: call(merges[driver, keep], o[rank], lse[rank], number) for keep in KEEP}
                calls += len(got)
                (out, merged), (all_out, all_merged) = got["own"], got["all"]
                assert same(out, all_out[:, own]) and same(merged, all_merged[:, own]), (world_size, driver, "own, all")
                if driver in want:
                    assert same(all_out, want[driver][0]) and same(all_merged, want[driver][1]), (world_size, driver)
                told = torch.cat([all_out.float().flatten().nan_to_num(), all_merged.flatten().nan_to_num()])
                if rows:
                    lowest, highest = told.clone(), told.clone()
                    dist.all_reduce(lowest, dist.ReduceOp.MIN, group)
                    dist.all_reduce(highest, dist.ReduceOp.MAX, group)
                    assert torch.equal(lowest, highest), (world_size, driver, "ranks differ")
    return calls


def call(merge: CpMerge, o: torch.Tensor, lse: torch.Tensor, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """With outputs of its own, given ones, strided ones, and in place."""
    if number % 4 == 0:
        return merge(o, lse)
    o, lse = o.clone(), lse.clone()
    heads = merge._exchange.kept
    if number % 4 == 1:
        given = o[:, :heads], lse[:, :heads]
    else:
        wide = o.new_full((len(o), 2, heads, DIM), torch.nan), lse.new_full((heads, 2, len(o)), torch.nan)
        given = wide[0][:, 1], wide[1][:, 1].T
    assert all(one is other for one, other in zip(merge(o, lse, *given), given, strict=True))
    return given


def check_arguments(rank: int, group: dist.ProcessGroup) -> int:
    """One rank's arguments are wrong, or others than the rest's: all raise, and the group is as good as before."""
    me = rank == 3
    wrong = [  # arguments of rank 3, its error; the error of the others
        ({"max_rows": 0}, ValueError, "max_rows: expected 1 to 2147483647, got 0", None),
        ({"heads": 836}, ValueError, "heads: expected a multiple of the group's size 8, got 836", None),
        ({"dim": 2.0}, TypeError, "dim: expected int, got float", None),
        ({"dtype": torch.int32}, ValueError, "dtype: expected one of torch.bfloat16, torch.float16, torch.float32, got "
         "torch.int32", None),
        ({"dtype": "bfloat16"}, TypeError, "dtype: expected one of torch.bfloat16, torch.float16, torch.float32, got "
         "'bfloat16'", None),
        ({"driver": "rs"}, ValueError, "driver: expected one of a2a, ag_rs, got 'rs'", None),
        ({"keep": None}, TypeError, "keep: expected one of own, all, got None", None),
        ({"cp_world_size": 4}, ValueError, "cp_world_size: expected 8, the size of the group, got 4", None),
        ({"cp_rank": 2}, ValueError, "cp_rank: expected 3, the rank of the group, got 2", None),
        ({"cp_rank": -1}, ValueError, "cp_rank: expected 0 to 2147483647, got -1", None),
        ({"heads": 848}, ValueError, "heads: expected the same on all ranks, got 840, 840, 840, 848, 840, ", ...),
        ({"max_rows": 4}, ValueError, "max_rows: expected the same on all ranks, got 3, 3, 3, 4, 3, ", ...),
        ({"dtype": torch.float16}, ValueError, "dtype: expected the same on all ranks, got torch.bfloat16, ", ...),
        ({"driver": "ag_rs"}, ValueError, "driver: expected the same on all ranks, got a2a, a2a, a2a, ag_rs, ", ...),
        ({"keep": "all"}, ValueError, "keep: expected the same on all ranks, got own, own, own, all, own, ", ...),
        ({"compare": False}, ValueError, "compare: expected the same on all ranks, got 1, 1, 1, 0, 1, ", ...),
        ({"cp_interleave": 16}, ValueError, "cp_interleave: expected the same on all ranks, got None, None, ", ...),
    ]  # fmt: skip
    for changed, kind, text, others in wrong:
        if others is None and not me:
            kind, text = RuntimeError, "rank 3 of 8 refused its arguments (see its error)"
        expect(kind, f"CpMerge: {text}", lambda changed=changed: make(group, **changed if me else {}))
    o, lse = states(1, RANKS, 1, torch.bfloat16)
    out, _ = make(group)(o[rank], lse[rank])
    assert same(out, aiter_c.merge_states(o, lse)[0][:, rank * 105 : (rank + 1) * 105])
    return len(wrong)


def check_without_reduce_scatter(rank: int, group: dist.ProcessGroup) -> int:
    """gloo as it was: the sums come by all-reduce, to the same bits."""
    o, lse = states(5, RANKS, ROWS, torch.float32)
    want = make(group, "ag_rs", dtype=o.dtype)(o[rank], lse[rank])

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("ProcessGroupGloo does not support reduce_scatter")

    real, distributed._reduce_scatter = distributed._reduce_scatter, refuse
    try:
        got = make(group, "ag_rs", dtype=o.dtype)(o[rank], lse[rank])
    finally:
        distributed._reduce_scatter = real
    assert same(got[0], want[0]) and same(got[1], want[1])
    return 1


def expect(kind: type, text: str, run: Callable) -> BaseException:
    try:
        run()
    except kind as error:
        assert type(error) is kind or kind is RuntimeError, repr(error)
        assert str(error).startswith(text), f"expected {text!r}, got {error}"
        return error
    raise AssertionError(f"nothing was raised, expected {text!r}")


def ends(run: Callable, *, within: float) -> None:
    """In an error of torch.distributed, with our note, soon enough."""
    begin = time.monotonic()
    error = expect(RuntimeError, "", run)
    assert time.monotonic() - begin < within, f"it took {time.monotonic() - begin} s"
    assert "another rank died, left, or did not make the same call" in "".join(error.__notes__), error.__notes__


def check_refused_call(rank: int, group: dist.ProcessGroup, driver: str) -> int:
    """Of one rank, or with another number of rows: all raise at once, and the next call is served. The same without
    comparing, where the others wait for the rank."""
    half, own = list(HALVES[rank // 4]), slice(rank % 4 * HEADS // 4, (rank % 4 + 1) * HEADS // 4)
    me = rank % 4 == 1
    o, lse = states(2, RANKS, 2, torch.bfloat16)
    want = aiter_c.merge_states(o[half], lse[half])[1][:, own]
    wrong = "CpMerge: lse: expected shape [2, 840], got [1, 840]"
    merge = make(group, driver)
    for _ in range(3):
        bad = (
            (ValueError, wrong) if me else (RuntimeError, "CpMerge: rank 1 of 4 refused its arguments (see its error)")
        )
        expect(*bad, lambda: merge(o[rank], lse[rank, :1] if me else lse[rank]))
        for rows in (0, 1):
            text = f"CpMerge: o.shape[0]: expected the same on all ranks, got 2, {rows}, 2, 2"
            expect(ValueError, text, lambda n=rows if me else 2: merge(o[rank, :n], lse[rank, :n]))
        assert same(merge(o[rank], lse[rank])[1], want)
    merge = make(group, driver, compare=False)
    if me:
        expect(ValueError, wrong, lambda: merge(o[rank], lse[rank, :1]))
    assert same(merge(o[rank], lse[rank])[1], want)
    return 1


def check_silent(rank: int, group: dist.ProcessGroup, driver: str, keep: str, compare: bool) -> int:
    """One rank does not come: all others get an error once the group's timeout is over, and no more calls."""
    merge = make(group, driver, keep, compare=compare)
    o, lse = states(3, RANKS, 1, torch.bfloat16)
    merge(o[rank], lse[rank])
    if rank % 4 == 2:
        time.sleep(PATIENCE + 0.5)
        return 1
    ends(lambda: merge(o[rank], lse[rank]), within=PATIENCE + 10)
    expect(RuntimeError, "CpMerge: an earlier call failed (", lambda: merge(o[rank], lse[rank]))
    return 1


def check_dead(rank: int, group: dist.ProcessGroup, driver: str, keep: str) -> int:
    """One rank's process is gone: the others do not wait for the timeout, which is long."""
    merge = make(group, driver, keep, compare=False)
    o, lse = states(4, RANKS, 1, torch.bfloat16)
    merge(o[rank], lse[rank])
    if rank % 4 == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    ends(lambda: merge(o[rank], lse[rank]), within=20)
    return 1


def run(rank: int, folder: str, limit: float) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS, timeout=timedelta(seconds=limit)
    )
    checks = [("values", check_values, {n: dist.new_group(range(n)) for n in range(2, RANKS + 1)})]
    checks.append(("fallback", check_without_reduce_scatter, dist.group.WORLD))
    checks.append(("arguments", check_arguments, dist.group.WORLD))

    def halves(seconds: float) -> dist.ProcessGroup:
        return [dist.new_group(half, timeout=timedelta(seconds=seconds)) for half in HALVES][rank // 4]

    driver = DRIVERS[rank // 4]  # each half has its own
    checks.append(("refused", check_refused_call, halves(limit), driver))
    for name, keep, compare in (("silent", "own", False), ("silent-compared", "all", True)):
        checks.append((name, check_silent, halves(PATIENCE), driver, keep, compare))
    checks.append(("dead", check_dead, halves(limit), driver, "own"))
    for name, function, *arguments in checks:
        begin = time.monotonic()
        count = function(rank, *arguments)
        say(f"{name} {rank}: {count} in {time.monotonic() - begin:.1f} s")


if __name__ == "__main__":
    torch.set_num_threads(1)
    aiter_c.set_num_threads(1)
    start(RANKS, run, sys.argv[1], float(sys.argv[2]))
