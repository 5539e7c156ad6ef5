"""Run by test_import.py: what `import aiter_c` changed, as JSON."""

import json
import logging
import os
import signal
import sys
import threading
import warnings

signals = [getattr(signal, name) for name in ("SIGINT", "SIGSEGV", "SIGCHLD", "SIGTERM", "SIGABRT")]


def libraries() -> set:
    with open("/proc/self/maps") as maps:
        return {line.split()[-1] for line in maps if ".so" in line}


def descriptors() -> list:
    return sorted(os.listdir("/proc/self/fd"))


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


before = (dict(os.environ), list(sys.path), set(sys.modules), libraries(), descriptors(), threads())
handlers = ([signal.getsignal(s) for s in signals], len(logging.getLogger().handlers), threading.active_count())
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import aiter_c  # noqa: F401
environment, path, modules, maps, fds, tasks = before
print(
    json.dumps(
        {
            "new_environment": sorted(set(os.environ) - set(environment)),
            "changed_environment": [k for k in environment if os.environ.get(k) != environment[k]],
            "new_path_entries": [p for p in sys.path if p not in path],
            "new_modules": sorted(set(sys.modules) - modules),
            "new_libraries": sorted(libraries() - maps),
            "new_file_descriptors": [f for f in descriptors() if f not in fds],
            "new_threads": threads() - tasks,
            "new_signal_handlers": sum(a is not signal.getsignal(s) for a, s in zip(handlers[0], signals, strict=True)),
            "new_log_handlers": len(logging.getLogger().handlers) - handlers[1],
            "warnings": [str(w.message) for w in caught],
        }
    )
)
