/* The two consumer warpgroups. Each holds one half (256 columns) of one shared output in registers. Consumer i % 2 owns
 * tile i: it makes its scores and probabilities and hands them over, and both multiply them with their half of the
 * values. The running base passes from tile to tile, from one warpgroup to the other. A consumer that hurries makes the
 * scores of its tile beside the other's softmax of the tile before: that keeps the matrix units busy, and costs where
 * they are not what is waited for. */
#ifndef AC_KERNELS_MLA_SM90_CONSUMER_H
#define AC_KERNELS_MLA_SM90_CONSUMER_H

#include "mla_sm90_convert.h"
#include "mla_sm90_tile.h"

template <class KIND> struct sm90_consumer {
    static constexpr int TYPE = KIND::TYPE;
    static constexpr bool RECORDS = KIND::SOURCE == SM90_RECORDS;

    bool has_rope, hurries; /* hurries: scores its next tile before the one at hand is ready to be added, if it can */
    int64_t num_keys;
    int most_unseen, tiles;
    sm90_side_t &side;
    int self;                  /* 0 or 1 */
    int warp, lane;            /* of the warpgroup */
    int row;                   /* of the tile; this lane holds fragments of rows `row` and `row` + 8 */
    float score_scale;
    mla_softmax_t softmax[2];  /* this lane's share of the sums over the tiles that it owns */
    float (&o)[128];           /* [8 columns a block][row 0: 2 columns, row 1: 2 columns] */

    SM90_MEMBER uint32_t keys(int stage) const { return sm90_shared_address(sm90_shared().key[stage]); }
    SM90_MEMBER uint32_t probabilities(int stage) const { return keys(stage) + SM90_ROPE_PANEL * SM90_PANEL_BYTES; }
    SM90_MEMBER uint32_t full(int stage, int unit) const { return sm90_shared_address(&side.full[stage][unit]); }
    SM90_MEMBER uint32_t scored(int stage) const { return sm90_shared_address(&side.scored[stage]); }
    static SM90_MEMBER uint32_t parity(int tile) { return tile >> 1 & 1; }
    SM90_MEMBER int64_t keys_left(int tile) const { return num_keys - (int64_t)tile * SM90_KEYS; }
    SM90_MEMBER bool owns(int tile) const { return (tile & 1) == self; }

    /* Waits for a unit. Its bytes came by ordinary writes: the fence lets matrix products see them. */
    SM90_MEMBER void wait_full(int tile, int unit) const {
        sm90_barrier_wait(full(tile & 1, unit), parity(tile));
        sm90_fence_async();
    }

    /* --- scores --- */

    template <int N>
    SM90_MEMBER void score_panels(float (&s)[N], int stage, int first_key, int first, int panels, bool fresh) const;
    SM90_MEMBER void start_scores(float (&s)[32], int tile) const;
    SM90_MEMBER void score_records(float (&s)[32], int tile) const;

    /* The lane's 16 keys of a tile, and where the score of key i in the lane's row r stands. */
    SM90_MEMBER int column(int i) const { return i / 2 * 8 + (lane & 3) * 2 + (i & 1); }
    static SM90_MEMBER int index(int i, int r) { return i / 2 * 4 + r * 2 + (i & 1); }

    /* --- softmax --- */

    SM90_MEMBER void hide(float (&s)[32], uint64_t exists, int64_t left) const;
    SM90_MEMBER void join_terms(float (&s)[32], int stage) const;
    SM90_MEMBER void soften(float (&s)[32], int tile, bool adds);

    /* --- output --- */

    SM90_MEMBER void rescale(int stage);
    SM90_MEMBER uint64_t values(int stage) const;
    SM90_MEMBER void scale_probabilities(int stage, int k, int group, const uint32_t (&packed)[4],
                                         uint32_t (&a)[4]) const;
    SM90_MEMBER void start_record_output(int stage);
    template <int FIRST> SM90_MEMBER void output_group(int stage, const uint32_t (&packed)[4][4]);
    SM90_MEMBER void start_output(int tile);
    SM90_MEMBER void finish_output(int tile);

    SM90_MEMBER void keep_unseen_out(int tile);
    SM90_MEMBER void add_key(int stage, int key, int64_t left);

    /* --- the order of the work --- */

    SM90_MEMBER bool choose(int tile) const;
    SM90_MEMBER void run();
};

#endif
