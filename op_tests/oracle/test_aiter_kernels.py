"""AITER's own persistent decode kernels on our work lists: an oracle that nobody here wrote (README.md)."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import ml_dtypes
import numpy as np
import pytest
from gfxsim import Finding, HipError
from oracle import code_objects, launch
from oracle.cases import ALL, CASES, OracleCase, call_of, every_way, split_every_second
from oracle.kernels import ARCHS, KERNELS, LATER, NOT_DRIVEN, Kernel
from oracle.launch import Lists, Written

from aiter_c.testing import LSE, OUTPUT, OUTPUT_FP8_P, Device, MlaInputs, Tolerance, attend, check_close
from aiter_c.testing.ops.attention import Attended, last_visible
from aiter_c.testing.ops.mla_decode import DTYPES_FP8

pytestmark = pytest.mark.aiter


def _there(all_: list, device: Device) -> list:
    """Those of the device's architecture; the kernels run in the simulator alone."""
    return [one for one in all_ if device.simulated and one.arch == device.name]


def test_which_kernels_are_driven() -> None:
    """15 kernels, 6 on gfx942 and 9 on gfx950: all that have _ps in their names. What a newer AITER has besides (heads
    8, 32 and 64, an LSE of final rows, context parallel, the 3buffer cache) is not in this wheel."""
    wheel = {(arch, name) for arch in ARCHS for name in code_objects.names(arch) if "_ps" in name}
    driven = {(kernel.arch, kernel.name) for kernel in KERNELS}
    assert driven | set(NOT_DRIVEN) == wheel and not driven & set(NOT_DRIVEN)
    assert Counter(arch for arch, _ in driven) == {"gfx942": 6, "gfx950": 9}
    assert all(CASES[kernel] for kernel in KERNELS)


@dataclass
class Rows:
    """Final rows in fp64, gathered from items: o and, as in Attended, the bound of the kernel's rounding."""

    o: np.ndarray
    rounding: np.ndarray
    lse: np.ndarray

    @classmethod
    def none(cls, rows: int, heads: int) -> Rows:
        return cls(np.zeros((rows, heads, 512)), np.zeros((rows, heads, 512)), np.full((rows, heads), -np.inf))

    def add(self, row: int, more: Attended) -> None:
        """By log-sum-exp."""
        lse = np.logaddexp(self.lse[row], more.lse)
        old, new = (np.exp(part - lse)[:, None] for part in (self.lse[row], more.lse))
        self.o[row] = old * self.o[row] + new * more.o
        self.rounding[row] = old * self.rounding[row] + new * more.rounding
        self.lse[row] = lse


def _tolerance(case: OracleCase) -> Tolerance:
    """The kernels round probabilities to the type of q."""
    return OUTPUT_FP8_P if case.call.q_dtype in DTYPES_FP8 else OUTPUT


def _check_items(case: OracleCase, inputs: MlaInputs, lists: Lists, written: Written) -> Rows:
    """Every item's rows against fp64 attention over the keys of the item that the row sees."""
    call = case.call
    q_scale = call.q_scale if call.q_is_fp8 else 1.0
    kv_scale = call.kv_scale if call.kv_is_fp8 else 1.0
    scales = (call.softmax_scale * q_scale * kv_scale, kv_scale)
    out = Rows.none(call.num_rows, call.heads)
    for number, item in enumerate(lists.items.tolist()):
        _, partial, q_begin, q_end, kv_begin, kv_end, _, _ = item
        request, first = case.place_of(inputs, item)
        owned, slots = inputs.q_rows[request], inputs.kv_lists[request].slots
        begin, end = ((at - first) * call.page_size for at in (kv_begin, kv_end))
        for row in range(q_begin, q_end):
            seen = last_visible(row - owned.start, len(owned), len(slots), True)
            keys = inputs.read_rows(slots[begin : max(begin, min(end, seen))])
            want = attend(inputs.q_values[row], keys, *scales, p_dtype=call.q_dtype)
            out.add(row, want)
            name, at = f"item {number}, row {row}", partial + row - q_begin
            got = written.o[row] if partial < 0 else written.partials[at]
            check_close(name, got, want.o, _tolerance(case), case.repro, allowance=want.rounding)
            if partial >= 0:
                check_close(f"LSE of {name}", written.lse[at], want.lse, LSE, case.repro, allowance=want.lse_rounding)
    return out


