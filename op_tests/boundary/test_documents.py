"""What the documents say exists: files that are named, the command that CI takes from the README, the commands; and the
README's examples run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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


def test_the_examples_of_the_readme_run(capsys: pytest.CaptureFixture[str]) -> None:
    """One after the other, as a reader would; later ones use what earlier ones made."""
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names: dict[str, object] = {}
    for number, example in enumerate(examples):
        exec(compile(example, f"README.md, example {number}", "exec"), names)
    assert len(examples) >= 7 and "request 1: keys " in capsys.readouterr().out
    assert {"logits", "lse", "by_lists", "merged", "merged_lse", "indices"} <= names.keys()
