"""`python -m aiter_c kernels`: the table of kernels, as a user sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from interpreter import run_python

from aiter_c import _C
from aiter_c.__main__ import main
from aiter_c.cli import kernels

README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.mark.skipif(not README.is_file(), reason="the sources are not beside the tests")
def test_the_table_of_the_readme_is_what_the_command_prints() -> None:
    table = README.read_text().partition("<!-- kernels -->\n")[2].partition("\n\n")[0]
    assert table + "\n" == kernels.markdown(), "paste what `python -m aiter_c kernels --markdown` prints"


def test_the_summary_counts_every_kernel_once() -> None:
    counts = [sum(row[device] for device in kernels.DEVICES) for row in kernels.summary()]
    assert sum(counts) == len(_C.kernel_table())


def test_every_row_with_its_registers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kernels", "mla_decode", "--arch", "gfx950", "--json", str(tmp_path / "rows.json")]) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())
    names = [row["name"] for row in _C.kernel_table() if (row["op"], row["arch"]) == ("mla_decode", "gfx950")]
    assert [row["kernel"] for row in rows] == names
    assert all(0 < row["registers"] <= 512 for row in rows)
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 1 + len(rows) and all(name in line for name, line in zip(names, shown[1:], strict=True))


def test_without_numpy_and_without_a_manifest(tmp_path: Path) -> None:
    code = "import sys; sys.modules['numpy'] = None; from aiter_c.__main__ import main; sys.exit(main(sys.argv[1:]))"
    done = run_python("-c", code, "kernels", "--arch", "gfx942", AITER_C_HSA=str(tmp_path))
    line = next(line for line in done.stdout.splitlines() if "mla_decode_bf16_r16 " in line)
    assert line.split()[-2] == "-"  # registers
