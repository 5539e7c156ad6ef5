"""LLVM's disassembler with the protocol of disassemble.c: hexadecimal words per line in, "BYTES<TAB>TEXT" out.

A process of its own, because LLVM 22 can crash on encodings that are none. `python llvm_oracle.py ARCH < LINES`.
"""

from __future__ import annotations

import ctypes
import re
import struct
import sys
from contextlib import suppress

WORDS = 4


def load() -> ctypes.CDLL:
    """libLLVM of llvm-22, the code that llvm-mc-22 and llvm-objdump-22 run."""
    names = ("libLLVM.so.22.1", "libLLVM-22.so.1", "libLLVM-22.so")
    for name in names:
        with suppress(OSError):
            return ctypes.CDLL(name)
    raise OSError(f"none of {', '.join(names)} can be loaded")


def disassembler(arch: str) -> tuple[ctypes.CDLL, ctypes.c_void_p]:
    llvm = load()
    for part in ("TargetInfo", "TargetMC", "Disassembler"):
        getattr(llvm, f"LLVMInitializeAMDGPU{part}")()
    llvm.LLVMCreateDisasmCPU.restype = ctypes.c_void_p
    llvm.LLVMCreateDisasmCPU.argtypes = [ctypes.c_char_p] * 2 + [ctypes.c_void_p, ctypes.c_int] + [ctypes.c_void_p] * 2
    llvm.LLVMDisasmInstruction.restype = ctypes.c_size_t
    llvm.LLVMDisasmInstruction.argtypes = [
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_uint64,
        ctypes.c_uint64,
        ctypes.c_char_p,
        ctypes.c_size_t,
    ]
    return llvm, llvm.LLVMCreateDisasmCPU(b"amdgcn-amd-amdhsa", arch.encode(), None, 0, None, None)


def main(arch: str) -> None:
    llvm, handle = disassembler(arch)
    text = ctypes.create_string_buffer(512)
    for line in sys.stdin:
        words = [int(word, 16) for word in line.split()]
        words += [0] * (WORDS - len(words))  # LLVM reads a literal without looking whether there is one
        code = struct.pack(f"<{len(words)}I", *words)
        size = llvm.LLVMDisasmInstruction(handle, code, len(code), 0, text, len(text))
        found = re.sub(r"\s+", " ", text.value.decode()).strip() if size else ""
        if "/*" in found or "Warning:" in found:  # printed with "Invalid register", "Invalid immediate", ...
            size, found = 0, ""
        print(f"{size}\t{found}")


if __name__ == "__main__":
    main(sys.argv[1])
