"""Graph capture and replay."""

from __future__ import annotations

import ctypes as ct
from collections.abc import Callable

import numpy as np
import pytest

from gfxsim import Buffer, Module, Simulator
from gfxsim.tests.machine_fixtures import expect_error, floats

CAPTURE_GLOBAL, CAPTURE_THREAD_LOCAL, CAPTURE_RELAXED = range(3)


def _status(sim: Simulator, stream: int | None) -> int:
    status = ct.c_int(-1)
    sim.call("hipStreamIsCapturing", stream, ct.byref(status))
    return status.value


def _end(sim: Simulator, stream: int) -> ct.c_void_p:
    graph = ct.c_void_p()
    sim.call("hipStreamEndCapture", stream, ct.byref(graph))
    return graph


def test_graph_capture_and_replay(sim: Simulator, clean: Module) -> None:
    handles = sim.live_handles()
    stream = sim.stream(1)
    data, middle, out = sim.upload(floats(256)), sim.malloc(1024), sim.upload(np.zeros(256, np.float32))
    reverse, add = clean.kernel("reverse_in_lds"), clean.kernel("vector_add")
    launches = sim.lib.gfxsim_launch_count()
    sim.call("hipStreamBeginCapture", stream, CAPTURE_GLOBAL)
    assert _status(sim, stream) == 1
    sim.call("hipMemsetD32Async", out.address, 0, 256, stream)
    reverse([data, middle], 1, 256, stream=stream)
    add([middle, out, out, 256], 1, 256, stream=stream)
    sim.call("hipMemcpyAsync", middle.address, out.address, 1024, 3, stream)
    graph, executable = _end(sim, stream), ct.c_void_p()
    assert sim.lib.gfxsim_launch_count() == launches and _status(sim, stream) == 0
    assert (out.read(np.float32) == 0).all()  # nothing has run yet

    count = ct.c_size_t()
    sim.call("hipGraphGetNodes", graph, None, ct.byref(count))
    nodes, kinds = (ct.c_void_p * count.value)(), []
    sim.call("hipGraphGetNodes", graph, nodes, ct.byref(count))
    for node in nodes:
        kind = ct.c_int()
        sim.call("hipGraphNodeGetType", node, ct.byref(kind))
        kinds.append(kind.value)
    assert kinds == [2, 0, 0, 1]

    sim.call("hipGraphInstantiate", ct.byref(executable), graph, None, None, 0)
    sim.call("hipGraphDestroy", graph)
    for seed in range(3):  # the inputs change in place
        data.write(floats(256, seed))
        sim.call("hipGraphLaunch", executable, stream)
        sim.call("hipStreamSynchronize", stream)
        np.testing.assert_array_equal(out.read(np.float32), floats(256, seed)[::-1])
        np.testing.assert_array_equal(middle.read(np.float32), out.read(np.float32))
    assert sim.lib.gfxsim_launch_count() == launches + 6
    sim.call("hipGraphExecDestroy", executable)
    sim.call("hipStreamDestroy", stream)
    assert sim.live_handles() == handles
    expect_error("hipErrorInvalidValue", lambda: sim.call("hipGraphLaunch", executable, None))


