"""python -m aiter_c: every command end to end, on small shapes and with ceilings given instead of measured."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interpreter import run_python

import aiter_c
from aiter_c.__main__ import main
from aiter_c.cli import backend, bench_overhead, demo, demo_lists, demo_prefill, demo_sparse
from aiter_c.cli.backend import Cpu
from aiter_c.cli.bench_ops import mla_decode as decode_bench
from aiter_c.testing.ops.mla_decode_perf import (
    CPU_SPREADS,
    GPU_DIMS,
    GPU_OTHERS,
    GPU_QUICK,
    GPU_SHAPES,
    GPU_SPREADS,
    LISTED,
    LISTED_QUICK,
    Batch,
    decode_shape,
    least_work,
    page_shape,
    spread_lens,
)

CEILINGS = {"read_bytes_per_s": 1e10, "f32_flop_per_s": 1e11, "bf16_flop_per_s": 2e11, "amx_flop_per_s": 1e12}
MATPLOTLIB = importlib.util.find_spec("matplotlib") is not None


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few cases of the demo, few shapes of the bench, little memory, no measurement of the ceilings."""
    monkeypatch.setattr(demo, "measure_cpu", lambda: CEILINGS)
    monkeypatch.setattr(demo, "HEADS", (12,))
    monkeypatch.setattr(demo, "KV_LENS", (70, 9))
    monkeypatch.setattr(demo_lists, "LISTED_HEADS", ((12, 1),))
    monkeypatch.setattr(demo_lists, "LISTED_LENS", (300, 9, 0))
    monkeypatch.setattr(demo_lists, "RANK_HEADS", (12,))
    monkeypatch.setattr(demo_lists, "RANK_LENS", (150, 3))
    monkeypatch.setattr(demo_prefill, "NEW", (20, 3))
    monkeypatch.setattr(demo_prefill, "CONTEXT", (40, 0))
    monkeypatch.setattr(demo_prefill, "CHUNKS", (16, 40))
    monkeypatch.setattr(demo_sparse, "HEADS", ((12, 1, 1), (4, 2, 2)))
    monkeypatch.setattr(demo_sparse, "LENS", (150, 3))
    monkeypatch.setattr(demo_sparse, "TOP_K", 64)
    monkeypatch.setattr(backend, "measure_cpu", lambda: CEILINGS)
    monkeypatch.setattr(decode_bench, "TARGETS", [decode_shape(2, 4, 64), decode_shape(1, 4, 32, "float8_e4m3fn")])
    monkeypatch.setattr(decode_bench, "OTHERS", [])
    uneven = replace(decode_shape(1, 4, 1), q_lens=(1, 1, 1), kv_lens=(9, 150, 1))
    monkeypatch.setattr(decode_bench, "LISTED", {"cpu": [Batch("uniform", uneven)]})
    monkeypatch.setattr(decode_bench, "GROWTH", [decode_shape(batch, 4, 64) for batch in (1, 2)])
    monkeypatch.setattr(Cpu, "copied_bytes", 1 << 18)


def test_env_names_what_a_bug_report_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env", "--json", str(tmp_path / "env.json")]) == 0
    report = json.loads((tmp_path / "env.json").read_text())
    assert report["aiter_c"]["version"] == aiter_c.__version__ and report["aiter_c"]["compiler"]
    assert report["cpu"]["path"] == aiter_c._C.cpu_arch() and report["cpu"]["because"]
    assert report["runtimes"]["cpu"] == "on, 1 device"
    assert report["runtimes"]["hip"].startswith(("off: ", "runtime found (", "on, "))
    assert "through numpy" in report["frameworks"]["numpy"]
    assert set(report["environment"]) >= {"AITER_C_CPU", "AITER_C_NUM_THREADS", "AITER_C_DLPACK_EXCHANGE"}
    printed = capsys.readouterr().out
    assert all(str(value) in printed for section in report.values() for value in section.values())


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0 and capsys.readouterr().out == f"aiter_c {aiter_c.__version__}\n"


