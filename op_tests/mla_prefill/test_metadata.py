"""get_ps_metadata_v1: to the bit the lists of the model, on every device, and what holds of any lists."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
from mla_prefill.lists_model import Plan, lists

import aiter_c
from aiter_c.testing import CPU, Device

NAMES = ("work_indptr", "work_info", "reduce_indptr", "reduce_final_map", "reduce_partial_map")


def planned(plan: Plan, device: Device = CPU, **sizes: int) -> dict[str, np.ndarray]:
    """The lists that the op makes, whole buffers, of the sizes of get_ps_metadata_info_v1 unless said otherwise."""
    info = aiter_c.get_ps_metadata_info_v1(
        len(plan.q_lens), plan.kv_heads, max((0, *plan.q_lens)), plan.tile, num_workers=plan.workers
    )
    out = {}
    for name, (size, _) in zip(NAMES, info[1:], strict=True):
        shape = (size,) if isinstance(size, int) else size
        out[name] = np.full((sizes.get(name, shape[0]), *shape[1:]), 0x7BADBADB, np.int32)
    indptr = lambda lens: (plan.offset + np.concatenate([[0], np.cumsum(lens)])).astype(np.int32)  # noqa: E731
    device.call(
        "get_ps_metadata_v1", indptr(plan.q_lens), indptr([-(-n // plan.page) for n in plan.kv_lens]),
        np.array(plan.kv_lens, np.int32), plan.group, plan.kv_heads, None, *out.values(), plan.group, plan.tile,
        plan.unit, plan.page, plan.causal, plan.need_lse,
    )  # fmt: skip
    return out


def check_equal(got: dict[str, np.ndarray], want: dict[str, np.ndarray], plan: Plan) -> None:
    """What the plan defines, and 0 behind it; of reduce_indptr the total."""
    for name in NAMES:
        count = len(want[name])
        assert len(got[name]) >= count, f"{name} of {plan}"
        assert np.array_equal(got[name][:count], want[name]), f"{name} of {plan}:\n{got[name][:count]}\n{want[name]}"
        rest = want[name][-1] if name == "reduce_indptr" else 0
        assert (got[name][count:] == rest).all(), f"{name} of {plan} behind {count}: {got[name][count:]}"


def _random(seed: int) -> Plan:
    rng = random.Random(seed)
    batch, page = rng.randint(1, 6), rng.choice((1, 1, 1, 16, 64))
    longest = rng.choice((40, 700, 3000))
    return Plan(
        q_lens=tuple(rng.choice((0, 1, rng.randint(1, longest))) for _ in range(batch)),
        kv_lens=tuple(rng.choice((0, 1, rng.randint(1, longest))) for _ in range(batch)),
        workers=rng.choice((1, 2, 3, 4, 7, 16, 60, 304)),
        kv_heads=rng.choice((1, 1, 2, 3, 4, 8, 16)),
        group=rng.choice((1, 1, 2, 4)),
        tile=rng.choice((256, 256, 128, 64, 85)),
        unit=page * rng.choice((1, 4, 8)) if page > 1 else rng.choice((16, 128)),
        page=page,
        causal=rng.random() < 0.7,
        need_lse=rng.random() < 0.6,
        offset=rng.choice((0, 0, 9)),
    )


PLANS = [
    *map(_random, range(400)),
    Plan((600,), (600,), 4),
    Plan((300, 300), (10, 5), 4),  # most rows see nothing
    Plan((600,), (0,), 4),  # Q18: nothing is seen at all
    Plan((10,), (3,), 4, unit=16),
    Plan((), (), 3),
    Plan((0, 0), (5, 0), 3),
    Plan((1,) * 300, (200,) * 300, 7),  # more requests than threads of a workgroup
    Plan((700,) * 120, (900,) * 120, 13, kv_heads=3),  # more tiles
]
FEW = [*PLANS[:400:16], *PLANS[400:]]


@pytest.mark.smoke
def test_golden_vector(device: Device) -> None:
    """SPEC's vector of AITER's model, and with need_lse one more partial behind the others."""
    plan = Plan((600,), (600,), 4, need_lse=False)
    want = {
        "work_indptr": [0, 2, 3, 5, 6],
        "work_info": [
            [0, -1, 0, 256, 0, 256, 0, 65536], [0, 0, 512, 600, 0, 128, 472, 65536],
            [0, 256, 512, 600, 128, 512, 88, 65536], [0, 512, 512, 600, 512, 600, 0, 65536],
            [0, 768, 256, 512, 0, 256, 344, 65536], [0, 1024, 256, 512, 256, 512, 0, 65536],
        ],
        "reduce_indptr": [0, 2, 5],
        "reduce_final_map": [[256, 512], [512, 600]],
        "reduce_partial_map": [768, 1024, 0, 256, 512],
    }  # fmt: skip
    check_equal(planned(plan, device), {name: np.array(rows, np.int32) for name, rows in want.items()}, plan)
    want["work_info"][0][1] = 1280
    want |= {"reduce_indptr": [0, 1, 3, 6], "reduce_final_map": [[0, 256], [256, 512], [512, 600]]}
    want["reduce_partial_map"] = [1280, *want["reduce_partial_map"]]
    plan = dataclasses.replace(plan, need_lse=True)
    check_equal(planned(plan, device), {name: np.array(rows, np.int32) for name, rows in want.items()}, plan)


def test_lists_are_the_models() -> None:
    for plan in PLANS:
        check_equal(planned(plan), lists(plan), plan)


@pytest.mark.accelerators
def test_a_device_plans_the_same(device: Device) -> None:
    for plan in FEW:
        check_equal(planned(plan, device), lists(plan), plan)
