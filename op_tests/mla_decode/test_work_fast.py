"""Work items without divisions (csrc/ops/attention/work_fast.h) against those of work_items.h: the same to the bit,
whatever the lists hold."""

from __future__ import annotations

import ctypes
import random

import numpy as np
import pytest
from mla_decode.kernel_shim import shim

LIMIT = 1 << 30


def _divide(divisor: int, number: int) -> int:
    return shim().shim_divide(ctypes.c_int64(divisor), ctypes.c_int64(number))


@pytest.mark.parametrize("shift", range(32))
def test_division_by_a_reciprocal(shift: int) -> None:
    """Exact for every n below 2^31: at the borders of the quotients, where an error would show first."""
    draw = random.Random(shift)
    for divisor in {max(1, (1 << shift) + d) for d in range(-3, 4)} | {draw.randint(1, 1 << shift) for _ in range(60)}:
        if divisor >= 1 << 31:
            continue
        most = (2**31 - 1) // divisor
        quotients = {0, 1, most - 1, most, *(draw.randint(0, most) for _ in range(40))}
        for number in {q * divisor + d for q in quotients for d in (-1, 0, 1, divisor - 1)} | {2**31 - 1}:
            if 0 <= number < 2**31:
                assert _divide(divisor, number) == number // divisor, (divisor, number)
    assert _divide(0, 7) == _divide(-5, 7) == 7  # by 1


class _Problem:
    """Numbers and lists of shim_fast()."""

    def __init__(self, seed: int) -> None:
        draw = self.draw = random.Random(seed)
        self.batch = draw.randint(1, 4)
        self.entry_rows = draw.choice([1, 1, 3, 16, 64])
        self.rows, self.indices = draw.randint(0, 20), draw.randint(0, 300)
        self.heads, self.most = draw.choice([1, 3, 16, 48, 128]), draw.randint(1, 6)
        self.qo = self.list(self.rows) if draw.random() < 0.8 else None
        self.by_lists = draw.random() < 0.5
        self.table = not self.by_lists and draw.random() < 0.3
        self.width = draw.randint(0, 40) if self.table else 0
        self.kv = None if self.table else self.list(self.indices)
        self.last = self.list(self.entry_rows, wild=0.5) if draw.random() < 0.5 else None
        self.lengths = self.list(self.width * self.entry_rows, wild=0.5) if self.table and draw.random() < 0.7 else None
        self.splits = draw.randint(1, 9)
        self.ragged = self.list(9) if draw.random() < 0.3 else None
        self.shards = 1
        self.tile = draw.choice([16, 32, 64])
        self.row_tiles, self.workers = draw.randint(1, 3), draw.randint(1, 5)
        self.placed = draw.randint(0, 1)
        self.items = self.work_indptr = None
        if self.by_lists:
            self.qo = self.list(self.rows)
            count = draw.choice([self.workers, draw.randint(0, 12)])
            self.work_indptr = (
                np.arange(self.workers + 1, dtype=np.int32)
                if count == self.workers
                else self.list(count, self.workers + 1)
            )
            bound = lambda most: draw.choice([draw.randint(-2, most + 2)] * 6 + [-(2**31), 2**31 - 1])  # noqa: E731
            self.items = np.array(
                [
                    [bound(self.batch), draw.choice([-1, bound(30)]), bound(self.rows), bound(self.rows),
                     bound(self.indices), bound(self.indices), 0, 0]
                    for _ in range(max(count, 1))
                ],
                np.int32,
            )  # fmt: skip
        self.partials = draw.randint(0, 30)
        self.scale = 1

    def list(self, most: int, count: int | None = None, wild: float = 0.3) -> np.ndarray:
        draw = self.draw
        count = self.batch + 1 if count is None else count
        ordered = sorted(draw.randint(0, most) for _ in range(count))
        odd = [draw.choice([draw.randint(-3, most + 5), -(2**31), 2**31 - 1]) for _ in range(count)]
        return np.array(odd if draw.random() < wild else ordered, np.int32)

    def compare(self) -> int:
        """shim_fast()."""
        draw = self.draw
        numbers = [
            self.rows, self.heads, self.most, self.batch, self.indices, self.entry_rows, self.width, self.width + 3,
            self.splits, draw.randint(0, 10), draw.choice([-1, 0, 1, 64]), draw.choice([0, 1, 16, 48]),
            draw.randint(0, 1), draw.randint(0, 1), self.tile, self.row_tiles, self.workers,
            0 if self.items is None else len(self.items), self.partials, self.placed, self.shards,
        ]  # fmt: skip
        pages = np.zeros(1, np.int32)
        lists = (self.qo, self.kv, pages, self.last, self.lengths, self.ragged, self.work_indptr, self.items)
        pointers = [ctypes.c_void_p(None if x is None else x.ctypes.data) for x in lists]
        return shim().shim_fast((ctypes.c_int64 * len(numbers))(*numbers), *pointers)


def test_the_same_items() -> None:
    found = [_Problem(seed).compare() for seed in range(4000)]
    assert min(found) >= 0, f"seed {found.index(min(found))}: {min(found)}"
    assert sum(found) > 20_000


@pytest.mark.parametrize(
    "too_much",
    [
        {"shards": 2},
        {"rows": LIMIT // 128, "heads": 128},
        {"indices": LIMIT // 64, "entry_rows": 64},
        {"indices": LIMIT, "entry_rows": 1},
        {"width": LIMIT // 16, "entry_rows": 16},
        {"partials": LIMIT},
        {"row_tiles": LIMIT // 1024},
    ],
    ids=str,
)
def test_what_is_too_much_for_32_bits_is_left_to_the_divisions(too_much: dict[str, int]) -> None:
    problem = next(p for p in map(_Problem, range(100)) if p.by_lists)
    for name, value in too_much.items():
        setattr(problem, name, value)
    assert problem.compare() == -2
