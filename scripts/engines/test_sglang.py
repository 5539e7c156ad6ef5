"""SGLang's own attention backends "aiter" and "dsa" on aiter_c, with tensors of the CPU, through the attention test kit
in its wheel: run by scripts/test_engines, which says how. Every row of every output is compared with fp64."""

from __future__ import annotations

import unittest
from collections.abc import Iterator
from typing import Any

import pytest
import sglang_here as here
import torch
from compat.engine import FP8, check

# isort: split
import sglang.srt.layers.attention.aiter_backend as aiter_backend
import sglang.srt.layers.attention.dsa_backend as dsa_backend
from sglang.kernels.ops.quantization.fp8_kernel import fp8_dtype
from sglang.srt.model_executor.forward_batch_info import ForwardMode
from sglang.srt.model_executor.forward_context import ForwardContext, forward_context
from sglang.srt.runtime_context import get_parallel
from sglang.test.kits.attention_unittest.attention_methods import dsa_attention, mla_attention
from sglang.test.kits.attention_unittest.runner_modes import speculative_draft_extend_runner as draft_runner
from sglang.test.kits.attention_unittest.runner_modes import speculative_target_verify_runner as verify_runner

HEADS = [4, 6, 12, 16, 48, 128]
torch.cuda.is_available = lambda: False  # it was true for SGLang's imports
SCALE = 576**-0.5
mla_attention.TinyMLAModelConfig.dtype = torch.bfloat16  # which the kit's other backends do not ask for
CASE = unittest.TestCase()


