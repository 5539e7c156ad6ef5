from typing import Any

from aiter_c._C import MlaPlan
from aiter_c._C import mla_reduce_v1 as mla_reduce_v1
from aiter_c.metadata import get_meta_param as get_meta_param

# A tensor is anything that speaks DLPack, or a NumPy array (ml_dtypes included).
_Tensor = Any
_Scale = float | _Tensor | None

__all__ = ["get_meta_param", "mla_decode_fwd", "mla_reduce_v1"]

def mla_decode_fwd(
    q: _Tensor,
    kv_buffer: _Tensor,
    o: _Tensor,
    qo_indptr: _Tensor,
    kv_indptr: _Tensor,
    kv_indices: _Tensor,
    kv_last_page_lens: _Tensor | None,
    max_seqlen_q: int,
    page_size: int = 1,
    nhead_kv: int = 1,
    sm_scale: float | None = None,
    logit_cap: float = 0.0,
    num_kv_splits: int | None = None,
    num_kv_splits_indptr: _Tensor | None = None,
    work_meta_data: None = None,
    work_indptr: None = None,
    work_info_set: None = None,
    reduce_indptr: None = None,
    reduce_final_map: None = None,
    reduce_partial_map: None = None,
    q_scale: _Scale = None,
    kv_scale: _Scale = None,
    intra_batch_mode: bool = False,
    return_logits: bool = False,
    return_lse: bool = False,
    g_kv_indptr: None = None,
    cp_world_size: int = 1,
    cp_rank: int = 0,
    causal: bool = True,
    *,
    deterministic: bool = False,
    kv_format: str | None = None,
    stream: int | None = None,
    plan: MlaPlan | None = None,
    q_dtype: Any = None,
    kv_dtype: Any = None,
) -> tuple[_Tensor, _Tensor | None]: ...
