"""Run by test_lists.py: calls by lists of any contents, every pointer flush with a page that no one may touch. The last
line is "ok", the number of calls and of rows that were compared. Arguments: threads, calls."""

from __future__ import annotations

import faulthandler
import sys

from guard_pages import Guarded
from mla_decode.fuzz_lists import CASES, check_fuzzed, fuzz

import aiter_c
from aiter_c.testing import run_case

if __name__ == "__main__":
    faulthandler.enable()
    threads, count = map(int, sys.argv[1:])
    aiter_c.set_num_threads(threads)
    for case in CASES:
        run_case(case)
    rows = 0
    for one in fuzz(count):
        o, lse = Guarded(one.inputs, end=bool(one.number % 2), changed=one.changed).call()
        rows += check_fuzzed(one, o, lse)
    print("ok", count, rows)
