"""python -m op_tests.gfxsim.speed: wave-instructions a second on one core, with all checks on and with none."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from . import Simulator, launch

DATA = Path(__file__).parent / "data"
CHECKS = ("check_waits", "check_races", "check_uninitialized")


def rate(simulator: Simulator, arch: str, kernel: str, rounds: int, *, checks: bool) -> float:
    """Million wave-instructions a second of one thread."""
    simulator.set_option("threads", 1)
    for name in CHECKS:
        simulator.set_option(name, checks)
    out = np.zeros(1024, np.float32)
    launch(DATA / arch / "clean.co", kernel, [out, 1], 1, 256)  # warm
    start = time.process_time()
    record = launch(DATA / arch / "clean.co", kernel, [out, rounds], 4, 256)
    elapsed = time.process_time() - start
    simulator.reset_options()
    return record.wave_instructions / elapsed / 1e6


def main() -> None:
    simulator = Simulator()
    print("million wave-instructions a second, one core")
    print(f"{'kernel':12} {'arch':8} {'all checks':>10} {'none':>8}")
    for kernel, rounds in (("valu_loop", 5000), ("mfma_loop", 5000), ("gemm_loop", 2000)):
        for arch in ("gfx942", "gfx950"):
            slow, fast = (rate(simulator, arch, kernel, rounds, checks=checks) for checks in (True, False))
            print(f"{kernel:12} {arch:8} {slow:10.2f} {fast:8.2f}")


if __name__ == "__main__":
    main()
