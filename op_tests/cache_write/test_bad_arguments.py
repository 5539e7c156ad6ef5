"""Every argument, wrong in every way: the class, the exact text, and no byte of any argument changed.

Tokens are 5, heads 3, slots 12 in pages of 4, of the indexer 4 tokens with rope.
"""

from __future__ import annotations

import inspect
import itertools

import ml_dtypes
import numpy as np
import pytest
from boundary.producer import CUDA, Producer
from signatures import plain

import aiter_c
from aiter_c import UnsupportedError
from aiter_c.testing import Case
from aiter_c.testing.ops.cache_write import CacheWriteCase
from aiter_c.testing.ops.indexer_cache import IndexerGatherCase, IndexerRopeCase, IndexerWriteCase

FP8 = "float8_e4m3fn"
CASES: dict[str, Case] = {
    "concat": CacheWriteCase(),
    "concat_fp8": CacheWriteCase(cache=FP8, scale=0.5, tensor_scale=True),
    "records": CacheWriteCase(cache="fp8_ds_mla"),
    "buffers": CacheWriteCase(cache="3buffer"),
    "concat_seg": CacheWriteCase(form="concat_seg"),
    "fused": CacheWriteCase(form="fused", cache=FP8, q_out=FP8, scale=0.5, tensor_scale=True),
    "fused_heads": CacheWriteCase(form="fused", key_heads=2, rank=4),
    "fused_seg": CacheWriteCase(form="fused_seg", cache=FP8, q_out=FP8),
    "cat": CacheWriteCase(form="cat", given=True, decoded=2, more_keys=1),
    "write": IndexerWriteCase(),
    "groups": IndexerWriteCase(group=32),
    "rope": IndexerRopeCase(),
    "gather": IndexerGatherCase(),
}
ROWS: list[tuple[str, str, object, type, str]] = []


def _bad(cases: str, argument: str, value: object, error: type, text: str) -> None:
    ROWS.extend((case, argument, value, error, text) for case in cases.split())


def _read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


def _spread(array: np.ndarray) -> np.ndarray:
    return np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)[..., ::2]


def _same_rows(array: np.ndarray) -> np.ndarray:
    """All rows in one place."""
    return np.lib.stride_tricks.as_strided(array, strides=(0, *array.strides[1:]))


def _as(dtype: str) -> object:
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    return lambda array: np.zeros(array.shape, kind)


#: Tensors whose last dimension may be strided.
ANY_STRIDE = {"slot_mapping", "positions", "pos", "weights", "weights_out"}
LONGS = {"slot_mapping", "positions", "pos"}
for _name in (
    "concat",
    "concat_fp8",
    "records",
    "buffers",
    "concat_seg",
    "fused",
    "fused_seg",
    "cat",
    "write",
    "rope",
    "gather",
):
    _inputs = CASES[_name].inputs()
    _leader = next(iter(_inputs.blocks))
    for _argument, _block in _inputs.blocks.items():
        for _value in ([1, 2], "text", object(), None):
            if _argument in ("scale", "k_scale", "q_scale") or (
                _value is None and _argument.endswith("_out") and _name == "cat"
            ):
                continue
            _text = f"expected a tensor (DLPack or NumPy), got {type(_value).__name__}"
            _bad(_name, _argument, _value, TypeError, _text.replace("NoneType", "None"))
        if _argument in LONGS:
            for _dtype in ("int32", "uint64", "float32", "int16"):
                _bad(_name, _argument, _as(_dtype), TypeError, f"expected dtype int64, got {_dtype}")
        if _argument != _leader:
            _elsewhere = f"expected device cpu (of {_leader}), got cuda:0"
            if _argument not in ("scale", "k_scale", "q_scale"):
                _bad(_name, _argument, lambda a: Producer(a, device=(CUDA, 0)), ValueError, _elsewhere)
        if _argument not in ANY_STRIDE and _block.array.ndim > 0 and "scale" not in _argument:
            _bad(_name, _argument, _spread, ValueError, "expected stride 1 in the last dimension, got 2")
        if _argument in _inputs.written:
            _bad(_name, _argument, _read_only, BufferError, "expected a writable tensor, got a read-only one")
            _text = "expected an output without overlapping elements, got strides that overlap"
            _bad(_name, _argument, _same_rows, ValueError, _text)

