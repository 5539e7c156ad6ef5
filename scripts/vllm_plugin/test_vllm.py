"""vLLM's CPU engine with the plugin, beside the same engine with its own backend and beside itself in float32."""

import functools
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

SERVE = Path(__file__).with_name("serve.py")
OURS = ["aiter_c.plugins.vllm.mla", "aiter_c.plugins.vllm.prefill"]
SPARSE = ["aiter_c.plugins.vllm.sparse"]
TOKENS = 24
MTP = {"num_nextn_predict_layers": 1}
TWO = {"tensor_parallel_size": 2, "distributed_executor_backend": "mp"}
RNG = random.Random(0)


def numbers(count):
    return [RNG.randrange(2, 512) for _ in range(count)]


PROMPTS = [numbers(RNG.randrange(3, 80)) for _ in range(18)]
PROMPTS += [prompt[: 2 * len(prompt) // 3] + numbers(RNG.randrange(1, 30)) for prompt in PROMPTS]  # the same beginnings
FEW = {"prompts": PROMPTS[:6] + PROMPTS[18:24], "tokens": 12}  # of the runs that take several times as long


def serve(folder, plugin, **job):
    """A run in a process of its own, with vLLM's own backends or ours."""
    number = len(list(folder.iterdir())) // 2
    paths = [str(folder / f"{name}{number}.json") for name in ("job", "result")]
    Path(paths[0]).write_text(json.dumps({"prompts": PROMPTS, "tokens": TOKENS} | job))
    environment = os.environ | {"AITER_C_VLLM": "1" if plugin else "0"}
    done = subprocess.run([sys.executable, str(SERVE), *paths], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    return json.loads(Path(paths[1]).read_text())


@functools.cache
def own(folder):
    """vLLM's own backend: what all others are held against."""
    result = serve(folder, False)
    assert all(name.startswith("vllm.") for name in result["backends"]), result["backends"]
    return result


@functools.cache
def exact(folder):
    """vLLM's own backend in float32."""
    return serve(folder, False, engine={"dtype": "float32"})


@functools.cache
def of_two(folder, dtype):
    """vLLM's own backend on two processes, few prompts."""
    return serve(folder, False, engine=TWO | {"dtype": dtype}, **FEW)


def of_few(run):
    """What a run of all prompts has of those of FEW."""
    of, count = [PROMPTS.index(prompt) for prompt in FEW["prompts"]], FEW["tokens"]
    return run | {name: [run[name][i][:count] for i in of] for name in ("tokens", "best")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def behind_the_same(one, other):
    """Per request, how many places both runs decoded behind the same tokens: one more than there are equal ones, at
    most all."""
    pairs = [list(zip(*tokens, strict=True)) for tokens in zip(one["tokens"], other["tokens"], strict=True)]
    return [next((i + 1 for i, (a, b) in enumerate(pair) if a != b), len(pair)) for pair in pairs]


def errors(one, other):
    """|logprob - that of the other run| of the tokens that both list, at those places."""
    return [
        abs(value - there[token])
        for places, wanted, count in zip(one["best"], other["best"], behind_the_same(one, other), strict=True)
        for here, there in zip(places[:count], wanted[:count], strict=True)
        for token, value in here.items()
        if token in there
    ]


def check(name, one, base, reference):
    """Every request has the same tokens as in `base`, or leaves them at a tie; and it is as close to `reference` as
    that is.

    A tie is a pair of tokens whose logprobs in the reference (in `base`, where that went another way before) are no
    farther apart than twice the largest error that `base` has anywhere.
    """
    of_base, of_one = errors(base, reference), errors(one, reference)
    mean = [sum(values) / len(values) for values in (of_base, of_one)]
    equal, ties, places = 0, [], sum(map(len, base["tokens"]))
    counts = zip(behind_the_same(one, base), behind_the_same(reference, base), strict=True)
    for request, (count, of_reference) in enumerate(counts):
        place = count - 1
        mine, theirs = one["tokens"][request][place], base["tokens"][request][place]
        equal += place if mine != theirs else count
        if mine != theirs:
            there = (reference if count <= of_reference else base)["best"][request][place]
            listed = str(mine) in there and str(theirs) in there
            ties.append(abs(there[str(theirs)] - there[str(mine)]) if listed else float("inf"))
    print(
        f"\n{name}: {equal} of {places} tokens equal in {len(base['tokens'])} requests, {len(ties)} of which leave at "
        f"ties of {max(ties, default=0.0):.3f} at most; mean error of logprobs {mean[1]:.4f}, of the other "
        f"{mean[0]:.4f}, largest {max(of_one):.3f} and {max(of_base):.3f}; {one['cached']} tokens from the cache; "
        f"{one['drafts'][1]} of {one['drafts'][0]} drafts accepted"
    )
    assert len({token for tokens in base["tokens"] for token in tokens}) > 50
    assert mean[1] <= 1.1 * mean[0]
    assert max(ties, default=0.0) <= 2 * max(of_base)
    return equal


def test_dense(folder):
    """The same tokens, and sooner: attention takes less of the time, whatever else the machine does."""
    result = serve(folder, True)
    assert result["backends"] == OURS
    for name, one in (("vLLM's own", own(folder)), ("ours", result)):
        rate, attention = TOKENS * len(PROMPTS) / one["seconds"], sum(one["attention"].values())
        print(f"\n{name}: {rate:.1f} tokens/s; {attention:.2f} s of {one['seconds']:.1f} s in attention and its writes")
    assert sum(result["attention"].values()) < 0.5 * sum(own(folder)["attention"].values())
    assert check("MLA", result, own(folder), exact(folder)) >= 512


def test_chunks_and_prefixes(folder):
    """What vLLM's own backend cannot do on the CPU: prompts in chunks of 48 tokens, beginnings from the cache."""
    engine = {"enable_prefix_caching": True, "enable_chunked_prefill": True, "max_num_batched_tokens": 48}
    result = serve(folder, True, engine=engine, unrestricted=True)
    assert result["backends"] == OURS and result["cached"] > 100
    assert result["attention"]["run_prefill_context_chunk"] > 0
    check("MLA, chunks and prefixes", result, own(folder), exact(folder))


def test_speculative(folder):
    """Two query rows a step: a draft layer, and verification."""
    result = serve(
        folder, True, model=MTP,
        engine={"speculative_config": {"method": "mtp", "num_speculative_tokens": 1}}, **FEW,
    )  # fmt: skip
    assert result["backends"] == OURS and result["drafts"][0] > 0
    check("MLA, one draft", result, of_few(own(folder)), of_few(exact(folder)))


def test_accepted_drafts(folder):
    """Three query rows a step, of which the model takes one, two or all: what rejected drafts left in the cache is
    written over."""
    few = {"foreseeable": True, **FEW}
    base, reference = serve(folder, False, **few), serve(folder, False, engine={"dtype": "float32"}, **few)
    drafts = {"speculative_config": {"method": "mtp", "num_speculative_tokens": 2}}
    result = serve(folder, True, model=MTP, engine=drafts, **few)
    proposed, accepted = result["drafts"]
    assert result["backends"] == OURS and 0.1 * proposed < accepted < 0.9 * proposed
    check("MLA, two drafts, some accepted", result, base, reference)


@pytest.mark.parametrize("draft", [False, True])
def test_ranks_that_share_keys(folder, draft):
    """Two processes with half the heads and every other key each (decode context parallelism), beside vLLM's own
    backend on two processes with half the heads and all keys each."""
    base, reference = of_two(folder, "bfloat16"), of_two(folder, "float32")
    drafts = {"speculative_config": {"method": "mtp", "num_speculative_tokens": 1}} if draft else {}
    result = serve(
        folder, True, model=MTP if draft else {}, engine=TWO | drafts | {"decode_context_parallel_size": 2}, **FEW
    )
    assert result["backends"] == OURS and (result["drafts"][0] > 0) == draft
    assert base["held"][0] == base["held"][1] and max(result["held"]) < 0.6 * base["held"][0]
    check(f"MLA, keys on two ranks{', one draft' * draft}", result, base, reference)


DSA = {
    "architectures": ["DeepseekV32ForCausalLM"], "model_type": "deepseek_v32", "index_n_heads": 16,
    "index_head_dim": 128,
}  # fmt: skip


def test_sparse_with_all_keys(folder):
    """DSA that selects every key is the dense model: the same weights, another way through backend and indexer."""
    result = serve(folder, True, model=DSA | {"index_topk": 512})
    assert result["backends"] == SPARSE
    check("DSA, all keys", result, own(folder), exact(folder))


def test_sparse(folder):
    """DSA that selects 16 keys, beside the same engine with selection and attention in float32 torch."""
    model = DSA | {"index_topk": 16}
    plain = serve(folder, True, model=model, plain=True, **FEW)
    result = serve(folder, True, model=model, **FEW)
    assert result["backends"] == SPARSE
    of_one = errors(result, plain)
    equal = sum(map(tuple.__eq__, *(map(tuple, run["tokens"]) for run in (result, plain))))
    print(
        f"\nDSA, 16 keys: mean difference of logprobs {sum(of_one) / len(of_one):.4f}; all {FEW['tokens']} tokens of "
        f"{equal} of {len(FEW['prompts'])} requests equal"
    )
    assert sum(of_one) / len(of_one) < 0.1
