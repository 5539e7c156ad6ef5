"""Index tensors that hold anything: what a call must give then, and many of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from aiter_c.testing import Inputs, check_output
from aiter_c.testing.ops.mla_reduce import INT32_MAX, INT32_MIN, MlaReduceCase, expected_outputs, owners_of

CASES = [
    MlaReduceCase(heads=3, dv=dv, groups=((2, 3), (1, 1), (3, 0), (1, 7)), o_dtype=o_dtype)
    for dv, o_dtype in ((64, "bfloat16"), (100, "float32"), (512, "float16"), (515, "bfloat16"))
] + [MlaReduceCase(heads=2, dv=dv, groups=((2, 3), (2, 4), (2, 2)), final_map=False) for dv in (128, 512)]
INDICES = ("reduce_indptr", "reduce_final_map", "reduce_partial_map")


@dataclass(frozen=True)
class Fuzzed:
    """A case, and the arguments that are not as it made them."""

    name: str
    number: int
    inputs: Inputs
    changed: dict[str, np.ndarray]

    @property
    def arguments(self) -> dict[str, object]:
        """Of the call."""
        return self.inputs.arguments() | self.changed


def check(one: Fuzzed, outputs: dict[str, np.ndarray]) -> None:
    """Rows of one group are right, rows of none as they were; where groups share a row there is no one answer."""
    shared = owners_of(one.arguments) > 1
    for name, want in expected_outputs(one.inputs.case, one.arguments).items():
        got = outputs[name].copy()
        got[shared] = want.values[shared]
        check_output(f"{one.name}: {name}", got, want, one.inputs.case.repro)


def fuzz(count: int, seed: int = 7) -> Iterator[Fuzzed]:
    """Index tensors of extremes: each alone, then all together. No partial row is NaN: any of them may be merged."""
    rng = np.random.default_rng(seed)
    for n in range(count):
        inputs = CASES[n % len(CASES)].inputs()
        for name in ("partial_output", "partial_lse"):
            values = inputs.array(name)
            values[np.isnan(values)] = 0.5
        for name in inputs.written:
            inputs.blocks[name].fill_nan()
        num_partials, num_rows = len(inputs.array("partial_output")), len(inputs.array("final_output"))
        present = [name for name in INDICES if name in inputs.blocks]
        chosen = present if n % 3 == 0 else [present[n // 3 % len(present)]]
        changed = {}
        for name in chosen:
            values = inputs.array(name).copy()
            near = [0, 1, 3, len(values), num_rows, num_partials - 1, num_partials, num_partials + 1]
            pool = [INT32_MIN, INT32_MIN + 1, -2, -1, *near, INT32_MAX - 1, INT32_MAX]
            hit = rng.random(values.shape) < 0.5
            values[hit] = rng.choice(pool, hit.sum())
            changed[name] = values
        yield Fuzzed(f"fuzz {n} of {chosen}", n, inputs, changed)
