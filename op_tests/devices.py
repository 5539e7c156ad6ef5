"""What --device names, and which of them are here.

gfx942, gfx950   the machine code of hsa/gfx942 and hsa/gfx950, executed by the simulator in gfxsim/, which takes the
                 place of libamdhip64: its devices hip:0 and hip:1 (hip:2 and hip:3 are their twins)
cuda, hip        device 0 of the real runtime
"""

from __future__ import annotations

import ctypes
import importlib.util
import os

import pytest

SIMULATED = {"gfx942": "hip:0", "gfx950": "hip:1"}
SIMULATOR_DEVICES = "gfx942,gfx950,gfx942,gfx950"
NAMES = ("cpu", *SIMULATED, "cuda", "hip")
DEFAULT = ("cpu", *SIMULATED)
HELP = (
    f"{', '.join(NAMES)}; several with commas, or repeated (default: {', '.join(DEFAULT)}, and cuda where there is one)"
)


def requested(option: list[str]) -> list[str]:
    """The names in --device, or the default: everything that runs here."""
    names = [name for text in option for name in text.split(",")]
    wrong = sorted(set(names) - set(NAMES))
    if wrong:
        raise pytest.UsageError(f"--device: expected {', '.join(NAMES)}, got {wrong[0]!r}")
    if "hip" in names and set(names) & set(SIMULATED):
        raise pytest.UsageError(
            "--device: hip and the simulated gfx942 and gfx950 are different libamdhip64; choose one"
        )
    return list(dict.fromkeys(names))


def prepare(names: list[str]) -> list:
    """Builds the simulator if it is wanted and returns the devices. Called before anything imports aiter_c: the
    environment is read once."""
    if not names or set(names) & set(SIMULATED):
        if "gfxsim" not in os.environ.get("AITER_C_HIP_LIBRARY", ""):  # else an instrumented build of it
            from gfxsim.build import build

            os.environ["AITER_C_HIP_LIBRARY"] = str(build())
        os.environ.setdefault("GFXSIM_DEVICES", SIMULATOR_DEVICES)
        if "PYTEST_XDIST_WORKER" in os.environ:  # one process per core
            os.environ.setdefault("GFXSIM_THREADS", "1")
    from aiter_c.testing import Device

    if not names:
        names = [*DEFAULT, *(["cuda"] if _has_devices("cuda") else [])]
    out = []
    for name in names:
        place = SIMULATED.get(name, name if name == "cpu" else f"{name}:0")
        if name != "cpu" and not _has_devices(place.split(":")[0]):
            raise pytest.UsageError(f"--device {name}: {_runtime(place.split(':')[0])['reason']}")
        simulated = name in SIMULATED
        report = report_of_simulator if simulated else None
        out.append(Device(name, place, simulated=simulated, copies=name != "cpu", report=report))
    return out


def report_of_simulator() -> str:
    """What gfxsim found in a kernel; it makes the device work again, which a real one would not."""
    simulator = ctypes.CDLL(os.environ["AITER_C_HIP_LIBRARY"])
    text = ctypes.create_string_buffer(4096)
    simulator.gfxsim_last_report(text, ctypes.c_size_t(len(text)))
    simulator.gfxsim_reset()
    return f"gfxsim: {text.value.decode()}"


def _runtime(kind: str) -> dict:
    from aiter_c import _C

    return _C.runtime_info()["runtimes"][kind]


def _has_devices(kind: str) -> bool:
    runtime = _runtime(kind)
    return runtime["available"] and runtime["devices"] > 0


def torch_gpus() -> int:
    """How many torch sees; 0 without torch."""
    if importlib.util.find_spec("torch") is None:
        return 0
    import torch

    return torch.cuda.device_count()
