/* One warp's weighted sum of the partials of a (query row, head) pair. */
#ifndef AC_KERNELS_MLA_SM90_MERGE_SPLITS_H
#define AC_KERNELS_MLA_SM90_MERGE_SPLITS_H

#include "mla_store.h"

constexpr int SM90_MERGE_LOADS = 4; /* splits in flight */

/* One warp's part of a pair: columns lane * 4 + 128 j, j < 4. */
typedef struct sm90_merge_t {
    float acc[4][4], weights;
} sm90_merge_t;

GPU_INLINE float sm90_top_lse(const float *lse, int num_splits, int64_t stride) {
    float top = -GPU_FLT_MAX;
    for (int s = gpu_lane(); s < num_splits; s += 32) top = gpu_max(top, lse[s * stride]);
#pragma unroll
    for (int distance = 16; distance; distance /= 2) top = gpu_max(top, __shfl_xor_sync(0xffffffffu, top, distance));
    return top;
}

GPU_INLINE float4 sm90_load_quad(const float *from) {
    if (((uintptr_t)from & 15) == 0) return *(const float4 *)from;
    return make_float4(from[0], from[1], from[2], from[3]);
}

/* Adds the splits first, first + step, ... up to 32 of them, whose LSE the lanes hold; -inf: nothing was written. */
GPU_INLINE void sm90_merge_splits(const float *partial, int64_t stride, int count, float lse, float top,
                                  sm90_merge_t *sum) {
    float weight = lse == GPU_MINUS_INFINITY ? 0 : gpu_exp2((lse - top) * 1.44269504f);
    uint32_t written = __ballot_sync(0xffffffffu, lse != GPU_MINUS_INFINITY);
#pragma unroll 1
    for (int s = 0; s < count; s += SM90_MERGE_LOADS) {
        float4 value[SM90_MERGE_LOADS][4];
#pragma unroll
        for (int k = 0; k < SM90_MERGE_LOADS; k++)
#pragma unroll
            for (int j = 0; j < 4; j++) {
                value[k][j] = make_float4(0, 0, 0, 0);
                if (s + k < count && written >> (s + k) & 1)
                    value[k][j] = sm90_load_quad(partial + (s + k) * stride + 128 * j);
            }
#pragma unroll
        for (int k = 0; k < SM90_MERGE_LOADS; k++) {
            float w = __shfl_sync(0xffffffffu, weight, s + k & 31);
            if (s + k >= count || !(written >> (s + k) & 1)) continue;
            sum->weights += w;
            /* Rounded products: the same bits whether one warp adds all splits or one each. */
#pragma unroll
            for (int j = 0; j < 4; j++) {
                sum->acc[j][0] += __fmul_rn(w, value[k][j].x);
                sum->acc[j][1] += __fmul_rn(w, value[k][j].y);
                sum->acc[j][2] += __fmul_rn(w, value[k][j].z);
                sum->acc[j][3] += __fmul_rn(w, value[k][j].w);
            }
        }
    }
}

#endif
