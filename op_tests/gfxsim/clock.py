"""How long a launch would take: the clock's constants, and the profile of the last timed launch.

    simulator.set_option("clock", 1)          # time one compute unit of each launch
    kernel(arguments, grid, block)
    profile = Profile.of(simulator, "kernels.co")
    print(profile.text())

Times are of a model (README.md, "Time"), not of a GPU.
"""

from __future__ import annotations

import ctypes as ct
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from . import timeline
from .code import CodeObject
from .library import ARCHS, CLASSES, library

_MAX_CAUSES = 12


class _Summary(ct.Structure):
    _fields_ = (
        ("launches", ct.c_uint64),
        ("cycles", ct.c_int64),
        *((name, ct.c_uint64) for name in ("units", "active_units", "workgroups_resident", "waves_per_simd")),
        *((name, ct.c_uint64) for name in ("instructions", "matrix_clocks", "lds_clocks", "lds_conflict_clocks")),
        ("memory_bytes", ct.c_uint64),
        ("stalls", ct.c_uint64 * _MAX_CAUSES),
        ("us", ct.c_double),
        ("total_us", ct.c_double),
    )


class _Instruction(ct.Structure):
    _fields_ = (
        ("issues", ct.c_uint64),
        ("stalls", ct.c_uint64 * _MAX_CAUSES),
        *((name, ct.c_uint64) for name in ("lds_clocks", "lds_conflict_clocks", "lines", "l1_hits", "l2_hits")),
    )


class _Span(ct.Structure):
    _fields_ = (
        ("workgroup", ct.c_uint32),
        ("wave", ct.c_uint32),
        ("begin", ct.c_int64),
        ("end", ct.c_int64),
        ("kind", ct.c_uint32),
    )


@dataclass(frozen=True)
class Constant:
    """A number of the model and where it comes from: a document, LLVM's scheduling model, or "fitted"."""

    name: str
    value: int
    source: str


def constants(arch: str) -> list[Constant]:
    lib = library()
    found: list[Constant] = []
    value, source = ct.c_int64(), ct.c_char_p()
    while name := lib.gfxsim_clock_constant(len(found), ARCHS.index(arch), ct.byref(value), ct.byref(source)):
        found.append(Constant(name.decode(), value.value, (source.value or b"").decode()))
    return found


def causes() -> list[str]:
    """Why an instruction is not issued earlier."""
    lib = library()
    found: list[str] = []
    while name := lib.gfxsim_clock_cause(len(found)):
        found.append(name.decode())
    return found


@dataclass(frozen=True)
class Instruction:
    """One instruction, over all waves that were timed. Stalls: clocks of waves by cause; lds_conflict_clocks: those of
    LDS beyond what the bytes alone take; lines: cache lines of vector memory."""

    offset: int
    text: str
    issues: int
    stalls: dict[str, int]
    lds_clocks: int
    lds_conflict_clocks: int
    lines: int
    l1_hits: int
    l2_hits: int

    @property
    def stall(self) -> int:
        return sum(self.stalls.values())


@dataclass(frozen=True)
class Span:
    """A piece of a wave's time, in clocks: `kind` is the class of instruction that it issued or why it waited."""

    workgroup: int
    wave: int
    begin: int
    end: int
    kind: str


@dataclass(frozen=True)
class Profile:
    """A timed launch. cycles, and what is counted: of the slowest compute unit among those that were timed; us: of the
    whole launch."""

    arch: str
    cycles: int
    us: float
    units: int
    active_units: int
    workgroups_resident: int
    waves_per_simd: int
    matrix_clocks: int
    lds_clocks: int
    lds_conflict_clocks: int
    memory_bytes: int
    stalls: dict[str, int]
    instructions: list[Instruction]
    spans: list[Span]

    @classmethod
    def of(cls, source: str | Path | bytes | CodeObject, arch: str | None = None) -> Profile:
        """Of the last timed launch, which ran a kernel of this code object. Raises ValueError if none was timed."""
        lib, summary = library(), _Summary()
        lib.gfxsim_clock_summary(ct.byref(summary))
        if summary.launches == 0:
            raise ValueError('no launch was timed: set_option("clock", 1) comes before it')
        if isinstance(source, CodeObject):
            return cls._read(summary, source)
        with CodeObject(source, arch) as code:
            return cls._read(summary, code)

    @classmethod
    def _read(cls, summary: _Summary, code: CodeObject) -> Profile:
        lib, names = library(), causes()
        rows, spans = ct.POINTER(_Instruction)(), ct.POINTER(_Span)()
        words = lib.gfxsim_clock_instructions(ct.byref(rows))
        kinds = (*names, *CLASSES)
        found = []
        for word in range(words):
            row = rows[word]
            if row.issues:
                counted = {name: n for name, n in zip(names, row.stalls, strict=False) if n}
                rest = {name: getattr(row, name) for name, _ in _Instruction._fields_[2:]}
                found.append(Instruction(4 * word, code.line(4 * word), row.issues, counted, **rest))
        count = lib.gfxsim_clock_spans(ct.byref(spans))
        pieces = [Span(s.workgroup, s.wave, s.begin, s.end, kinds[s.kind]) for s in spans[:count]]
        named = ("cycles", "us", "units", "active_units", "workgroups_resident", "waves_per_simd", "matrix_clocks")
        named += ("lds_clocks", "lds_conflict_clocks", "memory_bytes")
        stalls = dict(zip(names, summary.stalls, strict=False))
        values = {name: getattr(summary, name) for name in named}
        return cls(arch=code.arch, stalls=stalls, instructions=found, spans=pieces, **values)

    def share(self, clocks: float) -> float:
        """Of the unit's time."""
        return clocks / max(self.cycles, 1)

    # ---- reports

    def text(self, top: int = 20) -> str:
        """Where the time goes, and the `top` instructions that waves waited longest for."""
        total = max(sum(self.stalls.values()), 1)
        lines = [
            f"{self.us:.1f} us: {self.cycles} clocks of a compute unit, and launch latency ({self.arch})",
            f"{self.active_units} units with work, {self.units} timed; {self.workgroups_resident} workgroups fit on "
            f"one, by registers {self.waves_per_simd} waves a SIMD",
            f"matrix cores busy {self.share(self.matrix_clocks / 4):.0%}, LDS {self.share(self.lds_clocks):.0%} "
            f"(conflicts {self.share(self.lds_conflict_clocks):.0%}), "
            f"{self.memory_bytes / max(self.cycles, 1):.1f} bytes a clock of vector memory",
            "waves waited: " + ", ".join(f"{k} {n / total:.0%}" for k, n in self.stalls.items() if n > total // 200),
            "",
            f"{'offset':>8} {'issues':>9} {'stall':>10}  {'mostly':20} {'conflicts':>9}  instruction",
        ]
        worst = sorted(self.instructions, key=lambda i: -i.stall)[:top]
        for i in sorted(worst, key=lambda i: i.offset):
            mostly = max(i.stalls, key=lambda k: i.stalls[k], default="")
            lines.append(
                f"{i.offset:#8x} {i.issues:9} {i.stall:10}  {mostly:20} {i.lds_conflict_clocks or '':>9}  {i.text}"
            )
        return "\n".join(lines)

    def json(self) -> str:
        """Everything but the spans."""
        return json.dumps({k: v for k, v in asdict(self).items() if k != "spans"}, indent=1)

    def svg(self, begin: int = 0, end: int | None = None) -> str:
        """A picture of clocks [begin, end): a row for each wave of the first workgroups, colours for what it did."""
        return timeline.draw(self.spans, self.cycles, begin, self.cycles if end is None else min(end, self.cycles))
