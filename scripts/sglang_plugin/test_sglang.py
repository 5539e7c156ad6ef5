"""SGLang's own test kit for attention backends, on the backend that the plugin registers: its pools, its batches, its
layer and its reference; tensors of the CPU. DeepSeek's widths in place of the kit's small ones.
"""

import functools
import importlib.abc
import importlib.machinery
import sys
import types

import pytest


class _Anything(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _Empty(types.ModuleType):
    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name, (), {})


class _WithoutPictures(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """torchvision and its like, which SGLang's models of pictures and sounds import, and nothing here uses."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torchvision", "torchaudio", "torchcodec", "decord"):
            return importlib.machinery.ModuleSpec(name, self, is_package=True, origin="empty")
        return None

    def create_module(self, spec):
        return _Empty(spec.name)

    def exec_module(self, module):
        pass


import transformers.utils.import_utils as available  # noqa: E402

available.is_torchvision_available()  # which remembers that there is none
from transformers import AutoProcessor  # noqa: E402, F401

sys.meta_path.insert(0, _WithoutPictures())

import torch  # noqa: E402
from sglang.srt.layers.attention.attention_registry import ATTENTION_BACKENDS  # noqa: E402
from sglang.srt.model_executor.forward_batch_info import ForwardMode  # noqa: E402
from sglang.test.kits.attention_unittest.attention_methods import mla_attention as kit  # noqa: E402

from aiter_c.plugins.sglang import NAME, register  # noqa: E402

register()
WIDTHS = {"kv_lora_rank": 512, "device": "cpu", "max_context_len": 64, "hidden_size": 64}


def case(name, mode, prefix_lens, extend_lens=(), *, heads=4, page_size=16):
    return kit.MLAAttentionCase(
        name=name, backend=NAME, forward_mode=mode, num_heads=heads, page_size=page_size,
        prefix_lens=tuple(prefix_lens), extend_lens=tuple(extend_lens),
    )  # fmt: skip


def test_registered():
    from sglang.srt.arg_groups import choices

    register()
    assert choices.ATTENTION_BACKEND_CHOICES.count(NAME) == choices.DRAFT_ATTENTION_BACKEND_CHOICES.count(NAME) == 1
    assert NAME in ATTENTION_BACKENDS


@pytest.mark.parametrize("rope", [0, 64])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("one", kit.make_mla_cases(NAME), ids=lambda one: one.name)
def test_kit(one, dtype, rope):
    """The cases that the kit has for every backend of MLA."""
    kit.run_mla_attention_case(None, one, qk_rope_head_dim=rope, dtype=dtype, **WIDTHS)


@pytest.mark.parametrize("heads", [1, 6, 16, 48, 128])
@pytest.mark.parametrize("mode", [ForwardMode.DECODE, ForwardMode.EXTEND], ids=lambda mode: mode.name)
def test_heads(mode, heads):
    lens = (5, 1, 3, 2) if mode == ForwardMode.EXTEND else ()
    one = case("heads", mode, (31, 0, 17, 8), lens, heads=heads)
    kit.run_mla_attention_case(None, one, qk_rope_head_dim=64, dtype=torch.bfloat16, **WIDTHS)


@pytest.mark.parametrize("rows", [2, 3, 4])
def test_verify(rows):
    """A chain of drafts, of which SGLang's seq_lens does not know yet."""
    from sglang.test.kits.attention_unittest.runner_modes import speculative_target_verify_runner as verify

    one = case("verify", ForwardMode.TARGET_VERIFY, (31, 1, 17), (rows,) * 3)
    verify.run_mla_eagle_verify_case(None, one, topk=1, qk_rope_head_dim=64, dtype=torch.bfloat16, **WIDTHS)


@pytest.mark.parametrize("rows", [2, 4])
def test_draft_extend(rows):
    """What follows a verification: the draft model's pass over all rows, whose keys SGLang's seq_lens has."""
    from sglang.test.kits.attention_unittest.runner_modes import speculative_draft_extend_runner as draft

    one = case("draft", ForwardMode.DRAFT_EXTEND_V2, (31, 1, 17), (rows,) * 3)
    fixture = kit.build_mla_attention_fixture(None, one, qk_rope_head_dim=64, dtype=torch.bfloat16, **WIDTHS)
    draft._prepare_eagle_draft_extend_v2_batch(one, fixture.forward_batch, device="cpu")
    with torch.no_grad(), kit.forward_context(kit.ForwardContext(attn_backend=fixture.backend)):
        fixture.backend.init_forward_metadata(fixture.forward_batch)
        out = fixture.actual_module(fixture.input_hidden, fixture.forward_batch)
    torch.testing.assert_close(out, kit.expected_mla_fixture_output(fixture), atol=kit.MLA_ATOL, rtol=kit.MLA_RTOL)


def test_graphs_of_drafts(monkeypatch):
    """Verification and the draft's pass out of a graph's buffers: captured for four requests, replayed with padding."""
    from sglang.test.kits.attention_unittest.runner_modes import speculative_draft_extend_runner as draft
    from sglang.test.kits.attention_unittest.runner_modes import speculative_target_verify_runner as verify

    in_order = functools.partial(kit.build_mla_attention_fixture, loc_layout="contiguous")  # as the kit writes prefixes
    for runner in (draft, verify):
        monkeypatch.setattr(runner, "build_mla_attention_fixture", in_order)
    options = {"qk_rope_head_dim": 64, "dtype": torch.bfloat16} | WIDTHS
    one = case("verify", ForwardMode.TARGET_VERIFY, (31, 1, 17), (3,) * 3)
    verify.run_mla_eagle_verify_cuda_graph_case(None, one, topk=1, **options)
    one = case("draft", ForwardMode.DRAFT_EXTEND_V2, (31, 1, 17), (3,) * 3)
    draft.run_mla_draft_extend_v2_cuda_graph_case(None, one, **options)


def test_context_parallelism_is_refused(monkeypatch):
    from aiter_c.plugins.sglang import backend

    monkeypatch.setattr(backend, "get_parallel", lambda: types.SimpleNamespace(attn_dcp_size=2))
    with pytest.raises(NotImplementedError, match=r"aiter_c: dcp_size: expected 1 \(no context parallelism\), got 2"):
        kit.build_mla_attention_fixture(
            None, case("refused", ForwardMode.DECODE, (3,)), qk_rope_head_dim=64, dtype=torch.bfloat16, **WIDTHS
        )


@pytest.mark.parametrize("mode", [ForwardMode.DECODE, ForwardMode.EXTEND], ids=lambda mode: mode.name)
def test_buffers_of_a_graph(mode):
    """The step out of buffers that were sized once, and that another, larger batch has been through."""
    lens = (5, 1) if mode == ForwardMode.EXTEND else ()
    fixture = kit.build_mla_attention_fixture(
        None, case("graph", mode, (31, 9), lens), qk_rope_head_dim=64, dtype=torch.bfloat16, **WIDTHS
    )
    backend, batch = fixture.backend, fixture.forward_batch
    backend.init_cuda_graph_state(4, 4)
    for tensor in (backend._buffers.table, backend._buffers.lens, backend._buffers.qo_indptr):
        tensor.fill_(2**30)
    addresses = [backend._buffers.table.data_ptr(), backend._buffers.lens.data_ptr()]
    with torch.no_grad(), kit.forward_context(kit.ForwardContext(attn_backend=backend)):
        backend.init_forward_metadata_out_graph(batch, in_capture=True)
        step = backend.forward_metadata
        assert [step.table.data_ptr(), step.lens.data_ptr()] == addresses
        out = fixture.actual_module(fixture.input_hidden, batch)
    torch.testing.assert_close(out, kit.expected_mla_fixture_output(fixture), atol=kit.MLA_ATOL, rtol=kit.MLA_RTOL)


def test_keys_of_their_own():
    """What SGLang sends for prompts without a prefix: keys and values per head, 192 and 128 wide."""
    lens, heads = (7, 1, 20), 6
    fixture = kit.build_mla_attention_fixture(
        None, case("own", ForwardMode.EXTEND, (0, 0, 0), lens), qk_rope_head_dim=64, dtype=torch.bfloat16, **WIDTHS
    )
    layer = types.SimpleNamespace(
        layer_id=0, qk_head_dim=192, v_head_dim=128, tp_q_head_num=heads, tp_k_head_num=heads, scaling=0.1,
        logit_cap=0.0, sliding_window_size=-1, k_scale=None,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn((sum(lens), heads * width), generator=generator).bfloat16() for width in (192, 192, 128))
    fixture.backend.init_forward_metadata(fixture.forward_batch)
    out = fixture.backend.forward_extend(q, k, v, layer, fixture.forward_batch).view(-1, heads, 128).double()
    first = 0
    for count in lens:
        a, b, c = (x[first : first + count].view(count, heads, -1).double().transpose(0, 1) for x in (q, k, v))
        wanted = torch.nn.functional.scaled_dot_product_attention(a, b, c, is_causal=True, scale=0.1)
        torch.testing.assert_close(out[first : first + count], wanted.transpose(0, 1), atol=1e-2, rtol=1e-2)
        first += count


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"logit_cap": 30.0}, "aiter_c: logit_cap: not served, got 30.0"),
        ({"sliding_window_size": 8}, "aiter_c: sliding_window_size: not served, got 8"),
    ],
)
def test_refused(changed, text):
    fixture = kit.build_mla_attention_fixture(
        None, case("refused", ForwardMode.DECODE, (3,)), qk_rope_head_dim=64, dtype=torch.bfloat16, **WIDTHS
    )
    layer = types.SimpleNamespace(**{"logit_cap": 0.0, "sliding_window_size": -1} | changed)
    with pytest.raises(NotImplementedError, match=text):
        fixture.backend.forward_decode(None, None, None, layer, fixture.forward_batch)
