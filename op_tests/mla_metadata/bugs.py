"""Wrong plans that the tests of the metadata ops must tell from the right one; see op_tests/mutants."""

from __future__ import annotations

from bugs import Bug

TESTS = {
    "lists": "op_tests/mla_metadata --device cpu",
    "lists-gpu": "op_tests/mla_metadata --device gfx950 -m device",
}
FOLDER = "csrc/ops/mla_metadata"
REQUEST, SCHEDULE, PIECES = (f"{FOLDER}/{name}.h" for name in ("request", "schedule", "pieces"))
OP, SIZES, STAGED, CPU, GPU = (
    f"{FOLDER}/{name}" for name in ("op.c", "sizes.c", "staged.c", "cpu.inc", "mla_metadata.hip")
)
STAGING = "csrc/ops/attention/staging.c"


def _bug(name: str, within: str, old: str, new: str, why: str, **more: str) -> Bug:
    return Bug(f"lists-{name}", within, old, new, why, "lists", **more)


def _gpu(name: str, old: str, new: str, why: str, within: str = GPU, **more: str) -> Bug:
    return Bug(f"lists-gpu-{name}", within, old, new, why, "lists-gpu", "mla_metadata", **more)


BUGS = [
    # Requests and tiles.
    _bug("tile-pairs", SIZES, "max_seqlen_q) / heads, 1);", "max_seqlen_q) / heads + 1, 1);", "129 pairs in a tile"),
    _bug("tile-rows", REQUEST, "- 1) / (uint32_t)tiles.count + 1);", ");", "all rows in every tile"),
    _bug("no-rows", REQUEST, "{rows > 0, rows}", "{1, rows}", "an item for a request without rows"),
    _bug("max-q", REQUEST, "rows = ac_min64(rows, p->max_seqlen_q);", "", "rows past max_seqlen_qo are planned"),
    _bug(
        "rows-descend",
        REQUEST,
        "end = ac_max64(p->qo_indptr[number + 1], begin);",
        "end = p->qo_indptr[number + 1];",
        "a descending qo_indptr",
    ),
    _bug("rows-wrap", REQUEST, "if (end > INT32_MAX) begin = end = 0;", "", "rows that int32 does not count"),
    _bug(
        "list-descends",
        REQUEST,
        "ac_max64(ends.end, begin) - begin;",
        "(int64_t)ends.end - begin;",
        "a descending kv_indptr",
    ),
    _bug(
        "origin",
        REQUEST,
        "(int32_t)(begin - ac_max64(ends.origin, 0))",
        "(int32_t)begin",
        "entries are counted from 0",
    ),
    _bug("topk", REQUEST, "(int32_t)ac_min64(pages, p->topk);", "p->topk;", "lists shorter than topk"),
    _bug(
        "topk-uniform",
        REQUEST,
        "if (p->topk >= 0 && rows == 1)",
        "if (p->topk > 64 && rows == 1)",
        "one token per request in sparse plans",
    ),
    _bug(
        "trim",
        REQUEST,
        "request->tiles.count - 1 - tile : 0",
        "request->tiles.count - tile : 0",
        "a tile's last key is missing",
    ),
    _bug(
        "seen-clamp",
        REQUEST,
        "request->tiles.count - 1 - tile : 0), list.begin);",
        "request->tiles.count - 1 - tile : 0), INT32_MIN);",
        "an item that ends before it begins",
    ),
    # The budget.
    _bug("auto", SCHEDULE, "AC_LIST_PIECE_KEYS 64", "AC_LIST_PIECE_KEYS 60", "another constant than is said"),
    _bug("blocks", SCHEDULE, "(uint32_t)p->granule - 1) /", "(uint32_t)p->granule) /", "a block too many"),
    _bug("fixed-run", REQUEST, "ac_max64(run, AC_FIXED_MIN_KEYS)", "run", "deterministic pieces that are short"),
    _bug("fixed-empty", SCHEDULE, "r->pages > 0 ? (int32_t)", "1 ? (int32_t)", "an empty list has no item"),
    _bug(
        "block-limit",
        SCHEDULE,
        "if (totals->blocks <= AC_LIST_MAX_BLOCKS) return INT32_MAX;",
        "return INT32_MAX;",
        "too many blocks overflow",
    ),
    _bug(
        "splits-items",
        SCHEDULE,
        "splits = ac_min64(splits, (int64_t)p->max_items - tiles + 1);",
        "",
        "more items than the buffer holds",
    ),
    _bug(
        "splits-entries",
        SCHEDULE,
        "ac_max64(p->max_entries / 2, (int64_t)p->max_entries - tiles)",
        "INT32_MAX",
        "more entries than the buffer holds",
    ),
    _bug(
        "splits-none", SCHEDULE, "return (int32_t)ac_max64(splits, 1);", "return (int32_t)splits;", "no worker at all"
    ),
    _bug(
        "share",
        SCHEDULE,
        "total / workers + (total % workers != 0)",
        "total / workers",
        "the last tiles find no worker",
    ),
    _bug("whole-cost", SCHEDULE, "(each - 1) * (uint32_t)p->overhead", "each * (uint32_t)p->overhead", "one item more"),
    _bug("whole-part", SCHEDULE, "share + share / AC_LIST_WHOLE_PART", "share + share", "whole lists at any price"),
    _bug("whole-few", SCHEDULE, "items > workers && (uint64_t)", "(uint64_t)", "whole lists where workers are left"),
    _bug("whole-alike", SCHEDULE, "items == totals->blocks) {", "items > 0) {", "whole lists that are cut"),
    # Pieces.
    _bug("step-full", PIECES, "{{share + (blocks == 0), share", "{{share, share", "an empty list begins a worker"),
    _bug(
        "step-tail", PIECES, "/ (uint32_t)p->granule + 1);", "/ (uint32_t)p->granule + 2);", "a cut just before the end"
    ),
    _bug(
        "step-short",
        PIECES,
        "if (p->tail_keys > 0 && pages < p->tail_keys) last = 0;",
        "if (0) last = 0;",
        "a list shorter than the tail is cut",
    ),
    _bug("used-carry", PIECES, "next < same ? next : same", "same", "a last piece that is not carried on"),
    _bug("used-kept", PIECES, "next < same ? next : same", "next", "every last piece is carried on"),
    _bug("used-after", PIECES, "below > 0 - full ? below : 0 - full;", "below;", "a full worker's blocks go on"),
    _bug("begin-full", CPU, "begin.used >= step.link", "begin.used > step.link", "a full worker begins a tile"),
    _bug(
        "fixed-cost",
        PIECES,
        "(int32_t)(blocks + (int64_t)count * p->overhead)",
        "(int32_t)blocks",
        "items cost nothing of their own",
    ),
    _bug(
        "fixed-worker",
        PIECES,
        "ac_min64(before / (uint32_t)budget->share, p->num_workers - 1)",
        "before / (uint32_t)budget->share + 1",
        "the first worker does nothing",
    ),
    _bug(
        "piece-begin",
        PIECES,
        "(int64_t)piece * budget->share - begin.used",
        "(int64_t)piece * budget->share",
        "cuts that forget what was used",
    ),
    _bug(
        "after-pages",
        PIECES,
        "after = (after - 1) * p->page_size",
        "after = after * p->page_size",
        "keys after a piece, by whole pages",
    ),
    _bug(
        "after-clamp",
        PIECES,
        "ac_clamp64(p->last_page_lens[number], 0, p->page_size)",
        "p->last_page_lens[number]",
        "a last page of any length",
    ),
    _bug("after-wrap", PIECES, "(int32_t)ac_min64(after, INT32_MAX)", "(int32_t)after", "more keys than int32 counts"),
    _bug(
        "after-token",
        PIECES,
        "after += request->num_rows - 1 - tile;",
        "after += 0;",
        "sparse rows forget those after them",
    ),
    # The host.
    _bug(
        "op-rounds",
        OP,
        "args->page_size == 1 && p->topk < 0 && !args->is_cp_round_robin",
        "args->page_size == 1 && p->topk < 0",
        "a shard's tiles leave keys out",
    ),
    _bug("op-sparse-trim", OP, "&& p->topk < 0 && !args", "&& !args", "sparse rows leave keys out"),
    _bug("op-overhead", OP, "ac_ceil_div64(16, args->page_size)", "16", "an item costs as much with pages"),
    _bug(
        "op-topk-pages",
        OP,
        "(int32_t)ac_ceil_div64(args->topk, args->page_size)",
        "(int32_t)args->topk",
        "topk counts pages",
    ),
    _bug(
        "op-cap",
        OP,
        "at_most(splits * requests, INT32_MAX)",
        "at_most(splits, INT32_MAX)",
        "the cap is for the whole batch",
    ),
    _bug("op-tiles", OP, "return check_buffers(args, all, error);", "return 0;", "buffers that are too small pass"),
    _bug(
        "op-fixed-tiles",
        OP,
        "if (args->deterministic) tiles = ac_min64(tiles, ac_min64(items, entries) / AC_FIXED_SPLITS);",
        "",
        "more pieces than the buffers hold",
    ),
    _bug(
        "sizes-tail",
        SIZES,
        "args->result = most_tiles(facts.arch, args->num_heads, args->max_seqlen_q);",
        "args->result = 1;",
        "room for one tile",
    ),
    # The CPU.
    _bug(
        "cpu-partial",
        CPU,
        "lists->partial_rows += request->tiles.rows;",
        "lists->partial_rows += 1;",
        "partials overlap",
    ),
    _bug(
        "cpu-workers",
        CPU,
        "mla_metadata_begin_workers(&lists, p->num_workers);",
        "",
        "workers after the last have stale items",
    ),
    _bug(
        "cpu-tail",
        CPU,
        "i < p->reduce_entries; i++)",
        "i < p->reduce_entries - 1; i++)",
        "the last entry of reduce_indptr is stale",
    ),
    _bug(
        "cpu-tag", CPU, "p->deterministic ? AC_WORK_TAG_DETERMINISTIC : 0", "0", "the tag says nothing of determinism"
    ),
    # The GPU.
    _gpu("chunk", "first += THREADS) planner", "first += 2 * THREADS) planner", "every second chunk of requests"),
    _gpu("deal", "cursor.worker += (int32_t)all[0];", "", "deterministic chunks begin at no cost"),
    _gpu("walk", "cursor.worker += (int32_t)all[3];", "", "chunks begin with the first worker"),
    _gpu("full", "return used < link->full ? used : 0;", "return used;", "a full worker begins a tile", within=PIECES),
    _gpu("full-worker", "walked ? (uint32_t)pieces - 1 + is_full : 0", "(uint32_t)pieces - 1", "full workers go on"),
    _gpu("entries", "entries = add(entries, all[1], MOST);", "", "chunks write over each other's entries"),
    _gpu("rows", "rows = add(rows, all[2], MOST);", "", "chunks share partial rows"),
    _gpu("last-worker", "last_worker = s.last_workers[count - 1];", "", "work_indptr is written again"),
    _gpu("finish", "w <= p.num_workers; w += THREADS)", "w < p.num_workers; w += THREADS)", "the last entry is stale"),
    _gpu(
        "limit",
        "scan<THREADS>(x, limit, s.sums[3], before, all);",
        "scan<THREADS>(x, MOST, s.sums[3], before, all);",
        "more tiles than there is room for",
    ),
    _gpu("owners", "n < end && n < mine + tiles", "n < mine + tiles", "tiles past the chunk"),
    _gpu(
        "barrier",
        "if (from > 0) gpu_barrier(); /* the tiles before are written */",
        "",
        "owners change while they are read",
    ),
    # Both sides.
    Bug(
        "lists-staged-wait",
        STAGING,
        "return wait(staging, error);\n}\n\nint ac_stage_out",
        "return 0;\n}\n\nint ac_stage_out",
        "planned before the lengths are here",
        "lists-gpu",
        harmless="the simulator copies at once",
    ),
    Bug(
        "lists-staged-capture",
        STAGING,
        "if (!capturing) return 0;",
        "return 0;",
        "a copy in a captured graph",
        "lists-gpu",
    ),
    Bug(
        "lists-staged-words",
        STAGED,
        "if (tensor->field == &p->partial_map) return entries;",
        "",
        "stale entries are written",
        "lists-gpu",
    ),
]
