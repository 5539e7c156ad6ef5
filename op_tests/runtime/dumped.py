"""Calls that are dumped in this process, for the tests of dump and replay."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiter_c
from aiter_c import _C, _dump


class Dumps:
    """Watched ops that write to a folder."""

    def __init__(self, folder: Path, calls: str = "*", most_bytes: int = 1 << 30) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.recorder = _dump.Recorder(folder, _dump.Choice(calls, set(_dump.ops())), most_bytes)

    def op(self, name: str, function: Callable[..., Any] | None = None) -> Callable[..., Any]:
        return self.recorder.wrapped(name, function or getattr(aiter_c, name))

    def call(self, name: str, *args: Any, **kwargs: Any) -> Path:
        """Makes the call, which may be refused, and returns what was written of it."""
        before, observer = set(self.files()), _C.set_call_observer(self.recorder.part)
        try:
            self.op(name)(*args, **kwargs)
        except Exception as error:
            assert error.__notes__[0].startswith("The call is in ")
        finally:
            _C.set_call_observer(observer)
        (path,) = set(self.files()) - before
        return path

    def files(self) -> list[Path]:
        return sorted(self.folder.glob("*.json"))


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Another file in the place of one, after `change` of its record."""
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    return path
