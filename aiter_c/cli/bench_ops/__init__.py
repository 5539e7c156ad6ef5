"""The ops that `python -m aiter_c bench` knows: every module of this folder is one, found by its name. It has

COLUMNS                 the op's own columns: name -> format spec, see report.Table
cases(kind, quick)      the shapes to time on a "cpu" or a "gpu"; an empty list where the op does not run
growth(kind)            shapes of the same request in growing batches ("batch" in their facts), or an empty list
Problem(case, backend)  a shape with its tensors, see bench.Problem
peers(backend)          name -> bench.Peer of what else is installed
beside_columns(unit)    if it has other times of its own beside: their columns; a problem's `beside()` measures them
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType


def names() -> list[str]:
    """Without importing them: the command line must parse where NumPy is missing."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> ModuleType:
    """The module of an op."""
    return importlib.import_module(f"{__name__}.{name}")
