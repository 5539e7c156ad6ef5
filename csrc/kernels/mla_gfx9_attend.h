/* A wave's output over GROUPS groups of 16 keys: from probabilities to accumulators. */
#ifndef AC_KERNELS_MLA_GFX9_ATTEND_H
#define AC_KERNELS_MLA_GFX9_ATTEND_H

#include "mla_gfx9_scores.h"
#include "mla_gfx9_values.h"
#include "mla_gfx9_weights.h"

/* A run [from, to) of keys: which bits of the words of A belong to it. */
template <class matrix_t, int WORDS>
GPU_INLINE void mask_of_run(int lane, int first, int from, int to, uint32_t (&mask)[WORDS]) {
    constexpr int PER_WORD = 4 / matrix_t::BYTES, BITS_OF = 8 * matrix_t::BYTES;
    UNROLLED for (int w = 0; w < WORDS; w++) {
        mask[w] = 0;
        UNROLLED for (int i = 0; i < PER_WORD; i++) {
            int element = w * PER_WORD + i, key = first + element / 4 * 16 + lane / 16 * 4 + element % 4;
            if (key >= from && key < to) mask[w] |= ((1u << BITS_OF) - 1) << i * BITS_OF;
        }
    }
}

/* O^T += V^T P^T over the groups of one multiplication, from group `group` on, for N blocks of columns. */
template <class matrix_t, bool SCALED, int STEP, int GROUPS, int ROW_TILES, int N, class scales_f>
GPU_INLINE void add_values(const keys_t<GROUPS> &keys, int group, scales_f scales,
                           const weights_t<matrix_t, SCALED, GROUPS> (&weights)[ROW_TILES],
                           rows_t<N> (&rows)[ROW_TILES]) {
    constexpr int WORDS = STEP * matrix_t::BYTES;
    uint32_t p[ROW_TILES][WORDS], a[TILES][WORDS];
    UNROLLED for (int block = 0; block < N; block++) {
        if (block == 0 || SCALED)
            UNROLLED for (int r = 0; r < ROW_TILES; r++) words_of(weights[r], group, block, scales, p[r]);
        read_values<matrix_t, STEP>(keys.lane, keys.latent, group, block, 0, a);
        UNROLLED for (int e = 0; e < TILES; e++)
            UNROLLED for (int r = 0; r < ROW_TILES; r++)
                rows[r].out[block][e] = multiply<matrix_t>(a[e], p[r], rows[r].out[block][e]);
    }
}

/* The same where some row may not see some key: key by key of those, and at once the keys before them. The other keys
 * are taken out of V^T, and only the rows that see the run take the result, so that nothing of a hidden key reaches a
 * row, be it NaN. */
template <class matrix_t, bool SCALED, int STEP, int GROUPS, int ROW_TILES, int N, class scales_f>
GPU_INLINE void add_hidden_values(const keys_t<GROUPS> &keys, int group, scales_f scales,
                                  const weights_t<matrix_t, SCALED, GROUPS> (&weights)[ROW_TILES],
                                  rows_t<N> (&rows)[ROW_TILES]) {
    constexpr int WORDS = STEP * matrix_t::BYTES;
    uint32_t p[ROW_TILES][WORDS], a[LEAST_TILES][WORDS], mask[WORDS];
    int left = mla_clamp_far(keys.left), end = left < 16 * GROUPS ? left : 16 * GROUPS;
    int whole = left - keys.most_unseen < 1 ? 1 : left - keys.most_unseen;
    for (int from = 0, to = whole; from < end; from = to++) {
        const uint32_t lane = opaque_lane();
        mask_of_run<matrix_t>(lane, 16 * group, from, to, mask);
        UNROLLED for (int block = 0; block < N; block++) {
            if (block == 0 || SCALED)
                UNROLLED for (int r = 0; r < ROW_TILES; r++) words_of(weights[r], group, block, scales, p[r]);
            UNROLLED for (int first = 0; first < TILES; first += LEAST_TILES) {
                read_values<matrix_t, STEP>(lane, keys.latent, group, block, first, a);
                UNROLLED for (int r = 0; r < ROW_TILES; r++) {
                    bool sees = from < left - rows[r].unseen;
                    UNROLLED for (int e = 0; e < LEAST_TILES; e++) {
                        uint32_t run[WORDS];
                        f32x4_t &out = rows[r].out[block][first + e];
                        UNROLLED for (int w = 0; w < WORDS; w++) run[w] = a[e][w] & mask[w];
                        f32x4_t more = multiply<matrix_t>(run, p[r], out);
                        UNROLLED for (int i = 0; i < 4; i++) out[i] = sees ? more[i] : out[i];
                        __builtin_amdgcn_sched_barrier(0); /* one at a time: registers are scarce */
                    }
                }
            }
        }
    }
}

/* The output of all groups. scales(group, block): of SCALED rows. */
template <class matrix_t, bool SCALED, bool ALL, int GROUPS, int ROW_TILES, int N, class scales_f>
GPU_INLINE void attend(const keys_t<GROUPS> &keys, scales_f scales,
                       const weights_t<matrix_t, SCALED, GROUPS> (&weights)[ROW_TILES], rows_t<N> (&rows)[ROW_TILES]) {
    constexpr int STEP = GROUPS < matrix_t::GROUPS ? GROUPS : matrix_t::GROUPS;
    UNROLLED for (int group = 0; group < GROUPS; group += STEP)
        if (ALL) add_values<matrix_t, SCALED, STEP>(keys, group, scales, weights, rows);
        else add_hidden_values<matrix_t, SCALED, STEP>(keys, group, scales, weights, rows);
}

#endif
