/* The two consumer warpgroups of prefill: 64 query rows each, all scores, probabilities and output of these in
 * registers. While the matrix units multiply the probabilities of one key tile by its values, and the queries by the
 * keys of the next, the other consumer computes its softmax: they take turns in giving the matrix units work. */
#ifndef AC_OPS_MLA_PREFILL_SM90_CONSUMER_H
#define AC_OPS_MLA_PREFILL_SM90_CONSUMER_H

#include "tile.h"

template <class KIND> struct prefill_consumer {
    static constexpr int N = KIND::KEYS / 2;                    /* scores of a thread: [8 keys][row: 2 keys] */
    static constexpr int P = N * KIND::BYTES / 4;               /* words of probabilities */
    static constexpr int STEPS = KIND::KEYS * KIND::BYTES / 32; /* of a product over the keys */

    prefill_side_t<KIND> &side;
    int self;       /* 0 or 1 */
    int warp, lane; /* of the warpgroup */
    float score_scale;
    int count; /* key tiles so far */
    int limit; /* of the tile's keys, those that this lane's first row sees; the second row, 8 later, sees 8 more */
    mla_softmax_t softmax[2]; /* of the lane's two rows; its share of the sums */
    float (&o)[KIND::DV / 2]; /* [8 columns][row: 2 columns] */
    uint32_t p[P];

    /* What is waited for came by ordinary writes: the fence lets matrix products see it. */
    GPU_MEMBER void wait_keys(int tile) const {
        sm90_barrier_wait(sm90_shared_address(&side.full_key[prefill_key_stage<KIND>(tile)]),
                          prefill_key_parity<KIND>(tile));
        sm90_fence_async();
    }
    GPU_MEMBER void wait_values(int tile) const {
        sm90_barrier_wait(sm90_shared_address(&side.full_value[prefill_value_stage(tile)]), prefill_value_parity(tile));
        sm90_fence_async();
    }
    /* This thread is done with the stage. */
    GPU_MEMBER void free_stage(uint64_t &barrier) const { sm90_barrier_arrive(sm90_shared_address(&barrier)); }
    GPU_MEMBER void begin_turn() const { sm90_sync(PREFILL_SYNC_TURN + self, 256); }
    GPU_MEMBER void end_turn() const { sm90_sync_arrive(PREFILL_SYNC_TURN + (self ^ 1), 256); }

    GPU_INLINE int column(int lane, int i) { return i / 4 * 8 + (lane & 3) * 2 + (i & 1); }

    GPU_MEMBER void start_scores(float (&s)[N], int tile) const;
    GPU_MEMBER void mask_scores(float (&s)[N], int tile, int seen) const;
    GPU_MEMBER void end_scores(float (&s)[N], int tile, int seen) const;
    GPU_MEMBER void find_probabilities(float (&s)[N], float (&factor)[2]);
    GPU_MEMBER void pack(const float (&s)[N]);
    GPU_MEMBER void rescale(const float (&factor)[2]);
    GPU_MEMBER uint32_t values(int stage) const;
    GPU_MEMBER void start_output(int tile);
    GPU_MEMBER void end_output(int tile);
    GPU_MEMBER float probability(int r, int key) const;
    GPU_MEMBER float value(int stage, int key, int column) const;
    GPU_MEMBER void add_not_finite(int stage, int seen);
    GPU_MEMBER void hide_not_finite(int tile, int seen);
    GPU_MEMBER int seen(int i) const;
    GPU_MEMBER void run(int tiles, int unmasked_tiles);
};

/* --- scores --- */

template <class KIND> GPU_MEMBER void prefill_consumer<KIND>::start_scores(float (&s)[N], int tile) const {
    const prefill_shared_t<KIND> &shared = prefill_shared<KIND>();
    uint32_t a = sm90_operand(sm90_shared_address(shared.query) + self * PREFILL_CONSUMER_ROWS * 128, 16);
    uint32_t b = sm90_operand(sm90_shared_address(shared.key[prefill_key_stage<KIND>(tile)]), 16);
    asm volatile("" : "+r"(a), "+r"(b)); /* what is at a distance from them is not kept in registers */
    sm90_pin(s);
    sm90_wgmma_fence();
    sm90_wgmma_scores<KIND::TYPE, false>(s, sm90_operand_at(a, 0), sm90_operand_at(b, 0));
    GPU_UNROLL for (int i = 1; i < KIND::D_CHUNKS / 2; i++) /* a step is two chunks wide */
        sm90_wgmma_scores<KIND::TYPE, true>(s, sm90_operand_at(a, i / 4 * KIND::QUERY_PANEL + i % 4 * 32),
                                            sm90_operand_at(b, i / 4 * KIND::KEY_PANEL + i % 4 * 32));
    sm90_wgmma_commit();
}

