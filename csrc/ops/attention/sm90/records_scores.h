/* The warpgroup of scores and probabilities. A lane has the places g and g + 8 of its warp's 16, g = lane / 4, and of
 * every run of 8 rows two: accumulator 4 j + 2 r + e is place g + 8 r, row 8 j + 2 (lane % 4) + e. */
#ifndef AC_OPS_ATTENTION_SM90_RECORDS_SCORES_H
#define AC_OPS_ATTENTION_SM90_RECORDS_SCORES_H

#include "records_query.h"

GPU_INLINE void sm90_store_matrices_turned(uint32_t to, const uint32_t *v) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(v[0]),
                 "r"(v[1]), "r"(v[2]), "r"(v[3]) : "memory");
}

template <int N, class items_t> struct records_scores {
    typedef records_shared_t<N> shared_t;
    static constexpr int STAGES = shared_t::STAGES, ROWS = N / 4, SCORES = N / 2, SUMS = ROWS / 4;
    static constexpr mla_headroom_t ROOM = MLA_F16_HEADROOM;

    const items_t &items_of;
    const ac_attention_params_t &p;
    records_side_t<N> &side;
    int warp, lane;  /* see records_thread() */
    int stage, slot; /* of the next tile */
    uint32_t stage_parity, slot_parity;
    int items;          /* that had tiles */
    float (&sum)[SUMS]; /* of the rows row(first_sum() + i): a share, those of two lanes make the warp's */

    GPU_MEMBER void sync() const { sm90_sync(RECORDS_SYNC_SCORES, 128); }
    GPU_MEMBER int thread() const { return warp * 32 + lane; }
    GPU_MEMBER void find_thread() {
        int thread = records_thread();
        warp = thread / 32, lane = thread % 32;
    }
    GPU_MEMBER int place(int r) const { return warp * 16 + lane / 4 + 8 * r; }
    GPU_MEMBER int row(int i) const { return i / 2 * 8 + (lane & 3) * 2 + (i & 1); } /* the lane's i-th */
    GPU_MEMBER int first_sum() const { return (lane >> 2 & 1) * (ROWS / 2) + (lane >> 3 & 1) * (ROWS / 4); }
    GPU_MEMBER const char *record(int place) const {
        return records_shared<N>().stage[stage] + records_key(place) * RECORD_BYTES;
    }
    GPU_MEMBER float scale(int r, int block) const {
        return *(const float *)(record(place(r)) + RECORD_SCALES + block * 4);
    }
    GPU_MEMBER uint64_t query(int panel) const {
        return sm90_descriptor(sm90_shared_address(records_shared<N>().query) + panel * shared_t::PANEL, 16);
    }

    /* --- scores --- */

    /* Elements 64 panel to 64 panel + 63 of the lane's two keys: 16 of each. */
    struct raw_t {
        uint4 key[2];
    };
    GPU_MEMBER raw_t load(int panel) const {
        raw_t raw;
        GPU_UNROLL for (int r = 0; r < 2; r++)
            raw.key[r] = *(const uint4 *)(record(place(r)) + panel * 64 + (lane & 3) * 16);
        return raw;
    }
    GPU_INLINE void widen(const raw_t &raw, uint32_t (&a)[4][4]) {
        GPU_UNROLL for (int r = 0; r < 2; r++) {
            uint4 key = raw.key[r];
            sm90_widen_word(key.x, a[0][r], a[0][r + 2]);
            sm90_widen_word(key.y, a[1][r], a[1][r + 2]);
            sm90_widen_word(key.z, a[2][r], a[2][r + 2]);
            sm90_widen_word(key.w, a[3][r], a[3][r + 2]);
        }
    }

    /* Four steps of 16 elements. */
    template <int TYPE>
    GPU_MEMBER void multiply(float (&d)[SCORES], const uint32_t (&a)[4][4], int panel, bool more) const {
        uint64_t b = query(panel);
        sm90_pin(d);
        sm90_wgmma_fence();
        GPU_UNROLL for (int k = 0; k < 4; k++)
            sm90_wgmma_turned<TYPE>(d, a[k], sm90_advance(b, 32 * k), more || k > 0);
        sm90_wgmma_commit();
    }

    GPU_MEMBER void load_rope(uint32_t (&a)[4][4]) const {
        int at = warp * 16 + (lane >> 3 & 1) * 8 + (lane & 7);
        uint32_t from = sm90_shared_address(record(at)) + RECORD_ROPE + (lane >> 4) * 16;
        GPU_UNROLL for (int k = 0; k < 4; k++) sm90_load_matrices(from + k * 32, a[k]);
    }

    /* What is left of fp16 queries in bf16; but an infinite key times the first part alone has the sign. */
    GPU_MEMBER void add_rest(float (&s)[SCORES], const uint32_t (&rope)[4][4], float (&part)[SCORES]) const {
        multiply<SM90_BF16>(part, rope, RECORDS_REST_PANEL, false);
        sm90_wgmma_wait<0>();
        sm90_pin(s);
        sm90_pin(part);
        GPU_UNROLL for (int i = 0; i < SCORES; i++)
            if (fabsf(s[i]) <= GPU_FLT_MAX) s[i] += part[i];
    }

    GPU_MEMBER void add_block(float (&s)[SCORES], float (&part)[SCORES], int block) const {
        float scales[2] = {scale(0, block), scale(1, block)};
        sm90_pin(part);
        GPU_UNROLL for (int i = 0; i < SCORES; i++) s[i] += scales[i >> 1 & 1] * part[i];
    }

    /* The products of each block of 128 elements are multiplied by the key's scale of the block. While one panel is
     * multiplied, the next is widened; with two sets of accumulators also while a block is scaled. */
    GPU_MEMBER void score(float (&s)[SCORES]) const {
        constexpr int SETS = N == 64 ? 1 : 2; /* 64 rows: there are no registers for a second */
        uint32_t a[2][4][4];
        float part[SETS][SCORES];
        load_rope(a[1]);
        multiply<SM90_BF16>(s, a[1], RECORDS_ROPE_PANEL, false);
        widen(load(0), a[0]);
        if (p.q_dtype == AC_FLOAT16) add_rest(s, a[1], part[0]);
        GPU_UNROLL for (int i = 0; i < 8; i++) {
            int set = i / 2 % SETS;
            multiply<SM90_F16>(part[set], a[i & 1], i, i & 1);
            if (i < 7) {
                raw_t raw = load(i + 1);
                sm90_wgmma_wait<1>();
                sm90_pin(a[~i & 1]);
                if (i == 0) sm90_pin(s);
                widen(raw, a[~i & 1]);
                if (SETS == 2 && i >= 2 && i % 2 == 0) add_block(s, part[set ^ 1], i / 2 - 1);
                if (SETS == 2 || i % 2 == 0) continue;
            }
            sm90_wgmma_wait<0>();
            add_block(s, part[set], i / 2);
        }
        sm90_pin(a[1]);
    }

    GPU_MEMBER void mask(float (&s)[SCORES], uint64_t exists, int left) const {
        GPU_UNROLL for (int i = 0; i < ROWS; i++) {
            int seen = left - side.masked_tail[items & 1][row(i)];
            GPU_UNROLL for (int r = 0; r < 2; r++) {
                int key = records_key(place(r));
                if (!(exists >> key & 1) || key >= seen) s[i / 2 * 4 + r * 2 + (i & 1)] = GPU_MINUS_INFINITY;
            }
        }
    }

    /* --- what seldom changes: bases, and units of the scales --- */

    GPU_INLINE bool is_odd(float scale) {
        return !(scale == 0 || (fabsf(scale) >= RECORDS_LEAST && fabsf(scale) <= RECORDS_MOST));
    }

    GPU_MEMBER int move(const float (&s)[SCORES], bool is_first, float (&scales)[2]) {
        int flags = 0;
        bool moved = false, odd = false;
        GPU_UNROLL for (int i = 0; i < ROWS; i++) {
            float top = gpu_max(s[i / 2 * 4 + (i & 1)], s[i / 2 * 4 + 2 + (i & 1)]);
            GPU_UNROLL for (int distance = 4; distance < 32; distance *= 2)
                top = gpu_max(top, __shfl_xor_sync(0xffffffffu, top, distance));
            if (lane < 4) side.warp_top[warp][row(i)] = top;
        }
        if (is_first) {
            float top = 0;
            GPU_UNROLL for (int r = 0; r < 2; r++) {
                float x = fabsf(scale(r, lane & 3));
                if (x <= GPU_FLT_MAX) top = gpu_max(top, x);
            }
            GPU_UNROLL for (int distance = 4; distance < 32; distance *= 2)
                top = gpu_max(top, __shfl_xor_sync(0xffffffffu, top, distance));
            if (lane < 4) side.warp_scale[warp][lane] = top;
        }
        sync();
        if (thread() < N) {
            int r = thread();
            float top = gpu_max(gpu_max(side.warp_top[0][r], side.warp_top[1][r]),
                                gpu_max(side.warp_top[2][r], side.warp_top[3][r]));
            mla_softmax_t running = {side.row[r].base, 0};
            float factor = mla_move_base(top, ROOM, &running);
            side.row[r].base = running.base;
            side.factor[slot][r] = factor;
            moved = factor != 1;
        }
        if (is_first && thread() >= 64 && thread() < 68) {
            int b = thread() - 64;
            float top = gpu_max(gpu_max(side.warp_scale[0][b], side.warp_scale[1][b]),
                                gpu_max(side.warp_scale[2][b], side.warp_scale[3][b]));
            int exponent = (int)(__float_as_uint(top) >> 23);
            exponent = exponent < 20 ? 127 : exponent > 234 ? 234 : exponent; /* nothing, or almost: 1 */
            side.inverse[b] = __uint_as_float((uint32_t)(254 - exponent) << 23);
        }
        if (thread() == 127) side.odd[slot] = 0;
        if (sm90_sync_or(RECORDS_SYNC_SCORES, 128, moved) && !is_first) flags |= RECORDS_RESCALE;
        GPU_UNROLL for (int i = 0; i < SUMS; i++) sum[i] *= side.factor[slot][row(first_sum() + i)];
        GPU_UNROLL for (int r = 0; r < 2; r++) {
            scales[r] = scale(r, lane & 3) * side.inverse[lane & 3];
            if (!is_odd(scales[r])) continue;
            int key = records_key(place(r));
            atomicOr((uint32_t *)&side.odd[slot] + (key >> 5), 1u << (key & 31));
            scales[r] = 0;
            odd = true;
        }
        if (thread() < 4) side.unit[slot][thread()] = side.inverse[thread()];
        if (sm90_sync_or(RECORDS_SYNC_SCORES, 128, odd)) flags |= RECORDS_ODD;
        return flags;
    }

    /* --- probabilities --- */

    /* Whether a score lies so far above its row's base that the base has to move. */
    GPU_MEMBER bool exceeds(const float (&s)[SCORES]) const {
        float over[4] = {GPU_MINUS_INFINITY, GPU_MINUS_INFINITY, GPU_MINUS_INFINITY, GPU_MINUS_INFINITY};
        GPU_UNROLL for (int i = 0; i < ROWS; i++) {
            float top = gpu_max(s[i / 2 * 4 + (i & 1)], s[i / 2 * 4 + 2 + (i & 1)]);
            over[i & 3] = gpu_max(over[i & 3], top - side.row[row(i)].base);
        }
        return gpu_max(gpu_max(over[0], over[1]), gpu_max(over[2], over[3])) > ROOM.above;
    }

    /* Adds the lane's rows to the sums: two lanes exchange halves of theirs, two such pairs halves of that. */
    GPU_MEMBER void add_sums(const float (&x)[ROWS]) const {
        float half[ROWS / 2];
        bool upper = lane >> 2 & 1;
        GPU_UNROLL for (int i = 0; i < ROWS / 2; i++) {
            float a = x[i], b = x[ROWS / 2 + i];
            half[i] = (upper ? b : a) + __shfl_xor_sync(0xffffffffu, upper ? a : b, 4);
        }
        upper = lane >> 3 & 1;
        GPU_UNROLL for (int i = 0; i < SUMS; i++) {
            float a = half[i], b = half[SUMS + i];
            sum[i] += (upper ? b : a) + __shfl_xor_sync(0xffffffffu, upper ? a : b, 8);
        }
    }

    GPU_MEMBER void publish(float (&s)[SCORES], const float (&scales)[2]) {
        uint32_t to = sm90_shared_address(records_shared<N>().slot[slot]);
        float sums[ROWS];
        GPU_UNROLL for (int j = 0; j < N / 8; j += 2) {
            uint32_t packed[4];
            GPU_UNROLL for (int i = 2 * j; i < 2 * j + 4; i++) {
                float base = side.row[row(i)].base;
                float &a = s[i / 2 * 4 + (i & 1)], &b = s[i / 2 * 4 + 2 + (i & 1)];
                a = sm90_exp2(a - base), b = sm90_exp2(b - base);
                sums[i] = a + b;
            }
            GPU_UNROLL for (int k = 0; k < 4; k++) packed[k] = sm90_pack_f16(s[4 * j + 2 * k], s[4 * j + 2 * k + 1]);
            int r = lane >> 3 & 1, to_row = (j + (lane >> 4)) * 8 + (lane & 7);
            sm90_store_matrices_turned(records_chunk(to, to_row, warp * 2 + r), packed);
        }
        GPU_UNROLL for (int r = 0; r < 2; r++)
            side.scale[slot][lane & 3][records_scale_at(place(r))] = (uint16_t)gpu_f16(scales[r]);
        sm90_fence_async();
        sm90_barrier_arrive(sm90_shared_address(&side.scored[slot]));
        add_sums(sums);
    }

    GPU_MEMBER void next_slot() {
        slot ^= 1;
        if (slot == 0) slot_parity ^= 1;
    }
    GPU_MEMBER void wait_slot() const {
        sm90_barrier_wait(sm90_shared_address(&side.multiplied[slot]), slot_parity ^ 1);
    }

    /* `left` keys from the tile's first to the end of the range; the range's first row does not see the last `tail`. */
    GPU_MEMBER void tile(int left, int tail, bool is_first, bool is_last) {
        float s[SCORES], scales[2];
        find_thread();
        sm90_barrier_wait(sm90_shared_address(&side.full[stage]), stage_parity);
        score(s);
        uint64_t exists = side.exists[stage];
        int flags = (is_first ? RECORDS_FIRST : 0) | (is_last ? RECORDS_LAST : 0);
        bool moves = is_first;
        GPU_UNROLL for (int i = 0; i < ROWS; i++) {
            float by = side.row[row(i)].scale;
            s[i / 2 * 4 + (i & 1)] *= by, s[i / 2 * 4 + 2 + (i & 1)] *= by;
        }
        if (exists != ~(uint64_t)0 || left - tail < RECORD_KEYS) mask(s, exists, left);
        wait_slot();
        moves |= exceeds(s);
        GPU_UNROLL for (int r = 0; r < 2; r++) {
            scales[r] = scale(r, lane & 3) * side.inverse[lane & 3];
            moves |= is_odd(scales[r]);
        }
        if (sm90_sync_or(RECORDS_SYNC_SCORES, 128, moves)) flags |= move(s, is_first, scales);
        if (left - tail < RECORD_KEYS && tail > 0) flags |= RECORDS_TAIL;
        if (thread() == 0) side.flags[slot] = flags, side.left[slot] = left;
        publish(s, scales);
        next_slot();
        if (++stage == STAGES) stage = 0, stage_parity ^= 1;
    }

    /* --- items --- */

    /* What follows from the item alone, of the rows and of the sums. */
    GPU_MEMBER void prepare(const records_item_t &item) {
        if (thread() < N) {
            side.row[thread()].base = mla_softmax_start().base;
            side.masked_tail[items & 1][thread()] = items_of.row(item.work, item.range, thread()).masked_tail;
        }
        if (thread() < 4) side.inverse[thread()] = 1;
        GPU_UNROLL for (int i = 0; i < SUMS; i++) sum[i] = 0;
    }

    /* An item after the first, whose queries all warps have loaded. */
    GPU_MEMBER void start(const records_item_t &item) {
        find_thread();
        sync(); /* nobody reads the rows of the item before any more */
        float scale = p.sm_scale * (p.q_scale.pointer ? *p.q_scale.pointer : p.q_scale.value) *
                      (p.kv_scale.pointer ? *p.kv_scale.pointer : p.kv_scale.value);
        if (item.tiles > 0) {
            records_query<N, 4, items_t>{p, items_of, item, warp, lane}.run((float)(scale * AC_LOG2_E));
            prepare(item);
        }
        if (thread() < N) side.place[thread()] = records_find_place(items_of, item, thread());
        sm90_fence_async();
        sync();
    }

    /* The whole sums, and what goes where. */
    GPU_MEMBER void finish(const records_item_t &item, bool is_first) {
        find_thread();
        float value_scale = p.kv_scale.pointer ? *p.kv_scale.pointer : p.kv_scale.value;
        if (item.tiles > 0) {
            GPU_UNROLL for (int i = 0; i < SUMS; i++) {
                sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], 16);
                if (lane < 16) side.warp_top[warp][row(first_sum() + i)] = sum[i];
            }
            sync();
            if (items > 0) sm90_barrier_wait(sm90_shared_address(&side.stored), (items & 1) ^ 1);
        }
        if (is_first) sm90_sync(RECORDS_SYNC_PLACES, 256);
        if (thread() < N) {
            int r = thread();
            mla_softmax_t whole = mla_softmax_start();
            if (item.tiles > 0) {
                whole.base = side.row[r].base;
                whole.sum = side.warp_top[0][r] + side.warp_top[1][r] + side.warp_top[2][r] + side.warp_top[3][r];
            }
            records_out_t out = {};
            if (r < item.work.num_rows) {
                mla_output_t at = mla_row_output(p, item.work, {}, whole, value_scale); /* but for its places */
                at.row = at.empty && item.work.partial_row >= 0 ? nullptr : side.place[r].row; /* as it says, too */
                at.lse = side.place[r].lse;
                mla_store_lse(at);
                out = {at.row, at.scale, (int16_t)at.dtype, (int16_t)at.empty};
            }
            if (item.tiles > 0) side.out[r] = out;
            else if (out.row) store_zeros(out);
        }
        if (item.tiles == 0) return;
        if (thread() == 0) side.out_dtype = pairs_dtype(side.out[0].dtype);
        if (thread() < 4) side.out_unit[thread()] = 1 / side.inverse[thread()];
        sm90_barrier_arrive(sm90_shared_address(&side.summed));
        items++;
    }

    /* See records_side_t::out_dtype. Partials have no strides of their own. */
    GPU_MEMBER int pairs_dtype(int dtype) const {
        int64_t at = dtype == AC_FLOAT32 && p.partial_o ? (int64_t)p.partial_o
                                                        : (int64_t)p.o | p.o_row_stride | p.o_head_stride;
        return at & (dtype == AC_FLOAT32 ? 7 : 3) ? AC_DTYPE_NONE : dtype;
    }

    /* A row without keys. */
    GPU_INLINE void store_zeros(const records_out_t &out) {
        int bytes = out.dtype == AC_FLOAT32 ? 4 : 2;
        GPU_NO_UNROLL for (int i = 0; i < AC_MLA_DV * bytes; i += 4) gpu_store<uint32_t>(out.row + i, 0);
    }

    GPU_MEMBER void run(const records_item_t &item, bool is_first) {
        int tail = item.range.masked_tail;
        int64_t left = item.range.end - item.range.begin;
        GPU_NO_UNROLL for (int i = 0; i < item.tiles; i++, left -= RECORD_KEYS)
            tile((int)ac_min64(left, MLA_FAR), tail, i == 0, i + 1 == item.tiles);
        finish(item, is_first);
    }

    /* Tells the others that nothing follows. */
    GPU_MEMBER void end() {
        wait_slot();
        if (thread() == 0) side.flags[slot] = RECORDS_END;
        sm90_barrier_arrive(sm90_shared_address(&side.scored[slot]));
    }
};

#endif
