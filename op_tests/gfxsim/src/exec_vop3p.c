/* Packed instructions: two 16-bit or two 32-bit halves at once. op_sel names the half that a source gives to the low
 * result, op_sel_hi the one that it gives to the high result; neg and neg_hi likewise. */
#include <math.h>

#include "valu.h"

/* ---- 16-bit halves ---------------------------------------------------------------------------------------------- */

static void read_halves(gs_wave_t *wave, const gs_insn_t *insn, int k, bool is_float, uint32_t low[GS_LANES],
                        uint32_t high[GS_LANES]) {
    const gs_operand_t *operand = &insn->src[k];
    int low_shift = insn->op_sel >> k & 1 ? 16 : 0, high_shift = insn->op_sel_hi >> k & 1 ? 16 : 0;
    uint32_t low_flip = is_float && (insn->neg >> k & 1) ? 0x8000 : 0;
    uint32_t high_flip = is_float && (insn->neg_hi >> k & 1) ? 0x8000 : 0, scalar[GS_LANES];
    const uint32_t *source = scalar;
    if (operand->kind == GS_VREG) {
        source = wave->v[gs_vector_register(wave, operand, k)];
    } else {
        uint32_t value = gs_read_scalar32(wave, operand);
        GS_FOR_LANES scalar[lane] = value;
    }
    GS_FOR_LANES {
        low[lane] = (source[lane] >> low_shift & 0xffff) ^ low_flip;
        high[lane] = (source[lane] >> high_shift & 0xffff) ^ high_flip;
    }
}

#define PACKED_F16(name, sources, expression)                                                                          \
    static void name(gs_wave_t *wave, const gs_insn_t *insn) {                                                         \
        uint32_t halves[2][3][GS_LANES], out[GS_LANES] = {0};                                                          \
        for (int k = 0; k < sources; k++)                                                                              \
            read_halves(wave, insn, k, true, halves[0][k], halves[1][k]);                                              \
        for (int half = 0; half < 2; half++)                                                                           \
            GS_FOR_LANES {                                                                                             \
                float a = gs_f16_value(halves[half][0][lane]), b = gs_f16_value(halves[half][1][lane]);                \
                float c = sources > 2 ? gs_f16_value(halves[half][2][lane]) : 0, r = expression;                       \
                (void)c;                                                                                               \
                out[lane] |= gs_f16_bits(insn->clamp ? gs_clamp_f32(r) : r) << 16 * half;                              \
            }                                                                                                          \
        gs_write32(wave, insn, 0, out);                                                                                \
    }

#define PACKED_INT(name, sources, type, expression)                                                                    \
    static void name(gs_wave_t *wave, const gs_insn_t *insn) {                                                         \
        uint32_t halves[2][3][GS_LANES], out[GS_LANES] = {0};                                                          \
        for (int k = 0; k < sources; k++)                                                                              \
            read_halves(wave, insn, k, false, halves[0][k], halves[1][k]);                                             \
        for (int half = 0; half < 2; half++)                                                                           \
            GS_FOR_LANES {                                                                                             \
                type a = (type)halves[half][0][lane], b = (type)halves[half][1][lane];                                 \
                type c = sources > 2 ? (type)halves[half][2][lane] : 0;                                                \
                (void)c;                                                                                               \
                out[lane] |= (uint32_t)(uint16_t)(expression) << 16 * half;                                            \
            }                                                                                                          \
        gs_write32(wave, insn, 0, out);                                                                                \
    }

static inline float fma_f16(float a, float b, float c) { return gs_f16_value(gs_f16_fma(a, b, c)); }
static inline bool any_nan(float a, float b, float c) { return a != a || b != b || c != c; }

static inline int64_t saturate(const gs_insn_t *insn, int64_t value, int64_t low, int64_t high) {
    return !insn->clamp ? value : value < low ? low : value > high ? high : value;
}

static inline int64_t saturate_u16(const gs_insn_t *insn, int64_t value) {
    return saturate(insn, value, 0, UINT16_MAX);
}

static inline int64_t saturate_i16(const gs_insn_t *insn, int64_t value) {
    return saturate(insn, value, INT16_MIN, INT16_MAX);
}

