/* Products of sm_90a for few rows: the long side is A, 64 rows of it from registers, and N = 16, 32 or 64 rows of B
 * come from shared memory, 16 elements of 16 bits a step, K contiguous. D[64, N] (+)= A B^T has N / 2 accumulators a
 * thread. See wgmma.h for when they may be touched; the registers of A are read until then, too. */
#ifndef AC_GPU_SM90_WGMMA_TURNED_H
#define AC_GPU_SM90_WGMMA_TURNED_H

#include "wgmma.h"

#define ACC8(d, i)                                                                                                     \
    "+f"((d)[i]), "+f"((d)[i + 1]), "+f"((d)[i + 2]), "+f"((d)[i + 3]), "+f"((d)[i + 4]), "+f"((d)[i + 5]),            \
        "+f"((d)[i + 6]), "+f"((d)[i + 7])
#define ACC16(d, i) ACC8(d, i), ACC8(d, i + 8)
#define REG8 "%0, %1, %2, %3, %4, %5, %6, %7"
#define REG16 REG8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define REG32 REG16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"

/* With `more` D is added to, else overwritten. */
#define TURNED(shape, type, registers, a0, a1, a2, a3, b, p, ...)                                                      \
    asm volatile("{.reg .pred p; setp.ne.b32 p, " p ", 0; wgmma.mma_async.sync.aligned." shape ".f32." type "." type   \
                 " {" registers "}, {" a0 ", " a1 ", " a2 ", " a3 "}, " b ", p, 1, 1, 0;}" : __VA_ARGS__               \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(rows), "r"((int)more) : "memory")

template <int TYPE>
GPU_INLINE void sm90_wgmma_turned(float (&d)[8], const uint32_t (&a)[4], uint64_t rows, bool more) {
    if (TYPE == SM90_BF16) TURNED("m64n16k16", "bf16", REG8, "%8", "%9", "%10", "%11", "%12", "%13", ACC8(d, 0));
    else TURNED("m64n16k16", "f16", REG8, "%8", "%9", "%10", "%11", "%12", "%13", ACC8(d, 0));
}

template <int TYPE>
GPU_INLINE void sm90_wgmma_turned(float (&d)[16], const uint32_t (&a)[4], uint64_t rows, bool more) {
    if (TYPE == SM90_BF16) TURNED("m64n32k16", "bf16", REG16, "%16", "%17", "%18", "%19", "%20", "%21", ACC16(d, 0));
    else TURNED("m64n32k16", "f16", REG16, "%16", "%17", "%18", "%19", "%20", "%21", ACC16(d, 0));
}

template <int TYPE>
GPU_INLINE void sm90_wgmma_turned(float (&d)[32], const uint32_t (&a)[4], uint64_t rows, bool more) {
    if (TYPE == SM90_BF16)
        TURNED("m64n64k16", "bf16", REG32, "%32", "%33", "%34", "%35", "%36", "%37", ACC16(d, 0), ACC16(d, 16));
    else TURNED("m64n64k16", "f16", REG32, "%32", "%33", "%34", "%35", "%36", "%37", ACC16(d, 0), ACC16(d, 16));
}

/* Keeps the registers of A alive until here. */
GPU_INLINE void sm90_pin(const uint32_t (&a)[4]) {
    asm volatile("" ::"r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]) : "memory");
}
template <int N> GPU_INLINE void sm90_pin(const uint32_t (&a)[N][4]) {
    GPU_UNROLL for (int i = 0; i < N; i++) sm90_pin(a[i]);
}

/* Two words of fp16 of a word of e4m3fn: elements 0 and 1, 2 and 3. Exact, NaN included. */
GPU_INLINE void sm90_widen_word(uint32_t word, uint32_t &low, uint32_t &high) {
    asm("{.reg .b16 l, h; mov.b32 {l, h}, %2; cvt.rn.f16x2.e4m3x2 %0, l; cvt.rn.f16x2.e4m3x2 %1, h;}"
        : "=r"(low), "=r"(high)
        : "r"(word));
}

#undef ACC8
#undef ACC16
#undef REG8
#undef REG16
#undef REG32
#undef TURNED

#endif
