"""Options, markers, and the count of what did not run. Strictness itself is set in pyproject.toml.

This file stands at the root because `pytest --device cpu` takes "cpu" for a path at first, and then looks for options
in no other conftest.py.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: the reference works on small matrices

import devices
import pytest

MARKERS = {
    "cases": "cases(LIST): the test runs for every case and device; on simulated ones for those of cases.on_device",
    "accelerators": "runs on the selected devices but the CPU",
    "gpu": "needs a real GPU and torch that sees it; skipped and counted elsewhere",
    "smoke": "the part that runs again on every CPU path and under sanitizers",
    "torch": "needs torch; skipped and counted without it, an error under --require-torch",
    "isolated": "starts interpreters of its own",
    "device": "runs on the selected devices, or is about them: what scripts/gpu_check runs; set where a test takes one",
    "large": "maps more than 10 GB of address space (and touches little of it)",
}

DEVICES = pytest.StashKey[list]()


def pytest_addoption(parser: pytest.Parser) -> None:
    devices.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")
    config.stash[DEVICES] = devices.prepare(devices.requested(config.getoption("--device")))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with an argument `device` runs on every selected one."""
    if "device" not in metafunc.fixturenames:
        return
    selected = metafunc.config.stash[DEVICES]
    if metafunc.definition.get_closest_marker("accelerators"):
        selected = [device for device in selected if device.place != "cpu"]
    marker = metafunc.definition.get_closest_marker("cases")
    if marker is None:
        metafunc.parametrize("device", selected, ids=str)
        return
    from mla_decode import cases

    parameters = [
        pytest.param(case, device, id=f"{device}-{case.id}", marks=cases.marks(case, device))
        for device in selected
        for case in cases.on_device(marker.args[0], device)
    ]
    metafunc.parametrize(("case", "device"), parameters)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "device" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.device)
    try:
        import torch  # noqa: F401
    except ImportError as reason:
        if config.getoption("--require-torch"):
            raise pytest.UsageError(f"--require-torch: {reason}") from reason
        for item in items:
            if item.get_closest_marker("torch"):
                item.add_marker(pytest.mark.skip(reason="torch is not installed"))
    if not _torch_sees_a_selected_gpu(config):
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no GPU was selected that torch sees"))


def _torch_sees_a_selected_gpu(config: pytest.Config) -> bool:
    if not {"cuda", "hip"} & {device.name for device in config.stash[DEVICES]}:
        return False
    import torch

    return torch.cuda.is_available()


@pytest.fixture(autouse=True)
def _simulated_devices_work_again(request: pytest.FixtureRequest) -> Iterator[None]:
    """A report ends every later call on a simulated device, as a fault on a GPU does; but not beyond its own test."""
    yield
    device = getattr(request.node, "callspec", None) and request.node.callspec.params.get("device")
    if device is not None and device.report is not None:
        device.report()


@pytest.fixture(scope="session")
def selected_devices(request: pytest.FixtureRequest) -> dict:
    """By name."""
    return {device.name: device for device in request.config.stash[DEVICES]}


def pytest_report_header(config: pytest.Config) -> str:
    from aiter_c import _C, get_num_threads

    forced = os.environ.get("AITER_C_CPU")
    cpu = f"{_C.cpu_arch()} ({f'AITER_C_CPU={forced}' if forced else 'chosen'}), {get_num_threads()} threads"
    return f"aiter_c: {cpu}; devices: {', '.join(map(str, config.stash[DEVICES]))}"


def pytest_terminal_summary(terminalreporter: object) -> None:
    """A skip is never silent: how many, and why."""
    skipped = terminalreporter.stats.get("skipped", [])
    ran = sum(len(terminalreporter.stats.get(kind, [])) for kind in ("passed", "failed"))
    passed = [report.nodeid for report in terminalreporter.stats.get("passed", [])]
    cases = Counter(
        node.partition("::test_case[")[2].partition("-")[0]
        for node in passed
        if "test_mla_decode.py::test_case" in node
    )
    shown = ", ".join(f"{count} on {device}" for device, count in cases.items()) or "0"
    terminalreporter.write_line(f"{ran} ran, {len(skipped)} skipped; cases passed: {shown}")
    reasons = Counter(report.longrepr[2] if isinstance(report.longrepr, tuple) else "" for report in skipped)
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"  skipped {count}: {reason}")
