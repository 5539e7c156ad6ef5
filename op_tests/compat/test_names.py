"""Names, signatures and what stands in for AITER where it is not installed."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from signatures import plain

import aiter_c
import aiter_c.compat.aiter
from aiter_c import compat
from aiter_c.compat import names, stand_ins

#: What vLLM 0.33.0, SGLang 0.5.23 and ATOM import of AITER for MLA and DSA, and what else stands beside it.
IMPORTED = """
aiter: QuantType dtypes flash_attn_varlen_fp8_pertensor_func flash_attn_varlen_func get_hip_quant
aiter: get_mla_metadata_info_v1 get_mla_metadata_v1 get_ps_metadata_info_v1 get_ps_metadata_v1 mha_batch_prefill_func
aiter: mla_prefill_ps_asm_fwd mla_reduce_v1 paged_attention_ragged concat_and_cache_mla cp_gather_indexer_k_quant_cache
aiter: indexer_k_quant_and_cache indexer_qk_rope_quant_and_cache top_k_per_row_decode top_k_per_row_prefill
aiter: decode_update_mla_metadata_v1 fused_qk_rope_concat_and_cache_mla per_1x32_f4_quant_hip rms_norm ActivationType
aiter.fused_moe: fused_moe
aiter.jit.core: AITER_CSRC_DIR AITER_CONFIGS ENABLE_CK
aiter.jit.utils.chip_info: get_cu_num get_gfx get_gfx_runtime
aiter.jit.utils.torch_guard: torch_compile_guard
aiter.mla: get_meta_param get_mla_v4_nm_num_kv_splits get_mla_v4_nm_ps_workspace mla_decode_fwd mla_decode_fwd_v4_nm
aiter.mla: mla_decode_fwd_v4_nm_ps mla_prefill_fwd mla_prefill_ps_fwd
aiter.ops.cache: cp_gather_indexer_k_quant_cache indexer_k_quant_and_cache indexer_qk_rope_quant_and_cache
aiter.ops.cache: fused_qk_rope_concat_and_cache_mla
aiter.ops.enum: QuantType
aiter.ops.flydsl: flydsl_fp8_mqa_logits flydsl_pa_mqa_logits_fp4 flydsl_pa_mqa_logits_fp4_prefill make_fp4_mqa_plan
aiter.ops.flydsl.kernels.mqa_logits.pa_mqa_logits_fp4_prefill: CTA_INFO_WIDTH _prefill_cta_info_kernel
aiter.ops.flydsl.kernels.mqa_logits.pa_mqa_logits_fp4_prefill: compute_prefill_schedule
aiter.ops.fused_qk_norm_rope_cache_quant: fused_qk_norm_rope_group_quant fused_qk_rmsnorm
aiter.ops.msa_attention: pa_sparse_block_topk
aiter.ops.pa_sparse_prefill_opus: pa_sparse_prefill_fp8_opus pa_sparse_prefill_opus
aiter.ops.topk: top_k_per_row_decode top_k_per_row_prefill
aiter.ops.triton.attention: pa_mqa_logits_mxfp4
aiter.ops.triton.attention.fp8_mqa_logits: fp8_mqa_logits
aiter.ops.triton.attention.mla: mla_decode_fwd
aiter.ops.triton.attention.pa_decode_sparse: pa_decode_sparse
aiter.ops.triton.attention.pa_mqa_logits: deepgemm_fp8_paged_mqa_logits deepgemm_fp8_paged_mqa_logits_stage1
aiter.ops.triton.attention.sparse_mla: sparse_mla_fwd
aiter.ops.triton.attention.unified_attention: unified_attention
aiter.ops.triton.fp8_mqa_logits: fp8_mqa_logits
aiter.ops.triton.fused_kv_cache: fused_qk_rope_cat_and_cache_mla
aiter.ops.triton.fused_qk_concat: fused_qk_rope_cat
aiter.ops.triton.fusions.fused_bmm_rope_kv_cache: fused_fp8_bmm_rope_cat_and_cache_mla
aiter.ops.triton.fusions.fused_mla_prefill_qkv_fp8: fused_mla_prefill_qkv_fp8
aiter.ops.triton.fusions.k_norm_rope_mxfp4_cache: k_norm_rope_mxfp4_cache
aiter.ops.triton.gather_kv_b_proj: gather_kv_b_proj
aiter.ops.triton.gluon: pa_mqa_logits
aiter.ops.triton.gluon.mla_decode_gluon: mla_decode_gluon
aiter.ops.triton.gluon.mla_gluon: mla_gluon
aiter.ops.triton.gluon.pa_decode_gluon: get_cdna_version
aiter.ops.triton.mha: flash_attn_varlen_func
aiter.ops.triton.pa_mqa_logits: deepgemm_fp8_paged_mqa_logits
aiter.ops.triton.rope.q_rope_mxfp4_quant: q_rope_mxfp4_quant
aiter.ops.triton.utils._triton.kernel_repr: make_kernel_repr
aiter.ops.triton.utils.types: e4m3_dtype
aiter.utility: fp4_utils
"""
PAIRS = [
    (line.partition(": ")[0], name) for line in IMPORTED.strip().split("\n") for name in line.partition(": ")[2].split()
]
NEEDS_TORCH = {("aiter.ops.triton.utils.types", "e4m3_dtype")}

#: What must be ours, by the names that engines call on the way of a token.
SERVED = [
    ("aiter.mla", "mla_decode_fwd", "mla_decode_fwd"), ("aiter.mla", "mla_prefill_fwd", "mla_prefill_fwd"),
    ("aiter.mla", "mla_prefill_ps_fwd", "mla_prefill_ps_fwd"), ("aiter.mla", "get_meta_param", "get_meta_param"),
    ("aiter", "get_mla_metadata_info_v1", "get_mla_metadata_info_v1"),
    ("aiter", "get_mla_metadata_v1", "get_mla_metadata_v1"),
    ("aiter", "get_ps_metadata_info_v1", "get_ps_metadata_info_v1"),
    ("aiter", "get_ps_metadata_v1", "get_ps_metadata_v1"),
    ("aiter", "mla_prefill_ps_asm_fwd", "mla_prefill_ps_asm_fwd"),
    ("aiter.ops.triton.attention.mla", "mla_decode_fwd", "mla_decode_segmented"),
    ("aiter.ops.triton.gluon.mla_gluon", "mla_gluon", "mla_gluon"),
    ("aiter.ops.triton.gather_kv_b_proj", "gather_kv_b_proj", "gather_kv_b_proj"),
    ("aiter.ops.triton.fusions.fused_mla_prefill_qkv_fp8", "fused_mla_prefill_qkv_fp8", "fused_mla_prefill_qkv_fp8"),
    ("aiter.ops.triton.attention.pa_mqa_logits", "deepgemm_fp8_paged_mqa_logits", "deepgemm_fp8_paged_mqa_logits"),
    ("aiter.ops.triton.pa_mqa_logits", "deepgemm_fp8_paged_mqa_logits", "deepgemm_fp8_paged_mqa_logits"),
    ("aiter.ops.triton.attention.fp8_mqa_logits", "fp8_mqa_logits", "fp8_mqa_logits"),
    ("aiter.ops.flydsl", "flydsl_fp8_mqa_logits", "flydsl_fp8_mqa_logits"),
    ("aiter.ops.topk", "top_k_per_row_prefill", "top_k_per_row_prefill"),
    ("aiter.ops.topk", "top_k_per_row_decode", "top_k_per_row_decode"),
]  # fmt: skip


@pytest.fixture
def installed() -> Iterator[compat.Installed]:
    """Alone: there is no AITER here."""
    assert importlib.util.find_spec("aiter") is None
    with compat.install() as handle:
        yield handle


@pytest.mark.parametrize(("module", "name"), PAIRS)
def test_what_engines_import_can_be_imported(installed: compat.Installed, module: str, name: str) -> None:
    """`from module import name`, from a module with a spec, below packages."""
    if (module, name) in NEEDS_TORCH:
        pytest.importorskip("torch")
    value = __import__(module, fromlist=[name])
    assert getattr(value, name) is not None and value.__spec__.name == module and importlib.util.find_spec(module)
    assert all(hasattr(sys.modules[parent], "__path__") for parent in ("aiter", module.rpartition(".")[0] or "aiter"))


@pytest.mark.parametrize(("module", "name", "source"), SERVED)
def test_what_is_served(installed: compat.Installed, module: str, name: str, source: str) -> None:
    """By AITER's path and by ours, the function itself: nothing stands between."""
    ours = getattr(aiter_c, source)
    assert getattr(importlib.import_module(module), name) is ours
    below = importlib.import_module("aiter_c.compat" + module.removeprefix("aiter").join(["." + "aiter", ""]))
    assert getattr(below, name) is ours