@pytest.fixture(autouse=True)
def _fresh_switches(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The module remembers of each instance how it planned."""
    for name in ("_use_mla_ps_kernel", "fast_mode", "intra_batch_mode"):
        monkeypatch.setattr(aiter_backend, name, getattr(aiter_backend, name))
    if fp8_dtype is torch.float8_e4m3fnuz:  # the kit names the other kind
        monkeypatch.setattr(torch, "float8_e4m3fn", torch.float8_e4m3fnuz)
    monkeypatch.setenv("SGLANG_OPT_USE_TOPK_V2", "0")  # of another compiler; positions come from the test
    monkeypatch.setattr(aiter_backend.AiterAttnBackend, "_resolve_swa_kv_pool", lambda *_: None)  # there is none
    with here.OnTheCpu():
        yield


def test_sglang_takes_this_for_a_rocm_machine_with_aiter() -> None:
    import aiter_c

    assert aiter_backend.mla_decode_fwd is dsa_backend.mla_decode_fwd is aiter_c.mla_decode_fwd
    assert fp8_dtype is (torch.float8_e4m3fnuz if here.ARCH == "gfx942" else torch.float8_e4m3fn)


def _poison(pool: torch.Tensor, used: list[list[int]]) -> None:
    """Rows that no request has are NaN."""
    free = torch.ones(len(pool), dtype=torch.bool)
    free[[slot for slots in used for slot in slots]] = False
    pool.view(torch.uint8)[free] = 0x80 if pool.dtype is torch.float8_e4m3fnuz else 0xFF


def _slots(fixture: Any) -> list[list[int]]:
    table, lens = fixture.runner.req_to_token_pool.req_to_token, fixture.case.seq_lens
    return [table[request, :length].tolist() for request, length in enumerate(lens)]


def _dense_fixture(case: Any, fp8: bool) -> Any:
    """A model's attention with its cache and the batch of one step."""
    fixture = mla_attention.build_mla_attention_fixture(
        CASE, case, kv_lora_rank=512, qk_rope_head_dim=64, max_context_len=256, dtype=torch.bfloat16, device="cpu",
        fp8_kv_cache=fp8,
    )  # fmt: skip
    batch = fixture.forward_batch
    fixture.backend.page_size = case.page_size  # which the kit leaves out of the arguments of the server
    if case.forward_mode.is_target_verify():
        verify_runner._prepare_target_verify_batch(batch, case, "cpu")
        batch.spec_info = verify_runner._make_eagle_verify_input(case, batch, topk=1, device="cpu")
    if case.forward_mode.is_draft_extend_v2():
        draft_runner._prepare_eagle_draft_extend_v2_batch(case, batch, device="cpu")
    return fixture


def _dense(
    mode: ForwardMode, heads: int, prefixes: tuple[int, ...], rows: tuple[int, ...] = (), *, fp8: bool = False,
    page: int = 1, graph: bool = False,
) -> Any:  # fmt: skip
    """A step of the backend "aiter", checked. graph: what it was captured with is of other lengths, and is refilled."""
    case = mla_attention.MLAAttentionCase(
        name="case", backend="aiter", forward_mode=mode, num_heads=heads, page_size=page, prefix_lens=prefixes,
        extend_lens=rows,
    )  # fmt: skip
    fixture = _dense_fixture(case, fp8)
    batch, module = fixture.forward_batch, fixture.actual_module
    pool = fixture.runner.token_to_kv_pool.get_key_buffer(0).view(-1, 576)
    used = _slots(fixture)
    _poison(pool, used)
    with torch.no_grad(), forward_context(ForwardContext(attn_backend=fixture.backend)):
        if graph:
            _init_as_a_graph(fixture.backend, batch)
        else:
            fixture.backend.init_forward_metadata(batch)
        q_nope, k_nope, q_rope, k_rope = module.forward_absorb_prepare(fixture.input_hidden)
        module.write_kv_cache(batch.out_cache_loc, k_nope, k_rope)
        q = torch.cat((q_nope, q_rope), -1)
        k = torch.cat((k_nope, k_rope), -1)
        o = module.attn_mqa(q, k, k_nope, batch, save_kv_cache=False)
    visible = [
        slots[: len(slots) - count + i + 1]
        for slots, count in zip(used, case.input_lens, strict=True)
        for i in range(count)
    ]
    assert pool.dtype in (FP8 if fp8 else (torch.bfloat16,))
    check(q, pool.double().numpy(), visible, o.view(-1, heads, 512), sm_scale=SCALE)
    return fixture


def _init_as_a_graph(backend: Any, batch: Any) -> None:
    """Captured while every request is as short as SGLang has it then; a replay finds the step's own numbers in the same
    tensors."""
    backend.num_draft_tokens = backend.num_draft_tokens or None  # of decode, where the kit says 0
    backend.init_cuda_graph_state(max_bs=batch.batch_size, max_num_tokens=batch.input_ids.shape[0])
    lens = batch.seq_lens
    batch.seq_lens = torch.full_like(lens, backend.get_cuda_graph_seq_len_fill_value())
    backend.init_forward_metadata_out_graph(batch, in_capture=True)
    captured = backend.forward_metadata
    batch.seq_lens = lens
    backend.init_forward_metadata_out_graph(batch)
    backend.forward_metadata = captured


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("fp8", [False, True])
def test_decode(heads: int, fp8: bool) -> None:
    _dense(ForwardMode.DECODE, heads, (14, 130, 0), fp8=fp8)


@pytest.mark.parametrize("fp8", [False, True])
def test_decode_over_pages(fp8: bool) -> None:
    _dense(ForwardMode.DECODE, 16, (70, 15), fp8=fp8, page=16)


@pytest.mark.parametrize("heads", HEADS)
def test_absorbed_prefill(heads: int) -> None:
    _dense(ForwardMode.EXTEND, heads, (40, 0), (7, 20))


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("fp8", [False, True])
def test_verify(heads: int, fp8: bool) -> None:
    _dense(ForwardMode.TARGET_VERIFY, heads, (60, 3), (4, 4), fp8=fp8)


class _OneOfTwo(mla_attention.TinyMLAModelConfig):
    """What the model has of heads for one of two ranks, whose layers get the heads of both."""

    def __init__(self, **sizes: Any) -> None:
        super().__init__(**sizes)
        self.num_attention_heads //= 2


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("fp8", [False, True])
def test_draft_extend(heads: int, fp8: bool) -> None:
    _dense(ForwardMode.DRAFT_EXTEND_V2, heads, (60, 3), (4, 4), fp8=fp8)


@pytest.mark.parametrize("heads", [8, 128])
@pytest.mark.parametrize("fp8", [False, True])
@pytest.mark.parametrize("mode", ["DECODE", "TARGET_VERIFY", "DRAFT_EXTEND_V2"])
def test_graph(mode: str, heads: int, fp8: bool) -> None:
    rows = () if mode == "DECODE" else (4, 4, 4)
    _dense(ForwardMode[mode], heads, (14, 130, 0), rows, fp8=fp8, graph=True)


def _context_parallel(
    monkeypatch: pytest.MonkeyPatch, rank: int, heads: int, prefixes: tuple[int, ...], rows: int, fp8: bool
) -> tuple[torch.Tensor, list[list[int]], torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """A step of the heads of both ranks (rows = 0: decode) over every second key of the cache: q, the rows of the
    rank's cache that each row of q sees, the cache, o and the LSE. The backend returns them for ranks to merge."""
    monkeypatch.setattr(mla_attention, "TinyMLAModelConfig", _OneOfTwo)
    mode = ForwardMode.TARGET_VERIFY if rows else ForwardMode.DECODE
    ranks = {"dcp_enabled": True, "dcp_size": 2, "attn_dcp_size": 2, "dcp_rank": rank, "attn_dcp_rank": rank}
    with get_parallel().override(**ranks):
        case = mla_attention.MLAAttentionCase(
            name="case", backend="aiter", forward_mode=mode, num_heads=heads, page_size=1, prefix_lens=prefixes,
            extend_lens=(rows,) * len(prefixes) if rows else (),
        )  # fmt: skip
        fixture = _dense_fixture(case, fp8)
        batch, backend = fixture.forward_batch, fixture.backend
        pool = fixture.runner.token_to_kv_pool.get_key_buffer(0).view(-1, 576)
        table = fixture.runner.req_to_token_pool.req_to_token
        for request, length in enumerate(case.seq_lens):  # position p is in row slot // 2 of rank p % 2
            table[request, :length] = 2 * 131 * request + torch.arange(length) + 2
        used = _slots(fixture)
        pool.copy_(torch.randn(pool.shape, generator=torch.Generator().manual_seed(rank)))
        _poison(pool, [[slot // 2 for slot in slots if slot % 2 == rank] for slots in used])
        visible = [
            [slot // 2 for slot in slots[: len(slots) - count + i + 1] if slot % 2 == rank]
            for slots, count in zip(used, case.input_lens, strict=True)
            for i in range(count)
        ]
        q = torch.randn(len(visible), heads, 576, generator=torch.Generator().manual_seed(2)).bfloat16()
        with torch.no_grad(), forward_context(ForwardContext(attn_backend=backend)):
            backend.init_forward_metadata(batch)
            step = backend.forward_extend if rows else backend.forward_decode
            o, lse = step(q, None, None, fixture.actual_module.attn_mqa, batch, save_kv_cache=False)
    return q, visible, pool, (o.view(-1, heads, 512), lse)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("fp8", [False, True])
@pytest.mark.parametrize("kernel", ["asm", "gluon"])
@pytest.mark.parametrize("heads", [8, 96])
def test_context_parallel_decode(
    monkeypatch: pytest.MonkeyPatch, heads: int, kernel: str, fp8: bool, rank: int
) -> None:
    """Of a request of one key, rank 1 has none."""
    monkeypatch.setenv("SGLANG_AITER_MLA_DECODE_BACKEND", kernel)
    q, visible, pool, got = _context_parallel(monkeypatch, rank, heads, (14, 130, 0), 0, fp8)
    if kernel == "asm":
        q = q.to(fp8_dtype)  # with a scale of 1, whatever the cache is
    check(q, pool.double().numpy(), visible, *got, sm_scale=SCALE, both_fp8=kernel == "asm")


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("heads", [8, 32])
def test_context_parallel_verify(monkeypatch: pytest.MonkeyPatch, heads: int, rank: int) -> None:
    """Of an fp8 cache, whose keys the ranks hold in turns up to the last row's: a mask by all ranks' positions."""
    q, visible, pool, (o, lse) = _context_parallel(monkeypatch, rank, heads, (60, 3, 0), 4, True)
    lse = torch.where(lse == -1e30, -torch.inf, lse)  # SGLang's own for a request without keys here
    check(q.to(fp8_dtype), pool.double().numpy(), visible, o, lse, sm_scale=SCALE, both_fp8=True)


class _PlainPool(dsa_attention.DSATokenToKVPool):
    """An fp8 cache as SGLang has it on ROCm, 576 bytes a key: the kit asks for records."""

    def __init__(self, **sizes: Any) -> None:
        super().__init__(**sizes | {"kv_cache_dim": 576})


def _sparse(
    mode: ForwardMode, heads: int, prefixes: tuple[int, ...], rows: tuple[int, ...] = (), *, fp8: bool = False
) -> None:
    """A step of the backend "dsa" with its AITER implementation, checked: of an fp8 cache by work lists. Every second
    key, as slots: what the fused top-k leaves."""
    case = dsa_attention.DSAAttentionCase(
        name="case", backend="dsa", forward_mode=mode, num_heads=heads, num_kv_heads=1, page_size=1,
        prefix_lens=prefixes, extend_lens=rows,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dsa_attention, "DSATokenToKVPool", _PlainPool)
        fixture = dsa_attention.build_dsa_sparse_attention_fixture(
            CASE, case, device="cpu", dsa_prefill_backend="aiter", dsa_decode_backend="aiter", index_pattern="strided",
            fp8_kv_cache=fp8,
        )  # fmt: skip
    pool = fixture.runner.token_to_kv_pool.get_key_buffer(0).view(-1, 576)
    assert pool.dtype is (fp8_dtype if fp8 else torch.bfloat16)
    used, module = _slots(fixture), fixture.actual_module
    _poison(pool, used)
    with torch.no_grad(), forward_context(ForwardContext(attn_backend=fixture.backend)):
        q_nope, q_rope = module.project_q(fixture.input_hidden)
        k_nope, k_rope = module.project_k(fixture.input_hidden)
        fixture.backend.init_forward_metadata(fixture.forward_batch)
        owners = [request for request, count in enumerate(case.input_lens) for _ in range(count)]
        visible = [
            [used[owner][position] for position in row if position >= 0]
            for owner, row in zip(owners, fixture.topk_rows, strict=True)
        ]
        chosen = torch.full_like(fixture.topk_indices, -1)
        for row, slots in enumerate(visible):
            chosen[row, : len(slots)] = torch.tensor(slots)
        o = module.attn(
            q_nope, k_nope, k_nope, fixture.forward_batch, k_rope=k_rope, q_rope=q_rope, topk_indices=chosen
        )
    q = torch.cat((q_nope.view(-1, heads, 512), q_rope), -1)
    check(q, pool.double().numpy(), visible, o.view(-1, heads, 512), sm_scale=SCALE)


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("fp8", [False, True])
def test_sparse_decode(heads: int, fp8: bool) -> None:
    _sparse(ForwardMode.DECODE, heads, (200, 30), fp8=fp8)


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("fp8", [False, True])
def test_sparse_prefill(heads: int, fp8: bool) -> None:
    _sparse(ForwardMode.EXTEND, heads, (2048,), (3,), fp8=fp8)
