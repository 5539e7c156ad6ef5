/* LDS by address, values that the compiler has to keep or to recompute, and reductions over the four lanes of a row
 * (those whose numbers are the same modulo 16). */
#ifndef AC_GPU_GFX9_LANES_H
#define AC_GPU_GFX9_LANES_H

#include "matrix.h"

template <class T> GPU_INLINE GPU_SHARED T &lds(uint32_t address) { return *(GPU_SHARED T *)address; }

/* Keeps a lane's address in one register, to which constants are added; the compiler would otherwise compute a separate
 * sum for every access. */
GPU_INLINE uint32_t keep_in_register(uint32_t address) {
    asm volatile("" : "+v"(address));
    return address;
}

/* The lane's number, opaque to the compiler, so that the addresses that follow from it are recomputed in each iteration
 * of a loop. Hoisted out of the loop they would take the registers of the accumulators. */
GPU_INLINE uint32_t recompute_lane_id() {
    uint32_t lane = gpu_lane();
    asm volatile("" : "+v"(lane));
    return lane;
}

/* The larger of two numbers of which none is NaN. gpu_max first quiets both where they come from memory or from another
 * lane, as a NaN might be a signalling one. The compiler keeps no distance from an instruction that it does not know:
 * neither may come straight from a matrix or a transcendental one (gfxsim --hazards would say so). */
GPU_INLINE float larger_of(float a, float b) {
    float larger;
    asm("v_max_f32 %0, %1, %2" : "=v"(larger) : "v"(a), "v"(b));
    return larger;
}

/* The maximum over the four lanes of a row; x is no NaN. */
GPU_INLINE float max_of_row(float x) {
#if defined(__gfx950__)
    auto a = __builtin_amdgcn_permlane16_swap(BITS(uint32_t, x), BITS(uint32_t, x), false, false);
    x = larger_of(BITS(float, (uint32_t)a[0]), BITS(float, (uint32_t)a[1]));
    auto b = __builtin_amdgcn_permlane32_swap(BITS(uint32_t, x), BITS(uint32_t, x), false, false);
    return larger_of(BITS(float, (uint32_t)b[0]), BITS(float, (uint32_t)b[1]));
#else
    for (int step = 16; step < 64; step *= 2)
        x = larger_of(x, BITS(float, __builtin_amdgcn_ds_bpermute((recompute_lane_id() ^ step) * 4, BITS(int, x))));
    return x;
#endif
}

GPU_INLINE float sum_of_row(float x) { /* in the same order in all four lanes */
    for (int step = 16; step < 64; step *= 2)
        x += BITS(float, __builtin_amdgcn_ds_bpermute((recompute_lane_id() ^ step) * 4, BITS(int, x)));
    return x;
}

#endif
