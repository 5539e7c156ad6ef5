"""Run by test_torch_states.py: every state that a tensor of torch can be in, as the input q and as the output o.

Prints JSON: {state: {argument: "ok", "wrong values" or [class of the exception, its text]}}.
"""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import torch
import torch.autograd.forward_ad as forward_ad
from torch._subclasses.fake_tensor import FakeTensorMode
from torch._subclasses.functional_tensor import FunctionalTensor, FunctionalTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

import aiter_c
from aiter_c.testing import MlaCase, build_inputs

CASE = MlaCase(heads=4, kv_lens=(50,), q_dtype="float16", kv_dtype="float16", o_dtype="float16")


def tensors() -> dict:
    """The arguments of the case, in memory that torch allocated."""
    return {
        name: torch.from_numpy(np.ascontiguousarray(value)).clone() if isinstance(value, np.ndarray) else value
        for name, value in build_inputs(CASE).arguments().items()
    }


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.detach().contiguous().view(torch.uint8).numpy().tobytes()


def expected() -> tuple[bytes, bytes]:
    arguments = tensors()
    _, lse = aiter_c.mla_decode_fwd(**arguments)
    return bits(arguments["o"]), bits(lse)


RIGHT = expected()


class Attempt:
    """One call with a tensor in place of an argument. It is judged afterwards: inside a transform, every operation on
    tensors is transformed."""

    def __init__(self, name: str, **more: object) -> None:
        self.name, self.arguments = name, tensors() | more
        self.before = bits(self.arguments["o"])

    def call(self, tensor: torch.Tensor) -> None:
        try:
            _, self.lse = aiter_c.mla_decode_fwd(**self.arguments | {self.name: tensor})
            self.error = None
        except Exception as error:
            self.error = error

    def outcome(self, o: torch.Tensor | None = None) -> object:
        """`o`: what was written to, where it is not the argument of the case."""
        if self.error is not None:
            assert bits(self.arguments["o"]) == self.before, "a refused call wrote"
            return [type(self.error).__name__, str(self.error)]
        written = self.arguments["o"] if o is None else o
        return "ok" if (bits(written), bits(self.lse)) == RIGHT else "wrong values"


def outcome(name: str, make: Callable) -> object:
    """What the op makes of the argument as a tensor in some state."""
    attempt = Attempt(name)
    tensor = make(tensors()[name])
    attempt.call(tensor)
    return attempt.outcome(tensor if name == "o" else None)


class _Plain(torch.Tensor):
    """Inherits the memory and all that it means."""


