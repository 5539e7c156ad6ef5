/* Work items of the attention kernels: which query rows meet which run of keys, and where the results go. Every value
 * from the caller's tensors is clamped here, once, so that everything after it can trust them. The same code runs in
 * the kernels of every device. */
#ifndef AC_OPS_ATTENTION_WORK_H
#define AC_OPS_ATTENTION_WORK_H

#include "params.h"

#if defined(__HIP__) || defined(__CUDACC__)
#define AC_INLINE static inline __device__ __attribute__((always_inline))
#else
#define AC_INLINE static inline
#endif

/* One work item: a tile of (query token, head) pairs of one request, and a run of the request's keys. Pair r of the tile
 * is number first_pair + r of the request; number n is query token n / H, head n % H. Keys are counted by their place in
 * the cache's list, except where `frontier` and `total` count those of all shards. */
typedef struct ac_work_t {
    int64_t query_begin; /* query row of the request's token 0 */
    int64_t first_pair;
    int num_rows; /* pairs in the tile: 1 .. tile_rows */
    int32_t causal;
    const int32_t *pages; /* the request's part of the page list */
    int64_t begin, end;   /* the run of keys */
    int64_t frontier;     /* keys of the request before its query token 0 */
    int64_t total;        /* keys of the request */
    ac_shard_t shard;
    int64_t partial_row, partial_step; /* token t's results are partial row partial_row + t * partial_step; or, where
                                          partial_row is negative, final rows */
} ac_work_t;

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
    const int32_t *qo_indptr; /* [B+1] */
    ac_splits_t splits;
    int32_t max_seqlen_q;  /* later rows of a request are not served */
    int32_t row_tiles;     /* tiles of pairs per request: ceil(max_seqlen_q * H / tile_rows) */
    int32_t writes_output; /* 1: final rows and LSE (one split); 0: partials */
} ac_work_grid_t;

AC_INLINE int64_t ac_min64(int64_t a, int64_t b) { return a < b ? a : b; }
AC_INLINE int64_t ac_max64(int64_t a, int64_t b) { return a > b ? a : b; }
AC_INLINE int64_t ac_clamp64(int64_t x, int64_t low, int64_t high) { return x < low ? low : x > high ? high : x; }
AC_INLINE int64_t ac_ceil_div64(int64_t a, int64_t b) { return a / b + (a % b != 0); }

/* How many of a request's first `count` keys the shard has; `count` is below 2^31. */
AC_INLINE int64_t ac_shard_count(const ac_shard_t *shard, int64_t count) {
    uint32_t keys = (uint32_t)ac_max64(count, 0), block = (uint32_t)shard->block;
    uint32_t round = (uint32_t)shard->stride * block, rounds = keys / round;
    int64_t rest = (int64_t)(keys - rounds * round) - (int64_t)shard->phase * block;
    return (int64_t)rounds * block + ac_clamp64(rest, 0, block);
}

/* The number, among all keys of the request, of the shard's key `key`. */
AC_INLINE int64_t ac_shard_key(const ac_shard_t *shard, int64_t key) {
    if (shard->stride == 1) return key;
    return (key / shard->block * shard->stride + shard->phase) * shard->block + key % shard->block;
}

/* THE causal rule: query token `query` of the request sees the keys [begin, ac_seen_end) of the item. It sees the keys
 * of the request up to its own position, frontier + query, or, without causal mask, all. */
AC_INLINE int64_t ac_seen_end(const ac_work_t *work, int64_t query) {
    int64_t seen = work->causal ? work->frontier + query + 1 : work->total;
    if (work->shard.stride != 1) seen = ac_shard_count(&work->shard, seen);
    return ac_clamp64(seen, work->begin, work->end);
}

/* Query rows [*out_begin, *out_begin + *out_count) belong to the request. */
AC_INLINE void ac_request_queries(const int32_t *qo_indptr, int64_t request, int64_t num_rows, int64_t *out_begin,
                                  int64_t *out_count) {
    int64_t begin = ac_clamp64(qo_indptr[request], 0, num_rows);
    *out_begin = begin;
    *out_count = ac_clamp64(qo_indptr[request + 1], begin, num_rows) - begin;
}

/* The request's pages, and the number of keys in them. */
AC_INLINE int64_t ac_request_keys(const ac_kv_source_t *kv, int64_t request, const int32_t **out_pages) {
    int64_t begin = ac_clamp64(kv->indptr[request], 0, kv->num_indices), page_size = kv->cache.page_size;
    int64_t pages = ac_clamp64(kv->indptr[request + 1], begin, kv->num_indices) - begin;
    int64_t length = pages * page_size;
    *out_pages = pages > 0 ? kv->indices + begin : 0;
    if (kv->last_page_lens && pages > 0) length -= page_size - ac_clamp64(kv->last_page_lens[request], 0, page_size);
    return length;
}

/* The keys of the request on all shards together. */
AC_INLINE int64_t ac_request_total(const ac_attention_params_t *p, int64_t request, int64_t length) {
    if (p->shard.stride == 1) return length;
    return ac_clamp64((int64_t)p->total_indptr[request + 1] - p->total_indptr[request], 0, INT32_MAX);
}

/* The keys of split number `split` of a list of `length` keys; none when the request has fewer splits. */
AC_INLINE void ac_cut(const ac_splits_t *splits, int64_t request, int32_t split, int64_t length, ac_work_t *work) {
    int64_t count = ac_min64(splits->count, splits->num_splits);
    if (splits->indptr)
        count = ac_clamp64((int64_t)splits->indptr[request + 1] - splits->indptr[request], 0, splits->num_splits);
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
    ac_request_queries(grid->qo_indptr, request, p->num_rows, &out->query_begin, &num_queries);
    int64_t pairs = ac_min64(num_queries, grid->max_seqlen_q) * p->num_heads;
    out->first_pair = tile * tile_rows;
    if (out->first_pair >= pairs) return 0;
    out->num_rows = (int)ac_min64(pairs - out->first_pair, tile_rows);
    int64_t length = ac_request_keys(&p->kv[0], request, &out->pages);
    ac_cut(&grid->splits, request, split, length, out);
    out->shard = p->shard;
    out->causal = p->causal;
    out->total = ac_request_total(p, request, length);
    out->frontier = out->total - num_queries;
    out->partial_row = grid->writes_output ? -1 : out->query_begin * grid->splits.num_splits + split;
    out->partial_step = grid->splits.num_splits;
    return 1;
}

#endif
