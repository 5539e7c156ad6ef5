/* Conversions between number formats, but for the scaled ones of gfx950 (exec_convert_scaled.c). */
#include <math.h>

#include "valu.h"

/* ---- integers and fp32: out of range saturates, NaN becomes 0 --------------------------------------------------- */

static inline uint32_t to_i32(float a) {
    return a != a ? 0 : a >= 0x1p31f ? INT32_MAX : a < -0x1p31f ? 0x80000000 : (uint32_t)(int32_t)a;
}

static inline uint32_t to_u32(float a) { return !(a > 0) ? 0 : a >= 0x1p32f ? UINT32_MAX : (uint32_t)a; }

static inline uint32_t to_i16(float a) {
    return (uint16_t)(int16_t)(a != a ? 0 : a > INT16_MAX ? INT16_MAX : a < INT16_MIN ? INT16_MIN : a);
}

static inline uint32_t to_u16(float a) { return (uint32_t)(!(a > 0) ? 0 : a > UINT16_MAX ? UINT16_MAX : a); }

LANE_OP1(v_cvt_i32_f32, to_i32(gs_f32(a)))
LANE_OP1(v_cvt_u32_f32, to_u32(gs_f32(a)))
LANE_OP1(v_cvt_rpi_i32_f32, to_i32(floorf(gs_f32(a) + 0.5f)))
LANE_OP1(v_cvt_flr_i32_f32, to_i32(floorf(gs_f32(a))))

#define TO_F32(name, expression)                                                                                       \
    static void name(gs_wave_t *wave, const gs_insn_t *insn) {                                                         \
        uint32_t buffer_a[GS_LANES];                                                                                   \
        float out[GS_LANES];                                                                                           \
        const uint32_t *pa = gs_read32(wave, insn, 0, buffer_a);                                                       \
        GS_FOR_LANES {                                                                                                 \
            uint32_t a = pa[lane];                                                                                     \
            out[lane] = expression;                                                                                    \
        }                                                                                                              \
        gs_write_f32(wave, insn, out);                                                                                 \
    }

TO_F32(v_cvt_f32_i32, (float)(int32_t)a)
TO_F32(v_cvt_f32_u32, (float)a)
TO_F32(v_cvt_f32_ubyte0, (float)(int32_t)(a & 0xff))
TO_F32(v_cvt_f32_ubyte1, (float)(int32_t)(a >> 8 & 0xff))
TO_F32(v_cvt_f32_ubyte2, (float)(int32_t)(a >> 16 & 0xff))
TO_F32(v_cvt_f32_ubyte3, (float)(int32_t)(a >> 24))
TO_F32(v_cvt_off_f32_i4, (float)((int32_t)(a << 28) >> 28) / 16)

/* ---- f16 and bf16 ----------------------------------------------------------------------------------------------- */

static void v_cvt_f16_f32(gs_wave_t *wave, const gs_insn_t *insn) {
    uint32_t buffer[GS_LANES];
    float out[GS_LANES];
    const uint32_t *pa = gs_read32(wave, insn, 0, buffer);
    GS_FOR_LANES out[lane] = gs_f32(pa[lane]);
    gs_write_f16(wave, insn, out);
}

static void widen(gs_wave_t *wave, const gs_insn_t *insn) /* v_cvt_f32_f16, v_cvt_f32_bf16 (insn->a) */
{
    uint32_t buffer[GS_LANES];
    float out[GS_LANES];
    const uint32_t *pa = gs_read16(wave, insn, 0, buffer);
    GS_FOR_LANES out[lane] = insn->a ? gs_bf16_value(pa[lane]) : gs_f16_value(pa[lane]);
    gs_write_f32(wave, insn, out);
}

static void f16_of_integer(gs_wave_t *wave, const gs_insn_t *insn) /* insn->a: signed */
{
    uint32_t buffer[GS_LANES];
    float out[GS_LANES];
    const uint32_t *pa = gs_read16(wave, insn, 0, buffer);
    GS_FOR_LANES out[lane] = (float)(insn->a ? (int32_t)(int16_t)pa[lane] : (int32_t)pa[lane]);
    gs_write_f16(wave, insn, out);
}