PACKED_F16(v_pk_add_f16, 2, a + b)
PACKED_F16(v_pk_mul_f16, 2, a *b)
PACKED_F16(v_pk_fma_f16, 3, fma_f16(a, b, c))
PACKED_F16(v_pk_max_f16, 2, gs_max_f32(a, b))
PACKED_F16(v_pk_min_f16, 2, gs_min_f32(a, b))
PACKED_F16(v_pk_maximum3_f16, 3, any_nan(a, b, c) ? NAN : gs_max_f32(gs_max_f32(a, b), c))
PACKED_F16(v_pk_minimum3_f16, 3, any_nan(a, b, c) ? NAN : gs_min_f32(gs_min_f32(a, b), c))
PACKED_INT(v_pk_add_u16, 2, uint16_t, saturate_u16(insn, (int64_t)a + b))
PACKED_INT(v_pk_sub_u16, 2, uint16_t, saturate_u16(insn, (int64_t)a - b))
PACKED_INT(v_pk_add_i16, 2, int16_t, saturate_i16(insn, (int64_t)a + b))
PACKED_INT(v_pk_sub_i16, 2, int16_t, saturate_i16(insn, (int64_t)a - b))
PACKED_INT(v_pk_mul_lo_u16, 2, uint16_t, (uint32_t)a *b)
PACKED_INT(v_pk_lshlrev_b16, 2, uint16_t, b << (a & 15))
PACKED_INT(v_pk_lshrrev_b16, 2, uint16_t, b >> (a & 15))
PACKED_INT(v_pk_ashrrev_i16, 2, int16_t, b >> (a & 15))
PACKED_INT(v_pk_max_i16, 2, int16_t, a > b ? a : b)
PACKED_INT(v_pk_min_i16, 2, int16_t, a < b ? a : b)
PACKED_INT(v_pk_max_u16, 2, uint16_t, a > b ? a : b)
PACKED_INT(v_pk_min_u16, 2, uint16_t, a < b ? a : b)
PACKED_INT(v_pk_mad_u16, 3, uint16_t, saturate_u16(insn, (int64_t)a *b + c))
PACKED_INT(v_pk_mad_i16, 3, int16_t, saturate_i16(insn, (int64_t)a *b + c))

/* ---- 32-bit halves ---------------------------------------------------------------------------------------------- */

/* The word of a 64-bit source, for every lane. */
static const uint32_t *read_word(gs_wave_t *wave, const gs_operand_t *operand, int word, uint32_t buffer[GS_LANES]) {
    if (operand->kind == GS_VREG) return wave->v[(operand->reg + word) & (GS_VREGS - 1)];
    uint32_t value = (uint32_t)(gs_read_scalar64(wave, operand) >> 32 * word);
    GS_FOR_LANES buffer[lane] = value;
    return buffer;
}

static void read_words(gs_wave_t *wave, const gs_insn_t *insn, int k, float low[GS_LANES], float high[GS_LANES]) {
    uint32_t buffer[GS_LANES];
    const uint32_t *source = read_word(wave, &insn->src[k], insn->op_sel >> k & 1, buffer);
    uint32_t flip = (uint32_t)(insn->neg >> k & 1) << 31;
    GS_FOR_LANES low[lane] = gs_f32(source[lane] ^ flip);
    source = read_word(wave, &insn->src[k], insn->op_sel_hi >> k & 1, buffer);
    flip = (uint32_t)(insn->neg_hi >> k & 1) << 31;
    GS_FOR_LANES high[lane] = gs_f32(source[lane] ^ flip);
}

static void write_words(gs_wave_t *wave, const gs_insn_t *insn, const float words[2][GS_LANES]) {
    for (int word = 0; word < 2; word++) {
        uint32_t bits[GS_LANES];
        GS_FOR_LANES bits[lane] = gs_u32(insn->clamp ? gs_clamp_f32(words[word][lane]) : words[word][lane]);
        gs_blend(wave, insn->dst[0].reg + word, bits, wave->lanes);
    }
}

#define PACKED_F32(name, sources, expression)                                                                          \
    static void name(gs_wave_t *wave, const gs_insn_t *insn) {                                                         \
        float words[3][2][GS_LANES], out[2][GS_LANES];                                                                 \
        for (int k = 0; k < sources; k++)                                                                              \
            read_words(wave, insn, k, words[k][0], words[k][1]);                                                       \
        for (int word = 0; word < 2; word++)                                                                           \
            GS_FOR_LANES {                                                                                             \
                float a = words[0][word][lane], b = words[1][word][lane], c = sources > 2 ? words[2][word][lane] : 0;  \
                (void)c;                                                                                               \
                out[word][lane] = expression;                                                                          \
            }                                                                                                          \
        write_words(wave, insn, out);                                                                                  \
    }

