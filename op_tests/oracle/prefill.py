"""AITER's absorbed prefill kernels in the simulator, launched as its host code of November 2025 does: a workgroup of
256 threads for 128 (query row, head) pairs of a request, and one block of arguments."""

from __future__ import annotations

import ctypes as ct
from dataclasses import dataclass

import numpy as np
from gfxsim import CodeObject, Finding, Simulator
from oracle.launch import OPTIONS, THREADS, arguments_of

from aiter_c.testing import MlaInputs

PAIRS = 128
_BUFFER, _BYTES, _END = 1, 2, 3  # HIP_LAUNCH_PARAM_...
#: Heads -> the kernel's name. Both architectures have both.
NAMES = {16: "mla_pfl_bf16_a16w16_causal_subQ16_mqa16", 128: "mla_pfl_bf16_a16w16_causal_subQ128_mqa128"}


@dataclass(frozen=True)
class Prefilled:
    """o [T, H, 512] bf16, NaN where nothing was written; lse [T, H], likewise; hazards that the simulator saw."""

    o: np.ndarray
    lse: np.ndarray
    findings: list[Finding]


def run(arch: str, code: bytes, inputs: MlaInputs) -> Prefilled:
    """One launch. Raises HipError where the simulator finds what a kernel must never do."""
    simulator = Simulator()
    simulator.reset()
    simulator.set_device(simulator.device_of(arch))
    try:
        for name, value in OPTIONS.items():
            simulator.set_option(name, value)
        return _run(simulator, code, inputs)
    finally:
        simulator.reset_options()
        simulator.reset()
        simulator.set_device(0)


def _run(simulator: Simulator, code: bytes, inputs: MlaInputs) -> Prefilled:
    case, q, pool = inputs.case, inputs.array("q"), inputs.array("kv_buffer")
    places = {name: simulator.upload(inputs.array(name)) for name in inputs.blocks if name not in ("o", "lse")}
    shapes = {"partials": (case.num_rows, case.heads, 512), "lse": (case.num_rows, case.heads)}
    dtypes = {"partials": inputs.array("o").dtype, "lse": np.dtype(np.float32)}
    for name, shape in shapes.items():
        places[name] = simulator.malloc(int(np.prod(shape)) * dtypes[name].itemsize)
    numbers = {"tile_rows": case.heads, "splits": 1, "q_bytes": q.strides[0], "page_bytes": pool.strides[0]}
    block = arguments_of(places, numbers | {"page_log2": case.page_size.bit_length() - 1}, case.softmax_scale)
    with CodeObject(code) as opened:
        (kernel,) = opened.kernels()
    module = simulator.load(code)
    held, size = ct.create_string_buffer(block, len(block)), ct.c_size_t(len(block))
    extra = (ct.c_void_p * 5)(_BUFFER, ct.addressof(held), _BYTES, ct.addressof(size), _END)
    grid = (-(-case.served_q_len * case.heads // PAIRS), case.batch, 1)
    simulator.call(
        "hipModuleLaunchKernel", module.kernel(kernel.name).function, *grid, THREADS, 1, 1, 0, None, None, extra
    )
    o, lse = (places[name].read(dtypes[name], shapes[name]) for name in shapes)
    return Prefilled(o, lse, simulator.findings())
