"""Wrong writes and reads of the indexer's cache that the tests must tell from the right ones; see op_tests/mutants."""

from __future__ import annotations

from bugs import Bug

TESTS = {
    "indexer": "op_tests/indexer_cache op_tests/cache_write/test_bad_arguments.py --device cpu",
    "indexer-gpu": "op_tests/indexer_cache --device gfx950 -m device",
}
_HERE = "csrc/ops/indexer_cache/"
OP, WRITE, GATHER, GPU = f"{_HERE}op.c", f"{_HERE}cpu/write.inc", f"{_HERE}cpu/gather.inc", f"{_HERE}*.hip"
LAYOUT, EXACT = f"{_HERE}layout.h", "csrc/core/exact.h"

#: name, file, right, wrong, why
_BUGS = [
    ("least", LAYOUT, "#define AC_KEY_LEAST 1e-4f", "#define AC_KEY_LEAST 1e-5f", "another least size"),
    (
        "query-least",
        LAYOUT,
        "#define AC_QUERY_LEAST 1e-10f",
        "#define AC_QUERY_LEAST 1e-4f",
        "that of keys for queries",
    ),
    ("limit", OP, "448.0f : 224.0f)", "448.0f : 240.0f)", "fnuz up to 240"),
    ("power", EXACT, "(bits + 0x7fffff) & 0xff800000", "(bits + 0x800000) & 0xff800000", "a power of two doubles"),
    ("power-down", EXACT, "(bits + 0x7fffff) & 0xff800000", "bits & 0xff800000", "rounded down"),
    ("tile", LAYOUT, "(d >> 4) * 256 + (line & 15) * 16", "(d >> 4) * 16 + (line & 15) * 256", "tiles the other way"),
    ("tile-row", LAYOUT, "(line >> 4) * 16 * cache->dim", "(line >> 4) * 2048", "128 elements"),
    ("scales", LAYOUT, "(line * cache->groups + group) * 4", "line * 4", "one scale per key"),
    ("scale-base", LAYOUT, "(int64_t)cache->page_size * cache->dim +", "128 * cache->page_size +", "128 elements"),
    ("owner", LAYOUT, "ac_list_entry(p->indptr, b) <= t && t <", "t <", "the first of all requests"),
    ("width", LAYOUT, "if (entry >= p->table_width) return key;", "", "entries past the table"),
    (
        "page",
        LAYOUT,
        "if (page < 0 || page >= p->cache.num_pages) return key;",
        "if (page < 0) return key;",
        "any page",
    ),
    (
        "page-below",
        LAYOUT,
        "if (page < 0 || page >= p->cache.num_pages) return key;",
        "if (page >= p->cache.num_pages) return key;",
        "page -1",
    ),
    ("page-size", LAYOUT, "if (p->cache.page_size == 0) return key;", "", "a division by 0"),
    (
        "inverse",
        WRITE,
        "const float inverse = ac_div(1.0f, scale);\n    for (int32_t i = 0;",
        "const float inverse = ac_div(1.0f, scale) * 0.999999f;\n    for (int32_t i = 0;",
        "almost the inverse",
    ),
    (
        "largest",
        WRITE,
        "largest = largest_of_row(values, count, largest);",
        "largest = largest_of_row(values, count, 0);",
        "the largest of the last run",
    ),
    (
        "order",
        WRITE,
        "ac_add(ac_add(values[4 * i], values[4 * i + 1]), ac_add(values[4 * i + 2], values[4 * i + 3]))",
        "values[4 * i] + values[4 * i + 1] + values[4 * i + 2] + values[4 * i + 3]",
        "sums in another order",
    ),
    (
        "round-norm",
        WRITE,
        "    indexer_round(values, p->dtype);\n    indexer_turn(&p->rope, ac_rope_row(&p->rope, token), values);\n"
        "    indexer_round",
        "    indexer_turn(&p->rope, ac_rope_row(&p->rope, token), values);\n    indexer_round",
        "unrounded",
    ),
    ("mean", WRITE, "values[i] = ac_sub(values[i], mean);", "", "RMS norm"),
    ("epsilon", WRITE, "ac_sqrt(ac_add(variance, p->epsilon))", "ac_sqrt(variance)", "no epsilon"),
    ("bias", WRITE, "p->norm_weight[i]), p->norm_bias[i]);", "p->norm_weight[i]), 0);", "no bias"),
    (
        "weights",
        WRITE,
        "ac_mul(ac_mul(weight[0], scale), p->weights_scale)",
        "ac_mul(weight[0], scale)",
        "weights_scale",
    ),
    ("all", WRITE, "(key.page || p->writes_all)", "key.page", "compute_all_q_rope"),
    ("zeros", GATHER, "        memset(to, 0, (size_t)dim);\n", "", "stale keys where there is no page"),
    ("run", GATHER, "run = p->cache.preshuffled ? 16 : dim", "run = dim", "tiles copied as they stand"),
    (
        "nobody",
        GATHER,
        "if (request >= 0) indexer_gather_key(p, t, request);",
        "indexer_gather_key(p, t, request < 0 ? 0 : request);",
        "tokens of nobody",
    ),
    (
        "keys",
        OP,
        "args->num_tokens = keys < slots ? keys : slots;",
        "args->num_tokens = slots;",
        "rows past those of k",
    ),
    ("bytes", OP, "least = dim + 4 * groups;", "least = dim + 4;", "no place for scales"),
    (
        "k-dtype",
        OP,
        'if (ac_check_dtype((ac_arg_t){op, "k", args->k}, AC_SET(args->q->dtype), error) < 0) return -1;',
        "",
        "k read as q's dtype",
    ),
    (
        "q-limit",
        OP,
        "p.q_limit = LIMIT_OF(args->q_out->dtype);",
        "p.q_limit = p.limit;",
        "the cache's limit for queries",
    ),
]

_GPU_BUGS = [
    ("largest", "largest_of_team(largest), AC_KEY_LEAST", "largest, AC_KEY_LEAST", "each lane's own scale"),
    ("kept", "if (i != at) load_run", "if (0) load_run", "wide groups repeat their first run"),
    (
        "count",
        "const int count = width - i < RUN ? width - i : RUN;",
        "const int count = RUN;",
        "past the end of a group",
    ),
    ("across", "gpu_lane_across(x[i], HALF) : x[i ^ 1]", "gpu_lane_across(x[i], 1) : x[i ^ 1]", "other pairs"),
    ("lanes", "if (lane >= 2 * HALF) return;", "", "all 128 elements turn"),
    (
        "normal",
        "if (is_key) GPU_UNROLL for (int i = 0; i < RUN; i++) head.x[i] = normal.x[i];",
        "",
        "no LayerNorm",
    ),
    ("written", "if (!is_written) return;", "if (!exists) return;", "padding tokens"),
    ("lowest", "lowest = other < lowest ? other : lowest;", "lowest = other > lowest ? other : lowest;", "any request"),
    (
        "tail",
        "GPU_NO_UNROLL for (int i = whole + lane_of_team(); i < count; i += TEAM)",
        "GPU_NO_UNROLL for (int i = count; i < count; i += TEAM)",
        "the last bytes of a key",
    ),
    ("item", "if (item >= p.num_items) return;", "", "groups past the last"),
]

BUGS = [Bug(f"indexer-{name}", within, old, new, why, "indexer") for name, within, old, new, why in _BUGS]
BUGS += [
    Bug(f"indexer-gpu-{name}", GPU, old, new, why, "indexer-gpu", "indexer_cache") for name, old, new, why in _GPU_BUGS
]
