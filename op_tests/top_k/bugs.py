"""Wrong programs that the tests of top-k must tell from the right one; see op_tests/mutants. The CPU's kernels are
tried on the best path of the machine, those of GPUs on gfx950."""

from __future__ import annotations

from bugs import Bug

TESTS = {
    "top_k": "op_tests/top_k --device cpu",
    "top_k-gpu": "op_tests/top_k/test_top_k.py --device gfx950 -m device",
}

_HERE = "csrc/ops/top_k/"
SELECT, RANKS, ITEMS = f"{_HERE}cpu/select.inc", f"{_HERE}cpu/ranks.inc", f"{_HERE}cpu.inc"
WINDOWS, HOST, GPU = f"{_HERE}kernel_params.h", f"{_HERE}op.c", f"{_HERE}top_k.hip {_HERE}ranks.h"

#: name, file, right, wrong, why
_BUGS = [
    ("nan-bits", RANKS, "return (rank & ~nan) | (nan & INT32_MIN);", "return rank;", "NaN ranks as its bits say"),
    ("nan-infinity", RANKS, "(nan & INT32_MIN)", "(nan & (int32_t)0x807fffff)", "NaN ranks with -inf"),
    ("zeros-equal", RANKS, "return (rank & ~nan) |", "return ((rank - (rank == -1)) & ~nan) |", "-0 ranks with +0"),
    ("infinity-nan", RANKS, "> TOP_K_INFINITY;", ">= TOP_K_INFINITY;", "an infinity counts as NaN"),
    (
        "subnormals",
        RANKS,
        "rank = bits ^",
        "rank = (bits & ~((bits & 0x7f800000) == 0 & 0x7fffff)) ^",
        "subnormals count as zero",
    ),
    ("tail-lane", SELECT, "*out_lanes = (1u << n) - 1;", "*out_lanes = (2u << n) - 1;", "a lane past the row"),
    ("tail-read", SELECT, "(size_t)n * sizeof *tail);", "sizeof tail);", "a whole vector is read at the row's end"),
    ("counts-stale", SELECT, "    memset(local->counts, 0, sizeof local->counts);\n", "", "counts of the last pass"),
    (
        "lowest-digit",
        SELECT,
        "counted - local->counts[lowest] >=",
        "counted - local->counts[lowest] + 1 >=",
        "the lowest digit rises too far",
    ),
    ("wanted-above", SELECT, "range->wanted -= counted - range->count;", "", "what ranks above is wanted again"),
    ("last-bit", SELECT, "shift - AC_TOP_K_DIGIT_BITS : 0;", "shift - AC_TOP_K_DIGIT_BITS : 1;", "a bit never counts"),
    ("passes", SELECT, "for (int shift = 32; shift > 0 &&", "for (int shift = 32; shift > 12 &&", "passes are missing"),
    ("early-end", SELECT, "range.count > range.wanted;)", "range.count > range.wanted + 1;)", "a pass too few"),
    (
        "ties-last",
        SELECT,
        "lanes &= ~(1u << (31 - __builtin_clz(lanes)));",
        "lanes &= lanes - 1;",
        "of equal ones the last of a vector",
    ),
    ("ties-limit", SELECT, "within = top_k_first_lanes(within, range->wanted);", "", "more ties than wanted"),
    ("ties-count", SELECT, "range->wanted -= __builtin_popcount(within);", "", "ties of every vector"),
    (
        "range-end",
        SELECT,
        "top_k_at_least(ranks, range->end) & lanes;",
        "top_k_at_least(ranks, range->end - 1) & lanes;",
        "twice",
    ),
    (
        "block",
        SELECT,
        "length = top_k_min(columns.end - at, AC_TOP_K_BLOCK);",
        "length = top_k_min(columns.end - at, AC_TOP_K_BLOCK - 1);",
        "a column of every block is lost",
    ),
    ("block-base", SELECT, "columns[i] = (int32_t)begin + i;", "columns[i] = i;", "columns count from the block"),
    ("window-base", SELECT, "out[i] = (int32_t)(columns.begin + i);", "out[i] = (int32_t)i;", "... from the window"),
    ("pad-zero", ITEMS, "indices[i] = -1;", "indices[i] = 0;", "0 for -1"),
    ("pad-past", ITEMS, "i < p->k; i++) indices[i] = -1;", "i <= p->k; i++) indices[i] = -1;", "-1 past k"),
    ("pad-values", ITEMS, "i < p->k; i++) values[i] = 0;", "i < p->k - 1; i++) values[i] = 0;", "stale values"),
    ("values-row", ITEMS, "p->values + number * p->values_stride", "p->values", "values of all rows in the first"),
    ("merge-places", ITEMS, "merges ? p->candidate_indices + first_candidate : NULL", "NULL", "places, not columns"),
    (
        "merge-row",
        ITEMS,
        "const int64_t first_candidate = number * p->parts * p->part_k;",
        "const int64_t first_candidate = 0;",
        "every row merges the candidates of the first",
    ),
    ("begin-clamp", WINDOWS, "if (begin < 0) begin = 0;", "", "rowStarts below 0"),
    ("end-clamp", WINDOWS, "if (end > p->columns) end = p->columns;", "", "rowEnds past the columns"),
    ("reversed", WINDOWS, "{begin < end ? begin : 0, begin < end ? end : 0}", "{begin, end}", "a reversed window"),
    ("decode-mask", WINDOWS, "= (request + 1) * p->next_n - 1 - row;", "= 0;", "every token sees all"),
    ("decode-one", WINDOWS, "* p->next_n - 1 - row;", "* p->next_n - row;", "one column less"),
    (
        "decode-wrap",
        WINDOWS,
        "end = ac_list_entry(p->ends, request) - hidden;",
        "end = (int32_t)((uint32_t)p->ends[request] - (uint32_t)hidden);",
        "a length near -2**31 wraps",
    ),
    ("part-short", WINDOWS, "return share > p->part_k ? share : p->part_k;", "return share;", "gaps in candidates"),
    ("part-round", WINDOWS, "+ p->parts - 1) / p->parts;", ") / p->parts;", "the last columns are in no part"),
    ("part-rest", WINDOWS, "(rest < p->part_k ? rest : p->part_k)", "rest", "more candidates than there are"),
    ("rows", HOST, ".grid = args->num_rows *", ".grid = args->logits->shape[0] *", "rows after numRows are served"),
    ("stride", HOST, 'if (check_stride(op, "stride0"', 'if (0 && check_stride(op, "stride0"', "any stride0 passes"),
    ("requests", HOST, "args->next_n + rest", "args->next_n + 0 * rest", "a length too few passes"),
    ("parts-never", HOST, "return parts > 1 ? (int32_t)parts : 1;", "return parts > 1 ? 1 : 1;", "one thread"),
    (
        "scratch-shape",
        HOST,
        "if (ac_check_tensors(args, candidate_rules, 2,",
        "if (0 && ac_check_tensors(args, candidate_rules, 2,",
        "scratch that is too small passes",
    ),
    (
        "shared-scratch",
        HOST,
        "return ac_check_own_memory(args->sizes.op",
        "return 0 && ac_check_own_memory(args->sizes.op",
        "scratch in the logits passes",
    ),
]

