"""python -m op_tests.gfxsim FILE.co: the kernels of a code object; with -d their instructions, with --hazards those
that stand too close to each other, with --profile how long a launch takes and where."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from . import timed_run
from .build import build
from .code import CodeObject, KernelInfo
from .library import ARCHS, CLASSES
from .simulator import HipError

COLUMNS = ("vgprs", "agprs", "sgprs", "lds_bytes", "scratch_bytes", "kernarg_bytes")
TITLES = ("VGPR", "AGPR", "SGPR", "LDS", "scratch", "kernarg", *CLASSES, "unknown")


def table(kernels: list[KernelInfo]) -> str:
    rows = [
        [k.name, *(getattr(k, c) for c in COLUMNS), *(k.instructions[c] for c in CLASSES), k.unknown] for k in kernels
    ]
    lines = [["kernel", *TITLES], *[[str(cell) for cell in row] for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    )


def disassembly(code: CodeObject, kernels: list[KernelInfo]) -> str:
    lines = []
    for kernel in kernels:
        lines.append(f"{kernel.name}:")
        lines += [f"  {offset:#08x}  {text}" for offset, text in code.disassemble(kernel)]
    return "\n".join(lines)


def hazards(code: CodeObject, kernels: list[KernelInfo]) -> str:
    lines = []
    for kernel in kernels:
        for hazard in code.hazards(kernel):
            lines += [
                f"{kernel.name}: {hazard.rule}: {hazard.needed} wait states needed, {hazard.found} found",
                f"  {hazard.first:#08x}  {hazard.first_text}",
                f"  {hazard.second:#08x}  {hazard.second_text}",
            ]
    return "\n".join([*lines, f"{len(lines) // 3} hazards"])


def profile(options: argparse.Namespace) -> int:
    try:
        found = timed_run.profile(options.file, options.profile, options.arch)
    except (OSError, ValueError, KeyError, TypeError, HipError) as error:
        print(f"{options.file}: {error}", file=sys.stderr)
        return 1
    if options.json:
        options.json.write_text(found.json())
    if options.svg:
        options.svg.write_text(found.svg(*(options.clocks or (0, None))))
    print(found.text(options.top))
    return 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m op_tests.gfxsim", description=__doc__)
    parser.add_argument(
        "file", type=Path, nargs="?", help="a code object: an ELF file or an uncompressed offload bundle"
    )
    parser.add_argument("-d", "--disassemble", nargs="?", const="", metavar="KERNEL", help="print the instructions")
    parser.add_argument("--hazards", action="store_true", help="instructions that stand too close; status 1 if any")
    parser.add_argument(
        "--profile", type=Path, metavar="JSON", help="time the launch that the file describes (timed_run.py)"
    )
    parser.add_argument("--json", type=Path, help="with --profile: where the profile goes as JSON")
    parser.add_argument("--svg", type=Path, help="with --profile: where the picture of the waves goes")
    parser.add_argument("--clocks", type=int, nargs=2, metavar=("BEGIN", "END"), help="with --svg: what of the time")
    parser.add_argument("--top", type=int, default=20, help="with --profile: how many instructions are listed")
    parser.add_argument("--arch", choices=ARCHS, help="which code object of a bundle")
    parser.add_argument("--library", action="store_true", help="build the simulator and print its path")
    options = parser.parse_args(arguments)
    if options.library:
        print(build())
        return 0
    if options.file is None:
        parser.error("a FILE is needed, or --library")
    if options.profile:
        return profile(options)
    try:
        data = options.file.read_bytes()
        code = CodeObject(data, options.arch)
    except (OSError, ValueError) as error:
        print(f"{options.file}: {error}", file=sys.stderr)
        return 1
    with code:
        kernels = code.kernels()
        if options.hazards:
            text = hazards(code, kernels)
            print(text)
            return int(text != "0 hazards")
        if options.disassemble is None:
            print(f"{options.file}: {code.arch}, {len(kernels)} kernels; instructions by class")
            print(table(kernels))
            return 0
        chosen = [k for k in kernels if options.disassemble in ("", k.name)]
        if not chosen:
            print(f"{options.file}: no kernel {options.disassemble!r}", file=sys.stderr)
            return 1
        print(disassembly(code, chosen))
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it without a traceback
    sys.exit(main())
