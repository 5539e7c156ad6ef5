/* 16 x 16 words of 32 bits, transposed in registers (AVX-512). Included after simd_avx512.h. */
#ifndef AC_CPU_TRANSPOSE16_H
#define AC_CPU_TRANSPOSE16_H

#include <string.h>

/* First within groups of four rows, then those groups. */
static inline void ac_cpu_transpose16(__m512i x[16]) {
    __m512i y[16];
    for (int i = 0; i < 16; i += 2) {
        y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
        y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        x[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
        x[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
        x[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
        x[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        __m512i even = _mm512_shuffle_i32x4(x[i], x[4 + i], 0x88), odd = _mm512_shuffle_i32x4(x[i], x[4 + i], 0xdd);
        __m512i even2 = _mm512_shuffle_i32x4(x[8 + i], x[12 + i], 0x88);
        __m512i odd2 = _mm512_shuffle_i32x4(x[8 + i], x[12 + i], 0xdd);
        y[i] = _mm512_shuffle_i32x4(even, even2, 0x88);
        y[8 + i] = _mm512_shuffle_i32x4(even, even2, 0xdd);
        y[4 + i] = _mm512_shuffle_i32x4(odd, odd2, 0x88);
        y[12 + i] = _mm512_shuffle_i32x4(odd, odd2, 0xdd);
    }
    memcpy(x, y, sizeof y);
}

#endif
