"""python -m aiter_c: every command end to end, on small shapes and with ceilings given instead of measured."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

import aiter_c
from aiter_c.__main__ import main
from aiter_c.cli import bench_gpu, bench_mla, bench_overhead, demo
from aiter_c.testing.ops.mla_decode_perf import (
    GPU_DIMS,
    GPU_OTHERS,
    GPU_QUICK,
    GPU_SHAPES,
    decode_shape,
    least_work,
    page_shape,
)

CEILINGS = {"read_bytes_per_s": 1e10, "f32_flop_per_s": 1e11, "bf16_flop_per_s": 2e11, "amx_flop_per_s": 1e12}


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


def test_demo_checks_and_reports(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(demo, "measure_ceilings", lambda: CEILINGS)
    monkeypatch.setattr(demo, "HEADS", (12,))
    monkeypatch.setattr(demo, "KV_LENS", (70, 9))
    assert main(["demo", "--json", str(tmp_path / "demo.json")]) == 0
    rows = json.loads((tmp_path / "demo.json").read_text())["demo"]
    assert len(rows) == 2 * 2 * 3 and {row["path"] for row in rows} == {"stage 1", "stage 1 + 2"}
    assert all(row["% of ceiling"] > 0 and row["max |o - ref|"] < 0.1 for row in rows)
    assert "12 calls, every element" in capsys.readouterr().out


def test_the_demo_covers_the_models() -> None:
    """128, 64, 32, 16, 12, 8 and 4 heads, both caches, q-len 1 and 4, one, explicit and automatic splits, with LSE."""
    cases = [case for _, case in demo._cases()]
    assert {case.heads for case in cases} == {128, 64, 32, 16, 12, 8, 4} and len(set(cases)) == 7 * 2 * 2 * 3
    assert {case.splits for case in cases} == {1, 4, None} and {case.served_q_len for case in cases} == {1, 4}
    assert {case.kv_dtype for case in cases} == {"bfloat16", "float8_e4m3fn"}
    assert all(case.return_lse and len(set(case.kv_lens)) > 1 for case in cases)


def test_plot_without_matplotlib_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo, "measure_ceilings", lambda: CEILINGS)
    cases = list(islice(demo._cases(), 1))
    monkeypatch.setattr(demo, "_cases", lambda: cases)
    there = importlib.util.find_spec("matplotlib") is not None
    assert main(["demo", "--plot", str(tmp_path / "demo.png")]) == (0 if there else 2)
    assert (tmp_path / "demo.png").exists() == there


def test_bench_prints_a_ratio_to_the_roofline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bench_mla, "measure_ceilings", lambda: CEILINGS)
    monkeypatch.setattr(bench_mla, "TARGETS", [decode_shape(2, 4, 64), decode_shape(1, 4, 32, "float8_e4m3fn")])
    monkeypatch.setattr(bench_mla, "_POOL_BYTES", 1 << 18)
    assert main(["bench", "mla_decode", "--quick", "--json", str(tmp_path / "bench.json")]) == 0
    rows = json.loads((tmp_path / "bench.json").read_text())["mla_decode"]
    assert [(row["batch"], row["heads"], row["length"]) for row in rows] == [(2, 4, 64), (1, 4, 32)]
    for row in rows:
        assert row["% of roofline"] > 0 and row["% of bf16"] > 0 and row["kernel"].startswith("mla_decode_")


def test_bench_on_a_gpu_says_what_it_needs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(bench_gpu, "torch_or_none", lambda: None)
    assert main(["bench", "mla_decode", "--device", "cuda"]) == 2
    assert capsys.readouterr().err == "--device cuda: needs torch that sees the GPU\n"


def test_the_shapes_of_the_gpu_bench() -> None:
    """PERFORMANCE.md 7: every row, both dtypes; few heads beside 16."""
    assert len(GPU_SHAPES) == len(set(GPU_SHAPES)) == 2 * sum(map(len, GPU_DIMS.values()))
    assert {case.heads for case in GPU_SHAPES} == {4, 8, 16, 32, 64, 128} and set(GPU_QUICK) <= set(GPU_SHAPES)
    assert {case.page_size for case in GPU_SHAPES + GPU_OTHERS} == {64}
    assert {case.kv_format for case in GPU_OTHERS} == {"plain", "fp8_ds_mla"}


def test_the_least_work_of_a_call() -> None:
    """PERFORMANCE.md 2.2: FLOP = 2176 * H * s_q * L; bytes = L * 1152 + H * s_q * (576 * 2 + 512 * 2)."""
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
