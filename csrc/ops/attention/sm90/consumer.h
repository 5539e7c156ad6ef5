/* The two consumer warpgroups. Each holds one half (256 columns) of one shared output in registers. Consumer i % 2 owns
 * tile i: it computes its scores and probabilities and publishes them, and both multiply them by their half of the
 * values. The running base passes from tile to tile, from one warpgroup to the other. With overlap_scores a consumer
 * computes the scores of its next tile beside the other's softmax and output, two tiles a turn (lead, follow): that
 * keeps the matrix units busy, and costs where they are not the bottleneck. */
#ifndef AC_OPS_ATTENTION_SM90_CONSUMER_H
#define AC_OPS_ATTENTION_SM90_CONSUMER_H

#include "../../../gpu/sm90/convert.h"
#include "../../../gpu/sm90/wgmma_wide.h"
#include "tile.h"

/* As sm90_pin() of accumulators, of an operand in registers. */
template <int N> GPU_INLINE void sm90_pin(uint32_t (&d)[N]) {
    GPU_UNROLL for (int i = 0; i < N; i++) asm volatile("" : "+r"(d[i])::"memory");
}

/* The compiler knows nothing of the value from here on. */
GPU_INLINE void sm90_opaque(uint32_t &x) { asm volatile("" : "+r"(x)::"memory"); }

template <class KIND> struct sm90_consumer {
    static constexpr int TYPE = KIND::TYPE;
    static constexpr bool OVERLAPS = KIND::SOURCE == SM90_SAME && KIND::TERMS == 1;

    bool has_rope;
    bool overlap_scores; /* works on two tiles a turn */
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

    GPU_MEMBER void free_unit(int tile) const { sm90_barrier_arrive(sm90_shared_address(&side.empty[tile & 1][self])); }

    /* --- scores --- */

    template <int PANELS> GPU_MEMBER void score_panels(float (&s)[32], int stage, int first, bool more) const;
    template <bool OFTEN> GPU_MEMBER void start_scores(float (&s)[32], int tile, int unit) const;
    template <bool OFTEN> GPU_MEMBER void scores(float (&s)[32], int tile) const;

    /* The lane's 16 keys of a tile, and where the score of key i in the lane's row r stands. */
    GPU_MEMBER int column(int i) const { return i / 2 * 8 + (lane & 3) * 2 + (i & 1); }
    GPU_INLINE int index(int i, int r) { return i / 2 * 4 + r * 2 + (i & 1); }

    /* --- softmax --- */

    GPU_MEMBER void mask_scores(float (&s)[32], uint64_t exists, int64_t left) const;
    GPU_MEMBER void join_terms(float (&s)[32], int stage) const;
    GPU_MEMBER float scale_later() const { return score_scale > 0 ? score_scale : 1; }
    GPU_MEMBER void find_tops(float (&s)[32], int tile, float (&top)[2]) const;
    GPU_MEMBER void move_bases(int tile, const float (&top)[2]);
    GPU_MEMBER void publish_probabilities(float (&s)[32], int stage, uint32_t (&own)[16]);
    GPU_MEMBER void online_softmax(float (&s)[32], int tile, uint32_t (&own)[16]);

    /* --- output --- */

    GPU_MEMBER void rescale(int stage);
    GPU_MEMBER uint64_t values(int stage) const;
    GPU_MEMBER void await_probabilities(int tile, bool may_be_masked);
    GPU_MEMBER void start_output(int tile);
    GPU_MEMBER void start_own_output(int tile, uint32_t (&own)[16]);
    GPU_MEMBER void finish_output(int tile);

    GPU_MEMBER void keep_masked_out(int tile);
    GPU_MEMBER void add_key(int stage, int key, int64_t left);

    /* --- the order of the work --- */

    template <bool LISTS> GPU_MEMBER int lead();
    template <bool LISTS> GPU_MEMBER int follow();
    template <bool LISTS> GPU_MEMBER void run();
};

