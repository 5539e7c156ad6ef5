/* The two consumer warpgroups. Each holds one half (256 columns) of one shared output in registers. Consumer i % 2 owns
 * tile i: it makes its scores and probabilities and hands them over, and both multiply them with their half of the
 * values. The running base passes from tile to tile, from one warpgroup to the other. A consumer that hurries makes the
 * scores of its tile beside the other's softmax of the tile before: that keeps the matrix units busy, and costs where
 * they are not what is waited for. */
#ifndef AC_OPS_ATTENTION_SM90_CONSUMER_H
#define AC_OPS_ATTENTION_SM90_CONSUMER_H

#include "../../../gpu/sm90/convert.h"
#include "tile.h"

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

/* Scores: the products of queries and keys of one tile. */

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

/* Scores to probabilities: what a row does not see, the running softmax, and the hand-over to both consumers. */

template <class KIND>
SM90_MEMBER void sm90_consumer<KIND>::hide(float (&s)[32], uint64_t exists, int64_t left) const {
#pragma unroll
    for (int r = 0; r < 2; r++) {
        uint64_t seen =
            ac_clamp64(left - side.unseen[row + 8 * r], 0, SM90_KEYS) == SM90_KEYS
                ? exists
                : exists & (((uint64_t)1 << ac_clamp64(left - side.unseen[row + 8 * r], 0, SM90_KEYS)) - 1);
        seen >>= (lane & 3) * 2;
#pragma unroll
        for (int i = 0; i < 16; i++)
            if (!(seen >> (i / 2 * 8 + (i & 1)) & 1)) s[index(i, r)] = GPU_MINUS_INFINITY;
    }
}

/* Adds the scores of the three terms of each query, which lie in three warps' registers, by way of panel 8. */
template <class KIND>
SM90_MEMBER void sm90_consumer<KIND>::join_terms(float (&s)[32], int stage) const {
    float *terms = (float *)(sm90_shared().key[stage] + SM90_ROPE_PANEL * SM90_PANEL_BYTES) + lane;
    sm90_sync(SM90_SYNC_CONSUMER + self, 128);
    if (warp == 1 || warp == 2) {
#pragma unroll
        for (int i = 0; i < 32; i++) terms[((warp - 1) * 32 + i) * 32] = s[i];
    }
    sm90_sync(SM90_SYNC_CONSUMER + self, 128);
    if (warp == 0) {
        const volatile float *second = terms, *third = terms + 32 * 32; /* not all in registers at once */
#pragma unroll
        for (int i = 0; i < 32; i++) {
            float small = second[i * 32] + third[i * 32];
            /* An infinite key: the first term alone has the sign. */
            s[i] = (fabsf(s[i]) <= GPU_FLT_MAX ? s[i] + small : s[i]) * side.row_scale[row + (i >> 1 & 1) * 8];
        }
    } else {
#pragma unroll
        for (int i = 0; i < 32; i++) s[i] = GPU_MINUS_INFINITY;
    }
}

/* Scores to probabilities; hands them and the new base to both consumers. If the tile before is being added (`adds`),
 * ends that on the way: its stage is waited for. Records: P in fp16, which is finer than the bf16 of the product, since
 * it is rounded again behind the scales. */
template <class KIND>
SM90_MEMBER void sm90_consumer<KIND>::soften(float (&s)[32], int tile, bool adds) {
    int stage = tile & 1;
    uint64_t exists = *(const uint64_t *)side.exists[stage];
    int64_t left = keys_left(tile);
    float scale = score_scale > 0 ? score_scale : 1, base[2]; /* scale: what is yet to be applied */
    if constexpr (KIND::TERMS > 1) join_terms(s, stage);
    if (!(score_scale > 0)) { /* applied at once: it would turn the -inf of hidden keys */
#pragma unroll
        for (int i = 0; i < 32; i++) s[i] *= score_scale;
    }
    if (!(exists == ~(uint64_t)0 && left - most_unseen >= SM90_KEYS)) hide(s, exists, left);
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float tops[4] = {s[index(0, r)], s[index(1, r)], s[index(2, r)], s[index(3, r)]};
#pragma unroll
        for (int i = 4; i < 16; i++) tops[i & 3] = gpu_max(tops[i & 3], s[index(i, r)]);
        float top = gpu_max(gpu_max(tops[0], tops[1]), gpu_max(tops[2], tops[3]));
        top = gpu_max(top, __shfl_xor_sync(0xffffffffu, top, 1));
        top = gpu_max(top, __shfl_xor_sync(0xffffffffu, top, 2)) * scale;
        mla_softmax_t running = {tile ? side.base[stage ^ 1][row + 8 * r] : mla_softmax_start().base, 0};
        float factor = mla_move_base(top, KIND::HEADROOM, &running);
        if (running.base != softmax[r].base) softmax[r].sum *= mla_rebase(softmax[r].base, running.base);
        base[r] = softmax[r].base = running.base;
        if ((lane & 3) == 0) side.base[stage][row + 8 * r] = running.base, side.factor[stage][row + 8 * r] = factor;
    }
    if (adds) finish_output(tile - 1);
