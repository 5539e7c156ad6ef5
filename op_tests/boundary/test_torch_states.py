"""Every state that a tensor of torch can be in: its values are used, or the argument is refused by name.

The same with DLPack's exchange API and without it; what a refused call was given is never written.
"""

from __future__ import annotations

import importlib.util
import json
from functools import cache

import pytest
from interpreter import run_python, script

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed", allow_module_level=True)
pytestmark = [pytest.mark.torch, pytest.mark.isolated]

#: Read and written as what they are: gradients are not computed, a trace does not see the call.
SERVED = [
    "plain", "frozen parameter", "detached", "inference", "copy on write", "subclass", "subclass with functions",
    "make_fx real", "jit.trace", "no_grad", "forward AD", "compiled",
]  # fmt: skip
#: Served as an input, refused as an output.
GRADIENT = ["requires grad", "not a leaf", "parameter", "no_grad, requires grad"]
#: Refused: what was expected, and what it is.
_MEMORY = "a torch.Tensor with memory of its own, got "
_VALUES = "memory that holds the values, got a tensor with the negative bit (see resolve_neg)"
_DISPATCH = " (it overrides __torch_dispatch__)"
REFUSED = {
    "negative bit": _VALUES,
    "imaginary part of a conjugate": _VALUES,
    "freed storage": "a tensor with memory, got a null pointer",
    "uninitialized parameter": "a t",  # the rest depends on the path
    "meta": f"{_MEMORY}a meta tensor",
    "fake": f"{_MEMORY}FakeTensor{_DISPATCH}",
    "functional": f"{_MEMORY}a functional tensor",
    "functional tensor": f"{_MEMORY}FunctionalTensor{_DISPATCH}",
    "sparse coo": f"{_MEMORY}a sparse tensor",
    "sparse csr": f"{_MEMORY}a sparse tensor",
    "sparse csc": f"{_MEMORY}a sparse tensor",
    "sparse bsr": f"{_MEMORY}a sparse tensor",
    "sparse bsc": f"{_MEMORY}a sparse tensor",
    "mkldnn": f"{_MEMORY}an mkldnn tensor",
    "quantized": f"{_MEMORY}a quantized tensor",
    "nested strided": f"{_MEMORY}a nested tensor",
    "nested jagged": f"{_MEMORY}NestedTensor{_DISPATCH}",
    "zero": f"{_MEMORY}a zero tensor, which has no memory",
    "wrapper subclass": f"{_MEMORY}_Wrapper{_DISPATCH}",
    "dispatching subclass": f"{_MEMORY}_Dispatching{_DISPATCH}",
    "masked": f"{_MEMORY}MaskedTensor{_DISPATCH}",
    "lazy backend": f"{_MEMORY}a tensor of a lazy backend",
    "distributed": f"{_MEMORY}DTensor{_DISPATCH}",
    "vmap": f"{_MEMORY}a tensor of torch.vmap",
    "func.grad": f"{_MEMORY}a tensor of a torch.func transform (grad, jvp)",
    "func.jvp": f"{_MEMORY}a tensor of a torch.func transform (grad, jvp)",
    "func.functionalize": f"{_MEMORY}a functional tensor",
    "make_fx fake": f"{_MEMORY}FakeTensor{_DISPATCH}",
    "make_fx symbolic": f"{_MEMORY}FakeTensor{_DISPATCH}",
}


@cache
def _outcomes(switch: str) -> dict:
    done = run_python(script("boundary/isolated/torch_states.py"), AITER_C_DLPACK_EXCHANGE=switch)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(params=["1", "0"], ids=["exchange", "dlpack"])
def outcomes(request: pytest.FixtureRequest) -> dict:
    return _outcomes(request.param)["states"]


def test_the_switch_chooses_the_path() -> None:
    assert _outcomes("0")["path"] == "__dlpack__" and _outcomes("1")["path"] in ("exchange", "__dlpack__")


def test_every_state_has_a_rule(outcomes: dict) -> None:
    assert sorted(outcomes) == sorted([*SERVED, *GRADIENT, *REFUSED])


@pytest.mark.parametrize("state", SERVED)
def test_served(outcomes: dict, state: str) -> None:
    assert outcomes[state] == {"q": "ok", "o": "ok"}


@pytest.mark.parametrize("state", GRADIENT)
def test_inputs_are_read_as_data_and_outputs_have_no_gradient(outcomes: dict, state: str) -> None:
    text = "mla_decode_fwd: o: expected an output that does not require grad, got one that does (see detach)"
    assert outcomes[state] == {"q": "ok", "o": ["BufferError", text]}


@pytest.mark.parametrize("state", REFUSED)
def test_refused_by_name(outcomes: dict, state: str) -> None:
    kind = "ValueError" if state == "freed storage" else "BufferError"
    for name, got in outcomes[state].items():
        assert got[0] == kind and got[1].startswith(f"mla_decode_fwd: {name}: expected {REFUSED[state]}"), got
