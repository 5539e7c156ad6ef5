"""Run by test_import.py: one thread decodes without a pause while the main one forks children that decode."""

import os
import signal
import threading
import time
import warnings

import aiter_c
from aiter_c.testing import MlaCase, build_inputs

aiter_c.set_num_threads(3)
case = MlaCase(heads=16, q_lens=(1, 1), kv_lens=(4000, 40), splits=4)
calls, stop = [build_inputs(case).arguments() for _ in range(2)], threading.Event()
expected = aiter_c.mla_decode_fwd(**calls[0])[1].tobytes()


def decode_on() -> None:
    while not stop.is_set():
        aiter_c.mla_decode_fwd(**calls[1])


def child() -> int:
    signal.alarm(20)  # kills a child that waits for a lock of nobody's
    return 0 if all(aiter_c.mla_decode_fwd(**calls[0])[1].tobytes() == expected for _ in range(3)) else 1


thread = threading.Thread(target=decode_on)
thread.start()
warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads, from CPython 3.12 on
for number in range(12):
    time.sleep(0.003 * number)
    pid = os.fork()
    if pid == 0:
        os._exit(child())
    status = os.waitpid(pid, 0)[1]
    assert status == 0, (number, status)
stop.set()
thread.join()
print("ok")
