"""Work lists and index tensors that hold anything: what a call by lists must give then, and many of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from mla_decode.fuzz import INT32_MAX, INT32_MIN, Fuzzed, check
from mla_decode.lists_model import LISTS, Model

from aiter_c import _C
from aiter_c.testing import CPU, Device, MlaCase, build_inputs
from aiter_c.testing.ops.mla_decode import p_dtype_of, plan_of

_BASE = {"heads": 5, "q_lens": (2, 1, 3), "kv_lens": (9, 70, 0), "granule": 1, "workers": 4}
_KINDS = (
    {"q_dtype": "bfloat16", "kv_dtype": "bfloat16"},
    {"q_dtype": "float32", "kv_dtype": "float16", "rope": 0},
    {"q_dtype": "float8_e4m3fn", "kv_dtype": "float8_e4m3fnuz"},
    {"q_dtype": "float16", "kv_dtype": "float8_e4m3fn", "kv_format": "3buffer"},
    {"q_dtype": "bfloat16", "kv_dtype": "float8_e4m3fn", "kv_format": "fp8_ds_mla"},
)
#: By turns: whole requests and pieces, with and without places, pages, and the keys of a rank.
_SHAPES = (
    {},
    {"q_lens": (1, 1, 1), "kv_lens": (40, 9, 0)},
    {"page_size": 4, "kv_lens": (90, 7, 0)},
    {"page_size": 4, "kv_lens": (89, 7, 2), "q_lens": (1, 1, 1)},
    {"ranks": (3, 1, 2), "kv_lens": (70, 30, 2)},
    {"causal": False, "page_size": 1},
)
CASES = [MlaCase(**_BASE | shape | kind) for shape in _SHAPES for kind in _KINDS]
INDICES = (*LISTS[1:], "qo_indptr", "kv_indptr", "kv_indices", "kv_last_page_lens", "g_kv_indptr")
_ITEMS = ("work_info_set", "reduce_final_map")  # rows: one of their fields at a time


def is_one_item(case: MlaCase, device: Device = CPU) -> bool:
    """Whether the kernel that serves the case does one item a workgroup; see `Model`."""
    plan = plan_of(case, device)
    return any(r["one_item"] for r in _C.kernel_table() if r["name"] == plan.stage1 and r["arch"] == plan.arch)


def _extremes(rng: np.random.Generator, name: str, values: np.ndarray, near: list[int], share: float) -> None:
    """Overwrites some entries, in place; of rows of fields often a single column, or their whole row."""
    pool = [INT32_MIN, INT32_MIN + 1, -2, -1, *near, INT32_MAX - 1, INT32_MAX]
    hit = rng.random(values.shape) < share
    if name in _ITEMS and rng.random() < 0.5:
        hit &= np.arange(values.shape[1]) == rng.integers(values.shape[1])
    values[hit] = rng.choice(pool, int(hit.sum()))
    if rng.random() < 0.3:  # any integers
        hit = rng.random(values.shape) < 0.2
        values[hit] = rng.integers(INT32_MIN, INT32_MAX, int(hit.sum()), dtype=np.int32, endpoint=True)


def fuzz(count: int, seed: int = 7) -> Iterator[Fuzzed]:
    """Each tensor alone, some together, all together; and the bytes that another plan left."""
    rng = np.random.default_rng(seed)
    for n in range(count):
        case = CASES[(n + seed) % len(CASES)]
        inputs = build_inputs(case)
        inputs.blocks["o"].fill_nan()
        present = [name for name in INDICES if name in inputs.blocks]
        chosen = [present[n // 3 % len(present)]]
        if n % 3 == 0:
            chosen = [name for name in present if rng.random() < 0.5] if n % 2 else present
        share = rng.choice([0.05, 0.2, 0.6])
        changed = {}
        for name in chosen:
            values = inputs.array(name).copy()
            partials = len(inputs.array("reduce_partial_map")) * case.served_q_len
            near = [0, 1, 2, 3, len(values), case.num_rows, partials - 1, partials, len(inputs.array("kv_indices"))]
            _extremes(rng, name, values, near, share)
            changed[name] = values
        yield Fuzzed(f"fuzz {n} (seed {seed}) of {chosen}", n, inputs, changed)


def check_fuzzed(one: Fuzzed, o: np.ndarray, lse: np.ndarray, device: Device = CPU) -> int:
    """Every row that the lists give one answer is right, every row that they do not write as it was. The number of rows
    with keys that were compared."""
    case = one.inputs.case
    want = Model(one.inputs, one.changed, one_item=is_one_item(case, device)).result(p_dtype_of(case, device))
    check(one.name, one.inputs, o, lse, want)
    return int((want.written & np.isfinite(want.lse).all(axis=1)).sum())
