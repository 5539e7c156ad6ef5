"""Ids that can be read, and typed into -k: letters, digits, "-", "_" and "."."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

PART, WHOLE = 20, 72  # characters at most: of what one argument gives, of all of them


def part(value: object) -> str | None:
    """What a test's argument adds to its id; None: its name and number, as pytest has it."""
    if isinstance(value, str):
        return re.sub(r"[^A-Za-z0-9_.-]+", "_", value)[:PART].strip("_") or "empty"
    if value is None or isinstance(value, bool | int | float):
        return str(value)
    if isinstance(value, type | ModuleType):
        return value.__name__
    if callable(value):
        return part(value.__name__)
    if isinstance(value, Path):
        return f"{value.parent.name}.{value.name}"
    if isinstance(value, dict):
        return part("-".join(f"{name}_{part(one)}" for name, one in value.items()))
    if isinstance(value, tuple | list):
        return part("-".join(str(part(one)) for one in value))
    return getattr(value, "id", None)


def wrong(nodeid: str) -> bool:
    """Whether the id of a test cannot be read or typed."""
    inside = nodeid.partition("[")[2].removesuffix("]")
    return len(inside) > WHOLE or re.fullmatch(r"[A-Za-z0-9_.-]*", inside) is None