def _merged(case: OracleCase, lists: Lists, written: Written, device: Device) -> np.ndarray:
    """The final rows: those of the kernel, and its partials merged by our mla_reduce_v1."""
    o = written.o.copy()
    if len(written.partials):
        longest = case.call.served_q_len
        device.call("mla_reduce_v1", written.partials, written.lse, *lists.reduction, longest, 0, o)
    return o


def _ours(inputs: MlaInputs, device: Device, **lists: np.ndarray) -> np.ndarray:
    """What our decode writes for the same call: on the same lists, or on none."""
    arguments = inputs.arguments()
    arguments["o"] = np.full_like(inputs.array("o"), np.nan)
    device.call("mla_decode_fwd", **arguments | {"return_lse": False} | lists)
    return arguments["o"]


def _check_beside(case: OracleCase, got: np.ndarray, ours: np.ndarray, rows: Rows, name: str) -> None:
    """Two kernels, each within its tolerance of fp64: errors add up, and angles, whose square 1 - cosine is half of."""
    one = _tolerance(case)
    apart = 2 * rows.rounding + one.absolute + one.relative * np.abs(rows.o)
    both = replace(one, cosine=4 * one.cosine, row_cosine=4 * one.row_cosine)
    check_close(name, got, ours.astype(np.float64), both, case.repro, allowance=apart)


def _name(finding: Finding) -> tuple[str, str]:
    """What was found, and the instruction."""
    return finding.kind, finding.text.split(": ", 1)[1].split()[0]


@pytest.mark.accelerators
@pytest.mark.cases(ALL, on_device=_there)
def test_rows(case: OracleCase, device: Device) -> None:
    """What the kernel wrote, item by item; and, merged by us, the same rows as ours."""
    inputs = case.inputs()
    lists = case.lists(inputs, device)
    written = case.run(inputs, lists)
    rows = _check_items(case, inputs, lists, written)
    merged = _merged(case, lists, written, device)
    _check_beside(case, merged, _ours(inputs, device), rows, "rows beside ours")
    ours = _ours(case.placed(inputs), device, **vars(lists))
    _check_beside(case, merged, ours, rows, "rows beside ours on the same lists")
    assert {_name(finding) for finding in written.findings} <= set(case.kernel.hazards)


def test_the_kernels_of_the_later_commit_are_counted() -> None:
    """Without its objects these five are skipped, and no others."""
    assert len(LATER) == 5 and all(kernel.later for kernel in LATER) and not any(kernel.later for kernel in KERNELS)


@pytest.mark.skipif(not code_objects.later_available(), reason=code_objects.LATER_MISSING)
@pytest.mark.parametrize("kernel", LATER, ids=lambda kernel: kernel.id)
def test_rows_of_the_later_commit(kernel: Kernel) -> None:
    """Whole requests, one for each worker."""
    case = OracleCase(kernel, call_of(kernel, (max(kernel.q_lens),) * 2, (200, 77)), 2)
    inputs = case.inputs()
    starts = inputs.array("kv_indptr")
    items = [
        [request, -1, rows.start, rows.stop, starts[request], starts[request + 1], 0, 0]
        for request, rows in enumerate(inputs.q_rows)
    ]
    array = lambda values: np.array(values, np.int32)  # noqa: E731
    lists = Lists(array([0, 1, 2]), array(items), array([0]), np.zeros((0, 2), np.int32), array([]))
    _check_items(case, inputs, lists, case.run(inputs, lists))


def _with_a_barrier(code: bytes) -> bytes:
    """`a8w8_h32_q4` with a barrier between its reads of q from LDS and its first loads of keys to LDS. Four registers
    are cleared there, which two instructions can do as well."""
    clear, clear_pair = (  # v_mov_b32, v_mov_b64 of 0
        lambda reg, op=op: struct.pack("<I", 0x7E000080 | op << 9 | reg << 17) for op in (1, 56)
    )
    wait, barrier, nop = (struct.pack("<I", word) for word in (0xBF8CC07F, 0xBF8A0000, 0xBF800000))
    before = b"".join(map(clear, range(220, 224))) + wait
    assert code.count(before) == 1
    return code.replace(before, clear_pair(220) + clear_pair(222) + wait + barrier + nop)


