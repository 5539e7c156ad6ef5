/* AMD: one workgroup per (group, row, head) merges the row's partials by their LSE, in their order. A thread has 4
 * columns; column_threads of them have a row, and the workgroup's 256 threads form such teams, of which team i
 * takes the partials i, i + teams, ... The teams' sums are added in their order. */
#ifndef AC_OPS_MLA_MERGE_GFX9_H
#define AC_OPS_MLA_MERGE_GFX9_H

#include "store.h"

constexpr int MERGE_THREADS = 256, MERGE_PER_UNIT = 8;
constexpr int LOADS = 4; /* of a thread that are in flight together */

/* LDS: the LSEs of a chunk of the row's partials, and where they are; then the sums of the teams but the first. */
#define LSES ((float *)gpu_shared)                            /* [MERGE_THREADS] */
#define OFFSETS ((int32_t *)gpu_shared + MERGE_THREADS)       /* [MERGE_THREADS] */
#define TEAM_SUMS ((float *)gpu_shared + 2 * MERGE_THREADS)   /* [team - 1][4][column_threads] */
constexpr int LEAST_COLUMN_THREADS = 16;
GPU_INLINE int column_threads_of(int width) { return width > 256 ? 128 : width > 128 ? 64 : width > 64 ? 32 : 16; }
constexpr int MERGE_LOCAL_BYTES = MERGE_THREADS * 8 + (MERGE_THREADS - LEAST_COLUMN_THREADS) * 16;

/* One row and head to be merged. */
typedef struct merge_row_t {
    ac_merge_group_t group;
    int64_t first; /* partial s is at first + ac_partial_offset(s) */
    int head;
} merge_row_t;

/* Loads LSEs and offsets of the partials [first, first + MERGE_THREADS); returns how many there are. */
GPU_INLINE int load_lses(const ac_mla_merge_params_t &p, const merge_row_t &row, int first) {
    int left = row.group.num_partials - first, count = left < MERGE_THREADS ? left : MERGE_THREADS;
    gpu_barrier();
    if (gpu_thread() < count) {
        const int32_t offset = ac_partial_offset(&row.group, first + gpu_thread());
        const int64_t partial = row.first + offset;
        float lse = GPU_MINUS_INFINITY;
        if (ac_is_partial(&p, partial)) lse = p.partial_lse[partial * p.num_heads + row.head];
        LSES[gpu_thread()] = lse;
        OFFSETS[gpu_thread()] = offset;
    }
    gpu_barrier();
    return count;
}

typedef struct sums_t {
    float acc[4], weights;
} sums_t;

/* Adds one chunk of partials: all weights, and the columns of those that belong to the thread's team. */
GPU_INLINE void add_chunk(const char *partial, int64_t stride, int team, int teams, int count, float top,
                          sums_t *sums) {
    struct quad_t {
        float value[4];
    };
    GPU_UNROLL_BY(8) for (int i = 0; i < count; i++) {
        float lse = LSES[i];
        if (lse != GPU_MINUS_INFINITY) sums->weights += gpu_exp2((lse - top) * (float)AC_LOG2_E);
    }
    for (int i = team; i < count; i += teams * LOADS) {
        quad_t quads[LOADS];
        float weights[LOADS];
        for (int k = 0; k < LOADS; k++) {
            int s = i + teams * k;
            float lse = s < count ? LSES[s] : GPU_MINUS_INFINITY;
            weights[k] = gpu_exp2((lse - top) * (float)AC_LOG2_E);
            for (float &x : quads[k].value) x = -0.0f; /* neutral, as the start of the sums is */
            if (lse != GPU_MINUS_INFINITY) quads[k] = *(const quad_t *)(partial + OFFSETS[s] * stride);
            else weights[k] = 0; /* nothing was written there */
        }
        for (int k = 0; k < LOADS; k++)
            for (int c = 0; c < 4; c++) sums->acc[c] += quads[k].value[c] * weights[k];
    }
}

GPU_INLINE void merge_row(const ac_mla_merge_params_t &p, const merge_row_t &row, int64_t o_row) {
    const int64_t stride = (int64_t)p.num_heads * p.value_width * 4;
    const int count = row.group.num_partials, column_threads = column_threads_of(p.value_width);
    const int teams = MERGE_THREADS / column_threads, team = gpu_thread() / column_threads;
    const int column = gpu_thread() % column_threads * 4;
    const bool has_column = column < p.value_width;
    /* A thread without columns adds those of the first: no branch. */
    const char *partial = (const char *)(p.partial_o + (row.first * p.num_heads + row.head) * p.value_width +
                                         (has_column ? column : 0));
    float top = -GPU_FLT_MAX;
    int in_chunk = 0;
    for (int first = 0; first < count; first += MERGE_THREADS) {
        in_chunk = load_lses(p, row, first);
        GPU_UNROLL_BY(8) for (int i = 0; i < in_chunk; i++) top = LSES[i] > top ? LSES[i] : top;
    }
    sums_t sums = {{-0.0f, -0.0f, -0.0f, -0.0f}, 0}; /* -0.0 is neutral in addition: 0 would lose a -0.0 */
    for (int first = 0; first < count; first += MERGE_THREADS) {
        if (count > MERGE_THREADS) in_chunk = load_lses(p, row, first);
        add_chunk(partial, stride, team, teams, in_chunk, top, &sums);
    }
    if (team > 0)
        for (int c = 0; c < 4; c++) TEAM_SUMS[((team - 1) * 4 + c) * column_threads + column / 4] = sums.acc[c];
    gpu_barrier();
    if (team > 0 || !has_column) return;
    for (int i = 1; i < teams; i++)
        for (int c = 0; c < 4; c++) sums.acc[c] += TEAM_SUMS[((i - 1) * 4 + c) * column_threads + column / 4];
    mla_output_t out = mla_merged_output(p, o_row, row.head, top, sums.weights);
    mla_store_columns(out, column, sums.acc);
    if (column == 0) mla_store_lse(out);
}

GPU_INLINE void merge_partials(const ac_mla_merge_params_t &p) {
    merge_row_t row;
    int64_t index = gpu_block();
    row.head = (int)(index % p.head_tiles); /* a tile is one head */
    index /= p.head_tiles;
    row.group = ac_merge_group(&p, index / p.group_rows);
    if (row.group.num_partials == 0) return;
    GPU_NO_UNROLL for (uint32_t t = (uint32_t)(index % p.group_rows); t < (uint32_t)row.group.num_rows; t += p.group_rows) {
        row.first = ac_first_partial(&row.group, t);
        merge_row(p, row, (int64_t)row.group.row + t);
    }
}

#undef LSES
#undef OFFSETS
#undef TEAM_SUMS

#endif
