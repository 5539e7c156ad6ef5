"""AITER_C_DUMP: what is written of a call is the call: every byte, stride and alignment, and nothing of it changes."""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from interpreter import run_python
from runtime.dumped import Dumps, edit

import aiter_c
from aiter_c import _C, _dump
from aiter_c._dump_file import Call, Loaded, Unreadable
from aiter_c.testing import MlaCase, build_inputs
from aiter_c.testing.device import Copies

pytest.importorskip("safetensors")


def arguments_of(**fields: Any) -> dict[str, Any]:
    return build_inputs(MlaCase(**fields)).arguments()


def same_memory(loaded: np.ndarray, array: np.ndarray) -> bool:
    """Shape, dtype, strides, bits, and the alignment of the first element."""
    return (
        (loaded.shape, loaded.dtype, loaded.strides) == (array.shape, array.dtype, array.strides)
        and loaded.tobytes() == array.tobytes()
        and (loaded.ctypes.data - array.ctypes.data) % 256 == 0
        and loaded.flags.writeable == array.flags.writeable
    )


CASES = [
    {"heads": 3, "kv_lens": (40,), "kv_strided": True, "q_strided": True, "o_strided": True, "splits": 2},
    {"heads": 2, "kv_lens": (9, 5), "q_lens": (2, 1), "q_dtype": "float8_e4m3fn", "kv_dtype": "float8_e4m3fnuz",
     "q_scale": 0.5, "kv_scale": 2.0, "scales_as": "scalar"},
    {"kv_lens": (33,), "page_size": 16, "kv_format": "fp8_ds_mla", "kv_dtype": "float8_e4m3fn"},
    {"kv_lens": (33,), "q_dtype": "float32", "o_dtype": "float16", "kv_dtype": "float16", "workers": 3},
]  # fmt: skip


@pytest.mark.parametrize("fields", CASES, ids=str)
def test_arguments_survive(fields: dict[str, Any], tmp_path: Path) -> None:
    """In place outputs are as they were before the call, and as it left them."""
    inputs = build_inputs(MlaCase(**fields))
    inputs.freeze()
    arguments = inputs.arguments()
    before = {n: v.copy() if isinstance(v, np.ndarray) else v for n, v in arguments.items()}
    call = Loaded(Dumps(tmp_path).call("mla_decode_fwd", **arguments))
    loaded, after = call.arguments(), call.arguments(after=True)
    assert sorted(loaded) == sorted(arguments)
    for name, value in arguments.items():
        if isinstance(value, np.ndarray):
            assert same_memory(after[name], value), name
            assert loaded[name].strides == value.strides and loaded[name].tobytes() == before[name].tobytes(), name
        else:
            assert loaded[name] == value and type(loaded[name]) is type(value), name
    assert after["o"].tobytes() != loaded["o"].tobytes()
    functions = [function for function, _ in call.record["parts"]]
    assert functions[0] == "mla_decode_stage1" and call.record["parts"][0][1].startswith("aiter_c.MlaPlan(batch=")


def test_views_of_one_buffer_stay_views_of_one_buffer(tmp_path: Path) -> None:
    """Interleaved states, an output in the place of the first, negative strides, a misaligned byte view."""
    buffer = np.arange(2 * 3 * 2 * 8, dtype=np.float32).reshape(3, 2, 2, 8)
    lse = np.zeros((2, 3, 2), np.float32)
    states = [buffer[:, :, i] for i in range(2)]
    call = Loaded(Dumps(tmp_path).call("merge_states", states, list(lse)))
    loaded = call.arguments()
    assert loaded["o"][1].ctypes.data - loaded["o"][0].ctypes.data == 32 and len(call.record["blocks"]) == 5
    loaded["o"][0][...] = 7
    assert loaded["o"][1].tobytes() == states[1].tobytes()

    packed = buffer.reshape(2, 3, 2, 8).copy()
    call = Loaded(Dumps(tmp_path / "in place").call("merge_states", packed, lse, packed[0], lse[0]))
    loaded, after = call.arguments(), call.arguments(after=True)
    assert loaded["out"].ctypes.data == loaded["o"].ctypes.data and loaded["o"].tobytes() == buffer.tobytes()
    assert after["o"].tobytes() == packed.tobytes() != buffer.tobytes()
    assert after["out"].tobytes() == packed[0].tobytes()

    odd = np.arange(41, dtype=np.uint8)[1:].view(np.float32)[::-2]
    call = Loaded(Dumps(tmp_path / "refused").call("merge_states", odd, None))
    assert same_memory(call.arguments()["o"], odd)


