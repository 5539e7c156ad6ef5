"""SGLang on aiter_c and on tensors of the CPU, as on a machine with one AMD GPU. Imported before anything of SGLang.
What it imports of packages for images, sound and CUDA, and does not use here, are mocks."""

from __future__ import annotations

import importlib.machinery
import os
import sys
from importlib.abc import Loader, MetaPathFinder
from types import ModuleType
from types import SimpleNamespace as Facts
from typing import Any
from unittest.mock import MagicMock

import torch
import triton
from torch.overrides import TorchFunctionMode

from aiter_c import compat

INSTALLED = compat.install()
ARCH = os.environ["GPU_ARCHS"]
NOT_USED = (
    "IPython", "decord", "deep_gemm", "flashinfer", "gguf", "pynvml", "sgl_kernel", "torch_memory_saver", "torchaudio",
    "torchvision", "zstandard",
)  # fmt: skip


class _Mocks(MetaPathFinder, Loader):
    """Last of the finders: what is installed is not mocked."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] not in NOT_USED:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return MagicMock(__path__=[], __spec__=spec, __name__=spec.name, __version__="0", __file__=spec.name)

    def exec_module(self, module: ModuleType) -> None: ...


sys.meta_path.append(_Mocks())

torch.version.hip = "7.2.0"
_GPU = Facts(gcnArchName=ARCH, multi_processor_count=8, major=9, minor=4, name="stand-in", total_memory=1 << 37)
for _name, _value in {
    "get_device_properties": _GPU, "is_available": True, "device_count": 1, "current_device": 0,
    "get_device_capability": (9, 4), "get_device_name": "stand-in", "manual_seed_all": None, "synchronize": None,
    "current_stream": MagicMock(), "mem_get_info": (1 << 36, 1 << 37),
}.items():  # fmt: skip
    setattr(torch.cuda, _name, lambda *args, _value=_value, **options: _value)


class OnTheCpu(TorchFunctionMode):
    """Where SGLang asks for the device "cuda" by name."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = {name: self._here(value) if name == "device" else value for name, value in (kwargs or {}).items()}
        if function is torch.Tensor.to:
            args = (args[0], *map(self._here, args[1:]))
        return function(*args, **kwargs)

    @staticmethod
    def _here(value: Any) -> Any:
        return "cpu" if str(value).startswith("cuda") else value


triton.runtime.driver.set_active(
    Facts(get_current_target=lambda: Facts(backend="hip", arch=ARCH, warp_size=64), get_current_device=lambda: 0)
)
