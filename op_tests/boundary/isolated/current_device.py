"""Run by test_current_device.py: python current_device.py {hip,cuda} DRIVER, with aiter_c on a fake driver.

A torch without the exchange API, with tensors on two devices. Its Tensor.__dlpack__ does what torch's does: it refuses
tensors that require grad, and those of a device that is not the current one.
"""

from __future__ import annotations

import sys
import threading
from types import ModuleType

import numpy as np
from ml_dtypes import bfloat16
from runtime.fake_driver import FakeDriver

import aiter_c
from aiter_c import _C, mla_decode_fwd

VENDOR = sys.argv[1]
PLACES = (f"{VENDOR}:0", f"{VENDOR}:1")
driver = FakeDriver(VENDOR, sys.argv[2])
current = threading.local()  # as torch.cuda.current_device() is
STREAMS = {0: 50, 1: 51}  # the current stream of each device
written: list[object] = []


class Tensor:
    """torch.Tensor on a device."""

    is_cuda = True
    requires_grad = False

    def __init__(self, array: aiter_c.Array) -> None:
        self.array, self.shape = array, array.shape
        self.device = array.__dlpack_device__()[1]

    def is_neg(self) -> bool:
        return False

    def new_empty(self, shape: tuple[int, ...], dtype: str) -> Tensor:
        return Tensor(aiter_c.empty(shape, dtype, self.array.device))

    def __dlpack__(self, *, stream: int = -1, max_version: tuple[int, int] | None = None) -> object:
        if self.requires_grad:
            raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
        if self.device != getattr(current, "device", 0):
            raise BufferError("Can't export tensors on a different CUDA device index.")
        return self.array.__dlpack__(stream=stream, max_version=max_version)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


Tensor.__module__, Tensor.__qualname__ = "torch", "Tensor"


def _register() -> None:
    torch, version, core, cuda = (ModuleType(n) for n in ("torch", "torch.version", "torch._C", "torch.cuda"))
    torch.Tensor, torch.float32, torch.cuda = Tensor, "float32", cuda
    version.hip = "6.4" if VENDOR == "hip" else None
    core._to_dlpack = lambda tensor: tensor.array.__dlpack__(stream=-1)
    core._cuda_getCurrentRawStream = STREAMS.__getitem__
    core._increment_version = written.extend
    sys.modules |= {"torch": torch, "torch.version": version, "torch._C": core, "torch.cuda": cuda}


def arguments(place: str) -> dict[str, Tensor]:
    arrays = {
        "q": np.ones((2, 16, 576), bfloat16),
        "kv_buffer": np.ones((8, 4, 1, 576), bfloat16),
        "o": np.zeros((2, 16, 512), bfloat16),
        "qo_indptr": np.array([0, 1, 2], np.int32),
        "kv_indptr": np.array([0, 3, 8], np.int32),
        "kv_indices": np.arange(8, dtype=np.int32),
        "kv_last_page_lens": np.array([4, 2], np.int32),
    }
    return {name: Tensor(aiter_c.from_host(array, place)) for name, array in arrays.items()}


def run(a: dict, splits: int = 2, **keywords: object) -> tuple[object, object]:
    return mla_decode_fwd(**a, max_seqlen_q=1, page_size=4, num_kv_splits=splits, **keywords)


def check_any_current_device() -> None:
    for now in (0, 1):
        current.device = now
        driver.set_current(now)
        for index, place in enumerate(PLACES):
            for splits in (1, 2):
                logits, lse = run(arguments(place), splits, return_lse=True)
                last = driver.last_launch()
                assert (last.device, last.stream) == (index, STREAMS[index]), (now, place, last.device, last.stream)
                assert lse.device == logits.device == index
                assert driver.current() in (now, -1) and current.device == now


def check_threads() -> None:
    errors: list[Exception] = []

    def work(index: int) -> None:
        current.device = 1 - index
        try:
            for _ in range(20):
                _, lse = run(arguments(PLACES[index]), return_lse=True)
                assert lse.device == index
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in (0, 1, 0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors


def check_mixed_devices() -> None:
    current.device = 0
    for name in arguments(PLACES[1]):
        if name == "q":
            continue
        a = arguments(PLACES[1]) | {name: arguments(PLACES[0])[name]}
        try:
            run(a)
        except ValueError as error:
            assert str(error) == f"mla_decode_fwd: {name}: expected device {PLACES[1]} (of q), got {PLACES[0]}"
        else:
            raise AssertionError(name)


def check_gradients() -> None:
    a = arguments(PLACES[1])
    a["q"].requires_grad = True
    run(a)
    a["o"].requires_grad = True
    try:
        run(a)
    except BufferError as error:
        text = "mla_decode_fwd: o: expected an output that does not require grad, got one that does (see detach)"
        assert str(error) == text
    else:
        raise AssertionError("o")


def check_writes_are_told() -> None:
    a = arguments(PLACES[1])
    written.clear()
    run(a, 1)
    assert written == [a["o"]]
    written.clear()
    _, lse = run(a, 2, return_lse=True)  # nobody else has the workspaces yet
    assert a["o"] in written and {id(tensor) for tensor in written} <= {id(a["o"]), id(lse)}
    written.clear()
    try:
        run(a | {"kv_indices": a["q"]})
    except (TypeError, ValueError):
        assert written == []


if __name__ == "__main__":
    _register()
    assert _C.dlpack_path(Tensor) == "__dlpack__"
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            check()
    print("ok")
