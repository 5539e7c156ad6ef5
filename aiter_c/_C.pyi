"""The C core. What each argument means, with shapes and dtypes, stands in the docstrings."""

from collections.abc import Sequence
from typing import Any, Literal, TypedDict, final

import numpy as np
from typing_extensions import CapsuleType

# A tensor is anything that speaks DLPack, a NumPy array (ml_dtypes included) or an Array.
_Tensor = Any
# A name such as "bfloat16", or a dtype of NumPy, ml_dtypes or torch.
_DType = Any
# "cpu", "cuda:0", "hip:1", or an object whose str() is such a name.
_Device = Any
_Scale = float | _Tensor | None
_Path = Literal["own", "exchange", "numpy", "__dlpack__", "none"]

class UnsupportedError(NotImplementedError): ...

class DeviceError(RuntimeError):
    code: int | None
    name: str | None
    call: str | None

@final
class Array:
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def strides(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def ndim(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    def numpy(self) -> np.ndarray[Any, Any]: ...
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]: ...
    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> CapsuleType: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...
    def __len__(self) -> int: ...
    def __bool__(self) -> bool: ...
    def __int__(self) -> int: ...
    def __float__(self) -> float: ...
    def __hash__(self) -> int: ...

@final
class MlaPlan:
    @property
    def batch(self) -> int: ...
    @property
    def num_heads(self) -> int: ...
    @property
    def max_seqlen_q(self) -> int: ...
    @property
    def page_size(self) -> int: ...
    @property
    def q_dtype(self) -> str: ...
    @property
    def kv_dtype(self) -> str: ...
    @property
    def kv_format(self) -> str: ...
    @property
    def kv_lora_rank(self) -> int: ...
    @property
    def qk_rope_head_dim(self) -> int: ...
    @property
    def num_kv_splits(self) -> int: ...
    @property
    def requested_kv_splits(self) -> int: ...
    @property
    def return_lse(self) -> bool: ...
    @property
    def deterministic(self) -> bool: ...
    @property
    def device(self) -> str: ...
    @property
    def arch(self) -> str: ...
    @property
    def compute_units(self) -> int: ...
    @property
    def writes_output(self) -> bool: ...
    @property
    def stage1(self) -> str | None: ...
    @property
    def stage2(self) -> str | None: ...
    @property
    def grid(self) -> int: ...
    @property
    def row_tiles(self) -> int: ...
    @property
    def tile_rows(self) -> int: ...
    @property
    def scratch_bytes(self) -> int: ...
    def workspace_bytes(self, num_rows: int | None = None) -> int: ...
    def __hash__(self) -> int: ...

class _BuildInfo(TypedDict):
    version: str
    source_hash: str
    code_objects: dict[str, str]
    variant: str
    compiler: str
    target: str
    limited_api: str | None
    python_headers: str
    dlpack: str

class _Runtime(TypedDict):
    available: bool
    devices: int
    device_names: list[str]
    library: str | None
    version: str | None
    attempts: str | None
    reason: str | None

class _RuntimeInfo(TypedDict):
    cpu_arch: str
    cpu_reason: str
    num_threads: int
    runtimes: dict[str, _Runtime]

class _Kernel(TypedDict):
    name: str
    op: str
    arch: str
    q_dtypes: tuple[str, ...]
    kv_dtypes: tuple[str, ...]
    o_dtypes: tuple[str, ...]
    kv_formats: tuple[str, ...]
    max_heads: int
    max_seqlen_q: int
    page_rule: str
    tile_rows: int
    writes_output: bool
    writes_partials: bool
    writes_lse: bool
    p_dtype: str
    local_bytes: int
    threads: int
    object: str | None
    available: bool

class _Ceilings(TypedDict):
    read_bytes_per_s: float
    f32_flop_per_s: float
    bf16_flop_per_s: float
    amx_flop_per_s: float

def mla_decode_plan(
    q: _Tensor,
    kv_buffer: _Tensor,
    qo_indptr: _Tensor,
    kv_indices: _Tensor,
    max_seqlen_q: int,
    page_size: int = 1,
    nhead_kv: int = 1,
    num_kv_splits: int | None = None,
    *,
    return_lse: bool = False,
    deterministic: bool = False,
    kv_format: str | None = None,
    q_dtype: _DType = None,
    kv_dtype: _DType = None,
) -> MlaPlan: ...
def mla_decode_stage1(
    q: _Tensor,
    kv_buffer: _Tensor,
    o: _Tensor,
    qo_indptr: _Tensor,
    kv_indptr: _Tensor,
    kv_indices: _Tensor,
    kv_last_page_lens: _Tensor | None,
    max_seqlen_q: int,
    page_size: int,
    nhead_kv: int,
    sm_scale: float | None,
    logit_cap: float,
    num_kv_splits_indptr: _Tensor | None,
    logits: _Tensor | None,
    attn_lse: _Tensor | None,
    lse: _Tensor | None,
    q_scale: _Scale,
    kv_scale: _Scale,
    causal: bool,
    *,
    plan: MlaPlan,
    kv_format: str | None = None,
    q_dtype: _DType = None,
    kv_dtype: _DType = None,
    stream: int | None = None,
) -> int: ...
def mla_decode_stage2(
    logits: _Tensor | None,
    attn_lse: _Tensor | None,
    o: _Tensor,
    lse: _Tensor | None,
    qo_indptr: _Tensor,
    *,
    plan: MlaPlan,
    stream: int | None = None,
) -> None: ...
def mla_plan(
    batch: int,
    num_heads: int,
    max_seqlen_q: int,
    page_size: int,
    q_dtype: _DType,
    kv_dtype: _DType,
    *,
    num_kv_splits: int | None = None,
    max_kv_len: int | None = None,
    kv_lora_rank: int = 512,
    qk_rope_head_dim: int = 64,
    return_lse: bool = False,
    deterministic: bool = False,
    device: _Device = "cpu",
) -> MlaPlan: ...
def mla_reduce_v1(
    partial_output: _Tensor,
    partial_lse: _Tensor,
    reduce_indptr: _Tensor,
    reduce_final_map: _Tensor | None,
    reduce_partial_map: _Tensor,
    max_seqlen_q: int,
    num_kv_splits: int | None,
    final_output: _Tensor,
    final_lse: _Tensor | None = None,
    *,
    stream: int | None = None,
) -> None: ...
def choose_kv_splits(
    num_kv_splits: int | None,
    batch: int,
    total_kv: int,
    num_heads: int,
    max_seqlen_q: int,
    is_fp8: bool,
    groups: int,
    ignore_total_kv: bool,
    compute_units: int,
) -> int: ...
def empty(shape: int | Sequence[int], dtype: _DType, device: _Device = "cpu") -> Array: ...
def from_host(array: _Tensor, device: _Device = "cpu") -> Array: ...
def set_num_threads(n: int) -> None: ...
def get_num_threads() -> int: ...
def cpu_arch() -> str: ...
def build_info() -> _BuildInfo: ...
def runtime_info() -> _RuntimeInfo: ...
def environment() -> dict[str, tuple[str | None, str, str | None]]: ...
def kernel_table() -> list[_Kernel]: ...
def code_objects() -> dict[str, str | None]: ...
def cpu_ceilings() -> _Ceilings: ...
def dlpack_path(type_or_obj: Any) -> _Path: ...
def tensor_shape(op: str, name: str, tensor: _Tensor) -> tuple[int, ...]: ...
