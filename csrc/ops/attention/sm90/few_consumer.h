/* The warps that compute: see few_tile.h. */
#ifndef AC_OPS_ATTENTION_SM90_FEW_CONSUMER_H
#define AC_OPS_ATTENTION_SM90_FEW_CONSUMER_H

#include "few_query.h"

template <class KIND, class items_t> struct few_consumer {
    static constexpr int TYPE = KIND::TYPE, BYTES = KIND::BYTES, PITCH = KIND::PITCH;

    const items_t &items;
    int warp, lane;
    float (&o)[8][4];     /* [8 columns][columns 2 t, 2 t + 1 of row g; of row g + 8]; fp8: see column() */
    uint32_t (&q)[18][4]; /* of the half row */
    float q_scale[2];     /* that scores of the half row are multiplied by */
    float score_scale, value_scale;
    int masked_tail[2];       /* see mla_row_t */
    uint32_t scored;          /* parity of the next tile's probabilities */
    mla_softmax_t softmax[2]; /* the lane's share of the sums, of rows g and g + 8 */
    bool has_rope;

    GPU_MEMBER few_shared_t<KIND> &shared() const { return few_shared<KIND>(); }
    GPU_MEMBER int half() const { return warp & 1; }
    GPU_MEMBER int row(int r) const { return lane / 4 + 8 * r; }
    GPU_MEMBER int key(int i) const { return warp * 8 + (lane & 3) + 4 * i; } /* of score i */
    GPU_MEMBER void sync() const { sm90_sync(FEW_SYNC_ALL, 32 * FEW_WARPS); }

    /* --- scores --- */

    /* The products of the warp's half of 16 keys: the scores of each 8 in two parts, a quarter of them at a time. */
    GPU_MEMBER void multiply(float (&part)[2][2][4], const char *keys, int j) const {
        const char *at = keys + (warp / 2 * 16 + few_key(lane / 4)) * PITCH + (lane & 3) * 16 + half() * 256 * BYTES;
        GPU_UNROLL for (int n = 0; n < 2; n++) {
            GPU_UNROLL for (int i = 0; i < BYTES; i++) {
                uint4 raw = *(const uint4 *)(at + n * 8 * PITCH + (j * BYTES + i) * 64);
                if constexpr (BYTES == 1) {
                    add_fp8(part[n][0], q[4 * j], raw.x);
                    add_fp8(part[n][1], q[4 * j + 1], raw.y);
                    add_fp8(part[n][0], q[4 * j + 2], raw.z);
                    add_fp8(part[n][1], q[4 * j + 3], raw.w);
                } else {
                    sm90_mma<TYPE>(part[n][0], q[4 * j + 2 * i], raw.x, raw.y);
                    sm90_mma<TYPE>(part[n][1], q[4 * j + 2 * i + 1], raw.z, raw.w);
                }
            }
        }
    }
    /* Those with half of the rope part. */
    GPU_MEMBER void multiply_rope(float (&part)[2][2][4], const char *keys) const {
        const char *at = keys + (warp / 2 * 16 + few_key(lane / 4)) * PITCH + AC_MLA_DV * BYTES;
        GPU_UNROLL for (int n = 0; n < 2; n++) {
            if constexpr (BYTES == 1) {
                uint2 raw = *(const uint2 *)(at + n * 8 * PITCH + (lane & 3) * 16 + half() * 8);
                add_fp8(part[n][0], q[16], raw.x);
                add_fp8(part[n][1], q[17], raw.y);
            } else {
                uint4 raw = *(const uint4 *)(at + n * 8 * PITCH + (lane & 3) * 16 + half() * 64);
                sm90_mma<TYPE>(part[n][0], q[16], raw.x, raw.y);
                sm90_mma<TYPE>(part[n][1], q[17], raw.z, raw.w);
            }
        }
    }
    GPU_MEMBER void add_fp8(float (&d)[4], const uint32_t (&a)[4], uint32_t word) const {
        uint32_t b0, b1;
        sm90_widen_word(word, b0, b1);
        sm90_mma<TYPE>(d, a, b0, b1);
    }

    /* Halves of the scores: gives the other warp of the pair those of its keys. */
    GPU_MEMBER void give_scores(const float (&part)[2][2][4], float (&s)[4]) const {
        float other[4];
        GPU_UNROLL for (int i = 0; i < 4; i++) {
            float first = (part[0][0][i] + part[0][1][i]) * q_scale[i / 2];
            float second = (part[1][0][i] + part[1][1][i]) * q_scale[i / 2];
            s[i] = half() ? second : first, other[i] = half() ? first : second;
        }
        shared().exchange[warp ^ 1][lane] = make_float4(other[0], other[1], other[2], other[3]);
    }
    GPU_MEMBER void take_scores(float (&s)[4]) const {
        if (KIND::AHEAD) sm90_sync(FEW_SYNC_PAIR + warp / 2, 64);
        else sync(); /* nobody reads the one slot any more */
        float4 other = shared().exchange[warp][lane];
        s[0] = (s[0] + other.x) * score_scale, s[1] = (s[1] + other.y) * score_scale;
        s[2] = (s[2] + other.z) * score_scale, s[3] = (s[3] + other.w) * score_scale;
    }

    /* --- softmax --- */

    GPU_MEMBER void mask(float (&s)[4], uint64_t exists, int left) const {
        GPU_UNROLL for (int i = 0; i < 4; i++) {
            int k = key(i & 1);
            if (!(exists >> k & 1) || k >= left - masked_tail[i / 2]) s[i] = GPU_MINUS_INFINITY;
        }
    }

    GPU_MEMBER void publish(const float (&x)[4], int slot) const {
        shared().slot[slot].step[warp / 2][lane][half()] =
            make_uint2(sm90_pack<TYPE>(x[0], x[1]), sm90_pack<TYPE>(x[2], x[3]));
    }

    GPU_MEMBER void exponentiate(const float (&s)[4], float (&x)[4]) const {
        GPU_UNROLL for (int i = 0; i < 4; i++) x[i] = sm90_exp2(s[i] - softmax[i / 2].base);
    }

    /* Moves the rows' bases, for the scores of all warps. */
    GPU_MEMBER void move_bases(const float (&s)[4]) {
        GPU_UNROLL for (int r = 0; r < 2; r++) {
            float top = gpu_max(s[2 * r], s[2 * r + 1]);
            top = gpu_max(top, __shfl_xor_sync(0xffffffffu, top, 1));
            top = gpu_max(top, __shfl_xor_sync(0xffffffffu, top, 2));
            if ((lane & 3) == 0) shared().top[warp][row(r)] = top;
        }
        sync();
        GPU_UNROLL for (int r = 0; r < 2; r++) {
            float top = shared().top[0][row(r)];
            GPU_UNROLL for (int w = 1; w < FEW_WARPS; w++) top = gpu_max(top, shared().top[w][row(r)]);
            float factor = mla_move_base(top, KIND::ROOM, &softmax[r]);
            GPU_UNROLL for (int i = 0; i < 8; i++) o[i][2 * r] *= factor, o[i][2 * r + 1] *= factor;
        }
    }

    /* Scores to probabilities, which all warps get, if no base has to move. */
    GPU_MEMBER void probabilities(float (&s)[4], float (&x)[4], int slot, uint64_t exists, int left, int tail) const {
        take_scores(s);
        if (exists != ~(uint64_t)0 || left - tail < FEW_KEYS) mask(s, exists, left);
        bool moves = mla_base_moves(softmax[0], gpu_max(s[0], s[1]), KIND::ROOM) ||
                     mla_base_moves(softmax[1], gpu_max(s[2], s[3]), KIND::ROOM);
        exponentiate(s, x);
        publish(x, slot);
        if (moves) shared().moves[scored] = 1;
        sm90_barrier_arrive(sm90_shared_address(&shared().scored));
    }

    /* All have theirs. If a base has to move: once more, and `o`, which holds the tiles before, is rescaled. */
    GPU_MEMBER void settle(const float (&s)[4], float (&x)[4], int slot) {
        sm90_barrier_wait(sm90_shared_address(&shared().scored), scored);
        if (shared().moves[scored]) {
            move_bases(s);
            exponentiate(s, x);
            publish(x, slot);
            if (warp == 0 && lane == 0) shared().moves[scored] = 0;
            sync();
        }
        scored ^= 1;
        softmax[0].sum += x[0] + x[1];
        softmax[1].sum += x[2] + x[3];
    }

    /* --- output --- */

    /* Two words, each of two neighbouring fp8 columns of two keys: one operand of the even column, one of the odd. */
    GPU_MEMBER void add_columns(float (&even)[4], float (&odd)[4], const uint32_t (&a)[4], uint32_t low,
                                uint32_t high) const {
        uint32_t b[2][2];
        sm90_widen_word(__byte_perm(low, 0, 0x3120), b[0][0], b[1][0]);
        sm90_widen_word(__byte_perm(high, 0, 0x3120), b[0][1], b[1][1]);
        sm90_mma<TYPE>(even, a, b[0][0], b[0][1]);
        sm90_mma<TYPE>(odd, a, b[1][0], b[1][1]);
    }

    /* Adds 16 keys to the output. */
    GPU_MEMBER void add_values(const char *keys, int slot, int step) const {
        /* Lane l names a row of matrix l / 8: keys 0 to 7 or 8 to 15, the first or the second 16 bytes. */
        uint32_t from = sm90_shared_address(keys) + (few_key(lane & 7) + (lane & 8)) * PITCH + warp * 64 * BYTES +
                        (lane >> 4) * 16 + step * 16 * PITCH;
        uint4 x = *(const uint4 *)shared().slot[slot].step[step][lane];
        uint32_t a[4] = {x.x, x.y, x.z, x.w};
        GPU_UNROLL for (int c = 0; c < 2 * BYTES; c++) { /* 32 bytes */
            uint32_t raw[4];
            load_turned(from + c * 32, raw);
            if constexpr (BYTES == 1) {
                add_columns(o[4 * c], o[4 * c + 1], a, raw[0], raw[1]);
                add_columns(o[4 * c + 2], o[4 * c + 3], a, raw[2], raw[3]);
            } else {
                sm90_mma<TYPE>(o[2 * c], a, raw[0], raw[1]);
                sm90_mma<TYPE>(o[2 * c + 1], a, raw[2], raw[3]);
            }
        }
    }

    /* As sm90_load_matrices_turned(), but nothing else has to be in memory before it. */
    GPU_INLINE void load_turned(uint32_t from, uint32_t (&v)[4]) {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
                     : "r"(from));
    }

    /* The first of the warp's columns that is in o[i][0]; o[i][1] is the next, of fp8 the next but one. */
    GPU_MEMBER int column(int i) const {
        if (BYTES == 1) return warp * 64 + i / 2 * 16 + (lane & 3) * 4 + (i & 1);
        return warp * 64 + i * 8 + (lane & 3) * 2;
    }

    /* --- values that must not reach every row --- */

    /* A key that only some rows see must not reach the others, to which 0 * NaN or 0 * Inf would carry it. Such keys
     * are among the last `tail` of the range, at most 64. Only if their values are not all finite: adds them to the
     * rows that see them, one by one, and zeroes them. Of its columns no other warp reads any more. */
    GPU_MEMBER void keep_masked_out(char *keys, int slot, int left, int tail) const {
        int first = left - tail < 0 ? 0 : left - tail, last = left < FEW_KEYS ? left : FEW_KEYS;
        bool found = false;
        GPU_NO_UNROLL for (int i = first * 4 * BYTES + lane; i < last * 4 * BYTES; i += 32) { /* 16 bytes */
            uint4 v = *(const uint4 *)(keys + i / (4 * BYTES) * PITCH + warp * 64 * BYTES + i % (4 * BYTES) * 16);
            found |= is_odd(v.x) || is_odd(v.y) || is_odd(v.z) || is_odd(v.w);
        }
        if (!gpu_any(found)) return;
        GPU_NO_UNROLL for (int k = first; k < last; k++) add_key(keys + k * PITCH, slot, k, left);
        __syncwarp();
        GPU_NO_UNROLL for (int i = first * 4 * BYTES + lane; i < last * 4 * BYTES; i += 32)
            *(uint4 *)(keys + i / (4 * BYTES) * PITCH + warp * 64 * BYTES + i % (4 * BYTES) * 16) =
                make_uint4(0, 0, 0, 0);
        sm90_fence_async(); /* the next keys come here by the copy engine */
        __syncwarp();
    }

    /* Whether a word of values holds one that is not finite. */
    GPU_INLINE bool is_odd(uint32_t word) {
        constexpr uint32_t INFINITE = TYPE == SM90_BF16 ? 0x7f80 : 0x7c00;
        if (BYTES == 1) return (((word & 0x7f7f7f7fu) + 0x01010101u) & 0x80808080u) != 0;
        return (word & INFINITE) == INFINITE || (word >> 16 & INFINITE) == INFINITE;
    }

    GPU_MEMBER void add_key(const char *key, int slot, int k, int left) const {
        int place = k & 3; /* of the lane of the row's four that has its probability: see key() */
        uint2 pair = shared().slot[slot].step[k / 16][(lane & ~3) | place][k >> 3 & 1];
        GPU_UNROLL for (int r = 0; r < 2; r++) {
            float x = sm90_unpack<TYPE>(r ? pair.y : pair.x, k >> 2 & 1);
            if (k >= left - masked_tail[r]) continue;
            GPU_UNROLL for (int i = 0; i < 8; i++) {
                GPU_UNROLL for (int e = 0; e < 2; e++) o[i][2 * r + e] += x * value(key, column(i) + e * (3 - BYTES));
            }
        }
    }
    GPU_INLINE float value(const char *key, int column) {
        if (BYTES == 2) return sm90_unpack<TYPE>(*(const uint16_t *)(key + column * 2), 0);
        return sm90_unpack<SM90_F16>(sm90_widen_pair<SM90_F16, false>(*(const uint8_t *)(key + column), false), 0);
    }

    /* --- the item --- */

    GPU_MEMBER void release(const few_ring_t<KIND> &ring) const { sm90_barrier_arrive(ring.empty()); }

    GPU_MEMBER void output(const few_ring_t<KIND> &ring, int slot, int left, int tail) const {
        if (tail > 0 && left - tail < FEW_KEYS) keep_masked_out(ring.keys(), slot, left, tail);
        GPU_UNROLL for (int step = 0; step < 4; step++) add_values(ring.keys(), slot, step);
        release(ring);
    }

    /* Scores and probabilities of a tile. ADDS: and the output of the tile before, whose products run beside. */
    template <bool ADDS>
    GPU_MEMBER void tile(const few_ring_t<KIND> &ring, const few_ring_t<KIND> &before, int slot, int slot_before,
                         int left, int tail) {
        float part[2][2][4] = {}, s[4], x[4];
        if (ADDS && tail > 0 && left + FEW_KEYS - tail < FEW_KEYS)
            keep_masked_out(before.keys(), slot_before, left + FEW_KEYS, tail);
        sm90_barrier_wait(ring.full(), ring.parity);
        uint64_t exists = shared().exists[ring.stage];
        if (has_rope) multiply_rope(part, ring.keys());
        GPU_UNROLL for (int j = 0; j < 4; j++) {
            multiply(part, ring.keys(), j);
            if (ADDS && j == 3) add_values(before.keys(), slot_before, 0);
        }
        give_scores(part, s);
        if (ADDS) add_values(before.keys(), slot_before, 1);
        probabilities(s, x, slot, exists, left, tail);
        if (ADDS) {
            add_values(before.keys(), slot_before, 2);
            add_values(before.keys(), slot_before, 3);
            release(before);
        }
        settle(s, x, slot);
    }

    GPU_MEMBER void start(const few_item_t &item) {
        const ac_attention_params_t &p = items.p;
        const char *rows[2];
        GPU_UNROLL for (int r = 0; r < 2; r++) {
            mla_row_t at = items.row(item.work, item.range, row(r));
            rows[r] = p.q + at.query * p.q_row_stride + at.head * p.q_head_stride;
            masked_tail[r] = at.masked_tail;
            softmax[r] = mla_softmax_start();
        }
        if (__builtin_expect((((int64_t)p.q | p.q_row_stride | p.q_head_stride) & 15) == 0, 1))
            few_query<KIND, true>{p, {rows[0], rows[1]}, half(), lane & 3}.run(q, q_scale);
        else few_query<KIND, false>{p, {rows[0], rows[1]}, half(), lane & 3}.run(q, q_scale);
        if (!items_t::GRID) sm90_renew(q, (uint32_t)item.tiles >> 31);
        GPU_UNROLL for (int i = 0; i < 8; i++) {
            GPU_UNROLL for (int k = 0; k < 4; k++) o[i][k] = 0;
        }
    }

    /* The tiles of an item. */
    GPU_MEMBER void run(const few_item_t &item, int parity, few_ring_t<KIND> *ring) {
        int tail = item.range.masked_tail;
        int64_t keys = item.range.end - item.range.begin;
        auto left = [&]() { return (int)ac_min64(keys, MLA_FAR); };
        float scales[2] = {sm90_ask_scale(items.p.q_scale), sm90_ask_scale(items.p.kv_scale)};
        if (item.tiles > 0) start(item);
        /* With several items the loader is ahead, and the places are found here. */
        if (!items_t::GRID && warp * 32 + lane < FEW_ROWS)
            shared().place[parity][lane] = few_find_place(items, item, lane);
        score_scale = (float)(items.p.sm_scale * AC_LOG2_E * scales[0] * scales[1]);
        value_scale = scales[1];
        sync(); /* the barriers are initialised */
        if (item.tiles == 0) return;
        if constexpr (KIND::AHEAD) {
            few_ring_t<KIND> before = *ring;
            int slot = 0;
            tile<false>(*ring, before, slot, slot, left(), tail);
            ring->next();
            GPU_NO_UNROLL for (int i = 1; i < item.tiles; i++) {
                int slot_before = slot;
                keys -= FEW_KEYS;
                if (++slot == KIND::SLOTS) slot = 0;
                tile<true>(*ring, before, slot, slot_before, left(), tail);
                before = *ring;
                ring->next();
            }
            output(before, slot, left(), tail);
        } else {
            GPU_NO_UNROLL for (int i = 0; i < item.tiles; i++, keys -= FEW_KEYS) {
                tile<false>(*ring, *ring, 0, 0, left(), tail);
                output(*ring, 0, left(), tail);
                ring->next();
            }
        }
    }

    /* --- the way out --- */

    /* Stores the rows of an item. */
    GPU_MEMBER void store(const few_item_t &item, int parity) const {
        if (item.tiles > 0) {
            GPU_UNROLL for (int r = 0; r < 2; r++) {
                float sum = softmax[r].sum;
                sum += __shfl_xor_sync(0xffffffffu, sum, 1);
                sum += __shfl_xor_sync(0xffffffffu, sum, 2);
                if ((lane & 3) == 0) shared().sum[warp][row(r)] = sum;
            }
        }
        if (items_t::GRID) sm90_sync(FEW_SYNC_PLACES, 32 * FEW_WARPS + 32);
        else sync();
        GPU_UNROLL for (int r = 0; r < 2; r++) {
            mla_softmax_t whole = mla_softmax_start();
            if (item.tiles > 0) {
                whole.base = softmax[r].base;
                GPU_UNROLL for (int w = 0; w < FEW_WARPS; w++) whole.sum += shared().sum[w][row(r)];
            }
            mla_output_t out = mla_row_output(items.p, item.work, {}, whole, value_scale); /* but for its places */
            const few_place_t &place = shared().place[parity][row(r)];
            out.row = out.empty && item.work.partial_row >= 0 ? nullptr : place.row; /* as it says, too */
            out.lse = place.lse, out.dtype = place.dtype;
            if (warp == 0 && (lane & 3) == 0) mla_store_lse(out);
            store_row(out, r);
        }
    }

    /* The warp's 64 columns of a row: runs of four. */
    GPU_MEMBER void store_row(const mla_output_t &out, int r) const {
        float four[4][4];
        GPU_UNROLL for (int run = 0; run < 4; run++) columns(run, r, four[run]);
        if (!out.row) return;
        const bool narrow = out.dtype != AC_FLOAT32;
        const int first = BYTES == 2 && lane & 1 ? column(1) - 2 : column(0);
        if (__builtin_expect(((uintptr_t)out.row & (narrow ? 7 : 15)) == 0, 1)) {
            const float scale = out.empty ? 0 : out.scale;
            GPU_UNROLL for (int run = 0; run < 4; run++) {
                GPU_UNROLL for (int i = 0; i < 4; i++) four[run][i] = out.empty ? 0 : four[run][i] * scale;
            }
            if (!narrow) {
                GPU_UNROLL for (int run = 0; run < 4; run++)
                    *(float4 *)(out.row + (first + run * 16) * 4) =
                        make_float4(four[run][0], four[run][1], four[run][2], four[run][3]);
            } else {
                GPU_UNROLL for (int run = 0; run < 4; run++) {
                    const float(&v)[4] = four[run];
                    *(uint2 *)(out.row + (first + run * 16) * 2) =
                        out.dtype == AC_BFLOAT16 ? make_uint2(sm90_pack_bf16(v[0], v[1]), sm90_pack_bf16(v[2], v[3]))
                                                 : make_uint2(sm90_pack_f16(v[0], v[1]), sm90_pack_f16(v[2], v[3]));
                }
            }
            return;
        }
        GPU_UNROLL for (int run = 0; run < 4; run++) mla_store_columns(out, first + run * 16, four[run]);
    }

    /* Four columns in a row, out of o[2 run] and o[2 run + 1]: of fp8 the lane has them; else of two neighbours the
     * first takes the columns of o[2 run], the second those of o[2 run + 1]. */
    GPU_MEMBER void columns(int run, int r, float (&four)[4]) const {
        const float(&first)[4] = o[2 * run], (&second)[4] = o[2 * run + 1];
        const bool odd = lane & 1;
        GPU_UNROLL for (int k = 0; k < 2; k++) {
            float a = first[2 * r + k], b = second[2 * r + k];
            if (BYTES == 1) {
                four[2 * k] = a, four[2 * k + 1] = b;
            } else {
                float got = __shfl_xor_sync(0xffffffffu, odd ? a : b, 1);
                four[k] = odd ? got : a, four[2 + k] = odd ? b : got;
            }
        }
    }
};

#endif
