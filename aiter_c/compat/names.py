"""Which names of AITER are what here, module by module: the table behind aiter_c.compat.

A source is an attribute of aiter_c.compat.functions or, where that has none, of aiter_c; one that neither has, or that
only refuses, is not served: the name can be imported, and raises UnsupportedError when it is used. So an op that a
release adds to aiter_c is served under the name that stands here already.
"""

from __future__ import annotations

from typing import Any

import aiter_c
from aiter_c.compat import functions, stand_ins
from aiter_c.compat.unserved import Unserved


def _same(names: str) -> dict[str, str]:
    """Names that are the same here."""
    return {name: name for name in names.split()}


_METADATA = _same(
    "get_mla_decode_fwd_max_splits get_mla_decode_fwd_occupancy get_mla_metadata_info_v1 get_mla_metadata_v1 "
    "decode_update_mla_metadata_v1 get_ps_metadata_info_v1 get_ps_metadata_v1"
)
_STAGES = _same(
    "mla_reduce_v1 mla_prefill_ps_asm_fwd hk_mla_v32_decode_fwd hk_mla_v40_decode_fwd mla_decode_stage1_asm_fwd "
    "mla_prefill_asm_fwd mla_decode_fwd_opus_stage1 mla_decode_stage1_opus_fwd_ds32 mla_decode_v4_asm"
)
_TOP_K = _same(
    "top_k_per_row_prefill top_k_per_row_decode top_k_per_row_prefill_fast top_k_per_row_decode_fast topk_plain"
)
_CACHE = _same(
    "concat_and_cache_mla concat_and_cache_mla_seg indexer_k_quant_and_cache indexer_qk_rope_quant_and_cache "
    "cp_gather_indexer_k_quant_cache fused_qk_rope_concat_and_cache_mla fused_qk_rope_concat_and_cache_mla_seg"
)
_FLASH = _same("flash_attn_varlen_func flash_attn_varlen_fp8_pertensor_func mha_batch_prefill_func")
_PAGED_LOGITS = _same(
    "deepgemm_fp8_paged_mqa_logits deepgemm_fp8_paged_mqa_logits_stage1 deepgemm_fp8_paged_mqa_logits_ragged_k "
    "deepgemm_fp8_paged_mqa_logits_stage1_ragged_k deepgemm_fp8_paged_mqa_logits_schedule"
)
_CACHE_TRITON = _same("fused_qk_rope_cat_and_cache_mla")
_TRITON = "aiter.ops.triton"

#: By module of AITER: its names of MLA and of sparse attention.
NAMES: dict[str, dict[str, str]] = {
    "aiter": _METADATA | _STAGES | _TOP_K | _CACHE | _FLASH | _same("paged_attention_ragged"),
    "aiter.mla": _same(
        "get_meta_param mla_decode_fwd mla_decode_fwd_ds32 mla_v40_decode_fwd mla_prefill_fwd mla_prefill_ps_fwd "
        "mla_prefill_reduce mla_prefill_reduce_triton mla_decode_fwd_v4_nm mla_decode_fwd_v4_nm_ps "
        "get_mla_v4_nm_num_kv_splits get_mla_v4_nm_ps_workspace"
    ),
    "aiter.ops.attention": _METADATA | _STAGES | _same("paged_attention_ragged"),
    "aiter.ops.cache": _CACHE,
    "aiter.ops.mha": _FLASH,
    "aiter.ops.topk": _TOP_K,
    "aiter.ops.topk_plain": _same("topk_plain"),
    "aiter.ops.flydsl": _same(
        "flydsl_fp8_mqa_logits flydsl_pa_mqa_logits_fp4 flydsl_pa_mqa_logits_fp4_prefill make_fp4_mqa_plan"
    ),
    "aiter.ops.flydsl.kernels.mqa_logits.pa_mqa_logits_fp4_prefill": _same(
        "CTA_INFO_WIDTH compute_prefill_schedule _prefill_cta_info_kernel"
    ),
    "aiter.ops.fused_qk_norm_rope_cache_quant": _same("fused_qk_norm_rope_group_quant"),
    "aiter.ops.pa_sparse_prefill_opus": _same("pa_sparse_prefill_opus pa_sparse_prefill_fp8_opus"),
    f"{_TRITON}.attention.fp8_mqa_logits": _same("fp8_mqa_logits"),
    f"{_TRITON}.attention.mha": {"flash_attn_varlen_func": "triton_flash_attn_varlen_func"},
    f"{_TRITON}.attention.mla": {"mla_decode_fwd": "mla_decode_segmented"},
    f"{_TRITON}.attention.pa_decode_sparse": _same("pa_decode_sparse"),
    f"{_TRITON}.attention.pa_mqa_logits": _PAGED_LOGITS,
    f"{_TRITON}.attention.pa_mqa_logits_mxfp4": _same(
        "paged_mxfp4_mqa_logits build_schedule build_candidate_gather cache_format select_config SCHED_SLOT_CAP"
    ),
    f"{_TRITON}.attention.sparse_mla": _same("sparse_mla_fwd"),
    f"{_TRITON}.attention.unified_attention": _same("unified_attention"),
    f"{_TRITON}.attention.unified_attention_sparse_mla": _same("unified_attention_sparse_mla"),
    f"{_TRITON}.fp8_mqa_logits": _same("fp8_mqa_logits"),
    f"{_TRITON}.fused_kv_cache": _CACHE_TRITON,
    f"{_TRITON}.fused_qk_concat": _same("fused_qk_rope_cat"),
    f"{_TRITON}.fusions.fused_bmm_rope_kv_cache": _same("fused_fp8_bmm_rope_cat_and_cache_mla"),
    f"{_TRITON}.fusions.fused_kv_cache": _CACHE_TRITON,
    f"{_TRITON}.fusions.fused_mla_prefill_qkv_fp8": _same("fused_mla_prefill_qkv_fp8"),
    f"{_TRITON}.fusions.fused_qk_concat": _same("fused_qk_rope_cat"),
    f"{_TRITON}.fusions.k_norm_rope_mxfp4_cache": _same("k_norm_rope_mxfp4_cache"),
    f"{_TRITON}.gather_kv_b_proj": _same("gather_kv_b_proj"),
    f"{_TRITON}.gluon.mla_decode_gluon": _same("mla_decode_gluon"),
    f"{_TRITON}.gluon.mla_gluon": _same("mla_gluon"),
    f"{_TRITON}.gluon.pa_decode_gluon": _same("get_cdna_version"),
    f"{_TRITON}.gluon.pa_mqa_logits": _same("_sum_combine _Use_2d_instr_shape_mfma_layout get_cdna_version"),
    f"{_TRITON}.mha": {"flash_attn_varlen_func": "triton_flash_attn_varlen_func"},
    f"{_TRITON}.pa_mqa_logits": _PAGED_LOGITS,
    f"{_TRITON}.rope.q_rope_mxfp4_quant": _same("q_rope_mxfp4_quant"),
    f"{_TRITON}.unified_attention": _same("unified_attention"),
    f"{_TRITON}.unified_attention_sparse_mla": _same("unified_attention_sparse_mla"),
}

