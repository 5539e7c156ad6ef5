"""What the AMD kernels of prefill cost, counted in the simulator: the rows of `python -m aiter_c bench simcost`."""

from __future__ import annotations

import ctypes
import os

import pytest

from aiter_c.cli import bench_simcost, simcost_prefill
from aiter_c.testing import Device

MFMA_MOST = 1.001  # of the useful minimum, where tiles are full
CAUSAL_MOST = 1.1  # of it in a causal call of 1024 tokens, with everything that tiles and masks add
#: Vector and transcendental instructions against the MFMA clocks of a workgroup: a SIMD issues one in 4 clocks, a
#: transcendental one in 16. Above 1 they bind and not the matrix cores.
ISSUE_MOST = {"bfloat16": 0.85, "float8_e4m3fnuz": 1.02, "float8_e4m3fn": 1.75}
LDS_READS_MOST = 1.15  # of each wave reading each key and value once


@pytest.mark.parametrize("key", simcost_prefill.KEYS, ids=lambda key: "-".join(key).replace("/", "x"))
def test_cost_per_key(key: tuple, selected_devices: dict[str, Device]) -> None:
    """MFMA clocks at the useful minimum, of a causal call within 1.1 of it; the others within what is known."""
    arch, dims, dtype = key
    if arch not in selected_devices:
        pytest.skip(f"{arch} is not selected")
    simulator = ctypes.CDLL(os.environ["AITER_C_HIP_LIBRARY"])
    row = simcost_prefill.row(simulator, bench_simcost.totals_of, key, bench_simcost._PLACES[arch])
    shown = {name: round(value, 3) for name, value in row.items() if isinstance(value, float)}
    assert 0.999 * row["useful"] <= row["mfma clocks"] <= MFMA_MOST * row["useful"], shown
    assert 1 <= row["causal"] <= CAUSAL_MOST, shown
    assert (4 * row["valu"] + 16 * row["trans"]) / row["mfma clocks"] <= ISSUE_MOST[dtype], shown
    head, value = map(int, dims.split("/"))
    key_bytes = (head + value) * (2 if dtype == "bfloat16" else 1)
    queries = 4 * 3 * 1024 / (32 if dtype == "bfloat16" else 64) if dims == "256/256" else 0  # three chunks per tile
    assert row["lds read bytes"] <= LDS_READS_MOST * (4 * key_bytes + queries), shown
