/* Work items from the grid: every request, split of its list and tile of its rows is one. */
#ifndef AC_OPS_ATTENTION_WORK_GRID_H
#define AC_OPS_ATTENTION_WORK_GRID_H

#include "work.h"

/* How the KV list of a request is cut. Request b has n = clamp(indptr[b+1] - indptr[b], 0, num_splits) splits, or
 * n = min(count, num_splits) where indptr is NULL; a list of L rows is cut into runs of
 * max(min_rows, round_up(ceil(L / n), granule)) rows: a function of the request's length alone, so that the list is
 * covered whatever length the plan was made for. */
typedef struct ac_splits_t {
    const int32_t *indptr; /* [B+1] or NULL */
    int32_t num_splits;    /* S */
    int32_t count;
    int32_t min_rows, granule;
} ac_splits_t;

/* Work items from the grid: item (b * S + split) * row_tiles + tile is a tile of request b and a split of its list.
 * Partials are [T, S, H, Dv]. */
typedef struct ac_work_grid_t {
    const int32_t *qo_indptr; /* [B+1]; or NULL: every request has max_seqlen_q rows */
    ac_splits_t splits;
    int32_t num_requests;  /* B */
    int32_t max_seqlen_q;  /* later rows of a request are not served */
    int32_t row_tiles;     /* tiles of pairs per request: ceil(max_seqlen_q * H / tile_rows) */
    int32_t writes_output; /* 1: final rows and LSE (one split, or segments); 0: partials */
} ac_work_grid_t;

/* The request's part of the list, and the number of its keys. */
AC_INLINE int64_t ac_request_keys(const ac_kv_source_t *kv, int64_t request, const int32_t **out_entries) {
    int64_t rows = kv->cache.entry_rows;
    if (!kv->indptr) {
        int64_t most = kv->table_width * rows;
        *out_entries = kv->indices + request * kv->table_stride;
        return kv->lengths ? ac_clamp64(ac_list_entry(kv->lengths, request), 0, most) : most;
    }
    int64_t begin = ac_clamp64(ac_list_entry(kv->indptr, request), 0, kv->num_indices);
    int64_t entries = ac_clamp64(ac_list_entry(kv->indptr, request + 1), begin, kv->num_indices) - begin;
    int64_t length = entries * rows;
    *out_entries = entries > 0 ? kv->indices + begin : 0;
    if (kv->last_page_lens && entries > 0)
        length -= rows - ac_clamp64(ac_list_entry(kv->last_page_lens, request), 0, rows);
    return length;
}

/* The keys of the request on all shards together. */
AC_INLINE int64_t ac_request_total(const ac_attention_params_t *p, int64_t request, int64_t length) {
    if (p->shard.stride == 1) return length;
    return ac_clamp64((int64_t)ac_list_entry(p->total_indptr, request + 1) - ac_list_entry(p->total_indptr, request), 0,
                      INT32_MAX);
}

/* The keys of split number `split` of a list of `length` keys; none when the request has fewer splits. */
AC_INLINE void ac_cut(const ac_splits_t *splits, int64_t request, int32_t split, int64_t length, ac_work_t *work) {
    int64_t count = ac_min64(splits->count, splits->num_splits);
    if (splits->indptr)
        count = ac_clamp64((int64_t)ac_list_entry(splits->indptr, request + 1) - ac_list_entry(splits->indptr, request),
                           0, splits->num_splits);
    work->begin = work->end = 0;
    if (split >= count) return;
    int64_t granule = ac_max64(splits->granule, 1);
    int64_t run = ac_max64(ac_ceil_div64(ac_ceil_div64(length, count), granule) * granule, splits->min_rows);
    work->begin = ac_min64(split * run, length);
    work->end = ac_min64(work->begin + run, length);
}

/* Item number `index` of the grid, of tiles of `tile_rows` pairs; returns 0 when it has no rows. */
AC_INLINE int ac_work_from_grid(const ac_attention_params_t *p, const ac_work_grid_t *grid, int64_t index,
                                int tile_rows, ac_work_t *out) {
    int64_t tile = index % grid->row_tiles, rest = index / grid->row_tiles, num_queries;
    int64_t request = rest / grid->splits.num_splits;
    int32_t split = (int32_t)(rest % grid->splits.num_splits);
    ac_request_queries(grid->qo_indptr, grid->max_seqlen_q, request, p->num_rows, &out->query_begin, &num_queries);
    int64_t pairs = ac_min64(num_queries, grid->max_seqlen_q) * p->num_heads;
    out->first_pair = tile * tile_rows;
    if (out->first_pair >= pairs) return 0;
    out->num_rows = (int)ac_min64(pairs - out->first_pair, tile_rows);
    int64_t length = ac_request_keys(&p->kv[0], request, &out->entries);
    ac_cut(&grid->splits, request, split, length, out);
    out->shard = p->shard;
    out->causal = p->causal;
    out->total = ac_request_total(p, request, length);
    out->frontier = out->total - num_queries;
    out->partial_row = grid->writes_output ? -1 - split : out->query_begin * grid->splits.num_splits + split;
    out->partial_step = grid->splits.num_splits;
    return 1;
}

#endif
