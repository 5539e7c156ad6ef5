"""Plans: their fields, the closed formulas of their sizes, reuse, refusal by field name, and the early return."""

# ruff: noqa: E501 error texts stand on one line

from __future__ import annotations

import copy
import pickle
from itertools import product

import numpy as np
import pytest
from boundary.producer import Producer

import aiter_c
import aiter_c.mla
from aiter_c import _C, mla_decode_fwd, mla_plan
from aiter_c.testing import Device, MlaCase, Outcome, build_inputs, check_bits, run_case
from aiter_c.testing.ops.mla_decode import DTYPES_16, KV_DTYPES, O_DTYPES, Q_DTYPES, RECORD_FORMATS
from aiter_c.testing.scratch import allocated_by, poisoned_scratch

CASE = MlaCase(heads=12, q_lens=(2, 1), kv_lens=(90, 33), page_size=16, splits=3)
TILE_ROWS, FEW_ROWS = 64, 8  # of the CPU's kernels
CPU_ARCHS = ("amx", "avx512bf16", "avx512", "avx2", "portable")
GPU_ARCHS = ("gfx942", "gfx950", "sm_90a")


def _plan(case: MlaCase = CASE, **changed: object) -> aiter_c.MlaPlan:
    """A plan for the case, except for what is changed."""
    positional = {
        "batch": case.batch,
        "num_heads": case.heads,
        "max_seqlen_q": case.served_q_len,
        "page_size": case.page_size,
        "q_dtype": case.q_dtype,
        "kv_dtype": case.kv_dtype,
    }
    keywords = {"num_kv_splits": case.splits, "return_lse": case.return_lse, "qk_rope_head_dim": case.rope}
    arguments = positional | keywords | changed
    return mla_plan(*[arguments.pop(name) for name in positional], **arguments)


def _splits_of(outcome: Outcome) -> int:
    logits = outcome.returned[0]
    return 1 if logits is outcome.outputs["o"] else logits.shape[1]


def _local_bytes(kernel: str) -> int:
    """csrc/ops/attention/cpu/local.h, written again: fp32 accumulators of 64 rows, statistics, queries, keys, scores; of
    8 rows, with a sum for each lane."""
    if "_few_" in kernel:
        return 8 * (512 + 576) * 4 + 16 * 576 * 4 + 16 * 8 * 4 + 8 * (16 + 3) * 4 + 576 * 4
    common = 64 * 512 * 4 + 64 * 3 * 4 + 576 * 4
    if "_f32_" not in kernel:
        return common + 64 * 576 * 2 + 128 * 576 * 2 + 128 * 512 * 2 + 128 * 64 * 4
    return common + 64 * 576 * 4 + 48 * 576 * 4 + 48 * 64 * 4


def test_fields() -> None:
    plan = _plan()
    expected = {
        "batch": 2,
        "num_heads": 12,
        "max_seqlen_q": 2,
        "page_size": 16,
        "q_dtype": "bfloat16",
        "kv_dtype": "bfloat16",
        "kv_format": "plain",
        "kv_lora_rank": 512,
        "qk_rope_head_dim": 64,
        "num_kv_splits": 3,
        "requested_kv_splits": 3,
        "return_lse": True,
        "deterministic": False,
        "device": "cpu",
        "arch": _C.cpu_arch(),
        "compute_units": aiter_c.get_num_threads(),
        "writes_output": False,
        "row_tiles": 1,
        "tile_rows": TILE_ROWS,
        "grid": 2 * 3 * 1,
    }
    assert {name: getattr(plan, name) for name in expected} == expected
    archs = {row["name"]: row["arch"] for row in _C.kernel_table() if row["available"]}
    assert archs[plan.stage1] == _C.cpu_arch() and plan.stage2 in archs
    for name in expected:
        with pytest.raises(AttributeError):
            setattr(plan, name, 1)


def test_the_repr_shows_what_differs_from_the_defaults() -> None:
    shown = (
        "aiter_c.MlaPlan(batch=2, num_heads=12, max_seqlen_q=2, page_size=16, q_dtype='bfloat16', kv_dtype='bfloat16', "
        f"num_kv_splits=3, return_lse=True, arch='{_C.cpu_arch()}')"
    )
    assert repr(_plan()) == shown
    more = repr(_plan(kv_dtype="3buffer", return_lse=False, deterministic=True, num_kv_splits=1))
    assert "kv_format='3buffer', deterministic=True, arch=" in more and "splits" not in more and "lse" not in more


