"""Captured calls, through the raw driver API: one capture, then live metadata changes in place and the graph replays.
On simulated devices as well, as far as the simulator's graphs go; see test_graph_torch.py for torch's."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from interpreter import run_python, script
from mla_decode.cases import SMOKE
from runtime.driver import Driver, Graph
from runtime.fake_driver import symbols
from runtime.replay import LiveCall, check_same

from aiter_c.testing import Device, MlaCase, build_inputs, check_bits, digest

pytestmark = pytest.mark.accelerators

_SCALES = {"q_scale": 0.5, "kv_scale": 1.5, "scales_as": "one"}
_BATCH = {"q_lens": (2, 1, 3, 1), "kv_lens": (96, 32, 80, 48), "page_size": 16}
CASES = {
    "direct": MlaCase(heads=16, splits=1, **_BATCH),
    "partials": MlaCase(heads=12, splits=3, o_strided=True, q_strided=True, **_BATCH),
    "ragged splits": MlaCase(heads=8, splits=(1, 3, 2, 1), kv_strided=True, **_BATCH),
    "automatic": MlaCase(heads=128, splits=None, **_BATCH),
    "page size 1": MlaCase(heads=20, splits=2, **_BATCH | {"page_size": 1}),
    "fp16": MlaCase(heads=16, splits=1, q_dtype="float16", kv_dtype="float16", o_dtype="float16", **_BATCH),
    "fp8": MlaCase(heads=16, splits=2, q_dtype="float8_e4m3fn", kv_dtype="float8_e4m3fn", **_SCALES, **_BATCH),
    "fp8 cache": MlaCase(heads=64, splits=1, kv_dtype="float8_e4m3fnuz", **_SCALES, **_BATCH),
    "records": MlaCase(heads=16, splits=2, kv_dtype="float8_e4m3fn", kv_format="fp8_ds_mla", **_BATCH),
    "lists": MlaCase(heads=12, splits=None, workers=5, granule=1, **_BATCH),
    "lists, page size 1": MlaCase(heads=64, splits=None, workers=9, granule=1, **_BATCH | {"page_size": 1}),
}


@pytest.fixture
def driver(device: Device) -> Driver:
    return Driver(device)


@pytest.mark.parametrize("name", CASES)
def test_replays_follow_the_tensors(name: str, device: Device, driver: Driver) -> None:
    """Every replay gives the bits of an eager call on the same contents, right by fp64, and other bits than before."""
    live, stream = LiveCall(CASES[name], device, driver), driver.stream()
    live.enqueue(stream)  # the first use loads the code
    driver.synchronize(stream)
    with Graph(driver, stream) as graph:
        live.enqueue(stream)
    stages = {1} if live.arguments["num_kv_splits"] == 1 else {1, 2}
    assert graph.nodes - name.startswith("lists") in stages  # by lists the LSE is filled before
    before: dict[str, np.ndarray] = {}
    for step in range(4):
        live.change(step)
        live.poison()
        live.send()
        graph.launch()
        replayed = live.fetch()
        live.poison()
        live.send()
        live.enqueue(stream)
        driver.synchronize(stream)
        check_same(replayed, live.fetch(), f"{name}, step {step}: {live.case.repro}")
        live.check(replayed)
        assert not before or digest(before["o"]) != digest(replayed["o"])
        before = replayed
    again = []
    for _ in range(3):
        live.poison()
        live.send()
        graph.launch()
        again.append(live.fetch())
    for other in again:
        check_same(other, before, f"{name}, again: {live.case.repro}")


def test_a_replay_that_is_not_launched_shows(device: Device, driver: Driver) -> None:
    """The test above can fail: contents that change without a replay leave poison behind."""
    live, stream = LiveCall(CASES["direct"], device, driver), driver.stream()
    live.enqueue(stream)
    driver.synchronize(stream)
    live.change(0)
    live.poison()
    live.send()
    stale = live.fetch()
    live.enqueue(stream)
    driver.synchronize(stream)
    with pytest.raises(AssertionError):
        check_same(stale, live.fetch(), "planted")
    with pytest.raises(AssertionError):
        live.check(stale)


#: What a warm call may ask of a driver: the current device, by lists one fill, the kernels.
ALLOWED = {
    "hipGetDevice", "hipSetDevice", "hipMemsetD32Async", "hipModuleLaunchKernel", "cuCtxPushCurrent_v2",
    "cuCtxPopCurrent_v2", "cuMemsetD32Async", "cuLaunchKernel", "cuLaunchKernelEx",
}  # fmt: skip


@pytest.mark.isolated
@pytest.mark.parametrize("name", ["direct", "partials", "fp8", "records", "lists"])
def test_calls_of_the_driver(name: str, device: Device, driver: Driver, tmp_path: Path) -> None:
    """Inside a captured call and inside a warm eager one: no allocation, no synchronisation, no copy."""
    environment = {} if driver.is_hip else _counting_library(tmp_path)
    out = run_python(script("runtime/isolated/graph_calls.py"), device.name, device.place, name, **environment).stdout
    counts = json.loads(out.strip().split("\n")[-1])
    splits = CASES[name].splits
    for when in ("captured", "eager"):
        calls = counts[when]
        assert set(calls) <= ALLOWED, (when, calls)
        launches = sum(calls.get(name, 0) for name in ("hipModuleLaunchKernel", "cuLaunchKernel", "cuLaunchKernelEx"))
        fills = calls.get("hipMemsetD32Async", 0) + calls.get("cuMemsetD32Async", 0)
        assert (launches, fills) == (1 if splits == 1 else 2, name == "lists"), (when, calls)
    # The counters count: an allocation, a copy and a synchronisation, planted.
    planted = set(counts["planted"]) - ALLOWED
    assert any("emAlloc" in n or n == "hipMalloc" for n in planted), planted
    assert any("Synchronize" in n for n in planted) and any("emcpy" in n for n in planted), planted


_TRAMPOLINES = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
%s
static struct { const char *name; void **real; unsigned long *count; } table[] = {%s {0, 0, 0}};
__attribute__((constructor)) static void find(void) {
    void *library = dlopen(getenv("REAL_LIBCUDA"), RTLD_NOW | RTLD_LOCAL);
    for (int i = 0; table[i].name; i++) *table[i].real = library ? dlsym(library, table[i].name) : 0;
}
unsigned long count_of(const char *name) {
    for (int i = 0; table[i].name; i++)
        if (strcmp(table[i].name, name) == 0) return *table[i].count;
    return 0;
}
"""