/* Panels of the queries and of the keys, four steps of 16 elements each. Not `more`: s is overwritten. */
template <class KIND>
template <int PANELS>
GPU_MEMBER void sm90_consumer<KIND>::score_panels(float (&s)[32], int stage, int first, bool more) const {
    uint32_t a = sm90_operand(sm90_shared_address(sm90_shared().query) + first * SM90_PANEL_BYTES, 16);
    uint32_t b = sm90_operand(keys(stage) + first * SM90_PANEL_BYTES, 16);
    sm90_opaque(a), sm90_opaque(b); /* else there are registers for the operands of every step */
    GPU_UNROLL for (int k = 0; k < 4 * PANELS; k++) {
        int at = k / 4 * SM90_PANEL_BYTES + k % 4 * 32;
        sm90_wgmma_qk<TYPE>(s, sm90_operand_at(a, at), sm90_operand_at(b, at), more || k > 0);
    }
}

/* Starts the products of queries and keys of a unit, once it is there. OFTEN: as fast as can be; else in little code,
 * which has to be fetched before it can run once. */
template <class KIND>
template <bool OFTEN>
GPU_MEMBER void sm90_consumer<KIND>::start_scores(float (&s)[32], int tile, int unit) const {
    constexpr int PANELS = OFTEN ? 4 : 1;
    int stage = tile & 1;
    wait_full(tile, unit);
    if (unit == 0) sm90_pin(s);
    sm90_wgmma_fence();
    GPU_NO_UNROLL for (int i = 0; i < 4; i += PANELS) score_panels<PANELS>(s, stage, unit * 4 + i, unit + i > 0);
    if (unit == 1) {
        GPU_NO_UNROLL for (int i = 0; i < (int)has_rope; i++) /* no branch: see run() */
            score_panels<1>(s, stage, SM90_ROPE_PANEL, true);
    }
    sm90_wgmma_commit();
}