PACKED_F32(v_pk_add_f32, 2, a + b)
PACKED_F32(v_pk_mul_f32, 2, a *b)
PACKED_F32(v_pk_fma_f32, 3, __builtin_fmaf(a, b, c))

/* The low word comes from source 0, the high word from source 1; op_sel names the word of each. */
static void v_pk_mov_b32(gs_wave_t *wave, const gs_insn_t *insn) {
    uint32_t buffer[2][GS_LANES], out[2][GS_LANES];
    for (int k = 0; k < 2; k++) {
        memcpy(out[k], read_word(wave, &insn->src[k], insn->op_sel >> k & 1, buffer[k]), sizeof out[k]);
    }
    for (int k = 0; k < 2; k++) gs_blend(wave, insn->dst[0].reg + k, out[k], wave->lanes);
}

/* ---- mixed precision: op_sel_hi says that a source is f16, op_sel which half of it ------------------------------- */

enum { MIX_F32, MIX_LOW, MIX_HIGH };

static void read_mixed(gs_wave_t *wave, const gs_insn_t *insn, int k, float out[GS_LANES]) {
    const gs_operand_t *operand = &insn->src[k];
    bool is_f16 = insn->op_sel_hi >> k & 1, abs = insn->abs >> k & 1, neg = insn->neg >> k & 1;
    int shift = insn->op_sel >> k & 1 ? 16 : 0;
    uint32_t buffer[GS_LANES];
    const uint32_t *source = buffer;
    if (operand->kind == GS_VREG) {
        source = wave->v[gs_vector_register(wave, operand, k)];
    } else {
        uint32_t value = gs_read_scalar32(wave, operand);
        GS_FOR_LANES buffer[lane] = value;
    }
    GS_FOR_LANES {
        float value = is_f16 ? gs_f16_value(source[lane] >> shift & 0xffff) : gs_f32(source[lane]);
        value = abs ? fabsf(value) : value;
        out[lane] = neg ? -value : value;
    }
}

static void fma_mix(gs_wave_t *wave, const gs_insn_t *insn) /* insn->a: where the result goes */
{
    float sources[3][GS_LANES];
    uint32_t out[GS_LANES];
    const uint32_t *old = wave->v[insn->dst[0].reg];
    for (int k = 0; k < 3; k++) read_mixed(wave, insn, k, sources[k]);
    GS_FOR_LANES {
        float r = __builtin_fmaf(sources[0][lane], sources[1][lane], sources[2][lane]);
        r = insn->clamp ? gs_clamp_f32(r) : r;
        out[lane] = insn->a == MIX_F32   ? gs_u32(r)
                    : insn->a == MIX_LOW ? (old[lane] & 0xffff0000) | gs_f16_bits(r)
                                         : (old[lane] & 0xffff) | gs_f16_bits(r) << 16;
    }
    gs_write32(wave, insn, 0, out);
}

/* ---- dot products ----------------------------------------------------------------------------------------------- */

static inline float dot2_f16(uint32_t a, uint32_t b, float c) {
    float low = gs_f16_value(a & 0xffff) * gs_f16_value(b & 0xffff);
    return c + low + gs_f16_value(a >> 16) * gs_f16_value(b >> 16);
}

static inline float dot2_bf16(uint32_t a, uint32_t b, float c) {
    float low = gs_bf16_value(a & 0xffff) * gs_bf16_value(b & 0xffff);
    return c + low + gs_bf16_value(a >> 16) * gs_bf16_value(b >> 16);
}

/* Elements of `bits` bits. */
static inline uint32_t dot_integers(uint32_t a, uint32_t b, uint32_t c, int bits, bool is_signed) {
    int up = 32 - bits;
    for (int shift = 0; shift < 32; shift += bits) {
        uint32_t x = a >> shift << up, y = b >> shift << up;
        c += is_signed ? (uint32_t)(((int32_t)x >> up) * ((int32_t)y >> up)) : (x >> up) * (y >> up);
    }
    return c;
}

