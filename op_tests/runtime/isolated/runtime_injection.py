"""Run by test_runtime_fake.py: python runtime_injection.py {hip,cuda} DRIVER.

One script of calls, from the first use of the driver to the last free, is run once per driver call that it makes, each
time in a process forked before the first use, with that call failing; at one call with every error code, elsewhere with
one to three. Whatever fails: DeviceError with the right call, code and name (MemoryError when memory is out), the
thread's own device and capture mode restored, nothing leaked, and the same script works afterwards. Prints the names of
all calls that failed once, and the counts.
"""

from __future__ import annotations

import gc
import json
import os
import sys

import numpy as np
from ml_dtypes import bfloat16
from runtime.fake_driver import FakeDriver

from aiter_c import DeviceError, from_host, get_mla_metadata_v1, mla_decode_fwd

VENDOR = sys.argv[1]
PLACE = f"{VENDOR}:1"
OWN = 0  # the thread's device before and after
CODES = [*range(1, 13), 34, 35, 46, 98, 100, 101, *range(200, 220), 300, 304, 400, 401, 500, 600, *range(700, 721), 800,
         801, 900, 901, 906, 907, 908, 999]  # fmt: skip
FREE = {"hipFree", "cuMemFree_v2"}
ENTER = {"hipGetDevice", "cuCtxPushCurrent_v2"}  # begins every piece of work
LOAD = {"hipModuleLoadData", "cuModuleLoadData"}
COUNT = {"hipGetDeviceCount", "cuInit", "cuDeviceGetCount"}
ALLOC = {"hipMalloc", "cuMemAlloc_v2"}
RESTORE = {"hipSetDevice", "cuCtxPopCurrent_v2"}
driver = FakeDriver(VENDOR, sys.argv[2])


def script() -> None:
    """Every way into the driver."""
    q = from_host(np.ones((2, 16, 576), bfloat16), PLACE)
    kv = from_host(np.ones((8, 4, 1, 576), bfloat16), PLACE)
    o = from_host(np.zeros((2, 16, 512), bfloat16), PLACE)
    qo_indptr = from_host(np.array([0, 1, 2], np.int32), PLACE)
    kv_indptr = from_host(np.array([0, 3, 8], np.int32), PLACE)
    kv_indices = from_host(np.arange(8, dtype=np.int32), PLACE)
    last = from_host(np.array([4, 2], np.int32), PLACE)
    mla_decode_fwd(q, kv, o, qo_indptr, kv_indptr, kv_indices, last, 1, 4, num_kv_splits=2, stream=5)
    none = from_host(np.zeros(1, np.int32), PLACE)  # of no requests; no kernel runs, and the LSE is filled
    _, lse = mla_decode_fwd(q, kv, o, none, none, kv_indices, last, 1, 4, num_kv_splits=2, return_lse=True, stream=5)
    lists = [np.zeros(size, np.uint64 if i == 0 else np.int32) for i, size in enumerate((2, (4, 8), 3, 3, (2, 2), 4))]
    get_mla_metadata_v1(qo_indptr, kv_indptr, last, 16, 1, True, *lists, page_size=4, stream=5)
    assert lists[2].tolist() == [0, 1, 2] and lists[1][:2, 4:6].tolist() == [[0, 3], [3, 8]]
    o.__dlpack__(stream=None)
    o.__dlpack__(stream=-1, copy=True)
    assert np.all(np.isneginf(lse.numpy()))


def start() -> None:
    driver.set_current(OWN)


def sequence() -> list[str]:
    """The driver calls of the script when nothing fails."""
    start()
    script()
    return driver.calls()


def is_freeing(names: list[str], at: int) -> bool:
    """Whether the call is, enters or leaves a free: its failure has nobody to go to."""
    begin = max((i for i in range(at + 1) if names[i] in ENTER), default=0)
    end = next((i for i in range(at + 1, len(names)) if names[i] in ENTER), len(names))
    return bool(FREE & set(names[begin:end]))


def inject(n: int, name: str, code: int, freeing: bool, modules: int) -> None:
    """The script with its n-th call failing, then twice without."""
    start()
    driver.fail(None, n, code)
    error = None
    try:
        script()
    except (DeviceError, MemoryError, ValueError) as caught:
        error = caught.with_traceback(None)
    gc.collect()
    assert driver.calls()[n - 1] == name
    if freeing:
        assert error is None, error
    elif name in COUNT and code == 100:
        assert isinstance(error, ValueError) and f"expected one of 0 {VENDOR} devices" in str(error), error
        return  # no device: that is how it stays
    elif name in ALLOC and code == 2:
        assert type(error) is MemoryError and f"{PLACE}: cannot allocate " in str(error), error
    else:
        text = "unknown error" if code == 999 else f"ErrorWithANameAsLongAsTheLongestOfTheDriver{code:04}"
        assert type(error) is DeviceError, (name, code, error)
        assert (error.call, error.code, error.name) == (name, code, text), (name, code, vars(error))
        assert f"{name} failed: {text} ({code})" in str(error), error
    error = None
    lost = driver.allocations()  # what the driver itself refused to free
    assert lost == 0 or (freeing and lost == 1), (name, lost)
    assert driver.capture_mode() == 0 or "Exchange" in name
    assert driver.current() == OWN or name in RESTORE, (name, driver.current())
    assert VENDOR == "cuda" or driver.last_error() == 0
    driver.set_current(OWN)
    for _ in range(2):
        script()
        gc.collect()
        assert driver.allocations() == lost and driver.current() == OWN
    assert driver.modules() == modules, (name, driver.modules())


def in_child(work: object, *arguments: object) -> object:
    """What the function returns in a child that has not used the driver before."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        status = 1
        try:
            os.write(writer, json.dumps(work(*arguments)).encode())
            status = 0
        except BaseException as error:
            print(arguments, repr(error), file=sys.stderr)
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, "rb") as pipe:
        text = pipe.read()
    assert os.waitpid(pid, 0)[1] == 0, arguments
    return json.loads(text)


if __name__ == "__main__":
    names = in_child(sequence)
    launch = max(i for i, name in enumerate(names) if "Launch" in name)
    modules = sum(name in LOAD for name in names)
    gc.freeze()  # a child's collections have less to look at
    runs = 0
    for at, name in enumerate(names):
        # Three codes at the first call of each function, one at every other; at a launch every code.
        codes = CODES if at == launch else [2, 100, CODES[at % len(CODES)]] if at == names.index(name) else [1]
        for code in codes:
            in_child(inject, at + 1, name, code, is_freeing(names, at), modules)
            runs += 1
    print(json.dumps({"calls": len(names), "runs": runs, "functions": sorted(set(names))}))