@pytest.mark.parametrize("heads", [1, 16, 63, 64, 65, 128])
@pytest.mark.parametrize("q_len", [1, 2, 16])
@pytest.mark.parametrize("splits", [1, 2, 300])
@pytest.mark.parametrize("batch", [0, 1, 7])
def test_closed_formulas(heads: int, q_len: int, splits: int, batch: int) -> None:
    plan = mla_plan(batch, heads, q_len, 64, "bfloat16", "float8_e4m3fn", num_kv_splits=splits)
    assert plan.row_tiles == -(-heads * q_len // (FEW_ROWS if heads * q_len <= FEW_ROWS else TILE_ROWS))
    assert plan.grid == batch * splits * plan.row_tiles
    assert plan.writes_output == (splits == 1)
    per_row = 0 if splits == 1 else splits * heads * 513 * 4
    assert plan.workspace_bytes() == batch * q_len * per_row
    assert plan.workspace_bytes(num_rows=11) == plan.workspace_bytes(11) == 11 * per_row
    assert plan.scratch_bytes == _local_bytes(plan.stage1) * aiter_c.get_num_threads()


def test_workspace_bytes_are_what_the_call_takes() -> None:
    result = run_case(CASE)
    taken = sum(result.scratch.get(name).nbytes for name in ("logits", "attn_lse"))
    assert taken == _plan().workspace_bytes(CASE.num_rows)


@pytest.mark.parametrize("rows", [2**44, 2**53, 2**62, 2**63 - 1])
def test_workspace_bytes_do_not_wrap(rows: int) -> None:
    plan = _plan()
    expected = rows * 3 * 12 * 513 * 4
    if expected < 2**63:
        assert plan.workspace_bytes(rows) == expected
        return
    text = f"MlaPlan.workspace_bytes: num_rows: expected less than 2**63 bytes in all, got {rows} rows"
    with pytest.raises(ValueError) as caught:
        plan.workspace_bytes(rows)
    assert str(caught.value) == text


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("max_kv_len", [2**40, 2**61, 2**63 - 1])
def test_huge_lists_are_planned_like_long_ones(max_kv_len: int, deterministic: bool, device: Device) -> None:
    """No product of lengths, heads and requests wraps around; every dtype, as fp8 counts rows another way."""
    for dtype in ("bfloat16", "float8_e4m3fn"):
        plans = [
            mla_plan(1, 16, 1, 1, dtype, dtype, max_kv_len=length, deterministic=deterministic, device=device.place)
            for length in (2**40, max_kv_len)
        ]
        assert plans[0].num_kv_splits == plans[1].num_kv_splits > (1 if device.place != "cpu" or deterministic else 0)
    full = mla_plan(2**31 - 1, 128, 2**20, 1, "bfloat16", "bfloat16", max_kv_len=2**30, device=device.place)
    assert full.num_kv_splits == 1 and full.grid == (2**31 - 1) * full.row_tiles


def test_a_claimed_size_cannot_wrap_the_planner() -> None:
    """2**33 indices (of which nothing is read) on pages of 2**31 - 1 rows."""
    inputs = build_inputs(CASE)
    indices = Producer(inputs.array("kv_indices"), shape=(2**33,), strides=(1,))
    changed = {"kv_indices": indices, "page_size": 2**31 - 1, "kv_last_page_lens": np.ones(2, np.int32)}
    changed["kv_buffer"] = Producer(inputs.array("kv_buffer"), shape=(1, 2**31 - 1, 1, 576), strides=(0, 0, 0, 1))
    for count in (None, 2**31 - 1):
        asked = {"num_kv_splits": count, "deterministic": True}
        plans = []
        seen = lambda name, like, shape, dtype, stream, to=plans: to.append((name, shape))  # noqa: E731
        with allocated_by(seen), pytest.raises(TypeError, match=r"logits: expected a tensor"):
            mla_decode_fwd(**inputs.arguments() | changed | asked)
        assert plans == [("logits", (3, 16 if count is None else count, 12, 512))]


def test_equality_and_hash_go_by_value() -> None:
    assert _plan() == _plan() and hash(_plan()) == hash(_plan()) and len({_plan(), _plan()}) == 1
    assert _plan() != _plan(num_kv_splits=4) and _plan() != "plan"


@pytest.mark.parametrize("splits", [1, 3, None])
def test_reuse_gives_the_same_bits(splits: int | None) -> None:
    """One plan, many calls, whatever lies in the tensors."""
    from dataclasses import replace

    case = replace(CASE, splits=splits)
    plan = _plan(case)
    for seed in range(3):
        changed = replace(case, seed=seed, kv_lens=(90 - seed, 33 + 20 * seed))
        again = run_case(changed, plan=plan)
        assert plan.num_kv_splits == _splits_of(again)
        if splits is not None:
            fresh = run_case(changed)
            check_bits("o", again.outputs["o"], fresh.outputs["o"], changed.repro)
            check_bits("lse", again.outputs["lse"], fresh.outputs["lse"], changed.repro)


MISMATCHES = {
    "batch": (3, "2", "3"),
    "num_heads": (16, "12", "16"),
    "max_seqlen_q": (4, "2", "4"),
    "page_size": (32, "16", "32"),
    "q_dtype": ("float16", "bfloat16", "float16"),
    "kv_dtype": ("float8_e4m3fn", "bfloat16", "float8_e4m3fn"),
    "qk_rope_head_dim": (0, "64", "0"),
    "return_lse": (False, "True", "False"),
    "num_kv_splits": (4, "3", "4"),
}


@pytest.mark.parametrize("field", MISMATCHES)
def test_a_plan_for_another_call_is_refused_by_field(field: str) -> None:
    value, call, planned = MISMATCHES[field]
    inputs = build_inputs(CASE)
    inputs.freeze()
    text = rf"^mla_decode_fwd: plan\.{field}: expected a plan made for {call}, got one made for {planned}$"
    with pytest.raises(ValueError, match=text):
        mla_decode_fwd(**inputs.arguments(), plan=_plan(**{field: value}))
    inputs.check_untouched()


def test_a_plan_is_refused_for_another_format() -> None:
    records = build_inputs(MlaCase(kv_dtype="float8_e4m3fn", kv_format="3buffer", page_size=16))
    a = records.arguments()
    plan = mla_plan(1, 16, 1, 16, "bfloat16", "3buffer", num_kv_splits=1, return_lse=True)
    assert plan.kv_format == "3buffer"
    mla_decode_fwd(**a, plan=plan)
    with pytest.raises(ValueError, match=r"plan\.kv_format: expected a plan made for plain, got one made for 3buffer$"):
        mla_decode_fwd(**build_inputs(MlaCase(page_size=16)).arguments(), plan=plan)


def test_a_plan_that_is_not_deterministic_is_refused() -> None:
    inputs = build_inputs(CASE)
    with pytest.raises(
        ValueError, match=r"plan\.deterministic: expected a plan made for True, got one made for False$"
    ):
        mla_decode_fwd(**inputs.arguments() | {"deterministic": True}, plan=_plan())


def test_a_lowered_count_names_its_plan() -> None:
    """5000 runs of lists this short are lowered; the plan serves the call that asked for them, and for what it has."""
    case = MlaCase(heads=1, kv_lens=(40,), splits=5000)
    plan = _plan(case)
    assert (plan.num_kv_splits, plan.requested_kv_splits) == (4096, 5000)
    assert _plan(case, num_kv_splits=None).requested_kv_splits == -1
    for count in (5000, 4096, None):
        logits, _ = mla_decode_fwd(**build_inputs(case).arguments() | {"num_kv_splits": count}, plan=plan)
        assert logits.shape[1] == 4096
    with pytest.raises(ValueError, match=r"plan\.num_kv_splits: expected a plan made for 5001, got one made for 4096$"):
        mla_decode_fwd(**build_inputs(case).arguments() | {"num_kv_splits": 5001}, plan=plan)


@pytest.mark.parametrize("thing", ["plan", 3, object()])
def test_only_a_plan_is_a_plan(thing: object) -> None:
    with pytest.raises(TypeError, match=rf"plan: expected aiter_c\.MlaPlan, got {type(thing).__name__}$"):
        mla_decode_fwd(**build_inputs(CASE).arguments() | {"num_kv_splits": None}, plan=thing)
    with pytest.raises(TypeError, match="cannot create"):
        type(_plan())()


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("max_kv_len", [None, 1, 512, 1024])
def test_longer_lists_than_planned_lose_no_key(deterministic: bool, max_kv_len: int | None) -> None:
    """max_kv_len sizes the splits; a list that is longer (lengths live in tensors) is still attended to its end."""
    case = MlaCase(heads=4, kv_lens=(3000,), splits=None, deterministic=deterministic)
    plan = _plan(case, max_kv_len=max_kv_len, deterministic=deterministic)
    run_case(case, plan=plan)


def test_one_split_never_runs_stage_2(monkeypatch: pytest.MonkeyPatch) -> None:
    """Upstream #2983: stage 1 wrote the rows; stage 2 would overwrite them."""

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("stage 2 ran")

    monkeypatch.setattr(aiter_c.mla, "mla_decode_stage2", refuse)
    result = run_case(MlaCase(heads=32, q_lens=(2, 1), kv_lens=(70, 40), splits=1))
    assert result.returned[0] is result.outputs["o"]
    assert result.scratch.get("logits") is None and result.scratch.get("attn_lse") is None
    with pytest.raises(RuntimeError, match="stage 2 ran"):
        run_case(MlaCase(splits=2))


def _stage1_arguments(case: MlaCase) -> tuple[dict, aiter_c.MlaPlan]:
    return build_inputs(case).arguments() | {"lse": np.zeros((1, 16), np.float32)}, _plan(case)


def test_a_null_output_that_stage_1_writes_is_refused() -> None:
    """Upstream #2983: the launcher passed a null direct output to a kernel that writes there."""
    arguments, plan = _stage1_arguments(MlaCase(splits=2))
    with pytest.raises(TypeError, match=r"^mla_decode_fwd: o: expected a tensor.*, got None"):
        _C.mla_decode_stage1(**arguments | {"o": None}, plan=plan)


@pytest.mark.parametrize("given", ["logits", "attn_lse", "lse"])
def test_a_buffer_that_is_passed_is_used_and_the_others_are_allocated(given: str) -> None:
    case = MlaCase(splits=2)
    arguments, plan = _stage1_arguments(case)
    shapes = {"logits": (1, 2, 16, 512), "attn_lse": (1, 2, 16, 1), "lse": (1, 16)}
    del arguments["lse"]
    mine = np.full(shapes[given], np.nan, np.float32)
    with poisoned_scratch() as scratch:
        returned = dict(
            zip(("plan", "stream", *shapes), _C.mla_decode_stage1(**arguments | {given: mine}), strict=True)
        )
    assert returned[given] is mine and (given == "lse" or np.isfinite(mine).all())
    assert all(returned[name] is scratch.get(name) for name in shapes if name != given)
    assert returned["plan"] == plan and returned["stream"] == 0


def test_stage_2_refuses_a_plan_without_partials() -> None:
    arguments, plan = _stage1_arguments(MlaCase(splits=1))
    with pytest.raises(ValueError, match=r"plan\.writes_output: expected a plan with partials to merge"):
        _C.mla_decode_stage2(None, None, arguments["o"], arguments["lse"], arguments["qo_indptr"], plan=plan)


BAD_PLANS = [
    ({"batch": -1}, ValueError, "mla_plan: batch: expected 0 to 2147483647, got -1"),
    ({"num_heads": 0}, ValueError, "mla_plan: num_heads: expected 1 to 2147483647, got 0"),
    ({"num_heads": 129}, aiter_c.UnsupportedError, "mla_plan: num_heads: expected 1 to 128, got 129"),
    ({"max_seqlen_q": 0}, ValueError, "mla_plan: max_seqlen_q: expected 1 to 2147483647, got 0"),
    ({"page_size": 0}, ValueError, "mla_plan: page_size: expected 1 to 2147483647, got 0"),
    ({"num_kv_splits": 0}, ValueError, "mla_plan: num_kv_splits: expected None or -1 (automatic) or 1 to 2147483647, got 0"),
    ({"num_kv_splits": -2}, ValueError, "mla_plan: num_kv_splits: expected None or -1 (automatic) or 1 to 2147483647, got -2"),
    ({"kv_lora_rank": 256}, aiter_c.UnsupportedError, "mla_plan: kv_lora_rank + qk_rope_head_dim: expected 512 + 64 or 512 + 0, got 256 + 64"),
    ({"qk_rope_head_dim": 32}, aiter_c.UnsupportedError, "mla_plan: kv_lora_rank + qk_rope_head_dim: expected 512 + 64 or 512 + 0, got 512 + 32"),
    ({"device": "tpu"}, ValueError, "mla_plan: device: expected a device such as 'cpu', 'cuda:0' or 'hip:1', got 'tpu'"),
    ({"q_dtype": 3}, TypeError, "mla_plan: q_dtype: expected a dtype (a name such as 'bfloat16', or one of NumPy, ml_dtypes or torch), got 3"),
    ({"max_seqlen_q": 2**31}, ValueError, "mla_plan: max_seqlen_q: expected 1 to 2147483647, got 2147483648"),
    ({"batch": 2.0}, TypeError, "mla_plan: batch: expected int, got float"),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "error", "text"), BAD_PLANS)
