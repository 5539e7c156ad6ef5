"""Wrong work items of decode, of the grid and of lists, that the tests must tell from the right ones; see
op_tests/mutants."""

from __future__ import annotations

from bugs import Bug

_FILES = ("test_lists", "test_ranks", "test_bad_arguments")
TESTS = {
    "work-lists": " ".join(f"op_tests/mla_decode/{name}.py" for name in _FILES) + " --device cpu",
    "work-lists-gpu": "op_tests/mla_decode/test_lists.py op_tests/mla_decode/test_ranks.py --device gfx950 -m device",
    "unserved": "op_tests/mla_decode/test_unserved.py --device cpu",
    "work-fast": "op_tests/mla_decode/test_work_fast.py",
    "few-rows": "op_tests/mla_decode/test_heads.py -k few --device cpu",
    "halves": "op_tests/mla_decode/test_mla_decode.py --device gfx942 -k fnuz_fnuz",
    "direct-halves": "op_tests/mla_decode/test_mla_decode.py --device gfx950 -k h128",
    "in-turns": "op_tests/mla_decode/test_mla_decode.py op_tests/mla_decode/test_lists.py --device gfx950 -k fn_fn",
    "unserved-gpu": "op_tests/mla_decode/test_unserved.py --device gfx950 -m device",
}
ITEMS, WORK, OP = "csrc/ops/attention/work_items.h", "csrc/ops/attention/work.h", "csrc/ops/mla_decode/op.c"

GRID, UNSERVED = "csrc/ops/attention/work*.h", "csrc/ops/attention/unserved.h"
#: name, right, wrong, why, tests
_GRID_BUGS = [
    ("queries-low", "ac_clamp64(first, 0, num_rows)", "ac_min64(first, num_rows)", "a negative first row", "bounds"),
    ("queries-high", "ac_clamp64(last, begin, num_rows) - begin", "ac_max64(last, begin) - begin", "rows past q",
     "bounds"),
    ("kv-low", "int64_t begin = ac_clamp64(ac_list_entry(kv->indptr, request), 0, kv->num_indices);",
     "int64_t begin = ac_min64(ac_list_entry(kv->indptr, request), kv->num_indices);", "a negative first page",
     "bounds"),
    ("kv-high", "ac_clamp64(ac_list_entry(kv->indptr, request + 1), begin, kv->num_indices) - begin",
     "ac_max64(ac_list_entry(kv->indptr, request + 1), begin) - begin", "pages past kv_indices", "bounds"),
    ("last-page", "ac_clamp64(ac_list_entry(kv->last_page_lens, request), 0, rows)",
     "ac_min64(ac_list_entry(kv->last_page_lens, request), rows)", "a negative last page", "bounds"),
    ("ragged-count", "0, splits->num_splits);\n    work->begin", "0, INT32_MAX);\n    work->begin",
     "more ragged splits than there is room for", "bounds"),
    ("ragged-none", "if (split >= count) return;", "if (split > count) return;", "one split more than a request has",
     "bounds"),
    ("run-minimum", "granule) * granule, splits->min_rows);", "granule) * granule, 0);",
     "deterministic runs follow the length", "decode"),
    ("unserved-rows", "ac_min64(num_queries, grid->max_seqlen_q) * p->num_heads", "num_queries * p->num_heads",
     "rows past max_seqlen_q are served", "decode"),
]  # fmt: skip
#: The LSE of rows that no request serves: name, file, right, wrong, why.
_UNSERVED_BUGS = [
    ("head", UNSERVED, "if (run == 0 && request != 0) continue;", "if (run == 0) continue;", "rows before the first"),
    ("tail", UNSERVED, "if (request != rows->num_requests - 1) continue;", "continue;", "rows after the last"),
    ("late", UNSERVED, "from = begin + ac_min64(count, rows->max_seqlen_q);", "from = to = begin + count;",
     "rows past max_seqlen_q"),
    ("other", UNSERVED, "if (ac_row_is_served(rows, row)) continue;", "",
     "rows of another request, where the indptr descends"),
    ("split", ITEMS, "if (rest % grid->splits.num_splits != 0) return;", "return;", "nobody fills"),
    ("merge", "csrc/ops/mla_merge/group.h", "-__builtin_inff(), thread, threads);", "0.0f, thread, threads);",
     "stage 2 fills with 0"),
]  # fmt: skip

