/* sm_90a: merges the partials of (row, head) pairs by their LSE, in a fixed order. With many pairs and few partials
 * each warp merges a pair, eight pairs per workgroup, and the other workgroups exit; else the eight warps share one
 * pair. A lane has 4 columns of every 128, QUADS times, so that the loads of a warp are whole lines and four partials
 * are in flight. */
#ifndef AC_OPS_MLA_MERGE_SM90_H
#define AC_OPS_MLA_MERGE_SM90_H

#include "store.h"

constexpr int SM90_MERGE_WARPS = 8, MERGE_THREADS = 32 * SM90_MERGE_WARPS, MERGE_PER_UNIT = 2;
constexpr int SM90_MERGE_LOADS = 4; /* partials in flight */
constexpr int SM90_MERGE_ONE_WARP_PARTIALS = SM90_MERGE_WARPS; /* at most for one warp: the same order of sums */
constexpr int SM90_MERGE_ONE_WARP_PAIRS = 1024;                /* at least */

typedef struct sm90_merge_side_t {
    float acc[SM90_MERGE_WARPS][AC_MLA_DV];
    float weights[SM90_MERGE_WARPS];
} sm90_merge_side_t;
constexpr int MERGE_LOCAL_BYTES = sizeof(sm90_merge_side_t);

/* A pair, and the warps that share it. */
typedef struct sm90_pair_t {
    ac_merge_group_t group;
    int64_t first; /* partial s is at first + ac_partial_offset(s) */
    int head, self, warps;
} sm90_pair_t;

/* One warp's part of a pair: columns lane * 4 + 128 j, j < QUADS. */
template <int QUADS> struct sm90_sums_t {
    float acc[QUADS][4], weights;
};

/* The LSE of a partial: -inf where there is none. */
GPU_INLINE float sm90_partial_lse(const ac_mla_merge_params_t &p, const sm90_pair_t &pair, int32_t offset) {
    int64_t partial = pair.first + offset;
    return ac_is_partial(&p, partial) ? p.partial_lse[partial * p.num_heads + pair.head] : GPU_MINUS_INFINITY;
}

GPU_INLINE float sm90_top_lse(const ac_mla_merge_params_t &p, const sm90_pair_t &pair) {
    float top = -GPU_FLT_MAX;
    for (int s = gpu_lane(); s < pair.group.num_partials; s += 32)
        top = gpu_max(top, sm90_partial_lse(p, pair, ac_partial_offset(&pair.group, s)));
    GPU_UNROLL for (int distance = 16; distance; distance /= 2)
        top = gpu_max(top, __shfl_xor_sync(0xffffffffu, top, distance));
    return top;
}

GPU_INLINE float4 sm90_load_quad(const float *from) {
    if (((uintptr_t)from & 15) == 0) return *(const float4 *)from;
    return make_float4(from[0], from[1], from[2], from[3]);
}

/* Adds `count` partials, at most 32, whose LSE and offsets the lanes hold; `columns`: the lane's `quads` of four. -inf:
 * nothing was written. */
template <int QUADS>
GPU_INLINE void sm90_add_partials(const float *columns, int quads, int64_t stride, int count, float lse,
                                  int32_t offset, float top, sm90_sums_t<QUADS> *sums) {
    float weight = lse == GPU_MINUS_INFINITY ? 0 : gpu_exp2((lse - top) * (float)AC_LOG2_E);
    uint32_t written = __ballot_sync(0xffffffffu, lse != GPU_MINUS_INFINITY);
    GPU_NO_UNROLL for (int s = 0; s < count; s += SM90_MERGE_LOADS) {
        float4 value[SM90_MERGE_LOADS][QUADS];
        GPU_UNROLL for (int k = 0; k < SM90_MERGE_LOADS; k++) {
            const float *from = columns + __shfl_sync(0xffffffffu, offset, s + k & 31) * stride;
            GPU_UNROLL for (int j = 0; j < QUADS; j++) {
                value[k][j] = make_float4(0, 0, 0, 0);
                if (s + k < count && written >> (s + k) & 1 && j < quads)
                    value[k][j] = sm90_load_quad(from + 128 * j);
            }
        }
        GPU_UNROLL for (int k = 0; k < SM90_MERGE_LOADS; k++) {
            float w = __shfl_sync(0xffffffffu, weight, s + k & 31);
            if (s + k >= count || !(written >> (s + k) & 1)) continue;
            sums->weights += w;
            /* Rounded products: the same bits whether one warp adds all partials or one each. */
            GPU_UNROLL for (int j = 0; j < QUADS; j++) {
                sums->acc[j][0] += __fmul_rn(w, value[k][j].x);
                sums->acc[j][1] += __fmul_rn(w, value[k][j].y);
                sums->acc[j][2] += __fmul_rn(w, value[k][j].z);
                sums->acc[j][3] += __fmul_rn(w, value[k][j].w);
            }
        }
    }
}

