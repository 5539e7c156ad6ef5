/* Scores of one group of 16 keys: S^T = K Q^T, for TILES_R tiles of 16 query rows. */
#ifndef AC_OPS_ATTENTION_GFX9_SCORES_H
#define AC_OPS_ATTENTION_GFX9_SCORES_H

#include "query.h"

/* The scales, for block `block` of 128 latent elements, of the keys whose scores a lane holds (4 g + i of a group);
 * from the lanes that loaded them: lane m has those of key m. */
GPU_INLINE f32x4_t fetch_scales(uint32_t lane, u32x4_t loaded, int block) {
    f32x4_t out;
    int from = lane / 16 * 16; /* bytes */
    GPU_UNROLL for (int i = 0; i < 4; i++)
        out[i] = BITS(float, __builtin_amdgcn_ds_bpermute(from + i * 4, (int)loaded[block]));
    return out;
}

template <int N> struct count_t {
    static constexpr int value = N;
};

/* key(n, step, is_rope): the chunk of A of group n. query(r, term, step, is_rope): that of B of row tile r.
 * scales(n, block): of SCALED rows; a step of the latent part is within one block in either order of chunks.
 * AHEAD: how many multiplications ahead the keys are read, where key() reads LDS; the compiler by itself reads one step
 * and waits for it. */
template <class matrix_t, bool SCALED, int TERMS, int AHEAD, int ROW_TILES, int GROUPS, class query_f, class scales_f,
          class key_f>
GPU_INLINE void score(query_f query, scales_f scales, key_f key, f32x4_t (&out)[ROW_TILES][GROUPS]) {
    constexpr int DOTS = matrix_t::DOTS, LATENT = query_t<matrix_t>::LATENT / DOTS, ROPE = query_t<matrix_t>::ROPE;
    constexpr int PARTS = SCALED ? BLOCKS : 1;
    const f32x4_t zero = {0, 0, 0, 0};
    f32x4_t sum[ROW_TILES][GROUPS];
    u32x4_t a[LATENT + ROPE][GROUPS][DOTS];
    auto read = [&](int step) {
        bool is_rope = step >= LATENT;
        GPU_UNROLL for (int n = 0; n < GROUPS; n++)
            GPU_UNROLL for (int i = 0; i < (is_rope ? 1 : DOTS); i++)
                a[step][n][i] = key(n, is_rope ? step - LATENT : step * DOTS + i, is_rope);
    };
    auto add = [&](int step, bool is_rope, auto dots_of_step) {
        constexpr int N = decltype(dots_of_step)::value;
        u32x4_t key_words[N], b[N];
        GPU_UNROLL for (int r = 0; r < ROW_TILES; r++)
            GPU_UNROLL for (int term = 0; term < TERMS; term++) {
                GPU_UNROLL for (int i = 0; i < N; i++)
                    b[i] = query(r, term, is_rope ? step - LATENT : step * N + i, is_rope);
                GPU_UNROLL for (int n = 0; n < GROUPS; n++) {
                    GPU_UNROLL for (int i = 0; i < N; i++) key_words[i] = a[step][n][i];
                    sum[r][n] = dots<matrix_t>(key_words, b, sum[r][n]);
                }
            }
    };
    auto each_sum = [&](auto f) {
        GPU_UNROLL for (int r = 0; r < ROW_TILES; r++)
            GPU_UNROLL for (int n = 0; n < GROUPS; n++) f(sum[r][n], out[r][n], n);
    };
    each_sum([&](f32x4_t &part, f32x4_t &whole, int) { part = whole = zero; });
    GPU_UNROLL for (int step = 0; step < AHEAD; step++) read(step);
    GPU_UNROLL for (int step = 0; step < LATENT + ROPE; step++) {
        if (step + AHEAD < LATENT + ROPE) read(step + AHEAD);
        if (AHEAD) __builtin_amdgcn_sched_barrier(6); /* no read and no multiplication crosses it */
        if (step < LATENT) add(step, false, count_t<DOTS>());
        else add(step, true, count_t<1>());
        if (!SCALED || step >= LATENT || step % (LATENT / PARTS) != LATENT / PARTS - 1) continue;
        each_sum([&](f32x4_t &part, f32x4_t &whole, int n) {
            whole += part * scales(n, step / (LATENT / PARTS));
            part = zero;
        });
    }
    each_sum([&](f32x4_t &part, f32x4_t &whole, int) { whole = SCALED ? whole + part : part; });
}

#endif
