"""The upstream bugs of this op, planted again in a build of their own (csrc/core/fault.h), must be caught by the smoke
cases, each by the quantity that it breaks; without a fault the same build passes all of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from interpreter import HERE, script

from aiter_c.testing import parse_case

ROOT = HERE.parent
pytestmark = [
    pytest.mark.isolated,
    pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="the build files are not beside the tests"),
]

#: AITER_C_FAULT -> what it does. Each must show in o, in the cases that it concerns and in no others.
FAULTS = {
    "skip_direct_output": "2983: one split, but stage 1 leaves o and the LSE alone: old values shine through",
    "merge_after_direct": "2983: stage 1 wrote the final rows, then stage 2 merges scratch that nobody wrote over them",
    "heads_below_16": "2585: a tile that assumes 16 heads or more mixes the rows of fewer",
}
QUANTITIES = ("o: ", "lse: ", "logits: ")


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package folder with the faults build: the Python files by link, the extension fresh."""
    import aiter_c.mla

    home = tmp_path_factory.mktemp("faults")
    command = ["setup.py", "-q", "build_ext", "--build-lib", str(home), "--build-temp", str(home / "temp")]
    made = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=os.environ | {"AITER_C_BUILD": "faults"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr[-4000:]
    for source in Path(aiter_c.mla.__file__).resolve().parent.iterdir():
        if source.suffix != ".so" and source.name != "__pycache__":
            (home / "aiter_c" / source.name).symlink_to(source)
    return home


def _failures(build: Path, fault: str) -> list[str]:
    """One line per smoke case that failed: "<the case>\\t<first line of the message>"."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(build), str(HERE)]), "AITER_C_FAULT": fault}
    done = subprocess.run(
        [sys.executable, script("runtime/isolated/run_smoke.py")],
        env=env,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    lines = done.stdout.strip().split("\n")
    assert lines[0] == "variant faults" and lines[-1].startswith("ran ") and int(lines[-1].split()[1]) > 50
    return lines[1:-1]


def test_without_a_fault_everything_passes(build: Path) -> None:
    assert _failures(build, "") == []


@pytest.mark.parametrize("fault", FAULTS)
def test_the_smoke_cases_catch_it(build: Path, fault: str) -> None:
    lines = [line.split("\t") for line in _failures(build, fault)]
    failures = {parse_case(case): text for case, text in lines}
    assert len(failures) >= 5, f"{FAULTS[fault]}: {len(failures)} cases notice"
    assert all(text.startswith(QUANTITIES) for text in failures.values()), failures
    assert fault != "heads_below_16" or any(case.workers for case in failures), "by work lists as well"
    assert any(text.startswith("o: ") and "the first is [" in text for text in failures.values()), failures
    if fault == "heads_below_16":
        heads = {case.heads for case in failures}
        assert {3, 4, 5, 8, 12} <= heads and max(heads) < 16, sorted(heads)
    else:
        assert {case.splits for case in failures} <= {1, None}


def test_an_lse_that_whole_tiles_do_not_get(build: Path) -> None:
    """3606: prefill by lists writes the final LSE of split tiles alone. It shows in the LSE, in calls without need_lse
    (which makes groups of one partial), and nowhere else."""
    lines = [line.split("\t") for line in _failures(build, "no_lse_of_whole_tiles")]
    failures = {parse_case(case): text for case, text in lines}
    assert len(failures) >= 3 and all(text.startswith("lse: ") for text in failures.values()), failures
    assert all(type(case).__name__ == "PrefillCase" and not case.need_lse for case in failures), failures


def test_the_launcher_refuses_a_null_output(build: Path) -> None:
    """2983 once more, as it was upstream: the kernel of one split gets no output pointer. Nothing is launched."""
    lines = [line.split("\t") for line in _failures(build, "null_direct_output")]
    assert len(lines) >= 5
    text = "writes_output: expected an address to write to, got a null pointer"
    assert all(text in message for _, message in lines), lines
    assert {parse_case(case).splits for case, _ in lines} <= {1, None}
