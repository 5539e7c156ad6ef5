"""Run by test_random_calls.py: random arguments into every public function, COUNT calls from SEED on. A call may work,
or raise what the docstrings name; anything else ends this process. New ops join by themselves: functions come from
aiter_c, names of arguments from their signatures, right calls from the cases of aiter_c.testing.ops.

A crash: batches of BATCH calls have seeds of their own, and the last one printed is the one to run again alone."""

from __future__ import annotations

import faulthandler
import gc
import inspect
import random
import resource
import sys
import warnings

import ml_dtypes
import numpy as np

import aiter_c
from aiter_c.testing import poisoned_scratch
from aiter_c.testing.case import case_kinds

BATCH = 20_000
MEMORY = 8 << 30  # of address space: what asks for more gets MemoryError

#: Of what right calls are made.
LIKELY = (1, 2, 2, 3, 16, 0.5, "bfloat16", "bfloat16", "float32", None, (2, 3), np.arange(3, dtype=np.int32))


class Planned(Exception):
    """Raised by the objects below; it may come through."""


DOCUMENTED = (TypeError, ValueError, BufferError, NotImplementedError, MemoryError, Planned)
#: Changes the process for everybody after it.
LEFT_OUT = {"set_num_threads", "set_allocator", "set_call_observer"}


def _raises(*_: object, **__: object) -> object:
    raise Planned


def _object(**methods: object) -> object:
    return type("Odd", (), {name: staticmethod(method) for name, method in methods.items()})()


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def values() -> list[object]:
    """What a caller might pass by mistake, and by intent."""
    numbers = [0, 1, -1, 2, 3, 16, 512, 2**31 - 1, 2**31, -(2**31), 2**63 - 1, -(2**63), 2**63, 2**200]
    reals = [0.0, -0.0, 0.5, 1e40, -1e308, 5e-324, float("inf"), float("nan"), 1j, np.float32(2), np.int8(3)]
    words = [
        "",
        "x",
        "cpu",
        "cpu:1",
        "hip:0",
        "hip:99",
        "cuda",
        "plain",
        "3buffer",
        "fp8_ds_mla",
        "\0",
        "\udc80",
        "x" * 300,
    ]
    dtypes = [
        "bfloat16",
        "float8_e4m3fn",
        "float32",
        "int32",
        "uint8",
        np.float16,
        ml_dtypes.bfloat16,
        np.dtype("i4,f4"),
    ]
    arrays = [
        np.zeros(0, np.int32),
        np.arange(3, dtype=np.int32),
        np.zeros((), np.float32),
        np.ones(1, np.float32),
        np.zeros((3, 2, 576), ml_dtypes.bfloat16),
        np.zeros((3, 2, 512), np.float16)[:, :, ::-1],
        np.zeros((3, 2, 1024), np.float16)[:, :, ::2],
        _read_only(np.zeros((3, 2, 512), ml_dtypes.bfloat16)),
        np.broadcast_to(np.zeros(1, np.int32), (3,)),
        np.zeros((1,) * 12, np.int32),
        np.zeros(3, "U3"),
        np.zeros(3, object),
        np.zeros(3, ">i4"),
        np.zeros((4, 656), np.uint8),
        aiter_c.empty((3, 2, 512), "bfloat16"),
        aiter_c.empty((0,), "int32"),
        aiter_c.mla_plan(2, 2, 2, 1, "bfloat16", "bfloat16", num_kv_splits=1),
        aiter_c.mla_plan(2, 2, 2, 1, "bfloat16", "bfloat16", num_kv_splits=2, return_lse=True),
    ]
    odd = [
        _object(__index__=_raises),
        _object(__float__=_raises),
        _object(__bool__=_raises, __len__=_raises),
        _object(__index__=lambda: 2**100),
        _object(__dlpack__=_raises, __dlpack_device__=_raises),
        _object(__dlpack__=lambda **_: None, __dlpack_device__=lambda: (1, 0)),
        _object(__dlpack__=lambda **_: object(), __dlpack_device__=lambda: None),
        object(),
        int,
        np.ndarray,
    ]
    return [None, True, False, b"", (), [1], {}, (3, 2, 512), *numbers, *reals, *words, *dtypes, *arrays, *odd]


