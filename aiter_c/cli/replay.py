"""python -m aiter_c replay FILE: a call that AITER_C_DUMP wrote, run again, and what it gives against what it gave
(or raised) when it was written, or with --against fp64 against the reference.

--device   cpu, cuda, hip, or gfx942 and gfx950 in a checkout's simulator. On the CPU tensors are what they were, of
           torch where it is installed and they were its own; elsewhere they are copies with the same strides.
Exit status 0: every output is within its tolerance, or the call raises what it raised; 1: not so; 2: it cannot be run.

Tolerances of a recorded result: the same bits on the same CPU path. Elsewhere twice the reference's, since both may be
as far off; where there is no reference twice that of an attention output and 2^-6 of the largest value of the row, for
probabilities that either rounded; and the same bits for fp8 and for what is no floating-point number.
"""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import aiter_c
from aiter_c import _C
from aiter_c._dump_file import NEEDS, Loaded, Unreadable
from aiter_c._modules import is_installed
from aiter_c._torch_table import GRAPH_OPS
from aiter_c.cli import simulator
from aiter_c.cli.report import Table, write_json
from aiter_c.testing import CPU, OUTPUT, Device, Expected, Tolerance
from aiter_c.testing.references import NoReference, expected_of, largest_error, same_bits

_COLUMNS = {"output": "16s", "dtype": "13s", "shape": "18s", "elements": "9d", "largest error": "13.3g",
            "of tolerance": "12.3g", "outside": "7d", "": "4s"}  # fmt: skip
_ROUNDED = ("float16", "bfloat16", "float32", "float64")


class CannotRun(Exception):
    """Why not, for the person who asked."""


def _arrays(name: str, value: Any) -> dict[str, np.ndarray]:
    """The tensors in a value, by name: "o", "o[0]", "returned[1]"."""
    if isinstance(value, (list, tuple)):
        return {key: array for i, item in enumerate(value) for key, array in _arrays(f"{name}[{i}]", item).items()}
    array = _as_numpy(value)
    return {} if array is None else {name: array}


def _all_arrays(arguments: dict[str, Any]) -> dict[str, np.ndarray]:
    return {key: array for name, value in arguments.items() for key, array in _arrays(name, value).items()}


def _as_numpy(value: Any) -> np.ndarray | None:
    """A tensor on the host as an array over its memory; None: no tensor."""
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, _C.Array):
        return value.numpy()
    if type(value).__module__ == "torch" and hasattr(value, "untyped_storage"):
        import torch

        from aiter_c.testing.memory import dtype_of

        dtype = dtype_of(str(value.dtype).removeprefix("torch."))
        memory = torch.empty(0, dtype=torch.uint8).set_(value.untyped_storage()).numpy()
        strides = tuple(stride * dtype.itemsize for stride in value.stride())
        return np.ndarray(tuple(value.shape), dtype, memory, value.storage_offset() * dtype.itemsize, strides)
    return None


class Replayed:
    """The call again: what it gave or raised. before, after: tensors of the arguments by name."""

    def __init__(self, call: Loaded, device: Device) -> None:
        op = call.record["op"]
        try:
            torch = None
            if device.place == "cpu" and is_installed("torch"):
                import torch
            arguments, self.before = call.arguments(torch), call.arguments()
        except (Unreadable, ValueError, TypeError, RuntimeError, aiter_c.UnsupportedError) as problem:
            raise CannotRun(f"the arguments cannot be made again: {problem}") from None
        arguments.pop("stream", None)
        if "plan" in arguments and device.place != "cpu":
            arguments["plan"] = None  # it is one of another device
        positional = [value for name, value in arguments.items() if name.startswith("argument ")]
        named = {name: value for name, value in arguments.items() if not name.startswith("argument ")}
        self.error: Exception | None = None
        self.returned: Any = None
        try:
            if device.copies:
                self.returned = device.call(op, *positional, exact=True, **named)
            else:
                self.returned = getattr(aiter_c, op)(*positional, **named)
        except Exception as error:
            self.error = error
        self.after = _all_arrays(arguments)
        self.results = _arrays("returned", self.returned)


def _scratch(op: str) -> set[str]:
    """Results of the op that hold nothing a caller may rely on."""
    row = next((row for row in GRAPH_OPS if row.function == op), None)
    names = row.result if row and isinstance(row.result, tuple) else ()
    return {f"returned[{i}]" for i, name in enumerate(names) if name is None}