def test_demo_checks_and_reports(small: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--json", str(tmp_path / "demo.json")]) == 0
    report = json.loads((tmp_path / "demo.json").read_text())
    rows = report["demo"]
    assert len(rows) == 2 * 2 * 3 and {row["path"] for row in rows} == {"stage 1", "stage 1 + 2"}
    assert all(row["% of ceiling"] > 0 and row["max |o - ref|"] < 0.1 for row in rows)
    assert report["ceilings"]["read_bytes_per_s"] == [1e10, 1e10]
    assert "26 rows, every element" in capsys.readouterr().out
    for row in report["persistent"]:
        assert row["items"] > row["partials"] > 1 and row["max |lists - grid|"] < 0.02 and row["plan ms"] > 0
    assert len(report["persistent"]) == 2 and all(row["max |o - ref|"] < 0.1 for row in report["persistent"])
    chunked = report["chunked_prefill"]
    assert [row["passes"] for row in chunked] == [4, 2] * 3 and {row["work"] for row in chunked} == {"grid", "lists"}
    assert all(row["max |o - ref|"] < 0.1 and row["max |lse - one pass|"] < 1e-5 for row in chunked)
    layers = report["sparse_layer"]
    assert [(row["ranks"], row["keys"], row["selected"]) for row in layers] == [(1, 153, 67), (2, 304, 133)]
    assert all(row["max |o - ref|"] < 0.1 and row["decode ms"] > 0 for row in layers)
    assert [row["merge ms"] is None for row in layers] == [True, False]
    ranks = report["context_parallel"]
    assert [(row["ranks"], row["keys per rank"]) for row in ranks] == [
        *((1, "153 to 153 of 153"), (2, "70 to 83 of 153"), (4, "32 to 51 of 153"), (8, "16 to 35 of 153"))
    ]
    assert [row["max |o - one device|"] == 0 for row in ranks] == [True, False, False, False]
    assert all(row["max |lse - one device|"] < 1e-5 and row["max |o - ref|"] < 0.1 for row in ranks)


@pytest.mark.parametrize("op", ["mla_decode_fwd", "merge_states"])
def test_a_wrong_result_ends_the_tables_of_the_demo(small: None, monkeypatch: pytest.MonkeyPatch, op: str) -> None:
    """By lists: those of another plan. On ranks: states of two ranks that change places."""
    call = getattr(aiter_c, op)

    def wrong(**arguments: Any) -> object:
        if op == "merge_states" and len(arguments["o"]) > 1:
            first, second, *others = arguments["lse"]
            arguments["lse"] = [second, first, *others]
        if arguments.get("work_indptr") is not None:
            arguments["work_info_set"] = np.roll(arguments["work_info_set"], 1, 0)
        return call(**arguments)

    monkeypatch.setattr(aiter_c, op, wrong)
    with pytest.raises(AssertionError, match="MlaCase"):
        demo._more_tables()


def test_the_demo_covers_the_models() -> None:
    """128, 64, 32, 16, 12, 8 and 4 heads, both caches, q-len 1 and 4, one, explicit and automatic splits, with LSE."""
    cases = [case for _, case in demo._cases()]
    assert {case.heads for case in cases} == {128, 64, 32, 16, 12, 8, 4} and len(set(cases)) == 7 * 2 * 2 * 3
    assert {case.splits for case in cases} == {1, 4, None} and {case.served_q_len for case in cases} == {1, 4}
    assert {case.kv_dtype for case in cases} == {"bfloat16", "float8_e4m3fn"}
    assert all(case.return_lse and len(set(case.kv_lens)) > 1 for case in cases)
    lists = list(demo_lists.list_cases())
    assert all(case.workers >= 4 and case.kv_lens == demo_lists.LISTED_LENS for case in lists) and len(lists) == 8
    assert {case.heads for case in lists} == {128, 16, 4} and {case.served_q_len for case in lists} == {1, 4}
    assert demo_lists.RANKS == (1, 2, 4, 8) and demo_lists.RANK_HEADS == (128, 16, 4)


def must_not_run(*_: object) -> None:
    raise AssertionError("the run began")


@pytest.mark.parametrize("command", [["demo"], ["bench", "mla_decode"], ["bench", "call_overhead"], ["env"]])
def test_a_file_that_cannot_be_written_is_refused_before_the_run(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "measure_cpu", must_not_run)
    monkeypatch.setattr(backend, "measure_cpu", must_not_run)
    monkeypatch.setattr(bench_overhead, "nanoseconds_per_call", must_not_run)
    for path, reason in ((tmp_path / "absent" / "x.json", "No such file or directory"), (tmp_path, "Is a directory")):
        assert main([*command, "--json", str(path)]) == 2
        captured = capsys.readouterr()
        assert captured.err == f"--json: expected a file that can be written, got {str(path)!r}: {reason}\n"
        assert captured.out == ""
    assert main(["demo", "--plot", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("--plot: expected a file that can be written, got ")


def test_plot_says_what_it_lacks_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """matplotlib, or a kind of picture that it has; the file is not left behind."""
    monkeypatch.setattr(demo, "measure_cpu", must_not_run)
    path = tmp_path / ("demo.none" if MATPLOTLIB else "demo.png")
    assert main(["demo", "--plot", str(path)]) == 2
    text = "expected a name that ends in one of " if MATPLOTLIB else "needs matplotlib, pip install 'aiter_c[plot]'"
    assert capsys.readouterr().err.startswith(f"--plot: {text}") and not path.exists()


@pytest.mark.skipif(not MATPLOTLIB, reason="matplotlib is not installed")
def test_plot(small: None, tmp_path: Path) -> None:
    assert main(["demo", "--plot", str(tmp_path / "demo.png")]) == 0
    assert (tmp_path / "demo.png").stat().st_size > 1000


@pytest.mark.isolated
@pytest.mark.parametrize(("module", "name"), [("numpy", "NumPy 1.26 or newer"), ("ml_dtypes", "ml_dtypes")])
@pytest.mark.parametrize("command", ["demo", "bench mla_decode", "bench call_overhead"])
def test_what_a_command_needs_is_said(module: str, name: str, command: str) -> None:
    code = (
        f"import sys; sys.modules[{module!r}] = None\n"
        f"from aiter_c.__main__ import main; sys.exit(main({command.split()!r}))"
    )
    done = run_python("-c", code, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"This command needs {name}: pip install 'aiter_c[demo]' (")


def test_bench_prints_a_ratio_to_the_roofline(small: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "mla_decode", "--quick", "--json", str(tmp_path / "bench.json")]) == 0
    report = json.loads((tmp_path / "bench.json").read_text())
    rows = report["mla_decode"]
    assert [(row["batch"], row["heads"], row["length"]) for row in rows] == [(2, 4, 64), (1, 4, 32), (3, 4, 150)]
    assert [(row["lengths"], row["work"]) for row in rows] == [
        ("equal", "grid"),
        ("equal", "grid"),
        ("uniform", "lists"),
    ]
    for row in rows:
        assert row["% of roofline"] > 0 and row["% of bf16"] > 0 and row["kernel"].startswith("mla_decode_")
        assert row["error"] < 0.03 and row["ceiling moved %"] == 0
    assert report["growth"] == [] and "% of roofline" in capsys.readouterr().out
    *grid, lists = rows
    assert lists["items"] >= 3 and lists["splits"] is None and lists["plan ms"] > 0
    assert lists["x grid"] > 0 and lists["grid ms"] > 0
    assert all("grid ms" not in row and "x grid" not in row and row["items"] is None for row in grid)


def test_bench_shows_growth_and_peers(small: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "mla_decode", "--json", str(tmp_path / "bench.json")]) == 0
    report = json.loads((tmp_path / "bench.json").read_text())
    assert [row["batch"] for row in report["growth"]] == [1, 2] and report["growth"][0]["x of batch 1"] == 1
    if importlib.util.find_spec("torch"):
        first, fp8, lists = report["mla_decode"]
        assert first["torch eager error"] < 0.03 and first["torch sdpa error"] < 0.03 and first["x best peer"] > 0
        assert "torch eager error" not in fp8  # the peers have no fp8 cache
        assert "torch eager error" not in lists  # nor lengths that differ
    assert "Throughput as the batch grows" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["mla_decode", "call_overhead"])