#: The CPU's engines for few rows: name, file, right, wrong, why.
_FEW = "csrc/ops/attention/cpu/*few*.inc"
_FEW_BUGS = [
    ("totals", _FEW, "total + r * keys,", "total,", "scores of the group's first row"),
    ("group", _FEW, "#define GROUP 4 ", "#define GROUP 5 ", "the fifth row of a group is left out"),
    ("rope", _FEW, "from[i] = key[t + k + i].rope;", "from[i] = key[t + k + i].latent;", "the latent part once more"),
    ("tail", _FEW, "for (int t = num_tokens; t % AC_LANES != 0; t++) score[t] = -INFINITY;", "",
     "zeros past the last key count"),
    ("lanes", _FEW, "local->sum[r] = v_sum(v_load(local->sums + r * AC_LANES));",
     "local->sum[r] = local->sums[r * AC_LANES];", "the sum of every 16th key"),
    ("rescale", _FEW, "local->rescale[r] = lanes[0];", "local->rescale[r] = 1;", "earlier blocks keep their weight"),
    ("top", _FEW, "local->top[r] = v_largest(top);", "local->top[r] = -FLT_MAX;", "probabilities overflow"),
    ("first-row", _FEW, "for (int row = block->first_row; row < walk->rows; row += GROUP)",
     "for (int row = 0; row < walk->rows; row += GROUP)", "rows that do not see the block take it"),
    ("order", _FEW, "acc[i + 2 * j] = split[j];", "acc[i + j] = split[j];", "columns stay apart by even and odd"),
    ("unit", "csrc/ops/attention/cpu/engine.inc", "walk.key_unit = KEY_UNIT(p->kv[0].cache.latent_dtype);",
     "walk.key_unit = 1;", "fp8 over a power of two"),
    # Of bf16 dots alone, which a processor with AVX512-BF16 runs.
    ("dot-partner", _FEW, "keys[2 * unit + 1].latent + byte", "keys[2 * unit].latent + byte", "the first key twice"),
    ("dot-columns", _FEW, "i == 0 ? _mm512_unpacklo_epi16(x, y)", "i == 1 ? _mm512_unpacklo_epi16(x, y)",
     "halves of the columns change places"),
    ("dot-p", _FEW, "(char *)p + 2 * t", "(char *)p + 2 * t + 2", "every weight at the next key"),
    ("dot-stored", _FEW, "from[t] + byte, to + t * WORDS * 4, k", "from[t] + byte, to, k", "fp8 keys upon each other"),
    ("dot-codes", _FEW, "(query, from, byte / 2, to,", "(query, from, byte, to,", "every second fp8 code"),
    ("dot-moved", _FEW, "ac_cpu_move_to_scratch(block, 2, local->keys);\n        next", "next",
     "codes of fp8 as values"),
]  # fmt: skip

