/* The two consumer warpgroups. Each holds one half (256 columns) of one shared output in registers. Consumer i % 2 owns
 * tile i: it computes its scores and probabilities and publishes them, and both multiply them by their half of the
 * values. The running base passes from tile to tile, from one warpgroup to the other. With overlap_scores a consumer
 * computes the scores of its next tile during the other's softmax: that keeps the matrix units busy, and costs where
 * they are not the bottleneck. */
#ifndef AC_OPS_ATTENTION_SM90_CONSUMER_H
#define AC_OPS_ATTENTION_SM90_CONSUMER_H

#include "../../../gpu/sm90/convert.h"
#include "tile.h"

template <class KIND> struct sm90_consumer {
    static constexpr int TYPE = KIND::TYPE;

    bool has_rope;
    bool overlap_scores; /* computes the scores of its next tile while it waits for the other's probabilities */
    int64_t num_keys;
    int masked_tail;
    int first, end; /* tiles of the item, counted on from those of the items before it */
    sm90_side_t &side;
    int self;       /* 0 or 1 */
    int warp, lane; /* of the warpgroup */
    int row;        /* of the tile; this lane holds fragments of rows `row` and `row` + 8 */
    float score_scale;
    mla_softmax_t softmax[2]; /* this lane's share of the sums over the tiles that it owns */
    float (&o)[128];          /* [run of 8 columns][row 0: 2 columns, row 1: 2 columns] */

    GPU_MEMBER uint32_t keys(int stage) const { return sm90_shared_address(sm90_shared().key[stage]); }
    GPU_MEMBER uint32_t probabilities(int stage) const { return keys(stage) + SM90_ROPE_PANEL * SM90_PANEL_BYTES; }
    GPU_MEMBER uint32_t full(int stage, int unit) const { return sm90_shared_address(&side.full[stage][unit]); }
    GPU_MEMBER uint32_t scored(int stage) const { return sm90_shared_address(&side.scored[stage]); }
    GPU_INLINE uint32_t parity(int tile) { return tile >> 1 & 1; }
    GPU_MEMBER int64_t keys_left(int tile) const { return num_keys - (int64_t)(tile - first) * SM90_KEYS; }
    GPU_MEMBER bool owns(int tile) const { return (tile & 1) == self; }

    /* Waits for a unit. Its bytes came by ordinary writes: the fence lets matrix products see them. */
    GPU_MEMBER void wait_full(int tile, int unit) const {
        sm90_barrier_wait(full(tile & 1, unit), parity(tile));
        sm90_fence_async();
    }

    /* --- scores --- */

    GPU_MEMBER void score_panels(float (&s)[32], int stage, int first, int panels, bool fresh) const;
    GPU_MEMBER void start_scores(float (&s)[32], int tile) const;

    /* The lane's 16 keys of a tile, and where the score of key i in the lane's row r stands. */
    GPU_MEMBER int column(int i) const { return i / 2 * 8 + (lane & 3) * 2 + (i & 1); }
    GPU_INLINE int index(int i, int r) { return i / 2 * 4 + r * 2 + (i & 1); }

    /* --- softmax --- */

    GPU_MEMBER void mask_scores(float (&s)[32], uint64_t exists, int64_t left) const;
    GPU_MEMBER void join_terms(float (&s)[32], int stage) const;
    GPU_MEMBER void move_bases(const float (&s)[32], int tile, float scale, float (&base)[2]);
    GPU_MEMBER void publish_probabilities(const float (&s)[32], int stage);
    GPU_MEMBER void online_softmax(float (&s)[32], int tile, bool adds);

    /* --- output --- */

    GPU_MEMBER void rescale(int stage);
    GPU_MEMBER uint64_t values(int stage) const;
    GPU_MEMBER void start_output(int tile);
    GPU_MEMBER void finish_output(int tile);

    GPU_MEMBER void keep_masked_out(int tile);
    GPU_MEMBER void add_key(int stage, int key, int64_t left);

    /* --- the order of the work --- */

    GPU_MEMBER bool keys_arrived_first(int tile) const;
    GPU_MEMBER void run();
};

/* `panels` panels of the queries and of the keys from panel `first` on, four steps of 16 elements each. */
template <class KIND>
GPU_MEMBER void sm90_consumer<KIND>::score_panels(float (&s)[32], int stage, int first, int panels, bool fresh) const {
    uint64_t a = sm90_descriptor(sm90_shared_address(sm90_shared().query) + first * SM90_PANEL_BYTES, 16);
    uint64_t b = sm90_descriptor(keys(stage) + first * SM90_PANEL_BYTES, 16);
    GPU_NO_UNROLL for (int i = 0; i < panels; i++) {
        GPU_UNROLL for (int k = 0; k < 4; k++)
            sm90_wgmma_qk<TYPE>(s, sm90_advance(a, 32 * k), sm90_advance(b, 32 * k), !(fresh && i == 0 && k == 0));
        a = sm90_advance(a, SM90_PANEL_BYTES);
        b = sm90_advance(b, SM90_PANEL_BYTES);
    }
}

