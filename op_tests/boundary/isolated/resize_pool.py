"""Run by test_import.py: restarts of the pool between calls, with pauses around the time a worker spins (50 us)."""

import time

import aiter_c
from aiter_c.testing import MlaCase, build_inputs

arguments = build_inputs(MlaCase(heads=4, kv_lens=(50,), splits=4)).arguments()
for i in range(2000):
    aiter_c.set_num_threads(1 + i % 4)
    if i % 3:
        aiter_c.mla_decode_fwd(**arguments)
    if i % 5 == 0:
        time.sleep(i % 7 * 2e-5)
print("ok")