def _full(op: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """With the defaults."""
    bound = inspect.signature(getattr(aiter_c, op)).bind(**arguments)
    bound.apply_defaults()
    return dict(bound.arguments)


def _against_reference(call: Loaded, run: Replayed, device: Device) -> dict[str, Expected]:
    op = call.record["op"]
    try:
        return expected_of(op, _full(op, run.before), device)
    except NoReference as reason:
        raise CannotRun(f"--against fp64: {reason}") from None


def _doubled(tolerance: Tolerance) -> Tolerance:
    """Of two results. Differences of cosines are of squares."""
    return Tolerance(2 * tolerance.absolute, 2 * tolerance.relative, 4 * tolerance.cosine, 4 * tolerance.row_cosine)


def _against_record(call: Loaded, run: Replayed, device: Device) -> dict[str, Expected]:
    """What was written after the call: arguments that it changed, and what it returned."""
    op, environment = call.record["op"], call.record["environment"]
    after, before = (_all_arrays(call.arguments(after=which)) for which in (True, False))
    values = {name: array for name, array in after.items() if not same_bits(array, before[name]).all()}
    values |= {name: a for name, a in _arrays("returned", call.returned()).items() if name not in _scratch(op)}
    there = {facts["device"] for facts in call.record["tensors"]}
    alike = there == {"cpu"} and device.place == "cpu" and environment["cpu"]["path"] == _C.cpu_arch()
    try:
        reference = {} if alike else expected_of(op, _full(op, run.before), device)
    except NoReference:
        reference = {}
    expected = {}
    for name, array in values.items():
        wanted = reference.get(name)
        expected[name] = Expected(array)
        if not alike and array.dtype.name in _ROUNDED and array.size:
            row = np.abs(np.nan_to_num(array.astype(np.float64), posinf=0, neginf=0)).max(-1, initial=0, keepdims=True)
            expected[name] = Expected(array, _doubled(OUTPUT), allowance=2.0**-6 * np.broadcast_to(row, array.shape))
        if wanted is not None and wanted.tolerance is not None:
            expected[name] = replace(
                wanted, values=array, tolerance=_doubled(wanted.tolerance), allowance=2 * wanted.allowance, exact=None
            )
    return expected


def _refuse_other_splits(call: Loaded, run: Replayed, expected: dict[str, Expected]) -> None:
    """How many splits a call leaves unmerged is the device's own choice."""
    if not call.record["arguments"].get("skip_reduce"):
        return
    for name, want in expected.items():
        got = run.results.get(name)
        if got is not None and got.shape != want.values.shape:
            shapes = f"{list(want.values.shape)} when it was written, {list(got.shape)} here"
            raise CannotRun(f"skip_reduce: {name} has other splits: {shapes}")


def _compare(
    run: Replayed, before: dict[str, np.ndarray], expected: dict[str, Expected], scratch: set[str]
) -> list[dict[str, Any]]:
    """A row per output, and per argument that changed though it is none."""
    rows = []
    for name, want in expected.items():
        got = run.results.get(name) if name.startswith("returned") else run.after.get(name)
        if got is None:
            missing = {"error": np.inf, "of tolerance": np.inf, "outside": 0, "elements": 0, "first": "it is missing"}
            rows.append({"output": name, "dtype": None, "shape": None} | missing)
            continue
        rows.append({"output": name, "dtype": got.dtype.name, "shape": list(got.shape)}
                    | largest_error(got, before.get(name), want))  # fmt: skip
    outputs = [run.after[name] for name in expected if name in run.after]
    for name, array in run.after.items():
        is_output = name in expected or any(np.may_share_memory(array, output) for output in outputs)
        if not is_output and not same_bits(array, before[name]).all():
            count = int((~same_bits(array, before[name])).sum())
            text = "an argument that is no output was written"
            rows.append({"output": name, "dtype": array.dtype.name, "shape": list(array.shape), "error": np.inf,
                         "of tolerance": np.inf, "outside": count, "elements": array.size, "first": text})  # fmt: skip
    for name in run.results:
        if name not in expected and name not in scratch and not _is_argument(run.results[name], run.after):
            print(f"{name} is not compared: nothing says what it must be")
    return rows


def _is_argument(array: np.ndarray, arguments: dict[str, np.ndarray]) -> bool:
    return any(array.ctypes.data == other.ctypes.data and array.shape == other.shape for other in arguments.values())


def _show(call: Loaded) -> None:
    record = call.record
    environment = record["environment"]
    where = ", ".join(sorted({facts["device"] for facts in record["tensors"]})) or "no tensors"
    print(f"{record['op']}, call {record['call']} of process {environment['process']}, {environment['time']}, {where}")
    build, here = environment["aiter_c"], _C.build_info()
    if build["source_hash"] != here["source_hash"]:
        print(f"written by aiter_c {build['version']} of sources {build['source_hash']}, here {here['source_hash']}")
    for name, value in record["arguments"].items():
        print(f"  {name} = {_shown(value, record)}")
    for function, plan in record["parts"]:
        print(f"  ran {function}{f': {plan}' if plan else ''}")
    if not call.ended:
        print("  the call did not come back")
    elif call.error:
        print(f"  raised {call.error['type']}: {call.error['text']}")


def _shown(value: Any, record: dict[str, Any]) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_shown(item, record) for item in value)}]"
    if not isinstance(value, dict):
        return repr(value)
    if "tensor" in value:
        facts = record["tensors"][value["tensor"]]
        strides = f", strides in bytes {facts['strides']}" if facts["strides"] else ""
        return f"{facts['framework']} {facts['dtype']}{facts['shape']} on {facts['device']}{strides}"
    (kind, content), *_ = value.items()
    return f"({', '.join(_shown(item, record) for item in content)})" if kind == "tuple" else f"{kind} {content}"


