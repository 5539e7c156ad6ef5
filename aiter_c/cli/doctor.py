"""python -m aiter_c doctor: what is wrong with this installation, and what to do about it. It looks at what `env`
reports, then computes on every device that was found. Drivers and frameworks are loaded in processes of their own."""

from __future__ import annotations

import os
import re
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aiter_c.cli import env
from aiter_c.cli.report import write_json

#: What shows a GPU's kernel driver whatever libraries there are.
_DEVICE_FILES = {"hip": "/dev/kfd", "cuda": "/dev/nvidiactl"}
_LIBRARIES = {"hip": "ROCm's libamdhip64", "cuda": "the driver's libcuda.so.1"}
_INSTALL = "pip install -e . (from the root of the sources)"

#: argv: the device. `value`: what was computed there. The reference is in fp64.
_COMPUTE = """
import sys
from aiter_c.testing import Device, MlaCase, run_case
place = sys.argv[1]
device = Device(place.partition(":")[0], place, copies=place != "cpu")
run_case(MlaCase(heads=12, q_lens=(1, 2), kv_lens=(70, 200), splits=1), device=device)
run_case(MlaCase(heads=16, q_lens=(1,), kv_lens=(300,), splits=3), device=device)
value = "two calls"
"""

#: The same in a CUDA or HIP graph of torch.
_CAPTURE = """
import sys, torch, aiter_c
value = None
if torch.cuda.is_available():
    def ints(*values): return torch.tensor(values, dtype=torch.int32, device="cuda")
    q, kv = torch.randn(1, 16, 576, device="cuda").bfloat16(), torch.randn(64, 1, 1, 576, device="cuda").bfloat16()
    o, lists = torch.empty(1, 16, 512, device="cuda").bfloat16(), (ints(0, 1), ints(0, 64), ints(*range(64)), ints(1))
    def call(): return aiter_c.mla_decode_fwd(q, kv, o, *lists, 1, num_kv_splits=2)
    call()
    eager = o.clone()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = call()
    o.zero_()
    graph.replay()
    torch.cuda.synchronize()
    if not torch.equal(o, eager):
        raise RuntimeError("a replay gave other bits than the call")
    value = torch.cuda.get_device_name()
"""


@dataclass(frozen=True)
class Finding:
    """wrong: something does not work; otherwise a remark. remedy: what to do, or empty."""

    wrong: bool
    about: str
    text: str
    remedy: str = ""


def _of_package(report: dict[str, Any]) -> Iterator[Finding]:
    package = report["aiter_c"]
    if str(package.get("sources", "")).startswith("changed"):
        yield Finding(False, "extension", "the sources have changed since it was built", _INSTALL)
    if package.get("variant") not in ("release", None):
        yield Finding(False, "extension", f"built as {package['variant']}: slow", f"unset AITER_C_BUILD; {_INSTALL}")


def _of_code_objects(report: dict[str, Any]) -> Iterator[Finding]:
    for arch, state in report["code objects"].items():
        have, _, all_of_them = state.partition(" of ")
        if have != all_of_them.split()[0]:
            remedy = f"scripts/build_kernels --arch {arch}, then {_INSTALL}; or install a wheel; or unset AITER_C_HSA"
            yield Finding(True, f"code objects of {arch}", state, remedy)


def _of_numpy(text: str) -> Iterator[Finding]:
    version = re.match(r"(\d+)\.(\d+)", text)
    if text == "not installed":
        yield Finding(True, "numpy", text, "pip install numpy")
    elif version is None or "refused" in text:
        yield Finding(True, "numpy", text, "pip install --force-reinstall numpy")
    elif (int(version[1]), int(version[2])) < (1, 26):
        yield Finding(True, "numpy", text, "pip install 'numpy>=1.26'")


def _of_torch(text: str, runtimes: dict[str, Any]) -> Iterator[Finding]:
    if text == "not installed":
        return
    if "import" in text or "refused" in text or "without Tensor" in text:
        yield Finding(True, "torch", text, "python -c 'import torch' shows the same; install it anew")
        return
    build = re.match(r"\S+\+(cpu|rocm|cu)", text)
    wants = {"cpu": None, "rocm": "hip", "cu": "cuda"}[build[1]] if build else None
    for kind, facts in runtimes.items():
        if kind != "cpu" and facts["devices"] and build and wants != kind:
            remedy = "install the torch build of this GPU; else aiter_c.empty() and DLPack give tensors there"
            yield Finding(False, "torch", f"{text.split(',')[0]} cannot use the {kind} devices here", remedy)
    if "exchange" not in text and os.environ.get("AITER_C_DLPACK_EXCHANGE") != "0":
        yield Finding(False, "torch", f"{text}: a call takes some microseconds more", "torch 2.10 or newer")


