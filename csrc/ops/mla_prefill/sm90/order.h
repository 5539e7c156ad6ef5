/* The order in which workgroups take tiles. Of the grid: request after request, a few heads at a time, so many that
 * their keys and values stay in the L2, and of these the longest tiles first. The producer has few registers, and a
 * division of 64 bits takes many of them. */
#ifndef AC_OPS_MLA_PREFILL_SM90_ORDER_H
#define AC_OPS_MLA_PREFILL_SM90_ORDER_H

#include "tile.h"

constexpr float PREFILL_L2_BYTES = 24 << 20; /* of the L2's 50 MB, for keys and values */

/* Heads of a request whose tiles are done together; whole groups that share a head of keys. */
template <class KIND> GPU_INLINE uint32_t prefill_heads_together(const ac_mla_prefill_params_t &p, int64_t keys) {
    float bytes = (float)keys * ((KIND::D + KIND::DV) * KIND::BYTES);
    int kv_heads = (int)gpu_max(1, fminf(PREFILL_L2_BYTES / gpu_max(bytes, 1), (float)p.num_kv_heads));
    return min(kv_heads * p.group_size, p.num_heads);
}

template <class KIND>
GPU_INLINE bool prefill_next_of_grid(const ac_mla_prefill_params_t &p, prefill_cursor_t *cursor,
                                     ac_prefill_tile_t *out) {
    const int64_t of_request = (int64_t)p.num_heads * p.request_tiles;
    for (;;) {
        for (; cursor->tile >= of_request; cursor->tile -= of_request) cursor->outer++;
        if (cursor->outer >= p.num_requests) return false;
        uint32_t rest = (uint32_t)cursor->tile; /* a tile has 128 rows in memory: there are not 2^32 */
        cursor->tile += p.workgroups;
        uint32_t heads = prefill_heads_together<KIND>(p, ac_prefill_request(&p, cursor->outer).keys);
        uint32_t section = rest / (heads * p.request_tiles), first = section * heads;
        rest -= first * p.request_tiles;
        heads = min(heads, p.num_heads - first);
        uint32_t tile = rest / heads, head = first + rest - tile * heads;
        if (ac_prefill_grid_tile(&p, cursor->outer, (int32_t)head, p.request_tiles - 1 - tile, PREFILL_ROWS, out))
            return true;
    }
}

/* Of the worker's items: head after head. */
GPU_INLINE bool prefill_next_of_list(const ac_mla_prefill_params_t &p, prefill_cursor_t *cursor,
                                     ac_prefill_tile_t *out) {
    const int64_t begin = ac_clamp64(p.work_indptr[gpu_block()], 0, p.num_items);
    const int64_t count = ac_clamp64(p.work_indptr[gpu_block() + 1], begin, p.num_items) - begin;
    for (; cursor->outer < count; cursor->outer++, cursor->tile = 0) {
        ac_prefill_item_t item;
        if (!ac_prefill_item(&p, begin + cursor->outer, PREFILL_ROWS, &item)) continue;
        if (cursor->tile >= (int64_t)item.head_tiles * item.num_heads) continue;
        const uint32_t head = (uint32_t)cursor->tile / (uint32_t)item.head_tiles;
        const int64_t from = item.from + ((uint32_t)cursor->tile - head * item.head_tiles) * PREFILL_ROWS;
        cursor->tile++;
        out->partial_row = item.partial_row < 0 ? -1 : item.partial_row + (from - item.from);
        if (ac_prefill_tile(&p, &item.request, from, item.rows_end, item.begin, item.end, item.first_head + head,
                            PREFILL_ROWS, out))
            return true;
    }
    return false;
}

template <class KIND>
GPU_INLINE bool prefill_next(const ac_mla_prefill_params_t &p, prefill_cursor_t *cursor, ac_prefill_tile_t *out) {
    if (p.work_indptr) return prefill_next_of_list(p, cursor, out);
    return prefill_next_of_grid<KIND>(p, cursor, out);
}

#endif
