"""Run by test_gpus.py: a process per GPU, and NCCL. Every rank prints "CHECK RANK: COUNT". Arguments: the check, folder
of the store, seconds."""

from __future__ import annotations

import os
import random
import sys
import time
from datetime import timedelta
from itertools import product

# A program that uses NVLink multicast can put shared GPUs out of service.
os.environ |= {"NCCL_NVLS_ENABLE": "0", "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1", "NVSHMEM_DISABLE_NVLS": "1"}

# A watchdog that has found a timeout collects what it can about it, and then leaves other ranks time to do so: longer
# than a test may take.
os.environ |= {
    "TORCH_NCCL_DUMP_ON_TIMEOUT": "0", "TORCH_DISABLE_ADDR2LINE": "1", "TORCH_NCCL_WAIT_TIMEOUT_DUMP_MILSEC": "500",
}  # fmt: skip

import torch
import torch.distributed as dist
from cp_merge.processes import say, start
from cp_merge.ranks import exchanges, joined, play, same

from aiter_c.distributed import DRIVERS, KEEP, CpMerge

RANKS, ROWS, HEADS, DIM = 2, 5, 32, 512
DTYPES = (torch.bfloat16, torch.float16, torch.float32)
PATIENCE = 10.0  # seconds until the watchdog acts


def states(seed: int, rows: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Of all ranks, the same on all; a third of them have nothing for a row."""
    generator = torch.Generator().manual_seed(seed)
    o = torch.randn(RANKS, rows, HEADS, DIM, generator=generator).to(dtype)
    lse = 3 * torch.randn(RANKS, rows, HEADS, generator=generator)
    nothing = torch.rand(lse.shape, generator=generator) < 0.3
    o[nothing], lse[nothing] = torch.nan, -torch.inf
    return o.cuda(), lse.cuda()


def merges(dtype: torch.dtype) -> dict[tuple[str, str], CpMerge]:
    return {
        (driver, keep): CpMerge(None, ROWS, HEADS, DIM, dtype, "cuda", driver=driver, keep=keep)
        for driver, keep in product(DRIVERS, KEEP)
    }


def wanted(driver: str, keep: str, rank: int, o: torch.Tensor, lse: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What all ranks in one process give, on this GPU."""
    out, merged = joined(play(exchanges(driver, keep, RANKS, ROWS, o), o, lse, random.Random(1)), keep)
    own = slice(rank * HEADS // RANKS, (rank + 1) * HEADS // RANKS) if keep == "own" else slice(HEADS)
    return out[:, own], merged[:, own]


def check_values(rank: int) -> int:
    """The bits of ranks in one process; nothing waits for the GPU, and given outputs need no memory."""
    calls = 0
    for dtype in DTYPES:
        for (driver, keep), merge in merges(dtype).items():
            for number in range(10):
                o, lse = states(number, 1 + number % ROWS, dtype)
                want = wanted(driver, keep, rank, o, lse)
                given = torch.full_like(want[0], torch.nan), torch.full_like(want[1], torch.nan)
                merge(o[rank], lse[rank], *given)
                assert same(given[0], want[0]) and same(given[1], want[1]), (driver, keep, dtype, number)
                for one in given:
                    one.fill_(torch.nan)
                torch.cuda.synchronize()
                before = torch.cuda.memory_stats()["allocation.all.allocated"]
                torch.cuda.set_sync_debug_mode("error")
                merge(o[rank], lse[rank], *given)
                torch.cuda.set_sync_debug_mode("default")
                assert torch.cuda.memory_stats()["allocation.all.allocated"] == before, (driver, keep)
                assert same(given[0], want[0]) and same(given[1], want[1]), (driver, keep, dtype, number)
                calls += 2
    return calls


def check_graph(rank: int) -> int:
    """Captured once, replayed with other states; outputs given, and of the graph's pool."""
    replays = 0
    for (driver, keep), merge in merges(torch.bfloat16).items():
        o, lse = (one[rank].clone() for one in states(0, ROWS, torch.bfloat16))
        merge(o, lse)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            fresh = merge(o, lse)
            given = tuple(torch.empty_like(one) for one in fresh)
            merge(o, lse, *given)
        for number in range(1, 26):
            new_o, new_lse = states(number, ROWS, torch.bfloat16)
            o.copy_(new_o[rank]), lse.copy_(new_lse[rank])
            for one in (*fresh, *given):
                one.fill_(torch.nan)
            graph.replay()
            want = wanted(driver, keep, rank, new_o, new_lse)
            for got in (fresh, given):
                assert same(got[0], want[0]) and same(got[1], want[1]), (driver, keep, number)
            replays += 1
        torch.cuda.synchronize()
        del graph  # before the group, whose communicator it holds
    return replays


def check_silent(rank: int) -> int:
    """Rank 1 does not come: NCCL's watchdog ends rank 0, which waits for its result."""
    merge = CpMerge(None, ROWS, HEADS, DIM, torch.bfloat16, "cuda")
    o, lse = states(0, ROWS, torch.bfloat16)
    merge(o[rank], lse[rank])
    torch.cuda.synchronize()
    if rank == 1:
        time.sleep(5 * PATIENCE)
    else:
        merge(o[rank], lse[rank])
        torch.cuda.synchronize()
    return 0


def run(rank: int, folder: str, limit: float) -> None:
    torch.cuda.set_device(rank)
    check = sys.argv[1]
    seconds = PATIENCE if check == "silent" else limit
    dist.init_process_group(
        "nccl", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS, timeout=timedelta(seconds=seconds)
    )
    count = {"values": check_values, "graph": check_graph, "silent": check_silent}[check](rank)
    say(f"{check} {rank}: {count}")


if __name__ == "__main__":
    start(RANKS, run, sys.argv[2], float(sys.argv[3]))
