/* The items of work_items.h for kernels of which the start is a good part of the time: 32-bit numbers, no divisions but
 * those of ragged splits, and all entries of lists that are known at once are read at once. Only where everything is
 * small enough (`fits`), and there are no shards; the same items to the bit. */
#ifndef AC_OPS_ATTENTION_WORK_FAST_H
#define AC_OPS_ATTENTION_WORK_FAST_H

#include "divisor.h"
#include "work_items.h"

typedef struct ac_work_fast_t {
    ac_divisor_t row_tiles, num_splits, split_count, granule, num_heads;
    int32_t table_keys; /* keys of a table's row at most */
    int32_t fits;
} ac_work_fast_t;

/* What the item's rows see of its keys: see mla_range_t. */
typedef struct ac_span_t {
    int32_t first_query, first_head, end, masked_tail;
} ac_span_t;

/* On the host: what the items of these parameters need. */
AC_INLINE ac_work_fast_t ac_work_fast(const ac_attention_params_t *p, const ac_work_source_t *source) {
    const ac_kv_source_t *kv = &p->kv[0];
    const ac_work_grid_t *grid = &source->grid;
    const ac_work_lists_t *lists = &source->lists;
    const ac_splits_t *splits = &grid->splits;
    const int64_t small = 1 << 30, rows = ac_max64(kv->cache.entry_rows, 1);
    const ac_work_fast_t out = {
        .row_tiles = ac_divisor(grid->row_tiles),
        .num_splits = ac_divisor(splits->num_splits),
        .split_count = ac_divisor(ac_min64(splits->count, splits->num_splits)),
        .granule = ac_divisor(splits->granule),
        .num_heads = ac_divisor(p->num_heads),
        .table_keys = (int32_t)ac_clamp64(kv->table_width, 0, small / rows) * (int32_t)rows,
        .fits = p->shard.stride == 1 && p->num_rows < small / ac_max64(p->num_heads, 1) &&
                (grid->qo_indptr || (int64_t)grid->num_requests * grid->max_seqlen_q < small) &&
                kv->num_indices < small / rows && kv->table_width < small / rows && splits->granule < small &&
                splits->min_rows < small && grid->row_tiles < small / 1024 && lists->num_items < small &&
                lists->num_partials < small,
    };
    return out;
}

/* Entry i of a list; 0 without one. On NVIDIA such reads stay in their order, and none waits for another. */
AC_INLINE int32_t ac_entry_if(int wanted, const int32_t *list, int64_t i) {
#if defined(__CUDA_ARCH__)
    int32_t entry;
    asm volatile("{.reg .pred p; setp.ne.s32 p, %2, 0; mov.s32 %0, 0; @p ld.global.s32 %0, [%1];}" : "=&r"(entry)
                 : "l"(list + i), "r"(wanted));
    return entry;
#else
    return wanted ? list[i] : 0;
#endif
}

AC_INLINE int32_t ac_min32(int32_t a, int32_t b) { return a < b ? a : b; }
AC_INLINE int32_t ac_max32(int32_t a, int32_t b) { return a > b ? a : b; }
AC_INLINE int32_t ac_clamp32(int32_t x, int32_t low, int32_t high) { return ac_max32(low, ac_min32(x, high)); }

/* ac_seen_end() without shards. */
AC_INLINE int32_t ac_fast_seen(const ac_work_t *work, int32_t query) {
    int32_t seen = work->causal ? (int32_t)work->frontier + query + 1 : (int32_t)work->total;
    return ac_clamp32(seen, (int32_t)work->begin, (int32_t)work->end);
}

AC_INLINE void ac_fast_span(const ac_attention_params_t *p, const ac_work_fast_t *fast, const ac_work_t *work,
                            ac_span_t *span) {
    span->first_query = (int32_t)ac_divide(fast->num_heads, (uint32_t)work->first_pair);
    span->first_head = (int32_t)work->first_pair - span->first_query * p->num_heads;
    int32_t more = (int32_t)ac_divide(fast->num_heads, (uint32_t)(span->first_head + work->num_rows - 1));
    span->end = ac_fast_seen(work, span->first_query + more);
    span->masked_tail = span->end - ac_fast_seen(work, span->first_query);
}

/* The entries that a request's part of the list is found by. */
typedef struct ac_fast_request_t {
    int32_t from, to, last_page_len, length;
} ac_fast_request_t;

AC_INLINE ac_fast_request_t ac_fast_request(const ac_kv_source_t *kv, int32_t request) {
    ac_fast_request_t at;
    at.from = ac_entry_if(kv->indptr != 0, kv->indptr, request);
    at.to = ac_entry_if(kv->indptr != 0, kv->indptr, (int64_t)request + 1);
    at.last_page_len = ac_entry_if(kv->last_page_lens != 0, kv->last_page_lens, request);
    at.length = ac_entry_if(!kv->indptr && kv->lengths, kv->lengths, request);
    return at;
}

