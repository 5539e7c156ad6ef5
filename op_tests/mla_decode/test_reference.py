"""The reference against two other formulations: plain loops over one number at a time, and torch in fp64."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from aiter_c.testing import MlaCase, MlaInputs, build_inputs, cosine_difference, parse_case
from aiter_c.testing.ops.cache import read_rows, write_rows

SMALL = [
    MlaCase(heads=2, q_lens=(1, 3), kv_lens=(7, 5), page_size=p, causal=c, masked=m, seed=p)
    for p in (1, 2, 5)
    for c in (True, False)
    for m in ("none", "extremes", "all")
] + [
    MlaCase(heads=2, q_lens=(4, 1), kv_lens=(2, 0)),
    MlaCase(heads=1, q_lens=(5,), kv_lens=(9,), max_seqlen_q=2, unowned_rows=(1, 1)),
    MlaCase(heads=2, kv_lens=(6,), q_dtype="float8_e4m3fn", kv_dtype="float8_e4m3fnuz", q_scale=0.5, kv_scale=3.0),
    MlaCase(heads=2, kv_lens=(6,), q_dtype="float16", kv_dtype="float8_e4m3fn", q_scale=0.5, kv_scale=3.0),
    MlaCase(heads=2, kv_lens=(6,), q_scale=0.5, kv_scale=3.0, sm_scale=0.2, rope=0),
    MlaCase(heads=2, kv_lens=(6, 3), q_lens=(2, 1), kv_dtype="float8_e4m3fn", kv_format="3buffer", page_size=4),
    MlaCase(heads=2, kv_lens=(6, 3), q_lens=(2, 1), kv_dtype="float8_e4m3fn", kv_format="fp8_ds_mla", page_size=4),
]


def _key(inputs: MlaInputs, page: int, position: int) -> list[float]:
    """One cache row, read byte by byte, scaled by nothing but its own record."""
    case, pool = inputs.case, inputs.pool
    if case.kv_format == "plain":
        return [float(x) for x in pool[page, position, 0]]
    ps, raw = case.page_size, pool[page].tobytes()
    at = (lambda region, i: raw[region * ps + position * i :][:i]) if case.kv_format == "3buffer" else None
    if at:
        latent, scales, rope = at(0, 512), at(512, 16), at(528, 128)
    else:
        record = raw[656 * position :][:656]
        latent, scales, rope = record[:512], record[512:528], record[528:]
    scale = np.frombuffer(scales, "<f4")
    values = [float(x) for x in np.frombuffer(latent, ml_dtypes.float8_e4m3fn)]
    return [v * float(scale[i // 128]) for i, v in enumerate(values)] + [
        float(x) for x in np.frombuffer(rope, ml_dtypes.bfloat16)
    ]


def _by_loops(inputs: MlaInputs) -> tuple[dict, dict]:
    """The formula with one softmax per row and head, from the raw arguments alone."""
    case, a = inputs.case, inputs.arguments()
    fp8 = ("float8_e4m3fn", "float8_e4m3fnuz")
    q_scale = case.q_scale if case.q_scale is not None and case.q_dtype in fp8 else 1.0
    kv_scale = (
        case.kv_scale if case.kv_scale is not None and case.kv_dtype in fp8 and case.kv_format == "plain" else 1.0
    )
    o, lse = {}, {}
    for b in range(case.batch):
        begin, end = int(a["kv_indptr"][b]), int(a["kv_indptr"][b + 1])
        last = int(a["kv_last_page_lens"][b]) if case.page_size > 1 else 1
        length = (end - begin - 1) * case.page_size + last if end > begin else 0
        first, stop = int(a["qo_indptr"][b]), int(a["qo_indptr"][b + 1])
        for r in range(first, min(stop, first + case.served_q_len)):
            for h in range(case.heads):
                query = [float(x) for x in a["q"][r, h]]
                total, top, seen = 0.0, -math.inf, []
                for j in range(length):
                    page = int(a["kv_indices"][begin + j // case.page_size])
                    if not 0 <= page < len(inputs.pool) or (case.causal and j > length - (stop - first) + r - first):
                        continue
                    key = _key(inputs, page, j % case.page_size)
                    dot = math.fsum(x * y for x, y in zip(query, key, strict=True))
                    seen.append((case.softmax_scale * q_scale * kv_scale * dot, key))
                    top = max(top, seen[-1][0])
                total = math.fsum(math.exp(s - top) for s, _ in seen)
                lse[r, h] = top + math.log(total) if seen else -math.inf
                o[r, h] = [
                    kv_scale * math.fsum(math.exp(s - top) / total * key[i] for s, key in seen)
                    for i in range(0, 512, 37)
                ]
    return o, lse


@pytest.mark.parametrize("case", SMALL)
def test_reference_against_plain_loops(case: MlaCase) -> None:
    inputs = build_inputs(case)
    expected = inputs.reference()
    o, lse = _by_loops(inputs)
    assert {r for r, _ in o} == set(np.flatnonzero(expected.written))
    for at, value in lse.items():
        assert math.isclose(expected.lse[at], value, rel_tol=1e-12, abs_tol=1e-12), at
        np.testing.assert_allclose(expected.o[at][::37], o[at], rtol=1e-9, atol=1e-12)


@pytest.mark.torch
@pytest.mark.parametrize("causal", [True, False])
def test_reference_against_torch_sdpa_in_fp64(causal: bool) -> None:
    import torch

    inputs = build_inputs(MlaCase(heads=5, q_lens=(4,), kv_lens=(33,), causal=causal))
    q = torch.from_numpy(inputs.q_values).transpose(0, 1)
    keys = torch.from_numpy(inputs.read_rows(inputs.kv_lists[0].slots)).expand(5, -1, -1)
    mask = torch.ones(4, 33, dtype=torch.bool).tril(33 - 4) if causal else None
    o = torch.nn.functional.scaled_dot_product_attention(q, keys, keys[..., :512], attn_mask=mask, scale=1 / 24)
    np.testing.assert_allclose(inputs.reference().o, o.transpose(0, 1).numpy(), rtol=1e-10, atol=1e-12)


def test_runs_of_a_list_merge_to_the_whole() -> None:
    """Splitting is exact: log-sum-exp of the parts is the whole, also where a part is empty."""
    inputs = build_inputs(MlaCase(heads=3, q_lens=(3, 1), kv_lens=(40, 2), masked="tail"))
    whole = inputs.reference()
    parts = [inputs.reference(cut=lambda b, n, s=s: (min(16 * s, n), min(16 * s + 16, n))) for s in range(3)]
    lse = np.logaddexp.reduce([part.lse for part in parts])
    np.testing.assert_allclose(lse, whole.lse, rtol=1e-13)
    weights = [np.exp(part.lse - np.where(np.isneginf(lse), 0, lse)) for part in parts]
    o = sum(w[..., None] * part.o for w, part in zip(weights, parts, strict=True))
    np.testing.assert_allclose(o, whole.o, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("kv_format", ["3buffer", "fp8_ds_mla"])
def test_records_round_trip(kv_format: str) -> None:
    """Stored rows come back within half a step of e4m3 (latent) and bf16 (rope); neighbours keep their bytes."""
    rng = np.random.default_rng(0)
    pool = np.full((4, 5 * 656), 0xFF, np.uint8)
    rows = rng.standard_normal((3, 576), np.float32)
    write_rows(pool, kv_format, 5, np.array([7, 19, 12]), rows)
    back = read_rows(pool, kv_format, 5, np.array([7, 19, 12]))
    steps = np.abs(rows).reshape(3, -1, 64).max(-1).repeat(64, axis=1)
    assert (np.abs(back - rows) <= steps / 16).all() and (pool == 0xFF).sum() >= pool.size - 3 * 656
    assert np.isnan(read_rows(pool, kv_format, 5, np.array([6, 8]))).all()


def test_case_text_reads_back() -> None:
    case = MlaCase(heads=3, q_lens=(1, 2), kv_lens=(4, 5), splits=(1, 0), q_scale=0.5, masked="tail")
    assert parse_case(repr(case)) == case and parse_case("MlaCase()") == MlaCase()
    with pytest.raises(ValueError, match="expected .*MlaCase"):
        parse_case("__import__('os').getcwd()")


def test_cosine_difference() -> None:
    a = np.array([1.0, 2.0, 3.0])
    assert cosine_difference(a, a) == 0 and cosine_difference(0 * a, 0 * a) == 0
    assert math.isclose(cosine_difference(a, -a), 2.0)
    assert math.isclose(cosine_difference(a, 2 * a), 1 - 2 * 2 / 5)
