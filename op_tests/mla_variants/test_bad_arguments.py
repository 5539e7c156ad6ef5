"""What the variants of MLA decode refuse: the class, the exact text, and no byte of any argument changed."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import aiter_c
from aiter_c import UnsupportedError
from aiter_c._C import mla_decode_variant
from aiter_c.testing.ops.mla_variants import GluonCase, SegmentedCase

SEGMENTED = SegmentedCase(heads=2, q_lens=(1, 1), kv_lens=(20, 3), skip_reduce=False)
GLUON = GluonCase(heads=2, kv_lens=(20, 3), rows=2, flat=False)
_ONE = np.ones(1, np.float32)


def _int32(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.int32)


#: (case, changed arguments, class, the whole text)
REFUSED = [
    (SEGMENTED, {"causal": False}, UnsupportedError, "mla_decode_segmented: causal: expected True, got False"),
    (SEGMENTED, {"q_scales": _ONE}, UnsupportedError,
     "mla_decode_segmented: q_scales: expected None (no block-scaled queries), got ndarray"),
    (SEGMENTED, {"out_scale": _ONE}, UnsupportedError,
     "mla_decode_segmented: out_scale: expected None (no fp8 output), got ndarray"),
    (SEGMENTED, {"shuffled_kv_cache": True}, UnsupportedError,
     "mla_decode_segmented: shuffled_kv_cache: expected False, got True"),
    (SEGMENTED, {"kv_lora_rank": 1.5}, TypeError, "mla_decode_segmented: kv_lora_rank: expected int, got float"),
    (SEGMENTED, {"causal": np.ones(2)}, TypeError, "mla_decode_segmented: causal: expected bool, got ndarray"),
    (SEGMENTED, {"kv_lora_rank": 256}, ValueError,
     "mla_decode_segmented: kv_lora_rank + qk_rope_head_dim: expected 512 + 64 (of kv_buffer), got 256 + 64"),
    (SEGMENTED, {"qk_rope_head_dim": 0}, ValueError,
     "mla_decode_segmented: kv_lora_rank + qk_rope_head_dim: expected 512 + 64 (of kv_buffer), got 512 + 0"),
    (SEGMENTED, {"out": None}, TypeError,
     "mla_decode_segmented: out: expected a tensor (None needs skip_reduce), got None"),
    (SEGMENTED, {"cu_seqlens_q": _int32(4)}, ValueError,
     "mla_decode_segmented: max_seqlen_q: expected a number, since 2 rows are not the same number for each of 3 "
     "requests, got None"),
    (SEGMENTED, {"kv_buffer": 3}, TypeError,
     "mla_decode_segmented: kv_buffer: expected a tensor with a shape, got int"),
    (SEGMENTED, {"kv_buffer": _ONE}, ValueError,
     "mla_decode_segmented: kv_buffer: expected 4 dimensions or more, got [1]"),
    (SEGMENTED, {"block_tables": _int32(3)}, ValueError,
     "mla_decode_fwd: block_tables: expected shape [at least B=2 (of qo_indptr), w], got [3]"),
    (SEGMENTED, {"block_tables": _int32(1, 3)}, ValueError,
     "mla_decode_fwd: block_tables: expected shape [at least B=2 (of qo_indptr), w], got [1, 3]"),
    (SEGMENTED, {"block_tables": _int32(2, 3).astype(np.int64)}, TypeError,
     "mla_decode_fwd: block_tables: expected dtype int32, got int64"),
    (SEGMENTED, {"seqused_k": _int32(1)}, ValueError,
     "mla_decode_fwd: kv_lens: expected shape [at least B=2 (of qo_indptr)], got [1]"),
    (SEGMENTED, {"seqused_k": None}, TypeError, "mla_decode_fwd: kv_lens: expected a tensor, got None"),
    (SEGMENTED, {"block_tables": None}, TypeError, "mla_decode_fwd: block_tables: expected a tensor, got None"),
    (SEGMENTED, {"max_seqlen_q": 0}, ValueError,
     "mla_decode_fwd: max_seqlen_q: expected 1 to 2147483647, got 0"),
    (GLUON, {"attn_sink": _ONE}, UnsupportedError, "mla_gluon: attn_sink: expected None (no sink), got ndarray"),
    (GLUON, {"kv_pe_offset": 0}, UnsupportedError,
     "mla_gluon: kv_pe_offset: expected 512 (the rope part behind the latent one), got 0"),
    (GLUON, {"k_pe": np.zeros((9, 64), np.float16)}, UnsupportedError,
     "mla_decode_fwd: k_pe: expected the 64 columns behind the first 512 of kv_buffer, in the same memory, got another "
     "tensor"),
    (GLUON, {"q_pe": None}, TypeError, "mla_gluon: q_pe: expected a tensor (None needs has_pe=False), got None"),
    (GLUON, {"q_nope": np.zeros((2, 2, 2, 256), np.float16)}, UnsupportedError,
     "mla_gluon: q_nope: expected rows of 512 elements, got [2, 2, 2, 256]"),
    (GLUON, {"q_pe": np.zeros((2, 2, 2, 64), np.float32)}, TypeError,
     "mla_gluon: q_pe: expected dtype bfloat16 as q_nope, got float32"),
    (GLUON, {"use_2d_view": False, "page_table": _int32(9), "seq_info": _int32(2)}, ValueError,
     "mla_decode_fwd: kv_indptr: expected shape [at least B+1=3 (of q)], got [2]"),
    (GLUON, {"use_2d_view": False}, ValueError, "mla_decode_fwd: kv_indices: expected shape [n], got [2, 20]"),
    (GLUON, {"page_table": _int32(9)}, ValueError,
     "mla_decode_fwd: block_tables: expected shape [at least B=2 (of q), w], got [9]"),
    (GLUON, {"kv_c": np.zeros((9, 64), np.float16)}, UnsupportedError,
     "mla_decode_fwd: kv_buffer: expected rows of 576 (512 + rope 64) or 512 (rope 0) elements, got 64"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_refused(number: int) -> None:
    case, changes, error, text = REFUSED[number]
    inputs = case.inputs()
    inputs.freeze()
    with pytest.raises(error) as raised:
        getattr(aiter_c, case.op)(**inputs.arguments() | changes)
    assert str(raised.value) == text and type(raised.value) is error
    inputs.written = ()
    inputs.check_untouched()


def test_a_rope_part_that_lies_elsewhere_is_refused() -> None:
    """Of another tensor of the same layout, of fewer rows, with other strides, before the latent part."""
    keys = GLUON.inputs().arguments()["kv_c"]
    for rope in (keys.copy()[:, 512:], keys[:-1, 512:], keys[:, 512:].copy(), keys[:, :64], keys[:, 511:575]):
        arguments = GLUON.inputs().arguments() | {"kv_c": keys[:, :512], "k_pe": rope, "kv_pe_offset": 0}
        with pytest.raises(UnsupportedError, match="k_pe: expected the 64 columns behind the first 512 of kv_buffer"):
            aiter_c.mla_gluon(**arguments)


def test_an_output_whose_rows_are_not_at_one_distance_is_refused() -> None:
    inputs = GLUON.inputs()
    o = np.zeros((2, 3, 2, 512), inputs.array("_o").dtype)[:, :2]
    text = "mla_decode_fwd: o: expected rows of all requests at one distance, got strides 3072 and 1024"
    with pytest.raises(ValueError, match=text):
        aiter_c.mla_gluon(**inputs.arguments() | {"o": o})


@pytest.mark.parametrize(("name", "shape", "dtype"), [("sink", (2,), np.float32), ("g_kv_indptr", (3,), np.int32)])
def test_segments_without_a_sink_and_of_one_rank(name: str, shape: tuple[int, ...], dtype: type) -> None:
    """Engines' backends pass these to the C function; who merges segments adds a sink there."""
    q, cache, table = np.zeros((2, 2, 576), np.float16), np.zeros((4, 16, 576), np.float16), _int32(2, 2)
    arguments = (q, None, cache, None, 0, None, _int32(3), None, None, table, _int32(2), 1, 16)
    with pytest.raises(ValueError, match=f"^mla_decode_fwd: {name}: expected None of a segmented call, got a tensor$"):
        mla_decode_variant(*arguments, segmented=True, **{name: np.zeros(shape, dtype)})
    mla_decode_variant(*arguments, segmented=True)


#: AITER's decode family, as far as it is not served: what inspect says of each, and what a call says.
FAMILY = {
    "mla_decode_fwd_ds32": ("q_nope_buffer", 24, "one E8M0 scale per 32 elements is not served"),
    "mla_v40_decode_fwd": ("q", 18, "DeepSeek-V4's packed rows and sinks are not served"),
    "mla_decode_fwd_v4_nm": ("q", 17, "DeepSeek-V4's packed rows and sinks are not served"),
    "hk_mla_v32_decode_fwd": ("query", 13, "a stage alone is not served"),
    "hk_mla_v40_decode_fwd": ("query", 15, "DeepSeek-V4's packed rows and sinks are not served"),
}


@pytest.mark.parametrize("name", FAMILY)
def test_members_of_the_family_that_are_not_served(name: str) -> None:
    first, count, why = FAMILY[name]
    function = getattr(aiter_c, name)
    parameters = inspect.signature(function).parameters
    assert next(iter(parameters)) == first and len(parameters) == count
    required = {key: None for key, value in parameters.items() if value.default is value.empty}
    with pytest.raises(UnsupportedError, match=f"^{name}: {why}; mla_decode_fwd"[:60]):
        function(**required)
    with pytest.raises(TypeError):
        function()
