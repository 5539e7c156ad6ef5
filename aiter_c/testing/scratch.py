"""The tensors that an op allocates, poisoned and with margins, for as long as a `with` lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from aiter_c import _call

from .device import DeviceTensor
from .memory import Block, dtype_of


class Scratch:
    """What a call took, by the op's names for it ("lse", "logits", ...). `repeated`: what it took twice, of which the
    second is another name."""

    def __init__(self) -> None:
        self.repeated: list[str] = []
        self._blocks: dict[str, Block] = {}

    def allocate(
        self, name: str, like: object, shape: tuple[int, ...], dtype: str, _stream: object
    ) -> np.ndarray | DeviceTensor:
        """An allocator (see `allocated_by`): NaN in every element, known bytes around them, on like's device."""
        if name in self._blocks:
            name = f"{name}, again"
            self.repeated.append(name)
        block = self._blocks[name] = Block(tuple(shape), dtype_of(dtype))
        block.fill_nan()
        block.freeze()
        return like.copies.tensor(block.array) if isinstance(like, DeviceTensor) else block.array

    @property
    def names(self) -> list[str]:
        """What was taken, in order."""
        return list(self._blocks)

    def get(self, name: str) -> np.ndarray | None:
        """The array of that name, if the call took one."""
        block = self._blocks.get(name)
        return block.array if block else None

    def check_margins(self, repro: str) -> None:
        """Raises AssertionError where a byte next to the scratch changed."""
        for name, block in self._blocks.items():
            change = block.first_change(of_elements=False)
            if change is not None:
                raise AssertionError(f"{name}: {change}\n  {repro}")


@contextmanager
def allocated_by(allocate: Callable) -> Iterator[None]:
    """Every tensor that an op allocates inside the `with` comes from allocate(name, like, shape, dtype, stream)."""
    before = _call.set_allocator(allocate)
    try:
        yield
    finally:
        _call.set_allocator(before)


@contextmanager
def poisoned_scratch() -> Iterator[Scratch]:
    """Every allocation of an op inside the `with` comes from the Scratch that it yields."""
    scratch = Scratch()
    with allocated_by(scratch.allocate):
        yield scratch
