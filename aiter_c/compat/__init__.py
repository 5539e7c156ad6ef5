"""AITER's names over this package, for code that imports `aiter`.

`aiter_c.compat.aiter` has the names of MLA and of sparse attention under AITER's paths below it:
`from aiter_c.compat.aiter.mla import mla_decode_fwd`. `install()` puts them under AITER's own: an engine that does
`from aiter.mla import mla_decode_fwd` then gets ours. See `install`.
"""

from __future__ import annotations

import importlib.util
import sys

from aiter_c.compat.modules import Finder

__all__ = ["Installed", "install"]


class Installed:
    """What `install` has done. over_aiter: AITER is importable, and its own modules are patched; else all are ours."""

    def __init__(self, finder: Finder) -> None:
        self._finder = finder
        self.over_aiter = finder.over

    @property
    def active(self) -> bool:
        """Whether it has not been undone."""
        return self._finder in sys.meta_path

    def undo(self) -> None:
        """Takes it back: modules of AITER's have what they had, ours are gone. What somebody has imported by name
        from them stays in their hands. A second time it does nothing."""
        global _installed
        self._finder.undo()
        if _installed is self:
            _installed = None

    def __enter__(self) -> Installed:
        return self

    def __exit__(self, *error: object) -> None:
        self.undo()


_installed: Installed | None = None


def install() -> Installed:
    """Put this package's functions under AITER's names, for all of this process; returns a handle to undo it.

    Where `aiter` can be imported its modules get our functions, when each is imported, or now if it has been: what is
    not served here (mixtures of experts, GEMM, norms, DeepSeek-V4) stays AITER's, and so do attention of other widths
    (flash_attn_varlen_func) and what describes the machine. Modules that it does not have are added where something in
    them is served. AITER itself is not imported.

    Where there is none all of `aiter` is ours: modules with a spec, under any path. What is not served can be imported,
    and raises UnsupportedError with its name when it is used. Call it before an engine looks for AITER (vLLM:
    before `vllm._aiter_ops` is imported).

    Again: returns the handle of the first time, until that is undone.
    """
    global _installed
    if _installed is not None:
        return _installed
    try:
        over = importlib.util.find_spec("aiter") is not None
    except ValueError:  # a module without a spec, that somebody has put there
        over = True
    finder = Finder("aiter", over=over)
    sys.meta_path.insert(0, finder)
    for name, module in list(sys.modules.items()):
        if over and module is not None and (name == "aiter" or name.startswith("aiter.")):
            finder.patch(module)
    _installed = Installed(finder)
    return _installed
