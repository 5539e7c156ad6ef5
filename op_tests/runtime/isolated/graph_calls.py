"""Run by test_graph.py: which functions of the driver one captured and one warm eager call use, as JSON.
Arguments: the device's name and place, the name of a case."""

import ctypes
import json
import os
import sys

import numpy as np

import aiter_c
from aiter_c.testing import Device

name, place, which = sys.argv[1:]
device = Device(name, place, copies=True)
is_hip = place.startswith("hip")
array = aiter_c.from_host(np.zeros(4, np.float32), place)  # aiter_c loads the (counting) driver before anybody else

from runtime.driver import Driver, Graph  # noqa: E402
from runtime.fake_driver import symbols  # noqa: E402
from runtime.replay import LiveCall  # noqa: E402
from runtime.test_graph import CASES  # noqa: E402

SYMBOLS = list(symbols("hip" if is_hip else "cuda"))
counter = ctypes.CDLL(os.environ["AITER_C_HIP_LIBRARY"] if is_hip else "libcuda.so.1")
count_of = counter.gfxsim_call_count if is_hip else counter.count_of
count_of.restype = ctypes.c_int64


def counts() -> dict[str, int]:
    return {symbol: count_of(symbol.encode()) for symbol in SYMBOLS}


def since(before: dict[str, int]) -> dict[str, int]:
    now = counts()
    return {symbol: now[symbol] - before[symbol] for symbol in SYMBOLS if now[symbol] != before[symbol]}


driver = Driver(device)
live, stream = LiveCall(CASES[which], device, driver), driver.stream()
live.enqueue(stream)
driver.synchronize(stream)
report = {}
with Graph(driver, stream):
    before = counts()
    live.enqueue(stream)
    report["captured"] = since(before)
before = counts()
live.enqueue(stream)
report["eager"] = since(before)
driver.synchronize(stream)
before = counts()
aiter_c.from_host(np.zeros(4, np.float32), place)
report["planted"] = since(before)
print(json.dumps(report))