/* Starts the products of queries and keys, unit by unit as they arrive. */
template <class KIND>
GPU_MEMBER void sm90_consumer<KIND>::start_scores(float (&s)[32], int tile) const {
    int stage = tile & 1;
    wait_full(tile, 0);
    sm90_pin(s);
    sm90_wgmma_fence();
    score_panels(s, stage, 0, 4, true);
    wait_full(tile, 1);
    score_panels(s, stage, 4, has_rope ? 5 : 4, false);
    sm90_wgmma_commit();
}

/* --- softmax --- */

template <class KIND>
GPU_MEMBER void sm90_consumer<KIND>::mask_scores(float (&s)[32], uint64_t exists, int64_t left) const {
    GPU_UNROLL for (int r = 0; r < 2; r++) {
        uint64_t seen =
            ac_clamp64(left - side.masked_tail[row + 8 * r], 0, SM90_KEYS) == SM90_KEYS
                ? exists
                : exists & (((uint64_t)1 << ac_clamp64(left - side.masked_tail[row + 8 * r], 0, SM90_KEYS)) - 1);
        seen >>= (lane & 3) * 2;
        GPU_UNROLL for (int i = 0; i < 16; i++)
            if (!(seen >> (i / 2 * 8 + (i & 1)) & 1)) s[index(i, r)] = GPU_MINUS_INFINITY;
    }
}

/* Adds the scores of the three terms of each query, which are in the registers of three warps, through panel 8. */
template <class KIND>
GPU_MEMBER void sm90_consumer<KIND>::join_terms(float (&s)[32], int stage) const {
    float *terms = (float *)(sm90_shared().key[stage] + SM90_ROPE_PANEL * SM90_PANEL_BYTES) + lane;
    sm90_sync(SM90_SYNC_CONSUMER + self, 128);
    if (warp == 1 || warp == 2) {
        GPU_UNROLL for (int i = 0; i < 32; i++) terms[((warp - 1) * 32 + i) * 32] = s[i];
    }
    sm90_sync(SM90_SYNC_CONSUMER + self, 128);
    if (warp == 0) {
        const volatile float *second = terms, *third = terms + 32 * 32; /* not all in registers at once */
        GPU_UNROLL for (int i = 0; i < 32; i++) {
            float small = second[i * 32] + third[i * 32];
            /* An infinite key: the first term alone has the sign. */
            s[i] = (fabsf(s[i]) <= GPU_FLT_MAX ? s[i] + small : s[i]) * side.row_scale[row + (i >> 1 & 1) * 8];
        }
    } else {
        GPU_UNROLL for (int i = 0; i < 32; i++) s[i] = GPU_MINUS_INFINITY;
    }
}

/* Moves the running bases of the lane's two rows for the tile's scores, which `scale` is still to be applied to. */
template <class KIND>
GPU_MEMBER void sm90_consumer<KIND>::move_bases(const float (&s)[32], int tile, float scale, float (&base)[2]) {
    int stage = tile & 1;
    GPU_UNROLL for (int r = 0; r < 2; r++) {
        float tops[4] = {s[index(0, r)], s[index(1, r)], s[index(2, r)], s[index(3, r)]};
        GPU_UNROLL for (int i = 4; i < 16; i++) tops[i & 3] = gpu_max(tops[i & 3], s[index(i, r)]);
        float top = gpu_max(gpu_max(tops[0], tops[1]), gpu_max(tops[2], tops[3]));
        top = gpu_max(top, __shfl_xor_sync(0xffffffffu, top, 1));
        top = gpu_max(top, __shfl_xor_sync(0xffffffffu, top, 2)) * scale;
        mla_softmax_t running = {tile > first ? side.base[stage ^ 1][row + 8 * r] : mla_softmax_start().base, 0};
        float factor = mla_move_base(top, KIND::HEADROOM, &running);
        if (running.base != softmax[r].base) softmax[r].sum *= mla_rebase(softmax[r].base, running.base);
        base[r] = softmax[r].base = running.base;
        if ((lane & 3) == 0) side.base[stage][row + 8 * r] = running.base, side.factor[stage][row + 8 * r] = factor;
    }
}