def test_every_name_of_the_table_is_served_or_refuses() -> None:
    """When it is used: with the module's name and its own; and a table's row alone makes a name served."""
    refused = 0
    for module in names.NAMES:
        for name, value in names.unserved(module).items():
            parameters = inspect.signature(value).parameters.values()
            needed = sum(p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters)
            keywords = {p.name: None for p in parameters if p.default is p.empty and p.kind is p.KEYWORD_ONLY}
            with pytest.raises(aiter_c.UnsupportedError, match=name):
                value(*[None] * needed, **keywords)
            refused += 1
        assert all(callable(value) for value in names.served(module).values())
    assert refused > 30


def test_a_new_op_is_served_under_the_name_that_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiter_c, "sparse_mla_fwd", len, raising=False)
    assert names.served("aiter.ops.triton.attention.sparse_mla") == {"sparse_mla_fwd": len}


def test_what_nobody_serves_says_so_when_it_is_used(installed: compat.Installed) -> None:
    """Not at import, nor in a default argument, an annotation or a base class."""
    from aiter import ActivationType, QuantType, gemm_a8w8_CK, get_hip_quant, rms_norm
    from aiter.ops.triton.utils._triton.kernel_repr import make_kernel_repr

    def layer(kind: int = ActivationType.Silu, backend: gemm_a8w8_CK | None = gemm_a8w8_CK.some.value) -> None: ...

    class Layer(gemm_a8w8_CK): ...

    text = r"aiter\.rms_norm: call: expected a name that aiter_c serves"
    with pytest.raises(aiter_c.UnsupportedError, match=text):
        rms_norm(1, eps=2)
    quantise, represent = get_hip_quant(QuantType.per_1x128), make_kernel_repr("name", ["BLOCK"])
    uses = (lambda: quantise(1), lambda: represent(1), lambda: rms_norm[1], lambda: [*rms_norm], lambda: len(rms_norm))
    for use in uses:
        with pytest.raises(aiter_c.UnsupportedError, match="not"):
            use()


