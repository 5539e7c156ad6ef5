/* A wave's rows and keys, and the softmax of its scores. */
#ifndef AC_KERNELS_MLA_GFX9_SOFTMAX_H
#define AC_KERNELS_MLA_GFX9_SOFTMAX_H

#include "mla_gfx9_tile.h"

/* 16 query rows of a wave, N blocks of their columns: lane 16 g + c has row c; of O^T what output_column() names. */
template <int N = BLOCKS> struct rows_t {
    f32x4_t out[N][TILES];
    mla_softmax_t softmax; /* the sum is that of the lane's keys */
    int unseen;
};

/* The lane's number for one round of a loop. What follows from it is computed in every round: kept for all rounds, the
 * many addresses would take the registers of the accumulators. */
GPU_INLINE uint32_t opaque_lane() {
    uint32_t lane = gpu_lane();
    asm volatile("" : "+v"(lane));
    return lane;
}

/* What a wave has to know of its keys. Key t is seen by a row if it is valid and t < left - unseen. */
template <int GROUPS> struct keys_t {
    uint32_t lane;           /* opaque to the compiler: see opaque_lane() */
    uint32_t latent;         /* local address of the values */
    uint32_t valid[GROUPS];  /* the same in all lanes */
    int64_t left;            /* keys to the end of the range */
    int most_unseen;
};

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

template <int GROUPS> GPU_INLINE bool sees_all(const keys_t<GROUPS> &keys) {
    bool all = keys.left >= GROUPS * 16 + keys.most_unseen;
    UNROLLED for (int n = 0; n < GROUPS; n++) all = all && keys.valid[n] == 0xffff;
    return all;
}

/* Scores in base 2, in place, and -inf where the row does not see the key; the lane's largest. ALL: sees_all(). */
template <bool ALL, int GROUPS>
GPU_INLINE float scale_scores(const keys_t<GROUPS> &keys, float scale, int unseen, f32x4_t (&score)[GROUPS]) {
    float top = GPU_MINUS_INFINITY;
    UNROLLED for (int n = 0; n < GROUPS; n++) score[n] *= scale;
    if (!ALL) {
        int seen = mla_clamp_far(keys.left) - unseen, first = keys.lane / 16 * 4;
        UNROLLED for (int n = 0; n < GROUPS; n++)
            UNROLLED for (int i = 0; i < 4; i++)
                if (16 * n + first + i >= seen || !(keys.valid[n] >> (first + i) & 1)) score[n][i] = GPU_MINUS_INFINITY;
    }
    UNROLLED for (int n = 0; n < GROUPS; n++)
        UNROLLED for (int i = 0; i < 4; i++) top = gpu_max(top, score[n][i]);
    return top;
}

/* Moves the base for `top`, the row's largest score. */
template <class matrix_t, int N> GPU_INLINE void move_base(float top, rows_t<N> *rows) {
    float factor = mla_move_base(top, matrix_t::room(), &rows->softmax);
    UNROLLED for (int b = 0; b < N; b++)
        UNROLLED for (int e = 0; e < TILES; e++) rows->out[b][e] *= factor;
}

/* Whether it has to: `top` may be the largest of some lane of the row alone. */
template <class matrix_t, int N> GPU_INLINE bool base_moves(float top, const rows_t<N> &rows) {
    return gpu_any(mla_base_moves(rows.softmax, top, matrix_t::room()));
}

/* Scores to probabilities, in place. */
template <int GROUPS> GPU_INLINE void soften(f32x4_t (&score)[GROUPS], mla_softmax_t *softmax) {
    UNROLLED for (int n = 0; n < GROUPS; n++) {
        score[n] -= softmax->base;
        UNROLLED for (int i = 0; i < 4; i++) {
            score[n][i] = gpu_exp2(score[n][i]);
            softmax->sum += score[n][i];
        }
    }
}

/* All of it, where no other wave has keys of the same softmax. */
template <class matrix_t, bool ALL, int GROUPS>
GPU_INLINE void soften(const keys_t<GROUPS> &keys, float scale, f32x4_t (&score)[GROUPS], rows_t<> *rows) {
    float top = scale_scores<ALL>(keys, scale, rows->unseen, score);
    if (base_moves<matrix_t>(top, *rows)) move_base<matrix_t>(max_of_row(top), rows);
    soften(score, &rows->softmax);
}

#endif
