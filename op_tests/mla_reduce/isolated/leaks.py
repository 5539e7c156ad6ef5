"""Run by test_memory.py: calls that work and calls that are refused leave no block and no reference."""

import numpy as np
from boundary.isolated.leak_check import check
from boundary.producer import Producer

import aiter_c
from aiter_c.testing.ops.mla_reduce import MlaReduceCase

GOOD = MlaReduceCase(heads=3, dv=64, groups=((2, 3), (1, 1), (2, 0)))
BAD = {
    "type": {"reduce_indptr": [0, 1]},
    "none": {"partial_lse": None},
    "dtype": {"reduce_partial_map": np.zeros(4, np.int64)},
    "shape": {"final_lse": np.zeros((1, 1), np.float32)},
    "stride": {"reduce_indptr": np.zeros(8, np.int32)[::2]},
    "number": {"max_seqlen_q": 2.5},
    "range": {"num_kv_splits": -2},
    "too large": {"max_seqlen_q": 2**70},
    "unexpected keyword": {"nonsense": 1},
    "stream": {"stream": "x"},
}


def fails(arguments: dict) -> None:
    try:
        aiter_c.mla_reduce_v1(**arguments)
    except (TypeError, ValueError):
        return
    raise AssertionError("expected a refusal")


arguments = GOOD.inputs().arguments()
tensors = [value for value in arguments.values() if isinstance(value, np.ndarray)]
own = {name: aiter_c.from_host(value) for name, value in arguments.items() if isinstance(value, np.ndarray)}
check("numpy", lambda: aiter_c.mla_reduce_v1(**arguments), tensors)
check("own arrays", lambda: aiter_c.mla_reduce_v1(**arguments | own), list(own.values()))
check(
    "no lse, no map",
    lambda: aiter_c.mla_reduce_v1(**arguments | {"final_lse": None, "reduce_final_map": None}),
    tensors,
)
for name, wrong in BAD.items():
    values = arguments | wrong
    check(
        f"bad {name}", lambda a=values: fails(a), [value for value in values.values() if isinstance(value, np.ndarray)]
    )

producer = Producer(arguments["partial_output"])


def through() -> None:
    aiter_c.mla_reduce_v1(**arguments | {"partial_output": producer})
    producer.requests.clear()
    producer._alive.clear()


check("producer", through, [producer, arguments["partial_output"]])
assert producer.exported == producer.deleted
print("ok")