static void integer_of_f16(gs_wave_t *wave, const gs_insn_t *insn) /* insn->a: signed */
{
    uint32_t buffer[GS_LANES], out[GS_LANES];
    const uint32_t *pa = gs_read16(wave, insn, 0, buffer);
    GS_FOR_LANES {
        float value = gs_f16_value(pa[lane]);
        out[lane] = insn->a ? to_i16(value) : to_u16(value);
    }
    gs_write16(wave, insn, out);
}

static inline float clamped(const gs_insn_t *insn, float value) { return insn->clamp ? gs_clamp_f32(value) : value; }

static inline uint32_t pack_f16(float low, float high) { return gs_f16_bits(low) | gs_f16_bits(high) << 16; }
static inline uint32_t pack_bf16(float low, float high) { return gs_bf16_bits(low) | gs_bf16_bits(high) << 16; }

static inline uint32_t pack_f16_toward_zero(float low, float high) {
    return gs_f16_bits_toward_zero(low) | gs_f16_bits_toward_zero(high) << 16;
}

LANE_OP2(v_cvt_pk_f16_f32, pack_f16(clamped(insn, gs_f32(a)), clamped(insn, gs_f32(b))))
LANE_OP2(v_cvt_pk_bf16_f32, pack_bf16(clamped(insn, gs_f32(a)), clamped(insn, gs_f32(b))))
LANE_OP2(v_cvt_pkrtz_f16_f32, pack_f16_toward_zero(gs_f32(a), gs_f32(b)))

/* ---- packed integers -------------------------------------------------------------------------------------------- */

static inline uint32_t norm_i16(float a) { return to_i16(rintf(fminf(fmaxf(a, -1), 1) * 32767)); }
static inline uint32_t norm_u16(float a) { return to_u16(rintf(fminf(fmaxf(a, 0), 1) * 65535)); }

static inline uint32_t saturate_i16(uint32_t a) {
    int32_t value = (int32_t)a;
    return (uint16_t)(int16_t)(value > INT16_MAX ? INT16_MAX : value < INT16_MIN ? INT16_MIN : value);
}

static inline uint32_t saturate_u16(uint32_t a) { return a > UINT16_MAX ? UINT16_MAX : a; }

static inline uint32_t insert_u8(float value, uint32_t index, uint32_t into) {
    uint32_t byte = !(value > 0) ? 0 : value >= 255 ? 255 : (uint32_t)value, shift = 8 * (index & 3);
    return (into & ~(0xffu << shift)) | byte << shift;
}

LANE_OP2(v_cvt_pknorm_i16_f32, norm_i16(gs_f32(a)) | norm_i16(gs_f32(b)) << 16)
LANE_OP2(v_cvt_pknorm_u16_f32, norm_u16(gs_f32(a)) | norm_u16(gs_f32(b)) << 16)
LANE_OP2(v_cvt_pk_i16_i32, saturate_i16(a) | saturate_i16(b) << 16)
LANE_OP2(v_cvt_pk_u16_u32, saturate_u16(a) | saturate_u16(b) << 16)
LANE_OP3(v_cvt_pk_u8_f32, insert_u8(gs_f32(a), b, c))

/* ---- fp64 ------------------------------------------------------------------------------------------------------- */

static void v_cvt_f32_f64(gs_wave_t *wave, const gs_insn_t *insn) {
    uint64_t buffer[GS_LANES];
    float out[GS_LANES];
    const uint64_t *pa = gs_read64(wave, insn, 0, buffer);
    GS_FOR_LANES out[lane] = (float)gs_f64(pa[lane]);
    gs_write_f32(wave, insn, out);
}

enum { FROM_F32, FROM_I32, FROM_U32 };