def _device(name: str) -> Device:
    if name == "cpu":
        return CPU
    place = simulator.PLACES.get(name, f"{name}:0")
    runtime = _C.runtime_info()["runtimes"][place.split(":")[0]]
    if not runtime["devices"]:
        raise CannotRun(f"--device {name}: {runtime['reason'] or 'no device'}")
    return Device(name, place, simulated=name in simulator.PLACES, copies=True)


def _verdict(call: Loaded, run: Replayed, arguments: Namespace, device: Device) -> tuple[bool, list[dict[str, Any]]]:
    """Whether the call is as it should be; prints why not."""
    if run.error is not None:
        text = f"{type(run.error).__name__}: {run.error}"
        print(f"it raises {text}")
        again = call.error == {"type": type(run.error).__name__, "text": str(run.error)}
        if again and arguments.against == "record":
            print("as it did when it was written")
        return again and arguments.against == "record", []
    if arguments.against == "record" and not (call.ended and not call.error):
        print("it raises nothing here" if call.ended else "it comes back here; there is no result to compare with")
        return False, []
    expected = (_against_reference if arguments.against == "fp64" else _against_record)(call, run, device)
    _refuse_other_splits(call, run, expected)
    rows = _compare(run, _all_arrays(run.before), expected, _scratch(call.record["op"]))
    if not rows:
        raise CannotRun("the call wrote nothing and returned no tensor: there is nothing to compare")
    table = Table(_COLUMNS)
    for row in rows:
        good = row["of tolerance"] <= 1
        shape = None if row["shape"] is None else "x".join(map(str, row["shape"])) or "-"
        table.add(row | {"shape": shape, "largest error": row["error"], "": "ok" if good else "WRONG"})
    for row in rows:
        if row["of tolerance"] > 1:
            print(f"{row['output']}{row['first'] if row['first'].startswith('[') else ': ' + row['first']}")
    return all(row["of tolerance"] <= 1 for row in rows), rows


def run(arguments: Namespace) -> int:
    """Prints the call and a row per output."""
    if not is_installed("safetensors"):
        print(f"replay needs safetensors: {NEEDS}", file=sys.stderr)
        return 2
    if arguments.device in simulator.PLACES and not simulator.is_used():
        again = simulator.environment()
        if again is None:
            print(f"--device {arguments.device} needs the simulator of a checkout, op_tests/gfxsim", file=sys.stderr)
            return 2
        command = [sys.executable, "-m", "aiter_c", "replay", arguments.file, "--device", arguments.device]
        command += ["--against", arguments.against] + (["--json", arguments.json] if arguments.json else [])
        return subprocess.run(command, env=os.environ | again, check=False).returncode
    try:
        call = Loaded(Path(arguments.file))
        if call.record["op"] not in aiter_c.__all__:
            raise Unreadable(f"aiter_c has no op {call.record['op']!r}")
        _show(call)
        device = _device(arguments.device)
        what = "the fp64 reference" if arguments.against == "fp64" else "what it gave"
        print(f"on {arguments.device}, against {what}:")
        good, rows = _verdict(call, Replayed(call, device), arguments, device)
    except (OSError, ValueError, KeyError, Unreadable, CannotRun) as problem:
        print(f"replay: {arguments.file}: {problem}", file=sys.stderr)
        return 2
    if arguments.json:
        facts = {"op": call.record["op"], "device": arguments.device, "against": arguments.against, "good": good}
        write_json(arguments.json, facts | {"outputs": rows})
    return 0 if good else 1
