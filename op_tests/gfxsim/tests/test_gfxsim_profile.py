"""The command that times a launch, the descriptions it takes, and its picture."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest

from gfxsim import Simulator
from gfxsim.__main__ import main
from gfxsim.clock import Span
from gfxsim.tests.machine_fixtures import ARCHS, DATA
from gfxsim.timeline import GROUPS, draw


@pytest.fixture(autouse=True)
def sim() -> Iterator[None]:
    yield
    simulator = Simulator()
    simulator.reset()
    simulator.reset_options()
    simulator.set_device(0)


@pytest.mark.parametrize("arch", ARCHS)
def test_the_command_times_a_launch(arch: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    told, text = tmp_path / "profile.json", [str(DATA / arch / "clean.co"), "--profile"]
    assert main([*text, str(DATA / "vector_add.json"), "--json", str(told)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert " us: " in lines[0] and f"({arch})" in lines[0] and any("global_load_dword" in line for line in lines)
    values = json.loads(told.read_text())
    assert values["cycles"] > 1000 and values["active_units"] == {"gfx942": 304, "gfx950": 256}[arch]
    (load,) = [i for i in values["instructions"] if i["text"] == "global_load_dword v6, v[4:5], off"]
    workgroups = -(-304 // values["active_units"])  # of unit 0
    assert load["issues"] == 4 * workgroups and load["lines"] == 8 * workgroups  # 4 waves, 2 lines of 128 bytes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel": "nothing"}, "kernel: expected one of"),
        ({"arguments": [{"value": "1"}] * 4}, "arguments[0]: value: expected a number, got '1'"),
        ({"arguments": [{"text": 1}] * 4}, "arguments[0]: expected array, value, pointers or bytes"),
        ({"arguments": []}, "takes 4 arguments, not 0"),
    ],
)
def test_wrong_descriptions(
    change: dict[str, object], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "launch.json"
    path.write_text(json.dumps(json.loads((DATA / "vector_add.json").read_text()) | change))
    assert main([str(DATA / "gfx942" / "clean.co"), "--profile", str(path)]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("arch", ARCHS)
def test_packed_arguments(arch: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """As for a kernel without metadata: the same time as with it."""
    times = []
    described = json.loads((DATA / "vector_add.json").read_text())
    for packed in ({}, {"packed": 8}):
        path = tmp_path / "launch.json"
        path.write_text(json.dumps(described | packed))
        assert main([str(DATA / arch / "clean.co"), "--profile", str(path)]) == 0
        times.append(capsys.readouterr().out.splitlines()[0])
    assert times[0] == times[1]


def test_the_picture_in_the_readme(tmp_path: Path) -> None:
    """Is what the command draws."""
    picture = tmp_path / "profile.svg"
    arguments = [str(DATA / "gfx950" / "clean.co"), "--profile", str(DATA / "gemm_loop.json")]
    assert main([*arguments, "--svg", str(picture)]) == 0
    assert picture.read_text() == (DATA.parent / "profile.svg").read_text()


def test_drawing() -> None:
    spans = [Span(0, 0, 0, 60, "mfma"), Span(0, 0, 60, 100, "barrier"), Span(0, 1, 50, 100, "wait for lds")]
    root = ElementTree.fromstring(draw(spans, 100, 0, 100))
    colours = {name: colour for name, colour, _ in GROUPS}
    bars = [r.attrib for r in root.iter("{http://www.w3.org/2000/svg}rect") if r.get("height") == "14"]
    assert [(b["fill"], float(b["x"]), float(b["width"])) for b in bars] == [
        (colours["matrix"], 110, 600),
        (colours["waits at a barrier"], 710, 400),
        (colours["waits for LDS"], 610, 500),
    ]
    with pytest.raises(ValueError, match="clocks \\[7, 7\\) of 100 are none"):
        draw(spans, 100, 7, 7)
