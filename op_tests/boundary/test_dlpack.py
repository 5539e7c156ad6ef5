"""Tensors from every framework, through every path: NumPy, ml_dtypes, torch, our own Array, and bare DLPack producers."""

# ruff: noqa: E501 error texts stand on one line

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref

import ml_dtypes
import numpy as np
import pytest
from boundary.producer import CUDA, CUDA_HOST, READ_ONLY, ROCM, ROCM_HOST, Producer

import aiter_c
from aiter_c import _C, mla_decode_fwd
from aiter_c.testing import MlaCase, build_inputs, check_bits, dtype_of
from aiter_c.testing.ops.mla_decode import KV_DTYPES, Q_DTYPES

CASE = MlaCase(heads=4, q_lens=(2, 1), kv_lens=(9, 5), page_size=4, splits=2)
TENSORS = ("q", "kv_buffer", "o", "qo_indptr", "kv_indptr", "kv_indices", "kv_last_page_lens")


def _numpy_result(case: MlaCase = CASE) -> tuple[np.ndarray, np.ndarray]:
    inputs = build_inputs(case)
    _, lse = mla_decode_fwd(**inputs.arguments())
    return inputs.array("o"), lse


class _WritableProducer(Producer):
    """A legacy capsule cannot say that it is read-only; as an output it is taken from torch and CuPy alone."""

    __module__ = "torch"


@pytest.mark.parametrize("kind", ["versioned", "legacy", "old"])
@pytest.mark.parametrize("name", TENSORS)
def test_every_argument_takes_every_capsule(name: str, kind: str) -> None:
    """One bare producer among NumPy arrays; its deleter runs once per export, and the bits are those of NumPy."""
    o, lse = _numpy_result()
    inputs = build_inputs(CASE)
    producer = Producer(inputs.array(name), kind=kind)
    if name == "o" and kind != "versioned":
        with pytest.raises(BufferError, match=r"o: expected an output whose exporter says that it is writable "):
            mla_decode_fwd(**inputs.arguments() | {name: producer})
        assert producer.exported == producer.deleted > 0
        producer = _WritableProducer(inputs.array(name), kind=kind)
    _, got = mla_decode_fwd(**inputs.arguments() | {name: producer})
    check_bits("lse", np.asarray(got) if not hasattr(got, "numpy") else got.numpy(), lse, name)
    check_bits("o", inputs.array("o"), o, name)
    assert producer.exported == producer.deleted > 0


@pytest.mark.parametrize("kind", ["versioned", "legacy", "old"])
def test_producers_alone_get_our_own_arrays(kind: str) -> None:
    """A type that is neither NumPy nor torch gets fresh results as aiter_c.Array."""
    o, lse = _numpy_result()
    inputs = build_inputs(CASE)
    producers = {name: _WritableProducer(inputs.array(name), kind=kind) for name in TENSORS}
    logits, got = mla_decode_fwd(**inputs.arguments() | producers)
    assert isinstance(got, aiter_c.Array) and isinstance(logits, aiter_c.Array)
    check_bits("lse", got.numpy(), lse, kind)
    check_bits("o", inputs.array("o"), o, kind)
    assert all(p.exported == p.deleted > 0 for p in producers.values())


def test_the_protocol_is_asked_for_the_newest_version() -> None:
    """max_version=(1, n) first; an exporter that does not know it is asked again without. No stream on the CPU."""
    new, old = Producer(build_inputs(CASE).array("q")), Producer(build_inputs(CASE).array("q"), kind="old")
    for producer in (new, old):
        aiter_c.from_host(producer)
    assert [set(r) for r in new.requests] == [{"max_version"}] and new.requests[0]["max_version"][0] == 1
    assert [set(r) for r in old.requests] == [{"max_version"}, set()]


class _Refuses:
    """An exporter with a reason."""

    shape = (3, 4, 576)

    def __init__(self, reason: Exception) -> None:
        self.reason = reason

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def __dlpack__(self, **_: object) -> object:
        raise self.reason


@pytest.mark.parametrize(
    "reason", [RuntimeError("float8 types are not supported by dlpack"), ValueError("no"), TypeError("why")]
)
def test_a_refusal_is_a_buffer_error_with_its_cause(reason: Exception) -> None:
    with pytest.raises(
        BufferError, match=rf"^mla_decode_fwd: q: the producer refused DLPack export: {reason}$"
    ) as caught:
        mla_decode_fwd(**build_inputs(CASE).arguments() | {"q": _Refuses(reason)})
    assert caught.value.__cause__ is reason


