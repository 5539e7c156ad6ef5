/* Warpgroup matrix products of wide tiles on sm_90a: S = Q K^T with 64, 80 or 128 keys, both operands from shared
 * memory; O += P V with 128 or 256 columns, P from registers. 16-bit types and e4m3. What wgmma.h says of fences and
 * waits holds here too, and of P: nothing may touch its registers before the wait. */
#ifndef AC_GPU_SM90_WGMMA_WIDE_H
#define AC_GPU_SM90_WGMMA_WIDE_H

#include "wgmma.h"

constexpr int SM90_E4M3 = SM90_F16 + 1; /* the third matrix type: 32 elements a step where the others have 16 */

/* sm90_descriptor() in halves: the upper one is the same for every operand, so that an operand costs a register, and
 * one at a distance an addition. */
GPU_INLINE uint32_t sm90_operand(uint32_t address, uint32_t leading) { return address >> 4 | leading >> 4 << 16; }
GPU_INLINE uint64_t sm90_operand_at(uint32_t operand, uint32_t bytes) {
    return (uint64_t)(1024 >> 4 | 1 << 30) << 32 | (operand + (bytes >> 4));
}

/* Operand lists: "%<t>0" to "%<t>9", and accumulators eight by eight. */
#define REG10(t) "%" #t "0, %" #t "1, %" #t "2, %" #t "3, %" #t "4, %" #t "5, %" #t "6, %" #t "7, %" #t "8, %" #t "9"
#define REG32 REG10() ", " REG10(1) ", " REG10(2) ", %30, %31"
#define REG40 REG10() ", " REG10(1) ", " REG10(2) ", " REG10(3)
#define REG60 REG40 ", " REG10(4) ", " REG10(5)
#define REG64 REG60 ", %60, %61, %62, %63"
#define REG120 REG60 ", " REG10(6) ", " REG10(7) ", " REG10(8) ", " REG10(9) ", " REG10(10) ", " REG10(11)
#define REG128 REG120 ", %120, %121, %122, %123, %124, %125, %126, %127"
#define ACC8(d, i)                                                                                                     \
    "+f"((d)[i]), "+f"((d)[i + 1]), "+f"((d)[i + 2]), "+f"((d)[i + 3]), "+f"((d)[i + 4]), "+f"((d)[i + 5]),            \
        "+f"((d)[i + 6]), "+f"((d)[i + 7])
#define ACC32(d) ACC8(d, 0), ACC8(d, 8), ACC8(d, 16), ACC8(d, 24)
#define ACC40(d) ACC8(d, 0), ACC8(d, 8), ACC8(d, 16), ACC8(d, 24), ACC8(d, 32)
#define ACC64(d, i)                                                                                                    \
    ACC8(d, i), ACC8(d, i + 8), ACC8(d, i + 16), ACC8(d, i + 24), ACC8(d, i + 32), ACC8(d, i + 40), ACC8(d, i + 48),   \
        ACC8(d, i + 56)
#define WGMMA(shape, type, accumulators)                                                                               \
    "wgmma.mma_async.sync.aligned." shape ".f32." type "." type " {" accumulators "}, "

/* S (+)= Q K^T: 64 rows, as many keys as N * 2, K contiguous in both. Not `more`: S is overwritten. */
#define SCORES(shape, type, regs, accs, operands)                                                                      \
    asm volatile(WGMMA(shape, type, regs) operands : accs : "l"(a), "l"(b), "n"(more) : "memory")
template <int TYPE, bool more> GPU_INLINE void sm90_wgmma_scores(float (&d)[64], uint64_t a, uint64_t b) {
    if (TYPE == SM90_BF16) SCORES("m64n128k16", "bf16", REG64, ACC64(d, 0), "%64, %65, %66, 1, 1, 0, 0;");
    else if (TYPE == SM90_F16) SCORES("m64n128k16", "f16", REG64, ACC64(d, 0), "%64, %65, %66, 1, 1, 0, 0;");
    else SCORES("m64n128k32", "e4m3", REG64, ACC64(d, 0), "%64, %65, %66, 1, 1;");
}

template <int TYPE, bool more> GPU_INLINE void sm90_wgmma_scores(float (&d)[40], uint64_t a, uint64_t b) {
    if (TYPE == SM90_BF16) SCORES("m64n80k16", "bf16", REG40, ACC40(d), "%40, %41, %42, 1, 1, 0, 0;");
    else SCORES("m64n80k16", "f16", REG40, ACC40(d), "%40, %41, %42, 1, 1, 0, 0;");
}

template <int TYPE, bool more> GPU_INLINE void sm90_wgmma_scores(float (&d)[32], uint64_t a, uint64_t b) {
    static_assert(TYPE == SM90_E4M3, "64 keys: of 8 bits");
    SCORES("m64n64k32", "e4m3", REG32, ACC32(d), "%32, %33, %34, 1, 1;");
}
#undef SCORES

/* O += P V, as many columns as N * 2. 16-bit V has its columns contiguous, e4m3 V its keys. */
#define VALUES(shape, type, regs, accs, operands)                                                                      \
    asm volatile(WGMMA(shape, type, regs) operands : accs : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b) : "mem" \
                                                                                                                 "or"  \
                                                                                                                 "y")
template <int TYPE> GPU_INLINE void sm90_wgmma_values(float (&d)[64], const uint32_t *a, uint64_t b) {
    if (TYPE == SM90_BF16) VALUES("m64n128k16", "bf16", REG64, ACC64(d, 0), "{%64, %65, %66, %67}, %68, 1, 1, 1, 1;");
    else if (TYPE == SM90_F16)
        VALUES("m64n128k16", "f16", REG64, ACC64(d, 0), "{%64, %65, %66, %67}, %68, 1, 1, 1, 1;");
    else VALUES("m64n128k32", "e4m3", REG64, ACC64(d, 0), "{%64, %65, %66, %67}, %68, 1, 1, 1;");
}

template <int TYPE> GPU_INLINE void sm90_wgmma_values(float (&d)[128], const uint32_t *a, uint64_t b) {
#define ACC128(d) ACC64(d, 0), ACC64(d, 64)
    if (TYPE == SM90_BF16)
        VALUES("m64n256k16", "bf16", REG128, ACC128(d), "{%128, %129, %130, %131}, %132, 1, 1, 1, 1;");
    else if (TYPE == SM90_F16)
        VALUES("m64n256k16", "f16", REG128, ACC128(d), "{%128, %129, %130, %131}, %132, 1, 1, 1, 1;");
    else VALUES("m64n256k32", "e4m3", REG128, ACC128(d), "{%128, %129, %130, %131}, %132, 1, 1, 1;");
#undef ACC128
}
#undef VALUES

#undef REG10
#undef REG32
#undef REG40
#undef REG60
#undef REG64
#undef REG120
#undef REG128
#undef ACC8
#undef ACC32
#undef ACC40
#undef ACC64
#undef WGMMA

#endif
