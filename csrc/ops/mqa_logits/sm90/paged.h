/* Keys in pages on sm_90a: a workgroup per unit, which walks over its share of the tiles. One warp, the walker, goes
 * ahead: it says what there is of the next unit (mqa_part_t) and has the copy engine bring tile after tile to shared
 * memory; three warps bring the unit's queries; the consumers, a warpgroup per tile in turn, multiply. Pages that are
 * no whole runs of 16 aligned keys are for the consumers to read.
 *
 * Barriers, which complete once per use of what they guard:
 *
 *     full, empty                of a tile's place: keys are there; they are in registers
 *     posted, ready, released    of a part's place: it is said; its queries are there; all consumers are done with it
 */
#ifndef AC_OPS_MQA_LOGITS_SM90_PAGED_H
#define AC_OPS_MQA_LOGITS_SM90_PAGED_H

#include "pages.h"

constexpr int MQA_PAGED_CONSUMERS = 3; /* warpgroups that multiply */
constexpr int MQA_PAGED_THREADS = MQA_PAGED_CONSUMERS * 128 + 128;
constexpr int MQA_LOADERS = 96; /* threads that bring queries */
constexpr int MQA_HEAD = 4;     /* tiles asked for before the first queries, which else came after many */

/* The threads that find the first tile: walker and loaders. */
struct mqa_producers_t {
    static constexpr int THREADS = 128;
    GPU_MEMBER static int thread() { return gpu_thread() - MQA_PAGED_CONSUMERS * 128; }
    GPU_MEMBER static void barrier() { sm90_sync(1, THREADS); }
};

/* What a workgroup has of a unit. */
struct mqa_part_t {
    int32_t count, first;       /* tiles; number of the first in the workgroup's share. count -1: there is no more */
    int32_t unit, tile, length; /* the first tile, and the unit's columns */
};

