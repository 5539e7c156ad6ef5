/* Four bytes of a word at once: fp8 of the other kind as the arch's own, and 4 x 4 transposed. gfx942. */
#ifndef AC_GPU_GFX9_BYTES_H
#define AC_GPU_GFX9_BYTES_H

#include "fp8.h"

/* e4m3fn as e4m3fnuz, at half its value: the same bits but for NaN, which is 7f and ff there and 80 here, and -0. */
GPU_INLINE uint32_t fnuz_of_fn(uint32_t word) {
    const uint32_t size = word & 0x7f7f7f7f, nan = (size + 0x01010101) & 0x80808080;
    word &= (size + 0x7f7f7f7f) | 0x7f7f7f7f; /* the sign of 0 */
    return (word & ~(nan - (nan >> 7))) | nan;
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