FORBIDDEN: dict[str, Callable[[Simulator, int, Buffer], None]] = {
    "hipMalloc": lambda sim, stream, buffer: sim.call("hipMalloc", ct.byref(ct.c_void_p()), 16),
    "hipFree": lambda sim, stream, buffer: sim.call("hipFree", buffer.address),
    "hipMemcpy": lambda sim, stream, buffer: sim.call("hipMemcpy", buffer.address, buffer.address, 4, 3),
    "hipDeviceSynchronize": lambda sim, stream, buffer: sim.synchronize(),
    "hipStreamSynchronize": lambda sim, stream, buffer: sim.call("hipStreamSynchronize", stream),
    "hipStreamQuery": lambda sim, stream, buffer: sim.call("hipStreamQuery", stream),
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_a_capture_forbids(sim: Simulator, name: str) -> None:
    stream, buffer = sim.stream(1), sim.malloc(16)
    sim.call("hipStreamBeginCapture", stream, CAPTURE_THREAD_LOCAL)
    expect_error("hipErrorStreamCaptureUnsupported", lambda: FORBIDDEN[name](sim, stream, buffer))
    assert _status(sim, stream) == 2
    expect_error(
        "hipErrorStreamCaptureInvalidated",
        lambda: sim.call("hipMemsetD32Async", buffer.address, 0, 4, stream),
    )
    expect_error("hipErrorStreamCaptureInvalidated", lambda: _end(sim, stream))
    assert _status(sim, stream) == 0
    sim.call("hipStreamDestroy", stream)


def test_capture_modes(sim: Simulator) -> None:
    stream = sim.stream(1)
    sim.call("hipStreamBeginCapture", stream, CAPTURE_RELAXED)
    sim.malloc(16).free()
    sim.call("hipGraphDestroy", _end(sim, stream))
    sim.call("hipStreamBeginCapture", stream, CAPTURE_GLOBAL)
    mode = ct.c_int(CAPTURE_RELAXED)
    sim.call("hipThreadExchangeStreamCaptureMode", ct.byref(mode))
    sim.malloc(16).free()
    sim.call("hipThreadExchangeStreamCaptureMode", ct.byref(mode))
    sim.call("hipGraphDestroy", _end(sim, stream))
    expect_error("hipErrorIllegalState", lambda: _end(sim, stream))
    expect_error("hipErrorStreamCaptureUnsupported", lambda: sim.call("hipStreamBeginCapture", None, CAPTURE_GLOBAL))
    sim.call("hipStreamDestroy", stream)


def test_the_null_stream_and_a_blocking_capture(sim: Simulator) -> None:
    buffer = sim.malloc(16)
    fill = lambda: sim.call("hipMemsetD32Async", buffer.address, 0, 4, None)  # noqa: E731
    for flags, clashes in ((0, True), (1, False)):
        stream = sim.stream(flags)
        sim.call("hipStreamBeginCapture", stream, CAPTURE_GLOBAL)
        if clashes:
            expect_error("hipErrorStreamCaptureImplicit", lambda: _status(sim, None))
            assert _status(sim, stream) == 1, "asking spoils nothing"
            expect_error("hipErrorStreamCaptureImplicit", fill)
            expect_error("hipErrorStreamCaptureInvalidated", lambda stream=stream: _end(sim, stream))
        else:
            fill()
            sim.call("hipGraphDestroy", _end(sim, stream))
        sim.call("hipStreamDestroy", stream)


def test_a_capture_over_two_streams(sim: Simulator) -> None:
    main_stream, side = sim.stream(1), sim.stream(1)
    buffer, event, executable = sim.upload(np.zeros(4, np.uint32)), ct.c_void_p(), ct.c_void_p()
    sim.call("hipEventCreate", ct.byref(event))
    for joined in (True, False):
        sim.call("hipStreamBeginCapture", main_stream, CAPTURE_GLOBAL)
        sim.call("hipEventRecord", event, main_stream)
        sim.call("hipStreamWaitEvent", side, event, 0)
        assert _status(sim, side) == 1
        sim.call("hipMemsetD32Async", buffer.address, 5, 4, side)
        if not joined:
            expect_error("hipErrorStreamCaptureUnjoined", lambda: _end(sim, main_stream))
            continue
        sim.call("hipEventRecord", event, side)
        sim.call("hipStreamWaitEvent", main_stream, event, 0)
        graph = _end(sim, main_stream)
        assert _status(sim, side) == 0 and (buffer.read(np.uint32) == 0).all()
        sim.call("hipGraphInstantiate", ct.byref(executable), graph, None, None, 0)
        sim.call("hipGraphLaunch", executable, main_stream)
        assert (buffer.read(np.uint32) == 5).all()
    for stream in (main_stream, side):
        sim.call("hipStreamDestroy", stream)
