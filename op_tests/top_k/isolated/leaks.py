"""Run by test_memory.py: calls that work and calls that fail leave no block and no reference."""

import numpy as np
from boundary.isolated.leak_check import check

import aiter_c
from aiter_c import _C
from aiter_c.testing.ops.top_k import SPLIT_COLUMNS, TopKCase

aiter_c.set_num_threads(2)
CASES = {
    "prefill": TopKCase(),
    "no values": TopKCase(values=False),
    "decode": TopKCase(next_n=2),
    "rows in parts": TopKCase(rows=1, columns=SPLIT_COLUMNS),
    "decode in parts": TopKCase(rows=1, columns=SPLIT_COLUMNS, next_n=1),
    "no rows": TopKCase(rows=0),
    "no columns": TopKCase(k=0),
}
BAD = {
    "type": {"rowEnds": [1]},
    "dtype": {"indices": np.zeros((3, 16))},
    "shape": {"indices": np.zeros((3, 1), np.int32)},
    "number": {"k": 2.5},
    "range": {"k": -1},
    "stride": {"stride0": 3},
    "keyword": {"nonsense": 1},
    "stream": {"stream": "x"},
}


def fails(call: object) -> None:
    try:
        call()
    except Exception:
        return
    raise AssertionError("expected an exception")


for name, case in CASES.items():
    arguments, op = case.inputs().arguments(), getattr(aiter_c, case.op)
    tensors = [v for v in arguments.values() if isinstance(v, np.ndarray)]
    check(name, lambda a=arguments, op=op: op(**a), tensors)
    own = {n: aiter_c.from_host(v) for n, v in arguments.items() if isinstance(v, np.ndarray)}
    if case.rows and case.k:
        check(f"{name}, own arrays", lambda a=arguments | own, op=op: op(**a), list(own.values()))

good = CASES["prefill"].inputs().arguments()
for name, wrong in BAD.items():
    tensors = [v for v in (good | wrong).values() if isinstance(v, np.ndarray)]
    check(f"bad {name}", lambda a=good | wrong: fails(lambda: aiter_c.top_k_per_row_prefill(**a)), tensors)

split = CASES["rows in parts"].inputs().arguments()
short = {"candidate_indices": np.zeros((1, 2, 3), np.int32)}
check("bad scratch", lambda: fails(lambda: _C.top_k_per_row_prefill(**split | short)), list(short.values()))
print("ok")