def test_an_engine_decorates_its_own_functions(installed: compat.Installed) -> None:
    """ATOM at import; the function is what it was."""
    from aiter.jit.utils.torch_guard import torch_compile_guard

    @torch_compile_guard(mutates_args=["x"], gen_fake=lambda x: None)
    def twice(x: int) -> int:
        return 2 * x

    assert twice(4) == 8


def test_the_names_below_compat_are_those_of_the_table() -> None:
    """Unlike `aiter` itself, which has any name, for engines."""
    from aiter_c.compat.aiter.mla import mla_decode_fwd

    assert mla_decode_fwd is aiter_c.compat.aiter.mla.mla_decode_fwd is aiter_c.mla_decode_fwd
    assert "mla_reduce_v1" in aiter_c.compat.aiter.__all__
    with pytest.raises(AttributeError, match="rms_norm"):
        _ = aiter_c.compat.aiter.rms_norm
    with pytest.raises(ImportError):
        importlib.import_module("aiter_c.compat.aiter.fused_moe")


#: Of AITER, where ours is another function than the op of that name.
SIGNATURES = {
    "flash_attn_varlen_func": (
        "(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, min_seqlen_q=0, dropout_p=0.0, "
        "softmax_scale=None, logits_soft_cap=0.0, causal=False, window_size=(-1, -1, 0), bias=None, alibi_slopes=None, "
        "deterministic=False, return_lse=False, return_attn_probs=False, how_v3_bf16_cvt=1, block_table=None, "
        "out=None, cu_seqlens_q_padded=None, cu_seqlens_k_padded=None, sink_ptr=None)"
    ),
    "triton_flash_attn_varlen_func": (
        "(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p=0.0, softmax_scale=None, "
        "causal=False, window_size=(-1, -1), bias=None, alibi_slopes=None, deterministic=False, return_lse=False, "
        "return_attn_probs=False, block_table=None, out=None, sink=None, config=None)"
    ),
    "flash_attn_varlen_fp8_pertensor_func": (
        "(q, k, v, q_descale, k_descale, v_descale, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, "
        "min_seqlen_q=0, logits_soft_cap=0.0, causal=False, window_size=(-1, -1, 0), softmax_scale=None, sink_ptr=None)"
    ),
    "mla_reduce_v1": (
        "(partial_output, partial_lse, reduce_indptr, reduce_final_map, reduce_partial_map, max_seqlen_q, "
        "num_kv_splits=None, final_output=None, final_lse=None, *, stream=None)"
    ),
    "get_mla_decode_fwd_occupancy": "(num_head_qo, max_seqlen_qo, q_dtype, kv_dtype)",
    "top_k_per_row_prefill_fast": "(logits, rowStarts, rowEnds, indices, values, numRows, stride0, stride1)",
    "top_k_per_row_decode_fast": "(logits, next_n, seqLens, indices, numRows, stride0, stride1)",
}
#: What engines ask inspect.signature for before they use an op.
PROBES = {
    ("aiter.mla", "mla_decode_fwd"): ("q_scale", "kv_scale", "causal"),
    ("aiter", "get_mla_metadata_info_v1"): ("max_split_per_batch",),
    ("aiter.ops.triton.attention.pa_mqa_logits", "deepgemm_fp8_paged_mqa_logits"): (
        "Preshuffle", "KVBlockSize", "ChunkK", "WavePerEU",
    ),
}  # fmt: skip


