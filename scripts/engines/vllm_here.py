"""vLLM on aiter_c and on tensors of the CPU, as on a machine with one AMD GPU: what the tests of its backends share.
Imported before anything of vLLM."""

from __future__ import annotations

from types import SimpleNamespace as Facts
from typing import Any

import pytest
import torch
from compat.engine import values

from aiter_c import compat

INSTALLED = compat.install()  # before vLLM looks for AITER

from vllm.platforms.rocm import RocmPlatform  # noqa: E402
from vllm.utils import torch_utils  # noqa: E402

RocmPlatform.dispatch_key = "CPU"  # where its custom ops are registered
torch_utils.PIN_MEMORY = False

from vllm.config import CUDAGraphMode  # noqa: E402
from vllm.platforms import current_platform, rocm  # noqa: E402
from vllm.v1.attention.backend import CommonAttentionMetadata  # noqa: E402
from vllm.v1.worker.workspace import init_workspace_manager  # noqa: E402

LAYER = "layer"
MOST_REQUESTS, UNITS = 6, 8
IS_GFX950 = "gfx950" in rocm._GCN_ARCH

init_workspace_manager(torch.device("cpu"))


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch cannot ask a GPU for; streams and events that wait for nothing, and memory that is not pinned."""
    monkeypatch.setattr(type(current_platform), "num_compute_units", classmethod(lambda *_: UNITS))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda *_: Facts(multi_processor_count=UNITS))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda *_: Facts(synchronize=lambda: None))
    event = Facts(record=lambda *_: None, synchronize=lambda: None, wait=lambda *_: None, query=lambda: True)
    monkeypatch.setattr(torch.cuda, "Event", lambda **_: event)
    monkeypatch.setattr(torch.accelerator, "empty_cache", lambda: None)
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *shape, pin_memory=False, **options: empty(*shape, **options))


def config(
    heads: int, layer: Any, *, cache_dtype: str = "auto", dtype: torch.dtype = torch.bfloat16, drafts: int = 0,
    full_graph: bool = False, block: int = 16, adaptive: bool = False, ranks: int = 1, most_tokens: int = 256,
    topk: int = 0,
) -> Any:  # fmt: skip
    """What builders read of vLLM's configuration. most_tokens: of a request, and twice as many of a step."""
    drafter = Facts(
        num_speculative_tokens=drafts, method="mtp", parallel_drafting=False, enable_adaptive_verification=adaptive
    )
    widths = {"q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64}
    return Facts(
        model_config=Facts(
            dtype=dtype, max_model_len=most_tokens, get_num_attention_heads=lambda _: heads, get_head_size=lambda: 576,
            hf_text_config=Facts(index_topk=topk, v_head_dim=128, **widths), architectures=[],
            model_arch_config=Facts(total_num_attention_heads=heads),
        ),
        parallel_config=Facts(
            decode_context_parallel_size=ranks, prefill_context_parallel_size=1, cp_kv_cache_interleave_size=1,
            tensor_parallel_size=1,
        ),
        compilation_config=Facts(
            static_forward_context={LAYER: layer},
            cudagraph_mode=CUDAGraphMode.FULL if full_graph else CUDAGraphMode.NONE,
        ),
        cache_config=Facts(cache_dtype=cache_dtype, num_gpu_blocks=64, block_size=block),
        scheduler_config=Facts(max_num_seqs=MOST_REQUESTS, max_num_batched_tokens=2 * most_tokens),
        attention_config=Facts(
            use_prefill_query_quantization=False, trtllm_ragged_backend="", hisparse_config=None,
            sparse_mla_force_mqa=False, sparse_mla_prefill_workspace_factor=5, indexer_tp_shard_min_rows=0,
            resolve_indexer_kv_dtype=lambda default: default,
        ),
        speculative_config=drafter if drafts else None, num_speculative_tokens=drafts,
    )  # fmt: skip


class Blocks:
    """Blocks of a cache, and a table of them, for requests of these lengths. Between two blocks of a request's lie
    `apart` blocks of other layers; what no request holds is NaN."""

    def __init__(self, kv_lens: list[int], block: int, width: int, most_tokens: int, *, apart: int = 0) -> None:
        self.kv_lens, self.block, self.width, self.apart = kv_lens, block, width, apart
        counts = [-(-length // block) for length in kv_lens]
        self.count = sum(counts) + 3
        order = torch.randperm(self.count - 1, generator=torch.Generator().manual_seed(1))[: sum(counts)] + 1
        self.table = torch.zeros(len(kv_lens), -(-most_tokens // block), dtype=torch.int32)
        self.lists: list[list[int]] = []  # of each request: its slots, block * position in the table + row
        for request, (mine, length) in enumerate(zip(order.split(counts), kv_lens, strict=True)):
            self.table[request, : len(mine)] = mine.to(torch.int32)
            self.lists.append((mine[:, None] * block + torch.arange(block)).flatten()[:length].tolist())

    def filled(self, dtype: torch.dtype) -> tuple[torch.Tensor, Any]:
        """The cache [blocks, block, width], rows apart as the pool has them; and its rows by slot in fp64."""
        pool = values(self.count, (1 + self.apart) * self.block, self.width, dtype=dtype, seed=sum(self.kv_lens))
        cache = pool[:, : self.block]
        exact = cache.double().reshape(-1, self.width).numpy().copy()
        used = torch.zeros(self.count * self.block, dtype=torch.bool)
        used[[slot for slots in self.lists for slot in slots]] = True
        cache.view(torch.uint8)[~used.view(self.count, self.block)] = 0x80 if dtype is torch.float8_e4m3fnuz else 0xFF
        pool[:, self.block :].view(torch.uint8).fill_(0x80 if dtype is torch.float8_e4m3fnuz else 0xFF)
        return cache, exact


def step(blocks: Blocks, q_lens: list[int], *, dummies: list[int] = (), rows: int = 0, causal: bool = True) -> Any:
    """What the scheduler tells of a step. dummies: rows of requests without keys that fill a graph; rows: that no
    request owns."""
    starts = torch.tensor([0, *q_lens, *dummies], dtype=torch.int32).cumsum(0).to(torch.int32)
    lens = torch.tensor([*blocks.kv_lens, *[0] * len(dummies)], dtype=torch.int32)
    table = torch.cat((blocks.table, torch.zeros(len(dummies), blocks.table.shape[1], dtype=torch.int32)))
    tokens = int(starts[-1]) + rows
    return CommonAttentionMetadata(
        query_start_loc=starts, query_start_loc_cpu=starts, seq_lens=lens, num_reqs=len(lens),
        num_actual_tokens=tokens, max_query_len=max(q_lens), max_seq_len=max(blocks.kv_lens),
        block_table_tensor=table, slot_mapping=torch.zeros(tokens, dtype=torch.int64), causal=causal,
        seq_lens_cpu_upper_bound=lens,
    )  # fmt: skip
