"""NumPy of every version, and none. CI also runs the smoke tests with NumPy 1.26 itself."""

from __future__ import annotations

import numpy as np
import pytest
from interpreter import run_python

pytestmark = pytest.mark.isolated

#: Makes the NumPy of the process say that its C API is of another version, before aiter_c looks at it.
ANOTHER_C_API = """
import ctypes, numpy as np
try:
    import numpy._core._multiarray_umath as umath
except ModuleNotFoundError:
    import numpy.core._multiarray_umath as umath
pointer = ctypes.pythonapi.PyCapsule_GetPointer
pointer.restype, pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
table = (ctypes.c_void_p * 212).from_address(pointer(umath._ARRAY_API, None))
version = ctypes.CFUNCTYPE(ctypes.c_uint)(lambda: {version:#x})
table[{entry}] = ctypes.cast(version, ctypes.c_void_p).value
"""
ABI, FEATURES = 0, 211  # entries of the table: PyArray_GetNDArrayCVersion, PyArray_GetNDArrayCFeatureVersion

REFUSED = """
import aiter_c
for _ in range(2):  # the second call must not take what the first one found to be too old
    try:
        aiter_c.from_host(np.zeros(4, np.float32), "cpu")
    except ImportError as error:
        print(error)
own = aiter_c.from_host(aiter_c.empty(3, "float32"), "cpu")  # what is no array of NumPy is served
print(own.shape)
"""


@pytest.mark.parametrize(("entry", "version"), [(FEATURES, 0x10), (ABI, 0x7FFFFFFF)])
def test_a_numpy_that_is_too_old_or_too_new_is_refused_by_name(entry: int, version: int) -> None:
    """In words of ours, for arrays alone, and at every call. NumPy's text behind it names the version built for: 1.25
    stands for the C API of 1.26, which the package serves."""
    done = run_python("-c", ANOTHER_C_API.format(entry=entry, version=version) + REFUSED)
    first, second, own = done.stdout.splitlines()
    assert first == second and first.startswith("aiter_c: numpy: expected NumPy 1.26 or newer: module ")
    assert entry == ABI or "(NumPy 1.25) but " in first
    assert own == "(3,)" and done.stderr == ""


@pytest.mark.parametrize("name", ["numpy", "torch"])
@pytest.mark.parametrize("kind", ["stub", "folder", "half"])
def test_a_module_of_that_name_need_not_be_the_package(name: str, kind: str) -> None:
    """A stub, an empty folder, a module whose import is not done: tensors of others are served as before."""
    code = {
        "stub": f"sys.modules[{name!r}] = types.ModuleType({name!r})",
        "folder": f"spec = machinery.ModuleSpec({name!r}, None, is_package=True)\n"
        f"sys.modules[{name!r}] = util.module_from_spec(spec)",
        "half": f"spec = machinery.ModuleSpec({name!r}, None); spec._initializing = True\n"
        f"sys.modules[{name!r}] = util.module_from_spec(spec)",
    }[kind]
    run_python(
        "-c",
        "import sys, types\nfrom importlib import machinery, util\nimport aiter_c\n"
        f"{code}\n"
        "class Producer:\n"
        "    def __init__(self): self.array = aiter_c.empty(3, 'float32')\n"
        "    def __dlpack__(self, **options): return self.array.__dlpack__(**options)\n"
        "    def __dlpack_device__(self): return self.array.__dlpack_device__()\n"
        "assert aiter_c.from_host(Producer(), 'cpu').shape == (3,)\n"
        "assert aiter_c._C.dlpack_path(Producer) == '__dlpack__'",
    )


def test_numpy_of_an_array_without_numpy() -> None:
    """An ImportError that says what is missing and for what."""
    code = (
        "import sys; sys.modules['numpy'] = None\n"
        "import aiter_c\n"
        "try:\n    aiter_c.empty(3, 'float32').numpy()\nexcept ImportError as error:\n    print(error)"
    )
    assert run_python("-c", code).stdout.startswith("Array.numpy: numpy: expected NumPy 1.26 or newer: ")


def test_numpy_of_an_array_without_ml_dtypes() -> None:
    code = (
        "import sys; sys.modules['ml_dtypes'] = None\n"
        "import aiter_c\n"
        "print(aiter_c.empty(3, 'float32').numpy().dtype)\n"
        "try:\n    aiter_c.empty(3, 'bfloat16').numpy()\nexcept ImportError as error:\n    print(error)"
    )
    first, second = run_python("-c", code).stdout.splitlines()
    assert first == "float32" and second.startswith(
        "Array.numpy: ml_dtypes: expected to be installed, for bfloat16 (pip install ml_dtypes): "
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float16", "float32", "int32"])
def test_there_and_back(dtype: str) -> None:
    """Values of every dtype, strided, with the NumPy and ml_dtypes that are installed."""
    import aiter_c

    array = aiter_c.empty((3, 2), dtype).numpy()
    array[:] = np.arange(6).reshape(3, 2).astype(array.dtype)
    back = aiter_c.from_host(array.T, "cpu").numpy()
    assert back.dtype == array.dtype and back.astype(np.float32).tolist() == [[0, 2, 4], [1, 3, 5]]