/* `seen`: keys of the key tile that the lane's first row sees. */
template <class KIND>
GPU_MEMBER void prefill_consumer<KIND>::mask_scores(float (&s)[N], int tile, int seen) const {
    int lane = prefill_recompute_thread() & 31;
    const uint16_t *exists = (const uint16_t *)side.exists[prefill_flags(tile)] + (lane & 3);
    GPU_UNROLL for (int i = 0; i < N; i += 4) {
        uint32_t pair = exists[i];
        GPU_UNROLL for (int k = 0; k < 4; k++)
            if (column(lane, i + k) >= seen + (k >> 1) * 8 || !(pair >> (k & 1) * 8 & 1)) s[i + k] = GPU_MINUS_INFINITY;
    }
}

/* The scores are there: frees the keys, masks. */
template <class KIND> GPU_MEMBER void prefill_consumer<KIND>::end_scores(float (&s)[N], int tile, int seen) const {
    sm90_pin(s);
    free_stage(side.empty_key[prefill_key_stage<KIND>(tile)]);
    if (!(score_scale > 0)) { /* applied now: later it would change the -inf of masked keys */
        GPU_UNROLL for (int i = 0; i < N; i++) s[i] *= score_scale;
    }
    if (seen < KIND::KEYS || side.whole[prefill_flags(tile)] != 0x01010101u) mask_scores(s, tile, seen);
}

/* --- softmax --- */

/* Scores to probabilities; factor: what the output so far is to be multiplied by. */
template <class KIND>
GPU_MEMBER void prefill_consumer<KIND>::find_probabilities(float (&s)[N], float (&factor)[2]) {
    float scale = score_scale > 0 ? score_scale : 1; /* still to be applied */
    GPU_UNROLL for (int r = 0; r < 2; r++) {
        float tops[4];
        GPU_UNROLL for (int i = 0; i < 4; i++) tops[i] = s[(i >> 1) * 4 + r * 2 + (i & 1)];
        GPU_UNROLL for (int i = 4; i < N / 2; i++)
            tops[i & 3] = gpu_max(tops[i & 3], s[(i >> 1) * 4 + r * 2 + (i & 1)]);
        float top = gpu_max(gpu_max(tops[0], tops[1]), gpu_max(tops[2], tops[3]));
        top = gpu_max(top, __shfl_xor_sync(0xffffffffu, top, 1));
        top = gpu_max(top, __shfl_xor_sync(0xffffffffu, top, 2)) * scale;
        factor[r] = mla_move_base(top, KIND::HEADROOM, &softmax[r]);
    }
    float sum[2][2] = {};
    GPU_UNROLL for (int i = 0; i < N; i++) {
        s[i] = sm90_exp2(fmaf(s[i], scale, -softmax[i >> 1 & 1].base));
        sum[i >> 1 & 1][i & 1] += s[i];
    }
    GPU_UNROLL for (int r = 0; r < 2; r++) softmax[r].sum += sum[r][0] + sum[r][1];
}

/* The accumulators of a product have the layout of the next one's operand: of 8 bits, with the order of the keys that
 * prefill_turned_place() has. */
template <class KIND> GPU_MEMBER void prefill_consumer<KIND>::pack(const float (&s)[N]) {
    GPU_UNROLL for (int i = 0; i < P; i++) {
        if constexpr (KIND::FP8) {
            const float *from = s + i / 2 * 8 + (i & 1) * 2;
            p[i] = sm90_pack_e4m3(from[0], from[1], from[4], from[5]);
        } else {
            p[i] = sm90_pack<KIND::TYPE>(s[2 * i], s[2 * i + 1]);
        }
    }
}

template <class KIND> GPU_MEMBER void prefill_consumer<KIND>::rescale(const float (&factor)[2]) {
    if (!gpu_any(factor[0] != 1 || factor[1] != 1)) return;
    GPU_UNROLL for (int i = 0; i < KIND::DV / 2; i++) o[i] *= factor[i >> 1 & 1];
}

/* --- output --- */

