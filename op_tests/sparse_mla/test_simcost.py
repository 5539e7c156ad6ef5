"""What sparse decode costs on AMD's GPUs, counted in the simulator: rows of `python -m aiter_c bench simcost`."""

from __future__ import annotations

import ctypes
import os

import pytest

from aiter_c.cli import bench_simcost, simcost_sparse
from aiter_c.testing import Device

DENSE_MOST = 1.04  # of the issue proxy of dense decode of the same format
MFMA_MOST = {("gfx950", "fp8"): 1.06}  # of the useful minimum: 576 are four and a half steps there
#: Of a key's bytes and its slot. Of a record several waves and lanes load the scales again.
BYTES_MOST = {"fp8_ds_mla": {16: 1.11, 64: 1.25}, "bfloat16": {16: 1.05, 64: 1.05}, "fp8": {16: 1.05, 64: 1.1}}
SLOT_BYTES = 8  # more than dense decode reads, whose pages are 64 keys: a slot, by one lane or two


@pytest.mark.parametrize("key", [key for key in simcost_sparse.KEYS if key[1] == 16 or key[1:] == (64, "fp8_ds_mla")])
def test_cost_per_key(key: tuple, selected_devices: dict[str, Device]) -> None:
    """MFMA clocks at the useful minimum, every byte of a key once, the proxy as dense decode's."""
    arch, heads, cache = key
    if arch not in selected_devices:
        pytest.skip(f"{arch} is not selected")
    simulator = ctypes.CDLL(os.environ["AITER_C_HIP_LIBRARY"])
    row = simcost_sparse.row(simulator, bench_simcost.totals_of, key, bench_simcost._PLACES[arch])
    shown = {name: round(value, 3) for name, value in row.items() if isinstance(value, float)}
    print(f"{arch}, {heads} heads, {cache}: {row['x dense']:.2f} of dense decode")
    assert row["mfma clocks"] <= MFMA_MOST.get((arch, cache), 1.001) * row["useful"], shown
    assert row["x dense"] <= DENSE_MOST, shown
    assert row["x least bytes"] <= BYTES_MOST[cache][heads], shown
    assert row["read bytes"] <= row["dense bytes"] + SLOT_BYTES * heads / 4, shown
