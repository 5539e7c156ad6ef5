"""Run by test_memory.py: calls that work and calls that are refused leave no block and no reference."""

import numpy as np
from boundary.isolated.leak_check import check

import aiter_c
from aiter_c.testing.ops.cache_write import CacheWriteCase
from aiter_c.testing.ops.indexer_cache import IndexerGatherCase, IndexerRopeCase, IndexerWriteCase

BAD = {
    "type": {"k_pe": [[1]]},
    "dtype": {"slot_mapping": np.zeros(5, np.int32)},
    "shape": {"k_pe": np.zeros((5, 64, 1, 1), np.float32)},
    "choice": {"kv_cache_dtype": "int4"},
    "scale": {"scale": "x"},
    "kind": {"kv_dtype": "float8_e5m2"},
    "keyword": {"nonsense": 1},
    "stream": {"stream": "x"},
}


def fails(arguments: dict) -> None:
    try:
        aiter_c.concat_and_cache_mla(**arguments)
    except (TypeError, ValueError, NotImplementedError):
        return
    raise AssertionError("expected a refusal")


for kind in (CacheWriteCase, IndexerWriteCase, IndexerRopeCase, IndexerGatherCase):
    for fields in kind.small:
        case = kind(**fields)
        arguments, op = case.inputs().arguments(), getattr(aiter_c, case.op)
        tensors = [value for value in arguments.values() if isinstance(value, np.ndarray)]
        check(repr(case), lambda a=arguments, op=op: op(**a), tensors)
good = CacheWriteCase(cache="float8_e4m3fn").inputs().arguments()
for name, wrong in BAD.items():
    tensors = [value for value in (good | wrong).values() if isinstance(value, np.ndarray)]
    check(f"bad {name}", lambda a=good | wrong: fails(a), tensors)
print("ok")
