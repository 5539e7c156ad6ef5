"""Runs single instructions in gfxsim: machine words in, registers out. For the executor's tests.

The words come from `gfxsim/data/exec_words.txt`, one line per assembly text. `GFXSIM_ASSEMBLE=1 pytest -n0 --device cpu
op_tests/gfxsim/tests` writes that file anew with llvm-mc-22, from everything that these tests ask for: all of the
files at once, or the words of the others are lost.
"""

from __future__ import annotations

import atexit
import ctypes as ct
import functools
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gfxsim.library import CLASSES, library

ARCHS = ("gfx942", "gfx950")
WORDS = Path(__file__).resolve().parents[1] / "data" / "exec_words.txt"
VREGS, SREGS, LANES = 512, 128, 64
AGPR0, VCC, M0, EXEC = 256, 106, 124, 126
WAITS, RACES, UNINITIALIZED = 1, 2, 4
ALL_CHECKS = WAITS | RACES | UNINITIALIZED
ALL_LANES = (1 << LANES) - 1
DENORMALS = 0xF0  # MODE[7:0] as clang sets it: no flushing

_KIND_NAMES = (
    *("none", "unknown", "unsupported", "global_bounds", "lds_bounds", "scratch_bounds", "read_only", "misaligned"),
    *("race", "wait", "uninitialized", "barrier", "timeout", "bad_pc", "order"),
)
KINDS = {name: number for number, name in enumerate(_KIND_NAMES)}


class _Counters(ct.Structure):
    _fields_ = (
        ("instructions", ct.c_uint64 * len(CLASSES)),
        ("mfma_clocks", ct.c_uint64),
        ("global_read_bytes", ct.c_uint64),
        ("global_write_bytes", ct.c_uint64),
        ("lds_read_bytes", ct.c_uint64),
        ("lds_write_bytes", ct.c_uint64),
    )


class _State(ct.Structure):
    _fields_ = (
        *((name, ct.c_void_p) for name in ("v", "s", "v_defined", "s_defined", "v_undefined", "lds", "lds_defined")),
        *((name, ct.c_uint32) for name in ("lds_bytes", "scratch_bytes", "scc", "mode", "checks", "wave_count")),
        ("kind", ct.c_uint32),
        ("stop", ct.c_uint32),
        ("text", ct.c_char * 1024),
        ("counters", _Counters),
    )


# ---- words

_wanted: dict[str, None] = {}
recording = os.environ.get("GFXSIM_ASSEMBLE") == "1"


def _read_words() -> dict[str, dict[str, list[int]]]:
    words: dict[str, dict[str, list[int]]] = {arch: {} for arch in ARCHS}
    if recording or not WORDS.exists():
        return words
    for line in WORDS.read_text().splitlines():
        if line and not line.startswith("#"):
            text, *columns = line.split("\t")
            for arch, column in zip(ARCHS, columns, strict=True):
                if column != "-":
                    words[arch][text] = [int(word, 16) for word in column.split()]
    return words


@functools.cache
def word_table() -> dict[str, dict[str, list[int]]]:
    return _read_words()


def assemble_with_llvm(arch: str, texts: Sequence[str]) -> dict[str, list[int]]:
    """Each text on its own; a text that the architecture does not have is left out."""
    command = ["llvm-mc-22", "-triple=amdgcn-amd-amdhsa", f"-mcpu={arch}", "-show-encoding"]
    done = subprocess.run(command, input="\n".join(texts) + "\n", capture_output=True, text=True)
    bad = {int(line.split(":")[1]) for line in done.stderr.splitlines() if ": error:" in line}
    good = [text for number, text in enumerate(texts, 1) if number not in bad]
    encodings = [line.split("encoding: [")[1].rstrip("]") for line in done.stdout.splitlines() if "encoding: [" in line]
    result = {}
    for text, encoding in zip(good, encodings, strict=True):
        data = bytes(int(byte, 16) for byte in encoding.split(","))
        result[text] = np.frombuffer(data, "<u4").tolist()
    return result


def words_of(arch: str, text: str) -> list[int] | None:
    """The machine words of one line of assembly; None: this architecture does not have it."""
    if recording:
        if text not in _wanted:
            _wanted[text] = None
            for each in ARCHS:
                word_table()[each].update(assemble_with_llvm(each, [text]))
        return word_table()[arch].get(text)
    if not any(text in word_table()[each] for each in ARCHS):
        raise KeyError(f"{text!r} is not in {WORDS.name}: exec_machine.py says how to add it")
    return word_table()[arch].get(text)


def exists(arch: str, text: str) -> bool:
    return words_of(arch, text) is not None


def existing(items: Iterable[Any], text_of: Callable[[Any], str]) -> list[tuple[str, Any]]:
    """Each item with each architecture that has its instruction: what a test is made for."""
    return [(arch, item) for item in items for arch in ARCHS if exists(arch, text_of(item))]


def save_words() -> None:
    """At the end of a run with GFXSIM_ASSEMBLE=1."""
    lines = ["# assembly, words on gfx942, words on gfx950: see exec_machine.py"]
    for text in sorted(_wanted):
        columns = [" ".join(f"{word:08x}" for word in word_table()[arch].get(text, [])) or "-" for arch in ARCHS]
        lines.append("\t".join([text, *columns]))
    WORDS.write_text("\n".join(lines) + "\n")


