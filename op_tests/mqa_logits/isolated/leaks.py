"""Run by test_memory.py: calls that work and calls that fail leave no block and no reference."""

import numpy as np
from boundary.isolated.leak_check import check

import aiter_c
from aiter_c.testing.ops.mqa_logits import FP8, LogitsCase, PagedLogitsCase

aiter_c.set_num_threads(2)
CASES = {
    "paged": PagedLogitsCase(),
    "a length per row": PagedLogitsCase(lens_shape="bn", next_n=2, block=16),
    "contiguous": LogitsCase(),
    "a new tensor": LogitsCase(out=False),
    "fnuz": LogitsCase(q_dtype=FP8[1], kv_dtype=FP8[1], clean=False),
    "nothing": LogitsCase(rows=0),
}
BAD = {
    "type": {"weights": [1]},
    "dtype": {"context_lens": np.zeros(1)},
    "shape": {"weights": np.zeros((1, 3), np.float32)},
    "number": {"max_model_len": 2.5},
    "range": {"KVBlockSize": 0},
    "layout": {"Preshuffle": True, "KVBlockSize": 8, "kv_cache": np.zeros((4, 8, 1, 132), np.uint8)},
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
    if name != "nothing":
        check(f"{name}, own arrays", lambda a=arguments | own, op=op: op(**a), list(own.values()))

good = CASES["paged"].inputs().arguments()
for name, wrong in BAD.items():
    tensors = [v for v in (good | wrong).values() if isinstance(v, np.ndarray)]
    check(f"bad {name}", lambda a=good | wrong: fails(lambda: aiter_c.deepgemm_fp8_paged_mqa_logits(**a)), tensors)
short = CASES["contiguous"].inputs().arguments() | {"logits": np.zeros((2, 2), np.float32)}
check("bad logits", lambda: fails(lambda: aiter_c.fp8_mqa_logits(**short)), [short["logits"]])
print("ok")
