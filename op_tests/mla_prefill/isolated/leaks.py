"""Run by test_memory.py: calls that work and calls that are refused leave no block and no reference."""

import numpy as np
from boundary.isolated.leak_check import check
from mla_prefill.test_metadata import PLANS, planned

import aiter_c
from aiter_c.testing.ops.mla_prefill import PrefillCase

LISTED = PrefillCase(q_lens=(7, 2), kv_lens=(40, 9), workers=3, unit=16)
PLAIN = PrefillCase(q_lens=(7, 2), kv_lens=(40, 9), order="none", return_lse=False)
BAD = {
    "type": {"qo_indptr": [0, 1]},
    "none": {"K": None},
    "dtype": {"kv_indptr": np.zeros(3, np.int64)},
    "shape": {"V": np.zeros((1, 1, 1), np.float16)},
    "lists": {"reduce_indptr": None},
    "number": {"max_seqlen_q": 2.5},
    "range": {"max_seqlen_q": 0},
    "scale": {"softmax_scale": "x"},
    "unexpected keyword": {"nonsense": 1},
    "stream": {"stream": "x"},
}


def fails(arguments: dict) -> None:
    try:
        aiter_c.mla_prefill_ps_fwd(**arguments)
    except (TypeError, ValueError, NotImplementedError):
        return
    raise AssertionError("expected a refusal")


def arrays(arguments: dict) -> list[np.ndarray]:
    return [value for value in arguments.values() if isinstance(value, np.ndarray)]


for name, case in (("lists", LISTED), ("no lists", PLAIN)):
    arguments = case.inputs().arguments()
    check(name, lambda a=arguments: aiter_c.mla_prefill_ps_fwd(**a), arrays(arguments))
    own = {n: aiter_c.from_host(v) for n, v in arguments.items() if isinstance(v, np.ndarray) and v.ndim}
    check(f"{name}, own arrays", lambda a=arguments | own: aiter_c.mla_prefill_ps_fwd(**a), list(own.values()))
arguments = LISTED.inputs().arguments()
for name, wrong in BAD.items():
    check(f"bad {name}", lambda a=arguments | wrong: fails(a), arrays(arguments | wrong))
check("metadata", lambda: planned(PLANS[0]), [])
print("ok")
