"""Wrong cache writes that the tests must tell from the right ones; see op_tests/mutants."""

from __future__ import annotations

from bugs import Bug

TESTS = {
    "cache": "op_tests/cache_write --device cpu",
    "cache-gpu": "op_tests/cache_write --device gfx950 -m device",
}
_HERE = "csrc/ops/cache_write/"
OP, CPU, GPU, ROWS = f"{_HERE}op.c", f"{_HERE}cpu/write.inc", f"{_HERE}*.hip", f"{_HERE}rows.h"
FP8, EXACT, ROPE, SLOTS = (
    "csrc/core/fp8.h",
    "csrc/core/exact.h",
    "csrc/ops/attention/rope.h",
    "csrc/ops/attention/slots.h",
)
RUNS, VECTOR = "csrc/cpu/float_rows.h", "csrc/gpu/vector.h"

#: name, file, right, wrong, why
_BUGS = [
    ("saturates", FP8, "held = size < limit ? size : limit;", "held = size;", "wraps beyond 448"),
    ("limit-fnuz", FP8, "is_fnuz ? 0x43f00000 : 0x43e00000", "0x43e00000", "fnuz ends at 224"),
    (
        "nan",
        FP8,
        "return (finite & ~is_nan) | ((is_fnuz ? 0x80 : 0x7f) & is_nan);",
        "return finite;",
        "NaN becomes the largest value",
    ),
    ("nan-fnuz", FP8, "((is_fnuz ? 0x80 : 0x7f) & is_nan)", "(0x7f & is_nan)", "NaN of the other kind"),
    ("zero", FP8, "= is_fnuz && code == 0 ? 0 : code | sign;", "= code | sign;", "-0 as NaN in fnuz"),
    ("even", FP8, "0x7ffff + (held >> 20 & 1)", "0x80000", "ties away from zero"),
    ("subnormal", FP8, "(small & is_small) | (normal & ~is_small)", "normal", "no subnormals"),
    ("power-of-2", FP8, "divides && (ac_bits_of(scale) & 0x7fffff) != 0", "0", "x * (1 / scale) for x / scale"),
    ("slot-below", SLOTS, "return slot >= 0 && slot <", "return slot <", "slot -1 is written"),
    (
        "slot-past",
        SLOTS,
        "slot < num_pages * page_size;",
        "slot <= num_pages * page_size;",
        "the first slot past the cache",
    ),
    (
        "slot-32",
        SLOTS,
        "return slot >= 0 && slot <",
        "return (int32_t)slot >= 0 && (int32_t)slot <",
        "slots of 32 bits",
    ),
    ("line", SLOTS, "*out_line = slot - page * page_size;", "*out_line = 0;", "the first row of a page"),
    (
        "angle-low",
        ROPE,
        "ac_clamp64(ac_long_entry(rope->positions, token * rope->positions_stride), 0, rope->rows - 1)",
        "ac_min64(ac_long_entry(rope->positions, token * rope->positions_stride), rope->rows - 1)",
        "a position below 0",
    ),
    ("angle-high", ROPE, "0, rope->rows - 1);", "0, rope->rows);", "a position past the last"),
    ("pairs", ROPE, "rope->neox ? i + rope->pairs : 2 * i + 1", "rope->neox ? i + 1 : 2 * i + 1", "other pairs"),
    (
        "turn",
        ROPE,
        "return ac_add(ac_mul(b, cos), ac_mul(a, sin));",
        "return ac_sub(ac_mul(b, cos), ac_mul(a, sin));",
        "turns the other way",
    ),
    (
        "head",
        ROWS,
        "+ page * p->cache.page_stride + head * p->cache_head_stride",
        "+ page * p->cache.page_stride",
        "all key heads in one place",
    ),
    ("query-token", ROWS, "(!p->writes_all && ac_slot_of_token(p, token) < 0)", "0", "queries of padding tokens"),
    (
        "query-all",
        ROWS,
        "(!p->writes_all && ac_slot_of_token(p, token) < 0)",
        "ac_slot_of_token(p, token) < 0",
        "compute_all_q_rope",
    ),
    (
        "rotated",
        ROWS,
        "p->rope.positions && token < p->num_rotated",
        "p->rope.positions",
        "keys behind the queries turn",
    ),
    ("mapped", ROWS, "if (token >= p->num_mapped) return -1;", "", "slots past the mapping"),
    ("decoded", ROWS, "if (token >= p->num_decoded) return;", "", "decode outputs past their end"),
    ("record-least", ROWS, "return scale > AC_FLOAT_MIN ? scale : AC_FLOAT_MIN;", "return scale;", "0 / 0 in a record"),
    ("infinity", FP8, "largest < AC_FLOAT_MAX ? largest : AC_FLOAT_MAX", "largest", "an infinite scale"),
    ("size-nan", EXACT, "return size & (0u - (uint32_t)(size <= infinity));", "return size;", "NaN as the largest"),
    ("copy", CPU, "if (from_dtype == to_dtype) {", "if (0) {", "bits of NaN change in a copy"),
    ("group", CPU, "row->to_scales + i / AC_RECORD_GROUP * (int)sizeof scale", "row->to_scales", "one scale of four"),
    ("rope-copy", CPU, "write_pairs(rope, a, b, i, count, &row->scale, row->rope_copy, p->dtype);", "", "k_pe_out"),
    ("own", CPU, "c[own][k], s[own][k]", "c[0][k], s[0][k]", "one angle for a pair that has two"),
    ("zeros", CPU, "if (row->zeros) memset", "if (0) memset", "zeros that nobody writes"),
    (
        "tail",
        RUNS,
        "memcpy(to + whole * bytes, rest, (size_t)(left * bytes));",
        "memcpy(to + whole * bytes, rest, (size_t)(AC_LANES * bytes));",
        "past the end of a row",
    ),
    (
        "page-stride",
        OP,
        "        .page_stride = ac_stride_bytes(kv, 0),\n        .latent_stride = has_pages",
        "        .page_stride = kv->shape[1] * width * ac_dtype_bytes(kv->dtype),\n        .latent_stride = has_pages",
        "dense pages",
    ),
    ("slots-stride", OP, "p->slots_stride = entry_stride(slots);", "p->slots_stride = 1;", "a strided mapping"),
    (
        "positions-stride",
        OP,
        ".positions_stride = entry_stride(positions),",
        ".positions_stride = 1,",
        "strided positions",
    ),
    ("divides", OP, "ac_cache_write_params_t p = {.key_divides = 1};", "ac_cache_write_params_t p = {0};", "1 / scale"),
    ("apply-scale", OP, "args->apply_scale ? &args->k_scale : &one", "&args->k_scale", "apply_scale"),
    (
        "latent-first",
        OP,
        "fill_queries(args, &args->q_scale, args->is_nope_first, &p);",
        "fill_queries(args, &args->q_scale, true, &p);",
        "is_nope_first",
    ),
    ("segments", OP, ".rope_offset = page_size * latent * bytes,", ".rope_offset = latent * bytes,", "segments"),
    (
        "int32-slots",
        OP,
        "#define LONGS AC_SET(AC_INT64)",
        "#define LONGS (AC_SET(AC_INT64) | AC_SET(AC_INT32))",
        "int32",
    ),
    (
        "own-memory",
        OP,
        "if (ac_check_own_memory(op, args, fused_rules, AC_COUNT(fused_rules), error) < 0) return -1;",
        "",
        "an output over an input",
    ),
    (
        "fresh-check",
        OP,
        "if (ac_check_tensors(args, cat_rules + CAT_INPUTS, CAT_OUTPUTS, &args->sizes, error) < 0) return -1;\n"
        "    if (check_cat_outputs(args, error) < 0) return -1;\n    if (ac_check_own",
        "if (ac_check_own",
        "any memory",
    ),
]

