/* A wave's rows and keys, and the softmax of its scores. */
#ifndef AC_OPS_ATTENTION_GFX9_SOFTMAX_H
#define AC_OPS_ATTENTION_GFX9_SOFTMAX_H

#include "../softmax.h"
#include "tile.h"

/* Where P is in the range of its type. */
template <class matrix_t> constexpr mla_headroom_t headroom() {
    return matrix_t::DTYPE == AC_BFLOAT16  ? MLA_BF16_HEADROOM
           : matrix_t::DTYPE == AC_FLOAT16 ? MLA_F16_HEADROOM
                                           : MLA_FP8_HEADROOM;
}

/* 16 query rows of a wave, N blocks of their columns: lane 16 g + c has row c; of O^T what output_column() names. */
template <int N = BLOCKS> struct rows_t {
    f32x4_t out[N][TILES];
    mla_softmax_t softmax; /* the sum is that of the lane's keys */
    int unseen;
};

/* What a wave has to know of its keys. Key t is seen by a row if it is valid and t < left - unseen. */
template <int GROUPS> struct keys_t {
    uint32_t lane;           /* opaque to the compiler: see opaque_lane() */
    uint32_t latent;         /* local address of the values */
    uint32_t valid[GROUPS];  /* the same in all lanes */
    int64_t left;            /* keys to the end of the range */
    int most_unseen;
};

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
    float factor = mla_move_base(top, headroom<matrix_t>(), &rows->softmax);
    UNROLLED for (int b = 0; b < N; b++)
        UNROLLED for (int e = 0; e < TILES; e++) rows->out[b][e] *= factor;
}

/* Whether it has to: `top` may be the largest of some lane of the row alone. */
template <class matrix_t, int N> GPU_INLINE bool base_moves(float top, const rows_t<N> &rows) {
    return gpu_any(mla_base_moves(rows.softmax, top, headroom<matrix_t>()));
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
