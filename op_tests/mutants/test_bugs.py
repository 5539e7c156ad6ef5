"""Every planted bug still has its place: a moved line must not turn one into a bug that nobody plants."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.mark.skipif(not (ROOT / "csrc").is_dir(), reason="the C source is not beside the tests")
def test_every_text_is_in_exactly_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))
    harness = runpy.run_path(str(HERE / "__main__.py"))
    bugs, place_of = harness["BUGS"], harness["place_of"]
    assert len({bug.name for bug in bugs}) == len(bugs) > 100
    lost = [bug.name for bug in bugs if place_of(ROOT, bug) is None]
    assert not lost, f"the text of {lost} is not in exactly one file"
