"""Run by test_no_memory.py: each allocation of a call fails once, the N-th, over all N. Then the call raises
MemoryError (or manages without), has written nothing and left nothing, and the next call gives the bits it always gave.

python   what the interpreter and the extension ask of Python's allocators, by _testcapi.set_nomemory
libc     what the extension asks of the C library itself, by the library in AITER_C_FAIL_MALLOC (fail_malloc.c)
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Callable, Iterator

import numpy as np

import aiter_c
from aiter_c.testing.case import Case, case_kinds
from aiter_c.testing.device import address_of

ENOUGH = 30  # calls in a row that no failure reaches: they ask for less
MOST = 3_000


class PythonAllocator:
    """The N-th allocation from now on fails, and no other."""

    def __init__(self) -> None:
        import _testcapi

        self.arm = lambda n: _testcapi.set_nomemory(n, n + 1)
        self.disarm = _testcapi.remove_mem_hooks


class LibcAllocator:
    """Likewise, of those that the extension asks for itself. Every call meets a pool of threads that was resized, and
    whose memory is new."""

    def __init__(self) -> None:
        self._fail_at = ctypes.CDLL(os.environ["AITER_C_FAIL_MALLOC"]).fail_at

    def arm(self, n: int) -> None:
        aiter_c.set_num_threads(2 + n % 2)
        self._fail_at(n)

    def disarm(self) -> None:
        self._fail_at(-1)


class Call:
    """An op on the tensors of a case; `own`: as arrays of aiter_c, whose scratch the extension allocates."""

    def __init__(self, case: Case, *, own: bool) -> None:
        self.case = case
        self.name, self.inputs = f"{case!r}{', own arrays' if own else ''}", case.inputs()
        self.inputs.freeze()
        self.function, self.arguments = getattr(aiter_c, case.op), self.inputs.arguments()
        self.own = {}
        if own:
            self.own = {
                n: aiter_c.from_host(v) for n, v in self.arguments.items() if isinstance(v, np.ndarray) and v.ndim
            }
            self.arguments |= self.own
        self.poison()  # some ops leave parts of their outputs as they are
        self.bits = self._written(self.function(**self.arguments))

    def _written(self, returned: object) -> bytes:
        """What the case says of the outputs; the rest of what a call returns may be scratch that nothing wrote."""
        outputs = self.case.outputs(self.inputs, returned)
        arrays = [self._host(name) if name in self.own else array for name, array in outputs.items()]
        return b"".join(np.asarray(array).tobytes() for array in arrays if array is not None)

    def _host(self, name: str) -> np.ndarray:
        return self.own[name].numpy() if name in self.own else self.inputs.array(name)

    def poison(self) -> None:
        for name in self.inputs.written:
            self.inputs.blocks[name].fill_nan()
            if name in self.own:  # the same memory in every call
                ctypes.memset(address_of(self.own[name]), 0xFF, self.own[name].nbytes)

    def outputs(self) -> bytes:
        return b"".join(self._host(name).tobytes() for name in self.inputs.written)

    def check_works(self) -> None:
        self.poison()
        assert self._written(self.function(**self.arguments)) == self.bits, f"{self.name}: other bits afterwards"


def calls() -> Iterator[Call]:
    for kind in case_kinds().values():
        for fields in kind.small:
            for own in (False, True):
                yield Call(kind(**fields), own=own)


def fail_each(call: Call, arm: Callable, disarm: Callable) -> tuple[int, int]:
    """How many failures were reached, and how many of them the call managed without."""
    function, arguments, failed, unreached, managed = call.function, call.arguments, 0, 0, 0
    for n in range(MOST):
        call.poison()
        poison = call.outputs()
        gc.collect()
        gc.disable()
        error = None
        arm(n)
        try:
            function(**arguments)
        except MemoryError as caught:
            error = caught
        finally:
            disarm()
            gc.enable()
        if error is None:
            unreached += 1
            if unreached == ENOUGH:
                return failed, managed
            continue
        managed, unreached, failed = managed + unreached, 0, failed + 1
        assert call.outputs() == poison, f"{call.name}: failure {n} came after an output was written"
        del error
        call.check_works()
    raise AssertionError(f"{call.name}: no end after {MOST} failures")


def main() -> None:
    allocator = {"python": PythonAllocator, "libc": LibcAllocator}[sys.argv[1]]()
    for call in calls():
        for _ in range(3):
            call.check_works()
        fail_each(call, allocator.arm, allocator.disarm)
        for _ in range(3):  # the interpreter keeps blocks now and then; a leak leaves them in every round
            gc.collect()
            before = sys.getallocatedblocks()
            failed, managed = fail_each(call, allocator.arm, allocator.disarm)
            gc.collect()
            left = sys.getallocatedblocks() - before
            if left <= failed // 2 + 15:
                break
        else:
            raise AssertionError(f"{call.name}: {left} blocks are left of {failed} failures")
        print(f"{call.name}: {failed} failures, {managed} of which it managed without", flush=True)
    print("ok")


if __name__ == "__main__":
    main()
