"""One run of vLLM in a process of its own: python serve.py JOB.json RESULT.json. No network: the model is a
configuration that is written here, its weights are made by the run ("dummy", but scaled so that attention decides the
tokens, and the same whatever the dtype), its prompts are numbers.

A job: model (what differs from MODEL), engine (what differs from ENGINE), prompts (lists of tokens), tokens (how many
to generate), plain (see in_plain_torch), unrestricted (see as_asked_for) and foreseeable (see foreseeable_weights).
Ranks (engine's tensor_parallel_size) are processes. A result: backends (their modules), seconds, processor (seconds of
all threads), attention (seconds in each call of the backends), tokens, best (the largest logprobs at every place),
cached (how many tokens came from cached prefixes), drafts (proposed and accepted) and held (how many rows of its first
layer's cache each rank has written).
"""

import json
import os
import sys
import tempfile
import time
import zlib

os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # the engine in this process
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")

MODEL = {
    "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "torch_dtype": "bfloat16",
    "hidden_size": 256, "intermediate_size": 512, "moe_intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 16, "num_key_value_heads": 16, "vocab_size": 512, "max_position_embeddings": 4096,
    "q_lora_rank": 128, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
    "n_routed_experts": 8, "num_experts_per_tok": 2, "n_shared_experts": 1, "n_group": 2, "topk_group": 1,
    "first_k_dense_replace": 1, "moe_layer_freq": 1, "norm_topk_prob": True, "scoring_func": "sigmoid",
    "topk_method": "noaux_tc", "routed_scaling_factor": 0.125, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
    "hidden_act": "silu", "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 1,
}  # fmt: skip
ENGINE = {
    "load_format": "dummy", "skip_tokenizer_init": True, "enforce_eager": True, "max_model_len": 512,
    "max_num_seqs": 16, "seed": 0, "max_logprobs": 32,
}  # fmt: skip
TOP = 16


def scaled_weights(loader, model, model_config, gains=None, like=()):
    """In place of DummyModelLoader.load_weights, whose weights of +-0.001 give ties everywhere. Each rank has heads of
    its own, and the same of everything else. like: pairs of a part of a name, and what has the same weights."""
    import torch
    from vllm.distributed import get_tensor_model_parallel_rank

    rank = get_tensor_model_parallel_rank()
    for name, tensor in model.state_dict().items():
        if not torch.is_floating_point(tensor):
            continue
        for part, other in like:
            name = name.replace(part, other)
        if "norm" in name:
            values = torch.ones(tensor.shape)
        elif tensor.dim() < 2:
            values = torch.zeros(tensor.shape)
        elif like and "eh_proj" in name:
            values = torch.eye(*tensor.shape)  # the token alone, nothing of what the model made of those before
        else:
            own = rank if any(part in name for part in HEADS) else 0
            generator = torch.Generator().manual_seed(zlib.crc32(name.encode()) + own)
            width = 1.0 if "embed_tokens" in name else tensor.shape[-1] ** -0.5
            gain = next((gain for part, gain in (gains or GAINS).items() if part in name), 1.0)
            values = torch.randn(tensor.shape, generator=generator) * (width * gain)
        tensor.copy_(values.bfloat16())


#: What makes softmax peak, so that a wrong key is a wrong token, and logits differ.
GAINS = {"q_b_proj": 4.0, "o_proj": 4.0, "lm_head": 4.0}
#: What is a rank's own of its heads.
HEADS = ("q_b_proj", "kv_b_proj", "o_proj")


def foreseeable_weights(loader, model, model_config):
    """The draft layer is the model's last one, and the first adds little: many drafts are what the model says."""
    # Those of attention have two names, of which the second is set last.
    gains = {"layers.0.self_attn.mla_attn.o_proj": 0.2, "layers.0.mlp.down_proj": 0.1, **GAINS}
    like = [("layers.2.mtp_block.", "layers.1."), ("model.layers.2.shared_head.head.", "lm_head.")]
    scaled_weights(loader, model, model_config, gains, like)


