/* v_cmp and v_cmpx. The table has one entry per type; insn->a: the condition, insn->b: also writes EXEC. */
#include <math.h>

#ifdef __AVX2__
#include <immintrin.h>
#endif

#include "valu.h"

/* Conditions are sets of outcomes: less, equal, greater, unordered. The hardware numbers them so, too. */
enum { LESS = 1, EQUAL = 2, GREATER = 4, UNORDERED = 8 };

static void finish(gs_wave_t *wave, const gs_insn_t *insn, uint64_t mask) {
    mask &= wave->lanes;
    if (insn->b)
        for (int k = 0; k < 2; k++) gs_require_defined(wave, &insn->src[k], wave->lanes, "a source of the new EXEC");
    gs_write_scalar64(wave, &insn->dst[0], mask);
    if (insn->b) gs_set_pair(wave->s, GS_EXEC, mask);
}

/* ~0 in the lanes where the condition holds; without branches, so that it vectorises. */
#define COMPARE(name, wide, reader, type, convert)                                                                     \
    static void name(gs_wave_t *wave, const gs_insn_t *insn) {                                                         \
        wide buffer_a[GS_LANES], buffer_b[GS_LANES], less = insn->a & LESS ? ~(wide)0 : 0;                             \
        wide equal = insn->a & EQUAL ? ~(wide)0 : 0, greater = insn->a & GREATER ? ~(wide)0 : 0;                       \
        wide unordered = insn->a & UNORDERED ? ~(wide)0 : 0, holds[GS_LANES];                                          \
        const wide *pa = reader(wave, insn, 0, buffer_a), *pb = reader(wave, insn, 1, buffer_b);                       \
        GS_FOR_LANES {                                                                                                 \
            type a = convert(pa[lane]), b = convert(pb[lane]);                                                         \
            holds[lane] = a > b ? greater : unordered;                                                                 \
            holds[lane] = a == b ? equal : holds[lane];                                                                \
            holds[lane] = a < b ? less : holds[lane];                                                                  \
        }                                                                                                              \
        finish(wave, insn, pack_##wide(holds));                                                                        \
    }

static uint64_t pack_uint32_t(const uint32_t holds[GS_LANES]) {
    uint64_t mask = 0;
#ifdef __AVX2__
    for (int first = 0; first < GS_LANES; first += 8) {
        __m256 eight = _mm256_loadu_ps((const float *)(const void *)(holds + first));
        mask |= (uint64_t)(uint32_t)_mm256_movemask_ps(eight) << first;
    }
#else
    GS_FOR_LANES mask |= (uint64_t)(holds[lane] & 1) << lane;
#endif
    return mask;
}

static uint64_t pack_uint64_t(const uint64_t holds[GS_LANES]) {
    uint32_t narrow[GS_LANES];
    GS_FOR_LANES narrow[lane] = (uint32_t)holds[lane];
    return pack_uint32_t(narrow);
}

COMPARE(compare_f32, uint32_t, gs_read32, float, gs_f32)
COMPARE(compare_f16, uint32_t, gs_read16, float, gs_f16_value)
COMPARE(compare_f64, uint64_t, gs_read64, double, gs_f64)
COMPARE(compare_i32, uint32_t, gs_read32, int32_t, (int32_t))
COMPARE(compare_u32, uint32_t, gs_read32, uint32_t, (uint32_t))
COMPARE(compare_i16, uint32_t, gs_read16, int16_t, (int16_t))
COMPARE(compare_u16, uint32_t, gs_read16, uint16_t, (uint16_t))
COMPARE(compare_i64, uint64_t, gs_read64, int64_t, (int64_t))
COMPARE(compare_u64, uint64_t, gs_read64, uint64_t, (uint64_t))

/* ---- v_cmp_class: bit i of the second source asks for class i --------------------------------------------------- */

enum {
    SIGNALING_NAN, QUIET_NAN, MINUS_INFINITY, MINUS_NORMAL, MINUS_DENORMAL, MINUS_ZERO, PLUS_ZERO, PLUS_DENORMAL,
    PLUS_NORMAL, PLUS_INFINITY
};

static int class_of(uint64_t bits, int exponent_bits, int mantissa_bits) {
    uint64_t mantissa = bits & ((UINT64_C(1) << mantissa_bits) - 1);
    uint64_t all_ones = (UINT64_C(1) << exponent_bits) - 1, exponent = bits >> mantissa_bits & all_ones;
    bool negative = bits >> (exponent_bits + mantissa_bits) & 1;
    if (exponent == all_ones && mantissa) return mantissa >> (mantissa_bits - 1) ? QUIET_NAN : SIGNALING_NAN;
    if (exponent == all_ones) return negative ? MINUS_INFINITY : PLUS_INFINITY;
    if (exponent) return negative ? MINUS_NORMAL : PLUS_NORMAL;
    if (mantissa) return negative ? MINUS_DENORMAL : PLUS_DENORMAL;
    return negative ? MINUS_ZERO : PLUS_ZERO;
}

static void class_f32(gs_wave_t *wave, const gs_insn_t *insn) {
    uint32_t buffer_a[GS_LANES], buffer_b[GS_LANES];
    const uint32_t *pa = gs_read32(wave, insn, 0, buffer_a), *pb = gs_read32(wave, insn, 1, buffer_b);
    uint64_t mask = 0;
    GS_FOR_LANES mask |= (uint64_t)(pb[lane] >> class_of(pa[lane], 8, 23) & 1) << lane;
    finish(wave, insn, mask);
}

static void class_f16(gs_wave_t *wave, const gs_insn_t *insn) {
    uint32_t buffer_a[GS_LANES], buffer_b[GS_LANES];
    const uint32_t *pa = gs_read16(wave, insn, 0, buffer_a), *pb = gs_read32(wave, insn, 1, buffer_b);
    uint64_t mask = 0;
    GS_FOR_LANES mask |= (uint64_t)(pb[lane] >> class_of(pa[lane], 5, 10) & 1) << lane;
    finish(wave, insn, mask);
}

static void class_f64(gs_wave_t *wave, const gs_insn_t *insn) {
    uint64_t buffer_a[GS_LANES];
    uint32_t buffer_b[GS_LANES];
    const uint64_t *pa = gs_read64(wave, insn, 0, buffer_a);
    const uint32_t *pb = gs_read32(wave, insn, 1, buffer_b);
    uint64_t mask = 0;
    GS_FOR_LANES mask |= (uint64_t)(pb[lane] >> class_of(pa[lane], 11, 52) & 1) << lane;
    finish(wave, insn, mask);
}

/* ---- the list --------------------------------------------------------------------------------------------------- */

#define ENTRIES(condition, set, type)                                                                                  \
    {"v_cmp_" condition "_" #type, compare_##type, set, 0, 0, 0},                                                      \
        {"v_cmpx_" condition "_" #type, compare_##type, set, 1, 0, 0}

#define INTEGER_ENTRIES(type)                                                                                          \
    ENTRIES("f", 0, type), ENTRIES("lt", LESS, type), ENTRIES("eq", EQUAL, type), ENTRIES("le", LESS | EQUAL, type),   \
        ENTRIES("gt", GREATER, type), ENTRIES("ne", LESS | GREATER, type), ENTRIES("ge", GREATER | EQUAL, type),       \
        ENTRIES("t", LESS | EQUAL | GREATER, type)

#define FLOAT_ENTRIES(type)                                                                                            \
    ENTRIES("f", 0, type), ENTRIES("lt", LESS, type), ENTRIES("eq", EQUAL, type), ENTRIES("le", LESS | EQUAL, type),   \
        ENTRIES("gt", GREATER, type), ENTRIES("lg", LESS | GREATER, type), ENTRIES("ge", GREATER | EQUAL, type),       \
        ENTRIES("o", LESS | EQUAL | GREATER, type), ENTRIES("u", UNORDERED, type),                                     \
        ENTRIES("nge", UNORDERED | LESS, type), ENTRIES("nlg", UNORDERED | EQUAL, type),                               \
        ENTRIES("ngt", UNORDERED | LESS | EQUAL, type), ENTRIES("nle", UNORDERED | GREATER, type),                     \
        ENTRIES("neq", UNORDERED | LESS | GREATER, type), ENTRIES("nlt", UNORDERED | GREATER | EQUAL, type),           \
        ENTRIES("tru", UNORDERED | LESS | EQUAL | GREATER, type)

#define CLASS_ENTRIES(type)                                                                                            \
    {"v_cmp_class_" #type, class_##type, 0, 0, 0, 0}, {"v_cmpx_class_" #type, class_##type, 0, 1, 0, 0}

const gs_semantics_t gs_compare_list[] = {
    FLOAT_ENTRIES(f16), FLOAT_ENTRIES(f32), FLOAT_ENTRIES(f64), INTEGER_ENTRIES(i16), INTEGER_ENTRIES(u16),
    INTEGER_ENTRIES(i32), INTEGER_ENTRIES(u32), INTEGER_ENTRIES(i64), INTEGER_ENTRIES(u64),
    CLASS_ENTRIES(f16), CLASS_ENTRIES(f32), CLASS_ENTRIES(f64),
    {0},
};