def test_bench_on_a_gpu_says_what_it_needs(
    what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(backend, "torch_or_none", lambda: None)
    assert main(["bench", what, "--device", "cuda"]) == 2
    assert capsys.readouterr().err == "--device cuda: needs torch that sees the GPU\n"


def test_an_op_without_shapes_for_the_device(
    small: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(decode_bench, "TARGETS", [])
    monkeypatch.setattr(decode_bench, "LISTED", {"cpu": []})
    assert main(["bench", "mla_decode"]) == 2
    assert capsys.readouterr().err == "mla_decode has no shapes for --device cpu\n"


def test_a_wrong_result_ends_the_bench(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fast wrong kernel must not get a time."""
    error = decode_bench.Problem.error
    monkeypatch.setattr(decode_bench.Problem, "error", lambda self, output: error(self, np.asarray(output) + 1))
    with pytest.raises(RuntimeError, match=r"the output is .* away from fp64"):
        main(["bench", "mla_decode", "--quick"])


def test_the_shapes_of_the_gpu_bench() -> None:
    """All in both dtypes, few heads beside 16."""
    assert len(GPU_SHAPES) == len(set(GPU_SHAPES)) == 2 * sum(map(len, GPU_DIMS.values()))
    assert {case.heads for case in GPU_SHAPES} == {4, 8, 16, 32, 64, 128} and set(GPU_QUICK) <= set(GPU_SHAPES)
    assert {case.page_size for case in GPU_SHAPES + GPU_OTHERS} == {64}
    assert {case.kv_format for case in GPU_OTHERS} == {"plain", "fp8_ds_mla"}


def test_the_batches_of_the_bench_by_lists() -> None:
    """Equal, uniform, one long among short, by Zipf's law, on both devices; three are quick ones. Always the same."""
    for spreads, longest in ((CPU_SPREADS, 8192), (GPU_SPREADS, 65536)):
        assert sorted({name for name, *_ in spreads}) == ["Zipf", "equal", "one long", "uniform"]
        assert max(max(spread_lens(*spread)) for spread in spreads) == longest
        for name, batch, most, least in spreads:
            lens = spread_lens(name, batch, most, least)
            assert len(lens) == batch and min(lens) >= least and max(lens) <= most
            assert lens == spread_lens(name, batch, most, least)
            assert (len(set(lens)) == 1) == (name == "equal") and (name != "one long" or len(set(lens[1:])) == 1)
    assert {(batch.case.heads, batch.case.q_dtype) for batch in LISTED["gpu"]} == {
        (heads, dtype) for heads in (16, 128) for dtype in ("bfloat16", "float8_e4m3fn")
    }
    assert all(len({batch.lengths for batch in LISTED[kind][:LISTED_QUICK]}) == 3 for kind in ("cpu", "gpu"))


def test_the_least_work_of_a_call() -> None:
    """FLOP = 2176 * H * s_q * L; bytes = L * 1152 + H * s_q * (576 * 2 + 512 * 2)."""
    num_bytes, flop = least_work(decode_shape(1, 16, 8192))
    assert (num_bytes, flop) == (8192 * 1152 + 16 * (576 + 512) * 2, 2176 * 16 * 8192)
    assert least_work(decode_shape(3, 16, 8192, "float8_e4m3fn"))[0] == 3 * (8192 * 576 + 16 * (576 + 512) * 2)
    records = next(case for case in GPU_OTHERS if case.kv_format != "plain")
    assert least_work(records)[0] == records.batch * (4096 * 656 + records.heads * (576 + 512) * 2)
    num_bytes, flop = least_work(page_shape(1, 16, 128, 2))
    assert (num_bytes, flop) == (128 * 1152 + 2 * 16 * (576 + 512) * 2, 2176 * 16 * (127 + 128))


def test_call_overhead_counts_every_way_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def call_once(call: Callable[[], object]) -> float:
        call()
        return 1.0

    monkeypatch.setattr(bench_overhead, "nanoseconds_per_call", call_once)
    assert main(["bench", "call_overhead", "--json", str(tmp_path / "calls.json")]) == 0
    rows = json.loads((tmp_path / "calls.json").read_text())
    frameworks = {"NumPy"} | ({"torch"} if importlib.util.find_spec("torch") else set())
    assert {row["framework"] for row in rows} == frameworks and len(rows) == 3 * len(frameworks)