template <class KIND> GPU_MEMBER uint32_t prefill_consumer<KIND>::values(int stage) const {
    const prefill_shared_t<KIND> &shared = prefill_shared<KIND>();
    return sm90_shared_address(KIND::FP8 ? shared.turned[stage] : shared.value[stage]);
}

template <class KIND> GPU_MEMBER void prefill_consumer<KIND>::start_output(int tile) {
    uint32_t b = sm90_operand(values(prefill_value_stage(tile)), KIND::FP8 ? 16 : KIND::KEY_PANEL);
    asm volatile("" : "+r"(b));
    sm90_pin(o);
    sm90_wgmma_fence();
    GPU_UNROLL for (int k = 0; k < STEPS; k++)
        sm90_wgmma_values<KIND::TYPE>(o, p + 4 * k, sm90_operand_at(b, k * (KIND::FP8 ? 32 : 16 * 128)));
    sm90_wgmma_commit();
}

template <class KIND> GPU_MEMBER void prefill_consumer<KIND>::end_output(int tile) {
    sm90_wgmma_wait<0>();
    sm90_pin(o);
    GPU_UNROLL for (int i = 0; i < P; i++) asm volatile("" : "+r"(p[i])); /* in use until now */
    free_stage(side.empty_value[prefill_value_stage(tile)]);
}

/* --- key tiles of which some rows do not see all keys --- */

/* Of a key of the 8 (16 where P has 8 bits) that p[0] and p[1] are for. */
template <class KIND> GPU_MEMBER float prefill_consumer<KIND>::probability(int r, int key) const {
    uint32_t word = __shfl_sync(0xffffffffu, r ? p[1] : p[0], (lane & ~3) | (key >> 1 & 3));
    if constexpr (KIND::FP8) {
        word = sm90_widen_pair<SM90_F16, false>(word >> ((key >> 2 & 2) | (key & 1)) * 8, false);
        return sm90_unpack<SM90_F16>(word, 0);
    } else {
        return sm90_unpack<KIND::TYPE>(key & 1 ? word >> 16 : word, 0);
    }
}

template <class KIND> GPU_MEMBER float prefill_consumer<KIND>::value(int stage, int key, int column) const {
    const prefill_shared_t<KIND> &shared = prefill_shared<KIND>();
    if constexpr (KIND::FP8) {
        int place = prefill_turned_place(key);
        uint8_t v = shared.turned[stage][column * 128 + (((place >> 4) ^ (column & 7)) << 4) + (place & 15)];
        return sm90_unpack<SM90_F16>(sm90_widen_pair<SM90_F16, false>(v, false), 0);
    } else {
        int chunk = column >> 3;
        uint16_t v = *(const uint16_t *)(shared.value[stage] + (chunk >> 3) * KIND::KEY_PANEL + key * 128 +
                                         (((chunk & 7) ^ (key & 7)) << 4) + (column & 7) * 2);
        return sm90_unpack<KIND::TYPE>(v, 0);
    }
}

/* Values that are not finite, for the rows that see them. The probabilities move along once around. */
template <class KIND> GPU_MEMBER void prefill_consumer<KIND>::add_not_finite(int stage, int seen) {
    int lane = prefill_recompute_thread() & 31;
    GPU_NO_UNROLL for (int key = 0; key < KIND::KEYS; key++) {
        float p0 = probability(0, key), p1 = probability(1, key);
        GPU_UNROLL for (int i = 0; i < KIND::DV / 2; i += 4) {
            GPU_UNROLL for (int k = 0; k < 2; k++) {
                float v = value(stage, key, i * 2 + (lane & 3) * 2 + k);
                bool finite = fabsf(v) <= GPU_FLT_MAX;
                if (!finite && key < seen) o[i + k] += p0 * v;
                if (!finite && key < seen + 8) o[i + k + 2] += p1 * v;
            }
            prefill_forget(); /* not all of them in registers at once */
        }
        if ((key & (KIND::FP8 ? 15 : 7)) == (KIND::FP8 ? 15 : 7)) {
            uint32_t first = p[0], second = p[1];
            GPU_UNROLL for (int i = 2; i < P; i++) p[i - 2] = p[i];
            p[P - 2] = first, p[P - 1] = second;
        }
    }
}

/* A value that is not finite must not reach, as zero times NaN, a row that does not see it: where the tile has one,
 * both consumers add such values by themselves, and then they are zeros to the product. */