def test_a_keyboard_interrupt_passes_through() -> None:
    with pytest.raises(KeyboardInterrupt):
        mla_decode_fwd(**build_inputs(CASE).arguments() | {"q": _Refuses(KeyboardInterrupt())})


@pytest.mark.parametrize("kind", ["used", "other", "none"])
def test_a_wrong_capsule_is_refused_and_left_alone(kind: str) -> None:
    producer = Producer(build_inputs(CASE).array("q"), kind=kind)
    with pytest.raises(BufferError, match=r"^mla_decode_fwd: q: expected a fresh DLPack capsule from __dlpack__, got "):
        mla_decode_fwd(**build_inputs(CASE).arguments() | {"q": producer})
    assert producer.deleted == 0


@pytest.mark.parametrize("version", [(2, 0), (0, 9)])
def test_another_major_version_is_refused_and_deleted(version: tuple[int, int]) -> None:
    producer = Producer(build_inputs(CASE).array("q"), version=version)
    with pytest.raises(
        BufferError, match=rf"^mla_decode_fwd: q: expected DLPack version 1, got {version[0]}\.{version[1]}$"
    ):
        mla_decode_fwd(**build_inputs(CASE).arguments() | {"q": producer})
    assert producer.exported == producer.deleted == 1


BROKEN = [
    ("q", {"dtype": (2, 16, 4)}, TypeError, r"expected a dtype of aiter_c, got DLPack type \(code 2, bits 16, lanes 4\)"),
    ("q", {"dtype": (99, 8, 1)}, TypeError, r"expected a dtype of aiter_c, got DLPack type \(code 99, bits 8, lanes 1\)"),
    ("q", {"data": 0}, ValueError, "expected a tensor with memory, got a null pointer"),
    ("o", {"data": 0}, ValueError, "expected a tensor with memory, got a null pointer"),
    ("q", {"byte_offset": 1}, ValueError, r"expected data aligned to 2 bytes \(bfloat16\), got address 0x[0-9a-f]+"),
    ("kv_indices", {"byte_offset": 2}, ValueError, r"expected data aligned to 4 bytes \(int32\), got address 0x[0-9a-f]+"),
    ("q", {"shape": (3, 4, -576)}, ValueError, r"expected sizes >= 0, got -576 in dimension 2"),
    ("q", {"shape": (2**62, 4, 576)}, ValueError, r"expected a tensor within 2\*\*63 bytes, got shape \[4611686018427387904, 4, 576\]"),
    ("q", {"strides": (2**62, 576, 1)}, ValueError, r"expected a tensor within 2\*\*63 bytes, got shape \[3, 4, 576\]"),
    ("q", {"shape": (1,) * 9, "strides": (1,) * 9}, ValueError, "expected at most 8 dimensions, got 9"),
    ("o", {"flags": READ_ONLY}, BufferError, "expected a writable tensor, got a read-only one"),
    ("kv_buffer", {"device": (CUDA, 0)}, ValueError, r"expected device cpu \(of q\), got cuda:0"),
    ("kv_buffer", {"device": (ROCM, 1)}, ValueError, r"expected device cpu \(of q\), got hip:1"),
    ("qo_indptr", {"device": (CUDA, 0)}, ValueError, r"expected device cpu \(of q\), got cuda:0"),
    ("kv_indptr", {"device": (CUDA, 0)}, ValueError, r"expected device cpu \(of q\), got cuda:0"),
    ("kv_indices", {"device": (ROCM, 0)}, ValueError, r"expected device cpu \(of q\), got hip:0"),
    ("kv_last_page_lens", {"device": (ROCM, 0)}, ValueError, r"expected device cpu \(of q\), got hip:0"),
    ("o", {"device": (CUDA, 3)}, ValueError, r"expected device cpu \(of q\), got cuda:3"),
    ("q", {"device": (7, 0)}, aiter_c.UnsupportedError, r"expected a device with a runtime, got DLPack device \(7, 0\): no runtime serves this kind of device"),
    ("q", {"device": (14, 2)}, aiter_c.UnsupportedError, r"expected a device with a runtime, got DLPack device \(14, 2\): no runtime serves this kind of device"),
]  # fmt: skip


# A legacy capsule has no flags that could be wrong.
BROKEN_CAPSULES = [(*row, "versioned") for row in BROKEN] + [
    (*row, "legacy") for row in BROKEN if "flags" not in row[1]
]