def test_values_of_every_kind(tmp_path: Path) -> None:
    """What is no tensor; read-only memory; an object that no file can hold."""
    plan = aiter_c.mla_plan(1, 16, 1, 1, "bfloat16", "bfloat16")
    frozen = np.zeros((2, 3), np.float32)
    frozen.flags.writeable = False
    values = {
        "none": None, "true": True, "many": 2**70, "half": 0.5, "inf": float("-inf"), "text": "ä", "plan": plan,
        "pair": (1, (None, frozen)), "list": [1.5, frozen], "empty": np.empty((0, 4), ml_dtypes.bfloat16),
        "scalar": np.array(3.0, np.float32), "number": np.float32(0.25), "dtype": np.dtype(np.int32),
        "kind": ml_dtypes.float8_e4m3fn, "other": {"a": 1},
    }  # fmt: skip
    call = Call("merge_states", 1, values)
    call.read_before()
    call.record["environment"] = {}
    call.write(tmp_path / "x")
    loaded = Loaded(tmp_path / "x.safetensors")
    with pytest.raises(Unreadable, match=r"^other: was \{'a': 1\} of builtins.dict, which no file can hold$"):
        loaded.arguments()
    del loaded.record["arguments"]["other"]
    got = loaded.arguments()
    assert {n: got[n] for n in ("none", "true", "many", "half", "inf", "text", "plan")} == {
        n: values[n] for n in ("none", "true", "many", "half", "inf", "text", "plan")
    }
    assert same_memory(got["pair"][1][1], frozen) and got["pair"][0] == 1 and isinstance(got["pair"], tuple)
    assert same_memory(got["list"][1], frozen) and got["empty"].shape == (0, 4) and got["scalar"].shape == ()
    assert (got["number"], got["dtype"], got["kind"]) == (0.25, "int32", "float8_e4m3fn")


@pytest.mark.torch
def test_tensors_of_torch(tmp_path: Path) -> None:
    """Strided, fp8, overlapping, requiring grad; one without memory."""
    import torch

    pool = torch.arange(4 * 16 * 656, dtype=torch.uint8).reshape(4, 16, 656)
    index = torch.zeros((4, 16, 132), dtype=torch.uint8).view(torch.float8_e4m3fn)
    keys = torch.randn(3, 256)[:, ::2]
    slots = torch.tensor([17, -1, 40])
    call = Loaded(Dumps(tmp_path).call("indexer_k_quant_and_cache", keys.bfloat16(), index, slots, 128, "ue8m0", True))
    loaded = call.arguments(torch)
    assert all(isinstance(loaded[n], torch.Tensor) for n in ("k", "kv_cache", "slot_mapping"))
    assert loaded["kv_cache"].dtype == torch.float8_e4m3fn and not loaded["kv_cache"].view(torch.uint8).any()
    assert torch.equal(call.arguments(torch, after=True)["kv_cache"].view(torch.uint8), index.view(torch.uint8))
    window = pool[1:, ::2, 3:].requires_grad_(False)
    grad = torch.ones(2, requires_grad=True)
    refused = Dumps(tmp_path / "refused")
    call = Loaded(refused.call("merge_states", [window, pool[2:], keys], grad, torch.empty(3, device="meta")))
    del call.record["arguments"]["out"]
    loaded = call.arguments(torch)
    first, second, third = loaded["o"]
    assert first.stride() == window.stride() and torch.equal(first, window) and torch.equal(third, keys)
    assert first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr() and loaded["lse"].requires_grad
    assert third.stride() == (256, 2) and torch.equal(second, pool[2:])
    assert same_memory(Loaded(refused.files()[0]).arguments.__self__._values({"": {"tensor": 1}}, None, False)[""],
                       pool[2:].numpy())  # fmt: skip
    with pytest.raises(Unreadable, match=r"^out: its memory could not be read when the call was written: "):
        Loaded(refused.files()[0]).arguments()


