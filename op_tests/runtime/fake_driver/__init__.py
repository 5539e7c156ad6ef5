"""The fake GPU drivers of this folder: building them, and steering one in this process."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
from pathlib import Path

import aiter_c

SOURCE = Path(__file__).resolve().parent / "fake_driver.c"
SYMBOLS = Path(__file__).resolve().parents[3] / "csrc" / "device" / "driver_symbols.inc"
ARCHS = {"hip": "gfx942,gfx950,gfx1100", "cuda": "9.0,9.0,8.0"}
LIBRARIES = {"hip": "libfakehip.so", "cuda": "libcuda.so.1"}


def symbols(vendor: str) -> dict[str, bool]:
    """The driver's entry points that aiter_c uses: name -> whether it is needed."""
    text = re.sub(r"/\*.*?\*/", "", SYMBOLS.read_text(), flags=re.S)
    prefix = {"hip": "hip", "cuda": "cu"}[vendor]
    rows = re.findall(rf'(NEEDED|OPTIONAL)\("({prefix}[A-Z]\w*)"\)', text)
    return {name: kind == "NEEDED" for kind, name in rows}


def build(folder: Path, vendor: str, *, name: str | None = None, without: tuple[str, ...] = ()) -> Path:
    """Compiles a driver into the folder; `without`: entry points that it lacks."""
    path = folder / (name or LIBRARIES[vendor])
    folder.mkdir(parents=True, exist_ok=True)
    flags = ["-std=gnu17", "-O1", "-shared", "-fPIC", "-fvisibility=hidden", "-pthread", "-Wall", "-Wextra", "-Werror"]
    macros = [f"-D{symbol}=removed_{symbol}" for symbol in without] + ["-DFAKE_CUDA"] * (vendor == "cuda")
    compiler = os.environ.get("CC", "cc").split()
    subprocess.run([*compiler, *flags, *macros, str(SOURCE), "-o", str(path)], check=True)
    return path


def environment(vendor: str, library: Path, code_objects: Path | None = None) -> dict[str, str]:
    """What makes aiter_c take the driver: HIP's by the switch, CUDA's by the search path."""
    out = {"FAKE_ARCHS": ARCHS[vendor]}
    out |= {"AITER_C_HIP_LIBRARY": str(library)} if vendor == "hip" else {"LD_LIBRARY_PATH": str(library.parent)}
    return out | ({"AITER_C_HSA": str(code_objects)} if code_objects else {})


def write_code_objects(folder: Path, source_hash: str | None = None) -> Path:
    """A code object for every row of the kernel table, as the fake drivers load them; all of one hash, or each of its
    own."""
    known = aiter_c._C.build_info()["code_objects"]
    for row in aiter_c._C.kernel_table():
        if row["object"]:
            suffix = "cubin" if row["arch"] == "sm_90a" else "co"
            path = folder / row["arch"] / f"{row['object']}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            digest = source_hash or known[f"{row['arch']}/{row['object']}"]
            path.write_bytes(b"fake code object\0" * 50 + f"aiter_c kernel source {digest}\0more".encode())
    return folder


class Launch(ctypes.Structure):
    """launch_t of fake_driver.c."""

    _fields_ = [
        ("kernel", ctypes.c_char * 64),
        ("device", ctypes.c_int),
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("local_bytes", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("params_bytes", ctypes.c_size_t),
        ("params", ctypes.c_char * 1024),
    ]


class FakeDriver:
    """The driver that this process has loaded, or is about to."""

    def __init__(self, vendor: str, path: str | Path) -> None:
        self.vendor = vendor
        self._library = ctypes.CDLL(str(path))
        self._library.fake_call.restype = ctypes.c_char_p
        self._library.fake_last_launch.restype = ctypes.POINTER(Launch)
        self._name: bytes | None = None

    def fail(self, name: str | None, n: int, code: int) -> None:
        """The n-th call from now (of `name`, or of any) fails with the code, once."""
        self._name = name.encode() if name else None  # the driver keeps the pointer
        self._library.fake_fail(self._name, n, code)

    def calls(self, since: int = 0) -> list[str]:
        return [self._library.fake_call(i).decode() for i in range(since, self.call_count())]

    def last_launch(self) -> Launch:
        return Launch.from_buffer_copy(self._library.fake_last_launch().contents)

    def call_count(self) -> int:
        return self._library.fake_call_count()

    def launches(self) -> int:
        return self._library.fake_launch_count()

    def allocations(self) -> int:
        return self._library.fake_allocations()

    def modules(self) -> int:
        return self._library.fake_modules()

    def current(self) -> int:
        """The thread's device; with CUDA that of its current context, -1 without one."""
        return self._library.fake_current()

    def set_current(self, device: int) -> None:
        self._library.fake_set_current(device)

    def capture_mode(self) -> int:
        return self._library.fake_capture_mode()

    def set_capturing(self, on: bool) -> None:
        self._library.fake_set_capturing(int(on))

    def hold_free(self, on: bool) -> None:
        """While it is on, freeing waits, for 5 seconds at most."""
        self._library.fake_hold_free(int(on))

    def frees_held_too_long(self) -> int:
        """How many waited for the 5 seconds."""
        return self._library.fake_frees_held_too_long()

    def last_error(self) -> int:
        return self._library.fake_last_error()
