"""Every case on the CPU in one process, some of their partials, until one fails: what op_tests/mutants asks first,
because it starts at once. Exit status 1 and the failure."""

import sys

from mla_decode.cases import ALL
from mla_decode.partials import check_partials

from aiter_c.testing import run_case

for number, case in enumerate(ALL):
    try:
        outcome = run_case(case)
        if number % 8 == 0:
            check_partials(outcome)
    except AssertionError as failure:
        print(f"{case!r}: {failure}".split("\n")[0])
        sys.exit(1)
