"""python -m aiter_c.testing "MlaCase(heads=16, ...)": runs one case again. Exit status 1 and why when it fails."""

from __future__ import annotations

import sys

from .case import parse_case
from .run import run_case


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print('usage: python -m aiter_c.testing "MlaCase(field=value, ...)"', file=sys.stderr)
        return 2
    case = parse_case(arguments[0])
    try:
        result = run_case(case)
    except AssertionError as failure:
        print(failure, file=sys.stderr)
        return 1
    print(f"{case.id}: o {result.o.shape} and lse are within tolerance")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
