"""What the tests and benches of this package are made of, shipped so that an integration can use it as well.

Needs NumPy and ml_dtypes. `run_case(MlaCase(heads=12, kv_lens=(300,)))` decodes once and checks every promise;
`python -m aiter_c.testing "MlaCase(...)"` does it from a shell. An op's cases are in `aiter_c.testing.ops`.
"""

from .case import Case, parse_case
from .compare import Expected, check_bits, check_close, check_output, check_outputs, cosine_difference, digest
from .device import CPU, Device, DeviceTensor
from .guard import GuardedArray
from .inputs import Inputs
from .memory import Block, dtype_of
from .ops.attention import KvList, Reference, attend, mla_decode_reference
from .ops.mla_decode import MlaCase
from .ops.mla_decode_inputs import MlaInputs, build_inputs
from .run import Outcome, run_case
from .scratch import Scratch, allocated_by, poisoned_scratch
from .tolerance import LSE, OUTPUT, OUTPUT_FP8_P, PARTIAL, Tolerance

__all__ = [
    "CPU",
    "LSE",
    "OUTPUT",
    "OUTPUT_FP8_P",
    "PARTIAL",
    "Block",
    "Case",
    "Device",
    "DeviceTensor",
    "Expected",
    "GuardedArray",
    "Inputs",
    "KvList",
    "MlaCase",
    "MlaInputs",
    "Outcome",
    "Reference",
    "Scratch",
    "Tolerance",
    "allocated_by",
    "attend",
    "build_inputs",
    "check_bits",
    "check_close",
    "check_output",
    "check_outputs",
    "cosine_difference",
    "digest",
    "dtype_of",
    "mla_decode_reference",
    "parse_case",
    "poisoned_scratch",
    "run_case",
]
