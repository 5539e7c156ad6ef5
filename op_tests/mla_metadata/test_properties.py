"""What every plan promises, over random problems: 20,000 on the CPU, fewer where a call takes longer."""

from __future__ import annotations

import numpy as np
import pytest
from mla_metadata import properties
from mla_metadata.properties import Plans

from aiter_c.testing import Device

CHUNK = 1000  # problems that are checked together


def _count(device: Device) -> int:
    return 500 if device.simulated else 20_000 if device.place == "cpu" else 5_000


def test_random_problems(device: Device) -> None:
    seed, checked = 20_251_130, 0
    rng = np.random.default_rng(seed)
    while checked < _count(device):
        problems = [properties.draw(rng) for _ in range(min(CHUNK, _count(device) - checked))]
        for problem in problems:
            properties.solve(problem, device)
        try:
            Plans(problems).check()
        except AssertionError as error:
            error.add_note(f"seed {seed}, problems from {checked} on")
            raise
        checked += len(problems)


def _solved(seed: int) -> list[properties.Problem]:
    rng = np.random.default_rng(seed)
    problems = [properties.draw(rng) for _ in range(40)]
    for problem in problems:
        properties.solve(problem, Device())
    return problems


#: name -> (output, change of its entries)
PLANTED = {
    "a gap between pieces": ("work_info_set", lambda a: a[:, 4].__iadd__(1)),
    "a key too many": ("work_info_set", lambda a: a[:, 5].__iadd__(1)),
    "rows of another tile": ("work_info_set", lambda a: a[:, 2].__iadd__(1)),
    "another request": ("work_info_set", lambda a: a[:, 0].__iadd__(1)),
    "an unsplit partial": ("work_info_set", lambda a: a[:, 1].clip(0, out=a[:, 1])),
    "heads": ("work_info_set", lambda a: a[:, 7].__iadd__(1)),
    "keys after it": ("work_info_set", lambda a: a[:, 6].__iadd__(1)),
    "all on one worker": ("work_indptr", lambda a: a[1:].fill(a[-1])),
    "no groups": ("reduce_indptr", lambda a: a.fill(0)),
    "other partials": ("reduce_partial_map", lambda a: a.__iadd__(1)),
    "other final rows": ("reduce_final_map", lambda a: a.__iadd__(1)),
}


@pytest.mark.parametrize("name", PLANTED)
def test_the_check_sees_wrong_plans(name: str) -> None:
    problems = _solved(1)
    Plans(problems).check()
    output, change = PLANTED[name]
    for problem in problems:
        change(problem.out[output])
    with pytest.raises(AssertionError):
        Plans(problems).check()
