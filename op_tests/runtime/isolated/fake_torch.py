"""As much of torch as aiter_c looks at, with tensors on a fake driver's device: streams, devices, fresh tensors."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace

import aiter_c


class FakeTorch:
    """Stands in sys.modules from now on. `current` is the current stream, `allocated_on` the streams that were current
    when tensors were made. A build for HIP calls its devices cuda as well."""

    def __init__(self, vendor: str, place: str) -> None:
        self.current, self.allocated_on = 0, []
        fake = self

        class Tensor:
            """An Array that its framework knows by the name of torch.Tensor."""

            is_cuda = True

            def __init__(self, array: aiter_c.Array) -> None:
                self.array, self.shape, self.device = array, array.shape, "its device"

            def __dlpack__(self, **keywords: object) -> object:
                return self.array.__dlpack__(**keywords)

            def __dlpack_device__(self) -> tuple[int, int]:
                return self.array.__dlpack_device__()

            def new_empty(self, shape: tuple[int, ...], dtype: str) -> Tensor:
                fake.allocated_on.append(fake.current)
                return Tensor(aiter_c.empty(shape, dtype, place))

        class device:
            def __init__(self, kind: str, index: int) -> None:
                self.type, self.index = kind, index

            def __str__(self) -> str:
                return f"{self.type}:{self.index}"

        for kind in (Tensor, device):
            kind.__module__, kind.__qualname__ = "torch", kind.__name__
        self.Tensor, self.device = Tensor, device
        self._register(vendor)

    def _register(self, vendor: str) -> None:
        as_stream = lambda handle: SimpleNamespace(cuda_stream=handle)  # noqa: E731

        @contextmanager
        def stream(chosen: SimpleNamespace) -> Iterator[None]:
            before, self.current = self.current, chosen.cuda_stream
            yield
            self.current = before

        def external_stream(handle: int, device: object) -> SimpleNamespace:
            assert handle > 0 and device == "its device", "torch makes a new stream of a handle of 0"
            return as_stream(handle)

        torch = ModuleType("torch")
        torch.float32, torch.Tensor, torch.device = "float32", self.Tensor, self.device
        torch.cuda = SimpleNamespace(
            stream=stream,
            ExternalStream=external_stream,
            default_stream=lambda device: as_stream(0),
            current_stream=lambda device: as_stream(self.current),
        )
        version, core = ModuleType("torch.version"), ModuleType("torch._C")
        version.hip = "6.4" if vendor == "hip" else None
        core._cuda_getCurrentRawStream = lambda index: self.current
        sys.modules |= {"torch": torch, "torch.version": version, "torch._C": core}
