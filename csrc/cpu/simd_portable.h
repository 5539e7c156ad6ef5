/* Any processor: 4 lanes in the vectors of the compiler (GCC and Clang), which become SSE2, NEON or plain code.
 * See simd_math.h for the vocabulary. */
#ifndef AC_CPU_SIMD_PORTABLE_H
#define AC_CPU_SIMD_PORTABLE_H

#include <stdint.h>
#include <string.h>

#include "half.h"

#ifdef __ARM_NEON
#include <arm_neon.h>
#endif

#define AC_LANES 4
#define AC_CONVERTS_F16 0
#define AC_QK_VECS 2
#define AC_QK_TOKENS 4
#define AC_PV_ROWS 4
#define AC_PV_VECS 2

typedef float v_t __attribute__((vector_size(16)));
typedef int32_t v_int_t __attribute__((vector_size(16)));

static inline v_t v_load(const float *p) {
    v_t x;
    memcpy(&x, p, sizeof x);
    return x;
}
static inline void v_store(float *p, v_t x) { memcpy(p, &x, sizeof x); }
static inline void v_keep(v_t *x) { (void)x; }
static inline v_t v_set1(float x) { return (v_t){x, x, x, x}; }
static inline v_t v_broadcast(const float *p) { return v_set1(*p); }
static inline v_t v_zero(void) { return v_set1(0.0f); }
static inline v_t v_add(v_t a, v_t b) { return a + b; }
static inline v_t v_sub(v_t a, v_t b) { return a - b; }
static inline v_t v_mul(v_t a, v_t b) { return a * b; }

static inline v_t v_fma(v_t a, v_t b, v_t c) {
#ifdef __aarch64__
    return (v_t)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    return a * b + c;
#endif
}

static inline float v_sum(v_t x) { return (x[0] + x[1]) + (x[2] + x[3]); }
static inline v_t v_sums(const v_t x[AC_LANES]) { return (v_t){v_sum(x[0]), v_sum(x[1]), v_sum(x[2]), v_sum(x[3])}; }

static inline v_t v_select(v_int_t mask, v_t a, v_t b) { return (v_t)((mask & (v_int_t)a) | (~mask & (v_int_t)b)); }
static inline v_t v_max(v_t a, v_t b) { return v_select(a > b, a, b); }
static inline float v_larger(float a, float b) { return a > b ? a : b; }
static inline float v_largest(v_t x) { return v_larger(v_larger(x[0], x[1]), v_larger(x[2], x[3])); }
static inline v_t v_shifted_pow2(v_t t) { return (v_t)((int32_t)127 * (1 << 23) + ((v_int_t)t << 23)); }
static inline v_t v_keep_from(v_t x, float low, v_t value) { return v_select(x < v_set1(low), v_zero(), value); }

static inline v_int_t v_load_words(const char *p) {
    uint16_t h[4];
    memcpy(h, p, sizeof h);
    return (v_int_t){h[0], h[1], h[2], h[3]};
}

static inline v_int_t v_load_bytes(const char *p) {
    const unsigned char *b = (const unsigned char *)p;
    return (v_int_t){b[0], b[1], b[2], b[3]};
}

/* A small float: its bits below the sign (moved up so that its exponent ends where fp32's does) in `rest`, its
 * subnormals below `normal`, its exponent bias `bias`. Exact, and free of fp32 subnormals. */
static inline v_t v_widen(v_int_t sign, v_int_t rest, int32_t normal, int mantissa_bits, int bias) {
    v_t unit = v_set1(1.0f / (float)(1 << (mantissa_bits + bias - 1)));
    v_t tiny = __builtin_convertvector(rest, v_t) * unit;
    v_int_t bits = (rest << (23 - mantissa_bits)) + ((127 - bias) << 23);
    return (v_t)((v_int_t)v_select(rest < normal, tiny, (v_t)bits) | sign);
}

static inline v_t v_load_bf16(const char *p) { return (v_t)(v_load_words(p) << 16); }

static inline v_int_t v_load_pairs(const char *p) {
    v_int_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

static inline v_t v_load_even(const char *p) { return (v_t)(v_load_pairs(p) << 16); }
static inline v_t v_load_odd(const char *p) { return (v_t)(v_load_pairs(p) & (int32_t)0xffff0000); }

static inline v_t v_load_f16(const char *p) {
    v_int_t code = v_load_words(p), rest = code & 0x7fff, sign = (code & 0x8000) << 16;
    v_int_t special = 0x7f800000 | (rest & 0x3ff) << 13 | sign; /* infinity or NaN */
    return v_select(rest >= 0x7c00, (v_t)special, v_widen(sign, rest, 0x400, 10, 15));
}

static inline v_t v_load_fp8_fn(const char *p) {
    v_int_t code = v_load_bytes(p), rest = code & 0x7f, sign = (code & 0x80) << 24;
    v_int_t nan = (rest == 0x7f) & 0x7fc00000;
    return (v_t)((v_int_t)v_widen(sign, rest, 8, 3, 7) | nan);
}

static inline v_t v_load_fp8_fnuz(const char *p) {
    v_int_t code = v_load_bytes(p), rest = code & 0x7f, sign = (code & 0x80) << 24;
    v_int_t nan = (code == 0x80) & 0x7fc00000;
    return (v_t)((v_int_t)v_widen(sign, rest, 8, 3, 8) | nan);
}

static inline void v_store_bf16(char *p, v_t x) {
    v_int_t bits = (v_int_t)x, rounded = bits + 0x7fff + (bits >> 16 & 1);
    v_int_t wide = (v_int_t)v_select(x != x, (v_t)(bits | 0x400000), (v_t)rounded) >> 16;
    uint16_t h[4] = {(uint16_t)wide[0], (uint16_t)wide[1], (uint16_t)wide[2], (uint16_t)wide[3]};
    memcpy(p, h, sizeof h);
}

static inline void v_store_f16(char *p, v_t x) {
    uint16_t h[4] = {half_of(x[0]), half_of(x[1]), half_of(x[2]), half_of(x[3])};
    memcpy(p, h, sizeof h);
}

#include "simd_math.h"

#endif
