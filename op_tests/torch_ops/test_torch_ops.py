"""torch.ops.aiter_c.*: schemas, opcheck, and graphs that hold the ops and give what the functions give."""

from __future__ import annotations

import copy
import importlib.util
import inspect
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import pytest
from interpreter import run_python

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed", allow_module_level=True)
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch_ops import samples

import aiter_c
import aiter_c.torch_ops
from aiter_c._torch_table import GRAPH_OPS
from aiter_c.cli import bench_torch_ops
from aiter_c.torch_ops import SCHEMAS
from aiter_c.torch_ops.schema import parameters_of

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]  # torch's own

ROWS = {row.name: row for row in GRAPH_OPS}
CALLS = [(name, number) for name in ROWS for number in range(len(samples.of(name)))]


def _op(name: str) -> Any:
    return getattr(torch.ops.aiter_c, name)


def _same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        raw = (a.view(torch.uint8), b.view(torch.uint8)) if "float8" in str(a.dtype) else (a, b)
        return a.dtype == b.dtype and torch.equal(torch.nan_to_num(raw[0]), torch.nan_to_num(raw[1]))
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(map(_same, a, b))
    return type(a) is type(b) and a == b


def _after(function: Callable, name: str, number: int) -> tuple[object, object]:
    """What a call returns, and its arguments after it: a copy of each, as some results are arguments."""
    args, kwargs = samples.of(name)[number]
    returned = function(*args, **kwargs)
    return copy.deepcopy(returned), (args, list(kwargs.values()))


def _opcheck(name: str, number: int, *utils: str) -> None:
    args, kwargs = samples.of(name)[number]
    if any("float8" in str(getattr(value, "dtype", "")) for value in (*args, *kwargs.values())):
        utils = tuple(util for util in utils if util != "test_schema")  # torch does not compare fp8
    assert set(torch.library.opcheck(_op(name).default, args, kwargs, test_utils=utils).values()) == {"SUCCESS"}


@pytest.mark.parametrize(("name", "number"), CALLS)
def test_schemas_and_fakes(name: str, number: int) -> None:
    """What is written, what is no alias, and which shapes and dtypes come back."""
    _opcheck(name, number, "test_schema", "test_faketensor")


@pytest.mark.parametrize("name", ["mla_decode_fwd", "mla_decode_segmented", "merge_states", "top_k_per_row_prefill"])
def test_opcheck(name: str) -> None:
    """And autograd, and aot_autograd with dynamic shapes: results, one result, none, optional ones that are written."""
    _opcheck(name, -1, "test_autograd_registration", "test_aot_dispatch_dynamic")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "number"), CALLS)
def test_opcheck_of_every_op(name: str, number: int) -> None:
    """What torch.library.opcheck does by itself."""
    _opcheck(name, number, "test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")


@pytest.mark.parametrize(("name", "number"), CALLS)
def test_the_op_does_what_the_function_does(name: str, number: int) -> None:
    """The same in the caller's memory; and the fresh results, empty where one was given or not asked for."""
    direct = ROWS[name].direct()
    args, kwargs = samples.of(name)[number]
    if name == "merge_states" and len(args[0]) == 1:  # one tensor of states, which a schema has as a list
        want = direct(args[0][0], args[1][0], **kwargs), (args, list(kwargs.values()))
    else:
        want = _after(direct, name, number)
    got = _after(_op(name), name, number)
    assert _same(want[1], got[1])
    results = want[0] if isinstance(want[0], tuple) else (want[0],)
    for fresh in got[0] if isinstance(got[0], tuple) else () if got[0] is None else (got[0],):
        assert fresh.shape == (0,) or any(_same(fresh, result) for result in results)


@pytest.mark.parametrize("name", list(ROWS))
def test_the_function_itself_compiles_into_one_graph(name: str) -> None:
    """By its own name, with its own results: one op of that name is in the graph, and nothing else of ours."""
    direct, number = ROWS[name].direct(), len(samples.of(name)) - 1
    if name == "mla_decode_segmented":
        number = 0
    graphs = []

    def backend(graph: torch.fx.GraphModule, _: object) -> Callable:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(lambda *args, **kwargs: direct(*args, **kwargs), fullgraph=True, backend=backend)
    want, got = _after(direct, name, number), _after(compiled, name, number)
    assert _same(want[1], got[1])
    if name != "mla_decode_fwd":  # whose first result is scratch
        assert _same(want[0], got[0])
    else:
        assert got[0][0] is None and _same(want[0][1], got[0][1])
    targets = [node.target for graph in graphs for node in graph.graph.nodes if node.op == "call_function"]
    assert len(graphs) == 1 and [str(t) for t in targets if "aiter_c" in str(t)] == [f"aiter_c.{name}"]


