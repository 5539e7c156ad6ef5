/* Vector fp64 arithmetic. */
#include <math.h>

#include "valu.h"

#define F64_OP1(name, expression)                                                                                      \
    static void name(gs_wave_t *wave, const gs_insn_t *insn) {                                                         \
        uint64_t buffer_a[GS_LANES];                                                                                   \
        double out[GS_LANES];                                                                                          \
        const uint64_t *pa = gs_read64(wave, insn, 0, buffer_a);                                                       \
        GS_FOR_LANES {                                                                                                 \
            double a = gs_f64(pa[lane]);                                                                               \
            out[lane] = expression;                                                                                    \
        }                                                                                                              \
        gs_write_f64(wave, insn, out);                                                                                 \
    }

#define F64_OP2(name, expression)                                                                                      \
    static void name(gs_wave_t *wave, const gs_insn_t *insn) {                                                         \
        uint64_t buffer_a[GS_LANES], buffer_b[GS_LANES];                                                               \
        double out[GS_LANES];                                                                                          \
        const uint64_t *pa = gs_read64(wave, insn, 0, buffer_a), *pb = gs_read64(wave, insn, 1, buffer_b);             \
        GS_FOR_LANES {                                                                                                 \
            double a = gs_f64(pa[lane]), b = gs_f64(pb[lane]);                                                         \
            out[lane] = expression;                                                                                    \
        }                                                                                                              \
        gs_write_f64(wave, insn, out);                                                                                 \
    }

#define F64_OP3(name, expression)                                                                                      \
    static void name(gs_wave_t *wave, const gs_insn_t *insn) {                                                         \
        uint64_t buffer_a[GS_LANES], buffer_b[GS_LANES], buffer_c[GS_LANES];                                           \
        double out[GS_LANES];                                                                                          \
        const uint64_t *pa = gs_read64(wave, insn, 0, buffer_a), *pb = gs_read64(wave, insn, 1, buffer_b);             \
        const uint64_t *pc = gs_read64(wave, insn, 2, buffer_c);                                                       \
        GS_FOR_LANES {                                                                                                 \
            double a = gs_f64(pa[lane]), b = gs_f64(pb[lane]), c = gs_f64(pc[lane]);                                   \
            out[lane] = expression;                                                                                    \
        }                                                                                                              \
        gs_write_f64(wave, insn, out);                                                                                 \
    }

static double maximum(double a, double b) {
    if (a != a || b != b) return a != a ? b : a;
    return a > b || (a == b && !signbit(a)) ? a : b;
}

static double minimum(double a, double b) {
    if (a != a || b != b) return a != a ? b : a;
    return a < b || (a == b && signbit(a)) ? a : b;
}

static double fraction(double a) {
    double f = a - floor(a);
    return f >= 1 ? 0x1.fffffffffffffp-1 : f;
}

static double mantissa(double a) {
    int exponent;
    return isinf(a) || a != a ? a : frexp(a, &exponent);
}

F64_OP2(v_add_f64, a + b)
F64_OP2(v_mul_f64, a *b)
F64_OP3(v_fma_f64, fma(a, b, c))
F64_OP2(v_max_f64, maximum(a, b))
F64_OP2(v_min_f64, minimum(a, b))
F64_OP1(v_rcp_f64, 1 / a)
F64_OP1(v_sqrt_f64, sqrt(a))
F64_OP1(v_rsq_f64, 1 / sqrt(a))
F64_OP1(v_floor_f64, floor(a))
F64_OP1(v_ceil_f64, ceil(a))
F64_OP1(v_trunc_f64, trunc(a))
F64_OP1(v_rndne_f64, rint(a))
F64_OP1(v_fract_f64, fraction(a))
F64_OP1(v_frexp_mant_f64, mantissa(a))

static void v_fmac_f64(gs_wave_t *wave, const gs_insn_t *insn) {
    uint64_t buffer_a[GS_LANES], buffer_b[GS_LANES];
    double out[GS_LANES];
    const uint64_t *pa = gs_read64(wave, insn, 0, buffer_a), *pb = gs_read64(wave, insn, 1, buffer_b);
    int reg = gs_vector_register(wave, &insn->dst[0], 3);
    GS_FOR_LANES {
        uint64_t old = wave->v[reg][lane] | (uint64_t)wave->v[reg + 1][lane] << 32;
        out[lane] = fma(gs_f64(pa[lane]), gs_f64(pb[lane]), gs_f64(old));
    }
    gs_write_f64(wave, insn, out);
}

static void v_ldexp_f64(gs_wave_t *wave, const gs_insn_t *insn) {
    uint64_t buffer_a[GS_LANES];
    uint32_t buffer_b[GS_LANES];
    double out[GS_LANES];
    const uint64_t *pa = gs_read64(wave, insn, 0, buffer_a);
    const uint32_t *pb = gs_read32(wave, insn, 1, buffer_b);
    GS_FOR_LANES out[lane] = ldexp(gs_f64(pa[lane]), (int32_t)pb[lane]);
    gs_write_f64(wave, insn, out);
}

