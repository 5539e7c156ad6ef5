/* The order in which a consumer works: see mla_sm90_consumer.h. */
#ifndef AC_KERNELS_MLA_SM90_ATTEND_H
#define AC_KERNELS_MLA_SM90_ATTEND_H

#include "mla_sm90_hidden.h"
#include "mla_sm90_output.h"
#include "mla_sm90_probabilities.h"
#include "mla_sm90_scores.h"

/* Whether the keys of the tile have come before the probabilities of the tile before it: what is there first is
 * worked on first. One answer for the warpgroup. */
template <class KIND>
SM90_MEMBER bool sm90_consumer<KIND>::choose(int tile) const {
    int stage = tile & 1, slot = parity(tile);
    if (warp == 0 && lane == 0) {
        bool keys_first = false;
        while (!sm90_barrier_test(scored(stage ^ 1), parity(tile - 1))) {
            keys_first = sm90_barrier_test(full(stage, 0), parity(tile)) &&
                         sm90_barrier_test(full(stage, 1), parity(tile));
            if (keys_first) break;
        }
        side.keys_first[self][slot] = keys_first;
    }
    sm90_sync(SM90_SYNC_CONSUMER + self, 128);
    return side.keys_first[self][slot];
}

/* Each tile is added to the output by both consumers; in between, each scores the tiles that it owns. (The compiler has
 * to see that a product under way never crosses a branch, else it waits for each.) */
template <class KIND> SM90_MEMBER void sm90_consumer<KIND>::run() {
    bool softened = false; /* the tile at hand, if it is this consumer's */
#pragma unroll 1
    for (int tile = 0; tile < tiles; tile++) {
        float s[32];
        bool ahead = false;
        if (owns(tile)) {
            if (!softened) {
                if constexpr (RECORDS) {
                    score_records(s, tile);
                } else {
                    start_scores(s, tile);
                    sm90_wgmma_wait<0>();
                    sm90_pin(s);
                }
                soften(s, tile, false);
            }
            softened = false;
        } else if (hurries && tile + 1 < tiles) {
            ahead = choose(tile + 1);
        }
        if (KIND::SOURCE == SM90_SAME && ahead) {
            start_scores(s, tile + 1);
            start_output(tile);
            sm90_wgmma_wait<1>();
            sm90_pin(s);
            soften(s, tile + 1, true);
            softened = true;
        } else {
            start_output(tile);
            finish_output(tile);
        }
    }
    /* Sums of the whole rows, out of all lanes' shares. */
#pragma unroll
    for (int r = 0; r < 2; r++) {
        softmax[r].sum += __shfl_xor_sync(0xffffffffu, softmax[r].sum, 1);
        softmax[r].sum += __shfl_xor_sync(0xffffffffu, softmax[r].sum, 2);
        if ((lane & 3) == 0) side.share[self][row + 8 * r] = softmax[r];
    }
}

#endif
