"""Hugging Face transformers' DeepseekV3ForCausalLM (small, random weights) with its attention replaced by absorbed MLA
on aiter_c over a paged latent cache: prefill whole and in chunks, decode, steps of two tokens, context parallelism.

    pip install -e . torch 'transformers>=5' && python examples/deepseek_v3.py [--heads 16] [--device cpu] [--graph]

The same tokens go through the model in fp32, through its own bfloat16 attention, and through ours. It prints how far
each is from fp32, and tokens per second; exit status 1 where ours is farther than the model's own. With --graph the
steps after the prompts are also replayed from a CUDA graph, ours and the model's own over its static cache; the CPU
has no graphs, and takes the same steps without.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Callable, Iterator

import torch
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM, StaticCache
from transformers.models.deepseek_v3 import modeling_deepseek_v3 as modeling

import aiter_c

PAGE, LATENT, ROPE = 16, 512, 64
LENGTHS, NEW_TOKENS = (61, 40, 25), 16  # of the prompts; decoded after each


def small_model(heads: int) -> DeepseekV3ForCausalLM:
    """Two dense layers and one of experts, in fp32."""
    torch.manual_seed(0)
    return DeepseekV3ForCausalLM(
        DeepseekV3Config(
            vocab_size=512, hidden_size=512, intermediate_size=1024, moe_intermediate_size=128, num_hidden_layers=3,
            num_attention_heads=heads, num_key_value_heads=heads, n_routed_experts=8, num_experts_per_tok=2, n_group=2,
            topk_group=1, first_k_dense_replace=2, q_lora_rank=256, kv_lora_rank=LATENT, qk_rope_head_dim=ROPE,
            qk_nope_head_dim=128, v_head_dim=128, max_position_embeddings=512, initializer_range=0.05,
        )
    ).eval()  # fmt: skip


class LatentCache:
    """Pages of every layer, of which each rank has every `ranks`-th key of a request; and whose pages they are."""

    def __init__(self, layers: int, requests: int, most: int, device: str, ranks: int = 1) -> None:
        self.ranks, self.device, self.pages = ranks, device, -(-most // PAGE)
        self.lens: torch.Tensor | None = None  # of the keys of all requests, in steps that begin in place
        shape = (layers, ranks, requests * self.pages, PAGE, 1, LATENT + ROPE)
        self.rows = torch.full(shape, float("nan"), dtype=torch.bfloat16, device=device)  # nothing unwritten is read
        order = torch.randperm(requests * self.pages, generator=torch.Generator().manual_seed(1))
        self.table = order.view(requests, self.pages).to(device)
        self.lengths = [0] * requests

    def begin(self, requests: list[int], tokens: int) -> None:
        """A step that appends `tokens` keys to each of these requests."""
        starts = [self.lengths[request] for request in requests]
        self.step = requests, tokens
        positions = torch.tensor([range(start, start + tokens) for start in starts], device=self.device)
        self.positions, local = positions, positions // self.ranks
        pages = self.table[torch.tensor(requests, device=self.device)[:, None], local // PAGE]
        self.places = (positions % self.ranks).flatten(), pages.flatten(), (local % PAGE).flatten()
        for request in requests:
            self.lengths[request] += tokens

    def begin_in_place(self, positions: torch.Tensor) -> None:
        """A step of one token of every request, whose places [requests, 1] are on the device: a graph can hold it."""
        self.positions, self.lens = positions, (positions[:, 0] + 1).int()
        page = self.table.gather(1, positions // PAGE).flatten()
        self.places = torch.zeros_like(page), page, (positions % PAGE).flatten()

    def write(self, layer: int, keys: torch.Tensor) -> None:
        rank, page, row = self.places
        self.rows[layer, rank, page, row, 0] = keys.flatten(0, 1)

    def lists(self, rank: int) -> tuple[torch.Tensor, ...]:
        """kv_indptr, kv_indices and kv_last_page_lens of the rank, and the lengths of all ranks together."""
        requests, _ = self.step
        held = [aiter_c.cp_local_len(self.lengths[request], self.ranks, rank) for request in requests]
        pages = [-(-length // PAGE) for length in held]
        indices = torch.cat([self.table[request, :count] for request, count in zip(requests, pages, strict=True)])
        last = [length - (count - 1) * PAGE if count else 0 for length, count in zip(held, pages, strict=True)]
        totals = [self.lengths[request] for request in requests]
        return _indptr(pages, self.device), indices.int(), _int32(last, self.device), _indptr(totals, self.device)


def _int32(values: list[int], device: str) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32, device=device)


def _indptr(lengths: list[int], device: str) -> torch.Tensor:
    return torch.cumsum(_int32([0, *lengths], device), 0, dtype=torch.int32)


class AbsorbedAttention(torch.nn.Module):
    """The projections of `theirs`; queries go through the key projection, outputs through that of the values."""

    def __init__(self, theirs: modeling.DeepseekV3Attention, cache: LatentCache) -> None:
        super().__init__()
        self.theirs, self.cache = theirs, cache
        weight = theirs.kv_b_proj.weight.view(theirs.num_heads, -1, LATENT)
        self.key, self.value = weight.split([theirs.qk_nope_head_dim, theirs.v_head_dim], 1)

    def forward(self, hidden_states: torch.Tensor, position_embeddings: tuple, **_: object) -> tuple:
        own, (requests, tokens) = self.theirs, hidden_states.shape[:2]
        q = own.q_b_proj(own.q_a_layernorm(own.q_a_proj(hidden_states))).view(requests, tokens, own.num_heads, -1)
        q_nope, q_rope = q.split([own.qk_nope_head_dim, ROPE], -1)
        latent, k_rope = own.kv_a_proj_with_mqa(hidden_states).split([LATENT, ROPE], -1)
        interleaved = own.config.rope_interleave
        rotate = modeling.apply_rotary_pos_emb_interleave if interleaved else modeling.apply_rotary_pos_emb
        q_rope, k_rope = rotate(q_rope, k_rope[:, :, None], *position_embeddings, unsqueeze_dim=2)
        self.cache.write(own.layer_idx, torch.cat((own.kv_a_layernorm(latent), k_rope[:, :, 0]), -1))
        absorbed = torch.cat((torch.einsum("bthn,hnc->bthc", q_nope, self.key), q_rope), -1).flatten(0, 1)
        o = torch.einsum("thc,hvc->thv", self._attend(absorbed, requests, tokens), self.value)
        return own.o_proj(o.reshape(requests, tokens, -1)), None

    def _attend(self, q: torch.Tensor, requests: int, tokens: int) -> torch.Tensor:
        """[T, H, 512], over all ranks."""
        cache = self.cache
        if cache.lens is not None:
            o = q.new_empty(*q.shape[:2], LATENT)
            rows, table = torch.arange(requests + 1, dtype=torch.int32, device=q.device), cache.table.int()
            return aiter_c.mla_decode_segmented(
                q, cache.rows[self.theirs.layer_idx, 0], o, rows, cache.lens, cache.pages * PAGE, table,
                self.theirs.scaling, LATENT, ROPE, True, None, None,
            )  # fmt: skip
        rows = _indptr([tokens] * requests, q.device.type)
        states, lses = [], []
        for rank in range(cache.ranks):
            kv_indptr, indices, last, totals = cache.lists(rank)
            o, pages = q.new_empty(*q.shape[:2], LATENT), cache.rows[self.theirs.layer_idx, rank]
            paged = (rows, kv_indptr, indices, last, tokens)
            if cache.ranks == 1 and tokens > 4:
                aiter_c.mla_prefill_fwd(q, pages, o, *paged, self.theirs.scaling)
                return o
            ranked = {"g_kv_indptr": totals, "cp_world_size": cache.ranks, "cp_rank": rank} if cache.ranks > 1 else {}
            _, lse = aiter_c.mla_decode_fwd(
                q, pages, o, *paged, PAGE, sm_scale=self.theirs.scaling, return_lse=True, **ranked
            )
            states.append(o)
            lses.append(lse)
        return states[0] if cache.ranks == 1 else aiter_c.merge_states(states, lses)[0]


def steps(chunk: int, width: int) -> Iterator[tuple[list[int], int]]:
    """(requests, tokens) of each step: the prompts, one after the other, in chunks; then all together, `width` each."""
    for request, length in enumerate(LENGTHS):
        for first in range(0, length, chunk):
            yield [request], min(chunk, length - first)
    for _ in range(NEW_TOKENS // width):
        yield list(range(len(LENGTHS))), width


@torch.no_grad()
def run_ours(
    model: DeepseekV3ForCausalLM,
    tokens: list[torch.Tensor],
    device: str,
    *,
    chunk: int = 512,
    width: int = 1,
    ranks: int = 1,
) -> tuple[list[torch.Tensor], float]:
    """Logits of every token, and the seconds of the steps after the prompts."""
    model = copy.deepcopy(model)
    cache = LatentCache(len(model.model.layers), len(tokens), max(map(len, tokens)), device, ranks)
    for layer in model.model.layers:
        layer.self_attn = AbsorbedAttention(layer.self_attn, cache)
    logits: list[list[torch.Tensor]] = [[] for _ in tokens]
    seconds = 0.0
    for requests, count in steps(chunk, width):
        cache.begin(requests, count)
        ids = torch.stack([tokens[r][cache.lengths[r] - count : cache.lengths[r]] for r in requests])
        _wait(ids)
        start = time.perf_counter()
        out = model(input_ids=ids, position_ids=cache.positions, use_cache=False).logits.float()
        _wait(ids)
        seconds += (time.perf_counter() - start) * (len(requests) > 1)
        for request, rows in zip(requests, out, strict=True):
            logits[request].append(rows)
    return [torch.cat(rows) for rows in logits], seconds


@torch.no_grad()
def run_theirs(model: DeepseekV3ForCausalLM, tokens: list[torch.Tensor]) -> list[torch.Tensor]:
    """The model's own attention, each request in one pass."""
    return [model(input_ids=ids[None], use_cache=False).logits[0].float() for ids in tokens]


