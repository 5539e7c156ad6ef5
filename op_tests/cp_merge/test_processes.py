"""Groups of 2 to 8 processes over gloo: values to the bit, arguments that differ, a rank that is silent, a dead one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from interpreter import run_python, script

pytestmark = [pytest.mark.torch, pytest.mark.isolated, pytest.mark.slow]

#: By check: how much every rank has done.
CHECKS = {"fallback": 1, "arguments": 17, "refused": 1, "silent": 1, "silent-compared": 1, "dead": 1}
DEAD = (3, 7)


def test_processes_of_gloo(tmp_path: Path) -> None:
    """One start for all: the imports take longer than the checks."""
    done = run_python(script("cp_merge/isolated/gloo.py"), str(tmp_path), "90", timeout=120)
    seen = re.findall(r"^([\w-]+) (\d): (\d+) in", done.stdout, re.M)
    by_check: dict[str, dict[int, int]] = {}
    for name, rank, count in seen:
        by_check.setdefault(name, {})[int(rank)] = int(count)
    report = f"{done.stdout[-2000:]}\n{done.stderr[-6000:]}"
    assert done.stdout.splitlines()[-1] == "exit 0 0 0 -9 0 0 0 -9", report  # the dead ones were killed
    for name, count in CHECKS.items():
        ranks = set(range(8)) - (set(DEAD) if name == "dead" else set())
        assert by_check.pop(name) == dict.fromkeys(ranks, count), report
    values = by_check.pop("values")
    assert set(values) == set(range(8)) and values[0] == 7 * 2 * 2 * 8 >= 200 and not by_check, report
