"""The shared library and its structs."""

from __future__ import annotations

import ctypes as ct
import functools

from .build import build

CLASSES = ("mfma", "valu", "trans", "lds", "vmem", "smem", "salu", "branch", "barrier", "wait")
ARCHS = ("gfx942", "gfx950")


class Counters(ct.Structure):
    _fields_ = (
        ("instructions", ct.c_uint64 * len(CLASSES)),
        ("mfma_clocks", ct.c_uint64),
        ("global_read_bytes", ct.c_uint64),
        ("global_write_bytes", ct.c_uint64),
        ("lds_read_bytes", ct.c_uint64),
        ("lds_write_bytes", ct.c_uint64),
        ("launches", ct.c_uint64),
        ("workgroups", ct.c_uint64),
        ("waves", ct.c_uint64),
    )


class Record(ct.Structure):
    _fields_ = (
        ("totals", Counters),
        ("device", ct.c_int),
        ("grid", ct.c_uint32 * 3),
        ("block", ct.c_uint32 * 3),
        ("lds_bytes", ct.c_uint32),
        ("kernel", ct.c_char * 256),
    )


class Info(ct.Structure):
    _fields_ = (
        ("name", ct.c_char * 512),
        ("vgprs", ct.c_uint32),
        ("agprs", ct.c_uint32),
        ("sgprs", ct.c_uint32),
        ("lds_bytes", ct.c_uint32),
        ("scratch_bytes", ct.c_uint32),
        ("kernarg_bytes", ct.c_uint32),
        ("max_threads", ct.c_uint32),
        ("instructions", ct.c_uint32 * len(CLASSES)),
        ("unknown", ct.c_uint32),
        ("code_offset", ct.c_uint64),
        ("code_bytes", ct.c_uint64),
    )


class HazardRow(ct.Structure):
    _fields_ = (
        ("first", ct.c_uint64),
        ("second", ct.c_uint64),
        ("needed", ct.c_int32),
        ("found", ct.c_int32),
        ("rule", ct.c_char_p),
    )


class PointerAttributes(ct.Structure):
    _fields_ = (
        ("type", ct.c_int),
        ("device", ct.c_int),
        ("device_pointer", ct.c_void_p),
        ("host_pointer", ct.c_void_p),
        ("is_managed", ct.c_int),
        ("flags", ct.c_uint),
    )


_P, _SIZE, _U64 = ct.c_void_p, ct.c_size_t, ct.c_uint64