@pytest.mark.parametrize(("name", "fields", "error", "text", "kind"), BROKEN_CAPSULES)
def test_broken_tensors_are_refused_by_name(name: str, fields: dict, error: type, text: str, kind: str) -> None:
    """Whatever is wrong with it, the export is deleted exactly once, and no byte of any argument changes."""
    inputs = build_inputs(CASE)
    inputs.freeze()
    producer = _WritableProducer(inputs.array(name), kind=kind, **fields)
    with pytest.raises(error, match=rf"^mla_decode_fwd: {name}: {text}$") as caught:
        mla_decode_fwd(**inputs.arguments() | {name: producer})
    assert type(caught.value) is error
    assert producer.exported == producer.deleted > 0
    assert all(block.first_change() is None for block in inputs.blocks.values())


def test_null_strides_are_compact() -> None:
    o, lse = _numpy_result()
    inputs = build_inputs(CASE)
    producers = {
        name: Producer(np.ascontiguousarray(inputs.array(name)), strides=None) for name in TENSORS if name != "o"
    }
    _, got = mla_decode_fwd(**inputs.arguments() | producers)
    check_bits("lse", got.numpy(), lse, "strides=NULL")
    check_bits("o", inputs.array("o"), o, "strides=NULL")


def test_byte_offset_counts() -> None:
    inputs = build_inputs(CASE)
    _, lse = mla_decode_fwd(**inputs.arguments())
    q = inputs.array("q")
    longer = np.concatenate([np.full(7, np.nan, q.dtype), q.ravel()])
    producer = Producer(longer, shape=q.shape, strides=None, byte_offset=14)
    _, got = mla_decode_fwd(**inputs.arguments() | {"q": producer})
    check_bits("lse", got.numpy(), lse, "byte_offset")


@pytest.mark.parametrize("nonsense", [0, -1, 2**62, -(2**63)])
def test_strides_of_size_1_dims_are_ignored(nonsense: int) -> None:
    """DLPack producers write anything there."""
    case = MlaCase(heads=1, kv_lens=(1,), splits=1)
    o, lse = _numpy_result(case)
    inputs = build_inputs(case)
    swap = {
        "q": Producer(inputs.array("q"), strides=(nonsense, nonsense, 1)),
        "kv_buffer": Producer(inputs.array("kv_buffer"), strides=(576, nonsense, nonsense, 1)),
        "o": Producer(inputs.array("o"), strides=(nonsense, nonsense, 1)),
        "kv_indices": Producer(inputs.array("kv_indices"), strides=(nonsense,)),
    }
    _, got = mla_decode_fwd(**inputs.arguments() | swap)
    check_bits("lse", got.numpy(), lse, str(nonsense))
    check_bits("o", inputs.array("o"), o, str(nonsense))


def test_zero_size_tensors_may_have_no_memory() -> None:
    case = MlaCase(heads=3, q_lens=(), kv_lens=())
    inputs = build_inputs(case)
    swap = {n: Producer(inputs.array(n), data=0) for n in ("q", "o", "kv_indices")}
    logits, lse = mla_decode_fwd(**inputs.arguments() | swap)
    assert tuple(lse.shape) == (0, 3) and logits is swap["o"]


@pytest.mark.parametrize("kind", [CUDA_HOST, ROCM_HOST], ids=["CUDA", "ROCm"])
def test_pinned_host_memory_is_host_memory(kind: int) -> None:
    o, lse = _numpy_result()
    inputs = build_inputs(CASE)
    pinned = {name: Producer(inputs.array(name), device=(kind, 0)) for name in TENSORS}
    _, got = mla_decode_fwd(**inputs.arguments() | pinned)
    check_bits("lse", got.numpy(), lse, "pinned")
    check_bits("o", inputs.array("o"), o, "pinned")


@pytest.mark.parametrize("dtype", sorted({*Q_DTYPES, *KV_DTYPES}))
def test_from_host_copies_bytes_of_every_dtype(dtype: str) -> None:
    source = np.arange(60).astype(dtype_of(dtype)).reshape(3, 4, 5)[:, ::2, ::-1]
    array = aiter_c.from_host(source)
    assert (array.shape, array.dtype, array.device, array.ndim) == ((3, 2, 5), dtype, "cpu", 3)
    assert array.strides == (10, 5, 1) and array.nbytes == source.size * source.itemsize
    check_bits("copy", array.numpy(), np.ascontiguousarray(source), dtype)


def test_own_arrays_all_the_way() -> None:
    o, lse = _numpy_result()
    inputs = build_inputs(CASE)
    arrays = {name: aiter_c.from_host(inputs.array(name)) for name in TENSORS}
    logits, got = mla_decode_fwd(**inputs.arguments() | arrays)
    assert isinstance(got, aiter_c.Array) and got.dtype == "float32" and logits.shape == (3, 2, 4, 512)
    check_bits("o", arrays["o"].numpy(), o, "own")
    check_bits("lse", got.numpy(), lse, "own")