# --- dtypes ---------------------------------------------------------------------------------------------------------
_VALUES = "bfloat16, float16 or float32"
for _dtype in ("float64", "int32", "uint8"):
    _bad("concat concat_seg", "kv_c", _as(_dtype), TypeError, f"expected dtype {_VALUES}, got {_dtype}")
    _bad("write", "k", _as(_dtype), TypeError, f"expected dtype {_VALUES}, got {_dtype}")
    _bad("rope", "q", _as(_dtype), TypeError, f"expected dtype {_VALUES}, got {_dtype}")
    _bad("rope", "weights", _as(_dtype), TypeError, f"expected dtype {_VALUES}, got {_dtype}")
    _bad("fused fused_seg", "cos_cache", _as(_dtype), TypeError, f"expected dtype {_VALUES}, got {_dtype}")
_bad("concat records concat_seg", "k_pe", _as("float16"), TypeError, "expected dtype bfloat16, got float16")
_bad("fused fused_seg", "q_pe", _as("float16"), TypeError, "expected dtype bfloat16, got float16")
_bad("fused fused_seg", "kv_c", _as("float16"), TypeError, "expected dtype bfloat16, got float16")
_bad("fused fused_seg cat", "k_pe", _as("float16"), TypeError, "expected dtype bfloat16, got float16")
_bad("fused fused_seg rope", "sin_cache", _as("float16"), TypeError, "expected dtype bfloat16, got float16")
_bad("cat", "sin", _as("float16"), TypeError, "expected dtype bfloat16, got float16")
_bad("cat", "k_nope", _as("float16"), TypeError, "expected dtype bfloat16, got float16")
_bad("cat", "k_pe_out", _as("float16"), TypeError, "expected dtype bfloat16, got float16")
_bad("cat", "decode_q_pe_out", _as("float32"), TypeError, "expected dtype bfloat16, got float32")
_bad("rope", "k", _as("float16"), TypeError, "expected dtype bfloat16, got float16")
_bad("rope", "weights_out", _as("bfloat16"), TypeError, "expected dtype float32, got bfloat16")
_bad("rope", "norm_weight", _as("bfloat16"), TypeError, "expected dtype float32, got bfloat16")
_bad("concat concat_seg", "kv_cache", _as("float16"), TypeError, "expected dtype bfloat16, got float16")
_bad("concat concat_seg", "kv_cache", _as(FP8), TypeError, f"expected dtype bfloat16, got {FP8}")
_FP8S = "float8_e4m3fn or float8_e4m3fnuz"
_bad("concat_fp8", "kv_cache", _as("bfloat16"), TypeError, f"expected dtype {_FP8S}, got bfloat16")
_bad("concat_fp8", "kv_cache", _as("float8_e5m2"), UnsupportedError, f"expected dtype {_FP8S}, got float8_e5m2")
_bad("records buffers", "kv_cache", _as(FP8), TypeError, f"expected dtype uint8, got {FP8}")
_MIXED = "bfloat16, float8_e4m3fn or float8_e4m3fnuz"
_bad("fused fused_seg cat", "kv_cache", _as("float16"), TypeError, f"expected dtype {_MIXED}, got float16")
_bad("fused fused_seg cat", "q_out", _as("float16"), TypeError, f"expected dtype {_MIXED}, got float16")
_bad("fused fused_seg", "q_out", _as("uint8"), TypeError, "expected q_dtype= with a uint8 tensor, got None")
_bad(
    "concat_fp8 fused fused_seg cat",
    "kv_cache",
    _as("uint8"),
    TypeError,
    "expected kv_dtype= with a uint8 tensor, got None",
)
_bad("rope", "q_out", _as("uint8"), TypeError, "expected q_dtype= with a uint8 tensor, got None")
_bad("rope", "q_out", _as("float16"), TypeError, f"expected dtype {_FP8S}, got float16")
for _dtype in ("uint8", "int8"):
    _bad("write rope", "kv_cache", _as(_dtype), TypeError, "expected kv_dtype= with a tensor of bytes, got None")
