/* gfx950's conversions with a scale: between 8-, 6- and 4-bit floats and fp32, f16, bf16. The scale is the exponent of
 * an fp32 number; narrowing divides by it, widening multiplies with it. Stochastic rounding to pairs and to 32 values
 * (sr_pk_fp4, sr_pk32) is missing: how one random number serves several values is not documented. */
#include <math.h>

#include "valu.h"

typedef enum wide_t { F32, F16, BF16 } wide_t;

/* insn->a and insn->b: the narrow and the wide format. */
static gs_small_kind_t narrow_kind(const gs_insn_t *insn) { return (gs_small_kind_t)insn->a; }

static int narrow_bits(gs_small_kind_t kind) { return kind <= GS_E5M2FNUZ ? 8 : kind <= GS_E3M2 ? 6 : 4; }

enum { FP16_OVFL = 1 << 23 }; /* MODE: overflow gives the largest finite value */

static int scale_exponent(uint32_t scale) { return (int)(scale >> 23 & 0xff) - 127; }
static bool scale_is_nan(uint32_t scale) { return (scale >> 23 & 0xff) == 0xff; }

static uint32_t narrow(const gs_wave_t *wave, gs_small_kind_t kind, float value, uint32_t scale) {
    float divided = scale_is_nan(scale) ? NAN : ldexpf(value, -scale_exponent(scale));
    return gs_small_bits(kind, divided, wave->mode & FP16_OVFL);
}

static float widen(gs_small_kind_t kind, uint32_t code, uint32_t scale) {
    float value = gs_small_values(kind)[code & ((1u << narrow_bits(kind)) - 1)];
    return scale_is_nan(scale) ? NAN : ldexpf(value, scale_exponent(scale));
}

static float half_value(wide_t wide, uint32_t bits) {
    return wide == F16 ? gs_f16_value(bits & 0xffff) : gs_bf16_value(bits & 0xffff);
}

static uint32_t half_bits(wide_t wide, float value) { return wide == F16 ? gs_f16_bits(value) : gs_bf16_bits(value); }

/* The sources as they are: op_sel selects other things than halves here. */
static const uint32_t *read_source(gs_wave_t *wave, const gs_insn_t *insn, int k, uint32_t buffer[GS_LANES]) {
    gs_insn_t plain = *insn;
    plain.op_sel = 0;
    bool halves = k == 0 && insn->b != F32; /* abs and neg of pairs are not modelled */
    if (halves && ((insn->abs | insn->neg) & 1)) gs_report(wave, GS_REPORT_UNSUPPORTED, "abs or neg of a pair");
    return gs_read32(wave, &plain, k, buffer);
}

static uint32_t insert(uint32_t old, uint32_t bits, uint32_t part, int shift) {
    return (old & ~(part << shift)) | bits << shift;
}

/* ---- narrowing -------------------------------------------------------------------------------------------------- */

/* Two values: to the half of the destination that op_sel[3] names, or for 4 bits to the byte that op_sel[3:2] names. */
static void narrow_pair(gs_wave_t *wave, const gs_insn_t *insn) {
    uint32_t buffers[3][GS_LANES], out[GS_LANES];
    bool pair = insn->b != F32; /* both values in one register, then the scale */
    const uint32_t *first = read_source(wave, insn, 0, buffers[0]), *second = read_source(wave, insn, 1, buffers[1]);
    const uint32_t *scale = pair ? second : read_source(wave, insn, 2, buffers[2]);
    const uint32_t *old = wave->v[gs_vector_register(wave, &insn->dst[0], 3)];
    gs_small_kind_t kind = narrow_kind(insn);
    int bits = narrow_bits(kind), shift = bits == 4 ? 8 * (insn->op_sel >> 2 & 3) : 16 * (insn->op_sel >> 3 & 1);
    GS_FOR_LANES {
        float low = pair ? half_value(insn->b, first[lane]) : gs_f32(first[lane]);
        float high = pair ? half_value(insn->b, first[lane] >> 16) : gs_f32(second[lane]);
        uint32_t codes = narrow(wave, kind, low, scale[lane]) | narrow(wave, kind, high, scale[lane]) << bits;
        out[lane] = insert(old[lane], codes, (1u << 2 * bits) - 1, shift);
    }
    gs_write32(wave, insn, 0, out);
}

