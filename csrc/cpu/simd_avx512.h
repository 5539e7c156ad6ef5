/* AVX-512: 16 lanes, 32 registers. See simd_math.h for the vocabulary. */
#ifndef AC_CPU_SIMD_AVX512_H
#define AC_CPU_SIMD_AVX512_H

#ifdef AC_EMULATE_AVX512
#include "avx512_emulated.h"
#else
#include <immintrin.h>
#endif

#include "fp8_to_f16_avx512.h"

#define AC_LANES 16
#define AC_CONVERTS_F16 1
#define AC_QK_VECS 2
#define AC_QK_TOKENS 12
#define AC_PV_ROWS 4
#define AC_PV_VECS 4

typedef __m512 v_t;

static inline v_t v_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void v_store(float *p, v_t x) { _mm512_storeu_ps(p, x); }
#ifdef AC_EMULATE_AVX512
static inline void v_keep(v_t *x) { (void)x; }
#else
static inline void v_keep(v_t *x) { __asm__("" : "+v"(*x)); }
#endif
static inline v_t v_set1(float x) { return _mm512_set1_ps(x); }
static inline v_t v_broadcast(const float *p) { return _mm512_set1_ps(*p); }
static inline v_t v_zero(void) { return _mm512_setzero_ps(); }
static inline v_t v_add(v_t a, v_t b) { return _mm512_add_ps(a, b); }
static inline v_t v_sub(v_t a, v_t b) { return _mm512_sub_ps(a, b); }
static inline v_t v_mul(v_t a, v_t b) { return _mm512_mul_ps(a, b); }
static inline v_t v_fma(v_t a, v_t b, v_t c) { return _mm512_fmadd_ps(a, b, c); }
static inline v_t v_max(v_t a, v_t b) { return _mm512_max_ps(a, b); }

/* The quarters 0 and 2 of a and those of b, plus the quarters 1 and 3. */
static inline v_t v_add_quarters(v_t a, v_t b) {
    __m512i x = _mm512_castps_si512(a), y = _mm512_castps_si512(b);
    __m512i even = _mm512_shuffle_i32x4(x, y, 0x88), odd = _mm512_shuffle_i32x4(x, y, 0xdd);
    return v_add(_mm512_castsi512_ps(even), _mm512_castsi512_ps(odd));
}

/* First within the quarters, then over them. */
static inline v_t v_sums(const v_t x[AC_LANES]) {
    v_t pair[8], four[4];
    for (int i = 0; i < 8; i++)
        pair[i] = v_add(_mm512_unpacklo_ps(x[2 * i], x[2 * i + 1]), _mm512_unpackhi_ps(x[2 * i], x[2 * i + 1]));
    for (int i = 0; i < 4; i++) {
        __m512d a = _mm512_castps_pd(pair[2 * i]), b = _mm512_castps_pd(pair[2 * i + 1]);
        four[i] = v_add(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
    }
    return v_add_quarters(v_add_quarters(four[0], four[1]), v_add_quarters(four[2], four[3]));
}

static inline float v_sum(v_t x) { return _mm512_reduce_add_ps(x); }
static inline float v_largest(v_t x) { return _mm512_reduce_max_ps(x); }

static inline v_t v_shifted_pow2(v_t t) {
    __m512i n = _mm512_slli_epi32(_mm512_castps_si512(t), 23);
    return _mm512_castsi512_ps(_mm512_add_epi32(n, _mm512_set1_epi32(127 << 23)));
}

static inline v_t v_keep_from(v_t x, float low, v_t value) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, v_set1(low), _CMP_NLT_UQ), value);
}

static inline v_t v_load_bf16(const char *p) {
    __m512i bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
}

static inline v_t v_load_even(const char *p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16));
}

static inline v_t v_load_odd(const char *p) {
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), _mm512_set1_epi32((int)0xffff0000)));
}

static inline v_t v_load_f16(const char *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }

static inline v_t v_load_fp8_fn(const char *p) {
    return v_mul(_mm512_cvtph_ps(ac_cpu_fp8_fn_to_f16(ac_cpu_load_fp8(p))), v_set1(256.0f));
}

static inline v_t v_load_fp8_fnuz(const char *p) {
    return v_mul(_mm512_cvtph_ps(ac_cpu_fp8_fnuz_to_f16(ac_cpu_load_fp8(p))), v_set1(128.0f));
}

static inline void v_store_bf16(char *p, v_t x) {
    const __m512i bits = _mm512_castps_si512(x), one = _mm512_set1_epi32(1);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), one);
    __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000)); /* rounding could carry a NaN away */
    rounded = _mm512_mask_mov_epi32(rounded, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), quiet);
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
}

static inline void v_store_f16(char *p, v_t x) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

#include "simd_math.h"

#endif
