"""Wrong sparse attention that the tests must tell from the right one; see op_tests/mutants."""

from __future__ import annotations

from bugs import Bug

_FILES = " ".join(f"op_tests/sparse_mla/test_{name}.py" for name in ("sparse_mla", "bad_arguments", "memory"))
TESTS = {
    "sparse": f"{_FILES} op_tests/dsa_layer --device cpu",
    "sparse-gpu": "op_tests/sparse_mla/test_sparse_mla.py --device gfx950 -m device",
}
OP, VARIANT, ARG = "csrc/ops/mla_decode/op.c", "csrc/ops/mla_decode/variant.c", "csrc/ops/attention/cache_arg.c"
BLOCK, GRID, WALK = "csrc/ops/attention/cpu/block.c", "csrc/ops/attention/work_grid.h", "csrc/ops/attention/walk.h"
SEGMENTS = "csrc/ops/merge_states/segments.c"
MERGE, GPU_MERGE = "csrc/ops/merge_states/cpu/merge.inc", "csrc/ops/merge_states/*.hip"


def _bug(name: str, within: str, old: str, new: str, why: str, **more: str) -> Bug:
    return Bug(f"sparse-{name}", within, old, new, why, "sparse", **more)


def _gpu(name: str, within: str, old: str, new: str, why: str, code: str = "mla_decode") -> Bug:
    return Bug(f"sparse-gpu-{name}", within, old, new, why, "sparse-gpu", code)


