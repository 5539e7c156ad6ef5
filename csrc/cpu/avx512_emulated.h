/* AVX-512 on a processor without it, for checking the kernels there: SIMDe, and what it lacks, written out of AVX2.
 * Used when AC_EMULATE_AVX512 is defined; such a build runs this path only when AITER_C_CPU asks for it. */
#ifndef AC_CPU_AVX512_EMULATED_H
#define AC_CPU_AVX512_EMULATED_H

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx2.h>
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>

#include <stdint.h>
#include <string.h>

static inline __m512i emulated_cvtepu16_epi32(__m256i x) {
    __m256i low = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(x));
    __m256i high = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(x, 1));
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

static inline __m512 emulated_cvtph_ps(__m256i x) {
    float lanes[16];
    _mm256_storeu_ps(lanes, _mm256_cvtph_ps(_mm256_castsi256_si128(x)));
    _mm256_storeu_ps(lanes + 8, _mm256_cvtph_ps(_mm256_extracti128_si256(x, 1)));
    return _mm512_loadu_ps(lanes);
}

static inline __m256i emulated_cvtps_ph(__m512 x) {
    float lanes[16];
    _mm512_storeu_ps(lanes, x);
    __m128i low = _mm256_cvtps_ph(_mm256_loadu_ps(lanes), 0), high = _mm256_cvtps_ph(_mm256_loadu_ps(lanes + 8), 0);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

/* Rounds to nearest even; subnormals become 0, as in the processor. */
static inline __m256i emulated_cvtneps_pbh(__m512 x) {
    uint32_t bits[16];
    uint16_t words[16];
    _mm512_storeu_si512(bits, _mm512_castps_si512(x));
    for (int i = 0; i < 16; i++) {
        uint32_t b = bits[i], exponent = b >> 23 & 0xff, fraction = b & 0x7fffff;
        if (exponent == 0) b &= 0x80000000;
        else if (exponent == 0xff && fraction) b |= 0x400000;
        else b += 0x7fff + (b >> 16 & 1);
        words[i] = (uint16_t)(b >> 16);
    }
    return _mm256_loadu_si256((const __m256i *)words);
}

static inline __m256i emulated_cvtepi32_epi16(__m512i x) {
    uint32_t lanes[16];
    uint16_t words[16];
    _mm512_storeu_si512(lanes, x);
    for (int i = 0; i < 16; i++) words[i] = (uint16_t)lanes[i];
    return _mm256_loadu_si256((const __m256i *)words);
}

/* As the compilers' sequences do: halves upon each other. */
#define EMULATED_REDUCE(name, combine)                                                                                 \
    static inline float emulated_reduce_##name(__m512 x) {                                                             \
        float lanes[16];                                                                                               \
        _mm512_storeu_ps(lanes, x);                                                                                    \
        for (int half = 8; half > 0; half /= 2)                                                                        \
            for (int i = 0; i < half; i++) {                                                                           \
                float a = lanes[i], b = lanes[i + half];                                                               \
                lanes[i] = combine;                                                                                    \
            }                                                                                                          \
        return lanes[0];                                                                                               \
    }
EMULATED_REDUCE(add, a + b)
EMULATED_REDUCE(max, a > b ? a : b)

#undef _mm512_cvtps_ph
#define _mm512_cvtepu16_epi32(x) emulated_cvtepu16_epi32(x)
#define _mm512_cvtph_ps(x) emulated_cvtph_ps(x)
#define _mm512_cvtps_ph(x, rounding) emulated_cvtps_ph(x)
#define _mm512_reduce_add_ps(x) emulated_reduce_add(x)
#define _mm512_reduce_max_ps(x) emulated_reduce_max(x)
#define _mm512_cvtneps_pbh(x) emulated_cvtneps_pbh(x)
#define _mm512_cvtepi32_epi16(x) emulated_cvtepi32_epi16(x)

#endif
