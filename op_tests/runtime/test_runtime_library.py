"""Where driver libraries and code objects are looked for, and what is said when they are missing or do not fit."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from interpreter import run_python
from runtime import fake_driver

from aiter_c import _C

pytestmark = [
    pytest.mark.isolated,
    pytest.mark.skipif(not fake_driver.SYMBOLS.exists(), reason="the C source is not beside the tests"),
]
HIP_NAMES = ["libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so.5", "libamdhip64.so"]
SHOW = "import json; from aiter_c import _C; print(json.dumps(_C.runtime_info()['runtimes'][{vendor!r}]))"


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """HIP's fake driver, to be copied under other names."""
    return fake_driver.build(tmp_path_factory.mktemp("driver"), "hip")


def runtime(vendor: str, before: str = "", **environment: str) -> dict:
    """runtime_info of a fresh process."""
    settings = {"FAKE_ARCHS": "gfx942", "AITER_C_HIP_LIBRARY": ""} | environment
    return json.loads(run_python("-c", before + SHOW.format(vendor=vendor), **settings).stdout)


def place(driver: Path, folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copy(driver, folder / name)
    return folder


def test_newer_versions_come_first(driver: Path, tmp_path: Path) -> None:
    for i, name in enumerate(HIP_NAMES):
        folder = place(driver, tmp_path / name, *HIP_NAMES[i:])
        for newer in HIP_NAMES[:i]:  # not the machine's own, should it have one
            (folder / newer).write_bytes(b"no library")
        info = runtime("hip", LD_LIBRARY_PATH=str(folder))
        assert info["devices"] == 1 and info["library"] == str(folder / name)
        tried = [text.split(":")[0] for text in info["attempts"].split("; ")] if info["attempts"] else []
        assert tried == HIP_NAMES[:i]


def test_a_copy_in_the_process_comes_first_under_any_path(driver: Path, tmp_path: Path) -> None:
    """torch loads its own by path, with another name than the system's."""
    torch_lib = place(driver, tmp_path / "torch" / "lib", "libamdhip64.so")
    system = place(driver, tmp_path / "system", HIP_NAMES[0])
    load = f"import ctypes; ctypes.CDLL({str(torch_lib / 'libamdhip64.so')!r})\n"
    info = runtime("hip", load, LD_LIBRARY_PATH=str(system))
    assert info["library"] == str(torch_lib / "libamdhip64.so") and info["attempts"] is None
    assert runtime("hip", LD_LIBRARY_PATH=str(system))["library"] == str(system / HIP_NAMES[0])


def test_the_switch_comes_before_everything(driver: Path, tmp_path: Path) -> None:
    system = place(driver, tmp_path / "system", HIP_NAMES[0])
    named = place(driver, tmp_path / "named", "another_name.so") / "another_name.so"
    settings = {"LD_LIBRARY_PATH": str(system), "AITER_C_HIP_LIBRARY": str(named)}
    assert runtime("hip", f"import ctypes; ctypes.CDLL({str(system / HIP_NAMES[0])!r})\n", **settings)[
        "library"
    ] == str(named)
    info = runtime("hip", LD_LIBRARY_PATH=str(system), AITER_C_HIP_LIBRARY=str(tmp_path / "absent.so"))
    assert not info["available"] and info["reason"] == f"no HIP driver library: {tmp_path / 'absent.so'}: not found"


def _without_system_library(tmp_path: Path) -> dict[str, str]:
    """Files with the names of the system's libraries that cannot be loaded: nothing of the machine's is found."""
    folder = tmp_path / "broken"
    folder.mkdir()
    for name in [*HIP_NAMES, "libcuda.so.1"]:
        (folder / name).write_bytes(b"no library")
    return {"LD_LIBRARY_PATH": str(folder)}


def test_pip_packages_come_last(driver: Path, tmp_path: Path) -> None:
    """_rocm_sdk_core/lib in a folder of sys.path."""
    packages = tmp_path / "site-packages"
    folder = place(driver, packages / "_rocm_sdk_core" / "lib", HIP_NAMES[0])
    import aiter_c

    python_path = os.pathsep.join([str(Path(aiter_c.__file__).parents[1]), str(packages)])
    command = ["-c", "import sys; sys.path.append(sys.argv[1]); " + SHOW.format(vendor="hip"), str(packages)]
    settings = _without_system_library(tmp_path) | {"FAKE_ARCHS": "gfx942", "AITER_C_HIP_LIBRARY": ""}
    info = json.loads(run_python(*command, **settings, PYTHONPATH=python_path).stdout)
    assert info["library"] == str(folder / HIP_NAMES[0])
    assert [text.split(":")[0] for text in info["attempts"].split("; ")] == HIP_NAMES
    system = place(driver, tmp_path / "system", HIP_NAMES[2])
    settings["LD_LIBRARY_PATH"] = f"{system}"
    assert json.loads(run_python(*command, **settings).stdout)["library"].startswith(str(system))


@pytest.mark.parametrize("vendor", ["hip", "cuda"])
def test_nothing_found_names_every_attempt(tmp_path: Path, vendor: str) -> None:
    names = HIP_NAMES if vendor == "hip" else ["libcuda.so.1"]
    title = vendor.upper()
    settings = _without_system_library(tmp_path) | {"AITER_C_HIP_LIBRARY": ""}
    info = runtime(vendor, **settings)
    assert not info["available"] and info["devices"] == 0 and info["library"] is info["version"] is None
    assert info["reason"].startswith(f"no {title} driver library: ")
    for name in names:
        assert f"{name}: file too short" in info["reason"] or f"/{name}: file too short" in info["reason"]
    code = f"""
import aiter_c
for call in (lambda: aiter_c.empty(3, "float32", "{vendor}:0"),
             lambda: aiter_c.mla_plan(1, 16, 1, 1, "bfloat16", "bfloat16", device="{vendor}")):
    try:
        call()
    except aiter_c.UnsupportedError as error:
        assert "no {title} driver library: " in str(error), error
    else:
        raise SystemExit("no error")
from aiter_c.cli.env import collect
assert collect()["runtimes"]["{vendor}"].startswith("off: no {title} driver library: "), collect()
assert aiter_c.from_host(__import__("numpy").ones(3)).numpy().sum() == 3
"""
    run_python("-c", code, **settings)


def test_a_library_found_later_is_taken(driver: Path, tmp_path: Path) -> None:
    """Not finding one is not remembered: torch may be imported afterwards."""
    folder = place(driver, tmp_path / "torch", "libamdhip64.so")
    code = f"""
import ctypes
import aiter_c
assert not aiter_c._C.runtime_info()["runtimes"]["hip"]["available"]
ctypes.CDLL({str(folder / "libamdhip64.so")!r})
assert aiter_c.empty(3, "float32", "hip:0").numpy().shape == (3,)
"""
    settings = _without_system_library(tmp_path) | {"FAKE_ARCHS": "gfx942", "AITER_C_HIP_LIBRARY": ""}
    run_python("-c", code, **settings)


@pytest.mark.parametrize("vendor", ["hip", "cuda"])
def test_every_needed_symbol_is_missed_by_name(tmp_path: Path, vendor: str) -> None:
    needed = [name for name, is_needed in fake_driver.symbols(vendor).items() if is_needed]
    assert len(needed) >= 14
    for number, missing in enumerate([*((name,) for name in needed), tuple(needed[2:5])]):
        library = fake_driver.build(tmp_path / str(number), vendor, without=missing)
        info = runtime(vendor, **fake_driver.environment(vendor, library))
        assert not info["available"]
        assert info["reason"] == f"the {vendor.upper()} driver library lacks {', '.join(missing)}"


@pytest.mark.parametrize("vendor", ["hip", "cuda"])
def test_optional_symbols_are_optional(tmp_path: Path, vendor: str) -> None:
    """HIP 5 fills an older layout of the device's properties under the older name."""
    optional = {name for name, needed in fake_driver.symbols(vendor).items() if not needed}
    library = fake_driver.build(tmp_path, vendor, without=tuple(optional - {"hipGetDeviceProperties"}))
    info = runtime(vendor, **fake_driver.environment(vendor, library))
    names = {"hip": ["gfx942, 300 units", "gfx950, 301 units"], "cuda": ["sm_90a, 132 units", "sm_90a, 133 units"]}
    assert info["device_names"][:2] == names[vendor] and info["version"] == vendor.upper()
    if vendor == "hip":
        library = fake_driver.build(tmp_path / "neither", vendor, without=tuple(optional))
        info = runtime(vendor, **fake_driver.environment(vendor, library))
        text = "the HIP driver library lacks hipGetDevicePropertiesR0600 and hipGetDeviceProperties"
        assert info["device_names"][0] == f"hip:0: {text}"


DECODE = """
import numpy as np
import aiter_c
place = "hip:0"
q, o = aiter_c.empty((1, 16, 576), "bfloat16", place), aiter_c.empty((1, 16, 512), "bfloat16", place)
kv = aiter_c.empty((4, 1, 1, 576), "bfloat16", place)
indptr, indices = (aiter_c.from_host(np.array(x, np.int32), place) for x in ([0, 1], [0]))
for _ in range(2):
    try:
        aiter_c.mla_decode_fwd(q, kv, o, indptr, indptr, indices, None, 1, num_kv_splits=1, stream=0)
    except aiter_c.DeviceError as error:
        assert (error.code, error.name, error.call) == (None, None, None)
        print(error)
    else:
        print("launched")
"""


def decode(driver: Path, **environment: str) -> list[str]:
    settings = {"AITER_C_HIP_LIBRARY": str(driver), "FAKE_ARCHS": "gfx942"} | environment
    return run_python("-c", DECODE, **settings).stdout.splitlines()


def test_code_objects_of_other_sources_are_refused(driver: Path, tmp_path: Path) -> None:
    ours, other = _C.build_info()["code_objects"]["gfx942/mla_decode"], "0123456789abcdef" * 4
    good = fake_driver.write_code_objects(tmp_path / "good")
    assert decode(driver, AITER_C_HSA=str(good)) == ["launched"] * 2
    stale = fake_driver.write_code_objects(tmp_path / "stale", other)
    (first, second) = decode(driver, AITER_C_HSA=str(stale))
    assert first == second and first.startswith("mla_decode_")
    assert f"built from kernel source {ours}, got one built from {other}: {stale}/gfx942/" in first
    assert "scripts/build_kernels" in first
    for path in stale.rglob("*.co"):
        path.write_bytes(b"fake code object" * 9)
    assert "got one built from unknown: " in decode(driver, AITER_C_HSA=str(stale))[0]
    for path in stale.rglob("*.co"):
        path.write_bytes(f"fake code object aiter_c kernel source {ours[:40]}".encode())
    assert f"got one built from {ours[:40]}: " in decode(driver, AITER_C_HSA=str(stale))[0]
    for path in stale.rglob("*.co"):
        path.write_bytes(b"")
    assert "expected a code object, got a file that cannot be read: " in decode(driver, AITER_C_HSA=str(stale))[0]


def test_missing_code_objects_name_the_places(driver: Path, tmp_path: Path) -> None:
    text = decode(driver, AITER_C_HSA=str(tmp_path))[0]
    assert f"expected its code object: {tmp_path}/gfx942/" in text and "(not found); scripts/build_kernels" in text


def test_a_code_object_that_the_driver_refuses(driver: Path, tmp_path: Path) -> None:
    folder = fake_driver.write_code_objects(tmp_path)
    for path in folder.rglob("*.co"):
        path.write_bytes(b"another " + path.read_bytes())
    code = DECODE.replace("(error.code, error.name, error.call) == (None, None, None)", "error.code == 200")
    settings = {"AITER_C_HIP_LIBRARY": str(driver), "FAKE_ARCHS": "gfx942", "AITER_C_HSA": str(folder)}
    text = run_python("-c", code, **settings).stdout.splitlines()[0]
    assert text.startswith("hip:0: hipModuleLoadData failed: ") and "(kernel mla_decode_" in text


def test_code_objects_beside_the_extension(driver: Path, tmp_path: Path) -> None:
    """hsa/ in the package (a wheel) comes before hsa/ one folder up (a checkout)."""
    import aiter_c

    package = tmp_path / "aiter_c"
    package.mkdir()
    for source in Path(aiter_c.mla.__file__).resolve().parent.iterdir():
        if source.suffix != ".so" and source.name not in ("__pycache__", "hsa"):
            (package / source.name).symlink_to(source)
    shutil.copy(_C.__file__, package / Path(_C.__file__).name)
    settings = {"AITER_C_HSA": "", "PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": "1"}
    first = decode(driver, **settings)[0]
    assert f"{package}/hsa/gfx942/" in first and f"{package}/../hsa/gfx942/" in first
    fake_driver.write_code_objects(tmp_path / "hsa")
    assert decode(driver, **settings) == ["launched"] * 2
    fake_driver.write_code_objects(package / "hsa", "f" * 64)
    assert f"{package}/hsa/gfx942/" in decode(driver, **settings)[0]


def test_the_kernel_table_says_what_is_there(tmp_path: Path) -> None:
    code = """
from aiter_c import _C
print(sorted({(row["arch"], row["available"]) for row in _C.kernel_table() if row["object"]}))
"""
    archs = sorted({row["arch"] for row in _C.kernel_table() if row["object"]})
    empty = run_python("-c", code, AITER_C_HSA=str(tmp_path)).stdout.strip()
    assert empty == str([(arch, False) for arch in archs])
    fake_driver.write_code_objects(tmp_path)
    assert run_python("-c", code, AITER_C_HSA=str(tmp_path)).stdout.strip() == str([(arch, True) for arch in archs])


def test_importing_loads_no_driver(driver: Path, tmp_path: Path) -> None:
    folder = place(driver, tmp_path, *HIP_NAMES)
    code = """
import aiter_c, aiter_c.mla
aiter_c.empty(3, "float32").numpy()
aiter_c._C.kernel_table(), aiter_c._C.environment(), aiter_c._C.build_info()
assert "libamdhip64" not in open("/proc/self/maps").read()
aiter_c._C.runtime_info()
assert "libamdhip64" in open("/proc/self/maps").read()
"""
    run_python("-c", code, LD_LIBRARY_PATH=str(folder), AITER_C_HIP_LIBRARY="", FAKE_ARCHS="gfx942")
