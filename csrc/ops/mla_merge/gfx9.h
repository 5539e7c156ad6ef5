/* AMD: one workgroup per (request, query token, head) merges the row's partials in the order of the splits by their
 * LSE. Two halves of the workgroup take the even and the odd splits, a thread 4 columns of them. */
#ifndef AC_OPS_MLA_MERGE_GFX9_H
#define AC_OPS_MLA_MERGE_GFX9_H

#include "../attention/store.h"
#include "kernel_params.h"

#define MERGE_THREADS 256
#define HALF (MERGE_THREADS / 2)
#define LOADS 4 /* of a thread that are in flight together */
#define LSES ((float *)gpu_shared)                  /* [MERGE_THREADS]: a chunk of the row's */
#define ODD_SUMS ((float *)gpu_shared + MERGE_THREADS)    /* [4][HALF] */

/* Loads the LSEs of the splits [first, first + MERGE_THREADS) to LDS; returns how many there are. */
GPU_INLINE int stage_lses(const ac_mla_merge_params_t &p, const float *lse, int first) {
    int count = p.num_splits - first < MERGE_THREADS ? p.num_splits - first : MERGE_THREADS;
    gpu_barrier();
    if (gpu_thread() < count) LSES[gpu_thread()] = lse[(int64_t)(first + gpu_thread()) * p.num_heads];
    gpu_barrier();
    return count;
}

typedef struct sums_t {
    float acc[4], weights;
} sums_t;

/* Adds one chunk of splits: all weights, and the columns of those that belong to the thread's half. */
GPU_INLINE void add_chunk(const char *partial, int64_t stride, int count, float top, sums_t *sums) {
    struct quad_t {
        float value[4];
    };
    int half = gpu_thread() / HALF;
    for (int i = 0; i < count; i++) {
        float lse = LSES[i];
        if (lse != GPU_MINUS_INFINITY) sums->weights += gpu_exp2((lse - top) * (float)AC_LOG2_E);
    }
    for (int i = half; i < count; i += 2 * LOADS) {
        quad_t quads[LOADS];
        float weights[LOADS];
        for (int k = 0; k < LOADS; k++) {
            int split = i + 2 * k;
            float lse = split < count ? LSES[split] : GPU_MINUS_INFINITY;
            weights[k] = gpu_exp2((lse - top) * (float)AC_LOG2_E);
            for (float &x : quads[k].value) x = 0;
            if (lse != GPU_MINUS_INFINITY) quads[k] = *(const quad_t *)(partial + split * stride);
            else weights[k] = 0; /* nothing was written there */
        }
        for (int k = 0; k < LOADS; k++)
            for (int c = 0; c < 4; c++) sums->acc[c] += quads[k].value[c] * weights[k];
    }
}

GPU_INLINE void merge_partials(const ac_mla_merge_params_t &p) {
    int64_t index = gpu_block(), head = index % p.head_tiles, begin, count; /* a tile is one head */
    index /= p.head_tiles;
    int64_t token = index % p.max_seqlen_q;
    ac_mla_queries(p.qo_indptr, index / p.max_seqlen_q, p.num_rows, &begin, &count);
    if (token >= count) return;
    int64_t row = begin + token, first_part = row * p.num_splits * p.num_heads + head;
    int64_t stride = (int64_t)p.num_heads * AC_MLA_DV * 4;
    const float *lse = p.partial_lse + first_part;
    int column = gpu_thread() % HALF * 4;
    const char *partial = (const char *)(p.partial_o + first_part * AC_MLA_DV + column);

    float top = -GPU_FLT_MAX;
    int in_chunk = 0;
    for (int first = 0; first < p.num_splits; first += MERGE_THREADS) {
        in_chunk = stage_lses(p, lse, first);
        for (int i = 0; i < in_chunk; i++) top = LSES[i] > top ? LSES[i] : top;
    }
    sums_t sums = {{-0.0f, -0.0f, -0.0f, -0.0f}, 0}; /* -0.0 is neutral in addition: 0 would lose a -0.0 */
    for (int first = 0; first < p.num_splits; first += MERGE_THREADS) {
        if (p.num_splits > MERGE_THREADS) in_chunk = stage_lses(p, lse, first);
        add_chunk(partial + first * stride, stride, in_chunk, top, &sums);
    }
    if (gpu_thread() >= HALF)
        for (int c = 0; c < 4; c++) ODD_SUMS[c * HALF + column / 4] = sums.acc[c];
    gpu_barrier();
    if (gpu_thread() >= HALF) return;
    for (int c = 0; c < 4; c++) sums.acc[c] += ODD_SUMS[c * HALF + column / 4];

    mla_output_t out;
    out.empty = sums.weights == 0;
    out.scale = 1 / sums.weights;
    out.row = p.o + row * p.o_row_stride + head * p.o_head_stride;
    out.dtype = p.o_dtype;
    out.lse = p.lse ? p.lse + row * p.num_heads + head : nullptr;
    out.lse_value = out.empty ? GPU_MINUS_INFINITY : top + gpu_log2(sums.weights) * (float)AC_LN_2;
    mla_store_columns(out, column, sums.acc);
    if (gpu_thread() == 0) mla_store_lse(out);
}

#endif