#pragma unroll
    for (int i = 0; i < 32; i++) {
        int r = i >> 1 & 1;
        s[i] = sm90_exp2(fmaf(s[i], scale, -base[r]));
        softmax[r].sum += s[i];
    }
    /* Panel 8 holds rope parts until all warps' products are done. */
    sm90_sync(SM90_SYNC_CONSUMER + self, 128);
    int to_row = warp * 16 + (lane & 15);
#pragma unroll
    for (int k = 0; k < 4; k++) {
        uint32_t packed[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float low = s[8 * k + 2 * i], high = s[8 * k + 2 * i + 1];
            packed[i] = RECORDS ? sm90_pack_f16(low, high) : sm90_pack<TYPE>(low, high);
        }
        sm90_store_matrices(sm90_chunk(probabilities(stage), to_row, 2 * k + (lane >> 4)), packed);
    }
    sm90_fence_async();
    sm90_barrier_arrive(scored(stage));
}

/* The product of a tile's probabilities with one consumer's half of its values. */

template <class KIND>
SM90_MEMBER void sm90_consumer<KIND>::rescale(int stage) {
    float factor[2] = {side.factor[stage][row], side.factor[stage][row + 8]};
    if (!gpu_any(factor[0] != 1 || factor[1] != 1)) return;
#pragma unroll
    for (int i = 0; i < 128; i++) o[i] *= factor[i >> 1 & 1];
}

/* This consumer's half of the values, keys 0 to 15. */
template <class KIND>
SM90_MEMBER uint64_t sm90_consumer<KIND>::values(int stage) const {
    return sm90_descriptor(keys(stage) + self * 4 * SM90_PANEL_BYTES, SM90_PANEL_BYTES);
}

/* Records: P times the scales of one group of 128 values, for keys 16 k to 16 k + 15. */
template <class KIND>
SM90_MEMBER void sm90_consumer<KIND>::scale_probabilities(int stage, int k, int group, const uint32_t (&packed)[4],
                                                          uint32_t (&a)[4]) const {
#pragma unroll
    for (int j = 0; j < 4; j++) { /* of row j & 1, two keys */
        int key = k * 16 + (j >> 1) * 8 + (lane & 3) * 2;
        a[j] = sm90_pack_bf16(sm90_unpack<SM90_F16>(packed[j], 0) * side.scales[stage][key][group],
                              sm90_unpack<SM90_F16>(packed[j], 1) * side.scales[stage][key + 1][group]);
    }
}

template <class KIND>
SM90_MEMBER void sm90_consumer<KIND>::start_record_output(int stage) {
    uint32_t packed[4][4];
    int from_row = warp * 16 + (lane & 15);
#pragma unroll
    for (int k = 0; k < 4; k++)
        sm90_load_matrices(sm90_chunk(probabilities(stage), from_row, 2 * k + (lane >> 4)), packed[k]);
    output_group<0>(stage, packed);
    sm90_wgmma_wait<0>(); /* the registers of the first group's probabilities serve the second */
    output_group<64>(stage, packed);
}

/* 128 columns, accumulators FIRST to FIRST + 63. */
template <class KIND>
template <int FIRST>
SM90_MEMBER void sm90_consumer<KIND>::output_group(int stage, const uint32_t (&packed)[4][4]) {
    uint32_t a[4][4];
#pragma unroll
    for (int k = 0; k < 4; k++) scale_probabilities(stage, k, self * 2 + FIRST / 64, packed[k], a[k]);
    sm90_pin(o);
    sm90_wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; k++)
        sm90_wgmma_pv_group<FIRST>(o, a[k],
                                   sm90_advance(values(stage), k * 2048 + FIRST / 64 * 2 * SM90_PANEL_BYTES));
    sm90_wgmma_commit();
}

/* Starts the product of the tile's probabilities with this consumer's half of its values. */
template <class KIND>
SM90_MEMBER void sm90_consumer<KIND>::start_output(int tile) {
    int stage = tile & 1;
    sm90_barrier_wait(scored(stage), parity(tile));
    if (!owns(tile)) wait_full(tile, self);
    if (tile) rescale(stage);
    if (keys_left(tile) - most_unseen < SM90_KEYS) keep_unseen_out(tile);
    if constexpr (RECORDS) {
        start_record_output(stage);
    } else {
        uint64_t a = sm90_descriptor(probabilities(stage), 16), b = values(stage);
        sm90_pin(o);
        sm90_wgmma_fence();
#pragma unroll
        for (int k = 0; k < 4; k++) sm90_wgmma_pv<TYPE>(o, sm90_advance(a, 32 * k), sm90_advance(b, 2048 * k));
        sm90_wgmma_commit();
    }
}

