"""Wrong programs that the tests of torch.ops.aiter_c must tell from the right one; see op_tests/mutants."""

from __future__ import annotations

from bugs import Bug

TESTS = {"torch_ops": "op_tests/torch_ops --device cpu"}

TABLE, HERE = "aiter_c/_torch_table.py", "aiter_c/torch_ops/"

#: name, file, right, wrong, why
_BUGS = [
    ("written", f"{HERE}schema.py", "if is_output}", "if is_output and name != 'o'}", "o is not declared as written"),
    ("order", f"{HERE}schema.py", "parameter.kind is parameter.KEYWORD_ONLY))", "False))", "keyword-only is not"),
    ("default", f"{HERE}schema.py", "={_literal(self.default)}", "={_literal(self.default or None)}", "False is None"),
    ("given", f"{HERE}op.py", "result is None or any(", "result is None and any(", "a result is an argument"),
    ("place", TABLE, '"mla_decode_stage1", (None, "lse"))', '"mla_decode_stage1", ("lse", None))', "logits as the LSE"),
    ("not-asked", f"{HERE}op.py", "fakes.nothing(args[0]) if lse is None else lse", "lse", "None is no tensor"),
    ("fake-rows", f"{HERE}fakes.py", "q.shape[0], q.shape[1]) if return_lse", "q.shape[1], q.shape[0]) if return_lse",
     "heads and rows of the LSE change places"),
    ("fake-dtype", f"{HERE}fakes.py", "dtype=torch.float32)", "dtype=torch.float16)", "an LSE in half precision"),
    ("fake-lists", f"{HERE}fakes.py", "count = torch.sym_min(count, other)", "count = torch.sym_max(count, other)",
     "as many rows as the longest tensor"),
    ("stack", f"{HERE}op.py", "o[0].dim() == 4:", "o[0].dim() == 3:", "one state counts as a stack"),
    ("scale", f"{HERE}op.py", "torch.full((), value)", "torch.full((), 1.0)", "a float as a scale is lost"),
    ("instead", f"{HERE}op.py", "if self.row.instead and", "if not self.row.instead and", "no out of segments"),
    ("instead-all", f"{HERE}op.py", "return tuple(fresh)\n", "return tuple(fresh[:2])\n", "a result of splits is lost"),
    ("fake-splits", f"{HERE}fakes.py", "tensor.transpose(1, 2) for", "tensor for", "heads before splits"),
    ("untraced", TABLE, "function._torchdynamo_inline = traced(op.name)", "function._torch_inline = traced(op.name)",
     "torch.compile does not find the ops"),
    ("core", f"{HERE}__init__.py", 'if not hasattr(op.direct, "__code__"):', 'if hasattr(op.direct, "__no__"):',
     "functions of the C core are not traced"),
    ("stream", f"{HERE}op.py", "if kwargs.pop(name, None) is not None:", "if kwargs.pop(name, None) is kwargs:",
     "a stream is dropped in silence"),
]  # fmt: skip
BUGS = [Bug(f"torch-ops-{name}", within, old, new, why, "torch_ops") for name, within, old, new, why in _BUGS]
