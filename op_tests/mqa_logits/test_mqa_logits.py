"""Every case in every element, and what the cases cannot say."""

from __future__ import annotations

import numpy as np
import pytest
from mqa_logits.cases import ALL, SMOKE, on_device
from signatures import plain

import aiter_c
from aiter_c.testing import Device, run_case
from aiter_c.testing.compare import check_outputs
from aiter_c.testing.ops.mqa_logits import LogitsCase, PagedLogitsCase, logits_reference


@pytest.mark.cases(ALL, on_device=on_device, smoke=SMOKE)
def test_case(case: LogitsCase | PagedLogitsCase, device: Device) -> None:
    run_case(case, device=device)


def test_ids_tell_the_cases_apart() -> None:
    assert len({case.id for case in ALL}) == len(ALL) == len(set(ALL))


def test_signatures_are_aiters() -> None:
    """Names, order and defaults; ours are keyword-only."""
    paged = (
        "(q_fp8, kv_cache, weights, out_logits, context_lens, kv_indices, max_model_len, Preshuffle=False, "
        "KVBlockSize=1, ChunkK=256, TotalCuCount=None, WavePerEU=2, VarCtxSchedule=None, *, clean_logits=True, "
        "q_dtype=None, kv_dtype=None, stream=None)"
    )
    assert plain(aiter_c.deepgemm_fp8_paged_mqa_logits) == paged
    ours = "*, q_dtype=None, kv_dtype=None, stream=None, logits=None)"
    names = "(Q, KV, kv_scales, weights, cu_starts, cu_ends, clean_logits=True, "
    assert plain(aiter_c.fp8_mqa_logits) == names + ours
    assert plain(aiter_c.flydsl_fp8_mqa_logits) == names + "stream=None, variant=None)"


def test_the_reference_on_numbers_that_a_person_can_add() -> None:
    q, keys = np.zeros((2, 128), np.float32), np.zeros((3, 128), np.float32)
    q[0, 0], q[1, 1], keys[0, 0], keys[1, 0], keys[1, 1], keys[2, 1] = 2, 3, 4, -5, 1, np.nan
    logits, _ = logits_reference(q, keys, np.array([1, 2, 3], np.float32), np.array([10, 100], np.float32))
    assert logits.tolist() == [80, 600, 0]


def test_the_flydsl_name_is_the_same_op() -> None:
    inputs = LogitsCase(rows=4, keys=90, window="causal", out=False, clean=True).inputs()
    arguments = inputs.arguments()
    want = aiter_c.fp8_mqa_logits(**arguments)
    assert aiter_c.flydsl_fp8_mqa_logits(**arguments, variant="mfma").tobytes() == want.tobytes()


@pytest.mark.parametrize("kind", [PagedLogitsCase, LogitsCase])
def test_what_another_call_left_in_the_scratch_does_not_show(kind: type) -> None:
    """All 64 weights of the call before are NaN."""
    aiter_c.set_num_threads(1)
    inputs = kind().inputs()
    inputs.array("weights")[...] = np.nan
    getattr(aiter_c, kind.op)(**inputs.arguments())
    run_case(kind(heads=3))
    aiter_c.set_num_threads(0)


@pytest.mark.parametrize("next_n", [1, 3])
def test_in_place_replay(next_n: int, device: Device) -> None:
    """Lengths and pages change in place between calls on the same tensors; nothing is remembered."""
    case = PagedLogitsCase(lens=(140, 90), next_n=next_n, heads=16)
    inputs = case.inputs()
    table = inputs.array("kv_indices").copy()
    for lens in ((140, 90), (3, 0), (90, 140)):
        inputs.array("context_lens")[:] = np.minimum(lens, (140, 90))
        inputs.array("kv_indices")[...] = table
        inputs.freeze()
        device.call(case.op, **inputs.arguments())
        check_outputs({"out_logits": inputs.array("out_logits")}, case.expected(inputs, device), case.repro)


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e4m3fnuz"])
def test_bits_of_a_logit_depend_on_its_row_and_key_alone(dtype: str, device: Device) -> None:
    """Not on the rows beside it, nor on how many keys there are: one request of three rows, each row by itself, and
    shorter contexts."""
    length = 2000 if device.simulated else 30_000  # on an H200 a workgroup has several tiles of these
    case = PagedLogitsCase(lens=(length,), next_n=3, q_dtype=dtype, kv_dtype=dtype)
    arguments = case.inputs().arguments()
    q, weights = arguments["q_fp8"], arguments["weights"]

    def logits(rows: slice, seen: int) -> np.ndarray:
        """Of the rows, the first of which sees `seen` keys."""
        count = len(range(3)[rows])
        out = np.full((count, length), np.nan, np.float32)
        given = {"q_fp8": q[:, rows], "weights": weights[rows], "out_logits": out}
        lens = np.array([seen + count - 1], np.int32)
        device.call(case.op, **arguments | given | {"context_lens": lens})
        return out

    together = logits(slice(3), length - 2)
    for row in range(3):
        seen = length - 2 + row
        for fewer in (0, 1, 700, length // 2 + 1):
            alone = logits(slice(row, row + 1), seen - fewer)
            assert alone[0, : seen - fewer].tobytes() == together[row, : seen - fewer].tobytes()
    shorter = logits(slice(3), 1000)
    assert all(shorter[row, : 1000 + row].tobytes() == together[row, : 1000 + row].tobytes() for row in range(3))
