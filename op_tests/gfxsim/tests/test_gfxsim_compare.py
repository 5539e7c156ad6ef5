"""Vector compares, of every type and condition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gfxsim.tests.exec_cases import U16, U32, U64
from gfxsim.tests.exec_machine import ARCHS, LANES, VCC, Machine
from gfxsim.tests.exec_values import COMPARED, inputs, mask_of, operand


@pytest.fixture(params=ARCHS)
def arch(request: pytest.FixtureRequest) -> str:
    return request.param


CONDITIONS: dict[str, Callable[[Any, Any], Any]] = {
    "f": lambda a, b: np.zeros(LANES, bool),
    "lt": lambda a, b: a < b,
    "eq": lambda a, b: a == b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "t": lambda a, b: np.ones(LANES, bool),
    "ne": lambda a, b: a != b,
    "lg": lambda a, b: (a < b) | (a > b),
    "o": lambda a, b: ~(np.isnan(a) | np.isnan(b)),
    "u": lambda a, b: np.isnan(a) | np.isnan(b),
    "nge": lambda a, b: ~(a >= b),
    "nlg": lambda a, b: ~((a < b) | (a > b)),
    "ngt": lambda a, b: ~(a > b),
    "nle": lambda a, b: ~(a <= b),
    "neq": lambda a, b: a != b,
    "nlt": lambda a, b: ~(a < b),
    "tru": lambda a, b: np.ones(LANES, bool),
}
INTEGER_CONDITIONS = ("f", "lt", "eq", "le", "gt", "ne", "ge", "t")
FLOAT_CONDITIONS = ("f", "lt", "eq", "le", "gt", "lg", "ge", "o", "u", "nge", "nlg", "ngt", "nle", "neq", "nlt", "tru")


@pytest.mark.parametrize("suffix", COMPARED)
@pytest.mark.parametrize("prefix", ["v_cmp", "v_cmpx"])
def test_compare(suffix: str, prefix: str, arch: str) -> None:
    dtype = COMPARED[suffix]
    rng = np.random.default_rng(7)
    for condition in FLOAT_CONDITIONS if suffix[0] == "f" else INTEGER_CONDITIONS:
        machine = Machine(arch, exec=int(rng.integers(1, 1 << 63)))
        a, b = inputs(dtype, rng), inputs(dtype, rng)
        b = np.where(rng.integers(0, 3, LANES) == 0, a, b).astype(dtype)
        machine.set(2, a)
        machine.set(4, b)
        result = machine.run(f"{prefix}_{condition}_{suffix} vcc, {operand(2, dtype)}, {operand(4, dtype)}")
        assert result.kind == "none", result.text
        want = mask_of(CONDITIONS[condition](a, b)) & machine.exec
        assert result.pair(VCC) == want, condition
        assert result.pair(126) == (want if prefix == "v_cmpx" else machine.exec)


@pytest.mark.parametrize("suffix", ["f16", "f32", "f64"])
def test_compare_class(suffix: str, arch: str) -> None:
    dtype = COMPARED[suffix]
    bits = {2: U16, 4: U32, 8: U64}[np.dtype(dtype).itemsize]
    info = np.finfo(dtype)
    signaling = (np.array(np.inf, dtype).view(bits) + bits(1)).view(dtype)
    classes = [signaling, dtype(np.nan), dtype(-np.inf), -info.max, -info.smallest_subnormal, dtype(-0.0), dtype(0.0)]
    classes += [info.smallest_subnormal, info.tiny, dtype(np.inf)]
    values = np.array([classes[lane % 10] for lane in range(LANES)], dtype)
    values.view(bits)[::10] = np.array(signaling).view(bits)
    for wanted in (*range(10), None):
        machine = Machine(arch)
        machine.set(2, values)
        machine.set(4, np.full(LANES, 1 << wanted if wanted is not None else 0x204, U32))
        for name in ("v_cmp_class", "v_cmpx_class"):
            result = machine.run(f"{name}_{suffix} vcc, {operand(2, dtype)}, v4")
            hits = (wanted,) if wanted is not None else (2, 9)
            assert result.pair(VCC) == sum(1 << lane for lane in range(LANES) if lane % 10 in hits)
