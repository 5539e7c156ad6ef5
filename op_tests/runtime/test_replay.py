"""python -m aiter_c replay: a dumped call gives the same again, on every device and by the fp64 references, and what
does not is seen."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interpreter import run_python
from runtime.dumped import Dumps, edit
from safetensors.numpy import load_file, save_file

import aiter_c
from aiter_c.__main__ import main
from aiter_c.testing import CPU, Case, Device, Expected, MlaCase, Tolerance
from aiter_c.testing.case import case_kinds
from aiter_c.testing.references import REFERENCES, NoReference, expected_of, largest_error

CASES = [kind(**fields) for kind in case_kinds().values() for fields in kind.small]
#: What the small ones leave out.
MORE = [
    MlaCase(heads=3, q_lens=(2, 0, 1), kv_lens=(70, 5, 0), page_size=16, kv_strided=True, q_dtype="float8_e4m3fn",
            kv_dtype="float8_e4m3fnuz", q_scale=0.5, kv_scale=2.0, as_bytes=True, masked="sparse", splits=(2, 1, 0),
            unowned_rows=(1, 1), extra_indices=3, stale_tails=True),
    MlaCase(heads=2, q_lens=(3, 1), kv_lens=(40, 9), page_size=4, kv_format="3buffer", kv_dtype="float8_e4m3fn",
            o_dtype="float16", causal=False, max_seqlen_q=2),
    MlaCase(heads=2, kv_lens=(33, 2), q_lens=(1, 1), page_size=4, kv_format="fp8_ds_mla", kv_dtype="float8_e4m3fn"),
]  # fmt: skip


def called(case: Case) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments, and the same with the defaults."""
    inputs = case.inputs()
    inputs.freeze()
    bound = inspect.signature(getattr(aiter_c, case.op)).bind(**inputs.arguments())
    bound.apply_defaults()
    return inputs.arguments(), dict(bound.arguments)


def spread(mask: Any, expected: Expected) -> np.ndarray:
    """A mask of leading dimensions."""
    return np.reshape(mask, np.shape(mask) + (1,) * (expected.values.ndim - np.ndim(mask)))


@pytest.mark.parametrize("case", [case for case in CASES + MORE if case.op in REFERENCES], ids=repr)
def test_a_reference_from_arguments_is_the_cases_own(case: Case) -> None:
    inputs = case.inputs()
    bound = inspect.signature(getattr(aiter_c, case.op)).bind(**inputs.arguments())
    bound.apply_defaults()
    got, want = expected_of(case.op, dict(bound.arguments), CPU), case.expected(inputs, CPU)
    assert len(got) == len(want)
    for one, other in zip(got.values(), want.values(), strict=True):
        a, b = (np.asarray(values, np.float64) for values in (one.values, other.values))
        assert np.allclose(a, b, rtol=1e-12, atol=1e-15, equal_nan=True) and one.tolerance == other.tolerance
        assert np.array_equal(*np.broadcast_arrays(one.allowance, other.allowance))
        for name, unless_given in (("written", True), ("exact", False)):
            masks = [getattr(each, name) for each in (one, other)]
            a, b = (np.broadcast_to(spread(unless_given if m is None else m, one), one.values.shape) for m in masks)
            assert np.array_equal(a, b), name


def test_every_reference_is_tested() -> None:
    assert {case.op for case in CASES} >= set(REFERENCES)
    with pytest.raises(NoReference, match=r"^mla_gluon has no fp64 reference; these have: concat_and_cache_mla, "):
        expected_of("mla_gluon", {}, CPU)


def on_device(cases: list[Case], device: Device) -> list[Case]:
    """On the CPU all of them, on a device one of every op: no splits that are left unmerged, see below."""
    if device.place == "cpu":
        return cases
    return list({case.op: case for case in reversed(cases) if not getattr(case, "skip_reduce", False)}.values())


