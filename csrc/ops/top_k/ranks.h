/* How logits rank, and a wave's exchanges. */
#ifndef AC_OPS_TOP_K_RANKS_H
#define AC_OPS_TOP_K_RANKS_H

#include "../../gpu/gpu.h"

/* A logit as an unsigned number in the order of the op: the larger one ranks first, and NaN is 0. */
GPU_INLINE uint32_t rank_of(uint32_t bits) {
    const uint32_t rank = bits ^ ((uint32_t)((int32_t)bits >> 31) | 0x80000000u);
    return (bits & 0x7fffffffu) > 0x7f800000u ? 0 : rank;
}

GPU_INLINE uint32_t lane_below(uint32_t x, int distance) {
#if defined(__CUDACC__)
    return __shfl_up_sync(0xffffffffu, x, distance);
#else
    return (uint32_t)__builtin_amdgcn_ds_bpermute((gpu_lane() - distance) * 4, (int)x);
#endif
}

GPU_INLINE uint32_t of_lane(uint32_t x, int lane) {
#if defined(__CUDACC__)
    return __shfl_sync(0xffffffffu, x, lane);
#else
    return (uint32_t)__builtin_amdgcn_ds_bpermute(lane * 4, (int)x);
#endif
}

#endif
