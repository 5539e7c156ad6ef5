"""Wrong conversions that the tests must tell from the right one; see op_tests/mutants. The first is ATOM #1391."""

from __future__ import annotations

from bugs import Bug

TESTS = {
    "index": "op_tests/index_conversion --device cpu",
    "index-gpu": "op_tests/index_conversion --device gfx950 -m device",
}
_HERE = "csrc/ops/index_conversion/"
OP, CPU, GPU, COMMON = f"{_HERE}op.c", f"{_HERE}cpu.inc", f"{_HERE}*.hip", f"{_HERE}kernel_params.h"

_STALE = "    set_lists(args, args->page_kv_indptr);\n"
_REQUEST = "if (request < 0 || request >= p->num_requests) return none;"

#: name, file, right, wrong, why
_BUGS = [
    ("stale", OP, _STALE, _STALE + "    args->params.requests = ac_ints(args->qo_indptr);\n", "the row of qo_indptr"),
    ("rows", OP, "ac_min64(ac_size(sizes, \"P\"), ac_size(sizes, \"rows\"))", "ac_size(sizes, \"P\")", "its rows"),
    ("rows-q", OP, 'ac_min64(ac_min64(ac_size(sizes, "Q"), ac_size(sizes, "B")),', 'ac_min64(ac_size(sizes, "B"),',
     "rows without a place in qo_indptr"),
    ("rows-gather", OP, "\"P\"), ac_min64(ac_size(sizes, \"T\"), ac_size(sizes, \"rows\"))",
     "\"P\"), ac_size(sizes, \"T\")",
     "... of it"),
    ("fresh", OP, "out->data, UINT32_MAX, size,", "out->data, 0, size,", "slot 0 where no range is"),
    ("fresh-check", OP, "if (ac_check_tensors(args, rule, 1, &args->sizes, error) < 0) return -1;", "", "any memory"),
    ("stride", OP, "p->page_stride_rows = (int32_t)page_stride_rows;", "p->page_stride_rows = p->page_size;",
     "dense blocks"),
    ("stride-least", OP, "stride, args->BLOCK_SIZE, INT32_MAX,", "stride, 1, INT32_MAX,", "blocks that overlap"),
    ("table-stride", OP, "p->pages_stride = ac_stride_bytes(args->block_table, 0);",
     "p->pages_stride = 4 * p->num_pages;", "a dense table"),
    ("out-stride", OP, "p->out_indptr ? 0 : ac_stride_bytes(out, 0);", "4 * p->columns;", "dense rows of out"),
    ("tiles", OP, "ac_ceil_div64(columns, AC_INDEX_TILE)", "(columns / AC_INDEX_TILE + (columns < AC_INDEX_TILE))",
     "the last columns of wide rows"),
    ("zero", COMMON, "return page < 0 || slot > INT32_MAX ? -1 : (int32_t)slot;",
     "return page < 0 || slot > INT32_MAX ? 0 : (int32_t)slot;", "slot 0 for what is invalid"),
    ("wraps", COMMON, "return page < 0 || slot > INT32_MAX ? -1", "return page < 0 ? -1", "a slot that wraps"),
    ("request", COMMON, _REQUEST, "if (request >= p->num_requests) return none;", "request -1 reads before the table"),
    ("request-past", COMMON, _REQUEST, "if (request < 0) return none;", "a request past the last"),
    ("list-clamp", COMMON, "ac_clamp64(ac_list_entry(indptr, i), 0, size)", "ac_list_entry(indptr, i)", "any begin"),
    ("list-end", COMMON, "ac_clamp64(ac_list_entry(indptr, i + 1), begin, size)",
     "ac_max64(ac_list_entry(indptr, i + 1), begin)", "any end"),
    ("columns", COMMON, "target.count = ac_min64(run.length, p->columns);", "target.count = run.length;", "past rows"),
    ("page-row", COMMON, "*out_row = (uint32_t)position - page * size;", "*out_row = 0;", "the first row of a page"),
    ("firsts", OP, "    p->firsts = ac_ints(args->cu_seqlens_q);\n", "", "numbers of keys as positions"),
    ("firsts-requests", OP, "ac_min64(ac_size(sizes, \"R\"), ac_size(sizes, \"S\"))", "ac_size(sizes, \"R\")",
     "requests past cu_seqlens_q"),
    ("firsts-below", COMMON, "entry > 0 ? entry : 0};", "entry};", "a position that wraps"),
    ("rows-prefill", OP, "ac_min64(ac_size(sizes, \"T\"), ac_size(sizes, \"rows\")));\n    p->requests",
     "ac_size(sizes, \"T\"));\n    p->requests", "rows past topk_indices"),
    ("position", CPU, "if (position >= 0 && position < pages.positions) {", "if (position < pages.positions) {", "-1"),
    ("position-past", CPU, "if (position >= 0 && position < pages.positions) {", "if (position >= 0) {", "past lists"),
    ("invalid", CPU, "int32_t slot = -1;", "int32_t slot = 0;", "slot 0 for what is no position"),
    ("tail", CPU, "for (; count < target.count; count++) target.slots[count] = -1;", "", "stale slots after the last"),
    ("place", CPU, "c < p->columns && count < target.count;", "c < p->columns;", "more slots than the range has"),
    ("negative", CPU, "target.slots[count++] = slot < 0 ? -1 : slot;", "target.slots[count++] = slot;", "below -1"),
    ("packed", CPU, "if (slot != -1) target", "target", "nothing is left out"),
]  # fmt: skip

