"""python -m aiter_c bench simcost: instructions per KV token on gfx942 and gfx950, beside those of AITER's kernels.
Then their predicted times, and those of sparse decode and of prefill: simcost_clock.py, simcost_sparse.py,
simcost_prefill.py.

The simulator of a checkout (op_tests/gfxsim) executes the code objects and counts: a run over 2048 keys minus one over
1024, divided by 1024, one split, all workgroups of one request together. AITER's rows were counted from its own code
objects in the same way. The proxy is what one compute unit must issue, in clocks per token: (MFMA clocks + 4 VALU + 16
transcendental) / 4, of its four SIMDs.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

import aiter_c
from aiter_c.cli import simcost_clock, simcost_prefill, simcost_sparse
from aiter_c.cli import simulator as simulators
from aiter_c.cli.report import Table, write_json
from aiter_c.testing import Device, MlaCase, build_inputs
from aiter_c.testing.ops.mqa_logits import LogitsCase, PagedLogitsCase

_LONG, _SHORT = 2048, 1024
_PLACES = simulators.PLACES
#: 2 * (576 + 512) FLOP per head, query row and key, over FLOP per SIMD and clock.
_FLOP = 2176
_RATES = {
    ("gfx942", "bfloat16"): 512, ("gfx942", "float8_e4m3fn"): 1024, ("gfx942", "float8_e4m3fnuz"): 1024,
    ("gfx950", "bfloat16"): 1024, ("gfx950", "float8_e4m3fn"): 2048,
}  # fmt: skip
_NAMES = ("mfma clocks", "valu", "trans", "lds", "vmem", "salu", "barriers")

#: AITER's code objects of commit e4048607: (arch, kernel, dtype, H, q) -> per KV token, in the order of _NAMES.
AITER = {
    ("gfx942", "subQ16_mqa16", "bfloat16", 16, 1): (68, 14.9, 0.31, 4.1, 1.6, 0.5, 0.31),
    ("gfx942", "subQ128_mqa128", "bfloat16", 128, 1): (544, 77.8, 2.5, 14.0, 4.8, 6.4, 0.75),
    ("gfx942", "qh16_m16x4", "bfloat16", 16, 4): (272, 31.5, 1.25, 12.8, 4.8, 7.1, 0.75),
    ("gfx942", "qh8_v3", "bfloat16", 8, 1): (68, 14.9, 0.31, 4.1, 1.6, 0.5, 0.31),
    ("gfx942", "qh16", "float8_e4m3fnuz", 16, 1): (34, 11.3, 0.31, 4.1, 2.3, 0.5, 0.31),
    ("gfx942", "qh128", "float8_e4m3fnuz", 128, 1): (272, 44.1, 2.25, 8.0, 2.4, 3.9, 0.38),
    ("gfx950", "subQ16_mqa16", "bfloat16", 16, 1): (68, 14.9, 0.31, 4.1, 1.6, 0.5, 0.31),
    ("gfx950", "16mx4", "bfloat16", 32, 1): (136, 16.5, 1.12, 12.5, 1.25, 2.4, 0.13),
    ("gfx950", "qh64_v3", "bfloat16", 64, 1): (136, 19.0, 1.12, 12.5, 1.25, 2.3, 0.13),
    ("gfx950", "subQ128_mqa128", "bfloat16", 128, 1): (544, 77.8, 2.5, 14.0, 4.8, 6.4, 0.75),
    ("gfx950", "qh16_m16x4", "bfloat16", 16, 4): (272, 31.5, 1.25, 12.8, 4.8, 7.1, 0.75),
    ("gfx950", "qh16", "float8_e4m3fn", 16, 1): (18, 6.0, 0.28, 1.9, 0.7, 1.6, 0.09),
    ("gfx950", "qh128", "float8_e4m3fn", 128, 1): (272, 44.1, 2.25, 8.0, 2.4, 3.9, 0.38),
}


class _Totals(ctypes.Structure):
    """gs_totals_t of op_tests/gfxsim/src/launch.h."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "mfma", "valu", "trans", "lds", "vmem", "smem", "salu", "branch", "barriers", "wait", "mfma clocks",
            "read bytes", "write bytes", "lds read bytes", "lds write bytes", "launches", "workgroups", "waves",
        )
    ]  # fmt: skip


def issue_proxy(counts: Mapping[str, float]) -> float:
    """Clocks per KV token of one compute unit."""
    return (counts["mfma clocks"] + 4 * counts["valu"] + 16 * counts["trans"]) / 4


def totals_of(simulator: ctypes.CDLL) -> dict[str, int]:
    """What the simulator has executed since its counters were reset."""
    totals = _Totals()
    simulator.gfxsim_total_counters(ctypes.byref(totals))
    if totals.launches == 0:
        raise RuntimeError("the simulator saw no launch: AITER_C_HIP_LIBRARY is not the library that aiter_c loaded")
    return {name: getattr(totals, name) for name, _ in totals._fields_}


