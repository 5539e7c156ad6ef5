/* The items of work_grid.h by work_fast.h. */
#ifndef AC_OPS_ATTENTION_WORK_FAST_GRID_H
#define AC_OPS_ATTENTION_WORK_FAST_GRID_H

#include "work_fast.h"

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

#endif
