"""Timing of a callable on the host: the median of enough calls, each on memory that the last calls did not touch."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence


def median_seconds(
    calls: Sequence[Callable[[], object]], *, min_seconds: float = 0.4, min_calls: int = 5, max_calls: int = 400
) -> float:
    """calls: callables that do the same work on different memory; they run in turn, the first once unmeasured."""
    turns = itertools.cycle(calls)
    next(turns)()
    times, total = [], 0.0
    while len(times) < min_calls or (total < min_seconds and len(times) < max_calls):
        call = next(turns)
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
        total += times[-1]
    return sorted(times)[len(times) // 2]


def nanoseconds_per_call(call: Callable[[], object], *, min_seconds: float = 0.2) -> float:
    """The mean of the best of seven batches of calls: for a few hundred nanoseconds, where a clock read would count."""
    count, best = 1, float("inf")
    while True:
        start = time.perf_counter_ns()
        for _ in range(count):
            call()
        if time.perf_counter_ns() - start > min_seconds * 1e9 / 7:
            break
        count *= 2
    for _ in range(7):
        start = time.perf_counter_ns()
        for _ in range(count):
            call()
        best = min(best, (time.perf_counter_ns() - start) / count)
    return best


def queueing_nanoseconds(call: Callable[[], object], wait: Callable[[], object], *, batches: int = 31) -> float:
    """The host's mean in the median of batches of calls that a device runs later. `wait` for it between them: a queue
    that is full would stop the host."""
    count, times = 100, []
    call()
    for _ in range(batches):
        wait()
        start = time.perf_counter_ns()
        for _ in range(count):
            call()
        times.append((time.perf_counter_ns() - start) / count)
    wait()
    return sorted(times)[batches // 2]
