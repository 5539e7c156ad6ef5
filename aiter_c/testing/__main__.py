"""python -m aiter_c.testing "MlaCase(heads=16, ...)" [cuda:0]: runs one case of any op again, there or on the CPU. Exit
status 1 and why when it fails. hip:0 is a simulated device where AITER_C_HIP_LIBRARY names the simulator."""

from __future__ import annotations

import sys

from .case import parse_case
from .device import CPU, Device
from .run import run_case


def main(arguments: list[str]) -> int:
    if len(arguments) not in (1, 2):
        print('usage: python -m aiter_c.testing "SomeCase(field=value, ...)" [DEVICE]', file=sys.stderr)
        return 2
    case, device = parse_case(arguments[0]), CPU
    if len(arguments) == 2 and arguments[1] != "cpu":
        device = Device(arguments[1], arguments[1], copies=True)
    try:
        outcome = run_case(case, device=device)
    except AssertionError as failure:
        print(failure, file=sys.stderr)
        return 1
    shown = ", ".join(f"{name} {array.shape}" for name, array in outcome.outputs.items() if array is not None)
    print(f"{case.id}: {shown} within tolerance")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
