/* Warpgroup matrix products of sm_90a: D[64, N] += A[64, 16] B[16, N], fp32 accumulators in registers.
 * Products run asynchronously: fence() orders register accesses before them, commit() closes a group, wait<N>() leaves
 * N groups running, and until then nothing may touch the accumulators. */
#ifndef AC_GPU_SM90_WGMMA_H
#define AC_GPU_SM90_WGMMA_H

#include "ptx.h"

enum { SM90_BF16, SM90_F16 }; /* the two 16-bit matrix types */

GPU_INLINE void sm90_wgmma_fence(void) { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
GPU_INLINE void sm90_wgmma_commit(void) { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int RUNNING> GPU_INLINE void sm90_wgmma_wait(void) {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(RUNNING) : "memory");
}

/* Keeps the compiler from moving accesses to accumulators across a fence or a wait. */
template <int N> GPU_INLINE void sm90_pin(float (&d)[N]) {
    GPU_UNROLL for (int i = 0; i < N; i++) asm volatile("" : "+f"(d[i])::"memory");
}

/* Operand in shared memory, 128-byte swizzle: rows of 128 bytes, 8 rows an atom of 1024 bytes. `leading` is the
 * distance of neighbouring atoms along the contiguous axis (used by a transposed operand only), atoms along the other
 * axis are 1024 bytes apart. */
GPU_INLINE uint64_t sm90_descriptor(uint32_t address, uint32_t leading) {
    uint64_t swizzle_128 = 1;
    return (uint64_t)(address >> 4) | (uint64_t)(leading >> 4) << 16 | (uint64_t)(1024 >> 4) << 32 | swizzle_128 << 62;
}

GPU_INLINE uint64_t sm90_advance(uint64_t descriptor, uint32_t bytes) { return descriptor + (bytes >> 4); }

/* Matrices are stored in panels of 64 rows x 64 elements of 16 bits: a row is 128 bytes, its 16-byte chunk c is stored
 * as chunk c ^ (row % 8), which is the 128-byte swizzle. */
constexpr int SM90_PANEL_BYTES = 64 * 128;

GPU_INLINE uint32_t sm90_chunk(uint32_t matrix, int row, int chunk) {
    return matrix + (chunk >> 3) * SM90_PANEL_BYTES + row * 128 + (((chunk & 7) ^ (row & 7)) << 4);
}

/* Operand lists: "%<t>0" to "%<t>9", and accumulators eight by eight. */
#define REG10(t) "%" #t "0, %" #t "1, %" #t "2, %" #t "3, %" #t "4, %" #t "5, %" #t "6, %" #t "7, %" #t "8, %" #t "9, "
#define REG32 REG10() REG10(1) REG10(2) "%30, %31"
#define REG128 \
    REG10() REG10(1) REG10(2) REG10(3) REG10(4) REG10(5) REG10(6) REG10(7) REG10(8) REG10(9) REG10(10) REG10(11) \
    "%120, %121, %122, %123, %124, %125, %126, %127"
#define ACC8(d, i) \
    "+f"((d)[i]), "+f"((d)[i + 1]), "+f"((d)[i + 2]), "+f"((d)[i + 3]), "+f"((d)[i + 4]), "+f"((d)[i + 5]), \
        "+f"((d)[i + 6]), "+f"((d)[i + 7])
#define ACC32(d, i) ACC8(d, i), ACC8(d, i + 8), ACC8(d, i + 16), ACC8(d, i + 24)
#define ACC64(d, i) ACC32(d, i), ACC32(d, i + 32)
#define ACC128(d) ACC64(d, 0), ACC64(d, 64)
#define WGMMA(shape, type) "wgmma.mma_async.sync.aligned." shape ".f32." type "." type " "

/* S[64, 64] (+)= A[64, 16] B[64, 16]^T, both from shared memory, K contiguous. */
template <int TYPE> GPU_INLINE void sm90_wgmma_qk(float (&d)[32], uint64_t a, uint64_t b, int accumulate) {
#define QK(type)                                                                                                  \
    asm volatile("{.reg .pred p; setp.ne.b32 p, %34, 0; " WGMMA("m64n64k16", type) "{" REG32                      \
                                                                                   "}, %32, %33, p, 1, 1, 0, 0;}" \
                 : ACC32(d, 0)                                                                                    \
                 : "l"(a), "l"(b), "r"(accumulate)                                                                \
                 : "memory")
    if (TYPE == SM90_BF16) QK("bf16");
    else QK("f16");
#undef QK
}

/* O[64, 256] += P[64, 16] V[16, 256]; P from shared memory, V with its columns contiguous. */
template <int TYPE> GPU_INLINE void sm90_wgmma_pv(float (&d)[128], uint64_t a, uint64_t b) {
#define PV(type)                                                                      \
    asm volatile(WGMMA("m64n256k16", type) "{" REG128 "}, %128, %129, 1, 1, 1, 0, 1;" \
                 : ACC128(d)                                                          \
                 : "l"(a), "l"(b)                                                     \
                 : "memory")
    if (TYPE == SM90_BF16) PV("bf16");
    else PV("f16");
#undef PV
}

#undef REG10
#undef REG32
#undef REG128
#undef ACC8
#undef ACC32
#undef ACC64
#undef ACC128
#undef WGMMA

#endif
