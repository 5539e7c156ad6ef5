"""What tests of a runtime need of the simulator: counters, injected failures, processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from gfxsim import Module, Simulator
from gfxsim.tests.machine_fixtures import DATA, expect_error, floats


def test_calls_are_counted_and_can_fail(sim: Simulator) -> None:
    before = sim.call_count("hipMalloc")
    memory = sim.live_memory()
    sim.fail_next("hipMalloc", 2, 2)
    sim.malloc(16).free()
    expect_error("hipErrorOutOfMemory", lambda: sim.malloc(16))
    sim.malloc(16).free()
    assert sim.call_count("hipMalloc") == before + 3 and sim.live_memory() == memory
    sim.lib.hipGetLastError()
    sim.fail_next("hipGetLastError", 1, 719)
    assert sim.lib.hipGetLastError() == 719 and sim.lib.hipGetLastError() == 0
    with pytest.raises(ValueError, match="hipNothing"):
        sim.call_count("hipNothing")
    assert {"hipMalloc", "hipGraphLaunch"} <= set(sim.call_names())


def test_counters(sim: Simulator, clean: Module) -> None:
    data = sim.upload(floats(1024))
    sim.reset_counters()
    for grid in (1, 4):
        clean.kernel("reverse_in_lds")([data, data], grid, 256)
    one, four = sim.launches()
    assert (one.kernel, one.grid, four.grid) == ("reverse_in_lds", (1, 1, 1), (4, 1, 1))
    assert four.wave_instructions == 4 * one.wave_instructions > 0
    assert one.global_write_bytes == 1024
    assert one.global_read_bytes == 1024 + 4 * 16, "the data, and two pointers for each of four waves"
    assert sim.totals().wave_instructions == 5 * one.wave_instructions and sim.totals().launches == 2


SCRIPTS = {
    "fork": """
import os
from gfxsim import HipError, Simulator, launch
import numpy as np
sim = Simulator()
buffer = sim.malloc(16)
child = os.fork()
if child == 0:
    try:
        sim.malloc(16)
    except HipError as error:
        os._exit(error.code)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3, "hipErrorNotInitialized"
sim.malloc(16).free()
""",
    "devices": """
from gfxsim import Simulator
sim = Simulator()
assert [sim.arch(d) for d in range(sim.device_count())] == ["gfx950"]
""",
    "none": """
import ctypes
from gfxsim import Simulator
lib = Simulator().lib
count = ctypes.c_int(-1)
assert lib.hipInit(0) == 100 and lib.hipGetDeviceCount(ctypes.byref(count)) == 100 and count.value == 0
assert lib.hipMalloc(ctypes.byref(ctypes.c_void_p()), 16) == 100
""",
    "hidden after a copy": """
buffer.read(np.uint8)
""",
    "hidden after a kernel": """
sim.load(f"{data}/gfx942/planted.co").kernel("shifted_write")([buffer, 0], 1, 64)
""",
    "threads": """
import threading
from gfxsim import Simulator
Simulator().lib.hipGetErrorName(0)
import os
assert len(os.listdir("/proc/self/task")) == 1, "loading starts nothing"
""",
}


HIDDEN = """
import ctypes, resource, sys
import numpy as np
from gfxsim import Simulator
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
sim, data = Simulator(), sys.argv[1]
buffer = sim.malloc(256)
sim.set_option("hide_memory", 0)
assert ctypes.string_at(buffer.address, 16) == b"\\xff" * 16
sim.set_option("hide_memory", 1)
{work}
print("so far", flush=True)
ctypes.string_at(buffer.address, 1)
"""


@pytest.mark.parametrize("name", SCRIPTS)
def test_in_a_process_of_its_own(name: str) -> None:
    devices = {"devices": "gfx950", "none": ""}.get(name)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GFXSIM_")} | {
        "PYTHONPATH": str(DATA.parents[1])
    }
    if devices is not None:
        environment["GFXSIM_DEVICES"] = devices
    environment["OPENBLAS_NUM_THREADS"] = "1"
    hidden = name.startswith("hidden")
    command = [sys.executable, "-c", HIDDEN.format(work=SCRIPTS[name]) if hidden else SCRIPTS[name], str(DATA)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if hidden:  # the host may not touch device memory
        assert (done.stdout, done.returncode) == ("so far\n", -signal.SIGSEGV), done.stderr
    else:
        assert done.returncode == 0, done.stderr
