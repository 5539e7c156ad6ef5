"""Moves between lanes and registers."""

from __future__ import annotations

import numpy as np
import pytest

from gfxsim.tests.exec_cases import F32, U32
from gfxsim.tests.exec_machine import ARCHS, LANES, Machine, words_of
from gfxsim.tests.exec_values import inputs


@pytest.fixture(params=ARCHS)
def arch(request: pytest.FixtureRequest) -> str:
    return request.param


def test_read_and_write_lanes(arch: str) -> None:
    rng = np.random.default_rng(18)
    values = inputs(U32, rng)
    machine = Machine(arch, exec=0xFF00, s={4: 37, 5: 0xABCD})
    machine.set(2, values)
    machine.set(3, values)
    assert machine.run("v_readfirstlane_b32 s6, v2").s[6] == values[8]
    assert machine.run("v_readlane_b32 s6, v2, s4").s[6] == values[37]
    result = machine.run("v_writelane_b32 v3, s5, 11")
    want = values.copy()
    want[11] = 0xABCD
    assert np.array_equal(result.v[3], want)


def test_accumulation_registers(arch: str) -> None:
    values = np.arange(LANES, dtype=U32)
    machine = Machine(arch)
    machine.set(2, values)
    result = machine.run("v_accvgpr_write_b32 a5, v2", "v_accvgpr_mov_b32 a6, a5", "v_accvgpr_read_b32 v0, a6")
    assert result.kind == "none", result.text
    assert np.array_equal(result.v[0], values) and np.array_equal(result.v[256 + 5], values)


def test_swaps(arch: str) -> None:
    rng = np.random.default_rng(19)
    a, b = inputs(U32, rng), inputs(U32, rng)
    machine = Machine(arch)
    machine.set(0, a)
    machine.set(2, b)
    result = machine.run("v_swap_b32 v0, v2")
    assert np.array_equal(result.v[0], b) and np.array_equal(result.v[2], a)
    for width in (16, 32):
        text = f"v_permlane{width}_swap_b32 v0, v2"
        if words_of(arch, text) is None:
            continue
        result = machine.run(text)
        # The odd rows of the first register change places with the even rows of the second.
        rows_a, rows_b = a.reshape(-1, width).copy(), b.reshape(-1, width).copy()
        rows_a[1::2], rows_b[0::2] = b.reshape(-1, width)[0::2], a.reshape(-1, width)[1::2]
        assert np.array_equal(result.v[0], rows_a.ravel()) and np.array_equal(result.v[2], rows_b.ravel())


def test_floats_do_not_leak_the_host_state(arch: str) -> None:
    """Flushing ends with the run: the host computes with denormals again."""
    machine = Machine(arch, mode=0xC0)
    machine.set(2, np.full(LANES, 1, F32))
    machine.run("v_add_f32_e32 v0, v2, v2")
    assert F32(2.0**-140) * F32(1) != 0