@pytest.mark.accelerators
def test_tensors_on_a_device(device: Any, tmp_path: Path) -> None:
    if device is None:
        pytest.skip("no device is selected")
    rows = np.random.default_rng(0).standard_normal((4, 50), np.float32)
    indices = aiter_c.from_host(np.full((4, 8), -7, np.int32), device.place)
    bounds = [aiter_c.from_host(np.full(4, n, np.int32), device.place) for n in (0, 50)]
    tensors = (aiter_c.from_host(rows, device.place), *bounds, indices)
    path = Dumps(tmp_path).call("top_k_per_row_prefill", *tensors, None, 4, 50, 1, k=8, stream=0)
    call = Loaded(path)
    before, after = call.arguments(), call.arguments(after=True)
    assert before["logits"].tobytes() == rows.tobytes() and (before["indices"] == -7).all()
    assert (after["indices"] == np.sort(np.argsort(-rows, axis=1)[:, :8], axis=1)).all()
    assert call.record["tensors"][0]["device"] == device.place


@pytest.mark.accelerators
def test_memory_that_nobody_can_read(device: Any, tmp_path: Path) -> None:
    """Of a tensor that only speaks DLPack, on a device: the call goes on, the file says so, and a replay does."""
    if device is None:
        pytest.skip("no device is selected")
    rows = Copies(device.place).tensor(np.ones((1, 50), np.float32))
    bounds = [aiter_c.from_host(np.full(1, n, np.int32), device.place) for n in (0, 50)]
    indices = aiter_c.from_host(np.full((1, 8), -7, np.int32), device.place)
    path = Dumps(tmp_path).call("top_k_per_row_prefill", rows, *bounds, indices, None, 1, 50, 1, k=8, stream=0)
    assert (indices.numpy() == np.arange(8)).all()
    said = r"^logits: its memory could not be read .*: DeviceTensor on .*only tensors of torch"
    with pytest.raises(Unreadable, match=said):
        Loaded(path).arguments()


@pytest.mark.accelerators
def test_an_error_of_a_device(device: Any, tmp_path: Path) -> None:
    """A launch that fails, and one whose error shows when it is waited for: the call's, with what it was given."""
    if device is None or not device.simulated:
        pytest.skip("no simulated device is selected")
    simulator = ctypes.CDLL(os.environ["AITER_C_HIP_LIBRARY"])
    rows = aiter_c.from_host(np.ones((1, 50), np.float32), device.place)
    bounds = [aiter_c.from_host(np.full(1, n, np.int32), device.place) for n in (0, 50)]
    indices = aiter_c.from_host(np.full((1, 8), -7, np.int32), device.place)
    dumps = Dumps(tmp_path, "*:failed")
    prefill = dumps.op("top_k_per_row_prefill")
    for function in (b"hipModuleLaunchKernel", b"hipMemcpyAsync"):
        seen = len(dumps.files())
        copies = 4 if function == b"hipMemcpyAsync" else 0  # of the arguments, before the call
        assert simulator.gfxsim_fail_next(function, ctypes.c_uint64(copies + 1), 999) == 0
        try:
            with pytest.raises(aiter_c.DeviceError) as failed:
                prefill(rows, *bounds, indices, None, 1, 50, 1, k=8, stream=0)
        finally:
            device.report()
        assert len(dumps.files()) == seen + 1 and "The call is in" in failed.value.__notes__[0]
        call = Loaded(dumps.files()[-1])
        assert call.error["type"] == "DeviceError" and (call.arguments()["indices"] == -7).all()


