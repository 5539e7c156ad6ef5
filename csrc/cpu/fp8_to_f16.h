/* fp8 through fp16, which has the wider exponent (AVX2): moved into its place, every code (subnormals too) is the value
 * over a power of two, 256 for fn and 128 for fnuz. NaN codes become NaN. Included after the intrinsics. */
#ifndef AC_CPU_FP8_TO_F16_H
#define AC_CPU_FP8_TO_F16_H

/* The codes are in the upper bytes. */
static inline __m256i ac_cpu_fp8_fn_to_f16(__m256i code) {
    __m256i half = _mm256_and_si256(_mm256_srai_epi16(code, 1), _mm256_set1_epi16((short)0xbfff));
    __m256i rest = _mm256_and_si256(code, _mm256_set1_epi16(0x7f00));
    return _mm256_or_si256(half, _mm256_cmpeq_epi16(rest, _mm256_set1_epi16(0x7f00)));
}

static inline __m256i ac_cpu_fp8_fnuz_to_f16(__m256i code) {
    __m256i half = _mm256_and_si256(_mm256_srai_epi16(code, 1), _mm256_set1_epi16((short)0xbfff));
    return _mm256_or_si256(half, _mm256_cmpeq_epi16(code, _mm256_set1_epi16((short)0x8000)));
}

static inline __m256i ac_cpu_load_fp8(const char *p) {
    return _mm256_slli_epi16(_mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)p)), 8);
}

#endif
