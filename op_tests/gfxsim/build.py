"""Builds the simulator on first use: C files beside this one -> libgfxsim.so in a cache folder named by their hash."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOURCE = Path(__file__).resolve().parent / "src"
FLAGS = ["-std=gnu17", "-O3", "-fPIC", "-fvisibility=hidden", "-pthread"]
FLAGS += ["-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off"]
LIBRARY = "libgfxsim.so"
_failed: dict[Path, RuntimeError] = {}  # so that a test suite does not try again with every test


def compiler() -> list[str]:
    return os.environ.get("CC", "cc").split()


def cache_folder() -> Path:
    """Where builds are kept; a folder of the user's own, also where only a shared temporary one exists."""
    root = os.environ.get("XDG_CACHE_HOME")
    if not root:
        home = Path.home()
        root = home / ".cache" if os.access(home, os.W_OK) else Path(tempfile.gettempdir()) / f"cache-{os.getuid()}"
    return Path(root) / "gfxsim"


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"building gfxsim failed: {' '.join(command)}\n{done.stdout}{done.stderr}")


def _accepts(flag: str) -> bool:
    command = [*compiler(), flag, "-x", "c", "-fsyntax-only", os.devnull]
    return subprocess.run(command, capture_output=True).returncode == 0


def _cpu() -> bytes:
    """What -march=native depends on: a cache folder may be shared between machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return b""
    return next((line for line in lines if line.startswith(("flags", "Features"))), "").encode()


def key(extra_flags: tuple[str, ...] = ()) -> str:
    digest = hashlib.sha256(repr([compiler(), FLAGS, extra_flags]).encode() + _cpu())
    for path in sorted(SOURCE.rglob("*.[chi]*")):
        digest.update(f"{path.relative_to(SOURCE)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def build(extra_flags: tuple[str, ...] = ()) -> Path:
    """The library's path. Of several processes that want it at once, one builds; it appears complete or not at all."""
    target = cache_folder() / key(extra_flags) / LIBRARY
    if target.exists():
        return target
    if target in _failed:
        raise _failed[target]
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.parent / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed, also by a crash
        if not target.exists():
            try:
                _build(target, extra_flags)
            except RuntimeError as error:
                _failed[target] = error
                raise
    return target


def _build(target: Path, extra_flags: tuple[str, ...]) -> None:
    scratch = Path(tempfile.mkdtemp(dir=target.parent))
    try:
        native = ["-march=native"] if _accepts("-march=native") else []
        sources = sorted(SOURCE.rglob("*.c"))
        objects = [scratch / f"{path.relative_to(SOURCE)}.o".replace("/", "_") for path in sources]
        flags = [*compiler(), *FLAGS, *native, *extra_flags]
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            jobs = [[*flags, "-c", str(s), "-o", str(o)] for s, o in zip(sources, objects, strict=True)]
            list(pool.map(_run, jobs))
        _run([*flags, "-shared", *map(str, objects), "-o", str(scratch / LIBRARY), "-lm"])
        os.replace(scratch / LIBRARY, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
