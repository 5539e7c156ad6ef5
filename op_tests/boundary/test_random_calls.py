"""Random calls of every public function: nothing but documented exceptions comes back. `--fuzz N` for more."""

from __future__ import annotations

import pytest
from interpreter import run_python, script

from aiter_c import __all__ as public

SEED = 20261129


@pytest.mark.isolated
@pytest.mark.timeout(1800)
def test_any_arguments(request: pytest.FixtureRequest) -> None:
    count = request.config.getoption("--fuzz")
    arguments = (script("boundary/isolated/random_calls.py"), str(count), str(SEED))
    print(f"seeds from {SEED} on, {count} calls")
    lines = run_python(*arguments, timeout=1700, AITER_C_NUM_THREADS="1").stdout.split("\n")
    assert lines[-2] == "ok" and any(line.startswith("mla_decode_fwd: ") for line in lines), lines[-5:]
    assert {"mla_plan", "empty", "from_host"} <= set(public)
