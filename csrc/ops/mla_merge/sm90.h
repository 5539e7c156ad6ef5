/* Stage 2 of MLA decode on sm_90a: merges the partials of (query row, head) pairs by their LSE, in a fixed order. With
 * few splits and many pairs each warp merges a pair, eight pairs per workgroup, and the other workgroups exit; else the
 * eight warps share one pair. A lane has 16 of the 512 columns, so that the loads of a warp are
 * whole lines and four splits are in flight. */
#ifndef AC_OPS_MLA_MERGE_SM90_H
#define AC_OPS_MLA_MERGE_SM90_H

#include "../attention/store.h"
#include "kernel_params.h"

constexpr int SM90_MERGE_LOADS = 4; /* splits in flight */

/* One warp's part of a pair: columns lane * 4 + 128 j, j < 4. */
typedef struct sm90_merge_t {
    float acc[4][4], weights;
} sm90_merge_t;

GPU_INLINE float sm90_top_lse(const float *lse, int num_splits, int64_t stride) {
    float top = -GPU_FLT_MAX;
    for (int s = gpu_lane(); s < num_splits; s += 32) top = gpu_max(top, lse[s * stride]);
    GPU_UNROLL for (int distance = 16; distance; distance /= 2)
        top = gpu_max(top, __shfl_xor_sync(0xffffffffu, top, distance));
    return top;
}

GPU_INLINE float4 sm90_load_quad(const float *from) {
    if (((uintptr_t)from & 15) == 0) return *(const float4 *)from;
    return make_float4(from[0], from[1], from[2], from[3]);
}

/* Adds `count` splits, at most 32, `stride` floats apart; lane l holds the LSE of split l. -inf: nothing was written.
 */
GPU_INLINE void sm90_merge_splits(const float *partial, int64_t stride, int count, float lse, float top,
                                  sm90_merge_t *sum) {
    float weight = lse == GPU_MINUS_INFINITY ? 0 : gpu_exp2((lse - top) * (float)AC_LOG2_E);
    uint32_t written = __ballot_sync(0xffffffffu, lse != GPU_MINUS_INFINITY);
    GPU_NO_UNROLL for (int s = 0; s < count; s += SM90_MERGE_LOADS) {
        float4 value[SM90_MERGE_LOADS][4];
        GPU_UNROLL for (int k = 0; k < SM90_MERGE_LOADS; k++)
            GPU_UNROLL for (int j = 0; j < 4; j++) {
                value[k][j] = make_float4(0, 0, 0, 0);
                if (s + k < count && written >> (s + k) & 1)
                    value[k][j] = sm90_load_quad(partial + (s + k) * stride + 128 * j);
            }
        GPU_UNROLL for (int k = 0; k < SM90_MERGE_LOADS; k++) {
            float w = __shfl_sync(0xffffffffu, weight, s + k & 31);
            if (s + k >= count || !(written >> (s + k) & 1)) continue;
            sum->weights += w;
            /* Rounded products: the same bits whether one warp adds all splits or one each. */
            GPU_UNROLL for (int j = 0; j < 4; j++) {
                sum->acc[j][0] += __fmul_rn(w, value[k][j].x);
                sum->acc[j][1] += __fmul_rn(w, value[k][j].y);
                sum->acc[j][2] += __fmul_rn(w, value[k][j].z);
                sum->acc[j][3] += __fmul_rn(w, value[k][j].w);
            }
        }
    }
}

constexpr int SM90_MERGE_WARPS = 8, MERGE_THREADS = 32 * SM90_MERGE_WARPS;
constexpr int SM90_MERGE_ONE_WARP_SPLITS = SM90_MERGE_WARPS; /* splits at most for one warp: the same order of sums */
constexpr int SM90_MERGE_ONE_WARP_PAIRS = 1024; /* pairs */

typedef struct sm90_merge_side_t {
    float acc[SM90_MERGE_WARPS][AC_MLA_DV];
    float weights[SM90_MERGE_WARPS];
} sm90_merge_side_t;

