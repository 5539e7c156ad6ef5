"""The times of the simulator's clock for `bench simcost`: a chip of which every compute unit has work.

A model, not a measurement: op_tests/gfxsim/README.md, "Time", says how good it is. One request is decoded, whose first
workgroup is timed as one unit of a chip whose others are as busy; a run over 2048 keys minus one over 1024 gives the
clocks per key, and with them 8192 keys.
"""

from __future__ import annotations

import ctypes
from typing import Any

import aiter_c
from aiter_c.testing import Device, MlaCase, build_inputs

_LONG, _SHORT, KEYS = 2048, 1024, 8192
#: Of MI300X and MI355X: compute units, clocks per us with all of them at work (84 % of the peak, as the clock has it),
#: bytes of memory per such clock and unit at the data sheets' rates.
_CHIPS = {"gfx942": (304, 1764, 9.9), "gfx950": (256, 2016, 15.5)}
#: Clocks per key of AITER's kernels (amd-aiter 0.1.7.post2.dev18), found in the same way by
#: op_tests/oracle/clock_points.py, which checks them: (arch, dtype, heads, q). The others are not in that wheel, or
#: nothing here can drive them.
AITER = {
    ("gfx942", "bfloat16", 16, 4): 153.0,
    ("gfx942", "float8_e4m3fnuz", 16, 1): 81.4,
    ("gfx942", "float8_e4m3fnuz", 128, 1): 122.6,
    ("gfx950", "bfloat16", 16, 4): 132.2,
    ("gfx950", "float8_e4m3fn", 16, 1): 51.8,
    ("gfx950", "float8_e4m3fn", 128, 1): 122.6,
}
#: The same of its commit e4048607, which no wheel has.
LATER = {
    ("gfx942", "float8_e4m3fnuz", 64, 1): 124.1,
    ("gfx942", "float8_e4m3fnuz", 16, 4): 80.9,
    ("gfx950", "bfloat16", 32, 1): 93.2,
    ("gfx950", "bfloat16", 64, 1): 93.2,
    ("gfx950", "bfloat16", 16, 4): 107.8,
    ("gfx950", "bfloat16", 32, 4): 124.6,
    ("gfx950", "float8_e4m3fn", 32, 1): 51.7,
    ("gfx950", "float8_e4m3fn", 16, 4): 51.5,
    ("gfx950", "float8_e4m3fn", 32, 4): 89.9,
}
COLUMNS = {
    "arch": "6s", "H": "3d", "q": "1d", "dtype": "15s", "kernel": "28s", "clocks": "7.1f",
    "memory": "7.1f", "us of 8192 keys": "7.1f", "AITER's clocks": "7s", "e4048607's": "7s", "ratio": "5s",
}  # fmt: skip


class _Summary(ctypes.Structure):
    """gs_clock_summary_t of op_tests/gfxsim/src/clock.h; what is used of it."""

    _fields_ = [
        ("launches", ctypes.c_uint64), ("cycles", ctypes.c_int64), ("counts", ctypes.c_uint64 * 21),
        ("us", ctypes.c_double), ("total_us", ctypes.c_double),
    ]  # fmt: skip


def _us(simulator: ctypes.CDLL, device: Device, case: MlaCase) -> float:
    """All launches of one decode."""
    before, after = _Summary(), _Summary()
    arguments = build_inputs(case).arguments()
    simulator.gfxsim_clock_summary(ctypes.byref(before))
    device.call("mla_decode_fwd", exact=True, **arguments)
    simulator.gfxsim_clock_summary(ctypes.byref(after))
    if after.launches == before.launches:
        raise RuntimeError("the simulator timed no launch: AITER_C_HIP_LIBRARY is not the library that aiter_c loaded")
    return after.total_us - before.total_us


def row(simulator: ctypes.CDLL, key: tuple[str, str, int, int], page_size: int, place: str) -> dict[str, Any]:
    """(arch, dtype, heads, q): clocks per key of a unit, by the clock and by the memory's rate, and us; AITER's, and
    the ratio to the fewer of these."""
    arch, dtype, heads, q_len = key
    units, clocks_per_us, bytes_per_clock = _CHIPS[arch]
    device = Device(arch, place, simulated=True, copies=True)
    fields = {"heads": heads, "q_lens": (q_len,), "q_dtype": dtype, "kv_dtype": dtype, "page_size": page_size}
    options = {b"clock": 1, b"clock_active": units}
    simulator.gfxsim_set_option.argtypes = (ctypes.c_char_p, ctypes.c_uint64)
    for name, value in options.items():
        simulator.gfxsim_set_option(name, value)
    try:
        long, short = (
            _us(simulator, device, MlaCase(kv_lens=(length,), splits=1, **fields)) for length in (_LONG, _SHORT)
        )
    finally:
        for name in options:
            simulator.gfxsim_set_option(name, 0)
    plan = aiter_c.mla_plan(1, heads, q_len, page_size, dtype, dtype, num_kv_splits=1, max_kv_len=_LONG, device=place)
    per_key = (long - short) / (_LONG - _SHORT)
    theirs = [clocks for clocks in (AITER.get(key), LATER.get(key)) if clocks]
    return {
        "arch": arch, "H": heads, "q": q_len, "dtype": dtype, "kernel": plan.stage1,
        "clocks": per_key * clocks_per_us, "memory": 576 * (2 if dtype == "bfloat16" else 1) / bytes_per_clock,
        "us of 8192 keys": short + per_key * (KEYS - _SHORT),
        "AITER's clocks": f"{AITER[key]:.1f}" if key in AITER else "-",
        "e4048607's": f"{LATER[key]:.1f}" if key in LATER else "-",
        "ratio": f"{per_key * clocks_per_us / min(theirs):.2f}" if theirs else "-",
    }  # fmt: skip
