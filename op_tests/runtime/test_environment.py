"""The AITER_C_* switches: a value that is no good is ignored with a warning, and `env` shows what came of each."""

from __future__ import annotations

import json

import pytest
from interpreter import run_python

pytestmark = pytest.mark.isolated

REPORT = (
    "import aiter_c, json; from aiter_c import _C; from aiter_c.cli.env import _switches\n"
    "shown = _C.environment()['{switch}'], _switches()['{switch}']\n"
    "print(json.dumps([*shown, _C.cpu_arch(), aiter_c.get_num_threads()]))"
)
TOO_LONG = "x" * 1100
BAD = [
    ("AITER_C_CPU", "sse", "expected what this processor runs ('portable'"),
    ("AITER_C_CPU", TOO_LONG, "expected less than 64 characters, got xxx"),
    ("AITER_C_NUM_THREADS", "many", "expected 0 (automatic) .. 1024, got 'many'"),
    ("AITER_C_NUM_THREADS", "-1", "expected 0 (automatic) .. 1024, got '-1'"),
    ("AITER_C_NUM_THREADS", "1025", "expected 0 (automatic) .. 1024, got '1025'"),
    ("AITER_C_NUM_THREADS", "2 or so", "expected 0 (automatic) .. 1024, got '2 or so'"),
    ("AITER_C_NUM_THREADS", "9" * 40, "expected 0 (automatic) .. 1024, got '99"),
    ("AITER_C_DLPACK_EXCHANGE", "no", "expected 0 or 1, got 'no'"),
    ("AITER_C_DLPACK_EXCHANGE", "\udcff", "expected 0 or 1, got '"),  # a byte that is no UTF-8
    ("AITER_C_HIP_LIBRARY", TOO_LONG, "expected less than 1024 characters, got xxx"),
    ("AITER_C_HSA", TOO_LONG, "expected less than 1024 characters, got xxx"),
    ("AITER_C_HSA", "/no/such/folder", "expected a folder, got '/no/such/folder'"),
    ("AITER_C_HSA", "/dev/null", "expected a folder, got '/dev/null'"),
]


@pytest.mark.parametrize(("switch", "value", "problem"), BAD)
def test_a_bad_value_is_ignored_with_a_warning(switch: str, value: str, problem: str) -> None:
    """One warning, and everything as if it were unset; `-W error` makes it the exception that was asked for."""
    report = REPORT.format(switch=switch)
    done = run_python("-c", report, **{switch: value})
    unset = run_python("-c", report, **{switch: ""})
    lines = [line for line in done.stderr.splitlines() if "Warning" in line]
    assert len(lines) == 1 and f"RuntimeWarning: {switch}: {problem}" in lines[0] and "it is ignored" in lines[0]
    assert unset.stderr == ""
    (given, meaning, ignored), shown, *state = json.loads(done.stdout)
    assert given is None and meaning and ignored.startswith(problem) and shown == f"ignored: {ignored}"
    assert json.loads(unset.stdout) == [[None, meaning, None], "unset", *state]
    strict = run_python("-W", "error", "-c", "import aiter_c", check=False, **{switch: value})
    assert strict.returncode == 1 and f"RuntimeWarning: {switch}: {problem}" in strict.stderr


def test_no_threads_are_automatic() -> None:
    code = "import aiter_c; print(aiter_c.get_num_threads())"
    zero, unset, three = (run_python("-c", code, AITER_C_NUM_THREADS=value) for value in ("0", "", "3"))
    assert zero.stdout == unset.stdout != "" and three.stdout.strip() == "3"
    assert zero.stderr == unset.stderr == ""


def test_env_shows_what_is_read_and_what_is_not() -> None:
    code = "from aiter_c.cli.env import _switches; print(_switches())"
    shown = run_python("-c", code, AITER_C_NUM_THREADS="0", AITER_C_THREADS="3", AITER_C_WERROR="1").stdout
    assert "'AITER_C_NUM_THREADS': '0'" in shown and "'AITER_C_THREADS': '3, which nothing reads'" in shown
    assert "AITER_C_WERROR" not in shown  # setup.py reads it