@pytest.mark.skipif(not code_objects.later_available(), reason=code_objects.LATER_MISSING)
def test_a_missing_barrier() -> None:
    """The last token's rows of `a8w8_h32_q4` hang on the order of waves, as keys may be loaded to LDS over the q that
    its wave has not read: with a barrier there they are right in any order, and nothing races."""
    (kernel,) = (kernel for kernel in LATER if kernel.id == "a8w8_h32_q4")
    case = every_way(kernel)
    inputs = case.inputs()
    lists = split_every_second(inputs)

    def rows(code: bytes, **order: int) -> tuple[np.ndarray, set[str]]:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in order.items():
                patch.setitem(launch.OPTIONS, name, value)
            written = launch.run(kernel.arch, code, inputs, lists, kernel.later)
        return written.o.astype(np.float32), {finding.kind for finding in written.findings}

    right, kinds = rows(kernel.code)
    assert "LDS race" in kinds
    for order in ({"quantum": 4096}, {"seed": 2}, {"seed": 3}):
        wrong = ~np.isclose(rows(kernel.code, **order)[0], right, rtol=0.02, atol=0.02, equal_nan=True)
        assert set(np.nonzero(wrong.any((1, 2)))[0] % 4) == {3}
        fixed, kinds = rows(_with_a_barrier(kernel.code), **order)
        np.testing.assert_allclose(fixed, right, rtol=0.02, atol=0.02)
        assert "LDS race" not in kinds


@pytest.mark.accelerators
@pytest.mark.cases(KERNELS, on_device=_there)
def test_hazards(case: Kernel, device: Device) -> None:
    """The simulator finds in each kernel what kernels.py lists, no more and no less."""
    call = every_way(case)
    inputs = call.inputs()
    findings = call.run(inputs, split_every_second(inputs)).findings
    found = {(finding.offset, finding.kind): _name(finding) for finding in findings}
    assert Counter(found.values()) == case.hazards


@pytest.mark.accelerators
@pytest.mark.cases([CASES[kernel][0] for kernel in KERNELS], on_device=_there)
def test_races_are_true(case: OracleCase, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """With waves as far ahead of each other as barriers allow, kernels with races write wrong rows, and no others."""
    monkeypatch.setitem(launch.OPTIONS, "quantum", 4096)
    inputs = case.inputs()
    lists = case.lists(inputs, device)
    written = case.run(inputs, lists)
    if any(kind == "LDS race" for kind, _ in case.kernel.hazards):
        with pytest.raises(AssertionError, match="item"):
            _check_items(case, inputs, lists, written)
    else:
        _check_items(case, inputs, lists, written)


# ---- what the comparison can see


def _pieces(lists: Lists) -> np.ndarray:
    """The numbers of the items that write partials."""
    pieces = np.flatnonzero(lists.items[:, 1] >= 0)
    assert len(pieces) >= 4
    return pieces


def _end_early(lists: Lists) -> None:
    lists.work_info_set[_pieces(lists)[0], 5] -= 16


def _begin_late(lists: Lists) -> None:
    lists.work_info_set[_pieces(lists)[1], 4] += 16


def _forget_what_follows(lists: Lists) -> None:
    """The first piece claims to end with the request's last key, and masks its own last keys."""
    lists.work_info_set[_pieces(lists)[0], 6] = 0


def _the_same_partial_twice(lists: Lists) -> None:
    first, second = _pieces(lists)[:2]
    lists.work_info_set[second, 1] = lists.work_info_set[first, 1]


def _swap_rows(lists: Lists) -> None:
    lists.work_info_set[[0, -1], 2:4] = lists.work_info_set[[-1, 0], 2:4]


def _leave_an_entry_out(lists: Lists) -> None:
    lists.reduce_indptr[lists.reduce_indptr == lists.reduce_indptr[-1]] -= 1


BUGS = (_end_early, _begin_late, _forget_what_follows, _the_same_partial_twice, _swap_rows, _leave_an_entry_out)
SPLIT = [CASES[kernel][3] for kernel in KERNELS if kernel.q_dtype == "bfloat16"]  # four query rows, the first batch


@pytest.mark.accelerators
@pytest.mark.cases(SPLIT, on_device=_there)
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__.strip("_"))
def test_a_wrong_list_is_seen(bug: Callable[[Lists], None], case: OracleCase, device: Device) -> None:
    """In the rows beside ours; item by item it may be right."""
    inputs = case.inputs()
    lists = case.lists(inputs, device)
    rows = _check_items(case, inputs, lists, case.run(inputs, lists))
    bug(lists)
    merged = _merged(case, lists, case.run(inputs, lists), device)
    with pytest.raises(AssertionError, match="rows beside ours"):
        _check_beside(case, merged, _ours(inputs, device), rows, "rows beside ours")


