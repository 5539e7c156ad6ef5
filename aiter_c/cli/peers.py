"""What else can do MLA decode on this CPU: torch in two forms, and vLLM's kernel. Each is timed where it is installed.

Every peer gets the same problem: q [b, H, 576] and a paged bf16 cache [n, 576] with the token slots [b, L].
"""

import importlib.util
from pathlib import Path

from aiter_c._modules import is_installed

_VLLM_PAGE = 16


def torch_or_none():
    """The module, where it is installed."""
    if not is_installed("torch"):
        return None
    import torch

    return torch


def torch_eager(torch, q, cache, slots, scale):
    """matmul, softmax, matmul, one request after another: the reference form in most repositories."""

    def call():
        out = []
        for row, slot in zip(q, slots, strict=True):
            keys = cache[slot]
            out.append(torch.softmax((row @ keys.T).float() * scale, -1).to(q.dtype) @ keys[:, :512])
        return torch.stack(out)

    return call


def torch_sdpa(torch, q, cache, slots, scale):
    """scaled_dot_product_attention with one KV head for all query heads."""

    def call():
        keys = cache[slots].unsqueeze(1)
        return torch.nn.functional.scaled_dot_product_attention(
            q.unsqueeze(2), keys, keys[..., :512], scale=scale, enable_gqa=True
        )

    return call


def vllm_operator(torch):
    """torch.ops.*.mla_decode_kvcache of an installed vLLM CPU wheel, or None. vLLM itself is not imported."""
    spec = importlib.util.find_spec("vllm") if is_installed("vllm") else None
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations)))
    best_first = sorted(folder.glob("_C*.abi3.so"), key=lambda path: "AVX512" not in path.name)
    capability = torch.backends.cpu.get_cpu_capability()
    for library in best_first:
        if "AVX512" in library.name and "AVX512" not in capability:
            continue
        try:
            torch.ops.load_library(str(library))
        except OSError:
            continue
        namespace = getattr(torch.ops, library.name.split(".")[0])
        for operators in (namespace, torch.ops._C):
            if hasattr(operators, "mla_decode_kvcache"):
                return operators.mla_decode_kvcache
    return None


def vllm_decode(torch, operator, q, cache, slots, scale):
    """vLLM's CPU kernel: pages of 16 slots."""
    pages = cache.view(-1, _VLLM_PAGE, cache.shape[-1])
    table = (slots[:, ::_VLLM_PAGE] // _VLLM_PAGE).int().contiguous()
    lens = torch.full((len(q),), slots.shape[1], dtype=torch.int32)
    out = torch.empty(len(q), q.shape[1], 512, dtype=q.dtype)

    def call():
        operator(out, q, pages, scale, table, lens)
        return out

    return call