template <class KIND> GPU_MEMBER void prefill_consumer<KIND>::hide_not_finite(int tile, int seen) {
    constexpr uint32_t EXPONENT = KIND::FP8 ? 0x7f7f7f7f : KIND::TYPE == SM90_BF16 ? 0x7f807f80 : 0x7c007c00;
    constexpr uint32_t ONE = KIND::FP8 ? 0x01010101 : KIND::TYPE == SM90_BF16 ? 0x00800080 : 0x04000400;
    constexpr uint32_t SIGN = KIND::FP8 ? 0x80808080 : 0x80008000; /* of an element: the carry of an exponent of ones */
    constexpr int BYTES = KIND::FP8 ? KIND::DV * 128 : KIND::DV_PANELS * KIND::KEY_PANEL;
    int stage = prefill_value_stage(tile);
    prefill_shared_t<KIND> &shared = prefill_shared<KIND>();
    char *matrix = KIND::FP8 ? shared.turned[stage] : shared.value[stage];
    uint32_t carries = 0;
    int thread = prefill_recompute_thread();
    GPU_NO_UNROLL for (int i = thread * 16; i < BYTES; i += 4 * 128 * 16) {
        GPU_UNROLL for (int k = 0; k < 4; k++) {
            uint4 v = *(const uint4 *)(matrix + i + k * 128 * 16);
            carries |= ((v.x & EXPONENT) + ONE) | ((v.y & EXPONENT) + ONE) | ((v.z & EXPONENT) + ONE) |
                       ((v.w & EXPONENT) + ONE);
        }
    }
    if (!sm90_sync_or(PREFILL_SYNC_CONSUMER + self, 128, (carries & SIGN) != 0)) return;
    add_not_finite(stage, seen);
    sm90_sync(PREFILL_SYNC_CONSUMERS, 256); /* the other one has read them too */
    GPU_NO_UNROLL for (int i = (self * 128 + thread) * 4; i < BYTES; i += 256 * 4) {
        uint32_t *at = (uint32_t *)(matrix + i);
        uint32_t carry = ((*at & EXPONENT) + ONE) & SIGN; /* the elements' top bits: all of their bits, then */
        *at &= ~((carry << 1) - (carry >> (KIND::FP8 ? 7 : 15)));
    }
    sm90_fence_async();
    sm90_sync(PREFILL_SYNC_CONSUMERS, 256);
}

/* Of tile i's keys, those that this lane's first row sees; perhaps less than none, or more than there are. */
template <class KIND> GPU_MEMBER int prefill_consumer<KIND>::seen(int i) const {
    return (int)ac_clamp64((int64_t)limit - (int64_t)i * KIND::KEYS, -8, KIND::KEYS);
}

/* --- the order of the work --- */

/* The scores of a key tile are computed beside the output of the one before it. From unmasked_tiles on, the same number
 * for both consumers, some rows do not see all keys of a tile. */
template <class KIND> GPU_MEMBER void prefill_consumer<KIND>::run(int tiles, int unmasked_tiles) {
    if (tiles <= 0) return;
    int tile = count;
    float s[N], factor[2];
    wait_keys(tile);
    begin_turn();
    start_scores(s, tile);
    end_turn();
    sm90_wgmma_wait<0>();
    end_scores(s, tile, 0 < unmasked_tiles ? KIND::KEYS : seen(0));
    find_probabilities(s, factor);
    pack(s);
    GPU_NO_UNROLL for (int i = 1; i < tiles; i++) {
        wait_keys(tile + 1);
        if (i - 1 >= unmasked_tiles) {
            wait_values(tile);
            hide_not_finite(tile, seen(i - 1));
        }
        begin_turn();
        start_scores(s, tile + 1);
        wait_values(tile);
        start_output(tile);
        end_turn();
        sm90_wgmma_wait<1>();
        end_scores(s, tile + 1, i < unmasked_tiles ? KIND::KEYS : seen(i));
        find_probabilities(s, factor);
        /* Never: but the assembler cannot know, and does not move the wait to before the exponentials. */
        if (gpu_any(softmax[0].sum < 0 || softmax[1].sum < 0)) sm90_pause();
        end_output(tile);
        rescale(factor);
        pack(s);
        tile++;
    }
    wait_values(tile);
    if (tiles - 1 >= unmasked_tiles) hide_not_finite(tile, seen(tiles - 1));
    start_output(tile);
    end_output(tile);
    count = tile + 1;
}

#endif
