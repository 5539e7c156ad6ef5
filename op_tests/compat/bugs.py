"""Wrong programs that the tests of AITER's names must tell from the right one; see op_tests/mutants."""

from __future__ import annotations

from bugs import Bug

TESTS = {"compat": "op_tests/compat --device cpu"}

HERE = "aiter_c/compat/"

#: name, file, right, wrong, why
_BUGS = [
    ("triton-lse", f"{HERE}functions.py", "return (out, lse) if return_lse", "return (out, lse.T) if return_lse",
     "the LSE of AITER's Triton module is [H, T]"),
    ("lse-view", f"{HERE}functions.py", "lse.T.contiguous() if", "lse.T if", "the LSE is no contiguous tensor"),
    ("window", f"{HERE}functions.py", "and not any(window_size[2:])", "", "a window's sink is dropped"),
    ("neutral", f"{HERE}functions.py", '"dropout_p": (dropout_p, dropout_p == 0), "window_size"',
     '"dropout_p": (dropout_p, True), "window_size"', "an argument is dropped in silence"),
    ("reduce-old", f"{HERE}functions.py", "= 1, None, max_seqlen_q, num_kv_splits", "= 1, None, max_seqlen_q, None",
     "the LSE of an older call is dropped"),
    ("fp8-scales", f"{HERE}functions.py", "q_scale=q_scale, k_scale=k_scale", "q_scale=k_scale, k_scale=k_scale",
     "a scale counts for another tensor"),
    ("refusing", f"{HERE}names.py", '.get("return") != "NoReturn"', '.get("return") != "Never"',
     "a function that only refuses takes the place of AITER's"),
    ("undo-added", f"{HERE}modules.py", "module.__dict__.pop(name, None)", "pass", "a name of ours stays"),
    ("undo-star", f"{HERE}modules.py", "if id(value) in self.replaced:", "if id(value) in ():",
     "what a module of AITER's has imported of it stays ours"),
    ("theirs", f"{HERE}modules.py", "except UnsupportedError:", "except ZeroDivisionError:",
     "attention of other widths is refused where AITER has it"),
    ("provided", f"{HERE}modules.py", 'if not any(names.served(known)', 'if any(names.served(known)',
     "modules are added where nothing is served"),
    ("loader", f"{HERE}modules.py", "module.__spec__.loader = self.theirs", "pass", "AITER's modules have our loader"),
    ("package", f"{HERE}modules.py", "is_package=True", "is_package=False", "a module cannot have modules below it"),
    ("kind", f"{HERE}stand_ins.py", 'startswith("gfx94")', 'startswith("gfx95")', "fp8 of the other architecture"),
    ("guard", f"{HERE}stand_ins.py", "return lambda function: function", "return lambda function: None",
     "functions of an engine are lost"),
    ("used", f"{HERE}unserved.py", 'self._refuse("call")', "return None", "a name that is not served does nothing"),
]  # fmt: skip
BUGS = [Bug(f"compat-{name}", within, old, new, why, "compat") for name, within, old, new, why in _BUGS]
