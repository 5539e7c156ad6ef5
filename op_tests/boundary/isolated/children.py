"""Run by test_import.py: the parent decodes, then children made by fork, spawn or forkserver do the same."""

import multiprocessing
import sys

import aiter_c
from aiter_c.testing import MlaCase, run_case

CASE = MlaCase(heads=16, q_lens=(1, 2), kv_lens=(300, 40), splits=4)


def child(queue: object) -> None:
    queue.put(run_case(CASE).outputs["lse"].tobytes())


if __name__ == "__main__":
    aiter_c.set_num_threads(3)
    parent = run_case(CASE).outputs["lse"].tobytes()
    context = multiprocessing.get_context(sys.argv[1])
    for _ in range(4 if sys.argv[1] == "fork" else 1):
        queue = context.Queue()
        processes = [context.Process(target=child, args=(queue,)) for _ in range(3)]
        for process in processes:
            process.start()
        results = [queue.get(timeout=60) for _ in processes]
        for process in processes:
            process.join(30)
            assert process.exitcode == 0, process.exitcode
        assert results == [parent] * 3
        assert run_case(CASE).outputs["lse"].tobytes() == parent
