"""The processes of a group: forked after the imports of their parent, which take longer than all that they do."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable


def say(line: str) -> None:
    """In one piece, whatever the other processes say."""
    os.write(1, f"{line}\n".encode())


def start(count: int, run: Callable[[int, str, float], None], folder: str, limit: float) -> None:
    """run(rank, folder, limit) in `count` processes. Says "exit" and the exit statuses: below 0 the signal that ended
    it, "hangs" for one that has not ended after `limit` seconds. Once one has failed, the others have 3 more."""
    children = {rank: _fork(rank, run, folder, limit) for rank in range(count)}
    deadline, ended = time.monotonic() + limit, {}
    while len(ended) < count and time.monotonic() < deadline:
        for rank in children.keys() - ended.keys():
            child, status = os.waitpid(children[rank], os.WNOHANG)
            if child:
                ended[rank] = os.waitstatus_to_exitcode(status)
        if any(status > 0 for status in ended.values()):
            deadline = min(deadline, time.monotonic() + 3)
        time.sleep(0.02)
    for rank in children.keys() - ended.keys():
        os.kill(children[rank], signal.SIGKILL)
    say(f"exit {' '.join(str(ended.get(rank, 'hangs')) for rank in range(count))}")


def _fork(rank: int, run: Callable[[int, str, float], None], folder: str, limit: float) -> int:
    child = os.fork()
    if child != 0:
        return child
    status = 1
    try:
        faulthandler.dump_traceback_later(limit, exit=True)
        run(rank, folder, limit)
        status = 0
    except BaseException:
        print(f"rank {rank}\n{traceback.format_exc()}", file=sys.stderr, flush=True)
    os._exit(status)  # a group that has failed may wait for its peers on the way out