def _step(q: torch.Tensor, cache: torch.Tensor, o: torch.Tensor, *rest: torch.Tensor) -> tuple[torch.Tensor, ...]:
    lse = torch.ops.aiter_c.mla_decode_fwd(q, cache, o, *rest, 1, return_lse=True, num_kv_splits=2)
    return o * 2, lse


def _direct_step(q: torch.Tensor, cache: torch.Tensor, o: torch.Tensor, *rest: torch.Tensor) -> tuple[Any, ...]:
    _, lse = aiter_c.mla_decode_fwd(q, cache, o, *rest, 1, return_lse=True, num_kv_splits=2, q_scale=2.0)
    return o * 2, lse


@pytest.mark.parametrize("step", [_step, _direct_step])
def test_functionalised(step: Callable) -> None:
    """Under aot_autograd, which has ops that write nothing: the caller's memory is written all the same."""
    want, got = samples._paged(), samples._paged()
    assert _same(step(*want), torch.compile(step, fullgraph=True, backend="aot_eager")(*got)) and _same(want, got)


def test_shapes_may_be_dynamic() -> None:
    """One graph for every number of rows."""
    torch._dynamo.reset()
    graphs = []
    compiled = torch.compile(
        _step, fullgraph=True, dynamic=True, backend=lambda graph, _: graphs.append(graph) or graph.forward
    )
    for rows in (4, 6, 8):  # not 2, which other sizes are
        assert _same(_step(*samples._paged(rows)), compiled(*samples._paged(rows)))
    assert len(graphs) == 1


class _Module(torch.nn.Module):
    def __init__(self, step: Callable) -> None:
        super().__init__()
        self.step = step

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.step(*tensors)


@pytest.mark.parametrize(("step", "strict"), [(_step, False), (_step, True), (_direct_step, True)])
def test_export(step: Callable, strict: bool) -> None:
    """The exported program, and what is left of it without mutation."""
    exported = torch.export.export(_Module(step), samples._paged(), strict=strict)
    for program in (exported, exported.run_decompositions({})):
        want, got = samples._paged(), samples._paged()
        assert _same(step(*want), program.module()(*got)) and _same(want, got)
    assert any("aiter_c" in str(node.target) for node in exported.graph.nodes)


@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_make_fx(mode: str) -> None:
    graph = make_fx(_step, tracing_mode=mode)(*samples._paged())
    want, got = samples._paged(), samples._paged()
    assert _same(_step(*want), graph(*got)) and _same(want, got)
    assert "aiter_c.mla_decode_fwd" in graph.code


def _of_tensors(name: str) -> tuple[Callable[..., Any], tuple[torch.Tensor, ...]]:
    """The op as a function of the tensors among its arguments, and those tensors."""
    leaves, spec = tree_flatten(samples.of(name)[-1])
    places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]

    def step(*tensors: torch.Tensor) -> Any:
        given = dict(zip(places, tensors, strict=True))
        args, kwargs = tree_unflatten([given.get(place, leaf) for place, leaf in enumerate(leaves)], spec)
        return _op(name)(*args, **kwargs)

    return step, tuple(leaves[place] for place in places)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(ROWS))
def test_every_op_is_exported_and_traced(name: str) -> None:
    """The op is in the graph that torch.export and make_fx make, and writes what it writes."""
    step, want = _of_tensors(name)
    wanted = step(*want)
    exported = torch.export.export(_Module(step), _of_tensors(name)[1], strict=False)
    for program in (exported.module(), make_fx(step, tracing_mode="fake")(*_of_tensors(name)[1])):
        got = _of_tensors(name)[1]
        assert _same(wanted, program(*got)) and _same(want, got)
        assert f"aiter_c.{name}" in program.code


def test_a_schema_is_the_signature() -> None:
    """Names, order, defaults; what the rows of the C core call an output is declared as written, and nothing else."""
    for name, row in ROWS.items():
        wanted = [n for n in inspect.signature(row.direct()).parameters if n not in ("stream", "plan")]
        schema = _op(name).default._schema
        assert [argument.name for argument in schema.arguments] == wanted, name
        written = [a.name for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write]
        assert written == [p.name for p in parameters_of(row) if p.written], name
        assert not any(result.alias_info for result in schema.returns), name
    assert "Tensor(a!) o," in SCHEMAS["mla_decode_fwd"] and SCHEMAS["mla_decode_fwd"].endswith("-> Tensor")
    assert SCHEMAS["get_valid_kv_indices"] == (
        "get_valid_kv_indices(Tensor page_table, Tensor kv_indptr, Tensor(a!) kv_indices, SymInt bs) -> ()"
    )