#: name, file, right, wrong, why
_BUGS = [
    # The keys of an item.
    (
        "kv-offset",
        ITEMS,
        "begin = ac_clamp64(first + ac_list_entry(item, AC_WORK_KV_BEGIN), 0, kv->num_indices);",
        "begin = ac_clamp64(ac_list_entry(item, AC_WORK_KV_BEGIN), 0, kv->num_indices);",
        "entries are not counted from kv_indptr[0]",
    ),
    (
        "kv-low",
        ITEMS,
        "begin = ac_clamp64(first + ac_list_entry(item, AC_WORK_KV_BEGIN), 0, kv->num_indices);",
        "begin = ac_min64(first + ac_list_entry(item, AC_WORK_KV_BEGIN), kv->num_indices);",
        "entries before kv_indices",
    ),
    (
        "kv-high",
        ITEMS,
        "end = ac_clamp64(first + ac_list_entry(item, AC_WORK_KV_END), begin, kv->num_indices);",
        "end = ac_max64(first + ac_list_entry(item, AC_WORK_KV_END), begin);",
        "entries past kv_indices",
    ),
    ("first", ITEMS, "ac_clamp64(ac_list_entry(kv->indptr, 0), 0, kv->num_indices), entry_rows",
     "ac_list_entry(kv->indptr, 0), entry_rows", "a negative kv_indptr[0] counts"),
    ("own-list", ITEMS, "work->entries = kv->indices + begin;", "work->entries = kv->indices + first;",
     "the first keys"),
    ("kv-end", ITEMS, "work->end = ac_clamp64((end - origin) * entry_rows, work->begin, length);",
     "work->end = length;", "an item that reads its request to the end"),
    ("kv-begin", ITEMS, "work->begin = ac_clamp64((begin - origin) * entry_rows, 0, length);", "work->begin = 0;",
     "an item that reads its request from the first key on"),
    ("pages", ITEMS, "(end - origin) * entry_rows, work->begin", "(end - origin), work->begin",
     "pages count as keys"),
    ("frontier", ITEMS, "ac_list_entry(source->grid.qo_indptr, request + 1)", "ac_list_entry(item, AC_WORK_Q_END)",
     "causal by the last row of the tile"),
    ("total", ITEMS, "work->total = ac_request_total(p, request, length);", "work->total = length;",
     "causal by the keys of the rank"),
    # The rows of an item.
    ("request-high", ITEMS, " || ac_list_entry(item, AC_WORK_REQUEST) >= source->lists.num_requests)", ")",
     "an item of no request reads past the indptrs"),
    ("request-low", ITEMS, "if (ac_list_entry(item, AC_WORK_REQUEST) < 0 || ", "if (", "... or before them"),
    ("request-room", OP, '.num_requests = (int32_t)ac_size(&args->sizes, "B"),',
     '.num_requests = (int32_t)ac_size(&args->sizes, "B") + 1,', "one request too many"),
    ("partial-room", ITEMS, "if (partial >= 0) rows = ac_clamp64(source->lists.num_partials - partial, 0, rows);", "",
     "partials past the last row"),
    ("rows-high", ITEMS, "ac_clamp64(ac_list_entry(item, AC_WORK_Q_END), begin, p->num_rows) - begin",
     "ac_max64(ac_list_entry(item, AC_WORK_Q_END), begin) - begin", "query rows past the last"),
    ("rows-most", ITEMS, "    rows = ac_min64(rows, source->grid.max_seqlen_q);\n", "", "rows from max_seqlen_q on"),
    ("rows-low", ITEMS, "begin = ac_clamp64(ac_list_entry(item, AC_WORK_Q_BEGIN), 0, p->num_rows);",
     "begin = ac_min64(ac_list_entry(item, AC_WORK_Q_BEGIN), p->num_rows);", "query rows before the first"),
    ("final", ITEMS, "partial_row = partial < 0 ? -1", "partial_row = partial <= 0 ? -1", "partial 0 as a final row"),
    ("step", ITEMS, "out->partial_step = 1;", "out->partial_step = 2;", "every second partial row"),
    # The items of a worker.
    ("worker-high", ITEMS, "ac_clamp64(ac_list_entry(lists->work_indptr, worker + 1), begin, lists->num_items) - begin",
     "ac_max64(ac_list_entry(lists->work_indptr, worker + 1), begin) - begin", "items past the last"),
    ("worker-low", ITEMS, "begin = ac_clamp64(ac_list_entry(lists->work_indptr, worker), 0, lists->num_items);",
     "begin = ac_min64(ac_list_entry(lists->work_indptr, worker), lists->num_items);", "items before the first"),
    ("tiles", ITEMS, "done->items++, done->tiles = 0)", "done->items++)", "the next item begins at a later tile"),
    ("tile-step", ITEMS, "done->tiles += source->grid.row_tiles;", "done->tiles += source->grid.row_tiles + 1;",
     "every second tile of an item is left out"),
    ("one-tile", ITEMS, "        done->tiles += source->grid.row_tiles;\n", "        done->items++;\n",
     "one tile of every item"),
    # The host.
    ("sparse-causal", OP, "if (args->max_seqlen_q == 1) p->causal = 0;", "", "a list of its own is masked by places"),
    ("placed-pages", OP, " || entry_rows(args) != 1,", ",", "the last page is read to its end"),
    ("placed-shard", OP, "p->causal || p->shard.stride != 1 ||", "p->causal ||", "the rank's keys without a mask"),
    ("partial-rows", OP, "__builtin_mul_overflow(entries, args->max_seqlen_q, out_rows)",
     "__builtin_mul_overflow(entries, INT64_C(1), out_rows)", "partials of one row each"),
    ("interleave", OP, "(int32_t)args->cp_rank, (int32_t)args->cp_interleave};", "(int32_t)args->cp_rank, 1};",
     "keys are dealt one by one"),
    ("rank", OP, "{(int32_t)args->cp_world_size, (int32_t)args->cp_rank,", "{(int32_t)args->cp_world_size, 0,",
     "every rank is the first"),
    ("global", OP, "p->total_indptr = ac_ints(args->g_kv_indptr);", "p->total_indptr = ac_ints(args->kv_indptr);",
     "the rank's lengths for those of all"),
    ("shard-count", WORK, "(int64_t)rounds * block + ac_clamp64(rest, 0, block);", "(int64_t)rounds * block;",
     "keys of a round that is not full"),
    ("given", OP, "enum { NEEDED = 4 };", "enum { NEEDED = 3 };", "lists without reduce_partial_map"),
    ("folded", OP, "if (item[AC_WORK_REQUEST] >= B && item[AC_WORK_Q_END] > T)",
     "if (0 && item[AC_WORK_REQUEST] >= B && item[AC_WORK_Q_END] > T)", "folded heads are taken"),
    ("tag", OP, "!(ours && tag[1] & AC_WORK_TAG_DETERMINISTIC))", "!ours)", "any plan is deterministic"),
    ("rank-range", OP, 'ac_check_int(op_name, "cp_rank", args->cp_rank, 0, ranks - 1, error)',
     'ac_check_int(op_name, "cp_rank", args->cp_rank, 0, ranks, error)', "a rank past the last"),
]  # fmt: skip

