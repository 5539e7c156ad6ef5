/* Local memory by its address, values that the compiler is to keep or to forget, and reductions over the lanes of a
 * row: those of the same number modulo 16. */
#ifndef AC_GPU_GFX9_LANES_H
#define AC_GPU_GFX9_LANES_H

#include "matrix.h"

template <class T> GPU_INLINE GPU_LOCAL T &local(uint32_t address) { return *(GPU_LOCAL T *)address; }

/* A lane's address, from which constants lead to all others: not to be taken apart into a sum of its own for each. */
GPU_INLINE uint32_t one_address(uint32_t address) {
    asm volatile("" : "+v"(address));
    return address;
}

/* The lane's number for one round of a loop. What follows from it is computed in every round: kept for all rounds, the
 * many addresses would take the registers of the accumulators. */
GPU_INLINE uint32_t opaque_lane() {
    uint32_t lane = gpu_lane();
    asm volatile("" : "+v"(lane));
    return lane;
}

/* The largest of the four lanes of a row. */
GPU_INLINE float max_of_row(float x) {
#if defined(__gfx950__)
    auto a = __builtin_amdgcn_permlane16_swap(BITS(uint32_t, x), BITS(uint32_t, x), false, false);
    x = gpu_max(BITS(float, (uint32_t)a[0]), BITS(float, (uint32_t)a[1]));
    auto b = __builtin_amdgcn_permlane32_swap(BITS(uint32_t, x), BITS(uint32_t, x), false, false);
    return gpu_max(BITS(float, (uint32_t)b[0]), BITS(float, (uint32_t)b[1]));
#else
    for (int step = 16; step < 64; step *= 2)
        x = gpu_max(x, BITS(float, __builtin_amdgcn_ds_bpermute((gpu_lane() ^ step) * 4, BITS(int, x))));
    return x;
#endif
}

GPU_INLINE float sum_of_row(float x) { /* in the same order in all four lanes */
    for (int step = 16; step < 64; step *= 2)
        x += BITS(float, __builtin_amdgcn_ds_bpermute((gpu_lane() ^ step) * 4, BITS(int, x)));
    return x;
}

#endif
