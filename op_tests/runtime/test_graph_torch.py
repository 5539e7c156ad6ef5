"""What needs a real GPU and torch: CUDA graphs, a thousand repeats, more than 2**32 elements, streams and threads.

Skipped and counted elsewhere; scripts/gpu_check runs them.
"""

from __future__ import annotations

import importlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ids import part
from mla_decode.cases import SMOKE
from mla_decode.lists_model import LISTS

import aiter_c
from aiter_c.__main__ import main
from aiter_c.testing import LSE, OUTPUT, MlaCase, attend, build_inputs, check_close, check_outputs
from aiter_c.testing.device import Device
from aiter_c.testing.ops.mla_decode_perf import GPU_QUICK

pytestmark = pytest.mark.gpu

FORMATS = {
    "bf16": {},
    "fp16": {"q_dtype": "float16", "kv_dtype": "float16"},
    "fp8": {"q_dtype": "float8_e4m3fn", "kv_dtype": "float8_e4m3fn", "q_scale": 0.5, "kv_scale": 1.5},
    "fp8 cache": {"kv_dtype": "float8_e4m3fn", "kv_scale": 0.5},
    "records": {"kv_dtype": "float8_e4m3fn", "kv_format": "fp8_ds_mla"},
}
BATCH = {"q_lens": (2, 1, 3, 1), "kv_lens": (96, 32, 80, 48), "page_size": 16, "scales_as": "one"}


