"""The pool uses the CPUs and threads that the system gives it, as they are at the call."""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path

import pytest
from interpreter import run_python

HERE = Path(__file__).resolve().parent
AVAILABLE = HERE.parents[1] / "csrc/cpu/available.c"
pytestmark = [pytest.mark.isolated, pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")]

TWO_CPUS = pytest.mark.skipif(
    hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) < 2, reason="this process may use one CPU only"
)

PREAMBLE = """
import ctypes, os, statistics, threading, time
import aiter_c
from runtime.decode_call import arguments, bits

call = arguments((300,) * 24, num_kv_splits=3)
started = lambda: {int(name) for name in os.listdir("/proc/self/task")} - {os.getpid()}
fake = lambda name: ctypes.c_int.in_dll(ctypes.CDLL(None), "fake_" + name)

def cpus(mask):
    ctypes.c_ulong.in_dll(ctypes.CDLL(None), "fake_cpus").value = mask
    time.sleep(0.02)  # a call looks again after some milliseconds

def cpu_time(call, repeats=60):
    times = []
    for _ in range(repeats):
        start = time.process_time()
        aiter_c.mla_decode_fwd(**call)
        times.append(time.process_time() - start)
    return statistics.median(times)
"""


def _library(source: Path, folder: Path) -> str:
    library = folder / f"{source.stem}.so"
    compiler = os.environ.get("CC", "cc").split()
    command = [*compiler, "-std=gnu17", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", str(source)]
    subprocess.run([*command, "-o", str(library), "-ldl"], check=True)
    return str(library)


@pytest.fixture(scope="module")
def fake_system(tmp_path_factory: pytest.TempPathFactory) -> str:
    return _library(HERE / "fake_system.c", tmp_path_factory.mktemp("fake"))


@pytest.fixture(scope="module")
def available(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """csrc/cpu/available.c by itself, with files of the test's own in the place of the system's."""
    if not AVAILABLE.exists():
        pytest.skip("the C source is not beside the tests")
    library = ctypes.CDLL(_library(AVAILABLE, tmp_path_factory.mktemp("available")))
    library.ac_cpu_quota.argtypes, library.ac_cpu_quota.restype = [ctypes.c_char_p], ctypes.c_int64
    return library


def _run(code: str, **environment: str) -> None:
    assert run_python("-c", PREAMBLE + code + "\nprint('ok')", timeout=100, **environment).stdout == "ok\n"


@TWO_CPUS
def test_an_automatic_number_follows_the_affinity() -> None:
    """At once for get_num_threads, some milliseconds later for plans and calls."""
    _run("""
everywhere = os.sched_getaffinity(0)
expected = bits(call)
assert aiter_c.get_num_threads() == len(everywhere)
os.sched_setaffinity(0, {min(everywhere)})
assert aiter_c.get_num_threads() == 1
assert aiter_c.mla_plan(4, 16, 1, 1, "bfloat16", "bfloat16").compute_units == 1
assert bits(call) == expected
os.sched_setaffinity(0, everywhere)
assert aiter_c.get_num_threads() == len(everywhere)
assert bits(call) == expected
""")


@TWO_CPUS
def test_the_affinity_of_the_calling_thread_counts() -> None:
    """Threads are pinned one by one: what one of them saw a moment ago says nothing about another."""
    _run("""
everywhere = os.sched_getaffinity(0)
turn, done, seen = threading.Semaphore(0), threading.Semaphore(0), set()
def pinned():
    os.sched_setaffinity(0, {min(everywhere)})
    for _ in range(300):
        turn.acquire()
        seen.add(aiter_c.mla_plan(4, 16, 1, 1, "bfloat16", "bfloat16").compute_units)
        done.release()
thread = threading.Thread(target=pinned); thread.start()
for _ in range(300):
    assert aiter_c.get_num_threads() == len(everywhere)
    turn.release()
    done.acquire()
thread.join()
assert seen == {1}, seen
""")


def test_workers_follow_the_affinity(fake_system: str) -> None:
    """As many as CPUs, on the CPUs of the calling thread: moved to others, they are started anew there."""
    _run(
        """
cpus(0xff)
expected = bits(call)
first = started()
assert len(first) == 7, first
assert bits(call) == expected and started() == first, "and stay as long as nothing changes"
cpus(0xff00)
assert bits(call) == expected
assert len(started()) == 7 and not started() & first, "moved"
cpus(0x700)
assert bits(call) == expected and len(started()) == 2, "fewer"
cpus(0x100)
kept = started()
assert bits(call) == expected and started() == kept, "one CPU: nobody is needed, nobody is stopped"
cpus(0x3f00)
assert bits(call) == expected and len(started()) == 5, "more"
""",
        LD_PRELOAD=fake_system,
    )


def test_a_number_that_was_asked_for_stays(fake_system: str) -> None:
    _run(
        """
cpus(0xf)
aiter_c.set_num_threads(7)
expected = bits(call)
first = started()
assert len(first) == 6
for mask in (0x1, 0xf0, 0xfff):
    cpus(mask)
    assert aiter_c.get_num_threads() == 7 and bits(call) == expected and started() == first, mask
aiter_c.set_num_threads(0)
assert aiter_c.get_num_threads() == 12 and bits(call) == expected and len(started()) == 11
""",
        LD_PRELOAD=fake_system,
    )


def test_many_more_threads_than_cpus_are_no_catastrophe() -> None:
    """64 threads on one CPU need about the processor time of one. (Spinning ones, all woken by each call, took half as
    much again, and several times as long by the clock.)"""
    _run("""
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
call = arguments((2000,) * 4, num_kv_splits=16)
aiter_c.set_num_threads(1)
one = cpu_time(call)
aiter_c.set_num_threads(64)
many = cpu_time(call)
assert many < 1.3 * one, (one, many)
""")


@pytest.mark.parametrize("left", [0, 1, 2])
def test_threads_that_cannot_be_started_are_done_without(fake_system: str, left: int) -> None:
    """They are asked for again, but not by every call."""
    _run(
        f"""
aiter_c.set_num_threads(1)
expected = bits(call)
aiter_c.set_num_threads(4)
fake("threads_left").value = {left}
fake("threads_asked").value = 0
for _ in range(5):
    assert bits(call) == expected and len(started()) == {left}
assert fake("threads_asked").value == {left} + 1
fake("threads_left").value = 100
time.sleep(1.1)
assert bits(call) == expected and len(started()) == 3
""",
        LD_PRELOAD=fake_system,
    )


def test_scratch_that_cannot_be_had_leaves_fewer_threads(fake_system: str) -> None:
    _run(
        """
aiter_c.set_num_threads(4)
fake("blocks_left").value = 2
first = bits(call)
assert len(started()) == 1
fake("blocks_left").value = 100
time.sleep(1.1)
assert bits(call) == first and len(started()) == 3
""",
        LD_PRELOAD=fake_system,
    )


def test_no_scratch_at_all_is_a_memory_error(fake_system: str) -> None:
    """Nothing was written, nothing is started, and the next call works."""
    _run(
        """
fake("blocks_left").value = 0
before = call["o"].tobytes()
try:
    aiter_c.mla_decode_fwd(**call)
except MemoryError as error:
    assert "scratch" in str(error)
else:
    raise AssertionError
assert call["o"].tobytes() == before and started() == set()
fake("blocks_left").value = 100
bits(call)
""",
        LD_PRELOAD=fake_system,
    )


def test_the_pool_at_work_with_more_threads_than_cpus(fake_system: str) -> None:
    """Eight threads that believe in eight CPUs: they spin, join and leave in every order."""
    _run(
        """
cpus(0xff)
calls = [arguments(lens, heads=4, num_kv_splits=2) for lens in ((50,) * 9, (3, 400), (700,), (20,) * 40)]
expected = [bits(call) for call in calls]
for i in range(300):
    assert bits(calls[i % 4]) == expected[i % 4]
    if i % 9 == 0:
        time.sleep(i % 7 * 2e-5)
""",
        LD_PRELOAD=fake_system,
    )


# ---- the quota of the control groups ---------------------------------------------------------------------------------

V2 = "0::/{}\n"
V1 = "7:blkio:/\n4:cpu,cpuacct:/{}\n3:cpuset:/\n1:name=systemd:/\n"
QUOTAS = {
    "none": ("", {}, 0),
    "v2": (V2.format(""), {"cpu.max": "200000 100000"}, 2),
    "v2, none": (V2.format(""), {"cpu.max": "max 100000"}, 0),
    "v2, rounded up": (V2.format(""), {"cpu.max": "150000 100000"}, 2),
    "v2, less than one": (V2.format(""), {"cpu.max": "1000 100000"}, 1),
    "v2, of the group": (V2.format("a/b"), {"cpu.max": "max 100000", "a/b/cpu.max": "300000 100000"}, 3),
    "v2, of the group around": (V2.format("a/b"), {"a/cpu.max": "100000 50000", "a/b/cpu.max": "max 1"}, 2),
    "v2, the smallest": (V2.format("a/b"), {"a/cpu.max": "500000 100000", "a/b/cpu.max": "400000 100000"}, 4),
    "v2, of another group": (V2.format("a"), {"b/cpu.max": "100000 100000"}, 0),
    "v2, the host's path": (V2.format("kube/pod1/c"), {"cpu.max": "600000 100000"}, 6),
    "v2, damaged": (V2.format(""), {"cpu.max": "many"}, 0),
    "v1": (
        V1.format("a"),
        {"cpu,cpuacct/a/cpu.cfs_quota_us": "250000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"},
        3,
    ),
    "v1, none": (V1.format(""), {"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 0),
    "v1, half": (V1.format(""), {"cpu,cpuacct/cpu.cfs_quota_us": "100000"}, 0),
    "v1, cpuset is not cpu": ("3:cpuset:/\n", {"cpuset/cpu.cfs_quota_us": "1", "cpuset/cpu.cfs_period_us": "1"}, 0),
    "both": (
        "0::/\n" + V1.format(""),
        {"cpu.max": "max 1", "cpu,cpuacct/cpu.cfs_quota_us": "5000", "cpu,cpuacct/cpu.cfs_period_us": "1000"},
        5,
    ),
}


def _write_groups(root: Path, groups: str, files: dict[str, str]) -> None:
    (root / "proc/self").mkdir(parents=True, exist_ok=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


@pytest.mark.parametrize("name", QUOTAS)
def test_the_quota_of_control_groups(name: str, tmp_path: Path, available: ctypes.CDLL) -> None:
    groups, files, allowed = QUOTAS[name]
    _write_groups(tmp_path, groups, files)
    assert available.ac_cpu_quota(os.fsencode(tmp_path)) == allowed


def test_no_control_groups_at_all(tmp_path: Path, available: ctypes.CDLL) -> None:
    assert available.ac_cpu_quota(os.fsencode(tmp_path)) == 0


def test_a_quota_that_changes_is_seen(tmp_path: Path, fake_system: str) -> None:
    """Within about a second; workers follow. A number that was asked for does not."""
    _write_groups(tmp_path, V2.format(""), {"cpu.max": "300000 100000"})
    _run(
        f"""
(ctypes.c_char * 512).in_dll(ctypes.CDLL(None), "fake_root").value = {os.fsencode(tmp_path)!r}
cpus(0xff)
expected = bits(call)
assert aiter_c.get_num_threads() == 3 and len(started()) == 2
open({str(tmp_path / "sys/fs/cgroup/cpu.max")!r}, "w").write("200000 100000")
time.sleep(1.1)
assert bits(call) == expected
assert aiter_c.get_num_threads() == 2 and len(started()) == 1
aiter_c.set_num_threads(5)
assert bits(call) == expected
assert aiter_c.get_num_threads() == 5 and len(started()) == 4
""",
        LD_PRELOAD=fake_system,
    )
