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
TOKENS = 26
RNG = random.Random(0)
PROMPTS = [[RNG.randrange(2, 512) for _ in range(RNG.randrange(3, 80))] for _ in range(20)]


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
    return result["rounds"][0]


@functools.cache
def exact(folder):
    """Logprobs of the same places, behind the same tokens, by vLLM's own backend in float32."""
    return serve(folder, False, follow=own(folder)["tokens"], engine={"dtype": "float32"})["rounds"][0]["best"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def errors(best, reference):
    """|logprob - its float32 value| of the tokens that both list, over all places."""
    return [
        abs(value - there[token])
        for places, wanted in zip(best, reference, strict=True)
        for one, there in zip(places, wanted, strict=True)
        for token, value in one.items()
        if token in there
    ]


def check(name, one, base, reference):
    """All places: the same tokens as the run `base`, or a tie; and as close to `reference` as that is.

    A tie is a pair of tokens whose logprobs in the reference are no farther apart than twice the largest error that
    `base` has anywhere.
    """
    of_base, of_one = errors(base["best"], reference), errors(one["best"], reference)
    mean = [sum(values) / len(values) for values in (of_base, of_one)]
    places = sum(map(len, base["tokens"]))
    print(
        f"\n{name}: {places - len(one['differ'])} of {places} tokens equal; mean error of logprobs {mean[1]:.4f}, of "
        f"the other {mean[0]:.4f}; largest {max(of_one):.3f} and {max(of_base):.3f}; {places / one['seconds']:.1f} "
        f"tokens/s, the other {places / base['seconds']:.1f}; {one['cached']} tokens from cached prefixes"
    )
    assert places >= 512 and len({token for tokens in base["tokens"] for token in tokens}) > 100
    assert mean[1] <= 1.1 * mean[0]
    gaps = []
    for request, place, token in one["differ"]:
        there = reference[request][place]
        gaps.append(abs(there[str(base["tokens"][request][place])] - there[str(token)]))
    print(f"{name}: gaps of the tokens that differ: {[round(gap, 3) for gap in sorted(gaps)]}")
    assert max(gaps, default=0.0) <= 2 * max(of_base)
    assert len(gaps) <= 0.1 * places


def test_dense(folder):
    result = serve(folder, True, follow=own(folder)["tokens"])
    assert result["backends"] == OURS
    check("MLA", result["rounds"][0], own(folder), exact(folder))


def test_chunks_and_prefixes(folder):
    """What vLLM's own backend cannot do on the CPU: prompts in chunks of 48 tokens, a second round from the cache."""
    engine = {"enable_prefix_caching": True, "enable_chunked_prefill": True, "max_num_batched_tokens": 48}
    result = serve(folder, True, follow=own(folder)["tokens"], rounds=2, engine=engine)
    assert result["backends"] == OURS
    first, second = result["rounds"]
    check("MLA, chunks", first, own(folder), exact(folder))
    check("MLA, cached prefixes", second, own(folder), exact(folder))
    assert second["cached"] > sum(map(len, PROMPTS)) // 2


def test_speculative(folder):
    """Two query rows a step: a draft layer, and verification."""
    result = serve(
        folder, True, follow=own(folder)["tokens"], model={"num_nextn_predict_layers": 1},
        engine={"speculative_config": {"method": "mtp", "num_speculative_tokens": 1}},
    )  # fmt: skip
    assert result["backends"] == OURS
    check("MLA, one draft", result["rounds"][0], own(folder), exact(folder))


DSA = {
    "architectures": ["DeepseekV32ForCausalLM"], "model_type": "deepseek_v32", "index_n_heads": 16,
    "index_head_dim": 128,
}  # fmt: skip


def test_sparse_with_all_keys(folder):
    """DSA that selects every key is the dense model: the same weights, another way through backend and indexer."""
    result = serve(folder, True, follow=own(folder)["tokens"], model=DSA | {"index_topk": 512})
    assert result["backends"] == SPARSE
    check("DSA, all keys", result["rounds"][0], own(folder), exact(folder))


def test_sparse(folder):
    """DSA that selects 16 keys, beside the same engine with selection and attention in float32 torch."""
    model = DSA | {"index_topk": 16}
    plain = serve(folder, True, model=model, plain=True)["rounds"][0]
    result = serve(folder, True, follow=plain["tokens"], model=model)
    assert result["backends"] == SPARSE
    one = result["rounds"][0]
    of_one = errors(one["best"], plain["best"])
    places = sum(map(len, plain["tokens"]))
    print(f"\nDSA, 16 keys: {places - len(one['differ'])} of {places} tokens equal; mean difference of logprobs "
          f"{sum(of_one) / len(of_one):.4f}")  # fmt: skip
    assert len(one["differ"]) <= 0.05 * places
