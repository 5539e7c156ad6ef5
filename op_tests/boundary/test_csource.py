"""A lint of the C source: what may stand in which room."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = [path for kind in ("[ch]", "inc", "hip") for path in sorted(ROOT.glob(f"csrc/**/*.{kind}"))]
pytestmark = pytest.mark.skipif(not FILES, reason="the C source is not beside the tests")

LONGEST = {".h": 120, ".c": 600, ".inc": 600, ".hip": 900}  # .inc: kernel sources and tables
LONGEST_KERNEL_HEADER = 500  # a header that only GPU compilers read
ALLOCATES = r"\b(malloc|calloc|realloc|aligned_alloc|posix_memalign|alloca|strdup|free)\s*\("
NEVER = r"\b(f?printf|puts|putchar|perror|abort|_?exit|assert|system|setenv|putenv|gets|strcpy|strcat|sprintf)\s*\("


def _code(path: Path) -> str:
    """The source without comments and the contents of strings; line numbers are kept."""
    text = path.read_text()
    blank = lambda match: re.sub(r"[^\n]", " ", match.group(0))  # noqa: E731
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', blank, text, flags=re.S)


def _hits(pattern: str, files: list[Path], *, comments: bool = False) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate((path.read_text() if comments else _code(path)).split("\n"), 1)
        if re.search(pattern, line)
    ]


def _room_of(path: Path) -> str:
    return path.relative_to(ROOT / "csrc").parts[0]


def _is_for_gpus(path: Path) -> bool:
    """A header of the device vocabulary, or of an op for one family of GPUs."""
    return _room_of(path) == "gpu" or re.search(r"/(gfx9|sm90)(/\w+)?\.h$", path.as_posix()) is not None


def _room(*names: str) -> list[Path]:
    return [path for path in FILES if _room_of(path) in names]


def test_ops_core_and_kernels_do_not_allocate() -> None:
    """Only the pool (arenas, once) and the runtime's alloc (aiter_c.empty) may, and the boundary through PyMem."""
    allowed = {"pool.c", "runtime.c", "cpu_ceiling.c"}
    files = [p for p in _room("ops", "core", "cpu", "device") if p.name not in allowed]
    assert _hits(ALLOCATES, files) == []
    assert _hits(r"(?<!->)\b(malloc|calloc|realloc|free)\s*\(", _room("module")) == []


def test_nobody_prints_or_ends_the_process() -> None:
    allowed = {"environment.c"}  # strcpy behind a length check
    assert _hits(NEVER, [p for p in FILES if p.name not in allowed]) == []
    assert _hits(NEVER.replace("|strcpy", ""), FILES) == []


def test_the_environment_is_read_in_one_file() -> None:
    assert {hit.split(":")[0] for hit in _hits(r"\b(secure_)?getenv\s*\(", FILES)} == {"csrc/module/environment.c"}


def test_python_h_stays_in_the_module_room() -> None:
    include = r"^\s*#\s*include\s*<(Python\.h|numpy/)"
    assert all(hit.startswith("csrc/module/") for hit in _hits(include, FILES))
    assert _hits(r"\b(Py[A-Z]\w*|PyObject|_Py\w+)\b", [p for p in FILES if _room_of(p) != "module"]) == []


def test_no_room_includes_upwards() -> None:
    """core <- device <- cpu, ops <- module; ops stand beside cpu and gpu; cpu includes the list of ops."""
    allowed = {
        "core": {"core", "ops"},
        "device": {"core", "device"},
        "cpu": {"core", "device", "cpu", "ops"},
        "gpu": {"core", "gpu"},
        "ops": {"core", "device", "gpu", "cpu", "ops"},
        "bench": {"core", "cpu", "bench"},
        "module": {"core", "device", "cpu", "bench", "ops", "module"},
    }
    wrong = []
    for path in FILES:
        for name in re.findall(r'^\s*#\s*include\s*"([^"]+)"', path.read_text(), re.M):
            target = (path.parent / name).resolve()
            if name == "kernel_hashes.inc":
                continue  # setup.py writes it
            assert target.exists(), f"{path}: {name}"
            if _room_of(target) not in allowed[_room_of(path)]:
                wrong.append(f"{path.relative_to(ROOT)}: {name}")
    assert wrong == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: "-".join(path.relative_to(ROOT / "csrc").parts))