def test_bad_requests(changed: dict, error: type, text: str) -> None:
    with pytest.raises(error) as caught:
        _plan(**changed)
    assert str(caught.value) == text and type(caught.value) is error


@pytest.mark.parametrize(
    ("q_dtype", "kv_dtype"), [("int32", "bfloat16"), ("bfloat16", "float32"), ("float8_e5m2", "bfloat16")]
)
def test_unserved_dtypes_name_the_nearest_kernel(q_dtype: str, kv_dtype: str) -> None:
    """UnsupportedError prints the request and the nearest row of the table with the column that failed."""
    with pytest.raises(aiter_c.UnsupportedError) as caught:
        _plan(q_dtype=q_dtype, kv_dtype=kv_dtype)
    column = "kv_dtype" if q_dtype == "bfloat16" else "q_dtype"
    assert f"q_dtype {q_dtype}, " in str(caught.value) and f"kv_dtype {kv_dtype}, " in str(caught.value)
    assert "the nearest is mla_decode_" in str(caught.value) and f"which differs in {column}" in str(caught.value)


def test_dtypes_by_name_numpy_ml_dtypes() -> None:
    import ml_dtypes

    for dtype in ("bfloat16", ml_dtypes.bfloat16, np.dtype(ml_dtypes.bfloat16)):
        assert _plan(q_dtype=dtype).q_dtype == "bfloat16"
    for dtype in ("float16", np.float16, np.dtype("float16")):
        assert _plan(q_dtype=dtype).q_dtype == "float16"
    with pytest.raises(TypeError, match="q_dtype: expected a dtype"):
        _plan(q_dtype=np.dtype(">f2"))