_BYTES = "float8_e4m3fn, float8_e4m3fnuz, uint8 or int8"
_bad("write rope gather", "kv_cache", _as("float16"), TypeError, f"expected dtype {_BYTES}, got float16")
_bad("gather", "dst_k", _as("float32"), TypeError, f"expected dtype {_BYTES}, got float32")
for _dtype in ("int64", "uint32"):
    _bad("gather", "block_table", _as(_dtype), TypeError, f"expected dtype int32, got {_dtype}")
    _bad("gather", "cu_seq_lens", _as(_dtype), TypeError, f"expected dtype int32, got {_dtype}")

# --- shapes ---------------------------------------------------------------------------------------------------------
_T = "at least T=5 (of slot_mapping)"
_bad("concat", "kv_c", lambda a: a[:4], ValueError, f"expected shape [{_T}, L], got [4, 512]")
_bad("concat", "k_pe", lambda a: a[:, None, None], ValueError, f"expected shape [{_T}, R], got [5, 1, 1, 64]")
_bad("concat", "slot_mapping", lambda a: a[None], ValueError, "expected shape [T=5 (of kv_c)], got [1, 5]")
_D = "D=576 (of latent + rope)"
_bad(
    "concat concat_fp8 fused",
    "kv_cache",
    lambda a: a[..., :575],
    ValueError,
    f"expected shape [pages, block, {_D}], got [3, 4, 575]",
)
_bad(
    "concat",
    "kv_cache",
    lambda a: np.stack([a, a], 2),
    ValueError,
    f"expected shape [pages, block, 1, {_D}], got [3, 4, 2, 576]",
)
_bad("concat", "kv_cache", lambda a: a[0], ValueError, f"expected shape [pages, block, {_D}], got [4, 576]")
_bad(
    "records",
    "kv_cache",
    lambda a: a[..., :655],
    ValueError,
    "expected shape [num_page, page_size=4, 656], got [3, 4, 655]",
)
_bad(
    "buffers",
    "kv_cache",
    lambda a: a[:, :655],
    ValueError,
    "expected shape [num_page, page_size * 656=0], got [3, 655]",
)
_bad(
    "concat_seg fused_seg",
    "kv_cache",
    lambda a: a[:, :-1],
    ValueError,
    "expected pages of a multiple of 576 elements, got 2303",
)
_bad("concat_seg", "kv_cache", lambda a: a[0], ValueError, "expected shape [pages, elements], got [2304]")
_bad(
    "fused fused_seg",
    "q_out",
    lambda a: np.zeros((5, 3, 575), a.dtype),
    ValueError,
    "expected rows of {}576 elements, got 575",
)
_bad("fused", "q_out", lambda a: np.zeros((5, 3, 577), a.dtype), ValueError, "expected rows of 576 elements, got 577")
_bad(
    "fused fused_seg",
    "q_out",
    lambda a: a[:4],
    ValueError,
    f"expected shape [{_T}, H=3 (of q_nope), E], got [4, 3, 576]",
)
_bad("fused fused_seg", "q_nope", lambda a: a[:4], ValueError, f"expected shape [{_T}, H, N], got [4, 3, 512]")
_bad(
    "fused fused_seg",
    "q_pe",
    lambda a: a[:, :2],
    ValueError,
    f"expected shape [{_T}, H=3 (of q_nope), R], got [5, 2, 64]",
)
_bad("fused fused_seg", "k_pe", lambda a: a[:, :62], ValueError, f"expected shape [{_T}, R=64 (of q_pe)], got [5, 62]")
_bad("fused fused_seg", "positions", lambda a: a[:4], ValueError, f"expected shape [{_T}], got [4]")
_bad(
    "fused fused_seg",
    "cos_cache",
    lambda a: a[:, :31],
    ValueError,
    "expected shape [P, half=32 (of q_pe)], got [7, 31]",
)
_bad(
    "fused fused_seg",
    "sin_cache",
    lambda a: a[:6],
    ValueError,
    "expected shape [P=7 (of cos_cache), half=32 (of q_pe)], got [6, 32]",
)
_bad("fused_heads", "kv_cache", lambda a: a[:, :, 0], ValueError, "expected 4 dimensions for 2 key heads, got 3")
_bad(
    "fused_heads",
    "kv_cache",
    lambda a: a[:, :, :1],
    ValueError,
    f"expected shape [pages, block, G=2 (of kv_c), {_D}], got [3, 4, 1, 576]",
)
_bad(
    "fused_seg",
    "kv_c",
    lambda a: np.stack([a, a], 1),
    ValueError,
    f"expected shape [{_T}, G=1 (of kv_c), L], got [5, 2, 512]",
)
_bad("cat", "q_out", lambda a: a[..., :575].copy(), ValueError, "expected rows of 576 elements, got 575")
_bad("cat", "kv_cache", lambda a: a[:, 0], ValueError, f"expected shape [slots, G=1 (of k_nope), {_D}], got [12, 576]")
_bad("cat", "cos sin", lambda a: a[:, :20].copy(), ValueError, "expected rows of 32 or 64 angles, got 20")
_bad(
    "cat",
    "decode_q_pe_out",
    lambda a: a[:1].copy(),
    ValueError,
    "expected shape [n=2 (of num_decode_toks_for_zeros), H=3 (of q_nope), R=64 (of q_pe)], got [1, 3, 64]",
)
_bad(
    "write",
    "kv_cache",
    lambda a: a[..., :131],
    ValueError,
    "expected at least 132 bytes of a key and its scales, got 131",
)
_bad(
    "write rope gather",
    "kv_cache",
    lambda a: np.zeros((*a.shape[:-1], 140), a.dtype)[..., :136],
    ValueError,
    "expected contiguous pages (stride(1) 136), got stride(1) 140",
)
_bad("write rope gather", "kv_cache", lambda a: a[0], ValueError, "expected shape [pages, block, bytes], got [4, 132]")
_bad(
    "rope",
    "q",
    lambda a: a[..., :127].copy(),
    ValueError,
    "expected shape [at least T=4 (of slot_mapping), H, 128], got [4, 3, 127]",
)
_groups = "expected at least 144 bytes of a key and its scales, got 132"
_bad("groups", "kv_cache", lambda a: np.zeros((3, 4, 132), a.dtype), ValueError, _groups)
_bad("rope", "cos_cache", lambda a: a[:, :31].copy(), ValueError, "expected shape [P, 32], got [7, 31]")
_bad("rope", "norm_weight", lambda a: a[:127].copy(), ValueError, "expected shape [128], got [127]")
_bad(
    "gather",
    "dst_scale",
    lambda a: np.zeros((14, 3), np.float32),
    ValueError,
    "expected float32 scales whose number divides 128 (of dst_k), got rows of 12 bytes",
)
_bad(
    "gather",
    "dst_scale",
    lambda a: np.zeros((14, 5), np.uint8),
    ValueError,
    "expected float32 scales whose number divides 128 (of dst_k), got rows of 5 bytes",
)
_bad("gather", "dst_scale", lambda a: a[:3].copy(), ValueError, "expected shape [T=14 (of dst_k), scales], got [3, 1]")
_bad("gather", "cu_seq_lens", lambda a: a[:3].copy(), ValueError, "expected shape [B+1=4 (of block_table)], got [3]")

