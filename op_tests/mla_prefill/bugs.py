"""Wrong prefills and plans that the tests of prefill must tell from the right ones; see op_tests/mutants."""

from __future__ import annotations

from bugs import Bug

TESTS = {
    "prefill": "op_tests/mla_prefill --device cpu",
    "prefill-gpu": "op_tests/mla_prefill --device gfx950 -m device",
}
_HERE = "csrc/ops/mla_prefill/"
OP, TILE, TILES = (f"{_HERE}{name}" for name in ("op.c", "tile.h", "tiles.h"))
ENGINE, BLOCK, BF16, F32 = (f"{_HERE}cpu/{name}.inc" for name in ("engine", "block", "bf16", "engine_f32"))
_PLAN = "csrc/ops/ps_metadata/"
SCHEDULE, PLAN_CPU, PLAN_OP, PLAN_GPU = (
    f"{_PLAN}{name}" for name in ("schedule.h", "cpu.inc", "op.c", "ps_metadata.hip")
)

#: name, file, right, wrong, why
_BUGS = [
    # ROCm/aiter#3606: a tile that no split touches gets no final LSE.
    ("3606", OP, 'float *lse = AC_FAULT("no_lse_of_whole_tiles") ? NULL : params.lse;',
     "float *lse = has_lists(args) ? NULL : params.lse;", "3606: the LSE of whole tiles is not written"),
    ("3606-groups", SCHEDULE, "return pieces > 1 || p->need_lse; }", "return pieces > 1; }",
     "3606: need_lse makes no groups of one partial"),
    ("3606-scratch", OP, "__builtin_mul_overflow(ac_min64(tiles, entries), AC_PREFILL_ITEM_ROWS, &out)",
     "__builtin_mul_overflow(entries, AC_PREFILL_ITEM_ROWS, &out)", "3606's fix: scratch by the size of the map"),
    # Arguments.
    ("scale", OP, "1.0 / sqrt((double)D)", "1.0 / sqrt((double)ac_size(&args->sizes, \"Dv\"))", "AITER's scale"),
    ("unowned-lse", OP, "if (params.lse && /*", "if (0 && /*", "the LSE of rows of nobody is not written"),
    ("v-scale", OP, "ac_scale_for(&args->v_scale, args->V->dtype, device)", "(ac_scale_t){NULL, 1}", "no v_scale"),
    ("causal", OP, "p->causal = args->is_causal;", "p->causal = 1;", "is_causal=False is ignored"),
    ("slots", OP, "p->num_slots = N;", "p->num_slots = N + 1;", "one slot past the last is read"),
    ("indices", OP, 'args->kv_page_indices ? ac_size(&args->sizes, "n") : N', "N", "entries past the list are read"),
    ("together", OP, "const int needed = reduces ? 4 : 2;", "const int needed = 2;", "lists without their groups"),
    ("served", OP, "p->max_seqlen_q = (int32_t)ac_min64(args->max_seqlen_q, T);", "p->max_seqlen_q = (int32_t)T;",
     "rows from max_seqlen_q on are served"),
    # Tiles.
    ("diagonal", TILE, "request->keys - request->rows + from + 1;", "request->keys - request->rows + from + 2;",
     "a row sees the next token"),
    ("alignment", TILE, "request->keys - request->rows + from + 1;", "from + 1;", "top-left causal"),
    ("group", TILE, "out->kv_head = head / p->group_size;", "out->kv_head = head % p->num_kv_heads;", "heads of K"),
    ("partial-row", TILES, "item.partial_row + (from - item.from);", "item.partial_row;", "later tiles of an item"),
    ("request", TILES, "if (number < 0 || number >= p->num_requests) return 0;",
     "if (number < 0 || number > p->num_requests) return 0;", "an item of the request after the last"),
    ("past-partials", TILES, "if (partial >= 0) rows = ac_clamp64(p->num_partials - partial, 0, rows);", "",
     "rows past the partials are written"),
    ("heads-clamp", TILES, "ac_clamp64(heads >> 16, begin, p->num_heads);", "(heads >> 16);", "heads past the last"),
    ("keys-clamp", TILES, "out->end = ac_clamp64(ac_list_entry(item, AC_WORK_KV_END) - r.entry, out->begin, r.keys);",
     "out->end = ac_max64(ac_list_entry(item, AC_WORK_KV_END) - r.entry, out->begin);", "keys past the request"),
    # The arithmetic on the CPU.
    ("masked", BLOCK, "if (slot < 0 || slot >= p->num_slots) continue;", "if (slot < 0) continue;", "past K and V"),
    ("mask", ENGINE, "r < end; r++) local->scores", "r < end - 1; r++) local->scores", "the diagonal is one off"),
    ("nan", ENGINE, "|| ENGINE(is_finite)(p, out)) return;", "|| 1) return;", "0 * NaN reaches rows that see no NaN"),
    ("empty", ENGINE, "const float lse = empty ? -INFINITY :", "const float lse = empty ? INFINITY :", "+inf"),
    ("value-scale", ENGINE, "v_set1(empty ? 0 : value_scale / sum)", "v_set1(empty ? 0 : 1 / sum)", "of the values"),
    ("lse-base", ENGINE, "log2(sum)) * AC_LN_2)", "log2(sum)))", "the LSE is in base 2"),
    # The plan.
    ("units", SCHEDULE, "ac_max64((int64_t)r->keys - r->num_rows + end, 0)", "((int64_t)r->keys - r->num_rows + end)",
     "Q18: units below 0"),
    ("no-keys", SCHEDULE, "{units > 0 ? units : tiles, 0, 0, units == 0}", "{units > 0 ? units : 1, 0, 0, 0}",
     "Q18: nothing sees a key, one worker has everything"),
    ("visits", SCHEDULE, "visit % 2 == 0 ? visit / 2 : r->tiles - 1 - visit / 2;", "visit;", "tiles in order"),
    ("longer", SCHEDULE, "+ ac_min64(worker, shares->longer);", ";", "the rest of the units is nobody's"),
    ("after", SCHEDULE, "is_last ? 0 : (int32_t)ac_max64(", "(int32_t)ac_max64(", "keys after a tile's last piece"),
    ("page-end", SCHEDULE, "end = ac_min64(r->page_begin + end * p->unit_pages, r->page_end);",
     "end = r->page_begin + end * p->unit_pages;", "pages of the next request"),
    ("whole", PLAN_CPU, "whole = counts->split_pieces;", "whole = 0;", "whole tiles share their partials with pieces"),
    ("clusters", PLAN_CPU, "(cluster * counts->pieces + first) * p->heads", "first * p->heads", "one cluster's items"),
    ("clear", PLAN_CPU, "ps_clear(p->partial_map, entries, p->max_entries);", "", "stale entries"),
    ("buffers", PLAN_OP, "return on_host && check_buffers(p, error) < 0 ? -1 :", "return 0 ? -1 :", "too small"),
    ("pointers", f"{_PLAN}params.inc", 'N(work_metadata_ptrs, , IGNORED, "not touched")',
     'P(staging, , TENSOR, AC_OPTIONAL, "not touched")', "work_metadata_ptrs is looked at"),
]  # fmt: skip

