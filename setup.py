"""Builds aiter_c._C, one C extension on the stable ABI of CPython 3.11, and ships hsa/ with it as aiter_c/hsa/.

AITER_C_BUILD chooses a variant: release (default), debug, asan, coverage, emulated (the AVX-512 kernels through SIMDe,
on any x86 CPU) or faults (upstream bugs planted, see csrc/core/fault.h). AITER_C_WERROR=1 turns warnings into errors.
"""

import os
import platform
import runpy
import shlex
import shutil
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
SOURCES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("csrc/**/*.c"))
HEADERS = sorted(path.relative_to(ROOT).as_posix() for kind in ("h", "inc") for path in ROOT.glob(f"csrc/**/*.{kind}"))
HASHES = runpy.run_path(str(ROOT / "scripts/source_hash.py"))
CODE_OBJECTS = sorted(
    path for pattern in ("manifest.csv", "*/*.co", "*/*.cubin") for path in (ROOT / "hsa").glob(pattern)
)

LIMITED_API = not sysconfig.get_config_var("Py_GIL_DISABLED")
X86 = platform.machine().lower() in ("x86_64", "amd64") and not os.environ.get("AITER_C_CROSS")

COMMON = ["-std=c17", "-fvisibility=hidden", "-ffp-contract=off", "-Wall", "-Wextra"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
VARIANTS = {  # compiler flags, linker flags
    "release": (["-O3", "-g0"], []),
    "debug": (["-O0", "-g3", "-UNDEBUG"], []),
    "asan": (["-O1", "-g", "-fno-omit-frame-pointer", "-UNDEBUG", *SANITIZE], SANITIZE),
    "coverage": (["-O0", "-g", "--coverage"], ["--coverage"]),
    "emulated": (["-O2", "-g0", "-DAC_EMULATE_AVX512", "-Wno-psabi"], []),
    "faults": (["-O2", "-g0", "-DAC_FAULTS"], []),
}
VARIANT = os.environ.get("AITER_C_BUILD") or "release"
if VARIANT not in VARIANTS:
    raise SystemExit(f"AITER_C_BUILD: expected one of {', '.join(VARIANTS)}, got {VARIANT!r}")

if X86 and sys.maxsize > 2**32 and VARIANT == "release" and platform.libc_ver()[0] == "glibc":
    VARIANTS[VARIANT][0].extend(["-include", "csrc/core/glibc.h"])

AVX2 = ["-mavx2", "-mfma", "-mf16c"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"]
AVX512BF16 = [*AVX512, "-mavx512vbmi", "-mavx512bf16"]
AMX = [*AVX512BF16, "-mamx-tile", "-mamx-bf16"]
ARCH_FLAGS = {  # the only files that may use more than the baseline; chosen at run time
    "csrc/cpu/kernels_avx2.c": AVX2,
    "csrc/cpu/kernels_avx512.c": AVX2 if VARIANT == "emulated" else AVX512,
    "csrc/cpu/kernels_avx512bf16.c": AVX2 if VARIANT == "emulated" else AVX512BF16,
    "csrc/cpu/kernels_amx.c": AVX2 if VARIANT == "emulated" else AMX,
}


def numpy_headers() -> str:
    """The folder of NumPy's headers: those of NumPy 2, with which the extension runs on 1.26 as well."""
    try:
        import numpy
    except ImportError as error:
        found = f"found none ({error})"
    else:
        if int(numpy.__version__.split(".")[0]) >= 2:
            return numpy.get_include()
        found = f"found {numpy.__version__}"
    raise SystemExit(
        f"aiter_c: building needs NumPy 2.0 or newer for its headers, {found}. Leave out --no-build-isolation, and pip "
        "provides it for the build alone; or: pip install 'numpy>=2.0'"
    )


def check_tools(compiler: list[str]) -> None:
    """A C compiler and Python's headers, or what to install."""
    if shutil.which(compiler[0]) is None:
        raise SystemExit(
            f"aiter_c: building needs a C compiler, found no '{compiler[0]}'. Install one (Debian and Ubuntu: "
            "apt install gcc libc6-dev; Fedora: dnf install gcc), or name another by CC="
        )
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.is_file():
        raise SystemExit(
            f"aiter_c: building needs Python's headers, found no {header}. Install them (Debian and Ubuntu: "
            "apt install python3-dev; Fedora: dnf install python3-devel)"
        )


class BuildExt(build_ext):
    """Compiles in parallel, each file with the flags of its instruction set."""

    def build_extension(self, ext: Extension) -> None:
        check_tools(self.compiler.compiler)
        ext.include_dirs.append(numpy_headers())
        variant_flags, link_flags = VARIANTS[VARIANT]
        flags = COMMON + variant_flags + (["-Werror"] if os.environ.get("AITER_C_WERROR") == "1" else [])
        texts = {
            "AC_VERSION": self.distribution.get_version(),
            "AC_SOURCE_HASH": HASHES["source_hash"](ROOT),
            "AC_BUILD_VARIANT": VARIANT,
        }
        macros = ext.define_macros + [(name, f'"{text}"') for name, text in texts.items()]

        generated = Path(self.build_temp) / "generated"
        generated.mkdir(parents=True, exist_ok=True)
        hashes = HASHES["object_hashes"](ROOT, shlex.join(self.compiler.compiler))
        (generated / "kernel_hashes.inc").write_text(HASHES["as_rows"](hashes))

        for source in ext.sources:  # beforehand: two threads must not race to make a folder
            (Path(self.build_temp) / source).parent.mkdir(parents=True, exist_ok=True)

        def compile_one(source: str) -> str:
            arch_flags = ARCH_FLAGS.get(source, []) if X86 else []
            (built,) = self.compiler.compile(
                [source],
                output_dir=self.build_temp,
                macros=macros,
                include_dirs=[*ext.include_dirs, str(generated)],
                extra_postargs=flags + arch_flags,
            )
            return built

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(compile_one, ext.sources))
        target = self.get_ext_fullpath(ext.name)
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        self.compiler.link_shared_object(objects, target, libraries=["m", "pthread"], extra_postargs=link_flags)


class BuildPy(build_py):
    """Copies the code objects into the package. An editable install reads them where they are, in hsa/."""

    def _target(self, path: Path) -> Path:
        return Path(self.build_lib) / "aiter_c" / path.relative_to(ROOT)

    def run(self) -> None:
        super().run()
        if not CODE_OBJECTS:
            raise SystemExit("aiter_c: expected code objects in hsa/, found none: this is no full copy of the sources")
        for path in [] if self.editable_mode else CODE_OBJECTS:
            self._target(path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, self._target(path))

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        copied = [] if self.editable_mode else [str(self._target(path)) for path in CODE_OBJECTS]
        return [*super().get_outputs(include_bytecode), *copied]


setup(
    ext_modules=[
        Extension(
            "aiter_c._C",
            sources=SOURCES,
            depends=HEADERS,
            define_macros=[("Py_LIMITED_API", "0x030B0000")] if LIMITED_API else [],
            py_limited_api=LIMITED_API,
        )
    ],
    cmdclass={"build_ext": BuildExt, "build_py": BuildPy},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if LIMITED_API else {},
)
