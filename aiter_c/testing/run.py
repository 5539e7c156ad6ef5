"""Runs a case through the op and holds everything that the call promises against the reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from aiter_c import _C, MlaPlan, mla_plan

from .case import DTYPES_FP8, MlaCase
from .compare import check_close
from .device import CPU, Device
from .inputs import MlaInputs, build_inputs
from .reference import Reference
from .scratch import Scratch, poisoned_scratch
from .tolerance import LSE, OUTPUT, OUTPUT_FP8_P


@dataclass
class MlaResult:
    """o [T, H, 512] and lse [T, H] (or None) of one call, with the inputs, the scratch and what was expected."""

    inputs: MlaInputs
    expected: Reference
    o: np.ndarray
    lse: np.ndarray | None
    logits: np.ndarray
    scratch: Scratch
    p_dtype: str


def run_case(
    case: MlaCase,
    op: Callable | None = None,
    *,
    device: Device = CPU,
    p_dtype: str | None = None,
    **extra: object,
) -> MlaResult:
    """Builds, calls, checks. Raises AssertionError with a one-line repro.

    op: device.decode, which is mla_decode_fwd on that device, unless given; extra: more keyword arguments for it.
    p_dtype: in which the kernel multiplies probabilities and values; unless given, by the kernel that the plan has.
    """
    if op is None:
        op = device.decode
        if device.copies:  # half of the cases without margins: there the device itself guards the ends
            extra.setdefault("exact", case.seed % 2 == 1 or case.page_size % 2 == 0)
    if p_dtype is None:
        p_dtype = p_dtype_of(case, device)
    inputs = build_inputs(case)
    inputs.freeze()
    with poisoned_scratch() as scratch:
        logits, lse = op(**inputs.arguments() | extra)
    inputs.check_untouched()
    scratch.check_margins(case.repro)
    expected = inputs.reference(p_dtype=p_dtype)
    o = inputs.array("o")
    check_output(case, o, expected, p_dtype=p_dtype)
    check_lse(case, lse, expected)
    check_logits_shape(case, logits, o)
    return MlaResult(inputs, expected, o, lse, logits, scratch, p_dtype)


def plan_of(case: MlaCase, device: Device = CPU) -> MlaPlan:
    """The plan of the case's call with one split."""
    kv_dtype = case.kv_dtype if case.kv_format == "plain" else case.kv_format
    shape = (case.batch, case.heads, case.served_q_len, case.page_size)
    options = {"num_kv_splits": 1, "qk_rope_head_dim": case.rope, "device": device.place}
    return mla_plan(*shape, case.q_dtype, kv_dtype, **options)


def p_dtype_of(case: MlaCase, device: Device = CPU) -> str:
    """The type of p in the stage 1 kernel that serves the case there, from the kernel table."""
    plan = plan_of(case, device)
    found = [
        row["p_dtype"]
        for row in _C.kernel_table()
        if row["name"] == plan.stage1 and (device.place == "cpu" or row["arch"] == plan.arch)
    ]
    assert len(found) == 1, f"{plan.stage1} on {plan.arch}: {len(found)} rows of the kernel table"
    return found[0]


def check_output(case: MlaCase, o: np.ndarray, expected: Reference, *, p_dtype: str = "float32") -> None:
    """o of every served row; rows that no request owns, or past max_seqlen_q, still hold the NaN they started with."""
    written = expected.written
    kept = np.isnan(o[~written].astype(np.float32))
    assert kept.all(), f"o: a row that no request owns was written\n  {case.repro}"
    empty = written[:, None] & np.isneginf(expected.lse)
    wrong = (o[empty].astype(np.float32) != 0).any(axis=1)
    if wrong.any():
        row, head = np.argwhere(empty)[np.flatnonzero(wrong)[0]]
        raise AssertionError(f"o: [{row}, {head}] sees no key: expected 0, got {o[row, head, :4]}...\n  {case.repro}")
    check_close(
        f"o (rows {_text_of_rows(written)})",
        o[written],
        expected.o[written],
        OUTPUT_FP8_P if p_dtype in DTYPES_FP8 else OUTPUT,
        case.repro,
        allowance=expected.rounding[written] if p_dtype != "float32" else 0.0,
    )


def check_lse(case: MlaCase, lse: np.ndarray | None, expected: Reference) -> None:
    """fp32 [T, H], contiguous, every row; None when not asked."""
    if not case.return_lse:
        assert lse is None, f"lse: expected None, got {type(lse)}\n  {case.repro}"
        return
    assert lse is not None, f"lse: expected a tensor, got None\n  {case.repro}"
    assert lse.dtype == np.float32 and lse.flags["C_CONTIGUOUS"], f"lse: got {lse.dtype} {lse.strides}\n  {case.repro}"
    check_close("lse", lse, expected.lse, LSE, case.repro, allowance=expected.lse_rounding)


def check_logits_shape(case: MlaCase, logits: np.ndarray, o: np.ndarray) -> None:
    """SPEC 2.2.4: `o` itself after the early return, else float32 [T, S, H, 512]; S as asked for."""
    if logits is o:
        count = max(case.splits, default=1) if isinstance(case.splits, tuple) else case.splits
        assert count in (None, -1, 0, 1), f"logits: expected partials of {count} splits, got o\n  {case.repro}"
        return
    assert logits.dtype == np.float32, f"logits: expected float32, got {logits.dtype}\n  {case.repro}"
    shape = (case.num_rows, logits.shape[1], case.heads, 512)
    assert logits.shape == shape and logits.shape[1] > 1, (
        f"logits: expected {shape}, got {logits.shape}\n  {case.repro}"
    )
    asked = max((1, *case.splits)) if isinstance(case.splits, tuple) else case.splits
    assert asked in (None, -1, logits.shape[1]), f"logits: expected {asked} splits, got {logits.shape}\n  {case.repro}"


def _text_of_rows(written: np.ndarray) -> str:
    """Which rows of o the coordinates of a message count, when not all of them."""
    if written.all():
        return "all"
    shown = np.flatnonzero(written)
    return f"{shown[:6].tolist()}{'...' if len(shown) > 6 else ''}"
