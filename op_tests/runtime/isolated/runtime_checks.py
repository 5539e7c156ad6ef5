"""Run by test_runtime_fake.py: python runtime_checks.py {hip,cuda} DRIVER CHECK, with aiter_c on a fake driver."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import contextmanager

import numpy as np
from boundary.exchange_producer import Exchange, exchange_type
from boundary.producer import CUDA, ROCM, Producer
from fake_torch import FakeTorch
from ml_dtypes import bfloat16
from runtime.fake_driver import FakeDriver

import aiter_c
from aiter_c import _C, DeviceError, UnsupportedError, empty, from_host, mla_decode_fwd, mla_plan
from aiter_c.testing.device import address_of

VENDOR = sys.argv[1]
ZERO, ONE, OTHER_ARCH = (f"{VENDOR}:{index}" for index in range(3))
GUARD = {"hip": {"hipGetDevice", "hipSetDevice"}, "cuda": {"cuCtxPushCurrent_v2", "cuCtxPopCurrent_v2"}}[VENDOR]
FILL, LAUNCH, EARLY_LAUNCH = {
    "hip": ("hipMemsetD32Async", "hipModuleLaunchKernel", "hipModuleLaunchKernel"),
    "cuda": ("cuMemsetD32Async", "cuLaunchKernel", "cuLaunchKernelEx"),
}[VENDOR]
LOAD, FIND, FREE, SYNC = {
    "hip": ("hipModuleLoadData", "hipModuleGetFunction", "hipFree", "hipDeviceSynchronize"),
    "cuda": ("cuModuleLoadData", "cuModuleGetFunction", "cuMemFree_v2", "cuCtxSynchronize"),
}[VENDOR]
driver = FakeDriver(VENDOR, sys.argv[2])


@contextmanager
def raises(kind: type, text: str = ""):
    try:
        yield
    except kind as error:
        assert type(error) is kind and text in str(error), error
    else:
        raise AssertionError(f"no {kind.__name__}")


class Call:
    """The arguments of one decode call of two requests on a device."""

    def __init__(self, place: str, splits: int = 2) -> None:
        self.place, self.splits, self.rows = place, splits, 1
        self.q = from_host(np.ones((2, 16, 576), bfloat16), place)
        self.kv = from_host(np.ones((8, 4, 1, 576), bfloat16), place)
        self.o = from_host(np.zeros((2, 16, 512), bfloat16), place)
        self.qo_indptr = from_host(np.array([0, 1, 2], np.int32), place)
        self.kv_indptr = from_host(np.array([0, 3, 8], np.int32), place)
        self.kv_indices = from_host(np.arange(8, dtype=np.int32), place)
        self.last = from_host(np.array([4, 2], np.int32), place)

    def run(self, **keywords: object) -> tuple[object, object]:
        return mla_decode_fwd(
            self.q, self.kv, self.o, self.qo_indptr, self.kv_indptr, self.kv_indices, self.last, self.rows, 4,
            num_kv_splits=self.splits, return_lse=True, **({"stream": 7} | keywords),
        )  # fmt: skip


def check_arrays() -> None:
    """Memory there and back, on two devices, and what an Array says of itself."""
    for place in (ZERO, ONE):
        data = np.arange(600, dtype=np.int32).reshape(20, 30)
        for source in (data, data[3:17:2, 25:4:-3], data[:0], np.asarray(data[5, 5])):
            array = from_host(source, place)
            assert array.device == place and array.shape == source.shape
            assert np.array_equal(array.numpy(), source) and array.numpy() is not array.numpy()
    kind = {"hip": 10, "cuda": 2}[VENDOR]
    assert empty((2, 3), "bfloat16", ONE).__dlpack_device__() == (kind, 1)
    assert empty((2, 3), "float32", VENDOR).device == ZERO
    driver.set_current(0)
    assert empty(5, "uint8", OTHER_ARCH).numpy().shape == (5,)
    with raises(MemoryError, f"{ONE}: cannot allocate {4 << 50} bytes"):
        empty(1 << 50, "float32", ONE)
    with raises(ValueError, f"expected one of 3 {VENDOR} devices, got {VENDOR}:3"):
        empty(1, "float32", f"{VENDOR}:3")
    del array
    assert driver.allocations() == 0


def check_decode() -> None:
    """What reaches the kernel: names, sizes, stream, parameters."""
    for index, place in enumerate((ZERO, ONE)):
        call = Call(place)
        since = driver.launches()
        plan = mla_plan(2, 16, 1, 4, "bfloat16", "bfloat16", num_kv_splits=2, return_lse=True, device=place)
        rows = {row["name"]: row for row in _C.kernel_table() if row["arch"] == plan.arch}
        stage1, stage2 = rows[plan.stage1], rows[plan.stage2]
        logits, lse = call.run(plan=plan)
        assert driver.launches() == since + 2 and logits.device == lse.device == place
        last = driver.last_launch()
        assert last.kernel.decode() == stage2["name"] and tuple(last.grid[1:]) == (1, 1) and last.device == index
        assert tuple(last.block) == (stage2["threads"], 1, 1) and last.stream == 7
        logits, lse = Call(place, splits=1).run()
        last = driver.last_launch()
        assert last.kernel.decode() == plan.stage1 and last.local_bytes == stage1["local_bytes"]
        assert tuple(last.grid) == (2 * plan.row_tiles, 1, 1) and driver.launches() == since + 3
        assert last.params_bytes > 200 and int.from_bytes(last.params[:8], "little") % 64 == 0
        del call, logits, lse
    assert driver.allocations() == 0


def check_guard() -> None:
    """Another device is the thread's own before, and after, also after failures."""
    before = [0, 1] if VENDOR == "hip" else [-1, 0, 1]
    for own in before:
        for place in (ZERO, ONE):
            driver.set_current(own)
            Call(place).run()
            from_host(np.ones(3, np.float32), place).numpy()
            with raises(UnsupportedError):
                mla_plan(2, 16, 1, 4, "bfloat16", "bfloat16", device=OTHER_ARCH)
            with raises(MemoryError):
                empty(1 << 50, "float32", place)
            assert driver.current() == own


