"""The prefill rows of `python -m aiter_c bench simcost`: what a workgroup executes per key, and the matrix clocks of a
causal call over those that its visible (row, key) pairs need.

128 query rows of one head, no mask: a run over 2048 keys minus one over 1024, divided by 1024. `causal`: the MFMA
clocks of 1024 new tokens over the useful ones, with everything that tiles and masks add.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from aiter_c.testing import Device
from aiter_c.testing.ops.mla_prefill import PrefillCase, kernel_of

LONG, SHORT, ROWS = 2048, 1024, 128
_NATIVE_FP8 = {"gfx942": "float8_e4m3fnuz", "gfx950": "float8_e4m3fn"}
#: FLOP per SIMD and clock, of 16-bit types; fp8 has twice as many.
_RATES = {"gfx942": 512, "gfx950": 1024}
#: (arch, dims, dtype)
KEYS = [
    (arch, dims, dtype)
    for arch, fp8 in _NATIVE_FP8.items()
    for dims in ("192/128", "256/256")
    for dtype in ("bfloat16", fp8)
]
COLUMNS = {
    "arch": "6s", "dims": "7s", "dtype": "15s", "kernel": "21s", "useful": "4.0f", "mfma clocks": "4.0f",
    "valu": "5.1f", "trans": "5.2f", "lds": "5.2f", "lds bytes": "5.0f", "vmem": "5.2f", "salu": "5.1f",
    "barriers": "5.2f", "proxy": "6.1f", "causal": "6.3f",
}  # fmt: skip


def _flop(dims: str, pairs: int) -> int:
    head, value = map(int, dims.split("/"))
    return 2 * (head + value) * pairs


def row(simulator: ctypes.CDLL, totals: Callable[[ctypes.CDLL], dict[str, int]], key: tuple, place: str) -> dict:
    """`totals`: what the simulator has executed since its counters were reset."""
    arch, dims, dtype = key
    device = Device(arch, place, simulated=True, copies=True)
    rate = _RATES[arch] * (1 if dtype == "bfloat16" else 2)

    def count(rows: int, keys: int, causal: bool) -> dict[str, int]:
        case = PrefillCase(
            heads=1, q_lens=(rows,), kv_lens=(keys,), dims=dims, dtype=dtype, causal=causal, order="none"
        )  # fmt: skip
        arguments = case.inputs().arguments()
        simulator.gfxsim_reset_counters()
        device.call("mla_prefill_ps_fwd", exact=True, **arguments)
        return totals(simulator)

    long, short = count(ROWS, LONG, causal=False), count(ROWS, SHORT, causal=False)
    per_key: dict[str, Any] = {name: (long[name] - short[name]) / (LONG - SHORT) for name in long}
    square = PrefillCase(heads=1, q_lens=(SHORT,), kv_lens=(SHORT,), dims=dims, dtype=dtype)
    kernel = kernel_of(square, device)
    assert kernel is not None
    return per_key | {
        "arch": arch, "dims": dims, "dtype": dtype, "kernel": kernel["name"], "useful": _flop(dims, ROWS) / rate,
        "lds bytes": per_key["lds read bytes"] + per_key["lds write bytes"],
        "proxy": (per_key["mfma clocks"] + 4 * per_key["valu"] + 16 * per_key["trans"]) / 4,
        "causal": count(SHORT, SHORT, causal=True)["mfma clocks"] / (_flop(dims, SHORT * (SHORT + 1) // 2) / rate),
    }  # fmt: skip
