#!/usr/bin/env python3
"""Whether two folders of code objects hold the same machine code, kernel by kernel. For a change that only moves or
renames: build into another folder, and compare.

    scripts/build_kernels --out /tmp/new && scripts/compare_kernels.py hsa /tmp/new

Compares the bytes of every kernel: on AMD its function and its descriptor but for where the code is, on NVIDIA the
sections of its code, parameters and attributes. Exit status 1 when something differs or is missing.
"""

from __future__ import annotations

import argparse
import struct
import sys
from pathlib import Path

_SYMBOLS, _NO_BITS, _DYNAMIC_SYMBOLS = 2, 8, 11  # section types
_CODE_OFFSET = slice(16, 24)  # of an AMD kernel descriptor


class _Elf:
    """The sections and symbols of a 64-bit little-endian ELF file."""

    def __init__(self, path: Path) -> None:
        self.bytes = path.read_bytes()
        table, entry = struct.unpack_from("<Q", self.bytes, 40)[0], struct.unpack_from("<H", self.bytes, 58)[0]
        count, names = struct.unpack_from("<HH", self.bytes, 60)
        self.headers = [struct.unpack_from("<IIQQQQIIQQ", self.bytes, table + i * entry) for i in range(count)]
        self.names = self.headers[names][4]

    def _text(self, at: int) -> str:
        return self.bytes[at : self.bytes.index(b"\0", at)].decode()

    def sections(self) -> dict[str, bytes]:
        """Name -> contents."""
        return {self._text(self.names + h[0]): self.bytes[h[4] : h[4] + h[5]] for h in self.headers if h[1] != _NO_BITS}

    def symbols(self) -> dict[str, bytes]:
        """Name -> what a defined symbol covers."""
        out = {}
        for _, kind, _, _, offset, size, link, _, _, width in self.headers:
            for at in range(offset, offset + size, width) if kind in (_SYMBOLS, _DYNAMIC_SYMBOLS) else ():
                name, _, _, section, value, length = struct.unpack_from("<IBBHQQ", self.bytes, at)
                if not 0 < section < len(self.headers) or self.headers[section][1] == _NO_BITS:
                    continue
                begin = value - self.headers[section][3] + self.headers[section][4]
                out[self._text(self.headers[link][4] + name)] = self.bytes[begin : begin + length]
        return out


def kernels_of(path: Path) -> dict[str, bytes]:
    """What has to be the same in a code object."""
    elf = _Elf(path)
    if path.suffix == ".cubin":
        wanted = (".text.", ".nv.info.", ".nv.constant0.")
        return {name: data for name, data in elf.sections().items() if name.startswith(wanted)}
    symbols = elf.symbols()
    out = {name.removesuffix(".kd"): symbols[name.removesuffix(".kd")] for name in symbols if name.endswith(".kd")}
    for name in list(out):
        descriptor = bytearray(symbols[name + ".kd"])
        descriptor[_CODE_OFFSET] = bytes(8)
        out[name + ".kd"] = bytes(descriptor)
    return out


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    arguments = parser.parse_args()
    paths = {
        path.relative_to(folder)
        for folder in (arguments.old, arguments.new)
        for path in [*folder.glob("*/*.co"), *folder.glob("*/*.cubin")]
    }
    equal = bool(paths)
    for path in sorted(paths):
        missing = [folder for folder in (arguments.old, arguments.new) if not (folder / path).exists()]
        if missing:
            print(f"{path}: not in {missing[0]}")
            equal = False
            continue
        old, new = kernels_of(arguments.old / path), kernels_of(arguments.new / path)
        differ = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
        print(f"{path}: {len(new)} parts, {'all the same' if not differ else 'differ: ' + ', '.join(differ)}")
        equal &= bool(new) and not differ
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
