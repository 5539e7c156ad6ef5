"""The ops of this package as torch.ops.aiter_c.*, for graphs: torch.compile, torch.export, make_fx.

`import aiter_c.torch_ops` registers them (torch 2.4 or newer). An op has the parameters of the function of its name, in
their order and with their defaults, but for `stream` (torch's current one) and `plan`; a scale is a tensor or None.
What the function writes the schema declares as mutated. It returns what the function makes anew, and in place of a
result that was given as an argument, or not asked for, an empty tensor: a graph has no aliases among results.

Under torch.compile the functions themselves, aiter_c.mla_decode_fwd and the others, are traced as their ops, with
their own arguments and results; there scales may be floats. The `logits` of mla_decode_fwd, its scratch, are None in a
graph. torch.export(strict=True) is the same; make_fx and torch.export without it take torch.ops.aiter_c.*.

Errors are those of the functions, when the graph runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from aiter_c._torch_table import GRAPH_OPS, GraphOp, traced
from aiter_c.torch_ops.op import Op

__all__ = ["CALLS", "SCHEMAS"]

_LIBRARY = torch.library.Library("aiter_c", "DEF")

CALLS: dict[str, Callable[..., Any]] = {}
"""By the name of an op: its function, as torch.compile traces it."""
SCHEMAS: dict[str, str] = {}
"""By the name of an op."""


def _register(row: GraphOp) -> None:
    op = Op(row)
    _LIBRARY.define(op.schema, tags=(torch.Tag.pt2_compliant_tag, torch.Tag.needs_exact_strides))
    implementation = op.implementation()
    for key in ("CPU", "CUDA"):  # HIP's devices have that name in torch, too
        _LIBRARY.impl(row.name, implementation, key)
    torch.library.register_fake(f"aiter_c::{row.name}", op.fake(), lib=_LIBRARY)
    SCHEMAS[row.name], CALLS[row.name] = op.schema, op.call(getattr(torch.ops.aiter_c, row.name))
    if not hasattr(op.direct, "__code__"):  # of the C core: it has no attributes for torch.compile to see
        torch.compiler.substitute_in_graph(op.direct, skip_signature_check=True)(traced(row.name))


for _row in GRAPH_OPS:
    _register(_row)
