"""python -m aiter_c COMMAND. Each command is imported when it runs: `env` must work where others do not."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from collections.abc import Sequence

import aiter_c
from aiter_c import _C
from aiter_c.cli import bench_ops
from aiter_c.cli.report import why_not_writable

_NEEDED = {"numpy": "NumPy 1.26 or newer", "ml_dtypes": "ml_dtypes"}  # by the commands that compute


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m aiter_c", description=__doc__.split(".")[0])
    parser.add_argument("--version", action="version", version=f"aiter_c {aiter_c.__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="decode a ragged batch at the models' head counts and check every row")
    demo.add_argument("--json", metavar="FILE", help="write the table as JSON")
    demo.add_argument("--plot", metavar="FILE", help="draw time and %% of ceiling per case (the extra `plot`)")
    bench = commands.add_parser("bench", help="time an op against the machine's ceilings and its peers")
    bench.add_argument("what", choices=[*bench_ops.names(), "call_overhead", "simcost", "torch_ops"])
    bench.add_argument("--json", metavar="FILE", help="write the table as JSON")
    bench.add_argument("--plot", metavar="FILE", help="draw the roofline and bars beside the peers (the extra `plot`)")
    bench.add_argument("--compare", metavar="FILE", help="the JSON of an earlier run: exit status 1 if a row is slower")
    bench.add_argument("--threshold", type=float, metavar="PERCENT", help="from which on it is (default: 10)")
    bench.add_argument("--read", metavar="FILE", help="take the rows from the JSON of a run, and measure nothing")
    bench.add_argument("--device", choices=["cpu", "cuda", "hip"], default="cpu", help="not of simcost (default: cpu)")
    bench.add_argument("--threads", type=int, default=0, help="CPU threads (default: all)")
    bench.add_argument("--quick", action="store_true", help="few shapes; on the CPU no peers")
    bench.add_argument("--no-peers", action="store_true", help="do not time what else is installed")
    bench.add_argument("--arch", action="append", choices=["gfx942", "gfx950"], help="of simcost (default: both)")
    bench.add_argument("--page-size", type=int, default=1, help="of simcost (default: 1)")
    bench.add_argument(
        "--shape", action="append", metavar="HEADS,Q,DTYPE", help="of simcost: this decode shape alone, as 128,1,fp8"
    )
    table = _C.kernel_table()
    kernels = commands.add_parser("kernels", help="what there is a kernel for, from the table that calls are served by")
    kernels.add_argument("op", nargs="?", choices=list(dict.fromkeys(row["op"] for row in table)))
    kernels.add_argument("--arch", choices=list(dict.fromkeys(row["arch"] for row in table)))
    kernels.add_argument("--json", metavar="FILE", help="write the rows of kernels as JSON")
    kernels.add_argument("--markdown", action="store_true", help="the summary as README has it")
    env = commands.add_parser("env", help="what a bug report needs")
    env.add_argument("--json", metavar="FILE", help="write it as JSON as well")
    doctor = commands.add_parser("doctor", help="what is wrong with this installation, and what to do; exit status 1")
    doctor.add_argument("--json", metavar="FILE", help="write it as JSON as well")
    replay = commands.add_parser("replay", help="run a call that AITER_C_DUMP wrote again; exit status 1 if it differs")
    replay.add_argument("file", help="NAME.json or NAME.safetensors of the call")
    replay.add_argument("--device", choices=["cpu", "gfx942", "gfx950", "cuda", "hip"], default="cpu")
    replay.add_argument(
        "--against", choices=["record", "fp64"], default="record", help="what it gave then (default), or the reference"
    )
    replay.add_argument("--json", metavar="FILE", help="write the table as JSON")
    return parser


def _why_no_bench(arguments: argparse.Namespace) -> str | None:
    """What is known of --read, --compare and --plot beforehand."""
    from aiter_c.cli import bench_report

    given = [name for name in ("read", "compare", "plot") if getattr(arguments, name)]
    if arguments.what in ("simcost", "torch_ops") and given:
        return f"--{given[0]}: is of the bench of an op, and of call_overhead"
    if arguments.what == "call_overhead" and arguments.plot:
        return "--plot: is of the bench of an op"
    if arguments.threshold is None:
        arguments.threshold = bench_report.DEFAULT_THRESHOLD
    elif not arguments.threshold >= 0 or not arguments.compare:
        return "--threshold: expected a number from 0 on, beside --compare"
    if arguments.read:
        try:
            bench_report.read(arguments.read, arguments.what)
        except bench_report.Unusable as problem:
            return f"--read: {problem}"
    return bench_report.why_not(arguments)


def _why_not_runnable(arguments: argparse.Namespace) -> str | None:
    """What is known to end the command before it has done anything, or None."""
    for option in ("json", "plot"):
        path = getattr(arguments, option, None)
        if path is not None and (problem := why_not_writable(path)):
            return f"--{option}: {problem}"
    for module, name in _NEEDED.items():
        try:
            if arguments.command in ("demo", "bench", "replay"):
                importlib.import_module(module)
        except ImportError as error:
            return f"This command needs {name}: pip install 'aiter_c[demo]' ({error})"
    return _why_no_bench(arguments) if arguments.command == "bench" else None


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, runs the command and returns the exit status: 2 for what was known to fail before."""
    arguments = _parser().parse_args(argv)
    if problem := _why_not_runnable(arguments):
        print(problem, file=sys.stderr)
        return 2
    if arguments.command == "demo":
        from aiter_c.cli.demo import run
    elif arguments.command == "env":
        from aiter_c.cli.env import run
    elif arguments.command == "kernels":
        from aiter_c.cli.kernels import run
    elif arguments.command == "doctor":
        from aiter_c.cli.doctor import run
    elif arguments.command == "replay":
        from aiter_c.cli.replay import run
    elif arguments.what == "simcost":
        from aiter_c.cli.bench_simcost import run
    elif arguments.what == "call_overhead":
        from aiter_c.cli.bench_overhead import run
    elif arguments.what == "torch_ops":
        from aiter_c.cli.bench_torch_ops import run
    else:
        from aiter_c.cli.bench import run
    return run(arguments)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it without a traceback
    sys.exit(main())