template <int KIND, int N> struct mqa_paged_t : mqa_pages_t<mqa_producers_t> {
    static constexpr int BLOCK_ROWS = KIND == SM90_E4M3 ? 4 : 2; /* query rows that share a pass over the keys */
    static constexpr int Q_ROWS = 2 * BLOCK_ROWS;                /* that there is place for */
    static constexpr int AT_ONCE = KIND == SM90_E4M3 ? 2 : 1; /* in a product: the fp16 operand takes more registers */
    static constexpr int PANEL = Q_ROWS * N * 128, Q_BYTES = PANEL * mqa_width<KIND>;
    /* A place of a tile is always the same consumer's: who waits for a barrier must have seen its last completion. */
    static constexpr int STAGES = 3 * MQA_PAGED_CONSUMERS, MAX_PARTS = Q_ROWS;
    static constexpr int STEP = MQA_PAGED_CONSUMERS * MQA_TILE; /* keys from a consumer's tile to its next */
    static constexpr int WEIGHTS_AT = Q_BYTES;
    static constexpr int STAGES_AT = WEIGHTS_AT + Q_ROWS * MQA_WEIGHTS;
    static constexpr int WINDOWS_AT = STAGES_AT + STAGES * STAGE_BYTES;
    static constexpr int PARTS_AT = WINDOWS_AT + Q_ROWS * (int)sizeof(int2);
    static constexpr int GROUPS_AT = PARTS_AT + MAX_PARTS * (int)sizeof(mqa_part_t);
    static constexpr int BARRIERS_AT = (GROUPS_AT + STAGES * 4 + 7) / 8 * 8;
    static constexpr int SHARED_AT = BARRIERS_AT + (2 * STAGES + 3 * MAX_PARTS) * 8;
    static constexpr int BYTES = SHARED_AT + (int)sizeof(mqa_shared_t);
    int part_shift; /* 2^part_shift rows are a part's */

    GPU_MEMBER int num_parts() const { return Q_ROWS >> part_shift; }
    GPU_MEMBER int place_of(int number) const { return number & (num_parts() - 1); } /* of a part */
    /* Whether the place has been used an odd number of times before. */
    GPU_MEMBER uint32_t turn_of(int number) const { return number / num_parts() & 1; }

    GPU_MEMBER static uint32_t shared() { return sm90_shared_address(gpu_shared); }
    GPU_MEMBER static uint32_t full(int stage) { return shared() + BARRIERS_AT + stage * 16; }
    GPU_MEMBER static uint32_t empty(int stage) { return full(stage) + 8; }
    GPU_MEMBER static uint32_t posted(int part) { return shared() + BARRIERS_AT + STAGES * 16 + part * 24; }
    GPU_MEMBER static uint32_t ready(int part) { return posted(part) + 8; }
    GPU_MEMBER static uint32_t released(int part) { return posted(part) + 16; }
    GPU_MEMBER static mqa_part_t &part_at(int part) { return ((mqa_part_t *)(gpu_shared + PARTS_AT))[part]; }
    GPU_MEMBER static uint32_t query_at(int row) { return shared() + row * N * 128; }
    GPU_MEMBER static uint32_t stage_at(int stage) { return shared() + STAGES_AT + stage * STAGE_BYTES; }
    /* Which of a tile's groups of 16 keys are there, as bits. */
    GPU_MEMBER static uint32_t &groups_at(int stage) { return ((uint32_t *)(gpu_shared + GROUPS_AT))[stage]; }
    /* Of a row of all parts' rows. */
    GPU_MEMBER static float *weights_at(int row) { return (float *)(gpu_shared + WEIGHTS_AT + row * MQA_WEIGHTS); }
    GPU_MEMBER static int2 &window_at(int row) { return ((int2 *)(gpu_shared + WINDOWS_AT))[row]; } /* seen, end */

    /* --- the walker: one warp --- */

    /* The first tile of a unit alone, and how many the workgroup has. Which they are does not depend on the length: the
     * first pages, one per lane, are asked for with it. */
    GPU_MEMBER int32_t find_alone(mqa_cursor_t &out, int32_t &page) const {
        const int32_t worker = (int32_t)gpu_block();
        uint32_t token;
        const uint32_t entry = ac_mqa_entry_of(&p.k, (int64_t)(worker + gpu_lane() * tile_step) * MQA_TILE, &token);
        page = (int32_t)mqa_load4_if(p.num_requests > 0 && entry < p.k.table_width, p.k.table + entry, ~0u);
        out.unit = 0, out.tile = worker, out.length = schedule.length_of(0);
        const int32_t tiles = schedule.tiles_in(out.length);
        return tiles > worker ? (tiles - 1 - worker) / tile_step + 1 : 0;
    }

    GPU_MEMBER void post(int number, const mqa_part_t &part) const {
        const int at = place_of(number);
        if (number >= num_parts()) sm90_barrier_wait(released(at), turn_of(number) ^ 1);
        if (gpu_lane() == 0) {
            part_at(at) = part;
            sm90_barrier_arrive(posted(at));
        }
    }

    /* A lane per place of a tile, which it fills whenever it is empty. The fewer the copies the better, for lanes issue
     * theirs one after the other: a tile is one copy where it is a page, two where a page has several tiles. */
    GPU_MEMBER void copy_keys(const mqa_part_t &part, int32_t first_page) const {
        const uint32_t stage = gpu_lane(), first = part.first, end = stage < STAGES ? first + part.count : 0;
        const bool whole = p.k.page_size % MQA_TILE == 0;
        const int32_t *table = p.k.table + schedule.group_of(part.unit) * p.k.table_stride;
        uint32_t number = first + (stage + STAGES - first % STAGES) % STAGES, token;
        uint32_t j = (part.tile + (number - first) * tile_step) * MQA_TILE;
        /* The page of key j + more, or -1; and the key's number in it. */
        auto look_up = [&](int32_t more) {
            const uint32_t entry = ac_mqa_entry_of(&p.k, (int64_t)j + more, &token);
            const bool there = number < end && j + (int64_t)more < part.length && entry < p.k.table_width;
            return (int32_t)mqa_load4_if(there, table + entry, ~0u);
        };
        auto exists = [&](int32_t page) { return page >= 0 && page < p.k.num_pages; };
        auto copy = [&](int32_t page, int32_t more, int keys) {
            const char *from = p.k.keys + page * p.k.page_stride + token * AC_MQA_DIM;
            const uint32_t to = stage_at(stage);
            const bool together = p.k.page_size == MQA_TILE; /* scales follow the keys */
            mqa_copy_once(to + more * AC_MQA_DIM, from, together ? STAGE_BYTES : keys * AC_MQA_DIM, full(stage));
            if (!together)
                mqa_copy_once(to + KEY_BYTES + more * 4, ac_mqa_scale(&p.k, page, token), keys * 4, full(stage));
        };
        int32_t page = first_page;
        if (is_alone()) ac_mqa_entry_of(&p.k, j, &token);
        else page = look_up(0);
        bool all = part.first > 0;
        while (__any_sync(0xffffffffu, number < end)) {
            if (!all) all = sm90_barrier_test(ready(0), 0);
            const bool place = number < end && (all || number < MQA_HEAD) &&
                               (number < STAGES || sm90_barrier_test(empty(stage), (number / STAGES - 1) & 1));
            if (!__any_sync(0xffffffffu, place)) { /* asleep: others are to issue their instructions */
                const uint32_t next = __reduce_min_sync(0xffffffffu, number < end ? number : UINT32_MAX);
                sm90_barrier_wait(all ? empty(next % STAGES) : ready(0), all ? (next / STAGES - 1) & 1 : 0);
            }
            if (!place) continue;
            if (whole) {
                const bool there = exists(page);
                groups_at(stage) = there ? 15 : 0;
                sm90_barrier_arrive_expect(full(stage), there ? STAGE_BYTES : 0);
                if (there) copy(page, 0, MQA_TILE);
            } else {
                int32_t pages[MQA_TILE / MQA_GROUP_KEYS];
                uint32_t found = 0;
        GPU_UNROLL for (int i = 0; i < MQA_TILE / MQA_GROUP_KEYS; i++) {
                    pages[i] = look_up(i * MQA_GROUP_KEYS);
                    found |= (uint32_t)exists(pages[i]) << i;
                }
                groups_at(stage) = found;
                sm90_barrier_arrive_expect(full(stage), __popc(found) * (STAGE_BYTES / 4));
                GPU_UNROLL for (int i = 0; i < MQA_TILE / MQA_GROUP_KEYS; i++) {
                    ac_mqa_entry_of(&p.k, (int64_t)j + i * MQA_GROUP_KEYS, &token);
                    if (found >> i & 1) copy(pages[i], i * MQA_GROUP_KEYS, MQA_GROUP_KEYS);
                }
            }
            number += STAGES, j += STAGES * MQA_TILE * tile_step;
            page = look_up(0);
        }
    }

    GPU_MEMBER void walk(int32_t count, mqa_cursor_t at, int32_t first_page) const {
        const int32_t none = schedule.num_units();
        int number = 0;
        int32_t first = 0;
        auto next_part = [&]() {
            mqa_part_t part;
            part.first = first, part.count = -1;
            if (first < count && at.unit < none) {
                part.count = (int32_t)ac_clamp64(schedule.tiles_in(at.length) - at.tile, 0, count - first);
                part.unit = at.unit, part.tile = at.tile, part.length = at.length;
                first += part.count;
                at.tile += part.count - 1;
                schedule.advance(at);
            }
            return part;
        };
        const bool early = num_parts() > 2;
        mqa_part_t part = next_part();
        post(number++, part);
        GPU_NO_UNROLL while (part.count >= 0) {
            mqa_part_t next;
            if (early) next = next_part(), post(number++, next);
            if (by_copies()) copy_keys(part, first_page);
            if (!early) next = next_part(), post(number++, next);
            part = next;
        }
    }

    /* --- the loaders --- */

    GPU_MEMBER void load_queries() const {
        const int thread = mqa_producers_t::thread() - 32;
        GPU_NO_UNROLL for (int number = 0;; number++) {
            const int at = place_of(number);
            const bool known = number == 0 && is_alone(); /* which unit it is, before the walker says it */
            if (!known) sm90_barrier_wait(posted(at), turn_of(number));
            if (known || part_at(at).count >= 0) load_unit(at << part_shift, known ? 0 : part_at(at).unit, thread);
            if (known) sm90_barrier_wait(posted(at), 0);
            sm90_copies_wait();
            sm90_fence_async();
            const bool last = part_at(at).count < 0; /* before the place can be given to another part */
            sm90_barrier_arrive(ready(at));
            if (last) return;
        }
    }

    GPU_MEMBER void load_unit(int place, int32_t unit, int thread) const {
        const int32_t group = schedule.group_of(unit);
        const int64_t first = first_row(unit);
        const int rows = rows_of(unit);
        GPU_NO_UNROLL for (int row = 1; row < rows && thread < p.num_heads; row++)
            sm90_prefetch(p.q + group * p.q_group_stride + (first_in_group(unit) + row) * p.q_row_stride +
                          thread * p.q_head_stride);
        GPU_NO_UNROLL for (int row = 0; row < rows; row++) {
            const int64_t in_group = first_in_group(unit) + row;
            if (thread < p.num_heads)
                sm90_copy4(sm90_shared_address(weights_at(place + row) + mqa_weight_place(thread)),
                           p.weights + (first + row) * p.weights_stride + thread, 4);
            mqa_load_query<KIND, N, PANEL, MQA_LOADERS>(
                p, p.q + group * p.q_group_stride + in_group * p.q_row_stride, query_at(place + row), thread);
            if (thread == 64 + row) {
                const ac_mqa_window_t window = ac_mqa_window(&p, group, in_group);
                window_at(place + row) = make_int2((int)window.seen, (int)window.end);
            }
        }
    }

    /* --- the consumers --- */

    /* Where a consumer is: its next tile, counted in the workgroup's share, and the tile's place. */
    struct turn_t {
        uint32_t tile, stage, phase;
        GPU_MEMBER void next() {
            tile += MQA_PAGED_CONSUMERS, stage += MQA_PAGED_CONSUMERS;
            if (stage >= STAGES) stage -= STAGES, phase ^= 1;
        }
    };

    /* The warp's 16 keys of a tile that the copy engine brought. */
    GPU_MEMBER void take_keys(const turn_t &at, const lane_t &lane, mqa_keys_t &keys) const {
        const char *place = gpu_shared + STAGES_AT + at.stage * STAGE_BYTES;
        /* Not kept in registers, of which two rows leave none. */
        const uint32_t next_half = 8 * (p.k.preshuffled ? 16 : AC_MQA_DIM), next_run = 4 * (p.k.preshuffled ? 256 : 16);
        sm90_barrier_wait(full(at.stage), at.phase);
        GPU_UNROLL for (int half = 0; half < 2; half++)
            GPU_UNROLL for (int i = 0; i < 2; i++)
                keys.run[half][i] = *(const uint4 *)(place + (lane.first + half * next_half + i * next_run));
        keys.scale = *(const float *)(place + lane.scale);
        keys.exists = groups_at(at.stage) >> (gpu_thread() / 32 % 4) & 1;
        sm90_barrier_arrive(empty(at.stage));
    }

    /* What a lane needs of the rows of a product: the upper half of a key's lanes stores the second. */
    struct rows_t {
        mqa_weights_t<N> weights; /* of the first */
        int2 window;
        float *out;
        int place;
    };
    GPU_MEMBER void take_rows(int place, int row, int rows, char *out, rows_t &own) const {
        const int mine = row + (AT_ONCE == 2 && row + 1 < rows && gpu_lane() & 2);
        own.weights.load(weights_at(place + row));
        own.window = window_at(place + mine);
        own.out = (float *)(out + mine * p.logits_stride);
        own.place = place + row;
    }

    GPU_MEMBER static void store(int2 window, float *out, int32_t j, float logit, bool exists) {
        if (j < window.y) out[j] = exists && j < window.x ? logit : GPU_MINUS_INFINITY;
    }

    /* A tile with one row or two. */
    GPU_MEMBER void compute(const mqa_operand_t<KIND> &keys, const mqa_keys_t &raw, const rows_t &own, int32_t j,
                            bool two) const {
        mqa_sums_t first, second;
        if (AT_ONCE == 2 && two) {
            float d[AT_ONCE * N / 2];
            mqa_weights_t<N> weights;
            mqa_start<KIND, AT_ONCE * N, PANEL>(d, keys, query_at(own.place));
            weights.load(weights_at(own.place + 1));
            mqa_wait<0>(d);
            first.add(d, own.weights);
            second.add(d + N / 2 * (AT_ONCE - 1), weights);
            store(own.window, own.out, j, mqa_total_of_two(first, second) * raw.scale, raw.exists);
        } else {
            float d[N / 2];
            mqa_start<KIND, N, PANEL>(d, keys, query_at(own.place));
            mqa_wait<0>(d);
            first.add(d, own.weights);
            const float logit = first.total() * raw.scale;
            if (!(gpu_lane() & 2)) store(own.window, own.out, j, logit, raw.exists);
        }
    }

    /* One row: two tiles at a time, of which the first is summed while the second is multiplied. Leaves one or none. */
    GPU_MEMBER void consume_one(const rows_t &own, const lane_t &lane, uint32_t end, turn_t &at,
                                int32_t &column) const {
        const bool upper = gpu_lane() & 2;
        const int32_t step = STEP * tile_step;
        GPU_NO_UNROLL for (; at.tile + MQA_PAGED_CONSUMERS < end; column += 2 * step) {
            mqa_keys_t keys[2];
            mqa_operand_t<KIND> a, b;
            mqa_sums_t first, second;
            float d[N / 2], e[N / 2];
            take_keys(at, lane, keys[0]);
            keys[0].use(false, a);
            mqa_start<KIND, N, PANEL>(d, a, query_at(own.place));
            at.next();
            take_keys(at, lane, keys[1]);
            keys[1].use(false, b);
            mqa_start<KIND, N, PANEL>(e, b, query_at(own.place));
            at.next();
            const float scale = upper ? keys[1].scale : keys[0].scale;
            const bool exists = upper ? keys[1].exists : keys[0].exists;
            mqa_wait<1>(d);
            first.add(d, own.weights);
            first.pin();
            mqa_wait<0>(e);
            second.add(e, own.weights);
            store(own.window, own.out, upper ? column + step : column, mqa_total_of_two(first, second) * scale, exists);
        }
    }

    /* More rows: two tiles and two rows at a time, the last of an odd number twice. Leaves as many tiles. */
    GPU_MEMBER void consume_more(int place, int rows, char *out, const lane_t &lane, uint32_t end, turn_t &at,
                                 int32_t &column) const {
        const bool upper = gpu_lane() & 2;
        const int32_t step = STEP * tile_step;
        GPU_NO_UNROLL for (; at.tile + MQA_PAGED_CONSUMERS < end; column += 2 * step) {
            mqa_operand_t<KIND> operands[2];
            mqa_keys_t keys[2];
            GPU_UNROLL for (int i = 0; i < 2; i++, at.next()) {
                take_keys(at, lane, keys[i]);
                keys[i].use(false, operands[i]);
            }
            const float scale = upper ? keys[1].scale : keys[0].scale;
            const bool exists = upper ? keys[1].exists : keys[0].exists;
            const int32_t j = upper ? column + step : column;
            GPU_NO_UNROLL for (int row = 0; row < rows; row += 2) {
                const int at_row[2] = {place + row, place + (row + 1 < rows ? row + 1 : row)};
                mqa_sums_t sums[2][2];
                mqa_two_by_two<KIND, N, PANEL>(operands, {query_at(at_row[0]), query_at(at_row[1])},
                                               {weights_at(at_row[0]), weights_at(at_row[1])}, p.num_heads == 0, sums);
                GPU_UNROLL for (int r = 0; r < 2; r++) {
                    float *to = (float *)(out + (at_row[r] - place) * p.logits_stride);
                    store(window_at(at_row[r]), to, j, mqa_total_of_two(sums[r][0], sums[r][1]) * scale, exists);
                }
            }
        }
    }

    GPU_MEMBER void consume_part(const mqa_part_t &part, int place, const lane_t &lane, turn_t &at) const {
        const bool copied = by_copies();
        const int rows = rows_of(part.unit), odd = gpu_lane() & 1; /* odd lanes store key r + 8, others r */
        const uint32_t end = part.first + part.count;
        char *out = p.logits + first_row(part.unit) * p.logits_stride;
        int32_t j = (part.tile + ((int32_t)at.tile - part.first) * tile_step) * MQA_TILE +
                    gpu_thread() / 32 % 4 * MQA_GROUP_KEYS + gpu_lane() / 4 + 8 * odd;
        if (KIND == SM90_E4M3 && copied && rows > 1) consume_more(place, rows, out, lane, end, at, j);
        rows_t own;
        take_rows(place, 0, rows, out, own);
        if (KIND == SM90_E4M3 && copied && rows == 1) consume_one(own, lane, end, at, j);
        GPU_NO_UNROLL for (; at.tile < end; at.next(), j += STEP * tile_step) {
            mqa_keys_t keys;
            mqa_operand_t<KIND> operand;
            if (copied) take_keys(at, lane, keys);
            else load_keys(part.unit, part.length, j - 8 * odd, keys);
            keys.use(p.k.dtype == AC_FLOAT8_E4M3FNUZ, operand);
            GPU_NO_UNROLL for (int row = 0; row < rows; row += AT_ONCE) {
                if (rows > AT_ONCE) take_rows(place, row, rows, out, own);
                compute(operand, keys, own, j, row + 1 < rows);
            }
        }
    }

    GPU_MEMBER void consume(int consumer) const {
        const lane_t mine = lane();
        turn_t at = {(uint32_t)consumer, (uint32_t)consumer, 0};
        GPU_NO_UNROLL for (int number = 0;; number++) {
            const int place = place_of(number);
            sm90_barrier_wait(ready(place), turn_of(number));
            const mqa_part_t part = part_at(place);
            if (part.count < 0) return;
            consume_part(part, place << part_shift, mine, at);
            __syncwarp(); /* or ptxas spills */
            sm90_barrier_arrive(released(place));
        }
    }

    /* --- all --- */

    GPU_MEMBER void set_up() const {
        if (p.num_heads < N)
            GPU_NO_UNROLL for (int i = gpu_thread(); i < STAGES_AT / 16; i += MQA_PAGED_CONSUMERS * 128)
                ((uint4 *)gpu_shared)[i] = make_uint4(0, 0, 0, 0);
        if (gpu_thread() == 0) {
            GPU_NO_UNROLL for (int stage = 0; stage < STAGES; stage++) {
                sm90_barrier_init(full(stage), 1);
                sm90_barrier_init(empty(stage), 128);
            }
            GPU_NO_UNROLL for (int part = 0; part < MAX_PARTS; part++) {
                sm90_barrier_init(posted(part), 1);
                sm90_barrier_init(ready(part), MQA_LOADERS);
                sm90_barrier_init(released(part), 128 * MQA_PAGED_CONSUMERS);
            }
        }
        sm90_fence_async();
    }

    /* While the lengths are on their way: brings to the L2 what is needed first if all lengths are alike. */
    GPU_MEMBER void prefetch() const {
        const int32_t tiles = schedule.tiles_in((int32_t)p.columns), thread = gpu_thread();
        uint32_t first;
        schedule.share_of((uint32_t)(schedule.num_units() * tiles), (uint32_t)gpu_block(), first);
        const int32_t unit = (int32_t)first / tiles, tile = (int32_t)first - unit * tiles,
                      group = schedule.group_of(unit);
        if (group >= p.num_requests) return;
        const char *q = p.q + group * p.q_group_stride + first_in_group(unit) * p.q_row_stride;
        uint32_t token;
        const uint32_t entry = ac_mqa_entry_of(&p.k, tile * MQA_TILE, &token);
        if (thread < p.num_heads) sm90_prefetch(q + thread * p.q_head_stride);
        else if (thread == 64) sm90_prefetch(p.weights + first_row(unit) * p.weights_stride);
        else if (thread == 96 && entry < p.k.table_width)
            sm90_prefetch(p.k.table + group * p.k.table_stride + entry);
    }

    GPU_MEMBER void run() {
        const int group = gpu_thread() / 128;
        if (group == MQA_PAGED_CONSUMERS) {
            sm90_fewer_registers<80>();
            const bool walks = mqa_producers_t::thread() < 32;
            mqa_cursor_t first;
            int32_t count = 0, page = -1;
            if (!is_alone()) count = schedule.find((uint32_t)gpu_block(), first);
            else if (walks) count = find_alone(first, page);
            gpu_barrier();
            if (walks) walk(count, first, page);
            else load_queries();
        } else {
            sm90_more_registers<144>();
            if (!is_alone()) prefetch();
            set_up();
            gpu_barrier();
            consume(group);
        }
        if (p.clean) schedule.template clean<MQA_PAGED_THREADS>(gpu_block());
    }
};

template <int KIND, int N> GPU_INLINE void mqa_paged(const ac_mqa_logits_params_t &p) {
    using paged = mqa_paged_t<KIND, N>;
    const int shift = p.block_rows > 2 ? 2 : p.block_rows - 1;
    const typename paged::schedule_t schedule = {p, *(mqa_shared_t *)(gpu_shared + paged::SHARED_AT)};
    paged body = {{p, schedule, schedule.num_units() == 1 ? (int32_t)p.num_workers : 1}, shift};
    body.run();
}

#endif
