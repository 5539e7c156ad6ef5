"""mla_prefill_fwd (absorbed), mla_prefill_reduce, and what engines put around prefill: gather_kv_b_proj and
fused_mla_prefill_qkv_fp8."""

from __future__ import annotations

import inspect

import ml_dtypes
import numpy as np
import pytest
from mla_prefill.test_mla_prefill import HAND

import aiter_c
from aiter_c.testing import Device, MlaCase, build_inputs, check_bits, dtype_of, poisoned_scratch
from aiter_c.testing.compare import check_outputs
from aiter_c.testing.ops.mla_decode import expected_outputs, p_dtype_of

# --- mla_prefill_fwd -------------------------------------------------------------------------------------------------

ABSORBED = [
    MlaCase(heads=16, q_lens=(40, 3), kv_lens=(40, 90)),
    MlaCase(heads=3, q_lens=(17, 0, 5), kv_lens=(9, 4, 0), page_size=16, unowned_rows=(1, 2)),
    MlaCase(heads=128, q_lens=(9,), kv_lens=(70,), page_size=64, masked="minus_one"),
    MlaCase(heads=12, q_lens=(20,), kv_lens=(40,), q_dtype="float16", kv_dtype="float16", o_dtype="float16"),
    MlaCase(heads=5, q_lens=(20,), kv_lens=(40,), kv_dtype="float8_e4m3fn", kv_scale=1.5, causal=False),
    MlaCase(heads=8, q_lens=(20, 2), kv_lens=(64, 7), rope=0, q_strided=True, o_strided=True),
]


@pytest.mark.smoke
@pytest.mark.parametrize("case", ABSORBED, ids=lambda case: case.id)
def test_absorbed_prefill(case: MlaCase, device: Device) -> None:
    """`o` itself and the LSE of every row, [T, 1, H, 1]; by the reference of mla_decode_fwd. Nothing else is taken."""
    inputs = build_inputs(case)
    inputs.freeze()
    given = inputs.arguments()
    for name in ("num_kv_splits", "page_size", "return_lse", "deterministic"):
        del given[name]
    with poisoned_scratch() as scratch:
        o, attn_lse = device.call("mla_prefill_fwd", **given, num_kv_splits=7)
    assert scratch.names == ["lse"]
    assert o is inputs.array("o") and attn_lse.shape == (case.num_rows, 1, case.heads, 1)
    inputs.check_untouched()
    p_dtype = p_dtype_of(case, device)
    lse = attn_lse.reshape(case.num_rows, case.heads)
    check_outputs({"o": o, "lse": lse}, expected_outputs(case, inputs.reference(p_dtype=p_dtype), p_dtype), case.repro)


def test_sglangs_call() -> None:
    """By position, a cache without pages."""
    case = MlaCase(heads=12, q_lens=(20,), kv_lens=(40,))
    a = build_inputs(case).arguments()
    o, lse = aiter_c.mla.mla_prefill_fwd(
        a["q"], a["kv_buffer"], a["o"], a["qo_indptr"], a["kv_indptr"], a["kv_indices"], a["kv_last_page_lens"], 20,
        case.softmax_scale, 0.0,
    )  # fmt: skip
    want, want_lse = np.zeros_like(o), None
    _, want_lse = aiter_c.mla_decode_fwd(**a | {"o": want, "return_lse": True, "num_kv_splits": 1})
    check_bits("o", o, want, case.repro)
    check_bits("lse", lse[:, 0, :, 0], want_lse, case.repro)


def test_absorbed_prefill_refuses_as_decode_does() -> None:
    a = build_inputs(MlaCase(q_lens=(3,), kv_lens=(9,))).arguments()
    given = {n: a[n] for n in ("q", "kv_buffer", "o", "qo_indptr", "kv_indptr", "kv_indices", "kv_last_page_lens")}
    with pytest.raises(aiter_c.UnsupportedError, match=r"^mla_decode_fwd: logit_cap: expected 0 \(no soft cap\)"):
        aiter_c.mla_prefill_fwd(**given, max_seqlen_q=3, logit_cap=2.0)
    with pytest.raises(ValueError, match=r"^mla_prefill_fwd: kv_buffer: expected 4 dimensions, got \[9\]$"):
        aiter_c.mla_prefill_fwd(**given | {"kv_buffer": np.zeros(9, np.float16)}, max_seqlen_q=3)


