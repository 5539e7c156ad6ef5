/* Four bytes of a word at once: fp8 of the other kind as the arch's own, and 4 x 4 transposed. gfx942. */
#ifndef AC_GPU_GFX9_BYTES_H
#define AC_GPU_GFX9_BYTES_H

#include "matrix.h"

/* e4m3fn as e4m3fnuz, at half its value: the same bits but for -0, and NaN, which is 7f and ff there and 80 here. NaN
 * is rare enough for a branch. `rows`: vectors of words. */
template <class words_t, int N> GPU_INLINE void fnuz_of_fn(words_t (&rows)[N]) {
    constexpr int WORDS = sizeof(words_t) / 4;
    uint32_t nans = 0;
    GPU_UNROLL for (int n = 0; n < N; n++)
        GPU_UNROLL for (int w = 0; w < WORDS; w++) {
            const uint32_t word = rows[n][w], size = word & 0x7f7f7f7f;
            nans |= size + 0x01010101;
            rows[n][w] = word & ((size + 0x7f7f7f7f) | 0x7f7f7f7f); /* without the sign of 0 */
        }
    if (!gpu_any(nans & 0x80808080)) return;
    GPU_UNROLL for (int n = 0; n < N; n++)
        GPU_UNROLL for (int w = 0; w < WORDS; w++) {
            const uint32_t word = rows[n][w], nan = ((word & 0x7f7f7f7f) + 0x01010101) & 0x80808080;
            rows[n][w] = (word & ~(nan - (nan >> 7))) | nan;
        }
}

/* 4 rows by 4 columns. */
GPU_INLINE void transpose_4x4(const uint32_t (&from)[4], uint32_t (&out)[4]) {
    GPU_UNROLL for (int half = 0; half < 2; half++) {
        uint32_t pairs = half ? 0x07030602 : 0x05010400;
        uint32_t a = __builtin_amdgcn_perm(from[1], from[0], pairs), b = __builtin_amdgcn_perm(from[3], from[2], pairs);
        out[2 * half] = __builtin_amdgcn_perm(b, a, 0x05040100);
        out[2 * half + 1] = __builtin_amdgcn_perm(b, a, 0x07060302);
    }
}

#endif
