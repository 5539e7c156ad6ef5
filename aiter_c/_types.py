"""The types of the public signatures, for type checkers: nothing is checked at run time."""

from typing import Any, Literal, Protocol, TypeAlias, TypeVar


class SupportsDLPack(Protocol):
    """What the ops take as a tensor: an array of NumPy (ml_dtypes included), a torch.Tensor, an Array, and whatever
    else exports itself by DLPack."""

    def __dlpack__(self, *, stream: Any = ...) -> Any: ...

    def __dlpack_device__(self) -> Any: ...


Tensor = TypeVar("Tensor", bound=SupportsDLPack)
"""Results come from the framework of the first tensor: they have its type."""

Scale: TypeAlias = float | SupportsDLPack | None
DTypeLike: TypeAlias = Any
"""A name such as "bfloat16", or a dtype of NumPy, ml_dtypes or torch."""
DeviceLike: TypeAlias = Any
"""A name such as "cpu", "cuda:1" or "hip:0", or an object whose str() is one."""
Integers: TypeAlias = Any
"""An int, or a tensor of integers of NumPy or torch."""
KvFormat: TypeAlias = Literal["plain", "fp8_ds_mla", "3buffer"]
CacheDtype: TypeAlias = Literal["auto", "fp8", "fp8_e4m3", "fp8_ds_mla", "3buffer"]
ScaleFormat: TypeAlias = Literal["ue8m0", "fp32", ""]
