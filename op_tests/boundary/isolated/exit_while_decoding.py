"""Run by test_import.py: the main thread ends after some seconds; three daemon threads decode without a pause."""

import sys
import threading
import time

import aiter_c
from aiter_c.testing import MlaCase, build_inputs


def decode_on(arguments: dict) -> None:
    while True:
        aiter_c.mla_decode_fwd(**arguments)


aiter_c.set_num_threads(3)
for seed in range(3):
    inputs = build_inputs(MlaCase(heads=16, q_lens=(1,), kv_lens=(4000,), splits=4, seed=seed))
    threading.Thread(target=decode_on, args=(inputs.arguments(),), daemon=True).start()
time.sleep(float(sys.argv[1]))
print("end")
