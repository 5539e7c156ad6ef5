"""Ids that can be read, and typed into -k: letters, digits, "-", "_" and "."."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

PART, WHOLE = 20, 72  # characters at most: of what one argument gives, of all of them


def part(value: object) -> str | None:
    """What a test's argument adds to its id; None: its name and number, as pytest has it."""
    if isinstance(value, str):
        return re.sub(r"[^A-Za-z0-9_.-]+", "_", value)[:PART].strip("_") or "empty"
    if value is None or isinstance(value, bool | int | float):
        return str(value) if len(str(value)) <= PART else f"{float(value):.3g}".replace("+", "")
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


def readable(parametrize: Callable) -> Callable:
    """Metafunc.parametrize, with whatever ids it is given made readable."""

    @functools.wraps(parametrize)
    def made(names: object, values: object, *, ids: object = None, **more: object) -> None:
        if callable(ids):
            given = ids
            ids = lambda value: None if (text := given(value)) is None else part(text)  # noqa: E731
        elif ids is not None:
            ids = [one if one is None else part(one) for one in ids]
        parametrize(names, values, ids=ids, **more)

    return made


def wrong(nodeid: str) -> bool:
    """Whether the id of a test cannot be read or typed."""
    inside = nodeid.partition("[")[2].removesuffix("]")
    return len(inside) > WHOLE or re.fullmatch(r"[A-Za-z0-9_.-]*", inside) is None
