"""Run by test_two_gpus.py: python two_gpus.py CHECK, with torch on two GPUs; the switch of the exchange API is set."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager

import numpy as np
import torch

import aiter_c
from aiter_c.testing import MlaCase, build_inputs

CASE = MlaCase(heads=16, q_lens=(1, 2), kv_lens=(300, 77), page_size=16, splits=4)
SPLITS = (1, 4)
DEVICES = (0, 1)


def tensors(index: int) -> dict:
    """The arguments of the case on a device, whichever is current."""

    def move(value: object) -> object:
        if not isinstance(value, np.ndarray):
            return value
        array = np.ascontiguousarray(value)
        if array.dtype.name == "bfloat16":
            return torch.from_numpy(array.view(np.int16)).to(f"cuda:{index}").view(torch.bfloat16)
        return torch.from_numpy(array).to(f"cuda:{index}")

    return {name: move(value) for name, value in build_inputs(CASE).arguments().items()}


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.detach().contiguous().view(torch.uint8).cpu().numpy().tobytes()


def run(arguments: dict, splits: int, **more: object) -> tuple[bytes, bytes]:
    _, lse = aiter_c.mla_decode_fwd(**arguments | {"num_kv_splits": splits, "return_lse": True} | more)
    assert lse.device == arguments["q"].device
    return bits(arguments["o"]), bits(lse)


def expected() -> dict[int, tuple[bytes, bytes]]:
    """On device 0, which is current: what every other way must give, bit for bit. The CPU says that it is right."""
    torch.cuda.set_device(0)
    out = {}
    for splits in SPLITS:
        arguments = tensors(0)
        out[splits] = run(arguments, splits)
        host = build_inputs(CASE)
        aiter_c.mla_decode_fwd(**host.arguments() | {"num_kv_splits": splits, "return_lse": True})
        np.testing.assert_allclose(arguments["o"].float().cpu(), host.array("o").astype(np.float32), 2e-2, 2e-2)
    return out


@contextmanager
def refused(kind: type, *texts: str):
    try:
        yield
    except kind as error:
        assert all(text in str(error) for text in texts), error
    else:
        raise AssertionError(f"no {kind.__name__}")


def check_any_current_device(right: dict) -> None:
    for now in DEVICES:
        torch.cuda.set_device(now)
        for index in DEVICES:
            for splits in SPLITS:
                assert run(tensors(index), splits) == right[splits], (now, index, splits)
                assert torch.cuda.current_device() == now


def check_plans(right: dict) -> None:
    for now in DEVICES:
        torch.cuda.set_device(now)
        for index in DEVICES:
            plan = aiter_c.mla_plan(
                len(CASE.q_lens), CASE.heads, max(CASE.q_lens), CASE.page_size, torch.bfloat16, torch.bfloat16,
                num_kv_splits=4, return_lse=True, device=torch.device("cuda", index),
            )  # fmt: skip
            assert run(tensors(index), 4, plan=plan) == right[4]


def _sleep_then_fill(arguments: dict, stream: torch.cuda.Stream) -> None:
    """q arrives late on the stream: a call that runs elsewhere reads what was there before."""
    late = arguments["q"].clone()
    arguments["q"].fill_(7)
    torch.cuda.synchronize(arguments["q"].device)
    with torch.cuda.stream(stream):
        torch.cuda._sleep(200_000_000)
        arguments["q"].copy_(late)


def check_streams(right: dict) -> None:
    """The current stream of the tensors' device, while another device is current; and a handle."""
    for index in DEVICES:
        for splits in SPLITS:
            stream = torch.cuda.Stream(torch.device("cuda", index))
            arguments = tensors(index)
            _sleep_then_fill(arguments, stream)
            with torch.cuda.stream(stream), torch.cuda.device(1 - index):
                assert torch.cuda.current_device() == 1 - index
                _, lse = aiter_c.mla_decode_fwd(**arguments | {"num_kv_splits": splits, "return_lse": True})
            stream.synchronize()
            assert (bits(arguments["o"]), bits(lse)) == right[splits], (index, splits)

            arguments = tensors(index)
            _sleep_then_fill(arguments, stream)
            torch.cuda.set_device(1 - index)
            _, lse = aiter_c.mla_decode_fwd(
                **arguments | {"num_kv_splits": splits, "return_lse": True, "stream": stream.cuda_stream}
            )
            stream.synchronize()
            assert (bits(arguments["o"]), bits(lse)) == right[splits], (index, splits, "handle")


def check_threads(right: dict) -> None:
    """Every thread has a current device of its own, and calls on both."""
    errors: list[BaseException] = []

    def work(now: int) -> None:
        try:
            torch.cuda.set_device(now)
            arguments = {index: tensors(index) for index in DEVICES}
            for n in range(50):
                index, splits = (now + n) % 2, SPLITS[n // 2 % 2]
                assert run(arguments[index], splits) == right[splits], (now, index, splits)
                assert torch.cuda.current_device() == now
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(now,)) for now in (0, 1, 0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors


def check_graphs(right: dict) -> None:
    """Captured on each device, replayed with another q while the other device is current."""
    for index in DEVICES:
        for splits in SPLITS:
            arguments = tensors(index)
            q = arguments["q"].clone()
            call = arguments | {"num_kv_splits": splits, "return_lse": True}
            with torch.cuda.device(index):
                stream = torch.cuda.Stream()
                stream.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(stream):
                    aiter_c.mla_decode_fwd(**call)
                torch.cuda.current_stream().wait_stream(stream)
                graph = torch.cuda.CUDAGraph()
                arguments["q"].zero_()
                with torch.cuda.graph(graph, stream=torch.cuda.Stream()):  # its default one stays on the first device
                    _, lse = aiter_c.mla_decode_fwd(**call)
                arguments["q"].copy_(q)
                torch.cuda.synchronize()
            torch.cuda.set_device(1 - index)
            graph.replay()
            torch.cuda.synchronize(index)
            assert (bits(arguments["o"]), bits(lse)) == right[splits], (index, splits)


def check_mixed_devices(right: dict) -> None:
    for now in DEVICES:
        torch.cuda.set_device(now)
        names = [name for name, value in tensors(1).items() if isinstance(value, torch.Tensor) and name != "q"]
        for name in names:
            arguments = tensors(1)
            before = bits(arguments["o"])
            with refused(ValueError, f"mla_decode_fwd: {name}: expected device ", ":1 (of q), got ", ":0"):
                aiter_c.mla_decode_fwd(**arguments | {name: tensors(0)[name]})
            assert bits(arguments["o"]) == before


def check_gradients_and_counters(right: dict) -> None:
    torch.cuda.set_device(0)
    arguments = tensors(1)
    arguments["q"].requires_grad_()
    version = arguments["o"]._version
    assert run(arguments, 4) == right[4] and arguments["o"]._version > version
    arguments["o"].requires_grad_()
    with refused(BufferError, "mla_decode_fwd: o: expected an output that does not require grad"):
        aiter_c.mla_decode_fwd(**arguments)


CHECKS: dict[str, Callable] = {
    name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")
}

if __name__ == "__main__":
    path = aiter_c._C.dlpack_path(torch.Tensor)
    assert os.environ.get("AITER_C_DLPACK_EXCHANGE") != "0" or path == "__dlpack__"
    CHECKS[sys.argv[1]](expected())
    torch.cuda.synchronize()
    print("ok")
