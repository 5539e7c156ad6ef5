/* Products of sm_90a whose A, 64 rows, is in registers: of fp16 (K = 16) or of e4m3 (K = 32). N rows of B come from
 * shared memory, K contiguous; D (+)= A B^T has N / 2 accumulators a thread. See wgmma.h for when they may be touched.
 */
#ifndef AC_GPU_SM90_WGMMA_REGISTERS_H
#define AC_GPU_SM90_WGMMA_REGISTERS_H

#include "wgmma.h"

enum { SM90_E4M3 = 2 }; /* beside SM90_BF16 and SM90_F16 */

#define ACC4(d, i) "+f"((d)[i]), "+f"((d)[i + 1]), "+f"((d)[i + 2]), "+f"((d)[i + 3])
#define ACC16(d, i) ACC4(d, i), ACC4(d, i + 4), ACC4(d, i + 8), ACC4(d, i + 12)
#define REG16 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define REG32 REG16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define REG64                                                                                                          \
    REG32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, "     \
          "%52, "                                                                                                      \
          "%53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define WGMMA(shape, type) "wgmma.mma_async.sync.aligned." shape ".f32." type "." type " "

template <int TYPE> GPU_INLINE void sm90_wgmma_rs(float (&d)[64], const uint32_t (&a)[4], uint64_t b, int accumulate) {
#define RS(shape, type, tail)                                                                                          \
    asm volatile("{.reg .pred p; setp.ne.b32 p, %69, 0; " WGMMA(shape, type) "{" REG64 "}, {%64, %65, %66, %67}, "     \
                                                                             "%68, p, 1, 1" tail ";}"                  \
                 : ACC16(d, 0), ACC16(d, 16), ACC16(d, 32), ACC16(d, 48)                                               \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate) : "memory")
    if (TYPE == SM90_E4M3) RS("m64n128k32", "e4m3", "");
    else RS("m64n128k16", "f16", ", 0");
#undef RS
}

template <int TYPE> GPU_INLINE void sm90_wgmma_rs(float (&d)[32], const uint32_t (&a)[4], uint64_t b, int accumulate) {
#define RS(shape, type, tail)                                                                                          \
    asm volatile("{.reg .pred p; setp.ne.b32 p, %37, 0; " WGMMA(shape, type) "{" REG32 "}, {%32, %33, %34, %35}, "     \
                                                                             "%36, p, 1, 1" tail ";}"                  \
                 : ACC16(d, 0), ACC16(d, 16) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate)     \
                 : "memory")
    if (TYPE == SM90_E4M3) RS("m64n64k32", "e4m3", "");
    else RS("m64n64k16", "f16", ", 0");
#undef RS
}

template <int TYPE> GPU_INLINE void sm90_wgmma_rs(float (&d)[16], const uint32_t (&a)[4], uint64_t b, int accumulate) {
#define RS(shape, type, tail)                                                                                          \
    asm volatile("{.reg .pred p; setp.ne.b32 p, %21, 0; " WGMMA(shape, type) "{" REG16 "}, {%16, %17, %18, %19}, "     \
                                                                             "%20, p, 1, 1" tail ";}" : ACC16(d, 0)    \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate) : "memory")
    if (TYPE == SM90_E4M3) RS("m64n32k32", "e4m3", "");
    else RS("m64n32k16", "f16", ", 0");
#undef RS
}

#undef ACC4
#undef ACC16
#undef REG16
#undef REG32
#undef REG64
#undef WGMMA

#endif