/* ac_request_keys(). */
AC_INLINE int32_t ac_fast_keys(const ac_kv_source_t *kv, const ac_work_fast_t *fast, int32_t request,
                               const ac_fast_request_t *at, const int32_t **out_entries) {
    const int32_t rows = kv->cache.entry_rows, all = (int32_t)kv->num_indices;
    if (!kv->indptr) {
        *out_entries = kv->indices + request * kv->table_stride;
        return kv->lengths ? ac_clamp32(at->length, 0, fast->table_keys) : fast->table_keys;
    }
    int32_t begin = ac_clamp32(at->from, 0, all), entries = ac_clamp32(at->to, begin, all) - begin;
    *out_entries = entries > 0 ? kv->indices + begin : 0;
    if (!kv->last_page_lens || entries == 0) return entries * rows;
    return (entries - 1) * rows + ac_clamp32(at->last_page_len, 0, rows);
}

/* ac_work_from_grid(), item `index`. */
AC_INLINE int ac_fast_from_grid(const ac_attention_params_t *p, const ac_work_grid_t *grid, const ac_work_fast_t *fast,
                                uint32_t index, int tile_rows, ac_work_t *out, ac_span_t *span) {
    const ac_splits_t *splits = &grid->splits;
    const ac_kv_source_t *kv = &p->kv[0];
    uint32_t rest = ac_divide(fast->row_tiles, index), tile = index - rest * (uint32_t)grid->row_tiles;
    int32_t request = (int32_t)ac_divide(fast->num_splits, rest);
    int32_t split = (int32_t)rest - request * splits->num_splits;
    int32_t from = ac_entry_if(grid->qo_indptr != 0, grid->qo_indptr, request);
    int32_t to = ac_entry_if(grid->qo_indptr != 0, grid->qo_indptr, (int64_t)request + 1);
    ac_fast_request_t at = ac_fast_request(kv, request);
    int32_t runs_from = ac_entry_if(splits->indptr != 0, splits->indptr, request);
    int32_t runs_to = ac_entry_if(splits->indptr != 0, splits->indptr, (int64_t)request + 1);
    if (!grid->qo_indptr) from = request * grid->max_seqlen_q, to = from + grid->max_seqlen_q;

    int32_t begin = ac_clamp32(from, 0, (int32_t)p->num_rows);
    int32_t queries = ac_clamp32(to, begin, (int32_t)p->num_rows) - begin;
    int32_t pairs = ac_min32(queries, grid->max_seqlen_q) * p->num_heads, first = (int32_t)tile * tile_rows;
    out->query_begin = begin;
    out->first_pair = first;
    if (first >= pairs) return 0;
    out->num_rows = ac_min32(pairs - first, tile_rows);

    int32_t length = ac_fast_keys(kv, fast, request, &at, &out->entries);
    int32_t count = ac_min32(splits->count, splits->num_splits);
    if (splits->indptr) count = (int32_t)ac_clamp64((int64_t)runs_to - runs_from, 0, splits->num_splits);
    out->begin = out->end = 0;
    if (split < count) {
        int32_t granule = ac_max32(splits->granule, 1);
        int32_t run = (int32_t)(splits->indptr ? (uint32_t)length / (uint32_t)count
                                               : ac_divide(fast->split_count, (uint32_t)length));
        run += run * count != length;
        int32_t granules = (int32_t)ac_divide(fast->granule, (uint32_t)run);
        granules += granules * granule != run;
        int64_t whole = ac_max64((int64_t)granules * granule, splits->min_rows);
        out->begin = ac_min64(split * whole, length);
        out->end = ac_min64(out->begin + whole, length);
    }
    out->shard = p->shard;
    out->causal = p->causal;
    out->total = length;
    out->frontier = (int64_t)length - queries;
    out->partial_row = grid->writes_output ? -1 - split : (int64_t)begin * splits->num_splits + split;
    out->partial_step = splits->num_splits;
    ac_fast_span(p, fast, out, span);
    return 1;
}

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

/* ac_work_from_item(): tile `tile` of an item; `first`: kv_indptr[0]. */
AC_INLINE int ac_fast_from_item(const ac_attention_params_t *p, const ac_work_source_t *source,
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
    return 1;
}

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
        if (!ac_fast_from_item(p, source, fast, &item, first, first_tile + done->tiles, tile_rows, out, span)) continue;
        done->tiles += row_tiles;
        return 1;
    }
    return 0;
}

#endif
