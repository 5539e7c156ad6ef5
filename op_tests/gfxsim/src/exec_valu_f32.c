/* Vector fp32 arithmetic. */
#include <math.h>

#include "valu.h"

/* ---- helpers ---------------------------------------------------------------------------------------------------- */

/* The transcendental unit takes and gives no denormals. */
static inline float flush(float value) { return fabsf(value) < 0x1p-126f ? copysignf(0, value) : value; }

static inline float reciprocal(float a) { return flush(1.0f / flush(a)); }
static inline float reciprocal_root(float a) { return (float)(1.0 / sqrt((double)flush(a))); }
static inline float exp_2(float a) { return flush(exp2f(a)); }
static inline float log_2(float a) { return flush(a) == 0 ? -INFINITY : log2f(flush(a)); }

/* v_sin and v_cos count in turns of the circle; beyond 256 of them the angle counts as 0. */
static inline float turns(float a) {
    return fabsf(a) <= 256 ? (float)((double)a - floor((double)a)) : NAN;
}

static inline float sine(float a) {
    return fabsf(a) == INFINITY || a != a ? NAN : fabsf(a) > 256 ? 0 : (float)sin(6.283185307179586 * turns(a));
}

static inline float cosine(float a) {
    return fabsf(a) == INFINITY || a != a ? NAN : fabsf(a) > 256 ? 1 : (float)cos(6.283185307179586 * turns(a));
}

static inline float fraction(float a) {
    float f = a - floorf(a);
    return f >= 1 ? 0x1.fffffep-1f : f;
}

static inline float mantissa(float a) {
    int exponent;
    return isinf(a) || a != a ? a : frexpf(a, &exponent);
}

static inline uint32_t exponent(float a) {
    int e = 0;
    if (a != 0 && isfinite(a)) frexpf(a, &e);
    return (uint32_t)e;
}

static inline float multiply_legacy(float a, float b) { return a == 0 || b == 0 ? 0 : a * b; }
static inline bool any_nan(float a, float b, float c) { return a != a || b != b || c != c; }

/* ---- arithmetic ------------------------------------------------------------------------------------------------- */

F32_OP2(v_add_f32, a + b)
F32_OP2(v_sub_f32, a - b)
F32_OP2(v_subrev_f32, b - a)
F32_OP2(v_mul_f32, a *b)
F32_OP2(v_mul_legacy_f32, multiply_legacy(a, b))
F32_OP2(v_max_f32, gs_max_f32(a, b))
F32_OP2(v_min_f32, gs_min_f32(a, b))
F32_OP3(v_fma_f32, __builtin_fmaf(a, b, c))
F32_OP3(v_max3_f32, gs_max_f32(gs_max_f32(a, b), c))
F32_OP3(v_min3_f32, gs_min_f32(gs_min_f32(a, b), c))
F32_OP3(v_med3_f32, gs_med3_f32(a, b, c))
F32_OP3(v_maximum3_f32, any_nan(a, b, c) ? NAN : gs_max_f32(gs_max_f32(a, b), c))
F32_OP3(v_minimum3_f32, any_nan(a, b, c) ? NAN : gs_min_f32(gs_min_f32(a, b), c))

/* dst += a * b */
static void v_fmac_f32(gs_wave_t *wave, const gs_insn_t *insn) {
    uint32_t buffer_a[GS_LANES], buffer_b[GS_LANES];
    float out[GS_LANES];
    const uint32_t *pa = gs_read32(wave, insn, 0, buffer_a), *pb = gs_read32(wave, insn, 1, buffer_b);
    const uint32_t *pc = wave->v[gs_vector_register(wave, &insn->dst[0], 3)];
    GS_FOR_LANES out[lane] = __builtin_fmaf(gs_f32(pa[lane]), gs_f32(pb[lane]), gs_f32(pc[lane]));
    gs_write_f32(wave, insn, out);
}

F32_OP1(v_rcp_f32, reciprocal(a))
F32_OP1(v_rsq_f32, reciprocal_root(a))
F32_OP1(v_sqrt_f32, sqrtf(flush(a)))
F32_OP1(v_exp_f32, exp_2(a))
F32_OP1(v_log_f32, log_2(a))
F32_OP1(v_sin_f32, sine(a))
F32_OP1(v_cos_f32, cosine(a))
F32_OP1(v_floor_f32, floorf(a))
F32_OP1(v_ceil_f32, ceilf(a))
F32_OP1(v_trunc_f32, truncf(a))
F32_OP1(v_rndne_f32, rintf(a))
F32_OP1(v_fract_f32, fraction(a))
F32_OP1(v_frexp_mant_f32, mantissa(a))
LANE_OP1(v_frexp_exp_i32_f32, exponent(gs_f32(a)))

static void v_ldexp_f32(gs_wave_t *wave, const gs_insn_t *insn) {
    uint32_t buffer_a[GS_LANES], buffer_b[GS_LANES];
    float out[GS_LANES];
    const uint32_t *pa = gs_read32(wave, insn, 0, buffer_a), *pb = gs_read32(wave, insn, 1, buffer_b);
    GS_FOR_LANES out[lane] = ldexpf(gs_f32(pa[lane]), (int32_t)pb[lane]);
    gs_write_f32(wave, insn, out);
}

/* ---- division ---------------------------------------------------------------------------------------------------
 * A division is v_div_scale of denominator and numerator, a Newton iteration with v_fma, v_div_fmas and v_div_fixup. */

static inline int biased_exponent(float a) { return gs_u32(a) >> 23 & 0xff; }