def _to_torch(array: np.ndarray) -> object:
    """On the GPU, with the array's own strides."""
    import torch

    kind = {"i": f"i{array.itemsize}"}.get(array.dtype.kind, f"u{array.itemsize}")
    if array.dtype == np.float32:
        kind = "f4"
    dtype = torch.uint8 if array.dtype == np.uint8 else getattr(torch, array.dtype.name)
    extent = 1 + sum((n - 1) * (s // array.itemsize) for n, s in zip(array.shape, array.strides, strict=True))
    strides = [s // array.itemsize for s in array.strides]
    if array.size == 0:
        return torch.empty(array.shape, dtype=dtype, device="cuda")
    flat = np.lib.stride_tricks.as_strided(array, (extent,), (array.itemsize,)).view(kind).copy()
    carrier = flat.view({1: np.uint8, 2: np.int16, 4: flat.dtype, 8: np.int64}[array.itemsize])
    return torch.from_numpy(carrier).cuda().view(dtype).as_strided(array.shape, strides)


def _tensors(inputs: object) -> dict:
    return {
        name: _to_torch(value) if isinstance(value, np.ndarray) and value.ndim else value
        for name, value in inputs.arguments().items()
    }


def _bits(tensor: object) -> bytes:
    import torch

    return tensor.detach().contiguous().view(torch.uint8).cpu().numpy().tobytes()


def _decode(arguments: dict, **more: object) -> tuple[bytes, bytes]:
    _, lse = aiter_c.mla_decode_fwd(**arguments | more)
    return _bits(arguments["o"]), b"" if lse is None else _bits(lse)


@pytest.mark.parametrize("case", SMOKE[::3])
def test_torch_tensors_on_the_gpu(case: MlaCase) -> None:
    """Every smoke case's tensors as torch has them; scratch from torch, stream from torch."""
    import torch

    inputs = build_inputs(case)
    inputs.freeze()
    arguments = _tensors(inputs)
    _, lse = aiter_c.mla_decode_fwd(**arguments)
    device = Device("cuda", str(arguments["q"].device), copies=True)
    o = arguments["o"].contiguous().view(torch.uint16).cpu().numpy().view(inputs.array("o").dtype)
    outputs = {"o": o.reshape(inputs.array("o").shape), "lse": None if lse is None else lse.cpu().numpy()}
    check_outputs(outputs, case.expected(inputs, device), case.repro)


@pytest.mark.parametrize("splits", [1, 3, None])
@pytest.mark.parametrize("fields", FORMATS.values(), ids=[part(name) for name in FORMATS])
def test_a_cuda_graph_follows_its_tensors(fields: dict, splits: int | None) -> None:
    """Captured once, with torch's scratch in the graph's pool; then lengths, pages, queries and scales change in place
    and the batch shrinks to padded rows that hold -1 and NaN. Bit for bit the eager call, and not what it was."""
    import torch

    case = MlaCase(heads=16, splits=splits, **BATCH, **fields)
    inputs = build_inputs(case)
    live = _tensors(inputs)
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        aiter_c.mla_decode_fwd(**live)  # the first use loads the code
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        _, lse = aiter_c.mla_decode_fwd(**live)
    rng, before = np.random.default_rng(5), b""
    whole = live["kv_indices"].clone()
    for step in range(4):
        counts = rng.integers(1, [6, 3, 5, 4])
        counts[-1] = 0 if step == 2 else counts[-1]
        ends = torch.tensor([0, *np.cumsum(counts)], dtype=torch.int32)
        live["kv_indptr"][:5].copy_(ends)
        live["kv_indices"].copy_(whole[torch.randperm(len(whole), device="cuda")])
        live["kv_last_page_lens"][:4].copy_(torch.from_numpy(rng.integers(1, 17, 4).astype(np.int32)))
        live["q"].copy_(torch.randn(live["q"].shape, device="cuda").to(live["q"].dtype))
        if "q_scale" in live:
            live["q_scale"].fill_(0.25 + 0.25 * step)
        if step >= 1:  # the last two requests are padding
            live["q"][3:].copy_(torch.full_like(live["q"][3:].float(), float("nan")).to(live["q"].dtype))
            live["kv_indices"][int(ends[2]) :].fill_(-1)
        live["o"].fill_(float("nan"))
        lse.fill_(float("nan"))
        graph.replay()
        torch.cuda.synchronize()
        replayed = _bits(live["o"]), _bits(lse)
        live["o"].fill_(float("nan"))
        assert _decode(live) == replayed, f"step {step}: {case.repro}"
        assert replayed[0] != before
        if step >= 1:
            assert (live["o"][3:] == 0).all() and torch.isneginf(lse[3:]).all()
            assert torch.isfinite(live["o"][:3].float()).all() and torch.isfinite(lse[:3]).all()
        before = replayed[0]


def _plan(live: dict, case: MlaCase) -> None:
    """New lists in the same tensors, of the lengths that stand there now."""
    index = [live[name] for name in ("qo_indptr", "kv_indptr", "kv_last_page_lens")]
    pointers, indptr, items, *reduce = (live[name] for name in LISTS)
    aiter_c.get_mla_metadata_v1(
        *index, case.heads, 1, case.causal, pointers, items, indptr, *reduce, page_size=case.page_size,
        kv_granularity=case.granule, max_seqlen_qo=case.served_q_len, max_split_per_batch=case.split_cap,
    )  # fmt: skip


@pytest.mark.parametrize("inside", [True, False], ids=["plan_inside", "plan_outside"])
@pytest.mark.parametrize("fields", FORMATS.values(), ids=[part(name) for name in FORMATS])
def test_work_lists_in_a_cuda_graph(fields: dict, inside: bool) -> None:
    """Captured once, with the plan or without; then lengths, pages and queries change in place, the last requests
    vanish (flat tails) or hold -1, and the plan is made anew. Bit for bit the eager call, and right at the end."""
    import torch

    case = MlaCase(heads=12, workers=24, granule=1, splits=None, **BATCH, **fields)
    inputs = build_inputs(case)
    live = _tensors(inputs)

    def step(*, plans: bool) -> object:
        if plans:
            _plan(live, case)
        return aiter_c.mla_decode_fwd(**live)[1]

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        step(plans=True)  # the first use loads the code
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        lse = step(plans=inside)
    rng, before = np.random.default_rng(5), b""
    whole, first = live["kv_indices"].clone(), {name: live[name].clone() for name in ("kv_indptr", "qo_indptr", "q")}
    for number in range(5):
        counts = rng.integers(1, [6, 3, 5, 4])
        ends = np.cumsum([0, *counts]).astype(np.int32)
        rows = np.array([0, 2, 3, 6, 7], np.int32)
        if number == 2:
            ends[3:], rows[3:] = ends[2], rows[2]
        live["kv_indptr"][:5].copy_(torch.from_numpy(ends))
        live["qo_indptr"].copy_(torch.from_numpy(rows))
        live["kv_indices"].copy_(whole[torch.randperm(len(whole), device="cuda")])
        live["q"].copy_(torch.randn(live["q"].shape, device="cuda").to(live["q"].dtype))
        if number == 3:
            live["kv_indices"][int(ends[2]) :].fill_(-1)
        if number == 4:  # as the case has it, for the reference
            live["kv_indices"].copy_(whole)
            for name, values in first.items():
                live[name].copy_(values)
        for name in LISTS:
            live[name].view(torch.uint8).fill_(0x7B)
        if not inside:
            _plan(live, case)
        live["o"].fill_(float("nan"))
        lse.fill_(float("nan"))
        graph.replay()
        torch.cuda.synchronize()
        replayed = _bits(live["o"]), _bits(lse)
        live["o"].fill_(float("nan"))
        assert (_bits(step(plans=True)), _bits(live["o"]))[::-1] == replayed, f"step {number}: {case.repro}"
        assert replayed[0] != before
        before = replayed[0]
    outputs = {"o": live["o"].contiguous().view(torch.uint16).cpu().numpy().view(inputs.array("o").dtype)}
    outputs = {"o": outputs["o"].reshape(inputs.array("o").shape), "lse": lse.cpu().numpy()}
    check_outputs(outputs, case.expected(inputs, Device("cuda", str(live["q"].device), copies=True)), case.repro)


@pytest.mark.parametrize("heads", [4, 16, 64, 128])
@pytest.mark.parametrize("fields", FORMATS.values(), ids=[part(name) for name in FORMATS])
def test_a_thousand_repeats(fields: dict, heads: int) -> None:
    """The same bits every time, into poisoned memory, several calls in flight."""
    import torch

    case = MlaCase(
        heads=heads, q_lens=(1, 2), kv_lens=(2000, 700), page_size=16, splits=None, scales_as="one", **fields
    )
    arguments = _tensors(build_inputs(case))
    _, first_lse = aiter_c.mla_decode_fwd(**arguments)
    first = arguments["o"].clone()
    different = torch.zeros((), dtype=torch.int64, device="cuda")
    for _ in range(1000):
        arguments["o"].fill_(float("nan"))
        _, lse = aiter_c.mla_decode_fwd(**arguments)
        different += (arguments["o"].view(torch.int16) != first.view(torch.int16)).sum()
        different += (lse.view(torch.int32) != first_lse.view(torch.int32)).sum()
    assert int(different) == 0 and torch.isfinite(first.float()).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn"])
def test_more_than_two_to_the_32_elements(dtype: str) -> None:
    """9 million tokens, 10.4 GB of bfloat16: rows on both sides of every border of 31 and 32 bits."""
    import torch

    tokens = 9_000_000
    borders = [2**31 // 576, 2**32 // 576, 2**31 // 1152, 2**32 // 1152, 8_388_608]
    slots = sorted({1, tokens - 2, tokens - 1, *(b + d for b in borders for d in (-1, 0, 1))})
    pool = torch.empty((tokens, 1, 1, 576), dtype=getattr(torch, dtype), device="cuda")
    pool.view(torch.uint8).fill_(0xFF)  # NaN in either dtype
    at = torch.tensor(slots, device="cuda")
    pool[at] = torch.randn(len(slots), 1, 1, 576, device="cuda").to(pool.dtype)
    q = torch.randn(1, 5, 576, device="cuda").bfloat16()
    o = torch.empty(1, 5, 512, dtype=torch.bfloat16, device="cuda")
    int32 = lambda *values: torch.tensor(values, dtype=torch.int32, device="cuda")  # noqa: E731
    keys = pool[at].float().reshape(-1, 576).cpu().double().numpy()
    want = attend(q[0].float().cpu().double().numpy(), keys, 1 / 24, 1.0, p_dtype="bfloat16")
    for splits in (1, 3):
        o.fill_(float("nan"))
        _, lse = aiter_c.mla_decode_fwd(
            q, pool, o, int32(0, 1), int32(0, len(slots)), int32(*slots), int32(1), 1, num_kv_splits=splits,
            return_lse=True,
        )  # fmt: skip
        check_close("lse", lse[0].cpu().numpy(), want.lse, LSE, dtype)
        check_close("o", o[0].float().cpu().numpy(), want.o, OUTPUT, dtype, allowance=want.rounding)


def test_an_explicit_stream_that_lags_behind() -> None:
    """The op runs in the order of the stream that it is given, and what it allocated and dropped is not handed to the
    current stream, which is ahead of it."""
    import torch

    case = MlaCase(heads=16, q_lens=(1, 1), kv_lens=(2000, 900), splits=4)
    arguments = _tensors(build_inputs(case))
    expected = _decode(arguments)
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        torch.cuda._sleep(400_000_000)  # some tenths of a second
        arguments["o"].fill_(float("nan"))
    logits, lse = aiter_c.mla_decode_fwd(**arguments, stream=side.cuda_stream)
    assert not side.query(), "the side stream should still sleep"
    shapes, address = [logits.shape, (*logits.shape[:3], 1)], logits.data_ptr()
    del logits
    taken = [torch.full(shape, 7.0, device="cuda") for shape in shapes for _ in range(64)]  # more than lies around
    assert not any(0 <= address - tensor.data_ptr() < tensor.nbytes for tensor in taken)
    torch.cuda.synchronize()
    assert (_bits(arguments["o"]), _bits(lse)) == expected
    assert all((tensor == 7.0).all() for tensor in taken), "the op wrote into memory of the current stream"


def test_an_array_that_is_dropped_during_a_capture() -> None:
    """Its memory is freed, and the capture goes on: torch's forbids in every thread what could disturb it."""
    import torch

    ones = torch.ones(1000, device="cuda")
    arrays = [aiter_c.empty((1 << 28,), "float32", "cuda:0") for _ in range(2)]  # a GiB each
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        twos = ones + 1
        arrays.pop()
        fours = twos * 2
    graph.replay()
    torch.cuda.synchronize()
    assert (fours == 4).all()
    free = torch.cuda.mem_get_info()[0]
    arrays.pop()
    freed = torch.cuda.mem_get_info()[0] - free
    arrays = [aiter_c.empty((1 << 28,), "float32", "cuda:0")]
    with torch.cuda.graph(torch.cuda.CUDAGraph()):
        kept = ones + 1
        arrays.pop()
    # Half of it: other processes take memory meanwhile.
    assert kept is not None and freed >= 1 << 29 and torch.cuda.mem_get_info()[0] - free >= 1 << 29


def test_two_streams_and_two_threads() -> None:
    """Torch's own streams, one per thread, scratch from its allocator: the bits of one call after the other."""
    import torch

    cases = [replace(GPU_QUICK[i], q_lens=(1,) * 4, kv_lens=(1024,) * 4, seed=i) for i in range(4)]
    problems = [_tensors(build_inputs(case)) for case in cases]
    expected = [_decode(problem) for problem in problems]
    torch.cuda.synchronize()

    def work(index: int) -> int:
        stream, wrong = torch.cuda.Stream(), 0
        for _ in range(60):
            with torch.cuda.stream(stream):
                problems[index]["o"].fill_(float("nan"))
                wrong += _decode(problems[index]) != expected[index]
        return wrong

    for pair in ((0, 1), (2, 3), (0, 3)):
        with ThreadPoolExecutor(2) as pool:
            assert sum(pool.map(work, pair)) == 0, pair


def test_the_host_time_of_calls_that_launch(tmp_path: Path) -> None:
    device = "hip" if importlib.import_module("torch").version.hip else "cuda"
    assert main(["bench", "call_overhead", "--device", device, "--json", str(tmp_path / "calls.json")]) == 0
    rows = json.loads((tmp_path / "calls.json").read_text())
    assert {row["call"].split(",")[0] for row in rows} >= {"one split", "four splits", "torch: a launch (zero_)"}
    assert all(0 < row["ns"] < 1e6 for row in rows)
