/* Shapes of vector instructions: `expression` gives one lane's result of its sources a, b and c. */
#ifndef GFXSIM_VALU_H
#define GFXSIM_VALU_H

#include "exec.h"

/* ---- 32-bit integers -------------------------------------------------------------------------------------------- */

#define LANE_OP1(name, expression)                                                                                     \
    static void name(gs_wave_t *wave, const gs_insn_t *insn) {                                                         \
        uint32_t buffer_a[GS_LANES], out[GS_LANES];                                                                    \
        const uint32_t *pa = gs_read32(wave, insn, 0, buffer_a);                                                       \
        GS_FOR_LANES {                                                                                                 \
            uint32_t a = pa[lane];                                                                                     \
            out[lane] = expression;                                                                                    \
        }                                                                                                              \
        gs_write32(wave, insn, 0, out);                                                                                \
    }

#define LANE_OP2(name, expression)                                                                                     \
    static void name(gs_wave_t *wave, const gs_insn_t *insn) {                                                         \
        uint32_t buffer_a[GS_LANES], buffer_b[GS_LANES], out[GS_LANES];                                                \
        const uint32_t *pa = gs_read32(wave, insn, 0, buffer_a), *pb = gs_read32(wave, insn, 1, buffer_b);             \
        GS_FOR_LANES {                                                                                                 \
            uint32_t a = pa[lane], b = pb[lane];                                                                       \
            out[lane] = expression;                                                                                    \
        }                                                                                                              \
        gs_write32(wave, insn, 0, out);                                                                                \
    }

#define LANE_OP3(name, expression)                                                                                     \
    static void name(gs_wave_t *wave, const gs_insn_t *insn) {                                                         \
        uint32_t buffer_a[GS_LANES], buffer_b[GS_LANES], buffer_c[GS_LANES], out[GS_LANES];                            \
        const uint32_t *pa = gs_read32(wave, insn, 0, buffer_a), *pb = gs_read32(wave, insn, 1, buffer_b);             \
        const uint32_t *pc = gs_read32(wave, insn, 2, buffer_c);                                                       \
        GS_FOR_LANES {                                                                                                 \
            uint32_t a = pa[lane], b = pb[lane], c = pc[lane];                                                         \
            out[lane] = expression;                                                                                    \
        }                                                                                                              \
        gs_write32(wave, insn, 0, out);                                                                                \
    }

/* ---- fp32: omod and clamp apply to the result ------------------------------------------------------------------- */

#define F32_OP1(name, expression)                                                                                      \
    static void name(gs_wave_t *wave, const gs_insn_t *insn) {                                                         \
        uint32_t buffer_a[GS_LANES];                                                                                   \
        float out[GS_LANES];                                                                                           \
        const uint32_t *pa = gs_read32(wave, insn, 0, buffer_a);                                                       \
        GS_FOR_LANES {                                                                                                 \
            float a = gs_f32(pa[lane]);                                                                                \
            out[lane] = expression;                                                                                    \
        }                                                                                                              \
        gs_write_f32(wave, insn, out);                                                                                 \
    }

#define F32_OP2(name, expression)                                                                                      \
    static void name(gs_wave_t *wave, const gs_insn_t *insn) {                                                         \
        uint32_t buffer_a[GS_LANES], buffer_b[GS_LANES];                                                               \
        float out[GS_LANES];                                                                                           \
        const uint32_t *pa = gs_read32(wave, insn, 0, buffer_a), *pb = gs_read32(wave, insn, 1, buffer_b);             \
        GS_FOR_LANES {                                                                                                 \
            float a = gs_f32(pa[lane]), b = gs_f32(pb[lane]);                                                          \
            out[lane] = expression;                                                                                    \
        }                                                                                                              \
        gs_write_f32(wave, insn, out);                                                                                 \
    }

#define F32_OP3(name, expression)                                                                                      \
    static void name(gs_wave_t *wave, const gs_insn_t *insn) {                                                         \
        uint32_t buffer_a[GS_LANES], buffer_b[GS_LANES], buffer_c[GS_LANES];                                           \
        float out[GS_LANES];                                                                                           \
        const uint32_t *pa = gs_read32(wave, insn, 0, buffer_a), *pb = gs_read32(wave, insn, 1, buffer_b);             \
        const uint32_t *pc = gs_read32(wave, insn, 2, buffer_c);                                                       \
        GS_FOR_LANES {                                                                                                 \
            float a = gs_f32(pa[lane]), b = gs_f32(pb[lane]), c = gs_f32(pc[lane]);                                    \
            out[lane] = expression;                                                                                    \
        }                                                                                                              \
        gs_write_f32(wave, insn, out);                                                                                 \
    }

/* ---- minimum, maximum and median: a NaN gives way to a number; -0 is less than +0 ------------------------------- */

static inline float gs_max_f32(float a, float b) {
    float larger = a > b ? a : a == b ? gs_f32(gs_u32(a) & gs_u32(b)) : b;
    return a != a ? b : b != b ? a : larger;
}

static inline float gs_min_f32(float a, float b) {
    float smaller = a < b ? a : a == b ? gs_f32(gs_u32(a) | gs_u32(b)) : b;
    return a != a ? b : b != b ? a : smaller;
}

static inline float gs_med3_f32(float a, float b, float c) {
    if (a != a || b != b || c != c) return gs_min_f32(gs_min_f32(a, b), c);
    float largest = gs_max_f32(gs_max_f32(a, b), c);
    return largest == a ? gs_max_f32(b, c) : largest == b ? gs_max_f32(a, c) : gs_max_f32(a, b);
}

#endif