def check_refusals() -> None:
    """Mixed devices, another architecture, another device's plan, too large a grid, streams."""
    call = Call(ZERO)
    call.kv = Call(ONE).kv
    with raises(ValueError, f"kv_buffer: expected device {ZERO} (of q), got {ONE}"):
        call.run()
    call = Call(ZERO)
    call.kv_indptr = from_host(np.array([0, 3, 8], np.int32))
    with raises(ValueError, f"kv_indptr: expected device {ZERO} (of q), got cpu"):
        call.run()
    found = {"hip": "gfx942 or gfx950, got gfx1100", "cuda": "compute capability 9.0 (sm_90a), got "}[VENDOR]
    with raises(UnsupportedError, f"mla_plan: device: {OTHER_ARCH}: expected {found}"):
        mla_plan(2, 16, 1, 4, "bfloat16", "bfloat16", device=OTHER_ARCH)
    with raises(UnsupportedError, f"mla_decode_fwd: q: {OTHER_ARCH}: expected {found}"):
        Call(OTHER_ARCH).run()
    with raises(ValueError, f"mla_plan: device: expected one of 3 {VENDOR} devices, got {VENDOR}:3"):
        mla_plan(2, 16, 1, 4, "bfloat16", "bfloat16", device=f"{VENDOR}:3")
    for index in (3, 64, -1, 2**31 - 1):
        call = Call(ZERO)
        call.q = Producer(np.ones((2, 16, 576), bfloat16), device=({"hip": ROCM, "cuda": CUDA}[VENDOR], index))
        with raises(ValueError, f"mla_decode_fwd: q: expected one of 3 {VENDOR} devices, got {VENDOR}:{index}"):
            call.run()
        assert call.q.exported == call.q.deleted > 0
    plan = mla_plan(2, 16, 1, 4, "bfloat16", "bfloat16", num_kv_splits=2, return_lse=True, device="cpu")
    with raises(ValueError, "plan.arch: expected a plan made for "):
        Call(ZERO).run(plan=plan)
    call, plan = Call(ZERO), mla_plan(2, 16, 1, 4, "bfloat16", "bfloat16", num_kv_splits=2, device="cpu")
    logits, attn_lse = empty((2, 2, 16, 512), "float32", ZERO), empty((2, 2, 16, 1), "float32", ZERO)
    with raises(ValueError, "plan.arch: expected a plan made for "):
        _C.mla_decode_stage2(logits, attn_lse, call.o, None, call.qo_indptr, plan=plan, stream=0)
    with raises(ValueError, "stream: expected a stream's handle, at least 0, got -1"):
        Call(ZERO).run(stream=-1)
    with raises(TypeError, f"stream: expected int (no framework tells the current stream of {ZERO}), got None"):
        Call(ZERO).run(stream=None)


