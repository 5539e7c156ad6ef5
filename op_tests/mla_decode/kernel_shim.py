"""The attention kernels below the op: kernel_shim.c compiled, and one way to run a kernel of any device by its
parameter struct. For what the op does not pass on yet: shards."""

from __future__ import annotations

import ctypes
import os
import subprocess
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
HSA = ROOT / "hsa"
DECODE_ROWS = {"cpu": 64, "gfx942": 16, "gfx950": 16}  # of a tile, by device


@cache
def shim() -> ctypes.CDLL:
    """kernel_shim.c as a library; compiled once per process."""
    library = Path(mkdtemp(prefix="kernel_shim")) / "shim.so"
    source = Path(__file__).with_name("kernel_shim.c")
    flags = ["-std=gnu17", "-O1", "-shared", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-w"]
    compiler = os.environ.get("CC", "cc").split()
    subprocess.run(
        [*compiler, *flags, f"-I{ROOT / 'csrc/cpu'}", str(source), "-o", str(library), "-lm"],
        check=True,
    )
    out = ctypes.CDLL(str(library))
    for name in ("decode_params", "work", "divide", "fast", "shard_key", "shard_count", "scratch_bytes"):
        getattr(out, f"shim_{name}").restype = ctypes.c_int64
    return out


class Memory:
    """Arrays where a device reads them: the simulator's, or the host's."""

    def __init__(self, device: str) -> None:
        self.device, self.kept = device, []
        if device != "cpu":
            from gfxsim import Simulator

            self.simulator = Simulator()
            self.simulator.set_device(self.simulator.device_of(device))

    def put(self, array: np.ndarray | None) -> int:
        """Its address; 0 for None."""
        if array is None:
            return 0
        if self.device == "cpu":
            self.kept.append(array)
            return array.ctypes.data
        buffer = self.simulator.upload(array)
        self.kept.append((array, buffer))
        return buffer.address

    def fetch(self) -> None:
        """What kernels wrote, into the arrays."""
        for array, buffer in self.kept if self.device != "cpu" else ():
            if array.flags.writeable and array.nbytes:
                array[...] = buffer.read(array.dtype, array.shape)

    def launch(self, stem: str, kernel: str, params: bytes, grid: int, local_bytes: int) -> None:
        """A kernel of hsa/<device>/<stem>.co with its parameter struct."""
        module = self.simulator.load(HSA / self.device / f"{stem}.co")
        module.kernel(kernel)([params], grid, 256, local_bytes)
        self.simulator.synchronize()


def params_of(kind: str, numbers: list[int]) -> Any:
    """The parameter struct out of the shim's list of numbers."""
    buffer = ctypes.create_string_buffer(1024)
    size = getattr(shim(), f"shim_{kind}_params")((ctypes.c_int64 * len(numbers))(*numbers), buffer)
    return (ctypes.c_char * size).from_buffer(buffer)
