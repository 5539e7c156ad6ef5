"""AITER's production code objects of November 2025: where this machine has them.

They are in the wheel `amd-aiter==0.1.7.post2.dev18` on PyPI, 40 MB, and are never copied into this repository:

    pip install --no-deps amd-aiter==0.1.7.post2.dev18

or AITER_WHEEL=FILE.whl, or AITER_WHEEL= a folder that the wheel was unpacked or installed into.

Those of a later commit, of which no wheel is: scripts/aiter_objects FOLDER, and AITER_OBJECTS=FOLDER.
"""

from __future__ import annotations

import functools
import os
import zipfile
from importlib import metadata
from pathlib import Path

VERSION = "0.1.7.post2.dev18"
MISSING = f"no code objects of AITER: pip install --no-deps amd-aiter=={VERSION}"
FOLDER = "aiter_meta/hsa/{arch}/mla/"


@functools.cache
def _place() -> Path | zipfile.ZipFile | None:
    """What holds the folder aiter_meta."""
    named = os.environ.get("AITER_WHEEL")
    if named:
        path = Path(named)
        return zipfile.ZipFile(path) if path.is_file() else path
    try:
        installed = metadata.distribution("amd-aiter")
    except metadata.PackageNotFoundError:
        return None
    return Path(str(installed.locate_file(""))) if installed.version == VERSION else None


def available() -> bool:
    return bool(names("gfx942"))


@functools.cache
def names(arch: str) -> tuple[str, ...]:
    """The MLA code objects of an architecture, without ".co", in order."""
    place, folder = _place(), FOLDER.format(arch=arch)
    if place is None:
        return ()
    if isinstance(place, zipfile.ZipFile):
        files = [Path(name).name for name in place.namelist() if name.startswith(folder)]
    else:
        files = [path.name for path in (place / folder).glob("*")]
    return tuple(sorted(name.removesuffix(".co") for name in files if name.endswith(".co")))


LATER = "e4048607"
LATER_MISSING = f"no code objects of AITER {LATER}: scripts/aiter_objects FOLDER, and AITER_OBJECTS=FOLDER"


def later_available() -> bool:
    return bool(os.environ.get("AITER_OBJECTS"))


def read_later(arch: str, name: str) -> bytes:
    """A code object of the later commit."""
    folder = os.environ.get("AITER_OBJECTS")
    if folder is None:
        raise FileNotFoundError(LATER_MISSING)
    return Path(folder, "hsa", arch, "mla", f"{name}.co").read_bytes()


def read(arch: str, name: str) -> bytes:
    """A code object."""
    place, path = _place(), f"{FOLDER.format(arch=arch)}{name}.co"
    if place is None:
        raise FileNotFoundError(MISSING)
    return place.read(path) if isinstance(place, zipfile.ZipFile) else (place / path).read_bytes()