def test_numpy_view_of_an_array_keeps_it_alive() -> None:
    array = aiter_c.empty((4, 5), "float32")
    view = array.numpy()
    view[...] = 7
    del array
    gc.collect()
    assert (view == 7).all() and view.flags.writeable


@pytest.mark.parametrize("version", [None, (0, 8), (1, 0), (1, 3)])
def test_array_exports_both_capsules(version: tuple | None) -> None:
    array = aiter_c.from_host(np.arange(6, dtype=np.float32).reshape(2, 3))
    capsule = array.__dlpack__(max_version=version)
    assert ("dltensor_versioned" in repr(capsule)) == bool(version and version[0] >= 1)
    assert array.__dlpack_device__() == (1, 0)
    del capsule  # nobody took it: its destructor releases the array
    np.testing.assert_array_equal(np.from_dlpack(array), [[0, 1, 2], [3, 4, 5]])


def test_array_dlpack_arguments() -> None:
    array = aiter_c.from_host(np.arange(6, dtype=np.float32))
    copy = np.from_dlpack(array, copy=True)
    copy[:] = 9
    assert array.numpy()[1] == 1
    with pytest.raises(BufferError, match=r"dl_device: expected \(1, 0\), where the array is, got \(2, 0\)"):
        array.__dlpack__(dl_device=(2, 0))
    with pytest.raises(ValueError, match="stream: expected None for an array on the cpu, got 3"):
        array.__dlpack__(stream=3)


def test_consumed_exports_release_the_array() -> None:
    array = aiter_c.from_host(np.arange(6, dtype=np.float32))
    before = sys.getrefcount(array)
    taken = np.from_dlpack(array)
    unclaimed = array.__dlpack__()
    assert sys.getrefcount(array) == before + 2
    del taken, unclaimed
    gc.collect()
    assert sys.getrefcount(array) == before


def test_ml_dtypes_need_no_dlpack() -> None:
    """NumPy cannot export bf16 or fp8 through DLPack; they come through its C API."""
    for dtype in (ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e4m3fnuz):
        values = np.ones((2, 2), dtype)
        with pytest.raises((BufferError, TypeError, RuntimeError)):
            values.__dlpack__()
        assert aiter_c.from_host(values).dtype == np.dtype(dtype).name


def test_numpy_corners() -> None:
    swapped = np.zeros(3, ">i4")
    with pytest.raises(TypeError, match=r"^from_host: array: expected a native dtype of aiter_c, got NumPy dtype >i4$"):
        aiter_c.from_host(swapped)
    with pytest.raises(TypeError, match="got NumPy dtype"):
        aiter_c.from_host(np.zeros(3, "U4"))
    unaligned = np.ndarray((3,), np.int32, bytes(13), 1)
    with pytest.raises(ValueError, match=r"expected data aligned to 4 bytes \(int32\), got address 0x"):
        aiter_c.from_host(unaligned)
    field = np.zeros(4, [("a", "i4"), ("b", "i1")])["a"]
    with pytest.raises(ValueError, match=r"expected (strides in multiples of 4 bytes|data aligned to 4 bytes)"):
        aiter_c.from_host(field)
    assert aiter_c.from_host(np.zeros((), np.float32)).shape == ()


class _Sub(np.ndarray):
    """A subclass of ndarray is an ndarray."""


def test_subclasses_of_ndarray() -> None:
    _, lse = _numpy_result()
    inputs = build_inputs(CASE)
    _, got = mla_decode_fwd(
        **{k: v.view(_Sub) if isinstance(v, np.ndarray) else v for k, v in inputs.arguments().items()}
    )
    check_bits("lse", np.asarray(got), lse, "subclass")


def test_nothing_keeps_an_argument_alive() -> None:
    inputs = build_inputs(CASE)
    arguments = inputs.arguments() | {
        "q": inputs.array("q").view(_Sub),
        "kv_indices": inputs.array("kv_indices").view(_Sub),
    }
    watch = [weakref.ref(arguments[name]) for name in ("q", "kv_indices")]
    mla_decode_fwd(**arguments)
    del arguments
    gc.collect()
    assert [ref() for ref in watch] == [None, None]


def test_paths_by_type() -> None:
    assert _C.dlpack_path(np.zeros(1)) == _C.dlpack_path(np.ndarray) == "numpy"
    assert _C.dlpack_path(aiter_c.Array) == "own" and _C.dlpack_path(Producer) == "__dlpack__"
    assert _C.dlpack_path(int) == _C.dlpack_path([1]) == "none"