def count_call(simulator: ctypes.CDLL, device: Device, case: MlaCase) -> dict[str, int]:
    """Everything that the launches of one decode executed; arrays begin where allocations do, as a framework's do."""
    arguments = build_inputs(case).arguments()
    simulator.gfxsim_reset_counters()
    device.call("mla_decode_fwd", exact=True, **arguments)
    return totals_of(simulator)


def _measure(simulator: ctypes.CDLL, arch: str, dtype: str, heads: int, q_len: int, page_size: int) -> dict[str, float]:
    device = Device(arch, _PLACES[arch], simulated=True, copies=True)
    fields = {"heads": heads, "q_lens": (q_len,), "q_dtype": dtype, "kv_dtype": dtype, "page_size": page_size}
    run = lambda length: count_call(simulator, device, MlaCase(kv_lens=(length,), splits=1, **fields))  # noqa: E731
    long, short = run(_LONG), run(_SHORT)
    return {name: (long[name] - short[name]) / (_LONG - _SHORT) for name in long} | {"workgroups": long["workgroups"]}


def _row(simulator: ctypes.CDLL, key: tuple[str, str, str, int, int], page_size: int) -> dict[str, Any]:
    arch, kernel, dtype, heads, q_len = key
    ours = _measure(simulator, arch, dtype, heads, q_len, page_size)
    theirs = dict(zip(_NAMES, AITER[key], strict=True))
    plan = aiter_c.mla_plan(
        1, heads, q_len, page_size, dtype, dtype, num_kv_splits=1, max_kv_len=_LONG, device=_PLACES[arch]
    )
    itemsize = 2 if dtype == "bfloat16" else 1
    return {
        "arch": arch, "H": heads, "q": q_len, "dtype": dtype, "kernel": plan.stage1, "AITER": kernel,
        "useful": _FLOP * heads * q_len / _RATES[arch, dtype], **{name: ours[name] for name in _NAMES},
        "proxy": issue_proxy(ours), "AITER's": issue_proxy(theirs), "ratio": issue_proxy(ours) / issue_proxy(theirs),
        "workgroups": ours["workgroups"], "bytes": ours["read bytes"], "theirs": theirs,
        "x least bytes": ours["read bytes"] / (576 * itemsize),
    }  # fmt: skip


_COLUMNS = {
    "arch": "6s", "H": "3d", "q": "1d", "dtype": "15s", "kernel": "28s", "useful": "4.0f", "mfma clocks": "4.0f",
    "valu": "5.1f", "trans": "5.2f", "lds": "5.1f", "vmem": "5.2f", "salu": "5.1f", "barriers": "5.2f",
    "workgroups": "3d", "x least bytes": "5.2f", "proxy": "6.1f", "AITER's": "6.1f", "ratio": "5.2f",
}  # fmt: skip


#: 64 * 128 multiply-adds over those of a compute unit and clock; a maximum and half a packed multiply-add per head over
#: 64 lanes.
_LOGITS_MFMA, _LOGITS_VALU = {"gfx942": 4.0, "gfx950": 2.0}, 1.5
_UNITS = {"gfx942": 304, "gfx950": 256}
_LOGITS_COLUMNS = {
    "arch": "6s", "keys": "11s", "least mfma": "5.1f", "mfma": "5.2f", "least valu": "5.1f", "valu": "5.2f",
    "lds": "6.3f", "vmem": "6.3f", "barriers": "6.4f",
}  # fmt: skip


def _logits_row(simulator: ctypes.CDLL, arch: str, kind: str) -> dict[str, Any]:
    """A long call minus a short one, over the logits between them; the arch's own kind of fp8."""
    device = Device(arch, _PLACES[arch], simulated=True, copies=True)
    own = "float8_e4m3fnuz" if arch == "gfx942" else "float8_e4m3fn"
    dtypes = {"q_dtype": own, "kv_dtype": own}
    cases: list[Any]
    if kind == "contiguous":  # in one block of rows
        cases = [LogitsCase(rows=rows, keys=256, **dtypes) for rows in (16, 8)]
        logits = 8 * 256
    else:
        q = int(kind[-1])
        tiles = 2 * _UNITS[arch] * 256  # one of 256 keys for each of the two workgroups of every compute unit
        cases = [PagedLogitsCase(lens=(n * tiles,), next_n=q, clean=False, **dtypes) for n in (3, 2)]
        logits = q * tiles
    long, short = ({} for _ in range(2))
    for counts, case in zip((long, short), cases, strict=True):
        simulator.gfxsim_reset_counters()
        device.call(case.op, exact=True, **case.inputs().arguments())
        totals = _Totals()
        simulator.gfxsim_total_counters(ctypes.byref(totals))
        counts |= {name: getattr(totals, name) for name, _ in totals._fields_}
    per = {name: (long[name] - short[name]) / logits for name in long}
    return {
        "arch": arch, "keys": kind, "least mfma": _LOGITS_MFMA[arch], "mfma": per["mfma clocks"] / 4,
        "least valu": _LOGITS_VALU, "valu": per["valu"], **{name: per[name] for name in ("lds", "vmem", "barriers")},
    }  # fmt: skip