@torch.no_grad()
def seconds_of_theirs(model: DeepseekV3ForCausalLM, tokens: list[torch.Tensor]) -> float:
    """Its steps of one token each with its own cache; requests of one length, as it needs them."""
    shortest = min(LENGTHS)
    ids = torch.stack([request[: shortest + NEW_TOKENS] for request in tokens])
    past = model(input_ids=ids[:, :shortest], use_cache=True).past_key_values
    _wait(ids)
    start = time.perf_counter()
    for position in range(shortest, shortest + NEW_TOKENS):
        past = model(input_ids=ids[:, position : position + 1], past_key_values=past, use_cache=True).past_key_values
    _wait(ids)
    return time.perf_counter() - start


Step = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def replayed(step: Step, tokens: torch.Tensor, start: torch.Tensor, rewind: Callable[[], None]) -> tuple:
    """Logits [requests, n, vocabulary] of step(ids, positions), one column of tokens [requests, n] after the other, the
    first at `start` [requests, 1]; and the seconds. On a GPU by replays of one graph; `rewind` undoes what a step that
    was taken to warm up has counted."""
    ids, positions = tokens[:, :1].clone(), start.clone()
    if tokens.is_cuda:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                step(ids, positions)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            logits = step(ids, positions)
    rewind()
    out = []
    _wait(tokens)
    began = time.perf_counter()
    for column in range(tokens.shape[1]):
        ids.copy_(tokens[:, column : column + 1])
        positions.copy_(start + column)
        if tokens.is_cuda:
            graph.replay()
            out.append(logits.clone())
        else:
            out.append(step(ids, positions))
    _wait(tokens)
    return torch.cat(out, 1).float(), time.perf_counter() - began