#: What engines read at import, by module: attributes of aiter_c.compat.stand_ins. An installed AITER keeps its own.
STAND_INS: dict[str, dict[str, str]] = {
    "aiter": _same("ActivationType QuantType get_hip_quant get_triton_quant get_torch_quant"),
    "aiter.jit.core": _same("AITER_CSRC_DIR ENABLE_CK"),
    "aiter.jit.utils.chip_info": _same("get_gfx get_gfx_runtime get_gfx_list get_cu_num"),
    "aiter.jit.utils.torch_guard": _same("torch_compile_guard"),
    "aiter.ops.enum": _same("ActivationType QuantType"),
    "aiter.ops.quant": _same("get_hip_quant get_triton_quant get_torch_quant"),
    "aiter.utility.dtypes": dict.fromkeys((*stand_ins.DTYPES, "d_dtypes", "get_dtype_fp8"), "dtypes"),
    f"{_TRITON}.utils._triton.arch_info": {"get_arch": "get_gfx"},
    f"{_TRITON}.utils._triton.kernel_repr": _same("make_kernel_repr"),
    f"{_TRITON}.utils.types": dict.fromkeys(("e4m3_dtype", "e5m2_dtype", "get_fp8_dtypes"), "fp8_types"),
}

#: Attributes of a module that are modules themselves.
ALIASES = {"aiter": {"dtypes": "aiter.utility.dtypes"}}


def source_of(name: str) -> Any:
    """What a source is, or None: nothing here has it."""
    return getattr(functions, name, None) or getattr(aiter_c, name, None)


def _is_served(function: Any) -> bool:
    """Whether it is there, and does not only refuse."""
    return function is not None and getattr(function, "__annotations__", {}).get("return") != "NoReturn"


def served(module: str) -> dict[str, Any]:
    """By name: what is served of a module of AITER."""
    found = {name: source_of(source) for name, source in NAMES.get(module, {}).items()}
    return {name: function for name, function in found.items() if _is_served(function)}


def unserved(module: str) -> dict[str, Any]:
    """By name: the others of the table, each something that raises when it is used."""
    found = {name: source_of(source) for name, source in NAMES.get(module, {}).items()}
    return {n: function or Unserved(f"{module}.{n}") for n, function in found.items() if not _is_served(function)}


def stand_in(module: str, name: str) -> Any:
    """What stands for a name that engines read at import; KeyError where there is none."""
    source = STAND_INS.get(module, {})[name]
    value = getattr(stand_ins, source)
    return value(name) if source in ("dtypes", "fp8_types") else value


def modules() -> set[str]:
    """The modules of the table, and those that they are in."""
    out = set()
    for path in (*NAMES, *STAND_INS):
        words = path.split(".")
        out |= {".".join(words[:count]) for count in range(1, len(words) + 1)}
    return out
