/* fp32 to fp8 (e4m3fn and e4m3fnuz), and the scales of quantised runs: the same bits on every device. */
#ifndef AC_CORE_FP8_H
#define AC_CORE_FP8_H

#include "dtype.h"
#include "exact.h"

/* The code of x: rounded to nearest even, beyond the largest finite value (448, or fnuz 240) that value, NaN stays NaN.
 * A value of fnuz has the code that its double has in fn, but for -0, which fnuz lacks. */
AC_INLINE uint32_t ac_fp8_of(float x, int32_t is_fnuz) {
    const float limit = is_fnuz ? 480.0f : 448.0f, unit = 16384.0f; /* 2^14: its last bit is worth 2^-9 */
    const uint32_t sign = ac_bits_of(x) >> 24 & 0x80;
    const float size = ac_mul(ac_float_of(ac_bits_of(x) & 0x7fffffff), is_fnuz ? 2.0f : 1.0f);
    const float held = size < limit ? size : limit;
    const uint32_t bits = ac_bits_of(held);
    const uint32_t normal = ((bits + 0x7ffff + (bits >> 20 & 1)) >> 20) - (120 << 3);
    const uint32_t small = ac_bits_of(ac_add(held, unit)) - ac_bits_of(unit); /* in units of the subnormals */
    const uint32_t code = held < 0.015625f ? small : normal;
    const uint32_t is_zero = code == 0;
    if (x != x) return is_fnuz ? 0x80 : 0x7f;
    return is_zero & (uint32_t)is_fnuz ? 0 : code | sign;
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
