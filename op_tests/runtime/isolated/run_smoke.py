"""Run by test_faults.py: the smoke cases in one process; a line per failure, and how many ran."""

from mla_decode.cases import SMOKE
from mla_prefill.cases import CORNER

from aiter_c import _C
from aiter_c.testing import run_case

print("variant", _C.build_info()["variant"])
CASES = SMOKE + [case for case in CORNER if case.workers and case.num_rows < 60]
for case in CASES:
    try:
        run_case(case)
    except (AssertionError, ValueError) as failure:  # ValueError: refused by the launcher
        print(repr(case), str(failure).split("\n")[0], sep="\t")
print("ran", len(CASES))
