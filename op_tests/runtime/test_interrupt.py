"""Ctrl-C ends a long CPU call within a second, wherever the call is; handlers that return do not."""

from __future__ import annotations

import pytest
from interpreter import run_python

pytestmark = pytest.mark.isolated

PREAMBLE = """
import os, signal, sys, threading, time
import aiter_c
from runtime.decode_call import arguments, bits, lasting

signal.signal(signal.SIGALRM, signal.default_int_handler)
small = arguments((90, 700), num_kv_splits=3)
expected = bits(small)
ENDLESS = 6_000_000  # keys of 128 heads: minutes

def interrupted_after(call, seconds=0.3):
    signal.setitimer(signal.ITIMER_REAL, seconds)
    start = time.perf_counter()
    try:
        aiter_c.mla_decode_fwd(**call)
    except KeyboardInterrupt:
        return time.perf_counter() - start
    raise AssertionError("not interrupted")
"""


def _run(code: str) -> None:
    assert run_python("-c", PREAMBLE + code + "\nprint('ok')", timeout=60).stdout == "ok\n"


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    "kv_lens",
    [(90_000,) * 64, (6_000_000,), (20_000, 6_000_000, 3), (6_000_000, 3, 3)],
    ids=["many_items", "one_long_item", "long_on_a_worker", "long_on_the_caller"],
)
def test_a_long_call_is_interrupted(kv_lens: tuple[int, ...], threads: int) -> None:
    """Between items, within one, and while the calling thread waits for workers; afterwards all is as it was."""
    _run(f"""
aiter_c.set_num_threads({threads})
call = arguments({kv_lens}, heads=64, num_kv_splits=1)  # an item each
inputs = {{name: call[name].tobytes() for name in call if hasattr(call[name], "tobytes") and name != "o"}}
references = sys.getrefcount(call["q"])
for _ in range(2):
    waited = interrupted_after(call)
    assert waited < 1.3, waited
    assert bits(small) == expected
assert sys.getrefcount(call["q"]) == references
assert {{name: call[name].tobytes() for name in inputs}} == inputs
""")


def test_every_cpu_path_is_interrupted() -> None:
    """Each engine has its own loop over the blocks."""
    code = "from aiter_c import _C\nprint(_C.cpu_arch())"
    best = run_python("-c", code).stdout.strip()
    order = ["portable", "avx2", "avx512", "avx512bf16", "amx"]
    for path in order[: order.index(best) + 1]:
        done = run_python(
            "-c",
            PREAMBLE + "import numpy\nfor q_dtype in (numpy.float16, small['q'].dtype):\n"
            "    waited = interrupted_after(arguments((ENDLESS,), heads=128, num_kv_splits=1, q_dtype=q_dtype))\n"
            "    assert waited < 1.3, waited\nprint('ok')",
            timeout=60,
            AITER_C_CPU=path,
        )
        assert done.stdout == "ok\n", path


def test_a_call_that_waits_for_its_turn_is_interrupted() -> None:
    """Another thread's op has the pool. It goes on, and so does a call that waits for its turn after both."""
    _run("""
aiter_c.set_num_threads(2)
long = lasting(1.5)
seen = {}
def other(name, call):
    seen[name] = bits(call)
threads = [threading.Thread(target=other, args=("long", long)), threading.Thread(target=other, args=("small", small))]
threads[0].start()
time.sleep(0.2)
threads[1].start()
waited = interrupted_after(small | {"o": small["o"].copy()}, 0.1)
assert waited < 1 and threads[0].is_alive(), waited
for thread in threads:
    thread.join()
assert seen["small"] == expected and seen["long"] == bits(long)
""")


def test_a_handler_that_returns_changes_nothing() -> None:
    """It runs during the call, and the call goes on to the right result."""
    _run("""
call = lasting(1.0)
result, times, calls = bits(call), [], []
signal.signal(signal.SIGALRM, lambda *_: calls.append(time.perf_counter()))
signal.setitimer(signal.ITIMER_REAL, 0.15, 0.15)
start = time.perf_counter()
again = bits(call)
end = time.perf_counter()
signal.setitimer(signal.ITIMER_REAL, 0)
assert again == result
assert end - start > 0.5 and any(start < at < end - 0.1 for at in calls), (start, end, calls)
""")


def test_a_handler_may_call_ops_itself() -> None:
    """The pool is taken by the op that it interrupted: its own runs on this thread alone."""
    _run("""
call = lasting(1.0)
result, seen = bits(call), []
def handler(*_):
    seen.append(bits(small))
    aiter_c.set_num_threads(3)
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.2)
start = time.perf_counter()
assert bits(call) == result and seen == [expected]
assert aiter_c.get_num_threads() == 3
""")


def test_any_exception_of_a_handler_ends_the_call() -> None:
    _run("""
class Timeout(Exception): pass
def handler(*_): raise Timeout
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    aiter_c.mla_decode_fwd(**arguments((ENDLESS,), heads=128, num_kv_splits=1))
except Timeout:
    pass
assert bits(small) == expected
""")


def test_a_handler_that_forks_leaves_the_parent_alone() -> None:
    """The child has not the workers that held a part of the op: there the op fails, and the next one works."""
    _run("""
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads, from CPython 3.12 on
call = lasting(1.0)
result, children = bits(call), []
signal.signal(signal.SIGALRM, lambda *_: children.append(os.fork()))
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    same = bits(call) == result
except RuntimeError as error:
    assert children == [0] and "interrupted" in str(error)
    os._exit(0 if bits(small) == expected else 1)
assert same and len(children) == 1
assert children[0] == 0 or os.waitpid(children[0], 0)[1] == 0
""")


def test_calls_of_other_threads_go_on() -> None:
    """Python runs handlers on its main thread, which this call does not keep from it."""
    _run("""
call = lasting(1.0)
result, seen, done = bits(call), [], threading.Event()
def other():
    seen.append(bits(call))
    done.set()
threading.Thread(target=other).start()
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    done.wait()
    raise AssertionError("not interrupted")
except KeyboardInterrupt:
    assert not seen
done.wait()
assert seen == [result]
""")


def test_the_number_of_threads_is_set_without_waiting() -> None:
    _run("""
call = lasting(1.0)
thread = threading.Thread(target=bits, args=(call,))
thread.start()
time.sleep(0.2)
start = time.perf_counter()
aiter_c.set_num_threads(3)
assert time.perf_counter() - start < 0.1 and thread.is_alive()
thread.join()
assert bits(small) == expected
""")
