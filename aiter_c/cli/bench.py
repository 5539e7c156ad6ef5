"""python -m aiter_c bench OP: time against the machine's roofline and against the peers, in one run.

Floor of a call = max(bytes / memory bandwidth, FLOP / arithmetic), of what the op has to read, write and compute at
least; the ceilings are measured around every row. Per shape the median of calls on cold caches, a part of the result
checked against fp64. On a GPU what a step does once, our plan and the peers' schedules, is not in the time.
--read takes the rows of an earlier run from its JSON and measures nothing: to draw them, or to compare two of them.
An op is a module of aiter_c.cli.bench_ops, see there.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from aiter_c.cli import bench_ops
from aiter_c.cli.backend import Cpu, Gpu, Unavailable, make
from aiter_c.cli.bench_report import finish, read
from aiter_c.cli.ceilings import MOVED, Around, Ceilings, hints
from aiter_c.cli.report import Progress, Table

ROOFLINE = "% of roofline"
Peer = Callable[["Problem"], Sequence[Callable[[], Any]] | None]  # the calls that do a problem, or None: not served


class Problem(Protocol):
    """A shape of an op on a backend: its tensors, and the call on them."""

    facts: dict[str, Any]  # the op's own columns
    kernel: str  # of the kernel table
    num_bytes: int  # at least read and written
    flop: int  # at least computed; 0: the op moves and compares
    fp8_product: bool  # both operands of the matrix product are fp8
    calls: Sequence[Callable[[], Any]]  # the same call over distinct memory; they return the output
    tolerance: float

    def error(self, output: Any) -> float:
        """How far the checked part of an output, ours or a peer's, is from fp64 at most."""
        ...


def _check(problem: Problem, output: Any, whose: str) -> float:
    error = problem.error(output)
    if not error <= problem.tolerance:
        raise RuntimeError(f"{whose}: {problem.facts}: the output is {error:.3g} away from fp64")
    return error


def _time_peers(problem: Problem, backend: Cpu | Gpu, peers: dict[str, Peer], seconds: float) -> dict[str, float]:
    """The time of each peer that serves the problem, and ours as a multiple of the best."""
    out, times = {}, []
    for name, peer in peers.items():
        calls = peer(problem)
        if calls is None:
            continue
        out[f"{name} error"] = problem.error(calls[0]())
        times.append(backend.seconds(calls, peer=True))
        out[f"{name} {backend.unit}"] = times[-1] * backend.per_second
    return out | ({"x best peer": seconds / min(times)} if times else {})


def _measure(problem: Problem, backend: Cpu | Gpu, ceilings: Ceilings) -> tuple[dict[str, Any], float]:
    """A row, and the seconds of a call."""
    error = _check(problem, problem.calls[0](), "aiter_c")
    around: Around
    seconds, around = ceilings.around(lambda: backend.seconds(problem.calls))
    row = problem.facts | {
        "kernel": problem.kernel,
        backend.unit: seconds * backend.per_second,
        "GB/s": problem.num_bytes / seconds / 1e9,
        backend.flop_unit: problem.flop / seconds / backend.flop_scale if problem.flop else None,
        ROOFLINE: 100 * backend.floor_seconds(around.best, problem) / seconds,
        MOVED: around.moved,
        "error": error,
        "bytes": problem.num_bytes,
        "flop": problem.flop,
    }
    return row | backend.extra(problem, seconds, around.best), seconds


def _columns(op: Any, backend: Cpu | Gpu, peers: dict[str, Peer]) -> dict[str, str]:
    times = {backend.unit: "8.3f" if backend.kind == "cpu" else "8.1f"}
    rates = {"GB/s": "6.1f", backend.flop_unit: "7.0f", ROOFLINE: "6.0f", MOVED: "5.0f"}
    own = op.beside_columns(backend.unit) if hasattr(op, "beside_columns") else {}
    theirs = {f"{name} {backend.unit}": "8.1f" for name in peers} | ({"x best peer": "8.2f"} if peers else {})
    return op.COLUMNS | {"kernel": "26s"} | times | rates | backend.columns | own | theirs


def _growth(op: Any, backend: Cpu | Gpu, ceilings: Ceilings) -> list[dict[str, Any]]:
    """The same request, more and more of them: speed against that many times the speed of one."""
    print("\nThroughput as the batch grows, against batch times the speed of one request:")
    table = Table(op.COLUMNS | {backend.unit: "8.3f", "x of batch 1": "6.2f"})
    for case in op.growth(backend.kind):
        problem = op.Problem(case, backend)
        row, seconds = _measure(problem, backend, ceilings)
        per_request = seconds / problem.facts["batch"]
        first = table.rows[0]["seconds per request"] if table.rows else per_request
        table.add(row | {"seconds per request": per_request, "x of batch 1": first / per_request})
    return [dict(row) for row in table.rows]


def run(arguments: Namespace) -> int:
    """Prints the table of an op, each row as soon as it is measured; 2 where the device or the shapes are missing."""
    op = bench_ops.load(arguments.what)
    if arguments.read:
        return finish(arguments, read(arguments.read, arguments.what), list(op.COLUMNS))
    try:
        backend = make(arguments)
    except Unavailable as reason:
        print(reason, file=sys.stderr)
        return 2
    cases = op.cases(backend.kind, arguments.quick)
    if not cases:
        print(f"{arguments.what} has no shapes for --device {arguments.device}", file=sys.stderr)
        return 2
    no_peers = arguments.no_peers or (arguments.quick and backend.kind == "cpu")
    peers = {} if no_peers else op.peers(backend)
    ceilings = Ceilings(backend.measure)
    print(f"{backend.name}; measured now: {ceilings.text()}; peers: {', '.join(peers) or 'none'}", file=sys.stderr)
    table = Table(_columns(op, backend, peers))
    progress = Progress(len(cases))
    for done, case in enumerate(cases):
        progress.at(done, arguments.what)
        problem = op.Problem(case, backend)
        progress.at(done, ", ".join(str(fact) for fact in problem.facts.values()))
        row, seconds = _measure(problem, backend, ceilings)
        if hasattr(op, "beside_columns"):
            row |= problem.beside()
        row |= _time_peers(problem, backend, peers, seconds)
        progress.clear()
        table.add(row)
        del problem
        backend.tidy()
    growth = _growth(op, backend, ceilings) if not arguments.quick and op.growth(backend.kind) else []
    print(f"\nCeilings of the whole run: {ceilings.text()}.")
    print("".join(f"{line}\n" for line in hints([*table.rows, *growth], ROOFLINE)), end="")
    facts = {"device": backend.facts(), "ceilings": ceilings.spread()}
    return finish(arguments, facts | {arguments.what: table.rows, "growth": growth}, list(op.COLUMNS))
