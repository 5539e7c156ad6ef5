"""Run by test_memory.py: calls that work and calls that are refused leave no block and no reference."""

import numpy as np
from boundary.isolated.leak_check import check

import aiter_c
from aiter_c.testing.ops.mla_metadata import MlaMetadataCase

GOOD = MlaMetadataCase(q_lens=(1, 2), kv_lens=(900, 40), page_size=4, cap=4)
BAD = {
    "type": {"seqlens_qo_indptr": [0, 1]},
    "none": {"work_indptr": None},
    "dtype": {"reduce_partial_map": np.zeros(4, np.int64)},
    "shape": {"work_info_set": np.zeros((1, 8), np.int32)},
    "stride": {"reduce_indptr": np.zeros(8, np.int32)[::2]},
    "number": {"max_seqlen_qo": 2.5},
    "range": {"max_split_per_batch": 0},
    "too large": {"kv_granularity": 2**70},
    "unexpected keyword": {"nonsense": 1},
    "stream": {"stream": "x"},
}


def fails(arguments: dict) -> None:
    try:
        aiter_c.get_mla_metadata_v1(**arguments)
    except (TypeError, ValueError):
        return
    raise AssertionError("expected a refusal")


def info() -> None:
    aiter_c.get_mla_metadata_info_v1(3, 2, 48, None, None, False, num_workers=9, device="cpu")


arguments = GOOD.inputs().arguments()
tensors = [value for value in arguments.values() if isinstance(value, np.ndarray)]
own = {name: aiter_c.from_host(value) for name, value in arguments.items() if isinstance(value, np.ndarray)}
check("numpy", lambda: aiter_c.get_mla_metadata_v1(**arguments), tensors)
check("own arrays", lambda: aiter_c.get_mla_metadata_v1(**arguments | own), list(own.values()))
check("info", info, [])
for name, wrong in BAD.items():
    watched = [value for value in (arguments | wrong).values() if isinstance(value, np.ndarray)]
    check(f"bad {name}", lambda a=arguments | wrong: fails(a), watched)
print("ok")