BUGS = [
    # Slots.
    _bug("row", BLOCK, "row = page % kv->page_size;", "row = 0;", "the first row of the slot's page"),
    _bug("page", BLOCK, "page /= kv->page_size;", "", "slots are pages"),
    _bug("entries", ARG, "kv.view->shape[0], slots ? page_size : 1,", "kv.view->shape[0], 1,", "few slots are valid"),
    _bug("entries-more", ARG, "kv.view->shape[0], slots ? page_size : 1,",
         "kv.view->shape[0] + 1, slots ? page_size : 1,", "slots past the cache are read"),
    _bug("entry-rows", ARG, ".entry_rows = slots ? 1 :", ".entry_rows = 0 ? 1 :", "an entry is a page"),
    _bug("placed", OP, "entry_rows(args) != 1,", "args->page_size != 1,", "lists of a plan are masked by places"),
    _bug("splits", OP, "const int64_t keys = product(entries, entry_rows(args));",
         "const int64_t keys = product(entries, args->page_size);", "a plan for more keys than there are",
         harmless="more splits than fit, of which the last are empty"),
    _bug("last-page", OP, "if (entry_rows(args) == 1 || args->kv_lens)", "if (args->page_size == 1 || args->kv_lens)",
         "lengths of last pages are asked for"),
    # Tables.
    _bug("table-width", GRID, "request), 0, most) : most;", "request), 0, most) : 0;",
         "a table without lengths is empty"),
    _bug("table-rows", GRID, "*out_entries = kv->indices + request * kv->table_stride;",
         "*out_entries = kv->indices + request * kv->table_width;", "rows of a table are dense"),
    # Sinks of mla_decode_fwd.
    _bug("sink-direct", OP, "if (!args->sink || !final) return 0;", "return 0;", "rows of one split without the sink"),
    _bug("sink-twice", OP, "if (!args->sink || !final) return 0;", "if (!args->sink || !args->lse) return 0;",
         "rows of several splits get it before the merge as well"),
    _bug("sink-merge", "csrc/ops/mla_decode/stage2.c", "return args->sink ? ac_apply_sink", "return 0 ? ac_apply_sink",
         "rows of several splits without the sink"),
    _bug("sink-reduce", "csrc/ops/mla_reduce/op.c", "    if (!args->sink) return 0;\n", "    return 0;\n", "by lists"),
    _bug("sink-keeps", "csrc/ops/merge_states/sink.c", ".keep_empty = 1,", ".keep_empty = 0,",
         "rows of nobody become 0"),
    _bug("sink-in-lse", MERGE, "if (!p->sink || !p->sink_in_lse) return (float)lse;", "if (1) return (float)lse;",
         "the LSE leaves the sink out"),
    _bug("sink-larger", MERGE, "larger = sink > lse ? sink : lse;", "larger = lse;", "a sink far above the LSE",
         harmless="log1p of a large exponential is right as well, while it fits fp64"),
    _bug("sink-lse", OP, " || args->sink != NULL;", ";", "no LSE for the sink"),
    _bug("sink-checked", OP, '    RULE(sink, FLOATS, "H", AC_DENSE_ROWS | AC_MAY_BE_NONE),\n', "",
         "a wrong sink is seen after the output is written"),
    # Segments for the merge.
    _bug("unit", OP, "p->lse_unit = base_2 ? 1 :", "p->lse_unit = args->segmented ? 1 :", "states in base 2"),
    _bug("cut", OP, ".segments = !args->segmented ? AC_MLA_NO_SEGMENTS", ".segments = 1 ? AC_MLA_NO_SEGMENTS",
         "partials for segments"),
    _bug("wide", VARIANT, "if (args->slots && args->o) ac_view_narrow(args->o, AC_MLA_DV);", "", "a wide output"),
    _bug("wide-merge", SEGMENTS, "ac_view_narrow(args->out, args->segments->shape[3]);", "(void)0;", "a wide output"),
    _bug("second", SEGMENTS, "if (R > 0) p.sources[1] =", "if (R > 0) p.sources[0] =", "one list twice"),
    _bug("count", SEGMENTS, ".num_states = S + R,", ".num_states = S,", "the second list is left out"),
    _bug("before", SEGMENTS, "(intptr_t)segments->data - before * state", "(intptr_t)segments->data",
         "states of the second list from the wrong place"),
    _bug("before-lse", SEGMENTS, "(intptr_t)lse->data - before * 4", "(intptr_t)lse->data", "their weights as well"),
    _bug("together", SEGMENTS, ".together = S,", ".together = S + R,", "the first list goes on"),
    _bug("sink-out", SEGMENTS, ".sink_in_lse = 1,", ".sink_in_lse = 0,", "the LSE leaves the sink out"),
    _bug("nan", SEGMENTS, ".spreads_nan = 1,", ".spreads_nan = 0,", "a list whose LSE is NaN is left out"),
    _bug("memory", SEGMENTS, "ac_check_own_memory(op_name, args, rules, RULES, error) < 0", "0", "out over a segment",
         harmless="segments are fresh, and out over an input is found before"),
    _bug("source", MERGE, "p->together ? state >= p->together : state", "p->together ? 0 : state", "one list alone"),
    # The same on a GPU.
    _gpu("row", WALK, "return (mla_place_t){page, entry - page * kv.page_size};", "return (mla_place_t){page, 0};",
         "the first row of the slot's page"),
    _gpu("before", WALK, "return kv.entry_rows == 1 ? rows :", "return kv.entry_rows == 2 ? rows :",
         "a key in page_size entries"),
    _gpu("end", WALK, "location.entry >= 0 && location.entry < kv.num_entries;", "location.entry >= 0;",
         "slots past the cache"),
    _gpu("source", GPU_MERGE, "p.together ? state >= p.together : state", "p.together ? 0 : state", "one list alone",
         "merge_states"),
    _gpu("sink-larger", GPU_MERGE, "larger = is_less ? sink : lse, smaller = is_less ? lse : sink;",
         "larger = lse, smaller = lse;", "a sink above the LSE", "merge_states"),
    _gpu("sink-keeps", GPU_MERGE, "if (is_kept()) return;", "", "rows of nobody become 0", "merge_states"),
    _gpu("nan", GPU_MERGE, "if (p.spreads_nan) return;", "", "a list whose LSE is NaN is left out", "merge_states"),
]  # fmt: skip
