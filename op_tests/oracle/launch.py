"""Runs a persistent MLA decode kernel of AITER in the simulator, as AITER's host code of November 2025 does: one
workgroup of 256 threads per worker, one block of arguments.

The kernel takes the work lists from two addresses that stand in memory of their own (work_metadata_ptrs).
"""

from __future__ import annotations

import ctypes as ct
import struct
from dataclasses import dataclass

import numpy as np
from gfxsim import Buffer, CodeObject, Finding, Simulator

from aiter_c.testing import MlaInputs

THREADS = 256
#: The kernels count on waves that run side by side: see README.md, hazards.
OPTIONS = {"quantum": 1, "keep_going": 1, "quiet": 1, "sticky": 0}
_BUFFER, _BYTES, _END = 1, 2, 3  # HIP_LAUNCH_PARAM_...


@dataclass(frozen=True)
class Lists:
    """What the metadata op fills, as NumPy arrays."""

    work_indptr: np.ndarray
    work_info_set: np.ndarray
    reduce_indptr: np.ndarray
    reduce_final_map: np.ndarray
    reduce_partial_map: np.ndarray

    @property
    def items(self) -> np.ndarray:
        """[n, 8]: the items that workers do."""
        return self.work_info_set[: self.work_indptr[-1]]

    @property
    def reduction(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The three tensors of mla_reduce_v1, in its order."""
        return self.reduce_indptr, self.reduce_final_map, self.reduce_partial_map

    @property
    def workers(self) -> int:
        return len(self.work_indptr) - 1


@dataclass(frozen=True)
class Written:
    """What the kernel left: o [T, H, 512] bf16, partials fp32 [P, H, 512] and their LSE [P, H]; NaN where it wrote
    nothing. findings: hazards that the simulator saw."""

    o: np.ndarray
    partials: np.ndarray
    lse: np.ndarray
    findings: list[Finding]


def arguments_of(places: dict[str, Buffer], numbers: dict[str, int], sm_scale: float) -> bytes:
    """The kernel's block of arguments: each in 16 bytes. Later kernels take an LSE of final rows, an indptr over all
    ranks of context parallelism, and their number and this one's, if they are there."""
    address = lambda name: struct.pack("<QQ", places[name].address if name in places else 0, 0)  # noqa: E731
    number = lambda name: struct.pack("<IIII", numbers[name], 0, 0, 0)  # noqa: E731
    return b"".join(
        (
            *map(address, ("partials", "lse", "q", "kv_buffer", "kv_indptr", "kv_indices", "kv_last_page_lens")),
            struct.pack("<fIII", sm_scale, 0, 0, 0),
            *map(number, ("tile_rows", "splits", "q_bytes", "page_bytes", "page_log2")),
            *map(address, ("qo_indptr", "work_metadata_ptrs", "o", "q_scale", "kv_scale")),
            number("splits"),
            *(map(address, ("final_lse", "global_kv_indptr")) if "ranks" in numbers else ()),
            *(map(number, ("ranks", "rank")) if "ranks" in numbers else ()),
        )
    )


def run(arch: str, code: bytes, inputs: MlaInputs, lists: Lists, later: bool = False) -> Written:
    """One launch; `later`: see Kernel. Raises HipError where the simulator finds what a kernel must never do."""
    case, simulator = inputs.case, Simulator()
    simulator.reset()
    simulator.set_device(simulator.device_of(arch))
    try:
        for name, value in OPTIONS.items():
            simulator.set_option(name, value)
        return _run(simulator, code, inputs, lists, _numbers(case, inputs, later))
    finally:
        simulator.reset_options()
        simulator.reset()
        simulator.set_device(0)


def _numbers(case: object, inputs: MlaInputs, later: bool) -> dict[str, int]:
    q, pool = inputs.array("q"), inputs.array("kv_buffer")
    return {
        **({"ranks": 1, "rank": 0} if later else {}),
        "tile_rows": case.heads if later else case.heads * case.served_q_len,
        "splits": 1,
        "q_bytes": q.strides[0] * case.served_q_len,
        "page_bytes": pool.strides[0],
        "page_log2": case.page_size.bit_length() - 1,
    }


def _run(simulator: Simulator, code: bytes, inputs: MlaInputs, lists: Lists, numbers: dict[str, int]) -> Written:
    case = inputs.case
    rows = int(max((item[1] + item[3] - item[2] for item in lists.items if item[1] >= 0), default=0))
    places = {name: simulator.upload(inputs.array(name)) for name in inputs.blocks if name not in ("o", "lse")}
    for name in ("q_scale", "kv_scale"):
        places[name] = simulator.upload(np.array([getattr(case, name) or 1.0], np.float32))
    # Exactly as large as what may be written; fresh memory is NaN.
    shapes = {"o": (case.num_rows, case.heads, 512), "partials": (rows, case.heads, 512), "lse": (rows, case.heads)}
    dtypes = {"o": inputs.array("o").dtype, "partials": np.float32, "lse": np.float32}
    for name, shape in shapes.items():
        places[name] = simulator.malloc(int(np.prod(shape)) * np.dtype(dtypes[name]).itemsize)
    work = [simulator.upload(lists.work_indptr), simulator.upload(lists.items)]
    places["work_metadata_ptrs"] = simulator.upload(np.array([buffer.address for buffer in work], np.uint64))
    with CodeObject(code) as opened:
        (kernel,) = opened.kernels()
    module = simulator.load(code)
    block = arguments_of(places, numbers, case.softmax_scale)
    held, size = ct.create_string_buffer(block, len(block)), ct.c_size_t(len(block))
    extra = (ct.c_void_p * 5)(_BUFFER, ct.addressof(held), _BYTES, ct.addressof(size), _END)
    function = module.kernel(kernel.name).function
    simulator.call("hipModuleLaunchKernel", function, lists.workers, 1, 1, THREADS, 1, 1, 0, None, None, extra)
    out = {name: places[name].read(dtypes[name], shapes[name]) for name in shapes}
    for name in inputs.blocks:
        if name not in shapes and places[name].read(np.uint8).tobytes() != inputs.array(name).tobytes():
            raise AssertionError(f"{kernel.name} wrote to {name}")
    return Written(**out, findings=simulator.findings())
