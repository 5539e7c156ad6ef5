"""Code objects looked at without running them."""

from __future__ import annotations

import ctypes as ct
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .library import ARCHS, CLASSES, HazardRow, Info, library

_MACHINES = {0x4C: "gfx942", 0x4F: "gfx950", 0x5F: "gfx942"}  # EF_AMDGPU_MACH; 0x5f is gfx9-4-generic


def arch_of(data: bytes) -> str | None:
    """The architecture of a code object, or None if it is neither of ours (or a bundle, which may hold several)."""
    if data[:4] != b"\x7fELF" or len(data) < 64:
        return None
    return _MACHINES.get(struct.unpack_from("<I", data, 48)[0] & 0xFF)


@dataclass(frozen=True)
class KernelInfo:
    name: str
    vgprs: int  # all vector registers, accumulation ones included
    agprs: int
    sgprs: int
    lds_bytes: int
    scratch_bytes: int
    kernarg_bytes: int
    max_threads: int
    instructions: dict[str, int]  # static, by class
    unknown: int  # words that are no instruction, and instructions that the simulator cannot run
    code_offset: int
    code_bytes: int


@dataclass(frozen=True)
class Hazard:
    """Two instructions that the program must keep further apart: README.md, "Hazards". Offsets into the code; `needed`
    and `found`: wait states between them; `first_text`, `second_text`: their assembly."""

    rule: str
    first: int
    second: int
    needed: int
    found: int
    first_text: str = ""
    second_text: str = ""


def hazard_rules() -> list[str]:
    """What is looked for."""
    rules: list[str] = []
    while (text := library().gfxsim_hazard_rule(len(rules))) is not None:
        rules.append(text.decode())
    return rules


def hazards_of_words(arch: str, words: Sequence[int]) -> list[Hazard]:
    """Of a few machine words that are run one after the other."""
    code, rows = (ct.c_uint32 * len(words))(*words), (HazardRow * len(words))()
    count = library().gfxsim_words_hazards(ARCHS.index(arch), code, len(words), rows, len(words))
    return [Hazard(row.rule.decode(), row.first, row.second, row.needed, row.found) for row in rows[:count]]


class CodeObject:
    """A file's kernels, and their disassembly."""

    def __init__(self, source: str | Path | bytes, arch: str | None = None) -> None:
        self.data = source if isinstance(source, bytes) else Path(source).read_bytes()
        self.arch = arch or arch_of(self.data) or ARCHS[0]
        self._lib = library()
        message = ct.create_string_buffer(512)
        self._handle = self._lib.gfxsim_code_open(
            self.data, len(self.data), ARCHS.index(self.arch), message, len(message)
        )
        if not self._handle:
            raise ValueError(message.value.decode())

    def close(self) -> None:
        handle, self._handle = self._handle, None
        if handle:
            self._lib.gfxsim_code_close(handle)

    def __enter__(self) -> CodeObject:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def kernels(self) -> list[KernelInfo]:
        found = []
        for index in range(self._lib.gfxsim_code_kernel_count(self._handle)):
            info = Info()
            self._lib.gfxsim_code_kernel(self._handle, index, ct.byref(info))
            values = {name: getattr(info, name) for name, _ in Info._fields_}
            values["name"] = info.name.decode()
            values["instructions"] = dict(zip(CLASSES, info.instructions, strict=True))
            found.append(KernelInfo(**values))
        return found

    def text(self) -> tuple[int, int]:
        """Address in the file's image, and size, of the code."""
        address = ct.c_uint64()
        size = self._lib.gfxsim_code_text(self._handle, ct.byref(address))
        return address.value, size

    def disassemble(self, kernel: KernelInfo | None = None) -> Iterator[tuple[int, str]]:
        """(offset into the code, text of the instruction) of a kernel or of all code."""
        at, end = (kernel.code_offset, kernel.code_offset + kernel.code_bytes) if kernel else (0, self.text()[1])
        line = ct.create_string_buffer(512)
        while at < end:
            size = self._lib.gfxsim_code_print(self._handle, at, line, len(line))
            yield at, line.value.decode()
            at += size

    def line(self, offset: int) -> str:
        """The text of the instruction at an offset into the code."""
        line = ct.create_string_buffer(512)
        self._lib.gfxsim_code_print(self._handle, offset, line, len(line))
        return line.value.decode()

    def hazards(self, kernel: KernelInfo | None = None, limit: int = 10000) -> list[Hazard]:
        """Of a kernel, or of all code, on every path through it: for each instruction its worst. The first `limit`."""
        low, size = (kernel.code_offset, kernel.code_bytes) if kernel else (0, self.text()[1])
        rows = (HazardRow * limit)()
        count = self._lib.gfxsim_code_hazards(self._handle, low, size, rows, limit)
        if count < 0:
            raise MemoryError("gfxsim_code_hazards")
        found = rows[: min(count, limit)]
        texts = [(self.line(row.first), self.line(row.second)) for row in found]
        return [
            Hazard(row.rule.decode(), row.first, row.second, row.needed, row.found, *text)
            for row, text in zip(found, texts, strict=True)
        ]