def test_files_are_short_and_say_what_they_are(path: Path) -> None:
    text = path.read_text()
    longest = LONGEST_KERNEL_HEADER if _is_for_gpus(path) else LONGEST[path.suffix]
    assert len(text.split("\n")) - 1 <= longest
    assert "\t" not in text and text.endswith("\n")
    assert [line for line in text.split("\n") if len(line) > 120] == []
    if path.suffix == ".h":
        assert text.startswith("/*"), "a header begins with what it is for"
        guard = re.search(r"#ifndef (\w+)\n#define \1\n", text)
        assert (
            guard
            and guard.group(1) == "_".join(["AC", *path.relative_to(ROOT / "csrc").with_suffix("").parts, "H"]).upper()
        )


def test_every_method_has_a_text_signature() -> None:
    """The docstring of every PyMethodDef row begins with a signature that inspect can read."""
    import inspect

    import aiter_c._C as module

    functions = [getattr(module, n) for n in dir(module) if inspect.isbuiltin(getattr(module, n))]
    methods = [
        vars(kind)[n]
        for kind in (module.Array, module.MlaPlan)
        for n in vars(kind)
        if inspect.ismethoddescriptor(vars(kind)[n]) and ("dlpack" in n or not n.startswith("__"))
    ]
    assert len(functions) >= 14 and len(methods) >= 4
    for function in [*functions, *methods]:
        assert function.__text_signature__, function
        assert inspect.signature(function) is not None and function.__doc__, function


def test_every_kernel_row_is_complete() -> None:
    """Each with a name that is unique on its arch; a CPU kernel's says its arch, a GPU kernel has an object."""
    rows = importlib.import_module("aiter_c._C").kernel_table()
    names = [(row["arch"], row["name"]) for row in rows]
    assert len(names) == len(set(names)) >= 80
    for row in rows:
        assert (row["object"] is None) == row["name"].endswith(f"_{row['arch']}"), row
        assert row["tile_rows"] > 0 and row["threads"] > 0 and row["local_bytes"] >= 0, row


OPS = sorted({path.name for path in (ROOT / "csrc/ops").iterdir() if path.is_dir()} - {"attention"})
GENERAL = [path for path in FILES if _room_of(path) != "ops"]


def test_general_rooms_name_no_op() -> None:
    """core, module, device, gpu and cpu serve every op by its rows; the names are those of the folders in csrc/ops."""
    assert len(OPS) >= 2 and len(GENERAL) > 50
    assert _hits(rf"{'|'.join(OPS)}|\bmla\b|\b(ac_)?mla_|_mla_|\bMLA\b", GENERAL, comments=True) == []


def test_symbols_of_shapes_fit() -> None:
    """core/rules.c keeps a symbol as a number of its characters: at most 8."""
    texts = [text for path in _room("ops") for text in re.findall(r'RULE\([^;{}]*?"([^"]*)"', path.read_text())]
    symbols = {word.partition("+")[0].removesuffix("..") for text in texts for word in text.split()}
    assert len(texts) > 20 and {"T", "H", "B", "512"} <= symbols
    assert all(len(symbol) <= 8 for symbol in symbols), symbols


def test_no_floating_point_surprises_in_the_build() -> None:
    """-ffast-math would break NaN and -inf, on which the contract stands."""
    setup = (ROOT / "setup.py").read_text()
    assert "fast-math" not in setup and "-Ofast" not in setup and "ffinite" not in setup
