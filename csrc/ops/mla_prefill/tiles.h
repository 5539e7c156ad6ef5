/* The tiles of a workgroup, whatever they come from: the grid, or the items of a worker's list, each of which has heads
 * and more query rows than a tile. The same code runs in the kernels of every device. */
#ifndef AC_OPS_MLA_PREFILL_TILES_H
#define AC_OPS_MLA_PREFILL_TILES_H

#include "../attention/work_list.h"
#include "tile.h"

/* What a list's item says, clamped to its request. */
typedef struct ac_prefill_item_t {
    ac_prefill_request_t request;
    int64_t partial_row;
    int64_t from, rows_end, begin, end; /* rows and keys of the request */
    int32_t first_head, num_heads;
    int32_t head_tiles; /* of each head */
} ac_prefill_item_t;

/* The heads of an item: low and high 16 bits of its last field, or all of them where that is 0. */
AC_INLINE void ac_prefill_item_heads(const ac_mla_prefill_params_t *p, uint32_t heads, ac_prefill_item_t *out) {
    const int64_t begin = ac_min64(heads & 0xffff, p->num_heads);
    const int64_t end = heads == 0 ? p->num_heads : ac_clamp64(heads >> 16, begin, p->num_heads);
    out->first_head = (int32_t)begin;
    out->num_heads = (int32_t)(end - begin);
}

/* Returns 0 for an item of no request, which is left out; and so are rows whose partial is past the last. */
AC_INLINE int ac_prefill_item(const ac_mla_prefill_params_t *p, int64_t index, int tile_rows, ac_prefill_item_t *out) {
    const int32_t *item = p->items + index * AC_WORK_FIELDS;
    const int64_t number = ac_list_entry(item, AC_WORK_REQUEST), partial = ac_list_entry(item, AC_WORK_PARTIAL);
    if (number < 0 || number >= p->num_requests) return 0;
    const ac_prefill_request_t r = ac_prefill_request(p, number);
    const int64_t from = ac_clamp64(ac_list_entry(item, AC_WORK_Q_BEGIN) - r.row, 0, r.rows);
    int64_t rows = ac_clamp64(ac_list_entry(item, AC_WORK_Q_END) - r.row, from, r.rows) - from;
    if (partial >= 0) rows = ac_clamp64(p->num_partials - partial, 0, rows);
    out->request = r;
    out->partial_row = partial < 0 ? -1 : partial;
    out->from = from;
    out->rows_end = from + rows;
    out->begin = ac_clamp64(ac_list_entry(item, AC_WORK_KV_BEGIN) - r.entry, 0, r.keys);
    out->end = ac_clamp64(ac_list_entry(item, AC_WORK_KV_END) - r.entry, out->begin, r.keys);
    ac_prefill_item_heads(p, (uint32_t)ac_list_entry(item, AC_WORK_HEADS), out);
    out->head_tiles = (int32_t)ac_ceil_div64(rows, tile_rows);
    return 1;
}

/* Where a workgroup is. All zero at first. */
typedef struct ac_prefill_cursor_t {
    int32_t items; /* of the worker's, that are done */
    int32_t tiles; /* of the present item; or, without lists, those that the workgroup has done */
} ac_prefill_cursor_t;

/* Without lists. The longest tiles of a causal request come first. */
AC_INLINE int ac_prefill_next_of_grid(const ac_mla_prefill_params_t *p, int64_t workgroup, int tile_rows,
                                      ac_prefill_cursor_t *cursor, ac_prefill_tile_t *out) {
    for (;;) {
        const int64_t index = workgroup + (int64_t)cursor->tiles++ * p->workgroups;
        if (index >= p->grid_tiles) return 0;
        const int64_t row_of_tiles = index / p->request_tiles;
        const int64_t tile = p->request_tiles - 1 - index % p->request_tiles;
        const int32_t head = (int32_t)(row_of_tiles % p->num_heads);
        if (ac_prefill_grid_tile(p, row_of_tiles / p->num_heads, head, tile, tile_rows, out)) return 1;
    }
}

/* The workgroup's next tile; returns 0 when there is none. Workgroup w * worker_slots + s does, of every item of worker
 * w, the tiles s, s + worker_slots, ...: head after head. */
AC_INLINE int ac_prefill_next(const ac_mla_prefill_params_t *p, int64_t workgroup, int tile_rows,
                              ac_prefill_cursor_t *cursor, ac_prefill_tile_t *out) {
    if (!p->work_indptr) return ac_prefill_next_of_grid(p, workgroup, tile_rows, cursor, out);
    const int64_t worker = workgroup / p->worker_slots, slot = workgroup % p->worker_slots;
    const int64_t begin = ac_clamp64(ac_list_entry(p->work_indptr, worker), 0, p->num_items);
    const int64_t count = ac_clamp64(ac_list_entry(p->work_indptr, worker + 1), begin, p->num_items) - begin;
    for (; cursor->items < count; cursor->items++, cursor->tiles = 0) {
        ac_prefill_item_t item;
        if (!ac_prefill_item(p, begin + cursor->items, tile_rows, &item)) continue;
        const int64_t tile = slot + cursor->tiles;
        if (tile >= (int64_t)item.head_tiles * item.num_heads) continue;
        const int64_t from = item.from + tile % item.head_tiles * tile_rows;
        const int32_t head = item.first_head + (int32_t)(tile / item.head_tiles);
        out->partial_row = item.partial_row < 0 ? -1 : item.partial_row + (from - item.from);
        cursor->tiles += p->worker_slots;
        if (ac_prefill_tile(p, &item.request, from, item.rows_end, item.begin, item.end, head, tile_rows, out))
            return 1;
    }
    return 0;
}

#endif
