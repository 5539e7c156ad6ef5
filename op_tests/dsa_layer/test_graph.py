"""A whole layer of sparse attention, captured once and replayed over a thousand steps of a decode, as an engine does:
contexts grow, requests leave and others take their places, rows are padded. Every step has the bits of the eager calls,
and nothing is allocated. Prints the time of each part. Needs a real GPU and torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import aiter_c

STEPS, PLACES, PAGE, WIDTH = 1000, 6, 64, 40  # places of requests, of WIDTH pages each
INDEX_HEADS, TOP_K = 64, 2048
PARTS = ("write", "logits", "top-k", "slots", "plan", "decode")
_LISTS = ("work_meta_data", "work_indptr", "work_info_set", "reduce_indptr", "reduce_final_map", "reduce_partial_map")


class Layer:
    """The tensors of a layer, which nothing replaces, and its calls."""

    def __init__(self, torch: Any, device: str, heads: int, q_len: int) -> None:
        self.torch, self.device, self.heads, self.q_len = torch, device, heads, q_len
        rows, longest = PLACES * q_len, WIDTH * PAGE
        generator = torch.Generator().manual_seed(heads)

        def new(*shape: int, dtype: Any = torch.int32) -> Any:
            return torch.zeros(shape, dtype=dtype, device=device)

        def random(*shape: int) -> Any:
            return torch.randn(shape, generator=generator).to(device)

        bf16, fp8 = torch.bfloat16, torch.float8_e4m3fn
        self.lens, self.slot_mapping = new(PLACES), new(rows, dtype=torch.int64)
        self.kv_indptr = new(PLACES + 1)
        self.table = new(PLACES, WIDTH)
        pages = 1 + torch.randperm(PLACES * WIDTH, generator=generator, dtype=torch.int32)
        self.table.copy_(pages.view(PLACES, WIDTH))
        self.index_k, self.kv_c, self.k_pe = (new(rows, width, dtype=bf16) for width in (128, 512, 64))
        self.q, self.weights = new(rows, heads, 576, dtype=bf16), new(rows, INDEX_HEADS, dtype=torch.float32)
        self.index_q = new(PLACES, q_len, INDEX_HEADS, 128, dtype=fp8)
        self.request = torch.arange(PLACES, dtype=torch.int32, device=device).repeat_interleave(q_len)
        self.qo_indptr = torch.arange(PLACES + 1, dtype=torch.int32, device=device) * q_len
        self.logits, self.o = new(rows, longest, dtype=torch.float32), new(rows, heads, 512, dtype=bf16)
        self.positions, self.slots = new(rows, TOP_K), new(rows, TOP_K)
        count = 1 + PLACES * WIDTH
        self.index_cache = torch.zeros(count, PAGE, 1, 132, dtype=torch.uint8, device=device)
        self.cache = torch.zeros(count, PAGE, 656, dtype=torch.uint8, device=device)
        self._fill(random)
        sizes = aiter_c.get_mla_metadata_info_v1(PLACES, q_len, heads, "bfloat16", "bfloat16", True, num_workers=64)
        dtypes = (torch.uint64, *[torch.int32] * 5)
        self.lists = {
            name: torch.zeros(size, dtype=dtype, device=device)
            for name, dtype, (size, _) in zip(_LISTS, dtypes, sizes, strict=True)
        }
        self.lse: Any = None

    def _fill(self, random: Any) -> None:
        """Every slot holds a key: what requests have before the first step."""
        torch, bf16 = self.torch, self.torch.bfloat16
        slots = torch.arange(len(self.cache) * PAGE, dtype=torch.int64, device=self.device)
        keys = [random(len(slots), width).to(bf16) for width in (128, 512, 64)]
        for _, call in self.writes(*keys, slots):
            call()

    def writes(self, index_k: Any, kv_c: Any, k_pe: Any, slots: Any) -> list[tuple[str, Any]]:
        return [
            ("write", lambda: aiter_c.indexer_k_quant_and_cache(
                index_k, self.index_cache, slots, 128, "ue8m0", kv_dtype="float8_e4m3fn")),
            ("write", lambda: aiter_c.concat_and_cache_mla(kv_c, k_pe, self.cache, slots, "fp8_ds_mla", None)),
        ]  # fmt: skip

    def calls(self) -> list[tuple[str, Any]]:
        rows, lists = PLACES * self.q_len, self.lists
        return [
            *self.writes(self.index_k, self.kv_c, self.k_pe, self.slot_mapping),
            ("logits", lambda: aiter_c.deepgemm_fp8_paged_mqa_logits(
                self.index_q, self.index_cache, self.weights, self.logits, self.lens, self.table, WIDTH * PAGE,
                KVBlockSize=PAGE, clean_logits=False, kv_dtype="float8_e4m3fn")),
            ("top-k", lambda: aiter_c.top_k_per_row_decode(
                self.logits, self.q_len, self.lens, self.positions, rows, self.logits.shape[1], 1, k=TOP_K)),
            ("slots", lambda: aiter_c.convert_req_index_to_global_index(
                self.request, self.table, self.positions, BLOCK_SIZE=PAGE, NUM_TOPK_TOKENS=TOP_K, out=self.slots)),
            ("plan", lambda: aiter_c.get_mla_metadata_v1(
                seqlens_qo_indptr=self.qo_indptr, seqlens_kv_indptr=self.kv_indptr, kv_last_page_lens=None,
                num_heads_per_head_k=self.heads, num_heads_k=1, is_causal=False, max_seqlen_qo=1,
                work_metadata_ptrs=lists["work_meta_data"], uni_seqlen_qo=self.q_len, topk=TOP_K,
                **{name: lists[name] for name in _LISTS[1:]})),
            ("decode", self._decode),
        ]  # fmt: skip

    def _decode(self) -> None:
        self.lse = aiter_c.mla_decode_fwd(
            self.q, self.cache, self.o, self.qo_indptr, self.kv_indptr, self.slots.view(-1), None, 1, page_size=PAGE,
            slots=True, return_lse=True, **self.lists,
        )[1]  # fmt: skip

    def run(self) -> None:
        for _, call in self.calls():
            call()

    def poison(self) -> None:
        self.logits.fill_(float("nan")), self.o.fill_(float("nan"))
        self.positions.fill_(2**31 - 1), self.slots.fill_(2**31 - 1)

    def results(self) -> dict[str, Any]:
        """As integers: NaN equals NaN."""
        torch = self.torch
        integers = {2: torch.int16, 4: torch.int32}
        names = ("index_cache", "cache", "logits", "positions", "slots", "o", "lse")  # as one follows from the other
        found = {name: getattr(self, name) for name in names}
        return {name: value.view(integers.get(value.element_size(), value.dtype)) for name, value in found.items()}


class Batch:
    """Which request is where, and how long it is; 0: nobody, the row is padding."""

    def __init__(self, q_len: int) -> None:
        self.rng, self.q_len = np.random.default_rng(11), q_len
        self.lens = np.array([5, 300, 1500, 2200, 0, 64], np.int32)
        self.joined = 0

    def step(self) -> None:
        self.lens += self.q_len * (self.lens > 0).astype(np.int32)
        for place in range(PLACES):
            leaves = self.lens[place] + self.q_len > WIDTH * PAGE or self.rng.random() < 0.01
            if self.lens[place] and leaves:
                self.lens[place] = 0
            elif not self.lens[place] and self.rng.random() < 0.05:
                self.lens[place] = self.rng.integers(self.q_len, WIDTH * PAGE - 200)
                self.joined += 1

    def send(self, layers: list[Layer], seed: int) -> None:
        """The step's inputs, the same for all."""
        torch, q_len = layers[0].torch, self.q_len
        generator = torch.Generator(layers[0].device).manual_seed(seed)
        table = layers[0].table.cpu().numpy() if seed == 0 else self.table
        self.table = table
        slots = np.full((PLACES, q_len), -1, np.int64)
        for place in np.nonzero(self.lens)[0]:
            at = np.arange(self.lens[place] - q_len, self.lens[place])
            slots[place] = table[place, at // PAGE].astype(np.int64) * PAGE + at % PAGE
        host = {
            "lens": self.lens,
            "slot_mapping": slots.reshape(-1),
            "kv_indptr": np.append(0, np.cumsum(self.lens)).astype(np.int32),
        }
        for name in ("index_k", "kv_c", "k_pe", "q", "weights", "index_q"):
            shape = getattr(layers[0], name).shape
            host[name] = torch.randn(shape, generator=generator, device=layers[0].device)
        for layer in layers:
            for name, value in host.items():
                source = torch.from_numpy(value) if isinstance(value, np.ndarray) else value
                getattr(layer, name).copy_(source)


def _milliseconds(torch: Any, layer: Layer) -> dict[str, float]:
    """The median of each part, eager."""
    times: dict[str, list[float]] = {part: [] for part in PARTS}
    for _ in range(20):
        step = dict.fromkeys(PARTS, 0.0)
        for part, call in layer.calls():
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda._sleep(200_000)  # the host is ahead
            begin.record(), call(), end.record()
            torch.cuda.synchronize()
            step[part] += begin.elapsed_time(end)
        for part, value in step.items():
            times[part].append(value)
    return {part: sorted(values)[10] for part, values in times.items()}


@pytest.mark.gpu
@pytest.mark.parametrize(("heads", "q_len"), [(128, 1), (16, 2)])
def test_a_thousand_steps(heads: int, q_len: int) -> None:
    import torch

    captured, eager = (Layer(torch, "cuda", heads, q_len) for _ in range(2))
    batch = Batch(q_len)
    batch.send([captured, eager], 0)
    captured.run(), eager.run()  # the first use loads the code; both caches have the first step's keys
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured.run()
    padded, seen = 0, set()
    for step in range(1, STEPS + 1):
        batch.step()
        batch.send([captured, eager], step)
        captured.poison(), eager.poison()
        torch.cuda.synchronize()
        before = torch.cuda.memory_stats()["allocation.all.allocated"]
        graph.replay()
        torch.cuda.synchronize()
        assert torch.cuda.memory_stats()["allocation.all.allocated"] == before, step
        eager.run()
        ours, theirs = captured.results(), eager.results()
        for name, value in ours.items():
            assert torch.equal(value, theirs[name]), f"step {step}: {name} is not the eager call's"
        padded += int((batch.lens == 0).sum())
        seen.add(tuple(batch.lens > 0))
    assert padded > 100 and batch.joined > 10 and len(seen) > 5  # the steps were what they are called
    rows = torch.from_numpy(np.repeat(batch.lens > 0, q_len))
    assert bool(torch.isfinite(captured.o[rows.cuda()].float()).all())
    times = {part: f"{time * 1e3:.1f} us" for part, time in _milliseconds(torch, eager).items()}
    print(f"{heads} heads, q-len {q_len}: {times}")


@pytest.mark.torch
def test_the_steps_on_the_host() -> None:
    """The same calls without a graph: what they select is what a request has, and padding has nothing."""
    import torch

    layer, batch = Layer(torch, "cpu", 16, 2), Batch(2)
    for step in range(3):
        batch.send([layer], step)
        layer.poison()
        layer.run()
        counts = (layer.positions >= 0).sum(1).numpy()
        seen = (batch.lens[:, None] - np.arange(1, -1, -1)).clip(0).reshape(-1) * np.repeat(batch.lens > 0, 2)
        np.testing.assert_array_equal(counts, np.minimum(seen, TOP_K))
        rows = torch.from_numpy(np.repeat(batch.lens > 0, 2))
        assert bool(torch.isfinite(layer.o[rows].float()).all())
        batch.step()
