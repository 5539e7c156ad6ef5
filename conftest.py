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
import ids
import memory_limit
import pytest
from oracle import code_objects

MARKERS = {
    "cases": "cases(LIST, on_device=, smoke=): for every case and device, or those of on_device(LIST, device)",
    "accelerators": "runs on the selected devices but the CPU",
    "gpu": "needs a real GPU and torch that sees it; skipped and counted elsewhere",
    "smoke": "the part that runs again on every CPU path and under sanitizers",
    "torch": "needs torch; skipped and counted without it, an error under --require-torch",
    "aiter": "needs the code objects of AITER's wheel; skipped and counted without it, an error under --require-aiter",
    "isolated": "starts interpreters of its own",
    "slow": "left out without --slow, for the time it takes: failure injection, leaks, many ranks, whole builds",
    "device": "runs on the selected devices, or is about them: what scripts/gpu_check runs; set where a test takes one",
    "large": "maps more than 10 GB of address space (and touches little of it)",
}

DEVICES, PEAKS = pytest.StashKey[list](), pytest.StashKey[list]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", action="append", default=[], metavar="NAME", help=devices.HELP)
    parser.addoption("--slow", action="store_true", help="also the tests marked slow")
    parser.addoption("--fuzz", type=int, default=1_000_000, metavar="N", help="random calls of all ops (default: 10^6)")
    parser.addoption("--at-least", type=int, default=0, metavar="N", help="fail when fewer tests than this passed")
    parser.addoption("--require-aiter", action="store_true", help="fail when AITER's code objects are missing")
    parser.addoption("--require-torch", action="store_true", help="fail when a test that needs torch was skipped")


def pytest_configure(config: pytest.Config) -> None:
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")
    config.stash[DEVICES] = devices.prepare(devices.requested(config.getoption("--device")))
    config.stash[PEAKS] = []
    if config.getoption("--require-aiter") and not code_objects.available():
        raise pytest.UsageError(f"--require-aiter: {code_objects.MISSING}")
    memory_limit.watch()


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with an argument `device` runs on every selected one."""
    metafunc.parametrize = ids.readable(metafunc.parametrize)
    if "device" not in metafunc.fixturenames:
        return
    selected = metafunc.config.stash[DEVICES]
    if metafunc.definition.get_closest_marker("accelerators"):
        selected = [device for device in selected if device.place != "cpu"] or [None]
    marker = metafunc.definition.get_closest_marker("cases")
    if marker is None or selected == [None]:
        metafunc.parametrize("device", selected, ids=str)
        if marker is not None:
            metafunc.parametrize("case", [None])
        return
    (cases,), smoke = marker.args, marker.kwargs.get("smoke", ())
    chosen = marker.kwargs.get("on_device", lambda cases, device: cases)
    parameters = [
        pytest.param(case, device, id=f"{device}-{case.id}", marks=_smoke(device.name == "cpu" and case in smoke))
        for device in selected
        for case in chosen(cases, device)
    ]
    if not parameters:  # no selected device has a case: left out, as where none is selected
        parameters = [pytest.param(None, None, id="none")]
    metafunc.parametrize(("case", "device"), parameters)


def _smoke(wanted: bool) -> list[pytest.MarkDecorator]:
    return [pytest.mark.smoke] if wanted else []


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    return ids.part(val)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    unreadable = [item.nodeid for item in items if ids.wrong(item.nodeid)]
    if unreadable:
        raise pytest.UsageError(f"{len(unreadable)} ids that cannot be read or typed, the first is {unreadable[0]}")
    _leave_out(config, items)
    for item in items:
        if "device" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.device)
    try:
        import torch  # noqa: F401
    except ImportError as reason:
        if config.getoption("--require-torch"):
            raise pytest.UsageError(f"--require-torch: {reason}") from reason
        _skip(items, "torch", "torch is not installed")
    if not code_objects.available():
        _skip(items, "aiter", code_objects.MISSING)
    if not _torch_sees_a_selected_gpu(config):
        _skip(items, "gpu", "no GPU was selected that torch sees")


def _leave_out(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of accelerators where none is selected, and slow ones unless they are asked for."""
    slow = config.getoption("--slow")
    out = [item for item in items if _has_no_device(item) or (item.get_closest_marker("slow") and not slow)]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in set(out)]


def _has_no_device(item: pytest.Item) -> bool:
    return hasattr(item, "callspec") and item.callspec.params.get("device", "") is None


def _skip(items: list[pytest.Item], marker: str, reason: str) -> None:
    for item in items:
        if item.get_closest_marker(marker):
            item.add_marker(pytest.mark.skip(reason=reason))


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


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["peak"] = memory_limit.peak()
        return
    session.config.stash[PEAKS].append(memory_limit.peak())
    if _passed(session.config) < session.config.getoption("--at-least") and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """A worker of xdist has ended."""
    node.config.stash[PEAKS].append(getattr(node, "workeroutput", {}).get("peak", 0))


def _passed(config: pytest.Config) -> int:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return len(reporter.stats.get("passed", []))


def pytest_terminal_summary(terminalreporter: object, config: pytest.Config) -> None:
    """A skip is never silent: how many, and why."""
    skipped = terminalreporter.stats.get("skipped", [])
    ran = sum(len(terminalreporter.stats.get(kind, [])) for kind in ("passed", "failed"))
    cases = Counter(
        report.nodeid.partition("::test_case[")[2].partition("-")[0]
        for report in terminalreporter.stats.get("passed", [])
        if "::test_case[" in report.nodeid
    )
    shown = ", ".join(f"{count} on {device}" for device, count in cases.items()) or "0"
    terminalreporter.write_line(f"{ran} ran, {len(skipped)} skipped; cases passed: {shown}")
    reasons = Counter(report.longrepr[2] if isinstance(report.longrepr, tuple) else "" for report in skipped)
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"  skipped {count}: {reason}")
    peaks = config.stash[PEAKS]
    terminalreporter.write_line(f"peak memory: {sum(peaks) >> 20} MiB in {len(peaks)} processes at most")
    if _passed(config) < config.getoption("--at-least"):
        terminalreporter.write_line(f"FEWER THAN EXPECTED: {_passed(config)} passed, --at-least says otherwise")