/* The sums of the warps that share the pair, in their order; all threads of the workgroup are here. */
template <int QUADS>
GPU_INLINE void sm90_store_shared(const ac_mla_merge_params_t &p, const sm90_pair_t &pair, int64_t o_row, float top,
                                  const sm90_sums_t<QUADS> &sums) {
    sm90_merge_side_t &side = *(sm90_merge_side_t *)gpu_shared;
    const int lane = gpu_lane(), column = gpu_thread() * 4;
    gpu_barrier(); /* the last row's sums have been read */
    GPU_UNROLL for (int j = 0; j < QUADS; j++)
        *(float4 *)&side.acc[pair.self][lane * 4 + 128 * j] =
            make_float4(sums.acc[j][0], sums.acc[j][1], sums.acc[j][2], sums.acc[j][3]);
    if (lane == 0) side.weights[pair.self] = sums.weights;
    gpu_barrier();
    if (column >= p.value_width) return;
    float four[4] = {-0.0f, -0.0f, -0.0f, -0.0f}, weights = 0;
    GPU_UNROLL for (int w = 0; w < SM90_MERGE_WARPS; w++) {
        weights += side.weights[w];
        GPU_UNROLL for (int i = 0; i < 4; i++) four[i] += side.acc[w][column + i];
    }
    mla_output_t out = mla_merged_output(p, o_row, pair.head, top, weights);
    mla_store_columns(out, column, four);
    if (column == 0) mla_store_lse(out);
}

template <int QUADS>
GPU_INLINE void sm90_merge_pair(const ac_mla_merge_params_t &p, const sm90_pair_t &pair, int64_t o_row) {
    const int64_t stride = (int64_t)p.num_heads * p.value_width;
    const int lane = gpu_lane(), warps = pair.warps, count = pair.group.num_partials;
    const float *columns = p.partial_o + (pair.first * p.num_heads + pair.head) * p.value_width + lane * 4;
    const int quads = (p.value_width - lane * 4 + 127) / 128; /* of this lane */
    const float top = sm90_top_lse(p, pair);
    sm90_sums_t<QUADS> sums;
    sums.weights = 0;
    /* -0.0 is neutral in addition: 0 would lose a -0.0. */
    GPU_UNROLL for (int i = 0; i < 4 * QUADS; i++) sums.acc[i / 4][i % 4] = -0.0f;
    for (int s = pair.self; s < count; s += 32 * warps) {
        int of_lane = s + lane * warps, left = (count - s + warps - 1) / warps;
        int32_t offset = of_lane < count ? ac_partial_offset(&pair.group, of_lane) : 0;
        float lse = of_lane < count ? sm90_partial_lse(p, pair, offset) : GPU_MINUS_INFINITY;
        sm90_add_partials<QUADS>(columns, quads, stride, left < 32 ? left : 32, lse, offset, top, &sums);
    }
    if (warps > 1) return sm90_store_shared<QUADS>(p, pair, o_row, top, sums);
    mla_output_t out = mla_merged_output(p, o_row, pair.head, top, sums.weights);
    GPU_UNROLL for (int j = 0; j < QUADS; j++)
        if (j < quads) mla_store_columns(out, lane * 4 + 128 * j, sums.acc[j]);
    if (lane == 0) mla_store_lse(out);
}

template <int QUADS> GPU_INLINE void sm90_merge_rows(const ac_mla_merge_params_t &p, sm90_pair_t pair, uint32_t t) {
    GPU_NO_UNROLL for (; t < (uint32_t)pair.group.num_rows; t += p.group_rows) {
        pair.first = ac_first_partial(&pair.group, t);
        sm90_merge_pair<QUADS>(p, pair, (int64_t)pair.group.row + t);
    }
}

GPU_INLINE void merge_partials(const ac_mla_merge_params_t &p) {
    const int64_t pairs = (int64_t)p.num_groups * p.group_rows * p.num_heads;
    /* How many partials a list's group has, the host does not know: many pairs are work enough. */
    const bool few = p.reduce_indptr || p.num_splits <= SM90_MERGE_ONE_WARP_PARTIALS;
    sm90_pair_t pair;
    pair.warps = few && pairs >= SM90_MERGE_ONE_WARP_PAIRS ? 1 : SM90_MERGE_WARPS;
    pair.self = gpu_thread() / 32 % pair.warps;
    int64_t item = gpu_block() * (SM90_MERGE_WARPS / pair.warps) + gpu_thread() / 32 / pair.warps;
    if (item >= pairs) return;
    pair.head = (int)(item % p.num_heads);
    item /= p.num_heads;
    pair.group = ac_merge_group(&p, item / p.group_rows);
    if (pair.group.num_partials == 0) return;
    uint32_t t = (uint32_t)(item % p.group_rows);
    if (p.value_width > 256) sm90_merge_rows<4>(p, pair, t);
    else if (p.value_width > 128) sm90_merge_rows<2>(p, pair, t);
    else sm90_merge_rows<1>(p, pair, t);
}

#endif