_GPU_BUGS = [
    ("position", "if (position < 0 || position >= pages.positions) continue;",
     "if (position >= pages.positions) continue;", "-1 as a position"),
    ("position-past", "if (position < 0 || position >= pages.positions) continue;", "if (position < 0) continue;",
     "any position"),
    ("invalid", "page[i] = -1;", "page[i] = 0;", "slot 0 for what is no position"),
    ("entry", "return c < end ? gpu_entry(entries + c) : -1;", "return gpu_entry(entries + c);",
     "columns past the row"),
    ("target", "if (c < target.count) gpu_store(", "gpu_store(", "writes past the range"),
    ("row", "row = gpu_block() / tiles, tile", "row = gpu_block() % (gpu_block() / tiles + 1), tile", "another row"),
    ("waves", "if (i == number && w == gpu_thread() / GPU_WAVE) before = all;",
     "if (i == number && w == 0) before = all;",
     "every wave begins where the first does"),
    ("buffers", "shared.counts[first / AC_INDEX_TILE % 2]", "shared.counts[0]", "counts that are still read"),
    ("written", "            written += all;\n", "            written = all;\n", "the columns before the last ones"),
    ("place", "if (slots[i] != -1 && at < target.count) gpu_store", "if (slots[i] != -1) gpu_store", "past the range"),
    ("tail", "for (int64_t at = written + gpu_thread(); at < target.count;", "for (int64_t at = written; at < 0;",
     "stale slots after the last"),
    ("negative", "gpu_store(target.slots + at, slots[i] < 0 ? -1 : slots[i]);",
     "gpu_store(target.slots + at, slots[i]);",
     "below -1"),
]  # fmt: skip

BUGS = [Bug(f"index-{name}", within, old, new, why, "index") for name, within, old, new, why in _BUGS]
BUGS += [
    Bug(f"index-gpu-{name}", GPU, old, new, why, "index-gpu", "index_conversion") for name, old, new, why in _GPU_BUGS
]
BUGS += [
    Bug(f"index-gpu-common-{name}", COMMON, old, new, why, "index-gpu", "index_conversion")
    for name, within, old, new, why in _BUGS
    if name in ("request", "request-past", "list-clamp", "list-end", "columns", "zero")
]
BUGS.append(
    Bug(
        "index-descends",
        COMMON,
        "ac_clamp64(ac_list_entry(indptr, i + 1), begin, size)",
        "ac_min64(ac_list_entry(indptr, i + 1), size)",
        "a descending indptr has a length below 0",
        "index",
        harmless="every loop and comparison takes a length below 0 for none",
    )
)