_GPU_BUGS = [
    ("tail", GPU, "const int n = count - at < RUN ? count - at : RUN;", "const int n = RUN;", "past the end of a row"),
    ("copy", GPU, "if (dtype != p.dtype) {", "if (1) {", "bits of NaN change in a copy"),
    ("group", GPU, "row.to_scales + at / AC_RECORD_GROUP * 4", "row.to_scales", "one scale of four"),
    ("largest", GPU, "largest = ac_max_size(largest, gpu_lane_across(largest, step));", ";", "the largest of eight"),
    ("rows", GPU, "if (n >= p.num_rows) return;", "", "rows past the last"),
    ("pairs", GPU, "i < rope.pairs; i += GPU_WAVE", "i < rope.pairs && i < 32; i += GPU_WAVE", "32 pairs at most"),
    ("own", GPU, "beside = rope.own ? second : i;", "beside = at;", "one angle for a pair that has two"),
    ("rope-copy", GPU, "write_element(row.rope_copy, p.dtype, second, y);", "", "half of k_pe_out"),
    ("zeros", GPU, "if (row.zeros) write_zeros();", "", "zeros that nobody writes"),
    (
        "words",
        GPU,
        "if (bytes == 4) gpu_store_words<4>(to + 16,",
        "if (0) gpu_store_words<4>(to + 16,",
        "half of float32",
    ),
    (
        "fp8-order",
        VECTOR,
        "ac_fp8_of(b, is_fnuz) << 8 | ac_fp8_of(c, is_fnuz) << 16",
        "ac_fp8_of(c, is_fnuz) << 8 | ac_fp8_of(b, is_fnuz) << 16",
        "bytes in another order",
    ),
    (
        "fused",
        EXACT,
        '#define AC_ROUND_EACH _Pragma("clang fp contract(off)")',
        '#define AC_ROUND_EACH _Pragma("clang fp contract(fast)")',
        "products that are added without rounding",
    ),
]

BUGS = [Bug(f"cache-{name}", within, old, new, why, "cache") for name, within, old, new, why in _BUGS]
BUGS += [
    Bug(f"cache-gpu-{name}", within, old, new, why, "cache-gpu", "cache_write")
    for name, within, old, new, why in _GPU_BUGS
]
