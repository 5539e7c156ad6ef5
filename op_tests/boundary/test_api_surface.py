"""Names, order and signatures: what vLLM, SGLang and ATOM probe, and the stubs against the running code."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from signatures import plain

import aiter_c
import aiter_c._C
import aiter_c.metadata
import aiter_c.mla
import aiter_c.testing

#: AITER's parameters, in its order, with its defaults, then ours, keyword-only.
AITER_PARAMETERS = {
    "q": ..., "kv_buffer": ..., "o": ..., "qo_indptr": ..., "kv_indptr": ..., "kv_indices": ...,
    "kv_last_page_lens": ..., "max_seqlen_q": ..., "page_size": 1, "nhead_kv": 1, "sm_scale": None, "logit_cap": 0.0,
    "num_kv_splits": None, "num_kv_splits_indptr": None, "work_meta_data": None, "work_indptr": None,
    "work_info_set": None, "reduce_indptr": None, "reduce_final_map": None, "reduce_partial_map": None,
    "q_scale": None, "kv_scale": None, "intra_batch_mode": False, "return_logits": False, "return_lse": False,
    "g_kv_indptr": None, "cp_world_size": 1, "cp_rank": 0, "causal": True,
}  # fmt: skip
OUR_PARAMETERS = {
    "deterministic": False, "kv_format": None, "stream": None, "plan": None, "q_dtype": None, "kv_dtype": None,
    "cp_interleave": 1, "slots": False, "sink": None,
}  # fmt: skip
HOME = Path(aiter_c.mla.__file__).resolve().parent
#: Without distributed, which `import aiter_c` leaves out: it needs torch.
NAMES = sorted(path.stem for path in HOME.glob("[!_]*.py") if path.stem != "distributed")
MODULES = [aiter_c, *(importlib.import_module(f"aiter_c.{name}") for name in (*NAMES, "_C"))]
#: What belongs to no family of ops; the tests of an op pin its own names.
COMMON = [
    "Array", "DeviceError", "MlaPlan", "UnsupportedError", "empty", "from_host", "get_num_threads", "mla_plan",
    "set_num_threads",
]  # fmt: skip


def test_all_is_what_the_modules_of_ops_offer_and_what_is_common() -> None:
    of_ops = [name for module in MODULES[1:] for name in getattr(module, "__all__", ())]
    assert sorted(aiter_c.__all__) == sorted({*COMMON, *of_ops})
    assert all(hasattr(aiter_c, name) for name in aiter_c.__all__)


def test_mla_decode_fwd_has_aiters_parameters_in_aiters_order() -> None:
    parameters = inspect.signature(aiter_c.mla_decode_fwd).parameters
    assert list(parameters) == [*AITER_PARAMETERS, *OUR_PARAMETERS]
    for name, default in AITER_PARAMETERS.items():
        assert parameters[name].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD, name
        expected = inspect.Parameter.empty if default is ... else default
        assert parameters[name].default == expected and type(parameters[name].default) is type(expected), name
    for name, default in OUR_PARAMETERS.items():
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY and parameters[name].default is default, name


@pytest.mark.parametrize("probed", ["q_scale", "kv_scale", "causal", "return_lse", "num_kv_splits"])
def test_probes_of_the_engines(probed: str) -> None:
    """vLLM asks inspect.signature(mla_decode_fwd) for these names."""
    assert probed in inspect.signature(aiter_c.mla.mla_decode_fwd).parameters


def test_mla_plan_is_pinned() -> None:
    text = (
        "(batch, num_heads, max_seqlen_q, page_size, q_dtype, kv_dtype, *, num_kv_splits=None, max_kv_len=None, "
        "kv_lora_rank=512, qk_rope_head_dim=64, return_lse=False, deterministic=False, device='cpu', "
        "num_workers=None)"
    )
    assert str(inspect.signature(aiter_c.mla_plan)) == text


def test_get_meta_param_is_pinned() -> None:
    text = (
        "(num_kv_splits, bs, total_kv, nhead, max_seqlen_q, dtype, tg_factor=1, ignore_total_kv=0, *, cu_num=None, "
        "device=None)"
    )
    assert plain(aiter_c.get_meta_param) == text


@pytest.mark.parametrize("name", [*(module.__name__ for module in MODULES), "aiter_c.testing"])
def test_modules_have_a_spec(name: str) -> None:
    assert importlib.util.find_spec(name) is not None and importlib.import_module(name).__spec__.name == name


def _functions(module: ModuleType) -> list[str]:
    names = getattr(module, "__all__", None) or [n for n in dir(module) if not n.startswith("_")]
    return [n for n in names if callable(getattr(module, n)) and not inspect.isclass(getattr(module, n))]


@pytest.mark.parametrize(("module", "name"), [(m, n) for m in MODULES for n in _functions(m)])
def test_every_callable_has_a_signature_and_a_docstring(module: ModuleType, name: str) -> None:
    function = getattr(module, name)
    assert inspect.signature(function) is not None
    assert inspect.getdoc(function) and len(inspect.getdoc(function)) > 20


def _stub_parameters(function: ast.FunctionDef) -> list[tuple[str, str, str | None]]:
    """(name, kind, default as text) of a def in a stub."""
    a = function.args
    positional = [*a.posonlyargs, *a.args]
    defaults = [None] * (len(positional) - len(a.defaults)) + [ast.unparse(d) for d in a.defaults]
    out = [(arg.arg, "positional", d) for arg, d in zip(positional, defaults, strict=True)]
    out += [
        (arg.arg, "keyword", ast.unparse(d) if d is not None else None)
        for arg, d in zip(a.kwonlyargs, a.kw_defaults, strict=True)
    ]
    return [row for row in out if row[0] != "self"]


def _live_parameters(function: object) -> list[tuple[str, str, str | None]]:
    return [
        (
            p.name,
            "keyword" if p.kind is p.KEYWORD_ONLY else "positional",
            None if p.default is p.empty else repr(p.default),
        )
        for p in inspect.signature(function).parameters.values()
        if p.name != "self"
    ]


def test_the_stub_agrees_with_the_running_code() -> None:
    """Every function, method and property of the C core, both ways: names, order, kinds, defaults."""
    module, seen = importlib.import_module("aiter_c._C"), set()
    for node in ast.parse((HOME / "_C.pyi").read_text()).body:
        if isinstance(node, ast.FunctionDef):
            assert _stub_parameters(node) == _live_parameters(getattr(module, node.name)), node.name
            seen.add(node.name)
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            _check_class(node, getattr(module, node.name))
            seen.add(node.name)
    missing = set(_functions(module)) - seen
    assert not missing, f"not in the stub: {sorted(missing)}"


@pytest.mark.skipif(not (HOME.parent / "scripts").is_dir(), reason="scripts/ is not beside the tests")
def test_the_stub_is_what_the_rows_give() -> None:
    command = [sys.executable, str(HOME.parent / "scripts/gen_stubs"), "--check"]
    assert subprocess.run(command, check=False).returncode == 0, "run scripts/gen_stubs"


@pytest.mark.parametrize("module", [module for module in MODULES if module.__name__ != "aiter_c._C"])
def test_python_functions_are_annotated(module: ModuleType) -> None:
    for name in _functions(module):
        function = getattr(module, name)
        if inspect.isfunction(function):
            parameters = inspect.signature(function).parameters.values()
            assert "return" in function.__annotations__ and all(p.annotation is not p.empty for p in parameters), name


def _check_class(node: ast.ClassDef, live: type) -> None:
    """Properties and methods of a stub class exist, and those of the live class are in the stub."""
    stubbed = {item.name: item for item in node.body if isinstance(item, ast.FunctionDef)}
    for name, item in stubbed.items():
        is_property = any(isinstance(d, ast.Name) and d.id == "property" for d in item.decorator_list)
        member = inspect.getattr_static(live, name)
        assert inspect.isdatadescriptor(member) == is_property, f"{node.name}.{name}"
        if not is_property and not (name.startswith("__") and "dlpack" not in name):
            assert _stub_parameters(item) == _live_parameters(member), f"{node.name}.{name}"
    if not issubclass(live, Exception):
        public = {n for n in vars(live) if not n.startswith("_")} | {n for n in vars(live) if "dlpack" in n}
        assert public <= set(stubbed), f"{node.name}: not in the stub: {sorted(public - set(stubbed))}"


def test_the_package_is_typed() -> None:
    assert (HOME / "py.typed").exists()


def test_exception_classes() -> None:
    assert issubclass(aiter_c.UnsupportedError, NotImplementedError)
    assert issubclass(aiter_c.DeviceError, RuntimeError)
    error = aiter_c.DeviceError("x")
    assert (error.code, error.name, error.call) == (None, None, None)
    assert aiter_c.UnsupportedError.__module__ == aiter_c.MlaPlan.__module__ == aiter_c.Array.__module__ == "aiter_c"


def test_types_are_final_and_hidden_from_construction() -> None:
    for kind in (aiter_c.Array, aiter_c.MlaPlan):
        with pytest.raises(TypeError):
            kind()
        with pytest.raises(TypeError):
            type("Sub", (kind,), {})
        with pytest.raises(TypeError):
            kind.extra = 1


def test_testing_needs_neither_pytest_nor_torch() -> None:
    """It ships with the package: NumPy, ml_dtypes and the standard library only."""
    allowed = {"numpy", "ml_dtypes", "aiter_c", "__future__"}
    import sys

    for path in Path(aiter_c.testing.__file__).resolve().parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            for name in names:
                root = name.split(".")[0]
                assert root in allowed or root in sys.stdlib_module_names, f"{path.name} imports {name}"
