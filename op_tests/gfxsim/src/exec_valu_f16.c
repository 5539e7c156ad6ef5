/* Vector f16 arithmetic. fp32 has more than twice the digits of f16: rounding an fp32 sum, product, quotient or root to
 * f16 rounds once. A fused multiply-add has its own function. */
#include <math.h>

#include "valu.h"

#define F16_OP1(name, expression)                                                                                      \
    static void name(gs_wave_t *wave, const gs_insn_t *insn) {                                                         \
        uint32_t buffer_a[GS_LANES];                                                                                   \
        float out[GS_LANES];                                                                                           \
        const uint32_t *pa = gs_read16(wave, insn, 0, buffer_a);                                                       \
        GS_FOR_LANES {                                                                                                 \
            float a = gs_f16_value(pa[lane]);                                                                          \
            out[lane] = expression;                                                                                    \
        }                                                                                                              \
        gs_write_f16(wave, insn, out);                                                                                 \
    }

#define F16_OP2(name, expression)                                                                                      \
    static void name(gs_wave_t *wave, const gs_insn_t *insn) {                                                         \
        uint32_t buffer_a[GS_LANES], buffer_b[GS_LANES];                                                               \
        float out[GS_LANES];                                                                                           \
        const uint32_t *pa = gs_read16(wave, insn, 0, buffer_a), *pb = gs_read16(wave, insn, 1, buffer_b);             \
        GS_FOR_LANES {                                                                                                 \
            float a = gs_f16_value(pa[lane]), b = gs_f16_value(pb[lane]);                                              \
            out[lane] = expression;                                                                                    \
        }                                                                                                              \
        gs_write_f16(wave, insn, out);                                                                                 \
    }

#define F16_OP3(name, expression)                                                                                      \
    static void name(gs_wave_t *wave, const gs_insn_t *insn) {                                                         \
        uint32_t buffer_a[GS_LANES], buffer_b[GS_LANES], buffer_c[GS_LANES];                                           \
        float out[GS_LANES];                                                                                           \
        const uint32_t *pa = gs_read16(wave, insn, 0, buffer_a), *pb = gs_read16(wave, insn, 1, buffer_b);             \
        const uint32_t *pc = gs_read16(wave, insn, 2, buffer_c);                                                       \
        GS_FOR_LANES {                                                                                                 \
            float a = gs_f16_value(pa[lane]), b = gs_f16_value(pb[lane]), c = gs_f16_value(pc[lane]);                  \
            out[lane] = expression;                                                                                    \
        }                                                                                                              \
        gs_write_f16(wave, insn, out);                                                                                 \
    }

static inline float fma_f16(float a, float b, float c) { return gs_f16_value(gs_f16_fma(a, b, c)); }

static inline float fraction(float a) {
    float f = a - floorf(a);
    return f > 0x1.ffcp-1f ? 0x1.ffcp-1f : f;
}

static inline float mantissa(float a) {
    int exponent;
    return isinf(a) || a != a ? a : frexpf(a, &exponent);
}

static inline float turn(float a) { return a - floorf(a); }

F16_OP2(v_add_f16, a + b)
F16_OP2(v_sub_f16, a - b)
F16_OP2(v_subrev_f16, b - a)
F16_OP2(v_mul_f16, a *b)
F16_OP2(v_max_f16, gs_max_f32(a, b))
F16_OP2(v_min_f16, gs_min_f32(a, b))
F16_OP3(v_fma_f16, fma_f16(a, b, c))
F16_OP3(v_max3_f16, gs_max_f32(gs_max_f32(a, b), c))
F16_OP3(v_min3_f16, gs_min_f32(gs_min_f32(a, b), c))
F16_OP3(v_med3_f16, gs_med3_f32(a, b, c))
F16_OP1(v_rcp_f16, 1 / a)
F16_OP1(v_sqrt_f16, sqrtf(a))
F16_OP1(v_rsq_f16, (float)(1 / sqrt((double)a)))
F16_OP1(v_exp_f16, exp2f(a))
F16_OP1(v_log_f16, log2f(a))
F16_OP1(v_sin_f16, (float)sin(6.283185307179586 * (double)turn(a)))
F16_OP1(v_cos_f16, (float)cos(6.283185307179586 * (double)turn(a)))
F16_OP1(v_floor_f16, floorf(a))
F16_OP1(v_ceil_f16, ceilf(a))
F16_OP1(v_trunc_f16, truncf(a))
F16_OP1(v_rndne_f16, rintf(a))
F16_OP1(v_fract_f16, fraction(a))
F16_OP1(v_frexp_mant_f16, mantissa(a))

