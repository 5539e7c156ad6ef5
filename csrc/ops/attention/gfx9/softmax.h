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

/* 16 query rows of a wave, N blocks of their columns: lane 16 g + c has row c, and of O^T the columns
 * that output_column() names. */
template <int N = BLOCKS> struct query_rows_t {
    f32x4_t out[N][TILES];
    mla_softmax_t softmax; /* the sum is that of the lane's keys */
    int masked_tail;
};

/* A wave's keys. Key t is seen by a row if it is valid and t < left - masked_tail of the row. */
template <int GROUPS> struct keys_t {
    uint32_t lane;          /* opaque to the compiler: see recompute_lane_id() */
    uint32_t latent;        /* LDS address of the values */
    uint32_t valid[GROUPS]; /* the same in all lanes */
    int64_t left;           /* keys to the end of the range */
    int masked_tail;
};

/* What the rows of a wave see of its keys: all of them; the same ones, which is a matter of each key alone; or each row
 * its own. A masked key was loaded as zeros: a probability of 0 is all that its values need. */
enum seen_t { SEEN_ALL, SEEN_SAME, SEEN_OWN };

/* Whether all rows see the same of `count` keys, from which on `left` are left. */
GPU_INLINE bool rows_see_the_same(int64_t left, int count, int masked_tail) {
    return masked_tail == 0 || left >= count + masked_tail;
}
template <int GROUPS> GPU_INLINE bool none_is_masked(const keys_t<GROUPS> &keys) {
    bool all = true;
    GPU_UNROLL for (int n = 0; n < GROUPS; n++) all = all && keys.valid[n] == 0xffff;
    return all;
}
template <int GROUPS> GPU_INLINE bool sees_all(const keys_t<GROUPS> &keys) {
    bool all = keys.left >= GROUPS * 16 + keys.masked_tail;
    GPU_UNROLL for (int n = 0; n < GROUPS; n++) all = all && keys.valid[n] == 0xffff;
    return all;
}

/* Scales the scores to base 2, in place, and sets those that the row does not see to -inf; returns the lane's largest.
 */
template <seen_t SEEN, int GROUPS>
GPU_INLINE float scale_and_mask(const keys_t<GROUPS> &keys, float scale, int masked_tail, f32x4_t (&score)[GROUPS]) {
    float top = GPU_MINUS_INFINITY;
    const int first = keys.lane / 16 * 4;
    const int seen = SEEN == SEEN_OWN ? mla_clamp_far(keys.left) - masked_tail : GROUPS * 16;
    GPU_UNROLL for (int n = 0; n < GROUPS; n++) score[n] *= scale;
    if (SEEN == SEEN_OWN || (SEEN == SEEN_SAME && __builtin_expect(!none_is_masked(keys), false)))
        GPU_UNROLL for (int n = 0; n < GROUPS; n++)
            GPU_UNROLL for (int i = 0; i < 4; i++)
                if (16 * n + first + i >= seen || !(keys.valid[n] >> (first + i) & 1)) score[n][i] = GPU_MINUS_INFINITY;
    GPU_UNROLL for (int n = 0; n < GROUPS; n++)
        GPU_UNROLL for (int i = 0; i < 4; i++) top = gpu_max(top, score[n][i]);
    return top;
}

/* Moves the base for `top`, the row's largest score. */
template <class matrix_t, int N> GPU_INLINE void move_base(float top, query_rows_t<N> *rows) {
    float factor = mla_move_base(top, headroom<matrix_t>(), &rows->softmax);
    GPU_UNROLL for (int b = 0; b < N; b++)
        GPU_UNROLL for (int e = 0; e < TILES; e++) rows->out[b][e] *= factor;
}

/* Whether the base of some row of the wave has to move. `top` may be one lane's largest score rather than the row's. */
template <class matrix_t, int N> GPU_INLINE bool base_moves(float top, const query_rows_t<N> &rows) {
    return gpu_any(mla_base_moves(rows.softmax, top, headroom<matrix_t>()));
}

/* Scores to probabilities, in place; adds them to the lane's sum. before(n): what is done before group n. */
template <int GROUPS, class before_f>
GPU_INLINE void exponentiate(f32x4_t (&score)[GROUPS], mla_softmax_t *softmax, before_f before) {
    GPU_UNROLL for (int n = 0; n < GROUPS; n++) {
        before(n);
        score[n] -= softmax->base;
        GPU_UNROLL for (int i = 0; i < 4; i++) {
            score[n][i] = gpu_exp2(score[n][i]);
            softmax->sum += score[n][i];
        }
    }
}

/* The whole softmax of a step, for rows that the wave does not share with others. */
template <class matrix_t, seen_t SEEN, int GROUPS>
GPU_INLINE void online_softmax(const keys_t<GROUPS> &keys, float scale, f32x4_t (&score)[GROUPS],
                               query_rows_t<> *rows) {
    float top = scale_and_mask<SEEN>(keys, scale, rows->masked_tail, score);
    if (base_moves<matrix_t>(top, *rows)) move_base<matrix_t>(max_of_row(top), rows);
    exponentiate(score, &rows->softmax, [](int) {});
}

#endif