# --- mla_prefill_reduce ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mla_prefill_reduce", "mla_prefill_reduce_triton"])
def test_the_merge_under_its_other_names(name: str) -> None:
    """The bits of mla_reduce_v1; a group of one partial too."""
    inputs = HAND.inputs()
    a = inputs.arguments()
    rng, entries = np.random.default_rng(0), len(a["reduce_partial_map"])
    partials = rng.standard_normal((entries * 256, 2, 128), np.float32)
    lses = rng.standard_normal((entries * 256, 2), np.float32)
    maps = [a[n] for n in ("reduce_indptr", "reduce_final_map", "reduce_partial_map")]
    got, want = (np.full(a["output"].shape, np.nan, a["output"].dtype) for _ in range(2))
    getattr(aiter_c, name)(partials, lses, *maps, got)
    aiter_c.mla_reduce_v1(partials, lses, *maps, 256, 0, want)
    check_bits("output", got, want, name)
    assert not np.isnan(got.astype(np.float32)).any()
    last = list(inspect.signature(getattr(aiter_c, name)).parameters)[7]
    assert last == ("use_triton" if name == "mla_prefill_reduce" else "max_partials_static")


# --- what engines put around it --------------------------------------------------------------------------------------


def _framework(name: str) -> tuple[object, object]:
    """From a NumPy array, and back."""
    if name == "numpy":
        return np.asarray, np.asarray
    torch = pytest.importorskip("torch")

    def tensor(array: np.ndarray) -> object:
        if array.dtype.name in ("bfloat16", "float8_e4m3fn", "float8_e4m3fnuz"):
            bits = torch.from_numpy(array.view(f"i{array.dtype.itemsize}").copy())
            return bits.view(getattr(torch, array.dtype.name))
        return torch.from_numpy(array.copy())

    return tensor, lambda t: t.float().numpy()


