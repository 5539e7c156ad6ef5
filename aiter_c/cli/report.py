"""What the commands print and write: tables whose rows appear as they are measured, and JSON."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO


class Table:
    """Rows as lines, each printed when it is added. columns: name -> format spec with a width, such as "8.1f" for a
    number and "20s" for a text; a column is as wide as its spec or its name. Numbers to the right, None as a dash."""

    def __init__(self, columns: Mapping[str, str], file: TextIO | None = None) -> None:
        self.columns = columns
        self.rows: list[Mapping[str, Any]] = []
        self._file = file or sys.stdout

    def add(self, row: Mapping[str, Any]) -> None:
        """Prints the row, and before the first one the names. Entries that are no column are kept in `rows` only."""
        if not self.rows:
            self._print({name: name for name in self.columns})
        self.rows.append(row)
        self._print(
            {name: "-" if row.get(name) is None else format(row[name], spec) for name, spec in self.columns.items()}
        )

    def _print(self, cells: Mapping[str, str]) -> None:
        words = []
        for name, spec in self.columns.items():
            width = max(len(name), int(re.match(r"\d*", spec).group() or 0))
            words.append(cells[name].ljust(width) if spec.endswith("s") else cells[name].rjust(width))
        print("  ".join(words).rstrip(), file=self._file, flush=True)


class Progress:
    """A bar on standard error, where that is a terminal: how many of `total` steps are done, and about how long the
    others take. It stands in a line of its own, which `clear` gives to whatever is printed next."""

    _WIDTH = 24

    def __init__(self, total: int, file: TextIO | None = None) -> None:
        self._total, self._file = total, file or sys.stderr
        self._shown, self._begin = self._file.isatty(), time.monotonic()

    def at(self, done: int, label: str) -> None:
        """Before step number `done`, from 0 on."""
        if not self._shown:
            return
        filled = self._WIDTH * done // max(self._total, 1)
        left = ""
        if done:
            seconds = (time.monotonic() - self._begin) / done * (self._total - done)
            left = f", about {seconds:.0f} s left"
        bar = "#" * filled + "-" * (self._WIDTH - filled)
        self._file.write(f"\r\x1b[K[{bar}] {done}/{self._total}{left}: {label[:60]}")
        self._file.flush()

    def clear(self) -> None:
        """Takes the bar away."""
        if self._shown:
            self._file.write("\r\x1b[K")
            self._file.flush()


def write_json(path: str, value: Any) -> None:
    """Writes `value` to the file, indented."""
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
        file.write("\n")


def why_not_writable(path: str) -> str | None:
    """Why the file cannot be written, or None. Asked before a command works for its contents."""
    existed = Path(path).exists()
    try:
        with open(path, "a", encoding="utf-8"):
            pass
    except OSError as error:
        return f"expected a file that can be written, got {path!r}: {error.strerror}"
    if not existed:
        Path(path).unlink(missing_ok=True)
    return None
