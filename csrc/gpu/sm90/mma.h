/* Matrix products of one warp on sm_90a: D[16, 8] += A[16, 16] B[16, 8], all operands in registers. With g = lane / 4
 * and t = lane % 4 a lane has of A the rows g and g + 8, of B and D the column g or the columns 2 t and 2 t + 1:
 *   a  (g; 2 t, 2 t + 1), (g + 8; same), (g; 2 t + 8, 2 t + 9), (g + 8; same)
 *   b  (2 t, 2 t + 1; g), (2 t + 8, 2 t + 9; g)
 *   d  (g; 2 t), (g; 2 t + 1), (g + 8; 2 t), (g + 8; 2 t + 1) */
#ifndef AC_GPU_SM90_MMA_H
#define AC_GPU_SM90_MMA_H

#include "wgmma.h"

/* The tool would break the assembly apart. */
/* clang-format off */

template <int TYPE> GPU_INLINE void sm90_mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#define MMA(type)                                                                                                      \
    asm("mma.sync.aligned.m16n8k16.row.col.f32." type "." type ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "   \
        "{%0, %1, %2, %3};"                                                                                            \
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                                               \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1))
    if (TYPE == SM90_BF16) MMA("bf16");
    else MMA("f16");
#undef MMA
}

/* clang-format on */

/* Makes new values of operands A; `zero` is 0, which the compiler must not know. Where they come out of several
 * branches inside a loop, ptxas does not keep the four of a product side by side, and copies each before each product.
 */
template <int N> GPU_INLINE void sm90_renew(uint32_t (&a)[N][4], uint32_t zero) {
    GPU_UNROLL for (int i = 0; i < N; i++) {
        GPU_UNROLL for (int k = 0; k < 4; k++) asm volatile("or.b32 %0, %0, %1;" : "+r"(a[i][k]) : "r"(zero));
    }
}

#endif