# --- no rows of angles ------------------------------------------------------------------------------------------------
for _cases, _argument, _other in (("fused fused_seg rope", "cos_cache", "sin_cache"), ("cat", "cos", "sin")):
    _bad(_cases, f"{_argument} {_other}", lambda a: a[:0], ValueError, "expected at least one row, got none")

# --- values -----------------------------------------------------------------------------------------------------------
_bad("concat concat_seg", "kv_cache_dtype", "fp8_e5m2", UnsupportedError, "expected an e4m3 cache, got 'fp8_e5m2'")
_bad(
    "concat",
    "kv_cache_dtype",
    "int4",
    ValueError,
    "expected one of 'auto', 'fp8', 'fp8_e4m3', 'fp8_ds_mla', '3buffer', 'fp8_e5m2', got 'int4'",
)
_bad("concat", "kv_cache_dtype", 3, TypeError, "expected str, got int")
_bad("fused_seg", "is_nope_first", False, UnsupportedError, "expected True, got False")
_bad("cat", "shuffled_kv_cache", True, UnsupportedError, "expected False, got True")
_bad("cat", "num_decode_toks_for_zeros", 6, ValueError, "expected 0 to 5, got 6")
_bad("cat", "num_decode_toks_for_zeros", -1, ValueError, "expected 0 to 5, got -1")
_bad("rope", "quant_block_size", 64, UnsupportedError, "expected 128, got 64")
_bad("write", "quant_block_size", 0, ValueError, "expected 1 to 128, got 0")
_bad("write", "quant_block_size", 129, ValueError, "expected 1 to 128, got 129")
_bad("write", "quant_block_size", 96, ValueError, "expected a divisor of k.shape[1] (128), got 96")
_bad("write rope", "scale_fmt", "e8m0", ValueError, "expected one of 'ue8m0', 'fp32', '', got 'e8m0'")
_bad(
    "write rope gather",
    "preshuffle",
    True,
    ValueError,
    "expected multiples of 16 keys and of 16 bytes, got pages of 4 keys of 128 bytes",
)
_bad("write", "preshuffle", "x", TypeError, "expected bool, got str")
for _value in (float("nan"), float("inf"), 1e40):
    _bad("rope", "epsilon", _value, ValueError, "expected a finite float32, got {}")
