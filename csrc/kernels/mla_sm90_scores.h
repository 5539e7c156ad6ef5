/* Scores: the products of queries and keys of one tile. */
#ifndef AC_KERNELS_MLA_SM90_SCORES_H
#define AC_KERNELS_MLA_SM90_SCORES_H

#include "mla_sm90_consumer.h"

/* `panels` panels of the queries and of the keys, four steps of 16 elements each; of the keys from first_key on, as
 * many as N accumulators are for. */
template <class KIND>
template <int N>
SM90_MEMBER void sm90_consumer<KIND>::score_panels(float (&s)[N], int stage, int first_key, int first, int panels,
                                                   bool fresh) const {
    uint64_t a = sm90_descriptor(sm90_shared_address(sm90_shared().query) + first * SM90_PANEL_BYTES, 16);
    uint64_t b = sm90_descriptor(keys(stage) + first_key * 128 + first * SM90_PANEL_BYTES, 16);
#pragma unroll 1
    for (int i = 0; i < panels; i++) {
#pragma unroll
        for (int k = 0; k < 4; k++)
            sm90_wgmma_qk<TYPE>(s, sm90_advance(a, 32 * k), sm90_advance(b, 32 * k), !(fresh && i == 0 && k == 0));
        a = sm90_advance(a, SM90_PANEL_BYTES);
        b = sm90_advance(b, SM90_PANEL_BYTES);
    }
}

/* Starts the products of queries and keys, unit by unit as they come. */
template <class KIND>
SM90_MEMBER void sm90_consumer<KIND>::start_scores(float (&s)[32], int tile) const {
    int stage = tile & 1;
    wait_full(tile, 0);
    sm90_pin(s);
    sm90_wgmma_fence();
    score_panels(s, stage, 0, 0, 4, true);
    wait_full(tile, 1);
    score_panels(s, stage, 0, 4, has_rope ? 5 : 4, false);
    sm90_wgmma_commit();
}

/* Records: the products of each group of 128 elements meet the keys' scales of the group. */
template <class KIND>
SM90_MEMBER void sm90_consumer<KIND>::score_records(float (&s)[32], int tile) const {
    int stage = tile & 1;
    wait_full(tile, 0);
    wait_full(tile, 1);
    sm90_pin(s);
    sm90_wgmma_fence();
    score_panels(s, stage, 0, SM90_ROPE_PANEL, 1, true);
    sm90_wgmma_commit();
    sm90_wgmma_wait<0>();
    sm90_pin(s);
#pragma unroll
    for (int half = 0; half < 2; half++) {
#pragma unroll 1
        for (int g = 0; g < 4; g++) {
            float part[16];
            sm90_pin(part);
            sm90_wgmma_fence();
            score_panels(part, stage, 32 * half, 2 * g, 2, true);
            sm90_wgmma_commit();
            sm90_wgmma_wait<0>();
            sm90_pin(part);
#pragma unroll
            for (int i = 0; i < 8; i++) {
                float scale = side.scales[stage][column(half * 8 + i)][g];
#pragma unroll
                for (int r = 0; r < 2; r++) s[index(half * 8 + i, r)] += scale * part[index(i, r)];
            }
        }
    }
}

#endif