FRAMEWORKS = ["numpy", pytest.param("torch", marks=pytest.mark.torch)]


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e4m3fnuz", "bfloat16"])
def test_gather_kv_b_proj(framework: str, dtype: str) -> None:
    """Keys and values of a cached context, by fp64; masked slots are zeros; a scale counts for fp8 alone."""
    to, back = _framework(framework)
    rng = np.random.default_rng(0)
    T, H, nope, dv = 70, 3, 128, 128
    cache = rng.standard_normal((200, 1, 576), np.float32).astype(dtype_of(dtype))
    weight = (rng.standard_normal((H * (nope + dv), 512), np.float32) / 22).astype(ml_dtypes.bfloat16)
    indices = rng.integers(0, 200, T + 5).astype(np.int32)
    indices[[3, 9, 10]] = -1, 200, 2**31 - 1
    scale = np.array([0.5], np.float32)
    k, v = (to(np.full((T, H, width), np.nan, np.float32).astype(ml_dtypes.bfloat16)) for width in (nope + 64, dv))
    indptr = to(np.array([0, 30, T], np.int32))
    returned = aiter_c.gather_kv_b_proj(
        to(cache), to(scale), indptr, to(indices), indptr, to(weight), None, k, v
    )  # fmt: skip
    assert returned is None
    factor = 0.5 if dtype != "bfloat16" else 1.0
    inside = (indices >= 0) & (indices < 200)
    rows = np.where(inside[:T, None], factor * cache[np.where(inside, indices, 0)[:T], 0].astype(np.float64), 0)
    want = (rows[:, :512] @ weight.astype(np.float64).T).reshape(T, H, nope + dv)
    got_k, got_v = back(k).astype(np.float64), back(v).astype(np.float64)
    np.testing.assert_allclose(got_k[..., :nope], want[..., :nope], rtol=2**-8, atol=1e-5)
    np.testing.assert_allclose(got_v, want[..., nope:], rtol=2**-8, atol=1e-5)
    assert np.array_equal(got_k[..., nope:], np.broadcast_to(
        rows[:, None, 512:].astype(ml_dtypes.bfloat16), (T, H, 64)).astype(np.float64))  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"kv_proj_scale": 1.0}, aiter_c.UnsupportedError, "kv_proj_scale: expected None (no quantised weight), got"),
        ({"weight_preshuffle": True}, aiter_c.UnsupportedError, "weight_preshuffle: expected False, got True"),
        ({"shuffled_kv_cache": True}, aiter_c.UnsupportedError, "shuffled_kv_cache: expected False, got True"),
        ({"k_buffer": np.zeros((4, 16, 576), np.float16)}, aiter_c.UnsupportedError, "k_buffer: expected [slots, 1"),
        ({"k_buffer": [1]}, TypeError, "k_buffer: expected a tensor of torch or NumPy, got list"),
        ({"kv_indices": np.zeros(4, np.float32)}, TypeError, "kv_indices: expected dtype integers, got float32"),
        ({"k_prefix": [1]}, TypeError, "k_prefix: expected a tensor of NumPy, got list"),
        ({"k_scale": "x"}, TypeError, "k_scale: expected None, a float or a tensor, got str"),
        ({"k_scale": np.ones(2, np.float32)}, ValueError, "k_scale: expected one element of float32, got"),
        ({"kv_indices": np.zeros(3, np.int32)}, ValueError, "kv_indices: expected at least 4 entries (of k_prefix)"),
        ({"v_prefix": np.zeros((4, 2, 64), np.float16)}, ValueError, "kv_proj_weight: expected [384, 512] with"),
    ],
)
def test_gather_kv_b_proj_refuses(changes: dict, error: type, text: str) -> None:
    indptr, half = np.array([0, 4], np.int32), np.float16
    arguments = {
        "k_buffer": np.zeros((9, 1, 576), half), "k_scale": None, "kv_indptr": indptr,
        "kv_indices": np.zeros(4, np.int32), "kv_prefix_sum_context_lens": indptr,
        "kv_proj_weight": np.zeros((512, 512), half), "kv_proj_scale": None,
        "k_prefix": np.zeros((4, 2, 192), half), "v_prefix": np.zeros((4, 2, 128), half),
    }  # fmt: skip
    with pytest.raises(error) as caught:
        aiter_c.gather_kv_b_proj(**arguments | changes)
    assert str(caught.value).startswith(f"gather_kv_b_proj: {text}")


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e4m3fnuz"])
@pytest.mark.parametrize("given", [False, True])
def test_fused_mla_prefill_qkv_fp8(framework: str, dtype: str, given: bool) -> None:
    """Bit for bit the cast of ml_dtypes, saturated; strided views of one projection; 3 heads as 8 by repetition."""
    to, back = _framework(framework)
    rng = np.random.default_rng(0)
    q, kv, k_pe = (
        (rng.standard_normal(shape, np.float32) * 40).astype(ml_dtypes.bfloat16)
        for shape in ((9, 3, 192), (9, 3, 256), (9, 1, 64))
    )
    q[0, 0, :3] = [1e9, -1e9, np.nan]
    views = to(kv)
    out = [None] * 3
    if given:
        out = [to(np.zeros((9, 8, width), np.float32).astype(dtype_of(dtype))) for width in (192, 192, 128)]
    fp8 = dtype if framework == "numpy" else getattr(pytest.importorskip("torch"), dtype)
    got = aiter_c.fused_mla_prefill_qkv_fp8(to(q), views[..., :128], views[..., 128:], to(k_pe), 8, fp8, *out)
    assert not given or all(a is b for a, b in zip(got, out, strict=True))
    largest = float(ml_dtypes.finfo(dtype_of(dtype)).max)
    k = np.concatenate((kv[..., :128], np.broadcast_to(k_pe, (9, 3, 64))), -1)
    for tensor, source in zip(got, (q, k, kv[..., 128:]), strict=True):
        want = np.clip(source.astype(np.float32), -largest, largest).astype(dtype_of(dtype)).astype(np.float32)
        np.testing.assert_array_equal(back(tensor).astype(np.float32), want[:, np.arange(8) % 3])


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"out_dtype": "float16"}, aiter_c.UnsupportedError, "out_dtype: expected float8_e4m3fn or float8_e4m3fnuz"),
        ({"num_heads_out": 1}, ValueError, "num_heads_out: expected 2 (of q) to 65535, got 1"),
        ({"num_heads_out": 2.0}, TypeError, "num_heads_out: expected int, got float"),
        ({"q_out": np.zeros((4, 3), np.float16)}, ValueError, "q_out: expected 3 dimensions, got [4, 3]"),
        ({"v": np.zeros((5, 2, 8), np.float16)}, ValueError, "v: expected shape [4, 2, 8] (of q), got [5, 2, 8]"),
        ({"k_pe": np.zeros((4, 1, 5), np.float16)}, ValueError, "k_nope: expected shape [4, 2, 7] (of q), got"),
        ({"v_out": np.zeros((4, 3, 8), np.float16)}, ValueError, "v_out: expected float8_e4m3fn [4, 3, 8], got"),
    ],
)
def test_fused_mla_prefill_qkv_fp8_refuses(changes: dict, error: type, text: str) -> None:
    half = np.float16
    arguments = {
        "q": np.zeros((4, 2, 12), half), "k_nope": np.zeros((4, 2, 8), half), "v": np.zeros((4, 2, 8), half),
        "k_pe": np.zeros((4, 1, 4), half), "num_heads_out": 3, "out_dtype": "float8_e4m3fn",
    }  # fmt: skip
    with pytest.raises(error) as caught:
        aiter_c.fused_mla_prefill_qkv_fp8(**arguments | changes)
    assert str(caught.value).startswith(f"fused_mla_prefill_qkv_fp8: {text}")
