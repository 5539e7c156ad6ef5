"""python -m aiter_c kernels: what there is a kernel for. Everything comes from the rows of kernels that the extension
launches by, and registers from the manifest beside the code objects."""

from __future__ import annotations

import csv
import os
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import aiter_c
from aiter_c import _C
from aiter_c.cli.report import Table, write_json

#: Devices of the summary, and the architectures whose kernels they run: the first is the CPU's.
DEVICES = {
    "CPU": ("amx", "avx512bf16", "avx512", "avx2", "portable"), "gfx942": ("gfx942",), "gfx950": ("gfx950",),
    "sm_90a": ("sm_90a",),
}  # fmt: skip

_SHORT = {
    "bfloat16": "bf16", "float16": "fp16", "float32": "fp32", "float8_e4m3fn": "e4m3fn", "float8_e4m3fnuz": "e4m3fnuz",
}  # fmt: skip
_ORDER = list(_SHORT)
_WRITES = {"writes_output": "output", "writes_partials": "partials", "writes_lse": "LSE"}
_TAKES = {"work_list": "work lists", "sink": "sink", "second_cache": "second cache"}
#: What every row has, whatever its op is; the others are the op's own.
_COMMON = {
    "name", "op", "arch", "tile_rows", "local_bytes", "threads", "object", "available", "one_item", "takes_turns",
    "starts_early", *_WRITES, *_TAKES,
}  # fmt: skip


def _short(values: Iterable[str]) -> str:
    known = sorted(dict.fromkeys(values), key=lambda value: _ORDER.index(value) if value in _ORDER else len(_ORDER))
    return ", ".join(_SHORT.get(value, value) for value in known)


def _own(rows: list[dict[str, Any]]) -> dict[str, str]:
    """The op's own columns of sets: everything that some kernel of `rows` takes there."""
    names = [name for name, value in rows[0].items() if name not in _COMMON and isinstance(value, tuple)]
    return {name: _short(value for row in rows for value in row[name]) for name in names}


def _said(rows: list[dict[str, Any]], words: dict[str, str]) -> str:
    return ", ".join(word for name, word in words.items() if any(row[name] for row in rows))


def summary() -> list[dict[str, Any]]:
    """One row per op: what its kernels take and write together, and how many each device has. Every kernel takes any
    number of heads and query rows that the op allows: tiles are cut from (query row, head) pairs."""
    table = _C.kernel_table()
    out = []
    for op in dict.fromkeys(row["op"] for row in table):
        rows = [row for row in table if row["op"] == op]
        takes = [f"{name}: {values}" for name, values in _own(rows).items()]
        takes += [_said(rows, _TAKES)] if _said(rows, _TAKES) else []
        counts = {device: sum(row["arch"] in archs for row in rows) for device, archs in DEVICES.items()}
        out.append({"op": op, "takes": "; ".join(takes) or "-", "writes": _said(rows, _WRITES) or "lists"} | counts)
    return out


def markdown() -> str:
    """The summary as README has it."""
    rows = summary()
    names = ["op", "takes", "writes", *DEVICES]
    lines = [names, ["---"] * len(names)]
    lines += [[f"`{row['op']}`", *(str(row[name]) for name in names[1:])] for row in rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _manifest() -> dict[tuple[str, str], dict[str, str]]:
    """(arch, kernel) -> its line of the manifest; empty where there is none."""
    package = Path(aiter_c.__file__).parent
    chosen = os.environ.get("AITER_C_HSA")
    for folder in [Path(chosen)] if chosen else [package / "hsa", package.parent / "hsa"]:
        if (folder / "manifest.csv").is_file():
            with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
                return {(line["arch"], line["kernel"]): line for line in csv.DictReader(file)}
    return {}


def kernels(op: str | None = None, arch: str | None = None) -> list[dict[str, Any]]:
    """Rows of kernels of one op and architecture, or of all. tile: (query row, head) pairs, or rows, that a workgroup
    does at once. registers: of a lane, vector and accumulator. local: bytes of LDS or shared memory; on the CPU of a
    thread's scratch."""
    manifest, out = _manifest(), []
    for row in _C.kernel_table():
        if op not in (None, row["op"]) or arch not in (None, row["arch"]):
            continue
        line = manifest.get((row["arch"], row["name"]))
        out.append(
            {
                "op": row["op"], "arch": row["arch"], "kernel": row["name"], "tile": row["tile_rows"],
                "takes": "; ".join(f"{name}: {values}" for name, values in _own([row]).items()) or "-",
                "lists": "one item" if row["one_item"] else "yes" if row["work_list"] else "no",
                "writes": _said([row], _WRITES) or "lists", "local": row["local_bytes"],
                "registers": int(line["vgpr"]) + int(line["agpr"]) if line else None, "runs here": row["available"],
            }
        )  # fmt: skip
    return out


def _widths(rows: list[dict[str, Any]], names: Iterable[str]) -> dict[str, str]:
    number = {name for name in names if all(isinstance(row[name], int | None) for row in rows)}
    width = {name: max(len("-" if row[name] is None else str(row[name])) for row in rows) for name in names}
    return {name: f"{width[name]}{'d' if name in number else 's'}" for name in names}


def run(arguments: Namespace) -> int:
    """The command."""
    if arguments.markdown:
        print(markdown(), end="")
        return 0
    whole = arguments.op is None and arguments.arch is None
    rows = summary() if whole else kernels(arguments.op, arguments.arch)
    rows = [row | {name: str(value) for name, value in row.items() if isinstance(value, bool)} for row in rows]
    table = Table(_widths(rows, rows[0]) if rows else {})
    for row in rows:
        table.add(row)
    if whole:
        print("\nNumbers of kernels. `kernels OP`, `kernels --arch ARCH`: one by one.")
    if arguments.json:
        write_json(arguments.json, kernels(arguments.op, arguments.arch))
    return 0
