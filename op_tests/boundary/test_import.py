"""Importing does nothing: no device, no environment change, no NumPy or torch, no output, little time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from interpreter import run_python, script

import aiter_c

pytestmark = pytest.mark.isolated


@pytest.mark.parametrize("threads", ["", "3"])
def test_import_touches_nothing(threads: str) -> None:
    """The script looks at the interpreter before and after `import aiter_c`; threads start at the first use."""
    seen = json.loads(run_python(script("boundary/isolated/import_probe.py"), AITER_C_NUM_THREADS=threads).stdout)
    modules, libraries = seen.pop("new_modules"), seen.pop("new_libraries")
    assert {name: change for name, change in seen.items() if change} == {}
    foreign = [name for name in modules if name.split(".")[0] != "aiter_c"]
    assert foreign == [], f"import aiter_c also imports {foreign}"
    others = [name for name in libraries if "aiter_c" not in name]
    assert not any(word in name for name in others for word in ("cuda", "hip", "hsa", "torch", "numpy")), others


def test_import_is_quiet_and_fast(tmp_path: Path) -> None:
    """Less than 30 ms beyond NumPy, best of five (other work may share the machine), from bytecode as pip leaves it."""
    code = (
        "import time, numpy, ml_dtypes\n"
        "t = time.perf_counter(); import aiter_c; t = time.perf_counter() - t\n"
        "import sys; assert 'torch' not in sys.modules; print(t)"
    )
    bytecode = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}
    runs = [run_python("-X", "frozen_modules=on", "-c", code, **bytecode) for _ in range(5)]
    assert min(float(run.stdout) for run in runs) < 0.030
    assert all(run.stderr == "" for run in runs)


def test_import_has_no_device_files_open() -> None:
    """strace is not everywhere; /proc/self/fd and the memory map are: nothing of /dev beyond what was there."""
    code = (
        "import aiter_c, os\n"
        "paths = [f'/proc/self/fd/{f}' for f in os.listdir('/proc/self/fd')]\n"
        "files = [os.readlink(p) for p in paths if os.path.lexists(p)]\n"
        "print([f for f in files if 'kfd' in f or 'nvidia' in f or 'dri' in f])"
    )
    assert run_python("-c", code).stdout.strip() == "[]"


def test_switches_are_read_once() -> None:
    code = "import aiter_c, os\nos.environ['AITER_C_NUM_THREADS'] = '7'\nprint(aiter_c.get_num_threads())"
    assert run_python("-c", code, AITER_C_NUM_THREADS="3").stdout.strip() == "3"


def test_every_switch_is_listed() -> None:
    code = "from aiter_c import _C; print(sorted(_C.environment()))"
    listed = run_python("-c", code).stdout
    assert "AITER_C_CPU" in listed and "AITER_C_NUM_THREADS" in listed and "AITER_C_DLPACK_EXCHANGE" in listed


@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
def test_decode_in_child_processes(start: str) -> None:
    """Also after the parent's pool has run: a forked child starts its own."""
    run_python(script("boundary/isolated/children.py"), start, timeout=100)


def test_fork_while_another_thread_decodes() -> None:
    """The child has that thread's locks and half of its work, but not the thread."""
    assert run_python(script("boundary/isolated/fork_while_decoding.py"), timeout=120).stdout == "ok\n"


def test_exit_with_a_running_pool_is_clean() -> None:
    """The workers are asleep, spinning or just started when the interpreter goes; none may keep the process."""
    for threads, pause in (("2", "0"), ("3", "0"), ("8", "0"), ("2", "0.01"), ("1", "0")):
        done = run_python(script("boundary/isolated/exit_after_decode.py"), threads, pause, timeout=30)
        assert done.stdout == "decoded\n" and done.stderr == ""


@pytest.mark.parametrize("seconds", ["0.02", "0.1", "0.3"])
def test_exit_while_daemon_threads_decode(seconds: str) -> None:
    """The interpreter goes while ops run, wait for the pool, and wait for the interpreter."""
    done = run_python(script("boundary/isolated/exit_while_decoding.py"), seconds, timeout=30)
    assert done.stdout == "end\n" and done.stderr == ""


def test_the_pool_can_be_resized_at_any_time() -> None:
    """Thousands of restarts with sleepers, spinners and fresh workers; a lost wake-up would hang."""
    assert run_python(script("boundary/isolated/resize_pool.py"), timeout=120).stdout == "ok\n"


def test_two_interpreters_are_refused_or_right() -> None:
    """A sub-interpreter gets an ImportError, not a crash, and the main one goes on."""
    inner = "try: import aiter_c\nexcept ImportError as error: print('refused:', error, flush=True)"
    code = (
        "import aiter_c\n"
        "try:\n"
        "    import _xxsubinterpreters as sub\n"
        "except ImportError:\n"
        "    import _interpreters as sub\n"
        f"sub.run_string(sub.create(), {inner!r})\n"
        "print(aiter_c.empty(3, 'float32').shape)\n"
    )
    first, second = run_python("-c", code).stdout.splitlines()
    assert first.startswith("refused: ") and "subinterpreter" in first and second == "(3,)"


def test_a_source_folder_without_the_extension_says_what_to_do(tmp_path: Path) -> None:
    """At the root of a checkout `aiter_c/` shadows an installed package."""
    package = Path(aiter_c.__file__).parent
    shutil.copytree(package, tmp_path / "aiter_c", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    done = run_python("-S", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import aiter_c", check=False)
    assert done.returncode == 1
    assert "shadows an installed package: run `pip install -e .` there" in done.stderr
