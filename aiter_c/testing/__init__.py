"""What the tests and benches of this package are made of, shipped so that an integration can use it as well.

Needs NumPy and ml_dtypes. `run_case(MlaCase(heads=12, kv_lens=(300,)))` decodes once and checks every promise;
`python -m aiter_c.testing "MlaCase(...)"` does it from a shell.
"""

from .case import MlaCase, parse_case
from .compare import check_bits, check_close, cosine_difference
from .device import CPU, Device, DeviceTensor
from .guard import GuardedArray
from .inputs import MlaInputs, build_inputs
from .memory import Block, dtype_of
from .reference import KvList, Reference, attend, mla_decode_reference
from .run import MlaResult, check_lse, check_output, run_case
from .scratch import Scratch, poisoned_scratch
from .tolerance import LSE, OUTPUT, OUTPUT_FP8_P, PARTIAL, Tolerance

__all__ = [
    "CPU",
    "LSE",
    "OUTPUT",
    "OUTPUT_FP8_P",
    "PARTIAL",
    "Block",
    "Device",
    "DeviceTensor",
    "GuardedArray",
    "KvList",
    "MlaCase",
    "MlaInputs",
    "MlaResult",
    "Reference",
    "Scratch",
    "Tolerance",
    "attend",
    "build_inputs",
    "check_bits",
    "check_close",
    "check_lse",
    "check_output",
    "cosine_difference",
    "dtype_of",
    "mla_decode_reference",
    "parse_case",
    "poisoned_scratch",
    "run_case",
]
