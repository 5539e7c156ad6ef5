"""Digests of the sources: setup.py compiles them into the extension, scripts/build_kernels into the code objects."""

import hashlib
import re
from pathlib import Path


def source_hash(root: Path) -> str:
    """16 hex digits over the names and the bytes of everything that aiter_c._C is made from."""
    return _digest(root, {path for kind in ("c", "h", "inc") for path in root.glob(f"csrc/*/*.{kind}")})[:16]


def kernel_source_hash(root: Path) -> str:
    """64 hex digits over csrc/kernels/*.hip and every header that they include, directly or not.

    The extension refuses a code object that does not carry the same digest. A header that no kernel sees does not
    count: changing the planner needs no GPU compiler.
    """
    seen: set[Path] = set()
    waiting = [path.resolve() for path in root.glob("csrc/kernels/*.hip")]
    waiting += [path.resolve() for path in root.glob("csrc/kernels/source_hash.h")]  # by a compiler flag
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        names = re.findall(r'^\s*#\s*include\s*"([^"]+)"', path.read_text(encoding="utf-8"), re.M)
        waiting += [header for name in names if (header := (path.parent / name).resolve()).is_file()]
    return _digest(root.resolve(), seen)


def _digest(root: Path, files: set[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
