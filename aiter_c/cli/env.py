"""python -m aiter_c env: what a bug report needs, and nothing that could fail because of what is being reported."""

import importlib
import os
import platform
import sys
from pathlib import Path

import aiter_c
from aiter_c import _C
from aiter_c._modules import is_installed
from aiter_c.cli.report import write_json
from aiter_c.cli.source_hash import source_hash

_FRAMEWORKS = {"numpy": "ndarray", "torch": "Tensor", "ml_dtypes": None, "jax": "Array", "cupy": "ndarray"}


def _state_of_sources(built_from):
    """Whether the extension was built from the C sources beside the package, or None where there are none."""
    root = Path(aiter_c.__file__).resolve().parent.parent
    if not (root / "setup.py").is_file() or not (root / "csrc").is_dir():
        return None
    return "the same" if source_hash(root) == built_from else "changed since the build: run pip install -e . again"


def _framework(name, type_name):
    if not is_installed(name):
        return "not installed"
    try:
        module = importlib.import_module(name)
    except Exception as error:  # a broken framework belongs into the report
        return f"does not import: {error!r}"
    version = getattr(module, "__version__", "?")
    kind = getattr(module, type_name, None) if type_name else None
    if kind is None:
        return version
    return f"{version}, tensors come through {_C.dlpack_path(kind)}"


def _runtime(available, devices, device_names, library, version, attempts, reason):
    """One line; the CPU has no library."""
    tried = f" (tried before: {attempts})" if attempts else ""
    if not available:
        return f"off: {reason}"
    if not devices:
        return f"runtime found ({library}, {version}), {reason}{tried}"
    text = f"on, {devices} device{'s' if devices != 1 else ''}"
    return f"{text}: {'; '.join(device_names)} ({library}, {version}){tried}" if library else text


def collect():
    """Everything as nested dicts of strings and numbers."""
    runtime = _C.runtime_info()
    build = dict(_C.build_info())
    sources = _state_of_sources(build["source_hash"])
    if sources is not None:
        build["sources"] = sources
    return {
        "aiter_c": {"version": aiter_c.__version__, "path": str(Path(aiter_c.__file__).parent), **build},
        "python": {"version": sys.version.split()[0], "implementation": platform.python_implementation()},
        "system": {"platform": platform.platform(), "machine": platform.machine(), "cpus": os.cpu_count()},
        "cpu": {"path": runtime["cpu_arch"], "because": runtime["cpu_reason"], "threads": runtime["num_threads"]},
        "runtimes": {name: _runtime(**facts) for name, facts in runtime["runtimes"].items()},
        "frameworks": {name: _framework(name, kind) for name, kind in _FRAMEWORKS.items()},
        "environment": {name: "unset" if value is None else value for name, (value, _) in _C.environment().items()},
    }


def run(arguments):
    """The command."""
    report = collect()
    for section, entries in report.items():
        print(section)
        for name, value in entries.items():
            print(f"  {name}: {value}")
    if arguments.json:
        write_json(arguments.json, report)
    return 0
