/* The work items of a workgroup, whatever they come from: one item of the grid, or those of a worker's list. */
#ifndef AC_OPS_ATTENTION_WORK_ITEMS_H
#define AC_OPS_ATTENTION_WORK_ITEMS_H

#include "unserved.h"
#include "work_grid.h"
#include "work_list.h"

/* Lists: see work_list.h. Workgroup w * row_tiles + t does, of every item of worker w, the tiles t, t + row_tiles, ...
 * of its (query token, head) pairs; or, in kernels that do one item (AC_ONE_ITEM), tile t of item w. */
typedef struct ac_work_lists_t {
    const int32_t *work_indptr; /* [W+1]; NULL: the items are those of the grid */
    const int32_t *items;       /* [num_items, AC_WORK_FIELDS] */
    int64_t num_items;
    int64_t num_partials; /* rows of the partials */
    int32_t num_requests, num_workers;
    int32_t placed; /* an item's keys have places in the list of its request: something is masked by them. Without it
                       the request's own list does not matter (sparse lists: one per query row) */
} ac_work_lists_t;

typedef struct ac_work_source_t {
    ac_work_grid_t grid; /* of lists only qo_indptr, max_seqlen_q and row_tiles count */
    ac_work_lists_t lists;
} ac_work_source_t;

/* The keys of the item, which has query rows from work->query_begin on. */
AC_INLINE void ac_item_keys(const ac_attention_params_t *p, const ac_work_source_t *source, const int32_t *item,
                            ac_work_t *work) {
    const ac_kv_source_t *kv = &p->kv[0];
    int64_t first = ac_clamp64(ac_list_entry(kv->indptr, 0), 0, kv->num_indices), entry_rows = kv->cache.entry_rows;
    int64_t begin = ac_clamp64(first + ac_list_entry(item, AC_WORK_KV_BEGIN), 0, kv->num_indices);
    int64_t end = ac_clamp64(first + ac_list_entry(item, AC_WORK_KV_END), begin, kv->num_indices);
    if (!source->lists.placed) {
        work->entries = kv->indices + begin;
        work->begin = 0;
        work->end = work->total = (end - begin) * entry_rows;
        work->frontier = 0;
        return;
    }
    int64_t request = ac_list_entry(item, AC_WORK_REQUEST), length = ac_request_keys(kv, request, &work->entries);
    int64_t origin = ac_clamp64(ac_list_entry(kv->indptr, request), 0, kv->num_indices);
    work->begin = ac_clamp64((begin - origin) * entry_rows, 0, length);
    work->end = ac_clamp64((end - origin) * entry_rows, work->begin, length);
    work->total = ac_request_total(p, request, length);
    work->frontier = work->total - (ac_clamp64(ac_list_entry(source->grid.qo_indptr, request + 1), 0, p->num_rows) -
                                    work->query_begin);
}

/* Tile `tile` of item `index` of the lists; returns 0 when it has no rows. An item of no request, its rows from
 * max_seqlen_q on, and partials past the last are left out. */
AC_INLINE int ac_work_from_item(const ac_attention_params_t *p, const ac_work_source_t *source, int64_t index,
                                int64_t tile, int tile_rows, ac_work_t *out) {
    const int32_t *item = source->lists.items + index * AC_WORK_FIELDS;
    int64_t partial = ac_list_entry(item, AC_WORK_PARTIAL),
            begin = ac_clamp64(ac_list_entry(item, AC_WORK_Q_BEGIN), 0, p->num_rows);
    int64_t rows = ac_clamp64(ac_list_entry(item, AC_WORK_Q_END), begin, p->num_rows) - begin;
    rows = ac_min64(rows, source->grid.max_seqlen_q);
    if (ac_list_entry(item, AC_WORK_REQUEST) < 0 || ac_list_entry(item, AC_WORK_REQUEST) >= source->lists.num_requests)
        return 0;
    if (partial >= 0) rows = ac_clamp64(source->lists.num_partials - partial, 0, rows);
    out->first_pair = tile * tile_rows;
    if (out->first_pair >= rows * p->num_heads) return 0;
    out->num_rows = (int)ac_min64(rows * p->num_heads - out->first_pair, tile_rows);
    out->query_begin = begin;
    out->shard = p->shard;
    out->causal = p->causal;
    out->partial_row = partial < 0 ? -1 : partial;
    out->partial_step = 1;
    ac_item_keys(p, source, item, out);
    return 1;
}

/* The LSE of rows that no request serves, where the kernel writes final rows from the grid. All threads of a workgroup
 * that call it share the rows. By lists nobody knows such rows: the host fills the LSE before. */
AC_INLINE void ac_work_fill_unserved(const ac_attention_params_t *p, const ac_work_source_t *source, int64_t workgroup,
                                     int thread, int threads) {
    const ac_work_grid_t *grid = &source->grid;
    const ac_query_rows_t rows = {grid->qo_indptr, grid->num_requests, grid->max_seqlen_q, p->num_rows};
    if (!p->lse || source->lists.work_indptr || !grid->writes_output || !rows.qo_indptr) return;
    if (workgroup % grid->row_tiles != 0) return;
    int64_t rest = workgroup / grid->row_tiles;
    if (rest % grid->splits.num_splits != 0) return;
    ac_fill_unserved(&rows, rest / grid->splits.num_splits, p->lse, (int64_t)p->num_heads * p->segments, p->lse_empty,
                     thread, threads);
}

/* What a workgroup has done: items, and tiles of the present one. All zero at first. */
typedef struct ac_work_done_t {
    int32_t items, tiles;
} ac_work_done_t;

/* The workgroup's next item; returns 0 when there is none. */
AC_INLINE int ac_work_next(const ac_attention_params_t *p, const ac_work_source_t *source, int64_t workgroup,
                           int tile_rows, ac_work_done_t *done, ac_work_t *out) {
    const ac_work_lists_t *lists = &source->lists;
    if (__builtin_expect(!lists->work_indptr, 1)) /* the code for lists is not to stand in the way of the grid's */
        return done->items++ == 0 && ac_work_from_grid(p, &source->grid, workgroup, tile_rows, out);
    int64_t worker = workgroup / source->grid.row_tiles, first_tile = workgroup % source->grid.row_tiles;
    int64_t begin = ac_clamp64(ac_list_entry(lists->work_indptr, worker), 0, lists->num_items);
    int64_t count = ac_clamp64(ac_list_entry(lists->work_indptr, worker + 1), begin, lists->num_items) - begin;
    for (; done->items < count; done->items++, done->tiles = 0) {
        if (!ac_work_from_item(p, source, begin + done->items, first_tile + done->tiles, tile_rows, out)) continue;
        done->tiles += source->grid.row_tiles;
        return 1;
    }
    return 0;
}

/* The one item of a workgroup; returns 0 when it has none. */
AC_INLINE int ac_work_only(const ac_attention_params_t *p, const ac_work_source_t *source, int64_t workgroup,
                           int tile_rows, ac_work_done_t *done, ac_work_t *out) {
    const ac_work_lists_t *lists = &source->lists;
    if (done->items++ > 0) return 0;
    if (__builtin_expect(!lists->work_indptr, 1)) return ac_work_from_grid(p, &source->grid, workgroup, tile_rows, out);
    int64_t item = workgroup / source->grid.row_tiles;
    if (item >= ac_min64(ac_list_entry(lists->work_indptr, lists->num_workers), lists->num_items)) return 0;
    return ac_work_from_item(p, source, item, workgroup % source->grid.row_tiles, tile_rows, out);
}

#endif