static void v_frexp_exp_i16_f16(gs_wave_t *wave, const gs_insn_t *insn) {
    uint32_t buffer[GS_LANES], out[GS_LANES];
    const uint32_t *pa = gs_read16(wave, insn, 0, buffer);
    GS_FOR_LANES {
        float a = gs_f16_value(pa[lane]);
        int exponent = 0;
        if (a != 0 && isfinite(a)) frexpf(a, &exponent);
        out[lane] = (uint16_t)exponent;
    }
    gs_write16(wave, insn, out);
}

static void v_ldexp_f16(gs_wave_t *wave, const gs_insn_t *insn) {
    uint32_t buffer_a[GS_LANES], buffer_b[GS_LANES];
    float out[GS_LANES];
    const uint32_t *pa = gs_read16(wave, insn, 0, buffer_a), *pb = gs_read16(wave, insn, 1, buffer_b);
    GS_FOR_LANES {
        int amount = (int16_t)pb[lane];
        out[lane] = ldexpf(gs_f16_value(pa[lane]), amount < -60 ? -60 : amount > 60 ? 60 : amount);
    }
    gs_write_f16(wave, insn, out);
}

static float fix_division(float quotient, float denominator, float numerator) {
    bool negative = signbit(denominator) != signbit(numerator);
    if (numerator != numerator || denominator != denominator) return numerator != numerator ? numerator : denominator;
    if ((numerator == 0 && denominator == 0) || (isinf(numerator) && isinf(denominator))) return -NAN;
    if (denominator == 0 || isinf(numerator)) return negative ? -INFINITY : INFINITY;
    if (isinf(denominator) || numerator == 0) return negative ? -0.0f : 0.0f;
    return copysignf(quotient, negative ? -1.0f : 1.0f);
}

F16_OP3(v_div_fixup_f16, fix_division(a, b, c))

static void v_pack_b32_f16(gs_wave_t *wave, const gs_insn_t *insn) {
    uint32_t buffer_a[GS_LANES], buffer_b[GS_LANES], out[GS_LANES];
    const uint32_t *pa = gs_read16(wave, insn, 0, buffer_a), *pb = gs_read16(wave, insn, 1, buffer_b);
    GS_FOR_LANES out[lane] = pa[lane] | pb[lane] << 16;
    gs_write32(wave, insn, 0, out);
}

const gs_semantics_t gs_valu_f16_list[] = {
    GS_ENTRY(v_add_f16, 0), GS_ENTRY(v_sub_f16, 0), GS_ENTRY(v_subrev_f16, 0), GS_ENTRY(v_mul_f16, 0),
    GS_ENTRY(v_max_f16, 0), GS_ENTRY(v_min_f16, 0), GS_ENTRY(v_fma_f16, 0),
    GS_ENTRY(v_max3_f16, 0), GS_ENTRY(v_min3_f16, 0), GS_ENTRY(v_med3_f16, 0), GS_ENTRY(v_rcp_f16, 0),
    GS_ENTRY(v_sqrt_f16, 0), GS_ENTRY(v_rsq_f16, 0), GS_ENTRY(v_exp_f16, 0), GS_ENTRY(v_log_f16, 0),
    GS_ENTRY(v_sin_f16, 0), GS_ENTRY(v_cos_f16, 0), GS_ENTRY(v_floor_f16, 0), GS_ENTRY(v_ceil_f16, 0),
    GS_ENTRY(v_trunc_f16, 0), GS_ENTRY(v_rndne_f16, 0), GS_ENTRY(v_fract_f16, 0), GS_ENTRY(v_frexp_mant_f16, 0),
    GS_ENTRY(v_frexp_exp_i16_f16, 0), GS_ENTRY(v_ldexp_f16, 0), GS_ENTRY(v_div_fixup_f16, 0),
    GS_ENTRY(v_pack_b32_f16, GS_BITWISE),
    {0},
};