# ---- what AITER does otherwise: kept here so that it is known, and noticed when it changes


def _first(kernels: list[Kernel]) -> list[OracleCase]:
    return [CASES[kernel][0] for kernel in kernels]


@pytest.mark.accelerators
@pytest.mark.cases(_first(KERNELS), on_device=_there)
def test_they_read_slots_that_no_row_sees(case: OracleCase, device: Device) -> None:
    """A NaN in slot 0, which no list names, gets into rows: positions past a list's end read it and weigh it with 0."""
    inputs = case.inputs()
    inputs.array("kv_buffer")[0] = np.nan
    written = case.run(inputs, case.lists(inputs, device))
    assert np.isnan(written.o.astype(np.float32)).any() or np.isnan(written.partials).any()


def _short(kernel: Kernel) -> OracleCase:
    """A request without keys, and one with fewer keys than query rows."""
    call = CASES[kernel][0].call
    return OracleCase(kernel, type(call)(**vars(call) | {"q_lens": (2, 2, 2), "kv_lens": (64, 0, 1)}), 3)


SHORT = [_short(kernel) for kernel in KERNELS if kernel.heads == 16 and max(kernel.q_lens) > 1]


@pytest.mark.accelerators
@pytest.mark.cases(SHORT, on_device=_there)
def test_rows_that_see_no_key(case: OracleCase, device: Device) -> None:
    """Those of a request without keys are not written; those before the first key get all the keys of the item."""
    inputs = case.inputs()
    items = np.array([(0, -1, 0, 2, 0, 64, 0, 0), (1, -1, 2, 4, 64, 64, 0, 0), (2, 0, 4, 6, 64, 65, 0, 0)], np.int32)
    lists = Lists(np.arange(4, dtype=np.int32), items, *split_every_second(inputs).reduction)
    written = case.run(inputs, lists)
    assert np.isnan(written.o[2:].astype(np.float32)).all() and not np.isnan(written.o[:2].astype(np.float32)).any()
    key = inputs.read_rows(inputs.kv_lists[2].slots)[0, :512] * (case.call.kv_scale if case.call.kv_is_fp8 else 1.0)
    np.testing.assert_allclose(written.partials, np.broadcast_to(key, written.partials.shape), rtol=1 / 16)
    assert np.isfinite(written.lse).all()


@pytest.mark.accelerators
@pytest.mark.cases(_first([k for k in KERNELS if not k.scales_values]), on_device=_there)
def test_fp8_of_four_tokens_leaves_kv_scale_out(case: OracleCase, device: Device) -> None:
    """Without the correction the rows are as if kv_scale were 1: four times too large."""
    inputs = case.inputs()
    lists = case.lists(inputs, device)
    raw = OracleCase(_scaling(case.kernel), case.call, case.workers).run(inputs, lists)
    corrected = case.run(inputs, lists)
    four = ml_dtypes.bfloat16(1 / case.call.kv_scale)
    whole = [row for item in lists.items.tolist() if item[1] < 0 for row in range(item[2], item[3])]
    assert whole and np.array_equal(raw.o[whole], corrected.o[whole] * four)


def _scaling(kernel: Kernel) -> Kernel:
    return Kernel(**{**vars(kernel), "scales_values": True})


@pytest.mark.accelerators
@pytest.mark.cases(_first([k for k in KERNELS if k.whole_tiles]), on_device=_there)
def test_fp8_of_two_tokens_takes_two_rows(case: OracleCase, device: Device) -> None:
    """Of q, of the partials and of the output, also for a request that has one: past their ends, or the next one's."""
    call = case.call
    short = OracleCase(case.kernel, type(call)(**vars(call) | {"q_lens": (2, 1, 1, 1), "max_seqlen_q": 2}), 5)
    inputs = short.inputs()
    with pytest.raises(HipError) as caught:
        short.run(inputs, short.lists(inputs, device))
    assert caught.value.report is not None and caught.value.report.kind == "global bounds"
