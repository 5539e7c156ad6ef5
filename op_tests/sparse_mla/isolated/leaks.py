"""Run by test_memory.py: calls that work and calls that are refused leave no block and no reference."""

import numpy as np
from boundary.isolated.leak_check import check

import aiter_c
from aiter_c.testing.ops.sparse_mla import SparseCase

CASES = [
    SparseCase(heads=2, lens=(9, 0)),
    SparseCase(heads=2, lens=(9, 5), splits=3, given=True, page_size=4),
    SparseCase(heads=2, lens=(9, 5), sink=True, extra_lens=(4, 4), given=True),
    SparseCase(heads=2, lens=(9, 5), int64=True),
    SparseCase(heads=2, lens=(9, 9), form="table"),
    SparseCase(heads=2, lens=(9, 9), form="decode", sink=True, splits=2),
]
BAD = {
    "type": {"kv_indices": [[1]]},
    "dtype": {"attn_sink": np.zeros(2, np.float16)},
    "shape": {"kv_indptr": np.zeros(2, np.int32)},
    "width": {"qk_rope_head_dim": 0},
    "number": {"kv_splits": 0},
    "together": {"extra_kv": np.zeros((1, 576), np.float16)},
    "record": {"kv_buffer": np.zeros((1, 4, 584), np.uint8)},
    "keyword": {"nonsense": 1},
    "stream": {"stream": "x"},
}


def fails(arguments: dict) -> None:
    try:
        aiter_c.sparse_mla_fwd(**arguments)
    except (TypeError, ValueError, NotImplementedError):
        return
    raise AssertionError("expected a refusal")


for case in CASES:
    arguments, op = case.inputs().arguments(), getattr(aiter_c, case.op)
    tensors = [value for value in arguments.values() if isinstance(value, np.ndarray)]
    check(repr(case), lambda a=arguments, op=op: op(**a), tensors)
good = CASES[0].inputs().arguments()
for name, wrong in BAD.items():
    tensors = [value for value in (good | wrong).values() if isinstance(value, np.ndarray)]
    check(f"bad {name}", lambda a=good | wrong: fails(a), tensors)
print("ok")