_bad("concat_fp8", "scale", np.zeros(2, np.float32), ValueError, "expected one element, got shape [2]")
_bad("concat_fp8", "scale", np.zeros(1, np.float64), TypeError, "expected dtype float32, got float64")
_bad("fused", "k_scale q_scale", np.zeros(2, np.float32), ValueError, "expected one element, got shape [2]")
_bad("concat concat_seg fused fused_seg cat write rope gather", "stream", "0", TypeError, "expected int, got str")


def _refused(case: Case, changes: dict[str, object]) -> tuple[BaseException, bool]:
    """What a call raised, and whether every tensor is as before."""
    inputs = case.inputs()
    inputs.freeze()
    arguments = inputs.arguments()
    for name, value in changes.items():
        arguments[name] = value(arguments[name]) if callable(value) and not isinstance(value, type) else value
    try:
        getattr(aiter_c, case.op)(**arguments)
    except Exception as error:
        return error, all(block.first_change() is None for block in inputs.blocks.values())
    raise AssertionError("not refused")


@pytest.mark.parametrize("row", ROWS, ids=[f"{i}-{r[0]}-{r[1].split()[0]}" for i, r in enumerate(ROWS)])
def test_refusals(row: tuple) -> None:
    name, argument, value, kind, text = row
    error, untouched = _refused(CASES[name], dict.fromkeys(argument.split(), value))
    found = str(error)
    assert type(error) is kind and untouched, found
    assert found.startswith(f"{CASES[name].op}: {argument.split()[0]}: "), found
    before, _, after = text.partition("{}")
    got = found.partition(": ")[2].partition(": ")[2]
    assert got.startswith(before) and got.endswith(after) and ("{}" in text or got == text), got


@pytest.mark.parametrize("name", ["concat", "fused", "cat", "write", "rope", "gather"])
def test_an_output_in_the_memory_of_another_tensor(name: str) -> None:
    """Of any of them, by one byte or more."""
    case = CASES[name]
    written = case.inputs().written
    for output, other in itertools.permutations(case.inputs().blocks, 2):
        inputs = case.inputs()
        out, beside = inputs.array(output), inputs.array(other)
        if output not in written or not out.size or not beside.size:
            continue
        memory = np.zeros(out.nbytes + beside.nbytes + 64, np.uint8)
        at = (beside.nbytes - 1) // 16 * 16
        shared = {other: memory[: beside.nbytes].view(beside.dtype).reshape(beside.shape)}
        shared[output] = memory[at : at + out.nbytes].view(out.dtype).reshape(out.shape)
        with pytest.raises(ValueError, match="expected memory of its own, got memory shared with") as caught:
            getattr(aiter_c, case.op)(**inputs.arguments() | shared)
        assert output in str(caught.value) and other in str(caught.value)


def test_what_is_not_served_says_so() -> None:
    for name in ("fused_fp8_bmm_rope_cat_and_cache_mla", "fused_qk_norm_rope_group_quant"):
        function = getattr(aiter_c, name)
        count = sum(
            p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
            for p in inspect.signature(function).parameters.values()
        )
        with pytest.raises(UnsupportedError, match=f"^{name}: "):
            function(*[None] * count)


def test_records_of_other_sizes() -> None:
    case = CacheWriteCase(latent=256)
    for kind in ("fp8_ds_mla", "3buffer"):
        pool = np.zeros((3, 4 * 656), np.uint8)
        error, untouched = _refused(case, {"kv_cache_dtype": kind, "kv_cache": pool})
        assert type(error) is UnsupportedError and untouched and not pool.any()
        text = f"concat_and_cache_mla: kv_cache_dtype: expected records of 512 + 64 elements for '{kind}', got 256 + 64"
        assert str(error) == text


