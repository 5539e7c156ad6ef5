"""Modules under AITER's paths: ours, where AITER has none, and AITER's own with our functions in them.

A finder in sys.meta_path makes both, at the import of each: nothing of AITER is imported before somebody asks for it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from aiter_c import UnsupportedError
from aiter_c.compat import names
from aiter_c.compat.unserved import Unserved

_MISSING = object()

#: Functions of many models: with AITER installed what ours refuse is AITER's.
_SHARED = ("flash_attn_varlen_func", "flash_attn_varlen_fp8_pertensor_func")


def _or_theirs(ours: Callable[..., Any], theirs: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(ours)
    def either(*args: Any, **kwargs: Any) -> Any:
        try:
            return ours(*args, **kwargs)
        except UnsupportedError:
            return theirs(*args, **kwargs)

    return either


class Provided(Loader):
    """Makes a module of ours in the place of `path`, a module of AITER."""

    def __init__(self, path: str, root: str) -> None:
        self.path, self.root = path, root

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        fill(module, self.path, self.root)


def fill(module: ModuleType, path: str, root: str) -> None:
    """Gives a module the names of AITER's module `path`. Under the root "aiter" itself any other name can be imported
    as well; under another only those of the table."""
    found = names.unserved(path) | names.served(path)
    module.__dict__.update(found)
    module.__dict__["__all__"] = sorted({*found, *names.STAND_INS.get(path, {}), *names.ALIASES.get(path, {})})
    known = names.modules()

    def __getattr__(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
        target = names.ALIASES.get(path, {}).get(name, f"{path}.{name}")
        if target in known:
            return importlib.import_module(root + target.removeprefix("aiter"))
        try:
            return names.stand_in(path, name)
        except KeyError:
            if root != "aiter":
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}") from None
        return Unserved(f"{path}.{name}")

    module.__dict__["__getattr__"] = __getattr__


class _Patched(Loader):
    """AITER's own loader, and then our functions in its module."""

    def __init__(self, theirs: Any, patch: Callable[[ModuleType], None]) -> None:
        self.theirs, self.patch = theirs, patch

    def create_module(self, spec: ModuleSpec) -> Any:
        return self.theirs.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self.theirs
        module.__loader__ = self.theirs
        self.theirs.exec_module(module)
        self.patch(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.theirs, name)


def _put_back(module: ModuleType, name: str, theirs: Any) -> None:
    if theirs is _MISSING:
        module.__dict__.pop(name, None)
    else:
        setattr(module, name, theirs)


class Finder(MetaPathFinder):
    """Finds the modules below `root`. over: AITER is installed, and its modules are to be patched."""

    def __init__(self, root: str, *, over: bool) -> None:
        self.root, self.over = root, over
        self.changes: list[tuple[ModuleType, str, Any]] = []  # (module, name, what it was)
        self.replaced: dict[int, tuple[Any, Any]] = {}  # by the id of what we put there: it, and what it replaced
        self.provided: list[str] = []

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.root and not fullname.startswith(f"{self.root}."):
            return None
        place = "aiter" + fullname.removeprefix(self.root)
        if self.over:
            theirs = self._theirs(fullname, path, target)
            if theirs is not None:
                if names.served(place) and hasattr(theirs.loader, "exec_module"):
                    theirs.loader = _Patched(theirs.loader, self.patch)
                return theirs
            if not any(names.served(known) for known in names.NAMES if f"{known}.".startswith(f"{place}.")):
                return None
        elif self.root != "aiter" and place not in names.modules():
            return None
        self.provided.append(fullname)
        return ModuleSpec(fullname, Provided(place, self.root), origin="aiter_c.compat", is_package=True)

    def _theirs(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
        for finder in sys.meta_path:
            if finder is not self and not isinstance(finder, Finder) and hasattr(finder, "find_spec"):
                spec = finder.find_spec(fullname, path, target)
                if spec is not None:
                    return spec
        return None

    def patch(self, module: ModuleType) -> None:
        """Puts our functions into a module of AITER's. It may have some already, from a module that it imports."""
        for name, ours in names.served(module.__name__).items():
            theirs = module.__dict__.get(name, _MISSING)
            if id(theirs) in self.replaced:
                ours, theirs = self.replaced[id(theirs)]
            elif name in _SHARED and callable(theirs):
                ours = _or_theirs(ours, theirs)
            self.replaced[id(ours)] = ours, theirs
            self.changes.append((module, name, theirs))
            setattr(module, name, ours)

    def undo(self) -> None:
        """Takes everything back that it has changed, and what modules of AITER's have imported of it since."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        for module, name, theirs in reversed(self.changes):
            _put_back(module, name, theirs)
        for fullname, module in list(sys.modules.items()):
            if fullname == self.root or fullname.startswith(f"{self.root}."):
                for name, value in list(vars(module).items()):
                    if id(value) in self.replaced:
                        _put_back(module, name, self.replaced[id(value)][1])
        for fullname in reversed(self.provided):
            module = sys.modules.get(fullname)
            if module is not None and isinstance(getattr(module.__spec__, "loader", None), Provided):
                del sys.modules[fullname]
                parent, _, name = fullname.rpartition(".")
                if vars(sys.modules.get(parent, ModuleType(""))).get(name) is module:
                    delattr(sys.modules[parent], name)
        self.changes.clear()
        self.replaced.clear()
        self.provided.clear()