def test_what_is_chosen(tmp_path: Path) -> None:
    """By op and number, or where it fails; nothing else. A part of a call is no call."""
    good = arguments_of(heads=2, kv_lens=(9,))
    bad = good | {"q": good["q"][:, :, 1:]}
    dumps = Dumps(tmp_path, "mla_decode_fwd:2-3,*:failed")
    decode, plan = dumps.op("mla_decode_fwd"), dumps.op("mla_plan")
    for _ in range(4):
        decode(**good)
    with pytest.raises(ValueError, match="expected shape") as refused:
        decode(**bad)
    with pytest.raises(TypeError):
        plan()
    names = [path.name.split("-", 2)[::2] for path in dumps.files()]
    decodes = [(2, "call"), (3, "call"), (5, "failed")]
    assert names[:3] == [["mla_decode_fwd", f"00000{n}-{what}.json"] for n, what in decodes]
    assert names[3:] == [["mla_plan", "000001-failed.json"]]
    path = dumps.files()[2]
    assert refused.value.__notes__ == [f"The call is in {path}: python -m aiter_c replay {path}"]
    assert Loaded(path).error == {"type": "ValueError", "text": str(refused.value)}

    outer = Dumps(tmp_path / "outer")
    outer.op("merge_states", lambda: outer.op("mla_decode_fwd")(**good))()
    assert [path.name.split("-")[0] for path in outer.files()] == ["merge_states"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [("nonsense", "expected an op of aiter_c or \\*, got 'nonsense'"), ("*:x", "expected failed, a number or two"),
     ("*:3-", "expected failed, a number or two"), ("mla_plan:-2", "expected failed")],
)  # fmt: skip
def test_a_bad_choice(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        _dump.Choice(text, set(_dump.ops()))


def test_a_call_that_cannot_be_written_goes_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too large, a full count, a folder that is gone; the op's own error stays the op's own."""
    good = arguments_of(heads=2, kv_lens=(9,))
    small = Dumps(tmp_path / "small", most_bytes=0)
    assert small.op("mla_decode_fwd")(**good)[1] is not None and small.files() == []
    assert "mla_decode_fwd: call 1 is not dumped: RuntimeError: 0 MB of tensors are more than" in capfd.readouterr().err
    with monkeypatch.context() as patched:
        patched.setattr(_dump, "_is_captured", lambda devices: True)
        captured = Dumps(tmp_path / "captured")
        assert captured.op("mla_decode_fwd")(**good)[1] is not None and captured.files() == []
    assert "its stream is being captured: choose a call outside of the graph" in capfd.readouterr().err
    gone = Dumps(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(ValueError, match="expected shape") as refused:
        gone.op("mla_decode_fwd")(**good | {"q": good["q"][:, :, 1:]})
    assert not hasattr(refused.value, "__notes__") and "is not dumped: " in capfd.readouterr().err
    full = Dumps(tmp_path / "full", "*:failed")
    full.recorder._files = iter([101])
    with pytest.raises(TypeError):
        full.op("mla_plan")()
    assert full.files() == [] and f"has written {_dump.MOST_FILES} calls" in capfd.readouterr().err


def test_the_observer() -> None:
    """Sees refused calls as well; what it raises is printed and nothing else; it may put another in its place."""
    seen: list[tuple[str, object]] = []
    with pytest.raises(TypeError, match=r"^set_call_observer: observer: expected a callable or None, got int$"):
        _C.set_call_observer(5)
    assert _C.set_call_observer(lambda *call: (seen.append(call), _C.set_call_observer(broken))) is None

    def broken(function: str, plan: object) -> None:
        raise RuntimeError("on purpose")

    hook, sys.unraisablehook, printed = sys.unraisablehook, lambda problem: printed.append(problem), []
    try:
        plan = aiter_c.mla_plan(1, 16, 1, 1, "bfloat16", "bfloat16")
        with pytest.raises(ValueError, match="num_heads"):
            aiter_c.mla_plan(1, 0, 1, 1, "bfloat16", "bfloat16")
    finally:
        sys.unraisablehook = hook
        assert _C.set_call_observer(None) is broken
    assert seen == [("mla_plan", plan)] and [str(problem.exc_value) for problem in printed] == ["on purpose"]


_PROCESS = """
import os, sys
import numpy as np
import aiter_c, aiter_c.mla
from aiter_c.testing import MlaCase, build_inputs
good = build_inputs(MlaCase(heads=2, kv_lens=(9,), splits=2)).arguments()
assert aiter_c.mla.mla_decode_fwd is aiter_c.mla_decode_fwd
from aiter_c.compat.aiter.mla import mla_decode_fwd
assert mla_decode_fwd is aiter_c.mla_decode_fwd
if sys.argv[1:] == ["dies"]:
    aiter_c._C.set_allocator(lambda *_: os._exit(7))
aiter_c.mla_decode_fwd(**good)
print("_dump" in dir(aiter_c), hasattr(aiter_c.mla_decode_fwd, "__wrapped__"), "safetensors" in sys.modules)
try:
    aiter_c.mla_decode_fwd_ds32(*[good["q"]] * 10)  # refused before the C core sees it
except NotImplementedError as error:
    print(getattr(error, "__notes__", []))
"""


@pytest.mark.isolated
def test_the_switch(tmp_path: Path) -> None:
    """Off: nothing is wrapped or imported. On: every name of the op is watched; a call that ends the process is on
    disk."""
    off = run_python("-c", _PROCESS, AITER_C_DUMP="")
    assert off.stdout.splitlines() == ["False False False", "[]"] and off.stderr == ""
    on = run_python("-c", _PROCESS, AITER_C_DUMP=str(tmp_path / "new" / "on"))
    (failed,) = (tmp_path / "new" / "on").glob("*.json")
    assert on.stdout.splitlines()[0] == "True True False" and str(failed) in on.stdout and str(failed) in on.stderr
    assert Loaded(failed).error["type"] == "UnsupportedError" and Loaded(failed).record["parts"] == []
    chosen = {"AITER_C_DUMP": str(tmp_path / "dies"), "AITER_C_DUMP_CALLS": "mla_decode_fwd"}
    assert run_python("-c", _PROCESS, "dies", check=False, **chosen).returncode == 7
    (died,) = (tmp_path / "dies").glob("*.json")
    assert not Loaded(died).ended and Loaded(died).arguments()["num_kv_splits"] == 2


@pytest.mark.isolated
def test_the_op_beneath_distributed_is_watched(tmp_path: Path) -> None:
    """aiter_c.distributed is imported after the ops were wrapped; its collectives are torch's and are not written."""
    pytest.importorskip("torch")
    code = """
import aiter_c, aiter_c.distributed
merge = aiter_c.distributed.merge_states
print(merge is aiter_c.merge_states, merge is aiter_c._C.merge_states)
"""
    assert run_python("-c", code, AITER_C_DUMP=str(tmp_path)).stdout.split() == ["True", "False"]


@pytest.mark.isolated
@pytest.mark.parametrize(
    ("switches", "problem"),
    [
        ({"AITER_C_DUMP_CALLS": "no_op"}, "AITER_C_DUMP_CALLS: expected an op of aiter_c or *, got 'no_op'"),
        ({"AITER_C_DUMP_MB": "many"}, "AITER_C_DUMP_MB: expected a number, got 'many'"),
        ({"AITER_C_DUMP": "/dev/null/x"}, "AITER_C_DUMP: expected a folder that can be written, got /dev/null/x"),
        ({}, "AITER_C_DUMP: needs safetensors: pip install 'aiter_c[dump]'"),
    ],
)
def test_switches_that_are_no_good(switches: dict[str, str], problem: str, tmp_path: Path) -> None:
    code = "import sys; sys.modules['safetensors'] = None\n" if not switches else ""
    code += "import aiter_c; print(hasattr(aiter_c.mla_decode_fwd, '__wrapped__'))"
    done = run_python("-c", code, **{"AITER_C_DUMP": str(tmp_path)} | switches)
    assert f"RuntimeWarning: {problem}" in done.stderr and "no call is dumped" in done.stderr
    assert done.stdout.strip() == "False"


def test_a_file_of_another_format(tmp_path: Path) -> None:
    path = Dumps(tmp_path).call("mla_plan", 1, 16, 1, 1, "bfloat16", "bfloat16")
    assert json.loads(path.read_text())["arguments"]["num_heads"] == 16
    with pytest.raises(Unreadable, match="expected a call in format 1, got 2"):
        Loaded(edit(path, lambda record: record.update(format=2)))
