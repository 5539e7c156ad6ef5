"""Texts that a reader stumbled over, and the names that tab completion shows."""

from __future__ import annotations

import ast
import pkgutil
import types

import pytest
from interpreter import run_python

import aiter_c
from aiter_c import mla_decode_fwd
from aiter_c.testing import MlaCase, build_inputs

CASE = MlaCase(heads=4, kv_lens=(9,))


@pytest.mark.parametrize("planned", [True, False])
def test_a_bool_of_a_plan_is_a_bool(planned: bool) -> None:
    plan = aiter_c.mla_plan(1, 4, 1, 1, "bfloat16", "bfloat16", num_kv_splits=1, return_lse=planned)
    text = rf"^mla_decode_fwd: plan\.return_lse: expected a plan made for {not planned}, got one made for {planned}$"
    arguments = build_inputs(CASE).arguments() | {"return_lse": not planned, "num_kv_splits": None, "plan": plan}
    with pytest.raises(ValueError, match=text):
        mla_decode_fwd(**arguments)


def test_the_package_shows_what_it_is_for() -> None:
    """Public names, and modules of the package: no name of an import that the package needed itself."""
    stray = [
        name
        for name in dir(aiter_c)
        if not name.startswith("_")
        and name not in aiter_c.__all__
        and not (isinstance(getattr(aiter_c, name), types.ModuleType) and f"aiter_c.{name}" in _modules())
    ]
    assert stray == []


def _modules() -> set[str]:
    return {f"aiter_c.{module.name}" for module in pkgutil.iter_modules(aiter_c.__path__)}


@pytest.mark.isolated
def test_after_a_plain_import() -> None:
    code = "import aiter_c; print([n for n in dir(aiter_c) if n[0] != '_' and n not in aiter_c.__all__])"
    shown = ast.literal_eval(run_python("-c", code).stdout)
    assert "mla" in shown and {f"aiter_c.{name}" for name in shown} <= _modules() - {"aiter_c.cli", "aiter_c.testing"}
