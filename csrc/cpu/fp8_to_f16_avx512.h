/* What ac_cpu_fp8_row_to_f16() does, 64 codes at a time (AVX512-BW). Included after the intrinsics. */
#ifndef AC_CPU_FP8_TO_F16_AVX512_H
#define AC_CPU_FP8_TO_F16_AVX512_H

#include "fp8_to_f16.h"

static inline __attribute__((always_inline)) void v_fp8_row_to_f16(const char *p, int count, const int is_fnuz,
                                                                   char *out) {
    const __m512i order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7), sign = _mm512_set1_epi8((char)0x80);
    const __m512i magnitude = _mm512_set1_epi16((short)0xbfff);
    __mmask64 seen = 0;
    for (int i = 0; i < count; i += 64) {
        __m512i code = _mm512_permutexvar_epi64(order, _mm512_loadu_si512(p + i));
        __m512i low = _mm512_unpacklo_epi8(_mm512_setzero_si512(), code);
        __m512i high = _mm512_unpackhi_epi8(_mm512_setzero_si512(), code);
        low = _mm512_and_si512(_mm512_srai_epi16(low, 1), magnitude);
        high = _mm512_and_si512(_mm512_srai_epi16(high, 1), magnitude);
        _mm512_storeu_si512(out + 2 * i, low);
        _mm512_storeu_si512(out + 2 * i + 64, high);
        __m512i rest = is_fnuz ? code : _mm512_or_si512(code, sign);
        seen |= _mm512_cmpeq_epi8_mask(rest, is_fnuz ? sign : _mm512_set1_epi8((char)0xff));
    }
    if (seen) ac_cpu_fp8_row_to_f16(p, count, is_fnuz, out);
}

#endif
