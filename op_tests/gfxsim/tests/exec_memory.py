"""What the tests of memory instructions share: widths and signs of loads and stores, addresses, machines."""

from __future__ import annotations

from typing import Any

import numpy as np

from gfxsim.tests.exec_machine import LANES, Machine, Result

U32, U64 = np.uint32, np.uint64


def clean(result: Result) -> Result:
    assert result.kind == "none", result.text
    return result


def addresses(base: int, stride: int) -> np.ndarray:
    return (base + np.arange(LANES, dtype=U64) * U64(stride)).astype(U64)


def noise(size: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size).astype(np.uint8)


def set_pair(machine: Machine, reg: int, value: int) -> None:
    machine.s[reg], machine.s[reg + 1] = value & 0xFFFFFFFF, value >> 32


# mnemonic ending, bytes, signed, half (None: the whole register, 0: low, 1: high)
LOADS = (
    ("ubyte", 1, False, None), ("sbyte", 1, True, None), ("ushort", 2, False, None), ("sshort", 2, True, None),
    ("dword", 4, False, None), ("dwordx2", 8, False, None), ("dwordx3", 12, False, None), ("dwordx4", 16, False, None),
    ("ubyte_d16", 1, False, 0), ("ubyte_d16_hi", 1, False, 1), ("sbyte_d16", 1, True, 0), ("sbyte_d16_hi", 1, True, 1),
    ("short_d16", 2, False, 0), ("short_d16_hi", 2, False, 1),
)  # fmt: skip
STORES = (
    ("byte", 1, 0), ("byte_d16_hi", 1, 16), ("short", 2, 0), ("short_d16_hi", 2, 16), ("dword", 4, 0),
    ("dwordx2", 8, 0), ("dwordx3", 12, 0), ("dwordx4", 16, 0),
)  # fmt: skip


def registers(first: int, size: int) -> str:
    count = (size + 3) // 4
    return f"v{first}" if count == 1 else f"v[{first}:{first + count - 1}]"


def expected_load(data: bytes, size: int, signed: bool, half: int | None, old: int) -> list[int]:
    if size >= 4:
        return [int.from_bytes(data[i : i + 4], "little") for i in range(0, size, 4)]
    value = int.from_bytes(data[:size], "little", signed=signed)
    if half is None:
        return [value & 0xFFFFFFFF]
    kept = old & (0xFFFF if half else 0xFFFF0000)
    return [kept | (value & 0xFFFF) << 16 * half]


def check_loaded(result: Result, data: np.ndarray, places: Any, size: int, signed: bool, half: int | None) -> None:
    for lane in range(LANES):
        place = int(places[lane])
        want = expected_load(data[place : place + size].tobytes(), size, signed, half, 0x11112222)
        assert [int(result.v[i][lane]) for i in range(len(want))] == want, lane


def with_old_registers(machine: Machine) -> Machine:
    for reg in range(4):
        machine.set(reg, np.full(LANES, 0x11112222, U32))
    return machine
