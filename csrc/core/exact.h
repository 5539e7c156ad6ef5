/* fp32 arithmetic with the same bits on every device: each operation is rounded on its own, to nearest even, and no
 * compiler joins two into one. What is made of these functions in a fixed order is equal everywhere, but for the bits
 * of a NaN. */
#ifndef AC_CORE_EXACT_H
#define AC_CORE_EXACT_H

#include <stdint.h>

#include "inline.h"

#if defined(__clang__)
#define AC_ROUND_EACH _Pragma("clang fp contract(off)")
#else
#define AC_ROUND_EACH /* -ffp-contract=off */
#endif

#define AC_FLOAT_MAX 3.402823466e+38f
#define AC_FLOAT_MIN 1.175494351e-38f /* the smallest normal number */

#if defined(__cplusplus)
AC_INLINE uint32_t ac_bits_of(float x) { return __builtin_bit_cast(uint32_t, x); }
AC_INLINE float ac_float_of(uint32_t bits) { return __builtin_bit_cast(float, bits); }
#else
typedef union ac_float_bits_t {
    float value;
    uint32_t bits;
} ac_float_bits_t;
AC_INLINE uint32_t ac_bits_of(float x) { return (ac_float_bits_t){.value = x}.bits; }
AC_INLINE float ac_float_of(uint32_t bits) { return (ac_float_bits_t){.bits = bits}.value; }
#endif

#if defined(__CUDACC__)
AC_INLINE float ac_mul(float a, float b) { return __fmul_rn(a, b); }
AC_INLINE float ac_add(float a, float b) { return __fadd_rn(a, b); }
AC_INLINE float ac_sub(float a, float b) { return __fsub_rn(a, b); }
AC_INLINE float ac_div(float a, float b) { return __fdiv_rn(a, b); }
AC_INLINE float ac_sqrt(float x) { return __fsqrt_rn(x); }
#else
AC_INLINE float ac_mul(float a, float b) {
    AC_ROUND_EACH
    return a * b;
}
AC_INLINE float ac_add(float a, float b) {
    AC_ROUND_EACH
    return a + b;
}
AC_INLINE float ac_sub(float a, float b) {
    AC_ROUND_EACH
    return a - b;
}
AC_INLINE float ac_div(float a, float b) {
    AC_ROUND_EACH
    return a / b;
}
AC_INLINE float ac_sqrt(float x) { return __builtin_sqrtf(x); }
#endif

/* The bits of |x|, 0 for NaN: they compare as the sizes do. */
AC_INLINE uint32_t ac_size_bits(float x) {
    const uint32_t size = ac_bits_of(x) & 0x7fffffff, infinity = 0x7f800000;
    return size & (0u - (uint32_t)(size <= infinity));
}

/* The larger of `top`, which is not below 0, and |x|; NaN does not count. The order in which many are taken does not
 * matter. */
AC_INLINE float ac_max_size(float top, float x) {
    const uint32_t most = ac_bits_of(top), size = ac_size_bits(x);
    return ac_float_of(size > most ? size : most);
}

/* The smallest power of two that is not below x, a normal number above 0. */
AC_INLINE float ac_power_of_2_from(float x) {
    const uint32_t bits = ac_bits_of(x);
    return ac_float_of((bits + 0x7fffff) & 0xff800000);
}

#endif