@pytest.mark.torch
def test_dtypes_of_torch() -> None:
    import torch

    plan = _plan(q_dtype=torch.bfloat16, kv_dtype=torch.float8_e4m3fnuz)
    assert (plan.q_dtype, plan.kv_dtype) == ("bfloat16", "float8_e4m3fnuz")


def test_the_kernel_table_says_what_writes_what() -> None:
    """Every decode kernel can write final rows, partials and the LSE: what the early return stands on."""
    rows = _C.kernel_table()
    decode = [row for row in rows if row["op"] == "mla_decode"]
    assert {row["arch"] for row in decode} == {*CPU_ARCHS, *GPU_ARCHS}
    for row in decode:
        assert row["writes_output"] and row["writes_partials"] and row["writes_lse"], row
        if row["arch"] in CPU_ARCHS:
            few = "_few_" in row["name"]
            assert row["tile_rows"] == (FEW_ROWS if few else TILE_ROWS) and row["object"] is None, row
        else:
            assert row["object"] and row["threads"] >= 64 and row["tile_rows"] >= 16, row
    assert _plan().stage1 in {row["name"] for row in rows}


@pytest.mark.parametrize("arch", GPU_ARCHS)
def test_a_gpu_serves_every_mix_that_the_cpu_serves(arch: str) -> None:
    """By the table: every pair of q and cache dtypes, both outputs, both records."""
    rows = [row for row in _C.kernel_table() if row["arch"] == arch and row["op"] == "mla_decode"]
    for q, kv, o in product(Q_DTYPES, KV_DTYPES, O_DTYPES):
        served = [r for r in rows if q in r["q_dtype"] and kv in r["kv_dtype"] and "plain" in r["kv_format"]]
        assert any(o in row["o_dtype"] for row in served), (q, kv, o)
    for q, kv_format in product(DTYPES_16, RECORD_FORMATS):
        assert any(q in row["q_dtype"] and kv_format in row["kv_format"] for row in rows), (q, kv_format)