if recording:
    atexit.register(save_words)


# ---- running


@dataclass
class Result:
    v: np.ndarray  # [512, 64] uint32
    s: np.ndarray  # [128] uint32
    scc: int
    v_undefined: np.ndarray  # [512] uint64, masks of lanes
    lds: np.ndarray
    lds_defined: np.ndarray
    kind: str
    text: str
    instructions: dict[str, int]
    mfma_clocks: int
    bytes_moved: dict[str, int]

    def pair(self, reg: int) -> int:
        return int(self.s[reg]) | int(self.s[reg + 1]) << 32


@dataclass
class Machine:
    """Registers to start with. A register that nobody wrote counts as undefined."""

    arch: str
    v: dict[int, np.ndarray] = field(default_factory=dict)  # [64] of uint32 each
    s: dict[int, int] = field(default_factory=dict)
    exec: int = ALL_LANES
    scc: int = 0
    mode: int = DENORMALS
    lds: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint8))
    lds_defined: bool = True
    scratch_bytes: int = 0
    checks: int = ALL_CHECKS
    waves: int = 1

    def set(self, reg: int, values: np.ndarray) -> None:
        """Lanes of 1, 2, 4 or 8 bytes and more (a second axis), over as many registers as they need."""
        data = np.ascontiguousarray(values)
        if data.itemsize < 4 and data.ndim == 1:
            data = data.view(f"u{data.itemsize}").astype(np.uint32)
        columns = data.reshape(LANES, -1).view(np.uint32)
        for i in range(columns.shape[1]):
            self.v[reg + i] = columns[:, i].copy()

    def run(self, *program: str) -> Result:
        words: list[int] = []
        for line in program:
            found = words_of(self.arch, line)
            assert found is not None, f"{self.arch} has no {line}"
            words += found
        v = np.full((VREGS, LANES), 0xDEADBEEF, np.uint32)
        s = np.full(SREGS, 0xDEADBEEF, np.uint32)
        v_defined, s_defined = np.zeros(VREGS, np.uint8), np.zeros(SREGS, np.uint8)
        scalars = {EXEC: self.exec & 0xFFFFFFFF, EXEC + 1: self.exec >> 32, **self.s}
        for reg, lanes in self.v.items():
            v[reg], v_defined[reg] = lanes, 1
        for reg, value in scalars.items():
            s[reg], s_defined[reg] = value & 0xFFFFFFFF, 1
        v_undefined = np.zeros(VREGS, np.uint64)
        lds = np.append(self.lds.view(np.uint8), np.zeros(4, np.uint8))
        lds_defined = np.full(len(lds), self.lds_defined, np.uint8)
        arrays = (v, s, v_defined, s_defined, v_undefined, lds, lds_defined)
        state = _State(
            *(a.ctypes.data for a in arrays),
            len(lds) - 4,
            self.scratch_bytes,
            self.scc,
            self.mode,
            self.checks,
            self.waves,
        )
        code = np.array(words, np.uint32)
        run = library().gfxsim_exec_run
        run.argtypes = (ct.c_int, ct.c_void_p, ct.c_int, ct.c_void_p)
        assert run(ARCHS.index(self.arch), code.ctypes.data, len(code), ct.addressof(state)) == 0
        counters = state.counters
        moved = {name: getattr(counters, name) for name, _ in _Counters._fields_[2:]}
        return Result(
            v,
            s,
            state.scc,
            v_undefined,
            lds[:-4],
            lds_defined[:-4],
            next(name for name, number in KINDS.items() if number == state.kind),
            state.text.decode(),
            dict(zip(CLASSES, counters.instructions, strict=True)),
            counters.mfma_clocks,
            moved,
        )

    def values(self, result: Result, reg: int, dtype: type | str) -> np.ndarray:
        """What the registers from `reg` on hold, a lane's values along the second axis if there are several."""
        dtype = np.dtype(dtype)
        count = max(1, dtype.itemsize // 4)
        rows = np.ascontiguousarray(result.v[reg : reg + count].T)
        return rows.view(dtype).reshape(LANES, -1)[:, 0]


@contextmanager
def memory(array: np.ndarray, writable: bool = True) -> Iterator[int]:
    """Makes the array's bytes memory of the program; its address."""
    lib = library()
    lib.gfxsim_exec_add_memory.restype = ct.c_void_p
    lib.gfxsim_exec_add_memory.argtypes = (ct.c_void_p, ct.c_uint64, ct.c_int)
    lib.gfxsim_exec_remove_memory.argtypes = (ct.c_void_p,)
    handle = lib.gfxsim_exec_add_memory(array.ctypes.data, array.nbytes, writable)
    try:
        yield array.ctypes.data
    finally:
        lib.gfxsim_exec_remove_memory(handle)


def semantic_names() -> list[str]:
    """Every mnemonic that the executor has semantics for."""
    lib = library()
    lib.gfxsim_exec_name.restype = ct.c_char_p
    names: list[str] = []
    while (name := lib.gfxsim_exec_name(len(names))) is not None:
        names.append(name.decode())
    return names