static void v_frexp_exp_i32_f64(gs_wave_t *wave, const gs_insn_t *insn) {
    uint64_t buffer[GS_LANES];
    uint32_t out[GS_LANES];
    const uint64_t *pa = gs_read64(wave, insn, 0, buffer);
    GS_FOR_LANES {
        double a = gs_f64(pa[lane]);
        int exponent = 0;
        if (a != 0 && isfinite(a)) frexp(a, &exponent);
        out[lane] = (uint32_t)exponent;
    }
    gs_write32(wave, insn, 0, out);
}

/* ---- division, see exec_valu_f32.c ------------------------------------------------------------------------------ */

static inline int biased_exponent(double a) { return (int)(gs_u64(a) >> 52 & 0x7ff); }

static double scale_for_division(double value, double denominator, double numerator, bool *out_scaled) {
    bool small_inverse = fabs(1 / denominator) < 0x1p-1022, small_quotient = fabs(numerator / denominator) < 0x1p-1022;
    bool is_denominator = gs_u64(value) == gs_u64(denominator), is_numerator = gs_u64(value) == gs_u64(numerator);
    *out_scaled = false;
    if (numerator == 0 || denominator == 0) return NAN;
    if (biased_exponent(numerator) - biased_exponent(denominator) >= 768) {
        *out_scaled = true;
        return is_denominator ? ldexp(value, 128) : value;
    }
    if (biased_exponent(denominator) == 0) return ldexp(value, 128);
    if (small_inverse && small_quotient) { /* the ISA document says up, which would overflow */
        *out_scaled = true;
        return is_denominator ? ldexp(value, -128) : value;
    }
    if (small_inverse) return ldexp(value, -128);
    if (small_quotient) {
        *out_scaled = true;
        return is_numerator ? ldexp(value, 128) : value;
    }
    return biased_exponent(numerator) <= 53 ? ldexp(value, 128) : value;
}

static void v_div_scale_f64(gs_wave_t *wave, const gs_insn_t *insn) {
    uint64_t buffer_a[GS_LANES], buffer_b[GS_LANES], buffer_c[GS_LANES], out[GS_LANES], scaled_lanes = 0;
    const uint64_t *pa = gs_read64(wave, insn, 0, buffer_a), *pb = gs_read64(wave, insn, 1, buffer_b);
    const uint64_t *pc = gs_read64(wave, insn, 2, buffer_c);
    GS_FOR_LANES {
        bool scaled;
        out[lane] = gs_u64(scale_for_division(gs_f64(pa[lane]), gs_f64(pb[lane]), gs_f64(pc[lane]), &scaled));
        scaled_lanes |= (uint64_t)scaled << lane;
    }
    gs_write64(wave, insn, out);
    gs_write_mask(wave, insn, 1, scaled_lanes);
}

static double fma_and_unscale(double a, double b, double c, bool scaled) {
    double result = fma(a, b, c);
    return !scaled ? result : ldexp(result, biased_exponent(c) > 1023 ? 128 : -128);
}

F64_OP3(v_div_fmas_f64, fma_and_unscale(a, b, c, gs_pair(wave->s, GS_VCC) >> lane & 1))

static double fix_division(double quotient, double denominator, double numerator) {
    double sign = signbit(denominator) != signbit(numerator) ? -1.0 : 1.0;
    if (numerator != numerator || denominator != denominator) return numerator != numerator ? numerator : denominator;
    if ((numerator == 0 && denominator == 0) || (isinf(numerator) && isinf(denominator))) return NAN;
    if (denominator == 0 || isinf(numerator)) return copysign(INFINITY, sign);
    if (isinf(denominator) || numerator == 0) return copysign(0, sign);
    return quotient != quotient ? copysign(INFINITY, sign) : copysign(quotient, sign);
}

F64_OP3(v_div_fixup_f64, fix_division(a, b, c))

const gs_semantics_t gs_valu_f64_list[] = {
    GS_ENTRY(v_add_f64, 0), GS_ENTRY(v_mul_f64, 0), GS_ENTRY(v_fma_f64, 0), GS_ENTRY(v_max_f64, 0),
    GS_ENTRY(v_min_f64, 0), GS_ENTRY(v_rcp_f64, 0), GS_ENTRY(v_sqrt_f64, 0), GS_ENTRY(v_rsq_f64, 0),
    GS_ENTRY(v_floor_f64, 0), GS_ENTRY(v_ceil_f64, 0), GS_ENTRY(v_trunc_f64, 0), GS_ENTRY(v_rndne_f64, 0),
    GS_ENTRY(v_fract_f64, 0), GS_ENTRY(v_frexp_mant_f64, 0), GS_ENTRY(v_frexp_exp_i32_f64, 0), GS_ENTRY(v_ldexp_f64, 0),
    GS_ENTRY(v_fmac_f64, GS_READS_DST), GS_ENTRY(v_div_scale_f64, 0), GS_ENTRY(v_div_fmas_f64, 0),
    GS_ENTRY(v_div_fixup_f64, 0),
    {0},
};
