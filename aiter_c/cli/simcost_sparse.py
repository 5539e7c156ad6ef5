"""The rows of sparse decode of `python -m aiter_c bench simcost`: what a workgroup executes per selected key, beside
dense decode of the same format, whose keys stand in pages of 64.

One row of queries, one split: a list of 2048 random slots of pages of 64 minus one of 1024, divided by 1024.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import aiter_c
from aiter_c.testing import Device, MlaCase, build_inputs
from aiter_c.testing.ops.sparse_mla import SparseCase

LONG, SHORT, PAGE = 2048, 1024, 64
#: FLOP per SIMD and clock, of 16-bit types; fp8 has twice as many.
_RATES = {"gfx942": 512, "gfx950": 1024}
_NATIVE_FP8 = {"gfx942": "float8_e4m3fnuz", "gfx950": "float8_e4m3fn"}
_FLOP = 2 * (576 + 512)
#: (arch, heads, cache)
KEYS = [
    (arch, heads, cache)
    for arch in _RATES
    for cache in ("bfloat16", "fp8", "fp8_ds_mla")
    for heads in (16, 64, 128)
]  # fmt: skip
COLUMNS = {
    "arch": "6s", "H": "3d", "cache": "10s", "kernel": "28s", "useful": "4.0f", "mfma clocks": "4.0f", "valu": "5.1f",
    "trans": "5.2f", "lds": "5.1f", "vmem": "5.2f", "salu": "5.1f", "workgroups": "3d", "x least bytes": "5.2f",
    "proxy": "6.1f", "dense": "6.1f", "x dense": "5.2f",
}  # fmt: skip


def _fields(arch: str, heads: int, cache: str) -> dict[str, Any]:
    """Of both cases; fp8 is the arch's own kind, of queries as well."""
    if cache == "fp8_ds_mla":
        return {"heads": heads, "kv_format": cache, "kv_dtype": "float8_e4m3fn", "page_size": PAGE}
    dtype = _NATIVE_FP8[arch] if cache == "fp8" else cache
    return {"heads": heads, "q_dtype": dtype, "kv_dtype": dtype, "page_size": PAGE}


def _proxy(counts: dict[str, float]) -> float:
    return (counts["mfma clocks"] + 4 * counts["valu"] + 16 * counts["trans"]) / 4


def row(simulator: ctypes.CDLL, totals: Callable[[ctypes.CDLL], dict[str, int]], key: tuple, place: str) -> dict:
    """`totals`: what the simulator has executed since its counters were reset."""
    arch, heads, cache = key
    device = Device(arch, place, simulated=True, copies=True)
    fields = _fields(*key)

    def per_key(call: Callable[[int], None]) -> dict[str, float]:
        counts = []
        for length in (LONG, SHORT):
            simulator.gfxsim_reset_counters()
            call(length)
            counts.append(totals(simulator))
        long, short = counts
        per = {name: (long[name] - short[name]) / (LONG - SHORT) for name in long}
        return per | {"workgroups": long["workgroups"]}

    def sparse(length: int) -> None:
        case = SparseCase(lens=(length,), given=True, **fields)
        device.call(case.op, exact=True, **case.inputs().arguments())

    def dense(length: int) -> None:
        arguments = build_inputs(MlaCase(kv_lens=(length,), splits=1, **fields)).arguments()
        device.call("mla_decode_fwd", exact=True, **arguments)

    ours, theirs = per_key(sparse), per_key(dense)
    kv_dtype = fields["kv_dtype"] if cache != "fp8_ds_mla" else cache
    q_dtype = fields.get("q_dtype", "bfloat16")
    plan = aiter_c.mla_plan(1, heads, 1, 1, q_dtype, kv_dtype, num_kv_splits=1, max_kv_len=LONG, device=place)
    bytes_of_key = {"bfloat16": 1152, "fp8": 576, "fp8_ds_mla": 656}[cache] + 4  # and its slot
    return ours | {
        "arch": arch, "H": heads, "cache": cache, "kernel": plan.stage1,
        "useful": _FLOP * heads / (_RATES[arch] * (2 if cache == "fp8" else 1)),
        "x least bytes": ours["read bytes"] / bytes_of_key, "proxy": _proxy(ours), "dense": _proxy(theirs),
        "x dense": _proxy(ours) / _proxy(theirs), "dense bytes": theirs["read bytes"],
    }  # fmt: skip