template <class KIND>
template <bool OFTEN>
GPU_MEMBER void sm90_consumer<KIND>::scores(float (&s)[32], int tile) const {
    start_scores<OFTEN>(s, tile, 0);
    start_scores<OFTEN>(s, tile, 1);
    sm90_wgmma_wait<0>();
    sm90_pin(s);
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

/* Masks the scores and finds the largest one of each row; what is not found before scale_later() applies is in it. */
template <class KIND>
GPU_MEMBER void sm90_consumer<KIND>::find_tops(float (&s)[32], int tile, float (&top)[2]) const {
    uint64_t exists = *(const uint64_t *)side.exists[tile & 1];
    int64_t left = keys_left(tile);
    if constexpr (KIND::TERMS > 1) join_terms(s, tile & 1);
    if (!(score_scale > 0)) { /* applied now: later it would change the -inf of masked keys */
        GPU_UNROLL for (int i = 0; i < 32; i++) s[i] *= score_scale;
    }
    if (!(exists == ~(uint64_t)0 && left - masked_tail >= SM90_KEYS)) mask_scores(s, exists, left);
    GPU_UNROLL for (int r = 0; r < 2; r++) {
        float tops[4] = {s[index(0, r)], s[index(1, r)], s[index(2, r)], s[index(3, r)]};
        GPU_UNROLL for (int i = 4; i < 16; i++) tops[i & 3] = gpu_max(tops[i & 3], s[index(i, r)]);
        top[r] = gpu_max(gpu_max(tops[0], tops[1]), gpu_max(tops[2], tops[3]));
        top[r] = gpu_max(top[r], __shfl_xor_sync(0xffffffffu, top[r], 1));
        top[r] = gpu_max(top[r], __shfl_xor_sync(0xffffffffu, top[r], 2)) * scale_later();
    }
}

/* Moves the running bases of the lane's two rows, which are those after the tile before. */
template <class KIND>
GPU_MEMBER void sm90_consumer<KIND>::move_bases(int tile, const float (&top)[2]) {
    int stage = tile & 1;
    GPU_UNROLL for (int r = 0; r < 2; r++) {
        mla_softmax_t running = {tile > first ? side.base[stage ^ 1][row + 8 * r] : mla_softmax_start().base, 0};
        float factor = mla_move_base(top[r], KIND::HEADROOM, &running);
        if (running.base != softmax[r].base) softmax[r].sum *= mla_rebase(softmax[r].base, running.base);
        softmax[r].base = running.base;
        if ((lane & 3) == 0) side.base[stage][row + 8 * r] = running.base, side.factor[stage][row + 8 * r] = factor;
    }
}

/* Scores to probabilities, which both consumers get, in place of the rope parts. */
template <class KIND>
GPU_MEMBER void sm90_consumer<KIND>::publish_probabilities(float (&s)[32], int stage, uint32_t (&own)[16]) {
    float scale = scale_later();
    GPU_UNROLL for (int i = 0; i < 32; i++) {
        int r = i >> 1 & 1;
        s[i] = sm90_exp2(fmaf(s[i], scale, -softmax[r].base));
        softmax[r].sum += s[i];
    }
    sm90_sync(SM90_SYNC_CONSUMER + self, 128); /* all warps' products with the rope parts are done */
    int to_row = warp * 16 + (lane & 15);
    GPU_UNROLL for (int k = 0; k < 4; k++) {
        GPU_UNROLL for (int i = 4 * k; i < 4 * k + 4; i++) own[i] = sm90_pack<TYPE>(s[2 * i], s[2 * i + 1]);
        sm90_store_matrices(sm90_chunk(probabilities(stage), to_row, 2 * k + (lane >> 4)), own + 4 * k);
    }
    sm90_fence_async();
    sm90_barrier_arrive(scored(stage));
}

template <class KIND>
GPU_MEMBER void sm90_consumer<KIND>::online_softmax(float (&s)[32], int tile, uint32_t (&own)[16]) {
    float top[2];
    find_tops(s, tile, top);
    move_bases(tile, top);
    publish_probabilities(s, tile & 1, own);
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

/* Waits for the tile's probabilities. Before its owner published them, it has waited for the keys and has let products
 * see them. */
template <class KIND>
GPU_MEMBER void sm90_consumer<KIND>::await_probabilities(int tile, bool may_be_masked) {
    int stage = tile & 1;
    sm90_barrier_wait(scored(stage), parity(tile));
    if (tile > first) rescale(stage);
    if (may_be_masked && keys_left(tile) - masked_tail < SM90_KEYS) keep_masked_out(tile);
}

/* Starts the product of the tile's probabilities, which are there, with this consumer's half of its values. */
template <class KIND>
GPU_MEMBER void sm90_consumer<KIND>::start_output(int tile) {
    int stage = tile & 1;
    uint64_t a = sm90_descriptor(probabilities(stage), 16), b = values(stage);
    sm90_pin(o);
    sm90_wgmma_fence();
    GPU_UNROLL for (int k = 0; k < 4; k++)
        sm90_wgmma_pv<TYPE>(o, sm90_advance(a, 32 * k), sm90_advance(b, 2048 * k));
    sm90_wgmma_commit();
}

/* The same of its own tile, whose probabilities it has in registers. */
template <class KIND>
GPU_MEMBER void sm90_consumer<KIND>::start_own_output(int tile, uint32_t (&own)[16]) {
    int stage = tile & 1;
    if (tile > first) rescale(stage);
    uint32_t b = sm90_operand(keys(stage) + self * 4 * SM90_PANEL_BYTES, SM90_PANEL_BYTES);
    sm90_opaque(b);
    sm90_pin(o);
    sm90_pin(own);
    sm90_wgmma_fence();
    GPU_UNROLL for (int k = 0; k < 4; k++)
        sm90_wgmma_values<TYPE>(o, own + 4 * k, sm90_operand_at(b, 2048 * k));
    sm90_wgmma_commit();
}

/* Frees this consumer's unit of the stage. */
template <class KIND>
GPU_MEMBER void sm90_consumer<KIND>::finish_output(int tile) {
    sm90_wgmma_wait<0>();
    sm90_pin(o);
    free_unit(tile);
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

/* Two tiles a turn, for the consumer that owns the first of them: it adds its own tile, then the other's, and behind
 * that in the queue it starts the scores of the first tile of the next turn, as their keys arrive. Returns the first
 * tile that is not added; its probabilities are published. */
template <class KIND>
template <bool LISTS>
GPU_MEMBER int sm90_consumer<KIND>::lead() {
    float s[32];
    uint32_t own[16];
    int tile = first;
    scores<LISTS>(s, tile);
    GPU_NO_UNROLL for (; tile + 2 < end; tile += 2) {
        online_softmax(s, tile, own);
        start_own_output(tile, own);
        finish_output(tile);
        sm90_pin(own);
        await_probabilities(tile + 1, true);
        start_output(tile + 1);
        start_scores<true>(s, tile + 2, 0);
        sm90_wgmma_wait<1>();
        sm90_pin(o);
        free_unit(tile + 1);
        start_scores<true>(s, tile + 2, 1);
        sm90_wgmma_wait<0>();
        sm90_pin(s);
    }
    online_softmax(s, tile, own);
    return tile;
}

/* The same for the owner of the second tile, whose scores run while it waits for the probabilities of the first. Its
 * own are computed beside the product of the first, and published before that is waited for. The last two tiles, which
 * may have masked keys, are left to run(). */
template <class KIND>
template <bool LISTS>
GPU_MEMBER int sm90_consumer<KIND>::follow() {
    int tile = first;
    GPU_NO_UNROLL for (; tile + 3 < end; tile += 2) {
        float s[32], top[2];
        uint32_t own[16];
        start_scores<true>(s, tile + 1, 0);
        start_scores<true>(s, tile + 1, 1);
        await_probabilities(tile, false);
        sm90_wgmma_wait<0>(); /* the compiler would, too */
        sm90_pin(s);
        start_output(tile);
        find_tops(s, tile + 1, top);
        move_bases(tile + 1, top);
        publish_probabilities(s, (tile + 1) & 1, own);
        finish_output(tile);
        start_own_output(tile + 1, own);
        finish_output(tile + 1);
        sm90_pin(own);
    }
    if (tile + 1 < end) {
        float s[32];
        uint32_t own[16];
        scores<LISTS>(s, tile + 1);
        sm90_barrier_wait(scored(tile & 1), parity(tile)); /* the base */
        online_softmax(s, tile + 1, own);
    }
    return tile;
}

/* Both consumers add each tile to the output; in between, each computes the scores of the tiles that it owns. (The
 * compiler has to see that a running product never crosses a branch, or it waits for each.) LISTS: in kernels that loop
 * over items there are no registers for loops inside of the scores. */
template <class KIND>
template <bool LISTS>
GPU_MEMBER void sm90_consumer<KIND>::run() {
    int tile = first;
    bool has_probabilities = OVERLAPS && overlap_scores; /* of this consumer's next tile */
    if constexpr (OVERLAPS) {
        if (overlap_scores) tile = owns(first) ? lead<LISTS>() : follow<LISTS>();
    }
    GPU_NO_UNROLL for (; tile < end; tile++) {
        if (owns(tile)) {
            if (!has_probabilities) {
                float s[32];
                uint32_t own[16];
                scores<LISTS && OVERLAPS>(s, tile);
                online_softmax(s, tile, own);
            }
            has_probabilities = false;
        }
        await_probabilities(tile, true);
        start_output(tile);
        finish_output(tile);
    }
    /* Sums of the whole rows, out of all lanes' shares. */
    GPU_UNROLL for (int r = 0; r < 2; r++) {
        softmax[r].sum += __shfl_xor_sync(0xffffffffu, softmax[r].sum, 1);
        softmax[r].sum += __shfl_xor_sync(0xffffffffu, softmax[r].sum, 2);
        if ((lane & 3) == 0) side.share[self][row + 8 * r] = softmax[r];
    }
}

#endif
