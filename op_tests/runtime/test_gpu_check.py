"""scripts/gpu_check, as far as it can be rehearsed without a GPU."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from interpreter import run_python, script

from aiter_c.testing import Device

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.isolated, pytest.mark.slow]


@pytest.mark.accelerators
def test_the_bench_step_on_a_simulated_gpu(device: Device | None, tmp_path: Path) -> None:
    """Every bench from the command line to its JSON, on the kernels of hsa/gfx942, with tensors of a torch for HIP: its
    devices are called cuda, the package's hip."""
    if device is None or device.name != "gfx942":
        pytest.skip("once, on gfx942")
    wrapper = tmp_path / "python"
    wrapper.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script("runtime/isolated/bench_rehearsal.py")}" "$@"\n')
    wrapper.chmod(0o755)
    code = (
        f"import runpy, sys\nsys.executable = {str(wrapper)!r}\n"
        f"sys.argv = ['gpu_check', '--device', 'hip', '--steps', 'bench', '--quick', '--out', {str(tmp_path)!r}]\n"
        f"runpy.run_path({str(ROOT / 'scripts/gpu_check')!r}, run_name='__main__')"
    )
    paths = [str(ROOT), str(ROOT / "op_tests/runtime/isolated"), os.environ.get("PYTHONPATH", "")]
    done = run_python("-c", code, check=False, PYTHONPATH=os.pathsep.join(filter(None, paths)), GFXSIM_THREADS="2")
    summary = (tmp_path / "summary.txt").read_text()
    assert done.returncode == 0 and summary.startswith("everything passed"), summary[-3000:] + done.stderr[-2000:]
    benches = sorted(path.name.removeprefix("bench_").removesuffix(".json") for path in tmp_path.glob("bench_*.json"))
    known = sorted(path.stem for path in (ROOT / "aiter_c/cli/bench_ops").glob("[!_]*.py"))
    assert benches == known and all(f"=== bench {name}: ok" in summary for name in benches)
    for name in benches:
        report = json.loads((tmp_path / f"bench_{name}.json").read_text())
        assert report[name] and report["device"] == {"name": "a simulated GPU", "torch": "stand-in"}
