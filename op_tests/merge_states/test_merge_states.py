"""merge_states and merge_attn_states against the fp64 reference: every case of cases.py, and what the case objects do
not reach: outputs in place, equal bits however the states come."""

from __future__ import annotations

import mmap
from collections.abc import Iterator

import numpy as np
import pytest
from merge_states.cases import ALL, SMOKE, on_device
from signatures import plain

import aiter_c
from aiter_c.testing import Device, check_bits, run_case
from aiter_c.testing.ops.merge_states import MergeStatesCase, MergeStatesInputs

BOTH = ("out", "lse_out")


@pytest.mark.cases(ALL, on_device=on_device, smoke=SMOKE)
def test_case(case: MergeStatesCase, device: Device) -> None:
    run_case(case, device=device)


def test_ids_tell_the_cases_apart() -> None:
    assert len({case.id for case in ALL}) == len(ALL)


def test_signatures_are_pinned() -> None:
    text = "(o, lse, out=None, lse_out=None, lse_layout='th', *, sink=None, stream=None)"
    assert plain(aiter_c.merge_states) == text
    text = "(output, prefix_output, prefix_lse, suffix_output, suffix_lse, output_lse=None, *, sink=None, stream=None)"
    assert plain(aiter_c.merge_attn_states) == text


def _call(inputs: MergeStatesInputs, device: Device, **changes: object) -> tuple[np.ndarray, np.ndarray]:
    """Copies of out and LSE, whatever the op."""
    arguments = inputs.arguments() | changes
    returned = device.call(inputs.case.op, **arguments)
    if returned is None:
        returned = arguments["output"], arguments["output_lse"]
    return np.array(returned[0]), np.array(returned[1])


#: Of one state's place, in both layouts and forms: a row in one step and in several, vectors that are whole and not,
#: states in one group of loads and in several, states that hold nothing.
IN_PLACE = [
    MergeStatesCase(states=n, rows=3, heads=5, dim=dim, o_dtype=o_dtype, layout=layout, strided=strided, empty=empty,
                    aligned=aligned, sink=dim == 512)
    for n, dim, o_dtype, layout, strided, empty, aligned in (
        (2, 512, "bfloat16", "th", False, "none", True), (2, 128, "float16", "ht", True, "some", True),
        (3, 65, "float32", "th", True, "some", False), (9, 1100, "bfloat16", "ht", False, "some", False),
        (7, 1536, "float32", "th", False, "none", True), (1, 64, "bfloat16", "th", False, "none", False),
    )
]  # fmt: skip


def _in_place(case: MergeStatesCase, place: int, device: Device) -> tuple[np.ndarray, np.ndarray]:
    """The outputs over those of state number `place`."""
    inputs = case.inputs()
    if case.form == "tensor":
        out, lse_out = inputs.array("o")[place], inputs.array("lse")[place]
    elif case.form == "sequence":
        out, lse_out = inputs.array(f"o[{place}]"), inputs.array(f"lse[{place}]")
    else:
        side = ("prefix", "suffix")[place]
        out, lse_out = inputs.array(f"{side}_output"), inputs.array(f"{side}_lse")
    names = ("output", "output_lse") if case.form == "two" else BOTH
    got = _call(inputs, device, **dict(zip(names, (out, lse_out), strict=True)))
    for name, given, returned in zip(BOTH, (out, lse_out), got, strict=True):
        check_bits(name, np.array(given), returned, case.repro)
    return got