# Where the default, int for every argument, is wrong: sizes and addresses, and results that are no int.
_ARGUMENTS = {
    "gfxsim_set_option": [ct.c_char_p, _U64],
    "gfxsim_last_report": [_P, _SIZE],
    "gfxsim_finding": [ct.c_int, _P, _P, _P, _SIZE],
    "gfxsim_launch_record": [_U64, _P],
    "gfxsim_fail_next": [ct.c_char_p, _U64, ct.c_int],
    "gfxsim_code_open": [_P, _SIZE, ct.c_int, _P, _SIZE],
    "gfxsim_code_close": [_P],
    "gfxsim_code_kernel_count": [_P],
    "gfxsim_code_kernel": [_P, ct.c_int, _P],
    "gfxsim_code_text": [_P, _P],
    "gfxsim_code_print": [_P, _U64, _P, ct.c_int],
    "gfxsim_code_hazards": [_P, _U64, _U64, _P, ct.c_int],
    "gfxsim_words_hazards": [ct.c_int, _P, ct.c_int, _P, ct.c_int],
    "gfxsim_clock_constant": [ct.c_int, ct.c_int, _P, _P],
    "gfxsim_clock_summary": [_P],
    "gfxsim_clock_instructions": [_P],
    "gfxsim_clock_spans": [_P],
    "gfxsim_order_record": [ct.c_int64],
    "gfxsim_order_written": [_P, ct.c_uint32],
    "gfxsim_order_play": [ct.c_int64, _P, ct.c_uint32],
    "gfxsim_decode": [ct.c_int, _P, ct.c_int, _U64, _P, ct.c_int, _P],
    "gfxsim_kernel_argument": [_P, ct.c_int, _P],
    "hipMalloc": [_P, _SIZE],
    "hipFree": [_P],
    "hipHostMalloc": [_P, _SIZE, ct.c_uint],
    "hipHostFree": [_P],
    "hipMemcpy": [_P, _P, _SIZE, ct.c_int],
    "hipMemcpyAsync": [_P, _P, _SIZE, ct.c_int, _P],
    "hipMemcpyWithStream": [_P, _P, _SIZE, ct.c_int, _P],
    "hipMemset": [_P, ct.c_int, _SIZE],
    "hipMemsetD8Async": [_P, ct.c_uint8, _SIZE, _P],
    "hipMemsetD32Async": [_P, ct.c_int, _SIZE, _P],
    "hipPointerGetAttributes": [_P, _P],
    "hipModuleLoadData": [_P, _P],
    "hipModuleUnload": [_P],
    "hipModuleGetFunction": [_P, _P, ct.c_char_p],
    "hipModuleGetGlobal": [_P, _P, _P, ct.c_char_p],
    "hipFuncGetAttribute": [_P, ct.c_int, _P],
    "hipFuncSetAttribute": [_P, ct.c_int, ct.c_int],
    "hipModuleLaunchKernel": [_P, *[ct.c_uint] * 7, _P, _P, _P],
    "hipStreamCreate": [_P],
    "hipStreamCreateWithFlags": [_P, ct.c_uint],
    "hipStreamDestroy": [_P],
    "hipStreamSynchronize": [_P],
    "hipStreamQuery": [_P],
    "hipStreamWaitEvent": [_P, _P, ct.c_uint],
    "hipStreamIsCapturing": [_P, _P],
    "hipStreamGetCaptureInfo": [_P, _P, _P],
    "hipStreamBeginCapture": [_P, ct.c_int],
    "hipStreamEndCapture": [_P, _P],
    "hipEventCreate": [_P],
    "hipEventRecord": [_P, _P],
    "hipEventSynchronize": [_P],
    "hipEventElapsedTime": [_P, _P, _P],
    "hipEventDestroy": [_P],
    "hipGraphInstantiate": [_P, _P, _P, _P, _SIZE],
    "hipGraphLaunch": [_P, _P],
    "hipGraphDestroy": [_P],
    "hipGraphExecDestroy": [_P],
    "hipGraphGetNodes": [_P, _P, _P],
    "hipGraphNodeGetType": [_P, _P],
}
_RESULTS = {
    "gfxsim_report_kind_name": ct.c_char_p,
    "gfxsim_hazard_rule": ct.c_char_p,
    "gfxsim_order_written": ct.c_uint32,
    "gfxsim_order_record": None,
    "gfxsim_clock_constant": ct.c_char_p,
    "gfxsim_clock_cause": ct.c_char_p,
    "gfxsim_clock_instructions": ct.c_uint32,
    "gfxsim_clock_spans": ct.c_uint32,
    "gfxsim_launch_count": _U64,
    "gfxsim_call_count": ct.c_int64,
    "gfxsim_call_name": ct.c_char_p,
    "gfxsim_code_open": _P,
    "gfxsim_code_text": _U64,
    "hipGetErrorName": ct.c_char_p,
    "hipGetErrorString": ct.c_char_p,
}


@functools.cache
def library() -> ct.CDLL:
    """Built on first use; the same copy that a program gets which loads build()'s path as its HIP library."""
    loaded = ct.CDLL(str(build()))
    for name, arguments in _ARGUMENTS.items():
        getattr(loaded, name).argtypes = arguments
    for name, result in _RESULTS.items():
        getattr(loaded, name).restype = result
    return loaded
