/* Keys in pages on sm_90a: a workgroup is one warpgroup, which walks over its share of the tiles. */
#ifndef AC_OPS_MQA_LOGITS_SM90_PAGED_H
#define AC_OPS_MQA_LOGITS_SM90_PAGED_H

#include "../schedule.h"
#include "tile.h"

constexpr int MQA_PAGED_THREADS = 128;

template <int KIND, int N> struct mqa_paged_t {
    using shape = mqa_shape_t<KIND, N>;
    static constexpr int BLOCK_ROWS = KIND == SM90_E4M3 ? 4 : 3; /* query rows that share a pass over the keys */
    using schedule_t = mqa_schedule_t<MQA_TILE, MQA_PAGED_THREADS>;
    static constexpr int WEIGHTS_AT = BLOCK_ROWS * shape::Q_BYTES;
    static constexpr int WINDOWS_AT = WEIGHTS_AT + BLOCK_ROWS * shape::WEIGHTS;
    static constexpr int SHARED_AT = WINDOWS_AT + BLOCK_ROWS * 8;
    static constexpr int BYTES = SHARED_AT + (int)sizeof(mqa_shared_t);

    const ac_mqa_logits_params_t &p;
    schedule_t schedule;
    int rows;  /* of the unit at hand */
    char *out; /* its logits */

    GPU_MEMBER float *weights() const { return (float *)(gpu_shared + WEIGHTS_AT); }
    GPU_MEMBER int2 *windows() const { return (int2 *)(gpu_shared + WINDOWS_AT); } /* seen, end */

    /* Row r (half 0) or r + 8 of the warp's in a tile, as a key of the request. */
    GPU_MEMBER int32_t key_of(int32_t tile, int half) const {
        return tile * MQA_TILE + gpu_thread() / 32 * 16 + gpu_lane() / 4 + 8 * half;
    }

    GPU_MEMBER int64_t first_row(int32_t unit) const {
        const int32_t group = schedule.group_of(unit);
        return (int64_t)group * p.group_rows + (unit - group * p.row_blocks) * p.block_rows;
    }
    GPU_MEMBER int rows_of(int32_t unit) const {
        const int32_t block = unit - schedule.group_of(unit) * p.row_blocks;
        return (int)ac_min64(p.block_rows, p.group_rows - (int64_t)block * p.block_rows);
    }

    /* Where the keys of a warp, or of a thread, are as the table says. FAST: a page has whole runs of 16 keys, which
     * are those of a warp. Else a thread looks for each of its own two. */
    struct found_t {
        int32_t page[2]; /* not looked at yet: nothing waits for it. -1: there is none */
        int32_t left;    /* FAST: how many of the 16 keys there are */
    };

    GPU_MEMBER int32_t look_up(const mqa_cursor_t &at, int32_t j) const {
        const int32_t *table = p.k.table + schedule.group_of(at.unit) * p.k.table_stride;
        uint32_t token;
        const uint32_t entry = ac_mqa_entry_of(&p.k, j, &token);
        const bool there = at.unit < schedule.num_units() && j < at.length && entry < p.k.table_width;
        return (int32_t)mqa_load4_if(there, table + entry, ~0u);
    }

    template <bool FAST> GPU_MEMBER found_t find_pages(const mqa_cursor_t &at) const {
        found_t found;
        const int32_t first = at.tile * MQA_TILE + gpu_thread() / 32 * 16;
        found.left = at.length - first;
        found.page[0] = look_up(at, FAST ? first : key_of(at.tile, 0));
        found.page[1] = FAST ? 0 : look_up(at, key_of(at.tile, 1));
        return found;
    }

    template <bool FAST> GPU_MEMBER void load_keys(int32_t tile, const found_t &found, mqa_keys_t &keys) const {
        const bool odd = gpu_lane() & 1;
        if constexpr (FAST) {
            const int32_t first = tile * MQA_TILE + gpu_thread() / 32 * 16, row = gpu_lane() / 4;
            const bool page = found.page[0] >= 0 && found.page[0] < p.k.num_pages;
            uint32_t token;
            ac_mqa_entry_of(&p.k, first, &token);
            const char *base = p.k.keys + found.page[0] * p.k.page_stride + token * AC_MQA_DIM;
            const int distance = p.k.preshuffled ? 256 : 16, row_distance = p.k.preshuffled ? 16 : AC_MQA_DIM;
            base += row * row_distance + (gpu_lane() & 3) * distance;
        GPU_UNROLL for (int half = 0; half < 2; half++)
                GPU_UNROLL for (int i = 0; i < 2; i++)
                    keys.run[half][i] = sm90_load16_if(page && row + 8 * half < found.left,
                                                       base + half * 8 * row_distance + i * 4 * distance);
            const int own = row + 8 * odd;
            keys.exists = page && own < found.left;
            keys.scale = __uint_as_float(
                mqa_load4_if(keys.exists, ac_mqa_scale(&p.k, found.page[0], token + own)));
        } else {
            keys.exists = false;
            keys.scale = 0;
            GPU_UNROLL for (int half = 0; half < 2; half++) {
                uint32_t token;
                ac_mqa_entry_of(&p.k, key_of(tile, half), &token);
                const int32_t page = found.page[half];
                const bool there = page >= 0 && page < p.k.num_pages;
                keys.load(p.k, half, there, ac_mqa_key(&p.k, page, token));
                if (!there || odd != (half == 1)) continue;
                keys.exists = true;
                keys.scale = gpu_load<float>(ac_mqa_scale(&p.k, page, token));
            }
        }
    }

    GPU_MEMBER void load_unit(int32_t unit) {
        const int64_t first = first_row(unit);
        rows = rows_of(unit);
        out = p.logits + first * p.logits_stride;
        const int32_t group = schedule.group_of(unit);
        const uint32_t to = sm90_shared_address(gpu_shared);
        gpu_barrier(); /* the last unit's readers */
        GPU_NO_UNROLL for (int row = 0; row < rows; row++) {
            const int64_t in_group = first + row - (int64_t)group * p.group_rows;
            const char *from = p.q + group * p.q_group_stride + in_group * p.q_row_stride;
            GPU_NO_UNROLL for (int i = gpu_thread(); i < p.num_heads * 32; i += MQA_PAGED_THREADS)
                mqa_copy_query_word<KIND, N, true>(p, from, to + row * shape::Q_BYTES, i / 32, i % 32);
            if (gpu_thread() < p.num_heads)
                weights()[row * shape::WEIGHTS / 4 + mqa_weight_place(gpu_thread())] =
                    p.weights[(first + row) * p.weights_stride + gpu_thread()];
            if (gpu_thread() == row) {
                const ac_mqa_window_t window = ac_mqa_window(&p, group, in_group);
                windows()[row] = make_int2((int)window.seen, (int)window.end);
            }
        }
        sm90_copies_wait();
        sm90_fence_async();
        gpu_barrier();
    }

    /* Heads past the last are zeros, and so are their weights. */
    GPU_MEMBER void clear() const {
        GPU_NO_UNROLL for (int i = gpu_thread(); i < WINDOWS_AT / 16; i += MQA_PAGED_THREADS)
            ((uint4 *)gpu_shared)[i] = make_uint4(0, 0, 0, 0);
    }

    GPU_MEMBER void store(int32_t tile, int row, float logit, bool exists) const {
        const int32_t j = key_of(tile, gpu_lane() & 1);
        const int2 window = windows()[row];
        if ((gpu_lane() & 2) || j >= window.y) return;
        ((float *)(out + row * p.logits_stride))[j] = exists && j < window.x ? logit : GPU_MINUS_INFINITY;
    }

    /* One tile; `fetch` starts loads to `keys`, which is free by then. */
    template <class fetch_t> GPU_MEMBER void compute(int32_t tile, mqa_keys_t &keys, fetch_t fetch) const {
        const uint32_t query = sm90_shared_address(gpu_shared);
        mqa_operand_t<KIND> operand;
        mqa_sums_t sums;
        float d[2][MQA_PART / 2];
        keys.use(p.k.dtype == AC_FLOAT8_E4M3FNUZ, operand);
        const float scale = keys.scale;
        const bool exists = keys.exists;
        fetch();
        GPU_NO_UNROLL for (int row = 0; row < rows; row++) {
            const uint32_t heads = query + row * shape::Q_BYTES;
            mqa_start<KIND, N>(d[0], operand, heads, 0);
            if constexpr (N > MQA_PART) {
                mqa_start<KIND, N>(d[1], operand, heads, 1);
                add<1>(sums, d[0], row, 0);
                add<0>(sums, d[1], row, 1);
            } else {
                add<0>(sums, d[0], row, 0);
            }
            store(tile, row, sums.total() * scale, exists);
        }
    }

    /* Waits for all products but the latest RUNNING. */
    template <int RUNNING>
    GPU_MEMBER void add(mqa_sums_t &sums, float (&d)[MQA_PART / 2], int row, int part) const {
        sm90_wgmma_wait<RUNNING>();
        sm90_pin(d);
        sums.add(d, weights() + row * shape::WEIGHTS / 4, part);
    }

    /* Two sets of keys in turn: a tile is multiplied while the next one is under way, and the one after that into the
     * registers that the tile has just left; its pages were looked up a tile earlier. */
    template <bool FAST> GPU_MEMBER void walk(int32_t count, mqa_cursor_t ahead) {
        const int32_t none = schedule.num_units();
        mqa_keys_t keys[2];
        int32_t units[3], tiles[3], unit = -1;
        found_t pages;
        GPU_UNROLL for (int i = 0; i < 3; i++) {
            pages = find_pages<FAST>(ahead);
            units[i] = ahead.unit, tiles[i] = ahead.tile;
            if (i < 2) load_keys<FAST>(tiles[i], pages, keys[i]);
            if (i == 2) break;
            if (i + 1 < count && ahead.unit < none) schedule.advance(ahead);
            else ahead.unit = none;
        }
        GPU_NO_UNROLL for (int32_t done = 0; done < count; done += 2) {
            GPU_UNROLL for (int i = 0; i < 2; i++) {
                if (done + i >= count || units[0] >= none) return; /* lengths may have fallen meanwhile */
                if (units[0] != unit) load_unit(unit = units[0]);
                const int32_t tile = tiles[0];
                compute(tile, keys[i], [&] {
                    load_keys<FAST>(tiles[2], pages, keys[i]);
                    GPU_UNROLL for (int k = 0; k < 2; k++) units[k] = units[k + 1], tiles[k] = tiles[k + 1];
                    if (done + i + 3 < count && ahead.unit < none) schedule.advance(ahead);
                    else ahead.unit = none;
                    units[2] = ahead.unit, tiles[2] = ahead.tile;
                    pages = find_pages<FAST>(ahead);
                });
            }
        }
    }

    /* While the lengths are on their way: brings to the L2 what this worker needs first if all lengths are alike. */
    GPU_MEMBER void prefetch() const {
        const int64_t tiles = ac_ceil_div64(p.columns, MQA_TILE);
        const int64_t first = schedule.num_units() * tiles * gpu_block() / p.num_workers;
        const int32_t unit = (int32_t)(first / tiles), tile = (int32_t)(first - unit * tiles);
        const int32_t group = schedule.group_of(unit);
        if (group >= p.num_requests) return;
        const int64_t in_group = first_row(unit) - (int64_t)group * p.group_rows;
        uint32_t token;
        const uint32_t entry = ac_mqa_entry_of(&p.k, key_of(tile, 0), &token);
        if (gpu_thread() < p.num_heads)
            sm90_prefetch(p.q + group * p.q_group_stride + in_group * p.q_row_stride + gpu_thread() * p.q_head_stride);
        else if (gpu_thread() % 32 == 0) sm90_prefetch(p.weights + first_row(unit) * p.weights_stride);
        if (gpu_lane() == 0 && entry < p.k.table_width) sm90_prefetch(p.k.table + group * p.k.table_stride + entry);
    }

    GPU_MEMBER void run() {
        mqa_cursor_t first;
        prefetch();
        const int32_t count = schedule.find(gpu_block(), first);
        if (count > 0) {
            if (p.num_heads < N) clear();
            if (p.k.alignment == 16 && p.k.page_size % 16 == 0) walk<true>(count, first);
            else walk<false>(count, first);
        }
        if (p.clean) schedule.clean(gpu_block());
    }
};

template <int KIND, int N> GPU_INLINE void mqa_paged(const ac_mqa_logits_params_t &p) {
    using paged = mqa_paged_t<KIND, N>;
    paged body = {p, {p, *(mqa_shared_t *)(gpu_shared + paged::SHARED_AT)}, 0, nullptr};
    body.run();
}

#endif