def test_few_lists_of_records_get_smaller_tiles_on_sm_90a() -> None:
    """Where units would stay idle; not where it costs rounds, in a deterministic plan or on 16-bit keys."""

    def tile(
        batch: int, heads: int, deterministic: bool = False, kv_format: str = "fp8_ds_mla", splits: int = -1
    ) -> int:
        load, (name, version, fields) = _plan(num_kv_splits=None).__reduce__()
        kinds = {"fp8_ds_mla": ("uint8", "fp8_ds_mla"), "plain": ("bfloat16", "plain")}[kv_format]
        asked = (batch, heads, 1, 1, "bfloat16", *kinds, 512, 64, splits, 0, 2048 * batch, False, deterministic)
        assert len(fields) == len(asked) + 3
        plan = load(name, version, (*asked, "cuda:0", "sm_90a", 132))
        assert plan.grid == batch * plan.num_kv_splits * plan.row_tiles
        assert plan.tile_rows == 64 or plan.grid <= 132 or heads <= plan.tile_rows
        return plan.tile_rows

    assert [tile(1, heads) for heads in (16, 32, 64, 128)] == [16, 16, 16, 32]
    assert [tile(2, heads) for heads in (16, 32, 64, 128)] == [16, 16, 32, 64]
    assert [tile(16, heads) for heads in (16, 32, 64, 128)] == [16, 32, 64, 64]
    assert tile(1, 64, deterministic=True) == tile(1, 64, splits=4) == tile(1, 64, kv_format="plain") == 64