/* One value with stochastic rounding, to the byte that op_sel[3:2] names. Sources: value, random number, scale. */
static void narrow_stochastic(gs_wave_t *wave, const gs_insn_t *insn) {
    uint32_t buffers[3][GS_LANES], out[GS_LANES];
    const uint32_t *value = read_source(wave, insn, 0, buffers[0]), *random = read_source(wave, insn, 1, buffers[1]);
    const uint32_t *scale = read_source(wave, insn, 2, buffers[2]);
    const uint32_t *old = wave->v[gs_vector_register(wave, &insn->dst[0], 3)];
    int shift = 8 * (insn->op_sel >> 2 & 3), half = insn->op_sel & 1 ? 16 : 0;
    GS_FOR_LANES {
        float x = insn->b == F32 ? gs_f32(value[lane]) : half_value(insn->b, value[lane] >> half);
        x = scale_is_nan(scale[lane]) ? NAN : ldexpf(x, -scale_exponent(scale[lane]));
        uint32_t code = gs_small_bits_stochastic(narrow_kind(insn), x, random[lane], wave->mode & FP16_OVFL);
        out[lane] = insert(old[lane], code, 0xff, shift);
    }
    gs_write32(wave, insn, 0, out);
}

/* Element `index` of 32 in the wide format. */
static float wide_element(const gs_wave_t *wave, wide_t wide, int reg, int index, int lane) {
    if (wide == F32) return gs_f32(wave->v[reg + index][lane]);
    return half_value(wide, wave->v[reg + index / 2][lane] >> 16 * (index & 1));
}

/* 32 values to 6 registers. From fp32 they come as two vectors of 16, which take turns. */
static void narrow_32(gs_wave_t *wave, const gs_insn_t *insn) {
    uint32_t buffer[GS_LANES], out[6][GS_LANES] = {{0}};
    bool two = insn->b == F32;
    const uint32_t *scale = read_source(wave, insn, two ? 2 : 1, buffer);
    GS_FOR_LANES for (int i = 0; i < 32; i++) {
        int reg = insn->src[two ? i & 1 : 0].reg, bit = 6 * i;
        float value = wide_element(wave, insn->b, reg, two ? i / 2 : i, lane);
        uint64_t code = (uint64_t)narrow(wave, narrow_kind(insn), value, scale[lane]) << bit % 32;
        out[bit / 32][lane] |= (uint32_t)code;
        if (code >> 32) out[bit / 32 + 1][lane] |= (uint32_t)(code >> 32);
    }
    for (int i = 0; i < 6; i++) gs_blend(wave, insn->dst[0].reg + i, out[i], wave->lanes);
}

/* ---- widening --------------------------------------------------------------------------------------------------- */

/* The byte or half of source 0 that op_sel names: of 4-bit pairs and single values a byte, of 8-bit pairs a half. */
static int source_shift(const gs_insn_t *insn, bool pair) {
    bool halves = pair && narrow_bits(narrow_kind(insn)) == 8;
    return halves ? 16 * (insn->op_sel & 1) : 8 * (insn->op_sel & 3);
}

static void widen_pair(gs_wave_t *wave, const gs_insn_t *insn) {
    uint32_t buffers[2][GS_LANES], packed[GS_LANES];
    uint64_t out[GS_LANES];
    const uint32_t *codes = read_source(wave, insn, 0, buffers[0]), *scale = read_source(wave, insn, 1, buffers[1]);
    int bits = narrow_bits(narrow_kind(insn)), shift = source_shift(insn, true);
    GS_FOR_LANES {
        float low = widen(narrow_kind(insn), codes[lane] >> shift, scale[lane]);
        float high = widen(narrow_kind(insn), codes[lane] >> (shift + bits), scale[lane]);
        out[lane] = gs_u32(low) | (uint64_t)gs_u32(high) << 32;
        packed[lane] = half_bits(insn->b, low) | half_bits(insn->b, high) << 16;
    }
    if (insn->b == F32) {
        gs_write64(wave, insn, out);
    } else {
        gs_write32(wave, insn, 0, packed);
    }
}

static void widen_one(gs_wave_t *wave, const gs_insn_t *insn) {
    uint32_t buffers[2][GS_LANES], out[GS_LANES];
    const uint32_t *codes = read_source(wave, insn, 0, buffers[0]), *scale = read_source(wave, insn, 1, buffers[1]);
    const uint32_t *old = wave->v[gs_vector_register(wave, &insn->dst[0], 3)];
    int shift = source_shift(insn, false), half = insn->op_sel >> 3 & 1 ? 16 : 0;
    GS_FOR_LANES {
        float value = widen(narrow_kind(insn), codes[lane] >> shift, scale[lane]);
        out[lane] = insn->b == F32 ? gs_u32(value) : insert(old[lane], half_bits(insn->b, value), 0xffff, half);
    }
    gs_write32(wave, insn, 0, out);
}

