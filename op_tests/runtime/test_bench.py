"""What the benches stand on: tables, ceilings that move, and problems that are right on both kinds of backend."""

from __future__ import annotations

import io
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from aiter_c.cli import bench, bench_ops, ceilings, cpu_peers
from aiter_c.cli.backend import Cpu, Gpu, random_values
from aiter_c.cli.bench_ops.mla_decode import Problem
from aiter_c.cli.report import Table
from aiter_c.testing.ops.mla_decode_perf import Batch, decode_shape, least_work, page_shape
from aiter_c.testing.ops.top_k import TopKCase


class Stream(io.StringIO):
    """Remembers what was there at each flush."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def flush(self) -> None:
        self.seen.append(self.getvalue())


def test_a_row_appears_when_it_is_added() -> None:
    """Also where the output is a file: each is flushed. A column is as wide as its spec or its name."""
    stream = Stream()
    table = Table({"what": "6s", "n": "4d", "% of it": "5.1f"}, stream)
    table.add({"what": "a", "n": 12, "% of it": 3.14159, "more": 1})
    assert stream.seen[-1] == "what       n  % of it\na         12      3.1\n"
    table.add({"what": "longer than that", "n": None})
    assert stream.seen[-1].endswith("longer than that     -        -\n") and len(table.rows) == 2


def _rates(*values: float) -> list[dict[str, float]]:
    return [{"read_bytes_per_s": value, "f32_flop_per_s": 100.0, "amx_flop_per_s": 0.0} for value in values]


def test_ceilings_are_measured_around_every_row() -> None:
    """The row counts against the higher one; how far they are apart is its doubt."""
    measured = iter(_rates(100, 120, 90))
    watched = ceilings.Ceilings(lambda: next(measured))
    first, second = (watched.around(lambda: "result")[1] for _ in range(2))
    assert (first.best["read_bytes_per_s"], round(first.moved)) == (120, 20)
    assert (second.best["read_bytes_per_s"], round(second.moved)) == (120, 33)
    assert watched.spread()["read_bytes_per_s"] == (90, 120) and watched.spread()["amx_flop_per_s"] == (0, 0)


def test_a_measurement_that_is_young_enough_serves_again() -> None:
    measured = iter(_rates(100))
    watched = ceilings.Ceilings(lambda: next(measured), max_age=1000)
    assert watched.around(lambda: 7) == (7, ceilings.Around(_rates(100)[0], 0))


def test_the_line_for_a_person() -> None:
    measured = iter(
        [{"read_bytes_per_s": 1e10, "f32_flop_per_s": 5e10}, {"read_bytes_per_s": 2e10, "f32_flop_per_s": 5e10}]
    )
    watched = ceilings.Ceilings(lambda: next(measured))
    assert watched.text() == "read 10 GB/s, f32 50 GFLOP/s"
    watched.around(lambda: None)
    assert watched.text() == "read 10 to 20 GB/s, f32 50 GFLOP/s"


def test_hints_where_the_ceiling_moved_or_was_passed() -> None:
    rows = [{ceilings.MOVED: moved, "%": value} for moved, value in ((0, 50), (11, 90), (40, 151))]
    moved, above = ceilings.hints(rows, "%")
    assert "by more than 10 % around 2 of 3 rows, at most by 40 %" in moved
    assert above.startswith("1 of 3 rows are above 100 %")
    assert ceilings.hints(rows[:1], "%") == []


NOTHING_MORE = {"json": None, "read": None, "compare": None, "plot": None}
GPU_FORMS = [
    page_shape(2, 3, 128),
    page_shape(2, 3, 128, 2),
    page_shape(1, 2, 64, 1, "float8_e4m3fn"),
    replace(page_shape(2, 3, 128), kv_dtype="float8_e4m3fn", kv_format="fp8_ds_mla"),
]


LISTED_FORMS = [
    Batch("uniform", replace(decode_shape(1, 3, 1), q_lens=(1, 1, 1), kv_lens=(5, 700, 64))),
    Batch("Zipf", replace(page_shape(1, 3, 64, 2), q_lens=(2, 2, 2), kv_lens=(9, 64, 300))),
]


@pytest.mark.parametrize("case", [decode_shape(2, 3, 64), decode_shape(1, 4, 32, "float8_e4m3fn"), *GPU_FORMS])
def test_the_decode_problem_is_checked_against_fp64(case: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every form that the GPU bench has, on the CPU: the first pool's call is right; another head or
    another pool is not."""
    monkeypatch.setattr(Cpu, "copied_bytes", 1)
    problem = Problem(case, Cpu())
    output = np.array(problem.calls[0]())
    assert problem.error(output) <= problem.tolerance / 2
    assert problem.error(np.roll(output, 1, axis=1)) > problem.tolerance
    other = np.array(problem.calls[1]())
    assert problem.error(other) > problem.tolerance
    assert len(problem.calls) == 2 and problem.plan.stage1 == problem.kernel