/* Frees this consumer's unit of the stage. */
template <class KIND>
SM90_MEMBER void sm90_consumer<KIND>::finish_output(int tile) {
    sm90_wgmma_wait<0>();
    sm90_pin(o);
    sm90_barrier_arrive(sm90_shared_address(&side.empty[tile & 1][self]));
}

/* Values that must not reach every row: see keep_unseen_out(). */

/* A key that only some rows see must not reach the others, to which 0 * NaN or 0 * Inf would carry it. Such keys
 * are among the last 64 of the range. Only if their values are not all finite: adds them to the rows that see
 * them, one by one, and puts zeros in their place. Nothing else writes the stage any more: these are the last
 * tiles. A scale of a record can be infinite as well. */
template <class KIND>
SM90_MEMBER void sm90_consumer<KIND>::keep_unseen_out(int tile) {
    int stage = tile & 1;
    int64_t left = keys_left(tile);
    int first = left - most_unseen < 0 ? 0 : (int)(left - most_unseen);
    int last = left < SM90_KEYS ? (int)left : SM90_KEYS;
    uint32_t half = keys(stage) + self * 4 * SM90_PANEL_BYTES;
    const char *base = sm90_shared().key[stage] + self * 4 * SM90_PANEL_BYTES;
    constexpr uint32_t INFINITE = TYPE == SM90_BF16 ? 0x7f80 : 0x7c00;
    bool found = false;
    if (first >= last) return;
#pragma unroll 1
    for (int i = warp * 32 + lane; i < (last - first) * 128; i += 128) { /* pairs of columns */
        int key = first + i / 128, c = i % 128;
        uint32_t pair = *(const uint32_t *)(base + (sm90_chunk(half, key, c / 4) - half) + c % 4 * 4);
        found |= (pair & INFINITE) == INFINITE || (pair >> 16 & INFINITE) == INFINITE;
    }
    if (RECORDS && warp == 0)
        for (int i = lane; i < (last - first) * 2; i += 32)
            found |= !(fabsf(side.scales[stage][first + i / 2][self * 2 + i % 2]) <= GPU_FLT_MAX);
    if (!sm90_sync_or(SM90_SYNC_CONSUMER + self, 128, found)) return;
#pragma unroll 1
    for (int key = first; key < last; key++) add_key(stage, key, left);
    sm90_sync(SM90_SYNC_CONSUMER + self, 128);
#pragma unroll 1
    for (int i = warp * 32 + lane; i < (last - first) * 32; i += 128)
        sm90_store16(sm90_chunk(half, first + i / 32, i % 32), make_uint4(0, 0, 0, 0));
    if (RECORDS && warp == 0)
        for (int i = lane; i < (last - first) * 2; i += 32) side.scales[stage][first + i / 2][self * 2 + i % 2] = 0;
    sm90_fence_async();
    sm90_sync(SM90_SYNC_CONSUMER + self, 128);
}

template <class KIND>
SM90_MEMBER void sm90_consumer<KIND>::add_key(int stage, int key, int64_t left) {
    const char *matrix = sm90_shared().key[stage];
    uint32_t start = keys(stage);
    float weight[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        uint32_t at = sm90_chunk(start, row + 8 * r, SM90_ROPE_PANEL * 8 + key / 8) - start + key % 8 / 2 * 4;
        uint32_t pair = *(const uint32_t *)(matrix + at);
        weight[r] = RECORDS ? sm90_unpack<SM90_F16>(pair, key & 1) : sm90_unpack<TYPE>(pair, key & 1);
    }
#pragma unroll
    for (int block = 0; block < 32; block++) {
        uint32_t at = sm90_chunk(start, key, self * 32 + block) - start + (lane & 3) * 4;
        uint32_t pair = *(const uint32_t *)(matrix + at);
        float scale = RECORDS ? side.scales[stage][key][self * 2 + block / 16] : 1;
#pragma unroll
        for (int r = 0; r < 2; r++) {
            if (key >= left - side.unseen[row + 8 * r]) continue;
            /* Records: rounded as scale_probabilities() does. */
            float p = RECORDS ? sm90_unpack<SM90_BF16>(sm90_pack_bf16(weight[r] * scale, 0), 0) : weight[r];
            o[block * 4 + r * 2] += p * sm90_unpack<TYPE>(pair, 0);
            o[block * 4 + r * 2 + 1] += p * sm90_unpack<TYPE>(pair, 1);
        }
    }
}

/* The order in which a consumer works: see mla_sm90_consumer.h. */

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