/* Gives the probabilities to both consumers, in place of the rope parts. */
template <class KIND> GPU_MEMBER void sm90_consumer<KIND>::publish_probabilities(const float (&s)[32], int stage) {
    sm90_sync(SM90_SYNC_CONSUMER + self, 128); /* all warps' products with the rope parts are done */
    int to_row = warp * 16 + (lane & 15);
    GPU_UNROLL for (int k = 0; k < 4; k++) {
        uint32_t packed[4];
        GPU_UNROLL for (int i = 0; i < 4; i++) packed[i] = sm90_pack<TYPE>(s[8 * k + 2 * i], s[8 * k + 2 * i + 1]);
        sm90_store_matrices(sm90_chunk(probabilities(stage), to_row, 2 * k + (lane >> 4)), packed);
    }
    sm90_fence_async();
    sm90_barrier_arrive(scored(stage));
}

/* Scores to probabilities, which both consumers get. `adds`: the product of the tile before is running; it ends here,
 * as late as possible, because the producer waits for its stage. */
template <class KIND> GPU_MEMBER void sm90_consumer<KIND>::online_softmax(float (&s)[32], int tile, bool adds) {
    uint64_t exists = *(const uint64_t *)side.exists[tile & 1];
    int64_t left = keys_left(tile);
    float scale = score_scale > 0 ? score_scale : 1, base[2]; /* scale: still to be applied */
    if constexpr (KIND::TERMS > 1) join_terms(s, tile & 1);
    if (!(score_scale > 0)) { /* applied now: later it would change the -inf of masked keys */
        GPU_UNROLL for (int i = 0; i < 32; i++) s[i] *= score_scale;
    }
    if (!(exists == ~(uint64_t)0 && left - masked_tail >= SM90_KEYS)) mask_scores(s, exists, left);
    move_bases(s, tile, scale, base);
    if (adds) finish_output(tile - 1);
    GPU_UNROLL for (int i = 0; i < 32; i++) {
        int r = i >> 1 & 1;
        s[i] = sm90_exp2(fmaf(s[i], scale, -base[r]));
        softmax[r].sum += s[i];
    }
    publish_probabilities(s, tile & 1);
}

/* --- output --- */

template <class KIND>
GPU_MEMBER void sm90_consumer<KIND>::rescale(int stage) {
    float factor[2] = {side.factor[stage][row], side.factor[stage][row + 8]};
    if (!gpu_any(factor[0] != 1 || factor[1] != 1)) return;
    GPU_UNROLL for (int i = 0; i < 128; i++) o[i] *= factor[i >> 1 & 1];
}

/* This consumer's half of the values, keys 0 to 15. */
template <class KIND>
GPU_MEMBER uint64_t sm90_consumer<KIND>::values(int stage) const {
    return sm90_descriptor(keys(stage) + self * 4 * SM90_PANEL_BYTES, SM90_PANEL_BYTES);
}

/* Starts the product of the tile's probabilities with this consumer's half of its values. */
template <class KIND>
GPU_MEMBER void sm90_consumer<KIND>::start_output(int tile) {
    int stage = tile & 1;
    sm90_barrier_wait(scored(stage), parity(tile));
    if (!owns(tile)) wait_full(tile, self);
    if (tile > first) rescale(stage);
    if (keys_left(tile) - masked_tail < SM90_KEYS) keep_masked_out(tile);
    uint64_t a = sm90_descriptor(probabilities(stage), 16), b = values(stage);
    sm90_pin(o);
    sm90_wgmma_fence();
    GPU_UNROLL for (int k = 0; k < 4; k++)
        sm90_wgmma_pv<TYPE>(o, sm90_advance(a, 32 * k), sm90_advance(b, 2048 * k));
    sm90_wgmma_commit();
}

/* Frees this consumer's unit of the stage. */
template <class KIND>
GPU_MEMBER void sm90_consumer<KIND>::finish_output(int tile) {
    sm90_wgmma_wait<0>();
    sm90_pin(o);
    sm90_barrier_arrive(sm90_shared_address(&side.empty[tile & 1][self]));
}

/* --- values that must not reach every row --- */

/* A key that only some rows see must not reach the others, to which 0 * NaN or 0 * Inf would carry it. Such keys
 * are among the last 64 of the range. Only if their values are not all finite: adds them to the rows that see them,
 * one by one, and zeroes them. Nothing else writes the stage any more: these are the last tiles. */
