"""python -m aiter_c bench mla_decode --device cuda: time against this GPU's floor and against the peers, in one run.

Per shape: the median of CUDA events around a call, the L2 flushed before each, random data in shuffled pages of 64; and
the same with the call captured in a graph. What a step does once, our plan and the peers' schedule, is not in the time.
Floor of a call = max(bytes / copy bandwidth, FLOP / matrix product), both measured first; fp8 has twice bf16's rate.
One query row of every shape is checked against fp64. Needs torch, built for the device.
"""

import sys

import aiter_c
from aiter_c.cli import gpu_peers
from aiter_c.cli.peers import torch_or_none
from aiter_c.cli.report import print_table, progress, write_json
from aiter_c.testing.ops.mla_decode_perf import GPU_OTHERS, GPU_QUICK, GPU_SHAPES, least_work

_FLUSH_BYTES = 256 << 20
_CALLS, _WARM_UP = 40, 3
_TOLERANCE = 0.03  # of the one row that is checked: values are 0.5 * N(0, 1), p may be fp8


class Timer:
    """Median microseconds of a callable on the GPU, each call on a cold L2."""

    def __init__(self, torch):
        self.torch = torch
        self.flush = torch.empty(_FLUSH_BYTES, dtype=torch.int8, device="cuda")

    def microseconds(self, call, count=_CALLS):
        """Events around every call; the flush before it keeps the queue full, so that the host does not count."""
        torch = self.torch
        for _ in range(_WARM_UP):
            call()
        pairs = []
        for _ in range(count):
            self.flush.zero_()
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            call()
            end.record()
            pairs.append((begin, end))
        torch.cuda.synchronize()
        return sorted(begin.elapsed_time(end) * 1e3 for begin, end in pairs)[count // 2]

    def graph_microseconds(self, call):
        """The same of a graph of one call."""
        torch = self.torch
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            call()
        return self.microseconds(graph.replay)


def measure_ceilings(torch, timer):
    """Copy bandwidth, read and write counted [byte/s], and the bf16 matrix product [FLOP/s]."""
    source = torch.empty(1 << 30, dtype=torch.int8, device="cuda")
    target = torch.empty_like(source)
    copy = 2 * source.numel() / timer.microseconds(lambda: target.copy_(source), 15) * 1e6
    a, b = (torch.randn(8192, 8192, device="cuda").bfloat16() for _ in range(2))
    product = 2 * 8192**3 / timer.microseconds(lambda: a @ b, 10) * 1e6
    return {"copy_bytes_per_s": copy, "bf16_flop_per_s": product}


class Problem:
    """The tensors of a case with equal lengths, and the calls of ours and of the peers on them."""

    def __init__(self, torch, case):
        self.torch, self.case = torch, case
        batch, heads, length = case.batch, case.heads, case.kv_lens[0]
        q_len = case.q_lens[0]
        dtype = lambda name: getattr(torch, name)  # noqa: E731
        generator = torch.Generator("cuda").manual_seed(length + heads)
        normal = lambda *shape: torch.randn(*shape, device="cuda", generator=generator)  # noqa: E731
        pages = length // 64
        if case.kv_format == "plain":
            values = torch.empty(batch * pages, 64, 1, 576, dtype=dtype(case.kv_dtype), device="cuda")
            for part in values.split(4096):
                part.copy_((normal(*part.shape) * 0.5).to(values.dtype))
        else:
            values = torch.randint(0, 120, (batch * pages, 64, 656), dtype=torch.uint8, device="cuda")
            values[..., 512:528] = torch.full((4,), 2.0**-6, device="cuda").view(torch.uint8)
            values[..., 528:] = (normal(64) * 0.5).bfloat16().view(torch.uint8)
        self.cache = values
        self.table = torch.randperm(batch * pages, device="cuda", dtype=torch.int32).view(batch, pages)
        self.q = normal(batch * q_len, heads, 576).to(dtype(case.q_dtype))
        self.o = torch.empty(batch * q_len, heads, 512, dtype=torch.bfloat16, device="cuda")
        steps = torch.arange(batch + 1, dtype=torch.int32, device="cuda")
        self.qo_indptr, self.kv_indptr = steps * q_len, steps * pages
        self.lengths = torch.full((batch,), length, dtype=torch.int32, device="cuda")
        self.last_page = torch.full((batch,), 64, dtype=torch.int32, device="cuda")
        kv_dtype = case.kv_dtype if case.kv_format == "plain" else case.kv_format
        self.plan = aiter_c.mla_plan(
            batch, heads, q_len, 64, case.q_dtype, kv_dtype, max_kv_len=length, device=str(self.q.device)
        )

    def call(self):
        """One decode, ours."""
        aiter_c.mla_decode_fwd(
            self.q, self.cache, self.o, self.qo_indptr, self.kv_indptr, self.table.view(-1), self.last_page,
            self.case.q_lens[0], 64, plan=self.plan,
            kv_format=None if self.case.kv_format == "plain" else self.case.kv_format,
        )  # fmt: skip

    def error(self, o):
        """The largest difference of the first request's last query row from fp64."""
        torch, row = self.torch, self.case.q_lens[0] - 1
        rows = self.cache[self.table[0].long()].reshape(-1, self.cache.shape[-1])
        if self.case.kv_format == "plain":
            keys = rows.float().double()
        else:
            latent = rows[:, :512].contiguous().view(torch.float8_e4m3fn).float().view(-1, 4, 128)
            scales = rows[:, 512:528].contiguous().view(torch.float32)
            rope = rows[:, 528:].contiguous().view(torch.bfloat16).double()
            keys = torch.cat([(latent * scales[..., None]).double().view(-1, 512), rope], 1)
        weights = torch.softmax(self.q[row].float().double() @ keys.T * 576**-0.5, -1)
        return (o[row].double() - weights @ keys[:, :512]).abs().max().item()


def _measure(problem, timer, ceilings, peers):
    case = problem.case
    num_bytes, flop = least_work(case)
    matrix = ceilings["bf16_flop_per_s"] * (2 if case.q_is_fp8 and case.kv_is_fp8 else 1)
    floor = 1e6 * max(num_bytes / ceilings["copy_bytes_per_s"], flop / matrix)
    problem.call()
    error = problem.error(problem.o)
    if not error < _TOLERANCE * (8 if case.kv_format != "plain" else 1):
        raise RuntimeError(f"{case.id}: a row is {error:.3g} away from fp64")
    us = timer.microseconds(problem.call)
    row = {
        "batch": case.batch,
        "length": case.kv_lens[0],
        "q": case.q_lens[0],
        "heads": case.heads,
        "dtypes": f"{case.q_dtype}*{case.kv_dtype if case.kv_format == 'plain' else case.kv_format}",
        "kernel": problem.plan.stage1,
        "splits": problem.plan.num_kv_splits,
        "us": us,
        "graph us": timer.graph_microseconds(problem.call),
        "GB/s": num_bytes / us / 1e3,
        "TFLOP/s": flop / us / 1e6,
        "% of floor": 100 * floor / us,
        "error": error,
    }
    best = None
    for name, peer in peers.items():
        call = peer(problem)
        if call is None:
            continue
        output = call()
        row[f"{name} us"] = timer.microseconds(call)
        row[f"{name} error"] = problem.error(output.reshape(problem.o.shape))
        best = min(best or row[f"{name} us"], row[f"{name} us"])
    if best is not None:
        row["x best peer"] = us / best
    return row


_COLUMNS = {
    "batch": "d", "length": "d", "q": "d", "heads": "d", "dtypes": "", "kernel": "", "splits": "d", "us": ".1f",
    "graph us": ".1f", "GB/s": ".0f", "TFLOP/s": ".0f", "% of floor": ".0f",
}  # fmt: skip


def run(arguments):
    """The command."""
    torch = torch_or_none()
    if torch is None or not torch.cuda.is_available():
        print(f"--device {arguments.device}: needs torch that sees the GPU", file=sys.stderr)
        return 2
    torch.manual_seed(0)
    timer = Timer(torch)
    ceilings = measure_ceilings(torch, timer)
    peers = {} if arguments.no_peers else gpu_peers.find(torch)
    print(
        f"{torch.cuda.get_device_name()}; measured now: copy {ceilings['copy_bytes_per_s'] / 1e9:.0f} GB/s, "
        f"bf16 product {ceilings['bf16_flop_per_s'] / 1e12:.0f} TFLOP/s; peers: {', '.join(peers) or 'none'}",
        file=sys.stderr,
    )
    rows = []
    for case in progress(GPU_QUICK if arguments.quick else GPU_SHAPES + GPU_OTHERS, "mla_decode"):
        rows.append(_measure(Problem(torch, case), timer, ceilings, peers))
        torch.cuda.empty_cache()
    known = {f"{name} us": ".1f" for name in peers} | ({"x best peer": ".2f"} if peers else {})
    print_table(_COLUMNS | known, rows)
    if arguments.json:
        device = {"name": torch.cuda.get_device_name(), "torch": torch.__version__}
        write_json(arguments.json, {"device": device, "ceilings": ceilings, "mla_decode": rows})
    return 0
