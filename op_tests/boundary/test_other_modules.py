"""What stands in sys.modules under the name of a framework may be half imported, an empty folder's, or a stub."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from interpreter import run_python

import aiter_c
from aiter_c._modules import home_of, is_installed

pytestmark = pytest.mark.isolated

#: Everything that may look at another package, with tensors that are nobody's.
USES = """
import aiter_c
from aiter_c import _C

def use():
    array = aiter_c.empty(4, "int32")
    assert aiter_c.get_meta_param(2, 4, 1000, 16, 1, "bfloat16", cu_num=2)[0] == 2
    assert _C.choose_kv_splits(2, 4, 1000, 16, 1, False, 1, False, 2) == 2
    class Foreign:
        shape = (4,)
        def __dlpack__(self, **keywords): return array.__dlpack__(**keywords)
        def __dlpack_device__(self): return array.__dlpack_device__()
    assert aiter_c.from_host(Foreign()).shape == (4,) and _C.dlpack_path(Foreign) == "__dlpack__"
    assert _C.dlpack_path(object()) == "none"
    class Device:
        def __str__(self): return "cpu"
    assert aiter_c.empty(3, "float32", Device()).device == "cpu"
    try:
        aiter_c.from_host(object())
    except TypeError as error:
        assert str(error) == "from_host: array: expected a tensor (DLPack or NumPy), got object"
