/* The small float formats: f16, bf16, and 8-, 6- and 4-bit floats. Every conversion rounds to nearest even.
 * The f16 and bf16 functions are written without branches, so that loops over lanes vectorise, and give the same bits
 * whatever the flush-to-zero state of the host is. */
#ifndef GFXSIM_FLOAT_FORMATS_H
#define GFXSIM_FLOAT_FORMATS_H

#include <stdbool.h>
#include <stdint.h>

#include "wave.h"

static inline float gs_f16_value(uint32_t half) {
    uint32_t sign = (half & 0x8000) << 16, magnitude = half & 0x7fff;
    uint32_t normal = (magnitude << 13) + (112u << 23), special = magnitude << 13 | 0x7f800000;
    uint32_t denormal = gs_u32((float)(int32_t)magnitude * 0x1p-24f);
    uint32_t bits = magnitude < 0x400 ? denormal : magnitude < 0x7c00 ? normal : special;
    return gs_f32(bits | sign);
}

static inline uint32_t gs_f16_bits(float value) {
    uint32_t bits = gs_u32(value), sign = bits >> 16 & 0x8000, u = bits & 0x7fffffff;
    uint32_t normal = (u + 0xc8000fff + (u >> 13 & 1)) >> 13;  /* exponent rebias, half an ulp, ties to even */
    uint32_t denormal = gs_u32(gs_f32(u) + 0.5f) - 0x3f000000; /* an ulp of 0.5 is the smallest f16 */
    uint32_t special = u > 0x7f800000 ? 0x7e00 | (u >> 13 & 0x3ff) : 0x7c00;
    return sign | (u >= 0x47800000 ? special : u < 0x38800000 ? denormal : normal);
}

static inline float gs_bf16_value(uint32_t bits) { return gs_f32(bits << 16); }

static inline uint32_t gs_bf16_bits(float value) {
    uint32_t u = gs_u32(value);
    uint32_t rounded = (u + 0x7fff + (u >> 16 & 1)) >> 16, nan = u >> 16 | 0x40;
    return (u & 0x7fffffff) > 0x7f800000 ? nan : rounded;
}

/* The 8-bit floats of the matrix core; gs_small_values has the same numbers, and those of every other kind. */
static inline float gs_e4m3fn_value(uint32_t code) {
    uint32_t magnitude = code & 0x7f, normal = (magnitude << 20) + (120u << 23);
    uint32_t denormal = gs_u32((float)(int32_t)magnitude * 0x1p-9f);
    uint32_t bits = (magnitude < 8 ? denormal : normal) | (code & 0x80) << 24;
    return gs_f32(magnitude == 0x7f ? 0x7fc00000 : bits);
}

static inline float gs_e4m3fnuz_value(uint32_t code) {
    uint32_t magnitude = code & 0x7f, normal = (magnitude << 20) + (119u << 23);
    uint32_t denormal = gs_u32((float)(int32_t)magnitude * 0x1p-10f);
    uint32_t bits = (magnitude < 8 ? denormal : normal) | (code & 0x80) << 24;
    return gs_f32(code == 0x80 ? 0x7fc00000 : bits);
}

/* Rounds once from double, for results that are exact or faithfully odd-rounded in double. */
uint32_t gs_f16_bits_of_double(double value);

/* a * b + c with one rounding, to f16. */
uint32_t gs_f16_fma(float a, float b, float c);

/* Towards zero; finite values beyond the range become the largest finite one. */
uint32_t gs_f16_bits_toward_zero(float value);

typedef enum gs_small_kind_t {
    GS_E4M3FN,
    GS_E5M2,
    GS_E4M3FNUZ,
    GS_E5M2FNUZ, /* 8 bits: OCP's and the fnuz kinds of gfx942 */
    GS_E2M3,
    GS_E3M2, /* 6 bits */
    GS_E2M1, /* 4 bits */
    GS_SMALL_KIND_COUNT
} gs_small_kind_t;

/* Once before anything else here (gs_wave_new does it). */
void gs_float_formats_init(void);

/* The values of all codes of a kind. */
const float *gs_small_values(gs_small_kind_t kind);

/* The code of `value`. What lies beyond the largest finite value becomes that one if `saturate`, else the kind's
 * infinity or NaN; the 6- and 4-bit kinds have neither and always saturate. */
uint32_t gs_small_bits(gs_small_kind_t kind, float value, bool saturate);

/* The same with stochastic rounding: `random`, 32 bits, decides how the cut bits round. */
uint32_t gs_small_bits_stochastic(gs_small_kind_t kind, float value, uint32_t random, bool saturate);

/* What the chip means by fp8 (bf8 false) and bf8. */
static inline gs_small_kind_t gs_fp8_kind(gs_arch_t arch, bool bf8) {
    return (arch == GS_GFX942 ? GS_E4M3FNUZ : GS_E4M3FN) + bf8;
}

#endif
