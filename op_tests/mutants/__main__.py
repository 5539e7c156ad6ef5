"""python op_tests/mutants [WORD ...] [--list]: plants the bugs of bugs.py, here and in op_tests/<op>, one at a time, in
a copy of the checkout, builds what they change and runs the tests that should see it. Prints who was caught and by
what; exit status 1 when one survived that is not known to be harmless. WORDs choose bugs by name. A GPU kernel's bug
needs clang and lld 22.
"""

from __future__ import annotations

import argparse
import os
import resource
import runpy
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bugs import BUGS, FIRST, TESTS, Bug

ROOT = Path(__file__).resolve().parents[2]


for _file in sorted(ROOT.glob("op_tests/*/bugs.py")):
    if _file.parent != Path(__file__).parent:
        _of_op = runpy.run_path(str(_file))
        BUGS += _of_op["BUGS"]
        TESTS |= _of_op["TESTS"]


@dataclass(frozen=True)
class Verdict:
    caught: bool | None  # None: there is no such text, or it does not build
    by: str


def copy_of_checkout(folder: Path) -> None:
    """What git knows or would add: no build products."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def run(folder: Path, *command: str, timeout: float = 900, **settings: str) -> subprocess.CompletedProcess:
    """In the copy, with the copy's package."""
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"} | settings
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout)


