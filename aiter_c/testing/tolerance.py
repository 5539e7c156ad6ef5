"""What counts as equal: the numbers of FlashMLA's tests; nothing is ever allowed to lie outside.

o:   |got - ref| <= 8e-4 + 2.01/128 * |ref| at every element: two units in the last place of bf16, plus a floor for
     sums that cancel; 1 - cosine <= 5e-6 over the whole output and <= 1e-5 over each row of 512.
lse: |got - ref| <= 1e-6 + 8.01/65536 * |ref|; where that lies below what fp32 can tell (an LSE near zero, cancelled
     out of large terms), one rounding of the sum of the terms' magnitudes on top: see `dot_product_bound`. Scores that
     sm_90a multiplies in e4m3: see `e4m3_product_bound`.
A kernel that rounds the probabilities is given the analytic bound of that rounding on top (`ProbabilityRounding`): e4m3
where q and cache are both fp8, bf16 or fp16 in engines of such products; the kernel table says which.
FlashMLA's floor of 8e-4 has room for bf16 only because its values are 0.1 * N(0, 1); ours are N(0, 1), so that a kernel
with fp32 probabilities is held ten times tighter.
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
OUTPUT_FP8_P = Tolerance(8e-4, 2.01 / 128, 1e-3, 1e-3)
LSE = Tolerance(1e-6, 8.01 / 65536)
PARTIAL = OUTPUT  # fp32, but made of the same rounded probabilities


#: Below this |lse| the rounding of the scores can exceed the relative part of LSE's bound.
LSE_NEAR_ZERO = 0.25


def dot_product_bound(magnitudes: np.ndarray) -> np.ndarray:
    """What one rounding to fp32 (2^-24) is worth in a sum whose terms have these magnitudes together."""
    return 2.0**-24 * magnitudes


def e4m3_product_bound(magnitudes: np.ndarray) -> np.ndarray:
    """The same for the e4m3 products of sm_90a, which cut every term off 13 bits below the largest of 32. That has a
    bias: where all terms have one sign 2^-9.8 of their sum was seen."""
    return 2.0**-9 * magnitudes


@dataclass(frozen=True)
class ProbabilityRounding:
    """How far rounding p = exp(s - max) in [0, 1] can move o = sum p v / sum p (denominator unrounded).

    |round(p) - p| <= step * p, half a unit of the last of n significant bits being 2^-n of p at most, or <= floor below
    the smallest normal number; therefore
    |o' - o| <= step * sum(p |v|) / sum(p) + floor * sum|v| / sum(p).
    """

    step: float = 0.0
    floor: float = 0.0

    def bound(self, abs_pv: np.ndarray, abs_v_over_sum: np.ndarray) -> np.ndarray:
        """[.., 512] from the two quotients of the formula."""
        return self.step * abs_pv + self.floor * abs_v_over_sum


#: By the type in which a kernel multiplies p and v: 24, 8, 11 and 4 significant bits; the floor is half the distance of
#: subnormal numbers.
P_ROUNDING = {
    "float32": ProbabilityRounding(),
    "bfloat16": ProbabilityRounding(2.0**-8),
    "float16": ProbabilityRounding(2.0**-11, 2.0**-25),
    "float8_e4m3fn": ProbabilityRounding(2.0**-4, 2.0**-10),
    "float8_e4m3fnuz": ProbabilityRounding(2.0**-4, 2.0**-11),
}
