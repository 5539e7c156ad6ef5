"""No process of the tests grows without end: a kernel that is wrong must not take the machine with it."""

from __future__ import annotations

import faulthandler
import os
import resource
import sys
import threading
import time
from pathlib import Path

LIMIT = 3 << 30  # resident bytes of one process; two of them and what they start stay below 8 GiB
_PAGE = resource.getpagesize()


def resident() -> int:
    """Bytes in memory now; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
    except OSError:
        return 0


def peak() -> int:
    """Bytes in memory at most, of this process and, separately, of the largest that it started."""
    unit = 1 if sys.platform == "darwin" else 1024
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) * unit


def watch(limit: int = LIMIT, every: float = 0.25) -> None:
    """From now on this process ends when it holds more, with the stacks of all threads; pytest then names the test."""
    if resident() == 0:
        return

    def look() -> None:
        while (held := resident()) <= limit:
            time.sleep(every)
        print(f"\nthis process holds {held >> 20} MiB, more than {limit >> 20}: it ends here", file=sys.__stderr__)
        faulthandler.dump_traceback(file=sys.__stderr__)
        os._exit(70)

    threading.Thread(target=look, name="memory limit", daemon=True).start()
