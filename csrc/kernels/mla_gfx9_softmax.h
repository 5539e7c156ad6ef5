/* A wave's rows and keys, and the softmax of its scores. */
#ifndef AC_KERNELS_MLA_GFX9_SOFTMAX_H
#define AC_KERNELS_MLA_GFX9_SOFTMAX_H

#include "mla_gfx9_tile.h"

/* 16 query rows of a wave: lane 16 g + c has row c; of O^T the columns output_column() names. */
typedef struct rows_t {
    f32x4_t out[BLOCKS][TILES];
    mla_softmax_t softmax; /* the sum is that of the lane's keys */
    int unseen;
} rows_t;

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

/* Scores to probabilities, in place. ALL: sees_all(). */
template <class matrix_t, bool ALL, int GROUPS>
GPU_INLINE void soften(const keys_t<GROUPS> &keys, float scale, f32x4_t (&score)[GROUPS], rows_t *rows) {
    const mla_headroom_t room = matrix_t::room();
    float top = GPU_MINUS_INFINITY;
    UNROLLED for (int n = 0; n < GROUPS; n++) score[n] *= scale;
    if (!ALL) {
        int seen = mla_clamp_far(keys.left) - rows->unseen, first = keys.lane / 16 * 4;
        UNROLLED for (int n = 0; n < GROUPS; n++)
            UNROLLED for (int i = 0; i < 4; i++)
                if (16 * n + first + i >= seen || !(keys.valid[n] >> (first + i) & 1)) score[n][i] = GPU_MINUS_INFINITY;
    }
    UNROLLED for (int n = 0; n < GROUPS; n++)
        UNROLLED for (int i = 0; i < 4; i++) top = gpu_max(top, score[n][i]);
    if (gpu_any(mla_base_moves(rows->softmax, top, room))) {
        float factor = mla_move_base(max_of_row(top), room, &rows->softmax);
        UNROLLED for (int b = 0; b < BLOCKS; b++)
            UNROLLED for (int e = 0; e < TILES; e++) rows->out[b][e] *= factor;
    }
    UNROLLED for (int n = 0; n < GROUPS; n++)
        UNROLLED for (int i = 0; i < 4; i++) {
            score[n][i] = gpu_exp2(score[n][i] - rows->softmax.base);
            rows->softmax.sum += score[n][i];
        }
}

#endif
