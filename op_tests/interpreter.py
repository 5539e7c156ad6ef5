"""A fresh interpreter for a script or a piece of code; its failure shows what it printed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def run_python(
    *arguments: str, timeout: float = 250, check: bool = True, **environment: str
) -> subprocess.CompletedProcess:
    """`python *arguments` in op_tests, with this environment on top of ours and aiter_c as this process has it."""
    import aiter_c

    paths = [str(Path(aiter_c.__file__).parents[1]), str(HERE)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | environment
    done = subprocess.run(
        [sys.executable, *arguments], env=env, cwd=HERE, capture_output=True, text=True, timeout=timeout, check=False
    )
    if check and done.returncode != 0:
        raise AssertionError(
            f"{' '.join(arguments)[:200]}: exit status {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
        )
    return done


def script(name: str) -> str:
    """The path of a script, named from op_tests: "boundary/isolated/leaks.py"."""
    return str(HERE / name)