#: Items without divisions: name, right, wrong, why.
_FAST = "csrc/ops/attention/work_fast*.h"
_FAST_BUGS = [
    ("last-item", "if (done->items + 1 == count && ", "if (", "every item is a worker's last"),
    ("last-tile", "(int64_t)(tile + row_tiles) * tile_rows >= pairs", "1", "an item's other tiles are left out"),
    ("guess", "if (!guess || index != worker)", "if (!guess)", "the item of the worker's number, whose it may not be"),
    ("partials", "if (item->partial >= 0) rows =", "if (0) rows =", "partials past the last row"),
    ("frontier", "(ac_clamp32(q_after, 0, all) - begin)", "(q_after - begin)", "causal by rows that are not there"),
    ("origin", "int32_t origin = ac_clamp32(first, 0, entries);", "int32_t origin = first;", "a negative first page"),
]  # fmt: skip

#: gfx942, fp8 of 64 and 128 rows: name, right, wrong, why.
_HALVES = "csrc/ops/attention/gfx9/halves.h"
_HALVES_BUGS = [
    ("slots", "slots = {slots.next_keys, slots.third, slots.keys};",
     "slots = {slots.next_keys, slots.keys, slots.third};", "two slots change places"),
    ("barrier", "if (place.is_first) gpu_barrier();", "", "the first half ends without the second"),
    ("valid-turns", "+ tile % 2 * 4;", ";", "one word for two tiles"),
    ("valid-half", "(a_t::BY_KEYS && !place.is_first ? 8 : 0)", "0", "one word for both halves' tiles"),
    ("block", "lane / 8 * a_t::STRIDE", "lane / 8 * a_t::KEYS", "a half of the keys takes tiles of the other"),
    ("next-block", "mla_advance(kv, a_t::BLOCK * a_t::STRIDE,", "mla_advance(kv, a_t::BLOCK * a_t::KEYS,",
     "... from the second block on"),
    ("valid-tile", "(uint8_t)(stream->valid >> in_block * 8)", "(uint8_t)stream->valid", "the block's first tile"),
    ("no-rope", "if (kv.rope_dim) stream->rope", "stream->rope", "the next row's bytes for a rope part"),
    ("end", "left - first_key - (int64_t)number", "left - (int64_t)number", "the second half's end is too late"),
    ("whole", "left - first_key - masked_tail + ", "left - first_key + ", "the causal tail is whole"),
    ("partner", "const int first = place.part * a_t::HALVES", "const int first = place.part", "other rows' partners"),
    ("columns", "values_at(values, part * 16 + lane % 16, ", "values_at(values, lane % 16 * 4 + part, ",
     "keys change places in V^T"),
]  # fmt: skip