def _wait(tensor: torch.Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize()


def without_looking(model: DeepseekV3ForCausalLM) -> DeepseekV3ForCausalLM:
    """A copy whose experts are multiplied without a look at which of them were chosen, as a graph needs it."""
    model = copy.deepcopy(model)
    model.set_experts_implementation("batched_mm")
    return model


@torch.no_grad()
def graph_of_ours(
    model: DeepseekV3ForCausalLM, tokens: list[torch.Tensor], device: str
) -> tuple[list[torch.Tensor], float]:
    """As run_ours, the steps after the prompts from a graph."""
    model = without_looking(model)
    cache = LatentCache(len(model.model.layers), len(tokens), max(map(len, tokens)), device)
    for layer in model.model.layers:
        layer.self_attn = AbsorbedAttention(layer.self_attn, cache)
    prompts = []
    for request, length in enumerate(LENGTHS):
        cache.begin([request], length)
        ids = tokens[request][None, :length]
        prompts.append(model(input_ids=ids, position_ids=cache.positions, use_cache=False).logits[0].float())
    mask = torch.zeros((len(tokens), 1, 1, 1), device=device)  # given, so that nobody derives one from the positions

    def step(ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        cache.begin_in_place(positions)
        return model(input_ids=ids, position_ids=positions, attention_mask=mask, use_cache=False).logits

    new = torch.stack([request[-NEW_TOKENS:] for request in tokens])
    start = torch.tensor(LENGTHS, device=device)[:, None]
    logits, seconds = replayed(step, new, start, lambda: None)
    return [torch.cat(both) for both in zip(prompts, logits, strict=True)], seconds


@torch.no_grad()
def graph_of_theirs(model: DeepseekV3ForCausalLM, tokens: list[torch.Tensor]) -> float:
    """As seconds_of_theirs, from a graph, over transformers' static cache."""
    model, shortest = without_looking(model), min(LENGTHS)
    ids = torch.stack([request[: shortest + NEW_TOKENS] for request in tokens])
    past = StaticCache(config=model.config, max_cache_len=shortest + NEW_TOKENS)
    model(input_ids=ids[:, :shortest], past_key_values=past, use_cache=True)
    places = torch.arange(shortest + NEW_TOKENS, device=ids.device)

    def step(ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        mask = (places <= positions)[:, None, None]
        return model(
            input_ids=ids, position_ids=positions, attention_mask=mask, past_key_values=past, use_cache=True
        ).logits

    def rewind() -> None:
        for layer in past.layers:
            layer.cumulative_length.fill_(shortest)

    start = torch.full((len(tokens), 1), shortest, device=ids.device)
    return replayed(step, ids[:, shortest:], start, rewind)[1]


def distance(logits: list[torch.Tensor], exact: list[torch.Tensor]) -> float:
    """The median over the tokens of the root mean square of a token's difference: a token whose experts are others,
    which any rounding may bring about, does not count for more than one."""
    return (torch.cat(logits) - torch.cat(exact)).square().mean(1).sqrt().median().item()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--graph", action="store_true")
    arguments = parser.parse_args()
    model = small_model(arguments.heads).to(arguments.device)
    generator = torch.Generator().manual_seed(2)
    tokens = [torch.randint(512, (n + NEW_TOKENS,), generator=generator).to(arguments.device) for n in LENGTHS]
    exact = run_theirs(model, tokens)
    model = model.bfloat16()
    own = distance(run_theirs(model, tokens), exact)
    size = torch.cat(exact).square().mean().sqrt().item()
    print(f"{arguments.heads} heads on {arguments.device}; distance from fp32, of logits of size {size:.3f}")
    print(f"  the model's own attention in bfloat16   {own:.5f}")
    worst = 0.0
    variants: dict[str, dict[str, int]] = {
        "prompts whole, then one token a step": {}, "prompts in chunks of 16": {"chunk": 16},
        "two tokens a step": {"width": 2}, "context parallel over 2 ranks": {"ranks": 2},
    }  # fmt: skip
    for name, options in variants.items():
        logits, seconds = run_ours(model, tokens, arguments.device, **options)
        worst = max(worst, distance(logits, exact))
        rate = len(LENGTHS) * NEW_TOKENS / seconds
        print(f"  ours: {name:36s}  {distance(logits, exact):.5f}   {rate:7.1f} tokens/s")
    rate = len(LENGTHS) * NEW_TOKENS / seconds_of_theirs(model, tokens)
    print(f"  its own cache, shorter contexts: {' ' * 19}{rate:7.1f} tokens/s")
    if arguments.graph:
        logits, seconds = graph_of_ours(model, tokens, arguments.device)
        worst, name = max(worst, distance(logits, exact)), "one token a step, from a graph"
        rate = len(LENGTHS) * NEW_TOKENS / seconds
        print(f"  ours: {name:36s}  {distance(logits, exact):.5f}   {rate:7.1f} tokens/s")
        rate = len(LENGTHS) * NEW_TOKENS / graph_of_theirs(model, tokens)
        print(f"  its static cache, from a graph, shorter: {' ' * 11}{rate:7.1f} tokens/s")
    return int(not worst <= 1.05 * own)


if __name__ == "__main__":
    sys.exit(main())