def check_large_grids() -> None:
    """A launch that the device would not take is refused before anything is written, whichever stage it is."""
    most = {"hip": 2_000_000, "cuda": 10_000_000}[VENDOR]
    for splits, heads, requests, stage in ((900, 1, 4_000_000, "mla_decode_"), (2, 128, most, "mla_merge")):
        call = Call(ZERO, splits)
        call.qo_indptr = from_host(np.zeros(requests + 1, np.int32), ZERO)
        call.kv_indptr, call.last = call.qo_indptr, call.qo_indptr
        call.q, call.o = from_host(np.ones((2, heads, 576), bfloat16), ZERO), empty((2, heads, 512), "bfloat16", ZERO)
        call.rows = 2
        since = driver.call_count()
        with raises(UnsupportedError, "mla_decode_fwd: plan.grid: " + stage):
            call.run()
        assert not {FILL, LAUNCH, EARLY_LAUNCH} & set(driver.calls(since))
        with raises(UnsupportedError, "work items in a launch, got "):
            call.run()


def check_dlpack() -> None:
    """The stream protocol of __dlpack__: which numbers are streams, and what is waited for."""
    array = from_host(np.arange(4, dtype=np.float32), ONE)
    good, bad = ([None, 0, 3, 1 << 40], [1, 2, -2]) if VENDOR == "hip" else ([None, 1, 2, 3, 1 << 40], [0, -2])
    for stream in good:
        since = driver.call_count()
        array.__dlpack__(stream=stream, max_version=(1, 0))
        assert driver.calls(since).count(SYNC) == 1
    since = driver.call_count()
    array.__dlpack__(stream=-1)
    assert driver.call_count() == since
    for stream in bad:
        with raises(ValueError, "Array.__dlpack__: stream: expected None, -1, "):
            array.__dlpack__(stream=stream)
    with raises(BufferError, "dl_device: expected "):
        array.__dlpack__(dl_device=(1, 0))
    live = driver.allocations()
    capsule = array.__dlpack__(copy=True, max_version=(1, 0))
    assert driver.allocations() == live + 1
    del capsule
    assert driver.allocations() == live and np.array_equal(array.numpy(), np.arange(4))


def check_steady_state() -> None:
    """From the second call on an op launches, and calls the driver for nothing else: the kernels fill the LSE, and the
    merge may start before stage 1 has ended where it can wait for that."""
    call = Call(ONE)
    plan = mla_plan(2, 16, 1, 4, "bfloat16", "bfloat16", num_kv_splits=2, return_lse=True, device=ONE)
    logits, attn_lse = empty((2, 2, 16, 512), "float32", ONE), empty((2, 2, 16, 1), "float32", ONE)
    lse = empty((2, 16), "float32", ONE)
    for repeat in range(3):
        since = driver.call_count()
        _C.mla_decode_stage1(
            call.q, call.kv, call.o, call.qo_indptr, call.kv_indptr, call.kv_indices, call.last, 1, 4,
            logits=logits, attn_lse=attn_lse, lse=lse, plan=plan, stream=9,
        )  # fmt: skip
        _C.mla_decode_stage2(logits, attn_lse, call.o, lse, call.qo_indptr, plan=plan, stream=9)
        calls = driver.calls(since)
        if repeat:
            assert [name for name in calls if name not in GUARD] == [LAUNCH, EARLY_LAUNCH], calls
            assert mla_plan(2, 16, 1, 4, "bfloat16", "bfloat16", num_kv_splits=2, return_lse=True, device=ONE) == plan
    assert driver.call_count() == since + len(calls)  # a plan asks the driver nothing


def check_capture() -> None:
    """While a stream is captured the first launch still loads its kernel; what must wait is refused by the driver."""
    call = Call(ZERO, splits=1)
    lse = empty((2, 16), "float32", ZERO)
    plan = mla_plan(2, 16, 1, 4, "bfloat16", "bfloat16", num_kv_splits=1, return_lse=True, device=ZERO)
    driver.set_capturing(True)
    _C.mla_decode_stage1(
        call.q, call.kv, call.o, call.qo_indptr, call.kv_indptr, call.kv_indices, call.last, 1, 4,
        lse=lse, plan=plan, stream=9,
    )  # fmt: skip
    assert driver.launches() == 1 and driver.capture_mode() == 0
    with raises(DeviceError, f"{ZERO}: {SYNC} failed: "):
        lse.numpy()
    live = driver.allocations()
    call.last = None  # dropped at any time: the memory is not lost, and the capture goes on
    assert driver.allocations() == live - 1 and driver.capture_mode() == 0
    lse.__dlpack__(stream=-1)
    driver.set_capturing(False)


