"""Run by test_memory.py: calls that work and calls that are refused leave no block and no reference."""

import numpy as np
from boundary.isolated.leak_check import check

import aiter_c
from aiter_c.testing.ops.index_conversion import FORMS, IndexConversionCase

BAD = {
    "type": {"token_indices": [[1]]},
    "dtype": {"kv_indptr": np.zeros(4, np.int64)},
    "shape": {"token_indices": np.zeros((3, 2), np.int32)},
    "stride": {"kv_indices": np.zeros(20, np.int32)[::2]},
    "number": {"NUM_TOPK_TOKENS": 2.5},
    "range": {"NUM_TOPK_TOKENS": -1},
    "hint": {"BLOCK_SIZE": 64},
    "keyword": {"nonsense": 1},
    "stream": {"stream": "x"},
}


def fails(arguments: dict) -> None:
    try:
        aiter_c.convert_req_index_to_global_index(**arguments)
    except (TypeError, ValueError, NotImplementedError):
        return
    raise AssertionError("expected a refusal")


for form in FORMS:
    for given in (True, False) if form in ("lists", "gather", "padded") else (True,):
        case = IndexConversionCase(form=form, given=given)
        arguments, op = case.inputs().arguments(), getattr(aiter_c, case.op)
        tensors = [value for value in arguments.values() if isinstance(value, np.ndarray)]
        check(f"{form}, given={given}", lambda a=arguments, op=op: op(**a), tensors)
        own = {n: aiter_c.from_host(v) for n, v in arguments.items() if isinstance(v, np.ndarray)}
        check(f"{form}, given={given}, own arrays", lambda a=arguments | own, op=op: op(**a), list(own.values()))
good = IndexConversionCase().inputs().arguments()
for name, wrong in BAD.items():
    tensors = [value for value in (good | wrong).values() if isinstance(value, np.ndarray)]
    check(f"bad {name}", lambda a=good | wrong: fails(a), tensors)
print("ok")
