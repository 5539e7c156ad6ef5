"""Wrong programs that the tests of the plugins must tell from the right one; see op_tests/mutants."""

from __future__ import annotations

from bugs import Bug

TESTS = {"plugins": "op_tests/plugins --device cpu"}

HERE = "aiter_c/plugins/"

#: name, file, right, wrong, why
_BUGS = [
    ("causal", f"{HERE}attend.py", "causal=causal", "causal=True", "drafts see each other by their order"),
    ("scale", f"{HERE}attend.py", "kv_scale=kv_scale", "kv_scale=q_scale", "an fp8 cache without its scale"),
    ("rows", f"{HERE}attend.py", "max_seqlen_q, cache.shape[1]", "1, cache.shape[1]", "one row of each request"),
    ("joined", f"{HERE}attend.py", "torch.cat(q, dim=-1)", "torch.cat(q[::-1], dim=-1)", "the rope part comes first"),
    ("sink", f"{HERE}attend.py", "kv_format=kv_format, sink=sink", "kv_format=kv_format", "no sink joins a row"),
    ("sink-merge", f"{HERE}attend.py", "qo_indptr, sink=sink", "qo_indptr", "not where runs are merged"),
    ("rank", f"{HERE}attend.py", "cp_rank=rank", "cp_rank=0", "every rank masks as the first"),
    ("interleave", f"{HERE}attend.py", "cp_interleave=interleave", "cp_interleave=1", "keys are dealt one by one"),
    ("totals", f"{HERE}attend.py", "g_kv_indptr=totals", "g_kv_indptr=None", "a row sees by places in its rank's list"),
    ("off", f"{HERE}vllm/__init__.py", 'if mode == "0":', 'if mode == "off":', "what is turned off goes on"),
    ("custom", f"{HERE}vllm/__init__.py", 'if mode != "custom":', "if mode:",
     "vLLM's own are replaced unasked"),
    ("path", f"{HERE}vllm/__init__.py", ".sparse.SparseMLABackend", ".sparse.SparseBackend", "no such class"),
    ("stub", f"{HERE}sglang/__init__.py", 'is_installed("sglang")', "True", "an import error that says nothing"),
]  # fmt: skip
BUGS = [Bug(f"plugins-{name}", within, old, new, why, "plugins") for name, within, old, new, why in _BUGS]
