"""Run by test_memory.py: calls that work and calls that are refused leave no block and no reference."""

import numpy as np
from boundary.isolated.leak_check import check
from boundary.producer import Producer

import aiter_c
from aiter_c.testing.ops.merge_states import MergeStatesCase

SIZES = {"rows": 2, "heads": 3, "dim": 40}
CASES = {
    "tensor": MergeStatesCase(**SIZES),
    "tensor, given": MergeStatesCase(**SIZES, given=True, sink=True),
    "sequence": MergeStatesCase(states=3, form="sequence", **SIZES),
    "two": MergeStatesCase(form="two", layout="ht", given=True, **SIZES),
}
BAD = {
    "type": {"o": 3},
    "type in a list": {"o": [np.zeros((2, 3, 40), np.float32), "x"]},
    "list too long": {"o": [np.zeros((2, 3, 40), np.float32)] * 17},
    "empty list": {"lse": []},
    "number of tensors": {"lse": [np.zeros((2, 3), np.float32)]},
    "dtype": {"out": np.zeros((2, 3, 40), np.int16)},
    "shape": {"lse_out": np.zeros((2, 2), np.float32)},
    "choice": {"lse_layout": "x"},
    "keyword": {"nonsense": 1},
    "stream": {"stream": "x"},
}


def tensors_in(arguments: dict) -> list:
    lists = [value if isinstance(value, list) else [value] for value in arguments.values()]
    return [one for values in lists for one in values if isinstance(one, np.ndarray)] + lists


def fails(arguments: dict) -> None:
    try:
        aiter_c.merge_states(**arguments)
    except (TypeError, ValueError):
        return
    raise AssertionError("expected a refusal")


def own(value: object) -> object:
    if isinstance(value, list):
        return [own(one) for one in value]
    return aiter_c.from_host(value) if isinstance(value, np.ndarray) else value


for name, case in CASES.items():
    arguments, op = case.inputs().arguments(), getattr(aiter_c, case.op)
    check(name, lambda a=arguments, op=op: op(**a), tensors_in(arguments))
    mine = {n: own(value) for n, value in arguments.items()}
    check(f"{name}, own arrays", lambda a=mine, op=op: op(**a), list(mine.values()))
good = CASES["sequence"].inputs().arguments()
for name, wrong in BAD.items():
    check(f"bad {name}", lambda a=good | wrong: fails(a), tensors_in(good | wrong))

producers = [Producer(one) for one in good["o"]]


def through() -> None:
    aiter_c.merge_states(**good | {"o": producers})
    for one in producers:
        one.requests.clear()
        one._alive.clear()


check("producers", through, producers)
assert all(one.exported == one.deleted for one in producers)
print("ok")
