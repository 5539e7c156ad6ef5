"""AITER_C_DUMP: calls that fail, or that are chosen, go to files, with everything that a replay needs.

Imported where the variable is set, and nowhere else: then the ops are wrapped, before anybody has them. Every call that
may be written is copied to the host before it runs, and on a GPU waited for, so that a device's error is its call's. A
chosen call is written before it runs as well: a call that takes the process with it is on disk.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import os
import platform
import sys
import threading
import time
import warnings
from collections import Counter
from pathlib import Path

import aiter_c
from aiter_c import _C
from aiter_c._dump_file import NEEDS, Call
from aiter_c._modules import is_installed

TYPE_CHECKING = False  # of typing, which takes longer to import than all of this package
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MOST_FILES = 100  # of a process: a loop of failing calls must not fill a disk
FAILED = "failed"
_NO_OPS = {"empty", "from_host", "get_num_threads", "set_num_threads"}


def ops() -> dict[str, Any]:
    """The functions whose calls can be written, by name."""
    public = {name: getattr(aiter_c, name) for name in aiter_c.__all__ if name not in _NO_OPS}
    return {name: value for name, value in public.items() if not isinstance(value, type)}


class Choice:
    """What AITER_C_DUMP_CALLS says. Calls of an op are counted from 1."""

    def __init__(self, text: str, known: set[str]) -> None:
        self._rules: list[tuple[str, str, range]] = []
        for word in filter(None, (part.strip() for part in (text or f"*:{FAILED}").split(","))):
            op, _, which = word.partition(":")
            if op != "*" and op not in known:
                raise ValueError(f"expected an op of aiter_c or *, got {op!r}")
            self._rules.append((op, which, self._range(which)))

    @staticmethod
    def _range(which: str) -> range:
        if which in ("", FAILED):
            return range(1, sys.maxsize)
        first, _, last = which.partition("-")
        if not first.isdecimal() or (last and not last.isdecimal()) or which.endswith("-"):
            raise ValueError(f"expected {FAILED}, a number or two of them with -, got {which!r}")
        return range(int(first), int(last or first) + 1)

    def of(self, op: str, number: int) -> str | None:
        """For a call: "always", "failed", or None."""
        found = None
        for name, which, numbers in self._rules:
            if name in ("*", op) and number in numbers:
                if which != FAILED:
                    return "always"
                found = FAILED
        return found


def _environment() -> dict[str, Any]:
    """What the call ran in: versions, the CPU, the switches. What was not imported was not there."""
    modules = {name: sys.modules.get(name) for name in ("numpy", "ml_dtypes", "torch")}
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: str(getattr(module, "__version__", "?")) for name, module in modules.items() if module},
        "aiter_c": {key: _C.build_info()[key] for key in ("version", "source_hash", "variant", "compiler")},  # type: ignore[literal-required]
        "cpu": {"path": _C.cpu_arch(), "threads": _C.get_num_threads()},
        "switches": {name: value for name, (value, *_) in _C.environment().items() if value is not None},
        "process": os.getpid(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _named(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments by the names of the parameters; those without one are "argument 0" and so on."""
    as_given = {f"argument {i}": value for i, value in enumerate(args)} | kwargs
    try:
        signature = inspect.signature(function)
        named = dict(signature.bind(*args, **kwargs).arguments)
    except TypeError:  # the call will say so
        return as_given
    kinds = {parameter.kind: name for name, parameter in signature.parameters.items()}
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return as_given
    return named | named.pop(kinds.get(inspect.Parameter.VAR_KEYWORD, ""), {})


def _say(text: str) -> None:
    print(f"aiter_c: {text}", file=sys.stderr, flush=True)


