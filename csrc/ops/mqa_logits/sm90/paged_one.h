/* Keys in pages on sm_90a for a call of a single row: small workgroups, three to a multiprocessor, each of which walks
 * over its share of the tiles. One warp, the walker, goes ahead: it has the copy engine bring tile after tile to shared
 * memory and says beside the first one of a unit what there is of it. Four warps, the consumers, bring the unit's
 * queries and multiply. Pages that are no whole runs of 16 aligned keys are for the consumers to read. A short call has
 * less code on its way than in paged.h. It serves any call, but several rows slower than paged.h, see NOTES_sm90.md.
 *
 * A tile's place has two barriers, which complete once per use: full, its keys are there; empty, they are in registers.
 * Both sides count by a place's number and a parity that changes when the numbers come round. The walker waits for the
 * parity before its own, which a new barrier answers at once. A place is filled again only after all consumers have
 * arrived for its last use, and each of them arrives after it has seen that use: neither side is more than one
 * completion behind, which is what a parity can tell. */
#ifndef AC_OPS_MQA_LOGITS_SM90_PAGED_ONE_H
#define AC_OPS_MQA_LOGITS_SM90_PAGED_ONE_H

#include "pages.h"

constexpr int MQA_ONE_THREADS = 128 + 32; /* consumers, walker */
constexpr int MQA_ONE_PER_UNIT = 3;       /* workgroups */

/* The threads that find the first tile. */
struct mqa_consumers_t {
    static constexpr int THREADS = 128;
    GPU_MEMBER static int thread() { return gpu_thread(); }
    GPU_MEMBER static void barrier() { sm90_sync(1, THREADS); }
};

/* What a workgroup has of a unit. */
struct mqa_run_t {
    int32_t count;              /* tiles; -1: there is no more */
    int32_t unit, tile, length; /* the first tile, and the unit's columns */
};

/* A query row: its columns [0, seen) have logits, [seen, end) are -inf. */
struct __align__(16) mqa_row_t {
    int32_t seen, end;
    float *logits;
};

/* Where walker or consumers are among the places. */
struct mqa_place_t {
    uint32_t stage, phase;
    template <int STAGES> GPU_MEMBER void next() { stage = stage + 1 < STAGES ? stage + 1 : 0, phase ^= stage == 0; }
};

