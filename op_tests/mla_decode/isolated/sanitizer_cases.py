"""Run by scripts/gpu_check under compute-sanitizer: decode calls on cuda:0 without torch, every tensor in an allocation
of exactly its size. Arguments: number of cases of all shards, this shard, shards, the tool, seconds to stop after."""

import sys
import time

from mla_decode.cases import CORNER, SMOKE, SWEEP, work

from aiter_c.testing import Device, build_inputs, check_outputs, run_case

MOST_WORK = 150_000  # the tools are 10 to 1000 times slower than the GPU
count, shard, shards = map(int, sys.argv[1:4])
tool, seconds = sys.argv[4], float(sys.argv[5])
stop_at, checked = time.monotonic() + seconds, 0
device = Device("cuda", "cuda:0", copies=True)

light = [case for case in (*SMOKE, *CORNER, *SWEEP) if work(case) <= MOST_WORK]
step = max(1, len(light) // count)
cases = light[::step][:count]
for case in cases[shard::shards]:
    if time.monotonic() > stop_at:
        break
    checked += 1
    if tool != "initcheck":
        run_case(case, device=device, exact=True)
        continue
    # Scratch and LSE as the op allocates them: memory that nothing has written.
    inputs = build_inputs(case)
    inputs.freeze()
    returned = device.call("mla_decode_fwd", **inputs.arguments(), exact=True, leave=(0,))  # partials of no key
    check_outputs(case.outputs(inputs, returned), case.expected(inputs, device), case.repro)
print(f"{checked} cases checked")