#: Of `--shape`: what of a row is shown.
_SHAPE_COLUMNS = {
    "arch": "6s", "H": "3d", "q": "1d", "dtype": "15s", "kernel": "28s", **dict.fromkeys(_NAMES, "6.2f"),
    "proxy": "6.1f", "clocks": "7.1f", "memory": "7.1f", "AITER's clocks": "7s", "e4048607's": "7s", "ratio": "5s",
}  # fmt: skip


def _shape(text: str, arch: str) -> tuple[str, str, int, int] | None:
    """(arch, dtype, heads, q) of "128,1,fp8"; None if it is none."""
    own = "float8_e4m3fnuz" if arch == "gfx942" else "float8_e4m3fn"
    heads, q_len, dtype = (*text.split(","), "", "", "")[:3]
    dtypes = {"bf16": "bfloat16", "fp8": own}
    good = heads.isdecimal() and q_len.isdecimal() and dtype in dtypes and int(heads) * int(q_len) > 0
    return (arch, dtypes[dtype], int(heads), int(q_len)) if good else None


def _run_shapes(simulator: ctypes.CDLL, arguments: Namespace) -> int:
    table = Table(_SHAPE_COLUMNS)
    for arch in arguments.arch or _PLACES:
        for text in arguments.shape:
            if (key := _shape(text, arch)) is None:
                print(f"--shape: expected HEADS,Q,DTYPE as 128,1,fp8 or 16,4,bf16, got {text!r}", file=sys.stderr)
                return 2
            _, dtype, heads, q_len = key
            counts = _measure(simulator, arch, dtype, heads, q_len, arguments.page_size)
            clock = simcost_clock.row(simulator, key, arguments.page_size, _PLACES[arch])
            table.add({**counts, **clock, "proxy": issue_proxy(counts)})
    if arguments.json:
        write_json(arguments.json, table.rows)
    return 0


def _run_again(environment: dict[str, str], arguments: Namespace) -> int:
    command = [sys.executable, "-m", "aiter_c", "bench", "simcost", "--page-size", str(arguments.page_size)]
    command += [word for arch in arguments.arch or () for word in ("--arch", arch)]
    command += [word for shape in arguments.shape or () for word in ("--shape", shape)]
    command += ["--json", arguments.json] if arguments.json else []
    return subprocess.run(command, env=os.environ | environment, check=False).returncode


def run(arguments: Namespace) -> int:
    """Prints a row per kernel of AITER that has a counterpart here; 2 outside of a checkout: no simulator."""
    if not simulators.is_used():
        environment = simulators.environment()
        if environment is None:
            print(
                "bench simcost needs the simulator of a checkout, op_tests/gfxsim; it is not installed", file=sys.stderr
            )
            return 2
        return _run_again(environment, arguments)
    simulator = ctypes.CDLL(os.environ["AITER_C_HIP_LIBRARY"])
    if arguments.shape:
        return _run_shapes(simulator, arguments)
    keys = [key for key in AITER if key[0] in (arguments.arch or _PLACES)]
    table = Table(_COLUMNS)
    for key in keys:
        table.add(_row(simulator, key, arguments.page_size))
    clock = Table(simcost_clock.COLUMNS)
    print("\nBy the simulator's clock, all compute units at work: clocks per key, those of memory alone, us (a model).")
    for arch, _, *shape in keys:
        clock.add(simcost_clock.row(simulator, (arch, *shape), arguments.page_size, _PLACES[arch]))
    sparse = Table(simcost_sparse.COLUMNS)
    for key in simcost_sparse.KEYS:
        if key[0] in (arguments.arch or _PLACES):
            sparse.add(simcost_sparse.row(simulator, totals_of, key, _PLACES[key[0]]))
    prefill = Table(simcost_prefill.COLUMNS)
    for key in simcost_prefill.KEYS:
        if key[0] in (arguments.arch or _PLACES):
            prefill.add(simcost_prefill.row(simulator, totals_of, key, _PLACES[key[0]]))
    logits = Table(_LOGITS_COLUMNS)
    print("\nIndexer logits of 64 heads: clocks of a compute unit's matrix and vector units per logit, and the least.")
    for arch in arguments.arch or _PLACES:
        for kind in ("pages, q 1", "pages, q 4", "contiguous"):
            logits.add(_logits_row(simulator, arch, kind))
    if arguments.json:
        write_json(arguments.json, [*table.rows, *clock.rows, *sparse.rows, *prefill.rows, *logits.rows])
    return 0