/* Brings `value`, which is the denominator or the numerator, into a safe range; *out_scaled tells v_div_fmas. */
static float scale_for_division(float value, float denominator, float numerator, bool *out_scaled) {
    double inverse = 1.0 / (double)denominator, quotient = (double)numerator / (double)denominator;
    bool small_inverse = fabs(inverse) < 0x1p-126, small_quotient = fabs(quotient) < 0x1p-126;
    bool is_denominator = gs_u32(value) == gs_u32(denominator), is_numerator = gs_u32(value) == gs_u32(numerator);
    *out_scaled = false;
    if (numerator == 0 || denominator == 0) return NAN;
    if (biased_exponent(numerator) - biased_exponent(denominator) >= 96) {
        *out_scaled = true;
        return is_denominator ? ldexpf(value, 64) : value;
    }
    if (biased_exponent(denominator) == 0) return ldexpf(value, 64);
    if (small_inverse && small_quotient) { /* the ISA document says up, which would overflow */
        *out_scaled = true;
        return is_denominator ? ldexpf(value, -64) : value;
    }
    if (small_inverse) return ldexpf(value, -64);
    if (small_quotient) {
        *out_scaled = true;
        return is_numerator ? ldexpf(value, 64) : value;
    }
    return biased_exponent(numerator) <= 23 ? ldexpf(value, 64) : value;
}

static void v_div_scale_f32(gs_wave_t *wave, const gs_insn_t *insn) {
    uint32_t buffer_a[GS_LANES], buffer_b[GS_LANES], buffer_c[GS_LANES], out[GS_LANES];
    const uint32_t *pa = gs_read32(wave, insn, 0, buffer_a), *pb = gs_read32(wave, insn, 1, buffer_b);
    const uint32_t *pc = gs_read32(wave, insn, 2, buffer_c);
    uint64_t scaled_lanes = 0;
    GS_FOR_LANES {
        bool scaled;
        out[lane] = gs_u32(scale_for_division(gs_f32(pa[lane]), gs_f32(pb[lane]), gs_f32(pc[lane]), &scaled));
        scaled_lanes |= (uint64_t)scaled << lane;
    }
    gs_write32(wave, insn, 0, out);
    gs_write_mask(wave, insn, 1, scaled_lanes);
}

static float fma_and_unscale(float a, float b, float c, bool scaled) {
    float result = __builtin_fmaf(a, b, c);
    return !scaled ? result : ldexpf(result, biased_exponent(c) > 127 ? 64 : -64);
}

F32_OP3(v_div_fmas_f32, fma_and_unscale(a, b, c, gs_pair(wave->s, GS_VCC) >> lane & 1))

static float fix_division(float quotient, float denominator, float numerator) {
    uint32_t sign = (gs_u32(denominator) ^ gs_u32(numerator)) & 0x80000000;
    float infinity = gs_f32(sign | 0x7f800000), zero = gs_f32(sign);
    if (numerator != numerator || denominator != denominator) return numerator != numerator ? numerator : denominator;
    if ((numerator == 0 && denominator == 0) || (isinf(numerator) && isinf(denominator))) return NAN;
    if (denominator == 0 || isinf(numerator)) return infinity;
    if (isinf(denominator) || numerator == 0) return zero;
    if (biased_exponent(numerator) - biased_exponent(denominator) < -150) return zero;
    return quotient != quotient ? infinity : gs_f32((gs_u32(quotient) & 0x7fffffff) | sign);
}

F32_OP3(v_div_fixup_f32, fix_division(a, b, c))

/* ---- the list --------------------------------------------------------------------------------------------------- */

const gs_semantics_t gs_valu_f32_list[] = {
    GS_ENTRY(v_add_f32, 0), GS_ENTRY(v_sub_f32, 0), GS_ENTRY(v_subrev_f32, 0), GS_ENTRY(v_mul_f32, 0),
    GS_ENTRY(v_mul_legacy_f32, 0), GS_ENTRY(v_max_f32, 0), GS_ENTRY(v_min_f32, 0), GS_ENTRY(v_fma_f32, 0),
    {"v_fmaak_f32", v_fma_f32, 0, 0, 0, 0}, {"v_fmamk_f32", v_fma_f32, 0, 0, 0, 0},
    GS_ENTRY(v_max3_f32, 0), GS_ENTRY(v_min3_f32, 0), GS_ENTRY(v_med3_f32, 0), GS_ENTRY(v_maximum3_f32, 0),
    GS_ENTRY(v_minimum3_f32, 0), GS_ENTRY(v_fmac_f32, GS_READS_DST), GS_ENTRY(v_rcp_f32, 0),
    {"v_rcp_iflag_f32", v_rcp_f32, 0, 0, 0, 0}, GS_ENTRY(v_rsq_f32, 0), GS_ENTRY(v_sqrt_f32, 0), GS_ENTRY(v_exp_f32, 0),
    {"v_exp_legacy_f32", v_exp_f32, 0, 0, 0, 0}, GS_ENTRY(v_log_f32, 0), {"v_log_legacy_f32", v_log_f32, 0, 0, 0, 0},
    GS_ENTRY(v_sin_f32, 0), GS_ENTRY(v_cos_f32, 0), GS_ENTRY(v_floor_f32, 0), GS_ENTRY(v_ceil_f32, 0),
    GS_ENTRY(v_trunc_f32, 0), GS_ENTRY(v_rndne_f32, 0), GS_ENTRY(v_fract_f32, 0), GS_ENTRY(v_frexp_mant_f32, 0),
    GS_ENTRY(v_frexp_exp_i32_f32, 0), GS_ENTRY(v_ldexp_f32, 0), GS_ENTRY(v_div_scale_f32, 0),
    GS_ENTRY(v_div_fmas_f32, 0), GS_ENTRY(v_div_fixup_f32, 0),
    {0},
};
