"""The scratch and the LSE that the shim allocates, poisoned and with margins, for as long as a `with` lasts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from .device import DeviceTensor
from .memory import Block


class Scratch:
    """What a call took: `lse` [T, H], `logits` [T, S, H, 512] and `attn_lse` [T, S, H, 1]; None where it took none."""

    def __init__(self) -> None:
        self._blocks: dict[str, Block] = {}

    def allocate(self, like: object, shape: tuple[int, ...], _stream: object) -> np.ndarray | DeviceTensor:
        """In place of aiter_c.mla.empty_float32: NaN in every element, known bytes around them, on like's device."""
        block = Block(tuple(shape), np.float32)
        block.fill_nan()
        block.freeze()
        name = {2: "lse", 4: "logits" if shape[-1] == 512 else "attn_lse"}[len(shape)]
        assert name not in self._blocks, f"{name} was allocated twice"
        self._blocks[name] = block
        return like.copies.tensor(block.array) if isinstance(like, DeviceTensor) else block.array

    def get(self, name: str) -> np.ndarray | None:
        """The array of that name, if the call took one."""
        block = self._blocks.get(name)
        return block.array if block else None

    def check_margins(self, repro: str) -> None:
        """Raises AssertionError where a byte next to the scratch changed."""
        for name, block in self._blocks.items():
            change = block.first_change(of_elements=False)
            assert change is None, f"{name}: {change}\n  {repro}"


@contextmanager
def poisoned_scratch() -> Iterator[Scratch]:
    """Every allocation of mla_decode_fwd inside the `with` comes from the Scratch that it yields."""
    import aiter_c.mla as mla

    scratch, original = Scratch(), mla.empty_float32
    mla.empty_float32 = scratch.allocate
    try:
        yield scratch
    finally:
        mla.empty_float32 = original
