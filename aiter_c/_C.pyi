"""The C core. What each argument means, with shapes and dtypes, stands in the docstrings."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Self, TypedDict, final

import numpy as np
from typing_extensions import CapsuleType

from aiter_c._types import DeviceLike, DTypeLike, Scale, SupportsDLPack

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
    def __copy__(self) -> Array: ...
    def __deepcopy__(self, memo: Any, /) -> Array: ...
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

class _Ceilings(TypedDict):
    read_bytes_per_s: float
    f32_flop_per_s: float
    bf16_flop_per_s: float
    amx_flop_per_s: float

def empty(shape: int | Sequence[int], dtype: DTypeLike, device: DeviceLike = "cpu") -> Array: ...
def from_host(array: SupportsDLPack, device: DeviceLike = "cpu") -> Array: ...
def load_plan(kind: str, version: str, inputs: tuple[Any, ...]) -> Any: ...
def set_allocator(allocator: Callable[..., Any] | None) -> Callable[..., Any] | None: ...
def set_call_observer(observer: Callable[..., Any] | None) -> Callable[..., Any] | None: ...
def set_num_threads(n: int) -> None: ...
def get_num_threads() -> int: ...
def cpu_arch() -> str: ...
def build_info() -> _BuildInfo: ...
def runtime_info() -> _RuntimeInfo: ...
def environment() -> dict[str, tuple[str | None, str, str | None]]: ...
def kernel_table() -> list[dict[str, Any]]: ...
def op_table() -> list[dict[str, Any]]: ...
def plan_table() -> list[dict[str, Any]]: ...
def code_objects() -> dict[str, str | None]: ...
def cpu_ceilings() -> _Ceilings: ...
def dlpack_path(type_or_obj: Any) -> _Path: ...
def tensor_shape(op: str, name: str, tensor: SupportsDLPack) -> tuple[int, ...]: ...

# What follows is written by scripts/gen_stubs from the rows in csrc/ops.

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
    def num_workers(self) -> int: ...
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
    def __copy__(self) -> Self: ...
    def __deepcopy__(self, memo: Any, /) -> Self: ...
    def __hash__(self) -> int: ...

def mla_decode_stage1(
    q: SupportsDLPack,
    kv_buffer: SupportsDLPack,
    o: SupportsDLPack,
    qo_indptr: SupportsDLPack,
    kv_indptr: SupportsDLPack,
    kv_indices: SupportsDLPack,
    kv_last_page_lens: SupportsDLPack | None,
    max_seqlen_q: int,
    page_size: int = 1,
    nhead_kv: int = 1,
    sm_scale: float | None = None,
    logit_cap: float = 0.0,
    num_kv_splits: int | None = None,
    num_kv_splits_indptr: SupportsDLPack | None = None,
    work_lists: tuple[Any, ...] | None = None,
    q_scale: Scale = None,
    kv_scale: Scale = None,
    return_lse: bool = False,
    g_kv_indptr: SupportsDLPack | None = None,
    cp_world_size: int = 1,
    cp_rank: int = 0,
    cp_interleave: int = 1,
    causal: bool = True,
    deterministic: bool = False,
    kv_format: Literal["plain", "fp8_ds_mla", "3buffer"] | None = None,
    stream: int | None = None,
    plan: MlaPlan | None = None,
    q_dtype: DTypeLike | None = None,
    kv_dtype: DTypeLike | None = None,
    slots: bool = False,
    sink: SupportsDLPack | None = None,
    logits: SupportsDLPack | None = None,
    attn_lse: SupportsDLPack | None = None,
    lse: SupportsDLPack | None = None,
    lse_per_split: bool = False,
) -> tuple[MlaPlan, int, Any, Any, Any]: ...
def mla_decode_variant(
    q: SupportsDLPack,
    q_pe: SupportsDLPack | None,
    kv_buffer: SupportsDLPack,
    k_pe: SupportsDLPack | None,
    kv_pe_offset: int,
    o: SupportsDLPack | None,
    qo_indptr: SupportsDLPack | None,
    kv_indptr: SupportsDLPack | None,
    kv_indices: SupportsDLPack | None,
    block_tables: SupportsDLPack | None,
    kv_lens: SupportsDLPack | None,
    max_seqlen_q: int,
    page_size: int,
    *,
    sm_scale: float | None = None,
    num_kv_splits: int | None = None,
    max_kv_len: int | None = None,
    q_scale: Scale = None,
    kv_scale: Scale = None,
    return_lse: bool = False,
    causal: bool = True,
    segmented: bool = False,
    natural: bool = False,
    slots: bool = False,
    kv_format: Literal["plain", "fp8_ds_mla", "3buffer"] | None = "plain",
    stream: int | None = None,
    q_dtype: DTypeLike | None = None,
    kv_dtype: DTypeLike | None = None,
    sink: SupportsDLPack | None = None,
    g_kv_indptr: SupportsDLPack | None = None,
    cp_world_size: int = 1,
    cp_rank: int = 0,
    cp_interleave: int = 1,
    logits: SupportsDLPack | None = None,
    attn_lse: SupportsDLPack | None = None,
    lse: SupportsDLPack | None = None,
    expsum: SupportsDLPack | None = None,
) -> tuple[MlaPlan, int, Any, Any, Any, Any]: ...
def mla_plan(
    batch: int,
    num_heads: int,
    max_seqlen_q: int,
    page_size: int,
    q_dtype: DTypeLike,
    kv_dtype: DTypeLike,
    *,
    num_kv_splits: int | None = None,
    max_kv_len: int | None = None,
    kv_lora_rank: int = 512,
    qk_rope_head_dim: int = 64,
    return_lse: bool = False,
    deterministic: bool = False,
    device: DeviceLike = "cpu",
    num_workers: int | None = None,
) -> MlaPlan: ...
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
def mla_decode_stage2(
    logits: SupportsDLPack | None,
    attn_lse: SupportsDLPack | None,
    o: SupportsDLPack,
    lse: SupportsDLPack | None,
    qo_indptr: SupportsDLPack | None,
    *,
    sink: SupportsDLPack | None = None,
    plan: MlaPlan,
    stream: int | None = None,
) -> None: ...
def mla_reduce_v1(
    partial_output: SupportsDLPack,
    partial_lse: SupportsDLPack,
    reduce_indptr: SupportsDLPack,
    reduce_final_map: SupportsDLPack | None,
    reduce_partial_map: SupportsDLPack,
    max_seqlen_q: int,
    num_kv_splits: int | None,
    final_output: SupportsDLPack,
    final_lse: SupportsDLPack | None = None,
    *,
    lists_are_complete: bool = False,
    sink: SupportsDLPack | None = None,
    stream: int | None = None,
) -> None: ...
def mla_metadata(
    seqlens_qo_indptr: SupportsDLPack,
    seqlens_kv_indptr: SupportsDLPack,
    kv_last_page_lens: SupportsDLPack | None,
    num_heads_per_head_k: int,
    num_heads_k: int,
    is_causal: bool,
    work_metadata_ptrs: SupportsDLPack,
    work_info_set: SupportsDLPack,
    work_indptr: SupportsDLPack,
    reduce_indptr: SupportsDLPack,
    reduce_final_map: SupportsDLPack,
    reduce_partial_map: SupportsDLPack,
    page_size: int = 1,
    kv_granularity: int = 16,
    max_seqlen_qo: int | None = -1,
    uni_seqlen_qo: int | None = -1,
    fast_mode: bool = True,
    topk: int | None = -1,
    max_split_per_batch: int | None = -1,
    intra_batch_mode: bool = False,
    is_cp_round_robin: bool = False,
    mla_version: int | None = 0,
    dtype_q_nope: DTypeLike | None = None,
    dtype_q_rope: DTypeLike | None = None,
    dtype_kv_nope: DTypeLike | None = None,
    dtype_kv_rope: DTypeLike | None = None,
    dtype_q: DTypeLike | None = None,
    dtype_kv: DTypeLike | None = None,
    *,
    deterministic: bool = False,
    stream: int | None = None,
    staging: SupportsDLPack | None = None,
) -> int: ...
def mla_metadata_tiles(
    num_heads: int,
    max_seqlen_q: int,
    device: DeviceLike = "cpu",
) -> int: ...
def mla_metadata_workers(
    num_heads: int,
    max_seqlen_q: int,
    device: DeviceLike = "cpu",
) -> int: ...
def mla_prefill_ps_asm_fwd(
    Q: SupportsDLPack,
    K: SupportsDLPack,
    V: SupportsDLPack,
    qo_indptr: SupportsDLPack,
    kv_indptr: SupportsDLPack,
    kv_page_indices: SupportsDLPack | None,
    work_indptr: SupportsDLPack | None,
    work_info_set: SupportsDLPack | None,
    max_seqlen_q: int,
    softmax_scale: float | None,
    is_causal: bool,
    splitData: SupportsDLPack | None,
    splitLse: SupportsDLPack | None,
    output: SupportsDLPack,
    q_scale: Scale = None,
    k_scale: Scale = None,
    v_scale: Scale = None,
    *,
    final_lse: SupportsDLPack | None = None,
    q_dtype: DTypeLike | None = None,
    kv_dtype: DTypeLike | None = None,
    stream: int | None = None,
) -> None: ...
def mla_prefill_stage1(
    Q: SupportsDLPack,
    K: SupportsDLPack,
    V: SupportsDLPack,
    output: SupportsDLPack,
    qo_indptr: SupportsDLPack,
    kv_indptr: SupportsDLPack,
    kv_page_indices: SupportsDLPack | None,
    work_indptr: SupportsDLPack | None,
    work_info_set: SupportsDLPack | None,
    reduce_indptr: SupportsDLPack | None,
    reduce_final_map: SupportsDLPack | None,
    reduce_partial_map: SupportsDLPack | None,
    max_seqlen_q: int,
    is_causal: bool,
    softmax_scale: float | None,
    q_scale: Scale,
    k_scale: Scale,
    v_scale: Scale,
    return_lse: bool,
    q_dtype: DTypeLike | None,
    kv_dtype: DTypeLike | None,
    stream: int | None,
    splitData: SupportsDLPack | None = None,
    splitLse: SupportsDLPack | None = None,
    final_lse: SupportsDLPack | None = None,
) -> tuple[None, int, Any, Any, Any]: ...
def mla_prefill_partial_rows(
    num_rows: int,
    batch: int,
    num_workers: int,
    num_heads_k: int,
    num_entries: int,
) -> int: ...
def ps_metadata(
    seqlens_qo_indptr: SupportsDLPack,
    pages_kv_indptr: SupportsDLPack,
    context_lens: SupportsDLPack,
    gqa_ratio: int,
    num_heads_k: int,
    work_metadata_ptrs: object,
    work_indptr: SupportsDLPack,
    work_info: SupportsDLPack,
    reduce_indptr: SupportsDLPack,
    reduce_final_map: SupportsDLPack,
    reduce_partial_map: SupportsDLPack,
    qhead_granularity: object = 1,
    qlen_granularity: int = 256,
    kvlen_granularity: int = 16,
    block_size: int = 16,
    is_causal: bool = True,
    need_lse: bool = True,
    *,
    stream: int | None = None,
    staging: SupportsDLPack | None = None,
) -> int: ...
def merge_states(
    o: SupportsDLPack | Sequence[SupportsDLPack],
    lse: SupportsDLPack | Sequence[SupportsDLPack],
    out: SupportsDLPack | None = None,
    lse_out: SupportsDLPack | None = None,
    lse_layout: Literal["th", "ht"] = "th",
    *,
    sink: SupportsDLPack | None = None,
    stream: int | None = None,
) -> tuple[Any, Any]: ...
def merge_attn_states(
    output: SupportsDLPack,
    prefix_output: SupportsDLPack,
    prefix_lse: SupportsDLPack,
    suffix_output: SupportsDLPack,
    suffix_lse: SupportsDLPack,
    output_lse: SupportsDLPack | None = None,
    *,
    sink: SupportsDLPack | None = None,
    stream: int | None = None,
) -> None: ...
def merge_segments(
    segments: SupportsDLPack,
    lse: SupportsDLPack,
    more_segments: SupportsDLPack | None,
    more_lse: SupportsDLPack | None,
    out: SupportsDLPack,
    sink: SupportsDLPack | None = None,
    *,
    return_lse: bool = False,
    stream: int | None = None,
    lse_out: SupportsDLPack | None = None,
) -> tuple[Any]: ...
def top_k_per_row_prefill(
    logits: SupportsDLPack,
    rowStarts: SupportsDLPack,
    rowEnds: SupportsDLPack,
    indices: SupportsDLPack,
    values: SupportsDLPack | None,
    numRows: int,
    stride0: int,
    stride1: int,
    k: int = 2048,
    stable: bool = False,
    *,
    stream: int | None = None,
    candidate_indices: SupportsDLPack | None = None,
    candidate_values: SupportsDLPack | None = None,
) -> None: ...
def top_k_per_row_decode(
    logits: SupportsDLPack,
    next_n: int,
    seqLens: SupportsDLPack,
    indices: SupportsDLPack,
    numRows: int,
    stride0: int,
    stride1: int,
    k: int = 2048,
    stable: bool = False,
    *,
    stream: int | None = None,
    candidate_indices: SupportsDLPack | None = None,
    candidate_values: SupportsDLPack | None = None,
) -> None: ...
def convert_index_lists(
    qo_indptr: SupportsDLPack,
    kv_indptr: SupportsDLPack,
    page_kv_indptr: SupportsDLPack,
    kv_indices: SupportsDLPack,
    token_indices: SupportsDLPack,
    NUM_TOPK_TOKENS: int = 2048,
    out: SupportsDLPack | None = None,
    *,
    stream: int | None = None,
) -> tuple[Any]: ...
def gather_kv_indices_sparse(
    sparse_kv_indptr: SupportsDLPack,
    token_to_seq_idxs: SupportsDLPack,
    topk_indices: SupportsDLPack,
    kv_indices: SupportsDLPack,
    kv_indptr: SupportsDLPack,
    NUM_TOPK_TOKENS: int = 2048,
    out: SupportsDLPack | None = None,
    *,
    stream: int | None = None,
) -> tuple[Any]: ...
def convert_index_prefill(
    dsa_qo_indptr: SupportsDLPack,
    dsa_kv_indptr: SupportsDLPack,
    token_to_seq_idxs: SupportsDLPack,
    topk_indices: SupportsDLPack,
    block_table: SupportsDLPack,
    cu_seqlens_q: SupportsDLPack,
    PAGE_SIZE: int = 1,
    NUM_TOPK_TOKENS: int = 2048,
    out: SupportsDLPack | None = None,
    *,
    stream: int | None = None,
) -> tuple[Any]: ...
def convert_index_ragged(
    req_id: SupportsDLPack,
    block_table: SupportsDLPack,
    token_indices: SupportsDLPack,
    cu_seqlens: SupportsDLPack,
    paged_kv_indices: SupportsDLPack,
    *,
    BLOCK_STRIDE_ROWS: int | None = None,
    BLOCK_SIZE: int = 64,
    NUM_TOPK_TOKENS: int = 2048,
    stream: int | None = None,
) -> None: ...
def convert_index_padded(
    req_id: SupportsDLPack,
    block_table: SupportsDLPack,
    token_indices: SupportsDLPack,
    BLOCK_SIZE: int = 64,
    NUM_TOPK_TOKENS: int = 2048,
    out: SupportsDLPack | None = None,
    *,
    BLOCK_STRIDE_ROWS: int | None = None,
    stream: int | None = None,
) -> tuple[Any]: ...
def get_valid_kv_indices(
    page_table: SupportsDLPack,
    kv_indptr: SupportsDLPack,
    kv_indices: SupportsDLPack,
    bs: int,
    *,
    stream: int | None = None,
) -> None: ...
def deepgemm_fp8_paged_mqa_logits(
    q_fp8: SupportsDLPack,
    kv_cache: SupportsDLPack,
    weights: SupportsDLPack,
    out_logits: SupportsDLPack,
    context_lens: SupportsDLPack,
    kv_indices: SupportsDLPack,
    max_model_len: int,
    Preshuffle: bool = False,
    KVBlockSize: int = 1,
    ChunkK: object = 256,
    TotalCuCount: object = None,
    WavePerEU: object = 2,
    VarCtxSchedule: object = None,
    *,
    clean_logits: bool = True,
    q_dtype: DTypeLike | None = None,
    kv_dtype: DTypeLike | None = None,
    stream: int | None = None,
) -> None: ...
def fp8_mqa_logits(
    Q: SupportsDLPack,
    KV: SupportsDLPack,
    kv_scales: SupportsDLPack,
    weights: SupportsDLPack,
    cu_starts: SupportsDLPack,
    cu_ends: SupportsDLPack,
    clean_logits: bool = True,
    *,
    q_dtype: DTypeLike | None = None,
    kv_dtype: DTypeLike | None = None,
    stream: int | None = None,
    logits: SupportsDLPack | None = None,
) -> tuple[Any]: ...
def concat_and_cache_mla(
    kv_c: SupportsDLPack,
    k_pe: SupportsDLPack,
    kv_cache: SupportsDLPack,
    slot_mapping: SupportsDLPack,
    kv_cache_dtype: Literal["auto", "fp8", "fp8_e4m3", "fp8_ds_mla", "3buffer", "fp8_e5m2"],
    scale: Scale,
    *,
    kv_dtype: DTypeLike | None = None,
    stream: int | None = None,
) -> None: ...
def concat_and_cache_mla_seg(
    kv_c: SupportsDLPack,
    k_pe: SupportsDLPack,
    kv_cache: SupportsDLPack,
    slot_mapping: SupportsDLPack,
    kv_cache_dtype: Literal["auto", "fp8", "fp8_e4m3", "fp8_ds_mla", "3buffer", "fp8_e5m2"],
    scale: Scale,
    *,
    kv_dtype: DTypeLike | None = None,
    stream: int | None = None,
) -> None: ...
def fused_qk_rope_concat_and_cache_mla(
    q_nope: SupportsDLPack,
    q_pe: SupportsDLPack,
    kv_c: SupportsDLPack,
    k_pe: SupportsDLPack,
    kv_cache: SupportsDLPack,
    q_out: SupportsDLPack,
    slot_mapping: SupportsDLPack,
    k_scale: Scale,
    q_scale: Scale,
    positions: SupportsDLPack,
    cos_cache: SupportsDLPack,
    sin_cache: SupportsDLPack,
    is_neox: bool,
    is_nope_first: bool,
    compute_all_q_rope: bool = False,
    *,
    q_dtype: DTypeLike | None = None,
    kv_dtype: DTypeLike | None = None,
    stream: int | None = None,
) -> None: ...
def fused_qk_rope_concat_and_cache_mla_seg(
    q_nope: SupportsDLPack,
    q_pe: SupportsDLPack,
    kv_c: SupportsDLPack,
    k_pe: SupportsDLPack,
    kv_cache: SupportsDLPack,
    q_out: SupportsDLPack,
    slot_mapping: SupportsDLPack,
    k_scale: Scale,
    q_scale: Scale,
    positions: SupportsDLPack,
    cos_cache: SupportsDLPack,
    sin_cache: SupportsDLPack,
    is_neox: bool,
    is_nope_first: bool = True,
    *,
    q_dtype: DTypeLike | None = None,
    kv_dtype: DTypeLike | None = None,
    stream: int | None = None,
) -> None: ...
def fused_qk_rope_cat_and_cache_mla(
    q_nope: SupportsDLPack,
    q_pe: SupportsDLPack,
    k_nope: SupportsDLPack,
    k_pe: SupportsDLPack,
    kv_cache: SupportsDLPack,
    slot_mapping: SupportsDLPack,
    pos: SupportsDLPack,
    cos: SupportsDLPack,
    sin: SupportsDLPack,
    k_scale: Scale,
    is_neox: bool,
    num_decode_toks_for_zeros: int = 0,
    apply_scale: bool = True,
    q_out: SupportsDLPack | None = None,
    decode_q_pe_out: SupportsDLPack | None = None,
    k_pe_out: SupportsDLPack | None = None,
    q_out_dtype: DTypeLike | None = None,
    shuffled_kv_cache: bool = False,
    upcast_operand: object = False,
    *,
    q_nope_zeros_out: SupportsDLPack | None = None,
    kv_dtype: DTypeLike | None = None,
    stream: int | None = None,
) -> tuple[Any, Any, Any, Any]: ...
def indexer_k_quant_and_cache(
    k: SupportsDLPack,
    kv_cache: SupportsDLPack,
    slot_mapping: SupportsDLPack,
    quant_block_size: int,
    scale_fmt: Literal["ue8m0", "fp32", ""] | None,
    preshuffle: bool = False,
    *,
    kv_dtype: DTypeLike | None = None,
    stream: int | None = None,
) -> None: ...
def indexer_qk_rope_quant_and_cache(
    q: SupportsDLPack,
    q_out: SupportsDLPack,
    weights: SupportsDLPack,
    weights_out: SupportsDLPack,
    k: SupportsDLPack,
    kv_cache: SupportsDLPack,
    slot_mapping: SupportsDLPack,
    norm_weight: SupportsDLPack,
    norm_bias: SupportsDLPack,
    positions: SupportsDLPack,
    cos_cache: SupportsDLPack,
    sin_cache: SupportsDLPack,
    epsilon: float,
    quant_block_size: int,
    scale_fmt: Literal["ue8m0", "fp32", ""] | None,
    weights_scale: float,
    preshuffle: bool = False,
    is_neox: bool = True,
    compute_all_q_rope: bool = False,
    *,
    q_dtype: DTypeLike | None = None,
    kv_dtype: DTypeLike | None = None,
    stream: int | None = None,
) -> None: ...
def cp_gather_indexer_k_quant_cache(
    kv_cache: SupportsDLPack,
    dst_k: SupportsDLPack,
    dst_scale: SupportsDLPack,
    block_table: SupportsDLPack,
    cu_seq_lens: SupportsDLPack,
    preshuffle: bool = False,
    *,
    stream: int | None = None,
) -> None: ...