def in_plain_torch():
    """Puts float32 torch, one row at a time, in the place of the plugin's sparse attention and of its selection of
    keys, on none of its metadata but vLLM's own."""
    import torch
    from vllm.forward_context import get_forward_context

    from aiter_c.plugins.vllm import indexer, sparse

    def rows(step):
        """Every token with its request's block table and the number of keys that it sees."""
        for request, (first, last) in enumerate(zip(step.query_start_loc, step.query_start_loc[1:], strict=False)):
            for token in range(int(first), int(last)):
                yield token, step.block_table[request], int(step.seq_lens[request]) - (int(last) - 1 - token)

    def forward_mqa(self, q, cache, step, layer):
        q = torch.cat(q, -1).float()
        out = torch.zeros((*q.shape[:2], 512))
        for token, blocks, _ in rows(step):
            chosen = self.topk_indices_buffer[token]
            chosen = chosen[chosen >= 0].long()
            keys = cache[blocks[chosen // cache.shape[1]].long(), chosen % cache.shape[1]].float()
            out[token] = torch.softmax(q[token] @ keys.T * self.scale, -1) @ keys[:, :512]
        return out.bfloat16(), None

    def select(self, q, weights, step):
        attention = next(s for s in get_forward_context().attn_metadata.values() if hasattr(s, "query_start_loc"))
        cache = self.k_cache.kv_cache
        block, dim = cache.shape[1], self.head_dim
        pages = cache.flatten(1)
        codes = pages[:, : block * dim].view(torch.float8_e4m3fn).float().view(-1, block, dim)
        scales = pages[:, block * dim :].contiguous().view(torch.float32).view(-1, block, 1)
        for token, blocks, length in rows(attention):
            keys = (codes * scales)[blocks.long()].flatten(0, 1)[:length]
            logits = (weights[token].float()[:, None] * (q[token].float() @ keys.T).relu()).sum(0)
            count = min(length, self.topk_tokens)
            self.topk_indices_buffer[token] = -1
            self.topk_indices_buffer[token, :count] = torch.topk(logits, count).indices.int()

    sparse.SparseMLAImpl.forward_mqa, indexer.Indexer._select = forward_mqa, select


def with_right_rope():
    """0.32.0's rotary_embedding of the CPU takes a tensor of [tokens, heads, 64] for one of size(-1) / 64 heads, with
    its tokens at stride(-2): of an MLA model it turns other memory than the rope parts, and which one is up to where in
    the batch a token stands. Its function in torch is right."""
    from vllm.model_executor.layers.rotary_embedding.base import RotaryEmbedding

    RotaryEmbedding.forward_cpu = lambda self, *args, **kwargs: self.forward_native(*args, **kwargs)


def as_asked_for():
    """Chunks of prompts and cached prefixes, which vLLM turns off for MLA on the CPU, stay as the job has them."""
    from aiter_c.plugins.vllm import cpu

    theirs = cpu.CpuPlatform.check_and_update_config

    def check_and_update_config(cls, vllm_config):
        cache, scheduler = vllm_config.cache_config, vllm_config.scheduler_config
        chunked, prefixes = scheduler.enable_chunked_prefill, cache.enable_prefix_caching
        tokens = scheduler.max_num_batched_tokens
        theirs(vllm_config)
        scheduler.enable_chunked_prefill, cache.enable_prefix_caching = chunked, prefixes
        scheduler.max_num_batched_tokens = tokens

    cpu.CpuPlatform.check_and_update_config = classmethod(check_and_update_config)


def where_ranks_share_keys():
    """What vLLM has for its CPU platform on one rank alone, or in Triton alone: the slots of the keys that a rank
    holds, and a rank's output times its share of the softmax."""
    import torch
    from vllm.v1.attention.ops import dcp
    from vllm.v1.worker.block_table import BlockTable

    def compute_slot_mapping(self, num_reqs, query_start_loc, positions):
        ranks, run, block = self.dcp_world_size, self.cp_kv_cache_interleave_size, self.block_size
        slots, table = self.slot_mapping.gpu, self.block_table.gpu
        slots.fill_(-1)
        for request in range(num_reqs):
            first, last = query_start_loc[request : request + 2].tolist()
            place = positions[first:last]
            held = place // (ranks * run) * run + place % run  # its place among the keys of the rank that has it
            slot = table[request][held // block].long() * block + held % block
            slots[first:last] = torch.where(place // run % ranks == self.dcp_rank, slot, -1)

    def correct_attn_out(out, lses, rank, ctx, is_lse_base_on_e=True):
        assert is_lse_base_on_e
        lse = lses.logsumexp(0)
        share = torch.where(lses[rank] == -torch.inf, 0.0, (lses[rank] - lse).exp())[..., None]
        return out.copy_(out * share), lse

    BlockTable.compute_slot_mapping, dcp.correct_attn_out = compute_slot_mapping, correct_attn_out


CALLS = ("forward_mqa", "do_kv_cache_update", "run_prefill_new_tokens", "run_prefill_context_chunk")


def backends(worker):
    """The classes of a worker's attention."""
    layers = worker.vllm_config.compilation_config.static_forward_context.values()
    parts = [getattr(layer, name, None) for layer in layers for name in ("impl", "prefill_backend")]
    return {type(part) for part in parts if part}


def start(worker):
    """Makes the calls of the backends add up the seconds that they take."""
    worker.seconds = dict.fromkeys(CALLS, 0.0)

    def wrap(name, call):
        def timed_call(*args, **kwargs):
            began = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                worker.seconds[name] += time.perf_counter() - began

        return timed_call

    for one in backends(worker):
        for name in CALLS:
            if hasattr(one, name):
                setattr(one, name, wrap(name, getattr(one, name)))


def facts(worker):
    """Names of the backends, seconds, and how many rows of the first cache have been written."""
    layers = worker.vllm_config.compilation_config.static_forward_context.values()
    cache = next(layer.kv_cache for layer in layers if hasattr(layer, "impl"))
    written = int(cache.flatten(0, 1).ne(0).any(-1).sum())
    return sorted({one.__module__ for one in backends(worker)}), worker.seconds, written


def prepare(job):
    """What a job changes of vLLM, in every process of it."""
    from vllm.model_executor.model_loader.dummy_loader import DummyModelLoader

    DummyModelLoader.load_weights = foreseeable_weights if job.get("foreseeable") else scaled_weights
    with_right_rope()
    if "tensor_parallel_size" in job.get("engine", {}):
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"  # it wants a NUMA node for each
        where_ranks_share_keys()
    if job.get("unrestricted"):
        as_asked_for()
    if job.get("plain"):
        in_plain_torch()


def run(job):
    from vllm import LLM, SamplingParams

    prepare(job)
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/config.json", "w") as file:
            json.dump(MODEL | job.get("model", {}), file)
        llm = LLM(model=folder, disable_log_stats=False, **(ENGINE | job.get("engine", {})))

    def generate(prompts, count):
        """Tokens, logprobs of the best at each place, and tokens that came from cached prefixes."""
        parameters = SamplingParams(temperature=0, max_tokens=count, ignore_eos=True, detokenize=False, logprobs=TOP)
        outputs = llm.generate([{"prompt_token_ids": prompt} for prompt in prompts], parameters, use_tqdm=False)
        tokens = [list(output.outputs[0].token_ids) for output in outputs]
        places = [output.outputs[0].logprobs for output in outputs]
        best = [[{token: entry.logprob for token, entry in one.items()} for one in place] for place in places]
        return tokens, best, sum(output.num_cached_tokens or 0 for output in outputs)

    generate([[2, 3, 4]], 2)  # what is made at first use
    llm.collective_rpc(start)
    began, processor = time.perf_counter(), time.process_time()
    tokens, best, cached = generate(job["prompts"], job["tokens"])
    seconds, processor = time.perf_counter() - began, time.process_time() - processor
    metrics = {metric.name: getattr(metric, "value", None) for metric in llm.get_metrics()}
    drafts = [metrics.get(f"vllm:spec_decode_num_{name}_tokens", 0) for name in ("draft", "accepted")]
    modules, attention, held = zip(*llm.collective_rpc(facts), strict=True)
    assert all(one == modules[0] for one in modules)
    return {
        "backends": modules[0], "seconds": seconds, "processor": processor, "attention": attention[0],
        "tokens": tokens, "best": best, "cached": cached, "drafts": drafts, "held": held,
    }  # fmt: skip


if __name__ in ("__main__", "__mp_main__"):  # the latter in the process of a rank
    with open(sys.argv[1]) as file:
        asked = json.load(file)
    if __name__ == "__mp_main__":
        prepare(asked)
    else:
        result = run(asked)
        with open(sys.argv[2], "w") as file:
            json.dump(result, file)
