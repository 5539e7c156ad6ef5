"""What engines read of AITER at import, where it is not installed: dtypes, enumerations, the GPU's name.

torch is imported when a dtype is asked for: engines have it.
"""

from __future__ import annotations

import enum
import os
from pathlib import Path
from typing import Any

from aiter_c import _C
from aiter_c._modules import is_installed
from aiter_c.compat.unserved import Factory


class QuantType(enum.IntEnum):
    """How a tensor is quantised: one scale, one per row, one per block."""

    No = 0
    per_Tensor = 1
    per_Token = 2
    per_1x32 = 3
    per_1x128 = 4
    per_128x128 = 5
    per_256x128 = 6
    per_1024x128 = 7


class ActivationType(enum.IntEnum):
    """The activation of a mixture of experts."""

    No = -1
    Silu = 0
    Gelu = 1
    Swiglu = 2


get_hip_quant, get_triton_quant, get_torch_quant = (
    Factory(f"aiter.{name}") for name in ("get_hip_quant", "get_triton_quant", "get_torch_quant")
)
make_kernel_repr = Factory("aiter.ops.triton.utils._triton.kernel_repr.make_kernel_repr")


def torch_compile_guard(**options: Any) -> Any:
    """AITER's decorator that makes an op of torch of a function, for ops that an engine has itself: the function."""
    return lambda function: function


#: Two texts in it are what vLLM looks for to see whether 24 heads are served as they are.
AITER_CSRC_DIR = str(Path(__file__).parent / "aiter-csrc")
ENABLE_CK = False  # of kernels that AITER builds at run time


def _torch_gpu() -> Any:
    """The properties of torch's current GPU, or None."""
    if not is_installed("torch"):
        return None
    import torch

    return torch.cuda.get_device_properties(torch.cuda.current_device()) if torch.cuda.is_available() else None


def get_gfx_list() -> list[str]:
    """The architectures to build for: those of GPU_ARCHS, or of the GPU here."""
    named = [name for name in os.environ.get("GPU_ARCHS", "").split(";") if name and name != "native"]
    if named:
        return named
    gpu = _torch_gpu()
    if gpu is None:
        return ["cpu"]
    name = getattr(gpu, "gcnArchName", "")
    return [name.partition(":")[0]] if name.startswith("gfx") else [f"sm_{gpu.major}{gpu.minor}"]


def get_gfx() -> str:
    """The architecture: that of GPU_ARCHS, as in AITER, or of torch's GPU, or "cpu"."""
    return get_gfx_list()[-1]


get_gfx_runtime = get_gfx


def get_cu_num() -> int:
    """Compute units: CU_NUM, as in AITER, or those of torch's GPU, or the threads of the pool."""
    named = os.environ.get("CU_NUM", "")
    if named.isdecimal() and int(named) > 0:
        return int(named)
    gpu = _torch_gpu()
    return gpu.multi_processor_count if gpu is not None else _C.get_num_threads()


#: AITER's names of dtypes, and torch's; where torch has none it is a byte, as in AITER.
DTYPES = {
    "i4x2": "int4", "fp4x2": "float4_e2m1fn_x2", "fp8_e8m0": "float8_e8m0fnu", "fp16": "float16", "bf16": "bfloat16",
    "fp32": "float32", "u32": "uint32", "i32": "int32", "i16": "int16", "i8": "int8", "u8": "uint8", "i64": "int64",
    "u64": "uint64", "fp8": "",
}  # fmt: skip


def _fp8() -> str:
    """gfx942 has a kind of its own."""
    return "float8_e4m3fnuz" if get_gfx().startswith("gfx94") else "float8_e4m3fn"


def dtypes(name: str) -> Any:
    """An attribute of aiter.dtypes."""
    import torch

    if name == "d_dtypes":
        return {dtype: dtypes(dtype) for dtype in DTYPES}
    if name == "get_dtype_fp8":
        return lambda: dtypes("fp8")
    return getattr(torch, DTYPES[name] or _fp8(), torch.uint8)


def fp8_types(name: str) -> Any:
    """An attribute of aiter.ops.triton.utils.types."""
    import torch

    e4m3 = dtypes("fp8")
    e5m2 = torch.float8_e5m2fnuz if e4m3 is torch.float8_e4m3fnuz else torch.float8_e5m2
    values: dict[str, Any] = {"e4m3_dtype": e4m3, "e5m2_dtype": e5m2, "get_fp8_dtypes": lambda: (e5m2, e4m3)}
    return values[name]