template <class KIND>
GPU_MEMBER void sm90_consumer<KIND>::keep_masked_out(int tile) {
    int stage = tile & 1;
    int64_t left = keys_left(tile);
    int first = left - masked_tail < 0 ? 0 : (int)(left - masked_tail);
    int last = left < SM90_KEYS ? (int)left : SM90_KEYS;
    uint32_t half = keys(stage) + self * 4 * SM90_PANEL_BYTES;
    const char *base = sm90_shared().key[stage] + self * 4 * SM90_PANEL_BYTES;
    constexpr uint32_t INFINITE = TYPE == SM90_BF16 ? 0x7f80 : 0x7c00;
    bool found = false;
    if (first >= last) return;
    GPU_NO_UNROLL for (int i = warp * 32 + lane; i < (last - first) * 128; i += 128) { /* pairs of columns */
        int key = first + i / 128, c = i % 128;
        uint32_t pair = *(const uint32_t *)(base + (sm90_chunk(half, key, c / 4) - half) + c % 4 * 4);
        found |= (pair & INFINITE) == INFINITE || (pair >> 16 & INFINITE) == INFINITE;
    }
    if (!sm90_sync_or(SM90_SYNC_CONSUMER + self, 128, found)) return;
    GPU_NO_UNROLL for (int key = first; key < last; key++) add_key(stage, key, left);
    sm90_sync(SM90_SYNC_CONSUMER + self, 128);
    GPU_NO_UNROLL for (int i = warp * 32 + lane; i < (last - first) * 32; i += 128)
        sm90_store16(sm90_chunk(half, first + i / 32, i % 32), make_uint4(0, 0, 0, 0));
    sm90_fence_async();
    sm90_sync(SM90_SYNC_CONSUMER + self, 128);
}

template <class KIND>
GPU_MEMBER void sm90_consumer<KIND>::add_key(int stage, int key, int64_t left) {
    const char *matrix = sm90_shared().key[stage];
    uint32_t start = keys(stage);
    float weight[2];
    GPU_UNROLL for (int r = 0; r < 2; r++) {
        uint32_t at = sm90_chunk(start, row + 8 * r, SM90_ROPE_PANEL * 8 + key / 8) - start + key % 8 / 2 * 4;
        uint32_t pair = *(const uint32_t *)(matrix + at);
        weight[r] = sm90_unpack<TYPE>(pair, key & 1);
    }
    GPU_UNROLL for (int run = 0; run < 32; run++) {
        uint32_t at = sm90_chunk(start, key, self * 32 + run) - start + (lane & 3) * 4;
        uint32_t pair = *(const uint32_t *)(matrix + at);
        GPU_UNROLL for (int r = 0; r < 2; r++) {
            if (key >= left - side.masked_tail[row + 8 * r]) continue;
            o[run * 4 + r * 2] += weight[r] * sm90_unpack<TYPE>(pair, 0);
            o[run * 4 + r * 2 + 1] += weight[r] * sm90_unpack<TYPE>(pair, 1);
        }
    }
}

/* --- the main loop --- */

/* Whether the keys of the tile arrived before the probabilities of the previous tile: what comes first is worked on
 * first. One answer for the warpgroup. */
template <class KIND>
GPU_MEMBER bool sm90_consumer<KIND>::keys_arrived_first(int tile) const {
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

/* Both consumers add each tile to the output; in between, each computes the scores of the tiles that it owns. (The
 * compiler has to see that a running product never crosses a branch, or it waits for each.) */
template <class KIND> GPU_MEMBER void sm90_consumer<KIND>::run() {
    bool has_probabilities = false; /* of the current tile, if it is this consumer's */
    GPU_NO_UNROLL for (int tile = first; tile < end; tile++) {
        float s[32];
        bool ahead = false;
        if (owns(tile)) {
            if (!has_probabilities) {
                start_scores(s, tile);
                sm90_wgmma_wait<0>();
                sm90_pin(s);
                online_softmax(s, tile, false);
            }
            has_probabilities = false;
        } else if (overlap_scores && tile + 1 < end) {
            ahead = keys_arrived_first(tile + 1);
        }
        if (KIND::SOURCE == SM90_SAME && ahead) {
            start_scores(s, tile + 1);
            start_output(tile);
            sm90_wgmma_wait<1>();
            sm90_pin(s);
            online_softmax(s, tile + 1, true);
            has_probabilities = true;
        } else {
            start_output(tile);
            finish_output(tile);
        }
    }
    /* Sums of the whole rows, out of all lanes' shares. */
    GPU_UNROLL for (int r = 0; r < 2; r++) {
        softmax[r].sum += __shfl_xor_sync(0xffffffffu, softmax[r].sum, 1);
        softmax[r].sum += __shfl_xor_sync(0xffffffffu, softmax[r].sum, 2);
        if ((lane & 3) == 0) side.share[self][row + 8 * r] = softmax[r];
    }
}

#endif
