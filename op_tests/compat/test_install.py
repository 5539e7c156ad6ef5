"""install() beside an AITER, and its undoing. The AITER is a small one made here: a package of Python."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import aiter_c
from aiter_c import compat

FILES = {
    "__init__.py": (
        "from .ops.attention import *\nfrom .ops.norm import rms_norm\nfrom .ops.mha import *\n"
        "from . import mla, user\n"
    ),
    "user.py": "from .ops.attention import get_mla_metadata_v1\n",
    "mla.py": (
        "import aiter\n"
        "def mla_decode_fwd(q): return 'theirs'\n"
        "def mla_decode_fwd_v4_nm(q): return 'theirs'\n"
        "def other(q): return aiter.get_mla_metadata_v1\n"
    ),
    "ops/__init__.py": "",
    "ops/attention.py": "def get_mla_metadata_v1(): return 'theirs'\ndef pa_fwd_asm(): return 'theirs'\n",
    "ops/norm.py": "def rms_norm(x): return 'theirs'\n",
    "ops/mha.py": "def flash_attn_varlen_func(*args, **kwargs): return 'theirs'\n",
    "jit/__init__.py": "",
    "jit/core.py": "AITER_CSRC_DIR = 'theirs'\n",
}


@pytest.fixture
def their_aiter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, text in FILES.items():
        path = tmp_path / "aiter" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "aiter"]:
        del sys.modules[name]


@pytest.mark.parametrize("imported_before", [False, True])
def test_over_an_aiter(their_aiter: None, imported_before: bool) -> None:
    """Ours where we serve, in the modules and in what the package exports of them; theirs otherwise; and back again."""
    if imported_before:
        import aiter
        import aiter.mla
    handle = compat.install()
    assert handle.over_aiter and handle.active and ("aiter" in sys.modules) == imported_before
    import aiter
    import aiter.mla
    from aiter.jit.core import AITER_CSRC_DIR
    from aiter.ops.triton.gluon.mla_gluon import mla_gluon

    assert aiter.mla.mla_decode_fwd is aiter_c.mla_decode_fwd and mla_gluon is aiter_c.mla_gluon
    assert aiter.get_mla_metadata_v1 is aiter.mla.other(1) is aiter_c.get_mla_metadata_v1
    assert aiter.get_ps_metadata_v1 is aiter_c.get_ps_metadata_v1  # which this AITER does not have
    theirs = (aiter.mla.mla_decode_fwd_v4_nm(1), aiter.rms_norm(1), aiter.ops.attention.pa_fwd_asm(), AITER_CSRC_DIR)
    assert set(theirs) == {"theirs"}
    assert type(aiter.mla.__spec__.loader).__module__ != "aiter_c.compat.modules"
    for missing in ("aiter.ops.pa_sparse_prefill_opus", "aiter.fused_moe"):  # nothing in them is served
        with pytest.raises(ImportError):
            importlib.import_module(missing)
    handle.undo()
    assert not handle.active and aiter.mla.mla_decode_fwd(1) == "theirs" == aiter.get_mla_metadata_v1()
    assert aiter.user.get_mla_metadata_v1() == "theirs"
    assert not hasattr(aiter, "get_ps_metadata_v1") and not hasattr(aiter.mla, "get_meta_param")
    assert [name for name in sys.modules if name.startswith("aiter.ops.triton")] == []
    handle.undo()  # does nothing


def _prefill(width: int) -> tuple:
    q, k, v = (np.ones((3, 2, n), np.float16) for n in (width, width, 128))
    rows = np.array([0, 3], np.int32)
    return q, k, v, rows, rows, 3, 3


def test_attention_of_other_widths_is_theirs(their_aiter: None) -> None:
    """And what ours refuses by name."""
    with compat.install():
        import aiter

        assert aiter.flash_attn_varlen_func(*_prefill(192), causal=True).shape == (3, 2, 128)
        assert aiter.flash_attn_varlen_func(*_prefill(128), causal=True) == "theirs"
        assert aiter.flash_attn_varlen_func(*_prefill(192), window_size=(16, 0)) == "theirs"
        assert aiter.flash_attn_varlen_func.__wrapped__ is compat.names.functions.flash_attn_varlen_func
    assert aiter.flash_attn_varlen_func(1) == "theirs"


def test_alone_and_undone() -> None:
    """All modules are gone afterwards; another install begins anew."""
    for _ in range(2):
        with compat.install() as handle:
            assert not handle.over_aiter and compat.install() is handle
            ours = importlib.import_module("aiter.ops.triton.attention.mla")
            assert importlib.import_module("aiter.some.module.of.theirs").some_function is not None
            assert ours.mla_decode_fwd is aiter_c.mla_decode_segmented
        assert [name for name in sys.modules if name.partition(".")[0] == "aiter"] == []
        assert importlib.util.find_spec("aiter") is None


def test_installing_imports_no_torch() -> None:
    from interpreter import run_python

    code = (
        "import sys; from aiter_c import compat; compat.install(); import aiter.mla, aiter.ops.triton.pa_mqa_logits; "
        "from aiter import dtypes, get_hip_quant; assert 'torch' not in sys.modules"
    )
    run_python("-c", code)