static void dot(gs_wave_t *wave, const gs_insn_t *insn) /* insn->a: bits per element; insn->b: signed, or bf16 */
{
    uint32_t buffer_a[GS_LANES], buffer_b[GS_LANES], buffer_c[GS_LANES], out[GS_LANES];
    gs_insn_t plain = *insn; /* op_sel and neg are not those of VOP3 */
    plain.neg = plain.abs = plain.op_sel = 0;
    const uint32_t *pa = gs_read32(wave, &plain, 0, buffer_a), *pb = gs_read32(wave, &plain, 1, buffer_b);
    bool accumulates = insn->src_count < 3; /* v_dot2c and the like add to their destination */
    const uint32_t *pc = accumulates ? wave->v[insn->dst[0].reg] : gs_read32(wave, &plain, 2, buffer_c);
    GS_FOR_LANES {
        float c = gs_f32(pc[lane]);
        if (insn->a == 0)
            out[lane] = gs_u32(insn->b ? dot2_bf16(pa[lane], pb[lane], c) : dot2_f16(pa[lane], pb[lane], c));
        else
            out[lane] = dot_integers(pa[lane], pb[lane], pc[lane], insn->a, insn->b);
    }
    gs_write32(wave, insn, 0, out);
}

/* ---- the list --------------------------------------------------------------------------------------------------- */

const gs_semantics_t gs_vop3p_list[] = {
    GS_ENTRY(v_pk_add_f16, 0), GS_ENTRY(v_pk_mul_f16, 0), GS_ENTRY(v_pk_fma_f16, 0), GS_ENTRY(v_pk_max_f16, 0),
    GS_ENTRY(v_pk_min_f16, 0), GS_ENTRY(v_pk_maximum3_f16, 0), GS_ENTRY(v_pk_minimum3_f16, 0),
    GS_ENTRY(v_pk_add_u16, 0), GS_ENTRY(v_pk_sub_u16, 0), GS_ENTRY(v_pk_add_i16, 0), GS_ENTRY(v_pk_sub_i16, 0),
    GS_ENTRY(v_pk_mul_lo_u16, 0), GS_ENTRY(v_pk_lshlrev_b16, GS_BITWISE), GS_ENTRY(v_pk_lshrrev_b16, GS_BITWISE),
    GS_ENTRY(v_pk_ashrrev_i16, GS_BITWISE), GS_ENTRY(v_pk_max_i16, 0), GS_ENTRY(v_pk_min_i16, 0),
    GS_ENTRY(v_pk_max_u16, 0), GS_ENTRY(v_pk_min_u16, 0), GS_ENTRY(v_pk_mad_u16, 0), GS_ENTRY(v_pk_mad_i16, 0),
    GS_ENTRY(v_pk_add_f32, 0), GS_ENTRY(v_pk_mul_f32, 0), GS_ENTRY(v_pk_fma_f32, 0), GS_ENTRY(v_pk_mov_b32, GS_BITWISE),
    {"v_fma_mix_f32", fma_mix, MIX_F32, 0, 0, 0}, {"v_fma_mixlo_f16", fma_mix, MIX_LOW, 0, GS_KEEPS_DST, 0},
    {"v_fma_mixhi_f16", fma_mix, MIX_HIGH, 0, GS_KEEPS_DST, 0},
    {"v_dot2_f32_f16", dot, 0, 0, 0, 0}, {"v_dot2_f32_bf16", dot, 0, 1, 0, 0},
    {"v_dot2_i32_i16", dot, 16, 1, 0, 0}, {"v_dot2_u32_u16", dot, 16, 0, 0, 0}, {"v_dot4_i32_i8", dot, 8, 1, 0, 0},
    {"v_dot4_u32_u8", dot, 8, 0, 0, 0}, {"v_dot8_i32_i4", dot, 4, 1, 0, 0}, {"v_dot8_u32_u4", dot, 4, 0, 0, 0},
    {"v_dot2c_f32_f16", dot, 0, 0, GS_READS_DST, 0}, {"v_dot2c_f32_bf16", dot, 0, 1, GS_READS_DST, 0},
    {"v_dot2c_i32_i16", dot, 16, 1, GS_READS_DST, 0}, {"v_dot4c_i32_i8", dot, 8, 1, GS_READS_DST, 0},
    {"v_dot8c_i32_i4", dot, 4, 1, GS_READS_DST, 0},
    {0},
};
