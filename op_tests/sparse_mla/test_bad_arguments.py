"""What sparse attention refuses: the class, the exact text, and no byte of any argument changed."""

from __future__ import annotations

import numpy as np
import pytest

import aiter_c
from aiter_c import UnsupportedError
from aiter_c.testing.memory import dtype_of
from aiter_c.testing.ops.sparse_mla import SparseCase

ONE = SparseCase(heads=2, lens=(20, 3), page_size=4, given=True)
TWO = SparseCase(heads=2, lens=(20, 3), page_size=4, given=True, sink=True, extra_lens=(3, 3))
TABLE = SparseCase(heads=2, lens=(20, 20), page_size=4, form="table")
DECODE = SparseCase(heads=2, lens=(20, 3), page_size=4, form="decode", sink=True)
_BF16 = dtype_of("bfloat16")


def _f32(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def _int32(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.int32)


_V4 = "expected rows of 576 or 512 elements or records of 656 bytes, got records of 584 bytes (DeepSeek-V4's are not "
_V4 += "served)"
_SHAPES = "expected [slots, R], [pages, rows, R] or [pages, rows, 1, R], got"
_WIDTHS = "expected rows of 576 (512 + rope 64) or 512 (rope 0) elements, got 500"

#: (case, changed arguments, class, the whole text)
REFUSED = [
    # DeepSeek-V4, by name.
    (ONE, {"kv_buffer": np.zeros((9, 4, 584), np.uint8)}, UnsupportedError, f"sparse_mla_fwd: kv_buffer: {_V4}"),
    (TWO, {"extra_kv": np.zeros((9, 4, 584), np.uint8)}, UnsupportedError, f"sparse_mla_fwd: extra_kv: {_V4}"),
    (TABLE, {"kv": np.zeros((9, 4, 584), np.uint8)}, UnsupportedError, f"unified_attention_sparse_mla: kv: {_V4}"),
    (ONE, {"inv_rope_positions": _int32(2)}, UnsupportedError,
     "sparse_mla_fwd: inv_rope_positions: expected None (no DeepSeek-V4 output), got ndarray"),
    (ONE, {"inv_rope_cos_sin_cache": _f32(9, 64)}, UnsupportedError,
     "sparse_mla_fwd: inv_rope_cos_sin_cache: expected None (no DeepSeek-V4 output), got ndarray"),
    (ONE, {"out_mxfp8": (1, 2)}, UnsupportedError,
     "sparse_mla_fwd: out_mxfp8: expected None (no DeepSeek-V4 output), got tuple"),
    (ONE, {"kv_lora_rank": 448}, UnsupportedError,
     "sparse_mla_fwd: kv_lora_rank + qk_rope_head_dim: expected 512 + 64 or 512 + 0, got 448 + 64"),
    (TABLE, {"kv_lora_rank": 448}, UnsupportedError,
     "unified_attention_sparse_mla: kv_lora_rank + qk_rope_head_dim: expected 512 + 64 or 512 + 0, got 448"),
    # Shapes and numbers.
    (ONE, {"qk_rope_head_dim": 0}, ValueError, "sparse_mla_fwd: q: expected rows of 512 + 0 elements, got [576]"),
    (ONE, {"kv_buffer": np.zeros(9, _BF16)}, ValueError, f"sparse_mla_fwd: kv_buffer: {_SHAPES} [9]"),
    (ONE, {"kv_buffer": np.zeros((9, 4, 500), _BF16)}, UnsupportedError, f"sparse_mla_fwd: kv_buffer: {_WIDTHS}"),
    (TWO, {"extra_kv": np.zeros((9, 4, 500), _BF16)}, UnsupportedError, f"sparse_mla_fwd: extra_kv: {_WIDTHS}"),
    (ONE, {"kv_indptr": _int32(2)}, ValueError,
     "sparse_mla_fwd: kv_indptr: expected shape [at least B+1=3 (of q)], got [2]"),
    (TWO, {"extra_indptr": _int32(2)}, ValueError,
     "sparse_mla_fwd: extra_indptr: expected shape [at least B+1=3 (of q)], got [2]"),
    (TWO, {"extra_indices": _int32(2, 2)}, ValueError,
     "sparse_mla_fwd: extra_indices: expected shape [n], got [2, 2]"),
    (TABLE, {"topk_indices": _int32(20)}, ValueError,
     "unified_attention_sparse_mla: topk_indices: expected shape [at least B=2 (of q), w], got [20]"),
    (ONE, {"out": np.zeros((2, 2, 511), _BF16)}, ValueError,
     "sparse_mla_fwd: out: expected shape [T=2 (of q), H=2 (of q), 512], got [2, 2, 511]"),
    (ONE, {"kv_splits": 0}, ValueError,
     "sparse_mla_fwd: kv_splits: expected None or -1 (automatic) or 1 to 2147483647, got 0"),
    (ONE, {"softmax_scale": float("nan")}, ValueError,
     "sparse_mla_fwd: softmax_scale: expected a finite float32, got nan"),
    (TWO, {"attn_sink": _f32(3)}, ValueError, "sparse_mla_fwd: attn_sink: expected shape [H=2 (of segments)], got [3]"),
    (DECODE, {"sink": _f32(3)}, ValueError, "mla_decode_fwd: sink: expected shape [H=2 (of q)], got [3]"),
    # What comes together, or not.
    (ONE, {"extra_kv": np.zeros((9, 576), _BF16)}, ValueError,
     "sparse_mla_fwd: extra_indptr: expected a tensor (the extra ones come together), got None"),
    (TWO, {"extra_kv": None}, ValueError,
     "sparse_mla_fwd: extra_kv: expected a tensor (the extra ones come together), got None"),
    (ONE, {"skip_reduce": True}, ValueError, "sparse_mla_fwd: return_lse: expected False with skip_reduce, got True"),
    (ONE, {"dot_precision": "fp4"}, ValueError,
     "sparse_mla_fwd: dot_precision: expected 'bf16' or 'fp8', got 'fp4'"),
    # Types.
    (ONE, {"kv_indices": np.zeros(9, np.int16)}, TypeError,
     "sparse_mla_fwd: kv_indices: expected dtype int32, got int16"),
    (TABLE, {"topk_indices": np.zeros((2, 9), np.int64)}, TypeError,
     "unified_attention_sparse_mla: topk_indices: expected dtype int32, got int64"),
    (TWO, {"attn_sink": np.zeros(2, np.float16)}, TypeError,
     "sparse_mla_fwd: attn_sink: expected dtype float32, got float16"),
    (DECODE, {"sink": np.zeros(2, np.float16)}, TypeError,
     "mla_decode_fwd: sink: expected dtype float32, got float16"),
    (ONE, {"kv_buffer": np.zeros((9, 4, 576), np.uint8)}, TypeError,
     "sparse_mla_fwd: kv_buffer: expected dtype bfloat16, float16, float8_e4m3fn or float8_e4m3fnuz, got uint8"),
    (ONE, {"kv_indices": None}, TypeError, "sparse_mla_fwd: kv_indices: expected a tensor, got None"),
    (TABLE, {"topk_indices": None}, TypeError,
     "unified_attention_sparse_mla: topk_indices: expected a tensor, got None"),
    (TABLE, {"out": None}, TypeError, "unified_attention_sparse_mla: out: expected a tensor, got None"),
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


@pytest.mark.parametrize("case", [ONE, TWO, TABLE, DECODE], ids=["one", "two", "table", "decode"])
def test_an_output_over_an_input_is_refused(case: SparseCase) -> None:
    """Of either list, whether stage 1 writes it or the merge."""
    inputs = case.inputs()
    arguments = inputs.arguments()
    name = "o" if case.form == "decode" else "out"
    for other in ("q", "kv_buffer", "kv", "extra_kv"):
        if other not in arguments:
            continue
        bytes_of = np.zeros(1 << 20, np.uint8)
        shared = bytes_of[: arguments[other].nbytes].view(arguments[other].dtype).reshape(arguments[other].shape)
        out = bytes_of[64 : 64 + 2 * 2 * 512 * 2].view(_BF16).reshape(2, 2, 512)
        with pytest.raises(ValueError, match=rf"^{case.op}: \w+: .*memory"):
            getattr(aiter_c, case.op)(**arguments | {other: shared, name: out})


def test_a_read_only_output_is_refused() -> None:
    for case in (ONE, TWO):
        inputs = case.inputs()
        out = np.zeros((2, 2, 512), _BF16)
        out.flags.writeable = False
        with pytest.raises(BufferError, match=r"sparse_mla_fwd: out: "):
            aiter_c.sparse_mla_fwd(**inputs.arguments() | {"out": out})


def test_arrays_of_the_package_have_no_splits_for_the_caller() -> None:
    inputs = ONE.inputs()
    arguments = {
        name: aiter_c.from_host(value) if isinstance(value, np.ndarray) else value
        for name, value in inputs.arguments().items()
    }
    del arguments["return_lse"]
    with pytest.raises(TypeError, match=r"^sparse_mla_fwd: skip_reduce: expected False, or tensors of torch or NumPy"):
        aiter_c.sparse_mla_fwd(**arguments, skip_reduce=True)
    arguments["kv_indices"] = aiter_c.from_host(np.zeros(9, np.int64))
    with pytest.raises(TypeError, match=r"^sparse_mla_fwd: kv_indices: expected dtype int32"):
        aiter_c.sparse_mla_fwd(**arguments)