#: Of the planner on GPUs.
_GPU_BUGS = [
    ("barrier", "planner.find_workers();\n    gpu_global_barrier();", "planner.find_workers();", "workers not there"),
    ("notes", "planner.write_items();\n    gpu_global_barrier();", "planner.write_items();", "notes not there"),
    ("place", "place += all[0];", "", "tiles of later requests overwrite the notes of the first"),
    ("last", "last_worker = s.last_workers[mine.count - 1];", "last_worker = -1;", "first pieces of a later chunk"),
    ("singles", "singles += count - all;", "", "whole tiles of later chunks have the partials of the first"),
    ("bound", "if (at < 0 || at >= p.max_items) return;", "", "items past the buffer"),
    ("entries", "i < count && entry + i < p.max_entries; i++)", "i < count; i++)", "entries past the buffer"),
]  # fmt: skip

#: Of the kernels of gfx950.
STREAM, ATTEND, FINISH, AMD = (f"{_HERE}{name}.h" for name in ("gfx9/stream", "gfx9/attend", "gfx9/finish", "gfx9"))
_GFX9_BUGS = [
    ("past-end", STREAM, "(int32_t)row >= from || slot < 0", "slot < 0", "rows past the last key are read"),
    ("pool", STREAM, "slot >= source.num_slots ? -1", "slot > source.num_slots ? -1", "the slot after the last"),
    ("run", STREAM, "slot < 0 || slot != run + (int)row", "slot < 0", "any slots are taken for a run"),
    ("wait", STREAM, "wait_for_all_but<FLYING * ROW_LOADS>", "wait_for_all_but<FLYING * ROW_LOADS + 1>",
     "the last row is not waited for"),
    ("diagonal", ATTEND, "sub * 32 + key < seen &&", "sub * 32 + key <= seen &&", "a row sees the next key"),
    ("valid", ATTEND, " && (valid >> key & 1)", "", "masked keys have a score of 0"),
    ("skip", ATTEND, "keys.left - key > rows.hidden_least", "keys.left - key > rows.hidden_most", "rows lose keys"),
    ("base", ATTEND, "if (gpu_any(sum > ", "if (0 && gpu_any(sum > ", "the base never moves"),
    ("nonfinite", ATTEND, "nonfinite = gpu_any(nonfinite);", "nonfinite = false;", "0 * NaN reaches rows"),
    ("half", FINISH, "rows.softmax.sum + other_half(rows.softmax.sum)", "rows.softmax.sum", "half of a row's sum"),
    ("partial", FINISH, "(is_final ? tile.row : tile.partial_row) + r", "tile.row + r", "partials elsewhere"),
    ("tiles", AMD, "gpu_barrier(); /* the next tile takes the same LDS */", "", "the next tile overwrites the last"),
]  # fmt: skip
_HIDDEN = {"past-end": "their place hides them, whatever they hold"}
_UNSEEN = dict.fromkeys(("barrier", "notes"), "the simulator stores at once")

BUGS = [Bug(f"prefill-{name}", within, old, new, why, "prefill") for name, within, old, new, why in _BUGS]
BUGS += [
    Bug(f"prefill-plan-gpu-{name}", PLAN_GPU, old, new, why, "prefill-gpu", "ps_metadata", _UNSEEN.get(name, ""))
    for name, old, new, why in _GPU_BUGS
]
BUGS += [
    Bug(f"prefill-gfx9-{name}", within, old, new, why, "prefill-gpu", "mla_prefill", _HIDDEN.get(name, ""))
    for name, within, old, new, why in _GFX9_BUGS
]
