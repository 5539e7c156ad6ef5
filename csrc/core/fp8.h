/* fp32 to fp8 (e4m3fn and e4m3fnuz), and the scales of quantised runs: the same bits on every device. */
#ifndef AC_CORE_FP8_H
#define AC_CORE_FP8_H

#include "dtype.h"
#include "exact.h"

/* The code of x: rounded to nearest even, beyond the largest finite value (448, or fnuz 240) that value, NaN stays NaN.
 * A value of fnuz has the code that its double has in fn, but for -0, which fnuz lacks. */
AC_INLINE uint32_t ac_fp8_of(float x, int32_t is_fnuz) {
    const float unit = 16384.0f; /* 2^14: its last bit is worth 2^-9 */
    const uint32_t limit = is_fnuz ? 0x43f00000 : 0x43e00000, infinity = 0x7f800000, least_normal = 0x3c800000;
    const uint32_t sign = ac_bits_of(x) >> 24 & 0x80, whole = ac_bits_of(x) & 0x7fffffff;
    const uint32_t size = ac_bits_of(ac_mul(ac_float_of(whole), is_fnuz ? 2.0f : 1.0f));
    const uint32_t held = size < limit ? size : limit; /* positive numbers compare as their bits do */
    const uint32_t normal = ((held + 0x7ffff + (held >> 20 & 1)) >> 20) - (120 << 3);
    const uint32_t small = ac_bits_of(ac_add(ac_float_of(held), unit)) - ac_bits_of(unit); /* in steps of subnormals */
    /* Masks: of a choice some compilers make a branch, which no loop with vectors has. */
    const uint32_t is_small = 0u - (uint32_t)(held < least_normal), is_nan = 0u - (uint32_t)(whole > infinity);
    const uint32_t code = (small & is_small) | (normal & ~is_small);
    const uint32_t finite = is_fnuz && code == 0 ? 0 : code | sign;
    return (finite & ~is_nan) | ((is_fnuz ? 0x80 : 0x7f) & is_nan);
}

/* How values become fp8: divided by the scale, or multiplied by the inverse, which for a power of two is the same. */
typedef struct ac_fp8_scale_t {
    float scale, inverse;
    int32_t divides;
} ac_fp8_scale_t;

AC_INLINE ac_fp8_scale_t ac_fp8_scale(float scale, int32_t divides) {
    const ac_fp8_scale_t s = {scale, ac_div(1.0f, scale), divides && (ac_bits_of(scale) & 0x7fffff) != 0};
    return s;
}
AC_INLINE float ac_fp8_scaled(const ac_fp8_scale_t *s, float x) {
    return s->divides ? ac_div(x, s->scale) : ac_mul(x, s->inverse);
}

/* The scale that makes the largest size of a run `limit`; finite where the run has an infinity. */
AC_INLINE float ac_run_scale(float largest, float limit) {
    return ac_div(largest < AC_FLOAT_MAX ? largest : AC_FLOAT_MAX, limit);
}

#endif