class Recorder:
    """Sees the calls of a process."""

    def __init__(self, folder: Path, choice: Choice, most_bytes: int) -> None:
        self._folder, self._choice, self._most_bytes = folder, choice, most_bytes
        self._numbers: Counter[str] = Counter()
        self._files = itertools.count(1)
        self._lock, self._thread = threading.Lock(), threading.local()

    def wrapped(self, name: str, function: Any) -> Any:
        """The function, watched. A call within a call is a part of the outer one."""

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if getattr(self._thread, "call", None) is not None:
                return function(*args, **kwargs)
            with self._lock:
                self._numbers[name] += 1
                number = self._numbers[name]
            when = self._choice.of(name, number)
            if when is None:
                return function(*args, **kwargs)
            return self._watched(name, number, when, function, args, kwargs)

        return call

    def part(self, function: str, plan: Any) -> None:
        """The observer of the C core: a function that is an op ran in this thread."""
        if (call := getattr(self._thread, "call", None)) is not None:
            call.record["parts"].append([function, None if plan is None else repr(plan)])

    def _watched(
        self, name: str, number: int, when: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        call = self._try(name, number, lambda: self._prepared(name, number, function, args, kwargs))
        if call is None:
            return function(*args, **kwargs)
        place = None
        if when == "always":
            place = self._try(name, number, lambda: self._write(call, name, number, "call"))
        self._thread.call = call
        try:
            returned = function(*args, **kwargs)
            _wait_for(call.devices)
        except BaseException as error:
            call.failed(error)
            place = self._try(name, number, lambda: self._write(call, name, number, FAILED, place))
            if place:
                error.add_note(f"The call is in {place}: python -m aiter_c replay {place}")
            raise
        finally:
            self._thread.call = None
        if when == "always" and place:
            self._try(name, number, lambda: (call.read_after(returned), self._write(call, name, number, "call", place)))
        return returned

    def _try(self, name: str, number: int, step: Callable[[], Any]) -> Any:
        """What the step gives. The caller's call goes on where it cannot be written, and it is said why."""
        try:
            return step()
        except Exception as problem:
            _say(f"{name}: call {number} is not dumped: {type(problem).__name__}: {problem}")
            return None

    def _prepared(self, name: str, number: int, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        call = Call(name, number, _named(function, args, kwargs))
        if _is_captured(call.devices):
            raise RuntimeError("its stream is being captured: choose a call outside of the graph")
        if call.num_bytes > self._most_bytes:
            raise RuntimeError(f"{call.num_bytes >> 20} MB of tensors are more than AITER_C_DUMP_MB")
        call.record["environment"] = _environment()
        call.read_before()
        return call

    def _write(self, call: Call, name: str, number: int, what: str, place: Path | None = None) -> Path:
        stem = place.with_suffix("") if place else None
        if stem is None:
            with self._lock:
                written = next(self._files)
            if written > MOST_FILES:
                raise RuntimeError(f"this process has written {MOST_FILES} calls")
            stem = self._folder / f"{name}-{os.getpid()}-{number:06d}-{what}"
        call.write(stem)
        file = stem.with_name(f"{stem.name}.json")
        if call.record["result"] is not None:
            _say(f"{name}: call {number} is in {file}")
        return file


def _torch() -> Any:
    return sys.modules.get("torch")


def _is_captured(devices: set[str]) -> bool:
    """Tensors of torch alone are in graphs: see docs/contract.md."""
    torch = _torch()
    return bool(devices and torch and torch.cuda.is_available() and torch.cuda.is_current_stream_capturing())


def _wait_for(devices: set[str]) -> None:
    """Until the device is done, or says what is wrong: DeviceError, or torch's."""
    for device in devices:
        torch = _torch()
        if torch and torch.cuda.is_available() and device.startswith("cuda"):
            torch.cuda.synchronize(device)
        elif device.startswith(("cuda", "hip")):
            import numpy as np

            _C.from_host(np.zeros(1, np.uint8), device).numpy()


def _recorder_of(switches: dict[str, Any]) -> Recorder:
    """By the AITER_C_DUMP switches. Raises ValueError, OSError or ImportError: what is wrong with them."""
    given = {name: value for name, (value, *_) in switches.items()}
    folder, megabytes = Path(given["AITER_C_DUMP"]).absolute(), given["AITER_C_DUMP_MB"] or "4096"
    if not megabytes.isdecimal():
        raise ValueError(f"AITER_C_DUMP_MB: expected a number, got {megabytes!r}")
    try:
        choice = Choice(given["AITER_C_DUMP_CALLS"] or "", set(ops()))
    except ValueError as problem:
        raise ValueError(f"AITER_C_DUMP_CALLS: {problem}") from None
    if not is_installed("safetensors"):
        raise ImportError(f"AITER_C_DUMP: needs safetensors: {NEEDS}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as problem:
        text = f"AITER_C_DUMP: expected a folder that can be written, got {folder}: {problem.strerror}"
        raise ValueError(text) from None
    return Recorder(folder, choice, int(megabytes) << 20)


def install() -> None:
    """Puts watched functions in the place of the ops, in every module of the package that has them by now."""
    try:
        recorder = _recorder_of(_C.environment())
    except (ValueError, ImportError) as problem:
        warnings.warn(f"{problem}; no call is dumped", RuntimeWarning, stacklevel=2)
        return
    by_identity = {id(function): recorder.wrapped(name, function) for name, function in ops().items()}
    for home, module in list(sys.modules.items()):
        if home.partition(".")[0] == "aiter_c" and module is not _C:
            for name, value in list(vars(module).items()):
                if (watched := by_identity.get(id(value))) is not None:
                    setattr(module, name, watched)
    _C.set_call_observer(recorder.part)
