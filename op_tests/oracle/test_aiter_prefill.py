"""AITER's own absorbed prefill kernels beside mla_prefill_fwd: an oracle that nobody here wrote (README.md)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pytest
from oracle import code_objects, prefill
from oracle.kernels import ARCHS, PAGE_INDICES

from aiter_c.testing import OUTPUT, Device, MlaCase, MlaInputs, check_close

pytestmark = pytest.mark.aiter


@dataclass(frozen=True)
class Call:
    """A kernel's architecture, and the call."""

    arch: str
    case: MlaCase

    @property
    def id(self) -> str:
        return f"h{self.case.heads}-{'-'.join(self.case.words[1:4])}"

    def inputs(self) -> MlaInputs:
        """The kernels read slots that no row sees (and multiply them by 0): those are 0 instead of NaN."""
        inputs = self.case.inputs()
        pool = inputs.array("kv_buffer")
        pool[np.isnan(pool.astype(np.float32))] = 0
        inputs.array("kv_last_page_lens")[...] = 1
        return inputs

    def run(self, inputs: MlaInputs) -> prefill.Prefilled:
        """One launch."""
        return prefill.run(self.arch, code_objects.read(self.arch, prefill.NAMES[self.case.heads]), inputs)


#: Whole and broken tiles of 128 pairs and of 16 keys, ragged, keys more than query rows, one row alone.
LENS = (((9, 20), (40, 20)), ((33, 1, 17), (33, 150, 64)), ((8,), (129,)))
CALLS = [
    Call(arch, MlaCase(heads=heads, q_lens=q, kv_lens=kv, trend=20.0 * (len(q) > 1)))
    for arch in ARCHS
    for heads in prefill.NAMES
    for q, kv in LENS
]


def _there(all_: list, device: Device) -> list:
    """Those of the device's architecture; the kernels run in the simulator alone."""
    return [one for one in all_ if device.simulated and one.arch == device.name]


def test_which_kernels_are_driven() -> None:
    """All four of the wheel: 16 and 128 heads, on either architecture."""
    wheel = {(arch, name) for arch in ARCHS for name in code_objects.names(arch) if "_pfl_" in name}
    assert wheel == {(arch, name) for arch in ARCHS for name in prefill.NAMES.values()} and len(wheel) == 4


@pytest.mark.accelerators
@pytest.mark.cases(CALLS, on_device=_there)
def test_rows(case: Call, device: Device) -> None:
    """The kernel's rows against fp64, and beside ours; the LSE that AITER returns is memory that nobody wrote."""
    inputs = case.inputs()
    written = case.run(inputs)
    reference = inputs.reference(p_dtype="bfloat16")
    repro = case.case.repro
    check_close("AITER's rows", written.o, reference.o, OUTPUT, repro, allowance=reference.rounding)
    assert np.isnan(written.lse).all()
    given = inputs.arguments()
    for name in ("num_kv_splits", "page_size", "return_lse", "deterministic"):
        del given[name]
    o, lse = device.call("mla_prefill_fwd", **given)
    # Two kernels, each within its tolerance of fp64: errors add up, and angles, whose square 1 - cosine is half of.
    apart = 2 * reference.rounding + OUTPUT.absolute + OUTPUT.relative * np.abs(reference.o)
    both = replace(OUTPUT, cosine=4 * OUTPUT.cosine, row_cosine=4 * OUTPUT.row_cosine)
    check_close("AITER's rows beside ours", written.o, o.astype(np.float64), both, repro, allowance=apart)
    assert np.isfinite(lse).all()
    found = Counter((finding.kind, finding.text.split(": ", 1)[1].split()[0]) for finding in written.findings)
    assert found.keys() <= PAGE_INDICES.keys()


@pytest.mark.accelerators
@pytest.mark.cases(CALLS[2 :: len(LENS)], on_device=_there)
def test_a_wrong_list_is_seen(case: Call, device: Device) -> None:
    """The comparison above can fail: one key of another slot, or one key less."""
    for name, at, change in (("kv_indices", 3, 1), ("kv_indptr", 1, -1)):
        inputs = case.inputs()
        reference = inputs.reference(p_dtype="bfloat16")
        values = inputs.array(name)
        values[at] = values[at + 1] if change == 1 else values[at] + change
        written = case.run(inputs)
        with pytest.raises(AssertionError, match="elements outside"):
            check_close("rows", written.o, reference.o, OUTPUT, case.case.repro, allowance=reference.rounding)