def test_segments_hold_no_records() -> None:
    pool = np.zeros((3, 4 * 656), np.uint8)
    error, _ = _refused(CASES["concat_seg"], {"kv_cache_dtype": "fp8_ds_mla", "kv_cache": pool})
    assert type(error) is UnsupportedError
    assert str(error) == "concat_and_cache_mla_seg: kv_cache_dtype: expected 'auto' or 'fp8', got 'fp8_ds_mla'"


def test_a_q_out_of_no_kind() -> None:
    given_one = "q_out: expected uint8 data to read as q_out_dtype=int32, got bfloat16"
    fresh = "q_out_dtype: expected the dtype of q_nope (bfloat16) or an fp8 one, got int32"
    for given, text in ((True, given_one), (False, fresh)):
        error, untouched = _refused(CacheWriteCase(form="cat", given=given), {"q_out_dtype": "int32"})
        assert type(error) is TypeError and untouched and str(error) == f"{CASES['cat'].op}: {text}"


def test_an_odd_rope_part() -> None:
    arguments = CacheWriteCase(form="fused").inputs().arguments()
    odd = {name: arguments[name][..., :63].copy() for name in ("q_pe", "k_pe")}
    odd |= {name: arguments[name][..., :31].copy() for name in ("cos_cache", "sin_cache")}
    with pytest.raises(ValueError, match=r": q_pe.shape\[-1\]: expected an even number, got 63$"):
        aiter_c.fused_qk_rope_concat_and_cache_mla(**arguments | odd)


_CONCAT = "(kv_c, k_pe, kv_cache, slot_mapping, kv_cache_dtype, scale, *, kv_dtype=None, stream=None)"
PINNED = {
    "concat_and_cache_mla": _CONCAT,
    "concat_and_cache_mla_seg": _CONCAT,
    "indexer_k_quant_and_cache": (
        "(k, kv_cache, slot_mapping, quant_block_size, scale_fmt, preshuffle=False, *, kv_dtype=None, stream=None)"
    ),
    "cp_gather_indexer_k_quant_cache": (
        "(kv_cache, dst_k, dst_scale, block_table, cu_seq_lens, preshuffle=False, *, stream=None)"
    ),
    "indexer_qk_rope_quant_and_cache": (
        "(q, q_out, weights, weights_out, k, kv_cache, slot_mapping, norm_weight, norm_bias, positions, cos_cache, "
        "sin_cache, epsilon, quant_block_size, scale_fmt, weights_scale, preshuffle=False, is_neox=True, "
        "compute_all_q_rope=False, *, q_dtype=None, kv_dtype=None, stream=None)"
    ),
    "fused_qk_rope_concat_and_cache_mla": (
        "(q_nope, q_pe, kv_c, k_pe, kv_cache, q_out, slot_mapping, k_scale, q_scale, positions, cos_cache, sin_cache, "
        "is_neox, is_nope_first, compute_all_q_rope=False, *, q_dtype=None, kv_dtype=None, stream=None)"
    ),
    "fused_qk_rope_concat_and_cache_mla_seg": (
        "(q_nope, q_pe, kv_c, k_pe, kv_cache, q_out, slot_mapping, k_scale, q_scale, positions, cos_cache, sin_cache, "
        "is_neox, is_nope_first=True, *, q_dtype=None, kv_dtype=None, stream=None)"
    ),
    "fused_qk_rope_cat_and_cache_mla": (
        "(q_nope, q_pe, k_nope, k_pe, kv_cache, slot_mapping, pos, cos, sin, k_scale, is_neox, "
        "num_decode_toks_for_zeros=0, apply_scale=True, q_out=None, decode_q_pe_out=None, k_pe_out=None, "
        "q_out_dtype=None, shuffled_kv_cache=False, upcast_operand=False, *, kv_dtype=None, stream=None)"
    ),
}


@pytest.mark.parametrize("name", PINNED)
def test_signatures_are_aiters_then_ours(name: str) -> None:
    assert plain(getattr(aiter_c, name)) == PINNED[name]
