#!/usr/bin/env python3
"""Digests of the sources. setup.py compiles them into the extension, scripts/build_kernels into the code objects, and
the extension refuses a code object whose digest is not the one that it knows.

    scripts/source_hash.py        prints the digests of the code objects, as csrc/device/code_object.c includes them

A code object's digest is over what its compiler sees: the source as preprocessed for that architecture, token by token.
A comment or a line break changes nothing, and neither does a header that the object does not include, such as one of
another vendor. Any C compiler preprocesses it, and all of them give the same tokens, so that an installation needs no
GPU compiler.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: The architectures with code objects, in the order of csrc/core/arch.inc.
ARCHS = tuple(
    re.findall(
        r'^ARCH\(\w+, "(\w+)", .*, "\w+"\)$',
        (Path(__file__).resolve().parents[1] / "csrc/core/arch.inc").read_text(encoding="utf-8"),
        re.M,
    )
)

#: Included before every kernel source, by the GPU compilers as well: the text that the code object carries.
MARKER = "csrc/gpu/source_hash.h"

_TOKEN = re.compile(
    r"""\s*("(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' | \.?\d(?:[eEpP][+-]|[\w.])* | \w+
        | <<= | >>= | \.\.\. | ->\* | :: | -> | \+\+ | -- | << | >> | && | \|\| | \#\# | [-+*/%&|^=!<>]= | \S)""",
    re.X,
)


def source_hash(root: Path) -> str:
    """16 hex digits over the names and the bytes of everything that aiter_c._C is made from."""
    digest = hashlib.sha256()
    for path in sorted(path for kind in ("c", "h", "inc") for path in root.glob(f"csrc/**/*.{kind}")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def kernel_sources(root: Path) -> dict[str, str]:
    """Code object -> its source: csrc/**/<object>.hip, relative to the root. Objects have unique names."""
    paths = sorted(root.glob("csrc/**/*.hip"))
    out = {path.stem: path.relative_to(root).as_posix() for path in paths}
    if len(out) != len(paths):
        raise SystemExit(f"two kernel sources have the same name: {', '.join(map(str, paths))}")
    return out


@contextmanager
def _own_sources(root: Path) -> Iterator[Path]:
    """A copy of the sources without their includes of system headers: those differ from compiler to compiler, and a
    compiler may be wrapped in a script that finds them whatever it is told."""
    with tempfile.TemporaryDirectory() as folder:
        for path in (path for kind in ("h", "inc", "hip") for path in root.glob(f"csrc/**/*.{kind}")):
            copy = Path(folder, path.relative_to(root))
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(re.sub(r"^\s*#\s*include\s*<.*$", "", path.read_text(encoding="utf-8"), flags=re.M))
        yield Path(folder)


def _hash(own: Path, arch: str, source: str, compiler: str | None) -> str:
    command = shlex.split(compiler or os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    command = list(itertools.takewhile(lambda word: not word.startswith("-"), command))
    command += ["-E", "-P", "-undef", "-nostdinc", *_macros(arch), "-include", MARKER, "-x", "c", source]
    made = subprocess.run(command, cwd=own, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise SystemExit(f"{source} cannot be preprocessed for {arch}:\n{made.stderr}")
    tokens = [arch, Path(source).stem, *_TOKEN.findall(made.stdout)]
    return hashlib.sha256("\n".join(tokens).encode()).hexdigest()


def object_hash(root: Path, arch: str, source: str, compiler: str | None = None) -> str:
    """64 hex digits for one source on one architecture. `compiler`: the command of any C compiler; default $CC."""
    with _own_sources(root) as own:
        return _hash(own, arch, source, compiler)


def object_hashes(root: Path, compiler: str | None = None) -> dict[str, str]:
    """ "<arch>/<object>" -> digest, of every code object."""
    sources = kernel_sources(root)
    with _own_sources(root) as own:
        return {
            f"{arch}/{stem}": _hash(own, arch, source, compiler) for arch in ARCHS for stem, source in sources.items()
        }


def as_rows(hashes: dict[str, str]) -> str:
    """The digests as csrc/device/code_object.c includes them (kernel_hashes.inc, in the folder of the build)."""
    return "".join(f'KERNEL_HASH("{name}", "{digest}")\n' for name, digest in hashes.items())


def _macros(arch: str) -> list[str]:
    """What tells the sources their architecture: the GPU compilers define it by themselves."""
    if arch.startswith("gfx"):
        return ["-D__HIP__", f"-D__{arch}__"]
    return ["-D__CUDACC__", f"-D__CUDA_ARCH__={arch.removeprefix('sm_').rstrip('af')}0"]


if __name__ == "__main__":
    sys.stdout.write(as_rows(object_hashes(Path(__file__).resolve().parents[1])))
