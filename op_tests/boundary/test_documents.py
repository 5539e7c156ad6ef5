"""What the documents say exists: files that are named, the command that CI takes from the README, the commands; and
their examples run."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from interpreter import run_python

import aiter_c
from aiter_c.__main__ import _parser

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("aiter_c", "csrc", "docs", "hsa", "op_tests", "scripts", ".ci")
TEXTS = {".c", ".h", ".inc", ".hip", ".py", ".pyi", ".md", ".toml", ""}
FILES = [
    path
    for path in [*ROOT.glob("*"), *(path for folder in FOLDERS for path in ROOT.glob(f"{folder}/**/*"))]
    if path.is_file() and path.suffix in TEXTS and path != Path(__file__).resolve()
]
pytestmark = pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="the documents are not beside the tests")

#: "SOMETHING 2.1", "SOMETHING.md": a rule that stands elsewhere.
CITATION = re.compile(
    r"\b(?:SPEC|CALLERS|HAZARDS|STYLE|DESIGN|PERFORMANCE|TECHNIQUES)(?:\.md)?[ ,]+\d|\b[Ii]ssue, section"
)
MARKDOWN = re.compile(r"[\w/.*-]+\.md\b")


def _found(pattern: re.Pattern[str]) -> list[tuple[Path, str]]:
    return [(path, match) for path in FILES for match in pattern.findall(path.read_text(errors="replace"))]


def test_no_rule_stands_in_a_document_that_is_not_here() -> None:
    """A reader has the repository alone: a rule is written out, or docs/contract.md has it."""
    assert len(FILES) > 300
    assert [(str(path.relative_to(ROOT)), text) for path, text in _found(CITATION)] == []


def test_documents_that_are_named_exist() -> None:
    here = {path.name for path in FILES if path.suffix == ".md"}
    for path, name in _found(MARKDOWN):
        pattern = re.escape(name.rpartition("/")[2]).replace(r"\*", ".*")
        assert any(re.fullmatch(pattern, known) for known in here), f"{path.relative_to(ROOT)}: {name}"


def test_links_lead_somewhere() -> None:
    for path in FILES:
        if path.suffix == ".md":
            for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
                assert (path.parent / target).exists(), f"{path.relative_to(ROOT)}: {target}"


def test_ci_finds_the_test_command() -> None:
    """The line after the marker is what a user runs; CI runs the same."""
    readme = (ROOT / "README.md").read_text().split("\n")
    markers = [number for number, line in enumerate(readme) if line == "<!-- ci: test command -->"]
    assert len(markers) == 1 and readme[markers[0] + 1] == "    pip install -e '.[test]' && pytest"


def test_the_commands_of_the_readme_parse() -> None:
    commands = re.findall(r"python -m aiter_c ([a-z][^#\n`&]*)", (ROOT / "README.md").read_text())
    assert len(commands) >= 6
    for command in commands:
        _parser().parse_args(command.split())


def _examples(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


def _run(page: Path) -> dict[str, object]:
    """One example after the other, as a reader would; later ones use what earlier ones made."""
    names: dict[str, object] = {}
    for number, example in enumerate(_examples(page)):
        exec(compile(example, f"{page.name}, example {number}", "exec"), names)
    return names


def test_the_example_of_the_readme_runs() -> None:
    assert {"q", "cache", "o", "lse"} <= _run(ROOT / "README.md").keys()


PAGES = [page for page in sorted(ROOT.glob("docs/*.md")) if _examples(page)]
#: They choose a library before aiter_c is imported, and import the simulator as a user does.
ALONE = [page for page in [*PAGES, ROOT / "op_tests/gfxsim/README.md"] if "op_tests.gfxsim" in page.read_text()]


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.torch if "import torch" in page.read_text() else (), id=page.stem)
        for page in PAGES
        if page not in ALONE
    ],
)
def test_the_examples_of_a_page_run(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = _run(page)
    if page.stem == "ops":
        assert {"logits", "lse", "by_lists", "merged", "merged_lse", "indices"} <= names.keys()
        assert "request 1: keys " in capsys.readouterr().out


@pytest.mark.isolated
def test_the_examples_with_the_simulator_run() -> None:
    assert {page.stem for page in ALONE} == {"simulator", "README"}
    for page in ALONE:
        prelude = f"import os, sys; os.chdir({str(ROOT)!r}); sys.path.insert(0, os.getcwd())\n"
        run_python("-W", "error", "-c", prelude + "\n".join(_examples(page)))


def test_every_example_is_run() -> None:
    """Code that is Python and not marked as such would be in no test: what is indented or fenced otherwise is not."""
    assert len(PAGES) >= 8
    for page in PAGES:
        for fence in re.findall(r"^```(.*)$", page.read_text(), re.MULTILINE):
            assert fence == "" or fence == "python" or fence.startswith("{"), f"{page.name}: ```{fence}"


def test_the_reference_has_every_public_name() -> None:
    page = (ROOT / "docs/api.md").read_text()
    listed = set(re.findall(r"auto(?:function|class|exception):: (\w+)$", page, re.MULTILINE))
    older = set(re.findall(r"`(\w+)`", page[page.index("Older names") :])) & set(aiter_c.__all__) - listed
    assert len(older) == 5 and listed | older == set(aiter_c.__all__)


def test_docstrings_become_lists_formulas_and_prose() -> None:
    to_rst = runpy.run_path(str(ROOT / "docs/docstrings.py"))["to_rst"]
    text = """Writes `o`: see p_dtype.

    o = 2 * x

x, y   int [T*]: one,
       or two
stream: the handle

Returns None.
"""
    assert to_rst(text.splitlines()) == [
        r"Writes ``o``: see p\_dtype.", "",
        "::", "", "        o = 2 * x", "",
        "``x``, ``y``", r"    int [T\*]: one, or two", "``stream``", "    the handle", "",
        "Returns None.", "",
    ]  # fmt: skip


def test_links_to_elsewhere_are_links() -> None:
    """By their form; `scripts/build_docs --external` follows them where there is a network."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("op_tests/*/README.md")]
    links = [link for page in pages for link in re.findall(r"\]\((https?:[^)]*)\)|<(https?:[^>]*)>", page.read_text())]
    assert links
    for link in map("".join, links):
        parts = urlsplit(link)
        assert parts.scheme == "https" and re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", parts.netloc), link
        assert re.fullmatch(r"[^\s<>\"]+", link), link
