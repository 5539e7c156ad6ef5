/* Keys in pages on gfx942 and gfx950: a workgroup walks over its share of the tiles, each wave over 64 keys of a tile.
 * */
#ifndef AC_OPS_MQA_LOGITS_GFX9_PAGED_H
#define AC_OPS_MQA_LOGITS_GFX9_PAGED_H

#include "wave.h"

template <class matrix_t, int HEAD_TILES> struct mqa_paged_t {
    using wave_t = mqa_gfx9_t<matrix_t, HEAD_TILES>;
    using raw_keys_t = typename wave_t::raw_keys_t;
    using schedule_t = mqa_schedule_t<MQA_KEYS, mqa_everyone_t<MQA_THREADS>>;
    /* Query rows that share a pass over the keys: two workgroups share the LDS of gfx942, 64 KB. */
#if defined(__gfx942__)
    static constexpr int BLOCK_ROWS = wave_t::OWN ? 3 : 2;
#else
    static constexpr int BLOCK_ROWS = wave_t::OWN ? 4 : 2;
#endif
    static constexpr int WEIGHTS_AT = BLOCK_ROWS * wave_t::Q_BYTES;
    static constexpr int WINDOWS_AT = WEIGHTS_AT + BLOCK_ROWS * wave_t::WEIGHT_BYTES;
    static constexpr int SHARED_AT = WINDOWS_AT + BLOCK_ROWS * 8;
    static constexpr int BYTES = SHARED_AT + (int)sizeof(mqa_shared_t);

    /* The unit whose queries are in LDS. */
    struct unit_t {
        int32_t number, group;
        int64_t first_row; /* in the group */
        int rows;
    };
    struct window_t {
        int32_t seen, end; /* see ac_mqa_window_t */
    };

    const ac_mqa_logits_params_t &p;
    schedule_t schedule;

    GPU_MEMBER static int32_t key_of(int32_t tile) { return tile * MQA_KEYS + gpu_thread(); }

    GPU_MEMBER unit_t unit_of(int32_t number) const {
        const int32_t group = schedule.group_of(number);
        const int64_t first_row = (int64_t)(number - group * p.row_blocks) * p.block_rows;
        return {number, group, first_row, (int)ac_min64(p.block_rows, p.group_rows - first_row)};
    }

    /* The table's entry for the lane's key, or -1. It is not looked at before the next step, while it is on its way. */
    GPU_MEMBER int32_t find_page(const mqa_cursor_t &at) const {
        const int32_t j = key_of(at.tile);
        uint32_t token;
        if (at.unit >= schedule.num_units() || j >= at.length) return -1;
        const uint32_t entry = ac_mqa_entry_of(&p.k, j, &token);
        if (entry >= p.k.table_width) return -1;
        return ac_mqa_entry(p.k.table, schedule.group_of(at.unit) * p.k.table_stride + entry);
    }
    GPU_MEMBER bool exists(int32_t page) const { return page >= 0 && page < p.k.num_pages; }

    /* A lane whose key has no page loads what another has, and nothing of it is stored: loads under a condition would
     * have to be waited for one by one. */
    GPU_MEMBER void load_keys(const mqa_cursor_t &at, int32_t page, raw_keys_t &out) const {
        const bool has_page = exists(page);
        const uint64_t have = __builtin_amdgcn_ballot_w64(has_page);
        if (!have) return;
        const int other = __builtin_ctzll(have);
        uint32_t token;
        ac_mqa_entry_of(&p.k, key_of(at.tile), &token);
        const int32_t others_page = __builtin_amdgcn_readlane(page, other);
        const uint32_t others_token = (uint32_t)__builtin_amdgcn_readlane((int)token, other);
        page = has_page ? page : others_page;
        token = has_page ? token : others_token;
        out.scale = gpu_load<float>(ac_mqa_scale(&p.k, page, token));
        wave_t::load_runs(p.k, ac_mqa_key(&p.k, page, token), out);
    }

    /* All loads at once, then all stores: one after the other each would wait for memory. */
    GPU_MEMBER unit_t load_unit(int32_t number) const {
        constexpr int RUNS = wave_t::HEADS * 8 / MQA_THREADS;
        static_assert(BLOCK_ROWS * wave_t::HEADS <= MQA_THREADS, "a thread has one weight");
        const unit_t unit = unit_of(number);
        const char *q = p.q + unit.group * p.q_group_stride + unit.first_row * p.q_row_stride;
        u32x4_t bytes[BLOCK_ROWS][RUNS];
        GPU_UNROLL for (int row = 0; row < BLOCK_ROWS; row++)
            GPU_UNROLL for (int r = 0; r < RUNS; r++) {
                const int i = r * MQA_THREADS + gpu_thread(), head = i / 8;
                bytes[row][r] = u32x4_t{0, 0, 0, 0};
                if (row < unit.rows && head < p.num_heads)
                    bytes[row][r] = gpu_load<u32x4_t>(q + row * p.q_row_stride + head * p.q_head_stride + i % 8 * 16);
            }
        const int row = gpu_thread() / wave_t::HEADS, head = gpu_thread() % wave_t::HEADS;
        const float *weights = p.weights + (unit.group * p.group_rows + unit.first_row + row) * p.weights_stride;
        const float weight = row < unit.rows && head < p.num_heads ? gpu_load<float>(weights + head) : 0;
        ac_mqa_window_t window = {0, 0, 0};
        if (gpu_thread() < unit.rows) window = ac_mqa_window(&p, unit.group, unit.first_row + gpu_thread());
        gpu_barrier(); /* the last unit's readers */
        GPU_UNROLL for (int at = 0; at < BLOCK_ROWS; at++)
            GPU_UNROLL for (int r = 0; r < RUNS; r++) {
                const int i = r * MQA_THREADS + gpu_thread();
                if (at < unit.rows) wave_t::store_query(at * wave_t::Q_BYTES, i / 8, i % 8, bytes[at][r], p.q_dtype);
            }
        if (row < unit.rows) lds<float>(WEIGHTS_AT + row * wave_t::WEIGHT_BYTES + head * 4) = weight;
        if (gpu_thread() < unit.rows)
            lds<window_t>(WINDOWS_AT + gpu_thread() * 8) = {(int32_t)window.seen, (int32_t)window.end};
        gpu_barrier();
        return unit;
    }

    GPU_MEMBER void compute(const unit_t &unit, int32_t tile, const raw_keys_t &raw, bool has_page) const {
        const int32_t j = key_of(tile);
        const float scale = raw.scale * wave_t::factor(p);
        char *out = p.logits + (unit.group * p.group_rows + unit.first_row) * p.logits_stride + tile * (4LL * MQA_KEYS);
        typename wave_t::keys_t keys;
        wave_t::convert_keys(p, raw, keys);
        GPU_NO_UNROLL for (int row = 0; row < unit.rows; row++, out += p.logits_stride) {
            const window_t window = lds<window_t>(WINDOWS_AT + row * 8);
            const float sum = wave_t::score(row * wave_t::Q_BYTES, WEIGHTS_AT + row * wave_t::WEIGHT_BYTES, keys);
            const bool sees = has_page && j < window.seen;
            if (j < window.end) gpu_store<float>(out + gpu_thread() * 4u, sees ? sum * scale : GPU_MINUS_INFINITY);
        }
    }

    /* Two sets of keys in turn: while one is multiplied the next is loaded, and before that the pages of the one after
     * it are looked up: loads end in their order. */
    GPU_MEMBER void run() {
        mqa_cursor_t at[3];
        const int32_t count = gpu_uniform(schedule.find((uint32_t)gpu_block(), at[0]));
        if (count > 0) {
            raw_keys_t raw[2] = {};
            int32_t page[3];
            unit_t unit = {-1, 0, 0, 0};
            at[0] = uniform(at[0]);
            page[0] = find_page(at[0]);
            load_keys(at[0], page[0], raw[0]);
            at[1] = at[0];
            step(1, count, at[1]);
            page[1] = find_page(at[1]);
            GPU_NO_UNROLL for (int32_t done = 0; done < count; done += 2) {
        GPU_UNROLL for (int i = 0; i < 2; i++) {
                    if (done + i >= count || at[0].unit >= schedule.num_units()) break;
                    at[2] = at[1];
                    step(done + i + 2, count, at[2]);
                    page[2] = find_page(at[2]);
                    load_keys(at[1], page[1], raw[1 - i]);
                    if (at[0].unit != unit.number) unit = load_unit(at[0].unit);
                    compute(unit, at[0].tile, raw[i], exists(page[0]));
                    at[0] = at[1], at[1] = at[2], page[0] = page[1], page[1] = page[2];
                }
            }
        }
        if (p.clean) schedule.template clean<MQA_THREADS>(gpu_block());
    }

    /* To tile number `number` of the worker's `count`. */
    GPU_MEMBER void step(int32_t number, int32_t count, mqa_cursor_t &at) const {
        if (number >= count || at.unit >= schedule.num_units()) {
            at.unit = schedule.num_units();
        } else {
            schedule.advance(at);
            at = uniform(at);
        }
    }
    /* The same in scalar registers: it comes out of memory. */
    GPU_MEMBER static mqa_cursor_t uniform(const mqa_cursor_t &at) {
        return {gpu_uniform(at.unit), gpu_uniform(at.tile), gpu_uniform(at.length)};
    }
};

template <class matrix_t, int HEAD_TILES> GPU_INLINE void mqa_paged(const ac_mqa_logits_params_t &p) {
    using paged = mqa_paged_t<matrix_t, HEAD_TILES>;
    paged body = {p, {p, *(mqa_shared_t *)(gpu_shared + paged::SHARED_AT)}};
    body.run();
}

#endif