def test_every_function_with_tensors_is_an_op() -> None:
    """What is public and no op computes numbers, is another's name, or refuses."""
    others = {
        "empty", "from_host", "get_num_threads", "set_num_threads", "mla_plan", "get_meta_param", "cp_owner",
        "cp_local_len", "cp_local_to_global", "get_mla_decode_fwd_max_splits", "get_mla_metadata_info_v1",
        "get_ps_metadata_info_v1", "mla_prefill_partial_rows", "flydsl_fp8_mqa_logits",
        "convert_req_index_to_global_index", "hk_mla_v32_decode_fwd", "hk_mla_v40_decode_fwd", "mla_decode_fwd_ds32",
        "mla_decode_fwd_v4_nm", "mla_v40_decode_fwd", "fused_fp8_bmm_rope_cat_and_cache_mla",
        "fused_qk_norm_rope_group_quant",
    }  # fmt: skip
    ops = {id(row.direct()) for row in GRAPH_OPS}
    names = {n for n in aiter_c.__all__ if not inspect.isclass(getattr(aiter_c, n)) and n not in others}
    assert {n for n in names if id(getattr(aiter_c, n)) not in ops} <= {"triton_convert_req_index_to_global_index"}


def _convert(*args: Any, **kwargs: Any) -> Any:
    return aiter_c.convert_req_index_to_global_index(*args, **kwargs)


def test_names_that_are_several_ops_are_traced_as_theirs() -> None:
    """One function, three forms of arguments: three ops."""
    torch._dynamo.reset()
    for name in ("convert_index_lists", "convert_index_ragged", "convert_index_padded"):
        compiled = torch.compile(_convert, fullgraph=True, backend="eager")
        want = _after(aiter_c.convert_req_index_to_global_index, name, 0)
        assert _same(want, _after(compiled, name, 0)), name


def _scaled(q: torch.Tensor, cache: torch.Tensor, o: torch.Tensor, *rest: torch.Tensor) -> Any:
    return aiter_c.mla_decode_fwd(q, cache, o, *rest, 1, kv_scale=0.25, q_dtype="float8_e4m3fn", return_lse=True)[1]


def test_floats_as_scales_and_names_as_dtypes() -> None:
    """A schema has tensors and torch's dtypes for them."""
    torch._dynamo.reset()
    want, got = samples._paged(dtype=samples.FP8), samples._paged(dtype=samples.FP8)
    assert _same(_scaled(*want), torch.compile(_scaled, fullgraph=True, backend="eager")(*got)) and _same(want, got)


def test_options_of_a_call_that_a_graph_has_not() -> None:
    """Named, when the graph is made."""
    args = (*samples._paged(), 1)
    torch._dynamo.reset()
    with pytest.raises(Exception, match="stream"):
        torch.compile(lambda *args: aiter_c.mla_decode_fwd(*args, stream=1), fullgraph=True, backend="eager")(*args)


def test_refusals_are_those_of_the_function() -> None:
    q, cache, o, *rest = samples._paged()
    with pytest.raises(aiter_c.UnsupportedError, match=r"mla_decode_fwd: logit_cap: expected"):
        torch.ops.aiter_c.mla_decode_fwd(q, cache, o, *rest, 1, logit_cap=30.0)
    with pytest.raises(ValueError, match=r"mla_decode_fwd: o: expected"):
        torch.ops.aiter_c.mla_decode_fwd(q, cache, o[:, :, :64], *rest, 1)


def test_the_bench_leaves_the_threads_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a row raises."""
    threads = aiter_c.get_num_threads()
    aiter_c.set_num_threads(2)
    try:
        monkeypatch.setattr(bench_torch_ops, "_calls", lambda torch: {"no_op": ((), {})})
        with pytest.raises(KeyError, match="no_op"):
            bench_torch_ops.run(Namespace(quick=True, json=None))
        assert aiter_c.get_num_threads() == 2
    finally:
        aiter_c.set_num_threads(threads)


def test_an_output_that_requires_grad_is_refused() -> None:
    q, cache, o, *rest = samples._paged()
    with pytest.raises(BufferError, match="require grad"):
        torch.ops.aiter_c.mla_decode_fwd(q, cache, o.requires_grad_(), *rest, 1)


@pytest.mark.isolated
def test_compiling_needs_no_import_but_the_package() -> None:
    """Importing it registers nothing, before torch or after it; the first graph does."""
    code = """
import aiter_c, torch, sys
assert "aiter_c.torch_ops" not in sys.modules
logits, indices = torch.randn(2, 50), torch.zeros(2, 8, dtype=torch.int32)
lengths = torch.tensor([50, 20], dtype=torch.int32)
def step(logits, lengths, indices):
    aiter_c.top_k_per_row_decode(logits, 1, lengths, indices, logits.shape[0], logits.stride(0), 1, 8)
    return indices + 1
want = step(logits, lengths, indices.clone())
got = torch.compile(step, fullgraph=True, backend="eager")(logits, lengths, indices)
assert torch.equal(want, got) and torch.equal(want, indices + 1)
"""
    run_python("-W", "ignore", "-c", code)