class _Function(torch.Tensor):
    """Sees every function, changes none."""

    @classmethod
    def __torch_function__(cls, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> object:
        return super().__torch_function__(func, types, args, kwargs or {})


class _Wrapper(torch.Tensor):
    """A tensor in terms of another one, without memory of its own."""

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> torch.Tensor:
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    @classmethod
    def __torch_dispatch__(cls, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> object:
        raise NotImplementedError


class _Dispatching(torch.Tensor):
    """Has memory, and operations of its own: whatever they make of the memory is its values."""

    @classmethod
    def __torch_dispatch__(cls, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> object:
        raise NotImplementedError


def _imaginary(t: torch.Tensor) -> torch.Tensor:
    """The public way to a negative bit: the imaginary part of a lazy conjugate."""
    return torch.complex(t.float(), -t.float()).to(torch.complex32).conj().imag


def _freed(t: torch.Tensor) -> torch.Tensor:
    t.untyped_storage().resize_(0)
    return t


def _inference(t: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return t.clone()


def _fake(t: torch.Tensor) -> torch.Tensor:
    with FakeTensorMode():
        return torch.empty(t.shape, dtype=t.dtype)


def _functional_tensor(t: torch.Tensor) -> torch.Tensor:
    with FunctionalTensorMode():
        return FunctionalTensor.to_functional(t)


def _masked(t: torch.Tensor) -> torch.Tensor:
    from torch.masked import masked_tensor

    return masked_tensor(t, torch.ones(t.shape, dtype=torch.bool))


@cache
def _start_lazy_backend() -> None:
    import torch._lazy.ts_backend

    torch._lazy.ts_backend.init()


def _lazy(t: torch.Tensor) -> torch.Tensor:
    _start_lazy_backend()
    return t.to("lazy")


def _distributed(t: torch.Tensor) -> torch.Tensor:
    import torch.distributed as dist
    from torch.distributed.tensor import Replicate, distribute_tensor

    if not dist.is_initialized():
        folder = tempfile.mkdtemp()
        dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=0, world_size=1)
    return distribute_tensor(t, dist.device_mesh.init_device_mesh("cpu", (1,)), [Replicate()])


#: A tensor in the state, from a plain one.
MADE = {
    "plain": lambda t: t,
    "requires grad": lambda t: t.requires_grad_(),
    "not a leaf": lambda t: t.requires_grad_() * 1,
    "parameter": torch.nn.Parameter,
    "frozen parameter": lambda t: torch.nn.Parameter(t, requires_grad=False),
    "detached": lambda t: t.requires_grad_().detach(),
    "inference": _inference,
    "copy on write": lambda t: torch._lazy_clone(t),
    "subclass": lambda t: t.as_subclass(_Plain),
    "subclass with functions": lambda t: t.as_subclass(_Function),
    "negative bit": torch._neg_view,
    "imaginary part of a conjugate": _imaginary,
    "freed storage": _freed,
    "meta": lambda t: t.to("meta"),
    "fake": _fake,
    "functional": torch._to_functional_tensor,
    "functional tensor": _functional_tensor,
    "sparse coo": lambda t: t.to_sparse(),
    "sparse csr": lambda t: t[0].to_sparse_csr(),
    "sparse csc": lambda t: t[0].to_sparse_csc(),
    "sparse bsr": lambda t: t[0].to_sparse_bsr((1, 1)),
    "sparse bsc": lambda t: t[0].to_sparse_bsc((1, 1)),
    "mkldnn": lambda t: t.float().to_mkldnn(),
    "quantized": lambda t: torch.quantize_per_tensor(t.float(), 0.1, 0, torch.qint8),
    "nested strided": lambda t: torch.nested.nested_tensor([t[0], t[0]]),
    "nested jagged": lambda t: torch.nested.nested_tensor([t[0], t[0]], layout=torch.jagged),
    "zero": lambda t: torch._efficientzerotensor(t.shape, dtype=t.dtype),
    "uninitialized parameter": lambda t: torch.nn.UninitializedParameter(dtype=t.dtype),
    "wrapper subclass": _Wrapper,
    "dispatching subclass": lambda t: t.as_subclass(_Dispatching),
    "masked": _masked,
    "lazy backend": _lazy,
    "distributed": _distributed,
}


def _inside(transform: Callable, **more: object) -> Callable:
    """What the op makes of the tensor that a transform hands to a function."""

    def run(name: str) -> object:
        attempt, given = Attempt(name, **more), tensors()[name]

        def function(t: torch.Tensor) -> torch.Tensor:
            attempt.call(t)
            return t.sum()

        transform(function, given)
        return attempt.outcome(given if name == "o" else None)

    return run


def _dual(name: str) -> object:
    with forward_ad.dual_level():
        return outcome(name, lambda t: forward_ad.make_dual(t, t.clone()))


def _compiled(name: str) -> object:
    """torch.compile leaves its graph for the call."""
    attempt, given = Attempt(name), tensors()[name]
    torch.compile(lambda t: (attempt.call(t * 1 if name == "q" else t), t + 1)[1], backend="eager")(given)
    return attempt.outcome(given if name == "o" else None)


#: Inside a transform, a trace or a mode. A mode of fake tensors would refuse to make the LSE beside a real q.
INSIDE = {
    "vmap": _inside(lambda f, t: torch.func.vmap(f)(torch.stack([t, t]))),
    "func.grad": _inside(lambda f, t: torch.func.grad(f)(t)),
    "func.jvp": _inside(lambda f, t: torch.func.jvp(f, (t,), (t,))),
    "func.functionalize": _inside(lambda f, t: torch.func.functionalize(f)(t)),
    "make_fx real": _inside(lambda f, t: make_fx(f)(t)),
    "make_fx fake": _inside(lambda f, t: make_fx(f, tracing_mode="fake")(t), return_lse=False),
    "make_fx symbolic": _inside(lambda f, t: make_fx(f, tracing_mode="symbolic")(t), return_lse=False),
    "jit.trace": _inside(lambda f, t: torch.jit.trace(f, (t,), check_trace=False)),
    "no_grad": _inside(lambda f, t: torch.no_grad()(f)(t)),
    "no_grad, requires grad": _inside(lambda f, t: torch.no_grad()(f)(t.requires_grad_())),
    "forward AD": _dual,
    "compiled": _compiled,
}


def outcomes() -> Iterator[tuple[str, dict]]:
    for state, make in MADE.items():
        yield state, {name: outcome(name, make) for name in ("q", "o")}
    for state, run in INSIDE.items():
        yield state, {name: run(name) for name in ("q", "o")}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps({"path": aiter_c._C.dlpack_path(torch.Tensor), "states": dict(outcomes())}), flush=True)
    os._exit(0)  # a process group may be left