def functions() -> dict[str, object]:
    found = {name: getattr(aiter_c, name) for name in aiter_c.__all__}
    found |= {
        f"_C.{name}": one for name, one in vars(aiter_c._C).items() if inspect.isbuiltin(one) and name not in found
    }
    return {
        name: one
        for name, one in found.items()
        if callable(one) and not inspect.isclass(one) and name.removeprefix("_C.") not in LEFT_OUT
    }


def right_calls() -> list[dict[str, object]]:
    """Of small cases of every op, with what each call allocated under the op's names for it."""
    out = []
    for kind in case_kinds().values():
        for fields in kind.small:
            case = kind(**fields)
            arguments = case.inputs().arguments()
            with poisoned_scratch() as scratch:
                getattr(aiter_c, case.op)(**arguments)
            out.append(arguments | {name: scratch.get(name) for name in scratch.names})
    return out


class Target:
    """One function: calls are drawn around calls that worked, and around those of cases with arguments of its own."""

    def __init__(self, name: str, function: object, calls: list[dict[str, object]]) -> None:
        self.name, self.function = name, function
        parameters = inspect.signature(function).parameters.values()
        self.parameters = [one.name for one in parameters]
        self.required = [one.name for one in parameters if one.default is one.empty]
        self.worked = [{n: v for n, v in call.items() if n in self.parameters} for call in calls]
        self.counts = {"worked": 0, "refused": 0}

    def draw(self, rng: random.Random, likely: list[object], pool: list[object]) -> dict[str, object]:
        arguments = dict(rng.choice(self.worked))
        for name in self.required:
            if name not in arguments and rng.random() < 0.98:
                arguments[name] = rng.choice(likely if rng.random() < 0.9 else pool)
        for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
            arguments[rng.choice(self.parameters)] = rng.choice(pool)
        return arguments

    def call(self, arguments: dict[str, object]) -> None:
        try:
            self.function(**arguments)
        except DOCUMENTED as refusal:
            self.counts["refused"] += 1
            refusal.__traceback__ = None
            return
        self.counts["worked"] += 1
        if len(self.worked) < 30:
            self.worked.append(arguments)


def run(count: int, seed: int) -> list[Target]:
    pool = values()
    likely = [*LIKELY, *(value for value in pool if type(value).__name__.endswith("Plan"))]
    calls, found = right_calls(), functions().items()
    targets = [Target(name, function, calls) for name, function in found if inspect.signature(function).parameters]
    for start in range(0, count, BATCH):
        batch = seed + start // BATCH
        print(f"seed {batch}", flush=True)
        rng = random.Random(batch)
        for _ in range(min(BATCH, count - start)):
            target = rng.choice(targets)
            arguments = target.draw(rng, likely, pool)
            try:
                target.call(arguments)
            except BaseException:
                print(f"seed {batch}: {target.name}({', '.join(f'{n}={v!r:.200}' for n, v in arguments.items())})")
                raise
    return targets


def main() -> None:
    count, seed = int(sys.argv[1]), int(sys.argv[2])
    faulthandler.enable()
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    run(BATCH // 4, 10**9)  # whatever is remembered from a first time
    gc.collect()
    before = sys.getallocatedblocks()
    for target in run(count, seed):
        assert target.counts["refused"] > 0, f"{target.name} was never refused: {target.counts}"
        print(f"{target.name}: {target.counts['worked']} worked, {target.counts['refused']} refused")
    gc.collect()
    left = sys.getallocatedblocks() - before
    assert left < 5_000 + count // 500, f"{left} blocks are left of {count} calls"
    print("ok")


if __name__ == "__main__":
    main()
