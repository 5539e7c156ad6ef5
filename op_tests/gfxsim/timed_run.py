"""A timed launch of any code object, described in a small JSON: `python -m op_tests.gfxsim FILE.co --profile JSON`.

    {
      "kernel": "vector_add",
      "grid": [304], "block": [256], "lds": 0,
      "clock": 1, "clock_only": true, "options": {"keep_going": 1},
      "arguments": [
        {"array": "float32", "shape": [311296], "fill": "random"},
        {"array": "float32", "shape": [311296], "fill": 1},
        {"array": "float32", "shape": [311296]},
        {"value": 311296},
        {"pointers": [0, 1]},
        {"bytes": "00ff00ff"}
      ]
    }

An argument is an array in device memory (`fill`: a number or a list of them, "random" in [0, 1) or small integers,
"arange"; else zeros), a number, device memory with the addresses of other arguments' arrays, or raw bytes. A kernel
whose arguments the metadata does not list gets them packed: `"packed": 8` puts each at a multiple of 8.
`clock_only`: workgroups that are not timed do not run, which is right where none waits for another. `options` of the
simulator: a kernel that does not wait for its loads needs some.
"""

from __future__ import annotations

import ctypes as ct
import json
from pathlib import Path
from typing import Any

import numpy as np

from .clock import Profile
from .code import CodeObject
from .simulator import Buffer, Simulator, _three

_BUFFER, _SIZE, _END = 1, 2, 3


def _array(argument: dict[str, Any], seed: int) -> np.ndarray:
    shape, dtype, fill = argument["shape"], np.dtype(argument["array"]), argument.get("fill", 0)
    if fill == "random":
        rng = np.random.default_rng(seed)
        values = rng.random(shape) if dtype.kind == "f" else rng.integers(0, 100, shape)
        return values.astype(dtype)
    if fill == "arange":
        return np.arange(int(np.prod(shape)), dtype=dtype).reshape(shape)
    return np.full(shape, fill, dtype)


class _Arguments:
    def __init__(self, simulator: Simulator, described: list[dict[str, Any]]) -> None:
        self.simulator = simulator
        self.places: dict[int, Buffer] = {}
        for number, argument in enumerate(described):
            if "array" in argument:
                self.places[number] = simulator.upload(_array(argument, number))
        self.values = [self._value(number, argument) for number, argument in enumerate(described)]

    def _value(self, number: int, argument: dict[str, Any]) -> Buffer | int | float | bytes:
        if "array" in argument:
            return self.places[number]
        if "value" in argument:
            value = argument["value"]
            if not isinstance(value, (int, float)):
                raise ValueError(f"arguments[{number}]: value: expected a number, got {value!r}")
            return value
        if "pointers" in argument:
            table = np.array([self.places[i].address for i in argument["pointers"]], np.uint64)
            return self.places.setdefault(number, self.simulator.upload(table))
        if "bytes" in argument:
            return bytes.fromhex(argument["bytes"])
        raise ValueError(f"arguments[{number}]: expected array, value, pointers or bytes, got {sorted(argument)}")

    def packed(self, step: int) -> bytes:
        cells = []
        for value in self.values:
            if isinstance(value, Buffer):
                cell = value.address.to_bytes(8, "little")
            elif isinstance(value, bytes):
                cell = value
            else:
                cell = np.array(value, np.float32 if isinstance(value, float) else np.int32).tobytes()
            cells.append(cell + bytes(-len(cell) % step))
        return b"".join(cells)


def profile(file: Path, description: Path, arch: str | None = None) -> Profile:
    """Runs it on the first device of its architecture. Raises HipError, and ValueError for a wrong description."""
    told = json.loads(description.read_text())
    simulator = Simulator()
    with CodeObject(file, arch) as code:
        names = [kernel.name for kernel in code.kernels()]
        name = told.get("kernel", names[0] if len(names) == 1 else None)
        if name not in names:
            raise ValueError(f"{description}: kernel: expected one of {names}, got {name!r}")
        simulator.set_device(simulator.device_of(code.arch))
        module = simulator.load(code.data)
        kernel = module.kernel(name)
        arguments = _Arguments(simulator, told.get("arguments", []))
        for option, value in told.get("options", {}).items():
            simulator.set_option(option, value)
        simulator.set_option("clock", told.get("clock", 1))
        simulator.set_option("clock_only", bool(told.get("clock_only", False)))
        try:
            if "packed" in told:
                block = arguments.packed(told["packed"])
                held, size = ct.create_string_buffer(block, len(block)), ct.c_size_t(len(block))
                extra = (ct.c_void_p * 5)(_BUFFER, ct.addressof(held), _SIZE, ct.addressof(size), _END)
                sizes = (*_three(told["grid"]), *_three(told["block"]), told.get("lds", 0))
                simulator.call("hipModuleLaunchKernel", kernel.function, *sizes, None, None, extra)
            else:
                kernel(arguments.values, told["grid"], told["block"], told.get("lds", 0))
            return Profile.of(code)
        finally:
            simulator.reset_options()
