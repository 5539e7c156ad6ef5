"""python -m aiter_c env: what a bug report needs. Nothing that it reports on can end it: drivers and frameworks are
loaded in interpreters of their own, where they may fail, print, hang or crash."""

from __future__ import annotations

import json
import os
import platform
import runpy
import signal
import subprocess
import sys
from argparse import Namespace
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import aiter_c
from aiter_c import _C
from aiter_c.cli.report import write_json

_FRAMEWORKS = {"numpy": "ndarray", "torch": "Tensor", "ml_dtypes": "bfloat16", "jax": "Array", "cupy": "ndarray"}
_TENSORS = {"numpy", "torch", "jax", "cupy"}  # whose type is one of tensors
_PATIENCE = 60  # seconds for one of them
_BUILD_SWITCHES = {"AITER_C_BUILD", "AITER_C_WERROR"}  # read by setup.py

RUNTIMES = "from aiter_c import _C; value = _C.runtime_info()"

#: Its two arguments: the name of a module, and of a type in it. `value` is None where it is not installed.
_FRAMEWORK = """
import importlib, importlib.util, sys
name, kind, value = *sys.argv[1:], None
if importlib.util.find_spec(name) is not None:
    module = importlib.import_module(name)
    value = {"version": str(getattr(module, "__version__", "?")), "has_type": hasattr(module, kind)}
    try:
        from aiter_c import _C
        value["path"] = _C.dlpack_path(getattr(module, kind, type))
    except Exception as error:
        value["refused"] = f"{type(error).__name__}: {error}"
"""


def ask(code: str, *arguments: str) -> Any:
    """`value` after `code` in an interpreter of its own; RuntimeError that says how that one ended otherwise."""
    command = [sys.executable, "-c", f"{code}\nimport json; print(); print(json.dumps(value))", *arguments]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=_PATIENCE, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"no answer within {_PATIENCE} s") from None
    if done.returncode < 0:
        raise RuntimeError(f"the process was ended by {signal.Signals(-done.returncode).name}")
    if done.returncode > 0:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1])
    return json.loads(done.stdout.splitlines()[-1])


def _framework(name: str, kind: str) -> str:
    try:
        seen = ask(_FRAMEWORK, name, kind)
    except Exception as error:
        return f"does not import: {error}"
    if seen is None:
        return "not installed"
    if not seen["has_type"]:
        return f"{seen['version']}, a module of that name without {kind}"
    if name not in _TENSORS:
        return seen["version"]
    how = f"come through {seen['path']}" if "path" in seen else f"are refused: {seen['refused']}"
    return f"{seen['version']}, tensors {how}"


def _frameworks() -> dict[str, str]:
    return {name: _framework(name, kind) for name, kind in _FRAMEWORKS.items()}


def _runtime(
    available: bool,
    devices: int,
    device_names: list[str],
    library: str | None,
    version: str | None,
    attempts: str | None,
    reason: str | None,
) -> str:
    """One line; the CPU has no library."""
    tried = f" (tried before: {attempts})" if attempts else ""
    if not available:
        return f"off: {reason}"
    if not devices:
        return f"runtime found ({library}, {version}), {reason}{tried}"
    text = f"on, {devices} device{'s' if devices != 1 else ''}"
    return f"{text}: {'; '.join(device_names)} ({library}, {version}){tried}" if library else text


@cache
def _runtime_info() -> tuple[dict[str, Any], str]:
    """_C.runtime_info() and "", or why it cannot be had and nothing: asked once, since a driver may hang."""
    try:
        return ask(RUNTIMES), ""
    except Exception as error:
        return {}, str(error)


def _runtimes() -> dict[str, str]:
    info, problem = _runtime_info()
    if problem:
        return {"unknown": f"asking the drivers failed: {problem}"}
    return {name: _runtime(**facts) for name, facts in info["runtimes"].items()}


def _state_of_sources(built_from: str) -> str | None:
    """Whether the extension was built from the C sources beside the package, or None where there are none."""
    root = Path(aiter_c.__file__).resolve().parent.parent
    if not (root / "setup.py").is_file() or not (root / "csrc").is_dir():
        return None
    source_hash = runpy.run_path(str(root / "scripts/source_hash.py"))["source_hash"]
    return "the same" if source_hash(root) == built_from else "changed since the build: run pip install -e . again"


def _package() -> dict[str, str]:
    build = dict(_C.build_info())
    build["code_objects"] = ", ".join(f"{name} {digest[:12]}" for name, digest in build["code_objects"].items())
    sources = _state_of_sources(build["source_hash"])
    found = {"version": aiter_c.__version__, "path": str(Path(aiter_c.__file__).parent), **build}
    return found if sources is None else found | {"sources": sources}


def _code_objects() -> dict[str, str]:
    """By arch: whether those that the kernel table names are there and built from this extension's sources."""
    by_arch: dict[str, list[str | None]] = defaultdict(list)
    for name, problem in _C.code_objects().items():
        by_arch[name.partition("/")[0]].append(problem)
    out = {}
    for arch, problems in by_arch.items():
        wrong = [problem for problem in problems if problem]
        good = f"{len(problems) - len(wrong)} of {len(problems)} here and of these sources"
        out[arch] = f"{good}; {wrong[0]}" if wrong else good  # one tells what is wrong with all, mostly
    return out


def _switches() -> dict[str, str]:
    """Every AITER_C_* that the package reads, and those in the environment that nothing does."""
    known = _C.environment()
    out = {
        name: value if value is not None else f"ignored: {ignored}" if ignored else "unset"
        for name, (value, _, ignored) in known.items()
    }
    for name in sorted(os.environ):
        if name.startswith("AITER_C_") and name not in known and name not in _BUILD_SWITCHES:
            out[name] = f"{os.environ[name]}, which nothing reads"
    return out


def _cpu() -> dict[str, str | int]:
    reason = _runtime_info()[0].get("cpu_reason", "unknown, as the runtimes are")
    return {"path": _C.cpu_arch(), "because": reason, "threads": _C.get_num_threads()}


_SECTIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "aiter_c": _package,
    "python": lambda: {"version": sys.version.split()[0], "implementation": platform.python_implementation()},
    "system": lambda: {"platform": platform.platform(), "machine": platform.machine(), "cpus": os.cpu_count()},
    "cpu": _cpu,
    "runtimes": _runtimes,
    "code objects": _code_objects,
    "frameworks": _frameworks,
    "environment": _switches,
}


def collect() -> dict[str, dict[str, Any]]:
    """Everything by section, as strings and numbers, as it is now; a section that cannot be had says why."""
    _runtime_info.cache_clear()
    report = {}
    for name, section in _SECTIONS.items():
        try:
            report[name] = section()
        except Exception as error:
            report[name] = {"unknown": f"{type(error).__name__}: {error}"}
    return report


def show(text: str) -> None:
    """Names of files and devices may have characters that the terminal has not."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))


def run(arguments: Namespace) -> int:
    """Prints the report, and writes it as JSON with --json; always 0."""
    report = collect()
    for section, entries in report.items():
        show(section)
        for name, value in entries.items():
            show(f"  {name}: {value}")
    if arguments.json:
        write_json(arguments.json, report)
    return 0