#: name, right, wrong, why; in the kernels of GPUs
_GPU = [
    ("nan", "(bits & 0x7fffffffu) > 0x7f800000u ? 0 : rank;", "rank;", "NaN ranks as its bits say"),
    ("nan-infinity", "(bits & 0x7fffffffu) > 0x7f800000u", "(bits & 0x7fffffffu) >= 0x7f800000u", "infinities are NaN"),
    ("counts-stale", "counted = 0; /* for the next digit */", "", "counts of the last digit"),
    ("above", "bound.ties -= s.above;", "", "what ranks above is wanted again"),
    ("prefix", "if (high < 32 && (rank ^ prefix) >> high != 0) continue;", "", "ranks of other prefixes count"),
    ("ties", "kept |= votes & -votes;", "kept |= votes;", "more ties than wanted"),
    ("ties-round", "seen += all;", "", "ties of every round"),
    ("round", "written += all;", "", "a round writes over the one before"),
    ("run-end", "end < from.length ? end : from.length", "end", "columns past the window"),
    ("first", "out.first + (int32_t)place", "(int32_t)place", "columns count from the window"),
    ("pad", "uint32_t at = written + gpu_thread(); at", "uint32_t at = written + 1 + gpu_thread(); at", "a stale pad"),
    ("pad-zero", "gpu_store(out.indices + at, -1);", "gpu_store(out.indices + at, 0);", "0 for -1"),
    ("values-row", "p.values + number * p.values_stride", "p.values", "values of all rows in the first"),
    ("part", "ac_top_k_part(&p, window, item % p.parts)", "ac_top_k_part(&p, window, 0)", "every part is the first"),
    ("merge", "out.columns_of = p.candidate_indices + first;", "out.columns_of = p.candidate_indices;",
     "the first row's"),
    ("list-race", "            written += all;\n            gpu_barrier();", "            written += all;",
     "the list is read before it is there"),
]  # fmt: skip

BUGS = [Bug(f"top-k-gpu-{name}", GPU, old, new, why, "top_k-gpu", code_object="top_k") for name, old, new, why in _GPU]
BUGS += [Bug(f"top-k-{name}", within, old, new, why, "top_k") for name, within, old, new, why in _BUGS] + [
    Bug(
        "top-k-short-window",
        SELECT,
        "if (n <= k) {",
        "if (n <= k - 2) {",
        "short windows are read",
        "top_k",
        harmless="the passes find the same columns: the branch saves them the reading",
    ),
    Bug(
        "top-k-nothing",
        HOST,
        "|| args->k == 0) return 0;",
        ") return 0;",
        "a call for no columns is launched",
        "top_k",
        harmless="it writes nothing",
    ),
]