def test_signatures_are_aiters() -> None:
    assert {name: plain(names.source_of(name)) for name in SIGNATURES} == SIGNATURES


@pytest.mark.parametrize(("module", "name"), list(PROBES))
def test_probes_find_their_names(installed: compat.Installed, module: str, name: str) -> None:
    parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    assert set(PROBES[module, name]) <= set(parameters)


def test_the_probe_of_sources_for_24_heads(installed: compat.Installed) -> None:
    """vLLM looks for two texts, without white space."""
    from aiter.jit.core import AITER_CSRC_DIR

    folder = Path(AITER_CSRC_DIR) / "kernels" / "mla"
    reduce = "".join((folder / "reduce.cu").read_text(encoding="utf-8").split())
    planner = "".join((folder / "metadata" / "v1_2_device.cuh").read_text(encoding="utf-8").split())
    assert "MLA_REDUCE_CASE_EF(NUM_HEAD,24,HEAD_DIM,512," in reduce and "num_heads==24" in planner


def test_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """As engines set it where there is no GPU; else what is here."""
    monkeypatch.setenv("GPU_ARCHS", "gfx942;gfx950")
    monkeypatch.setenv("CU_NUM", "304")
    assert (stand_ins.get_gfx(), stand_ins.get_cu_num()) == ("gfx950", 304)
    monkeypatch.setenv("GPU_ARCHS", "native")
    monkeypatch.setenv("CU_NUM", "0")
    assert stand_ins.get_gfx_list() and stand_ins.get_cu_num() > 0


@pytest.mark.torch
@pytest.mark.parametrize(("arch", "fp8"), [("gfx942", "float8_e4m3fnuz"), ("gfx950", "float8_e4m3fn")])
def test_dtypes_are_those_of_the_architecture(
    installed: compat.Installed, monkeypatch: pytest.MonkeyPatch, arch: str, fp8: str
) -> None:
    import torch

    monkeypatch.setenv("GPU_ARCHS", arch)
    from aiter import dtypes
    from aiter.ops.triton.utils import types

    kind = getattr(torch, fp8)
    assert dtypes.fp8 is types.e4m3_dtype is dtypes.d_dtypes["fp8"] is dtypes.get_dtype_fp8() is kind
    assert torch.finfo(types.e4m3_dtype).max in (240, 448)
    assert (dtypes.bf16, dtypes.i32, dtypes.fp32) == (torch.bfloat16, torch.int32, torch.float32)


def test_sizes_are_tuples_where_aiters_are(installed: compat.Installed) -> None:
    """vLLM unpacks two of them: torch.empty(*size)."""
    import aiter

    info = aiter.get_mla_metadata_info_v1(4, 1, 16, "bfloat16", "bfloat16", is_sparse=False, fast_mode=True)
    assert [isinstance(size, tuple) for size, _ in info] == [False, False, True, False, True, False]
    assert all(np.empty(size).ndim in (1, 2) for size, _ in info)