static void f64_of(gs_wave_t *wave, const gs_insn_t *insn) /* insn->a: of what */
{
    uint32_t buffer[GS_LANES];
    double out[GS_LANES];
    const uint32_t *pa = gs_read32(wave, insn, 0, buffer);
    GS_FOR_LANES {
        uint32_t a = pa[lane];
        out[lane] = insn->a == FROM_F32 ? (double)gs_f32(a) : insn->a == FROM_I32 ? (double)(int32_t)a : (double)a;
    }
    gs_write_f64(wave, insn, out);
}

static void integer_of_f64(gs_wave_t *wave, const gs_insn_t *insn) /* insn->a: signed */
{
    uint64_t buffer[GS_LANES];
    uint32_t out[GS_LANES];
    const uint64_t *pa = gs_read64(wave, insn, 0, buffer);
    GS_FOR_LANES {
        double a = gs_f64(pa[lane]);
        if (insn->a)
            out[lane] = a != a ? 0 : a >= INT32_MAX ? INT32_MAX : a <= INT32_MIN ? 0x80000000 : (uint32_t)(int32_t)a;
        else
            out[lane] = !(a > 0) ? 0 : a >= UINT32_MAX ? UINT32_MAX : (uint32_t)a;
    }
    gs_write32(wave, insn, 0, out);
}

/* ---- fp8 and bf8 (insn->a: bf8) --------------------------------------------------------------------------------- */

enum { FP16_OVFL = 1 << 23 }; /* MODE: overflow gives the largest finite value */

static gs_small_kind_t kind_of(const gs_wave_t *wave, const gs_insn_t *insn) {
    return gs_fp8_kind(wave->program->arch, insn->a);
}

static void f32_of_fp8(gs_wave_t *wave, const gs_insn_t *insn) {
    uint32_t buffer[GS_LANES];
    float out[GS_LANES];
    const uint32_t *pa = gs_read32(wave, insn, 0, buffer);
    const float *values = gs_small_values(kind_of(wave, insn));
    GS_FOR_LANES out[lane] = values[pa[lane] & 0xff];
    gs_write_f32(wave, insn, out);
}

static void pk_f32_of_fp8(gs_wave_t *wave, const gs_insn_t *insn) {
    uint32_t buffer[GS_LANES];
    uint64_t out[GS_LANES];
    const uint32_t *pa = gs_read32(wave, insn, 0, buffer);
    const float *values = gs_small_values(kind_of(wave, insn));
    int shift = insn->op_sel & 1 ? 16 : 0;
    GS_FOR_LANES {
        uint32_t pair = pa[lane] >> shift;
        out[lane] = gs_u32(values[pair & 0xff]) | (uint64_t)gs_u32(values[pair >> 8 & 0xff]) << 32;
    }
    gs_write64(wave, insn, out);
}

/* Two values to one half of the destination; op_sel says which. */
static void pk_fp8_of_f32(gs_wave_t *wave, const gs_insn_t *insn) {
    uint32_t buffer_a[GS_LANES], buffer_b[GS_LANES], out[GS_LANES];
    const uint32_t *pa = gs_read32(wave, insn, 0, buffer_a), *pb = gs_read32(wave, insn, 1, buffer_b);
    const uint32_t *old = wave->v[gs_vector_register(wave, &insn->dst[0], 3)];
    gs_small_kind_t kind = kind_of(wave, insn);
    bool saturate = wave->mode & FP16_OVFL, high = insn->op_sel >> 3 & 1;
    GS_FOR_LANES {
        uint32_t pair = gs_small_bits(kind, gs_f32(pa[lane]), saturate) |
                        gs_small_bits(kind, gs_f32(pb[lane]), saturate) << 8;
        out[lane] = high ? (old[lane] & 0xffff) | pair << 16 : (old[lane] & 0xffff0000) | pair;
    }
    gs_write32(wave, insn, 0, out);
}