@pytest.mark.torch
@pytest.mark.parametrize(("q_dtype", "kv_dtype"), [(q, k) for q in Q_DTYPES for k in KV_DTYPES])
def test_torch_tensors(q_dtype: str, kv_dtype: str) -> None:
    """Every dtype mix; results come as torch tensors, in o's own storage."""
    import torch

    case = MlaCase(heads=4, q_lens=(2, 1), kv_lens=(9, 5), page_size=4, splits=2, q_dtype=q_dtype, kv_dtype=kv_dtype)
    o, lse = _numpy_result(case)
    inputs = build_inputs(case)

    def to_torch(array: np.ndarray) -> torch.Tensor:
        raw = torch.from_numpy(
            np.ascontiguousarray(array).view(f"u{array.itemsize}" if array.dtype.kind != "i" else "i4")
        )
        return raw.view(getattr(torch, array.dtype.name)) if array.dtype.kind != "i" else raw

    tensors = {name: to_torch(inputs.array(name)) for name in TENSORS}
    address = tensors["o"].data_ptr()
    logits, got = mla_decode_fwd(**inputs.arguments() | tensors)
    assert isinstance(got, torch.Tensor) and got.dtype == torch.float32 and isinstance(logits, torch.Tensor)
    check_bits("lse", got.numpy(), lse, case.repro)
    check_bits("o", tensors["o"].view(torch.uint16).numpy(), o.view(np.uint16), case.repro)
    assert tensors["o"].data_ptr() == address


@pytest.mark.torch
def test_torch_corners() -> None:
    """Scale tensors on the CPU, fp8 as uint8, requires_grad, a parameter, strided views."""
    import torch

    case = MlaCase(heads=4, kv_lens=(9,), q_dtype="float8_e4m3fn", kv_dtype="float8_e4m3fn", q_scale=0.5, kv_scale=3.0)
    o, lse = _numpy_result(case)
    inputs = build_inputs(case)
    swap = {
        "q": torch.from_numpy(np.ascontiguousarray(inputs.array("q")).view(np.uint8)),
        "q_dtype": torch.float8_e4m3fn,
        "kv_buffer": torch.from_numpy(np.ascontiguousarray(inputs.pool).view(np.uint8)),
        "kv_dtype": torch.float8_e4m3fn,
        "q_scale": torch.tensor(0.5),
        "kv_scale": torch.tensor([3.0]),
    }
    _, got = mla_decode_fwd(**inputs.arguments() | swap)
    check_bits("lse", got.numpy(), lse, case.repro)
    check_bits("o", inputs.array("o"), o, case.repro)
    grad = torch.nn.Parameter(torch.ones(1, 4, 576, dtype=torch.bfloat16))
    wide = torch.zeros(1, 4, 600, dtype=torch.bfloat16)
    plain = build_inputs(MlaCase(heads=4, kv_lens=(9,)))
    mla_decode_fwd(**plain.arguments() | {"q": grad.detach()})
    mla_decode_fwd(**plain.arguments() | {"q": wide[..., :576]})


@pytest.mark.torch
@pytest.mark.isolated
@pytest.mark.parametrize("switch", ["1", "0"])
def test_exchange_api_on_and_off(switch: str) -> None:
    """AITER_C_DLPACK_EXCHANGE=0 takes __dlpack__ for torch; the bits are the same."""
    script = (
        "import numpy as np, torch, hashlib\n"
        "from aiter_c import _C, mla_decode_fwd\n"
        "from aiter_c.testing import MlaCase, build_inputs\n"
        "i = build_inputs(MlaCase(heads=4, kv_lens=(50,), q_dtype='float16', kv_dtype='float16', o_dtype='float16'))\n"
        "t = {k: torch.from_numpy(np.ascontiguousarray(v)) if isinstance(v, np.ndarray) else v for k, v in i.arguments().items()}\n"
        "for _ in range(3): _, lse = mla_decode_fwd(**t)\n"
        "print(_C.dlpack_path(torch.Tensor), hashlib.sha256(lse.numpy().tobytes() + t['o'].numpy().tobytes()).hexdigest())\n"
    )
    run = lambda value: subprocess.run(  # noqa: E731
        [sys.executable, "-c", script],
        env=os.environ | {"AITER_C_DLPACK_EXCHANGE": value},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    import torch

    path, digest = run(switch)
    has_api = hasattr(torch.Tensor, "__dlpack_c_exchange_api__")
    assert path == ("exchange" if has_api and switch == "1" else "__dlpack__")
    assert digest == run("0")[1]
