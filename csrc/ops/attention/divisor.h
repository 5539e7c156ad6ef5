/* Division by a number that the host knows, as a multiplication. */
#ifndef AC_OPS_ATTENTION_DIVISOR_H
#define AC_OPS_ATTENTION_DIVISOR_H

#include <stdint.h>

#include "../../core/inline.h"

typedef struct ac_divisor_t {
    uint32_t multiplier, shift;
} ac_divisor_t;

/* With l = ceil(log2(d)) and m = ceil(2^(31 + l) / d), m fits 32 bits and n * m >> (31 + l) is n / d for all n below
 * 2^31 (Granlund and Montgomery, 1994). Of d below 1: division by 1. */
AC_INLINE ac_divisor_t ac_divisor(int64_t d) {
    const uint64_t by = d > 0 ? (uint64_t)d : 1;
    ac_divisor_t out = {0, 31};
    while ((uint64_t)1 << (out.shift - 31) < by) out.shift++;
    out.multiplier = (uint32_t)((((uint64_t)1 << out.shift) + by - 1) / by);
    return out;
}

/* n / d, for n below 2^31. */
AC_INLINE uint32_t ac_divide(ac_divisor_t by, uint32_t n) {
    return (uint32_t)((uint64_t)n * by.multiplier >> by.shift);
}

#endif
