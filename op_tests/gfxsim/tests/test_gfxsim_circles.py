"""No C file of the simulator calls one that calls it back, by whatever way."""

from __future__ import annotations

import re
from graphlib import TopologicalSorter

from gfxsim.build import SOURCE

#: A line at the margin that is no declaration: what is between it and the first of ; and { decides.
_AT_MARGIN = re.compile(r"^(?!static|GS_EXPORT|extern|typedef)\w[^(\n]*?\b(gs_\w+)\([^;{]*([;{])", re.MULTILINE)
_CALLED = re.compile(r"\b(gs_\w+)\(")


def calls(sources: dict[str, str]) -> dict[str, set[str]]:
    """Of each file, the files whose functions it calls."""
    place = {name: file for file, text in sources.items() for name, end in _AT_MARGIN.findall(text) if end == "{"}
    found = {file: {place[name] for name in _CALLED.findall(text) if name in place} for file, text in sources.items()}
    return {file: files - {file} for file, files in found.items()}


def test_a_circle_is_seen() -> None:
    back = {"a.c": "int gs_a(int x) {\n return gs_b(x);\n}\n", "b.c": "int gs_b(int x) {\n return gs_a(x);\n}\n"}
    assert calls(back) == {"a.c": {"b.c"}, "b.c": {"a.c"}}


def test_no_circles() -> None:
    sources = {path.name: path.read_text() for path in SOURCE.glob("*.c")}
    graph = calls(sources)
    assert len(graph) > 60 and "report.c" in graph["wave.c"] and "hip_run.c" in graph["hip_work.c"]
    TopologicalSorter(graph).prepare()  # raises CycleError with the circle
    headers = {path.name: set(re.findall(r'#include "(\w+\.h)"', path.read_text())) for path in SOURCE.glob("*.h")}
    TopologicalSorter(headers).prepare()