template <int KIND, int N> struct mqa_paged_one_t : mqa_pages_t<mqa_consumers_t> {
    static_assert(KIND == SM90_E4M3, "two tiles at a time take the registers");
    static constexpr int ROWS = 4; /* query rows that there is place for */
    static constexpr int PANEL = ROWS * N * 128;
    static constexpr int STAGES = 3;
    static constexpr int WEIGHTS_AT = PANEL;
    static constexpr int STAGES_AT = WEIGHTS_AT + ROWS * MQA_WEIGHTS;
    static constexpr int ROWS_AT = STAGES_AT + STAGES * STAGE_BYTES;
    static constexpr int PARTS_AT = ROWS_AT + ROWS * (int)sizeof(mqa_row_t);
    static constexpr int GROUPS_AT = PARTS_AT + (STAGES + 1) * (int)sizeof(mqa_run_t);
    static constexpr int BARRIERS_AT = (GROUPS_AT + STAGES * 4 + 7) / 8 * 8;
    static constexpr int SHARED_AT = BARRIERS_AT + 2 * STAGES * 8;
    static constexpr int BYTES = SHARED_AT + (int)sizeof(mqa_shared_t);

    GPU_MEMBER static uint32_t shared() { return sm90_shared_address(gpu_shared); }
    GPU_MEMBER static uint32_t full(int stage) { return shared() + BARRIERS_AT + stage * 16; }
    GPU_MEMBER static uint32_t empty(int stage) { return full(stage) + 8; }
    /* Of the unit whose first tile is in the place; and what the workgroup begins with. */
    GPU_MEMBER static mqa_run_t &part_at(int stage) { return ((mqa_run_t *)(gpu_shared + PARTS_AT))[stage]; }
    GPU_MEMBER static mqa_run_t &beginning() { return part_at(STAGES); }
    GPU_MEMBER static uint32_t query_at(int row) { return shared() + row * N * 128; }
    GPU_MEMBER static uint32_t stage_at(int stage) { return shared() + STAGES_AT + stage * STAGE_BYTES; }
    /* Which of a tile's groups of 16 keys are there, as bits. */
    GPU_MEMBER static uint32_t &groups_at(int stage) { return ((uint32_t *)(gpu_shared + GROUPS_AT))[stage]; }
    GPU_MEMBER static float *weights_at(int row) { return (float *)(gpu_shared + WEIGHTS_AT + row * MQA_WEIGHTS); }
    GPU_MEMBER static mqa_row_t &row_at(int row) { return ((mqa_row_t *)(gpu_shared + ROWS_AT))[row]; }

    GPU_MEMBER const char *query_of(int32_t unit) const { /* of its first row */
        return p.q + schedule.group_of(unit) * p.q_group_stride + first_in_group(unit) * p.q_row_stride;
    }
    /* Lanes of the walker per tile, one for every copy, as a power of two. */
    GPU_MEMBER int lanes_shift() const { return p.k.page_size % MQA_TILE == 0 ? 0 : 2; }

    /* --- the walker: one warp --- */

    /* The lane's first key where the warp looks at as many tiles of a unit as it has lanes for. */
    GPU_MEMBER uint32_t own_key(int32_t tile) const {
        const int shift = lanes_shift(), lane = gpu_lane();
        return (uint32_t)(tile + (lane >> shift) * tile_step) * MQA_TILE + (lane & ((1 << shift) - 1)) * MQA_GROUP_KEYS;
    }
    /* Its page, or -1; untrusted. */
    GPU_MEMBER int32_t own_page(int32_t unit, int32_t tile) const {
        const int32_t group = schedule.group_of(unit);
        uint32_t token;
        const uint32_t entry = ac_mqa_entry_of(&p.k, own_key(tile), &token);
        const bool there = group < p.num_requests && entry < p.k.table_width;
        return (int32_t)mqa_load4_if(there, p.k.table + group * p.k.table_stride + entry, ~0u);
    }

    /* The lane that has a page asks for it, as soon as the place is empty. Pages are read a turn of the lanes ahead.
     * Lanes issue their copies one after the other, 60 clocks each: a tile is one copy where it is a page, two where a
     * page has several tiles. */
    GPU_MEMBER void copy_keys(const mqa_run_t &part, int32_t page, mqa_place_t &at) const {
        const int shift = lanes_shift(), tiles = 32 >> shift, lane = gpu_lane();
        const bool together = p.k.page_size == MQA_TILE; /* scales follow the keys */
        const uint32_t mask = (1u << (1 << shift)) - 1, share = STAGE_BYTES >> shift;
        int32_t tile = part.tile, next = page;
        uint32_t found = 0, token = 0;
        GPU_NO_UNROLL for (int32_t i = 0; i < part.count; i++, at.next<STAGES>()) {
            const int first = (i & (tiles - 1)) << shift;
            if (first == 0) {
                const uint32_t j = own_key(tile);
                page = next;
                ac_mqa_entry_of(&p.k, j, &token);
                found = __ballot_sync(0xffffffffu, page >= 0 && page < p.k.num_pages && j < (uint32_t)part.length);
                if (!by_copies()) found = 0;
                tile += tiles * tile_step;
                if (i + tiles < part.count) next = own_page(part.unit, tile);
            }
            const uint32_t there = found >> first & mask;
            sm90_barrier_wait(empty(at.stage), at.phase ^ 1);
            if (lane == first) {
                if (i == 0) part_at(at.stage) = part;
                groups_at(at.stage) = shift ? there : there * 15;
                sm90_barrier_arrive_expect(full(at.stage), __popc(there) * share);
            }
            if (lane >= first && there >> (lane - first) & 1) {
                const int more = (lane - first) * MQA_GROUP_KEYS, keys = MQA_TILE >> shift;
                const char *from = p.k.keys + page * p.k.page_stride + token * AC_MQA_DIM;
                const uint32_t to = stage_at(at.stage), bytes = together ? STAGE_BYTES : keys * AC_MQA_DIM;
                mqa_copy_once(to + more * AC_MQA_DIM, from, bytes, full(at.stage));
                if (!together)
                    mqa_copy_once(to + KEY_BYTES + more * 4, ac_mqa_scale(&p.k, page, token), keys * 4, full(at.stage));
            }
        }
    }

    GPU_MEMBER void walk() const {
        const int32_t none = schedule.num_units(), worker = (int32_t)gpu_block();
        int32_t count, page = -1;
        mqa_cursor_t at = {0, worker, 0};
        if (is_alone()) { /* which tiles it has does not depend on the length */
            page = own_page(0, worker);
            at.length = schedule.length_of(0);
        }
        sm90_sync(2, MQA_ONE_THREADS);
        if (is_alone()) {
            const int32_t tiles = schedule.tiles_in(at.length);
            count = tiles > worker ? (tiles - 1 - worker) / tile_step + 1 : 0;
        } else {
            const mqa_run_t from = beginning();
            count = from.count;
            at = {from.unit, from.tile, from.length};
            if (count > 0) page = own_page(at.unit, at.tile);
        }
        mqa_place_t place = {0, 0};
        GPU_NO_UNROLL while (count > 0 && at.unit < none) {
            const int32_t left = schedule.tiles_in(at.length) - at.tile;
            const mqa_run_t part = {(int32_t)ac_clamp64(left, 0, count), at.unit, at.tile, at.length};
            copy_keys(part, page, place);
            count -= part.count;
            at.tile += part.count - 1;
            if (count == 0) break;
            schedule.advance(at);
            if (at.unit >= none) break;
            page = own_page(at.unit, at.tile);
            prefetch_queries(at.unit, gpu_lane(), 32);
        }
        sm90_barrier_wait(empty(place.stage), place.phase ^ 1);
        if (gpu_lane() == 0) {
            part_at(place.stage) = {-1, -1, 0, 0};
            sm90_barrier_arrive(full(place.stage));
        }
    }

    GPU_MEMBER void prefetch_queries(int32_t unit, int thread, int threads) const {
        const char *q = query_of(unit);
        const int rows = rows_of(unit);
        GPU_NO_UNROLL for (int row = 0; row < rows; row++, q += p.q_row_stride)
            GPU_NO_UNROLL for (int head = thread; head < p.num_heads; head += threads)
                sm90_prefetch(q + head * p.q_head_stride);
    }

    /* --- the consumers --- */

    /* By all of them, once nobody multiplies with the last ones. */
    GPU_MEMBER void bring_queries(int32_t unit) const {
        const int thread = gpu_thread(), rows = unit < schedule.num_units() ? rows_of(unit) : 0;
        const int32_t group = schedule.group_of(unit), in_group = first_in_group(unit);
        const float *weights = p.weights + first_row(unit) * p.weights_stride;
        const char *q = query_of(unit);
        mqa_consumers_t::barrier();
        GPU_NO_UNROLL for (int row = 0; row < rows; row++, q += p.q_row_stride, weights += p.weights_stride) {
            if (thread < p.num_heads)
                sm90_copy4(sm90_shared_address(weights_at(row) + mqa_weight_place(thread)), weights + thread, 4);
            mqa_load_query<KIND, N, PANEL, mqa_consumers_t::THREADS>(p, q, query_at(row), thread);
            if (thread == 64 + row) {
                const ac_mqa_window_t window = ac_mqa_window(&p, group, in_group + row);
                float *out = (float *)(p.logits + (first_row(unit) + row) * p.logits_stride);
                row_at(row) = {(int32_t)window.seen, (int32_t)window.end, out};
            }
        }
        sm90_copies_wait();
        sm90_fence_async();
        mqa_consumers_t::barrier();
    }

    /* The warp's 16 keys of a tile that the copy engine brought. */
    GPU_MEMBER void take_keys(const mqa_place_t &at, const lane_t &lane, mqa_keys_t &keys, bool scales = true) const {
        uint32_t from = STAGES_AT + at.stage * STAGE_BYTES + lane.first;
        const char *const scale = gpu_shared + STAGES_AT + at.stage * STAGE_BYTES + lane.scale;
        /* Not kept in registers, of which two tiles leave none. */
        const uint32_t next_half = 8 * (p.k.preshuffled ? 16 : AC_MQA_DIM), next_run = 4 * (p.k.preshuffled ? 256 : 16);
        asm volatile("" : "+r"(from)); /* nor are sums with it */
        sm90_barrier_wait(full(at.stage), at.phase);
        GPU_UNROLL for (int half = 0; half < 2; half++)
            GPU_UNROLL for (int i = 0; i < 2; i++)
                keys.run[half][i] = *(const uint4 *)(gpu_shared + from + half * next_half + i * next_run);
        if (scales) {
            keys.scale = *(const float *)scale;
            keys.exists = groups_at(at.stage) >> (gpu_thread() / 32 % 4) & 1;
        }
        sm90_barrier_arrive(empty(at.stage));
    }

    /* The same where it brings none. */
    GPU_MEMBER void read_keys(const mqa_run_t &part, int32_t first, const mqa_place_t &at, mqa_keys_t &keys) const {
        sm90_barrier_wait(full(at.stage), at.phase);
        sm90_barrier_arrive(empty(at.stage));
        load_keys(part.unit, part.length, first, keys);
    }

    GPU_MEMBER static void store(int row, int32_t j, float logit, bool exists) {
        const mqa_row_t to = row_at(row);
        if (j < to.end) to.logits[j] = exists && j < to.seen ? logit : GPU_MINUS_INFINITY;
    }

    /* A tile with one row or two. */
    GPU_MEMBER void compute(const mqa_operand_t<KIND> &keys, const mqa_keys_t &raw, int row, int32_t j,
                            bool two) const {
        mqa_sums_t first, second;
        mqa_weights_t<N> weights;
        float d[N / 2];
        mqa_start<KIND, N, PANEL>(d, keys, query_at(row));
        if (two) { /* the first is summed while the second is multiplied */
            float e[N / 2];
            mqa_start<KIND, N, PANEL>(e, keys, query_at(row + 1));
            weights.load(weights_at(row));
            mqa_wait<1>(d);
            first.add(d, weights);
            first.finish(p.num_heads == 0);
            weights.load(weights_at(row + 1));
            mqa_wait<0>(e);
            second.add(e, weights);
            store(row + (gpu_lane() >> 1 & 1), j, mqa_total_of_two(first, second) * raw.scale, raw.exists);
        } else {
            weights.load(weights_at(row));
            mqa_wait<0>(d);
            first.add(d, weights);
            const float logit = first.total() * raw.scale;
            if (!(gpu_lane() & 2)) store(row, j, logit, raw.exists);
        }
    }

    /* Two tiles with one row: the first is summed while the second is multiplied. */
    GPU_MEMBER void compute_two(const lane_t &lane, mqa_place_t &at, int32_t column) const {
        const bool upper = gpu_lane() & 2;
        mqa_keys_t keys[2];
        mqa_operand_t<KIND> a, b;
        mqa_sums_t first, second;
        mqa_weights_t<N> weights;
        float d[N / 2], e[N / 2];
        take_keys(at, lane, keys[0]);
        keys[0].use(false, a);
        mqa_start<KIND, N, PANEL>(d, a, query_at(0));
        at.next<STAGES>();
        keys[1].scale = keys[0].scale, keys[1].exists = keys[0].exists;
        take_keys(at, lane, keys[1], upper);
        keys[1].use(false, b);
        mqa_start<KIND, N, PANEL>(e, b, query_at(0));
        at.next<STAGES>();
        mqa_wait<1>(d);
        weights.load(weights_at(0)); /* not before: then registers are free */
        first.add(d, weights);
        first.finish(p.num_heads == 0);
        mqa_wait<0>(e);
        second.add(e, weights);
        store(0, upper ? column + MQA_TILE * tile_step : column,
              mqa_total_of_two(first, second) * keys[1].scale, keys[1].exists);
    }

    GPU_MEMBER void consume_part(const mqa_run_t &part, mqa_place_t &at) const {
        const lane_t mine = lane();
        const bool copied = by_copies();
        const int rows = rows_of(part.unit), odd = gpu_lane() & 1; /* odd lanes store key r + 8, others r */
        const bool in_pairs = copied && rows == 1;
        int32_t j = part.tile * MQA_TILE + gpu_thread() / 32 * MQA_GROUP_KEYS + gpu_lane() / 4 + 8 * odd;
        int32_t pairs = in_pairs ? part.count / 2 : 0, left = part.count - 2 * pairs;
        GPU_NO_UNROLL for (; left > 0; left--, at.next<STAGES>(), j += MQA_TILE * tile_step) {
            mqa_keys_t keys;
            mqa_operand_t<KIND> operand;
            if (copied) take_keys(at, mine, keys);
            else read_keys(part, j - 8 * odd, at, keys);
            keys.use(false, operand);
            GPU_NO_UNROLL for (int row = 0; row < rows; row += 2)
                compute(operand, keys, row, j, row + 1 < rows);
        }
        GPU_NO_UNROLL for (; pairs > 0; pairs--, j += 2 * MQA_TILE * tile_step) compute_two(mine, at, j);
    }

    GPU_MEMBER void consume(int32_t unit) const {
        mqa_place_t at = {0, 0};
        GPU_NO_UNROLL for (;;) {
            bring_queries(unit);
            sm90_barrier_wait(full(at.stage), at.phase);
            mqa_run_t part = part_at(at.stage);
            if (part.unit == unit) {
                consume_part(part, at);
                sm90_barrier_wait(full(at.stage), at.phase);
                part = part_at(at.stage);
            }
            if (part.count < 0) return;
            unit = part.unit;
        }
    }

    /* --- all --- */

    GPU_MEMBER void set_up() const {
        if (p.num_heads < N)
            GPU_NO_UNROLL for (int i = gpu_thread(); i < STAGES_AT / 16; i += mqa_consumers_t::THREADS)
                ((uint4 *)gpu_shared)[i] = make_uint4(0, 0, 0, 0);
        if (gpu_thread() == 0) {
            GPU_UNROLL for (int stage = 0; stage < STAGES; stage++) {
                sm90_barrier_init(full(stage), 1);
                sm90_barrier_init(empty(stage), mqa_consumers_t::THREADS);
            }
            sm90_fence_async();
        }
    }

    /* While the lengths are on their way: brings to the L2 what is needed first if all lengths are alike. */
    GPU_MEMBER void prefetch() const {
        const int32_t tiles = schedule.tiles_in((int32_t)p.columns), thread = gpu_thread();
        uint32_t first;
        schedule.share_of((uint32_t)(schedule.num_units() * tiles), (uint32_t)gpu_block(), first);
        const int32_t unit = (int32_t)first / tiles, tile = (int32_t)first - unit * tiles,
                      group = schedule.group_of(unit);
        if (group >= p.num_requests) return;
        uint32_t token;
        const uint32_t entry = ac_mqa_entry_of(&p.k, tile * MQA_TILE, &token);
        if (thread < p.num_heads) sm90_prefetch(query_of(unit) + thread * p.q_head_stride);
        else if (thread == 64) sm90_prefetch(p.weights + first_row(unit) * p.weights_stride);
        else if (thread == 96 && entry < p.k.table_width)
            sm90_prefetch(p.k.table + group * p.k.table_stride + entry);
    }

    GPU_MEMBER void run() const {
        if (gpu_thread() >= mqa_consumers_t::THREADS) {
            walk();
        } else {
            mqa_cursor_t first = {0, 0, 0};
            set_up();
            if (!is_alone()) {
                prefetch();
                const int32_t count = schedule.find((uint32_t)gpu_block(), first);
                if (gpu_thread() == 0) beginning() = {count, first.unit, first.tile, first.length};
            }
            sm90_sync_arrive(2, MQA_ONE_THREADS);
            consume(first.unit);
        }
        if (p.clean) schedule.template clean<MQA_ONE_THREADS>(gpu_block());
    }
};

template <int KIND, int N> GPU_INLINE void mqa_paged_one(const ac_mqa_logits_params_t &p) {
    using paged = mqa_paged_one_t<KIND, N>;
    const typename paged::schedule_t schedule = {p, *(mqa_shared_t *)(gpu_shared + paged::SHARED_AT)};
    const paged body = {{p, schedule, schedule.num_units() == 1 ? (int32_t)p.num_workers : 1}};
    body.run();
}

#endif
