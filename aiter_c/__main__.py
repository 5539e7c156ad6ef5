"""python -m aiter_c {demo, bench, env}. Each command is imported when it runs: `env` must work where others do not."""

import argparse
import sys


def main(argv=None):
    """Parses the command line and returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m aiter_c", description=__doc__.split(".")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="decode a ragged batch at the models' head counts and check every row")
    demo.add_argument("--json", metavar="FILE", help="write the table as JSON")
    demo.add_argument("--plot", metavar="FILE", help="draw time and %% of ceiling per case (needs matplotlib)")
    bench = commands.add_parser("bench", help="time an op against the machine's ceilings and its peers")
    bench.add_argument("what", choices=["mla_decode", "call_overhead", "simcost"])
    bench.add_argument("--json", metavar="FILE", help="write the table as JSON")
    bench.add_argument("--device", choices=["cpu", "cuda", "hip"], default="cpu", help="of mla_decode (default: cpu)")
    bench.add_argument("--threads", type=int, default=0, help="CPU threads (default: all)")
    bench.add_argument("--quick", action="store_true", help="few shapes; on the CPU no peers")
    bench.add_argument("--no-peers", action="store_true", help="do not time what else is installed (GPU)")
    bench.add_argument("--arch", action="append", choices=["gfx942", "gfx950"], help="of simcost (default: both)")
    bench.add_argument("--page-size", type=int, default=1, help="of simcost (default: 1)")
    env = commands.add_parser("env", help="what a bug report needs")
    env.add_argument("--json", metavar="FILE", help="write it as JSON as well")
    arguments = parser.parse_args(argv)
    try:
        if arguments.command == "demo":
            from aiter_c.cli.demo import run
        elif arguments.command == "env":
            from aiter_c.cli.env import run
        elif arguments.what == "simcost":
            from aiter_c.cli.bench_simcost import run
        elif arguments.what == "mla_decode" and arguments.device != "cpu":
            from aiter_c.cli.bench_gpu import run
        elif arguments.what == "mla_decode":
            from aiter_c.cli.bench_mla import run
        else:
            from aiter_c.cli.bench_overhead import run
    except ModuleNotFoundError as error:
        if error.name == "ml_dtypes":
            print("This command needs ml_dtypes: pip install 'aiter_c[demo]'", file=sys.stderr)
            return 2
        raise
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