#: gfx950, 128 rows: name, right, wrong, why.
_DIRECT_HALVES = "csrc/ops/attention/gfx9/direct_halves.h"
_DIRECT_HALVES_BUGS = [
    ("stage", "fill_stage(kv, wave, 1 - stage, stream)", "fill_stage(kv, wave, stage, stream)", "over the tile in use"),
    ("barrier", "if (wave < WAVES) gpu_barrier();", "", "the first half ends without the second"),
    ("behind", "if (wave >= WAVES) gpu_barrier(); /*", "/*", "halves in step: a tile is replaced while it is read"),
    ("arrival", "if (wave < WAVES) wait_for_all_but<0>();", "", "keys that have not arrived"),
    ("rope", "(n * tile::ROPE_STEPS + step", "(step", "one group's rope parts for all"),
    ("groups", "p.words[i / COLUMNS * WORDS + w]", "p.words[w]", "16 bits: the first keys' probabilities for all"),
    ("rows", "wave * 16 + recompute", "wave % WAVES * 16 + recompute", "both halves have the first rows' queries"),
]  # fmt: skip

#: gfx950, 64 rows of fp8, eight waves: file, name, right, wrong, why.
_GFX9 = "csrc/ops/attention/gfx9/"
_IN_TURNS_BUGS = [
    ("split_columns", "first-aim", "if (wave < WAVES) aim_spread(kv, wave, stream->stage, stream)",
     "if (wave < WAVES) aim_spread(kv, wave, 1 - stream->stage, stream)", "over the tile that is next"),
    ("split_columns", "second-aim", "if (wave >= WAVES) aim_spread(kv, wave, stream->stage, stream)", "",
     "half of the waves load the same keys again"),
    ("split_columns", "rows", "wave / BLOCKS * HELD : 0", "0 : 0", "the second four waves have the first's rows"),
    ("split_columns", "block", "wave % BLOCKS : wave", "wave : wave", "columns behind the last"),
    ("split_columns", "loads", "spread_loads_at<a_t::SCORE_LOADS, LATER_LOADS, a_t::OWN>(n, wave, stream)", "(void) n",
     "the last chunks of keys are not loaded"),
    ("spread_streams", "arrival", "wait_for_all_but<a_t::IN_TURNS ? 1 : 0>()",
     "wait_for_all_but<a_t::IN_TURNS ? 2 : 0>()", "keys that have not arrived"),
    ("spread_streams", "count", "if constexpr (a_t::IN_TURNS) load_page_ids", "if constexpr (false) load_page_ids",
     "at the end of a list keys that have not arrived"),
    ("spread_streams", "copy", "    copy_spread(wave, *stream);\n    return", "    return", "unaligned rows: no keys"),
]  # fmt: skip

BUGS = [Bug(f"work-{name}", *bug, "work-lists") for name, *bug in _BUGS]
BUGS += [Bug(f"fast-{name}", _FAST, *bug, "work-fast") for name, *bug in _FAST_BUGS]
BUGS += [Bug(name, GRID, *bug) for name, *bug in _GRID_BUGS]
BUGS += [Bug(f"unserved-{name}", *bug, "unserved") for name, *bug in _UNSERVED_BUGS]
BUGS += [Bug(f"few-rows-{name}", *bug, "few-rows") for name, *bug in _FEW_BUGS]
#: The same header in the kernels of a GPU.
BUGS += [
    Bug(f"work-gpu-{name}", *bug, "work-lists-gpu", "mla_decode")
    for name, *bug in _BUGS
    if name in ("kv-end", "tiles", "partial-room", "frontier")
]
BUGS += [
    Bug("unserved-gpu-head", *_UNSERVED_BUGS[0][1:], "unserved-gpu", "mla_decode"),
    Bug("unserved-gpu-merge", *_UNSERVED_BUGS[-1][1:], "unserved-gpu", "mla_merge"),
]
BUGS += [Bug(f"halves-{name}", _HALVES, *bug, "halves", "mla_decode", arch="gfx942") for name, *bug in _HALVES_BUGS]
BUGS += [
    Bug(f"direct-halves-{name}", _DIRECT_HALVES, *bug, "direct-halves", "mla_decode", arch="gfx950")
    for name, *bug in _DIRECT_HALVES_BUGS
]
BUGS += [
    Bug(f"in-turns-{name}", f"{_GFX9}{file}.h", *bug, "in-turns", "mla_decode", arch="gfx950")
    for file, name, *bug in _IN_TURNS_BUGS
]
