"""The schema of an op from the function's own signature and from the rows of the C core: nothing is written twice."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

from aiter_c import _C
from aiter_c._torch_table import GraphOp

_NOT_IN_A_GRAPH = ("stream", "plan")  # the stream is torch's current one; a plan is made at the call

#: Annotations of the package, without "| None", as types of a schema. A scale is a tensor there.
_TYPES = {
    "SupportsDLPack": "Tensor", "Tensor": "Tensor", "Any": "Tensor", "Scale": "Tensor?", "None": "Tensor?",
    "int": "SymInt", "float": "float", "bool": "bool", "str": "str", "DTypeLike": "ScalarType", "KvFormat": "str",
    "CacheDtype": "str", "ScaleFormat": "str",
}  # fmt: skip
#: Kinds of the rows likewise, for functions of the C core.
_KINDS = {
    "tensor": "Tensor", "tensors": "Tensor[]", "int": "SymInt", "float": "float", "bool": "bool", "scale": "Tensor?",
    "dtype": "ScalarType", "choice": "str",
}  # fmt: skip


REQUIRED = inspect.Parameter.empty


class Parameter(NamedTuple):
    """A parameter of an op."""

    name: str
    type: str  # of the schema, without an alias
    written: bool
    default: Any  # or REQUIRED
    keyword_only: bool

    def text(self, alias: str) -> str:
        optional = self.type.endswith("?")
        kind = self.type.removesuffix("?")
        if self.written:
            kind = f"{kind}({alias}!)"
        value = "" if self.default is REQUIRED else f"={_literal(self.default)}"
        return f"{kind}{'?' if optional else ''} {self.name}{value}"


def _literal(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _type_of(parameter: inspect.Parameter, kinds: dict[str, tuple[str, bool]]) -> str:
    if parameter.annotation is inspect.Parameter.empty:  # of the C core
        kind, optional = kinds[parameter.name]
        text = _KINDS[kind]
    else:
        annotation = str(parameter.annotation)
        optional = annotation.endswith(" | None")
        annotation = annotation.removesuffix(" | None")
        if annotation == "object":  # without effect; the default says what callers pass
            annotation = type(parameter.default).__name__ if isinstance(parameter.default, (bool, int)) else "None"
        text = _TYPES[annotation]
    if parameter.default is None or optional:
        text = f"{text.removesuffix('?')}?"
    return text


def parameters_of(op: GraphOp) -> list[Parameter]:
    """Those of the op, in order."""
    rows: list[tuple[Any, ...]] = next((row["params"] for row in _C.op_table() if row["name"] == op.rows), [])
    kinds = {name: (kind, optional) for name, _, kind, optional, *_ in rows}
    written = op.writes | {name for name, _, _, _, is_output, *_ in rows if is_output}
    out = []
    for name, parameter in inspect.signature(op.direct()).parameters.items():
        if name in _NOT_IN_A_GRAPH:
            continue
        kind, default = _type_of(parameter, kinds), parameter.default
        if kind.startswith(("Tensor", "ScalarType")) and default is not parameter.empty:
            kind, default = f"{kind.removesuffix('?')}?", None  # a scale of 1.0, a dtype by name: what None means
        out.append(Parameter(name, kind, name in written, default, parameter.kind is parameter.KEYWORD_ONLY))
    return out


def schema_of(op: GraphOp, parameters: list[Parameter], fresh: int) -> str:
    """The text of it, for an op that returns so many fresh tensors."""
    texts, aliases = [], iter("abcdefghijklmnop")
    for parameter in parameters:
        if parameter.keyword_only and "*" not in texts:
            texts.append("*")
        texts.append(parameter.text(next(aliases) if parameter.written else ""))
    returns = "Tensor" if fresh == 1 else f"({', '.join(['Tensor'] * fresh)})"
    return f"{op.name}({', '.join(texts)}) -> {returns}"
