"""Two GPUs and NCCL: values to the bit on both ranks, graphs, a rank that is silent. Skipped and counted elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from devices import torch_gpus
from interpreter import run_python, script

pytestmark = [
    pytest.mark.torch,
    pytest.mark.gpu,
    pytest.mark.isolated,
    pytest.mark.skipif(torch_gpus() < 2, reason="torch sees fewer than two GPUs"),
]


@pytest.mark.parametrize(("check", "count"), [("values", 240), ("graph", 100)])
def test_two_gpus_over_nccl(check: str, count: int, tmp_path: Path) -> None:
    done = run_python(script("cp_merge/isolated/nccl.py"), check, str(tmp_path), "150", timeout=200)
    said = sorted(line for line in done.stdout.splitlines() if line.startswith((check, "exit")))
    assert said == sorted([f"{check} 0: {count}", f"{check} 1: {count}", "exit 0 0"]), done.stdout + done.stderr[-4000:]


def test_a_silent_rank_over_nccl(tmp_path: Path) -> None:
    """The watchdog takes the waiting process down, within the group's timeout and its own period."""
    done = run_python(script("cp_merge/isolated/nccl.py"), "silent", str(tmp_path), "60", timeout=120)
    first, _ = done.stdout.splitlines()[-1].removeprefix("exit ").split()
    assert first not in ("0", "hangs"), done.stdout + done.stderr[-4000:]
    assert "silent 0:" not in done.stdout