static void widen_32(gs_wave_t *wave, const gs_insn_t *insn) {
    uint32_t buffer[GS_LANES], out[32][GS_LANES] = {{0}};
    const uint32_t *scale = read_source(wave, insn, 1, buffer);
    int reg = insn->src[0].reg, per_register = insn->b == F32 ? 1 : 2;
    GS_FOR_LANES for (int i = 0; i < 32; i++) {
        int bit = 6 * i, word = bit / 32;
        uint64_t pair = wave->v[reg + word][lane] | (uint64_t)(word < 5 ? wave->v[reg + word + 1][lane] : 0) << 32;
        float value = widen(narrow_kind(insn), (uint32_t)(pair >> bit % 32), scale[lane]);
        out[i / per_register][lane] |= insn->b == F32 ? gs_u32(value) : half_bits(insn->b, value) << 16 * (i & 1);
    }
    for (int i = 0; i < 32 / per_register; i++) gs_blend(wave, insn->dst[0].reg + i, out[i], wave->lanes);
}

/* ---- the list --------------------------------------------------------------------------------------------------- */

enum { KEEPS = GS_KEEPS_DST };

#define NAME(text) "v_cvt_scalef32_" text
#define NARROW_PAIRS(small, kind)                                                                                      \
    {NAME("pk_" small "_f32"), narrow_pair, kind, F32, KEEPS, 0},                                                      \
    {NAME("pk_" small "_f16"), narrow_pair, kind, F16, KEEPS, 0},                                                      \
        {NAME("pk_" small "_bf16"), narrow_pair, kind, BF16, KEEPS, 0}
#define STOCHASTIC(small, kind)                                                                                        \
    {NAME("sr_" small "_f32"), narrow_stochastic, kind, F32, KEEPS, 0},                                                \
        {NAME("sr_" small "_f16"), narrow_stochastic, kind, F16, KEEPS, 0},                                            \
        {NAME("sr_" small "_bf16"), narrow_stochastic, kind, BF16, KEEPS, 0}
#define WIDEN_PAIRS(small, kind)                                                                                       \
    {NAME("pk_f32_" small), widen_pair, kind, F32, 0, 0}, {NAME("pk_f16_" small), widen_pair, kind, F16, 0, 0},        \
        {NAME("pk_bf16_" small), widen_pair, kind, BF16, 0, 0}
#define WIDEN_ONE(small, kind)                                                                                         \
    {NAME("f32_" small), widen_one, kind, F32, 0, 0}, {NAME("f16_" small), widen_one, kind, F16, KEEPS, 0}
#define SIX_BITS(small, kind)                                                                                          \
    {NAME("2xpk16_" small "_f32"), narrow_32, kind, F32, 0, 0},                                                        \
    {NAME("pk32_" small "_f16"), narrow_32, kind, F16, 0, 0},                                                          \
        {NAME("pk32_" small "_bf16"), narrow_32, kind, BF16, 0, 0},                                                    \
        {NAME("pk32_f32_" small), widen_32, kind, F32, 0, 0},                                                          \
        {NAME("pk32_f16_" small), widen_32, kind, F16, 0, 0}, {NAME("pk32_bf16_" small), widen_32, kind, BF16, 0, 0}

const gs_semantics_t gs_convert_scaled_list[] = {
    NARROW_PAIRS("fp8", GS_E4M3FN), NARROW_PAIRS("bf8", GS_E5M2), NARROW_PAIRS("fp4", GS_E2M1),
    STOCHASTIC("fp8", GS_E4M3FN), STOCHASTIC("bf8", GS_E5M2), WIDEN_PAIRS("fp8", GS_E4M3FN),
    WIDEN_PAIRS("bf8", GS_E5M2), WIDEN_PAIRS("fp4", GS_E2M1), WIDEN_ONE("fp8", GS_E4M3FN), WIDEN_ONE("bf8", GS_E5M2),
    SIX_BITS("fp6", GS_E2M3), SIX_BITS("bf6", GS_E3M2),
    {0},
};