def _counting_library(folder: Path) -> dict[str, str]:
    """A libcuda.so.1 that counts aiter_c's calls and passes them on; the environment that puts it first."""
    if platform.machine() != "x86_64" or shutil.which("cc") is None:
        pytest.skip("the counting library needs x86-64 and a C compiler")
    real = _real_libcuda()
    stubs, rows = [], []
    for name in symbols("cuda"):
        stubs.append(
            f'__attribute__((visibility("hidden"))) void *real_{name}; '
            f'__attribute__((visibility("hidden"))) unsigned long count_{name};\n'
            f'__asm__(".text\\n.globl {name}\\n.type {name}, @function\\n{name}:\\n'
            f'lock incq count_{name}(%rip)\\njmp *real_{name}(%rip)\\n");'
        )
        rows.append(f'{{"{name}", &real_{name}, &count_{name}}},')
    source = folder / "counting.c"
    source.write_text(_TRAMPOLINES % ("\n".join(stubs), "\n".join(rows)))
    command = ["cc", "-shared", "-fPIC", "-O1", "-Wl,-soname,libcuda.so.1", "-o", str(folder / "libcuda.so.1")]
    subprocess.run([*command, str(source), "-ldl"], check=True)
    path = [str(folder), os.environ.get("LD_LIBRARY_PATH", "")]
    return {"LD_LIBRARY_PATH": os.pathsep.join(filter(None, path)), "REAL_LIBCUDA": real}


def _real_libcuda() -> str:
    """Where the driver of this process was loaded from."""
    for line in Path("/proc/self/maps").read_text().split("\n"):
        if "/libcuda.so" in line:
            return line.split()[-1]
    raise AssertionError("libcuda is not loaded")


def _decode_on_own_stream(device: Device, case: MlaCase, count: int) -> set[str]:
    driver = Driver(device)
    stream, inputs = driver.stream(), build_inputs(case)
    out = set()
    for _ in range(count):
        inputs.blocks["o"].fill_nan()
        _, lse = device.call("mla_decode_fwd", **inputs.arguments(), stream=stream)
        out.add(digest(inputs.array("o"), lse))
    return out


def test_two_threads_with_their_own_streams(device: Device, driver: Driver) -> None:
    """Different problems at once, each on its own stream with its own scratch: the bits of one after the other."""
    cases = [
        MlaCase(heads=16, q_lens=(1, 2), kv_lens=(300, 64), splits=4, seed=1),
        MlaCase(heads=128, kv_lens=(200,), splits=2, kv_dtype="float8_e4m3fn", seed=2),
    ]
    count = 3 if device.simulated else 50
    alone = [_decode_on_own_stream(device, case, 1) for case in cases]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda case: _decode_on_own_stream(device, case, count), cases))
    assert together == alone


@pytest.mark.parametrize("case", SMOKE[::9])
def test_streams_give_the_bits_of_the_default_stream(case: MlaCase, device: Device, driver: Driver) -> None:
    inputs = build_inputs(case)
    inputs.blocks["o"].fill_nan()
    _, lse = device.call("mla_decode_fwd", **inputs.arguments())
    o = inputs.array("o").copy()
    inputs.blocks["o"].fill_nan()
    _, again = device.call("mla_decode_fwd", **inputs.arguments(), stream=driver.stream())
    check_bits("o", inputs.array("o"), o, case.repro)
    if lse is not None:
        check_bits("lse", again, lse, case.repro)