@pytest.mark.parametrize("case", LISTED_FORMS)
def test_a_problem_by_lists_is_the_same_from_the_grid(case: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last query row of the longest request is checked; the lists decide what is computed."""
    monkeypatch.setattr(Cpu, "copied_bytes", 1)
    problem = Problem(case, Cpu())
    calls = [problem.calls[0], problem._grid_calls[0]]
    outputs = [np.array(call()) for call in calls]
    assert all(problem.error(output) <= problem.tolerance / 2 for output in outputs)
    assert problem.error(np.roll(outputs[0], 1, axis=0)) > problem.tolerance
    assert np.abs(np.subtract(*outputs, dtype=np.float64)).max() < 0.02
    assert problem.lists.items == problem.facts["items"] >= 3
    for values in problem.lists.arguments.values():
        values[:] = 0
    problem.o[:] = 1
    assert (problem.calls[0]() == 1).all()  # no items, no rows
    problem.lists.plan()
    assert np.array_equal(problem.calls[0](), outputs[0])


@pytest.mark.torch
@pytest.mark.parametrize(
    "dtype", ["bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float16", "float32", "int32", "uint8"]
)
def test_a_gpu_gets_the_values_of_the_host(dtype: str) -> None:
    """On torch's CPU, which takes them in the same way."""
    import torch

    gpu = Gpu.__new__(Gpu)
    gpu.torch, gpu.device = torch, "cpu"
    values = random_values(np.random.default_rng(0), (3, 5), dtype, 20)
    tensor = gpu.put(values)
    assert tensor.dtype == getattr(torch, dtype) and tuple(tensor.shape) == (3, 5)
    assert np.array_equal(gpu.get(tensor), values.astype(np.float64))


class TorchOnCpu(Gpu):
    """All of the GPU's backend but the clock and the capture, for which torch needs a GPU."""

    def __init__(self) -> None:
        import torch

        self.torch, self.device, self.place, self.name = torch, torch.device("cpu"), "cpu", "torch's CPU"

    def _median(self, call: Callable[[], object], count: int) -> float:
        call()
        return 1e-3

    def measure(self) -> dict[str, float]:
        return {"copy_bytes_per_s": 1e9, "bf16_flop_per_s": 1e12}

    def replayed(self, calls: Sequence[Callable[[], object]]) -> float:
        calls[0]()
        return 2e-6

    def extra(self, problem: Problem, seconds: float, rates: object) -> dict[str, float]:
        return {"graph us": 1.0}

    def tidy(self) -> None:
        pass


@pytest.mark.torch
def test_the_bench_with_torch_tensors(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every row is checked against fp64; bytes and FLOP over the given ceilings are the roofline."""
    monkeypatch.setattr(bench, "make", lambda arguments: TorchOnCpu())
    monkeypatch.setattr("aiter_c.cli.bench_ops.mla_decode.GPU_QUICK", GPU_FORMS)
    monkeypatch.setattr("aiter_c.cli.bench_ops.mla_decode.LISTED", {"gpu": LISTED_FORMS})
    arguments = Namespace(what="mla_decode", device="cuda", threads=0, quick=True, no_peers=True, **NOTHING_MORE)
    assert bench.run(arguments) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split()[-8:] == ["graph", "us", "grid", "us", "x", "grid", "plan", "us"]
    least = least_work(GPU_FORMS[0])[0] / 1e9 / 1e-3
    assert rows[0].split()[-7:] == ["0", f"{100 * least:.0f}", "0", "1.0", "-", "-", "-"]
    by_lists = [row.split() for row in rows if " lists " in row]
    assert [row[-4:] for row in by_lists] == 2 * [["1.0", "2.0", "1.00", "2.0000"]] and len(rows) > 6


@pytest.mark.torch
@pytest.mark.parametrize("what", ["top_k", "index_conversion"])
def test_other_benches_with_torch_tensors(
    what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The forms for a GPU, and a peer of the same result."""
    op = bench_ops.load(what)
    small = [TopKCase(rows=2, columns=300, k=40)] if what == "top_k" else [op.Shape(3, 300, 40)]
    monkeypatch.setattr(bench, "make", lambda arguments: TorchOnCpu())
    monkeypatch.setattr(op, "cases", lambda kind, quick: small)
    arguments = Namespace(what=what, device="cuda", threads=0, quick=False, no_peers=False, **NOTHING_MORE)
    assert bench.run(arguments) == 0
    header, row, *_ = capsys.readouterr().out.splitlines()
    assert "torch" in header and header.split()[-3:] == ["x", "best", "peer"] and row.split()[-1] == "1.00"


def test_pools_exceed_the_caches() -> None:
    cpu = Cpu()
    assert cpu.copies(1 << 30) == 2 and cpu.copies(1) == cpu.max_copies and cpu.copies(64 << 20) == 10


def test_random_values_are_what_they_say() -> None:
    values = random_values(np.random.default_rng(0), (3, 1 << 20), "bfloat16")
    assert values.shape == (3, 1 << 20) and values.dtype.name == "bfloat16"
    assert abs(values.astype(np.float32).std() - 0.5) < 0.01


class OtherProblem:
    """An op that looks nothing like attention: a sum."""

    facts, kernel, num_bytes, flop, fp8_product, tolerance = {"n": 8}, "sum_f32", 32, 8, False, 0.0

    def __init__(self, case: int, backend: object) -> None:
        self.values = np.ones(case)
        self.calls = [self.values.sum]

    def error(self, output: float) -> float:
        return abs(output - len(self.values))


def test_another_op_needs_a_module_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    op = Namespace(
        COLUMNS={"n": "3d"}, cases=lambda kind, quick: [8], growth=lambda kind: [], Problem=OtherProblem,
        peers=lambda backend: {"python": lambda problem: [lambda: sum(problem.values)]},
    )  # fmt: skip
    monkeypatch.setattr(bench_ops, "load", lambda name: op)
    monkeypatch.setattr("aiter_c.cli.backend.measure_cpu", lambda: CPU_RATES)
    arguments = Namespace(what="sum", device="cpu", threads=0, quick=False, no_peers=False, **NOTHING_MORE)
    assert bench.run(arguments) == 0
    header, row, *_ = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["n", "kernel", "ms"] and row.split()[:2] == ["8", "sum_f32"]
    assert "python ms" in header and "x best peer" in header


def test_arrays_begin_cache_lines_on_a_cpu() -> None:
    """As torch's do: NumPy's begin where they happen to, and every load of 64 bytes would touch two lines."""
    for dtype in ("bfloat16", "float8_e4m3fn"):
        values = random_values(np.random.default_rng(1), (3, 5, 576), dtype)
        array = Cpu().put(values)
        assert array.ctypes.data % 64 == 0 and array.dtype == values.dtype and array.tobytes() == values.tobytes()


def test_absent_peers_of_a_cpu_are_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    found = cpu_peers.find(torch)
    assert {"torch eager", "torch sdpa"} <= set(found) and "ggml" not in found
    assert "ggml" in capsys.readouterr().err


CPU_RATES = {"read_bytes_per_s": 1e10, "f32_flop_per_s": 1e11, "bf16_flop_per_s": 0.0, "amx_flop_per_s": 0.0}


def test_the_ops_are_found_by_their_modules() -> None:
    assert "mla_decode" in bench_ops.names()
    for name in bench_ops.names():
        op = bench_ops.load(name)
        assert op.COLUMNS and callable(op.Problem) and callable(op.peers) and callable(op.growth)
        assert op.cases("cpu", True) or op.cases("gpu", True)