/* Stochastic rounding to the byte of the destination that op_sel[3:2] names. */
static void sr_fp8_of_f32(gs_wave_t *wave, const gs_insn_t *insn) {
    uint32_t buffer_a[GS_LANES], buffer_b[GS_LANES], out[GS_LANES];
    const uint32_t *pa = gs_read32(wave, insn, 0, buffer_a), *pb = gs_read32(wave, insn, 1, buffer_b);
    const uint32_t *old = wave->v[gs_vector_register(wave, &insn->dst[0], 3)];
    int shift = 8 * (insn->op_sel >> 2 & 3);
    GS_FOR_LANES {
        uint32_t byte = gs_small_bits_stochastic(kind_of(wave, insn), gs_f32(pa[lane]), pb[lane],
                                                 wave->mode & FP16_OVFL);
        out[lane] = (old[lane] & ~(0xffu << shift)) | byte << shift;
    }
    gs_write32(wave, insn, 0, out);
}

/* ---- the list --------------------------------------------------------------------------------------------------- */

enum { BITS = GS_BITWISE, KEEPS = GS_KEEPS_DST };

const gs_semantics_t gs_convert_list[] = {
    GS_ENTRY(v_cvt_i32_f32, 0), GS_ENTRY(v_cvt_u32_f32, 0), GS_ENTRY(v_cvt_rpi_i32_f32, 0),
    GS_ENTRY(v_cvt_flr_i32_f32, 0), GS_ENTRY(v_cvt_f32_i32, 0), GS_ENTRY(v_cvt_f32_u32, 0),
    GS_ENTRY(v_cvt_f32_ubyte0, BITS), GS_ENTRY(v_cvt_f32_ubyte1, BITS), GS_ENTRY(v_cvt_f32_ubyte2, BITS),
    GS_ENTRY(v_cvt_f32_ubyte3, BITS), GS_ENTRY(v_cvt_off_f32_i4, BITS),
    GS_ENTRY(v_cvt_f16_f32, 0), {"v_cvt_f32_f16", widen, 0, 0, 0, 0}, {"v_cvt_f32_bf16", widen, 1, 0, 0, 0},
    {"v_cvt_f16_u16", f16_of_integer, 0, 0, 0, 0}, {"v_cvt_f16_i16", f16_of_integer, 1, 0, 0, 0},
    {"v_cvt_u16_f16", integer_of_f16, 0, 0, 0, 0}, {"v_cvt_i16_f16", integer_of_f16, 1, 0, 0, 0},
    GS_ENTRY(v_cvt_pk_f16_f32, 0), GS_ENTRY(v_cvt_pk_bf16_f32, 0), GS_ENTRY(v_cvt_pkrtz_f16_f32, 0),
    GS_ENTRY(v_cvt_pknorm_i16_f32, 0), GS_ENTRY(v_cvt_pknorm_u16_f32, 0), GS_ENTRY(v_cvt_pk_i16_i32, 0),
    GS_ENTRY(v_cvt_pk_u16_u32, 0), GS_ENTRY(v_cvt_pk_u8_f32, 0), GS_ENTRY(v_cvt_f32_f64, 0),
    {"v_cvt_f64_f32", f64_of, FROM_F32, 0, 0, 0}, {"v_cvt_f64_i32", f64_of, FROM_I32, 0, 0, 0},
    {"v_cvt_f64_u32", f64_of, FROM_U32, 0, 0, 0}, {"v_cvt_u32_f64", integer_of_f64, 0, 0, 0, 0},
    {"v_cvt_i32_f64", integer_of_f64, 1, 0, 0, 0},
    {"v_cvt_f32_fp8", f32_of_fp8, 0, 0, BITS, 0}, {"v_cvt_f32_bf8", f32_of_fp8, 1, 0, BITS, 0},
    {"v_cvt_pk_f32_fp8", pk_f32_of_fp8, 0, 0, BITS, 0}, {"v_cvt_pk_f32_bf8", pk_f32_of_fp8, 1, 0, BITS, 0},
    {"v_cvt_pk_fp8_f32", pk_fp8_of_f32, 0, 0, KEEPS, 0}, {"v_cvt_pk_bf8_f32", pk_fp8_of_f32, 1, 0, KEEPS, 0},
    {"v_cvt_sr_fp8_f32", sr_fp8_of_f32, 0, 0, KEEPS, 0}, {"v_cvt_sr_bf8_f32", sr_fp8_of_f32, 1, 0, KEEPS, 0},
    {0},
};
