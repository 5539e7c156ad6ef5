"""Run by scripts/gpu_check under compute-sanitizer: calls on cuda:0 without torch, every tensor in an allocation of
exactly its size. Decode of every kind, in turns with more of it by lists, by lists that hold anything, plans, and
merges of states. Arguments: number of decode cases of all shards, this shard, shards, the tool, seconds to stop after.
"""

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice, zip_longest

from merge_states.cases import CORNER as MERGES
from mla_decode.cases import CORNER, SMOKE, SWEEP, work
from mla_decode.fuzz import Fuzzed
from mla_decode.fuzz_lists import check_fuzzed, fuzz
from mla_metadata.cases import CORNER as PLANS

from aiter_c.testing import Device, check_outputs, run_case
from aiter_c.testing.case import Case

MOST_WORK = 150_000  # the tools are 10 to 1000 times slower than the GPU
MOST_REQUESTS = 300
count, shard, shards = map(int, sys.argv[1:4])
tool, seconds = sys.argv[4], float(sys.argv[5])
stop_at, checked = time.monotonic() + seconds, 0
device = Device("cuda", "cuda:0", copies=True)


def run_one(case: Case) -> None:
    """With poisoned scratch; under initcheck with the scratch and LSE as the op allocates them: memory that nothing has
    written."""
    if tool != "initcheck":
        run_case(case, device=device, exact=True)
        return
    inputs = case.inputs()
    inputs.freeze()
    leave = (0,) if case.op == "mla_decode_fwd" else ()  # partials of no key
    returned = device.call(case.op, **inputs.arguments(), exact=True, leave=leave)
    check_outputs(case.outputs(inputs, returned), case.expected(inputs, device), case.repro)


def run_fuzzed(one: Fuzzed) -> None:
    """Lists of anything name partials that no item wrote: initcheck would be right to say so."""
    _, lse = device.call("mla_decode_fwd", **one.inputs.arguments() | one.changed, exact=True, leave=(0,))
    check_fuzzed(one, one.inputs.array("o"), lse, device)


def spread(cases: list[Case], wanted: int) -> Iterator[Callable]:
    """So many of them, from the first to the last."""
    step = max(1, len(cases) // wanted)
    return (partial(run_one, case) for case in cases[::step][:wanted])


light = [case for case in (*SMOKE, *CORNER, *SWEEP) if work(case) <= MOST_WORK]
plans = [case for case in PLANS if len(case.q_lens) <= MOST_REQUESTS]
sixth, few = -(-count // 6), max(count // 12, 1)
kinds = [
    *(spread(light[i::6], sixth) for i in range(6)),
    spread([case for case in light if case.workers], few),
    spread(plans, few),
    spread(MERGES, few),
]
if tool != "initcheck":
    kinds.append(partial(run_fuzzed, one) for one in islice(fuzz(few), few))
calls = (call for turn in zip_longest(*kinds) for call in turn if call)
for call in islice(calls, shard, None, shards):
    if time.monotonic() > stop_at:
        break
    call()
    checked += 1
print(f"{checked} cases checked")