@pytest.mark.smoke
@pytest.mark.parametrize("case", IN_PLACE, ids=lambda case: case.id)
@pytest.mark.parametrize("form", ["tensor", "sequence"])
def test_the_same_bits_in_place(form: str, case: MergeStatesCase, device: Device) -> None:
    """Over any state's o and LSE, those of others untouched by it."""
    case = MergeStatesCase(**{**vars(case), "form": form})
    want = _call(case.inputs(), device)
    for place in {0, case.states // 2, case.states - 1}:
        for name, got, expected in zip(BOTH, _in_place(case, place, device), want, strict=True):
            check_bits(f"{name} over state {place}", got, expected, case.repro)


@pytest.mark.smoke
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("dim", [128, 65])
def test_the_same_bits_in_place_in_vllms_form(dim: int, place: int, device: Device) -> None:
    case = MergeStatesCase(form="two", given=True, layout="ht", heads=5, dim=dim, empty="some", aligned=dim == 128)
    want = _call(case.inputs(), device)
    for name, got, expected in zip(BOTH, _in_place(case, place, device), want, strict=True):
        check_bits(name, got, expected, case.repro)


def test_other_states_are_not_written_in_place(device: Device) -> None:
    for form in ("tensor", "sequence"):
        case = MergeStatesCase(states=3, heads=5, dim=96, form=form, strided=form == "tensor")
        inputs = case.inputs()
        before = {name: block.array.copy() for name, block in inputs.blocks.items()}
        names = ("o", "lse") if form == "tensor" else ("o[1]", "lse[1]")
        parts = [inputs.array(name)[1] if form == "tensor" else inputs.array(name) for name in names]
        for block in inputs.blocks.values():
            block.freeze()
        _call(inputs, device, out=parts[0], lse_out=parts[1])
        for name, block in inputs.blocks.items():
            one = form == "tensor" or name.endswith("[1]")
            assert block.first_change(of_elements=not one) is None, name
            others = [0, 2] if form == "tensor" else []
            assert block.array[others].tobytes() == before[name][others].tobytes(), name


@pytest.fixture
def threads() -> Iterator[None]:
    """The number of threads is as it was afterwards."""
    before = aiter_c.get_num_threads()
    yield
    aiter_c.set_num_threads(before)


def _states(inputs: MergeStatesInputs) -> tuple[np.ndarray, np.ndarray]:
    """Dense copies [N, T, H, D] and [N, T, H] of what a case in one tensor has."""
    lse = inputs.array("lse")
    if inputs.case.layout == "ht":
        lse = lse.swapaxes(1, 2)
    return np.array(inputs.array("o")), np.array(lse, order="C")


@pytest.mark.smoke
@pytest.mark.parametrize("dim", [64, 128, 256, 512, 515, 1028])
@pytest.mark.parametrize("o_dtype", ["bfloat16", "float32"])
def test_the_same_bits_however_the_states_come(o_dtype: str, dim: int, device: Device, threads: None) -> None:
    """One tensor or several, dense or strided, at any address, in any layout; with any rows beside; on any number of
    threads: a rank gets what every other rank gets."""
    case = MergeStatesCase(states=5, rows=5, heads=7, dim=dim, o_dtype=o_dtype, strided=True, empty="some")
    inputs = case.inputs()
    want = _call(inputs, device)
    o, lse = _states(inputs)
    shifted = np.zeros(o.size + 1, o.dtype)[1:].reshape(o.shape)
    shifted[...] = o
    forms = {
        "dense": (o, lse, {}),
        "shifted": (shifted, lse, {}),
        "a list": ([part.copy() for part in o], list(lse), {}),
        "heads first": (tuple(o), [part.T for part in lse], {"lse_layout": "ht"}),
        "heads first, dense": (o, lse.swapaxes(1, 2).copy(), {"lse_layout": "ht"}),
    }
    for count in (1, 2, 3):
        aiter_c.set_num_threads(count)
        for form, (values, lses, options) in forms.items():
            out, lse_out = device.call("merge_states", values, lses, **options)
            check_bits(f"out, {form}", np.array(out), want[0], case.repro)
            turned = np.array(lse_out.T if options else lse_out, order="C")
            check_bits(f"lse_out, {form}", turned, want[1], case.repro)
        if device.place != "cpu":
            break
    for row in range(5):
        out, lse_out = device.call("merge_states", o[:, row : row + 1, 2:3], lse[:, row : row + 1, 2:3])
        check_bits(f"out of row {row} alone", np.array(out[0, 0]), want[0][row, 2], case.repro)
        assert np.array(lse_out)[0, 0].tobytes() == want[1][row, 2].tobytes()


def test_vllms_form_is_merge_states_of_two(device: Device) -> None:
    case = MergeStatesCase(heads=5, dim=200, empty="some", sink=True)
    inputs = case.inputs()
    o, lse = _states(inputs)
    want = _call(inputs, device)
    out, lse_out = np.full_like(o[0], np.nan), np.full((5, 3), np.nan, np.float32)
    two = out, o[0], lse[0].T, o[1], lse[1].T, lse_out
    assert device.call("merge_attn_states", *two, sink=inputs.array("sink")) is None
    check_bits("out", out, want[0], case.repro)
    check_bits("lse_out", np.array(lse_out.T, order="C"), want[1], case.repro)


def test_one_state_that_holds_something_is_a_copy(device: Device) -> None:
    """To the bit, negative zeros included, whatever the others are."""
    for dim, o_dtype in ((64, "bfloat16"), (65, "float32"), (600, "float16")):
        inputs = MergeStatesCase(states=5, rows=6, heads=3, dim=dim, o_dtype=o_dtype, aligned=dim == 64).inputs()
        o, lse = inputs.array("o"), inputs.array("lse")
        o[..., ::3] = -0.0
        for row in range(5):
            lse[np.arange(5) != row, row] = (-np.inf, np.nan, np.inf, -np.inf)[row % 4]
        out, lse_out = _call(inputs, device)
        for row in range(5):
            check_bits(f"row {row}", out[row], np.array(o[row, row]), inputs.case.repro)
            assert lse_out[row].tobytes() == lse[row, row].tobytes()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number_shows(value: float, device: Device) -> None:
    """In its element, and in no other."""
    for dim in (64, 65):
        inputs = MergeStatesCase(states=3, heads=2, dim=dim, spread=1.0).inputs()
        inputs.array("o")[1, 2, 1, 7] = value
        out = _call(inputs, device)[0].astype(np.float32)
        wrong = np.zeros(out.shape, bool)
        wrong[2, 1, 7] = True
        assert np.array_equal(~np.isfinite(out), wrong)
        assert np.isnan(value) == np.isnan(out[2, 1, 7]) and (np.isnan(value) or out[2, 1, 7] == value)


def test_sinks_that_are_no_numbers(device: Device) -> None:
    """A sink of -inf is none, one of +inf is all there is, NaN shows; rows of nothing stay 0. The LSE knows of none."""
    case = MergeStatesCase(states=3, rows=2, heads=4, dim=64, o_dtype="float32")
    inputs = case.inputs()
    inputs.array("lse")[:, 1] = -np.inf
    plain_out, plain_lse = _call(inputs, device)
    sink = np.array([-np.inf, np.inf, np.nan, -np.inf], np.float32)
    out, lse_out = _call(inputs, device, sink=sink)
    check_bits("lse_out", lse_out, plain_lse, case.repro)
    for head in (0, 3):
        check_bits("out", out[:, head], plain_out[:, head], case.repro)
    assert (out[0, 1] == 0).all() and np.isnan(out[0, 2]).all() and not out[1].any()


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_torch_tensors(dtype: str) -> None:
    """Fresh outputs are torch's; what is written in place counts in torch's version counter."""
    import torch

    generator = torch.Generator().manual_seed(3)
    o = torch.randn(2, 3, 4, 40, generator=generator).to(getattr(torch, dtype))
    lse = torch.randn(2, 3, 4, generator=generator)
    out, lse_out = aiter_c.merge_states(o, lse)
    assert (out.dtype, out.shape, lse_out.shape) == (o.dtype, (3, 4, 40), (3, 4))
    weights = torch.softmax(lse, 0)[..., None]
    torch.testing.assert_close(out.float(), (weights * o.float()).sum(0), atol=0.01, rtol=0.01)
    torch.testing.assert_close(lse_out, torch.logsumexp(lse, 0))
    listed = aiter_c.merge_states(list(o), [one.T for one in lse], lse_layout="ht")
    assert torch.equal(listed[0], out) and torch.equal(listed[1].T, lse_out)
    version = o._version
    assert aiter_c.merge_attn_states(o[0], o[0], lse[0].T, o[1], lse[1].T) is None
    assert o._version > version and torch.equal(o[0], out)


@pytest.mark.torch
def test_a_list_that_changes_meanwhile() -> None:
    """The op holds the tensors of a list on its own: the list may be emptied while its elements are looked at."""
    import torch

    states = []

    class Emptying:
        """Its export empties the list that it is in."""

        def __init__(self, tensor: torch.Tensor) -> None:
            self.tensor = tensor

        def __dlpack_device__(self) -> tuple[int, int]:
            return self.tensor.__dlpack_device__()

        def __dlpack__(self, **options: object) -> object:
            states.clear()
            return self.tensor.__dlpack__(**options)

    o = torch.ones(2, 3, 4, 8)
    states += [Emptying(o[0].clone()), Emptying(o[1].clone())]
    out, _ = aiter_c.merge_states(states, list(torch.zeros(2, 3, 4)))
    assert not states and (np.from_dlpack(out) == 1).all()


def _large(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Zero pages that cost nothing until they are written."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
    return np.ndarray(shape, dtype, mmap.mmap(-1, int(np.prod(shape)) * np.dtype(dtype).itemsize, flags=flags))


@pytest.mark.large
def test_offsets_of_more_than_32_bits() -> None:
    """Heads, rows and states that are gigabytes apart: virtual memory of which a few pages are touched."""
    memory = _large((2, 3, 2, 1 << 29), np.float32)
    o = memory[..., -64:]
    o[...] = np.arange(12, dtype=np.float32).reshape(2, 3, 2, 1)
    out = _large((3, 2, 1 << 29), np.float32)[..., -64:]
    aiter_c.merge_states(o, np.zeros((2, 3, 2), np.float32), out)
    assert np.array_equal(out, np.broadcast_to((np.arange(6) + 3.0).reshape(3, 2, 1), (3, 2, 64)))