def check_threads() -> None:
    """Eight threads, each with its own stream and device, from the first use on."""
    failures: list[BaseException] = []
    start = threading.Barrier(8)

    def work(number: int) -> None:
        try:
            place = (ZERO, ONE)[number % 2]
            start.wait()
            for repeat in range(30):
                call = Call(place)
                data = np.full((3, number + 1), repeat, np.int64)
                call.run(stream=100 + number)
                assert np.array_equal(from_host(data, place).numpy(), data)
                assert driver.current() == (0 if VENDOR == "hip" else -1)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    objects = {row["object"] for row in _C.kernel_table() if row["arch"] == {"hip": "gfx942", "cuda": "sm_90a"}[VENDOR]}
    assert driver.launches() == 8 * 30 * 2 and driver.allocations() == 0
    assert driver.modules() <= 2 * len(objects) and driver.calls().count(LOAD) == driver.modules()
    assert driver.calls().count(FIND) == 2 * 2  # two kernels on two devices


def _in_child(work: Callable[[], None]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads, from CPython 3.12 on
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0


def check_fork() -> None:
    """Before the first use a fork is harmless; after it the child is told, and the parent goes on."""

    def uses() -> None:
        Call(ZERO).run()

    _in_child(uses)
    kept = Call(ZERO)
    kept.run()

    def refused() -> None:
        text = "driver was used before fork(), and a forked process cannot use it again"
        since = driver.call_count()
        for attempt in (
            lambda: empty(3, "float32", ONE),
            lambda: kept.run(),
            lambda: kept.q.numpy(),
            lambda: kept.q.__dlpack__(),
            lambda: mla_plan(2, 16, 1, 4, "bfloat16", "bfloat16", device=ZERO),
        ):
            with raises(DeviceError, text):
                attempt()
        try:
            empty(3, "float32", ONE)
        except DeviceError as error:
            assert (error.code, error.name, error.call) == (None, None, None)
        array, kept.o = kept.o, None
        del array  # not freed: the memory is the parent's
        assert _C.runtime_info()["runtimes"][VENDOR]["available"]
        assert driver.call_count() == since
        assert aiter_c.from_host(np.ones(3)).numpy().sum() == 3  # the CPU works

    _in_child(refused)
    kept.run()
    assert np.array_equal(kept.q.numpy(), np.ones((2, 16, 576), bfloat16))


def check_fork_during_first_use() -> None:
    """Another thread is loading a kernel, under our lock: the child is refused, but it does not wait."""

    def in_child() -> None:
        signal.alarm(20)
        with raises(DeviceError, "driver was used before fork()"):
            empty(3, "float32", ZERO)
        assert _C.runtime_info()["runtimes"][VENDOR]["available"]

    thread = threading.Thread(target=Call(ZERO).run)
    thread.start()
    while FIND not in driver.calls():  # it takes some milliseconds
        pass
    _in_child(in_child)
    thread.join()


def check_torch_streams() -> None:
    """Fresh tensors belong to the stream that the op runs on: torch's allocator hands freed memory to the next user of
    its own stream, who does not wait for another. And torch-ROCm's devices are called cuda."""
    torch = FakeTorch(VENDOR, ONE)
    calls = {
        "current": ({}, 5),
        "the current one": ({"stream": 5}, 5),
        "another": ({"stream": 9}, 9),
        "another, NumPy's int": ({"stream": np.int64(9)}, 9),
        "default": ({"stream": 0}, 0),
    }
    for name, (keywords, stream) in calls.items():
        call = Call(ONE)
        call.q = torch.Tensor(call.q)
        torch.current, torch.allocated_on = 5, []
        call.run(**({"stream": None} | keywords))
        assert torch.allocated_on == [stream] * 3, (name, torch.allocated_on)
        assert (driver.last_launch().stream or 0) == stream and torch.current == 5, name
    for wrong, error in (("x", TypeError), (-1, ValueError), (2.5, TypeError)):
        with raises(error, "mla_decode_fwd: stream: expected "):
            call.run(stream=wrong)
    assert mla_plan(2, 16, 1, 4, "bfloat16", "bfloat16", device=torch.device("cuda", 1)).device == ONE
    assert empty(3, "float32", torch.device("cuda", 0)).device == ZERO
    assert empty(3, "float32", torch.device("cpu", 0)).device == "cpu"
    if VENDOR == "cuda":
        assert empty(3, "float32", "cuda:1").device == ONE
    else:  # a name means what it says
        with raises(UnsupportedError, "empty: device: no runtime serves cuda:1: no CUDA driver library: "):
            empty(3, "float32", "cuda:1")


def check_exchange_streams() -> None:
    """The stream of a framework with DLPack's exchange API is what its table says for q's device, at every call."""
    for failing in ((), ("stream",)):
        exchange = Exchange(stream=77, failing=failing, silent=True)
        call, kind = Call(ONE), exchange_type(exchange)
        device = {"hip": ROCM, "cuda": CUDA}[VENDOR], 1
        like = np.ones((2, 16, 576), bfloat16)
        call.q, memory = kind(like, shape=like.shape, data=address_of(call.q), device=device), call.q
        if failing:
            since = driver.call_count()
            text = "mla_decode_fwd: stream: the framework does not tell its current stream"
            with raises(BufferError, text):
                call.run(stream=None)
            assert not {FILL, LAUNCH, EARLY_LAUNCH} & set(driver.calls(since))
            continue
        for stream in (77, 78, 0):
            exchange.stream = stream
            call.run(stream=None)
            assert (driver.last_launch().stream or 0) == stream
        call.run(stream=5)
        assert driver.last_launch().stream == 5 and memory.device == ONE


def check_free_lets_others_run() -> None:
    """Freeing waits for the device, which may be waiting for a host function that wants the interpreter."""
    array = empty(3, "float32", ONE)
    driver.hold_free(True)
    other = threading.Timer(0.2, driver.hold_free, [False])
    other.start()
    del array
    other.join()
    assert driver.frees_held_too_long() == 0 and driver.allocations() == 0


def check_errors() -> None:
    """The text of an error, codes without a name, errors that earlier work left, and HIP's memory of the last error."""
    array = from_host(np.ones(3, np.float32), ZERO)
    for code in (1, 700, 719, 999):
        driver.fail(SYNC, 1, code)
        try:
            array.numpy()
        except DeviceError as error:
            name = "unknown error" if code == 999 else f"ErrorWithANameAsLongAsTheLongestOfTheDriver{code:04}"
            left = ", perhaps left by earlier work on the device" if code in (700, 719) else ""
            assert (error.code, error.name, error.call) == (code, name, SYNC)
            assert str(error) == f"{ZERO}: {SYNC} failed: {name} ({code}){left}"
        else:
            raise AssertionError("no error")
        assert VENDOR == "cuda" or driver.last_error() == 0
        assert array.numpy().sum() == 3
    driver.fail(FREE, 1, 4)  # the driver has shut down: nobody to tell
    del array
    assert driver.allocations() == 1 and (VENDOR == "cuda" or driver.last_error() == 0)


def check_info() -> None:
    """runtime_info, and the report of python -m aiter_c env."""
    from aiter_c.cli.env import collect

    info = _C.runtime_info()["runtimes"][VENDOR]
    names = {
        "hip": ["gfx942, 300 units", "gfx950, 301 units", "hip:2: expected gfx942 or gfx950, got gfx1100"],
        "cuda": ["sm_90a, 132 units", "sm_90a, 133 units", "cuda:2: expected compute capability 9.0 (sm_90a), got "
                 "compute capability 8.0"],
    }[VENDOR]  # fmt: skip
    version = {"hip": "HIP 6.4.43482", "cuda": "CUDA 13.1"}[VENDOR]
    assert info == {
        "available": True, "devices": 3, "device_names": names, "library": info["library"], "version": version,
        "attempts": None, "reason": None,
    }  # fmt: skip
    assert os.path.samefile(info["library"], sys.argv[2])
    assert collect()["runtimes"][VENDOR] == f"on, 3 devices: {'; '.join(names)} ({info['library']}, {version})"
    environment = _C.environment()
    assert environment["AITER_C_HIP_LIBRARY"][0] == os.environ.get("AITER_C_HIP_LIBRARY")
    assert environment["AITER_C_HSA"][0] == os.environ["AITER_C_HSA"]


def check_no_device() -> None:
    """FAKE_ARCHS is empty: the runtime is found, and says why there is no device."""
    info = _C.runtime_info()["runtimes"][VENDOR]
    assert info["available"] and info["devices"] == 0
    assert info["reason"] == "no device: ErrorWithANameAsLongAsTheLongestOfTheDriver0100"
    why = f"device: expected one of 0 {VENDOR} devices, got {ZERO}; {info['reason']}"
    with raises(ValueError, f"empty: {why}"):
        empty(3, "float32", ZERO)
    with raises(ValueError, f"mla_plan: {why}"):
        mla_plan(2, 16, 1, 4, "bfloat16", "bfloat16", device=ZERO)


def check_exit() -> None:
    """Arrays that are alive when the interpreter ends."""
    globals()["kept"] = Call(ZERO)
    globals()["kept"].run()


if __name__ == "__main__":
    globals()[f"check_{sys.argv[3]}"]()
