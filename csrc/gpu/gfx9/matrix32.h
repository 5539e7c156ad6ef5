/* Matrix instructions of 32 rows x 32 columns. Lane l = 32 h + c of a wave holds
 *   of A [32, K]   row c, K/2 neighbouring elements from K/2 h on
 *   of B [K, 32]   column c, the same elements
 *   of C [32, 32]  column c, rows 8 a + 4 h + b as element 4 a + b
 * As with 16 x 16 (matrix.h) scores are S^T = K Q^T and the output is O^T = V^T P^T, so that what a lane holds of P^T
 * after the scores is what it has to hold of B. They need half the reads of A, and the f8f6f4 instruction takes 64
 * elements where the other takes 128: a head of 192 is three of them. */
#ifndef AC_GPU_GFX9_MATRIX32_H
#define AC_GPU_GFX9_MATRIX32_H

#include "matrix.h"

typedef float f32x16_t __attribute__((ext_vector_type(16)));

/* CHUNKS: of 16 bytes, that a lane holds of A and B for dot32(). */
template <class matrix_t> struct matrix32_t {
#if defined(__gfx950__)
    static constexpr int CHUNKS = matrix_t::BYTES == 1 ? 2 : 1;
#else
    static constexpr int CHUNKS = 1;
#endif
};

#if defined(__gfx950__)
template <class matrix_t> GPU_INLINE f32x16_t dot32(const u32x4_t (&a)[1], const u32x4_t (&b)[1], f32x16_t c) {
    if constexpr (matrix_t::DTYPE == AC_BFLOAT16)
        return __builtin_amdgcn_mfma_f32_32x32x16_bf16(BITS(bf16x8_t, a[0]), BITS(bf16x8_t, b[0]), c, 0, 0, 0);
    else return __builtin_amdgcn_mfma_f32_32x32x16_f16(BITS(f16x8_t, a[0]), BITS(f16x8_t, b[0]), c, 0, 0, 0);
}
/* fp8: twice the rate of 32x32x16_fp8_fp8. The two 0 are the formats, e4m3; the scales are not used. */
template <class matrix_t> GPU_INLINE f32x16_t dot32(const u32x4_t (&a)[2], const u32x4_t (&b)[2], f32x16_t c) {
    typedef int i32x8_t __attribute__((ext_vector_type(8)));
    i32x8_t x = BITS(i32x8_t, __builtin_shufflevector(a[0], a[1], 0, 1, 2, 3, 4, 5, 6, 7));
    i32x8_t y = BITS(i32x8_t, __builtin_shufflevector(b[0], b[1], 0, 1, 2, 3, 4, 5, 6, 7));
    return __builtin_amdgcn_mfma_scale_f32_32x32x64_f8f6f4(x, y, c, 0, 0, 0, 0, 0, 0);
}
#else
template <class matrix_t> GPU_INLINE f32x16_t dot32(const u32x4_t (&a)[1], const u32x4_t (&b)[1], f32x16_t c) {
    GPU_UNROLL for (int half = 0; half < 2; half++) {
        u32x2_t x = half_of(a[0], half), y = half_of(b[0], half);
        if constexpr (matrix_t::DTYPE == AC_BFLOAT16)
            c = __builtin_amdgcn_mfma_f32_32x32x8bf16_1k(BITS(s16x4_t, x), BITS(s16x4_t, y), c, 0, 0, 0);
        else if constexpr (matrix_t::DTYPE == AC_FLOAT16)
            c = __builtin_amdgcn_mfma_f32_32x32x8f16(BITS(f16x4_t, x), BITS(f16x4_t, y), c, 0, 0, 0);
        else c = __builtin_amdgcn_mfma_f32_32x32x16_fp8_fp8(BITS(long, x), BITS(long, y), c, 0, 0, 0);
    }
    return c;
}
#endif

/* The lane's number, counted anew: as recompute_lane_id(), without a register for the thread's number. */
GPU_INLINE uint32_t lane_again() {
    uint32_t lane = __builtin_amdgcn_mbcnt_hi(~0u, __builtin_amdgcn_mbcnt_lo(~0u, 0));
    asm volatile("" : "+v"(lane));
    return lane;
}

/* x of the other lane that has the same column of B and C. */
GPU_INLINE float other_half(float x) {
    return BITS(float, __builtin_amdgcn_ds_bpermute((int)(lane_again() ^ 32) * 4, BITS(int, x)));
}

#endif