"""

#: Modules that are not what their name says.
STUBS = {
    "nothing": "",
    "empty": "import sys, types; sys.modules[name] = types.ModuleType(name)",
    "none": "import sys; sys.modules[name] = None",
    "no module": "import sys; sys.modules[name] = 7",
    "raises": "import sys, types\n"
    "class Stub(types.ModuleType):\n"
    "    def __getattr__(self, what): raise ImportError(f'{name} is not installed')\n"
    "sys.modules[name] = Stub(name)",
    "anything": "import sys, types\n"
    "class Stub(types.ModuleType):\n"
    "    def __getattr__(self, what): return Stub(what)\n"
    "    def __call__(self, *arguments): return Stub('called')\n"
    "sys.modules[name] = Stub(name)",
}


@pytest.mark.parametrize("name", ["torch", "torch._C", "numpy"])
@pytest.mark.parametrize("stub", STUBS)
def test_stubs(name: str, stub: str) -> None:
    uses = USES if name != "numpy" else USES.replace("    assert aiter_c.get_meta", "    # assert aiter_c.get_meta")
    run_python("-c", f"name = {name!r}\n{STUBS[stub]}\n{uses}\nuse()")


def _with_empty_folder(name: str, folder: Path) -> str:
    """Code that makes `name` a namespace package, as an empty folder beside the program does where the package is not
    installed. NumPy and ml_dtypes stay, but for `name`."""
    (folder / name).mkdir()
    for other in {"numpy", "numpy.libs", "ml_dtypes"} - {name}:
        source = Path(np.__file__).parents[1] / other
        if source.exists() and not (name == "numpy" and other == "ml_dtypes"):
            (folder / other).symlink_to(source)
    return f"import sys; sys.path = [{str(folder)!r}, *(p for p in sys.path if 'site-packages' not in p)]\n"


@pytest.mark.parametrize("name", ["torch", "numpy", "ml_dtypes"])
def test_an_empty_folder(name: str, tmp_path: Path) -> None:
    uses = USES if name != "numpy" else USES.replace("    assert aiter_c.get_meta", "    # assert aiter_c.get_meta")
    code = (
        f"{_with_empty_folder(name, tmp_path)}import {name}; assert {name}.__file__ is None\n{uses}\nuse()\n"
        f"from aiter_c._modules import is_installed; assert not is_installed({name!r})"
    )
    run_python("-S", "-c", code)


@pytest.mark.torch
@pytest.mark.parametrize("looks", ["use()", "aiter_c.get_meta_param(None, 4, 1000, 16, 1, 'bfloat16')"])
def test_while_another_thread_imports_torch(looks: str) -> None:
    code = (
        f"{USES}\nimport threading\n"
        "importer = threading.Thread(target=lambda: __import__('torch'))\n"
        "importer.start(); calls = 0\n"
        f"while importer.is_alive(): {looks}; calls += 1\n"
        "assert calls > 10, calls\n"
    )
    run_python("-c", code)


def test_while_another_thread_imports_numpy() -> None:
    code = (
        f"{USES.replace('    assert aiter_c.get_meta', '    # assert aiter_c.get_meta')}\nimport threading\n"
        "importer = threading.Thread(target=lambda: __import__('numpy'))\n"
        "importer.start(); calls = 0\n"
        "while importer.is_alive(): use(); calls += 1\n"
        "assert calls > 10, calls\n"
        "import numpy\nassert _C.dlpack_path(numpy.zeros(3)) == 'numpy'\n"
    )
    run_python("-c", code)


@pytest.mark.torch
def test_torch_after_a_stub_was_removed() -> None:
    """A verdict on a stub is none on the real one."""
    code = (
        f"name = 'torch'\n{STUBS['empty']}\n{USES}\nuse()\n"
        "del sys.modules['torch']\nimport torch\nuse()\n"
        "splits, indptr = aiter_c.get_meta_param(2, 4, 1000, 16, 1, torch.bfloat16, cu_num=2, device='cpu')\n"
        "assert indptr.tolist() == [0, 2, 4, 6, 8] and isinstance(indptr, torch.Tensor)\n"
        "assert aiter_c.from_host(torch.ones(2)).shape == (2,)\n"
    )
    run_python("-c", code)


@pytest.mark.parametrize("command", ["env", "bench call_overhead"])
@pytest.mark.parametrize("what", ["stub", "empty folder"])
def test_commands_beside_what_is_no_torch(command: str, what: str, tmp_path: Path) -> None:
    """`env` reports whatever is there, and a bench does without."""
    setup = f"name = 'torch'\n{STUBS['empty']}\n" if what == "stub" else _with_empty_folder("torch", tmp_path)
    argv = ["aiter_c", *command.split()]
    code = f"{setup}\nimport runpy\nsys.argv = {argv}\nrunpy.run_module('aiter_c', run_name='__main__')"
    done = run_python(*(["-S"] if what == "empty folder" else []), "-c", code)
    assert "NumPy" in done.stdout or "frameworks" in done.stdout


class _Lies(type):
    """A metaclass whose types say anything of themselves."""

    __mro__ = property(lambda _: 7)


class _Raises(type):
    """A metaclass whose types say nothing."""

    def __getattribute__(cls, name: str) -> object:
        raise RuntimeError(f"no {name}")


@pytest.mark.parametrize("meta", [_Lies, _Raises])
@pytest.mark.parametrize("speaks", [True, False])
def test_types_of_strange_metaclasses(meta: type, speaks: bool) -> None:
    array = aiter_c.empty(4, "int32")
    methods = {"__dlpack__": lambda _, **k: array.__dlpack__(**k), "__dlpack_device__": lambda _: (1, 0)}
    kind = meta("Strange", (), methods if speaks else {})
    if speaks and meta is _Lies:
        assert aiter_c.from_host(kind()).shape == (4,)
        return
    with pytest.raises(TypeError, match=r"^from_host: array: expected a tensor \(DLPack or NumPy\)"):
        aiter_c.from_host(kind())


def test_homes() -> None:
    class Mine(np.ndarray):
        pass

    assert home_of(np.ndarray, "numpy.ndarray") is np and home_of(Mine, "numpy.ndarray") is np
    assert home_of(list, "numpy.ndarray") is None and home_of(np.ndarray, "torch.Tensor") is None


def test_installed() -> None:
    assert is_installed("numpy") and is_installed("sys") and not is_installed("no_such_module_of_this_name")
    assert not is_installed("numpy.no_such_module") and not is_installed("no_such_package.at_all")
    assert importlib.util.find_spec("numpy") is not None
