"""The attention ops of DeepSeek-style models (MLA decode) as one small C extension: AITER's names, one contract.

Importing touches no device, no environment variable but its own switches, and neither torch nor NumPy.
"""

try:
    import aiter_c._C as _C
except ModuleNotFoundError as error:
    if error.name != "aiter_c._C":
        raise
    raise ModuleNotFoundError(
        "aiter_c._C, the compiled part of the package, is not in this folder. At the root of a checkout the source "
        "folder aiter_c/ shadows an installed package: run `pip install -e .` there, or start Python elsewhere.",
        name=error.name,
    ) from None

from aiter_c import _torch_table
from aiter_c._C import (
    Array,
    DeviceError,
    MlaPlan,
    UnsupportedError,
    empty,
    from_host,
    get_num_threads,
    mla_plan,
    set_num_threads,
)
from aiter_c.cache import (
    concat_and_cache_mla,
    concat_and_cache_mla_seg,
    cp_gather_indexer_k_quant_cache,
    fused_fp8_bmm_rope_cat_and_cache_mla,
    fused_qk_norm_rope_group_quant,
    fused_qk_rope_cat_and_cache_mla,
    fused_qk_rope_concat_and_cache_mla,
    fused_qk_rope_concat_and_cache_mla_seg,
    indexer_k_quant_and_cache,
    indexer_qk_rope_quant_and_cache,
)
from aiter_c.context_parallel import (
    cp_local_len,
    cp_local_to_global,
    cp_owner,
    merge_attn_states,
    merge_states,
)
from aiter_c.dsa import (
    convert_req_index_to_global_index,
    convert_req_index_to_global_index_dsa_prefill,
    gather_kv_indices_sparse,
    get_valid_kv_indices,
    top_k_per_row_decode,
    top_k_per_row_prefill,
    triton_convert_req_index_to_global_index,
    triton_convert_req_index_to_global_index_dsa_prefill,
    triton_gather_kv_indices_sparse,
)
from aiter_c.indexer import deepgemm_fp8_paged_mqa_logits, flydsl_fp8_mqa_logits, fp8_mqa_logits
from aiter_c.metadata import (
    decode_update_mla_metadata_v1,
    get_meta_param,
    get_mla_decode_fwd_max_splits,
    get_mla_metadata_info_v1,
    get_mla_metadata_v1,
    get_ps_metadata_info_v1,
    get_ps_metadata_v1,
)
from aiter_c.mla import mla_decode_fwd, mla_reduce_v1
from aiter_c.mla_variants import (
    hk_mla_v32_decode_fwd,
    hk_mla_v40_decode_fwd,
    mla_decode_fwd_ds32,
    mla_decode_fwd_v4_nm,
    mla_decode_gluon,
    mla_decode_segmented,
    mla_gluon,
    mla_v40_decode_fwd,
)
from aiter_c.prefill import (
    fused_mla_prefill_qkv_fp8,
    gather_kv_b_proj,
    mla_prefill_fwd,
    mla_prefill_partial_rows,
    mla_prefill_ps_asm_fwd,
    mla_prefill_ps_fwd,
    mla_prefill_reduce,
    mla_prefill_reduce_triton,
)
from aiter_c.sparse import sparse_mla_fwd, unified_attention_sparse_mla

__version__ = _C.build_info()["version"]

__all__ = [
    "Array",
    "DeviceError",
    "MlaPlan",
    "UnsupportedError",
    "concat_and_cache_mla",
    "concat_and_cache_mla_seg",
    "convert_req_index_to_global_index",
    "convert_req_index_to_global_index_dsa_prefill",
    "cp_gather_indexer_k_quant_cache",
    "cp_local_len",
    "cp_local_to_global",
    "cp_owner",
    "decode_update_mla_metadata_v1",
    "deepgemm_fp8_paged_mqa_logits",
    "empty",
    "flydsl_fp8_mqa_logits",
    "fp8_mqa_logits",
    "from_host",
    "fused_fp8_bmm_rope_cat_and_cache_mla",
    "fused_mla_prefill_qkv_fp8",
    "fused_qk_norm_rope_group_quant",
    "fused_qk_rope_cat_and_cache_mla",
    "fused_qk_rope_concat_and_cache_mla",
    "fused_qk_rope_concat_and_cache_mla_seg",
    "gather_kv_b_proj",
    "gather_kv_indices_sparse",
    "get_meta_param",
    "get_mla_decode_fwd_max_splits",
    "get_mla_metadata_info_v1",
    "get_mla_metadata_v1",
    "get_num_threads",
    "get_ps_metadata_info_v1",
    "get_ps_metadata_v1",
    "get_valid_kv_indices",
    "hk_mla_v32_decode_fwd",
    "hk_mla_v40_decode_fwd",
    "indexer_k_quant_and_cache",
    "indexer_qk_rope_quant_and_cache",
    "merge_attn_states",
    "merge_states",
    "mla_decode_fwd",
    "mla_decode_fwd_ds32",
    "mla_decode_fwd_v4_nm",
    "mla_decode_gluon",
    "mla_decode_segmented",
    "mla_gluon",
    "mla_plan",
    "mla_prefill_fwd",
    "mla_prefill_partial_rows",
    "mla_prefill_ps_asm_fwd",
    "mla_prefill_ps_fwd",
    "mla_prefill_reduce",
    "mla_prefill_reduce_triton",
    "mla_reduce_v1",
    "mla_v40_decode_fwd",
    "set_num_threads",
    "sparse_mla_fwd",
    "top_k_per_row_decode",
    "top_k_per_row_prefill",
    "triton_convert_req_index_to_global_index",
    "triton_convert_req_index_to_global_index_dsa_prefill",
    "triton_gather_kv_indices_sparse",
    "unified_attention_sparse_mla",
]

if _C.environment()["AITER_C_DUMP"][0]:
    from aiter_c import _dump

    _dump.install()
_torch_table.announce()
