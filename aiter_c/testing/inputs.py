"""What a call gets. Whatever it must not read is NaN or a huge index; whatever it writes starts as NaN."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from .memory import Block

if TYPE_CHECKING:
    from .case import Case

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


def any_integers(rng: np.random.Generator, values: np.ndarray, share: float, distance: int = 9) -> None:
    """Replaces a share of the entries of an index tensor, as a caller's bug could: half of them by numbers so near,
    half by borders."""
    far = rng.choice([INT32_MIN, INT32_MIN + 1, -2, -1, 0, INT32_MAX - 1, INT32_MAX, 2**30, 2**16], values.shape)
    near = values.astype(np.int64) + rng.integers(-distance, distance + 1, values.shape)
    pick = np.where(rng.random(values.shape) < 0.5, far, near.clip(INT32_MIN, INT32_MAX))
    values[...] = np.where(rng.random(values.shape) < share, pick, values)


@dataclass
class Inputs:
    """blocks: the tensor arguments by name, margins and all; values: the other arguments; written: the names of the
    tensors that the call writes. An op whose reference needs more derives from this."""

    case: Case
    blocks: dict[str, Block]
    values: dict[str, object] = field(default_factory=dict)
    written: tuple[str, ...] = ()

    def array(self, name: str) -> np.ndarray:
        """The tensor that the call gets under this name."""
        return self.blocks[name].array

    def arguments(self) -> dict[str, object]:
        """Keyword arguments of the op."""
        return {name: block.array for name, block in self.blocks.items()} | self.values

    def freeze(self) -> None:
        """Poisons the outputs and remembers every byte of every block."""
        for name in self.written:
            self.blocks[name].fill_nan()
        for block in self.blocks.values():
            block.freeze()

    def check_untouched(self) -> None:
        """Raises AssertionError where an input, or a byte around an output, changed."""
        for name, block in self.blocks.items():
            change = block.first_change(of_elements=name not in self.written)
            if change is not None:
                raise AssertionError(f"{name}: {change}\n  {self.case.repro}")
