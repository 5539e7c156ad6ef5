"""Run by test_leaks.py: every public function, in calls that work and in calls that fail in every room."""

import gc
from contextlib import suppress

import numpy as np
from boundary.producer import READ_ONLY, Producer
from leak_check import check

import aiter_c
from aiter_c import _C
from aiter_c.testing import MlaCase, build_inputs

CASES = {
    "one split": MlaCase(heads=3, q_lens=(2, 1), kv_lens=(9, 5), page_size=4),
    "partials": MlaCase(heads=3, q_lens=(2, 1), kv_lens=(9, 5), page_size=4, splits=3),
    "no lse": MlaCase(heads=3, kv_lens=(9,), return_lse=False),
    "records": MlaCase(heads=3, kv_lens=(9,), page_size=4, kv_format="3buffer", kv_dtype="float8_e4m3fn"),
    "fp8 as bytes": MlaCase(heads=3, kv_lens=(9,), q_dtype="float8_e4m3fn", kv_dtype="float8_e4m3fn", as_bytes=True),
    "lists": MlaCase(heads=3, q_lens=(2, 1), kv_lens=(90, 5), workers=3, granule=1),
    "ranks": MlaCase(heads=3, q_lens=(2, 1), kv_lens=(90, 5), ranks=(2, 1, 4), splits=2),
    "scales": MlaCase(heads=3, kv_lens=(9,), kv_dtype="float8_e4m3fn", q_scale=1.0, kv_scale=2.0, scales_as="one"),
}
BAD = {
    "type": {"kv_indices": [1]},
    "none": {"o": None},
    "dtype": {"kv_indptr": np.zeros(3, np.int64)},
    "shape": {"o": np.zeros((1, 1), np.float16)},
    "number": {"page_size": 2.5},
    "range": {"max_seqlen_q": 0},
    "too large": {"max_seqlen_q": 2**70},
    "word": {"kv_format": "x"},
    "dtype word": {"q_dtype": "x"},
    "unserved": {"logit_cap": 30.0},
    "part of the lists": {"work_indptr": np.zeros(3, np.int32)},
    "rank": {"g_kv_indptr": np.zeros(3, np.int32), "cp_world_size": 2, "cp_rank": 2},
    "scale": {"q_scale": np.ones(2, np.float32)},
    "numpy dtype": {"q": np.zeros(3, "U3")},
    "unexpected keyword": {"nonsense": 1},
    "stream": {"stream": "x"},
    "plan": {"plan": aiter_c.mla_plan(7, 3, 2, 4, "bfloat16", "bfloat16", num_kv_splits=1)},
}


def fails(arguments: dict) -> None:
    try:
        aiter_c.mla_decode_fwd(**arguments)
    except Exception:
        return
    raise AssertionError("expected an exception")


def attempt(call: object) -> None:
    with suppress(TypeError, ValueError, BufferError, NotImplementedError, MemoryError):
        call()


for name, case in CASES.items():
    arguments = build_inputs(case).arguments()
    tensors = [v for v in arguments.values() if isinstance(v, np.ndarray)]
    check(name, lambda a=arguments: aiter_c.mla_decode_fwd(**a), tensors)
    own = {n: aiter_c.from_host(v) for n, v in arguments.items() if isinstance(v, np.ndarray)}
    check(f"{name}, own arrays", lambda a=arguments | own: aiter_c.mla_decode_fwd(**a), list(own.values()))

good = build_inputs(CASES["one split"]).arguments()
for name, wrong in BAD.items():
    check(
        f"bad {name}",
        lambda a=good | wrong: fails(a),
        [v for v in (good | wrong).values() if isinstance(v, np.ndarray)],
    )

for kind in ("versioned", "legacy", "old", "used", "other", "none"):
    producer = Producer(good["q"], kind=kind)

    def through(producer: Producer = producer) -> None:
        attempt(lambda: aiter_c.mla_decode_fwd(**good | {"q": producer}))
        producer.requests.clear()
        producer._alive.clear()

    check(f"producer {kind}", through, [producer, good["q"]])
    assert kind in ("used", "other", "none") or producer.exported == producer.deleted

read_only = Producer(good["o"], flags=READ_ONLY)


def into_read_only() -> None:
    attempt(lambda: aiter_c.mla_decode_fwd(**good | {"o": read_only}))
    read_only.requests.clear()
    read_only._alive.clear()


check("read-only producer", into_read_only, [read_only])

array = aiter_c.from_host(np.arange(6, dtype=np.float32))
SMALL = {
    "empty": lambda: aiter_c.empty((3, 4), "bfloat16"),
    "empty, bad": lambda: attempt(lambda: aiter_c.empty((3, -4), "bfloat16")),
    "empty, no memory": lambda: attempt(lambda: aiter_c.empty((2**50,), "float32")),
    "from_host": lambda: aiter_c.from_host(good["q"]),
    "array.numpy": lambda: array.numpy(),
    "array.__dlpack__": lambda: array.__dlpack__(max_version=(1, 1)),
    "array.__dlpack__, legacy": lambda: array.__dlpack__(),
    "array.__dlpack__, copy": lambda: array.__dlpack__(copy=True),
    "np.from_dlpack": lambda: np.from_dlpack(array),
    "array fields": lambda: (
        array.shape,
        array.strides,
        array.dtype,
        array.device,
        array.nbytes,
        repr(array),
        len(array),
    ),
    "mla_plan": lambda: aiter_c.mla_plan(1, 2, 3, 4, "bfloat16", "bfloat16"),
    "mla_plan, bad": lambda: attempt(lambda: aiter_c.mla_plan(1, 2, 3, 4, "bfloat16", "x")),
    "mla_plan, unserved": lambda: attempt(lambda: aiter_c.mla_plan(1, 200, 3, 4, "bfloat16", "bfloat16")),
    "plan fields": lambda: (repr(plan), hash(plan), plan == plan, plan != 3, plan.workspace_bytes(5)),
    "get_meta_param": lambda: aiter_c.get_meta_param(None, 3, 100, 16, 1, "bfloat16"),
    "kernel_table": lambda: _C.kernel_table(),
    "environment": lambda: _C.environment(),
    "build_info": lambda: (_C.build_info(), _C.runtime_info(), _C.cpu_arch()),
    "dlpack_path": lambda: (_C.dlpack_path(np.ndarray), _C.dlpack_path(3)),
    "set_num_threads": lambda: aiter_c.set_num_threads(aiter_c.get_num_threads()),
}
plan = aiter_c.mla_plan(1, 2, 3, 4, "bfloat16", "bfloat16")
for name, call in SMALL.items():
    check(name, call, [array, plan, good["q"]])


def many_types() -> None:
    """More tensor types than the cache of types holds; each must be let go."""
    for _ in range(20):
        kind = type("Passing", (Producer,), {})
        attempt(lambda kind=kind: aiter_c.from_host(kind(good["q"])))


for _ in range(3):
    many_types()
gc.collect()
alive = lambda: sum(1 for o in gc.get_objects() if isinstance(o, type) and o.__name__ == "Passing")  # noqa: E731
many_types()
gc.collect()
assert alive() <= 16, f"{alive()} types are kept"
print("types: ok")
print("ok")
