/* AVX2 + FMA + F16C: 8 lanes, 16 registers. See simd_math.h for the vocabulary. */
#ifndef AC_CPU_SIMD_AVX2_H
#define AC_CPU_SIMD_AVX2_H

#include <immintrin.h>

#include "fp8_to_f16.h"

#define AC_LANES 8
#define AC_CONVERTS_F16 1
#define AC_QK_VECS 2
#define AC_QK_TOKENS 6
#define AC_PV_ROWS 6
#define AC_PV_VECS 2

typedef __m256 v_t;

static inline v_t v_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void v_store(float *p, v_t x) { _mm256_storeu_ps(p, x); }
static inline void v_keep(v_t *x) { __asm__("" : "+x"(*x)); }
static inline v_t v_set1(float x) { return _mm256_set1_ps(x); }
static inline v_t v_broadcast(const float *p) { return _mm256_broadcast_ss(p); }
static inline v_t v_zero(void) { return _mm256_setzero_ps(); }
static inline v_t v_add(v_t a, v_t b) { return _mm256_add_ps(a, b); }
static inline v_t v_sub(v_t a, v_t b) { return _mm256_sub_ps(a, b); }
static inline v_t v_mul(v_t a, v_t b) { return _mm256_mul_ps(a, b); }
static inline v_t v_fma(v_t a, v_t b, v_t c) { return _mm256_fmadd_ps(a, b, c); }
static inline v_t v_max(v_t a, v_t b) { return _mm256_max_ps(a, b); }

static inline v_t v_sums(const v_t x[AC_LANES]) {
    v_t low = _mm256_hadd_ps(_mm256_hadd_ps(x[0], x[1]), _mm256_hadd_ps(x[2], x[3]));
    v_t high = _mm256_hadd_ps(_mm256_hadd_ps(x[4], x[5]), _mm256_hadd_ps(x[6], x[7]));
    return v_add(_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31));
}

static inline float v_sum(v_t x) {
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

static inline float v_largest(v_t x) {
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}

static inline v_t v_shifted_pow2(v_t t) {
    __m256i n = _mm256_slli_epi32(_mm256_castps_si256(t), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(n, _mm256_set1_epi32(127 << 23)));
}

static inline v_t v_keep_from(v_t x, float low, v_t value) {
    return _mm256_and_ps(value, _mm256_cmp_ps(x, v_set1(low), _CMP_NLT_UQ));
}

static inline v_t v_load_bf16(const char *p) {
    __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
}

static inline v_t v_load_even(const char *p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_loadu_si256((const __m256i *)p), 16));
}

static inline v_t v_load_odd(const char *p) {
    __m256i high = _mm256_set1_epi32((int)0xffff0000);
    return _mm256_castsi256_ps(_mm256_and_si256(_mm256_loadu_si256((const __m256i *)p), high));
}

static inline v_t v_load_f16(const char *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }

/* Eight codes, in the lower half. */
static inline __m256i v_load_fp8_codes(const char *p) {
    return _mm256_castsi128_si256(_mm_unpacklo_epi8(_mm_setzero_si128(), _mm_loadl_epi64((const __m128i *)p)));
}

static inline v_t v_load_fp8_fn(const char *p) {
    __m256i half = ac_cpu_fp8_fn_to_f16(v_load_fp8_codes(p));
    return v_mul(_mm256_cvtph_ps(_mm256_castsi256_si128(half)), v_set1(256.0f));
}

static inline v_t v_load_fp8_fnuz(const char *p) {
    __m256i half = ac_cpu_fp8_fnuz_to_f16(v_load_fp8_codes(p));
    return v_mul(_mm256_cvtph_ps(_mm256_castsi256_si128(half)), v_set1(128.0f));
}

#define v_fp8_row_to_f16 ac_cpu_fp8_row_to_f16

static inline void v_store_bf16(char *p, v_t x) {
    __m256i bits = _mm256_castps_si256(x), one = _mm256_set1_epi32(1);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), one);
    __m256i even = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    __m256i wide = _mm256_srli_epi32(_mm256_blendv_epi8(even, quiet, is_nan), 16);
    _mm_storeu_si128((__m128i *)p, _mm_packus_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1)));
}

static inline void v_store_f16(char *p, v_t x) {
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

#include "simd_math.h"

#endif
