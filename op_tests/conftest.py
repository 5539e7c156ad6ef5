"""Options, markers, and the count of what did not run. Strictness itself is set in pyproject.toml."""

from __future__ import annotations

import os
from collections import Counter

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: the reference works on small matrices

import pytest

MARKERS = {
    "smoke": "the part that runs again on every CPU path and under sanitizers",
    "torch": "needs torch; skipped and counted without it, an error under --require-torch",
    "isolated": "starts interpreters of its own",
    "large": "maps more than 10 GB of address space (and touches little of it)",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require-torch", action="store_true", help="fail when a test that needs torch was skipped")


def pytest_configure(config: pytest.Config) -> None:
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    try:
        import torch  # noqa: F401
    except ImportError as reason:
        if config.getoption("--require-torch"):
            raise pytest.UsageError(f"--require-torch: {reason}") from reason
        for item in items:
            if "torch" in item.keywords and item.get_closest_marker("torch"):
                item.add_marker(pytest.mark.skip(reason="torch is not installed"))


def pytest_report_header() -> str:
    from aiter_c import _C, get_num_threads

    forced = os.environ.get("AITER_C_CPU")
    return f"aiter_c: {_C.cpu_arch()} ({f'AITER_C_CPU={forced}' if forced else 'chosen'}), {get_num_threads()} threads"


def pytest_terminal_summary(terminalreporter: object) -> None:
    """A skip is never silent: how many, and why."""
    skipped = terminalreporter.stats.get("skipped", [])
    ran = sum(len(terminalreporter.stats.get(kind, [])) for kind in ("passed", "failed"))
    cases = sum("test_mla_decode.py::test_case" in r.nodeid for r in terminalreporter.stats.get("passed", []))
    terminalreporter.write_line(f"{ran} ran, {len(skipped)} skipped; {cases} decode cases passed")
    reasons = Counter(report.longrepr[2] if isinstance(report.longrepr, tuple) else "" for report in skipped)
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"  skipped {count}: {reason}")
