/* Scores of one group of 16 keys: S^T = K Q^T, for TILES_R tiles of 16 query rows. */
#ifndef AC_KERNELS_MLA_GFX9_SCORES_H
#define AC_KERNELS_MLA_GFX9_SCORES_H

#include "mla_gfx9_query.h"

/* The scales of the keys that a lane holds after the scores, 4 g + i of a group, for block `block` of 128 latent
 * elements; out of the lanes that loaded them: lane m has those of key m. */
GPU_INLINE f32x4_t fetch_scales(uint32_t lane, u32x4_t loaded, int block) {
    f32x4_t out;
    int from = lane / 16 * 16; /* bytes */
    UNROLLED for (int i = 0; i < 4; i++)
        out[i] = BITS(float, __builtin_amdgcn_ds_bpermute(from + i * 4, (int)loaded[block]));
    return out;
}

template <int N> struct count_t {
    static constexpr int value = N;
};

/* key(n, step, is_rope): the chunk of A of group n. query(r, term, step, is_rope): that of B of row tile r.
 * scales(n, block): of SCALED rows; a step of the latent part lies within one block in either order of chunks. */
template <class matrix_t, bool SCALED, int TERMS, int ROW_TILES, int GROUPS, class query_f, class scales_f, class key_f>
GPU_INLINE void score(query_f query, scales_f scales, key_f key, f32x4_t (&out)[ROW_TILES][GROUPS]) {
    constexpr int STEPS = query_t<matrix_t>::LATENT, ROPE = query_t<matrix_t>::ROPE;
    constexpr int RUN = SCALED ? STEPS / BLOCKS : STEPS;
    const f32x4_t zero = {0, 0, 0, 0};
    f32x4_t sum[ROW_TILES][GROUPS];
    auto add_step = [&](int step, bool is_rope, auto steps) {
        constexpr int N = decltype(steps)::value;
        u32x4_t a[GROUPS][N], b[N];
        UNROLLED for (int n = 0; n < GROUPS; n++)
            UNROLLED for (int i = 0; i < N; i++) a[n][i] = key(n, step + i, is_rope);
        UNROLLED for (int r = 0; r < ROW_TILES; r++)
            UNROLLED for (int term = 0; term < TERMS; term++) {
                UNROLLED for (int i = 0; i < N; i++) b[i] = query(r, term, step + i, is_rope);
                UNROLLED for (int n = 0; n < GROUPS; n++) sum[r][n] = dots<matrix_t>(a[n], b, sum[r][n]);
            }
    };
    auto each_sum = [&](auto f) {
        UNROLLED for (int r = 0; r < ROW_TILES; r++)
            UNROLLED for (int n = 0; n < GROUPS; n++) f(sum[r][n], out[r][n], n);
    };
    each_sum([&](f32x4_t &part, f32x4_t &whole, int) { part = whole = zero; });
    UNROLLED for (int step = 0; step < STEPS; step += matrix_t::DOTS) {
        add_step(step, false, count_t<matrix_t::DOTS>());
        if (!SCALED || step % RUN != RUN - 1) continue;
        each_sum([&](f32x4_t &part, f32x4_t &whole, int n) {
            whole += part * scales(n, step / RUN);
            part = zero;
        });
    }
    UNROLLED for (int step = 0; step < ROPE; step++) add_step(step, true, count_t<1>());
    each_sum([&](f32x4_t &part, f32x4_t &whole, int) { whole = SCALED ? whole + part : part; });
}

#endif
