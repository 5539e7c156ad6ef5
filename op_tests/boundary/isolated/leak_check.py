"""The measure that the leak scripts share: a call leaves allocated blocks and its arguments' reference counts alone."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable

REPEATS = 60


def blocks_of(call: Callable[[], None]) -> int:
    """Allocated blocks that REPEATS calls leave behind."""
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(REPEATS):
        call()
    gc.collect()
    return sys.getallocatedblocks() - before


def references_of(things: list[object]) -> list[int]:
    """One reference count per thing, each taken in the same way."""
    return [sys.getrefcount(things[i]) for i in range(len(things))]


def check(name: str, call: Callable[[], None], watched: list[object]) -> None:
    """Three rounds to warm up, then three, one of them clean: a leak is REPEATS blocks in each, noise a few, the
    last warming of CPython's free lists included."""
    for _ in range(3):
        blocks_of(call)
    references = references_of(watched)
    left = [blocks_of(call) for _ in range(3)]
    moved = [i for i, count in enumerate(references_of(watched)) if count != references[i]]
    assert min(left) <= REPEATS // 3, f"{name}: {left} blocks left by {REPEATS} calls each"
    assert not moved, f"{name}: reference counts of arguments {moved} changed"
    print(f"{name}: ok")
