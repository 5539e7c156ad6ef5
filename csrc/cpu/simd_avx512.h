/* AVX-512: 16 lanes, 32 registers. See simd_math.h for the vocabulary. */
#ifndef AC_CPU_SIMD_AVX512_H
#define AC_CPU_SIMD_AVX512_H

#ifdef AC_EMULATE_AVX512
#include "avx512_emulated.h"
#else
#include <immintrin.h>
#endif

#define AC_LANES 16
#define AC_QK_VECS 2
#define AC_QK_TOKENS 12
#define AC_PV_ROWS 4
#define AC_PV_VECS 4

typedef __m512 v_t;

static inline v_t v_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void v_store(float *p, v_t x) { _mm512_storeu_ps(p, x); }
static inline v_t v_set1(float x) { return _mm512_set1_ps(x); }
static inline v_t v_broadcast(const float *p) { return _mm512_set1_ps(*p); }
static inline v_t v_zero(void) { return _mm512_setzero_ps(); }
static inline v_t v_add(v_t a, v_t b) { return _mm512_add_ps(a, b); }
static inline v_t v_sub(v_t a, v_t b) { return _mm512_sub_ps(a, b); }
static inline v_t v_mul(v_t a, v_t b) { return _mm512_mul_ps(a, b); }
static inline v_t v_fma(v_t a, v_t b, v_t c) { return _mm512_fmadd_ps(a, b, c); }
static inline v_t v_max(v_t a, v_t b) { return _mm512_max_ps(a, b); }

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

static inline v_t v_load_f16(const char *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }

/* fp8 through fp16, which has the wider exponent: moved into its place, every code (subnormals too) is the value over
 * a power of two. NaN codes become fp16 NaN. */
static inline v_t v_load_fp8_fn(const char *p) {
    __m256i code = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)p));
    __m256i rest = _mm256_and_si256(code, _mm256_set1_epi16(0x7f));
    __m256i nan = _mm256_and_si256(_mm256_cmpeq_epi16(rest, _mm256_set1_epi16(0x7f)), _mm256_set1_epi16(0x7e00));
    __m256i sign = _mm256_slli_epi16(_mm256_andnot_si256(_mm256_set1_epi16(0x7f), code), 8);
    __m256i half = _mm256_or_si256(_mm256_or_si256(sign, nan), _mm256_slli_epi16(rest, 7));
    return v_mul(_mm512_cvtph_ps(half), v_set1(256.0f));
}

static inline v_t v_load_fp8_fnuz(const char *p) {
    __m256i code = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)p));
    __m256i rest = _mm256_and_si256(code, _mm256_set1_epi16(0x7f));
    __m256i nan = _mm256_and_si256(_mm256_cmpeq_epi16(code, _mm256_set1_epi16(0x80)), _mm256_set1_epi16(0x7e00));
    __m256i sign = _mm256_slli_epi16(_mm256_andnot_si256(_mm256_set1_epi16(0x7f), code), 8);
    __m256i half = _mm256_or_si256(_mm256_or_si256(sign, nan), _mm256_slli_epi16(rest, 7));
    return v_mul(_mm512_cvtph_ps(half), v_set1(128.0f));
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
