"""Run by scripts/gpu_check under compute-sanitizer: calls on cuda:0 without torch, every tensor in an allocation of
exactly its size. Decode of every kind, in turns with every other op: its plain cases, and index tensors that hold
anything. Arguments: number of decode cases of all shards, this shard, shards, the tool, seconds to stop after. Or
`planted`: one call that reads past the end of an allocation, because a tensor claims to be longer than it is.
"""

import random
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice, zip_longest

import cache_write.cases as writes
import index_conversion.cases as conversions
import indexer_cache.cases as indexer_writes
import mla_decode.fuzz_lists as decode_lists
import mla_prefill.cases as prefills
import mla_prefill.fuzz as prefill_fuzz
import mla_reduce.cases as reductions
import mla_reduce.fuzz as reduction_fuzz
import mqa_logits.cases as logits
import numpy as np
import sparse_mla.cases as sparse
import top_k.cases as top_k
from merge_states.cases import CORNER as MERGES
from mla_decode.cases import CORNER, SMOKE, SWEEP, work
from mla_metadata.cases import CORNER as PLANS

import aiter_c
from aiter_c.testing import Device, DeviceTensor, check_outputs, run_case
from aiter_c.testing.case import Case
from aiter_c.testing.device import address_of
from aiter_c.testing.ops.mqa_logits import LogitsCase

MOST_WORK = 150_000  # the tools are 10 to 1000 times slower than the GPU
MOST_REQUESTS = 300
MOST_COLUMNS = 3000
device = Device("cuda", "cuda:0", copies=True)


def run_one(case: Case, tool: str) -> None:
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


def run_decode(one: decode_lists.Fuzzed) -> None:
    """Decode by lists of anything."""
    _, lse = device.call("mla_decode_fwd", **one.inputs.arguments() | one.changed, exact=True, leave=(0,))
    decode_lists.check_fuzzed(one, one.inputs.array("o"), lse, device)


def run_unchecked(one: prefill_fuzz.Fuzzed | reduction_fuzz.Fuzzed) -> None:
    """What a call gives then is for the op's own tests."""
    device.call(one.inputs.case.op, **one.arguments, exact=True)


def kinds(count: int, tool: str) -> Iterator[Iterator[Callable]]:
    """What runs in turns: so many calls of decode, and a twelfth as many of every other kind."""

    def spread(cases: list[Case], wanted: int) -> Iterator[Callable]:
        """So many of them, from the first to the last."""
        step = max(1, len(cases) // wanted)
        return (partial(run_one, case, tool) for case in cases[::step][:wanted])

    few = max(count // 12, 1)
    light = [case for case in (*SMOKE, *CORNER, *SWEEP) if work(case) <= MOST_WORK]
    yield from (spread(light[i::6], -(-count // 6)) for i in range(6))
    yield spread([case for case in light if case.workers], few)
    yield spread([case for case in light if case.kv_format != "plain"], few)
    yield spread([case for case in PLANS if len(case.q_lens) <= MOST_REQUESTS], few)
    yield spread(MERGES, few)
    yield spread(prefills.on_device(prefills.SMOKE, device), few)
    yield spread(reductions.CORNER, few)
    yield spread([case for case in (*top_k.SMOKE, *top_k.SWEEP) if case.columns <= MOST_COLUMNS], few)
    yield spread(conversions.SMOKE, few)
    yield spread(writes.SMOKE, few)
    yield spread(indexer_writes.SMOKE, few)
    yield spread(sparse.SMOKE, few)
    yield spread([*logits.SMOKE, *logits.SWEEP], few)
    rng = random.Random(6)
    yield spread([conversions.random_case(rng, seed, hostile=0.5) for seed in range(few)], few)
    yield spread([logits.random_case(rng, seed, 0.5) for seed in range(few)], few)
    if tool != "initcheck":  # lists of anything name partials that no item wrote: it would be right to say so
        yield (partial(run_decode, one) for one in islice(decode_lists.fuzz(few), few))
        yield (partial(run_unchecked, one) for one in islice(prefill_fuzz.fuzz(few), few))
        yield (partial(run_unchecked, one) for one in islice(reduction_fuzz.fuzz(few), few))


def run_planted() -> None:
    """The last key is not there."""
    inputs = LogitsCase(keys=64, data="codes").inputs()
    kv = inputs.array("KV")
    memory = aiter_c.from_host(np.ascontiguousarray(kv[:-1]).view(np.uint8), device.place)
    tensors = {name: aiter_c.from_host(inputs.array(name), device.place) for name in ("kv_scales", "weights", "logits")}
    tensors |= {name: aiter_c.from_host(inputs.array(name), device.place) for name in ("Q", "cu_starts", "cu_ends")}
    short = DeviceTensor(memory, address_of(memory), kv, None)
    aiter_c.fp8_mqa_logits(**inputs.arguments() | tensors | {"KV": short}, stream=0)
    tensors["logits"].numpy()


def main() -> None:
    """The command."""
    if sys.argv[1] == "planted":
        run_planted()
        return
    count, shard, shards = map(int, sys.argv[1:4])
    tool, stop_at, checked = sys.argv[4], time.monotonic() + float(sys.argv[5]), 0
    calls = (call for turn in zip_longest(*kinds(count, tool)) for call in turn if call)
    for call in islice(calls, shard, None, shards):
        if time.monotonic() > stop_at:
            break
        call()
        checked += 1
    print(f"{checked} cases checked")


main()