@pytest.mark.cases(CASES + MORE, on_device=on_device)
def test_replays(device: Device, case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Against what the CPU gave, on every device; against fp64 as well where there is a reference."""
    arguments, _ = called(case)
    path = str(Dumps(tmp_path).call(case.op, **arguments))
    table = tmp_path / "out.json"
    status = main(["replay", path, "--device", device.name, "--json", str(table)])
    assert status == 0, capsys.readouterr().out
    outputs = json.loads(table.read_text())["outputs"]
    assert outputs and all(row["elements"] >= 0 and row["outside"] == 0 for row in outputs)
    if device.place == "cpu":
        assert all(row["of tolerance"] == 0 for row in outputs)
    known = case.op in REFERENCES
    assert main(["replay", path, "--device", device.name, "--against", "fp64"]) == (0 if known else 2)
    assert known or "has no fp64 reference" in capsys.readouterr().err


def test_splits_of_another_device_are_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Their number is the device's own choice."""
    case = next(case for case in CASES if case.op == "mla_decode_segmented" and case.skip_reduce)
    path = Dumps(tmp_path).call(case.op, **called(case)[0])
    record = json.loads(path.read_text())
    record["tensors"][record["result"]["returned"]["tuple"][0]["tensor"]]["shape"][2] -= 1
    path.write_text(json.dumps(record))
    assert main(["replay", str(path)]) == 2
    assert "skip_reduce: returned[0] has other splits: [2, 2, " in capsys.readouterr().err


def one_call(folder: Path) -> Path:
    return Dumps(folder).call("mla_decode_fwd", **called(MlaCase(heads=2, kv_lens=(40,), kv_strided=True, splits=2))[0])


def flip_a_byte(path: Path, suffix: str) -> None:
    """In the block of `o`."""
    file = path.with_suffix(".safetensors")
    blocks, record = load_file(file), json.loads(path.read_text())
    block = record["tensors"][record["arguments"]["o"]["tensor"]]["block"] + suffix
    blocks[block] = blocks[block].copy()
    blocks[block][101] ^= 0x40
    save_file(blocks, file)


def dense(name: str) -> Callable[[dict[str, Any]], None]:
    """The bug of a dump that loses the strides of an argument."""

    def change(record: dict[str, Any]) -> None:
        tensor = record["tensors"][record["arguments"][name]["tensor"]]
        tensor["strides"] = [tensor["shape"][3] * 2 * n for n in (1, 1, 1)] + [2]

    return change


def moved(record: dict[str, Any]) -> None:
    """The bug of a dump that loses where a view begins."""
    record["tensors"][record["arguments"]["kv_buffer"]["tensor"]]["offset"] += 2
    record["tensors"][record["arguments"]["kv_buffer"]["tensor"]]["shape"][0] -= 1


#: Of the dump, and of the op. The reference gets the same wrong arguments as the op.
BUGS = [(bug, "record") for bug in ("strides", "offset")]
BUGS += [(bug, against) for bug in ("op", "input", "missing") for against in ("record", "fp64")]


@pytest.mark.parametrize(("bug", "against"), BUGS)
def test_what_is_wrong_is_seen(
    bug: str, against: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = one_call(tmp_path)
    decode = aiter_c.mla_decode_fwd

    def wrong(**arguments: Any) -> Any:
        logits, lse = decode(**arguments)
        if bug == "op":
            arguments["o"][0, 1, 7] += 0.5
        elif bug == "input":
            arguments["kv_indices"][3] += 1
        return logits, None if bug == "missing" else lse

    if bug in ("strides", "offset"):
        edit(path, dense("kv_buffer") if bug == "strides" else moved)
    else:
        monkeypatch.setattr(aiter_c, "mla_decode_fwd", wrong)
        monkeypatch.setattr(wrong, "__signature__", inspect.signature(decode), raising=False)
    assert main(["replay", str(path), "--against", against]) == 1
    text = capsys.readouterr().out
    assert "WRONG" in text
    said = {"op": "o[0, 1, 7]: got ", "input": "kv_indices: an argument that is no output was written",
            "missing": "returned[1]: it is missing"}  # fmt: skip
    assert said.get(bug, "o[0, 0, 0]: got ") in text


def test_a_byte_of_the_recorded_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = one_call(tmp_path)
    flip_a_byte(path, ".after")
    assert main(["replay", str(path)]) == 1 and main(["replay", str(path), "--against", "fp64"]) == 0
    assert "o[0, 0, 50]: got " in capsys.readouterr().out


def test_nothing_to_compare_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A call that returns and writes no tensor; one that did not come back; one that raises no more."""
    path = Dumps(tmp_path / "plan").call("mla_plan", 1, 16, 1, 1, "bfloat16", "bfloat16")
    assert main(["replay", str(path)]) == 2
    assert "wrote nothing and returned no tensor: there is nothing to compare" in capsys.readouterr().err
    path = edit(one_call(tmp_path), lambda record: record.update(result=None))
    assert main(["replay", str(path)]) == 1 and "there is no result to compare with" in capsys.readouterr().out
    assert main(["replay", str(path), "--against", "fp64"]) == 0
    gone = {"returned": None, "error": {"type": "DeviceError", "text": "a fault"}}
    edit(path, lambda record: record.update(result=gone))
    assert main(["replay", str(path)]) == 1 and "it raises nothing here" in capsys.readouterr().out


def test_a_refusal_is_the_same_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A text that differs is another refusal, and none satisfies a reference."""
    arguments, _ = called(MlaCase(heads=2, kv_lens=(9,)))
    frozen = arguments["o"].copy()
    frozen.flags.writeable = False
    path = Dumps(tmp_path).call("mla_decode_fwd", **arguments | {"o": frozen})
    assert main(["replay", str(path)]) == 0 and "as it did when it was written" in capsys.readouterr().out
    assert main(["replay", str(path), "--against", "fp64"]) == 1
    edit(path, lambda record: record["result"]["error"].update(text="another"))
    assert main(["replay", str(path)]) == 1
    unbound = Dumps(tmp_path / "unbound").call("mla_plan", 1, 2)
    assert main(["replay", str(unbound)]) == 0


def test_what_cannot_be_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(tmp_path / "none.json")]) == 2
    assert "No such file" in capsys.readouterr().err
    path = edit(one_call(tmp_path), lambda record: record.update(op="system"))
    assert main(["replay", str(path)]) == 2 and "aiter_c has no op 'system'" in capsys.readouterr().err
    far = [tensor | {"offset": 9**9} for tensor in json.loads(path.read_text())["tensors"]]
    edit(path, lambda record: record.update(op="mla_decode_fwd", tensors=far))
    assert main(["replay", str(path)]) == 2 and "cannot be made again" in capsys.readouterr().err


