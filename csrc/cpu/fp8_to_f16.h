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

/* `count` elements, a multiple of 32, over 256 (fn) or 128 (fnuz). What has no NaN, nearly all, is not blended. */
static inline __attribute__((always_inline)) void ac_cpu_fp8_row_to_f16(const char *p, int count, const int is_fnuz,
                                                                        char *out) {
    const __m256i sign = _mm256_set1_epi8((char)0x80), magnitude = _mm256_set1_epi16((short)0xbfff);
    __m256i seen = _mm256_setzero_si256();
    for (int i = 0; i < count; i += 32) {
        /* Unpacking interleaves within 128-bit lanes: put the quarters of the codes where that restores their order. */
        __m256i code = _mm256_permute4x64_epi64(_mm256_loadu_si256((const __m256i *)(p + i)), 0xd8);
        __m256i low = _mm256_unpacklo_epi8(_mm256_setzero_si256(), code);
        __m256i high = _mm256_unpackhi_epi8(_mm256_setzero_si256(), code);
        low = _mm256_and_si256(_mm256_srai_epi16(low, 1), magnitude);
        high = _mm256_and_si256(_mm256_srai_epi16(high, 1), magnitude);
        _mm256_storeu_si256((__m256i *)(out + 2 * i), low);
        _mm256_storeu_si256((__m256i *)(out + 2 * i + 32), high);
        __m256i rest = is_fnuz ? code : _mm256_or_si256(code, sign);
        seen = _mm256_or_si256(seen, _mm256_cmpeq_epi8(rest, is_fnuz ? sign : _mm256_set1_epi8((char)0xff)));
    }
    if (_mm256_testz_si256(seen, seen)) return;
    for (int i = 0; i < count; i += 16) {
        __m256i code = ac_cpu_load_fp8(p + i);
        _mm256_storeu_si256((__m256i *)(out + 2 * i),
                            is_fnuz ? ac_cpu_fp8_fnuz_to_f16(code) : ac_cpu_fp8_fn_to_f16(code));
    }
}

#endif
