"""Run by test_import.py: argv = threads, seconds to wait before the interpreter ends."""

import sys
import time

import aiter_c
from aiter_c.testing import MlaCase, run_case

aiter_c.set_num_threads(int(sys.argv[1]))
run_case(MlaCase(heads=16, kv_lens=(300,), splits=4))
time.sleep(float(sys.argv[2]))
print("decoded")
