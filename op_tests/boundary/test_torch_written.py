"""torch hears of what an op wrote: autograd refuses to go back through values that were overwritten."""

from __future__ import annotations

import importlib.util
import signal

import numpy as np
import pytest

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed", allow_module_level=True)

import torch
from interpreter import run_python

import aiter_c
from aiter_c import _C
from aiter_c.testing import MlaCase, build_inputs

pytestmark = pytest.mark.torch

INPUTS = ("q", "kv_buffer", "qo_indptr", "kv_indptr", "kv_indices", "kv_last_page_lens")


def _tensors(splits: int) -> dict:
    case = MlaCase(heads=4, kv_lens=(50,), q_dtype="float16", kv_dtype="float16", o_dtype="float16", splits=splits)
    return {
        name: torch.from_numpy(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value
        for name, value in build_inputs(case).arguments().items()
    }


@pytest.mark.parametrize("splits", [1, 3])
def test_an_output_counts_a_write_and_an_input_does_not(splits: int) -> None:
    arguments = _tensors(splits)
    before = {name: arguments[name]._version for name in ("o", *INPUTS)}
    aiter_c.mla_decode_fwd(**arguments)
    assert arguments["o"]._version > before["o"]
    assert all(arguments[name]._version == before[name] for name in INPUTS)


def test_every_output_of_a_stage_counts() -> None:
    """Those of the caller: partials and LSE too."""
    a = _tensors(2)
    plan = aiter_c.mla_plan(1, 4, 1, a["page_size"], "float16", "float16", num_kv_splits=2, return_lse=True)
    logits, attn_lse, lse = torch.empty(1, 2, 4, 512), torch.empty(1, 2, 4, 1), torch.empty(1, 4)
    _C.mla_decode_stage1(**a | {"plan": plan, "logits": logits, "attn_lse": attn_lse, "lse": lse})
    assert logits._version == attn_lse._version == 1
    written = a["o"]._version
    _C.mla_decode_stage2(logits, attn_lse, a["o"], lse, a["qo_indptr"], plan=plan)
    assert a["o"]._version > written and lse._version >= 1
    assert logits._version == attn_lse._version == 1  # inputs of stage 2


def test_scratch_that_no_user_sees_is_torchs_memory() -> None:
    """As an Array where the exchange API gives it: a tensor of torch takes longer to make than to fill."""
    a = _tensors(2)
    plan, _, logits, scratch, lse = _C.mla_decode_stage1(**a | {"return_lse": True})
    attn_lse = torch.full((1, 2, 4, 1), float("nan"))
    _C.mla_decode_stage1(**a | {"plan": plan, "logits": torch.empty(1, 2, 4, 512), "attn_lse": attn_lse, "lse": lse})
    assert isinstance(logits, torch.Tensor) and isinstance(lse, torch.Tensor)
    assert isinstance(scratch, aiter_c.Array) == (_C.dlpack_path(a["q"]) == "exchange")
    assert np.array_equal(np.asarray(scratch), attn_lse.numpy()) and not attn_lse.isnan().any()
    del logits, lse, a  # the Array alone keeps its memory
    assert np.array_equal(np.asarray(scratch), attn_lse.numpy())


def test_backward_through_overwritten_values_is_refused() -> None:
    arguments = _tensors(1)
    weight = torch.ones_like(arguments["o"], requires_grad=True)
    product = (weight * arguments["o"]).sum()  # saves o
    aiter_c.mla_decode_fwd(**arguments)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()


def test_a_refused_call_counts_nothing() -> None:
    arguments = _tensors(1)
    before = arguments["o"]._version
    with pytest.raises(ValueError, match="page_size"):
        aiter_c.mla_decode_fwd(**arguments | {"page_size": 0})
    assert arguments["o"]._version == before


def test_an_interrupted_call_counts() -> None:
    """It may have written some of it."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    keys, batch = 8192, 48
    pages = torch.arange(keys, dtype=torch.int32).repeat(batch)
    o = torch.zeros(batch, 128, 512, dtype=torch.float16)
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt):
            aiter_c.mla_decode_fwd(
                torch.zeros(batch, 128, 576, dtype=torch.float16), torch.zeros(keys, 1, 1, 576, dtype=torch.float16), o,
                torch.arange(batch + 1, dtype=torch.int32), torch.arange(batch + 1, dtype=torch.int32) * keys, pages,
                None, 1, num_kv_splits=1,
            )  # fmt: skip
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert o._version == 1


def test_views_and_their_base_count_together() -> None:
    arguments = _tensors(1)
    base = torch.zeros(2, *arguments["o"].shape[1:], dtype=torch.float16)
    aiter_c.mla_decode_fwd(**arguments | {"o": base[1:]})
    assert base._version == 1


def test_inference_tensors_have_no_counter() -> None:
    arguments = _tensors(1)
    with torch.inference_mode():
        o = arguments["o"].clone()
    aiter_c.mla_decode_fwd(**arguments | {"o": o})
    with pytest.raises(RuntimeError, match="do not track version counter"):
        assert o._version


@pytest.mark.isolated
def test_without_the_exchange_api() -> None:
    code = (
        "import numpy as np, torch, aiter_c\n"
        "from aiter_c.testing import MlaCase, build_inputs\n"
        "i = build_inputs(MlaCase(heads=4, kv_lens=(50,), q_dtype='float16', kv_dtype='float16', o_dtype='float16'))\n"
        "t = {k: torch.from_numpy(np.ascontiguousarray(v)) if isinstance(v, np.ndarray) else v\n"
        "     for k, v in i.arguments().items()}\n"
        "aiter_c.mla_decode_fwd(**t); print(t['o']._version, t['q']._version)\n"
    )
    assert run_python("-c", code, AITER_C_DLPACK_EXCHANGE="0").stdout == "1 0\n"


def test_a_torch_whose_counter_takes_one_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch had it before; the public function then serves. A module of its own, as the extension keeps what it
    found."""
    import importlib.machinery
    import sys

    seen = []
    monkeypatch.setattr(torch._C, "_increment_version", _refuse_tuples)
    monkeypatch.setattr(torch.autograd.graph, "increment_version", seen.append)
    monkeypatch.delitem(sys.modules, "aiter_c._C")
    loader = importlib.machinery.ExtensionFileLoader("aiter_c._C", _C.__file__)
    spec = importlib.machinery.ModuleSpec("aiter_c._C", loader, origin=_C.__file__)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    a = _tensors(1)
    plan = module.mla_plan(1, 4, 1, a["page_size"], "float16", "float16", num_kv_splits=1)
    module.mla_decode_stage1(**a | {"plan": plan, "return_lse": False})
    assert len(seen) == 1 and seen[0] is a["o"]


def _refuse_tuples(tensor: object) -> None:
    assert isinstance(tensor, torch.Tensor), "increment_version expects a Tensor"