class Copy:
    """A checkout of its own, built once; then only what includes a changed file is compiled again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        copy_of_checkout(folder)
        done = self._build_all(CFLAGS="-MMD")
        if done.returncode != 0:
            raise SystemExit((done.stdout + done.stderr)[-3000:])
        commands = [shlex.split(line) for line in done.stdout.split("\n") if " -o " in line]
        self.compile = {words[words.index("-c") + 1]: words for words in commands if "-c" in words}
        self.link = next(words for words in commands if "-c" not in words)
        (built,) = folder.glob("aiter_c/_C.*.so")
        self.link[self.link.index("-o") + 1] = str(built)
        self.failing: dict[str, list[str]] = {}  # by group of tests: what fails without any bug

    def _build_all(self, **settings: str) -> subprocess.CompletedProcess:
        return run(self.folder, sys.executable, "setup.py", "build_ext", "--inplace", "--force", **settings)

    def _users(self, path: Path) -> list[str]:
        """The sources that include the file, or are it."""
        name = path.relative_to(self.folder).as_posix()
        out = []
        for source, words in self.compile.items():
            seen = (self.folder / words[words.index("-o") + 1]).with_suffix(".d").read_text().split()
            if any(Path(os.path.normpath(one)).as_posix() == name for one in seen):
                out.append(source)
        return out

    def rebuild(self, path: Path, code_object: str, arch: str = "") -> str:
        """After the file has changed; what went wrong, or nothing."""
        if path.suffix == ".py":
            return ""
        if code_object:
            # All that include the file: one that is stale is refused by its hash, and that would look like a catch.
            done = run(self.folder, sys.executable, "scripts/build_kernels", "--arch", arch)
            done = self._build_all(CFLAGS="-MMD") if done.returncode == 0 else done
            return "" if done.returncode == 0 else (done.stdout + done.stderr)[-1500:]
        commands = [self.compile[source] for source in self._users(path)]
        for command in [*commands, self.link]:
            done = run(self.folder, *command)
            if done.returncode != 0:
                return done.stderr[-1500:]
        return "" if commands or self._tests_include(path) else "no source includes it"

    def _tests_include(self, path: Path) -> bool:
        """Whether a test compiles the file by itself."""
        return any(f"/{path.name}" in source.read_text() for source in self.folder.glob("op_tests/*/*.c"))

    def restore(self, path: Path, code_object: str) -> None:
        """After the file is as it was."""
        if code_object:
            self._build_all(CFLAGS="-MMD")
        else:
            self.rebuild(path, "")

    def pytest(self, group: str, *options: str) -> subprocess.CompletedProcess:
        """The tests of a group but those that fail anyway."""
        command = ["-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider", *TESTS[group].split(), *options]
        without = [word for name in self.failing.get(group, ()) for word in ("--deselect", name)]
        return run(self.folder, sys.executable, *command, *without)

    def prepare(self, group: str) -> None:
        """Finds what fails without a bug."""
        if group not in self.failing:
            lines = self.pytest(group).stdout.split("\n")
            names = [line.split(" ")[1] for line in lines if line.startswith(("FAILED", "ERROR"))]
            self.failing[group] = names
            if names:
                print(f"{len(names)} tests of {group} fail without a bug, the first is {names[0]}", flush=True)


def place_of(folder: Path, bug: Bug) -> Path | None:
    """The one file that holds the text; wherever it has been moved to."""
    places = [path for pattern in bug.within.split() for path in folder.glob(pattern) if path.is_file()]
    found = [path for path in places if path.read_text(errors="ignore").count(bug.old) == 1]
    return found[0] if len(found) == 1 else None


def judge(copy: Copy, bug: Bug) -> Verdict:
    """Plants, builds, tests, and takes it out again."""
    path = place_of(copy.folder, bug)
    if path is None:
        return Verdict(None, "its text is not in exactly one file")
    copy.prepare(bug.tests)
    before = path.read_text()
    objects = {p: p.read_bytes() for p in copy.folder.glob("hsa/**/*") if bug.code_object and p.is_file()}
    path.write_text(before.replace(bug.old, bug.new))
    try:
        wrong = copy.rebuild(path, bug.code_object, bug.arch)
        return Verdict(None, f"does not build: {wrong}") if wrong else test(copy, bug)
    finally:
        path.write_text(before)
        for name, data in objects.items():
            name.write_bytes(data)
        copy.restore(path, bug.code_object)


def test(copy: Copy, bug: Bug) -> Verdict:
    if bug.tests in FIRST:
        done = run(copy.folder, sys.executable, FIRST[bug.tests], PYTHONPATH=f"{copy.folder}:{copy.folder}/op_tests")
        if done.returncode != 0:
            return Verdict(True, (done.stdout.strip() or f"the process ended with {done.returncode}")[:150])
    try:
        done = copy.pytest(bug.tests, "-x")
    except subprocess.TimeoutExpired:
        return Verdict(True, "no end within 15 minutes")
    lines = done.stdout.strip().split("\n")
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    if done.returncode == 0:
        return Verdict(False, lines[-1])
    if done.returncode == 1 and failed:
        return Verdict(True, failed[0][:150])
    if done.returncode < 0 or done.returncode == 70:
        return Verdict(True, f"the process ended with {done.returncode}")
    return Verdict(None, f"pytest ended with {done.returncode}: {(done.stdout + done.stderr)[-800:]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--green", action="store_true", help="every test passes without a bug: do not find out first")
    arguments = parser.parse_args()
    chosen = [bug for bug in BUGS if not arguments.words or any(word in bug.name for word in arguments.words)]
    if arguments.list:
        print("\n".join(f"{bug.name:34} {bug.why}" for bug in chosen))
        return 0
    with tempfile.TemporaryDirectory(prefix="mutants") as home:
        copy, verdicts = Copy(Path(home)), {}
        if arguments.green:
            copy.failing = {group: [] for group in TESTS}
        for bug in chosen:
            begin = time.monotonic()
            verdicts[bug] = verdict = judge(copy, bug)
            word = {True: "caught", False: "harmless" if bug.harmless else "SURVIVED", None: "ERROR"}[verdict.caught]
            print(f"{word:9} {bug.name:34} {time.monotonic() - begin:5.0f} s  {verdict.by}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
    caught = sum(verdict.caught is True for verdict in verdicts.values())
    print(f"{caught} of {len(chosen)} caught; peak memory of a process {peak} MiB")
    wrong = [b for b, v in verdicts.items() if v.caught is None or (v.caught is False and not b.harmless)]
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
