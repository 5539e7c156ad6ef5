/* The items of lists by work_fast.h. */
#ifndef AC_OPS_ATTENTION_WORK_FAST_LISTS_H
#define AC_OPS_ATTENTION_WORK_FAST_LISTS_H

#include "work_fast_grid.h"

/* The fields of an item that the kernels need. */
typedef struct ac_fast_item_t {
    int32_t request, partial, q_begin, q_end, kv_begin, kv_end;
} ac_fast_item_t;

AC_INLINE ac_fast_item_t ac_fast_item(const ac_work_lists_t *lists, int32_t index) {
    const int32_t *item = lists->items + (int64_t)index * AC_WORK_FIELDS;
    const int exists = (uint32_t)index < (uint32_t)lists->num_items;
    ac_fast_item_t out;
    out.request = ac_entry_if(exists, item, AC_WORK_REQUEST);
    out.partial = ac_entry_if(exists, item, AC_WORK_PARTIAL);
    out.q_begin = ac_entry_if(exists, item, AC_WORK_Q_BEGIN);
    out.q_end = ac_entry_if(exists, item, AC_WORK_Q_END);
    out.kv_begin = ac_entry_if(exists, item, AC_WORK_KV_BEGIN);
    out.kv_end = ac_entry_if(exists, item, AC_WORK_KV_END);
    return out;
}

/* ac_work_from_item(): tile `tile` of an item; `first`: kv_indptr[0]. Returns the item's pairs (row, head), or 0. */
AC_INLINE int32_t ac_fast_from_item(const ac_attention_params_t *p, const ac_work_source_t *source,
                                    const ac_work_fast_t *fast, const ac_fast_item_t *item, int32_t first, int32_t tile,
                                    int tile_rows, ac_work_t *out, ac_span_t *span) {
    const ac_kv_source_t *kv = &p->kv[0];
    const int placed = source->lists.placed;
    const int32_t all = (int32_t)p->num_rows;
    if ((uint32_t)item->request >= (uint32_t)source->lists.num_requests) return 0;
    ac_fast_request_t at = {0, 0, 0, 0};
    int32_t q_after = 0;
    if (placed) {
        at = ac_fast_request(kv, item->request);
        q_after = ac_entry_if(1, source->grid.qo_indptr, (int64_t)item->request + 1);
    }
    int32_t begin = ac_clamp32(item->q_begin, 0, all);
    int32_t rows = ac_min32(ac_clamp32(item->q_end, begin, all) - begin, source->grid.max_seqlen_q);
    if (item->partial >= 0) rows = (int32_t)ac_clamp64(source->lists.num_partials - item->partial, 0, rows);
    int32_t first_pair = tile * tile_rows, pairs = rows * p->num_heads;
    if (first_pair >= pairs) return 0;
    out->first_pair = first_pair;
    out->num_rows = ac_min32(pairs - first_pair, tile_rows);
    out->query_begin = begin;
    out->shard = p->shard;
    out->causal = p->causal;
    out->partial_row = item->partial < 0 ? -1 : item->partial;
    out->partial_step = 1;

    const int32_t entries = (int32_t)kv->num_indices, entry_rows = kv->cache.entry_rows;
    int32_t origin = ac_clamp32(first, 0, entries);
    int32_t from = (int32_t)ac_clamp64((int64_t)origin + item->kv_begin, 0, entries);
    int32_t to = (int32_t)ac_clamp64((int64_t)origin + item->kv_end, from, entries);
    if (placed) {
        int32_t length = ac_fast_keys(kv, fast, item->request, &at, &out->entries);
        int32_t own = ac_clamp32(at.from, 0, entries);
        out->begin = ac_clamp32((from - own) * entry_rows, 0, length);
        out->end = ac_clamp32((to - own) * entry_rows, (int32_t)out->begin, length);
        out->total = length;
        out->frontier = (int64_t)length - (ac_clamp32(q_after, 0, all) - begin);
    } else {
        out->entries = kv->indices + from;
        out->begin = 0;
        out->end = out->total = (to - from) * entry_rows;
        out->frontier = 0;
    }
    ac_fast_span(p, fast, out, span);
    return pairs;
}

/* In `items` of what is done: there is no other item. To find that out by another look at the lists takes 1.5 us. */
enum { AC_FAST_NO_MORE = INT32_MAX };

/* ac_work_next() of lists. With `guess` the item of the worker's own number is read before it is known whether that is
 * the worker's first: where each has one, it is. */
AC_INLINE int ac_fast_from_lists(const ac_attention_params_t *p, const ac_work_source_t *source,
                                 const ac_work_fast_t *fast, uint32_t workgroup, int tile_rows, int guess,
                                 ac_work_done_t *done, ac_work_t *out, ac_span_t *span) {
    const ac_work_lists_t *lists = &source->lists;
    const int32_t row_tiles = source->grid.row_tiles, all = (int32_t)lists->num_items;
    int32_t worker = (int32_t)ac_divide(fast->row_tiles, workgroup),
            first_tile = (int32_t)workgroup - worker * row_tiles;
    int32_t from = ac_entry_if(1, lists->work_indptr, worker);
    int32_t to = ac_entry_if(1, lists->work_indptr, (int64_t)worker + 1);
    int32_t first = ac_entry_if(1, p->kv[0].indptr, 0);
    ac_fast_item_t own = {0, 0, 0, 0, 0, 0};
    if (guess) own = ac_fast_item(lists, worker);
    int32_t begin = ac_clamp32(from, 0, all), count = ac_clamp32(to, begin, all) - begin;
    for (; done->items < count; done->items++, done->tiles = 0) {
        int32_t index = begin + done->items;
        ac_fast_item_t item = own;
        if (!guess || index != worker) item = ac_fast_item(lists, index);
        int32_t tile = first_tile + done->tiles;
        int32_t pairs = ac_fast_from_item(p, source, fast, &item, first, tile, tile_rows, out, span);
        if (!pairs) continue;
        done->tiles += row_tiles;
        if (done->items + 1 == count && (int64_t)(tile + row_tiles) * tile_rows >= pairs) done->items = AC_FAST_NO_MORE;
        return 1;
    }
    return 0;
}

#endif