def test_partial_lists_have_no_reference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Work lists that leave out keys are another computation."""
    arguments, _ = called(MlaCase(heads=2, kv_lens=(180, 5), q_lens=(1, 1), workers=3, granule=1))
    items = arguments["work_info_set"]
    items[0, 5] -= 1
    path = Dumps(tmp_path).call("mla_decode_fwd", **arguments)
    assert main(["replay", str(path)]) == 0
    assert main(["replay", str(path), "--against", "fp64"]) == 2
    assert "its work lists give a query row other entries" in capsys.readouterr().err


@pytest.mark.torch
def test_tensors_of_torch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are torch's again: a refusal that only they meet is the same."""
    import torch

    q = torch.randn(1, 2, 576).bfloat16()
    cache, o = torch.randn(9, 1, 1, 576).bfloat16(), torch.zeros(1, 2, 512).bfloat16()
    lists = [torch.tensor(values, dtype=torch.int32) for values in ([0, 1], [0, 5], [8, 3, 1, 0, 2], [1])]
    path = Dumps(tmp_path).call("mla_decode_fwd", q, cache, o, *lists, 1, return_lse=True)
    assert main(["replay", str(path)]) == main(["replay", str(path), "--against", "fp64"]) == 0
    path = Dumps(tmp_path / "grad").call("mla_decode_fwd", q, cache, o.requires_grad_(), *lists, 1)
    capsys.readouterr()
    assert main(["replay", str(path)]) == 0
    assert "does not require grad" in capsys.readouterr().out


@pytest.mark.isolated
@pytest.mark.parametrize("where", [pytest.param("gfx950", marks=pytest.mark.slow), "cpu"])
def test_a_process_of_its_own(where: str, tmp_path: Path) -> None:
    """The simulator is found by the command; safetensors is asked for by name."""
    path = str(one_call(tmp_path))
    if where == "cpu":
        code = "import sys; sys.modules['safetensors'] = None\nfrom aiter_c.__main__ import main; sys.exit(main({!r}))"
        done = run_python("-c", code.format(["replay", path]), check=False)
        assert done.returncode == 2 and done.stderr == "replay needs safetensors: pip install 'aiter_c[dump]'\n"
        return
    done = run_python("-m", "aiter_c", "replay", path, "--device", where, AITER_C_HIP_LIBRARY="")
    assert "on gfx950, against what it gave:" in done.stdout and "WRONG" not in done.stdout


WANT = Expected(np.array([[1.0, 2.0], [np.nan, -np.inf]]), Tolerance(0.1, 0.0), written=np.array([True, True]))


@pytest.mark.parametrize(
    ("got", "of_tolerance", "outside"),
    [
        ([[1.05, 2.0], [np.nan, -np.inf]], 0.5, 0),
        ([[1.2, 2.0], [np.nan, -np.inf]], 2.0, 1),
        ([[np.nan, 2.0], [np.nan, -np.inf]], np.inf, 1),
        ([[1.0, 2.0], [0.0, np.inf]], np.inf, 2),
    ],
)
def test_the_largest_error(got: list[list[float]], of_tolerance: float, outside: int) -> None:
    found = largest_error(np.array(got), None, WANT)
    assert np.isclose(found["of tolerance"], of_tolerance) and found["outside"] == outside and found["elements"] == 4


def test_the_largest_error_of_other_kinds() -> None:
    """Large integers, signs of zero, another shape, what must be kept, and a cosine that no element shows."""
    big = np.array([2**62, 2**62 + 1])
    assert largest_error(big, None, Expected(big[::-1]))["outside"] == 2
    assert largest_error(big, None, Expected(big))["outside"] == 0
    zeros = np.array([0.0, -0.0], np.float32)
    assert largest_error(zeros, None, Expected(zeros[::-1]))["of tolerance"] == np.inf
    assert largest_error(zeros, None, Expected(np.zeros(3)))["first"] == "shape [2], expected [3]"
    want = Expected(np.ones(2), written=np.array([True, False]))
    kept = largest_error(np.array([1.0, 5.0]), np.array([1.0, 4.0]), want)
    assert kept["outside"] == 1 and kept["first"] == "[1]: got 5, must be kept"
    row = np.ones((1, 512))
    off = largest_error(row * 1.01, None, Expected(row, Tolerance(8e-4, 2.01 / 128, 5e-6, 1e-5)))
    assert off["outside"] == 0 and off["of tolerance"] > 1 and "cosine" in off["first"]