@pytest.mark.accelerators
def test_plans_of_a_device(device: Device) -> None:
    """The kernel is the device's, work items are counted the same way, and one request fills the chip."""
    archs = {(row["name"], row["arch"]) for row in _C.kernel_table()}
    for heads, q_len, splits in product((1, 16, 40, 128), (1, 3), (1, 4, None)):
        plan = _plan(num_heads=heads, max_seqlen_q=q_len, num_kv_splits=splits, device=device.place, max_kv_len=65536)
        assert plan.device == device.place and plan.compute_units > 100
        assert (plan.stage1, plan.arch) in archs and (plan.stage2 is None or (plan.stage2, plan.arch) in archs)
        assert plan.row_tiles == -(-heads * q_len // plan.tile_rows)
        assert plan.grid == 2 * plan.num_kv_splits * plan.row_tiles
        assert plan.num_kv_splits == splits or splits is None
    alone = mla_plan(1, 16, 1, 64, "bfloat16", "bfloat16", max_kv_len=65536, device=device.place)
    assert alone.compute_units / 2 <= alone.grid <= 4 * alone.compute_units, alone


def _cheapest(work_items: int, length: int, units: int) -> int:
    """csrc/ops/mla_decode/splits.c, written again: rounds of workgroups, 96 KV rows for what one spends around its rows,
    96 for a merge; runs of 64 rows at least."""
    most = max(1, min(length // 64, 256))

    def cost(splits: int) -> int:
        rounds = -(-work_items * splits // units)
        return rounds * (-(-length // splits) + 96) + (96 if splits > 1 else 0)

    return min(range(1, most + 1), key=cost)


@pytest.mark.accelerators
def test_splits_of_a_device_cost_the_least(device: Device) -> None:
    for batch, heads, length in product((1, 2, 7, 64, 300), (8, 16, 128), (40, 130, 200, 700, 1100, 8192, 65536)):
        plan = mla_plan(batch, heads, 1, 64, "bfloat16", "bfloat16", max_kv_len=length, device=device.place)
        want = _cheapest(batch * plan.row_tiles, length, plan.compute_units)
        assert plan.num_kv_splits == want, (batch, heads, length)


@pytest.mark.accelerators
def test_a_plan_of_another_device_is_refused(device: Device) -> None:
    """By field, before anything is written."""
    inputs = build_inputs(CASE)
    inputs.freeze()
    text = r"plan\.(device|arch): expected a plan made for {}, got one made for {}$"
    here, there = f"({device.place}|{device.name}|sm_90a)", f"(cpu|{_C.cpu_arch()})"
    with pytest.raises(ValueError, match=text.format(there, here)):
        mla_decode_fwd(**inputs.arguments(), plan=_plan(device=device.place))
    with pytest.raises(ValueError, match=text.format(here, there)):
        device.call("mla_decode_fwd", **inputs.arguments(), plan=_plan())
    inputs.check_untouched()


@pytest.mark.accelerators
@pytest.mark.parametrize("heads", [4, 16, 40, 128])
def test_a_deterministic_kernel_does_not_follow_the_longest_query(heads: int, device: Device) -> None:
    """Kernels of other tiles add in another order, so the choice must not depend on what else is in the batch."""

    def kernel(q_len: int, deterministic: bool) -> str:
        shape = (2, heads, q_len, 1, "bfloat16", "bfloat16")
        return mla_plan(*shape, deterministic=deterministic, device=device.place).stage1

    assert len({kernel(q_len, True) for q_len in (1, 2, 5, 16, 40)}) == 1
    if device.simulated and heads <= 16:  # where there are several tiles, the ordinary choice does follow it
        assert kernel(1, False) != kernel(40, False)


@pytest.mark.parametrize("fields", [{}, {"num_kv_splits": None}, {"kv_dtype": "3buffer"}, {"deterministic": True}])
def test_copies_and_pickles_are_equal_and_serve(fields: dict) -> None:
    plan = _plan(**fields)
    assert copy.copy(plan) is plan and copy.deepcopy({"metadata": plan})["metadata"] is plan
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        loaded = pickle.loads(pickle.dumps(plan, protocol))
        assert loaded == plan and hash(loaded) == hash(plan) and repr(loaded) == repr(plan)
    if not fields:
        run_case(CASE, plan=pickle.loads(pickle.dumps(plan)))


BAD_PICKLES = [
    (("OtherPlan", None, None), ValueError, r"load_plan: kind: expected a kind of plan, got 'OtherPlan'"),
    ((None, "0.0.9", None), ValueError, rf"load_plan: version: expected a plan of aiter_c {aiter_c.__version__}, got one of 0\.0\.9"),
    ((None, None, ()), ValueError, r"load_plan: inputs: expected 17 fields, got 0"),
    ((None, None, ("arch", "gfx900")), ValueError, r"load_plan: arch: expected one that this aiter_c knows, got 'gfx900'"),
    ((None, None, ("arch", "gfx950")), ValueError, r"load_plan: arch: expected one of device cpu, got gfx950"),
    ((None, None, ("compute_units", -(2**31))), ValueError, r"load_plan: compute_units: expected 1 to 2147483647, got -2147483648"),
    ((None, None, ("kv_format", "plain\0x")), ValueError, r"load_plan: kv_format: expected one that this aiter_c knows"),
    ((None, None, ("q_dtype", "bfloat16\0x")), TypeError, r"load_plan: q_dtype: expected a dtype"),
    ((None, None, ("batch", 2**31)), ValueError, r"load_plan: batch: expected -2147483648 \.\. 2147483647, got 2147483648"),
]  # fmt: skip
INPUTS = [
    "batch",
    "num_heads",
    "max_seqlen_q",
    "page_size",
    "q_dtype",
    "kv_dtype",
    "kv_format",
    "kv_lora_rank",
    "qk_rope_head_dim",
    "requested_kv_splits",
    "num_workers",
    "total_kv",
    "return_lse",
    "deterministic",
    "device",
    "arch",
    "compute_units",
]


@pytest.mark.parametrize(("changed", "error", "text"), BAD_PICKLES)
def test_pickles_of_another_world_are_refused(changed: tuple, error: type, text: str) -> None:
    load, (kind, version, inputs) = _plan().__reduce__()
    other_kind, other_version, field = changed
    if field:
        values = dict(zip(INPUTS, inputs, strict=True)) | {field[0]: field[1]}
        inputs = tuple(values.values())
    elif field is not None:
        inputs = field
    with pytest.raises(error, match=f"^{text}"):
        load(other_kind or kind, other_version or version, inputs)
