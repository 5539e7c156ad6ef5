/* How logits rank. */
#ifndef AC_OPS_TOP_K_RANKS_H
#define AC_OPS_TOP_K_RANKS_H

#include "../../gpu/gpu.h"

/* A logit as an unsigned number in the order of the op: the larger one ranks first, and NaN is 0. */
GPU_INLINE uint32_t rank_of(uint32_t bits) {
    const uint32_t rank = bits ^ ((uint32_t)((int32_t)bits >> 31) | 0x80000000u);
    return (bits & 0x7fffffffu) > 0x7f800000u ? 0 : rank;
}

#endif
