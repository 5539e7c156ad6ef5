"""Every planted bug still has its place: a moved line must not turn one into a bug that nobody plants."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest


def test_every_text_is_in_exactly_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Path(__file__).parent
    monkeypatch.syspath_prepend(str(here))
    harness = runpy.run_path(str(here / "__main__.py"))
    bugs, place_of, root = harness["BUGS"], harness["place_of"], harness["ROOT"]
    assert len({bug.name for bug in bugs}) == len(bugs) > 100
    lost = [bug.name for bug in bugs if place_of(root, bug) is None]
    assert not lost, f"the text of {lost} is not in exactly one file"