def _of_runtimes(runtimes: dict[str, Any]) -> Iterator[Finding]:
    for kind, file in _DEVICE_FILES.items():
        facts = runtimes[kind]
        if facts["devices"] or not Path(file).exists():
            continue
        remedy = f"install {_LIBRARIES[kind]}" + (", or set AITER_C_HIP_LIBRARY" if kind == "hip" else "")
        if facts["available"]:
            remedy = "see that this user may open it (ROCm: groups `video`, `render`), and what *_VISIBLE_DEVICES hide"
        yield Finding(True, kind, f"{file} is here, but no device: {facts['reason']}", remedy)


def _of_environment(report: dict[str, Any]) -> Iterator[Finding]:
    for name, value in report["environment"].items():
        if value.startswith("ignored"):
            yield Finding(True, name, value, f"see README for its values, or unset {name}")
        elif value.endswith("which nothing reads"):
            yield Finding(False, name, value, f"unset {name}")


def _of_threads(threads: int) -> Iterator[Finding]:
    cpus = os.cpu_count() or 1
    if threads * 2 <= cpus:
        text = f"{threads} of {cpus} processors: the process is pinned, or AITER_C_NUM_THREADS says so"
        yield Finding(False, "threads", text, "widen the affinity (taskset, cgroup, Slurm) if CPU speed matters")


def _try(about: str, code: str, *arguments: str, remedy: str) -> Iterator[Finding]:
    try:
        value = env.ask(code, *arguments)
    except Exception as error:
        yield Finding(True, about, str(error)[-600:], remedy)
    else:
        if value is not None:
            yield Finding(False, about, f"{value}: right")


def _of_devices(runtimes: dict[str, Any]) -> Iterator[Finding]:
    for kind, facts in runtimes.items():
        for index, name in enumerate(facts["device_names"]):
            place = kind if kind == "cpu" else f"{kind}:{index}"
            remedy = "report it, with what `python -m aiter_c env` prints"
            yield from _try(f"{place} ({name})", _COMPUTE, place, remedy=remedy)


def diagnose() -> list[Finding]:
    """Everything that was found, what is wrong first."""
    report = env.collect()
    frameworks = report["frameworks"]
    found = [*_of_package(report), *_of_code_objects(report), *_of_numpy(frameworks["numpy"])]
    found += _of_environment(report)
    try:
        info = env.ask(env.RUNTIMES)
    except Exception as error:
        remedy = "python -m aiter_c env; a driver that hangs or crashes is one to install anew"
        found.append(Finding(True, "drivers", str(error), remedy))
    else:
        runtimes = info["runtimes"]
        found += [*_of_runtimes(runtimes), *_of_torch(frameworks["torch"], runtimes), *_of_threads(info["num_threads"])]
        if frameworks["ml_dtypes"] == "not installed":
            text = "not installed: NumPy has no bfloat16 or fp8, and nothing is computed here"
            found.append(Finding(False, "ml_dtypes", text, "pip install 'aiter_c[demo]'"))
        elif not any(finding.wrong and finding.about == "numpy" for finding in found):
            found += _of_devices(runtimes)
        has_gpu = any(facts["devices"] for kind, facts in runtimes.items() if kind != "cpu")
        if has_gpu and frameworks["torch"] != "not installed" and "+cpu" not in frameworks["torch"]:
            remedy = "without graphs everything works; else update the driver and torch, and report it"
            found += _try("graphs of torch", _CAPTURE, remedy=remedy)
    return sorted(found, key=lambda finding: not finding.wrong)


def run(arguments: Namespace) -> int:
    """The command: exit status 1 where something is wrong."""
    found = diagnose()
    for finding in found:
        env.show(f"{'WRONG' if finding.wrong else 'note '}  {finding.about}: {finding.text}")
        if finding.remedy:
            env.show(f"       {finding.remedy}")
    wrong = sum(finding.wrong for finding in found)
    print(f"{wrong} thing{'s' if wrong != 1 else ''} wrong" if wrong else "nothing wrong")
    if arguments.json:
        write_json(arguments.json, [asdict(finding) for finding in found])
    return 1 if wrong else 0
