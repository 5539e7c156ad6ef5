"""What counts as equal. SPEC 14.1, the numbers of FlashMLA's tests; nothing is ever allowed to lie outside.

o:   |got - ref| <= 8e-4 + 2.01/128 * |ref| at every element: two units in the last place of bf16, plus a floor for
     sums that cancel; 1 - cosine <= 5e-6 over the whole output and <= 1e-5 over each row of 512.
lse: |got - ref| <= 1e-6 + 8.01/65536 * |ref|.
Where q and cache are both fp8, kernels may round the probabilities to e4m3: see `rounded_probability_bound`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Tolerance:
    """absolute + relative * |ref| per element, and bounds on 1 - cosine."""

    absolute: float
    relative: float
    cosine: float = np.inf
    row_cosine: float = np.inf


OUTPUT = Tolerance(8e-4, 2.01 / 128, 5e-6, 1e-5)
OUTPUT_ROUNDED_P = Tolerance(8e-4, 2.01 / 128, 1e-3, 1e-3)
LSE = Tolerance(1e-6, 8.01 / 65536)
PARTIAL = OUTPUT  # fp32, but made of the same rounded probabilities


def rounded_probability_bound(abs_pv: np.ndarray, abs_v_over_sum: np.ndarray) -> np.ndarray:
    """How far rounding p = exp(s - max) in [0, 1] to e4m3 can move o = sum p v / sum p (denominator unrounded).

    e4m3 has 3 mantissa bits: |round(p) - p| <= 2^-4 p, or 2^-10 below its smallest normal number. Therefore
    |o' - o| <= 2^-4 * sum(p |v|) / sum(p) + 2^-10 * sum|v| / sum(p); the arguments are these two quotients, [..., 512].
    """
    return abs_pv / 16 + abs_v_over_sum / 1024
