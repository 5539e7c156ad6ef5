"""The digest of the C sources: compiled into the extension by setup.py, compared by `python -m aiter_c env`."""

import hashlib
from pathlib import Path


def source_hash(root: Path) -> str:
    """16 hex digits over the names and the bytes of everything that aiter_c._C is made from."""
    digest = hashlib.sha256()
    for path in sorted(path for kind in ("c", "h", "inc") for path in root.glob(f"csrc/*/*.{kind}")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