GPU_INLINE mla_output_t sm90_merged_output(const ac_mla_merge_params_t &p, int64_t row, int head, float top,
                                         float weights) {
    mla_output_t out;
    out.empty = weights == 0;
    out.scale = 1 / weights;
    out.row = p.o + row * p.o_row_stride + head * p.o_head_stride;
    out.dtype = p.o_dtype;
    out.lse = p.lse ? p.lse + row * p.num_heads + head : nullptr;
    out.lse_value = out.empty ? GPU_MINUS_INFINITY : top + gpu_log2(weights) * (float)AC_LN_2;
    return out;
}

#define AC_FAMILY_ROWS "mla_merge/kernels.inc"
#include "../local_bytes.inc"
CHECK_LOCAL_BYTES("mla_merge", sizeof(sm90_merge_side_t));

GPU_INLINE void merge_partials(const ac_mla_merge_params_t &p) {
    sm90_merge_side_t &side = *(sm90_merge_side_t *)gpu_shared;
    int64_t pairs = (int64_t)p.batch * p.max_seqlen_q * p.num_heads;
    bool one_warp = p.num_splits <= SM90_MERGE_ONE_WARP_SPLITS && pairs >= SM90_MERGE_ONE_WARP_PAIRS;
    int warps = one_warp ? 1 : SM90_MERGE_WARPS, lane = gpu_lane();
    int self = gpu_thread() / 32 % warps;
    int64_t item = gpu_block() * (SM90_MERGE_WARPS / warps) + gpu_thread() / 32 / warps, begin, count;
    if (item >= pairs) return;
    int head = (int)(item % p.num_heads);
    int64_t token = item / p.num_heads % p.max_seqlen_q;
    ac_mla_queries(p.qo_indptr, item / p.num_heads / p.max_seqlen_q, p.num_rows, &begin, &count);
    if (token >= count) return;

    int64_t row = begin + token, first = row * p.num_splits * p.num_heads + head;
    const float *lse = p.partial_lse + first, *partial = p.partial_o + first * AC_MLA_DV + lane * 4;
    float top = sm90_top_lse(lse, p.num_splits, p.num_heads);
    sm90_merge_t sum;
    sum.weights = 0;
    /* -0.0 is neutral in addition: 0 would lose a -0.0. */
    GPU_UNROLL for (int i = 0; i < 16; i++) sum.acc[i / 4][i % 4] = -0.0f;
    for (int s = self; s < p.num_splits; s += 32 * warps) {
        int of_lane = s + lane * warps, left = (p.num_splits - s + warps - 1) / warps;
        float of_split = of_lane < p.num_splits ? lse[(int64_t)of_lane * p.num_heads] : GPU_MINUS_INFINITY;
        sm90_merge_splits(partial + (int64_t)s * p.num_heads * AC_MLA_DV, (int64_t)warps * p.num_heads * AC_MLA_DV,
                          left < 32 ? left : 32, of_split, top, &sum);
    }
    if (warps == 1) {
        mla_output_t out = sm90_merged_output(p, row, head, top, sum.weights);
        GPU_UNROLL for (int j = 0; j < 4; j++) mla_store_columns(out, lane * 4 + 128 * j, sum.acc[j]);
        if (lane == 0) mla_store_lse(out);
        return;
    }
    GPU_UNROLL for (int j = 0; j < 4; j++)
        *(float4 *)&side.acc[self][lane * 4 + 128 * j] =
            make_float4(sum.acc[j][0], sum.acc[j][1], sum.acc[j][2], sum.acc[j][3]);
    if (lane == 0) side.weights[self] = sum.weights;
    gpu_barrier();
    if (gpu_thread() >= AC_MLA_DV / 4) return;
    float four[4] = {-0.0f, -0.0f, -0.0f, -0.0f}, weights = 0;
    GPU_UNROLL for (int w = 0; w < SM90_MERGE_WARPS; w++) {
        weights += side.weights[w];
        GPU_UNROLL for (int i = 0; i < 4; i++) four[i] += side.acc[w][gpu_thread() * 4 + i];
    }
    mla_output_t out = sm90_merged_output(p, row, head, top, weights);
    mla_store_columns(out, gpu_thread() * 4, four);
    if (gpu_thread() == 0) mla_store_lse(out);
}

#endif
